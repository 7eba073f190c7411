//! Subvolumes.

use std::fs::File;
use std::os::fd::AsFd;
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};

use piton_snapshot::{Health, Kind, Means};
use piton_testkit::privately;
use piton_volumes::{Btrfs, Error, Provider, Show, Turn};

use crate::disk::{Disk, name, one, run, subvolume, text, turn};

#[test]
fn a_snapshot_stays_as_it_was_and_is_gone_when_it_is_removed() {
    privately(|| {
        let disk = Disk::new("btrfs");
        subvolume(&disk, "data");
        disk.write("data/a", "before");
        let origin = disk.origin(Kind::Btrfs, "data");
        let btrfs = Btrfs;
        assert_eq!(btrfs.list(&origin, turn()), Ok(vec![]));
        let state = btrfs.inspect(&origin, turn()).unwrap();
        assert!(
            state.freezes && state.instant && state.fill.percent < 50,
            "{state:?}"
        );

        btrfs.create(one(&origin), name(1), turn()).unwrap();
        disk.write("data/a", "after");
        let view = btrfs.view(&origin, name(1), turn()).unwrap();
        assert_eq!(view.show, Show::Directory);
        let point = disk.mount(&view, "view");
        assert_eq!(text(point.join("a")), "before");
        let error = std::fs::write(point.join("a"), "x").unwrap_err();
        assert_eq!(error.kind(), std::io::ErrorKind::ReadOnlyFilesystem);

        let found = btrfs.list(&origin, turn()).unwrap();
        assert_eq!(found.len(), 1);
        assert_eq!((found[0].name, &found[0].health), (name(1), &Health::Good));
        assert!(found[0].busy);
        let error = btrfs.remove(&origin, name(1), turn()).unwrap_err();
        assert!(error.to_string().contains("as a mount at"), "{error}");
        run("umount", &[point.to_str().unwrap()]);

        btrfs.create(one(&origin), name(2), turn()).unwrap();
        btrfs.remove(&origin, name(1), turn()).unwrap();
        btrfs
            .remove(&origin, name(1), turn())
            .expect("once more is no mistake");
        let found = btrfs.list(&origin, turn()).unwrap();
        assert_eq!(found.iter().map(|f| f.name).collect::<Vec<_>>(), [name(2)]);
        assert!(!found[0].busy);
        let error = btrfs.create(one(&origin), name(2), turn()).unwrap_err();
        assert!(matches!(error, Error::Call { .. }), "{error:?}");
        let absent = btrfs.view(&origin, name(1), turn());
        assert!(matches!(absent, Err(Error::Absent { .. })), "{absent:?}");
    });
}

/// A file that is open in a view that was detached has no path any more, and nobody sees it. It goes
/// on being what it was: the kernel keeps a subvolume's files as long as they are open.
#[test]
fn what_is_open_in_a_detached_view_can_be_read_when_the_snapshot_is_gone() {
    privately(|| {
        let disk = Disk::new("btrfs");
        subvolume(&disk, "data");
        let whole = "text ".repeat(200_000);
        disk.write("data/a", &whole);
        let origin = disk.origin(Kind::Btrfs, "data");
        Btrfs.create(one(&origin), name(1), turn()).unwrap();
        let view = Btrfs.view(&origin, name(1), turn()).unwrap();
        let point = disk.mount(&view, "view");
        let open = File::open(point.join("a")).unwrap();
        run("umount", &["-l", point.to_str().unwrap()]);
        Btrfs.remove(&origin, name(1), turn()).unwrap();
        assert_eq!(Btrfs.list(&origin, turn()), Ok(vec![]));
        disk.write("data/a", "other");
        rustix::fs::syncfs(&open).unwrap();
        // Nothing of it is in memory.
        rustix::fs::fadvise(&open, 0, None, rustix::fs::Advice::DontNeed).unwrap();
        assert!(std::io::read_to_string(open).unwrap() == whole);
    });
}

#[test]
fn what_is_open_or_mounted_in_another_namespace_is_not_removed() {
    privately(|| {
        let disk = Disk::new("btrfs");
        subvolume(&disk, "data");
        disk.write("data/a", "text");
        let origin = disk.origin(Kind::Btrfs, "data");
        let btrfs = Btrfs;
        btrfs.create(one(&origin), name(1), turn()).unwrap();
        let view = btrfs.view(&origin, name(1), turn()).unwrap();
        let busy = || match btrfs.remove(&origin, name(1), turn()) {
            Err(Error::Busy { by, .. }) => by,
            other => panic!("{other:?}"),
        };

        let open = File::open(Path::new(&view.source.to_string()).join("a")).unwrap();
        assert!(busy().contains(&format!("process {}", std::process::id())));
        drop(open);

        let point = disk.mount(&view, "view");
        // A namespace that keeps a copy of the mount.
        let mut other = Command::new("unshare")
            .args([
                "--mount",
                "--propagation",
                "private",
                "sh",
                "-c",
                "echo; read x",
            ])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut byte = [0];
        std::io::Read::read_exact(other.stdout.as_mut().unwrap(), &mut byte).unwrap();
        run("umount", &[point.to_str().unwrap()]);
        assert!(busy().contains("as a mount at"));
        drop(other.stdin.take());
        other.wait().unwrap();
        btrfs.remove(&origin, name(1), turn()).unwrap();
    });
}

