//! File systems mounted by root.

mod site;

use std::ffi::OsStr;
use std::fs;
use std::os::unix::fs::symlink;
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use piton_fuse::{Dead, Error, Mount, clear};
use piton_loopback::{Purpose, RootId, RootKind, Tree};
use piton_testkit::{Access, Scratch, mounted_at, privately, wait_until};
use rustix::io::Errno;
use rustix::process::{Pid, Signal, kill_process};

use site::*;

struct Site {
    scratch: Scratch,
    tree: Tree,
    desk: Arc<Desk>,
    mount: Mount,
}

fn site(names: usize) -> Site {
    let scratch = Scratch::new();
    let (tree, desk) = (tree(names), Arc::new(Desk::default()));
    let path = scratch.directory("net");
    let mount = Mount::start(settings(&path, &tree, desk.clone())).unwrap();
    Site {
        scratch,
        tree,
        desk,
        mount,
    }
}

impl Site {
    fn at(&self, name: &str) -> String {
        self.scratch.at(&format!("net/{name}"))
    }

    /// Has a key lead to a file of its own name.
    fn link(&self, name: &str) {
        let file = self.scratch.file(&format!("there/{name}"), name);
        let target = file.as_str().into();
        self.tree.link(HOME, name.into(), target).unwrap();
    }
}

fn names(path: &str) -> Vec<String> {
    let entries = fs::read_dir(path).unwrap();
    let mut names: Vec<String> = entries
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    names.sort();
    names
}

#[test]
fn a_thousand_keys_are_shown_without_a_question_and_lead_where_they_should() {
    privately(|| {
        let site = site(1000);
        let expected: Vec<String> = (0..1000).map(key).collect();
        assert_eq!(names(&site.at("")), expected);
        let line = mounted_at(site.mount.path()).unwrap();
        assert_eq!(line.fstype, "fuse.piton");
        for option in ["ro", "nosuid", "nodev", "default_permissions"] {
            assert!(line.has(option), "{line:?}");
        }
        for name in &expected {
            let meta = fs::symlink_metadata(site.at(name)).unwrap();
            assert!(meta.is_symlink());
        }
        assert!(site.desk.is_empty(), "looking asks nobody");
        for name in &expected {
            site.link(name);
        }
        for name in &expected {
            assert_eq!(&fs::read_to_string(site.at(name)).unwrap(), name);
        }
        assert!(site.desk.is_empty());
    });
}

#[test]
fn a_hundred_thousand_names_are_listed() {
    privately(|| {
        let site = site(100_000);
        assert_eq!(names(&site.at("")).len(), 100_000);
        // It is listed anew each time.
        site.tree.list(HOME, ["one".into()]).unwrap();
        assert_eq!(names(&site.at("")), ["one"]);
    });
}

#[test]
fn a_slow_key_delays_no_other() {
    privately(|| {
        let site = site(1000);
        site.link("key999");
        // One waits for a look-up, one for where a link leads.
        let looking = Access::read(site.at("slow"));
        let slow = site.desk.expect("slow", Purpose::LookUp);
        let following = Access::read(site.at("key000"));
        let slow_too = site.desk.expect("key000", Purpose::Follow);
        assert_eq!(names(&site.at("")).len(), 1000);
        assert_eq!(fs::read_to_string(site.at("key999")).unwrap(), "key999");
        for n in 1..100 {
            let name = format!("new{n}");
            let access = Access::read(site.at(&name));
            site.desk.expect(&name, Purpose::LookUp).ready();
            let follow = site.desk.expect(&name, Purpose::Follow);
            site.link(&name);
            follow.ready();
            assert_eq!(access.wait(PATIENCE).text, name);
        }
        site.link("key000");
        slow_too.ready();
        assert_eq!(following.wait(PATIENCE).text, "key000");
        slow.fail(Errno::HOSTDOWN);
        let answer = looking.wait(PATIENCE);
        assert_eq!(answer.errno, Some(Errno::HOSTDOWN.raw_os_error()));
    });
}

