//! Asking servers through the resolver process: whether they serve, and what they export.

use std::net::{IpAddr, Ipv4Addr};
use std::process::Command;
use std::time::{Duration, Instant};

use piton_plan::probe::{Answer, Service, Target};
use piton_resolver::{Origin, Resolver, limits};
use piton_testkit::{FakeNfs, Mischief, in_private_network, wait_until};
use rustix::io::Errno;

/// Longer than anything takes, even on a busy machine.
const LIMIT: Duration = Duration::from_secs(60);

/// What is waited for others; much less than [`LIMIT`].
const GRACE: Duration = Duration::from_millis(100);

fn resolver() -> Resolver {
    Resolver::new(vec![env!("CARGO_BIN_EXE_piton").into(), "resolver".into()])
}

fn soon() -> Instant {
    Instant::now() + LIMIT
}

/// One of the addresses that the loopback device has.
fn local(last: u8) -> IpAddr {
    Ipv4Addr::new(127, 0, 0, last).into()
}

fn target(address: IpAddr, rank: u32) -> Target {
    Target {
        address,
        scope: 0,
        service: Service::default(),
        rank,
    }
}

fn with(address: IpAddr, service: Service) -> Target {
    Target {
        service,
        ..target(address, 0)
    }
}

fn version(version: u8) -> Service {
    Service {
        version: Some(version),
        ..Service::default()
    }
}

fn one(resolver: &Resolver, target: Target) -> Answer {
    resolver.probe(&[target], GRACE, soon()).remove(0)
}

#[track_caller]
fn refused(answer: &Answer, errno: Errno) {
    let is = matches!(answer, Answer::Refused { errno: is, .. } if *is == errno.raw_os_error());
    assert!(is, "{answer:?} is not {errno}");
}

fn run(words: &str) {
    let words: Vec<&str> = words.split(' ').collect();
    let status = Command::new(words[0]).args(&words[1..]).status();
    assert!(status.expect("it can be run").success(), "{words:?}");
}

#[test]
fn a_server_serves_what_is_wanted_or_not() {
    in_private_network(|| {
        let resolver = resolver();
        let udp = |version| Service {
            udp: true,
            version,
            ..Service::default()
        };
        let all = [
            Service::default(),
            version(3),
            version(4),
            udp(None),
            udp(Some(3)),
        ];
        for service in all {
            refused(&one(&resolver, with(local(1), service)), Errno::CONNREFUSED);
        }
        let server = FakeNfs::default().start();
        for service in all {
            let answer = one(&resolver, with(local(1), service));
            assert!(answer.serves(), "{service:?}: {answer:?}");
        }
        // Either version will do where none is wanted.
        for (low, high) in [(4, 4), (3, 3), (2, 2)] {
            server.change(|how| how.nfs = Some((low, high)));
            for (wanted, is) in [
                (Service::default(), low > 2),
                (version(3), low == 3),
                (version(4), low == 4),
            ] {
                let answer = one(&resolver, with(local(1), wanted));
                if is {
                    assert!(answer.serves(), "{low} {wanted:?}: {answer:?}");
                } else {
                    refused(&answer, Errno::PROTONOSUPPORT);
                }
            }
        }
        server.change(|how| how.mischief = Some(Mischief::HangsUp));
        refused(&one(&resolver, target(local(1), 0)), Errno::CONNRESET);
        server.change(|how| how.mischief = Some(Mischief::EndlessFragments));
        refused(&one(&resolver, target(local(1), 0)), Errno::MSGSIZE);
    });
}

#[test]
fn what_a_server_says_of_its_root_is_heard_beside_the_rest() {
    in_private_network(|| {
        let resolver = resolver();
        let server = FakeNfs::default().start();
        let refuses = |service| match one(&resolver, with(local(1), service)) {
            Answer::Serves { no_guests, .. } => no_guests,
            other => panic!("{other:?}"),
        };
        let udp = Service {
            udp: true,
            ..version(4)
        };
        assert!(refuses(version(4)) && refuses(Service::default()));
        // Only version 4 has a root, and only a stream has room beside the question.
        assert!(!refuses(version(3)) && !refuses(udp));
        server.change(|how| how.fragment = 3);
        assert!(refuses(version(4)));
        // It is shown to all; another minor version is wanted; nothing is said.
        for compound in [Some(0), Some(10_021), None] {
            server.change(|how| how.compound = compound);
            assert!(!refuses(version(4)), "{compound:?}");
        }
    });
}

