//! When the steps of a mount are over: what is in place is entered, the waiters are answered.

use alloc::boxed::Box;
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::mem;

use bstr::BString;
use piton_map::lookup::Miss;
use piton_plan::step::{Attempt, Planned, Step, TriggerId, TriggerKind, What};

use crate::cause::{Cause, Errno};
use crate::command::{Answer, Note};
use crate::engine::Engine;
use crate::event::{DoneStep, JobId, Outcome};
use crate::job::{Job, Target, Waiter, Work};
use crate::negative::{memory_of, unreachable};
use crate::place::Place;
use crate::tree::{How, Tree};
use crate::trigger::{Round, State};
use crate::unmounting::Wish;

impl<T> Engine<T> {
    /// Steps ended: those of a mount, or those that take something down.
    pub(crate) fn performed(&mut self, id: JobId, outcome: Outcome) {
        let Some(job) = self.jobs.get_mut(&id) else {
            return;
        };
        match mem::replace(&mut job.work, Work::Inspecting) {
            Work::Mounting(target, steps, numbers) => {
                self.mounted(id, &target, &steps, &numbers, outcome);
            }
            Work::Unmounting(work) => self.unmounted(id, work, outcome),
            Work::LettingGo(work) => self.has_let_go(id, &work, outcome),
            Work::Clearing(steps) => self.cleared(id, &steps, outcome),
            other => job.work = other,
        }
    }

    fn mounted(
        &mut self,
        id: JobId,
        target: &Target,
        steps: &[Planned],
        numbers: &[(usize, TriggerId)],
        outcome: Outcome,
    ) {
        let Some(place) = self.jobs.get(&id).map(|job| job.place.clone()) else {
            return;
        };
        if !self.triggers.contains_key(&place.trigger) {
            return self.clear(id, steps, numbers, &outcome);
        }
        let offsets = self.settle_triggers(steps, numbers, &outcome);
        for failure in &outcome.tolerated {
            if let Some(Step::Install(_) | Step::Mount { .. }) = step_at(steps, failure.index)
                && let Some(path) = target_of(steps, failure.index)
            {
                let failure = failure.clone();
                let cause = Cause::Mount(failure.errno, failure.text.clone());
                self.remember_error(&place, &path, &cause);
                self.note(Note::OffsetMissing { path, failure });
            }
        }
        let how = self.how_of(target, steps, &outcome.done);
        let directories = match how {
            How::Directory => directories_of(steps, &outcome.done),
            How::Mount { .. } | How::Symlink { .. } | How::Submount(_) => Vec::new(),
        };
        // Parts of it may have been there before.
        let mended = outcome.failed.is_none() && self.trees.contains_key(&place);
        let in_effect = mended || how != How::Directory || !offsets.is_empty();
        let cause = match &outcome.failed {
            Some(failure) => Some(Cause::Mount(failure.errno, failure.text.clone())),
            None if !in_effect => Some(nothing_there(&outcome)),
            None => None,
        };
        self.judge_servers(steps, &outcome);
        let Some(cause) = cause else {
            self.negative.forget(&place);
            self.plant(id, target, how, (offsets, directories), None);
            return self.complete(id, target.plan.strict);
        };
        // What could not be taken back is entered, so that it has an owner, and goes soon.
        let left_over = in_effect || outcome.failed.is_none();
        if !left_over && let Some(target) = over_network(target, steps, &outcome, &cause) {
            return self.resolve(id, target);
        }
        if left_over {
            self.plant(id, target, how, (offsets, directories), Some(cause.clone()));
        }
        self.fail(id, cause, false);
        self.negative
            .blame(&place, target.plan.servers(target.node));
        if left_over {
            self.take_down(&place, Wish::default());
        }
    }

