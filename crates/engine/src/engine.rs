//! The state, and the one way in.

use alloc::collections::{BTreeMap, BTreeSet, VecDeque};
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::mem;

use bstr::BString;
use piton_map::requester::Requester;
use piton_path::are_related;
use piton_plan::step::{TriggerId, TriggerKind};

use crate::care::{Care, DrainRequest};
use crate::cause::Cause;
use crate::command::{Answer, Command, Note, Response};
use crate::config::{Point, Settings};
use crate::event::{Event, JobId, Request, RequestId};
use crate::expire::{ExpireRequest, covers};
use crate::failover::Moved;
use crate::job::{Job, Whom, Work};
use crate::learning::Learning;
use crate::names::Known;
use crate::negative::Negative;
use crate::place::Place;
use crate::servers::Servers;
use crate::sharing::Shares;
use crate::status::LastError;
use crate::stop::Phase;
use crate::time::Millis;
use crate::tree::Tree;
use crate::trigger::{Trigger, Usage};
use crate::whole::Stirred;

/// The automounter's decisions. `T` is the front end's ticket.
pub struct Engine<T> {
    pub(crate) settings: Settings,
    pub(crate) now: Millis,
    pub(crate) out: Vec<Command<T>>,
    pub(crate) triggers: BTreeMap<TriggerId, Trigger>,
    /// Mount points of the configuration by path.
    pub(crate) points: BTreeMap<BString, TriggerId>,
    pub(crate) trees: BTreeMap<Place, Tree>,
    pub(crate) jobs: BTreeMap<JobId, Job<T>>,
    /// Mount points that are to be put in place once nothing is in the way any more.
    pub(crate) waiting: BTreeMap<BString, Point>,
    /// Something may be out of the way of one of those.
    pub(crate) stirred: bool,
    /// The job at each place that has one.
    pub(crate) working: BTreeMap<Place, JobId>,
    /// Jobs whose trigger is gone, and the path at which they still do something.
    pub(crate) orphans: BTreeMap<JobId, BString>,
    /// When waiters must be answered.
    pub(crate) deadlines: BTreeSet<(Millis, JobId)>,
    /// When triggers are looked at for expiry.
    pub(crate) rounds: BTreeSet<(Millis, TriggerId)>,
    /// When what orphans left is tried to be taken back again.
    pub(crate) clearings: BTreeSet<(Millis, JobId)>,
    pub(crate) negative: Negative,
    /// What maps said of names that nobody followed yet.
    pub(crate) known: Known,
    /// What keys share.
    pub(crate) shares: Shares,
    /// Somebody may wait for a share that nobody holds any more.
    pub(crate) shares_free: bool,
    /// Jobs whose entry may be complete.
    pub(crate) completing: Stirred,
    pub(crate) servers: Servers,
    /// Questions to servers under way, the job that asks, and the others that want to know the
    /// same.
    pub(crate) questions: BTreeMap<Vec<Whom>, (JobId, Vec<JobId>)>,
    pub(crate) expire_requests: Vec<ExpireRequest>,
    pub(crate) care: Care,
    pub(crate) drain_requests: Vec<DrainRequest>,
    /// When what can move is looked at next.
    pub(crate) look: Option<Millis>,
    /// How often servers had died or returned when that was last done.
    pub(crate) turns_seen: u64,
    /// Places that were let go of not long ago.
    pub(crate) moved: BTreeMap<Place, Moved>,
    /// What an earlier life mounted, and maps are to be asked about.
    pub(crate) learning: Learning,
    pub(crate) last_errors: VecDeque<LastError>,
    pub(crate) phase: Phase,
    next_trigger: u32,
    next_job: u64,
    chances: u64,
}

