//! What the loop does when its turn comes: events in, commands out, nothing that blocks.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::sync::Arc;
use std::sync::mpsc::Sender;
use std::time::{Duration, Instant};

use bstr::{BStr, BString, ByteSlice};
use piton_control::message::Left;
use piton_engine::cause::Errno;
use piton_engine::command::{Answer, Note, Response};
use piton_engine::event::{JobId, Request, RequestId};
use piton_engine::{Command, Engine, Event};
use piton_frontend::{FrontEnd, Incoming, Mark, Ticket, as_path};
use piton_map::lookup::Miss;
use piton_map::requester::{Program, Requester};
use piton_mount::{Lane, Workers, process};
use piton_plan::facts::HostAnswers;
use piton_plan::probe::Target;
use piton_plan::step::{Planned, Step, TriggerId, TriggerKind};

use super::convert::text;
use super::journal::Journal;
use super::limits::{
    EXPIRE_MOST, EXPIRE_PATIENCE, INSPECT_TIME, QUICK_MOST, QUICK_PATIENCE, QUICK_WORK, SLOW_MOST,
};
use super::line::Line;
use super::loader::{Loaded, Loader, Reason};
use super::messages::{Mailbox, Message};
use super::network::Network;
use super::pool::{Pool, Turn};
use super::reload::Reload;
use super::sightings::Sightings;
use super::signals::{Meaning, Signals};
use super::tasks::{self, Lookup, Pace, Perform, Submount, Worker};
use super::timers::{Clock, Kind, Outstanding, sleep_until};
use super::trace::{self, Tracer};
use super::turns::{Doors, Quick, Woken};
use super::watch::Watcher;
use crate::asking;
use crate::exit::Exit;
use piton_control::line::Word;

/// Time given to a task beyond what it was told, so that it can say itself what went wrong.
const GRACE_MS: u64 = 500;

/// Longest time in which what is under way is finished for a successor.
const HAND_OVER_MOST: Duration = Duration::from_secs(2);

/// Pause between two looks whether it is.
const HAND_OVER_PAUSE: Duration = Duration::from_millis(10);

/// What the loop is made of.
pub(crate) struct Runtime {
    pub(super) engine: Engine<Ticket>,
    pub(super) clock: Clock,
    pub(super) front_end: Arc<dyn FrontEnd>,
    pub(super) worker: Arc<Worker>,
    pub(super) loader: Arc<Loader>,
    pub(super) mailbox: Mailbox,
    signals: Signals<Meaning>,
    pub(super) watcher: Watcher,
    /// Nothing where the kernel has no netlink: then addresses stay as they were at the start.
    network: Option<Network>,
    /// This host's addresses are being read.
    reading_addresses: bool,
    pub(super) journal: Journal,
    pub(super) line: Line,
    pub(super) pools: Pools,
    pub(super) events: VecDeque<Event<Ticket>>,
    outstanding: Outstanding,
    sightings: Sightings,
    tracer: Tracer,
    /// Quick work to be done by whoever has the next turn.
    quick: VecDeque<Quick>,
    /// Held by whatever has a disk asked.
    disk: Arc<()>,
    pub(super) reload: Reload,
    pub(super) earlier: Earlier,
    /// Requests may be there that were not read.
    unread: bool,
    /// Places at which work is under way, or was, that leaves something half done if we die.
    marks: HashMap<(TriggerId, BString), Mark>,
    /// The jobs that are at work at such places.
    marked: HashMap<JobId, (TriggerId, BString)>,
    answers: BTreeMap<RequestId, Asker>,
    next_request: u64,
    announced: bool,
    /// Since when all is to be left to a successor.
    handing_over: Option<Instant>,
    left: Option<Ended>,
    force: bool,
}

/// How far we are with taking over what an earlier life left. Until that is done no request is
/// read: one of a trigger that is not known yet would be answered with an error.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Earlier {
    /// No maps could be read yet, so it is not known what to take over as what.
    Unknown,
    /// Being taken over.
    Adopting,
    /// Done, or there was nothing.
    Over,
}

