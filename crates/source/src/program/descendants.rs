//! Killing a program with all its descendants.
//!
//! There is no process group to kill: the program shares ours. So its descendants are found
//! through /proc. Each process is stopped before its children are listed, so that the list is
//! complete; while a parent is stopped and not reaped, its children's numbers are not used
//! again. What has been handed to another parent by then is found by what it holds: the pipe for
//! the program's output. What has let go of that too (a daemon) is left alone.

use std::fs;
use std::os::fd::BorrowedFd;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use rustix::fs::fstat;
use rustix::process::{
    Pid, PidfdFlags, Signal, getpid, kill_process, pidfd_open, pidfd_send_signal,
};

use crate::limits::{DESCENDANTS, STILL_MOST};

/// Kills `child`, which must be a child of this process that has not been waited for, and its
/// descendants.
pub(super) fn kill_tree(child: Pid, output: &[BorrowedFd<'_>]) {
    let _gone = kill_process(child, Signal::STOP);
    let mut found = vec![child];
    // A signal needs a moment to arrive, in which a child may be born: look again until all are
    // still and there is nobody new.
    let until = Instant::now() + STILL_MOST;
    while found.len() < DESCENDANTS {
        let before = found.len();
        let mut next = 0;
        while next < found.len() && found.len() < DESCENDANTS {
            let parent = found[next];
            next += 1;
            for pid in children(parent) {
                stop(pid, &mut found, |pid| parent_of(pid) == Some(parent));
            }
        }
        for pid in writers(output) {
            stop(pid, &mut found, |pid| writes(pid, &pipes(output)));
        }
        let all_still = found.iter().all(|pid| is_still(*pid));
        if found.len() == before && (all_still || Instant::now() > until) {
            break;
        }
        if !all_still {
            std::thread::sleep(Duration::from_millis(1));
        }
    }
    for pid in found.into_iter().rev() {
        let _gone = kill_process(pid, Signal::KILL);
    }
}

/// Whether a process can have no more children: it is stopped, dead, or in the kernel for long.
fn is_still(process: Pid) -> bool {
    stat(process).is_none_or(|stat| !stat.starts_with(['R', 'S']))
}

/// Stops a process that was found, if it is still what it was found for.
fn stop(pid: Pid, found: &mut Vec<Pid>, is_it: impl FnOnce(Pid) -> bool) {
    if found.contains(&pid) {
        return;
    }
    // A descriptor pins the process, so that its number still means the same after the second
    // look.
    let Ok(descriptor) = pidfd_open(pid, PidfdFlags::empty()) else {
        return;
    };
    if is_it(pid) {
        let _gone = pidfd_send_signal(&descriptor, Signal::STOP);
        found.push(pid);
    }
}

/// The processes whose standard output or error is the other end of one of our pipes.
fn writers(output: &[BorrowedFd<'_>]) -> Vec<Pid> {
    let pipes = pipes(output);
    if pipes.is_empty() {
        return Vec::new();
    }
    let us = getpid();
    everybody()
        .filter(|process| *process != us && writes(*process, &pipes))
        .collect()
}

/// The names of pipes in /proc.
fn pipes(output: &[BorrowedFd<'_>]) -> Vec<PathBuf> {
    let name = |pipe| Some(format!("pipe:[{}]", fstat(pipe).ok()?.st_ino).into());
    output.iter().filter_map(name).collect()
}

fn writes(process: Pid, pipes: &[PathBuf]) -> bool {
    ["1", "2"].iter().any(|fd| {
        let link = format!("/proc/{}/fd/{fd}", process.as_raw_pid());
        fs::read_link(link).is_ok_and(|file| pipes.contains(&file))
    })
}

fn everybody() -> impl Iterator<Item = Pid> {
    let processes = fs::read_dir("/proc").into_iter().flatten().flatten();
    processes.filter_map(|process| pid(process.file_name().to_str()?))
}

/// The children of `parent`, from the kernel's list where it has one, else by asking everybody.
fn children(parent: Pid) -> Vec<Pid> {
    let raw = parent.as_raw_pid();
    match fs::read_dir(format!("/proc/{raw}/task")) {
        Ok(tasks) => {
            let lists = tasks
                .flatten()
                .map(|task| fs::read_to_string(task.path().join("children")));
            let mut all = Vec::new();
            for list in lists {
                match list {
                    Ok(list) => all.extend(list.split_whitespace().filter_map(pid)),
                    Err(_) => return by_parent(parent),
                }
            }
            all
        }
        Err(_) => by_parent(parent),
    }
}

/// All processes whose parent is `parent`.
fn by_parent(parent: Pid) -> Vec<Pid> {
    everybody()
        .filter(|process| parent_of(*process) == Some(parent))
        .collect()
}

/// The parent of a process.
fn parent_of(process: Pid) -> Option<Pid> {
    pid(stat(process)?.split_whitespace().nth(1)?)
}

/// What /proc says of a process: its state, its parent, and more.
fn stat(process: Pid) -> Option<String> {
    let stat = fs::read(format!("/proc/{}/stat", process.as_raw_pid())).ok()?;
    // The name, in parentheses, may hold anything: what is wanted stands after the last one.
    let end = stat.iter().rposition(|byte| *byte == b')')?;
    let rest = std::str::from_utf8(&stat[end + 1..]).ok()?;
    Some(rest.trim_start().to_owned())
}

/// The process number written in `text`.
fn pid(text: &str) -> Option<Pid> {
    text.parse().ok().and_then(Pid::from_raw)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_ways_find_our_children() {
        let mut child = std::process::Command::new("/bin/sleep")
            .arg("60")
            .spawn()
            .unwrap();
        let pid = Pid::from_child(&child);
        let us = rustix::process::getpid();
        assert_eq!(parent_of(pid), Some(us));
        assert!(children(us).contains(&pid));
        assert!(by_parent(us).contains(&pid));
        kill_tree(pid, &[]);
        assert!(!child.wait().unwrap().success());
    }
}
