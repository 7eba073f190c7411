//! A daemon behind links, without the kernel's part in it: its mount points are served and not
//! mounted (`--serve-only`), and walked by clients of NFS that know nothing of it. What is behind the
//! links is mounted for real. Each test has a network of its own: a daemon that comes back wants its
//! port back, which another test's daemon could have taken meanwhile.

#[path = "../../loopback/tests/client/mod.rs"]
mod client;
#[allow(dead_code, reason = "each test program uses a part of it")]
mod site;

use std::fs;
use std::process::{Command, Output};
use std::thread;
use std::time::{Duration, Instant};

use bstr::BString;
use client::{Client, LOOKUP, NFS, READLINK, found, in_directory, opaque, status, target};
use piton_testkit::in_private_network;
use rustix::process::{Pid, Signal, kill_process};
use site::{LIMIT, Site};

const ENOENT: u32 = 2;
const EIO: u32 = 5;

/// How soon clients of a daemon that was killed get answers.
const SOON: Duration = Duration::from_secs(5);

fn links(files: &[(&str, &str)], options: &[&str]) -> Site {
    let common = ["--serve-only", "--staging", "@/stage"];
    let mut site = Site::new(files).with_options(&[&common, options].concat());
    site.start();
    site
}

/// The port at which mount points are served.
fn port(site: &Site) -> u16 {
    let kept = fs::read_to_string(site.at("run/links")).expect("what is kept for a later life");
    kept.split(' ').next().unwrap().parse().expect("a port")
}

/// Walks as the kernel's client does: what was sent when its connection ended is sent again.
struct Walker {
    port: u16,
    root: Vec<u8>,
    client: Option<Client>,
}

impl Walker {
    fn new(site: &Site, path: &str) -> Self {
        let port = port(site);
        let mut client = Client::served(port);
        let root = client.mount(&site.text(path));
        Self {
            port,
            root: root.expect("the mount point is served"),
            client: Some(client),
        }
    }

    fn call(&mut self, procedure: u32, arguments: &[u8]) -> (u32, Vec<u8>) {
        loop {
            let client = self.client.get_or_insert_with(|| Client::served(self.port));
            client.send((NFS, 3, procedure), arguments);
            if let Some((_, results)) = client.receive() {
                return status(results.unwrap());
            }
            self.client = None;
        }
    }

    fn look_up(&mut self, key: &str) -> Result<Vec<u8>, u32> {
        let (status, results) = self.call(LOOKUP, &in_directory(&self.root.clone(), key));
        Ok(found(status, &results)?.0)
    }

    fn follow(&mut self, link: &[u8]) -> Result<BString, u32> {
        let (status, results) = self.call(READLINK, &opaque(link));
        target(status, &results)
    }

    fn walk(&mut self, key: &str) -> Result<BString, u32> {
        let link = self.look_up(key)?;
        self.follow(&link)
    }
}

/// A program of libnfs on a path.
fn libnfs(site: &Site, program: &str, path: &str) -> Output {
    let (path, port) = (site.text(path), port(site));
    let url = format!("nfs://127.0.0.1{path}?version=3&nfsport={port}&mountport={port}");
    let mut command = Command::new("timeout");
    let output = command.args(["60", program, &url]).output();
    output.expect("libnfs-utils is installed")
}

/// The names in a directory, as nfs-ls shows them.
fn listed(site: &Site, path: &str) -> Vec<String> {
    let output = libnfs(site, "nfs-ls", path);
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{errors}");
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let names = text
        .lines()
        .filter_map(|line| line.split_whitespace().last());
    let mut names: Vec<String> = names
        .filter(|name| !matches!(*name, "." | ".."))
        .map(str::to_owned)
        .collect();
    names.sort_unstable();
    names
}

fn pid(site: &Site, who: &str) -> Pid {
    let status: serde_json::Value =
        serde_json::from_str(&site.piton_ok(&["status", "--json"])).expect("JSON");
    let pid = status[who]["pid"].as_i64().expect("a number");
    Pid::from_raw(i32::try_from(pid).expect("a pid")).expect("a pid")
}

const MASTER: &str = "@/home @/auto.home\n@/all @/auto.all browse\n/- @/auto.direct\n";
const HOME: &str = "\
ann -fstype=tmpfs :tmp
data -fstype=bind :@/srv
tree -fstype=tmpfs / :root /a :a /a/in :in /b :b
";

