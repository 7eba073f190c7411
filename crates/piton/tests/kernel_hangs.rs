//! What hangs: a FUSE file system that never answers, a mount helper that sleeps for ever, an
//! executable map that does. Who waits for it is answered at the deadline, nobody else is kept
//! waiting, and nothing is left behind.

#[allow(dead_code, reason = "each test program uses a part of it")]
mod site;

use std::fs;
use std::path::PathBuf;
use std::process::Command;
use std::time::{Duration, Instant};

use piton_control::message::Status;
use piton_process::{Stat, about, everybody};
use piton_testkit::{Access, BadFuse, Silence, privately, wait_until};
use rustix::process::{Pid, Signal};
use site::{LIMIT, Site};

const ENOTCONN: i32 = 107;
const ETIMEDOUT: i32 = 110;

/// Accesses that hang at the same time.
const HANGING: usize = 64;

/// Other keys that are touched meanwhile; as many before, and again if something else disturbs.
const OTHERS: usize = 40;

/// How often it is measured whether others wait.
const TRIALS: usize = 3;

/// The daemon's deadline in seconds: all that hang are at it by then, even on a busy machine.
const DEADLINE: &str = "10";

/// `IN_ALL_LANES` of the daemon's bounds is more: all that hang are at it at once.
const AT_ONCE: usize = HANGING;

/// Threads that a daemon has at rest or for other work, on the safe side.
const OTHER_THREADS: usize = 16;

/// Memory that a thread or process of a lane may cost, and what a daemon may grow by in any case.
const GROWTH_KIB: u64 = 16 << 10;

fn others() -> String {
    let line = |number| format!("k{number} -fstype=bind :@/srv/k{number}\n");
    (0..(1 + TRIALS) * OTHERS).map(line).collect()
}

fn site(maps: &[(&str, &str)], options: &[&str]) -> Site {
    let site = Site::new(&[("auto.master", "@/m @/auto.m\n@/o @/auto.o\n")]).with_options(options);
    site.write("auto.o", &others());
    for number in 0..(1 + TRIALS) * OTHERS {
        site.write(&format!("srv/k{number}/file"), "");
    }
    for (name, text) in maps {
        site.write(name, text);
    }
    site
}

/// A daemon as the system sees it.
struct Daemon {
    pid: i32,
    fds: usize,
    memory: u64,
}

impl Daemon {
    fn of(site: &Site) -> Self {
        let status: Status = serde_json::from_str(&site.piton_ok(&["status", "--json"])).unwrap();
        let pid = i32::try_from(status.daemon.pid).unwrap();
        let mut daemon = Self {
            pid,
            fds: 0,
            memory: 0,
        };
        daemon.fds = daemon.entries("fd");
        daemon.memory = daemon.resident();
        daemon
    }

    fn proc(&self) -> PathBuf {
        format!("/proc/{}", self.pid).into()
    }

    fn entries(&self, directory: &str) -> usize {
        fs::read_dir(self.proc().join(directory)).unwrap().count()
    }

    fn threads(&self) -> Vec<String> {
        let tasks = fs::read_dir(self.proc().join("task")).unwrap().flatten();
        let name = |task: fs::DirEntry| fs::read_to_string(task.path().join("comm")).ok();
        tasks.filter_map(name).collect()
    }

    fn resident(&self) -> u64 {
        let status = fs::read_to_string(self.proc().join("status")).unwrap();
        let line = status
            .lines()
            .find(|line| line.starts_with("VmRSS:"))
            .unwrap();
        line.split_whitespace().nth(1).unwrap().parse().unwrap()
    }

    /// Processes below it, their number and the name of each.
    fn descendants(&self) -> Vec<(i32, String)> {
        let all = processes();
        let mut found = vec![self.pid];
        let mut next = 0;
        while next < found.len() {
            let parent = found[next];
            found.extend(all.iter().filter(|it| it.parent == parent).map(|it| it.pid));
            next += 1;
        }
        let named = |it: &Process| (it.pid, it.name.clone());
        let below = |it: &&Process| it.pid != self.pid && found.contains(&it.pid);
        all.iter().filter(below).map(named).collect()
    }
}

struct Process {
    pid: i32,
    parent: i32,
    name: String,
}

/// The processes of this mount namespace that are not dead.
fn processes() -> Vec<Process> {
    let ours = about::namespace(std::process::id());
    let all = everybody().unwrap().filter_map(|process| {
        let pid = process.as_raw_pid();
        let stat = Stat::of(process)?;
        let name = about::name(pid.unsigned_abs())?.to_string();
        let parent = stat.parent.map_or(0, Pid::as_raw_pid);
        let here = !stat.is_dead() && about::namespace(pid.unsigned_abs()) == ours;
        here.then_some(Process { pid, parent, name })
    });
    all.collect()
}

