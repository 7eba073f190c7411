//! Bind mounts, and how mounts propagate.

use std::fs;
use std::path::Path;

use piton_map::options::Propagation;
use piton_plan::step::Step;
use piton_testkit::{Scratch, mounted_at, privately};

use crate::common::*;

// --- bind mounts ---------------------------------------------------------
#[test]
fn a_bind_shows_the_source() {
    privately(|| {
        let s = Scratch::new();
        s.file("src/name", "text");
        let target = s.directory("at");
        mounted(&bind(&s.at("src"), &target, &[]));
        assert_eq!(fs::read_to_string(s.at("at/name")).unwrap(), "text");
        unmounted(&target, false);
        assert_eq!(mounted_at(&target), None);
    });
}

#[test]
fn a_bind_of_a_file_is_a_file() {
    privately(|| {
        let s = Scratch::new();
        let (source, target) = (s.file("a", "text"), s.file("b", ""));
        mounted(&bind(&source, &target, &[]));
        assert_eq!(fs::read_to_string(&target).unwrap(), "text");
    });
}

#[test]
fn a_read_only_bind_refuses_writing_and_leaves_the_source_writable() {
    privately(|| {
        let s = Scratch::new();
        s.directory("src");
        let target = s.directory("at");
        let options = [
            "ro",
            "nosuid",
            "nodev",
            "noexec",
            "noatime",
            "nodiratime",
            "hard",
            "_netdev",
        ];
        mounted(&bind(&s.at("src"), &target, &options));
        let error = fs::write(s.at("at/x"), "").unwrap_err();
        assert_eq!(error.raw_os_error(), Some(30), "EROFS");
        fs::write(s.at("src/x"), "").unwrap();
        let line = mounted_at(&target).unwrap();
        for option in ["ro", "nosuid", "nodev", "noexec", "noatime", "nodiratime"] {
            assert!(
                line.options.split(',').any(|has| has == option),
                "{option}: {line:?}"
            );
        }
    });
}

#[test]
fn a_recursive_bind_brings_the_mounts_below_along_and_a_plain_one_does_not() {
    privately(|| {
        let s = Scratch::new();
        let inner = s.directory("src/inner");
        mounted(&tmpfs(&inner, &[]));
        s.file("src/inner/name", "");
        let (whole, top) = (s.directory("whole"), s.directory("top"));
        mounted(&bind_of(
            &s.at("src"),
            &whole,
            &["ro"],
            true,
            Propagation::Slave,
        ));
        mounted(&bind(&s.at("src"), &top, &[]));
        assert!(Path::new(&s.at("whole/inner/name")).exists());
        assert!(!Path::new(&s.at("top/inner/name")).exists());
        // As with mount(8), options change the top mount only.
        assert!(fs::write(s.at("whole/x"), "").is_err());
        fs::write(s.at("whole/inner/x"), "").unwrap();
    });
}

#[test]
fn a_bind_keeps_the_flags_of_its_source() {
    privately(|| {
        let s = Scratch::new();
        let (source, target) = (s.directory("src"), s.directory("at"));
        mounted(&tmpfs(&source, &["nosuid", "nodev"]));
        mounted(&bind(&source, &target, &["rw", "suid", "noexec"]));
        let line = mounted_at(&target).unwrap();
        assert!(
            line.has("nosuid") && line.has("nodev") && line.has("noexec"),
            "{line:?}"
        );
    });
}

#[test]
fn a_bind_with_an_option_for_mount_8_goes_through_it() {
    privately(|| {
        let s = Scratch::new();
        let (source, target) = (s.directory("src"), s.at("new"));
        let outcome = run(&[
            Step::MakeDirectory {
                path: target.as_str().into(),
            },
            bind(&source, &target, &["X-mount.mkdir", "shared"]),
        ]);
        assert_eq!(outcome.failed, None);
        assert!(outcome.done[1].helper);
        assert!(mounted_at(&target).unwrap().propagation.contains("shared"));
    });
}

#[test]
fn a_bind_of_what_is_not_there_says_so() {
    privately(|| {
        let s = Scratch::new();
        let target = s.directory("at");
        let failure = failed(&bind(&s.at("no"), &target, &[]));
        assert_eq!(failure.errno, 2);
        let expected = format!(
            "binding {} on {target}: No such file or directory",
            s.at("no")
        );
        assert_eq!(failure.text, expected);
    });
}

// --- propagation ---------------------------------------------------------
#[test]
fn propagation_is_as_asked_on_private_and_on_shared_ground() {
    privately(|| {
        for shared_ground in [false, true] {
            let s = Scratch::new();
            if shared_ground {
                share(s.path());
            }
            s.directory("src");
            let recursive = s.directory("tree/inner");
            mounted(&tmpfs(&recursive, &[]));
            for (propagation, shared) in [
                (Propagation::Slave, false),
                (Propagation::Private, false),
                (Propagation::Shared, true),
            ] {
                let name = format!("{propagation:?}");
                let at = |kind: &str| s.directory(&format!("{name}/{kind}"));
                let targets = [at("tmpfs"), at("bind"), at("rbind")];
                mounted(&tmpfs_of(&targets[0], &[], propagation));
                mounted(&bind_of(&s.at("src"), &targets[1], &[], false, propagation));
                mounted(&bind_of(&s.at("tree"), &targets[2], &[], true, propagation));
                for target in targets.iter().chain([&format!("{}/inner", targets[2])]) {
                    let line = mounted_at(target).unwrap();
                    // Nothing but a bind mount has somebody to be the slave of.
                    let own = target == &targets[0] && propagation == Propagation::Slave;
                    assert_eq!(
                        line.propagation.contains("shared:"),
                        shared || (own && shared_ground),
                        "{propagation:?} {shared_ground} {line:?}"
                    );
                }
                let bound = mounted_at(&targets[1]).unwrap().propagation;
                let slave = shared_ground && propagation == Propagation::Slave;
                assert_eq!(bound.contains("master:"), slave, "{propagation:?}: {bound}");
            }
        }
    });
}

#[test]
fn what_is_mounted_in_a_slave_bind_does_not_come_back_to_its_source() {
    privately(|| {
        let s = Scratch::new();
        share(s.path());
        s.directory("src/inner");
        let target = s.directory("at");
        mounted(&bind(&s.at("src"), &target, &[]));
        mounted(&tmpfs(&s.at("at/inner"), &[]));
        assert!(mounted_at(s.at("at/inner")).is_some());
        assert_eq!(mounted_at(s.at("src/inner")), None);
    });
}
