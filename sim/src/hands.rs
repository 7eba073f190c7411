//! The daemon's hands at work: lists of steps, and batches of triggers. They die with it, after
//! any step.

use bstr::{BString, ByteSlice};
use piton_engine::Event;
use piton_engine::cause::Errno;
use piton_engine::event::{JobId, Outcome, StepFailure};
use piton_plan::step::{Planned, Step, TriggerId, TriggerKind, TriggerSpec};

use crate::dice::About;
use crate::faults::Fault;
use crate::kernel::{EBUSY, EINVAL, ENOENT};
use crate::mutation::Mutation;
use crate::perform::{self, Performance};
use crate::words::in_short;
use crate::world::{Action, World, Wrong, log};

/// What a batch does with its triggers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum BatchKind {
    Install,
    Adopt,
    Remove,
}

/// Triggers that are put in place, taken over or taken away one after the other.
#[derive(Debug)]
pub(crate) struct Batch {
    pub(crate) kind: BatchKind,
    triggers: Vec<TriggerSpec>,
    results: Vec<(TriggerId, Result<(), StepFailure>)>,
}

impl World {
    pub(crate) fn perform(
        &mut self,
        job: JobId,
        mut steps: Vec<Planned>,
        deadline_ms: u64,
    ) -> Result<(), Wrong> {
        if let Some(mutation) = self.mutation {
            mutation.steps(&mut steps);
            if let Some(outcome) = mutation.early(&steps) {
                self.at(self.now, Action::Deliver(Event::Performed { job, outcome }));
            }
        }
        let until = self.now + deadline_ms;
        let task = self.task();
        self.mark(job, &steps);
        self.performances
            .insert(task, Performance::new(job, steps, until));
        self.plan_step(task);
        Ok(())
    }

    /// Decides when the next step of a performance is done.
    fn plan_step(&mut self, task: u64) {
        let Some(performance) = self.performances.get(&task) else {
            return;
        };
        let step = performance.current();
        let (until, undoing) = (performance.until, performance.undoing);
        let place = step.as_ref().map(path_of).unwrap_or_default();
        let slow = matches!(step, Some(Step::Mount { .. } | Step::Unmount { .. }));
        let pause = match slow {
            true => self.delay(&place),
            false => self.dice.below(About::Step, &place, 5),
        };
        let overrun = self.faults[Fault::Overrun];
        let overrun = self.dice.chance(About::Overrun, &place, overrun);
        let mut when = self.now + pause;
        if !overrun && !undoing {
            when = when.min(until.max(self.now));
        }
        self.at(when, Action::Step(task));
    }

    pub(crate) fn step(&mut self, task: u64) -> Result<(), Wrong> {
        let Some(mut performance) = self.performances.remove(&task) else {
            return Ok(());
        };
        let Some(step) = performance.current() else {
            return self.performed(performance);
        };
        let place = path_of(&step);
        let attempts = match &step {
            Step::Mount { attempts, .. } => attempts.len() as u64,
            _ => 1,
        };
        if let Step::LetGo { target, .. } = &step {
            self.check_let_go(target)?;
        }
        let result = match self.fault(&step, performance.undoing, performance.until) {
            Some(errno) => Err(errno),
            None if attempts == 0 => Err(EINVAL),
            None if !performance.undoing && self.no_server(&step) => Err(110),
            None => perform::act(&mut self.kernel, &step, self.now)?,
        };
        let result = match (self.worker_dies(&step), result) {
            (true, Ok(_)) => self.unreported(&step),
            (_, result) => result,
        };
        let planned = Planned {
            step,
            required: true,
        };
        log!(self, "   {}: {result:?}", in_short(&planned));
        let attempt = self.attempt_of(&planned.step, &place);
        if let (
            Step::Mount {
                target, attempts, ..
            },
            Ok(_),
            false,
        ) = (&planned.step, result, performance.undoing)
        {
            self.mounted_from(performance.job, target, attempts, attempt);
        }
        let helper = self.dice.chance(About::Attempt, &place, 300);
        performance.stepped(result, attempt, helper);
        if performance.undoing && self.mutation == Some(Mutation::NoUndo) {
            performance.to_undo.clear();
        }
        self.performances.insert(task, performance);
        if !self.doomed() {
            self.plan_step(task);
        }
        Ok(())
    }

    fn performed(&mut self, performance: Performance) -> Result<(), Wrong> {
        let Performance {
            job,
            outcome,
            steps,
            ..
        } = performance;
        self.seen.outcome(&outcome);
        self.settled(&steps, &outcome);
        let root = root_of(&steps).unwrap_or_default();
        self.answer_held(&root)?;
        self.deliver(&root, Event::Performed { job, outcome });
        Ok(())
    }

