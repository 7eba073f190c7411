//! `/proc/PID/stat`: a process in one line.

use std::fs;
use std::path::Path;

use bstr::ByteSlice;
use rustix::process::Pid;

/// What that line says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Stat {
    /// The kernel's letter for what it does: `R` runs, `S` waits, `D` waits and can only be killed (or
    /// not even that), `T` is stopped, `Z` and `X` are dead.
    pub state: u8,
    /// Its parent, if that has a number here.
    pub parent: Option<Pid>,
    /// Its process group, if that has a number here.
    pub group: Option<Pid>,
    /// Processor time it has used, in the kernel's ticks.
    pub ticks: u64,
    /// When it was started, in ticks since the system was: numbers of processes are given again.
    pub started: u64,
}

impl Stat {
    /// Reads it; none when there is no such process.
    pub fn of(process: Pid) -> Option<Self> {
        Self::at(format!("/proc/{process}").as_ref())
    }

    /// Reads that of each thread of a process by itself; none when there is no such process.
    pub fn of_threads(process: Pid) -> Option<impl Iterator<Item = Self>> {
        let threads = fs::read_dir(format!("/proc/{process}/task")).ok()?;
        Some(threads.flatten().filter_map(|it| Self::at(&it.path())))
    }

    fn at(directory: &Path) -> Option<Self> {
        Self::parse(&fs::read(directory.join("stat")).ok()?)
    }

    /// Whether the process is dead, and only not reaped yet.
    pub fn is_dead(&self) -> bool {
        matches!(self.state, b'Z' | b'X')
    }

    /// proc_pid_stat(5). The second field, a name in parentheses, may hold anything.
    fn parse(line: &[u8]) -> Option<Self> {
        let behind = &line[line.rfind_byte(b')')? + 1..];
        // From the third on.
        let fields: Vec<&str> = behind.to_str().ok()?.split_ascii_whitespace().collect();
        let field = |number: usize| fields.get(number - 3);
        // The group of a process that is just being reaped is -1 (do_task_stat in the kernel).
        let number = |number| field(number)?.parse().ok().filter(|it: &i32| *it > 0);
        let process = |field| Pid::from_raw(number(field)?);
        let count = |number| field(number)?.parse::<u64>().ok();
        Some(Self {
            state: *field(3)?.as_bytes().first()?,
            parent: process(4),
            group: process(5),
            ticks: count(14)? + count(15)?,
            started: count(22)?,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_is_read_behind_a_name_that_may_hold_anything() {
        let line = b"7 (a) R (b\xff) T 3 5 1 0 -1 0 0 0 0 0 40 2 0 0 20 0 1 0 99 0 0 18\n";
        let read = Stat::parse(line).unwrap();
        assert_eq!(
            (read.state, read.ticks, read.started, read.is_dead()),
            (b'T', 42, 99, false)
        );
        assert_eq!(
            (read.parent, read.group),
            (Pid::from_raw(3), Pid::from_raw(5))
        );
        assert!(
            Stat::parse(b"7 (a) Z 0 0 1 0 -1 0 0 0 0 0 0 0 0 0 20 0 1 0 9")
                .unwrap()
                .is_dead()
        );
        // It is being reaped.
        let gone = Stat::parse(b"7 (a) X 0 -1 -1 0 -1 0 0 0 0 0 0 0 0 0 20 0 1 0 9").unwrap();
        assert_eq!(
            (gone.is_dead(), gone.parent, gone.group),
            (true, None, None)
        );
        assert_eq!(Stat::parse(b"7 (a) R 3 5"), None);
        assert_eq!(Stat::parse(b""), None);
    }

    #[test]
    fn this_process_runs_in_its_group() {
        let own = Stat::of(rustix::process::getpid()).unwrap();
        assert!(!own.is_dead());
        assert_eq!(own.parent, rustix::process::getppid());
        assert_eq!(own.group, Some(rustix::process::getpgrp()));
        // This thread, among others.
        let mut threads = Stat::of_threads(rustix::process::getpid()).unwrap();
        assert!(threads.any(|it| it.state == b'R'));
    }
}
