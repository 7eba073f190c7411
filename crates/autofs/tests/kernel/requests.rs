//! Requests and their answers.

use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::Command;

use autofs::{
    AnswerErrno, AttachedPoint, Errno, MountAttrFlags, Owner, PacketKind, PointKind, PointOptions,
    Propagation, Requester, process_group,
};

use crate::daemon::{Accessor, Daemon, PROBE, errno_text, existing_below, mount_tmpfs};
use crate::sandbox;

#[test]
fn an_indirect_access_is_served() {
    sandbox::run(|directory| {
        let daemon = Daemon::new();
        let net = directory.join("net");
        let point = daemon.point(PointKind::Indirect, &net);
        let accessor = Accessor::of([net.join("ann")]);
        let packet = daemon.next();
        assert_eq!(packet.kind, PacketKind::MissingIndirect);
        assert_eq!(packet.device, point.id().device);
        assert_eq!(packet.name, "ann");
        assert_eq!(packet.tgid, accessor.pid());
        daemon.serve(point.root().unwrap(), &net, &packet);
        accessor.expect_served();
        Accessor::of([net.join("ann")]).expect_served();
        daemon.expect_none();
    });
}

#[test]
fn a_direct_access_is_served() {
    sandbox::run(|directory| {
        let daemon = Daemon::new();
        let data = directory.join("data");
        let point = daemon.point(PointKind::Direct, &data);
        let accessor = Accessor::of([data.clone()]);
        let packet = daemon.next();
        assert_eq!(packet.kind, PacketKind::MissingDirect);
        assert_eq!(packet.point(), point.id());
        daemon.serve_direct(&data, &packet);
        accessor.expect_served();
        daemon.expect_none();
    });
}

#[test]
fn an_offset_below_a_mounted_one_is_served() {
    sandbox::run(|directory| {
        let daemon = Daemon::new();
        let data = directory.join("data");
        let inner = data.join("inner");
        daemon.point(PointKind::Direct, &data);
        let accessor = Accessor::of([inner.clone()]);
        let packet = daemon.next();
        let root = daemon.control.open_point(&data, packet.device).unwrap();
        mount_tmpfs(&data);
        let offset = daemon.point(PointKind::Offset, &inner);
        daemon.control.ready(root, packet.token).unwrap();

        let packet = daemon.next();
        assert_eq!(packet.kind, PacketKind::MissingDirect);
        assert_eq!(packet.point(), offset.id());
        daemon.serve_direct(&inner, &packet);
        accessor.expect_served();
        let kinds: Vec<_> = existing_below(directory)
            .iter()
            .map(|point| point.kind)
            .collect();
        assert_eq!(kinds, [PointKind::Direct, PointKind::Offset]);
    });
}

#[test]
fn a_point_by_the_classic_call_is_served() {
    sandbox::run(|directory| {
        let daemon = Daemon::new();
        let options = PointOptions {
            source: "auto.net".into(),
            process_group: process_group(),
            strict_expire: true,
            ignore: true,
            owner: Some(Owner { uid: 12, gid: 34 }),
            propagation: Some(Propagation::Slave),
            attributes: MountAttrFlags::MOUNT_ATTR_NODEV,
        };
        for (name, kind) in [("net", PointKind::Indirect), ("data", PointKind::Direct)] {
            let target = directory.join(name);
            std::fs::create_dir(&target).unwrap();
            let writer = daemon.pipe.writer();
            let point = AttachedPoint::mount(kind, &options, writer, &target).unwrap();
            let accessor = match kind {
                PointKind::Indirect => Accessor::of([target.join("ann")]),
                PointKind::Direct | PointKind::Offset => Accessor::of([target.clone()]),
            };
            let packet = daemon.next();
            match point.root() {
                Some(root) => daemon.serve(root, &target, &packet),
                None => {
                    assert_eq!(packet.point(), point.id());
                    daemon.serve_direct(&target, &packet);
                }
            }
            accessor.expect_served();
        }
        for point in existing_below(directory) {
            assert_eq!(point.source, "auto.net");
            assert_eq!(point.process_group, Some(std::process::id()));
            assert!(point.strict_expire && point.ignore);
        }
        let error = AttachedPoint::mount(
            PointKind::Direct,
            &options,
            daemon.pipe.writer(),
            &directory.join("absent"),
        )
        .unwrap_err();
        assert_eq!(error.errno(), Some(Errno::NOENT));
    });
}

/// Every errno, not a choice of them: what the kernel does with one is not to be guessed.
#[test]
fn every_errno_arrives_as_the_answer_says() {
    sandbox::run(|directory| {
        let daemon = Daemon::new();
        let net = directory.join("net");
        let point = daemon.point(PointKind::Indirect, &net);
        let numbers = 1..=140;
        let accessor = Accessor::of(numbers.clone().map(|number| net.join(number.to_string())));
        let mut complaints = String::new();
        for number in numbers {
            let packet = daemon.next();
            let answer = AnswerErrno::new(Errno::from_raw_os_error(number));
            assert_eq!(
                packet.name,
                number.to_string(),
                "the one before was asked for again"
            );
            daemon
                .control
                .fail(point.root().unwrap(), packet.token, answer)
                .unwrap();
            let expected = match number {
                10 | 21 | 116 | 134.. => Errno::IO,
                _ => Errno::from_raw_os_error(number),
            };
            let path = net.join(number.to_string()).join("probe");
            complaints += &format!("cat: {}{}\n", path.display(), errno_text(expected));
        }
        daemon.expect_none();
        assert_eq!(
            String::from_utf8_lossy(&accessor.finish().stderr),
            complaints
        );
    });
}