#[test]
fn the_snapshots_of_a_subvolume_that_was_deleted_are_those_of_the_next_one_in_its_place() {
    privately(|| {
        let disk = Disk::new("btrfs");
        subvolume(&disk, "data");
        disk.write("data/a", "lost");
        let origin = disk.origin(Kind::Btrfs, "data");
        let btrfs = Btrfs;
        btrfs.create(one(&origin), name(1), turn()).unwrap();
        let path = disk.at("data").display().to_string();
        run("btrfs", &["-q", "subvolume", "delete", &path]);
        subvolume(&disk, "data");
        let found = btrfs.list(&origin, turn()).unwrap();
        assert_eq!(found.len(), 1, "{found:?}");
        let point = disk.mount(&btrfs.view(&origin, name(1), turn()).unwrap(), "one");
        assert_eq!(text(point.join("a")), "lost");
        run("umount", &[point.to_str().unwrap()]);
        btrfs.remove(&origin, name(1), turn()).unwrap();
        assert_eq!(btrfs.list(&origin, turn()), Ok(vec![]));
    });
}

#[test]
fn what_is_not_ours_is_neither_listed_nor_shown_nor_removed() {
    privately(|| {
        let disk = Disk::new("btrfs");
        subvolume(&disk, "data");
        let origin = disk.origin(Kind::Btrfs, "data");
        let btrfs = Btrfs;
        // Somebody else's directory by our name.
        disk.write(".piton-snapshots/x", "mine");
        let error = btrfs.create(one(&origin), name(1), turn()).unwrap_err();
        assert!(matches!(error, Error::Foreign { .. }), "{error:?}");
        std::fs::remove_dir_all(disk.at(".piton-snapshots")).unwrap();
        std::os::unix::fs::symlink("/tmp", disk.at(".piton-snapshots")).unwrap();
        let error = btrfs.create(one(&origin), name(1), turn()).unwrap_err();
        assert!(matches!(error, Error::Foreign { .. }), "{error:?}");
        std::fs::remove_file(disk.at(".piton-snapshots")).unwrap();

        btrfs.create(one(&origin), name(1), turn()).unwrap();
        // Subvolumes by names of ours: not of this origin, and writable.
        let ours = |seconds| format!(".piton-snapshots/data/{}", name(seconds).of(&origin));
        subvolume(&disk, &ours(2));
        let path = |tail: &str| disk.at(tail).display().to_string();
        run(
            "btrfs",
            &[
                "-q",
                "subvolume",
                "snapshot",
                &path("data"),
                &path(&ours(3)),
            ],
        );
        std::fs::create_dir(disk.at(&ours(4))).unwrap();
        std::os::unix::fs::symlink(name(1).of(&origin), disk.at(&ours(5))).unwrap();
        let found = btrfs.list(&origin, turn()).unwrap();
        assert_eq!(found.iter().map(|f| f.name).collect::<Vec<_>>(), [name(1)]);
        for foreign in 2..=5 {
            let error = btrfs.remove(&origin, name(foreign), turn()).unwrap_err();
            assert!(matches!(error, Error::Foreign { .. }), "{error:?}");
            let error = btrfs.view(&origin, name(foreign), turn()).unwrap_err();
            assert!(matches!(error, Error::Foreign { .. }), "{error:?}");
        }
    });
}

#[test]
fn a_subvolume_that_is_a_mount_keeps_its_snapshots_in_itself() {
    privately(|| {
        let disk = Disk::new("btrfs");
        disk.write("a", "text");
        let origin = disk.origin(Kind::Btrfs, "");
        let btrfs = Btrfs;
        btrfs.create(one(&origin), name(1), turn()).unwrap();
        let point = disk.mount(&btrfs.view(&origin, name(1), turn()).unwrap(), "view");
        assert_eq!(text(point.join("a")), "text");
        assert!(disk.at(".piton-snapshots").is_dir());
        assert!(btrfs.list(&origin, turn()).unwrap()[0].busy);
    });
}

