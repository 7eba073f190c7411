//! Taking down what is idle: for the kernel's expiry, an operator, a reload or the end.

use alloc::collections::BTreeSet;
use alloc::sync::Arc;
use alloc::vec::Vec;

use bstr::BString;
use piton_map::requester::Requester;
use piton_plan::step::{Planned, Step, TriggerId};

use crate::cause::{Cause, Errno};
use crate::command::{Answer, Command, Note, Response};
use crate::engine::Engine;
use crate::event::{JobId, Outcome, RequestId, StepFailure};
use crate::job::{Job, Unmounting, Waiter, Work};
use crate::place::Place;
use crate::tree::{How, Tree};
use crate::trigger::State;

/// For whom something is taken down.
#[derive(Debug)]
pub(crate) struct Wish<T> {
    /// The kernel's expiry request.
    pub(crate) expire: Option<T>,
    /// An operator's request.
    pub(crate) request: Option<RequestId>,
    /// Accesses that are served afterwards.
    pub(crate) waiters: Vec<Waiter<T>>,
    /// It is only tried: see [`Unmounting::quiet`].
    pub(crate) quiet: Option<Note>,
}

impl<T> Default for Wish<T> {
    fn default() -> Self {
        Self {
            expire: None,
            request: None,
            waiters: Vec::new(),
            quiet: None,
        }
    }
}

impl<T> Engine<T> {
    /// The kernel found `place` idle and waits until it is unmounted.
    pub(crate) fn expire_asked(&mut self, place: Place, ticket: T) {
        if !self.trees.contains_key(&place) {
            return self.reply(ticket, Answer::Failed(Cause::NoTrigger));
        }
        if self.lies_in_forsaken(&place) {
            let why: Arc<str> = "what it lies in comes from a server that does not answer".into();
            return self.reply(ticket, Answer::Failed(Cause::Busy(why)));
        }
        if let Some(cause) = self.pinned(&place) {
            return self.reply(ticket, Answer::Failed(cause));
        }
        let expire = Some(ticket);
        self.take_down(
            &place,
            Wish {
                expire,
                ..Wish::default()
            },
        );
    }

    /// An operator wants what is mounted at `path` unmounted.
    pub(crate) fn unmount_request(&mut self, id: RequestId, path: &BString) {
        let Some(place) = self.whole_of(path) else {
            return self.out.push(Command::Respond {
                id,
                response: Response::NoSuchPlace,
            });
        };
        let request = Some(id);
        self.take_down(
            &place,
            Wish {
                request,
                ..Wish::default()
            },
        );
    }

    /// Begins to unmount `place` and all of its entry below it, deepest first, unless a job
    /// works there already: then whoever wished it is told so.
    pub(crate) fn take_down(&mut self, place: &Place, wish: Wish<T>) -> Option<JobId> {
        let mut queue = Vec::new();
        match self.is_forsaken(place) {
            // It takes along what is below.
            true => queue.push(place.clone()),
            false => self.below(place, &mut queue),
        }
        let occupied = queue.is_empty()
            || queue.iter().any(|place| self.working.contains_key(place))
            || self.unmounting_above(place).is_some()
            || self.works_below(place)
            || self.adopting(&queue);
        if occupied {
            self.refuse_wish(place, wish);
            return None;
        }
        self.note_attempt(place);
        self.hide(place);
        let deadline = self.now + self.settings.unmount_deadline_ms;
        let expire = wish.expire.map(|ticket| (ticket, deadline));
        let has_ticket = expire.is_some();
        let id = self.begin(Job {
            place: place.clone(),
            started: self.now,
            requester: Requester::default(),
            waiters: wish.waiters,
            work: Work::Unmounting(Unmounting {
                queue,
                steps: Vec::new(),
                failure: None,
                stripping: false,
                expire,
                request: wish.request,
                quiet: wish.quiet,
            }),
        });
        if has_ticket {
            self.deadlines.insert((deadline, id));
        }
        self.next_level(id);
        Some(id)
    }

    fn refuse_wish(&mut self, place: &Place, wish: Wish<T>) {
        let why: Arc<str> = "something is being done there".into();
        let unfinished = self.trees.get(place).is_some_and(|tree| tree.unfinished);
        for waiter in wish.waiters {
            match unfinished {
                true => self.enter_unfinished(waiter),
                false => self.reply(waiter.ticket, Answer::Failed(Cause::Busy(why.clone()))),
            }
        }
        if let Some(ticket) = wish.expire {
            self.reply(ticket, Answer::Failed(Cause::Busy(why.clone())));
        }
        self.respond_left(wish.request, self.path_of(place), why);
    }

