//! The end: unmount what is idle, say what stays; or leave all as it is.

use alloc::collections::{BTreeMap, BTreeSet};
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::mem;

use bstr::BString;
use piton_path::are_related;
use piton_plan::step::TriggerId;

use crate::cause::{Cause, Errno};
use crate::command::{Answer, Command, Note, Response};
use crate::engine::Engine;
use crate::event::{Event, JobId, RequestId, StepFailure};
use crate::limits::{OPERATOR_REQUESTS, PASSING_MS, ROUND_PATIENCE_MS, STOP_PATIENCE_MS};
use crate::place::Place;
use crate::time::Millis;
use crate::trigger::{Round, State};
use crate::unmounting::Wish;

/// Which part of its life the daemon is in.
#[derive(Debug)]
pub(crate) enum Phase {
    /// Serving.
    Running,
    /// Ending: no access is served any more.
    Stopping(Stopping),
    /// Over.
    Finished,
}

/// What is known while the daemon ends.
#[derive(Debug)]
pub(crate) struct Stopping {
    /// Who asked.
    requests: Vec<RequestId>,
    /// Leave everything mounted.
    detach: bool,
    /// Mount points that could not be taken away, with the reason.
    stuck: BTreeMap<TriggerId, Arc<str>>,
    /// What was mounted for triggers that are gone, and could not be taken back.
    orphaned: BTreeMap<BString, Arc<str>>,
    /// What was tried to be unmounted since; what is still there stays.
    tried: BTreeSet<Place>,
    /// Triggers in which the kernel was looking for idle mounts when this began, with their paths.
    /// It looks through a descriptor of ours, which makes them busy; it is not asked again.
    looking: BTreeMap<TriggerId, BString>,
    /// What was busy near those, perhaps for nobody else: it gets a second try.
    hindered: BTreeSet<Place>,
    /// Mount points that were busy although nothing is mounted in them: somebody may just have
    /// walked by. They get a second try, too.
    hindered_points: BTreeSet<TriggerId>,
    /// What is busy from now on stays.
    tried_again: bool,
    /// When the world last answered anything.
    progress: Millis,
}

impl Stopping {
    /// Whether what failed so gets a second try at all.
    fn may_be_tried_again(&self, failure: &StepFailure) -> bool {
        failure.errno == Errno::BUSY && !self.tried_again
    }

    /// Whether something at `path` may be busy only because the kernel looked there.
    fn may_be_hindered(&self, path: &BString) -> bool {
        self.looking.values().any(|at| are_related(at, path))
    }
}

impl<T> Engine<T> {
    /// Whether accesses are served.
    pub(crate) fn running(&self) -> bool {
        matches!(self.phase, Phase::Running)
    }

    /// Whether all that is mounted is on its way out.
    pub(crate) fn clears_up(&self) -> bool {
        matches!(&self.phase, Phase::Stopping(stopping) if !stopping.detach)
    }

    /// Begins the end.
    pub(crate) fn stop(&mut self, request: RequestId, detach: bool) {
        if let Phase::Stopping(stopping) = &mut self.phase {
            if stopping.requests.len() < OPERATOR_REQUESTS {
                stopping.requests.push(request);
            } else {
                let response = Response::Done { left: Vec::new() };
                let id = request;
                self.out.push(Command::Respond { id, response });
            }
            return;
        }
        self.phase = Phase::Stopping(Stopping {
            requests: alloc::vec![request],
            detach,
            stuck: BTreeMap::new(),
            orphaned: BTreeMap::new(),
            tried: BTreeSet::new(),
            looking: self.looked_in(),
            hindered: BTreeSet::new(),
            hindered_points: BTreeSet::new(),
            tried_again: false,
            progress: self.now,
        });
        if !detach {
            self.send_away();
            self.waiting.clear();
            let points: Vec<TriggerId> = self.points.values().rev().copied().collect();
            self.leave(&points);
        }
    }

    /// The triggers in which the kernel is being asked for idle mounts.
    fn looked_in(&self) -> BTreeMap<TriggerId, BString> {
        let asked = |id: &TriggerId| self.is_looked_in(*id);
        let triggers = self.triggers.iter().filter(|(id, _)| asked(id));
        triggers
            .map(|(id, trigger)| (*id, trigger.spec.path.clone()))
            .collect()
    }

    fn is_looked_in(&self, id: TriggerId) -> bool {
        let trigger = self.triggers.get(&id);
        trigger.is_some_and(|trigger| matches!(trigger.round, Round::Asked(_)))
    }

