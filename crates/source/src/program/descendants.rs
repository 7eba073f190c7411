//! Killing a program with all its descendants.
//!
//! There is no process group to kill: the program shares ours. So its descendants are found
//! through /proc. Each process is stopped before its children are listed, so that the list is
//! complete; while a parent is stopped and not reaped, its children's numbers are not used
//! again. What has been handed to init by then (a daemon) is not found, and is left alone.

use std::fs;

use rustix::process::{Pid, PidfdFlags, Signal, kill_process, pidfd_open, pidfd_send_signal};

use crate::limits::DESCENDANTS;

/// Kills `child`, which must be a child of this process that has not been waited for, and its
/// descendants.
pub(super) fn kill_tree(child: Pid) {
    let _gone = kill_process(child, Signal::STOP);
    let mut found = vec![child];
    let mut next = 0;
    while next < found.len() && found.len() < DESCENDANTS {
        let parent = found[next];
        next += 1;
        for pid in children(parent) {
            // A descriptor pins the process; its parent is asked again to be sure that the
            // number still means the same.
            let Ok(descriptor) = pidfd_open(pid, PidfdFlags::empty()) else {
                continue;
            };
            if parent_of(pid) == Some(parent) && !found.contains(&pid) {
                let _gone = pidfd_send_signal(&descriptor, Signal::STOP);
                found.push(pid);
            }
        }
    }
    for pid in found.into_iter().rev() {
        let _gone = kill_process(pid, Signal::KILL);
    }
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
    let Ok(processes) = fs::read_dir("/proc") else {
        return Vec::new();
    };
    processes
        .flatten()
        .filter_map(|process| pid(process.file_name().to_str()?))
        .filter(|process| parent_of(*process) == Some(parent))
        .collect()
}

/// The parent of a process.
fn parent_of(process: Pid) -> Option<Pid> {
    let stat = fs::read(format!("/proc/{}/stat", process.as_raw_pid())).ok()?;
    // The name, in parentheses, may hold anything: what is wanted stands after the last one.
    let end = stat.iter().rposition(|byte| *byte == b')')?;
    let rest = std::str::from_utf8(&stat[end + 1..]).ok()?;
    pid(rest.split_whitespace().nth(1)?)
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
        kill_tree(pid);
        assert!(!child.wait().unwrap().success());
    }
}