/// Threads for three kinds of work, so that one kind cannot starve another.
pub(super) struct Pools {
    /// What the kernel does alone and nobody waits for at once.
    quick: Pool,
    /// Programs, servers, name look-ups, disks.
    pub(super) slow: Pool,
    /// Asking the kernel for idle mounts, which waits for our own answers.
    expire: Pool,
}

/// What the loop is given.
pub(crate) struct Parts {
    pub(crate) engine: Engine<Ticket>,
    pub(crate) worker: Arc<Worker>,
    pub(crate) loader: Arc<Loader>,
    pub(crate) mailbox: Mailbox,
    pub(crate) signals: Signals<Meaning>,
    pub(crate) watcher: Watcher,
    pub(crate) journal: Journal,
    pub(crate) tracer: Tracer,
    pub(crate) line: Line,
}

impl Runtime {
    pub(crate) fn new(parts: Parts) -> Self {
        let Parts {
            engine,
            worker,
            loader,
            mailbox,
            signals,
            watcher,
            journal,
            tracer,
            line,
        } = parts;
        let workers = worker.workers.clone();
        Self {
            engine,
            clock: Clock::start(),
            front_end: worker.front_end.clone(),
            worker,
            loader,
            mailbox,
            signals,
            watcher,
            network: Network::listen().ok(),
            reading_addresses: false,
            journal,
            line,
            pools: Pools {
                quick: Pool::new("quick", 1, QUICK_MOST, QUICK_PATIENCE),
                slow: Pool::new("slow", 1, SLOW_MOST, Duration::ZERO)
                    .tending(move || workers.tend()),
                expire: Pool::new("expire", 1, EXPIRE_MOST, EXPIRE_PATIENCE),
            },
            events: VecDeque::new(),
            outstanding: Outstanding::default(),
            sightings: Sightings::default(),
            tracer,
            quick: VecDeque::new(),
            disk: Arc::new(()),
            reload: Reload::default(),
            earlier: Earlier::Unknown,
            unread: true,
            marks: HashMap::new(),
            marked: HashMap::new(),
            answers: BTreeMap::new(),
            next_request: 1,
            announced: false,
            handing_over: None,
            left: None,
            force: false,
        }
    }

    /// Begins with the maps that were read; returns what wakes the loop.
    ///
    /// # Errors
    /// No descriptors.
    pub(crate) fn begin(&mut self, first: Loaded) -> std::io::Result<Doors> {
        self.loaded(first);
        self.take_held();
        let doors = Doors::new()?;
        doors.mailbox(self.mailbox.bell())?;
        doors.signals(self.signals.bell())?;
        doors.watcher(self.watcher.bell())?;
        if let Some(network) = &self.network {
            doors.network(network.bell())?;
        }
        doors.keeper(self.line.bell())?;
        if let Some(bell) = self.front_end.readable() {
            doors.front_end(bell)?;
        }
        Ok(doors)
    }

    /// Takes all that has come.
    ///
    /// # Errors
    /// The front end is broken.
    pub(crate) fn take(&mut self, woken: Woken, doors: &Doors) -> std::io::Result<()> {
        self.unread |= woken.front_end;
        self.read_requests()?;
        if woken.mailbox {
            let mut messages = Vec::new();
            self.mailbox.take(&mut messages);
            for message in messages {
                self.message(message);
            }
            // Until just now it may have been too early.
            self.read_requests()?;
        }
        // Before signals: what a reload that is asked for reads is not read once more.
        if woken.watcher && self.watcher.take() {
            self.reload.file_changed(self.clock.now());
        }
        if woken.signals {
            for meaning in self.signals.take() {
                self.signal(meaning);
            }
        }
        if woken.network {
            self.read_addresses();
        }
        if woken.keeper || self.line.wake().is_some_and(|due| due <= Instant::now()) {
            self.hear_keeper(doors);
        }
        self.due();
        Ok(())
    }

