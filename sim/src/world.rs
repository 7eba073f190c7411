//! One world: the engine, the kernel, maps, processes, operators, and a clock that jumps from
//! one thing that happens to the next.

use std::collections::{BTreeMap, BTreeSet};

use bstr::{BString, ByteSlice};
use piton_engine::command::{Answer, Note, Response};
use piton_engine::config::Point;
use piton_engine::event::{JobId, RequestId};
use piton_engine::time::Millis;
use piton_engine::{Command, Engine, Event};
use piton_map::lookup::Miss;
use piton_plan::facts::{HostAnswer, HostAnswers};

use crate::dice::{About, Dice};
use crate::excuse::Excuses;
use crate::failover::Failover;
use crate::faults::{Fault, Faults};
use crate::hands::{Batch, BatchKind};
use crate::keeper::{Keeper, SLOTS};
use crate::kernel::{Kernel, ProcessId, Token};
use crate::maps::Maps;
use crate::mutation::Mutation;
use crate::perform::Performance;
use crate::process::{Process, Scan};
use crate::script::What;
use crate::seen::Seen;
use crate::servers::{self, Servers};
use crate::ticket::{Dropped, Ticket};
use crate::words::{ordered, told};
use crate::{Recipe, Tell};

/// Milliseconds in which an entry is planned.
const PLANNING_MS: u64 = 2;

/// Milliseconds within which the daemon must answer an access.
pub(crate) const DEADLINE_MS: u64 = 10_000;
/// Milliseconds within which it must answer the kernel's expiry.
pub(crate) const UNMOUNT_DEADLINE_MS: u64 = 12_000;
/// How late a tick may come.
pub(crate) const LATE_MS: u64 = 20;
/// Things that may happen in one world; more means that something goes round in circles.
const EVENTS_MOST: u64 = 60_000;
/// A process in a mount namespace that mounts do not reach.
pub(crate) const ELSEWHERE: u32 = 9;
/// Milliseconds of calm after which all must be over.
const CALM_MS: u64 = 400_000;

/// Something that will happen.
#[derive(Debug)]
pub(crate) enum Action {
    /// An answer reaches the daemon.
    Deliver(Event<Ticket>),
    /// All that was found is taken over: the daemon begins to serve.
    Serve(Event<Ticket>),
    /// The daemon reads the next request.
    Read,
    /// The next step of a performance.
    Step(u64),
    /// The next trigger of a batch.
    Batch(u64),
    /// The next candidate of an expiry.
    Scan(u64),
    /// Something comes from outside.
    Occur(usize),
    /// A process goes on walking.
    Walk(ProcessId),
    /// A process leaves what it uses.
    Leave(ProcessId),
    /// A process is killed.
    Kill(ProcessId),
    /// The daemon is at its end.
    Exit,
    /// The daemon is started.
    Start,
    /// There is a keeper again.
    KeeperReturns,
    /// The keeper looks after those who wait, since no daemon does.
    Substitute(u64),
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
                | Self::Serve(_)
                | Self::Read
                | Self::Step(_)
                | Self::Batch(_)
                | Self::Scan(_)
                | Self::Exit
                | Self::KeeperReturns
        )
    }

    fn answers(&self) -> bool {
        matches!(
            self,
            Self::Deliver(_) | Self::Serve(_) | Self::Step(_) | Self::Batch(_)
        )
    }
}

/// Why a world is wrong.
pub(crate) type Wrong = String;

