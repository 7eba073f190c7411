//! The daemon's lives, and the keeper between them: it holds the pipe with the requests that
//! nobody has read, and the table of those that were read and not answered.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use bstr::BString;
use piton_engine::command::Answer;
use piton_engine::config::{Configuration, Settings};
use piton_engine::event::{JobId, Request, RequestId};
use piton_engine::limits::{JOBS, PLAN_APART, WAITERS_PER_PLACE};
use piton_engine::{Engine, Event};
use piton_map::requester::Requester;
use piton_plan::step::{Planned, TriggerId};

use crate::dice::About;
use crate::faults::Faults;
use crate::hands::{BatchKind, effects, root_of};
use crate::kernel::{MountId, Token, What};
use crate::mutation::Mutation;
use crate::ticket::Ticket;
use crate::world::{Action, DEADLINE_MS, ELSEWHERE, UNMOUNT_DEADLINE_MS, World, Wrong, log};

/// Milliseconds without a daemon after which the keeper looks after those who wait.
pub(crate) const PATIENCE_MS: u64 = 1_000;
/// Slots of a table that is never full.
pub(crate) const SLOTS: usize = 1_000;
/// Milliseconds between two looks.
const LOOK_MS: u64 = 250;

/// A place as the table names it: the trigger's mount and the key.
type Spot = (MountId, BString);
/// A place as the engine names it.
type Place = (TriggerId, BString);

/// What outlives the daemon.
#[derive(Debug)]
pub(crate) struct Keeper {
    /// Whether there is one.
    pub(crate) lives: bool,
    /// Requests that nobody has read.
    pub(crate) pipe: VecDeque<Token>,
    /// Requests that were read and not answered, in their order.
    pub(crate) table: Vec<Token>,
    /// Requests for which the table had no place.
    pub(crate) untracked: BTreeSet<Token>,
    /// Requests that died with a daemon since they were not in the table.
    pub(crate) lost: BTreeSet<Token>,
    /// Where work is under way that leaves something half done if it is not finished.
    marks: BTreeSet<Spot>,
    /// Those of them that the living daemon knows of, as it names the place.
    held: BTreeMap<Place, Spot>,
    /// Where its jobs are at work.
    at_work: BTreeMap<JobId, Place>,
    /// Whether a daemon reads the pipe.
    pub(crate) serving: bool,
    /// Since when.
    pub(crate) since: u64,
    slots: usize,
    /// Since when none does.
    down: u64,
    /// The outage that a substitute waits to end.
    watched: Option<u64>,
    /// When none did, from and to.
    outages: Vec<(u64, u64)>,
    /// Deeds until the daemon dies.
    fuse: Option<u64>,
    /// The same for its successors.
    fuses: VecDeque<u64>,
}

/// A request as the engine gets it.
pub(crate) struct Asked {
    trigger: TriggerId,
    key: BString,
    pub(crate) path: BString,
    pub(crate) expire: bool,
    waited_ms: u64,
    /// The process that asks.
    pid: u32,
}

impl Asked {
    pub(crate) fn event(self, ticket: Ticket) -> Event<Ticket> {
        let Self {
            trigger,
            key,
            waited_ms,
            pid,
            ..
        } = self;
        match self.expire {
            true => Event::ExpireAsked {
                trigger,
                key,
                ticket,
            },
            false => Event::Access {
                trigger,
                key,
                requester: Requester {
                    pid,
                    ..Requester::default()
                },
                waited_ms,
                ticket,
            },
        }
    }
}

impl Keeper {
    /// A keeper with a table of so many slots.
    pub(crate) fn new(slots: usize) -> Self {
        Self {
            lives: true,
            pipe: VecDeque::new(),
            table: Vec::new(),
            untracked: BTreeSet::new(),
            lost: BTreeSet::new(),
            marks: BTreeSet::new(),
            held: BTreeMap::new(),
            at_work: BTreeMap::new(),
            serving: false,
            since: 0,
            slots,
            down: 0,
            watched: None,
            outages: Vec::new(),
            fuse: None,
            fuses: VecDeque::new(),
        }
    }

    /// The daemon dies after so many further deeds, and its successors after so many of theirs.
    pub(crate) fn doom(&mut self, after: u64, again: Vec<u64>) {
        self.fuse = Some(after);
        self.fuses = again.into();
    }