    /// Drops jobs that have changed nothing yet: what they would mount goes at once anyway.
    fn send_away(&mut self) {
        let only_asking: Vec<JobId> = self
            .jobs
            .iter()
            .filter(|(_, job)| job.only_asks())
            .map(|(id, _)| *id)
            .collect();
        for id in only_asking {
            self.fail(id, Cause::Stopping, false);
        }
    }

    /// A mount point stays although it should go.
    pub(crate) fn stays(&mut self, id: TriggerId, path: &BString, failure: &StepFailure) {
        let why = failure.text.clone();
        if let Phase::Stopping(stopping) = &mut self.phase {
            if stopping.may_be_tried_again(failure) {
                stopping.hindered_points.insert(id);
            }
            stopping.stuck.insert(id, why.clone());
        }
        self.note(Note::Stays {
            path: path.clone(),
            why,
        });
    }

    /// An unmount failed.
    pub(crate) fn note_failure(&mut self, place: &Place, failure: &StepFailure) {
        let path = self.path_of(place);
        if let Phase::Stopping(stopping) = &mut self.phase
            && stopping.may_be_tried_again(failure)
            && stopping.may_be_hindered(&path)
        {
            stopping.hindered.insert(place.clone());
        }
    }

    /// Remembers what could not be taken back.
    pub(crate) fn leave_behind(&mut self, path: &BString, why: &Arc<str>) {
        if let Phase::Stopping(stopping) = &mut self.phase {
            stopping.orphaned.insert(path.clone(), why.clone());
        }
    }

    /// Remembers that unmounting was tried: at the end each place gets one honest try.
    pub(crate) fn note_attempt(&mut self, place: &Place) {
        if let Phase::Stopping(stopping) = &mut self.phase {
            stopping.tried.insert(place.clone());
        }
    }

    /// Remembers that the world still answers.
    pub(crate) fn note_progress(&mut self, event: &Event<T>) {
        if let Phase::Stopping(stopping) = &mut self.phase {
            match event {
                Event::Fetched { .. }
                | Event::Planned { .. }
                | Event::Resolved { .. }
                | Event::Probed { .. }
                | Event::Performed { .. }
                | Event::Inspected { .. }
                | Event::Hidden { .. }
                | Event::Installed { .. }
                | Event::Removed { .. } => stopping.progress = self.now,
                Event::Access { .. }
                | Event::ExistsAsked { .. }
                | Event::ExpireAsked { .. }
                | Event::ExpireDone { .. }
                | Event::Configure(_)
                | Event::Listed { .. }
                | Event::Checked { .. }
                | Event::Moved { .. }
                | Event::Request { .. }
                | Event::Tick => {}
            }
        }
    }

    /// Until when a stop waits for the world's next answer.
    pub(crate) fn stop_patience(&self) -> Option<Millis> {
        let Phase::Stopping(stopping) = &self.phase else {
            return None;
        };
        let settings = &self.settings;
        let longest = settings.deadline_ms.max(settings.unmount_deadline_ms);
        Some(stopping.progress + longest.saturating_add(STOP_PATIENCE_MS))
    }

    /// When a stop tries once more what was busy, if that is all it waits for: the kernel shall have
    /// looked, and whoever walked by be gone.
    pub(crate) fn second_try(&self) -> Option<Millis> {
        let Phase::Stopping(stopping) = &self.phase else {
            return None;
        };
        let hindered = !stopping.hindered.is_empty() || !stopping.hindered_points.is_empty();
        let waits = hindered && self.jobs.is_empty() && !self.points_moving();
        waits.then(|| match self.still_looking() {
            true => stopping.progress + ROUND_PATIENCE_MS,
            false => stopping.progress + PASSING_MS,
        })
    }

    /// Ends when nothing is under way any more, or when what is under way is stuck.
    pub(crate) fn advance_stop(&mut self) {
        let Phase::Stopping(stopping) = &self.phase else {
            return;
        };
        let detach = stopping.detach;
        if self.stop_patience().is_some_and(|end| end <= self.now) {
            return self.finish();
        }
        if detach {
            self.drop_abandoned();
        }
        if !self.jobs.is_empty() || self.points_moving() {
            return;
        }
        if !detach && (self.try_the_rest() || self.remove_empty() || self.try_the_hindered()) {
            return;
        }
        self.finish();
    }

    /// Ends jobs that nobody waits for and that have changed nothing.
    fn drop_abandoned(&mut self) {
        let abandoned: Vec<JobId> = self
            .jobs
            .iter()
            .filter(|(_, job)| job.waiters.is_empty() && job.only_asks())
            .map(|(id, _)| *id)
            .collect();
        for id in abandoned {
            self.end(id);
        }
    }

