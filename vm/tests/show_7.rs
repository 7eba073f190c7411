//! The daemon is killed while NFS is mounted and one server is dead: its successor takes over all
//! that is mounted, and waits for no server; and what it took over moves to another server as what it
//! mounted itself would.

use std::time::{Duration, Instant};

use piton_vm::{Daemon, LIMIT, Server, Site, wait_until};
use rustix::process::{Pid, Signal, kill_process, kill_process_group};

const FILES: [(&str, &str); 2] = [
    ("auto.master", "@/nfs @/auto.nfs --timeout=600\n"),
    (
        "auto.nfs",
        "dead -rw,vers=4.2 s1:/srv/s1\n\
         three -rw,vers=3 s2:/srv/s2\n\
         four -ro,vers=4.2 s2:/srv/common\n\
         new -rw,vers=4.2 s3:/srv/s3\n",
    ),
];

/// Longest from a death until all is served again. What waits for the dead server does so for ever:
/// its mounts are hard.
const SOON: Duration = LIMIT;

fn daemon(site: &Site) -> Option<Pid> {
    let output = site.piton(&["status", "--json"]);
    let status: serde_json::Value = serde_json::from_slice(&output.stdout).ok()?;
    let pid = status["daemon"]["pid"].as_i64()?;
    Pid::from_raw(i32::try_from(pid).ok()?)
}

/// A site with three mounts, and then one server less, for which a process waits.
#[track_caller]
fn site_with_a_dead_server() -> Site {
    let site = Site::serving(Daemon::Piton, "piton", &FILES);
    for (key, text) in [
        ("dead", "this is s1\n"),
        ("three", "this is s2\n"),
        ("four", "common\n"),
    ] {
        assert_eq!(site.read(&format!("nfs/{key}/name")).text(), text);
    }
    Server::named("s1").vanish();
    let waits = site.reading("nfs/dead/sub/name");
    assert!(waits.is_waiting());
    site
}

/// Everything is there as before, and what is new works.
#[track_caller]
fn all_is_served(site: &Site, before: &[piton_vm::MountLine]) {
    assert_eq!(site.mounts(), before);
    assert_eq!(site.read("nfs/three/name").text(), "this is s2\n");
    assert_eq!(site.read("nfs/new/name").text(), "this is s3\n");
    let listed = site.piton_ok(&["list"]);
    for key in ["dead", "three", "four", "new"] {
        assert!(listed.contains(&format!("nfs/{key}")), "{key}: {listed}");
    }
    // What was taken over is unmounted like anything else.
    site.piton_ok(&["unmount", "@/nfs/four"]);
    wait_until("it is unmounted", LIMIT, || {
        site.mounted("nfs/four").is_none()
    });
    assert_eq!(site.read("nfs/four/name").text(), "common\n");
}

#[test]
fn a_successor_adopts_all_mounts_and_waits_for_none() {
    let mut site = site_with_a_dead_server();
    let before = site.mounts();
    let killed = daemon(&site).expect("a daemon");
    kill_process(killed, Signal::KILL).expect("killing the daemon");
    let begun = Instant::now();
    wait_until("a successor serves", SOON, || {
        daemon(&site).is_some_and(|pid| pid != killed)
    });
    println!("a successor serves after {:?}", begun.elapsed());
    all_is_served(&site, &before);
    site.stop(SOON);
}

#[test]
fn a_new_start_adopts_all_mounts_and_waits_for_none() {
    let mut site = site_with_a_dead_server();
    let before = site.mounts();
    // Keeper, daemon and workers: nobody is left.
    kill_process_group(site.pid(), Signal::KILL).expect("killing all");
    let begun = Instant::now();
    site.start();
    wait_until("it serves", SOON, || daemon(&site).is_some());
    println!("it serves after {:?}", begun.elapsed());
    all_is_served(&site, &before);
}

/// A site with a replica that is mounted from the first of its two servers.
fn site_with_a_replica() -> Site {
    let files = [
        ("auto.master", "@/nfs @/auto.nfs --timeout=600\n"),
        ("auto.nfs", "man -ro,vers=4.2 s1,s2(1):/srv/common\n"),
    ];
    let site = Site::serving(Daemon::Piton, "piton", &files);
    // Something that the client has not read yet.
    std::fs::write("/srv/common/other", "other\n").expect("a file");
    assert_eq!(site.read("nfs/man/name").text(), "common\n");
    assert_eq!(source(&site), "s1:/srv/common");
    site
}

fn source(site: &Site) -> String {
    site.mounted("nfs/man").expect("a mount").source
}

/// New walks are served by the second server, once it is known that the first is dead.
#[track_caller]
fn is_served_by_the_other(site: &Site) {
    let dead = Instant::now();
    // A walk each moment: those that begin too early hang in the dead server's mount.
    let mut walks = Vec::new();
    wait_until("new walks are served", 2 * LIMIT, || {
        walks.push(site.reading("nfs/man/other"));
        std::thread::sleep(Duration::from_millis(100));
        walks.iter().any(|walk| {
            walk.ends_within(Duration::from_millis(5)) == Some(Ok("other\n".to_owned()))
        })
    });
    println!("served again after {:?}", dead.elapsed());
    assert_eq!(source(site), "s2:/srv/common");
}

#[test]
fn a_replica_that_a_killed_daemon_mounted_moves_when_its_server_dies() {
    let site = site_with_a_replica();
    let before = site.mounts();
    let killed = daemon(&site).expect("a daemon");
    kill_process(killed, Signal::KILL).expect("killing the daemon");
    wait_until("a successor serves", SOON, || {
        daemon(&site).is_some_and(|pid| pid != killed)
    });
    assert_eq!(site.mounts(), before);
    Server::named("s1").vanish();
    is_served_by_the_other(&site);
}

#[test]
fn a_replica_that_a_killed_daemon_mounted_moves_though_its_server_died_before_the_new_start() {
    let mut site = site_with_a_replica();
    let before = site.mounts();
    kill_process_group(site.pid(), Signal::KILL).expect("killing all");
    Server::named("s1").vanish();
    site.start();
    wait_until("it serves", SOON, || daemon(&site).is_some());
    assert_eq!(site.mounts(), before);
    is_served_by_the_other(&site);
}