#[test]
fn others_who_can_write_where_snapshots_would_be_and_plain_directories_are_refused() {
    privately(|| {
        let disk = Disk::new("btrfs");
        subvolume(&disk, "shared");
        let origin = disk.origin(Kind::Btrfs, "shared");
        run("chmod", &["1777", disk.at("").to_str().unwrap()]);
        let error = Btrfs.create(&[origin], name(1), turn()).unwrap_err();
        assert!(
            error.to_string().contains("others than root can write"),
            "{error}"
        );
        run("chmod", &["755", disk.at("").to_str().unwrap()]);
        disk.write("plain/a", "text");
        let plain = disk.origin(Kind::Btrfs, "plain");
        let error = Btrfs.create(&[plain], name(1), turn()).unwrap_err();
        assert!(error.to_string().contains("no subvolume"), "{error}");
        let missing = disk.origin(Kind::Btrfs, "missing");
        let error = Btrfs.inspect(&missing, turn()).unwrap_err();
        assert!(matches!(error, Error::Absent { .. }), "{error:?}");
    });
}

#[test]
fn the_store_is_where_the_map_says() {
    privately(|| {
        let disk = Disk::new("btrfs");
        subvolume(&disk, "data");
        std::fs::create_dir(disk.at("store")).unwrap();
        let origin = disk.origin(Kind::Btrfs, "data");
        let means = Means {
            store: Some(
                disk.at("store")
                    .into_os_string()
                    .into_encoded_bytes()
                    .into(),
            ),
            size: None,
            ..Means::default()
        };
        let turn = || Turn {
            means: &means,
            ..turn()
        };
        let elsewhere = Means {
            store: Some(disk.point("other").into()),
            ..Means::default()
        };
        let wrong = Turn {
            means: &elsewhere,
            ..turn()
        };
        let error = Btrfs.create(one(&origin), name(1), wrong).unwrap_err();
        assert!(
            error.to_string().contains("not on the file system of the"),
            "{error}"
        );
        Btrfs.create(one(&origin), name(1), turn()).unwrap();
        assert!(disk.at("store/.piton-snapshots/data").is_dir());
        assert!(!disk.at(".piton-snapshots").exists());
        assert_eq!(Btrfs.list(&origin, turn()).unwrap().len(), 1);
        Btrfs.remove(&origin, name(1), turn()).unwrap();
        assert_eq!(Btrfs.list(&origin, turn()), Ok(vec![]));
    });
}

/// A writer puts rising numbers, each written through before the next, into one subvolume and then
/// the other. Of one instant are snapshots in which the second has the number of the first, or the
/// one before.
#[test]
fn a_group_is_of_one_instant() {
    privately(|| {
        let disk = Disk::new("btrfs");
        let names = ["one", "two", "three"];
        let open = |tail: &str| {
            subvolume(&disk, tail);
            std::fs::OpenOptions::new()
                .write(true)
                .create(true)
                .custom_flags(rustix::fs::OFlags::DSYNC.bits().cast_signed())
                .open(disk.at(tail).join("number"))
                .unwrap()
        };
        let files = names.map(open);
        let stop = AtomicBool::new(false);
        std::thread::scope(|scope| {
            scope.spawn(|| {
                let mut number = 0_u64;
                while !stop.load(Ordering::Relaxed) {
                    for file in &files {
                        file.write_all_at(&number.to_le_bytes(), 0).unwrap();
                    }
                    number += 1;
                }
            });
            let group = names.map(|tail| disk.origin(Kind::Btrfs, tail));
            let mut seen = Vec::new();
            for round in 0..8 {
                let made = Btrfs.create(&group, name(round), turn());
                if made.is_err() {
                    stop.store(true, Ordering::Relaxed);
                }
                made.unwrap();
                let numbers: Vec<u64> = group
                    .iter()
                    .map(|origin| {
                        let view = Btrfs.view(origin, name(round), turn()).unwrap();
                        let path = Path::new(&view.source.to_string()).join("number");
                        let bytes = std::fs::read(path).unwrap();
                        u64::from_le_bytes(bytes.try_into().unwrap_or_default())
                    })
                    .collect();
                seen.push(numbers);
            }
            stop.store(true, Ordering::Relaxed);
            for numbers in &seen {
                assert!(numbers.is_sorted_by(|a, b| a >= b), "{seen:?}");
                assert!(numbers[0] - numbers[2] <= 1, "{seen:?}");
            }
            assert!(
                seen[7][0] > seen[0][0],
                "it was written meanwhile: {seen:?}"
            );
        });
        for file in &files {
            rustix::fs::fsync(file.as_fd()).unwrap();
        }
    });
}