    /// A mutation answers those who came during an unmount when that ends, whatever it came to.
    fn answer_held(&mut self, root: &BString) -> Result<(), Wrong> {
        let (ready, held) = std::mem::take(&mut self.held)
            .into_iter()
            .partition(|(path, _)| path == root);
        self.held = held;
        let ready: Vec<_> = ready;
        for (_, ticket) in ready {
            self.reply(ticket, &piton_engine::command::Answer::Ready)?;
        }
        Ok(())
    }

    /// Whether what is at a path is being unmounted.
    pub(crate) fn unmounting(&self, path: &BString) -> bool {
        let unmounts = |planned: &Planned| match &planned.step {
            Step::Unmount { target, .. } => target == path,
            _ => false,
        };
        let mut all = self.performances.values();
        all.any(|performance| performance.steps.iter().any(unmounts))
    }

    /// Whether the worker that does a step dies in it. Only what may hang is done by workers.
    fn worker_dies(&mut self, step: &Step) -> bool {
        let chance = self.faults[Fault::Worker];
        let by_worker = matches!(step, Step::Mount { .. } | Step::Unmount { .. });
        by_worker && self.dice.chance(About::Death, &path_of(step), chance)
    }

    /// A step was done, and its worker died before it said so. What it mounted is taken away
    /// again; what it unmounted is gone.
    fn unreported(&mut self, step: &Step) -> perform::Stepped {
        self.seen.workers += 1;
        let place = path_of(step);
        self.excuses.amiss(&place, self.now);
        match step {
            Step::Mount { target, .. } => {
                if let Some(id) = self.kernel.top(target.as_bstr()) {
                    self.kernel.tear_off(id);
                }
            }
            // The engine cannot know, until somebody comes by.
            _ => drop(self.tampered.insert(place)),
        }
        Err(5)
    }

    /// Whether a mount finds none of its servers alive.
    fn no_server(&mut self, step: &Step) -> bool {
        match step {
            Step::Mount { attempts, .. } => self.all_dead(attempts),
            _ => false,
        }
    }

    /// What goes wrong with a step, if anything.
    fn fault(&mut self, step: &Step, undoing: bool, until: u64) -> Option<i32> {
        let place = path_of(step);
        let faults = &self.faults;
        let (chance, errnos): (u64, &[i32]) = match step {
            _ if undoing => (faults[Fault::Undo], &[16]),
            Step::Mount { .. } if self.now >= until => {
                let goes_on = faults[Fault::Overrun];
                if !self.dice.chance(About::Overrun, &place, goes_on) {
                    return Some(110);
                }
                (faults[Fault::Mount], &[5])
            }
            Step::Mount { .. } => (faults[Fault::Mount], &[5, 13, 19, 22, 110, 112, 116]),
            Step::Install(_) => (faults[Fault::Install], &[12, 28]),
            Step::MakeDirectory { .. } => (faults[Fault::Directory], &[13, 30]),
            Step::Unmount { .. } => (faults[Fault::Busy], &[16, 16, 5, 110]),
            Step::Remove(_) | Step::LetGo { .. } => (faults[Fault::Busy], &[16]),
            Step::Symlink { .. } | Step::RemoveDirectory { .. } | Step::RemoveSymlink { .. } => {
                return None;
            }
        };
        if !self.dice.chance(About::Fault, &place, chance) {
            return None;
        }
        let errno = *self.dice.pick(About::Way, &place, errnos);
        // What cannot be taken back now may stand in the way for long.
        let long = undoing || matches!(step, Step::Unmount { .. } | Step::Remove(_));
        let until = if long { u64::MAX / 2 } else { self.now };
        self.excuses.amiss(&place, until);
        // A server that does not answer an unmount is dead, too.
        if matches!(step, Step::Mount { .. } | Step::Unmount { .. }) {
            self.excuses.of_servers(self.now + 120_000);
        }
        Some(errno)
    }

    /// Steps are over: what must be together from now on, and what could not be mended.
    fn settled(&mut self, steps: &[Planned], outcome: &Outcome) {
        let Some(root) = root_of(steps) else {
            return;
        };
        if outcome.failed.is_some() {
            if !outcome.done.is_empty() {
                self.excuses.amiss(&root, u64::MAX / 2);
                self.scarred.insert(root);
            }
            self.mended &= outcome.done.is_empty();
            return;
        }
        let in_effect = outcome.done.iter().any(|done| {
            let step = &steps[done.index].step;
            !matches!(
                step,
                Step::MakeDirectory { .. } | Step::RemoveDirectory { .. }
            )
        });
        if !in_effect {
            // Everything was allowed to fail, and did.
            self.scarred.insert(root);
            return;
        }
        let offset = |planned: &Planned| match &planned.step {
            Step::Install(spec) if planned.required && spec.kind == TriggerKind::Offset => {
                Some(spec.path.clone())
            }
            _ => None,
        };
        let offsets = steps.iter().filter_map(offset).collect();
        self.levels.remove(&root);
        if steps.iter().any(|it| matches!(it.step, Step::Install(_))) {
            self.levels.insert(root, offsets);
        }
    }

