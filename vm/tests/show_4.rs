//! A server dies under what is mounted from it, and there is another (dead.rs: and there is none).

use std::fs::File;
use std::os::fd::AsRawFd;
use std::time::{Duration, Instant};

use piton_vm::{Daemon, LIMIT, Server, Site, Touch, record};

/// How soon new walks are served from another server.
const SOON: Duration = Duration::from_secs(5);

fn site(name: &str, map: &str) -> Site {
    let files = [
        ("auto.master", "@/nfs @/auto.nfs --timeout=600\n"),
        ("auto.nfs", map),
    ];
    Site::serving(Daemon::Piton, name, &files)
}

#[test]
fn new_walks_are_served_by_the_next_replica_and_old_users_wait_alone() {
    // What else the machine does only adds to it.
    let mut trials = ["first", "second", "third"]
        .into_iter()
        .map(served_again_after);
    assert!(trials.any(|took| took <= SOON), "never within {SOON:?}");
}

/// How long it takes until new walks are served, in a site of this name.
fn served_again_after(name: &str) -> Duration {
    let mut site = site(name, "man -ro,vers=4.2 s1,s2(1):/srv/common\n");
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
    // A walk each moment: those that begin too early hang in the dead server's mount.
    let mut walks = Vec::new();
    let took = loop {
        walks.push(site.reading("nfs/man/other"));
        let served = walks.iter().any(|walk| {
            walk.ends_within(Duration::from_millis(5)) == Some(Ok("other\n".to_owned()))
        });
        let took = vanished.elapsed();
        if served {
            break took;
        }
        assert!(took < LIMIT, "new walks are not served");
        std::thread::sleep(Duration::from_millis(100));
    };
    record(
        "server of a replica dies",
        Daemon::Piton,
        0,
        "again_s",
        took.as_secs_f64(),
    );
    println!("served again after {took:?}");
    assert_eq!(
        site.mounted("nfs/man").expect("a mount").source,
        "s2:/srv/common"
    );
    assert!(hangs.is_waiting(), "the old user has the old server");
    // All is as it was, for another trial.
    Server::named("s1").come_back();
    hangs.within(2 * LIMIT);
    drop(old);
    site.stop(LIMIT);
    took
}