    /// Whether its table may be full.
    pub(crate) fn is_small(&self) -> bool {
        self.slots < SLOTS
    }

    /// For how many milliseconds since `then` no daemon served.
    pub(crate) fn down_since(&self, then: u64, now: u64) -> u64 {
        let last = (!self.serving).then_some((self.down, now));
        let outages = self.outages.iter().copied().chain(last);
        let after = |(from, to): (u64, u64)| to.saturating_sub(from.max(then));
        outages.map(after).sum()
    }

    pub(crate) fn table_is_full(&self) -> bool {
        self.table.len() >= self.slots
    }

    fn forget(&mut self, token: Token) {
        self.table.retain(|it| *it != token);
        self.untracked.remove(&token);
    }
}

impl World {
    // -- lives -----------------------------------------------------------------------------

    /// The daemon begins its life, with what an earlier one left.
    pub(crate) fn start(&mut self) -> Result<(), Wrong> {
        if self.engine.is_some() {
            return Ok(());
        }
        self.begin_life();
        self.keeper.lives = true;
        self.keeper.fuse = self.keeper.fuses.pop_front();
        self.engine = Some(Engine::new(Settings {
            timeout: 3,
            negative_timeout: 2,
            deadline_ms: DEADLINE_MS,
            unmount_deadline_ms: UNMOUNT_DEADLINE_MS,
            seed: self.seed,
            jobs_most: if self.short_queues { 6 } else { JOBS },
            waiters_most: if self.short_queues {
                2
            } else {
                WAITERS_PER_PLACE
            },
            plan_apart: if self.seed.is_multiple_of(2) {
                0
            } else {
                PLAN_APART
            },
            ..Settings::default()
        }));
        let mut existing = self.survey();
        if self.mutation == Some(Mutation::StrayForgotten) {
            let wanted = |path: &BString| self.points.iter().any(|point| point.path == *path);
            existing.retain(|found| wanted(&found.path));
        }
        let points = self.points.clone();
        self.feed(Event::Configure(Configuration { points, existing }))?;
        self.serve_if_ready()
    }

    fn begin_life(&mut self) {
        self.life += 1;
        self.answers_due = 0;
        self.stopping = None;
        self.forget_care();
    }

    /// Once all that was found is taken over, the requests' turn comes: first those that were
    /// read already.
    pub(crate) fn serve_if_ready(&mut self) -> Result<(), Wrong> {
        let adopting = |kind| kind == BatchKind::Adopt;
        let busy = self.batches.values().any(|batch| adopting(batch.kind));
        if self.engine.is_none() || self.keeper.serving || busy {
            return Ok(());
        }
        let mut unanswered = self.keeper.table.clone();
        if self.mutation == Some(Mutation::ResumedTwice) {
            unanswered.extend(self.keeper.table.clone());
        }
        let life = self.life;
        self.take_marks();
        self.keeper.since = self.now;
        for token in unanswered {
            if self.life != life || self.engine.is_none() {
                return Ok(());
            }
            log!(self, "request {token} is taken up again");
            self.seen.resumed += 1;
            self.resume(token)?;
        }
        if self.engine.is_none() || self.life != life {
            return Ok(());
        }
        self.keeper.serving = true;
        self.keeper.outages.push((self.keeper.down, self.now));
        for _ in 0..self.keeper.pipe.len() {
            self.at(self.now, Action::Read);
        }
        Ok(())
    }

    fn resume(&mut self, token: Token) -> Result<(), Wrong> {
        if let Some(Asked {
            trigger,
            key,
            expire: true,
            ..
        }) = self.request_of(token)
        {
            if let Some(pending) = self.kernel.pending.get_mut(&token) {
                // The engine counts anew how long an unmount takes.
                pending.deadline = Some(self.now + UNMOUNT_DEADLINE_MS);
            }
            let engine = self.engine.as_ref();
            if engine.is_some_and(|engine| !engine.is_mounted(trigger, &key)) {
                // It was unmounted, and only the answer is missing.
                return self.answered(token, &Answer::Ready);
            }
        }
        self.ask_engine(token)
    }

    /// One more deed is done; returns whether the daemon is dead.
    pub(crate) fn doomed(&mut self) -> bool {
        if let Some(fuse) = &mut self.keeper.fuse
            && self.engine.is_some()
        {
            if *fuse == 0 {
                self.die();
            } else {
                *fuse -= 1;
            }
        }
        self.engine.is_none()
    }

