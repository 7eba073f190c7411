//! One world: the engine, the kernel, maps, processes, operators, and a clock that jumps from
//! one thing that happens to the next.

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};
use std::rc::Rc;

use bstr::{BString, ByteSlice};
use piton_engine::command::{Answer, Response};
use piton_engine::config::{Configuration, Point, Settings};
use piton_engine::event::{Request, RequestId, StepFailure};
use piton_engine::time::Millis;
use piton_engine::{Command, Engine, Event};
use piton_map::requester::Requester;
use piton_plan::facts::{HostAnswer, HostAnswers};
use piton_plan::step::{Planned, Step, TriggerId, TriggerSpec};

use crate::faults::Faults;
use crate::kernel::{Kernel, ProcessId, Token};
use crate::maps::{self, Maps};
use crate::mutation::Mutation;
use crate::perform::{self, Performance};
use crate::process::Process;
use crate::rng::Rng;
use crate::seen::Seen;

/// Milliseconds within which the daemon must answer an access.
pub(crate) const DEADLINE_MS: u64 = 10_000;
/// Milliseconds within which it must answer the kernel's expiry.
pub(crate) const UNMOUNT_DEADLINE_MS: u64 = 12_000;
/// How late a tick may come.
pub(crate) const LATE_MS: u64 = 20;
/// Things that may happen in one world; more means that something goes round in circles.
const EVENTS_MOST: u64 = 60_000;

/// The front end's ticket as the world knows it: dropped unspent it is noticed.
#[derive(Debug)]
pub(crate) struct Ticket {
    token: Option<Token>,
    dropped: Rc<RefCell<Vec<Token>>>,
}

impl Ticket {
    fn spend(mut self) -> Option<Token> {
        self.token.take()
    }
}

impl Drop for Ticket {
    fn drop(&mut self) {
        if let Some(token) = self.token.take() {
            self.dropped.borrow_mut().push(token);
        }
    }
}

/// Something that will happen.
#[derive(Debug)]
pub(crate) enum Action {
    /// An answer reaches the daemon.
    Deliver(Event<Ticket>),
    /// The daemon reads a request.
    Packet(Token),
    /// The next step of a performance.
    Step(u64),
    /// The next trigger of a batch.
    Batch(u64),
    /// The next candidate of an expiry.
    Scan(u64),
    /// A new process touches a path.
    Touch,
    /// A process goes on walking.
    Walk(ProcessId),
    /// A process leaves what it uses.
    Leave(ProcessId),
    /// A process is killed.
    Kill(ProcessId),
    /// One of the things that happen now and then.
    Meanwhile,
    /// The daemon dies.
    Crash,
    /// The daemon is started.
    Start,
    /// Nothing new begins and nothing goes wrong any more.
    Calm,
    /// The last stop, after which nothing may be left.
    LastStop,
}

impl Action {
    /// Whether it belongs to one life of the daemon.
    fn of_daemon(&self) -> bool {
        matches!(
            self,
            Self::Deliver(_)
                | Self::Packet(_)
                | Self::Step(_)
                | Self::Batch(_)
                | Self::Scan(_)
                | Self::Crash
        )
    }

    fn answers(&self) -> bool {
        matches!(self, Self::Deliver(_) | Self::Step(_) | Self::Batch(_))
    }
}

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
    kind: BatchKind,
    triggers: Vec<TriggerSpec>,
    results: Vec<(TriggerId, Result<(), StepFailure>)>,
}

/// An expiry under way.
#[derive(Debug)]
pub(crate) struct Scan {
    pub(crate) trigger: TriggerId,
    pub(crate) immediate: bool,
    pub(crate) refused: BTreeSet<BString>,
    pub(crate) asked: Option<(Token, BString)>,
}

/// Why a world is wrong.
pub(crate) type Wrong = String;