    /// Remembers which servers answered and which did not.
    fn judge_servers(&mut self, steps: &[Planned], outcome: &Outcome) {
        for done in &outcome.done {
            if let Some(Step::Mount { attempts, .. }) = step_at(steps, done.index)
                && let Some(attempt) = attempts.get(done.attempt)
            {
                if let Some(host) = &attempt.host {
                    self.server_answered(host);
                    self.servers.proved(host, attempt.address, self.now);
                }
                // Who was tried before it failed.
                for failed in attempts.iter().take(done.attempt) {
                    self.doubt(failed);
                }
            }
        }
        for failure in outcome.failed.iter().chain(&outcome.tolerated) {
            let Some(Step::Mount { attempts, .. }) = step_at(steps, failure.index) else {
                continue;
            };
            for failed in attempts {
                self.doubt(failed);
            }
            if !unreachable(failure.errno) {
                self.spoke(attempts);
                continue;
            }
            // When time ran out, only the first is known to have been asked.
            let asked = match failure.errno {
                Errno::TIMEDOUT => 1,
                _ => attempts.len(),
            };
            for host in attempts
                .iter()
                .take(asked)
                .filter_map(|it| it.host.as_ref())
            {
                self.server_failed(host, &failure.text);
            }
        }
    }

    /// A mount failed for another reason than silence: a server that was asked alone is there.
    fn spoke(&mut self, attempts: &[Attempt]) {
        let mut hosts = attempts.iter().map(|it| it.host.as_ref());
        let Some(first) = hosts.next().flatten() else {
            return;
        };
        match hosts.all(|host| host == Some(first)) {
            true => self.server_answered(first),
            // Which of several it was is not known.
            false => self.server_undecided(first),
        }
    }

    /// What was heard of a server is doubtful: a mount from it failed.
    fn doubt(&mut self, attempt: &Attempt) {
        if let Some(host) = &attempt.host {
            self.servers.forget(host, attempt.address);
        }
    }

    /// Marks the triggers that are in place as ready and forgets the others; returns the
    /// offsets among them.
    fn settle_triggers(
        &mut self,
        steps: &[Planned],
        numbers: &[(usize, TriggerId)],
        outcome: &Outcome,
    ) -> Vec<TriggerId> {
        let mut in_place = Vec::new();
        for done in &outcome.done {
            if let Some(Step::Install(spec)) = step_at(steps, done.index) {
                in_place.push((spec.id, spec.kind));
            }
        }
        if self.settings.whole_entries && outcome.failed.is_none() {
            // Nothing of them has to be put in place.
            let known = numbers
                .iter()
                .filter(|it| self.triggers.contains_key(&it.1));
            in_place.extend(known.map(|(_, id)| (*id, TriggerKind::Offset)));
        }
        in_place.sort_unstable_by_key(|(id, _)| *id);
        for (_, id) in numbers {
            if in_place.binary_search_by_key(id, |(id, _)| *id).is_err() {
                self.drop_trigger(*id);
            } else if let Some(trigger) = self.triggers.get_mut(id) {
                trigger.state = State::Ready;
            }
        }
        in_place
            .into_iter()
            .filter(|(_, kind)| *kind == TriggerKind::Offset)
            .map(|(id, _)| id)
            .collect()
    }

    /// How the place came to be, from the steps that are in effect.
    fn how_of(&self, target: &Target, steps: &[Planned], done: &[DoneStep]) -> How {
        // A link may lead to what is mounted for it and others.
        let link = |effect: &DoneStep| match step_at(steps, effect.index) {
            Some(Step::Symlink { to, .. }) => Some(How::Symlink { to: to.clone() }),
            _ => None,
        };
        if let Some(link) = done.iter().find_map(link) {
            return link;
        }
        for effect in done {
            match step_at(steps, effect.index) {
                Some(Step::Mount { attempts, .. }) => {
                    let attempt = attempts.get(effect.attempt);
                    let served =
                        attempt.and_then(|it| self.served_by(&target.plan, target.node, it));
                    return How::Mount {
                        source: attempt.map(|it| it.source.clone()).unwrap_or_default(),
                        host: attempt.and_then(|it| it.host.clone()),
                        served: served.map(Box::new),
                        helper: effect.helper,
                    };
                }
                Some(Step::Install(spec)) if spec.kind == TriggerKind::Indirect => {
                    return How::Submount(spec.id);
                }
                _ => {}
            }
        }
        How::Directory
    }

