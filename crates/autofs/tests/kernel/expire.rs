//! Taking away what is idle.

use std::fs::File;
use std::os::fd::{AsFd, BorrowedFd};
use std::time::Duration;

use autofs::{Errno, ExpireHow, PacketKind, PointKind, UnmountFlags, unmount};

use crate::daemon::{Accessor, Daemon, bstr_path};
use crate::sandbox;

/// Asks for something to expire, in another thread as one has to, until there is something; serves
/// that; and returns the request and what asking returned.
fn expire_one(
    daemon: &Daemon,
    root: impl AsFd + Sync,
    answer: impl FnOnce(&autofs::Packet),
) -> autofs::Result<bool> {
    std::thread::scope(|scope| {
        let expirer = scope.spawn(|| {
            loop {
                match daemon.control.expire(&root, ExpireHow::NORMAL) {
                    Ok(false) => std::thread::sleep(Duration::from_millis(20)),
                    done => break done,
                }
            }
        });
        answer(&daemon.next());
        expirer.join().unwrap()
    })
}

#[test]
fn an_idle_mount_expires_after_its_timeout() {
    sandbox::run(|directory| {
        let daemon = Daemon::new();
        let net = directory.join("net");
        let point = daemon.point(PointKind::Indirect, &net);
        let root = point.root().unwrap();
        daemon.control.set_timeout(root, 1).unwrap();
        let accessor = Accessor::of([net.join("ann")]);
        let packet = daemon.next();
        daemon.serve(root, &net, &packet);
        accessor.expect_served();

        let in_use = File::open(net.join("ann/probe")).unwrap();
        assert!(!daemon.control.may_unmount(root).unwrap());
        assert!(!daemon.control.expire(root, ExpireHow::IMMEDIATE).unwrap());
        drop(in_use);

        let failed = expire_one(&daemon, root, |packet| {
            daemon
                .control
                .fail(root, packet.token, Errno::BUSY.into())
                .unwrap();
        });
        assert_eq!(failed.unwrap_err().errno(), Some(Errno::BUSY));
        Accessor::of([net.join("ann")]).expect_served();

        let gone = expire_one(&daemon, root, |packet| {
            assert_eq!(packet.kind, PacketKind::ExpireIndirect);
            assert_eq!(packet.device, point.id().device);
            assert_eq!(packet.name, "ann");
            unmount(&net.join(bstr_path(&packet.name)), UnmountFlags::empty()).unwrap();
            root.remove_dir(&packet.name).unwrap();
            daemon.control.ready(root, packet.token).unwrap();
        });
        assert!(gone.unwrap());
        assert_eq!(root.names().unwrap(), [""; 0]);
        assert!(!daemon.control.expire(root, ExpireHow::IMMEDIATE).unwrap());
    });
}

#[test]
fn a_direct_mount_expires() {
    sandbox::run(|directory| {
        let daemon = Daemon::new();
        let data = directory.join("data");
        let point = daemon.point(PointKind::Direct, &data);
        let accessor = Accessor::of([data.clone()]);
        let packet = daemon.next();
        daemon.serve_direct(&data, &packet);
        accessor.expect_served();
        let root = daemon.control.open_point(&data, point.id().device).unwrap();
        daemon.control.set_timeout(&root, 1).unwrap();
        let gone = expire_one(&daemon, &root, |packet| {
            assert_eq!(packet.kind, PacketKind::ExpireDirect);
            assert_eq!(packet.point(), point.id());
            unmount(&data, UnmountFlags::empty()).unwrap();
            daemon.control.ready(&root, packet.token).unwrap();
        });
        assert!(gone.unwrap());
        assert!(!daemon.control.covered(&root, &data).unwrap().has_mounts);
    });
}

#[test]
fn a_key_can_have_a_timeout_of_its_own() {
    sandbox::run(|directory| {
        let daemon = Daemon::new();
        let net = directory.join("net");
        let point = daemon.point(PointKind::Indirect, &net);
        let root = point.root().unwrap();
        let control = &daemon.control;
        for name in ["ann", "bob", "eve"] {
            let accessor = Accessor::of([net.join(name)]);
            daemon.serve(root, &net, &daemon.next());
            accessor.expect_served();
        }
        // What is refused is not expired: who has a chance is asked for, again and again.
        let idle = |wanted: &str| {
            let failed = expire_one(&daemon, root, |packet| {
                assert_eq!(packet.name, wanted);
                control
                    .fail(root, packet.token, Errno::BUSY.into())
                    .unwrap();
            });
            assert_eq!(failed.unwrap_err().errno(), Some(Errno::BUSY));
        };
        control.set_timeout(root, 1000).unwrap();
        control.set_key_timeout(root, b"bob", Some(1)).unwrap();
        idle("bob");

        control.set_timeout(root, 1).unwrap();
        control.set_key_timeout(root, b"ann", Some(0)).unwrap();
        control.set_key_timeout(root, b"bob", Some(1000)).unwrap();
        idle("eve");
        control
            .set_key_timeout(root, b"eve", Some(u64::MAX))
            .unwrap();
        control.set_key_timeout(root, b"bob", None).unwrap();
        idle("bob");
        assert!(!control.expire(root, ExpireHow::NORMAL).unwrap());
    });
}

#[test]
fn timeouts_are_returned_as_they_were() {
    sandbox::run(|directory| {
        let daemon = Daemon::new();
        let control = &daemon.control;
        let point = daemon.point(PointKind::Indirect, &directory.join("net"));
        let root = point.root().unwrap();
        let centuries = u64::from(u32::MAX);
        for (new, old) in [(50, 0), (u64::MAX, 50), (50, centuries)] {
            assert_eq!(control.set_timeout(root, new).unwrap(), old);
        }
        root.make_dir(b"ann", 0o755).unwrap();
        // The one that holds: the point's without an own one, and also for an own one of "never".
        for (new, old) in [
            (Some(7), 50),
            (Some(u64::MAX), 7),
            (None, centuries),
            (Some(0), 50),
            (Some(8), 50),
        ] {
            assert_eq!(
                control.set_key_timeout(root, b"ann", new).unwrap(),
                old,
                "before {new:?}"
            );
        }
        let refused = |root: BorrowedFd<'_>, name: &[u8]| {
            control
                .set_key_timeout(root, name, Some(1))
                .unwrap_err()
                .errno()
                .unwrap()
        };
        assert_eq!(refused(root.as_fd(), b"bob"), Errno::NOENT);
        assert_eq!(refused(root.as_fd(), b"ann/bob"), Errno::INVAL);
        let data = directory.join("data");
        let direct = daemon.point(PointKind::Direct, &data).id();
        let direct = control.open_point(&data, direct.device).unwrap();
        assert_eq!(refused(direct.as_fd(), b"ann"), Errno::INVAL);
    });
}