    /// The daemon is killed, with its threads and workers.
    fn die(&mut self) {
        log!(self, "## the daemon dies");
        self.keeper.fuse = None;
        self.seen.crashes += 1;
        if self.performances.is_empty() {
            self.seen.crashes_idle += 1;
        }
        self.end_life();
        self.keeper.held.clear();
        self.keeper.at_work.clear();
        self.seen.half += self.keeper.marks.len() as u64;
        let pause = match self.dice.below(About::Return, b"", 4) {
            0 => self.dice.below(About::Return, b"", 20),
            1 | 2 => self.dice.below(About::Return, b"", 500),
            _ => self.dice.below(About::Return, b"", 5_000),
        };
        let half = self.half_done();
        if self.keeper.lives {
            let untracked = std::mem::take(&mut self.keeper.untracked);
            self.seen.lost += untracked.len() as u64;
            for token in &untracked {
                if let Some(pending) = self.kernel.pending.get(token) {
                    self.excuses.amiss(&pending.path.clone(), u64::MAX / 2);
                }
            }
            self.keeper.lost.extend(untracked);
            self.interrupt_expiries();
            let down = self.keeper.down;
            if self.keeper.watched != Some(down) {
                self.keeper.watched = Some(down);
                self.at(self.now + PATIENCE_MS, Action::Substitute(down));
            }
        } else {
            // Nobody holds the pipe any more.
            self.seen.both_dead += 1;
            self.scar(half);
            self.forsake();
        }
        self.at(self.now + pause, Action::Start);
    }

    /// The daemon has ended; so does the keeper.
    pub(crate) fn exit(&mut self) -> Result<(), Wrong> {
        if self.engine.is_none() {
            return Ok(());
        }
        log!(self, "the daemon is gone");
        // Before all was taken over it was told of no request; closing the pipe answers them.
        if self.keeper.serving
            && let Some(token) = self.unanswered()
        {
            return Err(format!("request {token} was not answered before the end"));
        }
        // It may have given up waiting for its own hands, and the table goes with it.
        let at_work = self.performances.values();
        let at_work = at_work.filter(|it| effects(&it.steps) > 1);
        let mut half: Vec<BString> = at_work.filter_map(|it| root_of(&it.steps)).collect();
        half.extend(self.half_done());
        self.scar(half);
        self.end_life();
        self.forsake();
        if !self.over {
            let pause = self.dice.below(About::Return, b"", 5_000);
            self.at(self.now + pause, Action::Start);
        }
        Ok(())
    }

    fn end_life(&mut self) {
        self.engine = None;
        self.seen.lives += 1;
        self.begin_life();
        self.adopted = true;
        if self.keeper.serving {
            self.keeper.serving = false;
            self.keeper.down = self.now;
        }
        self.performances.clear();
        self.batches.clear();
        self.scans.clear();
        self.requests.clear();
        self.held.clear();
        self.dropped.borrow_mut().clear();
        for mount in self.kernel.mounts.values_mut() {
            mount.looks = 0;
            if let What::Trigger(trigger) = &mut mount.what {
                trigger.known = false;
            }
        }
    }

    /// Nobody holds the pipe: whoever waits is sent away, and nobody is asked any more.
    fn forsake(&mut self) {
        for mount in self.kernel.mounts.values_mut() {
            if let What::Trigger(trigger) = &mut mount.what {
                trigger.connected = false;
            }
        }
        let waiting: Vec<Token> = self.kernel.pending.keys().copied().collect();
        for token in waiting {
            self.release(token, false);
        }
        self.excuses.everywhere(self.now);
        self.keeper.pipe.clear();
        self.keeper.table.clear();
        self.keeper.untracked.clear();
        self.keeper.lost.clear();
        self.keeper.marks.clear();
        self.kernel.ghosts.clear();
    }

    pub(crate) fn keeper_dies(&mut self, back: u64) {
        if self.engine.is_some() && self.keeper.lives {
            self.seen.keepers += 1;
            self.keeper.lives = false;
            self.at(self.now + back, Action::KeeperReturns);
        }
    }

    pub(crate) fn keeper_returns(&mut self) -> Result<(), Wrong> {
        self.keeper.lives = true;
        Ok(())
    }

