//! Whether the daemon still moves.
//!
//! It costs nothing as long as it does: the daemon and the keeper both wait for the request pipe
//! with EPOLLEXCLUSIVE, the daemon as the first, and the kernel wakes the second only when the first
//! is not waiting: because it is at work, or stopped, or stuck. Then its *beat* is watched for a
//! moment, a counter in the table that changes whenever the daemon goes to sleep or wakes up: odd
//! while it is awake.

use std::os::fd::{AsFd, BorrowedFd};
use std::time::Duration;

use autofs::RequestTable;

use super::limits::{ROUND, STUCK_AFTER, STUCK_FIRST_LOOK};

/// Watches a daemon's beat.
#[derive(Debug)]
pub(crate) struct Pulse {
    table: RequestTable,
    /// The last round's beat, and when it was looked at.
    round: (Duration, u64),
    /// That it does not move though it should.
    suspicion: Option<Suspicion>,
    /// Whether the daemon is stopped (SIGSTOP).
    stopped: bool,
}

#[derive(Clone, Copy, Debug)]
struct Suspicion {
    since: Duration,
    beat: u64,
    /// When to look.
    look: Duration,
}

impl Pulse {
    pub(crate) fn new(table: RequestTable) -> Self {
        Self {
            table,
            round: (Duration::ZERO, 0),
            suspicion: None,
            stopped: false,
        }
    }

    /// A daemon serves from now on.
    pub(crate) fn begin(&mut self, now: Duration) {
        self.round = (now, self.table.beat());
        self.suspicion = None;
        self.stopped = false;
    }

    /// A request came in, and the daemon did not wait for one.
    pub(crate) fn suspect(&mut self, now: Duration) {
        if self.suspicion.is_none() {
            self.suspicion = Some(Suspicion {
                since: now,
                beat: self.table.beat(),
                look: now + STUCK_FIRST_LOOK,
            });
        }
    }

    /// The daemon was stopped, or goes on.
    pub(crate) fn stopped(&mut self, now: Duration, stopped: bool) {
        self.stopped = stopped;
        if stopped {
            self.suspect(now);
        }
    }

    /// Whether the pipe shall be waited for.
    pub(crate) fn is_calm(&self) -> bool {
        self.suspicion.is_none()
    }

    /// When to look again.
    pub(crate) fn wake(&self) -> Duration {
        match self.suspicion {
            Some(suspicion) => suspicion.look,
            None => self.round.0 + ROUND,
        }
    }

    /// Looks whether the daemon does not move though somebody waits. As long as that is doubtful
    /// there is another look at [`Pulse::wake`].
    pub(crate) fn is_stuck(&mut self, now: Duration, pipe: impl AsFd) -> bool {
        let beat = self.table.beat();
        let Some(suspicion) = &mut self.suspicion else {
            let (last, before) = self.round;
            if now < last + ROUND {
                return false;
            }
            self.round = (now, beat);
            return beat == before && is_awake(beat);
        };
        if now < suspicion.look {
            return false;
        }
        suspicion.look = now + STUCK_FIRST_LOOK;
        let since = suspicion.since;
        if beat != suspicion.beat {
            self.calm(now, beat);
            return false;
        }
        // It sleeps, and has nothing to do.
        let waiting = is_waiting(pipe.as_fd());
        let idle = !waiting && !is_awake(beat);
        if idle && (!self.stopped || self.table.unanswered().is_empty()) {
            self.calm(now, beat);
            return false;
        }
        let patience = match self.stopped {
            true => STUCK_FIRST_LOOK,
            false => STUCK_AFTER,
        };
        now >= since + patience
    }

    fn calm(&mut self, now: Duration, beat: u64) {
        self.suspicion = None;
        self.round = (now, beat);
    }
}

fn is_awake(beat: u64) -> bool {
    beat % 2 == 1
}

/// Whether a request waits in the pipe.
fn is_waiting(pipe: BorrowedFd<'_>) -> bool {
    rustix::io::ioctl_fionread(pipe).is_ok_and(|bytes| bytes > 0)
}
