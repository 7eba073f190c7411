//! The resolver process: it has no rights, a look-up that hangs delays no other, and it ends when
//! whoever started it does.

use std::fs;
use std::net::{IpAddr, UdpSocket};
use std::path::PathBuf;
use std::process::Command;
use std::time::{Duration, Instant};

use piton_resolver::{Resolver, limits};
use piton_testkit::{in_private_network, wait_until};

const LIMIT: Duration = Duration::from_secs(60);

/// Enough for an answer that needs no network.
fn soon() -> Instant {
    Instant::now() + LIMIT
}

fn resolver() -> Resolver {
    Resolver::new(vec![env!("CARGO_BIN_EXE_piton").into(), "resolver".into()])
}

/// The only name server, which never answers.
fn silent_name_server() -> UdpSocket {
    let scratch = PathBuf::from("/run");
    let mounted = Command::new("mount")
        .args(["-t", "tmpfs", "tmpfs", "/run"])
        .status();
    assert!(mounted.expect("mount(8)").success());
    for (name, text) in [
        ("resolv.conf", "nameserver 127.0.0.1\n"),
        ("nsswitch.conf", "hosts: files dns\npasswd: files\n"),
        ("hosts", "192.0.2.7 known\n2001:db8::7 known\n"),
    ] {
        let file = scratch.join(name);
        fs::write(&file, text).unwrap();
        let bound = Command::new("mount")
            .arg("--bind")
            .arg(&file)
            .arg(fs::canonicalize(format!("/etc/{name}")).unwrap())
            .status();
        assert!(bound.expect("mount(8)").success());
    }
    UdpSocket::bind("127.0.0.1:53").unwrap()
}

/// Processes that this one has started, by name.
fn children(name: &str) -> Vec<u32> {
    let us = std::process::id().to_string();
    let mut found = Vec::new();
    for entry in fs::read_dir("/proc").unwrap().flatten() {
        let Some(pid) = entry.file_name().to_str().and_then(|it| it.parse().ok()) else {
            continue;
        };
        let status = fs::read_to_string(entry.path().join("status")).unwrap_or_default();
        if field(&status, "Name") == name && field(&status, "PPid") == us {
            found.push(pid);
        }
    }
    found
}

fn field(status: &str, name: &str) -> String {
    let line = status
        .lines()
        .find_map(|line| line.strip_prefix(name)?.strip_prefix(':'));
    line.unwrap_or_default()
        .split_ascii_whitespace()
        .collect::<Vec<_>>()
        .join(" ")
}

fn known() -> Vec<IpAddr> {
    vec!["192.0.2.7".parse().unwrap(), "2001:db8::7".parse().unwrap()]
}

fn look_up(resolver: &Resolver) -> Vec<IpAddr> {
    let mut found = resolver.addresses("known".into(), soon()).unwrap();
    found.sort();
    found
}

#[test]
fn it_has_no_rights_and_ends_with_its_daemon() {
    in_private_network(|| {
        let _server = silent_name_server();
        let resolver = resolver();
        assert_eq!(look_up(&resolver), known());
        let pids = children("piton-resolver");
        let [pid] = pids[..] else {
            panic!("not one process: {pids:?}")
        };
        let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
        let nobody = "65534 65534 65534 65534";
        for (name, value) in [
            ("Uid", nobody),
            ("Gid", nobody),
            ("Groups", ""),
            ("CapInh", "0000000000000000"),
            ("CapPrm", "0000000000000000"),
            ("CapEff", "0000000000000000"),
            ("CapBnd", "0000000000000000"),
            ("CapAmb", "0000000000000000"),
            ("NoNewPrivs", "1"),
        ] {
            assert_eq!(field(&status, name), value, "{name}");
        }
        // In our group: the kernel must not ask us when it walks below our mount points.
        let group = rustix::process::Pid::from_raw(i32::try_from(pid).unwrap());
        assert_eq!(
            rustix::process::getpgid(group).unwrap(),
            rustix::process::getpgrp()
        );
        let open = fs::read_dir(format!("/proc/{pid}/fd")).unwrap().count();
        assert!(open <= 8, "{open} descriptors");
        drop(resolver);
        wait_until("it has ended", LIMIT, || {
            children("piton-resolver").is_empty()
        });
    });
}

#[test]
fn a_look_up_that_hangs_delays_no_other() {
    in_private_network(|| {
        let _server = silent_name_server();
        let resolver = resolver();
        let ask = |number: usize, time: Duration| {
            let resolver = resolver.clone();
            std::thread::spawn(move || {
                let name = format!("silent{number}.example");
                resolver.addresses(name.as_str().into(), Instant::now() + time)
            })
        };
        let hanging: Vec<_> = (0..limits::LOOKUPS - 4)
            .map(|number| ask(number, Duration::from_millis(300)))
            .collect();
        assert_eq!(look_up(&resolver), known());
        for thread in hanging {
            let error = thread.join().unwrap().unwrap_err();
            assert_eq!(error.errno(), rustix::io::Errno::TIMEDOUT.raw_os_error());
        }
        // Nobody waits for those any more, and their threads are stuck: another process answers.
        let before = children("piton-resolver");
        let more: Vec<_> = (100..108).map(|number| ask(number, LIMIT / 12)).collect();
        wait_until("another has begun", LIMIT, || {
            !children("piton-resolver").is_empty() && children("piton-resolver") != before
        });
        assert_eq!(look_up(&resolver), known());
        for thread in more {
            assert!(thread.join().unwrap().is_err());
        }
    });
}

#[test]
fn a_process_that_is_killed_is_replaced() {
    in_private_network(|| {
        let _server = silent_name_server();
        let resolver = resolver();
        for _ in 0..3 {
            assert_eq!(look_up(&resolver), known());
            for pid in children("piton-resolver") {
                let pid = rustix::process::Pid::from_raw(i32::try_from(pid).unwrap()).unwrap();
                rustix::process::kill_process(pid, rustix::process::Signal::KILL).unwrap();
            }
        }
        assert_eq!(look_up(&resolver), known());
    });
}
