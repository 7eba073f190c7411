//! What happens at points when what is mounted on them is unmounted lazily, with its users inside.

use std::fs::File;
use std::io::Read;
use std::path::Path;

use autofs::{
    AnswerErrno, AttachedPoint, Errno, PointKind, PointOptions, PreparedPoint, UnmountFlags,
    unmount,
};

use crate::daemon::{Accessor, Daemon, PROBE, existing_below, mount_tmpfs};
use crate::sandbox;

fn detach(target: &Path) {
    unmount(target, UnmountFlags::DETACH).unwrap();
}

fn read(mut file: File) -> String {
    let mut text = String::new();
    file.read_to_string(&mut text).unwrap();
    text
}

/// An offset below what is mounted on `data`.
fn offset(daemon: &Daemon, target: &Path) -> AttachedPoint {
    std::fs::create_dir_all(target).unwrap();
    let options = PointOptions::default();
    let prepared = PreparedPoint::new(PointKind::Offset, &options, daemon.pipe.writer()).unwrap();
    prepared.with_root_apart().attach(target).unwrap()
}

#[test]
fn a_key_that_was_let_go_triggers_again_and_its_user_keeps_what_he_has() {
    sandbox::run(|directory| {
        let daemon = Daemon::new();
        let net = directory.join("net");
        let point = daemon.point(PointKind::Indirect, &net);
        let root = point.root().unwrap();
        let accessor = Accessor::of([net.join("ann")]);
        daemon.serve(root, &net, &daemon.next());
        accessor.expect_served();
        let old = File::open(net.join("ann/probe")).unwrap();

        detach(&net.join("ann"));
        let accessor = Accessor::of([net.join("ann")]);
        let packet = daemon.next();
        assert_eq!(packet.name, "ann");
        mount_tmpfs(&net.join("ann"));
        daemon.control.ready(root, packet.token).unwrap();
        accessor.expect_served();
        assert_eq!(read(old), PROBE);

        // Without its directory, too.
        detach(&net.join("ann"));
        root.remove_dir(b"ann").unwrap();
        let accessor = Accessor::of([net.join("ann")]);
        daemon.serve(root, &net, &daemon.next());
        accessor.expect_served();
        daemon.expect_none();
    });
}

#[test]
fn a_direct_point_that_was_uncovered_triggers_again() {
    sandbox::run(|directory| {
        let daemon = Daemon::new();
        let data = directory.join("data");
        daemon.point(PointKind::Direct, &data);
        let accessor = Accessor::of([data.clone()]);
        daemon.serve_direct(&data, &daemon.next());
        accessor.expect_served();
        let old = File::open(data.join("probe")).unwrap();

        detach(&data);
        let accessor = Accessor::of([data.clone()]);
        daemon.serve_direct(&data, &daemon.next());
        accessor.expect_served();
        assert_eq!(read(old), PROBE);
        daemon.expect_none();
    });
}

#[test]
fn a_tree_goes_with_its_offsets_and_who_waits_in_one_is_answered_through_a_root_apart() {
    sandbox::run(|directory| {
        let daemon = Daemon::new();
        let data = directory.join("data");
        daemon.point(PointKind::Direct, &data);
        let accessor = Accessor::of([data.clone()]);
        daemon.serve_direct(&data, &daemon.next());
        accessor.expect_served();
        let [mut a, mut b] = ["a", "b"].map(|name| offset(&daemon, &data.join(name)));
        let root_of_a = a.take_apart().unwrap();
        assert_eq!(root_of_a.id().unwrap(), a.id());
        let root_of_b = b.take_apart().unwrap();

        let at_a = Accessor::of([data.join("a")]);
        let token = daemon.next().token;
        at_a.wait_until_stuck();
        let at_b = Accessor::of([data.join("b")]);
        daemon.next();
        at_b.wait_until_stuck();
        detach(&data);
        assert_eq!(existing_below(directory).len(), 1);
        assert!(
            daemon
                .control
                .open_point(&data.join("a"), a.id().device)
                .is_err()
        );
        let errno = AnswerErrno::new(Errno::HOSTDOWN);
        daemon.control.fail(&root_of_a, token, errno).unwrap();
        at_a.expect_errno(Errno::HOSTDOWN);
        daemon.control.make_catatonic(&root_of_b).unwrap();
        at_b.expect_errno(Errno::NOENT);

        let accessor = Accessor::of([data.clone()]);
        daemon.serve_direct(&data, &daemon.next());
        accessor.expect_served();
    });
}

#[test]
fn a_root_apart_keeps_neither_the_point_busy_nor_what_is_mounted_on_it() {
    sandbox::run(|directory| {
        let daemon = Daemon::new();
        let data = directory.join("data");
        let mut point = offset(&daemon, &data);
        let apart = point.take_apart().unwrap();
        let accessor = Accessor::of([data.clone()]);
        let packet = daemon.next();
        mount_tmpfs(&data);
        daemon.control.ready(&apart, packet.token).unwrap();
        accessor.expect_served();
        assert_eq!(apart.names().unwrap(), Vec::<bstr::BString>::new());
        unmount(&data, UnmountFlags::empty()).unwrap();
        unmount(&data, UnmountFlags::empty()).unwrap();
        assert_eq!(existing_below(directory), []);
        drop(apart);
    });
}
