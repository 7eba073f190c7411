//! `piton trace` with a real daemon: every request has its line.

#[allow(dead_code, reason = "each test program uses a part of it")]
mod site;

use std::io::{BufRead, BufReader};
use std::process::{Command, Stdio};

use piton_control::message::TraceLine;
use piton_testkit::{privately, wait_until};
use rustix::process::Signal;
use site::{LIMIT, Site};

const MAPS: &[(&str, &str)] = &[
    (
        "auto.master",
        "@/home @/auto.home --timeout=600\n@/run-map program:@/auto.run\n",
    ),
    (
        "auto.home",
        "ann -fstype=tmpfs :ann\nbad -fstype=nosuchfs :x\nfar -fstype=nfs no-such-host.invalid:/x\n",
    ),
    (
        "auto.run",
        "#!/bin/sh\n[ $1 = here ] && echo '-fstype=tmpfs :here'\n",
    ),
];

/// The lines about one path, oldest first.
fn lines(site: &Site, path: &str) -> Vec<TraceLine> {
    let text = site.piton_ok(&["trace", "--recent", "--json", &format!("@{path}")]);
    let line = |line: &str| serde_json::from_str(line).expect("a line");
    text.lines().map(line).collect()
}

/// A shell touches a path, and lives until it has been looked at.
#[track_caller]
fn touch(site: &Site, path: &str) {
    let _visitor = site.visitor(path);
    wait_until("it is looked at", LIMIT, || {
        let last = lines(site, &format!("/{path}")).pop();
        last.is_some_and(|line| line.requester.comm.is_some())
    });
}

#[test]
fn every_request_has_a_line() {
    privately(|| {
        let site = Site::serving(MAPS);
        let touch = |path: &str| touch(&site, path);
        for path in [
            "home/ann",
            "home/nobody",
            "home/bad",
            "run-map/here",
            "run-map/gone",
        ] {
            touch(path);
        }
        let line = |path: &str| {
            let mut all = lines(&site, path);
            assert_eq!(all.len(), 1, "{path}: {all:?}");
            all.remove(0)
        };
        let ann = line("/home/ann");
        assert_eq!(
            (ann.served.as_str(), ann.errno, ann.kind.as_str()),
            ("fresh", None, "access")
        );
        assert_eq!(ann.requester.comm.as_deref(), Some("sh"));
        assert!(ann.requester.pid > 0 && ann.resolved_us.is_none());
        assert!(ann.looked_up_us <= ann.mounted_us && ann.mounted_us <= Some(ann.answered_us));
        assert!(ann.mounted_us.is_some());
        assert_eq!(line("/home/nobody").errno, Some(2));
        let bad = line("/home/bad");
        assert!(bad.cause.is_some_and(|cause| cause.contains("nosuchfs")));
        let here = line("/run-map/here");
        assert!(!here.cached && here.looked_up_us > Some(100), "{here:?}");
        let gone = line("/run-map/gone");
        assert_eq!((gone.served.as_str(), gone.errno), ("fresh", Some(2)));
        // Maps that are read again take the memory of failures with them.
        site.wait("it is remembered", |site| {
            touch("run-map/gone");
            let gone = lines(site, "/run-map/gone").pop().expect("a line");
            assert_eq!(gone.errno, Some(2));
            gone.served == "remembered"
        });
        site.signal(Signal::USR1);
        site.wait("it expires", |site| !site.is_mounted("home/ann"));
        site.wait("it is told", |site| lines(site, "/home/ann").len() > 1);
        let expired = &lines(&site, "/home/ann")[1..];
        let told: Vec<_> = expired
            .iter()
            .map(|line| (line.kind.as_str(), line.served.as_str(), line.errno))
            .collect();
        assert_eq!(told, [("expire", "expiry", None)]);
        let text = site.piton_ok(&["trace", "--recent"]);
        assert!(text.contains("no map has this key (errno 2)"), "{text}");
        site.end();
    });
}

#[test]
fn a_trace_is_followed_until_the_daemon_ends() {
    privately(|| {
        let site = Site::serving(MAPS);
        let mut follower = Command::new(env!("CARGO_BIN_EXE_piton"))
            .arg("trace")
            .env("PITON_RUNTIME_DIR", site.at("run"))
            .stdout(Stdio::piped())
            .spawn()
            .expect("piton trace");
        let mut output = BufReader::new(follower.stdout.take().expect("its output"));
        let mut text = String::new();
        output.read_line(&mut text).expect("the heading");
        assert!(text.starts_with("at (UTC)"), "{text}");
        for path in ["home/ann", "home/nobody"] {
            let _visitor = site.visitor(path);
            text.clear();
            output.read_line(&mut text).expect("a line");
            assert!(text.contains(path) && text.contains("sh (pid "), "{text}");
        }
        site.end();
        let mut status = None;
        wait_until("the follower ends", LIMIT, || {
            status = follower.try_wait().expect("waiting");
            status.is_some()
        });
        assert!(status.is_some_and(|status| status.success()), "{status:?}");
    });
}

#[test]
fn a_reader_that_sleeps_loses_lines_and_nobody_waits_for_it() {
    privately(|| {
        let site = Site::serving(MAPS);
        let mut follower = Command::new(env!("CARGO_BIN_EXE_piton"))
            .arg("trace")
            .env("PITON_RUNTIME_DIR", site.at("run"))
            .stdout(Stdio::piped())
            .spawn()
            .expect("piton trace");
        let touch = |name: &str| {
            let _ = std::fs::metadata(site.at("home").join(name));
        };
        let mut output = BufReader::new(follower.stdout.take().expect("its output"));
        let mut text = String::new();
        output.read_line(&mut text).expect("the heading");
        text.clear();
        // Nobody reads from here on: its pipe and its socket fill up.
        let accesses = 8_000;
        for number in 0..accesses {
            touch(&format!("absent-{number}"));
        }
        touch("last");
        let (mut told, mut lost) = (0, 0);
        while !text.contains("/home/last") {
            text.clear();
            output.read_line(&mut text).expect("a line");
            match text.strip_suffix(" lost: read too slowly\n") {
                Some(count) => lost += count.parse::<u64>().expect("a number"),
                None => told += u64::from(text.contains("/home/absent-")),
            }
        }
        assert!(lost > 0 && told > 0, "{told} lines, {lost} lost");
        assert_eq!(told + lost, accesses);
        follower.kill().expect("killing");
        follower.wait().expect("waiting");
        site.end();
    });
}
