//! Making, finding and removing points.

use std::fs::File;
use std::path::Path;

use autofs::{
    Control, Errno, Error, MountAttrFlags, MountAttributes, Owner, Pid, PipeState, PointKind,
    PointOptions, PreparedPoint, Propagation, UnmountFlags, process_group, set_mount_attributes_at,
    unmount,
};

use crate::daemon::{Daemon, existing_below, mount_tmpfs};
use crate::sandbox;

const TMPFS_MAGIC: u32 = 0x0102_1994;

#[test]
fn the_control_device_speaks_our_version() {
    sandbox::run(|directory| {
        let daemon = Daemon::new();
        assert_eq!(daemon.control.version().unwrap().0, 1);
        let point = daemon.point(PointKind::Indirect, &directory.join("net"));
        let root = point.root().unwrap();
        assert_eq!(daemon.control.protocol_version(root).unwrap(), 5);
        assert!(daemon.control.protocol_subversion(root).unwrap() >= 5);
    });
}

#[test]
fn r_264_options_show_in_the_mount_table() {
    sandbox::run(|directory| {
        let daemon = Daemon::new();
        let options = PointOptions {
            source: "auto.net with blanks".into(),
            process_group: process_group(),
            strict_expire: true,
            ignore: true,
            owner: Some(Owner { uid: 12, gid: 34 }),
            propagation: None,
            attributes: MountAttrFlags::MOUNT_ATTR_NOSUID,
        };
        let target = directory.join("a net");
        std::fs::create_dir(&target).unwrap();
        let prepared =
            PreparedPoint::new(PointKind::Indirect, &options, daemon.pipe.writer()).unwrap();
        let root = prepared.open_root().unwrap();
        assert_eq!(daemon.control.set_timeout(&root, 77).unwrap(), 0);
        assert_eq!(daemon.control.set_timeout(&root, 78).unwrap(), 77);
        root.make_dir(b"made before", 0o755).unwrap();
        drop(root);
        let point = prepared.attach(&target).unwrap();
        assert_eq!(point.root().unwrap().names().unwrap(), ["made before"]);

        let [found] = &existing_below(directory)[..] else {
            panic!("not one point")
        };
        assert_eq!(found.target, target);
        assert_eq!(found.source, options.source);
        assert_eq!(found.device, point.id().device);
        assert_eq!(found.kind, PointKind::Indirect);
        let inode = daemon.pipe.inode().unwrap();
        assert_eq!(found.pipe, PipeState::Connected { inode });
        assert_eq!(found.process_group, Some(std::process::id()));
        assert_eq!((found.timeout_s, found.protocol), (78, (3, 5)));
        assert!(found.strict_expire && found.ignore);
        use std::os::unix::fs::MetadataExt;
        let owner = std::fs::metadata(&target).unwrap();
        assert_eq!((owner.uid(), owner.gid()), (12, 34));
        let table = std::fs::read_to_string("/proc/self/mountinfo").unwrap();
        let line = table
            .lines()
            .find(|line| line.contains(r"a\040net"))
            .unwrap();
        assert!(line.contains(" rw,nosuid"), "{line}");
    });
}

#[test]
fn what_is_not_attached_leaves_nothing() {
    sandbox::run(|directory| {
        let daemon = Daemon::new();
        let options = PointOptions::default();
        let prepare =
            || PreparedPoint::new(PointKind::Direct, &options, daemon.pipe.writer()).unwrap();
        let (first, second) = (prepare(), prepare());
        assert_ne!(first.id().device, second.id().device);
        drop(first);
        let error = second.attach(&directory.join("absent")).unwrap_err();
        assert_eq!(error.errno(), Some(Errno::NOENT));
        assert!(error.to_string().contains("absent"), "{error}");
        assert_eq!(existing_below(directory), []);

        let dir = File::open(directory).unwrap();
        std::fs::create_dir(directory.join("by descriptor")).unwrap();
        prepare()
            .attach_at(&dir, Path::new("by descriptor"))
            .unwrap();
        std::fs::create_dir(directory.join("itself")).unwrap();
        let itself = File::open(directory.join("itself")).unwrap();
        prepare().attach_at(&itself, Path::new("")).unwrap();
        assert_eq!(existing_below(directory).len(), 2);
    });
}

#[test]
fn a_refusal_has_the_kernels_words() {
    sandbox::run(|_| {
        let daemon = Daemon::new();
        let nobodys = Pid::from_raw(4_000_000);
        let options = PointOptions {
            process_group: nobodys,
            ..PointOptions::default()
        };
        let error =
            PreparedPoint::new(PointKind::Direct, &options, daemon.pipe.writer()).unwrap_err();
        let Error::Call {
            errno,
            kernel_text: Some(text),
            ..
        } = &error
        else {
            panic!("no words: {error}")
        };
        assert_eq!(*errno, Errno::INVAL);
        assert!(text.contains("process group 4000000"), "{text}");
        assert!(error.to_string().contains(&**text), "{error}");
    });
}