    /// The places of an entry from the top down: `place` first, the deepest last.
    pub(crate) fn below(&self, place: &Place, queue: &mut Vec<Place>) {
        let Some(tree) = self.trees.get(place) else {
            return;
        };
        queue.push(place.clone());
        for trigger in tree.triggers() {
            for (inner, _) in self.trees_of(trigger) {
                self.below(inner, queue);
            }
        }
    }

    /// Whether a job works in a trigger that would go with `place`.
    pub(crate) fn works_below(&self, place: &Place) -> bool {
        let Some(tree) = self.trees.get(place) else {
            return false;
        };
        tree.triggers().any(|trigger| {
            self.jobs_in(trigger).next().is_some()
                || self
                    .trees_of(trigger)
                    .any(|(place, _)| self.works_below(place))
        })
    }

    /// Whether a trigger of these places is still being taken over from an earlier life.
    pub(crate) fn adopting(&self, places: &[Place]) -> bool {
        let adopting = |id: TriggerId| {
            let trigger = self.triggers.get(&id);
            trigger.is_some_and(|trigger| trigger.state == State::Adopting)
        };
        places.iter().any(|place| {
            let mut below = self.trees.get(place).into_iter().flat_map(Tree::triggers);
            adopting(place.trigger) || below.any(adopting)
        })
    }

    /// Asks for the steps of the deepest place that is left; ends the job when none is.
    fn next_level(&mut self, id: JobId) {
        loop {
            let Some(job) = self.jobs.get(&id) else {
                return;
            };
            let Work::Unmounting(work) = &job.work else {
                return;
            };
            let Some(place) = work.queue.last().cloned() else {
                return self.finish_unmount(id, None);
            };
            let steps = match self.is_forsaken(&place) {
                true => self.steps_away(&place),
                false => self.steps_down(&place),
            };
            if !steps.is_empty() {
                self.hold_share(id, &place, &steps);
                return self.perform_down(id, steps);
            }
            self.level_gone(id);
        }
    }

    fn perform_down(&mut self, id: JobId, steps: Vec<Planned>) {
        let Some(Work::Unmounting(work)) = self.jobs.get_mut(&id).map(|job| &mut job.work) else {
            return;
        };
        work.steps = steps.clone();
        let deadline_ms = self.settings.unmount_deadline_ms;
        self.out.push(Command::Perform {
            job: id,
            steps,
            deadline_ms,
        });
    }

    /// The deepest place of a job is taken down.
    fn level_gone(&mut self, id: JobId) {
        let Some(Work::Unmounting(work)) = self.jobs.get_mut(&id).map(|job| &mut job.work) else {
            return;
        };
        if let Some(place) = work.queue.pop()
            && self.trees.contains_key(&place)
        {
            let path = self.path_of(&place);
            self.fell(&place);
            self.note(Note::Unmounted { path });
        }
    }

    /// The steps that take down one place whose entry has nothing mounted below it.
    fn steps_down(&self, place: &Place) -> Vec<Planned> {
        let mut steps = Vec::new();
        let Some(tree) = self.trees.get(place) else {
            return steps;
        };
        let must = |step| Planned {
            step,
            required: true,
        };
        let perhaps = |path| Planned {
            step: Step::RemoveDirectory { path },
            required: false,
        };
        let in_place = tree.offsets.iter().rev().filter(|it| !self.is_part(**it));
        for offset in in_place {
            if let Some(trigger) = self.triggers.get(offset) {
                steps.push(must(Step::Remove(trigger.spec.clone())));
            }
        }
        match &tree.how {
            How::Mount { helper, .. } => {
                let target = tree.target.clone();
                steps.push(must(Step::Unmount {
                    target,
                    helper: *helper,
                }));
            }
            How::Symlink { .. } => {
                if let Some(share) = &tree.share {
                    steps.extend(self.steps_unshared(place, share));
                }
                steps.push(must(Step::RemoveSymlink {
                    path: tree.target.clone(),
                }));
            }
            How::Submount(trigger) => {
                if let Some(trigger) = self.triggers.get(trigger) {
                    steps.push(must(Step::Remove(trigger.spec.clone())));
                }
            }
            How::Directory => {
                let made = with_parents(&tree.target, &tree.directories);
                steps.extend(made.into_iter().rev().map(perhaps));
            }
        }
        if tree.own_directory && !matches!(tree.how, How::Symlink { .. }) {
            steps.push(perhaps(tree.target.clone()));
        }
        steps
    }

