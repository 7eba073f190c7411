//! `mount_setattr(2)`.

use std::fs::File;
use std::path::Path;

use autofs::{
    AccessTime, Errno, MountAttrFlags, MountAttributes, set_mount_attributes,
    set_mount_attributes_at,
};
use rustix::fs::CWD;
use rustix::mount::{MoveMountFlags, OpenTreeFlags, move_mount, open_tree};

use crate::daemon::mount_tmpfs;
use crate::sandbox;

#[test]
fn a_bind_clone_is_made_read_only() {
    sandbox::run(|directory| {
        let (source, target) = (directory.join("source"), directory.join("target"));
        std::fs::create_dir_all(source.join("below")).unwrap();
        std::fs::create_dir(&target).unwrap();
        mount_tmpfs(&source.join("below"));
        let flags = OpenTreeFlags::OPEN_TREE_CLONE
            | OpenTreeFlags::OPEN_TREE_CLOEXEC
            | OpenTreeFlags::AT_RECURSIVE;
        let clone = open_tree(CWD, &source, flags).unwrap();
        let change = |set, clear, access_time| MountAttributes {
            set,
            clear,
            access_time,
            ..MountAttributes::default()
        };
        let (read_only, none) = (MountAttrFlags::MOUNT_ATTR_RDONLY, MountAttrFlags::empty());
        let attributes = change(read_only, none, Some(AccessTime::Never));
        set_mount_attributes(&clone, &attributes, false).unwrap();
        move_mount(
            &clone,
            "",
            CWD,
            &target,
            MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH,
        )
        .unwrap();

        let write = |path: &Path| std::fs::write(path, "").map_err(|e| e.raw_os_error().unwrap());
        let erofs = Err(Errno::ROFS.raw_os_error());
        assert_eq!(write(&source.join("new")), Ok(()));
        assert_eq!(write(&target.join("other")), erofs);
        assert_eq!(write(&target.join("below/new")), Ok(()), "not recursive");
        let table = std::fs::read_to_string("/proc/self/mountinfo").unwrap();
        let place = format!(" {} ", target.display());
        let line = table.lines().find(|line| line.contains(&place)).unwrap();
        assert!(line.contains(" ro,noatime "), "{line}");

        set_mount_attributes_at(&target, &attributes, true).unwrap();
        assert_eq!(write(&target.join("below/new")), erofs);
        set_mount_attributes_at(&target, &change(none, read_only, None), true).unwrap();
        assert_eq!(write(&target.join("other")), Ok(()));

        let plain = File::open(source.join("new")).unwrap();
        let error = set_mount_attributes(&plain, &attributes, false).unwrap_err();
        assert_eq!(error.errno(), Some(Errno::INVAL));
    });
}
