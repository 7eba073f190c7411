//! Several steps, their undoing, and paths that lead astray.

use std::fs;
use std::path::Path;

use autofs::PointKind;
use bstr::{BStr, BString};
use piton_mount::{Failure, Settings, Triggers, perform, perform_below};
use piton_plan::step::{Step, TriggerSpec};
use piton_testkit::{Scratch, mount_table, mounted_at, privately};

use crate::common::*;

// --- sequences -----------------------------------------------------------
#[test]
fn a_sequence_whose_last_step_fails_leaves_nothing() {
    privately(|| {
        let s = Scratch::new();
        s.directory("map");
        s.directory("src");
        let before = mount_table();
        let outcome = run(&[
            Step::MakeDirectory {
                path: s.at("map/key/deep").into(),
            },
            tmpfs(&s.at("map/key"), &[]),
            Step::MakeDirectory {
                path: s.at("map/key/docs").into(),
            },
            bind(&s.at("src"), &s.at("map/key/docs"), &[]),
            Step::Symlink {
                path: s.at("map/link").into(),
                to: "/to".into(),
            },
            tmpfs(&s.at("map/key/missing"), &[]),
        ]);
        let failure = outcome.failed.unwrap();
        assert_eq!((failure.index, failure.errno), (5, 2));
        assert!(outcome.undone && outcome.not_undone.is_empty() && outcome.done.is_empty());
        assert_eq!(mount_table(), before);
        assert_eq!(fs::read_dir(s.at("map")).unwrap().count(), 0);
    });
}

#[test]
fn what_is_busy_cannot_be_taken_back_and_is_reported() {
    privately(|| {
        let s = Scratch::new();
        s.directory("map/key");
        // The "trigger" is the moment at which somebody enters.
        struct Enters;
        impl Triggers for Enters {
            fn install(&self, spec: &TriggerSpec) -> Result<(), Failure> {
                std::env::set_current_dir(spec.path.to_string()).unwrap();
                Err(Failure::new(13, "no trigger today"))
            }
            fn remove(&self, _: &TriggerSpec) -> Result<(), Failure> {
                Ok(())
            }
        }
        let key = s.at("map/key");
        let steps = required([tmpfs(&key, &[]), Step::Install(trigger(&key))]);
        let outcome = perform(&steps, &Enters, &Settings::default());
        let failure = outcome.failed.unwrap();
        assert_eq!((failure.index, failure.errno), (1, 13));
        assert_eq!(failure.text, "no trigger today");
        assert!(!outcome.undone);
        assert_eq!(outcome.not_undone[0].errno, 16);
        assert_eq!(outcome.done.len(), 1);
        std::env::set_current_dir("/").unwrap();
    });
}

#[test]
fn what_is_let_go_goes_with_all_below_and_stays_for_who_is_inside() {
    privately(|| {
        let s = Scratch::new();
        s.directory("map/key");
        let key = s.at("map/key");
        let inner = s.at("map/key/inner");
        let outcome = run(&[
            tmpfs(&key, &[]),
            Step::MakeDirectory {
                path: inner.as_str().into(),
            },
            tmpfs(&inner, &[]),
        ]);
        assert!(outcome.failed.is_none());
        fs::write(format!("{inner}/text"), "still there").unwrap();
        std::env::set_current_dir(&inner).unwrap();
        let let_go = Step::LetGo {
            target: key.as_str().into(),
            triggers: Vec::new(),
        };
        assert!(run(std::slice::from_ref(&let_go)).failed.is_none());
        assert!(mounted_at(&key).is_none() && mounted_at(&inner).is_none());
        assert_eq!(fs::read_dir(&key).unwrap().count(), 0);
        assert_eq!(fs::read_to_string("text").unwrap(), "still there");
        // Somebody was faster.
        assert!(run(&[let_go]).failed.is_none());
        std::env::set_current_dir("/").unwrap();
    });
}