#[test]
fn version_three_is_found_by_the_portmapper() {
    in_private_network(|| {
        let resolver = resolver();
        for address in [local(1), "::1".parse().unwrap()] {
            let elsewhere = FakeNfs {
                nfs_port: 3049,
                ..FakeNfs::default()
            };
            let _server = elsewhere.at(address).start();
            for service in [Service::default(), version(3)] {
                let answer = one(&resolver, with(address, service));
                assert!(answer.serves(), "{answer:?}");
            }
            // Version 4 is where it is said to be, or on its own port.
            refused(
                &one(&resolver, with(address, version(4))),
                Errno::CONNREFUSED,
            );
            let port = Service {
                port: Some(3049),
                ..version(4)
            };
            assert!(one(&resolver, with(address, port)).serves());
        }
    });
}

#[test]
fn it_is_not_waited_for_what_changes_nothing() {
    in_private_network(|| {
        let resolver = resolver();
        let silent = FakeNfs {
            silent: true,
            ..FakeNfs::default()
        };
        let _dead = silent.at(local(2)).start();
        let server = FakeNfs::default().at(local(1)).start();
        let begun = Instant::now();
        // The best has answered.
        let answers = resolver.probe(&[target(local(2), 1), target(local(1), 0)], LIMIT, soon());
        assert!(answers[1].serves());
        assert_eq!(answers[0], Answer::Unheard);
        // The best refuses: the second is the best.
        let targets = [
            target(local(3), 0),
            target(local(1), 1),
            target(local(2), 2),
        ];
        let answers = resolver.probe(&targets, LIMIT, soon());
        refused(&answers[0], Errno::CONNREFUSED);
        assert!(answers[1].serves());
        assert_eq!(answers[2], Answer::Unheard);
        // The best is silent: it is waited for a little.
        let targets = [target(local(2), 0), target(local(1), 1)];
        let answers = resolver.probe(&targets, GRACE, soon());
        assert_eq!(answers[0], Answer::Unheard);
        assert!(answers[1].serves());
        assert!(begun.elapsed() < LIMIT / 2);
        // A slow one is heard in that time.
        server.change(|how| how.delay = Duration::from_millis(50));
        let answers = resolver.probe(&[target(local(1), 0), target(local(2), 1)], GRACE, soon());
        let Answer::Serves { micros, .. } = answers[0] else {
            panic!("{answers:?}")
        };
        assert!(micros >= 50_000, "{micros}");
        // Nobody answers. (An answer that is a second late on its way counts as not asked.)
        wait_until("it is silent", LIMIT, || {
            let until = Instant::now() + GRACE;
            let answers = resolver.probe(&[target(local(2), 0)], GRACE, until);
            assert!(matches!(answers[..], [Answer::Silent | Answer::Unheard]));
            answers == [Answer::Silent]
        });
        // All are heard where that is wanted.
        let targets = [
            target(local(1), 0),
            target(local(3), 1),
            target(local(1), 2),
        ];
        let answers = resolver.probe_all(&targets, soon());
        assert!(answers[0].serves() && answers[2].serves());
        refused(&answers[1], Errno::CONNREFUSED);
        assert!(resolver.probe(&[], GRACE, soon()).is_empty());
    });
}

