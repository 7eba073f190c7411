//! Other people's clients, and other people.

mod client;

use std::os::unix::process::CommandExt;
use std::process::{Command, Output, Stdio};
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use client::*;
use piton_loopback::{Listener, Server};
use piton_testkit::heard_by;
use rustix::io::Errno;

/// A program of libnfs on a path of the server, as a user.
fn libnfs(program: &str, site: &Site, path: &str, uid: u32) -> Output {
    let port = site.server.address().port();
    let url = format!("nfs://127.0.0.1{path}?version=3&nfsport={port}&mountport={port}");
    let mut command = Command::new("timeout");
    command.args(["20", program, &url]);
    command.uid(uid).gid(uid);
    command.output().expect("libnfs-utils is installed")
}

fn words(output: &Output) -> Vec<Vec<String>> {
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{errors}");
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let words = |line: &str| line.split_whitespace().map(str::to_owned).collect();
    text.lines().map(words).collect()
}

#[test]
fn libnfs_lists_a_thousand_keys() {
    let site = site();
    let names: Vec<String> = (0..1000).map(|n| format!("key{n:03}")).collect();
    let listed = names.iter().map(|name| name.as_str().into());
    site.tree.list(HOME, listed).unwrap();
    site.tree
        .link(HOME, "key007".into(), "/tmp_mnt/home/key007".into())
        .unwrap();
    let lines = words(&libnfs("nfs-ls", &site, "/home", 0));
    let mut shown: Vec<&str> = lines
        .iter()
        .map(|line| line.last().unwrap().as_str())
        .filter(|name| !matches!(*name, "." | ".."))
        .collect();
    shown.sort_unstable();
    assert_eq!(shown, names);
    let mode = |name: &str| {
        let mut lines = lines.iter();
        let line = lines.find(|line| line.last().unwrap() == name).unwrap();
        line[0].clone()
    };
    assert!(
        mode("key000").starts_with("lrwxrwxrwx"),
        "{}",
        mode("key000")
    );
    assert!(site.desk.is_empty(), "looking mounts nothing");
}

#[test]
fn libnfs_is_told_what_is_not_there() {
    let site = site();
    let desk = site.desk.clone();
    let owner = thread::spawn(move || {
        let (access, duty) = desk.next();
        assert_eq!(&access.name[..], b"absent");
        assert_eq!(access.caller.uid, 0);
        duty.fail(Errno::NOENT);
    });
    let output = libnfs("nfs-cat", &site, "/home/absent", 0);
    assert!(!output.status.success());
    let errors = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(errors.contains("NOENT"), "{errors}");
    owner.join().unwrap();
    // A root that there is not.
    let output = libnfs("nfs-ls", &site, "/nowhere", 0);
    assert!(!output.status.success());
}

#[test]
fn an_ordinary_user_is_turned_away_whatever_he_says() {
    let site = site();
    let output = libnfs("nfs-ls", &site, "/home", 65534);
    assert!(!output.status.success(), "{output:?}");
    assert!(output.stdout.is_empty());
    // Without a library: whatever is sent, nothing comes back.
    let port = site.server.address().port();
    let message = piton_rpc::record::mark(&site.client().message(1, (NFS, 3, NULL), b""));
    let heard = |uid| heard_by(uid, port, &message);
    assert_eq!(heard(65534), "0");
    assert_eq!(heard(0), "4");
    // Root is served as before, however many others knock.
    let begun = Instant::now();
    let _knocking = Knocking::at(port);
    for _ in 0..5 {
        words(&libnfs("nfs-ls", &site, "/home", 0));
        thread::sleep(Duration::from_millis(100));
    }
    assert!(begun.elapsed() < PATIENCE);
}

/// An ordinary user who connects again and again.
struct Knocking(std::process::Child);

impl Knocking {
    fn at(port: u16) -> Self {
        let knock = format!("while :; do : <>/dev/tcp/127.0.0.1/{port}; done");
        let mut command = Command::new("timeout");
        command.args(["60", "bash", "-c", &knock]).uid(65534);
        command.stdout(Stdio::null()).stderr(Stdio::null());
        Self(command.spawn().unwrap())
    }
}

impl Drop for Knocking {
    fn drop(&mut self) {
        // timeout(1) ends its child when it is told to end.
        let pid = rustix::process::Pid::from_child(&self.0);
        let _ = rustix::process::kill_process(pid, rustix::process::Signal::TERM);
        let _ = self.0.wait();
    }
}

#[test]
fn root_listens_at_a_port_that_nobody_else_can_take() {
    let listener = Listener::reserved().unwrap();
    let port = listener.port();
    assert!((600..665).contains(&port));
    let other = Listener::reserved().unwrap();
    assert_ne!(other.port(), port);
    let (tree, desk) = (tree(), Arc::new(Desk::default()));
    let _server = Server::start(listener, tree, desk).unwrap();
    assert!(Client::new(port).mount("/home").is_ok());
}
