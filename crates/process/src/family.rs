//! Ending a process with all its descendants.
//!
//! There is no process group to kill: what we start shares ours, since those outside of it would
//! trigger the very automount they are to serve. So descendants are found through /proc. Each process
//! is stopped before its children are listed, so that the list is complete; while a parent is stopped
//! and not reaped, its children's numbers are not used again. What has been handed to another parent
//! by then is found by what it holds: the pipe for the program's output. What has let go of that too
//! (a daemon, a FUSE server gone to the background) is left alone.

use std::fs;
use std::os::fd::BorrowedFd;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use rustix::fs::fstat;
use rustix::process::{
    Pid, PidfdFlags, Signal, getpid, kill_process, pidfd_open, pidfd_send_signal,
};

use crate::limits::{FAMILY, STILL_MOST};
use crate::list::everybody;
use crate::stat::Stat;

/// Kills `child`, which must be a child of this process that has not been waited for, and its
/// descendants: its children and theirs, and whoever writes to the other end of one of the pipes
/// `output` as to its standard output or error. The child is left to be reaped.
pub fn kill_family(child: Pid, output: &[BorrowedFd<'_>]) {
    for pid in still_family(child, output, FAMILY).into_iter().rev() {
        let _gone = kill_process(pid, Signal::KILL);
    }
}

/// The children of all threads of a process, from the kernel's list where it has one, else by asking
/// everybody.
pub fn children(parent: Pid) -> Vec<Pid> {
    by_list(parent).unwrap_or_else(|| by_parent(parent))
}

/// Stops a family; up to about `most` of them. The first is `child`, parents stand before their
/// children.
fn still_family(child: Pid, output: &[BorrowedFd<'_>], most: usize) -> Vec<Pid> {
    let _gone = kill_process(child, Signal::STOP);
    let mut found = vec![child];
    // A signal needs a moment to arrive, in which a child may be born: look again until all are
    // still and there is nobody new.
    let until = Instant::now() + STILL_MOST;
    while found.len() < most {
        let before = found.len();
        let mut next = 0;
        while next < found.len() && found.len() < most {
            let parent = found[next];
            next += 1;
            for pid in children(parent) {
                stop(pid, &mut found, |stat| stat.parent == Some(parent));
            }
        }
        let pipes = names(output);
        for pid in writers(&pipes) {
            stop(pid, &mut found, |_| writes(pid, &pipes));
        }
        let all_still = found.iter().all(|pid| is_still(*pid));
        if found.len() == before && (all_still || Instant::now() > until) {
            break;
        }
        if !all_still {
            std::thread::sleep(Duration::from_millis(1));
        }
    }
    found
}

/// Whether a process can have no more children: it is stopped, dead, or in the kernel for long.
fn is_still(process: Pid) -> bool {
    Stat::of(process).is_none_or(|stat| !matches!(stat.state, b'R' | b'S'))
}

/// Stops a process that was found, if it is still what it was found for.
fn stop(pid: Pid, found: &mut Vec<Pid>, is_it: impl FnOnce(Stat) -> bool) {
    if found.contains(&pid) {
        return;
    }
    // A descriptor pins the process, so that its number still means the same after the second
    // look.
    let Ok(descriptor) = pidfd_open(pid, PidfdFlags::empty()) else {
        return;
    };
    if Stat::of(pid).is_some_and(is_it) {
        let _gone = pidfd_send_signal(&descriptor, Signal::STOP);
        found.push(pid);
    }
}

/// The processes whose standard output or error is the other end of one of these pipes.
fn writers(pipes: &[PathBuf]) -> Vec<Pid> {
    if pipes.is_empty() {
        return Vec::new();
    }
    let us = getpid();
    everybody()
        .into_iter()
        .flatten()
        .filter(|process| *process != us && writes(*process, pipes))
        .collect()
}

/// The names of pipes in /proc.
fn names(pipes: &[BorrowedFd<'_>]) -> Vec<PathBuf> {
    let name = |pipe| Some(format!("pipe:[{}]", fstat(pipe).ok()?.st_ino).into());
    pipes.iter().filter_map(name).collect()
}

fn writes(process: Pid, pipes: &[PathBuf]) -> bool {
    ["1", "2"].iter().any(|fd| {
        let link = format!("/proc/{process}/fd/{fd}");
        fs::read_link(link).is_ok_and(|file| pipes.contains(&file))
    })
}

/// None where the kernel keeps no such lists, or a thread ends meanwhile.
fn by_list(parent: Pid) -> Option<Vec<Pid>> {
    let mut all = Vec::new();
    for task in fs::read_dir(format!("/proc/{parent}/task")).ok()?.flatten() {
        let list = fs::read_to_string(task.path().join("children")).ok()?;
        let numbers = list.split_whitespace().flat_map(str::parse);
        all.extend(numbers.filter_map(Pid::from_raw));
    }
    Some(all)
}

/// All processes whose parent is `parent`.
fn by_parent(parent: Pid) -> Vec<Pid> {
    let is_child = |it: &Pid| Stat::of(*it).is_some_and(|stat| stat.parent == Some(parent));
    everybody().into_iter().flatten().filter(is_child).collect()
}

#[cfg(test)]
mod tests {
    use std::io::Read;
    use std::os::fd::AsFd;
    use std::os::unix::process::ExitStatusExt;
    use std::process::{Child, Command, Stdio};

    use super::*;

    /// A shell that says `ready` once it has done what it was told, and stays.
    fn shell(script: &str) -> Child {
        let mut child = Command::new("/bin/sh")
            .args(["-c", &format!("{script}\necho ready >&2; wait; sleep 100")])
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let mut said = [0; 6];
        child
            .stderr
            .as_mut()
            .unwrap()
            .read_exact(&mut said)
            .unwrap();
        assert_eq!(&said, b"ready\n");
        child
    }

    /// Reads until nobody has the other end of the pipe any more.
    fn all_are_gone(mut child: Child) {
        let mut rest = Vec::new();
        child.stdout.take().unwrap().read_to_end(&mut rest).unwrap();
        assert_eq!(child.wait().unwrap().signal(), Some(9));
    }

    #[test]
    fn both_ways_find_our_children() {
        let mut child = Command::new("sleep").arg("100").spawn().unwrap();
        let pid = Pid::from_child(&child);
        let us = getpid();
        assert!(children(us).contains(&pid));
        assert!(by_parent(us).contains(&pid));
        kill_family(pid, &[]);
        assert_eq!(child.wait().unwrap().signal(), Some(9));
    }

    #[test]
    fn children_and_theirs_are_killed() {
        let child = shell("sleep 101 & (sleep 102 & sleep 103; sleep 104) &");
        kill_family(Pid::from_child(&child), &[]);
        all_are_gone(child);
    }

    #[test]
    fn who_was_handed_to_another_parent_is_found_by_the_pipe() {
        let child = shell("(sleep 105 &)");
        let output = child.stdout.as_ref().unwrap().as_fd();
        kill_family(Pid::from_child(&child), &[output]);
        all_are_gone(child);
    }

    #[test]
    fn no_more_are_looked_for_than_the_limit_says() {
        let child = shell("sleep 106 & sleep 107 & sleep 108 & sleep 109 &");
        let pid = Pid::from_child(&child);
        assert_eq!(still_family(pid, &[], 1), [pid]);
        // The children of one process are taken together.
        assert_eq!(still_family(pid, &[], 2).len(), 5);
        kill_family(pid, &[]);
        all_are_gone(child);
    }
}