#[test]
fn ipv6_is_first_and_delays_nobody() {
    in_private_network(|| {
        let resolver = resolver();
        let v6 = "::1".parse().unwrap();
        let _four = FakeNfs::default().at(local(1)).start();
        let six = FakeNfs::default().at(v6).start();
        let answers = resolver.probe(&[target(local(1), 0), target(v6, 0)], LIMIT, soon());
        assert!(answers[1].serves(), "{answers:?}");
        drop(six);
        // It refuses: the other is asked at once.
        let answers = resolver.probe(&[target(local(1), 0), target(v6, 0)], LIMIT, soon());
        assert!(answers[0].serves(), "{answers:?}");
        // Packets to it are lost.
        run("ip link add away type veth peer name far");
        run("ip link set far up");
        run("ip addr add 2001:db8::1/64 dev away nodad");
        run("ip link set away up");
        let lost = "2001:db8::99".parse().unwrap();
        resolver.probe(&[target(local(1), 0)], LIMIT, soon());
        let times = (0..5).map(|_| {
            let begun = Instant::now();
            let answers = resolver.probe(&[target(local(1), 0), target(lost, 0)], LIMIT, soon());
            assert!(answers[0].serves(), "{answers:?}");
            begun.elapsed()
        });
        let best = times.min().unwrap();
        assert!(best < Duration::from_millis(300), "{best:?}");
    });
}

#[test]
fn many_are_asked_at_once() {
    in_private_network(|| {
        let resolver = resolver();
        let silent = FakeNfs {
            silent: true,
            ..FakeNfs::default()
        };
        let _dead = silent.at(local(2)).start();
        let _server = FakeNfs::default().start();
        let threads: Vec<_> = (0..64)
            .map(|_| {
                let resolver = resolver.clone();
                std::thread::spawn(move || {
                    let targets = [target(local(2), 0), target(local(1), 1)];
                    resolver.probe(&targets, GRACE, soon())
                })
            })
            .collect();
        for thread in threads {
            assert!(thread.join().unwrap()[1].serves());
        }
    });
}

#[test]
fn so_many_are_asked_in_one_question() {
    in_private_network(|| {
        let resolver = resolver();
        let targets = vec![target(local(1), 0); limits::TARGETS + 1];
        let answers = resolver.probe_all(&targets, soon());
        let asked = answers.iter().filter(|it| **it != Answer::Unheard).count();
        assert_eq!(
            (answers.len(), asked),
            (limits::TARGETS + 1, limits::TARGETS)
        );
    });
}

#[test]
fn exports_are_had_by_name_and_by_address() {
    in_private_network(|| {
        run("mount -t tmpfs tmpfs /run");
        // The first address does not answer; the second refuses.
        let hosts = "127.0.0.2 server\n127.0.0.3 server\n127.0.0.4 server\n";
        for (name, text) in [("hosts", hosts), ("nsswitch.conf", "hosts: files\n")] {
            std::fs::write(format!("/run/{name}"), text).unwrap();
            run(&format!("mount --bind /run/{name} /etc/{name}"));
        }
        let resolver = resolver();
        let silent = FakeNfs {
            silent: true,
            ..FakeNfs::default()
        };
        let _dead = silent.at(local(2)).start();
        let lines = [
            "/srv",
            "/../../victim",
            "/srv/a b",
            "/\0nul",
            "/esc\x1b[31m",
        ];
        let server = FakeNfs::default().at(local(4)).exporting(lines).start();
        server.change(|how| how.exports[0].1 = vec![b"*.example".to_vec()]);
        for name in ["server", "127.0.0.4"] {
            let found = resolver.exports(name.into(), soon()).unwrap();
            assert_eq!(found.origin, Origin::Mountd);
            let paths: Vec<_> = found.list.iter().map(|export| &export.path).collect();
            assert_eq!(paths, ["/srv", "/srv/a b"]);
            assert_eq!(found.list[0].groups, ["*.example"]);
            assert_eq!(found.lost, 3);
            assert!(found.faults.iter().all(|it| !it.contains(char::is_control)));
        }
        let error = resolver.exports("nobody.invalid".into(), soon());
        assert_eq!(error.unwrap_err().errno(), Errno::NOENT.raw_os_error());
        let error = resolver.exports("127.0.0.3".into(), soon()).unwrap_err();
        assert_eq!(error.errno(), Errno::CONNREFUSED.raw_os_error());
        let begun = Instant::now();
        let error = resolver.exports("127.0.0.2".into(), Instant::now() + GRACE);
        assert_eq!(error.unwrap_err().errno(), Errno::TIMEDOUT.raw_os_error());
        assert!(begun.elapsed() < LIMIT / 2);

        let paths = (0..30_000).map(|number| format!("/export/{number}").into_bytes());
        server.change(|how| how.exports = paths.map(|path| (path, Vec::new())).collect());
        let found = resolver.exports("127.0.0.4".into(), soon()).unwrap();
        assert_eq!((found.list.len(), found.lost), (30_000, 0));
    });
}