#[test]
fn directories_are_made_with_parents_and_only_ours_are_removed() {
    privately(|| {
        let s = Scratch::new();
        s.directory("a");
        let outcome = run(&[Step::MakeDirectory {
            path: s.at("a/b/c").into(),
        }]);
        let created = &outcome.done[0].created;
        assert_eq!(
            created,
            &[BString::from(s.at("a/b")), BString::from(s.at("a/b/c"))]
        );
        let outcome = run(&[Step::MakeDirectory {
            path: s.at("a/b").into(),
        }]);
        assert!(outcome.done[0].created.is_empty());
        // Not empty: stays, and that is no failure.
        let outcome = run(&[Step::RemoveDirectory {
            path: s.at("a/b").into(),
        }]);
        assert_eq!(outcome.failed, None);
        assert!(Path::new(&s.at("a/b/c")).exists());
        s.file("a/file", "");
        let outcome = run(&[Step::MakeDirectory {
            path: s.at("a/file").into(),
        }]);
        assert_eq!(outcome.failed.unwrap().errno, 20);
        let outcome = run(&[Step::MakeDirectory {
            path: s.at("a/file/x").into(),
        }]);
        assert_eq!(outcome.failed.unwrap().errno, 20);
    });
}

#[test]
fn links_are_made_and_only_links_removed() {
    privately(|| {
        let s = Scratch::new();
        let link = || Step::Symlink {
            path: s.at("l").into(),
            to: "/to".into(),
        };
        assert_eq!(run(&[link()]).done[0].created.len(), 1);
        assert_eq!(run(&[link()]).done[0].created.len(), 0);
        let other = Step::Symlink {
            path: s.at("l").into(),
            to: "/else".into(),
        };
        assert_eq!(run(&[other]).failed.unwrap().errno, 17);
        let remove = |name: &str| {
            run(&[Step::RemoveSymlink {
                path: s.at(name).into(),
            }])
        };
        assert_eq!(remove("l").failed, None);
        assert!(fs::symlink_metadata(s.at("l")).is_err());
        s.file("f", "");
        assert_eq!(remove("f").failed.unwrap().errno, 17);
        assert_eq!(remove("l").failed, None, "gone already");
    });
}

// --- hostile servers -----------------------------------------------------
#[test]
fn the_front_end_knows_the_root_of_an_offset() {
    struct Knows(String);
    impl Triggers for Knows {
        fn install(&self, _: &TriggerSpec) -> Result<(), Failure> {
            Ok(())
        }
        fn remove(&self, _: &TriggerSpec) -> Result<(), Failure> {
            Ok(())
        }
        fn entry_root(&self, path: &BStr) -> Option<BString> {
            path.starts_with(self.0.as_bytes())
                .then(|| self.0.as_str().into())
        }
    }
    privately(|| {
        let s = Scratch::new();
        s.directory("home/ann");
        let victim = s.directory("victim/sub");
        std::os::unix::fs::symlink(s.at("victim"), s.at("home/ann/x")).unwrap();
        let steps = required([tmpfs(&s.at("home/ann/x/sub"), &[])]);
        let outcome = perform(&steps, &Knows(s.at("home")), &Settings::default());
        assert_eq!(outcome.failed.unwrap().errno, 13);
        assert_eq!(mounted_at(&victim), None);
    });
}

