//! The rig itself: what the other tests believe in.

use std::process::Command;

use piton_vm::{Daemon, Server, Site, run};

const FILES: [(&str, &str); 2] = [
    ("auto.master", "@/nfs @/auto.nfs --timeout=300\n"),
    (
        "auto.nfs",
        "s1 -rw,vers=4.2 s1:/srv/s1\n\
         s2 -rw,vers=3 s2:/srv/s2\n\
         v4 -rw,vers=4 v4only:/srv/v4only/data\n\
         six -ro,vers=4.2 six:/srv/s3\n\
         many -ro many:/srv/many/042\n",
    ),
];

/// Reads a file of every server.
#[track_caller]
fn everybody_serves(site: &Site) {
    for (key, text) in [
        ("s1", "this is s1\n"),
        ("s2", "this is s2\n"),
        ("v4", "this is v4only\n"),
        ("six", "this is s3\n"),
        ("many", "many 042\n"),
    ] {
        let path = format!("nfs/{key}/name");
        assert_eq!(site.read(&path).text(), text, "{key}\n{}", site.log());
    }
}

#[test]
fn every_server_serves_autofs() {
    everybody_serves(&Site::serving(Daemon::Autofs, "autofs", &FILES));
}

#[test]
fn every_server_serves_piton() {
    everybody_serves(&Site::serving(Daemon::Piton, "piton", &FILES));
}

#[test]
fn a_server_that_refuses_or_vanishes_comes_back() {
    let s1 = Server::named("s1");
    let options = "vers=4.2,soft,timeo=10,retrans=1,retry=0";
    let mount = ["-t", "nfs", "-o", options, "s1:/srv/s1", "/mnt"];
    let fails = || {
        let status = Command::new("mount").args(mount).status();
        assert!(!status.expect("mount").success());
    };
    let works = || {
        run("mount", &mount);
        run("umount", &["/mnt"]);
    };
    s1.refuse();
    fails();
    s1.serve();
    works();
    s1.vanish();
    fails();
    s1.come_back();
    works();
    s1.delay(50);
    works();
    s1.come_back();
    s1.export("/srv/more", "ro,fsid=99");
    assert!(run("showmount", &["-e", "s1"]).contains("/srv/more"));
}

#[test]
fn a_program_map_mounts_a_snapshot_of_a_volume() {
    let program = "#!/bin/sh\n\
        [ -e \"/dev/storage/$1\" ] || exit 1\n\
        [ -e \"/dev/storage/$1-snap\" ] ||\n\
        lvcreate -q -q -y -s -n \"$1-snap\" -L 20M \"storage/$1\" >&2 || exit 1\n\
        echo \"-fstype=ext4,ro :/dev/storage/$1-snap\"\n";
    let files = [
        ("auto.master", "@/snap program:@/auto.snap\n"),
        ("auto.snap", program),
    ];
    let site = Site::serving(Daemon::Piton, "piton", &files);
    assert_eq!(site.read("snap/data/file").text(), "original\n");
}
