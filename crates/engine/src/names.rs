//! Whether a name exists: what a client of links asks before it asks where the name leads.
//!
//! The answer comes from the map alone, so that no server keeps a whole directory waiting. What the
//! map said is kept for the second question, which mostly follows at once: a program is run once.

use alloc::collections::VecDeque;
use alloc::sync::Arc;
use alloc::vec::Vec;

use piton_map::requester::Requester;
use piton_plan::plan::Plan;

use crate::cause::Cause;
use crate::command::Answer;
use crate::engine::Engine;
use crate::event::JobId;
use crate::job::{Waiter, Want, Work};
use crate::limits::{KNOWN_ENTRIES, KNOWN_ENTRY_MS};
use crate::place::Place;
use crate::time::Millis;

/// What maps said of names that nobody followed yet, the oldest first.
#[derive(Debug, Default)]
pub(crate) struct Known(VecDeque<Entry>);

#[derive(Debug)]
struct Entry {
    place: Place,
    at: Millis,
    /// A map may say something else to somebody else.
    requester: Requester,
    plan: Arc<Plan>,
}

impl Known {
    /// What was said to the same user a moment ago, once.
    pub(crate) fn take(
        &mut self,
        place: &Place,
        requester: &Requester,
        now: Millis,
    ) -> Option<Arc<Plan>> {
        let fresh = |entry: &Entry| now.since(entry.at) < KNOWN_ENTRY_MS;
        while self.0.front().is_some_and(|entry| !fresh(entry)) {
            self.0.pop_front();
        }
        let same = |entry: &Entry| {
            entry.place == *place
                && (entry.requester.uid, entry.requester.gid) == (requester.uid, requester.gid)
        };
        let index = self.0.iter().position(same)?;
        self.0.remove(index).map(|entry| entry.plan)
    }

    fn keep(&mut self, entry: Entry) {
        self.0.retain(|other| other.place != entry.place);
        if self.0.len() >= KNOWN_ENTRIES {
            self.0.pop_front();
        }
        self.0.push_back(entry);
    }

    /// Maps may say something else now.
    pub(crate) fn forget(&mut self) {
        self.0.clear();
    }
}

impl<T> Engine<T> {
    /// A client asks whether `place` exists.
    pub(crate) fn exists(&mut self, place: Place, requester: Requester, ticket: T) {
        let deadline = self.now + self.settings.deadline_ms;
        self.enter(Waiter {
            ticket,
            place,
            requester,
            deadline,
            want: Want::Name,
        });
    }

    /// Answers whether a name exists where that is known without asking the map; gives the waiter
    /// back where it is not, or wants more.
    pub(crate) fn answer_name(&mut self, waiter: Waiter<T>) -> Option<Waiter<T>> {
        if waiter.want != Want::Name {
            return Some(waiter);
        }
        let asking = |id: &JobId| {
            let job = self.jobs.get(id);
            job.is_some_and(|job| matches!(job.work, Work::Fetching { .. } | Work::Planning { .. }))
        };
        let there = match self.working.get(&waiter.place) {
            Some(id) => !asking(id),
            None => self.trees.contains_key(&waiter.place),
        };
        let answer = match self.recall(&waiter.place) {
            _ if there => Answer::Ready,
            Some(cause @ (Cause::Lookup(_) | Cause::BadEntry(_))) => Answer::Failed(cause),
            // It could not be mounted, and exists all the same.
            Some(_) => Answer::Ready,
            None => return Some(waiter),
        };
        self.reply(waiter.ticket, answer);
        None
    }

    /// The map has the name of a job: who only wanted to know that is told. Whether anybody waits
    /// for the mount; if not, the job is over.
    pub(crate) fn answer_names(&mut self, id: JobId, plan: &Arc<Plan>) -> bool {
        let Some(job) = self.jobs.get_mut(&id) else {
            return false;
        };
        let (names, rest): (Vec<_>, Vec<_>) = core::mem::take(&mut job.waiters)
            .into_iter()
            .partition(|waiter| waiter.want == Want::Name);
        job.waiters = rest;
        if names.is_empty() {
            return true;
        }
        let wanted = !job.waiters.is_empty();
        if !wanted {
            self.known.keep(Entry {
                place: job.place.clone(),
                at: self.now,
                requester: job.requester.clone(),
                plan: plan.clone(),
            });
        }
        for waiter in names {
            self.deadlines.remove(&(waiter.deadline, id));
            self.reply(waiter.ticket, Answer::Ready);
        }
        // Others may wait until the same moment.
        if let Some(job) = self.jobs.get(&id) {
            let deadlines = job.waiters.iter().map(|waiter| (waiter.deadline, id));
            self.deadlines.extend(deadlines);
        }
        wanted || !self.abandoned(id)
    }
}