#[test]
fn a_link_that_changes_is_seen_at_the_next_access() {
    privately(|| {
        let site = site(0);
        let link = |target: &str| site.tree.link(HOME, "ann".into(), target.into()).unwrap();
        let target = || fs::read_link(site.at("ann")).unwrap();
        for round in 0..50 {
            for target_now in [format!("/one/{round}"), format!("/other/{round}")] {
                link(&target_now);
                assert_eq!(target(), PathBuf::from(&target_now));
                let size = fs::symlink_metadata(site.at("ann")).unwrap().len();
                assert_eq!(size, target_now.len() as u64);
            }
        }
        assert_eq!(names(&site.at("")), ["ann"]);
        // It leads nowhere: the next access is a question again.
        assert!(site.tree.unlink(HOME, "ann".into()));
        assert!(names(&site.at("")).is_empty());
        let access = Access::read(site.at("ann"));
        // Once whether what the kernel knew is still there, and once for what may be there now.
        for _ in ["known", "new"] {
            site.desk.expect("ann", Purpose::LookUp).fail(Errno::NOENT);
        }
        assert_eq!(access.wait(PATIENCE).errno, Some(2));
        // What was absent is not remembered.
        link("/again");
        assert_eq!(target(), PathBuf::from("/again"));
    });
}

#[test]
fn errors_keep_their_meaning_and_a_dropped_duty_is_one() {
    privately(|| {
        let site = site(0);
        let errnos = [
            Errno::NOENT,
            Errno::ACCESS,
            Errno::TIMEDOUT,
            Errno::HOSTDOWN,
        ];
        for errno in errnos {
            let access = Access::read(site.at("ann"));
            site.desk.expect("ann", Purpose::LookUp).fail(errno);
            let answer = access.wait(PATIENCE);
            assert_eq!(answer.errno, Some(errno.raw_os_error()));
        }
        let access = Access::read(site.at("ann"));
        drop(site.desk.expect("ann", Purpose::LookUp));
        let errno = Some(Errno::IO.raw_os_error());
        assert_eq!(access.wait(PATIENCE).errno, errno);
        let access = Access::read(site.at("ann"));
        site.desk.expect("ann", Purpose::LookUp).ready();
        drop(site.desk.expect("ann", Purpose::Follow));
        assert_eq!(access.wait(PATIENCE).errno, errno);
    });
}

#[test]
fn the_owner_is_told_who_asks() {
    privately(|| {
        let site = site(0);
        let path = site.at("ann");
        let mut child = as_nobody("cat", &[&path])
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let (access, duty) = site.desk.next();
        let caller = access.caller;
        assert_eq!((caller.uid, caller.gid), (NOBODY, NOBODY));
        assert_eq!(caller.pid, child.id());
        duty.fail(Errno::NOENT);
        child.wait().unwrap();
    });
}

#[test]
fn ten_who_come_at_once_are_all_answered() {
    privately(|| {
        let site = site(0);
        let come = || Access::read(site.at("ann"));
        let accesses: Vec<Access> = (0..10).map(|_| come()).collect();
        thread::scope(|scope| {
            let waiting = scope.spawn(|| {
                let answers = accesses.into_iter().map(|access| access.wait(PATIENCE));
                answers.map(|answer| answer.text).collect::<Vec<_>>()
            });
            // Each asks, unless others have been answered before.
            while !waiting.is_finished() {
                if site.desk.is_empty() {
                    thread::sleep(Duration::from_millis(1));
                    continue;
                }
                let (access, duty) = site.desk.next();
                if access.purpose == Purpose::Follow {
                    site.link("ann");
                }
                duty.ready();
            }
            assert_eq!(waiting.join().unwrap(), vec!["ann"; 10]);
        });
    });
}

#[test]
fn nothing_can_be_changed() {
    privately(|| {
        let scratch = Scratch::new();
        let tree = tree(2);
        let path = scratch.directory("net");
        let rules = Rules::new(&tree, &scratch.directory("there"));
        let _mount = Mount::start(settings(&path, &tree, rules)).unwrap();
        let (old, new) = (format!("{path}/key000"), format!("{path}/absent"));
        let refused = [
            fs::create_dir(&new),
            fs::write(&new, "text"),
            symlink("target", &new),
            fs::rename(&old, &new),
            fs::hard_link(&old, &new),
            fs::remove_file(&old),
            fs::remove_dir(&old),
            std::os::unix::fs::lchown(&old, Some(1), Some(1)),
        ];
        for refused in refused {
            let errno = refused.unwrap_err().raw_os_error();
            assert_eq!(errno, Some(Errno::ROFS.raw_os_error()));
        }
    });
}

