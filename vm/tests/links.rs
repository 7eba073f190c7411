//! The daemon behind links, with the kernel's own client of NFS: mount points are served by us, and
//! what they lead to is mounted from real servers.

use std::fs;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use piton_vm::{Daemon, LIMIT, MountLine, Site, Touch, mount_table, wait_until};
use rustix::process::{Pid, Signal, kill_process, kill_process_group};

const MAPS: [(&str, &str); 3] = [
    (
        "auto.master",
        "@/home @/auto.home --timeout=4\n/- @/auto.direct --timeout=600\n",
    ),
    (
        "auto.home",
        "ann -vers=4.2 s1:/srv/s1\n\
         tree -vers=4.2 / s1:/srv/s1 /sub s2:/srv/s2 /other s3:/srv/s3\n\
         slow -vers=4.2 gone:/srv/s1\n",
    ),
    ("auto.direct", "@/man -vers=4.2 s2:/srv/s2\n"),
];

fn links(name: &str, options: &[&str]) -> Site {
    Site::serving_with(
        Daemon::Piton,
        name,
        &MAPS,
        &[&["--links"], options].concat(),
    )
}

/// Where that is mounted which users find at a path of the site.
fn place(site: &Site, tail: &str) -> String {
    format!("/tmp_mnt{}", site.at(tail).display())
}

fn mounted(site: &Site, tail: &str) -> Option<MountLine> {
    let place = place(site, tail);
    mount_table().into_iter().find(|line| line.point == place)
}

/// All that is mounted below the staging directory.
fn staged() -> Vec<MountLine> {
    let mut table = mount_table();
    table.retain(|line| line.point.starts_with("/tmp_mnt/"));
    table
}

fn link(site: &Site, tail: &str) -> PathBuf {
    fs::read_link(site.at(tail)).expect("a link")
}

fn daemon(site: &Site) -> Pid {
    let status = site.piton_json(&["status", "--json"]);
    let pid = status["daemon"]["pid"].as_i64().expect("a number");
    Pid::from_raw(i32::try_from(pid).expect("a pid")).expect("a pid")
}

#[test]
fn homes_are_mounted_elsewhere_found_by_links_and_expire() {
    let mut site = links("plain", &[]);
    assert_eq!(site.read("home/ann/name").text(), "this is s1\n");
    // Whoever is inside keeps it, however slow this is; when he has gone it expires, link and all.
    let inside = fs::File::open(site.at("home/ann/name")).expect("a file");
    assert_eq!(
        link(&site, "home/ann"),
        PathBuf::from(place(&site, "home/ann"))
    );
    assert_eq!(mounted(&site, "home/ann").expect("a mount").fstype, "nfs4");
    // A direct mount point is a link itself.
    assert_eq!(site.read("man/name").text(), "this is s2\n");
    assert_eq!(link(&site, "man"), PathBuf::from(place(&site, "man")));
    assert_eq!(site.read("home/nobody").errno(), 2);
    std::thread::sleep(Duration::from_secs(8));
    assert!(mounted(&site, "home/ann").is_some());
    assert_eq!(site.read("home/ann/name").text(), "this is s1\n");
    drop(inside);
    wait_until("it expires", LIMIT, || mounted(&site, "home/ann").is_none());
    wait_until("its link goes", LIMIT, || site.list("home").text() == "");
    assert_eq!(site.read("home/ann/name").text(), "this is s1\n");
    site.stop(LIMIT);
    assert!(staged().is_empty(), "{:?}", staged());
    assert!(
        !fs::exists("/tmp_mnt").expect("a look"),
        "it was made and goes"
    );
    assert!(!fs::exists(site.at("home")).expect("a look"));
    assert!(!fs::exists(site.at("man")).expect("a look"));
}

#[test]
fn r_240_an_entry_is_mounted_as_a_whole_and_unmounted_as_a_whole() {
    let site = links("whole", &[]);
    assert_eq!(site.read("home/tree/name").text(), "this is s1\n");
    let inside = fs::File::open(site.at("home/tree/other/name")).expect("a file");
    assert_eq!(staged().len(), 3);
    assert_eq!(site.read("home/tree/sub/name").text(), "this is s2\n");
    site.piton_ok(&["expire"]);
    // What could be unmounted comes back, since something could not.
    wait_until("it is whole again", LIMIT, || staged().len() == 3);
    assert_eq!(site.read("home/tree/sub/name").text(), "this is s2\n");
    drop(inside);
    wait_until("all of it expires", LIMIT, || staged().is_empty());
}