#[test]
fn a_direct_access_gets_its_errno_too() {
    sandbox::run(|directory| {
        let daemon = Daemon::new();
        let data = directory.join("data");
        daemon.point(PointKind::Direct, &data);
        for errno in [
            Errno::HOSTDOWN,
            Errno::TIMEDOUT,
            Errno::ACCESS,
            Errno::STALE,
        ] {
            let accessor = Accessor::of([data.clone()]);
            let packet = daemon.next();
            let root = daemon.control.open_point(&data, packet.device).unwrap();
            daemon
                .control
                .fail(&root, packet.token, errno.into())
                .unwrap();
            accessor.expect_errno(AnswerErrno::new(errno).errno());
            daemon.expect_none();
        }
    });
}

#[test]
fn one_answer_wakes_all_who_wait() {
    sandbox::run(|directory| {
        let daemon = Daemon::new();
        let net = directory.join("net");
        let point = daemon.point(PointKind::Indirect, &net);
        let accessors = [(); 2].map(|()| Accessor::of([net.join("ann")]));
        let packet = daemon.next();
        accessors.iter().for_each(Accessor::wait_until_stuck);
        daemon.expect_none();
        daemon.serve(point.root().unwrap(), &net, &packet);
        accessors.into_iter().for_each(Accessor::expect_served);
        let again = daemon
            .control
            .ready(point.root().unwrap(), packet.token)
            .unwrap_err();
        assert_eq!(
            again.errno(),
            Some(Errno::INVAL),
            "a token is good for one answer"
        );
    });
}

#[test]
fn ready_without_a_mount_ends_in_eloop() {
    sandbox::run(|directory| {
        let daemon = Daemon::new();
        let net = directory.join("net");
        let point = daemon.point(PointKind::Indirect, &net);
        let root = point.root().unwrap();
        root.make_dir(b"ann", 0o755).unwrap();
        let accessor = Accessor::of([net.join("ann")]);
        for _ in 0..40 {
            daemon.control.ready(root, daemon.next().token).unwrap();
        }
        accessor.expect_errno(Errno::LOOP);
        daemon.expect_none();
    });
}

#[test]
fn links_are_followed_without_a_request() {
    sandbox::run(|directory| {
        let daemon = Daemon::new();
        let net = directory.join("net");
        let point = daemon.point(PointKind::Indirect, &net);
        let root = point.root().unwrap();
        std::fs::write(directory.join("probe"), PROBE).unwrap();
        root.make_link(b"here", directory.as_os_str().as_encoded_bytes())
            .unwrap();
        Accessor::of([net.join("here")]).expect_served();
        daemon.expect_none();
        root.remove_link(b"here").unwrap();
        root.make_dir(b"empty", 0o755).unwrap();
        root.remove_dir(b"empty").unwrap();
        assert_eq!(root.names().unwrap(), [""; 0]);
    });
}

#[test]
fn the_requester_is_known_and_remembered() {
    sandbox::run(|directory| {
        let daemon = Daemon::new();
        let access = |path: &Path| {
            let mut command = Command::new("cat");
            command.arg(path.join("probe")).uid(1234).gid(567);
            let accessor = Accessor::start(command);
            let packet = daemon.next();
            assert_eq!((packet.uid, packet.gid), (1234, 567));
            assert_eq!((packet.pid, packet.tgid), (accessor.pid(), accessor.pid()));
            (accessor, packet)
        };
        let requester = |root: BorrowedFd<'_>, path: &Path| {
            let path = path.to_owned();
            daemon
                .control
                .requester(root, &path)
                .map_err(|error| error.errno().unwrap())
        };

        let data = directory.join("data");
        let point = daemon.point(PointKind::Direct, &data);
        let (accessor, packet) = access(&data);
        let root = daemon.control.open_point(&data, point.id().device).unwrap();
        daemon.serve_direct(&data, &packet);
        accessor.expect_served();
        assert_eq!(
            requester(root.as_fd(), &data),
            Ok(Requester {
                uid: 1234,
                gid: 567
            })
        );
        assert_eq!(requester(root.as_fd(), directory), Err(Errno::NOENT));

        // For a key of an indirect point the kernel knows it, but cannot be asked.
        let net = directory.join("net");
        let point = daemon.point(PointKind::Indirect, &net);
        let root = point.root().unwrap();
        let (accessor, packet) = access(&net.join("ann"));
        daemon.serve(root, &net, &packet);
        accessor.expect_served();
        assert_eq!(requester(root.as_fd(), &net.join("ann")), Err(Errno::NOENT));
    });
}
