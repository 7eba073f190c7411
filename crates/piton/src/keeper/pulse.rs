//! Whether the daemon still moves.
//!
//! It costs nothing as long as it does: the daemon and the keeper both wait for the request pipe
//! with EPOLLEXCLUSIVE, the daemon as the first, and the kernel wakes the second only when the first
//! is not waiting: because it is at work, or stopped, or stuck. Then its *beat* is watched for a
//! moment, a counter in the table that changes whenever the daemon goes to sleep or wakes up: odd
//! while it is awake.
//!
//! A daemon that would move if it had a processor is left alone ([`super::vitals`]), and so is one at which
//! nobody looked for a while: then the keeper had no processor either.
//!
//! Behind links requests come by connections, or by devices of FUSE, that only the daemon has, so a
//! daemon that is stopped is replaced whether or not somebody is seen to wait.

use std::os::fd::{AsFd, BorrowedFd};
use std::time::Duration;

use autofs::RequestTable;

use super::limits::{ROUND, STARVED_MOST, STUCK_AFTER, STUCK_FIRST_LOOK};
use super::vitals::Vitals;

/// Watches a daemon's beat.
#[derive(Debug)]
pub(crate) struct Pulse {
    table: RequestTable,
    /// Whether somebody may wait who is not seen from here.
    unseen: bool,
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
    /// When that was done last, and what its vitals were then.
    last: (Duration, Option<Vitals>),
    /// For how long it was seen not to move though it could.
    still: Duration,
    /// Whether it was said that it gets no processor.
    told: bool,
}

/// What a look finds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Found {
    /// It moves, or nothing is certain yet.
    Nothing,
    /// It would have been found stuck if it had had a processor. Said once.
    Starved,
    /// It does not move though somebody waits.
    Stuck,
}