fn any_process(name: &str) -> bool {
    processes().iter().any(|process| process.name == name)
}

/// Touches keys one after the other; the slowest but one in a hundred, which here is the slowest.
fn p99(site: &Site, keys: std::ops::Range<usize>) -> Duration {
    keys.map(|number| {
        let begun = Instant::now();
        assert_eq!(site.names(&format!("o/k{number}")), ["file"]);
        begun.elapsed()
    })
    .max()
    .unwrap()
}

/// 64 accesses of `m/hang…` hang, while other keys are touched; then each is answered at its
/// deadline, and nothing is left of them.
fn others_do_not_wait(site: &Site, before: &Daemon, below_each: usize) {
    let alone = p99(site, 0..OTHERS);
    let begun = Instant::now();
    let mut waiting: Vec<Access> = (0..HANGING)
        .map(|number| Access::list(site.at(&format!("m/hang{number}"))))
        .collect();
    let daemon = Daemon::of(site);
    wait_until("all are at it", LIMIT, || {
        daemon.descendants().len() >= AT_ONCE
    });
    // What else the machine does only adds to it.
    let mut trials = (1..=TRIALS).map(|trial| p99(site, trial * OTHERS..(trial + 1) * OTHERS));
    let most = 10 * alone + Duration::from_millis(50);
    let beside = trials.find(|beside| *beside < most);
    assert!(waiting.iter_mut().all(Access::is_waiting), "all still hang");
    assert!(
        beside.is_some(),
        "more than {most:?} while others hang, {alone:?} without"
    );
    let below = daemon.descendants();
    assert!(below.len() <= AT_ONCE * below_each + 2, "{below:?}");
    let threads = daemon.entries("task");
    let names = daemon.threads();
    assert!(
        threads <= AT_ONCE + OTHER_THREADS,
        "{threads} threads: {names:?}"
    );
    let grown = daemon.resident().saturating_sub(before.memory);
    assert!(grown < GROWTH_KIB, "{grown} KiB more");

    for access in waiting {
        assert_eq!(access.wait(LIMIT).errno, Some(ETIMEDOUT), "{}", site.log());
    }
    // All began within a moment.
    let took = begun.elapsed();
    assert!(took < LIMIT, "{took:?}");
}

/// All that hung is over: threads, processes and descriptors are what they were before.
fn all_is_as_before(site: &Site, before: &Daemon) {
    let daemon = Daemon::of(site);
    // They are looked after every ten seconds, and kept for as long.
    wait_until("workers end", LIMIT * 2, || daemon.descendants().is_empty());
    let threads = before.entries("task").max(OTHER_THREADS);
    wait_until("threads end", LIMIT, || daemon.entries("task") <= threads);
    // The status itself takes one, for a moment.
    wait_until("descriptors are closed", LIMIT, || {
        daemon.entries("fd") <= before.fds + 1
    });
    assert_eq!(
        site.mounts()
            .iter()
            .filter(|it| it.starts_with("/m/"))
            .count(),
        0
    );
}

#[test]
fn a_file_system_that_never_answers_keeps_nobody_else_waiting() {
    privately(|| {
        let map: String = (0..HANGING)
            .map(|number| format!("hang{number} -fstype=bind :@/fuse/x{number}\n"))
            .collect();
        let mut site = site(&[("auto.m", &map)], &["--deadline", DEADLINE]);
        fs::create_dir(site.at("fuse")).unwrap();
        let mut fuse = BadFuse::mount(site.at("fuse"), Silence::Taken);
        site.start();
        let before = Daemon::of(&site);
        others_do_not_wait(&site, &before, 1);
        assert!(fuse.unanswered() > 0);
        fuse.die();
        all_is_as_before(&site, &before);
        drop(fuse);
        site.end();
        wait_until("no worker is left", LIMIT, || !any_process("piton-worker"));
    });
}

#[test]
fn what_was_stuck_heals_with_its_server() {
    privately(|| {
        let map = "hang -fstype=bind :@/fuse/x\nfine -fstype=bind :@/fuse/good\n";
        let mut site = site(&[("auto.m", map)], &["--deadline", "20"]);
        fs::create_dir(site.at("fuse")).unwrap();
        let mut fuse = BadFuse::mount(site.at("fuse"), Silence::Deaf);
        site.start();
        let waiting = Access::list(site.at("m/hang"));
        wait_until("it hangs", LIMIT, || fuse.unanswered() > 0);
        fuse.die();
        let answer = waiting.wait(LIMIT);
        assert!(matches!(answer.errno, Some(103 | ENOTCONN)), "{answer:?}");
        assert!(answer.took < Duration::from_secs(15), "not at the deadline");
        drop(fuse);
        let fuse = BadFuse::mount(site.at("fuse"), Silence::Taken);
        assert!(site.names("m/fine").is_empty());
        assert!(site.is_mounted("m/fine"));
        drop(fuse);
        site.end();
    });
}