    /// Takes the requests that have come, if all is there that they may be about.
    fn read_requests(&mut self) -> std::io::Result<()> {
        if !self.unread || self.earlier != Earlier::Over {
            return Ok(());
        }
        self.unread = false;
        while let Some(incoming) = self.front_end.next()? {
            self.take_request(incoming);
        }
        Ok(())
    }

    /// What stays mounted, with the reason, once the end has come.
    pub(crate) fn ended(&mut self) -> Option<Ended> {
        let left = self.left.take()?;
        self.wind_up(&left);
        Some(left)
    }

    /// Whether there is quick work that no thread has begun.
    pub(super) fn has_quick(&self) -> bool {
        !self.quick.is_empty()
    }

    /// Quick work to be done next.
    pub(crate) fn next_quick(&mut self) -> Option<Quick> {
        self.quick.pop_front()
    }

    fn wind_up(&self, left: &[(BString, Arc<str>)]) {
        self.front_end.detach();
        self.worker.workers.end();
        if !self.force {
            return;
        }
        for (path, _) in left {
            let target = as_path(path.as_bstr());
            let flags = rustix::mount::UnmountFlags::DETACH;
            if let Err(error) = rustix::mount::unmount(target, flags) {
                tracing::warn!(%path, %error, "could not be detached");
            }
        }
        self.worker.remove_made();
    }

    fn event_of(&mut self, incoming: Incoming) -> Event<Ticket> {
        match incoming {
            Incoming::Access {
                trigger,
                key,
                mut requester,
                waited_ms,
                ticket,
            } => {
                requester.sighting = self.sightings.meet(requester.pid);
                if self.engine.asks_program(trigger) {
                    requester.program = program(requester.pid);
                }
                let tag = self.trace(trace::Kind::Access, trigger, &key, &requester);
                Event::Access {
                    trigger,
                    key,
                    requester,
                    waited_ms,
                    ticket: ticket.tagged(tag),
                }
            }
            Incoming::Expire {
                trigger,
                key,
                ticket,
            } => {
                let nobody = Requester::default();
                let tag = self.trace(trace::Kind::Expire, trigger, &key, &nobody);
                Event::ExpireAsked {
                    trigger,
                    key,
                    ticket: ticket.tagged(tag),
                }
            }
        }
    }

    fn trace(
        &mut self,
        kind: trace::Kind,
        trigger: TriggerId,
        key: &BString,
        requester: &Requester,
    ) -> u32 {
        let path = self.engine.path_of_trigger(trigger);
        let path = path.map(|path| path.as_bstr()).unwrap_or_default();
        self.tracer.arrived(kind, path, key.as_bstr(), requester)
    }

    // -- the keeper ------------------------------------------------------------------------

    fn hear_keeper(&mut self, doors: &Doors) {
        loop {
            let (word, renewed) = self.line.hear();
            if renewed {
                if let Err(error) = doors.keeper(self.line.bell()) {
                    tracing::error!(%error, "the keeper is not heard");
                }
                continue;
            }
            match word {
                Some(Word::HandOver) => {
                    tracing::info!("handing over to a successor");
                    self.handing_over = Some(Instant::now());
                    if let Some(bell) = self.front_end.readable() {
                        doors.close(bell);
                    }
                }
                Some(_) => {}
                None => return,
            }
        }
    }

    /// Ends this process when a successor is to serve and nothing is under way: what was not read
    /// waits in the pipe, and what was not answered stands in the table.
    pub(crate) fn hand_over(&self) {
        let Some(since) = self.handing_over else {
            return;
        };
        if self.engine.is_idle() || since.elapsed() >= HAND_OVER_MOST {
            // No destructor runs, so that nobody who waits is answered.
            std::process::exit(Exit::HANDED_OVER);
        }
    }

    // -- waiting ---------------------------------------------------------------------------