/// One world.
pub(crate) struct World {
    pub(crate) rng: Rng,
    pub(crate) now: u64,
    pub(crate) kernel: Kernel,
    pub(crate) faults: Faults,
    pub(crate) maps: Maps,
    pub(crate) engine: Option<Engine<Ticket>>,
    pub(crate) points: Vec<Point>,
    pub(crate) performances: BTreeMap<u64, Performance>,
    pub(crate) batches: BTreeMap<u64, Batch>,
    pub(crate) scans: BTreeMap<u64, Scan>,
    pub(crate) processes: BTreeMap<ProcessId, Process>,
    /// Operators who wait.
    pub(crate) requests: BTreeSet<RequestId>,
    /// What was unmounted by hand.
    pub(crate) tampered: BTreeSet<BString>,
    /// Entries that could not be taken back or put back whole.
    pub(crate) scarred: BTreeSet<BString>,
    /// Whether all that failed was taken back.
    pub(crate) mended: bool,
    /// Offsets that a mounted entry must have, by its root.
    pub(crate) levels: BTreeMap<BString, BTreeSet<BString>>,
    /// Whether a daemon died before: what it left is taken over without its history.
    pub(crate) adopted: bool,
    pub(crate) calm: bool,
    /// Whether anything changed since engine and kernel were last compared.
    pub(crate) changed: bool,
    pub(crate) over: bool,
    last: bool,
    pub(crate) events: u64,
    pub(crate) seen: Seen,
    pub(crate) hash: u64,
    pub(crate) trace: Option<Vec<String>>,
    queue: BTreeMap<(u64, u64), (u32, Action)>,
    sequence: u64,
    life: u32,
    answers_due: usize,
    dropped: Rc<RefCell<Vec<Token>>>,
    next_task: u64,
    pub(crate) next_process: ProcessId,
    next_request: u64,
    last_packet: u64,
    stopping: Option<(u64, bool)>,
    commands: u64,
    mutation: Option<Mutation>,
}

/// Writes a line of the trace, if there is one.
macro_rules! log {
    ($world:expr, $($text:tt)*) => {
        if let Some(trace) = &mut $world.trace {
            let line = format!($($text)*);
            trace.push(format!("{:>8} {line}", $world.now));
        }
    };
}
pub(crate) use log;

impl World {
    pub(crate) fn new(seed: u64, mutation: Option<Mutation>, trace: bool) -> Self {
        let mut rng = Rng::new(seed);
        let faults = Faults::new(&mut rng);
        let maps = Maps::new(&mut rng);
        let points = maps::master(&mut rng);
        let mut world = Self {
            rng,
            now: 0,
            kernel: Kernel::default(),
            faults,
            maps,
            engine: None,
            points,
            performances: BTreeMap::new(),
            batches: BTreeMap::new(),
            scans: BTreeMap::new(),
            processes: BTreeMap::new(),
            requests: BTreeSet::new(),
            tampered: BTreeSet::new(),
            scarred: BTreeSet::new(),
            mended: true,
            levels: BTreeMap::new(),
            adopted: false,
            calm: false,
            changed: true,
            over: false,
            last: false,
            events: 0,
            seen: Seen::default(),
            hash: seed,
            trace: trace.then(Vec::new),
            queue: BTreeMap::new(),
            sequence: 0,
            life: 0,
            answers_due: 0,
            dropped: Rc::default(),
            next_task: 0,
            next_process: 0,
            next_request: 0,
            last_packet: 0,
            stopping: None,
            commands: 0,
            mutation,
        };
        world.script();
        world
    }

    /// What will happen in any case.
    fn script(&mut self) {
        log!(self, "world with {:?}", self.faults);
        let length = self.rng.between(10_000, 90_000);
        self.at(0, Action::Start);
        for _ in 0..self.rng.between(10, 80) {
            let when = self.rng.below(length);
            self.at(when, Action::Touch);
        }
        for _ in 0..self.rng.between(2, 20) {
            let when = self.rng.below(length);
            self.at(when, Action::Meanwhile);
        }
        self.at(length, Action::Calm);
        self.at(length + 400_000, Action::LastStop);
    }

    /// Lets everything happen.
    pub(crate) fn run(&mut self) -> Result<(), Wrong> {
        while !self.over {
            self.events += 1;
            if self.events > EVENTS_MOST {
                return Err("it goes round in circles".into());
            }
            let next = self.queue.first_key_value().map(|((at, _), _)| *at);
            let wake = self.engine.as_ref().and_then(|engine| engine.next_wake());
            match (next, wake) {
                (None, None) => return Err("nothing happens any more".into()),
                (next, Some(Millis(wake))) if next.is_none_or(|next| wake <= next) => {
                    self.now = self.now.max(wake);
                    self.feed(Event::Tick)?;
                }
                _ => self.next_action()?,
            }
            self.check()?;
        }
        Ok(())
    }