    /// One place was taken down, or stays.
    pub(crate) fn unmounted(&mut self, id: JobId, work: Unmounting<T>, outcome: Outcome) {
        let Some(place) = work.queue.last().cloned() else {
            return self.put_back(id, work);
        };
        let steps = work.steps.clone();
        let stripping = work.stripping;
        self.put_back(id, work);
        if stripping {
            return self.stripped(id, &place, &steps, outcome);
        }
        let Some(failure) = outcome.failed else {
            self.level_gone(id);
            return self.next_level(id);
        };
        for done in &outcome.done {
            // Taken away, and could not be put back when a later step failed.
            if let Some(Step::Remove(spec)) = steps.get(done.index).map(|planned| &planned.step) {
                self.lose_offset(&place, spec.id, &failure);
            }
        }
        let failed = steps.get(failure.index).map(|planned| &planned.step);
        if matches!(failed, Some(Step::Unmount { .. })) && failure.errno == Errno::TIMEDOUT {
            // Whoever should have said good-bye did not: that may be all there is to it.
            self.server_is_silent(&place, &failure.text);
            if !self.running() && self.server_of(&place).is_some() {
                return self.perform_down(id, self.steps_away(&place));
            }
        }
        match failed {
            Some(Step::Remove(spec)) if not_there(failure.errno) => {
                // Somebody took the trigger away by hand.
                if self.is_offset_of(&place, spec.id) {
                    self.lose_offset(&place, spec.id, &failure);
                } else {
                    self.level_gone(id);
                }
                self.next_level(id);
            }
            Some(Step::Unmount { .. } | Step::RemoveSymlink { .. })
                if ![Errno::BUSY, Errno::TIMEDOUT].contains(&failure.errno) =>
            {
                self.inspect_failed(id, &place, failure);
            }
            _ => self.finish_unmount(id, Some(failure)),
        }
    }

    fn put_back(&mut self, id: JobId, work: Unmounting<T>) {
        if let Some(job) = self.jobs.get_mut(&id) {
            job.work = Work::Unmounting(work);
        }
    }

    /// Unmounting failed for another reason than use: perhaps nothing is mounted any more.
    fn inspect_failed(&mut self, id: JobId, place: &Place, failure: StepFailure) {
        let target = self.trees.get(place).map(|tree| tree.target.clone());
        let job = self.jobs.get_mut(&id).map(|job| &mut job.work);
        if let (Some(target), Some(Work::Unmounting(work))) = (target, job) {
            work.failure = Some(failure);
            self.out.push(Command::Inspect {
                job: id,
                target,
                pid: 0,
            });
        } else {
            self.finish_unmount(id, Some(failure));
        }
    }

    /// It is known whether what could not be unmounted is there at all.
    pub(crate) fn unmount_inspected(&mut self, id: JobId, mounted: bool) {
        let work = self.jobs.get_mut(&id).map(|job| &mut job.work);
        let Some(Work::Unmounting(work)) = work else {
            return;
        };
        let (Some(failure), Some(place)) = (work.failure.take(), work.queue.last().cloned()) else {
            return;
        };
        if mounted {
            return self.strip(id, &place, failure);
        }
        // Its offsets were put back when unmounting failed: they stand in a bare directory.
        self.lay_bare(&place);
        self.next_level(id);
    }

    /// umount(2) says that nothing is mounted, and yet something is there: perhaps only the
    /// offsets. They are taken away by themselves; then it will show.
    fn strip(&mut self, id: JobId, place: &Place, failure: StepFailure) {
        let tree = self.trees.get(place);
        let offsets = tree.map(|tree| tree.offsets.clone()).unwrap_or_default();
        if !not_there(failure.errno) || offsets.is_empty() || self.settings.whole_entries {
            return self.finish_unmount(id, Some(failure));
        }
        let remove = |offset: &TriggerId| {
            let spec = self.triggers.get(offset)?.spec.clone();
            Some(Planned {
                step: Step::Remove(spec),
                required: true,
            })
        };
        let steps = offsets.iter().rev().filter_map(remove).collect();
        if let Some(Work::Unmounting(work)) = self.jobs.get_mut(&id).map(|job| &mut job.work) {
            work.stripping = true;
        }
        self.perform_down(id, steps);
    }

    fn stripped(&mut self, id: JobId, place: &Place, steps: &[Planned], outcome: Outcome) {
        if let Some(Work::Unmounting(work)) = self.jobs.get_mut(&id).map(|job| &mut job.work) {
            work.stripping = false;
        }
        let why = StepFailure {
            index: 0,
            errno: Errno::INVAL,
            text: "it was unmounted by hand".into(),
        };
        for done in &outcome.done {
            if let Some(Step::Remove(spec)) = steps.get(done.index).map(|planned| &planned.step) {
                self.lose_offset(place, spec.id, &why);
            }
        }
        match outcome.failed {
            Some(failure) => self.finish_unmount(id, Some(failure)),
            None => self.next_level(id),
        }
    }