/// `explain --probe --json` of an entry, in a site of its own: its servers.
fn explained(entry: &str) -> Vec<serde_json::Value> {
    let site = tempfile::tempdir().expect("a directory");
    let file = |name: &str, text: &str| {
        let path = site.path().join(name);
        std::fs::write(&path, text).expect("it is written");
        path
    };
    let map = file("auto.m", &format!("key {entry}\n"));
    let master = file("auto.master", &format!("/m {}\n", map.display()));
    let output = Command::new(env!("CARGO_BIN_EXE_piton"))
        .args(["explain", "--json", "--probe", "--master"])
        .arg(&master)
        .arg("/m/key")
        .output()
        .expect("it runs");
    let answer: serde_json::Value = serde_json::from_slice(&output.stdout).expect("it is JSON");
    let replicas = &answer["mounts"][0]["replicas"];
    replicas.as_array().expect("a list").clone()
}

/// Each server in a word or two.
fn in_short(servers: &[serde_json::Value]) -> Vec<String> {
    let word = |it: &serde_json::Value| {
        let (host, verdict) = (&it["host"], &it["verdict"]);
        let chosen = if it["chosen"] == true { " chosen" } else { "" };
        let text = |value: &serde_json::Value| value.as_str().unwrap_or("?").to_owned();
        format!(
            "{} {} {}{chosen}",
            text(host),
            text(&it["proximity"]),
            text(verdict)
        )
    };
    servers.iter().map(word).collect()
}

fn ip(arguments: &str) {
    let done = Command::new("ip").args(arguments.split(' ')).status();
    assert!(done.expect("ip runs").success(), "ip {arguments}");
}

#[test]
fn explain_asks_all_servers_and_tells_why_one_is_chosen() {
    in_private_network(|| {
        // Servers on our subnet, on our net and elsewhere: addresses that this network answers for.
        for command in [
            "link add here type veth peer name there",
            "link set here up",
            "link set there up",
            "address add 10.77.0.1/24 dev here",
            "route add 10.78.0.0/24 via 10.77.0.254",
            "route add 172.16.5.0/24 via 10.77.0.254",
        ] {
            ip(command);
        }
        let near: IpAddr = [10, 77, 0, 11].into();
        let quick = FakeNfs::default().at(local(2)).start();
        let slow = FakeNfs {
            delay: Duration::from_secs(1),
            ..FakeNfs::default()
        };
        let slow = slow.at(local(3)).start();
        let servers = explained(&format!("-nobind 127.0.0.3,127.0.0.2,{near},127.0.0.9:/x"));
        let told = in_short(&servers);
        assert_eq!(
            told[..2],
            ["127.0.0.2 self serves chosen", "127.0.0.3 self serves"]
        );
        // The kernel may find out in time that nobody is there.
        assert!(told.contains(&"127.0.0.9 self refused".into()), "{told:?}");
        let near = told.iter().find(|it| it.starts_with("10.77.0.11 subnet "));
        assert!(near.is_some_and(|it| it.ends_with("silent") || it.ends_with("refused")));
        assert!(
            servers[1]["answer_ms"].as_f64() >= Some(1000.0),
            "{servers:?}"
        );
        assert_eq!(servers[0]["reason"], "it is the first by proximity");
        assert_eq!(servers[1]["reason"], "it answered later");
        let far = explained("-nobind 172.16.5.11,10.78.0.11(3),10.77.0.12(9),127.0.0.3(1):/x");
        let order: Vec<_> = in_short(&far)
            .iter()
            .map(|it| it.split(' ').nth(1).unwrap().to_owned())
            .collect();
        assert_eq!(order[0], "self", "the only one that serves");
        assert!(order.contains(&"subnet".into()) && order.contains(&"net".into()));
        drop((quick, slow));
    });
}