    fn next_action(&mut self) -> Result<(), Wrong> {
        let Some(((at, _), (life, action))) = self.queue.pop_first() else {
            return Ok(());
        };
        self.now = self.now.max(at);
        if action.of_daemon() && life != self.life {
            return Ok(());
        }
        if action.answers() {
            self.answers_due -= 1;
        }
        self.changed |= matches!(
            action,
            Action::Meanwhile | Action::Step(_) | Action::Batch(_)
        );
        match action {
            Action::Deliver(event) => self.feed(event),
            Action::Packet(token) => self.packet(token),
            Action::Step(task) => self.step(task),
            Action::Batch(task) => self.batch(task),
            Action::Scan(task) => self.scan(task),
            Action::Touch => self.touch(),
            Action::Walk(process) => self.walk(process),
            Action::Leave(process) => self.leave(process),
            Action::Kill(process) => self.kill(process),
            Action::Meanwhile => self.meanwhile(),
            Action::Crash => self.crash(),
            Action::Start => self.start(),
            Action::Calm => self.calm_down(),
            Action::LastStop => self.last_stop(),
        }
    }

    /// Has something happen later.
    pub(crate) fn at(&mut self, when: u64, action: Action) {
        if action.answers() {
            self.answers_due += 1;
        }
        self.sequence += 1;
        self.queue
            .insert((when, self.sequence), (self.life, action));
    }

    /// Whether nothing is under way between engine and world.
    pub(crate) fn quiet(&self) -> bool {
        self.answers_due == 0
    }

    /// How long an answer takes.
    pub(crate) fn delay(&mut self) -> u64 {
        let faults = self.faults.clone();
        if self.rng.chance(faults.stuck) {
            return self.rng.between(15_000, 100_000);
        }
        if self.rng.chance(faults.slow) {
            return self.rng.between(100, 14_000);
        }
        self.rng.below(30)
    }

    pub(crate) fn mix(&mut self, value: u64) {
        self.hash = (self.hash.rotate_left(5) ^ value).wrapping_mul(0x517c_c1b7_2722_0a95);
    }

    // -- the daemon ------------------------------------------------------------------------

    /// Gives the engine an event and carries out what it commands.
    pub(crate) fn feed(&mut self, event: Event<Ticket>) -> Result<(), Wrong> {
        let Some(engine) = &mut self.engine else {
            return Ok(());
        };
        log!(self, "-> {}", told(&event));
        self.changed |= !matches!(event, Event::Tick | Event::ExpireDone { .. });
        let mut commands = Vec::new();
        engine.handle(Millis(self.now), event, &mut commands);
        engine.audit()?;
        for command in commands {
            self.commands += 1;
            let command = match self.mutation {
                Some(mutation) => mutation.command(command, self.commands),
                None => Some(command),
            };
            if let Some(command) = command {
                self.execute(command)?;
            }
        }
        match self.dropped.borrow().first() {
            Some(token) => Err(format!("the ticket of request {token} was dropped")),
            None => Ok(()),
        }
    }

