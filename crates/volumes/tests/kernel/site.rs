//! Whole lives of snapshots: taken, mounted, removed, and what is left when somebody dies at it.

use std::collections::HashMap;
use std::fs::Permissions;
use std::os::unix::fs::{PermissionsExt, chown};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use piton_snapshot::lifecycle::{Ending, Wanted};
use piton_snapshot::{Consistency, Health, Kind, Settings};
use piton_testkit::{Seen, Writer, privately};
use piton_volumes::{Provider, Site};

use crate::disk::{Disk, name, run, subvolume, text};

const DRIVER: &str = env!("CARGO_BIN_EXE_volumes-driver");

struct Rig {
    disk: Disk,
    site: Site,
}

impl Rig {
    fn new(fstype: &str) -> Self {
        let disk = Disk::new(fstype);
        let guard = vec![DRIVER.into(), "guard".into()];
        let site = Site::new(PathBuf::from(disk.point("state")), guard);
        Self { disk, site }
    }

    fn wanted(&self, options: &str, tail: &str) -> Wanted {
        let options: Vec<_> = options.split(',').map(Into::into).collect();
        let location = self.disk.at(tail);
        let location = location.to_str().expect("text");
        Wanted {
            settings: Settings::read(&options, location.into()).expect("an entry"),
            series: self.disk.point(&format!("series-{tail}")).into(),
        }
    }

    /// An access; its view is mounted at the point of that name.
    fn access(&self, options: &str, tail: &str, point: &str) -> Ending {
        let wanted = self.wanted(options, tail);
        self.site.access(wanted, soon(), &mut |view, _| {
            self.disk.mount(view, point);
            Ok(())
        })
    }

    fn sweep(&self, options: &str, tail: &str) -> piton_snapshot::lifecycle::Swept {
        let settings = self.wanted(options, tail).settings;
        self.site.sweep(settings.origins, settings.means, soon())
    }

    /// How many snapshots there are, and records.
    fn left(&self, kind: Kind, tail: &str) -> (usize, usize) {
        let origin = self.disk.origin(kind, tail);
        let listed = self.site.list(&origin, &Default::default(), soon());
        let records = self.site.records(soon()).expect("a journal");
        (listed.expect("a list").len(), records.len())
    }
}

fn soon() -> Instant {
    Instant::now() + Duration::from_secs(300)
}