impl<T> Engine<T> {
    /// An engine that keeps nothing in place yet.
    pub fn new(settings: Settings) -> Self {
        Self {
            settings,
            now: Millis(0),
            out: Vec::new(),
            triggers: BTreeMap::new(),
            points: BTreeMap::new(),
            trees: BTreeMap::new(),
            waiting: BTreeMap::new(),
            stirred: false,
            jobs: BTreeMap::new(),
            working: BTreeMap::new(),
            orphans: BTreeMap::new(),
            deadlines: BTreeSet::new(),
            rounds: BTreeSet::new(),
            clearings: BTreeSet::new(),
            negative: Negative::default(),
            known: Known::default(),
            shares: Shares::new(),
            shares_free: false,
            completing: Stirred::new(),
            servers: Servers::default(),
            questions: BTreeMap::new(),
            expire_requests: Vec::new(),
            care: Care::default(),
            drain_requests: Vec::new(),
            look: None,
            turns_seen: 0,
            moved: BTreeMap::new(),
            learning: Learning::default(),
            last_errors: VecDeque::new(),
            phase: Phase::Running,
            next_trigger: 1,
            next_job: 1,
            chances: 0,
        }
    }

    /// Takes one event and appends what is to be done to `out`.
    ///
    /// After `Command::Finished` only tickets and requests that still come in are answered.
    pub fn handle(&mut self, now: Millis, event: Event<T>, out: &mut Vec<Command<T>>) {
        self.now = self.now.max(now);
        mem::swap(&mut self.out, out);
        if self.finished() {
            self.refuse(event);
        } else {
            self.note_progress(&event);
            self.dispatch(event);
            self.advance_completing();
            self.advance_sharing();
            if mem::take(&mut self.stirred) {
                self.advance_waiting();
            }
            self.end_care();
            self.tend_learning();
            self.tend_replicas();
            self.advance_expire_requests();
            self.advance_drain_requests();
            self.advance_stop();
        }
        mem::swap(&mut self.out, out);
    }

    /// When the engine wants an [`Event::Tick`] at the latest.
    pub fn next_wake(&self) -> Option<Millis> {
        let deadline = self.deadlines.first().map(|(at, _)| *at);
        let round = self.rounds.first().map(|(at, _)| *at);
        let clearing = self.clearings.first().map(|(at, _)| *at);
        let check = self.servers.next_check().filter(|_| self.running());
        let look = self.look.filter(|_| self.running());
        let lesson = self.learning.next().filter(|_| self.learns());
        let care = self.care.next_end().filter(|_| self.running());
        let patience = self.stop_patience();
        let second_try = self.second_try();
        let all = [
            deadline, round, clearing, check, look, lesson, care, patience, second_try,
        ];
        all.into_iter().flatten().min()
    }

    /// Where the steps of a job's [`Command::Perform`] are at work: the trigger and the key.
    /// Nothing for a job that has ended or whose trigger is gone.
    pub fn work_at(&self, job: JobId) -> Option<(TriggerId, BString)> {
        let job = self.jobs.get(&job)?;
        let place = match &job.work {
            Work::Unmounting(work) => work.queue.last().unwrap_or(&job.place),
            _ => &job.place,
        };
        let known = self.triggers.contains_key(&place.trigger);
        let place = self.root_place(place);
        known.then_some((place.trigger, place.key))
    }

    /// Whether something is mounted at a key of a trigger (an empty key for direct and offset
    /// triggers), as far as the engine knows.
    pub fn is_mounted(&self, trigger: TriggerId, key: &BString) -> bool {
        self.tree(trigger, key).is_some()
    }

    /// Whether only a part of an entry is in place there, which must go before it is used again.
    pub fn is_broken(&self, trigger: TriggerId, key: &BString) -> bool {
        let broken = |tree: &Tree| tree.broken.is_some();
        self.tree(trigger, key).is_some_and(broken)
            || self.is_incomplete(&self.place(trigger, key.clone()))
    }

    fn tree(&self, trigger: TriggerId, key: &BString) -> Option<&Tree> {
        self.trees.get(&self.place(trigger, key.clone()))
    }

    /// The settings it was given.
    pub fn settings(&self) -> &Settings {
        &self.settings
    }

    /// Whether nothing is being done for anybody.
    pub fn is_idle(&self) -> bool {
        self.jobs.is_empty()
    }

    /// Whether `Command::Finished` was given.
    pub fn finished(&self) -> bool {
        matches!(self.phase, Phase::Finished)
    }

