//! The client against a server on real sockets: what is right, what is slow, and what is hostile.

use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};
use std::time::{Duration, Instant};

use piton_rpc::exports::{self, Origin};
use piton_rpc::message::Procedure;
use piton_rpc::{Error, NFS, NFS_PORT, Protocol, call, limits};
use piton_testkit::{FakeNfs, Mischief, in_private_network};
use rustix::io::Errno;

const LIMIT: Duration = Duration::from_secs(20);

fn v4() -> SocketAddr {
    (Ipv4Addr::LOCALHOST, NFS_PORT).into()
}

fn v6() -> SocketAddr {
    (Ipv6Addr::LOCALHOST, NFS_PORT).into()
}

fn soon() -> Instant {
    Instant::now() + LIMIT
}

fn null(over: Protocol, version: u32, until: Instant) -> Result<(), Error> {
    let null = Procedure::null(NFS, version);
    call(over, v4(), null, &[], limits::SHORT_REPLY, until).map(drop)
}

const BOTH: [Protocol; 2] = [Protocol::Tcp, Protocol::Udp];

#[test]
fn null_is_answered_or_not_with_the_reason() {
    in_private_network(|| {
        let refused = Err(Error::System(Errno::CONNREFUSED));
        assert_eq!(BOTH.map(|over| null(over, 3, soon())), [refused; 2]);
        let server = FakeNfs::default().start();
        for over in BOTH {
            assert_eq!(null(over, 3, soon()), Ok(()), "{over:?}");
            assert_eq!(null(over, 4, soon()), Ok(()));
            let versions = Error::OtherVersions { low: 3, high: 4 };
            assert_eq!(null(over, 2, soon()), Err(versions));
        }
        assert_eq!(server.nulls_asked(), 6);
        server.change(|how| how.mischief = Some(Mischief::Denies));
        assert_eq!(
            BOTH.map(|over| null(over, 3, soon())),
            [Err(Error::NotAllowed(5)); 2]
        );
        server.change(|how| how.mischief = Some(Mischief::NoProgram));
        assert_eq!(
            BOTH.map(|over| null(over, 3, soon())),
            [Err(Error::NoProgram); 2]
        );
        server.change(|how| how.silent = true);
        let begun = Instant::now();
        for over in BOTH {
            let until = Instant::now() + Duration::from_millis(50);
            assert_eq!(null(over, 3, until), Err(Error::Late));
        }
        assert!(begun.elapsed() < LIMIT / 2);
    });
}

#[test]
fn datagrams_that_are_lost_are_sent_again() {
    in_private_network(|| {
        let server = FakeNfs {
            lost: 3,
            ..FakeNfs::default()
        }
        .start();
        assert_eq!(null(Protocol::Udp, 3, soon()), Ok(()));
        assert_eq!(server.nulls_asked(), 4);
    });
}

#[test]
fn replies_to_other_calls_are_passed_over() {
    in_private_network(|| {
        let server = FakeNfs::default().start();
        server.change(|how| how.mischief = Some(Mischief::OtherCallFirst));
        assert_eq!(null(Protocol::Tcp, 3, soon()), Ok(()));
        server.change(|how| how.mischief = Some(Mischief::OtherCall));
        for over in BOTH {
            let until = Instant::now() + Duration::from_millis(50);
            assert_eq!(null(over, 3, until), Err(Error::Late), "{over:?}");
        }
    });
}

#[test]
fn a_hostile_server_gets_nothing_for_it() {
    in_private_network(|| {
        let server = FakeNfs::default().start();
        for (mischief, error) in [
            (Mischief::HangsUp, Error::System(Errno::CONNRESET)),
            (Mischief::EndlessFragments, Error::TooLong),
            (Mischief::EndlessBytes, Error::TooLong),
            (Mischief::HugeFragment, Error::TooLong),
        ] {
            server.change(|how| how.mischief = Some(mischief));
            assert_eq!(null(Protocol::Tcp, 3, soon()), Err(error), "{mischief:?}");
        }
        server.change(|how| how.mischief = Some(Mischief::Rubbish));
        let error = null(Protocol::Tcp, 3, soon()).unwrap_err();
        assert!(matches!(error, Error::Malformed(_)), "{error}");
        // Anybody may have sent a datagram.
        let until = Instant::now() + Duration::from_millis(50);
        assert_eq!(null(Protocol::Udp, 3, until), Err(Error::Late));
    });
}

