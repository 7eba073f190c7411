//! The first access to an export, beside autofs's: in turns, on the same kernel and servers.

use std::time::Duration;

use piton_vm::{Daemon, Site, record};
use rustix::mount::{UnmountFlags, unmount};

/// How often each is measured: the least of a few tries, as what else the machine does only adds.
const TURNS: usize = 5;
const TRIES: usize = 3;

/// What is allowed, as a share of autofs's time: the median of a few turns, of the least of a few
/// tries each.
const MOST: f64 = 0.6;

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
    // Both are warm then: programs and maps have been read.
    for (_, site) in &sites {
        first(site);
    }
    let mut ratios: Vec<f64> = (0..TURNS)
        .map(|turn| {
            let mut least = [Duration::MAX; 2];
            for _ in 0..TRIES {
                for (least, (_, site)) in least.iter_mut().zip(&sites) {
                    *least = first(site).min(*least);
                }
            }
            for (least, (kind, _)) in least.iter().zip(&sites) {
                record(case, *kind, turn, "first_ms", least.as_secs_f64() * 1e3);
            }
            least[1].div_duration_f64(least[0])
        })
        .collect();
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
    assert!(share <= MOST, "{share:.2} of the time that autofs takes");
}

#[test]
fn an_export_whose_security_is_said() {
    let share = share(
        "NFS v4.2, sec=sys, first access",
        "-rw,vers=4.2,sec=sys s1:/srv/s1",
    );
    assert!(share <= MOST, "{share:.2} of the time that autofs takes");
}

#[test]
fn replicas_of_version_4_2() {
    let share = share(
        "NFS v4.2, three replicas, first access",
        "-ro,vers=4.2 s1,s2,s3:/srv/common",
    );
    assert!(share <= MOST, "{share:.2} of the time that autofs takes");
}

/// Both have mount.nfs do it, which is most of the time.
#[test]
fn an_export_of_version_3() {
    let share = share("NFS v3, first access", "-rw,vers=3 s1:/srv/s1");
    assert!(share <= 1.5, "{share:.2} of the time that autofs takes");
}