#[test]
fn a_daemon_that_is_killed_is_followed_and_nobody_waits_for_long() {
    let site = links("killed", &[]);
    assert_eq!(site.read("home/ann/name").text(), "this is s1\n");
    let inside = fs::File::open(site.at("home/ann/name")).expect("a file");
    let before = mounted(&site, "home/ann").expect("a mount");
    for key in ["man", "home/tree", "home/ann"] {
        kill_process(daemon(&site), Signal::KILL).expect("a daemon");
        let begun = Instant::now();
        let name = Touch::read(site.at(&format!("{key}/name"))).within(LIMIT);
        assert!(name.result.is_ok(), "{key}: {name:?}\n{}", site.log());
        println!("{key}: served after {:?}", begun.elapsed());
    }
    let after = mounted(&site, "home/ann").expect("a mount");
    assert_eq!(after.id, before.id, "what is mounted is taken over");
    drop(inside);
    wait_until("it expires all the same", LIMIT, || {
        mounted(&site, "home/ann").is_none()
    });
}

#[test]
fn nobody_waits_for_ever_though_no_daemon_can_start() {
    let mut site = links("none", &["--deadline", "5"]);
    assert_eq!(site.read("home/ann/name").text(), "this is s1\n");
    let inside = fs::File::open(site.at("home/ann/name")).expect("a file");
    fs::rename(site.at("auto.master"), site.at("away")).expect("renaming");
    kill_process(daemon(&site), Signal::KILL).expect("a daemon");
    // What is mounted is found, what is not is refused at its deadline.
    assert_eq!(site.read("home/ann/name").text(), "this is s1\n");
    let refused = Touch::read(site.at("home/tree/name")).within(LIMIT);
    assert!(refused.result.is_err(), "{refused:?}");
    fs::rename(site.at("away"), site.at("auto.master")).expect("renaming");
    wait_until("there is a daemon again", LIMIT, || {
        site.read("home/tree/name").result.is_ok()
    });
    drop(inside);
    site.stop(LIMIT);
    assert!(staged().is_empty(), "{:?}", staged());
}

#[test]
fn who_stays_inside_a_mount_point_that_is_stopped_is_told() {
    let mut site = links("busy", &[]);
    assert_eq!(site.read("home/ann/name").text(), "this is s1\n");
    let inside = fs::File::open(site.at("home")).expect("a directory");
    site.stop(LIMIT);
    let home = site.at("home").display().to_string();
    let left = mount_table().into_iter().find(|line| line.point == home);
    assert!(left.is_none(), "nobody would serve it: {left:?}");
    drop(inside);
}

#[test]
fn r_356_keys_share_a_mount_and_a_server_is_one_entry() {
    for name in ["mike", "dianna"] {
        let home = format!("/srv/s1/{name}");
        fs::create_dir_all(&home).expect("a directory");
        fs::write(format!("{home}/letter"), format!("of {name}\n")).expect("a file");
    }
    let maps = [
        (
            "auto.master",
            "@/home @/auto.home --timeout=600\n@/net -hosts --timeout=600\n",
        ),
        (
            "auto.home",
            "mike -vers=4.2 s1:/srv/s1:mike\ndianna -vers=4.2 s1:/srv/s1:dianna\n",
        ),
    ];
    let options = ["--links", "--dialect", "sun"];
    let mut site = Site::serving_with(Daemon::Piton, "shared", &maps, &options);
    for name in ["mike", "dianna"] {
        let letter = site.read(&format!("home/{name}/letter"));
        assert_eq!(letter.text(), format!("of {name}\n"));
        assert_eq!(staged().len(), 1, "{:?}", staged());
    }
    site.piton_ok(&[
        "unmount",
        site.at("home/mike").to_str().expect("a plain path"),
    ]);
    assert_eq!(staged().len(), 1);
    site.piton_ok(&["expire"]);
    assert!(staged().is_empty(), "{:?}", staged());
    // All exports of a host, at once: which is mounted first is left to chance.
    assert_eq!(site.read("net/s1/srv/s1/name").text(), "this is s1\n");
    let mut points: Vec<String> = staged().into_iter().map(|line| line.point).collect();
    points.sort();
    let expected = ["srv/common", "srv/s1"].map(|it| place(&site, &format!("net/s1/{it}")));
    assert_eq!(points, expected);
    site.stop(LIMIT);
    assert!(!fs::exists("/tmp_mnt").expect("a look"));
}

#[test]
fn daemon_and_keeper_die_together_and_the_next_one_goes_on_or_begins_anew() {
    let mut site = links("both", &[]);
    for anew in [false, true] {
        assert_eq!(site.read("home/ann/name").text(), "this is s1\n");
        // Nothing may expire before it is looked at again.
        let inside = fs::File::open(site.at("home/ann/name")).expect("a file");
        let before = mounted(&site, "home/ann").expect("a mount");
        kill_process_group(site.pid(), Signal::KILL).expect("a group");
        if anew {
            // Nothing is left to go on with: who looks would wait for three minutes.
            fs::remove_file(site.at("run/links")).expect("a file");
        }
        site.start();
        assert_eq!(site.read("home/ann/name").text(), "this is s1\n");
        let after = mounted(&site, "home/ann").expect("a mount");
        assert_eq!(after.id, before.id, "what is mounted is taken over");
        drop(inside);
    }
    site.stop(LIMIT);
    assert!(staged().is_empty(), "{:?}", staged());
}
