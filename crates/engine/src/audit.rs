//! Whether the engine's tables agree with each other: for the simulator and for tests, which
//! ask after every event.

use alloc::format;
use alloc::string::String;

use piton_plan::step::TriggerSpec;

use crate::engine::Engine;
use crate::event::JobId;
use crate::job::{Waiter, Work};
use crate::trigger::{Role, Round};

/// How full the engine's tables are.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Sizes {
    /// Triggers of all kinds.
    pub triggers: usize,
    /// Mount points of the configuration.
    pub points: usize,
    /// Places where something is mounted.
    pub trees: usize,
    /// Jobs under way.
    pub jobs: usize,
    /// Accesses that wait.
    pub waiters: usize,
    /// Moments at which waiters must be answered.
    pub deadlines: usize,
    /// Expiry rounds that are planned.
    pub rounds: usize,
    /// Failures that are remembered.
    pub negative: usize,
    /// Servers of which anything is known.
    pub servers: usize,
    /// Operators who wait for an expiry.
    pub expire_requests: usize,
}

impl<T> Engine<T> {
    /// How full the tables are.
    pub fn sizes(&self) -> Sizes {
        Sizes {
            triggers: self.triggers.len(),
            points: self.points.len(),
            trees: self.trees.len(),
            jobs: self.jobs.len(),
            waiters: self.jobs.values().map(|job| job.waiters.len()).sum(),
            deadlines: self.deadlines.len(),
            rounds: self.rounds.len(),
            negative: self.negative.len(),
            servers: self.servers.len(),
            expire_requests: self.expire_requests.len(),
        }
    }

    /// The triggers that the engine believes in place, or on their way there or away.
    pub fn triggers(&self) -> impl Iterator<Item = &TriggerSpec> {
        self.triggers.values().map(|trigger| &trigger.spec)
    }

    /// Checks every table against the others.
    ///
    /// # Errors
    /// The first disagreement, in words.
    pub fn audit(&self) -> Result<(), String> {
        if self.finished() {
            return Ok(());
        }
        self.audit_jobs()?;
        self.audit_deadlines()?;
        self.audit_triggers()?;
        self.audit_rounds()?;
        self.audit_trees()?;
        self.servers.audit(&self.counted_mounts())?;
        match self.waits_for_nothing() {
            Some(path) if self.running() => Err(format!("mount point {path} waits for nothing")),
            _ => Ok(()),
        }
    }

    fn audit_jobs(&self) -> Result<(), String> {
        if self.working.len() != self.jobs.len() {
            return Err(format!(
                "{} places are worked on by {} jobs",
                self.working.len(),
                self.jobs.len()
            ));
        }
        for (place, id) in &self.working {
            if self.jobs.get(id).is_none_or(|job| job.place != *place) {
                return Err(format!(
                    "{place:?} is locked by {id:?}, which works elsewhere"
                ));
            }
        }
        for (id, job) in &self.jobs {
            if let Work::Unmounting(work) = &job.work
                && work.steps.is_empty()
            {
                return Err(format!("{id:?} unmounts and was never begun"));
            }
            let orphan = !self.triggers.contains_key(&job.place.trigger);
            let waits_for_nothing = |waiter: &Waiter<T>| waiter.place == job.place;
            if orphan && (job.only_asks() || job.waiters.iter().any(waits_for_nothing)) {
                return Err(format!("{id:?} works for a trigger that is gone"));
            }
            if orphan != self.orphans.contains_key(id) {
                return Err(format!("{id:?} is no orphan, or nobody knows"));
            }
        }
        Ok(())
    }

    fn audit_deadlines(&self) -> Result<(), String> {
        let mut expected = alloc::collections::BTreeSet::new();
        for (id, job) in &self.jobs {
            expected.extend(job.waiters.iter().map(|waiter| (waiter.deadline, *id)));
            if let Work::Unmounting(work) = &job.work
                && let Some((_, deadline)) = &work.expire
            {
                expected.insert((*deadline, *id));
            }
        }
        match expected == self.deadlines {
            true => Ok(()),
            false => Err(format!(
                "deadlines are {:?}, but waiters have {expected:?}",
                self.deadlines
            )),
        }
    }

    fn audit_triggers(&self) -> Result<(), String> {
        for (id, trigger) in &self.triggers {
            let owned = match &trigger.role {
                Role::Point(_) => self.points.get(&trigger.spec.path) == Some(id),
                Role::Offset { owner, .. } | Role::Submount { owner, .. } => {
                    let tree = self.trees.get(owner);
                    tree.is_some_and(|tree| tree.triggers().any(|below| below == *id))
                        || self
                            .working
                            .get(owner)
                            .is_some_and(|job| self.puts_in_place(*job, *id))
                }
            };
            if !owned {
                return Err(format!("trigger {:?} belongs to nobody", trigger.spec));
            }
        }
        let missing = self
            .points
            .values()
            .find(|id| !self.triggers.contains_key(id));
        match missing {
            Some(id) => Err(format!("mount point {id:?} has no trigger")),
            None => Ok(()),
        }
    }

    fn puts_in_place(&self, job: JobId, trigger: piton_plan::step::TriggerId) -> bool {
        match self.jobs.get(&job).map(|job| &job.work) {
            Some(Work::Mounting(_, _, numbers)) => {
                numbers.iter().any(|(_, number)| *number == trigger)
            }
            _ => false,
        }
    }

    fn audit_rounds(&self) -> Result<(), String> {
        for (at, id) in &self.rounds {
            let round = self.triggers.get(id).map(|trigger| trigger.round);
            if round != Some(Round::Due(*at)) {
                return Err(format!("a round of {id:?} at {at:?} is planned twice"));
            }
        }
        let due = |round| matches!(round, Round::Due(_));
        let planned = self.triggers.values().filter(|it| due(it.round)).count();
        match planned == self.rounds.len() {
            true => Ok(()),
            false => Err(format!(
                "{planned} triggers wait for {} rounds",
                self.rounds.len()
            )),
        }
    }

    fn audit_trees(&self) -> Result<(), String> {
        for (place, tree) in &self.trees {
            let Some(trigger) = self.triggers.get(&place.trigger) else {
                return Err(format!("{} is mounted in no trigger", tree.target));
            };
            if let Some(below) = tree
                .offsets
                .iter()
                .find(|id| !self.triggers.contains_key(id))
            {
                return Err(format!("{} has an offset {below:?} too many", tree.target));
            }
            let part = self.is_part(place.trigger);
            let asleep = trigger.round == Round::None && !trigger.moving() && !part;
            if asleep && (trigger.least_timeout > 0 || trigger.leaving() || tree.must_go()) {
                return Err(format!("{} never expires", tree.target));
            }
        }
        Ok(())
    }
}