#[track_caller]
fn consistency(ending: &Ending) -> Consistency {
    match ending {
        Ending::Mounted { manifest, .. } => manifest.consistency,
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_snapshot_lives_from_access_to_sweep() {
    privately(|| {
        let rig = Rig::new("btrfs");
        subvolume(&rig.disk, "data");
        rig.disk.write("data/a", "before");
        let options = "provider=btrfs,keep=1";
        let ending = rig.access(options, "data", "one");
        assert_eq!(consistency(&ending), Consistency::Crash);
        rig.disk.write("data/a", "after");
        assert_eq!(text(rig.disk.point("one") + "/a"), "before");
        assert_eq!(rig.sweep(options, "data").removed, []);
        let ending = rig.access(options, "data", "two");
        assert!(matches!(ending, Ending::Mounted { fresh: true, .. }));
        assert_eq!(text(rig.disk.point("two") + "/a"), "after");
        assert_eq!(rig.left(Kind::Btrfs, "data"), (2, 2));
        run("umount", &[&rig.disk.point("one"), &rig.disk.point("two")]);
        assert_eq!(rig.sweep(options, "data").removed.len(), 1);
        assert_eq!(rig.left(Kind::Btrfs, "data"), (1, 1));
        // What is kept is found again, by its age.
        let ending = rig.access("provider=btrfs,keep=1,at=latest", "data", "three");
        assert!(matches!(ending, Ending::Mounted { fresh: false, .. }));
        assert_eq!(text(rig.disk.point("three") + "/a"), "after");
    });
}

/// Nobody needs them more: they are shown without the origin, and no sweep touches them meanwhile.
fn of_an_origin_that_is_gone(provider: &str, tail: &str, make: fn(&Disk)) {
    let rig = Rig::new("btrfs");
    make(&rig.disk);
    let fresh = format!("provider={provider},keep=1");
    assert!(matches!(
        rig.access(&fresh, tail, "one"),
        Ending::Mounted { .. }
    ));
    run("umount", &[&rig.disk.point("one")]);
    let origin = rig.disk.at(tail);
    let aside = rig.disk.at("aside");
    std::fs::rename(&origin, &aside).expect("a name");

    let latest = fresh.clone() + ",at=latest";
    let ending = rig.access(&latest, tail, "two");
    assert!(matches!(ending, Ending::Mounted { .. }), "{ending:?}");
    let text = text(rig.disk.point("two") + "/a");
    assert_eq!(text, "lost");
    run("umount", &[&rig.disk.point("two")]);
    // There is nothing to take a new one of, and nothing is removed as long as that is so.
    let absent = |ending| match ending {
        Ending::Failed(fault) => (
            fault.errno,
            fault.text.contains("is not in the file system"),
        ),
        other => panic!("{other:?}"),
    };
    assert_eq!(absent(rig.access(&fresh, tail, "three")), (2, true));
    let swept = rig.sweep(&format!("provider={provider}"), tail);
    assert!(
        swept.removed.is_empty() && !swept.left.is_empty(),
        "{swept:?}"
    );
    // Nor is that taken for gone which only is not mounted.
    run("umount", &["-l", &rig.disk.at("").display().to_string()]);
    assert_eq!(absent(rig.access(&latest, tail, "three")), (2, true));
    assert_eq!(rig.site.records(soon()).expect("a journal").len(), 1);
}

#[test]
fn a_snapshot_of_a_subvolume_that_is_gone_is_shown() {
    privately(|| {
        of_an_origin_that_is_gone("btrfs", "data", |disk| {
            subvolume(disk, "data");
            disk.write("data/a", "lost");
        })
    });
}

#[test]
fn a_copy_of_a_directory_that_is_gone_is_shown() {
    privately(|| {
        of_an_origin_that_is_gone("directory", "data", |disk| disk.write("data/a", "lost"))
    });
}

#[test]
fn a_clone_of_an_image_that_is_gone_is_shown() {
    privately(|| {
        of_an_origin_that_is_gone("image", "data.img", |disk| {
            disk.image("ext4", &disk.at("data.img"));
            let (image, live) = (disk.at("data.img"), disk.point("live"));
            run(
                "mount",
                &["-o", "loop", image.to_str().expect("text"), &live],
            );
            std::fs::write(live.clone() + "/a", "lost").expect("a file");
            run("umount", &[&live]);
        })
    });
}

/// As it was when the snapshot was taken, and whatever it is now: the kernel goes by the owners and
/// modes that are in it.
#[test]
fn a_user_sees_of_an_older_snapshot_what_was_open_to_them_then() {
    privately(|| {
        let rig = Rig::new("btrfs");
        subvolume(&rig.disk, "home");
        let (ann, bob) = (4001, 4002);
        for (user, uid) in [("ann", ann), ("bob", bob)] {
            rig.disk.write(&format!("home/{user}/thesis"), user);
            rig.disk.write(&format!("home/{user}/open"), user);
            let owned = |tail: &str, mode: u32| {
                let path = rig.disk.at(&format!("home/{user}/{tail}"));
                chown(&path, Some(uid), Some(uid)).expect("chown");
                std::fs::set_permissions(path, Permissions::from_mode(mode)).expect("chmod");
            };
            owned("thesis", 0o600);
            owned("open", 0o644);
            owned("", if user == "ann" { 0o755 } else { 0o700 });
        }
        let program = rig.disk.at("home/root-shell");
        std::fs::copy("/bin/cat", &program).expect("a program");
        std::fs::set_permissions(&program, Permissions::from_mode(0o4755)).expect("chmod");
        let ending = rig.access("provider=btrfs,keep=1", "home", "past");
        assert!(matches!(ending, Ending::Mounted { .. }));
        // Since then everything has been opened, and Ann's thesis is gone.
        for path in ["home/bob", "home/bob/thesis"] {
            std::fs::set_permissions(rig.disk.at(path), Permissions::from_mode(0o777))
                .expect("chmod");
        }
        std::fs::remove_file(rig.disk.at("home/ann/thesis")).expect("a file");
        let past = rig.disk.point("past");
        for (user, tail, seen) in [
            (ann, "ann/thesis", true),
            (bob, "ann/open", true),
            (bob, "bob/open", true),
            (bob, "ann/thesis", false),
            (ann, "bob/open", false),
            (ann, "bob/thesis", false),
        ] {
            let found = cat("/bin/cat", user, &format!("{past}/{tail}"));
            assert_eq!(found, seen, "{user}: {tail}");
        }
        // What makes root of its caller does so no more.
        let program = format!("{past}/root-shell");
        assert!(!cat(&program, ann, &format!("{past}/bob/thesis")));
        assert!(cat(&program, ann, &format!("{past}/ann/thesis")));
        let live = rig.disk.at("home/root-shell").display().to_string();
        assert!(
            cat(&live, ann, &format!("{past}/bob/thesis")),
            "it would do so"
        );
    });
}

/// Whether a user can read a file by this program.
fn cat(program: &str, user: u32, path: &str) -> bool {
    let id = user.to_string();
    let mut setpriv = Command::new("setpriv");
    setpriv.args(["--reuid", &id, "--regid", &id, "--clear-groups"]);
    setpriv.args([program, path]);
    setpriv.output().expect("setpriv").status.success()
}

#[test]
fn what_is_closed_above_the_origin_is_not_open_in_a_view() {
    privately(|| {
        let rig = Rig::new("btrfs");
        std::fs::create_dir(rig.disk.at("private")).expect("a directory");
        subvolume(&rig.disk, "private/data");
        rig.disk.write("private/data/a", "text");
        let shut = |path: &Path| {
            std::fs::set_permissions(path, Permissions::from_mode(0o700)).expect("chmod");
        };
        shut(&rig.disk.at("private"));
        let access = |view: &str| {
            let series = rig.disk.point(view).as_str().into();
            let wanted = rig.wanted("provider=btrfs", "private/data");
            let wanted = Wanted { series, ..wanted };
            rig.site.access(wanted, soon(), &mut |view, _| {
                rig.disk.mount(view, "point");
                Ok(())
            })
        };
        match access("open/view") {
            Ending::Failed(fault) => {
                assert_eq!(fault.errno, rustix::io::Errno::ACCESS.raw_os_error());
                assert!(
                    fault.text.contains("private keeps users out"),
                    "{}",
                    fault.text
                );
            }
            other => panic!("{other:?}"),
        }
        assert_eq!(rig.left(Kind::Btrfs, "private/data"), (0, 0));
        shut(Path::new(&rig.disk.point("shut")));
        assert!(matches!(access("shut/view"), Ending::Mounted { .. }));
        assert_eq!(text(rig.disk.point("point") + "/a"), "text");
    });
}

#[test]
fn a_mounted_image_is_frozen_while_it_is_cloned_and_thawed_afterwards() {
    privately(|| {
        let rig = Rig::new("xfs");
        rig.disk.image("ext4", &rig.disk.at("data.img"));
        let live = rig.disk.point("live");
        let image = rig.disk.at("data.img").display().to_string();
        run("mount", &["-o", "loop", &image, &live]);
        std::fs::write(format!("{live}/a"), "before").unwrap();
        let ending = rig.access("provider=image,freeze=yes", "data.img", "one");
        assert_eq!(consistency(&ending), Consistency::Frozen);
        std::fs::write(format!("{live}/a"), "after").expect("it is thawed");
        assert_eq!(text(rig.disk.point("one") + "/a"), "before");
        run("umount", &[&rig.disk.point("one")]);
        assert_eq!(rig.sweep("provider=image", "data.img").removed.len(), 1);
        assert_eq!(rig.left(Kind::Image, "data.img"), (0, 0));
    });
}

#[test]
fn what_was_frozen_by_one_who_was_killed_goes_on() {
    privately(|| {
        let rig = Rig::new("xfs");
        rig.disk.image("ext4", &rig.disk.at("data.img"));
        let live = rig.disk.point("live");
        let image = rig.disk.at("data.img").display().to_string();
        run("mount", &["-o", "loop", &image, &live]);
        let mut child = Command::new(DRIVER)
            .args(["freeze", &live])
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut byte = [0];
        std::io::Read::read_exact(child.stdout.as_mut().unwrap(), &mut byte).unwrap();
        // The file system is frozen: somebody else cannot freeze it.
        let frozen = Command::new("fsfreeze")
            .args(["-f", &live])
            .output()
            .unwrap();
        assert!(!frozen.status.success(), "it was not frozen");
        child.kill().unwrap();
        child.wait().unwrap();
        let path = format!("{live}/a");
        let written = std::thread::spawn(move || std::fs::write(path, "on"));
        piton_testkit::wait_until("it goes on", Duration::from_secs(20), || {
            written.is_finished()
        });
        written.join().unwrap().unwrap();
    });
}

#[test]
fn hooks_are_told_before_and_after_and_a_failure_prevents_the_snapshot() {
    privately(|| {
        let rig = Rig::new("btrfs");
        subvolume(&rig.disk, "data");
        let log = rig.disk.point("hooks") + "/log";
        let program = rig.disk.program(
            "hook",
            &format!("#!/bin/sh\necho \"$1 $3\" >>{log}\ntest $1 = after -o ! -e {log}.fail\n"),
        );
        let options = format!("provider=btrfs,before={program},after={program}");
        let ending = rig.access(&options, "data", "one");
        assert_eq!(consistency(&ending), Consistency::Application);
        let origin = rig.disk.origin(Kind::Btrfs, "data");
        assert_eq!(text(&log), format!("before {origin}\nafter {origin}\n"));
        run("umount", &[&rig.disk.point("one")]);
        rig.sweep(&options, "data");

        std::fs::write(format!("{log}.fail"), "").unwrap();
        match rig.access(&options, "data", "one") {
            Ending::Failed(fault) => assert!(fault.text.contains("exit status 1"), "{fault:?}"),
            other => panic!("{other:?}"),
        }
        assert_eq!(rig.left(Kind::Btrfs, "data"), (0, 0));

        let slow = rig.disk.program("slow", "#!/bin/sh\nsleep 60 & wait\n");
        let options = format!("provider=btrfs,before={slow},hook-time=1s");
        let begun = Instant::now();
        match rig.access(&options, "data", "one") {
            Ending::Failed(fault) => assert!(fault.text.contains("not done after"), "{fault:?}"),
            other => panic!("{other:?}"),
        }
        assert!(begun.elapsed() < Duration::from_secs(20));
        assert_eq!(rig.left(Kind::Btrfs, "data"), (0, 0));
    });
}

#[test]
fn a_hundred_keys_at_once() {
    privately(|| {
        let rig = Rig::new("btrfs");
        let names: Vec<String> = (0..100).map(|number| format!("v{number}")).collect();
        for name in &names {
            subvolume(&rig.disk, name);
            rig.disk.write(&format!("{name}/name"), name);
        }
        let next = AtomicU32::new(0);
        std::thread::scope(|scope| {
            for _ in 0..100 {
                scope.spawn(|| {
                    let name = &names[next.fetch_add(1, Ordering::Relaxed) as usize];
                    let ending = rig.access("provider=btrfs", name, name);
                    assert!(
                        matches!(ending, Ending::Mounted { fresh: true, .. }),
                        "{ending:?}"
                    );
                    assert_eq!(&text(rig.disk.point(name) + "/name"), name);
                    run("umount", &[&rig.disk.point(name)]);
                    assert_eq!(rig.sweep("provider=btrfs", name).removed.len(), 1);
                });
            }
        });
        let left: HashMap<_, _> = names
            .iter()
            .map(|name| (name, rig.left(Kind::Btrfs, name)))
            .filter(|(_, left)| *left != (0, 0))
            .collect();
        assert!(left.is_empty(), "{left:?}");
    });
}

/// Whoever takes, mounts and removes snapshots is killed, 200 times, wherever that meets it; after
/// each time a sweep leaves nothing.
#[test]
fn two_hundred_kills_leave_no_orphan() {
    privately(|| {
        let rig = Rig::new("btrfs");
        subvolume(&rig.disk, "data");
        let point = rig.disk.point("view");
        let location = rig.disk.at("data").display().to_string();
        let state = rig.site.state.display().to_string();
        let mut random = 88_172_645_463_325_252_u64;
        let mut states: HashMap<(usize, usize, bool), u32> = HashMap::new();
        // More where this machine is so slow that all meet it in one state.
        for kill in 0..1000 {
            if kill >= 200 && states.len() > 2 {
                break;
            }
            let mut driver = Command::new(DRIVER)
                .args(["take", &state, &point, "1000", "provider=btrfs", &location])
                .stdout(Stdio::null())
                .spawn()
                .unwrap();
            // xorshift: the test is to be random, and the same each time.
            random ^= random << 13;
            random ^= random >> 7;
            random ^= random << 17;
            std::thread::sleep(Duration::from_micros(random % (40_000 * (1 + kill / 200))));
            driver.kill().unwrap();
            driver.wait().unwrap();
            // The daemon that comes back finds what is mounted, and unmounts it when it is idle.
            let mounted = piton_testkit::mounted_at(&point).is_some();
            let (listed, records) = rig.left(Kind::Btrfs, "data");
            *states.entry((listed, records, mounted)).or_default() += 1;
            if mounted {
                run("umount", &[&point]);
            }
            let swept = rig.sweep("provider=btrfs", "data");
            assert!(swept.left.is_empty(), "{swept:?}");
            assert_eq!(rig.left(Kind::Btrfs, "data"), (0, 0), "{states:?}");
        }
        assert!(
            states.len() > 2,
            "kills met it in one state only: {states:?}"
        );
        let origin = rig.disk.origin(Kind::Btrfs, "data");
        piton_volumes::Btrfs
            .create(std::slice::from_ref(&origin), name(1), crate::disk::turn())
            .expect("it still works");
        let found = piton_volumes::Btrfs
            .list(&origin, crate::disk::turn())
            .unwrap();
        assert_eq!(found[0].health, Health::Good);
    });
}

/// btrfs makes a snapshot of a transaction, and what is only in memory when that is closed is not in
/// it, unless it is mounted so: then nothing is missing that was written before, nor before anything that
/// changed a name. While it is closed, those who only write go on: of their writes it may have some
/// without others that were a little earlier.
#[test]
fn a_snapshot_of_btrfs_with_flushoncommit_has_what_was_written_before() {
    privately(|| {
        let rig = Rig::new("btrfs");
        subvolume(&rig.disk, "data");
        let disk = rig.disk.at("").display().to_string();
        run("mount", &["-o", "remount,flushoncommit", &disk]);
        let writer = Writer::at(rig.disk.at("data/area"));
        for round in 0..10 {
            let before = writer.steps();
            let point = format!("round-{round}");
            let ending = rig.access("provider=btrfs,freeze=yes", "data", &point);
            let after = writer.steps();
            assert_eq!(consistency(&ending), Consistency::Frozen);
            let view = rig.disk.point(&point);
            let seen = Seen::at(&Path::new(&view).join("area")).expect("whole blocks");
            let (whole, last) = (seen.whole(), seen.last());
            let told = format!("{before}, {whole}, {}, {last}, {after}", seen.last_name());
            assert!(before <= whole && last <= after + 1, "{told}");
            assert!(seen.last_name() <= whole, "{told}");
            run("umount", &[&view]);
            rig.sweep("provider=btrfs", "data");
        }
    });
}

#[test]
fn a_snapshot_of_btrfs_without_it_is_not_said_to_be_one() {
    privately(|| {
        let rig = Rig::new("btrfs");
        subvolume(&rig.disk, "data");
        match rig.access("provider=btrfs,freeze=yes", "data", "one") {
            Ending::Failed(fault) => assert!(fault.text.contains("mount it with flushoncommit")),
            other => panic!("{other:?}"),
        }
        assert_eq!(rig.left(Kind::Btrfs, "data"), (0, 0));
        match rig.access("provider=btrfs", "data", "one") {
            Ending::Mounted {
                manifest, notes, ..
            } => {
                assert_eq!(manifest.consistency, Consistency::Crash);
                assert!(notes[0].contains("flushoncommit"), "{notes:?}");
            }
            other => panic!("{other:?}"),
        }
    });
}