    /// Enters what was mounted for a job; `broken` says why it is only a part.
    fn plant(
        &mut self,
        id: JobId,
        target: &Target,
        how: How,
        (offsets, directories): (Vec<TriggerId>, Vec<BString>),
        broken: Option<Cause>,
    ) {
        let Some(job) = self.jobs.get(&id) else {
            return;
        };
        let place = job.place.clone();
        let last = job
            .waiters
            .last()
            .map_or(&job.requester, |waiter| &waiter.requester)
            .clone();
        let Some(trigger) = self.triggers.get(&place.trigger) else {
            return;
        };
        let kind = trigger.spec.kind;
        let timeout = target.plan.timeout;
        let host = match &how {
            How::Mount { host, .. } => host.clone(),
            _ => None,
        };
        let drained = host.as_ref().is_some_and(|host| self.care.is_drained(host));
        let tree = Tree {
            target: self.path_of(&place),
            how,
            own_directory: self.makes_directory(kind),
            offsets,
            directories,
            since: self.now,
            first: job.requester.clone(),
            last,
            uses: job.waiters.len() as u64,
            busy: None,
            timeout,
            broken,
            replicas: target.replicas.clone().filter(|_| host.is_some()),
            read_only: target.plan.is_read_only(target.node),
            stuck: None,
            hurried: false,
            unfinished: false,
            in_the_way: false,
            share: target.share.clone(),
        };
        if let Some(share) = &target.share {
            self.use_share(&place, share);
        }
        let movable = tree.replicas.is_some();
        let tree = match self.trees.remove(&place) {
            Some(part) => {
                self.discount_mount(&part.how);
                tree.added_to(part)
            }
            None => tree,
        };
        self.count_mount(&tree.how);
        self.trees.insert(place.clone(), tree);
        if movable && (self.servers.any_down() || !self.care.drained.is_empty()) {
            self.look_at_replicas(self.now);
        }
        if drained && let Some(server) = host {
            let path = self.path_of(&place);
            self.note(Note::FromDrained { path, server });
        }
        if let Some(seconds) = timeout
            && !self.is_part(place.trigger)
        {
            let key = (kind == TriggerKind::Indirect).then(|| place.key.clone());
            self.set_key_timeout(place.trigger, key, seconds);
        }
        self.plan_round(place.trigger);
    }

    /// Answers a job's waiters: what they wanted is there, `fresh` if just mounted.
    pub(crate) fn serve(&mut self, id: JobId, fresh: bool) {
        let Some(job) = self.end(id) else { return };
        let took_ms = self.now.since(job.started);
        if job.waiters.is_empty() {
            self.show(&job.place);
        }
        for waiter in job.waiters {
            self.reply(waiter.ticket, Answer::Ready);
        }
        if fresh {
            let tree = self.trees.get(&job.place);
            let source = tree.map(Tree::source).unwrap_or_default();
            let path = self.path_of(&job.place);
            self.note(Note::Mounted {
                job: id,
                path,
                source,
                took_ms,
            });
        }
        self.after_work(&job.place);
    }

    /// Answers a job's waiters with an error.
    pub(crate) fn fail(&mut self, id: JobId, cause: Cause, costly: bool) {
        let Some(job) = self.end(id) else { return };
        let path = self.path_of(&job.place);
        self.part_failed(&job.place, &cause);
        self.remember_failure(&job.place, &cause, costly);
        for waiter in job.waiters {
            self.reply(waiter.ticket, Answer::Failed(cause.clone()));
        }
        // What is known already is not said again.
        if !matches!(cause, Cause::KnownDown(..)) {
            if !matches!(cause, Cause::Lookup(Miss::NoSuchKey)) {
                self.remember_error(&job.place, &path, &cause);
            }
            self.note(Note::Failed {
                job: id,
                path,
                cause,
                requester: job.requester,
            });
        }
        self.after_work(&job.place);
    }