    /// Looks at one of those who came, if there is nothing else to do; false when none is left.
    pub(crate) fn look_around(&mut self) -> bool {
        self.sightings.look()
    }

    /// How long there is nothing to do if nothing comes.
    pub(crate) fn pause(&self) -> Option<Duration> {
        let now = self.clock.now();
        let wakes = [
            self.engine.next_wake(),
            self.outstanding.next_end(),
            self.reload.next_due(),
        ];
        let timer = sleep_until(now, wakes.into_iter().flatten().min());
        let relief = [&self.pools.quick, &self.pools.slow, &self.pools.expire]
            .into_iter()
            .filter_map(Pool::relieve)
            .min();
        // Quick work waits for the thread that is doing some.
        let behind = (!self.quick.is_empty()).then_some(QUICK_WORK);
        let keeper = self.line.wake();
        let keeper = keeper.map(|due| due.saturating_duration_since(Instant::now()));
        let farewell = self.handing_over.map(|_| HAND_OVER_PAUSE);
        let wakes = [timer, relief, behind, keeper, farewell];
        wakes.into_iter().flatten().min()
    }

    /// Does what time has made due.
    fn due(&mut self) {
        let now = self.clock.now();
        while let Some((job, kind)) = self.outstanding.overdue(now) {
            self.give_up(job, kind);
        }
        if self.engine.next_wake().is_some_and(|wake| wake <= now) {
            self.events.push_back(Event::Tick);
        }
        self.reload_due(now);
    }

    // -- the engine ------------------------------------------------------------------------

    pub(crate) fn work(&mut self) {
        let mut commands = Vec::new();
        while let Some(event) = self.events.pop_front() {
            self.tracer.telling(&event);
            let done = match &event {
                Event::Performed { job, .. } => self.marked.remove(job),
                _ => None,
            };
            self.engine.handle(self.clock.now(), event, &mut commands);
            if let Some(place) = done {
                self.unmark(&place);
            }
            for command in commands.drain(..) {
                self.execute(command);
            }
        }
    }

    fn execute(&mut self, command: Command<Ticket>) {
        match command {
            Command::Reply { ticket, answer } => {
                let tag = ticket.tag();
                match &answer {
                    Answer::Ready => ticket.ready(),
                    Answer::Failed(cause) => ticket.fail(cause.errno()),
                }
                self.tracer.answered(tag, answer);
            }
            Command::Fetch {
                job,
                binding,
                kind,
                mount_point,
                key,
                requester,
                deadline_ms,
            } => {
                let until = Instant::now() + Duration::from_millis(deadline_ms);
                self.fetch(Lookup {
                    job,
                    binding,
                    kind,
                    mount_point,
                    key,
                    requester,
                    until,
                });
            }
            Command::Resolve {
                job,
                hosts,
                deadline_ms,
            } => self.resolve(job, hosts, deadline_ms),
            Command::Probe {
                job,
                targets,
                grace_ms,
                deadline_ms,
            } => self.probe(job, targets, grace_ms, deadline_ms),
            Command::Check {
                server,
                targets,
                service,
                deadline_ms,
            } => self.check(server, targets, service, deadline_ms),
            Command::Perform {
                job,
                steps,
                deadline_ms,
            } => self.perform(job, steps, deadline_ms),
            Command::Inspect { job, target, pid } => self.inspect(job, target, pid),
            Command::Install { triggers } => {
                self.batch(move |worker| Event::Installed {
                    results: worker.install(&triggers),
                });
            }
            Command::Adopt { triggers } => {
                self.earlier = Earlier::Adopting;
                let (worker, mailbox) = (self.worker.clone(), self.mailbox.clone());
                self.pools.slow.submit(move || {
                    let results = worker.adopt(&triggers);
                    mailbox.post(Message::Adopted(Event::Installed { results }));
                });
            }
            Command::Remove { triggers } => {
                self.batch(move |worker| Event::Removed {
                    results: worker.remove(&triggers),
                });
            }
            Command::List { trigger, keys } => {
                let front_end = self.front_end.clone();
                self.pools
                    .quick
                    .submit(move || front_end.list(trigger, &keys));
            }
            Command::SetTimeout {
                trigger,
                key,
                seconds,
            } => {
                let front_end = self.front_end.clone();
                self.pools.quick.submit(move || {
                    let key = key.as_ref().map(|key| key.as_bstr());
                    if let Err(failure) = front_end.set_timeout(trigger, key, seconds) {
                        tracing::debug!(why = failure.text, "idle time not set");
                    }
                });
            }
            Command::Expire { trigger, immediate } => {
                let (front_end, mailbox) = (self.front_end.clone(), self.mailbox.clone());
                self.pools.expire.submit(move || {
                    front_end.expire(trigger, immediate);
                    mailbox.post(Message::Event(Event::ExpireDone { trigger }));
                });
            }
            Command::Respond { id, response } => {
                if let Some(asker) = self.answers.remove(&id) {
                    asker.answer(response);
                }
            }
            Command::Note(note) => {
                if let Note::Accessed { job, .. } = &note {
                    self.tracer.job(*job);
                }
                if let Note::ServerDied {
                    server,
                    why,
                    mounts,
                } = note
                {
                    return self.mourn(server, why.to_string(), mounts);
                }
                self.journal.write(&note);
            }
            Command::Finished { left } => self.left = Some(left),
        }
    }

