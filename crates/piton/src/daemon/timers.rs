//! Time: the engine's clock, and what is overdue.

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use piton_engine::event::JobId;
use piton_engine::time::Millis;

/// The engine's clock.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Clock(Instant);

impl Clock {
    pub(crate) fn start() -> Self {
        Self(Instant::now())
    }

    pub(crate) fn now(&self) -> Millis {
        Millis(u64::try_from(self.0.elapsed().as_millis()).unwrap_or(u64::MAX))
    }
}

/// Questions that were given to threads, and until when answers are waited for.
#[derive(Debug, Default)]
pub(crate) struct Outstanding {
    next: u64,
    tasks: BTreeMap<u64, (Millis, JobId, Kind)>,
    ends: BTreeSet<(Millis, u64)>,
}

/// What is asked, and so what is told the engine when it is given up.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    Fetch,
    Resolve,
    Probe,
}

impl Outstanding {
    /// Enters a task that is waited for until `end`.
    pub(crate) fn enter(&mut self, job: JobId, kind: Kind, end: Millis) -> u64 {
        let number = self.next;
        self.next += 1;
        self.tasks.insert(number, (end, job, kind));
        self.ends.insert((end, number));
        number
    }

    /// A task ended; returns whether it was still waited for.
    pub(crate) fn ended(&mut self, number: u64) -> bool {
        let Some((end, _, _)) = self.tasks.remove(&number) else {
            return false;
        };
        self.ends.remove(&(end, number));
        true
    }

    /// Gives up the next task whose time is over.
    pub(crate) fn overdue(&mut self, now: Millis) -> Option<(JobId, Kind)> {
        let (end, number) = self.ends.first().copied()?;
        if end > now {
            return None;
        }
        self.ends.pop_first();
        self.tasks.remove(&number).map(|(_, job, kind)| (job, kind))
    }

    /// When the next task's time is over.
    pub(crate) fn next_end(&self) -> Option<Millis> {
        self.ends.first().map(|(end, _)| *end)
    }
}

/// How long to sleep until `wake`, rounded up to milliseconds.
pub(crate) fn sleep_until(now: Millis, wake: Option<Millis>) -> Option<Duration> {
    wake.map(|wake| Duration::from_millis(wake.since(now)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_task_is_given_up_once() {
        let mut outstanding = Outstanding::default();
        let number = outstanding.enter(JobId(7), Kind::Fetch, Millis(10));
        assert_eq!(outstanding.overdue(Millis(9)), None);
        assert_eq!(
            outstanding.overdue(Millis(10)),
            Some((JobId(7), Kind::Fetch))
        );
        assert_eq!(outstanding.overdue(Millis(10)), None);
        assert!(!outstanding.ended(number));
    }
}