fn usual(options: &[&str]) -> Site {
    let all: String = (0..1000)
        .map(|number| format!("key{number:03} -fstype=bind :@/srv\n"))
        .collect();
    let files = [
        ("auto.master", MASTER),
        ("auto.home", HOME),
        ("auto.all", &all),
        (
            "auto.direct",
            "@/direct -fstype=bind / :@/srv /tmp -fstype=tmpfs :t\n",
        ),
        ("srv/file", "of the server\n"),
        ("srv/tmp/.keep", ""),
    ];
    links(&files, options)
}

#[test]
fn libnfs_walks_a_daemon_of_a_thousand_keys() {
    in_private_network(|| {
        let site = usual(&[]);
        let names: Vec<String> = (0..1000).map(|number| format!("key{number:03}")).collect();
        assert_eq!(listed(&site, "@/all"), names);
        assert_eq!(site.mounts(), [] as [&str; 0], "looking mounts nothing");
        // nfs-cat follows links inside an export only: it is told where this one leads.
        let output = libnfs(&site, "nfs-cat", "@/all/key500");
        let errors = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(errors.contains("outside export"), "{errors}");
        let mounts = site.mounts();
        let place = site.text("/stage@/all/key500 ");
        assert!(
            mounts.len() == 1 && mounts[0].starts_with(&place),
            "{mounts:?}"
        );
        let output = libnfs(&site, "nfs-cat", "@/all/key1000");
        let errors = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(errors.contains("NOENT"), "{errors}");
        let mut all = Walker::new(&site, "@/all");
        for name in &names {
            let target = all.walk(name).unwrap();
            assert_eq!(target, site.text(&format!("@/stage@/all/{name}")));
        }
        assert_eq!(site.mounts().len(), 1000);
        let text = fs::read_to_string(site.at(&site.text("stage@/all/key999/file")[..])).unwrap();
        assert_eq!(text, "of the server\n");
        site.piton_ok(&["expire"]);
        assert_eq!(site.mounts(), [] as [&str; 0]);
        let mut site = site;
        site.signal(Signal::TERM);
        site.wait_for_end();
        let stage = site.at("stage");
        assert!(!stage.exists(), "what was made for mounts is removed");
    });
}

#[test]
fn entries_come_and_go_as_a_whole() {
    in_private_network(|| {
        let site = usual(&[]);
        let mut home = Walker::new(&site, "@/home");
        let tree = site.text("@/stage@/home/tree");
        assert_eq!(home.walk("tree").unwrap(), tree);
        let whole = ["", "/a", "/a/in", "/b"].map(|part| format!("{tree}{part}"));
        let mounted = || {
            let table = piton_testkit::mount_table().into_iter();
            let points = table.map(|line| line.point.to_string());
            let mut ours: Vec<String> = points.filter(|point| point.starts_with(&tree)).collect();
            ours.sort_unstable();
            ours
        };
        assert_eq!(mounted(), whole);
        // Somebody is in a part: all of it stays, or comes back.
        let inside = fs::File::open(format!("{tree}/b")).unwrap();
        let left = site.piton_ok(&["expire"]);
        assert!(left.contains(&site.text("@/home/tree")), "{left}");
        assert_eq!(mounted(), whole);
        assert_eq!(listed(&site, "@/home"), ["tree"], "the link is back");
        assert_eq!(home.walk("tree").unwrap(), tree);
        drop(inside);
        site.piton_ok(&["expire"]);
        assert_eq!(mounted(), [] as [&str; 0]);
        assert_eq!(listed(&site, "@/home"), [] as [&str; 0]);
        // A direct mount point is a link, and its mount has a place of its own.
        let mut direct = Walker::new(&site, "@/direct");
        let link = direct.root.clone();
        let place = site.text("@/stage@/direct");
        assert_eq!(direct.follow(&link).unwrap(), place);
        assert!(fs::exists(format!("{place}/file")).unwrap());
        // What users see is what is spoken of.
        let status = site.piton_ok(&["status"]);
        assert!(status.contains(&site.text("  @/direct  ")), "{status}");
        site.piton_ok(&["unmount", "@/direct"]);
        assert!(!fs::exists(&place).unwrap());
        assert_eq!(direct.follow(&link).unwrap(), place);
        site.end();
    });
}