    fn dispatch(&mut self, event: Event<T>) {
        match event {
            Event::Access {
                trigger,
                key,
                requester,
                waited_ms,
                ticket,
            } => {
                self.access(self.place(trigger, key), requester, waited_ms, ticket);
            }
            Event::ExistsAsked {
                trigger,
                key,
                requester,
                ticket,
            } => self.exists(self.place(trigger, key), requester, ticket),
            Event::ExpireAsked {
                trigger,
                key,
                ticket,
            } => {
                self.expire_asked(self.place(trigger, key), ticket);
            }
            Event::Fetched {
                job, names, result, ..
            } if self.learns_from(job) => self.fetched_to_learn(names, result),
            Event::Fetched {
                job,
                names,
                costly,
                result,
            } => {
                self.fetched(job, names, costly, result);
            }
            Event::Planned { job, planning } if self.learns_from(job) => {
                self.planned_apart_to_learn(*planning);
            }
            Event::Planned { job, planning } => self.planned_apart(job, *planning),
            Event::Resolved { job, answers } if self.learns_from(job) => {
                self.resolved_to_learn(&answers);
            }
            Event::Resolved { job, answers } => self.resolved(job, &answers),
            Event::Probed { job, answers } => self.probed(job, answers),
            Event::Performed { job, outcome } => self.performed(job, outcome),
            Event::Inspected { job, mounted } => self.inspected(job, mounted),
            Event::Hidden { job } => self.hidden(job),
            Event::Installed { results } => self.installed(results),
            Event::Removed { results } => self.removed(results),
            Event::ExpireDone { trigger } => self.expire_done(trigger),
            Event::Configure(configuration) => {
                self.known.forget();
                self.configure(configuration);
            }
            Event::Listed { path, listing } => self.listed(&path, listing),
            Event::Checked { server, answers } => self.checked(&server, &answers),
            Event::Moved { interfaces, routes } => {
                let facts = Arc::make_mut(&mut self.settings.facts);
                facts.interfaces = interfaces;
                facts.routes = routes;
            }
            Event::Request { id, request } => self.request(id, request),
            Event::Tick => self.tick(),
        }
    }

    /// What is answered after the end: whoever still waits must not wait for ever.
    fn refuse(&mut self, event: Event<T>) {
        match event {
            Event::Access { ticket, .. }
            | Event::ExistsAsked { ticket, .. }
            | Event::ExpireAsked { ticket, .. } => {
                self.reply(ticket, Answer::Failed(Cause::Stopping));
            }
            Event::Request { id, .. } => {
                let response = Response::Done { left: Vec::new() };
                self.out.push(Command::Respond { id, response });
            }
            Event::Fetched { .. }
            | Event::Planned { .. }
            | Event::Resolved { .. }
            | Event::Probed { .. }
            | Event::Performed { .. }
            | Event::Inspected { .. }
            | Event::Hidden { .. }
            | Event::Installed { .. }
            | Event::Removed { .. }
            | Event::ExpireDone { .. }
            | Event::Configure(_)
            | Event::Listed { .. }
            | Event::Checked { .. }
            | Event::Moved { .. }
            | Event::Tick => {}
        }
    }

    /// The place that a front end means: direct and offset triggers have no keys, whatever
    /// the kernel wrote into the packet.
    fn place(&self, trigger: TriggerId, key: BString) -> Place {
        let kind = self.triggers.get(&trigger).map(|it| it.spec.kind);
        match kind {
            Some(TriggerKind::Direct | TriggerKind::Offset) => Place::of(trigger),
            Some(TriggerKind::Indirect) | None => Place { trigger, key },
        }
    }

    fn request(&mut self, id: RequestId, request: Request) {
        match request {
            Request::Expire { path } => self.expire_request(id, path),
            Request::Flush { path } => self.flush(id, path.as_ref()),
            Request::Unmount { path } => self.unmount_request(id, &path),
            Request::Drain { server, now, until } => self.drain(id, server, now, until),
            Request::Undrain { server } => self.undrain(id, &server),
            Request::Pin { path, until } => self.pin(id, path, until),
            Request::Unpin { path } => self.unpin(id, &path),
            Request::Stop { detach } => self.stop(id, detach),
        }
    }

    fn tick(&mut self) {
        while let Some((at, job)) = self.deadlines.first().copied()
            && at <= self.now
        {
            self.deadlines.pop_first();
            self.answer_overdue(job);
        }
        while let Some((at, trigger)) = self.rounds.first().copied()
            && at <= self.now
        {
            self.rounds.pop_first();
            self.round(trigger);
        }
        if self.running() {
            self.check_servers();
        }
        while let Some((at, job)) = self.clearings.first().copied()
            && at <= self.now
        {
            self.clearings.pop_first();
            self.clear_again(job);
        }
    }

