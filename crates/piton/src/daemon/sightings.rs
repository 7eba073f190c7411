//! What is seen of the processes that touch paths: their names and control groups, read at once,
//! since many are gone a moment later.
//!
//! Reading costs some 10 µs, so it is done where nobody waits for it: before a thread of the loop
//! sleeps.

use std::collections::VecDeque;
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use bstr::BString;
use piton_map::requester::{Requester, Sighting};
use piton_process::about;

/// For how long a process is taken for the same when its number comes again. Numbers are used
/// again after thousands of others.
const SAME: Duration = Duration::from_secs(1);

/// Processes that are recognised.
const RECENT: usize = 16;

/// Processes that wait to be looked at; of one more only the number is known.
const WAITING: usize = 1_024;

/// What was seen of a process.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Seen {
    /// Its name; none when it had ended already.
    pub(crate) name: Option<BString>,
    /// Its control group, if it is in any but the first.
    pub(crate) cgroup: Option<Arc<BString>>,
}

/// Filled in once, a little after the access.
type Cell = OnceLock<Seen>;

/// The processes that came of late.
#[derive(Default)]
pub(crate) struct Sightings {
    recent: VecDeque<(u32, Instant, Arc<Cell>)>,
    waiting: VecDeque<(u32, Arc<Cell>)>,
    /// The last control group: many processes share one.
    last: Option<Arc<BString>>,
}

impl Sightings {
    /// Somebody came: gives a place for what will be seen of the process.
    pub(crate) fn meet(&mut self, pid: u32) -> Sighting {
        if pid == 0 {
            return Sighting::default();
        }
        let now = Instant::now();
        let known = |(number, since, _): &&(u32, Instant, Arc<Cell>)| {
            *number == pid && now.duration_since(*since) < SAME
        };
        if let Some((_, _, cell)) = self.recent.iter().find(known) {
            return Sighting(Some(cell.clone()));
        }
        if self.waiting.len() >= WAITING {
            return Sighting::default();
        }
        let cell = Arc::new(Cell::new());
        if self.recent.len() >= RECENT {
            self.recent.pop_back();
        }
        self.recent.push_front((pid, now, cell.clone()));
        self.waiting.push_back((pid, cell.clone()));
        Sighting(Some(cell))
    }

    /// Looks at one process; false when none waits to be looked at.
    pub(crate) fn look(&mut self) -> bool {
        let Some((pid, cell)) = self.waiting.pop_front() else {
            return false;
        };
        let cgroup = about::cgroup(pid).map(|cgroup| match &self.last {
            Some(last) if **last == cgroup => last.clone(),
            _ => Arc::new(cgroup),
        });
        if cgroup.is_some() {
            self.last.clone_from(&cgroup);
        }
        let name = about::name(pid);
        // Each cell waits once.
        let _ = cell.set(Seen { name, cgroup });
        true
    }
}

/// What was seen of a requester, if it was looked at by now.
pub(crate) fn seen(who: &Requester) -> Option<Seen> {
    let cell = who.sighting.0.clone()?.downcast::<Cell>().ok()?;
    cell.get().cloned()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(sighting: Sighting) -> Option<Seen> {
        seen(&Requester {
            sighting,
            ..Requester::default()
        })
    }

    #[test]
    fn a_process_is_looked_at_once_and_recognised() {
        let mut sightings = Sightings::default();
        let me = std::process::id();
        let (first, again) = (sightings.meet(me), sightings.meet(me));
        assert_eq!(of(first.clone()), None);
        assert!(sightings.look());
        assert!(!sightings.look());
        let seen = of(first).expect("a process that lives");
        assert!(seen.name.is_some());
        assert_eq!(of(again), Some(seen));
    }

    #[test]
    fn so_many_wait_and_no_more() {
        let mut sightings = Sightings::default();
        assert!(sightings.meet(0).0.is_none());
        for pid in 1..=u32::try_from(WAITING).expect("small") {
            assert!(sightings.meet(pid).0.is_some());
        }
        assert!(sightings.meet(5_000_000).0.is_none());
        assert_eq!(sightings.recent.len(), RECENT);
    }
}
