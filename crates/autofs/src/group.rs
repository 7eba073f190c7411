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

#[cfg(test)]
mod tests {
    #[test]
    fn agrees_with_proc() {
        // proc(5), stat: the fields behind the command are state, ppid, pgrp.
        let stat = std::fs::read_to_string("/proc/self/stat").unwrap();
        let group = stat.rsplit(')').next().unwrap().split(' ').nth(3).unwrap();
        let ours = super::process_group().map_or(0, |group| group.as_raw_nonzero().get());
        assert_eq!(group, ours.to_string());
    }
}
