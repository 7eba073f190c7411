//! Servers with several addresses: what one of them does not answer costs no time.

use std::time::Duration;

use piton_vm::{Daemon, LIMIT, Site};

/// How much longer an access may take than that to a plain server.
const DELAY: Duration = Duration::from_millis(300);

/// How long the first access to an entry takes, with a daemon that remembers nothing.
#[track_caller]
fn first(entry: &str, text: &str) -> Duration {
    let map = format!("key {entry}\n");
    let files = [
        ("auto.master", "@/nfs @/auto.nfs --timeout=600\n"),
        ("auto.nfs", &map),
    ];
    let mut site = Site::serving(Daemon::Piton, "piton", &files);
    let touched = site.read("nfs/key/name");
    assert_eq!(touched.text(), text, "{entry}\n{}", site.log());
    site.stop(LIMIT);
    touched.took
}

/// The entry is mounted as quickly as its plain relative: in turns, for the guest is slow now and
/// then.
#[track_caller]
fn costs_nothing(plain: &str, entry: &str, text: &str) {
    let pairs: Vec<_> = (0..3)
        .map(|_| (first(plain, text), first(entry, text)))
        .collect();
    let good = pairs.iter().any(|(plain, took)| *took <= *plain + DELAY);
    assert!(good, "{plain}, {entry}: {pairs:?}");
}

#[test]
fn a_server_with_two_addresses() {
    costs_nothing(
        "-vers=4.2 s1:/srv/s1",
        "-vers=4.2 homes:/srv/s1",
        "this is s1\n",
    );
}

#[test]
fn a_server_with_an_address_that_is_dead() {
    costs_nothing(
        "-vers=4.2 s1:/srv/s1",
        "-vers=4.2 halfdead:/srv/s1",
        "this is s1\n",
    );
}

#[test]
fn a_server_with_ipv6_only() {
    costs_nothing(
        "-vers=4.2 s3:/srv/s3",
        "-vers=4.2 six:/srv/s3",
        "this is s3\n",
    );
}

#[test]
fn a_server_whose_ipv6_is_dead() {
    costs_nothing(
        "-vers=4.2 s2:/srv/s2",
        "-vers=4.2 dualdead6:/srv/s2",
        "this is s2\n",
    );
}

#[test]
fn a_server_whose_ipv6_is_dead_by_version_3() {
    costs_nothing(
        "-vers=3 s2:/srv/s2",
        "-vers=3 dualdead6:/srv/s2",
        "this is s2\n",
    );
}