    /// No daemon serves: a substitute reads what is in the pipe, and answers with an error those
    /// whose time is over.
    pub(crate) fn substitute(&mut self, since: u64) -> Result<(), Wrong> {
        if self.keeper.serving || self.keeper.down != since || self.over {
            return Ok(());
        }
        if !self.keeper.lives {
            // The next one looks after them, when it has a daemon to lose.
            self.keeper.watched = None;
            return Ok(());
        }
        while !self.keeper.table_is_full()
            && let Some(token) = self.keeper.pipe.pop_front()
        {
            self.keeper.table.push(token);
            self.was_read(token);
        }
        let now = self.now;
        let overdue = |token: &Token| {
            let pending = self.kernel.pending.get(token);
            pending.is_none_or(|it| it.deadline.is_some_and(|end| end <= now))
        };
        let overdue: Vec<Token> = self.keeper.table.iter().copied().filter(overdue).collect();
        for token in overdue {
            log!(self, "the keeper answers request {token}");
            self.seen.substituted += 1;
            self.keeper.forget(token);
            self.release(token, false);
        }
        self.at(self.now + LOOK_MS, Action::Substitute(since));
        Ok(())
    }

    // -- work that was not finished --------------------------------------------------------

    /// Has it noted that a job works at something of several parts.
    pub(crate) fn mark(&mut self, job: JobId, steps: &[Planned]) {
        let several = effects(steps) > 1;
        let Some(place) = self.engine.as_ref().and_then(|it| it.work_at(job)) else {
            return;
        };
        if !self.keeper.held.contains_key(&place) {
            let Some(mount) = self.kernel.trigger(place.0).filter(|_| several) else {
                return;
            };
            let spot = (mount, place.1.clone());
            self.keeper.marks.insert(spot.clone());
            self.keeper.held.insert(place.clone(), spot);
        }
        self.keeper.at_work.insert(job, place);
    }

    /// A job's steps have ended, and the engine knows.
    pub(crate) fn work_ended(&mut self, job: JobId) {
        if let Some(place) = self.keeper.at_work.remove(&job) {
            self.unmark(&place);
        }
    }

    /// Takes a note away, unless what is there is still only a part.
    fn unmark(&mut self, place: &Place) {
        let broken = |engine: &Engine<Ticket>| engine.is_broken(place.0, &place.1);
        if !self.engine.as_ref().is_some_and(broken)
            && let Some(spot) = self.keeper.held.remove(place)
        {
            self.keeper.marks.remove(&spot);
        }
    }

    /// The marks of an earlier life are this one's from now on.
    fn take_marks(&mut self) {
        let own: Vec<Spot> = self.keeper.held.values().cloned().collect();
        for spot in self.keeper.marks.clone() {
            if own.contains(&spot) {
                // This life is at work there by now.
                continue;
            }
            match self.kernel.as_trigger(spot.0) {
                Some(trigger) if trigger.known => {
                    let place = (trigger.spec.id, spot.1.clone());
                    self.keeper.held.insert(place.clone(), spot);
                    self.unmark(&place);
                }
                Some(_) => {}
                None => {
                    self.keeper.marks.remove(&spot);
                }
            }
        }
    }

    /// Whether no daemon died while it was at work at a key of a trigger. What consists of one
    /// mount only is there or is not, whoever asked for it to be unmounted.
    pub(crate) fn is_whole(&self, trigger: MountId, key: &BString, several: bool) -> bool {
        let asked = |token: &Token| {
            let pending = self.kernel.pending.get(token);
            let pending = pending.or_else(|| self.kernel.ghosts.get(token));
            pending.is_some_and(|it| it.expire && it.mount == trigger && it.name == *key)
        };
        let expiring = several && self.keeper.table.iter().any(asked);
        let half = expiring || self.keeper.marks.contains(&(trigger, key.clone()));
        !half || self.mutation == Some(Mutation::HalfTrusted)
    }

    /// What is half done there, no successor will know.
    fn scar(&mut self, half: Vec<BString>) {
        for path in half {
            self.excuses.amiss(&path, u64::MAX / 2);
            self.scarred.insert(path);
        }
    }

    /// Where work is not finished, for the moment of a death.
    fn half_done(&self) -> Vec<BString> {
        let marks = self.keeper.marks.iter();
        marks.filter_map(|spot| self.path_at(spot)).collect()
    }

