//! A server dies under what is mounted.

use std::fs::File;
use std::os::fd::AsRawFd;
use std::time::{Duration, Instant};

use piton_vm::{Daemon, LIMIT, Server, Site, Touch, wait_until};

/// How soon new walks are served from another server.
const SOON: Duration = Duration::from_secs(5);

fn site(map: &str) -> Site {
    let files = [
        ("auto.master", "@/nfs @/auto.nfs --timeout=600\n"),
        ("auto.nfs", map),
    ];
    Site::serving(Daemon::Piton, "piton", &files)
}

/// What the status says of s1.
fn s1(site: &Site) -> serde_json::Value {
    let status = site.piton_json(&["status", "--json"]);
    let servers = status["servers"].as_array().cloned().unwrap_or_default();
    let found = servers.into_iter().find(|server| server["host"] == "s1");
    found.unwrap_or_default()
}

#[test]
fn new_walks_are_served_by_the_next_replica_and_old_users_wait_alone() {
    let site = site("man -ro,vers=4.2 s1,s2(1):/srv/common\n");
    // Something that the client has not read yet.
    std::fs::write("/srv/common/other", "other\n").expect("a file");
    assert_eq!(site.read("nfs/man/name").text(), "common\n");
    assert_eq!(
        site.mounted("nfs/man").expect("a mount").source,
        "s1:/srv/common"
    );
    let old = File::open(site.at("nfs/man")).expect("the old mount");
    Server::named("s1").vanish();
    let vanished = Instant::now();
    let hangs = Touch::read(format!("/proc/self/fd/{}/other", old.as_raw_fd()));
    wait_until("new walks are served", LIMIT, || {
        let touch = site.reading("nfs/man/other");
        touch.ends_within(Duration::from_millis(500)) == Some(Ok("other\n".to_owned()))
    });
    let took = vanished.elapsed();
    println!("served again after {took:?}");
    assert_eq!(
        site.mounted("nfs/man").expect("a mount").source,
        "s2:/srv/common"
    );
    assert!(hangs.is_waiting(), "the old user has the old server");
    // What mounting takes here is no part of it.
    assert!(took <= SOON + first.took, "{took:?}, {first:?}");
}

#[test]
fn a_server_that_dies_under_what_is_written_is_named_and_delays_nobody() {
    let mut site = site("data -rw,vers=4.2 s1:/srv/s1\nother -rw,vers=4.2 s2:/srv/s2\n");
    assert_eq!(site.read("nfs/data/name").text(), "this is s1\n");
    let _user = File::open(site.at("nfs/data")).expect("a user");
    Server::named("s1").vanish();
    let us = u64::from(std::process::id());
    wait_until("the dead server is named, with its user", LIMIT, || {
        let s1 = s1(&site);
        let users = s1["users"].as_array().cloned().unwrap_or_default();
        s1["state"] == "dead" && users.iter().any(|user| user["pid"] == us)
    });
    // Nothing else suffers.
    assert_eq!(site.read("nfs/other/name").text(), "this is s2\n");
    let asked = Instant::now();
    println!("{}", site.piton_ok(&["status"]));
    assert!(asked.elapsed() < SOON, "{:?}", asked.elapsed());
    // The server returns, and all recovers.
    Server::named("s1").come_back();
    let name = site.reading("nfs/data/sub/name").within(LIMIT);
    assert_eq!(name.text(), "below s1\n");
    wait_until("the server is alive", LIMIT, || {
        s1(&site)["state"] == "alive"
    });
    // It dies again, and the daemon ends all the same.
    Server::named("s1").vanish();
    site.stop(Duration::from_secs(30));
}