    /// Answers the waiters of a job whose deadline has passed; the job itself goes on: what it
    /// mounts late is kept, and serves the next access.
    fn answer_overdue(&mut self, id: JobId) {
        let now = self.now;
        let Some(job) = self.jobs.get_mut(&id) else {
            return;
        };
        let (late, waiting) = mem::take(&mut job.waiters)
            .into_iter()
            .partition(|waiter| waiter.deadline <= now);
        job.waiters = waiting;
        let late: Vec<_> = late;
        let place = (!late.is_empty()).then(|| job.place.clone());
        let mut tickets: Vec<T> = late.into_iter().map(|waiter| waiter.ticket).collect();
        if let Work::Unmounting(work) = &mut job.work
            && work
                .expire
                .as_ref()
                .is_some_and(|(_, deadline)| *deadline <= now)
            && let Some((ticket, _)) = work.expire.take()
        {
            tickets.push(ticket);
        }
        if let Some(place) = place {
            let path = self.path_of(&place);
            self.remember_error(&place, &path, &Cause::TimedOut);
        }
        for ticket in tickets {
            self.reply(ticket, Answer::Failed(Cause::TimedOut));
        }
    }

    /// An operator wants what failed tried anew, at or below a path or everywhere. Servers are
    /// forgiven in any case: what failed may have failed for one of them.
    fn flush(&mut self, id: RequestId, path: Option<&BString>) {
        let meant = |place: &&Place| covers(path, &self.path_of(place));
        let places: Vec<Place> = self.negative.places().filter(meant).cloned().collect();
        for place in &places {
            self.negative.forget(place);
        }
        self.forgive_servers();
        let response = Response::Flushed(places.len() as u64);
        self.out.push(Command::Respond { id, response });
    }

    // -- small tools for the other modules ------------------------------------------------

    pub(crate) fn reply(&mut self, ticket: T, answer: Answer) {
        self.out.push(Command::Reply { ticket, answer });
    }

    pub(crate) fn note(&mut self, note: Note) {
        self.out.push(Command::Note(note));
    }

    /// A number that differs each time; the same for the same seed and events.
    pub(crate) fn chance(&mut self) -> u64 {
        self.chances = self.chances.wrapping_add(1);
        self.settings.seed ^ self.chances.rotate_left(32) ^ self.now.0
    }

    pub(crate) fn new_trigger_id(&mut self) -> TriggerId {
        let id = TriggerId(self.next_trigger);
        self.next_trigger += 1;
        id
    }

    /// The number of the next trigger.
    pub(crate) fn next_trigger_id(&self) -> TriggerId {
        TriggerId(self.next_trigger)
    }

    pub(crate) fn new_job_id(&mut self) -> JobId {
        let id = JobId(self.next_job);
        self.next_job += 1;
        id
    }

    /// Enters a job at its place.
    pub(crate) fn begin(&mut self, job: Job<T>) -> JobId {
        let id = self.new_job_id();
        self.working.insert(job.place.clone(), id);
        for waiter in &job.waiters {
            self.deadlines.insert((waiter.deadline, id));
        }
        self.jobs.insert(id, job);
        id
    }

    /// Takes a job from its place.
    pub(crate) fn end(&mut self, id: JobId) -> Option<Job<T>> {
        let job = self.jobs.remove(&id)?;
        self.working.remove(&job.place);
        self.part_ended(&job.place);
        self.let_shares_go(id);
        self.stir(&job.place);
        if self.orphans.remove(&id).is_some() {
            self.clearings.retain(|(_, job)| *job != id);
        }
        for waiter in &job.waiters {
            self.deadlines.remove(&(waiter.deadline, id));
        }
        if let Work::Unmounting(work) = &job.work
            && let Some((_, deadline)) = &work.expire
        {
            self.deadlines.remove(&(*deadline, id));
        }
        Some(job)
    }