#[test]
fn a_covered_point_can_be_reached() {
    sandbox::run(|directory| {
        let daemon = Daemon::new();
        let control = &daemon.control;
        let data = directory.join("data");
        let point = daemon.point(PointKind::Direct, &data);
        let bare = control.mount_at(&data, None).unwrap().unwrap();
        assert_eq!(bare.device, point.id().device);
        mount_tmpfs(&data);

        let top = control.mount_at(&data, None).unwrap().unwrap();
        assert_eq!(top.magic, TMPFS_MAGIC);
        assert_ne!(top.device, point.id().device);
        let ours = control
            .mount_at(&data, Some(PointKind::Direct))
            .unwrap()
            .unwrap();
        assert_eq!(ours.device, point.id().device);
        assert!(control.mount_at(&data, Some(PointKind::Indirect)).is_err());

        let root = control.open_point(&data, point.id().device).unwrap();
        let covered = control.covered(&root, &data).unwrap();
        assert_eq!(
            (covered.has_mounts, covered.magic),
            (true, Some(TMPFS_MAGIC))
        );
        unmount(&data, UnmountFlags::empty()).unwrap();
        let covered = control.covered(&root, &data).unwrap();
        assert_eq!((covered.has_mounts, covered.magic), (false, None));

        std::fs::create_dir(directory.join("plain")).unwrap();
        assert_eq!(
            control.mount_at(&directory.join("plain"), None).unwrap(),
            None
        );
        let error = control
            .open_point(&directory.join("plain"), top.device)
            .unwrap_err();
        assert_eq!(error.errno(), Some(Errno::NOENT));
    });
}

#[test]
fn paths_up_to_the_limit_are_taken() {
    sandbox::run(|_| {
        let control = Control::open().unwrap();
        let path = |length: usize| "/.".repeat(length / 2) + &"/"[..length % 2];
        let root = control.mount_at(Path::new(&path(4095)), None).unwrap();
        assert!(root.is_some());
        for length in [4096, 5000] {
            let error = control
                .mount_at(Path::new(&path(length)), None)
                .unwrap_err();
            assert_eq!(error.errno(), Some(Errno::NAMETOOLONG));
        }
        let error = control.mount_at(Path::new("/a\0b"), None).unwrap_err();
        assert_eq!(error.errno(), Some(Errno::INVAL));
    });
}

#[test]
fn an_open_root_keeps_the_point_busy() {
    sandbox::run(|directory| {
        let daemon = Daemon::new();
        let net = directory.join("net");
        let mut point = daemon.point(PointKind::Indirect, &net);
        let busy = unmount(&net, UnmountFlags::empty()).unwrap_err();
        assert_eq!(busy.errno(), Some(Errno::BUSY));
        drop(point.take_root());
        unmount(&net, UnmountFlags::empty()).unwrap();
        assert_eq!(existing_below(directory), []);
    });
}

#[test]
fn propagation_is_as_asked_for() {
    sandbox::run(|directory| {
        let daemon = Daemon::new();
        let shared = MountAttributes {
            propagation: Some(Propagation::Shared),
            ..MountAttributes::default()
        };
        set_mount_attributes_at(directory, &shared, false).unwrap();
        // A slave needs a master: someone else in the group of peers.
        let peer = directory.join("peer");
        std::fs::create_dir(&peer).unwrap();
        rustix::mount::mount_bind(directory, &peer).unwrap();
        for (name, propagation, fields) in [
            ("as-parent", None, "shared:"),
            ("private", Some(Propagation::Private), "- autofs"),
            ("slave", Some(Propagation::Slave), "master:"),
            (
                "unbindable",
                Some(Propagation::Unbindable),
                "unbindable - autofs",
            ),
        ] {
            let target = directory.join(name);
            std::fs::create_dir(&target).unwrap();
            let options = PointOptions {
                propagation,
                ..PointOptions::default()
            };
            PreparedPoint::new(PointKind::Direct, &options, daemon.pipe.writer())
                .unwrap()
                .attach(&target)
                .unwrap();
            let table = std::fs::read_to_string("/proc/self/mountinfo").unwrap();
            let line = table
                .lines()
                .find(|line| line.contains(&format!(" {} ", target.display())))
                .unwrap();
            let found = line.split("relatime ").nth(1).unwrap();
            assert!(found.starts_with(fields), "{name}: {line}");
        }
    });
}