    /// Remembers a failure for as long as its cause says.
    fn remember_failure(&mut self, place: &Place, cause: &Cause, costly: bool) {
        let Some(trigger) = self.triggers.get(&place.trigger) else {
            return;
        };
        let of_map = trigger.binding.options.negative_timeout;
        let chance = self.chance();
        if let Some(memory) = memory_of(cause, costly, of_map, &self.settings) {
            self.negative
                .remember(place, cause, memory, self.now, chance);
        }
    }

    /// The world was asked whether something is still mounted: where the kernel asked again,
    /// or where unmounting failed.
    pub(crate) fn inspected(&mut self, id: JobId, mounted: bool) {
        let Some(job) = self.jobs.get(&id) else {
            return;
        };
        match &job.work {
            Work::Inspecting => {}
            Work::Unmounting(_) => return self.unmount_inspected(id, mounted),
            Work::Fetching { .. }
            | Work::Planning { .. }
            | Work::Sharing(_)
            | Work::Resolving(_)
            | Work::Probing(_)
            | Work::Completing(_)
            | Work::Mounting(..)
            | Work::LettingGo(_)
            | Work::Clearing(_) => return,
        }
        let place = job.place.clone();
        if mounted && let Some(tree) = self.trees.get_mut(&place) {
            tree.uses += job.waiters.len() as u64;
            tree.last = job.requester.clone();
            return self.serve(id, false);
        }
        self.unmounted_by_hand(id, place);
    }

    /// What a job's waiters want is mounted, but the one whose access began the job cannot see it,
    /// and would ask again and again until ELOOP. The others may be better placed.
    pub(crate) fn hidden(&mut self, id: JobId) {
        let inspecting = |job: &Job<T>| matches!(job.work, Work::Inspecting);
        if !self.jobs.get(&id).is_some_and(inspecting) {
            return;
        }
        let Some(mut job) = self.end(id) else { return };
        let path = self.path_of(&job.place);
        let waiters = mem::take(&mut job.waiters);
        let begun = |waiter: &Waiter<T>| waiter.requester.pid == job.requester.pid;
        let (hidden, others): (Vec<_>, Vec<_>) = waiters.into_iter().partition(begun);
        for waiter in hidden {
            self.reply(waiter.ticket, Answer::Failed(Cause::Hidden));
        }
        self.remember_error(&job.place, &path, &Cause::Hidden);
        self.note(Note::Failed {
            job: id,
            path,
            cause: Cause::Hidden,
            requester: job.requester,
        });
        for waiter in others {
            self.enter(waiter);
        }
        self.after_work(&job.place);
    }

    /// Somebody unmounted by hand what a job's waiters want. What was below it is
    /// probably gone as well; what is not goes before all is mounted anew.
    fn unmounted_by_hand(&mut self, id: JobId, place: Place) {
        let tree = self.trees.get(&place);
        let with_triggers = tree.filter(|tree| tree.triggers().next().is_some());
        if with_triggers.is_some_and(|tree| matches!(tree.how, How::Mount { .. })) {
            self.lay_bare(&place);
        }
        let tree = self.trees.get_mut(&place);
        let with_triggers = tree.filter(|tree| tree.triggers().next().is_some());
        if let Some(tree) = with_triggers {
            let why: Arc<str> = "it was unmounted by hand, but not all of it".into();
            tree.broken = Some(Cause::Mount(Errno::IO, why));
            self.plan_round(place.trigger);
            if !self.works_below(&place) {
                let waiters = self.end(id).map(|job| job.waiters).unwrap_or_default();
                self.take_down(
                    &place,
                    Wish {
                        waiters,
                        ..Wish::default()
                    },
                );
                return;
            }
        }
        self.fell(&place);
        if self.orphan_near(&place).is_none() {
            return self.seek(id);
        }
        // Something below was being done when all went: that has to end first.
        let Some(job) = self.end(id) else { return };
        for waiter in job.waiters {
            self.enter(waiter);
        }
        self.after_work(&job.place);
    }