    fn is_offset_of(&self, place: &Place, trigger: TriggerId) -> bool {
        let tree = self.trees.get(place);
        tree.is_some_and(|tree| tree.offsets.contains(&trigger))
    }

    /// An offset (or submount) of an entry is no longer in place: the entry is broken.
    pub(crate) fn lose_offset(&mut self, place: &Place, trigger: TriggerId, failure: &StepFailure) {
        let cause = Cause::Mount(failure.errno, failure.text.clone());
        if let Some(tree) = self.trees.get_mut(place) {
            tree.offsets.retain(|offset| *offset != trigger);
            tree.broken = Some(cause);
            self.plan_round(place.trigger);
        }
        self.drop_trigger(trigger);
    }

    fn finish_unmount(&mut self, id: JobId, failure: Option<StepFailure>) {
        let Some(job) = self.end(id) else { return };
        let Work::Unmounting(work) = job.work else {
            return;
        };
        let at = work.queue.last();
        if let Some(failure) = &failure {
            self.note_failure(&job.place, failure);
        }
        let failed = failure.map(|failure| failure.text);
        if let (None, Some(note)) = (&failed, work.quiet.clone()) {
            self.note(note);
        }
        if let (Some(why), Some(place), None) = (&failed, at, &work.quiet) {
            let path = self.path_of(place);
            let now = self.now;
            if let Some(tree) = self.trees.get_mut(place) {
                tree.busy = Some((why.clone(), now));
            }
            let why = why.clone();
            self.note(Note::Stays { path, why });
        }
        if let Some((ticket, _)) = work.expire {
            let answer = match &failed {
                None => Answer::Ready,
                Some(why) => Answer::Failed(Cause::Busy(why.clone())),
            };
            self.reply(ticket, answer);
        }
        match failed {
            Some(why) => {
                let path = at.map(|place| self.path_of(place)).unwrap_or_default();
                self.respond_left(work.request, path, why);
            }
            None => self.respond_done(work.request),
        }
        self.keep_share(&job.place);
        self.keep_whole(&job.place);
        for waiter in job.waiters {
            self.enter_again(waiter);
        }
        self.after_work(&job.place);
    }

    /// Serves an access that waited for an unmount, unless it was for nothing.
    fn enter_again(&mut self, waiter: Waiter<T>) {
        let broken = self.trees.get(&waiter.place);
        let unfinished = broken.is_some_and(|tree| tree.unfinished);
        match broken.and_then(|tree| tree.broken.clone()) {
            Some(_) if unfinished => self.enter_unfinished(waiter),
            Some(cause) => self.reply(waiter.ticket, Answer::Failed(cause)),
            None => self.enter(waiter),
        }
    }

    /// Serves an access to what is there in parts and could not go.
    fn enter_unfinished(&mut self, waiter: Waiter<T>) {
        match self.running() && self.at_work(&waiter.place).is_none() {
            true => self.mend(waiter),
            false => self.enter(waiter),
        }
    }

    pub(crate) fn respond_left(
        &mut self,
        request: Option<RequestId>,
        path: BString,
        why: Arc<str>,
    ) {
        if let Some(id) = request {
            let response = Response::Done {
                left: alloc::vec![(path, why)],
            };
            self.out.push(Command::Respond { id, response });
        }
    }

    fn respond_done(&mut self, request: Option<RequestId>) {
        if let Some(id) = request {
            let response = Response::Done { left: Vec::new() };
            self.out.push(Command::Respond { id, response });
        }
    }

    /// What a job's end may have made possible: a trigger on its way out may go.
    pub(crate) fn after_work(&mut self, place: &Place) {
        let mut trigger = place.trigger;
        while let Some(owner) = self
            .triggers
            .get(&trigger)
            .and_then(|it| it.owner().cloned())
        {
            trigger = owner.trigger;
        }
        self.advance_leaving(trigger);
    }
}

/// Whether umount(2) said that there is nothing to unmount.
pub(crate) fn not_there(errno: Errno) -> bool {
    [Errno::INVAL, Errno::NOENT].contains(&errno)
}

/// Directories below `root` and those between, parents first.
fn with_parents(root: &BString, made: &[BString]) -> BTreeSet<BString> {
    let mut directories = BTreeSet::new();
    let below = |path: &&BString| path.len() > root.len() && path.starts_with(root);
    for path in made.iter().filter(below) {
        let slashes = path.iter().enumerate().skip(root.len() + 1);
        let parents = slashes.filter(|(_, byte)| **byte == b'/');
        directories.extend(parents.map(|(at, _)| BString::from(&path[..at])));
        directories.insert(path.clone());
    }
    directories
}
