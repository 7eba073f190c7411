//! The nearest, lightest, quickest server: three on three subnets of ours, and the same three by
//! addresses on none of them.

use piton_vm::{Daemon, Server, Site};

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

/// What an entry of its own is mounted from, by a daemon of its own, which remembers nothing.
#[track_caller]
fn chosen(name: &str, entry: &str) -> String {
    source(&site(name, entry))
}

#[test]
fn r_145_a_weight_decides_among_equals() {
    let entry = "-ro,vers=4.2 s1(4),s2(1),s3:/srv/common";
    assert_eq!(chosen("all", entry), "s3:/srv/common");
    Server::named("s3").refuse();
    assert_eq!(chosen("two", entry), "s2:/srv/common");
    Server::named("s2").vanish();
    assert_eq!(chosen("one", entry), "s1:/srv/common");
}

#[test]
fn r_146_proximity_beats_weight() {
    let entry = "-ro,vers=4.2 far1,far3(1):/srv/common s2(9):/srv/common";
    assert_eq!(chosen("near", entry), "s2:/srv/common");
    // However slow it is.
    Server::named("s2").delay(50);
    assert_eq!(chosen("slow", entry), "s2:/srv/common");
    Server::named("s2").refuse();
    assert_eq!(chosen("far", entry), "far1:/srv/common");
}

#[test]
fn r_148_weights_stand_beside_servers_of_different_paths() {
    let entry = "-ro s1(3):/srv/s1 s2,s3(1):/srv/common far1:/srv/s1/sub";
    assert_eq!(chosen("all", entry), "s2:/srv/common");
    Server::named("s2").refuse();
    assert_eq!(chosen("next", entry), "s3:/srv/common");
    Server::named("s3").refuse();
    assert_eq!(chosen("last", entry), "s1:/srv/s1");
}

#[test]
fn among_equals_the_quickest_is_taken() {
    let entry = "-ro,vers=4.2 s1,s2,s3:/srv/common";
    let servers = ["s1", "s2", "s3"];
    for quick in servers {
        for name in servers.into_iter().filter(|name| *name != quick) {
            Server::named(name).delay(50);
        }
        assert_eq!(chosen(quick, entry), format!("{quick}:/srv/common"));
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
    assert_eq!(chosen("three", entry), "s2:/srv/common");
}

#[test]
fn explain_asks_them_and_tells_why() {
    let site = site("why", "-ro,vers=4.2 far1,s1(2),s2(1),s3(1):/srv/common");
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
    let explained = site.piton_json(&words);
    let replicas = explained["mounts"][0]["replicas"].as_array();
    let replicas = replicas.unwrap_or_else(|| panic!("{explained:#}"));
    let said: Vec<[&str; 3]> = replicas
        .iter()
        .map(|replica| {
            ["host", "proximity", "verdict"].map(|field| replica[field].as_str().unwrap_or(""))
        })
        .collect();
    let expected = [
        ["s3", "subnet", "serves"],
        ["s2", "subnet", "serves"],
        ["s1", "subnet", "refused"],
        ["far1", "other", "refused"],
    ];
    assert_eq!(said, expected, "{explained:#}");
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
    assert_eq!(source(&site), "s3:/srv/common");
}