#[test]
fn a_bind_from_a_server_that_fell_silent_is_unmounted_by_a_worker() {
    privately(|| {
        let map = "fine -fstype=bind :@/fuse/good\n";
        let mut site = site(&[("auto.m", map)], &["--deadline", "3"]);
        fs::create_dir(site.at("fuse")).unwrap();
        let fuse = BadFuse::mount(site.at("fuse"), Silence::Taken);
        site.start();
        site.names("m/fine");
        site.piton_ok(&["unmount", "@/m/fine"]);
        assert!(!site.is_mounted("m/fine"));
        site.names("m/fine");
        drop(fuse);
        site.end();
    });
}

#[test]
fn a_mount_helper_that_sleeps_for_ever_keeps_nobody_else_waiting() {
    privately(|| {
        let map: String = (0..HANGING)
            .map(|number| format!("hang{number} -fstype=sleepy :x\n"))
            .collect();
        // Every mount goes through it: those that do not sleep get their turn all the same.
        let program = "#!/bin/sh\ncase \"$*\" in\n\
            *sleepy*) trap '' TERM; sleep 601 & sleep 600;;\n\
            *) exec mount $*;;\nesac\n";
        let maps = [("auto.m", map.as_str()), ("bin/mount", program)];
        let options = ["--deadline", DEADLINE, "--mount-program", "@/bin/mount"];
        let mut site = site(&maps, &options);
        site.start();
        let before = Daemon::of(&site);
        // A worker, the shell, and two that sleep.
        others_do_not_wait(&site, &before, 4);
        all_is_as_before(&site, &before);
        wait_until("nobody sleeps", LIMIT, || !any_process("sleep"));
        site.end();
        wait_until("no worker is left", LIMIT, || !any_process("piton-worker"));
    });
}

#[test]
fn an_executable_map_that_hangs_keeps_nobody_else_waiting() {
    privately(|| {
        // One ignores signals, one has a child, one a grandchild that is nobody's child any more
        // and keeps the output open.
        let program = "#!/bin/sh\ncase \"$1\" in\n\
            hang*[0-3]) trap '' TERM HUP INT; sleep 600;;\n\
            hang*[4-6]) sleep 600 & sleep 601;;\n\
            hang*) (sleep 600 & ); sleep 601;;\n\
            *) exit 1;;\nesac\n";
        let mut site = site(&[("auto.m", program)], &["--deadline", DEADLINE]);
        site.start();
        let before = Daemon::of(&site);
        others_do_not_wait(&site, &before, 3);
        all_is_as_before(&site, &before);
        wait_until("nobody sleeps", LIMIT, || !any_process("sleep"));
        site.end();
    });
}

#[test]
fn workers_do_not_outlive_a_daemon_that_is_killed() {
    privately(|| {
        let map = "hang -fstype=bind :@/fuse/x\nsleep -fstype=sleepy :x\n";
        let mut site = site(&[("auto.m", map)], &["--deadline", "60"]);
        fs::create_dir(site.at("fuse")).unwrap();
        let fuse = BadFuse::mount(site.at("fuse"), Silence::Deaf);
        site.start();
        let _waiting = Access::list(site.at("m/hang"));
        wait_until("it hangs", LIMIT, || fuse.unanswered() > 0);
        assert!(any_process("piton-worker"));
        site.kill();
        wait_until("no worker is left", LIMIT, || !any_process("piton-worker"));
    });
}

#[test]
fn loop_devices_of_an_image_behind_a_silent_server_are_not_left() {
    privately(|| {
        let map = "hang -fstype=squashfs :@/fuse/image\n";
        let mut site = site(&[("auto.m", map)], &["--deadline", "2"]);
        fs::create_dir(site.at("fuse")).unwrap();
        let fuse = BadFuse::mount(site.at("fuse"), Silence::Deaf);
        site.start();
        assert_eq!(
            Access::list(site.at("m/hang")).wait(LIMIT).errno,
            Some(ETIMEDOUT)
        );
        wait_until("no loop device is left", LIMIT, || {
            let devices = Command::new("losetup").arg("--list").output().unwrap();
            !String::from_utf8_lossy(&devices.stdout).contains(&site.root())
        });
        site.signal(Signal::TERM);
        site.wait_for_end();
        drop(fuse);
    });
}
