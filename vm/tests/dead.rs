//! A server dies under what is mounted from it: who is inside waits, and nobody else does. It is
//! named with its users, comes back by itself, and the automounter can be stopped beside it.

use std::fs;
use std::time::{Duration, Instant};

use piton_vm::{Daemon, LIMIT, Server, Site, Touch, wait_until};
use serde_json::Value;

const EHOSTDOWN: i32 = 112;

const FILES: [(&str, &str); 2] = [
    ("auto.master", "@/nfs @/auto.nfs --timeout=600\n"),
    (
        "auto.nfs",
        "home -rw,vers=4.2 s1:/srv/s1\nother -rw,vers=4.2 s2:/srv/s2\nmore -ro,vers=4.2 s1:/srv/common\n",
    ),
];

/// A server as `piton status` shows it.
fn server(site: &Site, name: &str) -> Value {
    let status = site.piton_json(&["status", "--json"]);
    let servers = status["servers"].as_array().cloned().unwrap_or_default();
    let found = servers.into_iter().find(|server| server["host"] == name);
    found.unwrap_or(Value::Null)
}

fn wait_for(site: &Site, name: &str, state: &str) {
    wait_until(&format!("{name} is {state}"), 2 * LIMIT, || {
        server(site, name)["state"] == state
    });
}

/// Has `home` mounted and used by something that hangs, and its server known to be dead.
fn with_a_dead_server(site: &Site) -> Touch {
    site.read("nfs/home/name").text();
    site.read("nfs/other/name").text();
    let held = fs::File::open(site.at("nfs/home/name")).expect("opening a file");
    wait_for(site, "s1", "alive");
    Server::named("s1").vanish();
    let hanging = site.reading("nfs/home/sub/name");
    wait_for(site, "s1", "dead");
    assert!(hanging.is_waiting(), "nobody hangs beside a dead server");
    // It is closed only with this process: closing would wait for the server.
    std::mem::forget(held);
    hanging
}

#[test]
fn a_dead_server_is_named_with_its_users_and_nothing_else_suffers() {
    let site = Site::serving(Daemon::Piton, "site", &FILES);
    let hanging = with_a_dead_server(&site);
    let me = u64::from(std::process::id());
    let mut told = Value::Null;
    wait_until("its users are known", LIMIT, || {
        told = server(&site, "s1");
        let users = told["users"].as_array();
        users.is_some_and(|users| users.iter().any(|user| user["pid"] == me))
    });
    assert_eq!(told["mounts"], 1, "{told:#}");
    assert!(
        told["down"].is_string() && told["failures"].as_u64() > Some(0),
        "{told:#}"
    );
    wait_until("the log names its users", LIMIT, || {
        site.log().contains(&format!("used by {me} "))
    });
    let words = [
        "explain",
        "--json",
        "--master",
        "@/auto.master",
        "@/nfs/more",
    ];
    // The daemon is asked by the way, with little patience.
    wait_until("explain tells what is known of it", LIMIT, || {
        let explained = site.piton_json(&words);
        let health = &explained["mounts"][0]["replicas"][0]["health"];
        let open = health["circuit"] == "open" || health["circuit"] == "half-open";
        open && health["since"].is_string() && health["error"].is_string()
    });
    // Nobody waits for it: neither another key of it, nor other servers, nor operators.
    let known = (0..30).map(|_| site.read("nfs/more/name"));
    let least = known.map(|touched| {
        assert_eq!(touched.errno(), EHOSTDOWN);
        touched.took
    });
    let least = least.min();
    assert!(least <= Some(Duration::from_millis(50)), "{least:?}");
    assert_eq!(site.read("nfs/other/name").text(), "this is s2\n");
    for words in [&["list"][..], &["status"], &["expire"]] {
        let begun = Instant::now();
        site.piton_ok(words);
        assert!(
            begun.elapsed() < LIMIT / 2,
            "{words:?} took {:?}",
            begun.elapsed()
        );
    }
    assert!(site.mounted("nfs/home").is_some(), "it is used, and stays");
    // It returns, and all goes on by itself.
    Server::named("s1").come_back();
    wait_for(&site, "s1", "alive");
    assert_eq!(site.read("nfs/more/name").text(), "common\n");
    hanging.within(2 * LIMIT);
    wait_until("the log says so", LIMIT, || {
        site.log().contains("server answers again")
    });
}

#[test]
fn a_stop_beside_a_dead_server_ends() {
    let mut site = Site::serving(Daemon::Piton, "site", &FILES);
    let hanging = with_a_dead_server(&site);
    let begun = Instant::now();
    let told = site.piton_ok(&["stop"]);
    // Whoever waited for the server would do so for ever.
    site.stop(LIMIT);
    println!("stopped after {:?}: {told}", begun.elapsed());
    assert_eq!(site.mounts().len(), 0, "{:?}", site.mounts());
    assert!(hanging.is_waiting(), "who is inside stays there");
    // This process could not end while it has a file there.
    Server::named("s1").come_back();
}

#[test]
fn what_nobody_uses_of_a_dead_server_goes() {
    let site = Site::serving(Daemon::Piton, "site", &FILES);
    site.read("nfs/home/name").text();
    wait_for(&site, "s1", "alive");
    Server::named("s1").vanish();
    wait_for(&site, "s1", "dead");
    let begun = Instant::now();
    site.piton_ok(&["expire"]);
    assert!(site.mounted("nfs/home").is_none());
    // Whoever waited for the server would do so for ever.
    assert!(begun.elapsed() < LIMIT / 2, "{:?}", begun.elapsed());
    // The key is not held up by what is left to do behind it.
    assert_eq!(site.read("nfs/home/name").errno(), EHOSTDOWN);
    Server::named("s1").come_back();
    wait_until("the server is asked again", 2 * LIMIT, || {
        server(&site, "s1").is_null() || server(&site, "s1")["down"].is_null()
    });
    assert_eq!(site.read("nfs/home/name").text(), "this is s1\n");
}

#[test]
fn a_service_that_ended_is_as_dead_as_a_silent_one() {
    let site = Site::serving(Daemon::Piton, "site", &FILES);
    site.read("nfs/home/name").text();
    wait_for(&site, "s1", "alive");
    Server::named("s1").refuse();
    wait_for(&site, "s1", "dead");
    assert_eq!(site.read("nfs/more/name").errno(), EHOSTDOWN);
    Server::named("s1").serve();
    wait_for(&site, "s1", "alive");
    assert_eq!(site.read("nfs/more/name").text(), "common\n");
}