#[test]
fn keys_that_name_directories_of_one_have_one_mount() {
    in_private_network(|| {
        let files = [
            ("auto.master", MASTER),
            (
                "auto.home",
                "mike localhost:@/srv:mike\ndianna localhost:@/srv:dianna\n",
            ),
            ("auto.all", ""),
            ("auto.direct", ""),
            ("srv/mike/letter", "of mike"),
            ("srv/dianna/letter", "of dianna"),
        ];
        let site = links(&files, &["--dialect", "sun"]);
        let mut home = Walker::new(&site, "@/home");
        let letter = |target: BString| fs::read_to_string(format!("{target}/letter")).unwrap();
        for (key, text) in [("mike", "of mike"), ("dianna", "of dianna")] {
            let target = home.walk(key).unwrap();
            assert_eq!(target, site.text(&format!("@/stage@/home/{key}")));
            assert_eq!(letter(target), text);
            assert_eq!(site.mounts().len(), 1, "{:?}", site.mounts());
        }
        // A successor knows who uses it.
        kill_process(pid(&site, "daemon"), Signal::KILL).unwrap();
        assert_eq!(letter(home.walk("dianna").unwrap()), "of dianna");
        // What a dead one left to nobody is not left for ever.
        let share = site.mounts().remove(0);
        let share = site.at(share.split(' ').next().unwrap().trim_start_matches('/'));
        let orphan = share.with_file_name("nobody");
        fs::create_dir(&orphan).unwrap();
        let arguments = [
            "-t".as_ref(),
            "tmpfs".as_ref(),
            "t".as_ref(),
            orphan.as_os_str(),
        ];
        assert!(
            Command::new("mount")
                .args(arguments)
                .status()
                .unwrap()
                .success()
        );
        kill_process(pid(&site, "daemon"), Signal::KILL).unwrap();
        site.wait("it goes", |site| {
            site.mounts().len() == 1 && !orphan.exists()
        });
        site.piton_ok(&["unmount", "@/home/mike"]);
        assert_eq!(site.mounts().len(), 1, "dianna is there");
        assert_eq!(listed(&site, "@/home"), ["dianna"]);
        site.piton_ok(&["unmount", "@/home/dianna"]);
        assert_eq!(site.mounts(), [] as [&str; 0]);
        assert_eq!(letter(home.walk("mike").unwrap()), "of mike");
        home.walk("dianna").unwrap();
        let mut site = site;
        site.signal(Signal::TERM);
        site.wait_for_end();
        assert_eq!(site.mounts(), [] as [&str; 0]);
        assert!(!site.at("stage").exists(), "what was made is removed");
    });
}

#[test]
fn errors_arrive_and_absent_names_are_absent() {
    in_private_network(|| {
        let site = usual(&[]);
        let mut home = Walker::new(&site, "@/home");
        assert_eq!(home.walk("nobody"), Err(ENOENT));
        site.write("auto.home", "wrong -fstype=bind :@/not/there\n");
        site.piton_ok(&["reload"]);
        let wrong = home.look_up("wrong").expect("the map has it");
        assert_eq!(home.follow(&wrong), Err(ENOENT));
        let trace = site.piton_ok(&["trace", "--recent"]);
        assert!(trace.contains("exists"), "{trace}");
        site.end();
    });
}

/// Mounts, but not what is called slow.
const SLOW: &str = "#!/bin/sh
case \"$*\" in *slow*) sleep 60;; esac
for last; do :; done
exec mount -t tmpfs t \"$last\"
";

#[test]
fn r_262_a_slow_server_delays_no_other_key() {
    in_private_network(|| {
        let site = Site::new(&[
            ("auto.master", MASTER),
            ("auto.home", "slow -fstype=tmpfs :t\n* -fstype=tmpfs :t\n"),
            ("auto.all", ""),
            ("auto.direct", ""),
            ("prog", SLOW),
        ]);
        let options = [
            "--serve-only",
            "--staging",
            "@/stage",
            "--mount-program",
            "@/prog",
        ];
        let mut site = site.with_options(&[&options[..], &["--deadline", "12"]].concat());
        site.start();
        let mut home = Walker::new(&site, "@/home");
        let begun = Instant::now();
        // That it exists is known at once.
        let link = home.look_up("slow").unwrap();
        assert!(begun.elapsed() < Duration::from_secs(10));
        let mut other = Walker::new(&site, "@/home");
        let slow = thread::spawn(move || (other.follow(&link), Instant::now()));
        thread::sleep(Duration::from_millis(100));
        for number in 0..5 {
            home.walk(&format!("key{number}")).unwrap();
        }
        let others = Instant::now();
        // The slow one is answered at its deadline: NFS has no word for why.
        let (answer, at) = slow.join().unwrap();
        assert_eq!(answer, Err(EIO));
        assert!(others < at, "the others were there first");
        let waited = at - begun;
        assert!(
            waited >= Duration::from_secs(11) && waited < LIMIT,
            "{waited:?}"
        );
    });
}

