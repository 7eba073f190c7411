//! Finding processes: all, those of a group, those that have a file open.

use std::fs;
use std::io;
use std::path::Path;

use rustix::process::Pid;

use crate::stat::Stat;

/// All processes of this pid namespace.
///
/// # Errors
/// There is no /proc.
pub fn everybody() -> io::Result<impl Iterator<Item = Pid>> {
    let entries = fs::read_dir("/proc")?;
    Ok(entries.flatten().filter_map(|entry| {
        let number = entry.file_name().to_str()?.parse().ok()?;
        Pid::from_raw(number)
    }))
}

/// The processes of a group that live. What is dead and not reaped yet still counts for `kill(2)`, but
/// does nothing any more.
pub fn living_in(group: Pid) -> impl Iterator<Item = Pid> {
    let lives = move |process: &Pid| {
        Stat::of(*process).is_some_and(|stat| stat.group == Some(group) && !stat.is_dead())
    };
    everybody().into_iter().flatten().filter(lives)
}

/// Whether a process has a file open among the first `most` descriptors that /proc lists: a path, or
/// the kernel's name of a pipe (`pipe:[7]`). False also where this process may not look.
pub fn has_open(process: Pid, file: &Path, most: usize) -> bool {
    let links = fs::read_dir(format!("/proc/{process}/fd"));
    let mut links = links.into_iter().flatten().flatten().take(most);
    links.any(|link| fs::read_link(link.path()).is_ok_and(|open| open == file))
}

#[cfg(test)]
mod tests {
    use std::os::unix::process::CommandExt;
    use std::process::Command;
    use std::time::{Duration, Instant};

    use super::*;

    #[test]
    fn a_pipe_is_found_where_it_is_open() {
        let (end, _other) = rustix::pipe::pipe().unwrap();
        let pipe = format!("pipe:[{}]", rustix::fs::fstat(&end).unwrap().st_ino);
        let own = rustix::process::getpid();
        assert!(has_open(own, pipe.as_ref(), usize::MAX));
        assert!(!has_open(own, pipe.as_ref(), 0));
        drop((end, _other));
        assert!(!has_open(own, pipe.as_ref(), usize::MAX));
    }

    #[test]
    fn the_dead_are_not_counted() {
        let sleep = Command::new("sleep").arg("100").process_group(0).spawn();
        let mut child = sleep.unwrap();
        let group = Pid::from_child(&child);
        assert!(living_in(group).eq([group]));
        child.kill().unwrap();
        // Dead, and not reaped.
        let until = Instant::now() + Duration::from_secs(60);
        while living_in(group).next().is_some() {
            assert!(Instant::now() < until);
            std::thread::sleep(Duration::from_millis(1));
        }
        child.wait().unwrap();
    }
}
