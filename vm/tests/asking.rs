//! Asking real servers through the resolver process: kernel nfsd, rpcbind and rpc.mountd.

use std::fmt::Write;
use std::time::{Duration, Instant};

use piton_plan::probe::{Answer, Service, Target};
use piton_resolver::{Exports, Origin, Resolver};
use piton_vm::{LIMIT, Server, in_the_guest, wait_until};

/// Long enough for an answer, and for silence to be told from it.
const WHILE: Duration = Duration::from_secs(5);

const EPROTONOSUPPORT: i32 = 93;
const ECONNREFUSED: i32 = 111;

fn resolver() -> Resolver {
    in_the_guest();
    Resolver::new(vec!["/share/piton".into(), "resolver".into()])
}

/// All addresses of a name are asked for this.
fn ask(resolver: &Resolver, name: &str, service: Service) -> Vec<Answer> {
    let until = Instant::now() + WHILE;
    let addresses = resolver.addresses(name.into(), until).unwrap();
    let target = |address| Target {
        address,
        scope: 0,
        service,
        rank: 0,
    };
    let targets: Vec<_> = addresses.into_iter().map(target).collect();
    assert!(!targets.is_empty(), "{name}");
    resolver.probe_all(&targets, Instant::now() + WHILE)
}

fn version(version: u8) -> Service {
    Service {
        version: Some(version),
        ..Service::default()
    }
}

fn exports(resolver: &Resolver, name: &str) -> Exports {
    resolver
        .exports(name.into(), Instant::now() + LIMIT)
        .unwrap()
}

#[test]
fn servers_serve_the_versions_that_they_serve() {
    let resolver = resolver();
    for name in ["s1", "far2", "six", "many", "dual", "homes"] {
        for service in [Service::default(), version(3), version(4)] {
            let answers = ask(&resolver, name, service);
            assert!(answers.iter().all(Answer::serves), "{name}: {answers:?}");
        }
    }
    let answers = ask(&resolver, "v4only", version(4));
    assert!(answers[0].serves(), "{answers:?}");
    let answers = ask(&resolver, "v4only", version(3));
    let [Answer::Refused { errno, .. }] = answers[..] else {
        panic!("{answers:?}")
    };
    assert_eq!(errno, EPROTONOSUPPORT);
    // An answer that is a second late on its way counts as not asked.
    wait_until("it is silent", LIMIT, || {
        let answers = ask(&resolver, "hole", version(4));
        let [Answer::Silent | Answer::Unheard] = answers[..] else {
            panic!("{answers:?}")
        };
        answers == [Answer::Silent]
    });
    // One address of two is dead, in either family.
    for name in ["halfdead", "dualdead6"] {
        let answers = ask(&resolver, name, Service::default());
        let serving = answers.iter().filter(|answer| answer.serves()).count();
        assert_eq!((answers.len(), serving), (2, 1), "{name}: {answers:?}");
    }
    let s1 = Server::named("s1");
    s1.refuse();
    let answers = ask(&resolver, "s1", version(4));
    let [Answer::Refused { errno, .. }] = answers[..] else {
        panic!("{answers:?}")
    };
    assert_eq!(errno, ECONNREFUSED);
}

#[test]
fn exports_are_listed_as_mount_daemons_know_them() {
    let resolver = resolver();
    let found = exports(&resolver, "s1");
    assert_eq!((found.origin, found.lost), (Origin::Mountd, 0));
    let mut paths: Vec<_> = found.list.iter().map(|it| it.path.to_string()).collect();
    paths.sort();
    assert_eq!(paths, ["/srv/common", "/srv/s1"]);
    assert_eq!(exports(&resolver, "many").list.len(), 300);
    // By IPv6 alone: rpcbind's own protocol.
    assert_eq!(exports(&resolver, "six").list.len(), 2);
    let found = exports(&resolver, "v4only");
    assert_eq!(found.origin, Origin::PseudoRoot);
    assert_eq!(found.list[0].path, "/");
}

#[test]
fn thousands_of_exports_come_in_fragments() {
    let resolver = resolver();
    for count in [1000, 3000] {
        let mut table = String::new();
        for number in 0..count {
            let options = "rw,sync,wdelay,hide,nocrossmnt,insecure,no_root_squash";
            writeln!(
                table,
                "/srv/projects/number-{number}\t192.0.2.{}({options})",
                number % 250
            )
            .unwrap();
        }
        let server = Server::named("s2");
        // Another file: in one second it would not see that the same file has changed.
        std::fs::write(server.path("/var/lib/nfs/new"), table).unwrap();
        server.run("mv /var/lib/nfs/new /var/lib/nfs/etab");
        let begun = Instant::now();
        let found = exports(&resolver, "s2");
        assert_eq!((found.origin, found.lost), (Origin::Mountd, 0));
        println!("{count} exports: {:?}", begun.elapsed());
        assert_eq!(found.list.len(), count);
        assert!(found.list.iter().all(|export| export.groups.len() == 1));
    }
}