    fn execute(&mut self, command: Command<Ticket>) -> Result<(), Wrong> {
        log!(self, "<- {}", ordered(&command));
        self.mix(self.now);
        match command {
            Command::Reply { ticket, answer } => {
                let token = ticket.spend().ok_or("a spent ticket was spent again")?;
                self.mix(token << 1 | u64::from(answer == Answer::Ready));
                self.seen.answer(&answer);
                return self.answered(token, &answer);
            }
            Command::Fetch {
                job, binding, key, ..
            } => {
                let event = self.fetched(job, &binding, &key);
                self.deliver(event);
            }
            Command::Resolve { job, hosts, .. } => {
                let answers = self.resolve(hosts);
                self.deliver(Event::Resolved { job, answers });
            }
            Command::Perform {
                job,
                steps,
                deadline_ms,
            } => self.perform(job, steps, deadline_ms)?,
            Command::Inspect { job, target, .. } => {
                let target = target.as_bstr();
                let link = self.kernel.holder(target).is_some_and(|(holder, name)| {
                    let names = self.kernel.as_trigger(holder).map(|it| &it.names);
                    names.and_then(|it| it.get(&name)?.link.as_ref()).is_some()
                });
                let mounted = link || self.kernel.covered(target) || self.kernel.has_below(target);
                self.deliver(Event::Inspected { job, mounted });
            }
            Command::Install { triggers } => self.begin_batch(BatchKind::Install, triggers),
            Command::Adopt { triggers } => {
                self.seen.adopted += triggers.len() as u64;
                self.begin_batch(BatchKind::Adopt, triggers);
            }
            Command::Remove { triggers } => self.begin_batch(BatchKind::Remove, triggers),
            Command::List { .. } => {}
            Command::SetTimeout {
                trigger,
                key,
                seconds,
            } => self.set_timeout(trigger, key, seconds),
            Command::Expire { trigger, immediate } => self.begin_scan(trigger, immediate),
            Command::Respond { id, response } => {
                if !self.requests.remove(&id) {
                    return Err(format!("{id:?} was answered again: {response:?}"));
                }
                if let Response::Done { left } = &response {
                    self.mix(left.len() as u64);
                }
            }
            Command::Note(_) => {}
            Command::Finished { left } => return self.finished(&left),
        }
        Ok(())
    }

    fn deliver(&mut self, event: Event<Ticket>) {
        let when = self.now + self.delay();
        self.at(when, Action::Deliver(event));
    }

    fn resolve(&mut self, hosts: Vec<BString>) -> HostAnswers {
        let mut answers = HostAnswers::new();
        for (number, host) in hosts.into_iter().enumerate() {
            let known = !self.rng.chance(self.faults.host);
            let address = std::net::Ipv4Addr::new(192, 0, 2, number as u8 + 1);
            let addresses = known.then(|| address.into()).into_iter().collect();
            answers.insert(host, HostAnswer { addresses });
        }
        answers
    }

    /// The daemon begins its life, with what an earlier one left.
    fn start(&mut self) -> Result<(), Wrong> {
        if self.engine.is_some() {
            return Ok(());
        }
        self.life += 1;
        self.answers_due = 0;
        self.stopping = None;
        self.engine = Some(Engine::new(Settings {
            timeout: 3,
            negative_timeout: 2,
            deadline_ms: DEADLINE_MS,
            unmount_deadline_ms: UNMOUNT_DEADLINE_MS,
            ..Settings::default()
        }));
        let existing = self.survey();
        let points = self.points.clone();
        self.feed(Event::Configure(Configuration { points, existing }))
    }

    /// The daemon is gone: killed, or at its end.
    pub(crate) fn crash(&mut self) -> Result<(), Wrong> {
        log!(self, "the daemon is gone");
        if self.engine.take().is_none() {
            return Ok(());
        }
        self.seen.lives += 1;
        self.dropped.borrow_mut().clear();
        self.life += 1;
        self.answers_due = 0;
        self.adopted = true;
        self.performances.clear();
        self.batches.clear();
        self.scans.clear();
        self.requests.clear();
        self.levels.clear();
        self.forsake();
        if !self.over {
            let when = self.now + self.rng.below(5_000);
            self.at(when, Action::Start);
        }
        Ok(())
    }

    /// An operator (or a signal) asks for something.
    pub(crate) fn request(&mut self, request: Request) -> Result<(), Wrong> {
        if self.engine.is_none() {
            return Ok(());
        }
        if let Request::Stop { detach } = request
            && self.stopping.is_none()
        {
            self.stopping = Some((self.now, detach));
        }
        let id = RequestId(self.next_request);
        self.next_request += 1;
        self.requests.insert(id);
        self.feed(Event::Request { id, request })
    }

    fn finished(&mut self, left: &[(BString, std::sync::Arc<str>)]) -> Result<(), Wrong> {
        let detach = self.stopping.is_some_and(|(_, detach)| detach);
        if let Some(token) = self.unanswered() {
            return Err(format!("request {token} was not answered before the end"));
        }
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
        self.at(self.now, Action::Crash);
        Ok(())
    }

