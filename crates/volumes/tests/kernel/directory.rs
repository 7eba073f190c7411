//! Directories, copied file by file.

use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};

use piton_snapshot::{Health, Kind};
use piton_testkit::privately;
use piton_volumes::{Directory, Error, Provider, Show};

use crate::disk::{Disk, name, one, run, text, turn};

#[test]
fn a_copy_on_xfs_has_all_that_the_origin_had() {
    privately(|| copied("xfs"));
}

#[test]
fn a_copy_on_btrfs_has_all_that_the_origin_had() {
    privately(|| copied("btrfs"));
}

fn copied(fstype: &str) {
    let disk = Disk::new(fstype);
    disk.write("data/a", "text");
    disk.write("data/empty", "");
    disk.write("data/deep/er/b", "below");
    symlink("/etc/shadow", disk.at("data/link")).unwrap();
    std::fs::hard_link(disk.at("data/a"), disk.at("data/deep/second")).unwrap();
    let path = |tail: &str| disk.at(tail).display().to_string();
    run("mkfifo", &[&path("data/fifo")]);
    run("chown", &["1234:5678", &path("data/deep/er/b")]);
    run("chown", &["-h", "1:2", &path("data/link")]);
    run("chmod", &["4711", &path("data/deep/er/b")]);
    run("chmod", &["2570", &path("data/deep")]);
    run(
        "touch",
        &[
            "-d",
            "2001-02-03 04:05:06.789Z",
            &path("data/deep/er"),
            &path("data/a"),
        ],
    );
    let flags = rustix::fs::XattrFlags::empty();
    rustix::fs::setxattr(disk.at("data/a"), "user.word", b"kept", flags).unwrap();
    std::fs::create_dir(disk.at("data/mounted")).unwrap();
    run("mount", &["-t", "tmpfs", "none", &path("data/mounted")]);
    disk.write("data/mounted/not-of-it", "x");

    let origin = disk.origin(Kind::Directory, "data");
    let directory = Directory;
    let state = directory.inspect(&origin, turn()).unwrap();
    assert!(!state.instant && !state.freezes && state.mounted.is_none());
    directory.create(one(&origin), name(1), turn()).unwrap();
    disk.write("data/a", "changed");
    std::fs::remove_file(disk.at("data/deep/er/b")).unwrap();

    let view = directory.view(&origin, name(1), turn()).unwrap();
    assert_eq!(view.show, Show::Directory);
    let point = disk.mount(&view, "view");
    assert_eq!(text(point.join("a")), "text");
    assert_eq!(text(point.join("deep/er/b")), "below");
    assert_eq!(text(point.join("empty")), "");
    let meta = |tail: &str| std::fs::symlink_metadata(point.join(tail)).unwrap();
    let b = meta("deep/er/b");
    assert_eq!(
        (b.uid(), b.gid(), b.permissions().mode() & 0o7777),
        (1234, 5678, 0o4711)
    );
    assert_eq!(meta("deep").permissions().mode() & 0o7777, 0o2570);
    assert_eq!((meta("link").uid(), meta("link").gid()), (1, 2));
    assert_eq!(
        std::fs::read_link(point.join("link")).unwrap().to_str(),
        Some("/etc/shadow")
    );
    assert_eq!(meta("deep/er").mtime(), 981_173_106);
    assert_eq!(
        (meta("a").ino(), meta("a").nlink()),
        (meta("deep/second").ino(), 2)
    );
    let mut word = [0; 10];
    let length = rustix::fs::getxattr(point.join("a"), "user.word", &mut word[..]).unwrap();
    assert_eq!(&word[..length], b"kept");
    assert_eq!(std::fs::read_dir(point.join("mounted")).unwrap().count(), 0);
    let error = std::fs::write(point.join("a"), "x").unwrap_err();
    assert_eq!(error.kind(), std::io::ErrorKind::ReadOnlyFilesystem);

    let found = directory.list(&origin, turn()).unwrap();
    assert!(
        found[0].busy && found[0].health == Health::Good,
        "{found:?}"
    );
    let error = directory.remove(&origin, name(1), turn()).unwrap_err();
    assert!(matches!(error, Error::Busy { .. }), "{error:?}");
    run("umount", &[point.to_str().unwrap()]);
    directory.remove(&origin, name(1), turn()).unwrap();
    assert_eq!(directory.list(&origin, turn()), Ok(vec![]));
    assert_eq!(text(disk.at("data/a")), "changed");
}

#[test]
fn what_was_not_finished_is_never_shown_and_can_be_removed() {
    privately(|| {
        let disk = Disk::new("xfs");
        disk.write("data/deep/a", "text");
        let origin = disk.origin(Kind::Directory, "data");
        let directory = Directory;
        directory.create(one(&origin), name(1), turn()).unwrap();
        let path = |seconds, end| {
            let name = name(seconds).of(&origin);
            disk.at(&format!(".piton-snapshots/data/{name}{end}"))
        };
        std::fs::rename(path(1, ""), path(1, ".partial")).unwrap();
        let found = directory.list(&origin, turn()).unwrap();
        assert!(matches!(found[0].health, Health::Partial), "{found:?}");
        let error = directory.view(&origin, name(1), turn()).unwrap_err();
        assert!(matches!(error, Error::Spoilt { .. }), "{error:?}");
        directory.remove(&origin, name(1), turn()).unwrap();
        assert!(!path(1, ".partial").exists());

        std::fs::create_dir(path(2, "")).unwrap();
        std::fs::write(path(2, "").join("a"), "mine").unwrap();
        let error = directory.remove(&origin, name(2), turn()).unwrap_err();
        assert!(matches!(error, Error::Foreign { .. }), "{error:?}");
        assert_eq!(directory.list(&origin, turn()), Ok(vec![]));
    });
}

#[test]
fn where_extents_are_not_shared_nothing_is_left() {
    privately(|| {
        let disk = Disk::new("ext4");
        disk.write("data/a", "text");
        disk.write("other/a", "");
        let [origin, other] = ["data", "other"].map(|tail| disk.origin(Kind::Directory, tail));
        let directory = Directory;
        let group = [other.clone(), origin.clone()];
        let error = directory.create(&group, name(1), turn()).unwrap_err();
        assert!(
            error.to_string().contains("cannot share extents"),
            "{error}"
        );
        for origin in [origin, other] {
            assert_eq!(directory.list(&origin, turn()), Ok(vec![]));
        }
    });
}
