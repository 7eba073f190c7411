//! `/net` in use: what is mounted expires and is taken over, the kernel's own inner mounts of NFS version
//! 4 included; servers that are not there.

use std::fs::File;
use std::time::Duration;

use piton_vm::{Daemon, LIMIT, Server, Site, run, wait_until};

const MASTER: [(&str, &str); 1] = [("auto.master", "@/net -hosts -soft --timeout=3\n")];

fn serving() -> Site {
    Site::serving(Daemon::Piton, "net", &MASTER)
}

/// The points of what is mounted, without the site's folder.
fn points(site: &Site) -> Vec<String> {
    let folder = site.at("").display().to_string();
    let mounts = site.mounts();
    let point = |line: &piton_vm::MountLine| line.point.replacen(&folder, "", 1);
    mounts.iter().map(point).collect()
}

#[test]
fn a_server_with_version_4_only_is_mounted_at_its_root() {
    let mut site = serving();
    let inside = "net/v4only/srv/v4only/data/name";
    assert_eq!(site.read(inside).text(), "this is v4only\n");
    // Somebody is inside as long as it is looked at: nothing may expire meanwhile.
    let held = File::open(site.at(inside)).expect("a file");
    let line = site.mounted("net/v4only").expect("a mount");
    assert_eq!((&*line.source, &*line.fstype), ("v4only:/", "nfs4"));
    assert!(line.has("nosuid") && line.has("nodev"), "{line:?}");
    println!("{:#?}", site.mounts());
    assert!(site.mounts().len() > 1, "the kernel has gone on by itself");
    drop(held);
    // Its own inner mounts don't keep it.
    wait_until("it expires", LIMIT, || site.mounts().is_empty());
    // Nor do they get in the way of a successor.
    assert_eq!(site.read(inside).text(), "this is v4only\n");
    let held = File::open(site.at(inside)).expect("a file");
    let before = points(&site);
    let status = site.piton_json(&["status", "--json"]);
    let pid = status["daemon"]["pid"].clone();
    run("kill", &["-KILL", &pid.to_string()]);
    wait_until("there is a successor", LIMIT, || {
        let status = site.piton_json(&["status", "--json"]);
        status["daemon"]["pid"] != pid
            && status["mounts"]
                .as_array()
                .is_some_and(|mounts| !mounts.is_empty())
    });
    assert_eq!(points(&site), before);
    assert_eq!(site.read(inside).text(), "this is v4only\n");
    drop(held);
    wait_until("it expires", LIMIT, || site.mounts().is_empty());
    assert_eq!(site.read(inside).text(), "this is v4only\n");
    site.stop(LIMIT);
    assert_eq!(points(&site), Vec::<String>::new());
}

#[test]
fn exports_inside_of_exports_are_mounted_as_they_are_walked() {
    let server = Server::named("s1");
    // A file system of its own, which version 4 crosses into by itself too.
    server.run("mount -t tmpfs tmpfs /srv/s1/other && echo inner >/srv/s1/other/name");
    server.export("/srv/s1/other", "rw,fsid=78");
    server.export("/srv/s1/sub", "rw,fsid=79");
    let mut site = serving();
    assert_eq!(site.list("net/s1/srv").text(), "common\ns1\n");
    assert_eq!(site.read("net/s1/srv/s1/name").text(), "this is s1\n");
    // Nothing may expire until the daemon has been killed.
    let outer = File::open(site.at("net/s1/srv/s1/name")).expect("a file");
    assert_eq!(points(&site), ["net/s1/srv/s1"]);
    assert_eq!(site.read("net/s1/srv/s1/other/name").text(), "inner\n");
    assert!(site.read("net/s1/srv/s1/sub/name").result.is_ok());
    let held = ["other", "sub"].map(|it| {
        let path = site.at(&format!("net/s1/srv/s1/{it}/name"));
        File::open(path).expect("a file")
    });
    println!("{:#?}", site.mounts());
    let status = site.piton_json(&["status", "--json"]);
    let pid = status["daemon"]["pid"].clone();
    let known = |status: &serde_json::Value| status["mounts"].as_array().map_or(0, Vec::len);
    let before = known(&status);
    run("kill", &["-KILL", &pid.to_string()]);
    wait_until("all is taken over", LIMIT, || {
        let status = site.piton_json(&["status", "--json"]);
        status["daemon"]["pid"] != pid && known(&status) == before
    });
    drop((outer, held));
    wait_until("all expires", LIMIT, || site.mounts().is_empty());
    assert_eq!(site.read("net/s1/srv/s1/other/name").text(), "inner\n");
    site.stop(LIMIT);
    assert_eq!(points(&site), Vec::<String>::new());
}

#[test]
fn a_new_export_is_there_and_a_server_that_vanished_is_told() {
    let server = Server::named("s2");
    let site = serving();
    assert_eq!(site.list("net/s2/srv").text(), "common\ns2\n");
    server.export("/srv/new", "rw,fsid=80");
    site.piton_ok(&["flush"]);
    assert!(site.list("net/s2/srv/new").result.is_ok());
    // There is no name server here that could say that there is no such host.
    assert_eq!(site.list("net/no-such-host").errno(), 112);
    assert_eq!(site.list("net/.hidden").errno(), 2);
    let hole = site.list("net/hole");
    assert!([110, 112].contains(&hole.errno()), "{hole:?}");
    // Twice the deadline; the kernel's own client would try for minutes.
    assert!(hole.took < Duration::from_secs(20), "{hole:?}");
}