    // -- tasks -----------------------------------------------------------------------------

    fn fetch(&mut self, mut lookup: Lookup) {
        if let Some(event) = self.worker.lookup_cached(&lookup) {
            self.tracer.cached(lookup.job);
            return self.events.push_back(event);
        }
        let left = lookup.until.saturating_duration_since(Instant::now());
        let end = self.clock.now() + left.as_millis() as u64 + GRACE_MS;
        let number = self.outstanding.enter(lookup.job, Kind::Fetch, end);
        let (worker, mailbox) = (self.worker.clone(), self.mailbox.clone());
        let lane = tasks::lane_of(&lookup.binding, lookup.key.as_bstr());
        self.pools.slow.submit_in(lane, lookup.until, move |turn| {
            // What is too late is given up by the loop itself.
            if let Turn::Begin(_hold) = turn {
                let event = worker.lookup(&mut lookup);
                mailbox.post(Message::Task(number, event));
            }
        });
    }

    fn resolve(&mut self, job: JobId, hosts: Vec<BString>, deadline_ms: u64) {
        let end = self.clock.now() + deadline_ms;
        let number = self.outstanding.enter(job, Kind::Resolve, end);
        let until = Instant::now() + Duration::from_millis(deadline_ms);
        let (resolver, mailbox) = (self.worker.resolver.clone(), self.mailbox.clone());
        self.pools.slow.submit_in(Lane::Names, until, move |turn| {
            if let Turn::Begin(_hold) = turn {
                let answers = asking::addresses(&resolver, &hosts, until);
                mailbox.post(Message::Task(number, Event::Resolved { job, answers }));
            }
        });
    }

    fn probe(&mut self, job: JobId, targets: Vec<Target>, grace_ms: u64, deadline_ms: u64) {
        let end = self.clock.now() + deadline_ms + GRACE_MS;
        let number = self.outstanding.enter(job, Kind::Probe, end);
        let until = Instant::now() + Duration::from_millis(deadline_ms);
        let grace = Duration::from_millis(grace_ms);
        let (resolver, mailbox) = (self.worker.resolver.clone(), self.mailbox.clone());
        // Whoever else asks the same waits in the engine, so that a lane is nearly never full.
        let first = targets.first().map(|target| target.address.to_string());
        let lane = Lane::Server(first.unwrap_or_default().into());
        self.pools.slow.submit_in(lane, until, move |turn| {
            if let Turn::Begin(_hold) = turn {
                let answers = resolver.probe(&targets, grace, until);
                mailbox.post(Message::Task(number, Event::Probed { job, answers }));
            }
        });
    }

