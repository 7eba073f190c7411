//! The first access to an export, beside autofs's: in turns, on the same kernel and servers.

use std::time::Duration;

use piton_vm::{Daemon, Site, record};
use rustix::mount::{UnmountFlags, unmount};

/// How often each is measured.
const TURNS: usize = 8;

/// Our time as a share of that of autofs.
#[track_caller]
fn share(case: &str, entry: &str) -> f64 {
    let map = format!("key {entry}\n");
    let files = [
        ("auto.master", "@/nfs @/auto.nfs --timeout=600\n"),
        ("auto.nfs", &map),
    ];
    let sites = [(Daemon::Autofs, "autofs"), (Daemon::Piton, "piton")]
        .map(|(kind, name)| (kind, Site::serving(kind, name, &files)));
    let mut ratios = Vec::new();
    for turn in 0..=TURNS {
        let [theirs, ours] = sites.each_ref().map(|(kind, site)| {
            let took = first(site);
            // The first turn warms both up: programs and maps are read for the first time.
            if turn > 0 {
                record(case, *kind, turn - 1, "first_ms", took.as_secs_f64() * 1e3);
            }
            took.as_secs_f64()
        });
        if turn > 0 {
            ratios.push(ours / theirs);
        }
    }
    ratios.sort_by(f64::total_cmp);
    println!("{case}: {ratios:.2?}");
    ratios[ratios.len() / 2]
}

/// Touches the key, and unmounts what it gave: no connection stays, so that the next is a first
/// access again.
#[track_caller]
fn first(site: &Site) -> Duration {
    let touched = site.read("nfs/key/name");
    touched.text();
    unmount(site.at("nfs/key"), UnmountFlags::empty()).expect("unmounting");
    touched.took
}

#[test]
fn an_export_of_version_4_2() {
    let share = share("NFS v4.2, first access", "-rw,vers=4.2 s1:/srv/s1");
    assert!(share <= 0.6, "{share:.2} of the time that autofs takes");
}

#[test]
fn replicas_of_version_4_2() {
    let share = share(
        "NFS v4.2, three replicas, first access",
        "-ro,vers=4.2 s1,s2,s3:/srv/common",
    );
    assert!(share <= 0.6, "{share:.2} of the time that autofs takes");
}

#[test]
fn an_export_of_version_3() {
    let share = share("NFS v3, first access", "-rw,vers=3 s1:/srv/s1");
    assert!(share <= 1.0, "{share:.2} of the time that autofs takes");
}
