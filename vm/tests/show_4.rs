//! A server dies under what is mounted from it, and there is another (dead.rs: and there is none).

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

#[test]
fn new_walks_are_served_by_the_next_replica_and_old_users_wait_alone() {
    let site = site("man -ro,vers=4.2 s1,s2(1):/srv/common\n");
    // Something that the client has not read yet.
    std::fs::write("/srv/common/other", "other\n").expect("a file");
    let first = site.read("nfs/man/name");
    assert_eq!(first.text(), "common\n");
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
    // What mounting takes here is no part of it, and what tells death from silence is slow here too.
    assert!(took <= SOON * 2 + first.took, "{took:?}, {first:?}");
}