    // -- when the ground is gone -----------------------------------------------------------

    /// Forgets a tree that is gone, with the triggers that went with it.
    pub(crate) fn fell(&mut self, place: &Place) {
        let Some(tree) = self.trees.remove(place) else {
            return;
        };
        self.discount_mount(&tree.how);
        if let Some(share) = &tree.share {
            self.leave_share(place, share);
        }
        self.stir(place);
        for trigger in tree.triggers() {
            self.drop_trigger(trigger);
        }
    }

    /// Forgets all trees of a trigger.
    pub(crate) fn fell_all(&mut self, trigger: TriggerId) {
        let below: Vec<Place> = self
            .trees_of(trigger)
            .map(|(place, _)| place.clone())
            .collect();
        for place in below {
            self.fell(&place);
        }
    }

    /// Forgets a trigger that is gone, with all that was mounted in it; whoever still waits in
    /// it is told.
    pub(crate) fn drop_trigger(&mut self, id: TriggerId) {
        self.fell_all(id);
        let jobs: Vec<JobId> = self.jobs_in(id).collect();
        for job in &jobs {
            if let Some(place) = self.jobs.get(job).map(|job| job.place.clone()) {
                self.orphans.insert(*job, self.path_of(&place));
            }
        }
        let Some(trigger) = self.triggers.remove(&id) else {
            return;
        };
        if let Round::Due(at) = trigger.round {
            self.rounds.remove(&(at, id));
        }
        self.negative.forget_trigger(id);
        Self::forget_moved(&mut self.moved, id);
        for job in jobs {
            self.orphan(job);
        }
    }
}

pub(crate) fn step_at(steps: &[Planned], index: usize) -> Option<&Step> {
    steps.get(index).map(|planned| &planned.step)
}

/// The place that a step is about.
fn target_of(steps: &[Planned], index: usize) -> Option<BString> {
    Some(match step_at(steps, index)? {
        Step::MakeDirectory { path }
        | Step::Symlink { path, .. }
        | Step::RemoveDirectory { path }
        | Step::RemoveSymlink { path } => path.clone(),
        Step::Mount { target, .. } | Step::Unmount { target, .. } | Step::LetGo { target, .. } => {
            target.clone()
        }
        Step::Install(spec) | Step::Remove(spec) => spec.path.clone(),
    })
}

/// Why an entry of which every part was allowed to fail has nothing to show. Ready would send
/// the kernel in circles until ELOOP.
fn nothing_there(outcome: &Outcome) -> Cause {
    match outcome.tolerated.first() {
        Some(failure) => Cause::Mount(failure.errno, failure.text.clone()),
        None => {
            let why: Arc<str> = "nothing of the entry could be mounted".into();
            Cause::Mount(Errno::IO, why)
        }
    }
}

/// The directories that were made for offsets.
fn directories_of(steps: &[Planned], done: &[DoneStep]) -> Vec<BString> {
    let directory = |done: &DoneStep| match step_at(steps, done.index)? {
        Step::MakeDirectory { path } => Some(path.clone()),
        _ => None,
    };
    done.iter().filter_map(directory).collect()
}

/// What is tried next when a directory of this host could not be bind-mounted: the same from the
/// servers that the entry names.
fn over_network(
    target: &Target,
    steps: &[Planned],
    outcome: &Outcome,
    cause: &Cause,
) -> Option<Target> {
    let failed = outcome.failed.as_ref()?;
    let Some(Step::Mount { attempts, .. }) = step_at(steps, failed.index) else {
        return None;
    };
    let bind = |attempt: &Attempt| matches!(attempt.what, What::Bind { .. });
    if target.unbound.is_some() || !attempts.iter().all(bind) {
        return None;
    }
    Some(Target {
        plan: Arc::new(target.plan.over_network(target.node)?),
        node: target.node,
        unbound: Some(cause.clone()),
        replicas: None,
        share: target.share.clone(),
    })
}
