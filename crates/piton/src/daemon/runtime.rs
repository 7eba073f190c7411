//! What the loop does when its turn comes: events in, commands out, nothing that blocks.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::sync::Arc;
use std::time::{Duration, Instant};

use bstr::{BString, ByteSlice};
use piton_engine::command::{Answer, Note};
use piton_engine::event::{JobId, Request, RequestId};
use piton_engine::planning::PlanOrder;
use piton_engine::{Command, Engine, Event};
use piton_frontend::{FrontEnd, Mark, Ticket};
use piton_plan::step::TriggerId;

use super::asked::Asker;
use super::beginning::Beginning;
use super::ending::{HAND_OVER_PAUSE, Left};
use super::journal::Journal;
use super::limits::{
    EXPIRE_MOST, EXPIRE_PATIENCE, QUICK_MOST, QUICK_PATIENCE, QUICK_WORK, SLOW_MOST,
};
use super::line::Line;
use super::loader::{Loaded, Loader, Reason};
use super::messages::{Mailbox, Message};
use super::network::Network;
use super::pool::Pool;
use super::relisting::Relisting;
use super::reload::Reload;
use super::sightings::Sightings;
use super::signals::{Meaning, Signals};
use super::tasks::{Lookup, Worker};
use super::timers::{Clock, Outstanding, sleep_until};
use super::trace::Tracer;
use super::turns::{Doors, Quick, Woken};
use super::watch::Watcher;
use piton_control::line::Word;

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
    pub(super) outstanding: Outstanding,
    pub(super) sightings: Sightings,
    pub(super) tracer: Tracer,
    /// Quick work to be done by whoever has the next turn.
    pub(super) quick: VecDeque<Quick>,
    /// Held by whatever has a disk asked.
    pub(super) disk: Arc<()>,
    pub(super) reload: Reload,
    pub(super) volumes: Relisting,
    pub(super) earlier: Earlier,
    /// Requests may be there that were not read.
    pub(super) unread: bool,
    /// Places at which work is under way, or was, that leaves something half done if we die.
    pub(super) marks: HashMap<(TriggerId, BString), Mark>,
    /// The jobs that are at work at such places.
    pub(super) marked: HashMap<JobId, (TriggerId, BString)>,
    answers: BTreeMap<RequestId, Asker>,
    next_request: u64,
    /// The start is over, or will not be.
    pub(super) announced: bool,
    pub(super) beginning: Beginning,
    /// Why the end has come by itself.
    pub(super) failed: Option<String>,
    /// Since when all is to be left to a successor.
    pub(super) handing_over: Option<Instant>,
    pub(super) left: Option<Left>,
    pub(super) force: bool,
    /// All is left to a successor.
    pub(super) detached: bool,
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
    pub(super) quick: Pool,
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
            volumes: Relisting::default(),
            earlier: Earlier::Unknown,
            unread: true,
            marks: HashMap::new(),
            marked: HashMap::new(),
            answers: BTreeMap::new(),
            next_request: 1,
            announced: false,
            beginning: Beginning::default(),
            failed: None,
            handing_over: None,
            left: None,
            force: false,
            detached: false,
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
        self.reload.watch_mounts(&self.worker.staging, &doors)?;
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
        self.reload.mounts_changed(woken.mounts, self.clock.now());
        if woken.network {
            self.read_addresses();
        }
        if woken.keeper || self.line.wake().is_some_and(|due| due <= Instant::now()) {
            self.hear_keeper(doors);
        }
        self.due();
        Ok(())
    }

    /// Whether there is quick work that no thread has begun.
    pub(super) fn has_quick(&self) -> bool {
        !self.quick.is_empty()
    }

    /// Quick work to be done next.
    pub(crate) fn next_quick(&mut self) -> Option<Quick> {
        self.quick.pop_front()
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
            Command::Plan { job, order } => self.plan(job, order),
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
            Command::Show { trigger, key } => self.front_end.show(trigger, key.as_bstr()),
            Command::Hide { trigger, key } => drop(self.front_end.hide(trigger, key.as_bstr())),
            Command::SetTimeout {
                trigger,
                key,
                seconds,
            } => self.set_timeout(trigger, key, seconds),
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
                if !self.announced {
                    self.beginning.note(&note);
                }
                self.journal.write(&note);
            }
            Command::Finished { left } => self.left = Some(left),
        }
    }

    fn set_timeout(&self, trigger: TriggerId, key: Option<BString>, seconds: u32) {
        let front_end = self.front_end.clone();
        self.pools.quick.submit(move || {
            let key = key.as_ref().map(|key| key.as_bstr());
            if let Err(failure) = front_end.set_timeout(trigger, key, seconds) {
                tracing::debug!(why = failure.text, "idle time not set");
            }
        });
    }

    /// Has a thread plan what would take the loop too long.
    fn plan(&self, job: JobId, order: Box<PlanOrder>) {
        self.batch(move |_| Event::Planned {
            job,
            planning: Box::new(order.plan()),
        });
    }

    fn batch(&self, act: impl FnOnce(&Worker) -> Event<Ticket> + Send + 'static) {
        let (worker, mailbox) = (self.worker.clone(), self.mailbox.clone());
        self.pools
            .slow
            .submit(move || mailbox.post(Message::Event(act(&worker))));
    }

    // -- messages --------------------------------------------------------------------------

    pub(crate) fn message(&mut self, message: Message) {
        match message {
            Message::Event(event) => {
                self.events.push_back(event);
                self.work();
            }
            Message::Adopted(event) => {
                self.events.push_back(event);
                self.work();
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
            Message::FilesChanged => self.reload.file_changed(self.clock.now()),
            Message::Volumes => self.renew_volumes(),
            Message::Listed(listings) => self.volumes_listed(listings),
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
        self.announce();
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
            // Who ends is not about to be ready any more.
            self.announced = true;
            self.detached = detach;
            if !detach {
                // A user's mounts are of no use to him without the links to them.
                self.force |= self.front_end.capabilities().rootless;
                self.worker.begin_stop();
            }
        }
        self.events.push_back(Event::Request { id, request });
    }
}