    fn perform(&mut self, job: JobId, steps: Vec<Planned>, deadline_ms: u64) {
        self.mark(job, &steps);
        let pace = tasks::pace(&steps, &self.worker.settings);
        let submounts = self.submounts(&steps);
        let until = Instant::now() + Duration::from_millis(deadline_ms);
        let mut task = Perform::new(steps, submounts, until);
        let worker = self.worker.clone();
        // One disk at a time may keep a thread of the loop; the others wait elsewhere.
        let turn = match pace {
            Pace::Quick => true,
            Pace::Disk => Arc::strong_count(&self.disk) == 1,
            Pace::Slow => false,
        };
        let disk = (pace == Pace::Disk).then(|| self.disk.clone());
        let work = move || {
            let lane = worker.perform_at_once(&mut task);
            drop(disk);
            match lane {
                None => Message::Event(task.ended(job, &worker.departed)),
                Some(lane) => Message::Elsewhere {
                    job,
                    task: Box::new(task),
                    lane,
                },
            }
        };
        if turn {
            return self.quick.push_back(Box::new(work));
        }
        let mailbox = self.mailbox.clone();
        self.pools.slow.submit(move || mailbox.post(work()));
    }

    /// Has workers do the rest of steps, when it is their turn.
    fn perform_elsewhere(&mut self, job: JobId, mut task: Box<Perform>, lane: Lane) {
        let (worker, mailbox) = (self.worker.clone(), self.mailbox.clone());
        self.pools.slow.submit_in(lane, task.until(), move |turn| {
            worker.perform_with_workers(&mut task, turn);
            mailbox.post(Message::Event(task.ended(job, &worker.departed)));
        });
    }

    /// Has it noted that a job works at something of several parts.
    fn mark(&mut self, job: JobId, steps: &[Planned]) {
        let several = tasks::effects(steps) > 1;
        if !several && self.marks.is_empty() {
            return;
        }
        let Some((trigger, key)) = self.engine.work_at(job) else {
            return;
        };
        let place = (trigger, key.clone());
        if !self.marks.contains_key(&place) {
            let mark = match several {
                true => self.front_end.mark(trigger, place.1.as_bstr()),
                false => None,
            };
            let Some(mark) = mark else { return };
            self.marks.insert(place.clone(), mark);
        }
        self.marked.insert(job, place);
    }

    /// Takes a note away, unless what is there is still only a part.
    fn unmark(&mut self, place: &(TriggerId, BString)) {
        if !self.engine.is_broken(place.0, &place.1)
            && let Some(mark) = self.marks.remove(place)
        {
            mark.end();
        }
    }

    /// Goes on where an earlier life ended: what it left is known to the engine by now.
    pub(super) fn resume(&mut self) {
        self.earlier = Earlier::Over;
        let resumed = self.front_end.resume();
        for (trigger, key, mark) in resumed.marks {
            let place = (trigger, key);
            if self.marks.contains_key(&place) {
                // Work has begun there anew, with a mark of its own.
                mark.end();
                continue;
            }
            self.marks.insert(place.clone(), mark);
            self.unmark(&place);
        }
        for incoming in resumed.incoming {
            self.take_request(incoming);
        }
    }

    fn take_request(&mut self, incoming: Incoming) {
        match incoming {
            Incoming::Expire {
                trigger,
                key,
                ticket,
            } if !self.engine.is_mounted(trigger, &key) => {
                self.expire_nothing(trigger, &key, ticket);
            }
            incoming => {
                let event = self.event_of(incoming);
                self.events.push_back(event);
                self.work();
            }
        }
    }