    /// The stop after which nothing may be left.
    fn last_stop(&mut self) -> Result<(), Wrong> {
        if let Some(token) = self.unanswered() {
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
        self.request(Request::Stop { detach: false })
    }

    /// Nothing new begins, nothing goes wrong any more, everybody leaves.
    fn calm_down(&mut self) -> Result<(), Wrong> {
        log!(self, "calm");
        self.calm = true;
        self.faults = Faults::default();
        Ok(())
    }

    /// How long the stop is going on.
    pub(crate) fn stopping_for(&self) -> Option<u64> {
        self.stopping.map(|(begun, _)| self.now - begun)
    }

    /// A request of the kernel reaches the daemon.
    fn packet(&mut self, token: Token) -> Result<(), Wrong> {
        let Some(pending) = self.kernel.pending.get_mut(&token) else {
            return Ok(());
        };
        let (trigger, key, expire) = (pending.trigger, pending.name.clone(), pending.expire);
        let within = match expire {
            true => UNMOUNT_DEADLINE_MS,
            false => DEADLINE_MS,
        };
        pending.deadline = Some(self.now + within);
        let ticket = Ticket {
            token: Some(token),
            dropped: self.dropped.clone(),
        };
        let requester = Requester::default();
        self.feed(match expire {
            true => Event::ExpireAsked {
                trigger,
                key,
                ticket,
            },
            false => Event::Access {
                trigger,
                key,
                requester,
                waited_ms: 0,
                ticket,
            },
        })
    }

    /// Sends a request through the pipe: in order, and not at once.
    pub(crate) fn send(&mut self, token: Token) {
        let when = self.last_packet.max(self.now + self.rng.below(5));
        self.last_packet = when;
        self.at(when, Action::Packet(token));
    }

    // -- the daemon's hands ----------------------------------------------------------------

    pub(crate) fn task(&mut self) -> u64 {
        self.next_task += 1;
        self.next_task
    }

    fn perform(
        &mut self,
        job: piton_engine::event::JobId,
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
        self.performances
            .insert(task, Performance::new(job, steps, until));
        self.plan_step(task);
        Ok(())
    }

    /// Decides when the next step of a performance is done.
    fn plan_step(&mut self, task: u64) {
        let slow = self.performances.get(&task).and_then(|it| it.current());
        let slow = matches!(slow, Some(Step::Mount { .. } | Step::Unmount { .. }));
        let pause = match slow {
            true => self.delay(),
            false => self.rng.below(5),
        };
        let overrun = self.rng.chance(self.faults.overrun);
        let Some(performance) = self.performances.get(&task) else {
            return;
        };
        let mut when = self.now + pause;
        if !overrun && !performance.undoing {
            when = when.min(performance.until.max(self.now));
        }
        self.at(when, Action::Step(task));
    }

    fn step(&mut self, task: u64) -> Result<(), Wrong> {
        let Some(mut performance) = self.performances.remove(&task) else {
            return Ok(());
        };
        let Some(step) = performance.current() else {
            let Performance {
                job,
                outcome,
                steps,
                ..
            } = performance;
            self.seen.outcome(&outcome);
            self.settled(&steps, &outcome);
            self.deliver(Event::Performed { job, outcome });
            return Ok(());
        };
        let attempts = match &step {
            Step::Mount { attempts, .. } => attempts.len() as u64,
            _ => 1,
        };
        let result = match self.fault(&step, performance.undoing, performance.until) {
            Some(errno) => Err(errno),
            None if attempts == 0 => Err(crate::kernel::EINVAL),
            None => perform::act(&mut self.kernel, &step, self.now)?,
        };
        let planned = Planned {
            step: step.clone(),
            required: true,
        };
        log!(self, "   {}: {result:?}", in_short(&planned));
        let attempt = self.rng.below(attempts) as usize;
        let helper = self.rng.chance(300);
        performance.stepped(result, attempt, helper);
        if performance.undoing && self.mutation == Some(Mutation::NoUndo) {
            performance.to_undo.clear();
        }
        self.performances.insert(task, performance);
        self.plan_step(task);
        Ok(())
    }

    fn begin_batch(&mut self, kind: BatchKind, mut triggers: Vec<TriggerSpec>) {
        triggers.reverse();
        let task = self.task();
        let results = Vec::new();
        self.batches.insert(
            task,
            Batch {
                kind,
                triggers,
                results,
            },
        );
        let when = self.now + self.delay();
        self.at(when, Action::Batch(task));
    }

    fn batch(&mut self, task: u64) -> Result<(), Wrong> {
        let Some(mut batch) = self.batches.remove(&task) else {
            return Ok(());
        };
        let Some(spec) = batch.triggers.pop() else {
            let results = batch.results;
            self.deliver(match batch.kind {
                BatchKind::Install | BatchKind::Adopt => Event::Installed { results },
                BatchKind::Remove => Event::Removed { results },
            });
            return Ok(());
        };
        let fails = match batch.kind {
            BatchKind::Install => self.rng.chance(self.faults.install / 4).then_some(12),
            BatchKind::Adopt => None,
            BatchKind::Remove => self.rng.chance(self.faults.busy).then_some(16),
        };
        let result = match (fails, batch.kind) {
            (Some(errno), _) => Err(errno),
            (None, BatchKind::Install) => perform::install(&mut self.kernel, &spec, self.now)?,
            (None, BatchKind::Remove) => perform::remove(&mut self.kernel, &spec),
            (None, BatchKind::Adopt) => self.adopt(&spec),
        };
        log!(self, "   {:?} {}: {result:?}", batch.kind, spec.path);
        let failure = |errno| StepFailure {
            index: 0,
            errno: piton_engine::cause::Errno(errno),
            text: format!("errno {errno}").into(),
        };
        batch
            .results
            .push((spec.id, result.map(drop).map_err(failure)));
        self.batches.insert(task, batch);
        let when = self.now + self.rng.below(3);
        self.at(when, Action::Batch(task));
        Ok(())
    }
}

/// An event in a line of the trace.
fn told(event: &Event<Ticket>) -> String {
    match event {
        Event::Configure(configuration) => {
            let point = |point: &Point| format!("{} {:?}", point.path, point.kind);
            let points: Vec<String> = configuration.points.iter().map(point).collect();
            format!(
                "Configure {points:?}, existing {:?}",
                configuration.existing
            )
        }
        Event::Fetched { job, result, .. } => match result {
            Ok(found) => format!("Fetched {job:?} {}", found.fragment.text),
            Err(miss) => format!("Fetched {job:?} {miss:?}"),
        },
        other => format!("{other:?}"),
    }
}

/// A command in a line of the trace.
fn ordered(command: &Command<Ticket>) -> String {
    match command {
        Command::Fetch { job, key, .. } => format!("Fetch {job:?} {key}"),
        Command::Install { triggers } => format!("Install {}", paths(triggers)),
        Command::Adopt { triggers } => format!("Adopt {}", paths(triggers)),
        Command::Remove { triggers } => format!("Remove {}", paths(triggers)),
        Command::Perform { job, steps, .. } => {
            let steps: Vec<String> = steps.iter().map(in_short).collect();
            format!("Perform {job:?} {}", steps.join(", "))
        }
        other => format!("{other:?}"),
    }
}

fn paths(triggers: &[TriggerSpec]) -> String {
    let one = |spec: &TriggerSpec| format!("{}#{}", spec.path, spec.id.0);
    triggers.iter().map(one).collect::<Vec<_>>().join(" ")
}

fn in_short(planned: &Planned) -> String {
    let optional = if planned.required { "" } else { "?" };
    let step = match &planned.step {
        Step::MakeDirectory { path } => format!("mkdir {path}"),
        Step::Mount { target, .. } => format!("mount {target}"),
        Step::Symlink { path, to } => format!("link {path} to {to}"),
        Step::Install(spec) => format!("install {}#{}", spec.path, spec.id.0),
        Step::Unmount { target, .. } => format!("unmount {target}"),
        Step::Remove(spec) => format!("remove {}#{}", spec.path, spec.id.0),
        Step::RemoveDirectory { path } => format!("rmdir {path}"),
        Step::RemoveSymlink { path } => format!("unlink {path}"),
    };
    step + optional
}