impl Pulse {
    /// `unseen`: requests come by another way than the pipe.
    pub(crate) fn new(table: RequestTable, unseen: bool) -> Self {
        Self {
            table,
            unseen,
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
                last: (now, None),
                still: Duration::ZERO,
                told: false,
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
    /// there is another look at [`Pulse::wake`]. `vitals` are the daemon's.
    pub(crate) fn look(
        &mut self,
        now: Duration,
        pipe: impl AsFd,
        vitals: impl FnOnce() -> Option<Vitals>,
    ) -> Found {
        let beat = self.table.beat();
        let Some(suspicion) = &mut self.suspicion else {
            let (last, before) = self.round;
            if now < last + ROUND {
                return Found::Nothing;
            }
            self.round = (now, beat);
            if beat == before && is_awake(beat) {
                self.suspect(now);
            }
            return Found::Nothing;
        };
        if now < suspicion.look {
            return Found::Nothing;
        }
        suspicion.look = now + STUCK_FIRST_LOOK;
        if beat != suspicion.beat {
            self.calm(now, beat);
            return Found::Nothing;
        }
        // It sleeps, and has nothing to do.
        let waiting = is_waiting(pipe.as_fd());
        let idle = !waiting && !is_awake(beat);
        let waited_for = self.unseen || !self.table.unanswered().is_empty();
        if idle && !(self.stopped && waited_for) {
            self.calm(now, beat);
            return Found::Nothing;
        }
        suspicion.count(now, vitals());
        // Where nobody is seen to wait, it may be stopped for a moment only.
        let patience = match self.stopped && !self.unseen {
            true => STUCK_FIRST_LOOK,
            false => STUCK_AFTER,
        };
        let since = now.saturating_sub(suspicion.since);
        if suspicion.still >= patience || since >= STARVED_MOST {
            return Found::Stuck;
        }
        match since >= STUCK_AFTER && !std::mem::replace(&mut suspicion.told, true) {
            true => Found::Starved,
            false => Found::Nothing,
        }
    }

    fn calm(&mut self, now: Duration, beat: u64) {
        self.suspicion = None;
        self.round = (now, beat);
    }
}

impl Suspicion {
    /// Counts the time since the last look, as far as the daemon could have moved in it.
    fn count(&mut self, now: Duration, vitals: Option<Vitals>) {
        let (last, before) = std::mem::replace(&mut self.last, (now, vitals));
        let time = now.saturating_sub(last);
        let starved = match (vitals, before) {
            (Some(vitals), Some(before)) => vitals.starved(&before, time),
            _ => Duration::ZERO,
        };
        // Whoever looks too late had no processor himself.
        self.still += (time - starved).min(STUCK_FIRST_LOOK);
    }
}

fn is_awake(beat: u64) -> bool {
    beat % 2 == 1
}

/// Whether a request waits in the pipe.
fn is_waiting(pipe: BorrowedFd<'_>) -> bool {
    rustix::io::ioctl_fionread(pipe).is_ok_and(|bytes| bytes > 0)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pulse(unseen: bool) -> Pulse {
        Pulse::new(RequestTable::new().unwrap(), unseen)
    }

    /// A daemon none of whose threads wants to run.
    #[expect(clippy::unnecessary_wraps, reason = "the shape of the question")]
    fn idle() -> Option<Vitals> {
        Some(Vitals {
            used: Duration::ZERO,
            runnable: false,
        })
    }

    /// What requests are read from, by kernel autofs.
    fn pipe() -> std::os::fd::OwnedFd {
        rustix::pipe::pipe().unwrap().0
    }

    #[test]
    fn one_that_is_stopped_is_replaced_where_nobody_can_be_seen_to_wait() {
        let begun = Duration::from_secs(1);
        for unseen in [false, true] {
            let (mut pulse, pipe) = (pulse(unseen), pipe());
            pulse.begin(begun);
            pulse.stopped(begun, true);
            let mut now = begun;
            while pulse.look(now, &pipe, idle) != Found::Stuck && now <= begun + 2 * ROUND {
                now = pulse.wake();
            }
            let stuck = now <= begun + 2 * STUCK_AFTER;
            assert_eq!(stuck, unseen, "at {now:?}");
        }
    }

    #[test]
    fn one_that_goes_on_in_time_is_left_alone() {
        let begun = Duration::from_secs(1);
        let (mut pulse, pipe) = (pulse(true), pipe());
        pulse.begin(begun);
        pulse.stopped(begun, true);
        let look = pulse.wake();
        assert_eq!(pulse.look(look, &pipe, idle), Found::Nothing);
        pulse.stopped(look, false);
        let later = begun + STUCK_AFTER;
        assert_eq!(pulse.look(later, &pipe, idle), Found::Nothing);
        assert!(pulse.is_calm());
    }

    /// What is found of a daemon in front of which a request waits, and when; looks come after
    /// `pause` each, and `vitals` tells what it does then.
    fn found_stuck(
        pause: Duration,
        mut vitals: impl FnMut(Duration) -> Option<Vitals>,
    ) -> (Duration, bool) {
        let (reader, writer) = rustix::pipe::pipe().unwrap();
        rustix::io::write(&writer, b"request").unwrap();
        let mut pulse = pulse(false);
        pulse.begin(Duration::ZERO);
        pulse.suspect(Duration::ZERO);
        let (mut now, mut told) = (Duration::ZERO, false);
        loop {
            now = pulse.wake().max(now + pause);
            match pulse.look(now, &reader, || vitals(now)) {
                Found::Nothing => {}
                Found::Starved => assert!(!std::mem::replace(&mut told, true)),
                Found::Stuck => return (now, told),
            }
            assert!(now < 2 * STARVED_MOST);
        }
    }

    #[test]
    fn one_that_sleeps_in_front_of_a_request_is_replaced() {
        assert_eq!(
            found_stuck(Duration::ZERO, |_| idle()),
            (STUCK_AFTER, false)
        );
        // Nothing is known of it.
        assert_eq!(found_stuck(Duration::ZERO, |_| None), (STUCK_AFTER, false));
    }

    #[test]
    fn one_that_turns_without_end_is_replaced() {
        let turns = |now| {
            Some(Vitals {
                used: now,
                runnable: true,
            })
        };
        assert_eq!(found_stuck(Duration::ZERO, turns), (STUCK_AFTER, false));
        // The more others there are, the later.
        let rarely = |now| {
            Some(Vitals {
                used: now / 4,
                runnable: true,
            })
        };
        let (when, told) = found_stuck(Duration::ZERO, rarely);
        assert!(
            when > 3 * STUCK_AFTER && when <= 4 * STUCK_AFTER,
            "{when:?}"
        );
        assert!(told);
    }

    #[test]
    fn one_that_gets_no_processor_is_left_alone_for_long() {
        let starves = |_| {
            Some(Vitals {
                used: Duration::ZERO,
                runnable: true,
            })
        };
        let (when, told) = found_stuck(Duration::ZERO, starves);
        assert!(when >= STARVED_MOST, "{when:?}");
        assert!(told);
    }

    #[test]
    fn a_keeper_that_gets_no_processor_itself_takes_nobody_for_stuck_at_once() {
        let late = Duration::from_secs(2);
        let (when, _) = found_stuck(late, |_| idle());
        assert!(when >= 3 * late, "{when:?}");
    }

    #[test]
    fn one_that_is_awake_for_a_round_is_suspected() {
        let table = RequestTable::new().unwrap();
        table.wakes_up();
        let mut pulse = Pulse::new(table, false);
        let pipe = pipe();
        pulse.begin(Duration::ZERO);
        let turns = |now| {
            move || {
                Some(Vitals {
                    used: now,
                    runnable: true,
                })
            }
        };
        let mut now = Duration::ZERO;
        while pulse.look(now, &pipe, turns(now)) != Found::Stuck && now < 4 * ROUND {
            now = pulse.wake();
        }
        assert_eq!(now, ROUND + STUCK_AFTER);
    }
}