    /// Whether the engine knows that only a part of the entry at `root` is there.
    pub(crate) fn known_half(&self, root: &BString) -> bool {
        let is_it = |spot: &Spot| self.path_at(spot).as_ref() == Some(root);
        let broken = |place: &Place| {
            let engine = self.engine.as_ref();
            engine.is_some_and(|engine| engine.is_broken(place.0, &place.1))
        };
        let mut held = self.keeper.held.iter();
        held.any(|(place, spot)| is_it(spot) && broken(place))
    }

    fn path_at(&self, (mount, key): &Spot) -> Option<BString> {
        let mut path = self.kernel.mounts.get(mount)?.path.clone();
        if !key.is_empty() {
            path.push(b'/');
            path.extend_from_slice(key);
        }
        Some(path)
    }

    // -- requests --------------------------------------------------------------------------

    /// Sends a request through the pipe.
    pub(crate) fn send(&mut self, token: Token) {
        self.keeper.pipe.push_back(token);
        let when = self.now + self.dice.below(About::Packet, b"", 5);
        self.at(when, Action::Read);
    }

    /// The daemon reads the next request, which thereby is in the table.
    pub(crate) fn read(&mut self) -> Result<(), Wrong> {
        if !self.keeper.serving || self.engine.is_none() {
            return Ok(());
        }
        let Some(token) = self.keeper.pipe.pop_front() else {
            return Ok(());
        };
        if !self.keeper.table_is_full() {
            self.keeper.table.push(token);
        } else {
            self.seen.untracked += 1;
            self.keeper.untracked.insert(token);
        }
        self.was_read(token);
        match self.doomed() {
            true => Ok(()),
            false => self.ask_engine(token),
        }
    }

    fn was_read(&mut self, token: Token) {
        let now = self.now;
        if let Some(pending) = self.kernel.pending.get_mut(&token) {
            let within = within(pending.expire);
            pending.deadline.get_or_insert(now + within);
        }
    }

    /// What a request asks of the engine; nothing if it does not know its trigger.
    pub(crate) fn request_of(&self, token: Token) -> Option<Asked> {
        let pending = self.kernel.pending.get(&token);
        let pending = pending.or_else(|| self.kernel.ghosts.get(&token))?;
        let trigger = match self.kernel.mounts.get(&pending.mount).map(|it| &it.what) {
            Some(What::Trigger(trigger)) if trigger.known => trigger.spec.id,
            Some(_) => return None,
            // Unmounted since; the engine may know it still.
            None if pending.life == self.life => pending.trigger,
            None => return None,
        };
        Some(Asked {
            trigger,
            key: pending.name.clone(),
            path: pending.path.clone(),
            expire: pending.expire,
            waited_ms: pending.deadline.map_or(0, |end| {
                (self.now + within(pending.expire)).saturating_sub(end)
            }),
            pid: if token % 16 == 7 { ELSEWHERE } else { 1 },
        })
    }

    /// The daemon itself answers what it knows nothing of, and what the kernel has forgotten.
    pub(crate) fn answer_unknown(&mut self, token: Token) -> Result<(), Wrong> {
        self.keeper.forget(token);
        self.kernel.ghosts.remove(&token);
        if let Some(pending) = self.kernel.pending.get(&token) {
            let (path, expire) = (pending.path.clone(), pending.expire);
            log!(self, "request {token} for {path} is for nobody");
            // The kernel wanted something unmounted: it is gone, with its trigger.
            if !expire {
                self.check_excuse(token, "nobody knows the trigger")?;
            }
            self.release(token, false);
        }
        Ok(())
    }

    /// A request was answered: the table forgets it, unless the daemon dies just now.
    pub(crate) fn forget_request(&mut self, token: Token) {
        self.keeper.untracked.remove(&token);
        if self.keeper.fuse == Some(0)
            && self.keeper.table.contains(&token)
            && self.dice.chance(About::Slot, b"", 500)
            && let Some(pending) = self.kernel.pending.get(&token)
        {
            self.kernel.ghosts.insert(token, pending.clone());
            return;
        }
        self.keeper.forget(token);
    }

    // -- operators -------------------------------------------------------------------------

