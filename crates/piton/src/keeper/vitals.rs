//! Whether a daemon that does not move could.
//!
//! On a machine with more work than processors a healthy daemon may get none for seconds. To kill it
//! would help nobody: its successor gets no more.

use std::time::Duration;

use piton_process::Stat;
use rustix::process::Pid;

/// What /proc counts processor time in: USER_HZ, on every machine that is of use today.
const TICK: Duration = Duration::from_millis(10);

/// What the kernel tells of a process and the processors.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Vitals {
    /// Processor time that all its threads used so far.
    pub(crate) used: Duration,
    /// Whether one of them has a processor, or waits for one.
    pub(crate) runnable: bool,
}

impl Vitals {
    /// Those of a process now; `None`: /proc does not tell.
    pub(crate) fn of(pid: Pid) -> Option<Self> {
        let ticks = Stat::of(pid)?.ticks;
        Some(Self {
            used: TICK.saturating_mul(u32::try_from(ticks).unwrap_or(u32::MAX)),
            runnable: Stat::of_threads(pid)?.any(|thread| thread.state == b'R'),
        })
    }

    /// How much of `time` it wanted a processor and had none, `before` being what it was at its
    /// beginning.
    pub(crate) fn starved(&self, before: &Self, time: Duration) -> Duration {
        match self.runnable {
            true => time.saturating_sub(self.used.saturating_sub(before.used)),
            false => Duration::ZERO,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_works_is_seen_to_and_who_is_gone_is_not() {
        let me = rustix::process::getpid();
        let before = Vitals::of(me).unwrap();
        let mut now = before;
        // This thread runs while it looks.
        while now.used <= before.used {
            now = Vitals::of(me).unwrap();
            assert!(now.runnable);
        }
        let mut child = std::process::Command::new("true").spawn().unwrap();
        let pid = Pid::from_child(&child);
        child.wait().unwrap();
        assert_eq!(Vitals::of(pid), None);
    }

    #[test]
    fn only_who_wants_to_run_starves() {
        let at = |milliseconds, runnable| Vitals {
            used: Duration::from_millis(milliseconds),
            runnable,
        };
        let time = Duration::from_millis(250);
        for (now, expected) in [
            (at(100, true), 250),
            (at(150, true), 200),
            (at(700, true), 0),
            (at(100, false), 0),
        ] {
            let starved = now.starved(&at(100, true), time);
            assert_eq!(starved, Duration::from_millis(expected), "{now:?}");
        }
    }
}
