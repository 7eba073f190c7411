//! The process group, by which the kernel knows the daemon.
//!
//! Every process of the group that a point was made with sees the point's bare tree and triggers
//! nothing, and only they may change that tree. So the daemon's helpers must stay in its group, and
//! nobody else may be in it: a daemon started from an interactive shell would otherwise share the
//! group with its siblings.

use rustix::process::Pid;

use crate::error::{Error, Result};

/// Makes this process the leader of a process group of its own, unless it is one already, and
/// returns the group.
///
/// # Errors
///
/// What `setpgid(2)` answers. The one case it refuses, a session leader, is a group leader already.
pub fn own_process_group() -> Result<Pid> {
    let own = rustix::process::getpid();
    if process_group() != Some(own) {
        rustix::process::setpgid(None, None).map_err(|errno| Error::call("setpgid", errno))?;
    }
    Ok(own)
}

/// The process group of this process; nothing if it belongs to an outer pid namespace and has no
/// number here, as that of a container's first process may.
pub fn process_group() -> Option<Pid> {
    // Not rustix::process::getpgrp: that takes the group for a number above 0.
    // SAFETY: getpgrp has no arguments, touches no memory of this process and cannot fail.
    Pid::from_raw(unsafe { libc::getpgrp() })
}

/// The processes of a group that live, this one included: what is dead and not reaped yet still
/// counts for `kill(2)`, and triggers and serves nothing.
///
/// Reads `/proc`, which never blocks, and sees what is in this pid namespace.
pub fn living_processes(group: Pid) -> Vec<Pid> {
    let Ok(processes) = std::fs::read_dir("/proc") else {
        return Vec::new();
    };
    processes
        .filter_map(|entry| {
            let number = entry.ok()?.file_name().to_str()?.parse().ok()?;
            Pid::from_raw(number)
        })
        .filter(|pid| group_of_living(*pid) == Some(group))
        .collect()
}

/// Whether a process has the pipe with this inode number open.
///
/// Reads `/proc`, which never blocks. False also where this process may not look.
pub fn holds_pipe(pid: Pid, inode: u64) -> bool {
    let Ok(descriptors) = std::fs::read_dir(format!("/proc/{}/fd", pid.as_raw_nonzero())) else {
        return false;
    };
    let pipe = format!("pipe:[{inode}]");
    descriptors
        .filter_map(|entry| std::fs::read_link(entry.ok()?.path()).ok())
        .any(|file| file.as_os_str() == pipe.as_str())
}

/// The group of a process that lives.
fn group_of_living(pid: Pid) -> Option<Pid> {
    // proc(5), stat: the fields behind the command are state, parent, group.
    let stat = std::fs::read(format!("/proc/{}/stat", pid.as_raw_nonzero())).ok()?;
    let behind = stat.iter().rposition(|byte| *byte == b')')?;
    let mut fields = str::from_utf8(stat.get(behind + 1..)?)
        .ok()?
        .split_ascii_whitespace();
    if matches!(fields.next()?, "Z" | "X") {
        return None;
    }
    Pid::from_raw(fields.nth(1)?.parse().ok()?)
}

#[cfg(test)]
mod tests {
    #[test]
    fn a_pipe_is_found_where_it_is_open() {
        let pipe = crate::RequestPipe::new().unwrap();
        let inode = pipe.inode().unwrap();
        let own = rustix::process::getpid();
        assert!(super::holds_pipe(own, inode));
        drop(pipe);
        assert!(!super::holds_pipe(own, inode));
    }

    #[test]
    fn the_dead_are_not_counted() {
        use std::os::unix::process::CommandExt;
        let mut child = std::process::Command::new("sleep")
            .arg("100")
            .process_group(0)
            .spawn()
            .unwrap();
        let group = rustix::process::Pid::from_child(&child);
        assert_eq!(super::living_processes(group), [group]);
        child.kill().unwrap();
        // Dead, and not reaped.
        let until = std::time::Instant::now() + std::time::Duration::from_secs(10);
        while !super::living_processes(group).is_empty() {
            assert!(std::time::Instant::now() < until);
            std::thread::sleep(std::time::Duration::from_millis(1));
        }
        child.wait().unwrap();
    }

    #[test]
    fn agrees_with_proc() {
        // proc(5), stat: the fields behind the command are state, ppid, pgrp.
        let stat = std::fs::read_to_string("/proc/self/stat").unwrap();
        let group = stat.rsplit(')').next().unwrap().split(' ').nth(3).unwrap();
        let ours = super::process_group().map_or(0, |group| group.as_raw_nonzero().get());
        assert_eq!(group, ours.to_string());
    }
}