#[test]
fn exports_come_from_the_mount_daemon() {
    in_private_network(|| {
        for (address, to) in [
            (Ipv4Addr::LOCALHOST.into(), v4()),
            (Ipv6Addr::LOCALHOST.into(), v6()),
        ] {
            let server = FakeNfs {
                address,
                fragment: 7,
                ..FakeNfs::default().exporting(["/srv/a", "/../../victim", "relative", "/srv/b"])
            }
            .start();
            server.change(|how| how.exports[0].1 = vec![b"192.0.2.0/24".to_vec()]);
            let found = exports::of(to, soon()).unwrap();
            assert_eq!(found.origin, Origin::Mountd);
            let paths: Vec<_> = found.list.iter().map(|export| &export.path).collect();
            assert_eq!(paths, ["/srv/a", "/srv/b"]);
            assert_eq!(found.list[0].groups, ["192.0.2.0/24"]);
            assert_eq!(found.lost, 2);
        }
    });
}

#[test]
fn an_old_mount_daemon_and_one_without_tcp_tell_too() {
    in_private_network(|| {
        for how in [
            FakeNfs {
                mountd: Some((1, 1)),
                ..FakeNfs::default()
            },
            FakeNfs {
                tcp: false,
                ..FakeNfs::default()
            },
        ] {
            let server = how.exporting(["/srv"]).start();
            let found = exports::of(v4(), soon()).unwrap();
            assert_eq!(found.list[0].path, "/srv");
            assert!(server.exports_asked() > 0);
        }
    });
}

#[test]
fn a_server_without_mount_daemon_has_a_root() {
    in_private_network(|| {
        // Nobody listens on port 111; or somebody does, and never answers.
        let _server = FakeNfs::only_v4().start();
        let _silent = std::net::TcpListener::bind("127.0.0.1:111").unwrap();
        for _ in 0..2 {
            let found = exports::of(v4(), soon()).unwrap();
            assert_eq!(found.origin, Origin::PseudoRoot);
            assert_eq!(found.list.len(), 1);
            assert_eq!(found.list[0].path, "/");
        }
        let error = exports::of(v6(), soon()).unwrap_err();
        assert_eq!(error.errno(), Errno::CONNREFUSED);
    });
}

#[test]
fn a_mount_daemon_that_takes_its_time_is_waited_for() {
    in_private_network(|| {
        // NFS answers long before it.
        let _nfs = FakeNfs {
            mountd: None,
            portmapper: false,
            ..FakeNfs::default()
        }
        .start();
        let _slow = FakeNfs {
            nfs: None,
            delay: Duration::from_millis(2500),
            ..FakeNfs::default().exporting(["/srv"])
        }
        .start();
        let found = exports::of(v4(), soon()).unwrap();
        assert_eq!(found.origin, Origin::Mountd);
    });
}

#[test]
fn a_mount_daemon_that_never_answers_is_there_all_the_same() {
    in_private_network(|| {
        let server = FakeNfs::default().exporting(["/srv"]).start();
        server.change(|how| how.only_null = true);
        let until = Instant::now() + Duration::from_secs(3);
        assert_eq!(exports::of(v4(), until), Err(Error::Late));
    });
}

#[test]
fn thirty_thousand_exports_take_no_second() {
    in_private_network(|| {
        let paths = (0..30_000).map(|number| format!("/export/projects/{}/{number}", number % 300));
        let _server = FakeNfs::default().exporting(paths).start();
        let begun = Instant::now();
        let found = exports::of(v4(), soon()).unwrap();
        let time = begun.elapsed();
        assert_eq!(found.list.len(), 30_000);
        assert!(time < LIMIT / 4, "{time:?}");
    });
}

#[test]
fn a_list_that_is_too_long_is_refused() {
    in_private_network(|| {
        let paths = (0..20_000).map(|number| format!("/{number}/{}", "x".repeat(900)));
        let _server = FakeNfs::default().exporting(paths).start();
        assert_eq!(exports::of(v4(), soon()), Err(Error::TooLong));
    });
}
