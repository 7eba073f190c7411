//! The nearest, lightest, quickest server: three on three subnets of ours, and the same three by
//! addresses on none of them.

use piton_vm::{Daemon, Server, Site};
use serde_json::Value;

/// A site with one entry, `man`.
#[track_caller]
fn site(name: &str, entry: &str) -> Site {
    let map = format!("man {entry}\n");
    let files = [
        ("auto.master", "@/nfs @/auto.nfs --timeout=600\n"),
        ("auto.nfs", &map),
    ];
    Site::serving(Daemon::Piton, name, &files)
}

/// What `man` is mounted from.
#[track_caller]
fn source(site: &Site) -> String {
    site.list("nfs/man").text();
    site.mounted("nfs/man").expect("a mount").source
}

/// What is chosen by the time of answers, in two of three trials: what else the machine does may delay
/// the quickest.
#[track_caller]
fn mostly_chosen(name: &str, entry: &str) -> String {
    let [first, second] = ["first", "second"].map(|it| chosen(&format!("{name}-{it}"), entry));
    if first == second {
        return first;
    }
    let third = chosen(&format!("{name}-third"), entry);
    println!("{first}, {second}, {third}");
    third
}

/// What is chosen whatever the time of answers, if they come within the time that is waited for better
/// ones; the guest may stand still for longer than that. So not by the first of three trials only.
#[track_caller]
fn is_chosen(name: &str, entry: &str, expected: &str) {
    let mut first = chosen(name, entry);
    if first != expected {
        println!("{first}");
        first = mostly_chosen(&format!("{name}-again"), entry);
    }
    assert_eq!(first, expected);
}

/// What an entry of its own is mounted from, by a daemon of its own, which remembers nothing.
#[track_caller]
fn chosen(name: &str, entry: &str) -> String {
    source(&site(name, entry))
}

#[test]
fn r_145_a_weight_decides_among_equals() {
    let entry = "-ro,vers=4.2 s1(4),s2(1),s3:/srv/common";
    is_chosen("all", entry, "s3:/srv/common");
    Server::named("s3").refuse();
    is_chosen("two", entry, "s2:/srv/common");
    Server::named("s2").vanish();
    is_chosen("one", entry, "s1:/srv/common");
}

#[test]
fn r_146_proximity_beats_weight() {
    let entry = "-ro,vers=4.2 far1,far3(1):/srv/common s2(9):/srv/common";
    is_chosen("near", entry, "s2:/srv/common");
    // However slow it is.
    Server::named("s2").delay(50);
    is_chosen("slow", entry, "s2:/srv/common");
    Server::named("s2").refuse();
    is_chosen("far", entry, "far1:/srv/common");
}

#[test]
fn r_148_weights_stand_beside_servers_of_different_paths() {
    let entry = "-ro s1(3):/srv/s1 s2,s3(1):/srv/common far1:/srv/s1/sub";
    is_chosen("all", entry, "s2:/srv/common");
    Server::named("s2").refuse();
    is_chosen("next", entry, "s3:/srv/common");
    Server::named("s3").refuse();
    is_chosen("last", entry, "s1:/srv/s1");
}

#[test]
fn a_map_or_the_daemon_may_say_how_servers_are_chosen() {
    let map = "man -ro,vers=4.2 s1(4),far2:/srv/common\n";
    let chosen = |name, master, options: &[&str]| {
        let files = [("auto.master", master), ("auto.nfs", map)];
        let site = Site::serving_with(Daemon::Piton, name, &files, options);
        let source = source(&site);
        (site, source)
    };
    let plain = "@/nfs @/auto.nfs --timeout=600\n";
    assert_eq!(chosen("plain", plain, &[]).1, "s1:/srv/common");
    let line = "@/nfs @/auto.nfs --timeout=600,selection=weight-only\n";
    let (site, source) = chosen("line", line, &[]);
    assert_eq!(source, "far2:/srv/common");
    let words = [
        "explain",
        "--json",
        "--master",
        "@/auto.master",
        "@/nfs/man",
    ];
    let explained = site.piton_json(&words);
    let first = &explained["mounts"][0]["replicas"][0];
    assert_eq!(first["host"], "far2", "{explained:#}");
    let all = ["-O", "selection=weight-only"];
    assert_eq!(chosen("all", plain, &all).1, "far2:/srv/common");
}

#[test]
fn among_equals_the_quickest_is_taken() {
    let entry = "-ro,vers=4.2 s1,s2,s3:/srv/common";
    let servers = ["s1", "s2", "s3"];
    for quick in servers {
        for name in servers.into_iter().filter(|name| *name != quick) {
            Server::named(name).delay(50);
        }
        let expected = format!("{quick}:/srv/common");
        assert_eq!(mostly_chosen(quick, entry), expected);
        for name in servers.into_iter().filter(|name| *name != quick) {
            Server::named(name).come_back();
        }
    }
}

#[test]
fn among_equals_the_quickest_is_taken_for_version_3_too() {
    Server::named("s1").delay(50);
    Server::named("s3").delay(50);
    let entry = "-ro,vers=3 s1,s2,s3:/srv/common";
    assert_eq!(mostly_chosen("three", entry), "s2:/srv/common");
}

#[test]
fn explain_asks_them_and_tells_why() {
    let entry = "-ro,vers=4.2 far1,s1(2),s2(1),s3(1):/srv/common";
    let site = site("why", entry);
    Server::named("s2").delay(50);
    Server::named("s1").refuse();
    let words = [
        "explain",
        "--probe",
        "--json",
        "--master",
        "@/auto.master",
        "@/nfs/man",
    ];
    let expected = [
        ["s3", "subnet", "serves"],
        ["s2", "subnet", "serves"],
        ["s1", "subnet", "refused"],
        ["far1", "other", "refused"],
    ];
    // In one of three trials: s3 may have been delayed by something else.
    let mut trials = (0..3).map(|_| site.piton_json(&words));
    let as_expected = |explained: &Value| replicas(explained).map(verdict).eq(expected);
    let explained = trials.find(as_expected).expect("s3 is the quickest");
    let replicas: Vec<&Value> = replicas(&explained).collect();
    assert_eq!(replicas[0]["chosen"], true);
    assert!(
        replicas[1]["answer_ms"].as_f64() > Some(50.0),
        "{explained:#}"
    );
    assert!(
        replicas
            .iter()
            .all(|replica| replica["reason"].as_str() != Some(""))
    );
    assert_eq!(mostly_chosen("why-mounted", entry), "s3:/srv/common");
}

fn replicas(explained: &Value) -> impl Iterator<Item = &Value> {
    let replicas = explained["mounts"][0]["replicas"].as_array();
    replicas.unwrap_or_else(|| panic!("{explained:#}")).iter()
}

fn verdict(replica: &Value) -> [&str; 3] {
    ["host", "proximity", "verdict"].map(|field| replica[field].as_str().unwrap_or(""))
}