#[test]
fn r_257_clients_of_a_killed_daemon_are_answered_and_their_handles_stay_good() {
    in_private_network(|| {
        let site = usual(&[]);
        let mut home = Walker::new(&site, "@/home");
        let ann = home.look_up("ann").unwrap();
        let target = home.follow(&ann).unwrap();
        fs::write(format!("{target}/letter"), "dear").unwrap();
        home.walk("tree").unwrap();
        let before = site.mounts();
        let waits = (0..3).map(|_| {
            let daemon = pid(&site, "daemon");
            kill_process(daemon, Signal::KILL).unwrap();
            let begun = Instant::now();
            // What is mounted leads where it led; what is not is mounted.
            assert_eq!(home.follow(&ann).unwrap(), target);
            assert_eq!(home.walk("nobody"), Err(ENOENT));
            let waited = begun.elapsed();
            assert_ne!(pid(&site, "daemon"), daemon);
            waited
        });
        // What else the machine does only adds to it.
        let waits: Vec<Duration> = waits.collect();
        assert!(waits.iter().any(|waited| *waited < SOON), "{waits:?}");
        assert_eq!(
            site.mounts(),
            before,
            "all is taken over, nothing mounted twice"
        );
        assert_eq!(
            fs::read_to_string(format!("{target}/letter")).unwrap(),
            "dear"
        );
        let data = home.walk("data").unwrap();
        assert!(fs::exists(format!("{data}/file")).unwrap());
        // It goes on as a whole, too.
        site.piton_ok(&["expire"]);
        assert_eq!(site.mounts(), [] as [&str; 0]);
        site.end();
    });
}

#[test]
fn clients_of_a_stopped_daemon_are_answered_by_the_next_one() {
    in_private_network(|| {
        let site = usual(&[]);
        let mut home = Walker::new(&site, "@/home");
        let ann = home.look_up("ann").unwrap();
        let target = home.follow(&ann).unwrap();
        let daemon = pid(&site, "daemon");
        kill_process(daemon, Signal::STOP).unwrap();
        // One thread stops after the other; those that still run would answer.
        site.wait("all of it is stopped", |_| {
            let tasks = fs::read_dir(format!("/proc/{}/task", daemon.as_raw_nonzero()));
            let stat = |task: fs::DirEntry| fs::read_to_string(task.path().join("stat"));
            let runs = |stat: String| !stat.contains(") T ");
            let mut tasks = tasks.into_iter().flatten().flatten();
            !tasks.any(|task| stat(task).is_ok_and(runs))
        });
        assert_eq!(home.follow(&ann).unwrap(), target);
        assert_ne!(pid(&site, "daemon"), daemon);
        site.end();
    });
}

#[test]
fn a_daemon_whose_keeper_died_too_is_followed_at_the_same_port() {
    in_private_network(|| {
        let mut site = usual(&[]);
        let mut home = Walker::new(&site, "@/home");
        let ann = home.look_up("ann").unwrap();
        let target = home.follow(&ann).unwrap();
        site.kill();
        site.start();
        assert_eq!(port(&site), home.port);
        assert_eq!(home.follow(&ann).unwrap(), target);
        assert_eq!(site.count(&site.text("stage@/home/ann")), 1);
        site.end();
    });
}

#[test]
fn what_is_unmounted_by_hand_is_noticed() {
    in_private_network(|| {
        let site = usual(&[]);
        let mut home = Walker::new(&site, "@/home");
        let target = home.walk("ann").unwrap();
        for _ in 0..2 {
            let done = Command::new("umount").arg(target.to_string()).status();
            assert!(done.unwrap().success());
            site.wait("it is noticed", |site| {
                home.walk("ann").unwrap();
                site.count(&site.text("stage@/home/ann")) == 1
            });
        }
        site.end();
    });
}

#[test]
fn what_is_unmounted_by_hand_is_mounted_again_after_a_reload() {
    in_private_network(|| {
        let site = usual(&[]);
        let mut home = Walker::new(&site, "@/home");
        let target = home.walk("ann").unwrap();
        let done = Command::new("umount").arg(target.to_string()).status();
        assert!(done.unwrap().success());
        site.signal(Signal::HUP);
        site.wait("it is noticed", |site| {
            home.walk("ann").unwrap();
            site.count(&site.text("stage@/home/ann")) == 1
        });
        site.end();
    });
}
