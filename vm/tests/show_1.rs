//! NFS mounted as autofs mounts it: used, left alone until it expires, and option by option the
//! same in the kernel's table.

use std::fs;
use std::path::Path;

use piton_vm::{Daemon, LIMIT, MountLine, Site, Touch, wait_until};
use rustix::mount::{UnmountFlags, unmount};

#[test]
fn what_is_mounted_is_read_written_and_expires() {
    let files = [
        ("auto.master", "@/nfs @/auto.nfs --timeout=2\n"),
        (
            "auto.nfs",
            "three -rw,vers=3 s1:/srv/s1\nfour -rw,vers=4.2 s2:/srv/s2\n",
        ),
    ];
    let site = Site::serving(Daemon::Piton, "piton", &files);
    for (key, server, fstype) in [("three", "s1", "nfs"), ("four", "s2", "nfs4")] {
        let name = site.read(&format!("nfs/{key}/name"));
        assert_eq!(name.text(), format!("this is {server}\n"));
        let path = site.at(&format!("nfs/{key}/new"));
        Touch::write(path, "written over NFS\n")
            .within(LIMIT)
            .text();
        let there = Path::new("/srv").join(server).join("new");
        assert_eq!(fs::read(there).expect("a file"), b"written over NFS\n");
        // Whoever is inside keeps it, however slow this is.
        let _held = fs::File::open(site.at(&format!("nfs/{key}/name"))).expect("a file");
        let line = site.mounted(&format!("nfs/{key}")).expect("a mount");
        assert_eq!(line.fstype, fstype);
        assert!(line.has("proto=tcp"), "{line:?}");
    }
    wait_until("both expire", LIMIT, || site.mounts().is_empty());
    let again = site.read("nfs/four/new");
    assert_eq!(again.text(), "written over NFS\n");
}

#[test]
fn versions_and_transports_are_those_of_autofs() {
    as_autofs_does(&[
        ("none", "s1:/srv/s1"),
        ("v3", "-vers=3 s1:/srv/s1"),
        ("v4", "-vers=4 s1:/srv/s1"),
        ("v40", "-vers=4.0 s1:/srv/s1"),
        ("v41", "-vers=4.1 s1:/srv/s1"),
        ("v42", "-vers=4.2 s1:/srv/s1"),
        ("nfsvers3", "-nfsvers=3 s1:/srv/s1"),
        ("nfsvers42", "-nfsvers=4.2 s1:/srv/s1"),
        ("minor", "-vers=4,minorversion=1 s1:/srv/s1"),
        ("nfs4", "-fstype=nfs4 s1:/srv/s1"),
        ("nfs", "-fstype=nfs,vers=4.2 s1:/srv/s1"),
        ("tcp3", "-vers=3,tcp s1:/srv/s1"),
        ("tcp4", "-vers=4.2,proto=tcp s1:/srv/s1"),
        ("six3", "-vers=3 six:/srv/s3"),
        ("six4", "-vers=4.2 six:/srv/s3"),
        ("tcp6", "-vers=4.2,proto=tcp6 six:/srv/s3"),
        ("literal", "-vers=4.2 [fd99:1::2]:/srv/s1"),
        ("address", "-vers=4.2 172.31.0.2:/srv/s2"),
        ("homes", "-vers=4.2 homes:/srv/s1"),
    ]);
}

#[test]
fn options_of_version_3_are_those_of_autofs() {
    as_autofs_does(&[
        ("soft", "-vers=3,soft s1:/srv/s1"),
        ("hard", "-vers=3,hard s1:/srv/s1"),
        ("timeo", "-vers=3,timeo=100,retrans=5 s1:/srv/s1"),
        ("size", "-vers=3,rsize=8192,wsize=16384 s1:/srv/s1"),
        ("noac", "-vers=3,noac s1:/srv/s1"),
        ("nolock", "-vers=3,nolock s1:/srv/s1"),
        ("lock", "-vers=3,lock s1:/srv/s1"),
        ("locallock", "-vers=3,local_lock=flock s1:/srv/s1"),
        ("noacl", "-vers=3,noacl s1:/srv/s1"),
        ("nordirplus", "-vers=3,nordirplus s1:/srv/s1"),
        ("port", "-vers=3,port=2049 s1:/srv/s1"),
        ("mountproto", "-vers=3,mountproto=tcp s1:/srv/s1"),
        ("mountvers", "-vers=3,mountvers=3 s1:/srv/s1"),
        ("nconnect", "-vers=3,nconnect=2 s1:/srv/s1"),
    ]);
}