#[test]
fn a_link_planted_below_a_mount_leads_nowhere() {
    privately(|| {
        let s = Scratch::new();
        s.directory("home/ann/real");
        let victim = s.directory("victim");
        s.directory("victim/sub");
        std::os::unix::fs::symlink(&victim, s.at("home/ann/x")).unwrap();
        let root = s.at("home");
        let below = |step: Step| {
            perform_below(
                BStr::new(&root),
                &required([step]),
                &NoTriggers,
                &Settings::default(),
            )
        };
        let before = mount_table();
        for step in [
            tmpfs(&s.at("home/ann/x/sub"), &[]),
            bind("/etc", &s.at("home/ann/x/sub"), &[]),
            Step::MakeDirectory {
                path: s.at("home/ann/x/new").into(),
            },
            Step::Symlink {
                path: s.at("home/ann/x/new").into(),
                to: "/to".into(),
            },
            fs_step::<&str>("strangefs", "h:/x", &s.at("home/ann/x/sub"), &[]),
        ] {
            let failure = below(step.clone()).failed.expect("refused");
            assert_eq!(failure.errno, 13, "{step:?}: {}", failure.text);
            assert!(failure.text.contains("symbolic link"), "{}", failure.text);
        }
        // As last component: mounting directories on links is not possible, helpers refuse them.
        assert!(below(tmpfs(&s.at("home/ann/x"), &[])).failed.is_some());
        let failure = below(fs_step::<&str>(
            "strangefs",
            "h:/x",
            &s.at("home/ann/x"),
            &[],
        ))
        .failed;
        assert_eq!(failure.unwrap().errno, 13);
        // Nor is anything outside unmounted through it.
        mounted(&tmpfs(&s.at("victim/sub"), &[]));
        let step = Step::Unmount {
            target: s.at("home/ann/x/sub").into(),
            helper: false,
        };
        assert_eq!(below(step).failed.unwrap().errno, 13);
        unmounted(&s.at("victim/sub"), false);
        assert_eq!(mount_table(), before);
        assert_eq!(fs::read_dir(&victim).unwrap().count(), 1);

        let outside = below(tmpfs(&s.at("victim/sub"), &[])).failed.unwrap();
        assert_eq!(outside.errno, 22, "{}", outside.text);
        assert_eq!(below(tmpfs(&s.at("home/ann/real"), &[])).failed, None);
        assert_eq!(mounted_at(s.at("home/ann/real")).unwrap().fstype, "tmpfs");
        let step = Step::Unmount {
            target: s.at("home/ann/real").into(),
            helper: false,
        };
        assert_eq!(below(step).failed, None);
        assert_eq!(mount_table(), before);
    });
}

// --- unmounting ----------------------------------------------------------
#[test]
fn unmounting_keeps_ebusy_and_does_not_mind_what_is_gone() {
    privately(|| {
        let s = Scratch::new();
        let target = s.directory("at");
        mounted(&tmpfs(&target, &[]));
        let unmount = |path: &str, helper| {
            run(&[Step::Unmount {
                target: path.into(),
                helper,
            }])
            .failed
        };
        let held = fs::File::create(s.at("at/held")).unwrap();
        for helper in [false, true] {
            let failure = unmount(&target, helper).unwrap();
            assert_eq!(failure.errno, 16, "{}", failure.text);
        }
        drop(held);
        assert_eq!(unmount(&target, false), None);
        for helper in [false, true] {
            assert_eq!(
                unmount(&target, helper),
                None,
                "nothing is mounted any more"
            );
            assert_eq!(
                unmount(&s.at("never"), helper),
                None,
                "not even a directory"
            );
        }
        assert!(
            mounted_at(s.path()).is_some(),
            "the mount around it is untouched"
        );
    });
}

#[test]
fn a_trigger_is_not_taken_for_what_was_mounted_on_it() {
    privately(|| {
        let s = Scratch::new();
        let point = s.directory("direct");
        let _autofs = autofs_mount(&point, PointKind::Direct);
        for helper in [false, true] {
            let step = Step::Unmount {
                target: point.as_str().into(),
                helper,
            };
            assert_eq!(run(&[step]).failed, None);
            assert_eq!(mounted_at(&point).unwrap().fstype, "autofs");
        }
        mounted(&tmpfs(&point, &[]));
        unmounted(&point, false);
        assert_eq!(mounted_at(&point).unwrap().fstype, "autofs");
    });
}
