//! Image files on XFS.

use piton_snapshot::{Health, Kind};
use piton_testkit::privately;
use piton_volumes::{Error, Image, Provider, Show};

use crate::disk::{Disk, name, one, run, text, turn};

/// An XFS with an image of this type on it, mounted.
fn with_image(fstype: &str) -> (Disk, String) {
    let disk = Disk::new("xfs");
    disk.image(fstype, &disk.at("data.img"));
    let point = disk.point("live");
    run(
        "mount",
        &["-o", "loop", disk.at("data.img").to_str().unwrap(), &point],
    );
    (disk, point)
}

#[test]
fn a_clone_of_a_mounted_ext4_is_shown_without_a_write() {
    privately(|| shown("ext4"));
}

#[test]
fn a_clone_of_a_mounted_xfs_is_shown_without_a_write() {
    privately(|| shown("xfs"));
}

fn shown(fstype: &'static str) {
    let (disk, live) = with_image(fstype);
    std::fs::write(format!("{live}/a"), "before").unwrap();
    let origin = disk.origin(Kind::Image, "data.img");
    let state = Image.inspect(&origin, turn()).unwrap();
    assert_eq!(
        state.mounted.as_ref().map(ToString::to_string),
        Some(live.clone())
    );
    assert!(!state.freezes && state.instant);

    run("fsfreeze", &["--freeze", &live]);
    let made = Image.create(one(&origin), name(1), turn());
    run("fsfreeze", &["--unfreeze", &live]);
    made.unwrap();
    std::fs::write(format!("{live}/a"), "after").unwrap();

    let view = Image.view(&origin, name(1), turn()).unwrap();
    assert_eq!(view.show, Show::FileSystem(fstype));
    let before = std::fs::read(view.source.to_string()).unwrap();
    let point = disk.mount(&view, "view");
    assert_eq!(text(point.join("a")), "before");
    let found = Image.list(&origin, turn()).unwrap();
    assert_eq!(found.len(), 1);
    assert!(found[0].busy && found[0].health == Health::Good);
    let error = Image.remove(&origin, name(1), turn()).unwrap_err();
    assert!(matches!(error, Error::Busy { .. }), "{error:?}");
    run("umount", &[point.to_str().unwrap()]);
    assert!(std::fs::read(view.source.to_string()).unwrap() == before);
    Image.remove(&origin, name(1), turn()).unwrap();
    assert_eq!(Image.list(&origin, turn()), Ok(vec![]));
    Image.remove(&origin, name(1), turn()).unwrap();
}

#[test]
fn what_was_not_finished_is_listed_and_never_shown() {
    privately(|| {
        let (disk, _live) = with_image("ext4");
        let origin = disk.origin(Kind::Image, "data.img");
        let image = Image;
        image.create(one(&origin), name(1), turn()).unwrap();
        let path = |seconds, end| {
            let name = name(seconds).of(&origin);
            disk.at(&format!(".piton-snapshots/data.img/{name}{end}"))
        };
        std::fs::rename(path(1, ""), path(1, ".partial")).unwrap();
        let found = image.list(&origin, turn()).unwrap();
        assert!(matches!(found[0].health, Health::Partial), "{found:?}");
        let error = image.view(&origin, name(1), turn()).unwrap_err();
        assert!(matches!(error, Error::Spoilt { .. }), "{error:?}");
        image.remove(&origin, name(1), turn()).unwrap();
        assert!(!path(1, ".partial").exists());

        // A file by a name of ours, without our mark.
        std::fs::write(path(2, ""), "mine").unwrap();
        assert_eq!(image.list(&origin, turn()), Ok(vec![]));
        let error = image.remove(&origin, name(2), turn()).unwrap_err();
        assert!(matches!(error, Error::Foreign { .. }), "{error:?}");
        let error = image.view(&origin, name(2), turn()).unwrap_err();
        assert!(matches!(error, Error::Foreign { .. }), "{error:?}");
    });
}

#[test]
fn where_extents_are_not_shared_the_reason_is_given_and_nothing_is_left() {
    privately(|| {
        let disk = Disk::new("ext4");
        disk.image("xfs", &disk.at("data.img"));
        let origin = disk.origin(Kind::Image, "data.img");
        let error = Image.create(one(&origin), name(1), turn()).unwrap_err();
        assert!(
            error.to_string().contains("cannot share extents"),
            "{error}"
        );
        assert_eq!(Image.list(&origin, turn()), Ok(vec![]));
        let place = disk.at(".piton-snapshots/data.img");
        assert_eq!(std::fs::read_dir(place).unwrap().count(), 0);

        disk.image("btrfs", &disk.at("b.img"));
        let origin = disk.origin(Kind::Image, "b.img");
        let error = Image.inspect(&origin, turn()).unwrap_err();
        assert!(error.to_string().contains("provider=btrfs"), "{error}");
        disk.write("text.img", "no file system");
        let origin = disk.origin(Kind::Image, "text.img");
        let error = Image.create(&[origin], name(1), turn()).unwrap_err();
        assert!(matches!(error, Error::Unsupported { .. }), "{error:?}");
    });
}