#[test]
fn options_of_version_4_are_those_of_autofs() {
    as_autofs_does(&[
        ("soft", "-vers=4.2,soft s1:/srv/s1"),
        ("softerr", "-vers=4.2,softerr,timeo=50,retrans=3 s1:/srv/s1"),
        ("size", "-vers=4.2,rsize=65536,wsize=131072 s1:/srv/s1"),
        (
            "ac",
            "-vers=4.2,acregmin=5,acregmax=10,acdirmin=6,acdirmax=20 s1:/srv/s1",
        ),
        ("actimeo", "-vers=4.2,actimeo=1 s1:/srv/s1"),
        ("noac", "-vers=4.2,noac s1:/srv/s1"),
        ("sec", "-vers=4.2,sec=sys s1:/srv/s1"),
        ("port", "-vers=4.2,port=2049 s1:/srv/s1"),
        ("nconnect", "-vers=4.2,nconnect=4 s1:/srv/s1"),
        ("lookup", "-vers=4.2,lookupcache=none s1:/srv/s1"),
        ("positive", "-vers=4.2,lookupcache=pos s1:/srv/s1"),
        ("locallock", "-vers=4.2,local_lock=all s1:/srv/s1"),
        ("nocto", "-vers=4.2,nocto s1:/srv/s1"),
        ("nosharecache", "-vers=4.2,nosharecache s1:/srv/s1"),
        ("noresvport", "-vers=4.2,noresvport s1:/srv/s1"),
        ("clientaddr", "-vers=4.0,clientaddr=10.99.1.1 s1:/srv/s1"),
        ("bg", "-vers=4.2,bg s1:/srv/s1"),
        ("fg", "-vers=4.2,fg s1:/srv/s1"),
        ("retry", "-vers=4.2,retry=0 s1:/srv/s1"),
        ("intr", "-vers=4.2,intr s1:/srv/s1"),
        ("fsc", "-vers=4.2,fsc s1:/srv/s1"),
    ]);
}

#[test]
fn general_options_and_shapes_of_entries_are_those_of_autofs() {
    as_autofs_does(&[
        ("ro", "-ro,vers=4.2 s1:/srv/s1"),
        ("rw", "-rw,vers=4.2 s1:/srv/s1"),
        ("nosuid", "-nosuid,nodev,vers=4.2 s1:/srv/s1"),
        ("noexec", "-noexec,vers=3 s1:/srv/s1"),
        ("noatime", "-noatime,vers=4.2 s1:/srv/s1"),
        ("nodiratime", "-nodiratime,vers=4.2 s1:/srv/s1"),
        ("sync", "-sync,vers=4.2 s1:/srv/s1"),
        ("dirsync", "-dirsync,vers=4.2 s1:/srv/s1"),
        ("defaults", "-defaults,vers=4.2 s1:/srv/s1"),
        ("netdev", "-_netdev,vers=4.2 s1:/srv/s1"),
        ("below", "-vers=4.2 s1:/srv/s1/sub"),
        ("list", "-ro,vers=4.2 s1,far2:/srv/common"),
        ("several", "-ro,vers=4.2 far3:/srv/common s1:/srv/common"),
        ("multi", "-vers=4.2 /a s1:/srv/s1 /b -ro s2:/srv/s2"),
        (
            "rooted",
            "-vers=3 / s1:/srv/s1 /sub/deep -nosuid s2:/srv/s2",
        ),
        ("unknown", "-vers=4.2,nosuchoption s1:/srv/s1"),
        ("sub", "wildcard"),
        ("other", "wildcard"),
    ]);
}

/// Mounts each entry by autofs and then by Piton, on the same kernel, and compares what it says.
/// The text `wildcard` leaves the key to the wildcard entry.
///
/// One after the other: two mounts of one export would share connections and their options.
#[track_caller]
fn as_autofs_does(entries: &[(&str, &str)]) {
    let mut map = String::new();
    for (key, entry) in entries.iter().filter(|(_, entry)| *entry != "wildcard") {
        map += &format!("{key} {entry}\n");
    }
    map += "* -rw,vers=4.2 s1:/srv/s1/&\n";
    let files = [
        ("auto.master", "@/nfs @/auto.nfs --timeout=600\n"),
        ("auto.nfs", &map),
    ];
    let autofs = Site::serving(Daemon::Autofs, "autofs", &files);
    let piton = Site::serving(Daemon::Piton, "piton", &files);
    let mut different = String::new();
    for (key, entry) in entries {
        let (theirs, ours) = (mounted(&autofs, key), mounted(&piton, key));
        assert!(
            !theirs.is_empty(),
            "{key}: autofs mounts nothing\n{}",
            autofs.log()
        );
        if theirs != ours {
            different += &format!("{key} {entry}\n  autofs {theirs:#?}\n  piton {ours:#?}\n");
        }
    }
    assert!(different.is_empty(), "{different}\n{}", piton.log());
    println!("{} entries are the same", entries.len());
}

/// What the kernel says of all NFS that a key mounts, by paths below the site; then it is unmounted.
fn mounted(site: &Site, key: &str) -> Vec<Vec<String>> {
    // Offsets are mounted when they are looked into.
    for below in ["", "/a", "/b", "/sub/deep"] {
        let _ = Touch::list(site.at(&format!("nfs/{key}{below}"))).within(LIMIT);
    }
    let mut lines = site.mounts();
    lines.retain(|line| line.fstype.starts_with("nfs"));
    for line in lines.iter().rev() {
        // With the triggers in it.
        unmount(&line.point, UnmountFlags::DETACH).expect("unmounting");
    }
    lines.iter().map(|line| facts(site, line)).collect()
}

/// A line of the mount table, without what is different for every mount.
fn facts(site: &Site, line: &MountLine) -> Vec<String> {
    let below = Path::new(&line.point).strip_prefix(site.at("nfs"));
    let mut facts = vec![
        below.expect("below the site").display().to_string(),
        line.root.clone(),
        line.fstype.clone(),
        line.source.clone(),
    ];
    for options in [&line.options, &line.super_options] {
        let mut options: Vec<_> = options.split(',').map(str::to_owned).collect();
        options.sort();
        facts.extend(options);
    }
    facts
}
