//! Taking down what is idle: for the kernel's expiry, an operator, a reload or the end.

use alloc::sync::Arc;
use alloc::vec::Vec;

use bstr::BString;
use piton_map::requester::Requester;
use piton_plan::step::{Planned, Step};

use crate::cause::Cause;
use crate::command::{Answer, Command, Note, Response};
use crate::engine::Engine;
use crate::event::{JobId, Outcome, RequestId};
use crate::job::{Job, Unmounting, Work};
use crate::place::Place;
use crate::tree::How;

impl<T> Engine<T> {
    /// The kernel found `place` idle and waits until it is unmounted.
    pub(crate) fn expire_asked(&mut self, place: Place, ticket: T) {
        if !self.trees.contains_key(&place) {
            return self.reply(ticket, Answer::Failed(Cause::NoTrigger));
        }
        let deadline = self.now + self.settings.unmount_deadline_ms;
        self.take_down(&place, Some(ticket), deadline, None);
    }

    /// An operator wants what is mounted at `path` unmounted.
    pub(crate) fn unmount_request(&mut self, id: RequestId, path: &BString) {
        let place = self.trees.iter().find(|(_, tree)| tree.target == *path);
        let Some(place) = place.map(|(place, _)| place.clone()) else {
            return self.out.push(Command::Respond {
                id,
                response: Response::NoSuchPlace,
            });
        };
        let deadline = self.now + self.settings.unmount_deadline_ms;
        self.take_down(&place, None, deadline, Some(id));
    }

    /// Begins to unmount `place` and all of its entry below it, deepest first. Does nothing if
    /// a job works there already.
    pub(crate) fn take_down(
        &mut self,
        place: &Place,
        expire: Option<T>,
        deadline: crate::time::Millis,
        request: Option<RequestId>,
    ) {
        let mut queue = Vec::new();
        self.below(place, &mut queue);
        let occupied = queue.iter().any(|place| self.working.contains_key(place))
            || self.unmounting_above(place).is_some()
            || self.mounting_below(place);
        if occupied {
            let why: Arc<str> = "something is being done there".into();
            if let Some(ticket) = expire {
                self.reply(ticket, Answer::Failed(Cause::Busy(why.clone())));
            }
            return self.respond_left(request, self.path_of(place), why);
        }
        let expire = expire.map(|ticket| (ticket, deadline));
        let has_ticket = expire.is_some();
        let job = Job {
            place: place.clone(),
            started: self.now,
            requester: Requester::default(),
            waiters: Vec::new(),
            work: Work::Unmounting(Unmounting {
                queue,
                expire,
                request,
            }),
        };
        let id = self.begin(job);
        if has_ticket {
            self.deadlines.insert((deadline, id));
        }
        self.next_level(id);
    }

    /// The places of an entry from the top down: `place` first, the deepest last.
    fn below(&self, place: &Place, queue: &mut Vec<Place>) {
        let Some(tree) = self.trees.get(place) else {
            return;
        };
        queue.push(place.clone());
        for offset in &tree.offsets {
            self.below(&Place::of(*offset), queue);
        }
        if let How::Submount(trigger) = tree.how {
            let keys: Vec<Place> = self
                .trees_of(trigger)
                .map(|(place, _)| place.clone())
                .collect();
            for key in keys {
                self.below(&key, queue);
            }
        }
    }

    /// Whether a mount is under way in a trigger that would go with `place`.
    fn mounting_below(&self, place: &Place) -> bool {
        let Some(tree) = self.trees.get(place) else {
            return false;
        };
        let submount = match tree.how {
            How::Submount(trigger) => Some(trigger),
            _ => None,
        };
        tree.offsets.iter().copied().chain(submount).any(|trigger| {
            self.working
                .range(Place::of(trigger)..)
                .next()
                .is_some_and(|(place, _)| place.trigger == trigger)
                || self
                    .trees_of(trigger)
                    .any(|(place, _)| self.mounting_below(place))
        })
    }

    /// Asks for the steps of the deepest place that is left.
    fn next_level(&mut self, id: JobId) {
        let Some(job) = self.jobs.get(&id) else {
            return;
        };
        let Work::Unmounting(work) = &job.work else {
            return;
        };
        let Some(place) = work.queue.last() else {
            return;
        };
        let steps = self.steps_down(place);
        let deadline_ms = self.settings.unmount_deadline_ms;
        self.out.push(Command::Perform {
            job: id,
            steps,
            deadline_ms,
        });
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
        for offset in tree.offsets.iter().rev() {
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
                steps.push(must(Step::RemoveSymlink {
                    path: tree.target.clone(),
                }));
            }
            How::Submount(trigger) => {
                if let Some(trigger) = self.triggers.get(trigger) {
                    steps.push(must(Step::Remove(trigger.spec.clone())));
                }
            }
            How::Directory => {}
        }
        if tree.own_directory && !matches!(tree.how, How::Symlink { .. }) {
            let step = Step::RemoveDirectory {
                path: tree.target.clone(),
            };
            steps.push(Planned {
                step,
                required: false,
            });
        }
        steps
    }

    /// One place was taken down, or stays.
    pub(crate) fn unmounted(&mut self, id: JobId, mut work: Unmounting<T>, outcome: Outcome) {
        let place = work.queue.pop();
        if let (Some(place), None) = (&place, &outcome.failed) {
            let path = self.path_of(place);
            self.fell(place);
            self.note(Note::Unmounted { path });
        }
        let failed = outcome.failed.map(|failure| failure.text);
        let over = failed.is_some() || work.queue.is_empty();
        let Some(job) = self.jobs.get_mut(&id) else {
            return;
        };
        job.work = Work::Unmounting(work);
        if !over {
            return self.next_level(id);
        }
        self.finish_unmount(id, place.as_ref(), failed);
    }

    fn finish_unmount(&mut self, id: JobId, at: Option<&Place>, failed: Option<Arc<str>>) {
        let Some(job) = self.end(id) else { return };
        let Work::Unmounting(work) = job.work else {
            return;
        };
        if let (Some(why), Some(place)) = (&failed, at) {
            let path = self.path_of(place);
            if let Some(tree) = self.trees.get_mut(place) {
                tree.busy = Some(why.clone());
            }
            self.note(Note::Stays {
                path,
                why: why.clone(),
            });
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
        for waiter in job.waiters {
            self.enter(waiter);
        }
        self.after_work(&job.place);
    }

    fn respond_left(&mut self, request: Option<RequestId>, path: BString, why: Arc<str>) {
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