    /// Whether a mount point is still being put in place or taken away.
    fn points_moving(&self) -> bool {
        let mut points = self.points.values();
        points.any(|id| self.triggers.get(id).is_some_and(|it| it.moving()))
    }

    /// Unmounts what could not be tried before because something was being done there.
    fn try_the_rest(&mut self) -> bool {
        let Phase::Stopping(stopping) = &self.phase else {
            return false;
        };
        let untried: Vec<Place> = self
            .points
            .values()
            .flat_map(|id| self.trees_of(*id))
            .map(|(place, _)| place)
            .filter(|place| !stopping.tried.contains(*place))
            .cloned()
            .collect();
        for place in &untried {
            self.take_down(place, Wish::default());
            self.note_attempt(place);
        }
        !self.jobs.is_empty()
    }

    fn remove_empty(&mut self) -> bool {
        let Phase::Stopping(stopping) = &self.phase else {
            return false;
        };
        let points: Vec<TriggerId> = self
            .points
            .values()
            .filter(|id| !stopping.stuck.contains_key(id) && self.is_empty(**id))
            .copied()
            .collect();
        self.remove_leaving(&points)
    }

    /// Tries once more what was busy. Whether that is waited for, or was begun.
    fn try_the_hindered(&mut self) -> bool {
        let Some(time) = self.second_try() else {
            return false;
        };
        if self.now < time {
            return true;
        }
        let Phase::Stopping(stopping) = &mut self.phase else {
            return false;
        };
        stopping.tried_again = true;
        for place in mem::take(&mut stopping.hindered) {
            stopping.tried.remove(&place);
        }
        for point in mem::take(&mut stopping.hindered_points) {
            stopping.stuck.remove(&point);
        }
        self.try_the_rest() || self.remove_empty()
    }

    /// Whether the kernel still looks near anything that was hindered.
    fn still_looking(&self) -> bool {
        let Phase::Stopping(stopping) = &self.phase else {
            return false;
        };
        let points = stopping.hindered_points.iter().copied().map(Place::of);
        let hindered: Vec<BString> = stopping
            .hindered
            .iter()
            .cloned()
            .chain(points)
            .map(|place| self.path_of(&place))
            .collect();
        let mut looking = stopping.looking.iter();
        looking.any(|(id, at)| {
            self.is_looked_in(*id) && hindered.iter().any(|path| are_related(at, path))
        })
    }

    /// The end. What is still under way is given up, whoever still waits is told.
    fn finish(&mut self) {
        let Phase::Stopping(stopping) = mem::replace(&mut self.phase, Phase::Finished) else {
            return;
        };
        let left = match stopping.detach {
            true => Vec::new(),
            false => self.left_behind(&stopping),
        };
        let jobs: Vec<JobId> = self.jobs.keys().copied().collect();
        for id in jobs {
            self.give_up(id);
        }
        self.end_expire_requests();
        self.end_drain_requests();
        self.deadlines.clear();
        self.rounds.clear();
        self.clearings.clear();
        for id in stopping.requests {
            let response = Response::Done { left: left.clone() };
            self.out.push(Command::Respond { id, response });
        }
        self.out.push(Command::Finished { left });
    }

    /// Ends a job whose last command was never answered.
    fn give_up(&mut self, id: JobId) {
        let path = self.jobs.get(&id).map(|job| self.path_of_job(id, job));
        let Some(job) = self.end(id) else { return };
        for waiter in job.waiters {
            self.reply(waiter.ticket, Answer::Failed(Cause::Stopping));
        }
        if let crate::job::Work::Unmounting(work) = job.work {
            if let Some((ticket, _)) = work.expire {
                self.reply(ticket, Answer::Failed(Cause::Stopping));
            }
            self.respond_left(work.request, path.unwrap_or_default(), stuck());
        }
    }

    fn left_behind(&self, stopping: &Stopping) -> Vec<(BString, Arc<str>)> {
        let mut left = stopping.orphaned.clone();
        for (path, id) in &self.points {
            let moving = self
                .triggers
                .get(id)
                .is_some_and(|it| it.state != State::Ready);
            let why = match stopping.stuck.get(id) {
                Some(why) => why.clone(),
                None if moving => stuck(),
                None => "something in it stays".into(),
            };
            left.insert(path.clone(), why);
        }
        for tree in self.trees.values() {
            let why = tree.why_busy();
            let why = why.unwrap_or_else(|| "something below it is in use".into());
            left.insert(tree.target.clone(), why);
        }
        for (id, job) in &self.jobs {
            left.insert(self.path_of_job(*id, job), stuck());
        }
        left.into_iter().collect()
    }
}

/// Why something stays that the world never spoke of again.
fn stuck() -> Arc<str> {
    "what was being done there did not end".into()
}