#[test]
fn who_waits_can_be_killed_and_other_signals_change_nothing() {
    privately(|| {
        let site = site(0);
        // A program that goes on after the one signal, and ends by the other.
        let script = "import os, signal, sys\n\
                      signal.signal(signal.SIGUSR1, lambda *_: None)\n\
                      os.stat(sys.argv[1])";
        let mut child = Command::new("python3")
            .args(["-c", script, &site.at("ann")])
            .spawn()
            .unwrap();
        let pid = Pid::from_child(&child);
        let duty = site.desk.expect("ann", Purpose::LookUp);
        kill_process(pid, Signal::USR1).unwrap();
        thread::sleep(Duration::from_millis(500));
        assert!(child.try_wait().unwrap().is_none());
        assert!(site.desk.is_empty(), "the same call still waits");
        kill_process(pid, Signal::TERM).unwrap();
        wait_until("it has ended", PATIENCE, || {
            child.try_wait().unwrap().is_some()
        });
        // One signal is enough, if it is the one. (Not INT: who was started in the background
        // ignores it, and so would cat.)
        let mut other = Command::new("cat").arg(site.at("bob")).spawn().unwrap();
        let late = site.desk.expect("bob", Purpose::LookUp);
        kill_process(Pid::from_child(&other), Signal::TERM).unwrap();
        wait_until("the other has ended", PATIENCE, || {
            other.try_wait().unwrap().is_some()
        });
        drop(late);
        // The answer comes too late for anybody, and does no harm.
        duty.ready();
        assert!(names(&site.at("")).is_empty());
        assert!(site.mount.is_served());
    });
}

#[test]
fn dropped_it_is_unmounted_and_who_waits_gets_an_error() {
    privately(|| {
        let site = site(3);
        let path = site.scratch.at("net");
        let access = Access::read(site.at("ann"));
        let duty = site.desk.expect("ann", Purpose::LookUp);
        drop(site.mount);
        assert_eq!(mounted_at(&path), None);
        let errno = access.wait(PATIENCE).errno;
        assert!(matches!(errno, Some(103 | 107)), "{errno:?}");
        duty.ready();
        assert!(names(&path).is_empty());
    });
}

#[test]
fn unmounted_by_somebody_else_it_leaves_in_peace_what_is_there_now() {
    privately(|| {
        let site = site(3);
        let path = site.scratch.at("net");
        let umount = Command::new("umount").arg(&path).status().unwrap();
        assert!(umount.success());
        wait_until("it notices", PATIENCE, || !site.mount.is_served());
        let tree = tree(2);
        let desk = Arc::new(Desk::default());
        let other = Mount::start(settings(&path, &tree, desk)).unwrap();
        drop(site.mount);
        assert_eq!(names(&path).len(), 2);
        drop(other);
        assert_eq!(mounted_at(&path), None);
    });
}

#[test]
fn what_a_dead_server_leaves_is_cleared() {
    if serves() {
        return;
    }
    privately(|| {
        let test = "what_a_dead_server_leaves_is_cleared";
        let scratch = Scratch::new();
        let served = Served::start(test, &scratch, 0);
        let path = served.path.clone();
        assert_eq!(names(&path).len(), 1000);
        let alive = clear(path.as_ref()).unwrap();
        assert_eq!(alive, Dead::Nothing, "what lives is left");
        let waiting = Access::read(scratch.at("net/slow"));
        served.kill();
        let errno = waiting.wait(PATIENCE).errno;
        assert!(matches!(errno, Some(103 | 107)), "{errno:?}");
        let errno = fs::read_dir(&path).unwrap_err().raw_os_error();
        assert_eq!(errno, Some(Errno::NOTCONN.raw_os_error()));
        assert_eq!(clear(path.as_ref()).unwrap(), Dead::Cleared);
        assert_eq!(mounted_at(&path), None);
        // A successor does that by himself.
        Served::start(test, &scratch, 0).kill();
        let successor = Served::start(test, &scratch, 0);
        assert_eq!(names(&path).len(), 1000);
        successor.end();
        assert_eq!(mounted_at(&path), None, "the dead one is gone as well");
    });
}

#[test]
fn what_is_no_directory_is_refused_and_nothing_is_left() {
    privately(|| {
        let scratch = Scratch::new();
        let tree = tree(0);
        let link = RootId(2);
        tree.add(link, "/usr/man".into(), RootKind::Link, 0)
            .unwrap();
        let path = scratch.directory("net");
        let desk = Arc::new(Desk::default());
        let mut wrong = settings(&path, &tree, desk.clone());
        wrong.root = link;
        let refused = Mount::start(wrong).unwrap_err();
        assert!(matches!(refused, Error::NoDirectory(_)), "{refused}");
        let file = scratch.file("file", "");
        let refused = Mount::start(settings(&file, &tree, desk)).unwrap_err();
        let text = refused.to_string();
        assert!(text.contains(&file), "{text}");
        for path in [path, file] {
            assert_eq!(mounted_at(OsStr::new(&path)), None);
        }
    });
}