    /// The kernel waits for something to be unmounted that the engine does not know: an earlier
    /// life has unmounted it and could not say so. Whoever accesses it now may wait for this answer
    /// and would get its errno; READY without a directory would be ENOENT too.
    fn expire_nothing(&self, trigger: TriggerId, key: &BString, ticket: Ticket) {
        let Some(mut path) = self.engine.path_of_trigger(trigger).cloned() else {
            return ticket.fail(Errno::NOENT);
        };
        if !key.is_empty() {
            path.push(b'/');
            path.extend_from_slice(key);
        }
        let front_end = self.front_end.clone();
        self.pools.quick.submit(move || {
            if tasks::is_anything_within(path.as_bstr()) {
                return ticket.fail(Errno::BUSY);
            }
            if let Some(Err(failure)) = front_end.make_directory(path.as_bstr()) {
                tracing::debug!(%path, why = failure.text, "no directory for those who wait");
            }
            ticket.ready();
        });
    }

    /// The maps of the submounts that steps put in place.
    fn submounts(&self, steps: &[Planned]) -> Vec<Submount> {
        let installed = steps.iter().filter_map(|planned| match &planned.step {
            Step::Install(spec) if spec.kind == TriggerKind::Indirect => Some(spec.id),
            _ => None,
        });
        let submount = |trigger| {
            let binding = self.engine.binding(trigger)?.clone();
            let browse = binding.options.browse;
            Some(Submount {
                trigger,
                browse: browse.unwrap_or(self.engine.settings().browse),
                binding,
            })
        };
        installed.filter_map(submount).collect()
    }

    fn inspect(&mut self, job: JobId, target: BString, pid: u32) {
        let workers = self.worker.workers.clone();
        let (worker, mailbox) = (self.worker.clone(), self.mailbox.clone());
        let slow = self.pools.slow.clone();
        self.pools.quick.submit(move || {
            let tell = move |target: &BStr, mounted: bool| {
                let hidden = mounted && worker.foreigners.includes(pid, target);
                mailbox.post(Message::Event(match hidden {
                    true => Event::Hidden { job },
                    false => Event::Inspected { job, mounted },
                }));
            };
            match Workers::inspect_at_once(target.as_bstr()) {
                Ok(mounted) => tell(target.as_bstr(), mounted),
                Err(lane) => {
                    let until = Instant::now() + INSPECT_TIME;
                    slow.submit_in(lane, until, move |turn| {
                        let mounted = match turn {
                            Turn::Begin(Some(hold)) => {
                                workers.inspect(target.as_bstr(), until, &hold)
                            }
                            Turn::Begin(None) | Turn::TooLate => false,
                        };
                        tell(target.as_bstr(), mounted);
                    });
                }
            }
        });
    }

    fn batch(&self, act: impl FnOnce(&Worker) -> Event<Ticket> + Send + 'static) {
        let (worker, mailbox) = (self.worker.clone(), self.mailbox.clone());
        self.pools
            .slow
            .submit(move || mailbox.post(Message::Event(act(&worker))));
    }

    /// An answer is not waited for any longer: the engine is told that there is none.
    ///
    /// Only questions are given up. What changes the mount table is reported when it has really
    /// ended: the engine answers those who wait at their deadline by itself, and must not begin
    /// anew beside a mount that is still under way.
    fn give_up(&mut self, job: JobId, kind: Kind) {
        self.events.push_back(match kind {
            Kind::Fetch => Event::Fetched {
                job,
                names: None,
                costly: false,
                result: Err(Miss::TimedOut("the map did not answer in time".into())),
            },
            Kind::Resolve => Event::Resolved {
                job,
                answers: HostAnswers::new(),
            },
            // Nobody was heard, for a reason of our own: that says nothing of the servers.
            Kind::Probe => Event::Probed {
                job,
                answers: Vec::new(),
            },
        });
    }

    // -- messages --------------------------------------------------------------------------

