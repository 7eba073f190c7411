//! Servers that have vanished: the living one beside them is taken at once, and where none lives
//! the access ends in time, the next one at once.

use std::time::Duration;

use piton_vm::{Daemon, LIMIT, Server, Site, Touch, Touched, record};

const ETIMEDOUT: i32 = 110;
const EHOSTDOWN: i32 = 112;

const MAP: &str = "\
    healthy -ro s2:/srv/common\n\
    one -ro s1,s2:/srv/common\n\
    none -ro s1,s3:/srv/common\n\
    single -ro,vers=4.2 s1:/srv/common\n\
    three -ro,vers=3 s1:/srv/common\n\
    * -rw,vers=4.2 s2:/srv/s2/&\n";

fn site(kind: Daemon) -> Site {
    let files = [
        ("auto.master", "@/nfs @/auto.nfs --timeout=600\n"),
        ("auto.nfs", MAP),
    ];
    Site::serving(kind, "site", &files)
}

/// Reads a file of a key, and writes down how long it took.
#[track_caller]
fn timed(site: &Site, kind: Daemon, key: &str, case: &str) -> Touched {
    let path = format!("nfs/{key}/name");
    let touched = site.reading(&path).within(Duration::from_secs(180));
    record(case, kind, 0, "first_s", touched.took.as_secs_f64());
    touched
}

#[test]
fn the_living_server_is_taken_within_a_second() {
    let site = site(Daemon::Piton);
    // What mounting takes here is no part of it.
    let healthy = site.read("nfs/healthy/name");
    healthy.text();
    Server::named("s1").vanish();
    let touched = timed(&site, Daemon::Piton, "one", "one of two servers silent");
    assert_eq!(touched.text(), "common\n");
    let source = site.mounted("nfs/one").expect("a mount").source;
    assert_eq!(source, "s2:/srv/common");
    let most = Duration::from_secs(1) + healthy.took;
    assert!(touched.took <= most, "{:?}, {healthy:?}", touched.took);
}

#[test]
fn with_no_server_alive_the_access_ends_in_time_and_the_next_at_once() {
    Server::named("s1").vanish();
    Server::named("s3").vanish();
    let site = site(Daemon::Piton);
    let touched = timed(&site, Daemon::Piton, "none", "no server answers");
    let errno = touched.errno();
    assert!(matches!(errno, ETIMEDOUT | EHOSTDOWN), "{errno}");
    let again: Vec<Touched> = (0..5).map(|_| site.read("nfs/none/name")).collect();
    let least = again
        .iter()
        .map(|touched| touched.took)
        .min()
        .expect("five");
    record(
        "no server answers",
        Daemon::Piton,
        0,
        "again_s",
        least.as_secs_f64(),
    );
    // Ten seconds is the deadline; the rest is for a guest that is slow.
    assert!(
        touched.took <= Duration::from_secs(13),
        "{:?}",
        touched.took
    );
    assert!(
        again.iter().all(|touched| touched.errno() == EHOSTDOWN),
        "{again:?}"
    );
    assert!(least <= Duration::from_millis(50), "{again:?}");
    // Another key of such a server knows it, too.
    assert_eq!(site.read("nfs/single/name").errno(), EHOSTDOWN);
}

#[test]
fn autofs_waits() {
    Server::named("s1").vanish();
    let site = site(Daemon::Autofs);
    let kind = Daemon::Autofs;
    timed(&site, kind, "one", "one of two servers silent").text();
    Server::named("s3").vanish();
    timed(&site, kind, "none", "no server answers").errno();
    let again = site
        .reading("nfs/none/name")
        .within(Duration::from_secs(180));
    record(
        "no server answers",
        kind,
        0,
        "again_s",
        again.took.as_secs_f64(),
    );
}

#[test]
fn keys_of_other_servers_do_not_notice() {
    let site = site(Daemon::Piton);
    let other = |names: std::ops::Range<u32>| {
        let mut times: Vec<Duration> = names
            .map(|number| {
                let name = format!("k{number}");
                std::fs::create_dir(format!("/srv/s2/{name}")).expect("a directory");
                let touched = site.list(&format!("nfs/{name}"));
                touched.text();
                touched.took
            })
            .collect();
        times.sort();
        times
    };
    // The first mount of a server makes the connection, which the others share.
    other(0..2);
    let before = other(10..18);
    Server::named("s1").vanish();
    let hanging =
        ["one", "none", "single", "three"].map(|key| site.reading(&format!("nfs/{key}/name")));
    assert!(hanging.iter().any(Touch::is_waiting), "nothing hangs");
    let beside = other(30..38);
    let slack = Duration::from_millis(100);
    let median = before.len() / 2;
    assert!(
        beside[median] <= before[median] * 3 / 2 + slack,
        "{before:?}\n{beside:?}"
    );
    for access in hanging {
        access.within(LIMIT);
    }
}