    /// An operator (or a signal) asks for something.
    pub(crate) fn request(&mut self, request: Request) -> Result<(), Wrong> {
        if self.engine.is_none() {
            return Ok(());
        }
        let id = RequestId(self.next_request);
        self.next_request += 1;
        self.requests.insert(id);
        self.heed(&request);
        self.feed(Event::Request { id, request })
    }

    pub(crate) fn stop(&mut self, detach: bool) -> Result<(), Wrong> {
        if self.engine.is_some() && self.stopping.is_none() {
            self.stopping = Some((self.now, detach));
        }
        self.excuses.everywhere(self.now);
        self.request(Request::Stop { detach })
    }

    /// The master map was read again.
    pub(crate) fn reload(&mut self) -> Result<(), Wrong> {
        self.excuses.everywhere(self.now);
        self.reconfigured();
        let configuration = Configuration {
            points: self.points.clone(),
            existing: Vec::new(),
        };
        self.feed(Event::Configure(configuration))
    }

    pub(crate) fn finished(
        &mut self,
        left: &[(BString, std::sync::Arc<str>)],
    ) -> Result<(), Wrong> {
        let detach = self.stopping.is_some_and(|(_, detach)| detach);
        if !self.requests.is_empty() {
            return Err(format!("{:?} were not answered", self.requests));
        }
        if !detach {
            self.check_left(left)?;
        }
        if self.last {
            self.check_nothing_left(left)?;
            self.over = true;
        }
        // The engine is in use: it goes after its last commands.
        self.at(self.now, Action::Exit);
        Ok(())
    }

    /// How long the stop is going on.
    pub(crate) fn stopping_for(&self) -> Option<u64> {
        self.stopping
            .map(|(begun, _)| self.now - begun.min(self.now))
    }

    /// A request whose answer is owed: one that this daemon has read.
    pub(crate) fn unanswered(&self) -> Option<Token> {
        let open = |it: &&Token| self.kernel.pending.contains_key(it);
        let table = self.keeper.table.iter();
        table.chain(&self.keeper.untracked).find(open).copied()
    }

    // -- the end ---------------------------------------------------------------------------

    /// Nothing new begins, nothing goes wrong any more, everybody leaves.
    pub(crate) fn calm_down(&mut self) -> Result<(), Wrong> {
        log!(self, "calm");
        self.calm = true;
        self.faults = Faults::default();
        self.keeper.fuse = None;
        self.keeper.fuses.clear();
        self.keeper.lives = true;
        // Whose requests were lost would wait for ever: somebody kills them.
        for token in std::mem::take(&mut self.keeper.lost) {
            let waiters = self.kernel.pending.get(&token).map(|it| it.waiters.clone());
            for process in waiters.unwrap_or_default() {
                self.kill(process)?;
            }
            self.kernel.pending.remove(&token);
        }
        Ok(())
    }

    /// The stop after which nothing may be left.
    pub(crate) fn last_stop(&mut self) -> Result<(), Wrong> {
        if let Some(token) = self.kernel.pending.keys().next() {
            return Err(format!("request {token} was never answered"));
        }
        if !self.requests.is_empty() {
            return Err(format!(
                "operators were never answered: {:?}",
                self.requests
            ));
        }
        self.check_directories()?;
        self.start()?;
        self.last = true;
        // What the daemon itself keeps busy by looking for what is idle must go all the same.
        if self.dice.chance(About::Scan, b"last", 500) {
            self.request(Request::Expire { path: None })?;
        }
        self.stop(false)
    }

    /// The daemon's own expiry requests end with it: whoever waited for one goes on.
    fn interrupt_expiries(&mut self) {
        let expiring = |(_, it): &(&Token, &crate::kernel::Pending)| it.expire;
        let all: Vec<Token> = self
            .kernel
            .pending
            .iter()
            .filter(expiring)
            .map(|(token, _)| *token)
            .collect();
        for token in all {
            if let Some(pending) = self.kernel.pending.get_mut(&token) {
                pending.interrupted = true;
                let waiters = std::mem::take(&mut pending.waiters);
                let mount = pending.mount;
                for process in waiters {
                    self.go_on(process, mount);
                }
            }
        }
    }
}

/// Milliseconds within which a request must be answered once it was read.
fn within(expire: bool) -> u64 {
    match expire {
        true => UNMOUNT_DEADLINE_MS,
        false => DEADLINE_MS,
    }
}