    pub(crate) fn message(&mut self, message: Message) {
        match message {
            Message::Event(event) => {
                let installed = matches!(event, Event::Installed { .. });
                self.events.push_back(event);
                self.work();
                if installed {
                    self.announce();
                }
            }
            Message::Adopted(event) => {
                self.events.push_back(event);
                self.work();
                self.announce();
                if self.earlier == Earlier::Adopting {
                    self.resume();
                }
            }
            Message::Elsewhere { job, task, lane } => self.perform_elsewhere(job, task, lane),
            Message::Task(number, event) => {
                if self.outstanding.ended(number) {
                    self.events.push_back(event);
                    self.work();
                }
            }
            Message::Loaded(loaded) => {
                self.read(*loaded);
                self.work();
            }
            Message::Moved(network) => {
                self.reading_addresses = false;
                if let Some((interfaces, routes)) = network {
                    self.events.push_back(Event::Moved { interfaces, routes });
                    self.work();
                }
                self.read_addresses();
            }
            Message::Ask(question) => self.ask(question),
        }
        self.reload_settled();
    }

    /// Reads this host's addresses anew if they changed, one reading at a time.
    fn read_addresses(&mut self) {
        let changed = |network: &Network| network.changed();
        if self.reading_addresses || !self.network.as_ref().is_some_and(changed) {
            return;
        }
        self.reading_addresses = true;
        let mailbox = self.mailbox.clone();
        self.pools.slow.submit(move || {
            // Changes come in groups.
            std::thread::sleep(Duration::from_millis(super::reload::SETTLE_MS));
            mailbox.post(Message::Moved(piton_mount::hosts::network().ok()));
        });
    }

    /// Says once that the daemon is ready.
    pub(super) fn announce(&mut self) {
        if !std::mem::replace(&mut self.announced, true) {
            tracing::info!("mount points are in place");
            self.line.say(&Word::Ready);
        }
    }

    fn signal(&mut self, meaning: Meaning) {
        match meaning {
            Meaning::Reload => self.read_maps(Reason::Asked(0)),
            Meaning::Expire => self.request(Request::Expire { path: None }, None),
            Meaning::Stop => self.request(Request::Stop { detach: false }, None),
            Meaning::ForceStop => {
                self.force = true;
                self.request(Request::Stop { detach: false }, None);
            }
        }
        self.work();
    }

    pub(super) fn request(&mut self, request: Request, asker: Option<Asker>) {
        let id = RequestId(self.next_request);
        self.next_request += 1;
        if let Some(asker) = asker {
            self.answers.insert(id, asker);
        }
        if let Request::Stop { detach } = request {
            self.line.say(&Word::Ending);
            if !detach {
                self.worker.begin_stop();
            }
        }
        self.events.push_back(Event::Request { id, request });
    }
}

/// Which program a process runs, as its map's filter wants to know. Reading that never blocks.
fn program(pid: u32) -> Option<Arc<Program>> {
    let name = process::name(pid)?;
    let cgroup = process::cgroup(pid);
    Some(Arc::new(Program { name, cgroup }))
}

/// What stays mounted at the end, with the reason.
pub(crate) type Ended = Vec<(BString, Arc<str>)>;

fn lefts(left: Vec<(BString, Arc<str>)>) -> Vec<Left> {
    left.into_iter()
        .map(|(path, reason)| Left {
            path: text(path.as_bstr()),
            reason: reason.to_string(),
        })
        .collect()
}

/// Who waits for the response to a request, and in which form.
pub(super) enum Asker {
    /// What stayed as it was.
    Left(Sender<Vec<Left>>),
    /// The same, or nothing if nothing of ours is there.
    LeftIfAny(Sender<Option<Vec<Left>>>),
    /// How much was forgotten.
    Flushed(Sender<u64>),
}

impl Asker {
    fn answer(self, response: Response) {
        let (left, flushed) = match response {
            Response::Done { left } => (Some(lefts(left)), 0),
            Response::Flushed(count) => (None, count),
            Response::NoSuchPlace => (None, 0),
        };
        // Who asked may be gone.
        match self {
            Self::Flushed(answer) => drop(answer.send(flushed)),
            Self::Left(answer) => drop(answer.send(left.unwrap_or_default())),
            Self::LeftIfAny(answer) => drop(answer.send(left)),
        }
    }
}
