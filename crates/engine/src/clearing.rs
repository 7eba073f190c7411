//! Taking back what was mounted for a trigger that is gone by now: the job has become an orphan.

use alloc::sync::Arc;
use alloc::vec::Vec;
use core::mem;

use bstr::BString;
use piton_plan::step::{Planned, Step, TriggerId};

use crate::cause::Cause;
use crate::command::{Answer, Command, Note};
use crate::engine::Engine;
use crate::event::{DoneStep, JobId, Outcome, StepFailure};
use crate::job::Work;
use crate::limits::CLEAR_PAUSE_MS;
use crate::settle::step_at;
use crate::unmounting::not_there;

impl<T> Engine<T> {
    /// Answers the waiters of a job whose trigger is gone. What changes something goes on: its
    /// end is awaited and then cleared away.
    pub(crate) fn orphan(&mut self, id: JobId) {
        let Some(job) = self.jobs.get_mut(&id) else {
            return;
        };
        let waiters = mem::take(&mut job.waiters);
        let over = job.only_asks() || matches!(job.work, Work::Completing(_));
        for waiter in waiters {
            self.deadlines.remove(&(waiter.deadline, id));
            self.reply(waiter.ticket, Answer::Failed(Cause::NoTrigger));
        }
        if over {
            self.end(id);
        }
    }

    /// Begins to take back what an orphan has mounted.
    pub(crate) fn clear(
        &mut self,
        id: JobId,
        steps: &[Planned],
        numbers: &[(usize, TriggerId)],
        outcome: &Outcome,
    ) {
        for (_, number) in numbers {
            self.drop_trigger(*number);
        }
        let undo = |done: &DoneStep| step_at(steps, done.index)?.undo(done.helper);
        let perhaps = |step| Planned {
            step,
            required: false,
        };
        let done = outcome.done.iter().rev();
        let steps: Vec<Planned> = done.filter_map(undo).map(perhaps).collect();
        self.clear_by(id, steps);
    }

    fn clear_by(&mut self, id: JobId, steps: Vec<Planned>) {
        let Some(job) = self.jobs.get_mut(&id) else {
            return;
        };
        job.work = Work::Clearing(steps.clone());
        if steps.is_empty() {
            return self.cleared(id, &steps, Outcome::default());
        }
        let deadline_ms = self.settings.unmount_deadline_ms;
        self.out.push(Command::Perform {
            job: id,
            steps,
            deadline_ms,
        });
    }

    /// What an orphan had mounted was taken back, or some of it stays and is tried again later.
    pub(crate) fn cleared(&mut self, id: JobId, steps: &[Planned], outcome: Outcome) {
        let mut why = outcome.failed.as_ref().map(|failure| failure.text.clone());
        let stays = |(index, planned): (usize, &Planned)| {
            let failed = |failure: &&StepFailure| failure.index == index;
            let failure = outcome.tolerated.iter().find(failed)?;
            let matters = !matches!(planned.step, Step::RemoveDirectory { .. });
            (matters && !not_there(failure.errno)).then(|| (planned.clone(), failure.text.clone()))
        };
        let mut rest: Vec<Planned> = match &why {
            Some(_) => steps.to_vec(),
            None => Vec::new(),
        };
        for (planned, text) in steps.iter().enumerate().filter_map(stays) {
            rest.push(planned);
            why = Some(text);
        }
        match why {
            Some(why) if !rest.is_empty() => self.try_later(id, rest, why),
            _ => self.clear_of(id),
        }
    }

    /// Nothing of an orphan is left: whoever waited for that is served.
    fn clear_of(&mut self, id: JobId) {
        let Some(job) = self.end(id) else { return };
        for waiter in job.waiters {
            self.enter(waiter);
        }
        self.after_work(&job.place);
    }

    fn try_later(&mut self, id: JobId, rest: Vec<Planned>, why: Arc<str>) {
        let Some(job) = self.jobs.get_mut(&id) else {
            return;
        };
        job.work = Work::Clearing(rest);
        for waiter in mem::take(&mut job.waiters) {
            self.deadlines.remove(&(waiter.deadline, id));
            self.reply(waiter.ticket, Answer::Failed(Cause::Busy(why.clone())));
        }
        let path = self.orphans.get(&id).cloned().unwrap_or_default();
        if self.running() {
            self.clearings.insert((self.now + CLEAR_PAUSE_MS, id));
        } else {
            self.abandon_orphan(id, &path, &why);
        }
        self.note(Note::Stays { path, why });
    }

    /// At the end nothing is tried for ever.
    fn abandon_orphan(&mut self, id: JobId, path: &BString, why: &Arc<str>) {
        self.end(id);
        self.leave_behind(path, why);
    }

    /// It is time to try again.
    pub(crate) fn clear_again(&mut self, id: JobId) {
        if let Some(Work::Clearing(steps)) = self.jobs.get(&id).map(|job| &job.work) {
            let steps = steps.clone();
            self.clear_by(id, steps);
        }
    }
}
