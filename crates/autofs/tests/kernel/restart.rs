//! When the daemon goes and comes back.

use std::os::fd::AsFd;
use std::os::unix::process::ExitStatusExt;

use autofs::{
    Control, Errno, ExpireHow, PacketKind, PipeState, PointKind, RequestPipe, RequestTable,
    reconnect,
};
use rustix::process::{Pid, Signal, WaitOptions, kill_process, waitpid};

use crate::daemon::{Accessor, Daemon, existing_below, mount_tmpfs, until};
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
        let root = reconnect(&daemon.control, &found.target, found.device, writer, 9, &[]).unwrap();
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

/// What a daemon had read when it died is answered by whoever has the table.
#[test]
fn a_request_that_was_read_outlives_its_reader() {
    sandbox::run(|directory| {
        let daemon = Daemon::new();
        let (net, data) = (directory.join("net"), directory.join("data"));
        let point = daemon.point(PointKind::Indirect, &net);
        daemon.point(PointKind::Direct, &data);
        let root = point.root().unwrap();
        let table = RequestTable::new().unwrap();
        let indirect = Accessor::of([net.join("ann")]);
        indirect.wait_until_stuck();
        let direct = Accessor::of([data.clone()]);
        direct.wait_until_stuck();
        for _ in 0..2 {
            // Its slot is forgotten, as by a process that dies.
            let read = daemon.pipe.read_tracked(&table).unwrap();
            assert!(read.expect("a request").slot.is_some());
        }
        daemon.expect_none();
        let kept = table.as_fd().try_clone_to_owned().unwrap();
        drop(table);

        let table = RequestTable::from_fd(kept).unwrap();
        let mut unanswered = table.unanswered();
        assert_eq!(unanswered.len(), 2);
        daemon.serve_direct(&data, &unanswered[1].packet);
        daemon.serve(root, &net, &unanswered[0].packet);
        indirect.expect_served();
        direct.expect_served();
        // Killed before the slot was freed: the answer is given once more, and hurts nobody.
        let packet = &unanswered[0].packet;
        let again = daemon.control.ready(root, packet.token).unwrap_err();
        assert_eq!(again.errno(), Some(Errno::INVAL));
        unanswered.drain(..).for_each(|request| request.slot.free());
        assert!(table.unanswered().is_empty());
    });
}

/// Why expire requests are kept as well: the kernel forgets that the mount was to expire, but not
/// the request, and who then accesses that name waits for the answer to it.
#[test]
fn an_expiry_outlives_who_asked_for_it() {
    sandbox::run(|directory| {
        let daemon = Daemon::new();
        let net = directory.join("net");
        let point = daemon.point(PointKind::Indirect, &net);
        let root = point.root().unwrap();
        let accessor = Accessor::of([net.join("ann")]);
        daemon.serve(root, &net, &daemon.next());
        accessor.expect_served();

        // SAFETY: The child makes one ioctl and waits to be killed; it allocates nothing and takes
        // no lock.
        let child = unsafe { libc::fork() };
        if child == 0 {
            let _ = daemon.control.expire(root, ExpireHow::IMMEDIATE);
            loop {
                std::thread::park();
            }
        }
        let expire = daemon.next();
        assert_eq!(expire.kind, PacketKind::ExpireIndirect);
        let child = Pid::from_raw(child).unwrap();
        kill_process(child, Signal::KILL).unwrap();
        waitpid(Some(child), WaitOptions::empty()).unwrap();

        // What is mounted is no longer held back.
        Accessor::of([net.join("ann")]).expect_served();
        autofs::unmount(&net.join("ann"), autofs::UnmountFlags::empty()).unwrap();
        let accessor = Accessor::of([net.join("ann")]);
        accessor.wait_until_stuck();
        daemon.expect_none();
        daemon.control.ready(root, expire.token).unwrap();
        let missing = daemon.next();
        assert_eq!(missing.kind, PacketKind::MissingIndirect);
        mount_tmpfs(&net.join("ann"));
        daemon.control.ready(root, missing.token).unwrap();
        accessor.expect_served();
    });
}

/// A pipe that was kept, with what waits in it, also after the point was covered: nothing has to be
/// changed for a successor.
#[test]
fn a_kept_pipe_needs_no_reconnecting() {
    sandbox::run(|directory| {
        let daemon = Daemon::new();
        let data = directory.join("data");
        daemon.point(PointKind::Direct, &data);
        let waiting = Accessor::of([data.clone()]);
        waiting.wait_until_stuck();
        let (reader, writer) = daemon.pipe.into_fds();
        let pipe = RequestPipe::from_fds(reader, writer).unwrap();
        let flags = rustix::io::fcntl_getfd(pipe.writer()).unwrap();
        assert!(flags.contains(rustix::io::FdFlags::CLOEXEC));
        let found = existing_below(directory).remove(0);
        let inode = pipe.inode().unwrap();
        assert_eq!(found.pipe, PipeState::Connected { inode });
        assert_eq!(
            found.process_group,
            autofs::process_group().map(|group| group.as_raw_nonzero().get().cast_unsigned())
        );
        let daemon = Daemon {
            control: Control::open().unwrap(),
            pipe,
        };
        daemon.serve_direct(&data, &daemon.next());
        waiting.expect_served();
    });
}