/// One world.
pub(crate) struct World {
    pub(crate) dice: Dice,
    pub(crate) now: u64,
    /// By how much the daemon's clock is ahead.
    pub(crate) leap: u64,
    pub(crate) kernel: Kernel,
    pub(crate) faults: Faults,
    pub(crate) maps: Maps,
    pub(crate) engine: Option<Engine<Ticket>>,
    pub(crate) points: Vec<Point>,
    pub(crate) keeper: Keeper,
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
    /// What was amiss where, and when: why an access may fail.
    pub(crate) excuses: Excuses,
    pub(crate) servers: Servers,
    pub(crate) failover: Failover,
    pub(crate) calm: bool,
    /// Whether anything changed since engine and kernel were last compared.
    pub(crate) changed: bool,
    pub(crate) over: bool,
    pub(crate) last: bool,
    pub(crate) events: u64,
    pub(crate) seen: Seen,
    pub(crate) hash: u64,
    pub(crate) trace: Option<Vec<String>>,
    pub(crate) life: u32,
    pub(crate) answers_due: usize,
    pub(crate) dropped: Dropped,
    pub(crate) next_process: ProcessId,
    pub(crate) next_request: u64,
    pub(crate) stopping: Option<(u64, bool)>,
    pub(crate) mutation: Option<Mutation>,
    /// Answers that a mutation holds back, by the path for which they wait.
    pub(crate) held: Vec<(BString, Ticket)>,
    pub(crate) seed: u64,
    /// Whether few accesses are enough to fill the engine's queues.
    pub(crate) short_queues: bool,
    occurrences: Vec<(usize, What)>,
    queue: BTreeMap<(u64, u64), (u32, Action)>,
    sequence: u64,
    next_task: u64,
    commands: u64,
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
    pub(crate) fn new(recipe: &Recipe, tell: Tell) -> Self {
        let script = recipe.script();
        let mut dice = Dice::new(recipe.seed, recipe.decisions.clone());
        if tell.decisions {
            dice.record();
        }
        let small = dice.chance(About::Slot, b"", script.faults[Fault::Table]);
        let short_queues = dice.chance(About::Slot, b"queue", script.faults[Fault::Queue]);
        let slots = if small { 3 } else { SLOTS };
        let mut world = Self {
            dice,
            now: 0,
            leap: 0,
            kernel: Kernel::default(),
            faults: script.faults,
            maps: script.maps,
            engine: None,
            points: script.points,
            keeper: Keeper::new(slots),
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
            excuses: Excuses::default(),
            servers: Servers::default(),
            failover: Failover::default(),
            calm: false,
            changed: true,
            over: false,
            last: false,
            events: 0,
            seen: Seen::default(),
            hash: recipe.seed,
            trace: tell.trace.then(Vec::new),
            life: 0,
            answers_due: 0,
            dropped: Dropped::default(),
            next_process: 0,
            next_request: 0,
            stopping: None,
            mutation: recipe.mutation,
            held: Vec::new(),
            seed: recipe.seed,
            short_queues,
            occurrences: Vec::new(),
            queue: BTreeMap::new(),
            sequence: 0,
            next_task: 0,
            commands: 0,
        };
        world.at(0, Action::Start);
        for (index, occurrence) in script.occurrences.into_iter().enumerate() {
            world.at(occurrence.at, Action::Occur(index));
            world.occurrences.push((occurrence.number, occurrence.what));
        }
        world.at(script.length, Action::Calm);
        world.at(script.length + CALM_MS, Action::LastStop);
        let some: Vec<&str> = world.faults.some().map(Fault::name).collect();
        log!(world, "what may go wrong: {}", some.join(" "));
        world
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
            let wake = wake.map(|Millis(wake)| wake.saturating_sub(self.leap));
            match (next, wake) {
                (None, None) => return Err("nothing happens any more".into()),
                (next, Some(wake)) if next.is_none_or(|next| wake <= next) => {
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
            Action::Occur(_) | Action::Step(_) | Action::Batch(_)
        );
        match action {
            Action::Deliver(event) => self.feed(event),
            Action::Serve(event) => {
                self.feed(event)?;
                self.serve_if_ready()
            }
            Action::Read => self.read(),
            Action::Step(task) => self.step(task),
            Action::Batch(task) => self.batch(task),
            Action::Scan(task) => self.scan(task),
            Action::Occur(index) => self.occur(index),
            Action::Walk(process) => self.walk(process),
            Action::Leave(process) => self.leave(process),
            Action::Kill(process) => self.kill(process),
            Action::Exit => self.exit(),
            Action::Start => self.start(),
            Action::KeeperReturns => self.keeper_returns(),
            Action::Substitute(since) => self.substitute(since),
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

    /// Something comes from outside.
    fn occur(&mut self, index: usize) -> Result<(), Wrong> {
        let (number, what) = self.occurrences[index].clone();
        if !matches!(what, What::Touch { .. }) {
            log!(self, "## {number}: {}", what.told());
        }
        match what {
            What::Touch { path, stay, killed } => self.touch(path, stay, killed),
            What::Edit { map, key, text } => {
                self.edited();
                self.excuses.edited(map, &key);
                self.maps.write(map, key, text);
                Ok(())
            }
            What::Reload(points) => {
                self.points = points;
                self.reload()
            }
            What::Replace(points) => {
                self.edited();
                self.excuses.everywhere(self.now);
                self.points = points;
                Ok(())
            }
            What::Tamper { which, lazily } => {
                self.tamper(which, lazily);
                Ok(())
            }
            What::Operate(request) => self.request(request),
            What::Stop { detach } => self.stop(detach),
            What::Crash { after, again } => {
                self.keeper.doom(after, again);
                Ok(())
            }
            What::KeeperDies(back) => {
                self.keeper_dies(back);
                Ok(())
            }
            What::Jump(by) => {
                self.jump(by);
                Ok(())
            }
        }
    }

    /// The daemon's clock leaps: it believes that whoever waits has waited longer.
    fn jump(&mut self, by: u64) {
        self.leap += by;
        self.excuses.everywhere(self.now);
    }

    /// Whether nothing is under way between engine and world.
    pub(crate) fn quiet(&self) -> bool {
        self.answers_due == 0
    }

    /// How long an answer about a place takes.
    pub(crate) fn delay(&mut self, place: &[u8]) -> u64 {
        let (stuck, slow) = (self.faults[Fault::Stuck], self.faults[Fault::Slow]);
        if self.dice.chance(About::Slow, place, stuck) {
            self.excuses.amiss(place, self.now + 100_000);
            return 15_000 + self.dice.below(About::Delay, place, 85_000);
        }
        if self.dice.chance(About::Slow, place, slow) {
            self.excuses.amiss(place, self.now + 14_000);
            return 100 + self.dice.below(About::Delay, place, 14_000);
        }
        self.dice.below(About::Delay, place, 30)
    }

    pub(crate) fn mix(&mut self, value: u64) {
        self.hash = (self.hash.rotate_left(5) ^ value).wrapping_mul(0x517c_c1b7_2722_0a95);
    }

    pub(crate) fn task(&mut self) -> u64 {
        self.next_task += 1;
        self.next_task
    }

    // -- the daemon ------------------------------------------------------------------------

    /// Gives the engine an event and carries out what it commands, unless it dies in the midst
    /// of that.
    pub(crate) fn feed(&mut self, event: Event<Ticket>) -> Result<(), Wrong> {
        let Some(engine) = &mut self.engine else {
            return Ok(());
        };
        log!(self, "-> {}", told(&event));
        self.changed |= !matches!(event, Event::Tick | Event::ExpireDone { .. });
        let mut commands = Vec::new();
        let performed = match &event {
            Event::Performed { job, .. } => Some(*job),
            _ => None,
        };
        engine.handle(Millis(self.now + self.leap), event, &mut commands);
        engine.audit()?;
        if let Some(job) = performed {
            self.work_ended(job);
        }
        let mut commands = commands.into_iter();
        while let Some(command) = commands.next() {
            if self.doomed() {
                // What its tickets were for, the table knows.
                drop((command, commands));
                self.dropped.borrow_mut().clear();
                return Ok(());
            }
            self.commands += 1;
            let command = match self.mutation {
                Some(mutation) => mutation.command(command, self.commands),
                None => Some(command),
            };
            if let Some(command) = command {
                self.execute(command)?;
            }
        }
        if let Some(token) = self.dropped.borrow().first() {
            return Err(format!("the ticket of request {token} was dropped"));
        }
        self.doomed();
        Ok(())
    }

    fn execute(&mut self, command: Command<Ticket>) -> Result<(), Wrong> {
        log!(self, "<- {}", ordered(&command));
        self.mix(self.now);
        match command {
            Command::Reply { ticket, answer } => self.reply(ticket, &answer)?,
            Command::Fetch {
                job, binding, key, ..
            } => {
                let map = binding.maps.first().map(|map| map.name.clone());
                self.fetch(job, &map.unwrap_or_default(), &key);
            }
            Command::Plan { job, order } => {
                // Nothing can fail or be slow about it; others come in between.
                let planning = Box::new(order.plan());
                let planned = Event::Planned { job, planning };
                self.at(self.now + PLANNING_MS, Action::Deliver(planned));
            }
            Command::Resolve { job, hosts, .. } => {
                let place = job.0.to_le_bytes();
                let answers = self.resolve(hosts);
                self.deliver(&place, Event::Resolved { job, answers });
            }
            Command::Probe { job, targets, .. } => self.probe(job, &targets),
            Command::Check {
                server,
                targets,
                service,
                deadline_ms,
            } => self.check_server(server, targets, service, deadline_ms)?,
            Command::Perform {
                job,
                steps,
                deadline_ms,
            } => self.perform(job, steps, deadline_ms)?,
            Command::Inspect { job, target, pid } => self.inspect(job, &target, pid),
            Command::Install { triggers } => self.begin_batch(BatchKind::Install, triggers),
            Command::Adopt { triggers } => {
                self.seen.adopted += triggers.len() as u64;
                self.begin_batch(BatchKind::Adopt, triggers);
            }
            Command::Remove { triggers } => self.begin_batch(BatchKind::Remove, triggers),
            // The kernel mounts in place: there are no links.
            Command::Note(Note::LetGo { .. }) => self.seen.moved += 1,
            Command::Show { .. }
            | Command::Hide { .. }
            | Command::List { .. }
            | Command::Note(_) => {}
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
            Command::Finished { left } => return self.finished(&left),
        }
        Ok(())
    }

    pub(crate) fn reply(&mut self, ticket: Ticket, answer: &Answer) -> Result<(), Wrong> {
        let token = ticket.spend().ok_or("a spent ticket was spent again")?;
        self.mix(token << 1 | u64::from(*answer == Answer::Ready));
        self.seen.answer(answer);
        if let Answer::Failed(cause) = answer {
            self.check_known_dead(cause)?;
        }
        self.answered(token, answer)
    }

    pub(crate) fn deliver(&mut self, place: &[u8], event: Event<Ticket>) {
        let when = self.now + self.delay(place);
        self.at(when, Action::Deliver(event));
    }

    /// Sees whether something is in place.
    fn inspect(&mut self, job: JobId, target: &BString, pid: u32) {
        let path = target.as_bstr();
        let link = self.kernel.holder(path).is_some_and(|(holder, name)| {
            let names = self.kernel.as_trigger(holder).map(|it| &it.names);
            names.and_then(|it| it.get(&name)?.link.as_ref()).is_some()
        });
        let mounted = link || self.kernel.covered(path) || self.kernel.has_below(path);
        let event = match mounted && pid == ELSEWHERE {
            true => Event::Hidden { job },
            false => Event::Inspected { job, mounted },
        };
        self.deliver(target, event);
    }

    // -- sources ---------------------------------------------------------------------------

    /// A source answers: rightly, wrongly, late, or with an error.
    fn fetch(&mut self, job: JobId, map: &BString, key: &BString) {
        let place = [map.as_bytes(), b" ", key].concat();
        let (fetch, lie) = (self.faults[Fault::Fetch], self.faults[Fault::Lie]);
        let result = if self.dice.chance(About::Fault, &place, fetch) {
            self.excuses.of_source(map, key, self.now);
            Err(match self.dice.below(About::Way, &place, 4) {
                0 => Miss::Unreadable("I/O error".into()),
                1 => Miss::TimedOut("too slow".into()),
                2 => Miss::ProgramFailed("exit status 1".into()),
                _ => Miss::NoSuchMap("gone".into()),
            })
        } else if self.dice.chance(About::Source, &place, lie) {
            self.excuses.of_source(map, key, u64::MAX / 2);
            let how = self.dice.below(About::Way, &place, 1 << 20);
            self.seen.lies += 1;
            self.maps.lie(map.as_bstr(), key.as_bstr(), how)
        } else {
            self.maps.find(map.as_bstr(), key.as_bstr())
        };
        let event = Event::Fetched {
            job,
            names: None,
            costly: map == "prog",
            result,
        };
        let (stuck, slow) = (self.faults[Fault::Stuck], self.faults[Fault::Slow]);
        if stuck + slow > 0 {
            self.excuses.of_source(map, key, self.now + 100_000);
        }
        self.deliver(&place, event);
    }

    fn resolve(&mut self, hosts: Vec<BString>) -> HostAnswers {
        let mut answers = HostAnswers::new();
        let unknown = self.faults[Fault::Host];
        if unknown + self.faults[Fault::Slow] + self.faults[Fault::Stuck] > 0 {
            self.excuses.of_servers(self.now + 100_000);
        }
        for host in hosts {
            let known = !self.dice.chance(About::Host, &host, unknown);
            let address = known.then(|| servers::address(host.as_ref()));
            let addresses = address.into_iter().collect();
            answers.insert(host, HostAnswer { addresses });
        }
        answers
    }

    // -- the daemon's requests -------------------------------------------------------------

    /// A request reaches the engine, if its trigger is known to it.
    pub(crate) fn ask_engine(&mut self, token: Token) -> Result<(), Wrong> {
        let Some(request) = self.request_of(token) else {
            return self.answer_unknown(token);
        };
        if self.mutation == Some(Mutation::AnswerByUnmount)
            && !request.expire
            && self.unmounting(&request.path)
        {
            let ticket = Ticket::new(token, &self.dropped);
            self.held.push((request.path, ticket));
            return Ok(());
        }
        let ticket = Ticket::new(token, &self.dropped);
        let event = request.event(ticket);
        self.feed(event)
    }
}