    // -- triggers --------------------------------------------------------------------------

    pub(crate) fn begin_batch(&mut self, kind: BatchKind, mut triggers: Vec<TriggerSpec>) {
        if self.mutation == Some(Mutation::HalfReload) && self.keeper.serving {
            let half = triggers.len().div_ceil(2);
            triggers.truncate(half);
        }
        triggers.reverse();
        let task = self.task();
        let results = Vec::new();
        let batch = Batch {
            kind,
            triggers,
            results,
        };
        self.batches.insert(task, batch);
        let when = match kind {
            // Triggers are taken over by ioctls that ask nobody.
            BatchKind::Adopt => self.now + self.dice.below(About::Step, b"/", 200),
            BatchKind::Install | BatchKind::Remove => self.now + self.delay(b"/"),
        };
        self.at(when, Action::Batch(task));
    }

    pub(crate) fn batch(&mut self, task: u64) -> Result<(), Wrong> {
        let Some(mut batch) = self.batches.remove(&task) else {
            return Ok(());
        };
        let kind = batch.kind;
        let Some(spec) = batch.triggers.pop() else {
            let results = batch.results;
            let when = self.now + self.dice.below(About::Step, b"/", 30);
            let action = match kind {
                BatchKind::Install => Action::Deliver(Event::Installed { results }),
                BatchKind::Adopt => Action::Serve(Event::Installed { results }),
                BatchKind::Remove => Action::Deliver(Event::Removed { results }),
            };
            self.at(when, action);
            return Ok(());
        };
        let result = match (self.batch_fault(kind, &spec), kind) {
            (Some(errno), _) => Err(errno),
            (None, BatchKind::Install) => perform::install(&mut self.kernel, &spec, self.now)?,
            (None, BatchKind::Remove) => perform::remove(&mut self.kernel, &spec),
            (None, BatchKind::Adopt) => self.adopt(&spec),
        };
        log!(self, "   {kind:?} {}: {result:?}", spec.path);
        let failure = |errno| StepFailure {
            index: 0,
            errno: Errno(errno),
            text: format!("errno {errno}").into(),
        };
        let result = result.map(drop).map_err(failure);
        batch.results.push((spec.id, result));
        self.batches.insert(task, batch);
        if !self.doomed() {
            let when = self.now + self.dice.below(About::Step, &spec.path, 3);
            self.at(when, Action::Batch(task));
        }
        Ok(())
    }

    fn batch_fault(&mut self, kind: BatchKind, spec: &TriggerSpec) -> Option<i32> {
        let (chance, errno) = match kind {
            BatchKind::Install => (self.faults[Fault::Install] / 4, 12),
            BatchKind::Adopt => (self.faults[Fault::Adopt], ENOENT),
            BatchKind::Remove => (self.faults[Fault::Busy], EBUSY),
        };
        let fails = self.dice.chance(About::Fault, &spec.path, chance);
        if fails {
            self.excuses.amiss(&spec.path, u64::MAX / 2);
        }
        if fails && kind == BatchKind::Adopt {
            // Somebody took it away since it was found, with all that was in it.
            self.seen.not_adopted += 1;
            if let Some(id) = self.kernel.trigger_at(spec.path.as_bstr(), spec.kind) {
                self.kernel.tear_off(id);
            }
            self.tampered.insert(spec.path.clone());
        }
        fails.then_some(errno)
    }

    fn adopt(&mut self, spec: &TriggerSpec) -> Result<bool, i32> {
        let found = self.kernel.trigger_at(spec.path.as_bstr(), spec.kind);
        let trigger = found.and_then(|id| self.kernel.as_trigger(id));
        let trigger = trigger.ok_or(ENOENT)?;
        trigger.known = true;
        trigger.connected = true;
        trigger.spec = spec.clone();
        Ok(true)
    }
}

/// How many of `steps` change what is mounted.
pub(crate) fn effects(steps: &[Planned]) -> usize {
    let changes = |planned: &&Planned| {
        !matches!(
            planned.step,
            Step::MakeDirectory { .. } | Step::RemoveDirectory { .. }
        )
    };
    steps.iter().filter(changes).count()
}

/// The path that a step is about.
pub(crate) fn path_of(step: &Step) -> BString {
    match step {
        Step::MakeDirectory { path }
        | Step::Symlink { path, .. }
        | Step::RemoveDirectory { path }
        | Step::RemoveSymlink { path } => path.clone(),
        Step::Mount { target, .. } | Step::Unmount { target, .. } | Step::LetGo { target, .. } => {
            target.clone()
        }
        Step::Install(spec) | Step::Remove(spec) => spec.path.clone(),
    }
}

/// The place that a list of steps is about.
pub(crate) fn root_of(steps: &[Planned]) -> Option<BString> {
    let paths = steps.iter().map(|planned| path_of(&planned.step));
    paths.min_by_key(|path| path.len())
}
