//! When the daemon goes and comes back.

use std::os::unix::process::ExitStatusExt;

use autofs::{Control, Errno, PipeState, PointKind, RequestPipe, reconnect};

use crate::daemon::{Accessor, Daemon, existing_below, until};
use crate::sandbox;

#[test]
fn a_catatonic_point_is_reconnected() {
    sandbox::run(|directory| {
        let daemon = Daemon::new();
        let net = directory.join("net");
        let mut point = daemon.point(PointKind::Indirect, &net);
        let accessor = Accessor::of([net.join("bob")]);
        daemon.serve(point.root().unwrap(), &net, &daemon.next());
        accessor.expect_served();

        let waiting = Accessor::of([net.join("ann")]);
        let lost = daemon.next();
        let root = point.take_root().unwrap();
        daemon.control.make_catatonic(&root).unwrap();
        waiting.expect_errno(Errno::NOENT);
        assert!(existing_below(directory)[0].is_catatonic());
        Accessor::of([net.join("ann")]).expect_errno(Errno::NOENT);
        let refused = root.make_dir(b"ann", 0o755).unwrap_err();
        assert_eq!(refused.errno(), Some(Errno::ACCESS));
        assert!(daemon.control.ready(&root, lost.token).is_err());
        drop((daemon, root));

        let daemon = Daemon::new();
        let found = existing_below(directory).remove(0);
        let writer = daemon.pipe.writer();
        let root = reconnect(&daemon.control, &found.target, found.device, writer, 9).unwrap();
        assert_eq!(root.id().unwrap(), point.id());
        let found = existing_below(directory).remove(0);
        assert_eq!(
            found.pipe,
            PipeState::Connected {
                inode: daemon.pipe.inode().unwrap()
            }
        );
        assert_eq!(found.timeout_s, 9);
        Accessor::of([net.join("bob")]).expect_served();
        let accessor = Accessor::of([net.join("ann")]);
        daemon.serve(&root, &net, &daemon.next());
        accessor.expect_served();
    });
}

/// Why somebody else should hold the read end as well: with a copy of it open, nothing happens to
/// those who access.
#[test]
fn only_the_last_reader_is_missed() {
    sandbox::run(|directory| {
        let daemon = Daemon::new();
        let net = directory.join("net");
        let mut point = daemon.point(PointKind::Indirect, &net);
        let root = point.take_root().unwrap();
        let (reader, writer) = daemon.pipe.into_fds();
        let kept = (reader.try_clone().unwrap(), writer.try_clone().unwrap());
        drop((reader, writer));

        let accessor = Accessor::of([net.join("ann")]);
        accessor.wait_until_stuck();
        let pipe = RequestPipe::from_fds(kept.0, kept.1).unwrap();
        let daemon = Daemon {
            control: Control::open().unwrap(),
            pipe,
        };
        daemon.serve(&root, &net, &daemon.next());
        accessor.expect_served();

        drop(daemon);
        let killed = Accessor::of([net.join("bob")]).finish();
        assert_eq!(
            killed.status.signal(),
            Some(13),
            "killed by SIGPIPE: {killed:?}"
        );
        until(|| existing_below(directory)[0].is_catatonic());
        Accessor::of([net.join("bob")]).expect_errno(Errno::NOENT);
    });
}