    /// A job that still does something at, above or below a place, for a trigger that is gone:
    /// what it does must not get mixed up with something new.
    pub(crate) fn orphan_near(&self, place: &Place) -> Option<JobId> {
        if self.orphans.is_empty() {
            return None;
        }
        let path = self.path_of(place);
        let near = |other: &BString| are_related(other, &path);
        let mut orphans = self.orphans.iter();
        orphans.find(|(_, other)| near(other)).map(|(id, _)| *id)
    }

    /// Absolute path of what a job is about, for people; its trigger may be gone.
    pub(crate) fn path_of_job(&self, id: JobId, job: &Job<T>) -> BString {
        let path = self.orphans.get(&id).cloned();
        path.unwrap_or_else(|| self.path_of(&job.place))
    }

    /// Absolute path of a place, for people.
    pub(crate) fn path_of(&self, place: &Place) -> BString {
        let Some(trigger) = self.triggers.get(&place.trigger) else {
            return place.key.clone();
        };
        let mut path = trigger.spec.path.clone();
        if trigger.spec.kind == TriggerKind::Indirect && !place.key.is_empty() {
            path.push(b'/');
            path.extend_from_slice(&place.key);
        }
        path
    }

    /// Milliseconds that a job's next command may take: as long as anybody waits for it.
    pub(crate) fn remaining(&self, job: JobId) -> u64 {
        let Some(job) = self.jobs.get(&job) else {
            return 0;
        };
        let last = match self.completes(job) {
            true => Some(job.started + self.settings.deadline_ms),
            false => job.waiters.iter().map(|waiter| waiter.deadline).max(),
        };
        last.map_or(0, |deadline| deadline.since(self.now))
    }

    /// The trees of one trigger.
    pub(crate) fn trees_of(&self, trigger: TriggerId) -> impl Iterator<Item = (&Place, &Tree)> {
        self.trees
            .range(Place::of(trigger)..)
            .take_while(move |(place, _)| place.trigger == trigger)
    }

    /// Whether nothing is mounted in a trigger and no job works in it.
    pub(crate) fn is_empty(&self, trigger: TriggerId) -> bool {
        self.trees_of(trigger).next().is_none() && self.jobs_in(trigger).next().is_none()
    }

    /// The jobs that work in a trigger.
    pub(crate) fn jobs_in(&self, trigger: TriggerId) -> impl Iterator<Item = JobId> {
        self.working
            .range(Place::of(trigger)..)
            .take_while(move |(place, _)| place.trigger == trigger)
            .map(|(_, id)| *id)
    }

    /// The job that unmounts something this place lies below, if there is one.
    pub(crate) fn unmounting_above(&self, place: &Place) -> Option<JobId> {
        let mut trigger = self.triggers.get(&place.trigger)?;
        while let Some(owner) = trigger.owner() {
            if let Some(id) = self.working.get(owner)
                && matches!(
                    self.jobs.get(id)?.work,
                    Work::Unmounting(_) | Work::LettingGo(_)
                )
            {
                return Some(*id);
            }
            trigger = self.triggers.get(&owner.trigger)?;
        }
        None
    }

    /// Remembers for `status` who came by a mount point.
    pub(crate) fn count_use(&mut self, trigger: TriggerId, requester: &Requester) {
        if let Some(usage) = self.usage_of(trigger) {
            if usage.accesses == 0 {
                usage.first = requester.clone();
            }
            usage.last = requester.clone();
            usage.accesses += 1;
        }
    }

    /// The record of the configured mount point above a trigger.
    fn usage_of(&mut self, mut id: TriggerId) -> Option<&mut Usage> {
        while let Some(owner) = self.triggers.get(&id)?.owner() {
            id = owner.trigger;
        }
        Some(self.triggers.get_mut(&id)?.usage.get_or_insert_default())
    }

    /// Remembers a failure for `status`.
    pub(crate) fn remember_error(&mut self, place: &Place, path: &BString, cause: &Cause) {
        if self.last_errors.len() >= crate::limits::LAST_ERRORS {
            self.last_errors.pop_front();
        }
        let text: Arc<str> = alloc::format!("{cause}").into();
        let error = LastError {
            path: path.clone(),
            text,
            at: self.now,
        };
        if let Some(usage) = self.usage_of(place.trigger) {
            usage.failure = Some(error.clone());
        }
        self.last_errors.push_back(error);
    }
}
