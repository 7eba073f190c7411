//! A small world for the engine: it answers commands when it is told to, and remembers what it
//! was told.
#![allow(dead_code, unreachable_pub)]

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;

use bstr::{BString, ByteSlice};
use piton_engine::cause::{Cause, Errno};
use piton_engine::command::{Answer, Note, Response};
use piton_engine::config::{Binding, Configuration, Point, Settings};
use piton_engine::event::{
    DoneStep, Existing, ExistingMount, JobId, Outcome, Request, RequestId, StepFailure,
};
use piton_engine::time::Millis;
use piton_engine::{Command, Engine, Event};
use piton_map::dialect::Dialect;
use piton_map::lookup::{Found, MapSpec, Matched, Miss};
use piton_map::options::PointOptions;
use piton_map::requester::Requester;
use piton_map::text::{Fragment, Origin, Position, Span};
use piton_plan::facts::{HostAnswer, HostAnswers};
use piton_plan::probe::{Answer as Heard, Target};
use piton_plan::step::{Planned, Step, TriggerId, TriggerKind, TriggerSpec};

/// A duty to answer; not `Clone`, as in the daemon.
#[derive(Debug)]
pub struct Ticket(pub u32);

/// The engine and a world that does as it is told.
pub struct Play {
    pub engine: Engine<Ticket>,
    pub now: u64,
    /// Commands that wait for their answer.
    pub open: VecDeque<Command<Ticket>>,
    pub answers: BTreeMap<u32, Answer>,
    pub responses: BTreeMap<u64, Response>,
    pub notes: Vec<Note>,
    pub finished: Option<Vec<(BString, Arc<str>)>>,
    /// Lines of the maps, by key.
    pub lines: BTreeMap<BString, String>,
    pub costly: bool,
    /// Steps that fail, by their words.
    pub broken: BTreeMap<String, i32>,
    /// Servers without an address.
    pub unknown: BTreeSet<BString>,
    /// Servers that do not serve, by their addresses.
    pub servers: BTreeMap<std::net::IpAddr, Heard>,
    /// What `Inspect` finds nothing at.
    pub bare: BTreeSet<BString>,
    /// Every command in words, in order.
    pub log: Vec<String>,
    next_ticket: u32,
    next_request: u64,
}

impl Play {
    /// An engine that keeps nothing in place yet.
    pub fn empty() -> Self {
        Self::with(Settings {
            timeout: 60,
            ..Settings::default()
        })
    }

    pub fn with(settings: Settings) -> Self {
        Self {
            engine: Engine::new(settings),
            now: 1_000,
            open: VecDeque::new(),
            answers: BTreeMap::new(),
            responses: BTreeMap::new(),
            notes: Vec::new(),
            finished: None,
            lines: BTreeMap::new(),
            costly: false,
            broken: BTreeMap::new(),
            unknown: BTreeSet::new(),
            servers: BTreeMap::new(),
            bare: BTreeSet::new(),
            log: Vec::new(),
            next_ticket: 0,
            next_request: 0,
        }
    }

    /// `/home` (indirect) and `/data` (direct) in place, with lines for some keys.
    pub fn usual() -> Self {
        Self::usual_with(Settings {
            timeout: 60,
            ..Settings::default()
        })
    }

    /// The same, set otherwise.
    pub fn usual_with(settings: Settings) -> Self {
        let mut play = Self::with(settings);
        play.configure(vec![indirect("/home"), direct("/data")]);
        play.settle();
        for (key, line) in [
            ("ann", "-fstype=tmpfs :tmp"),
            ("bob", "-fstype=nfs srv:/bob"),
            ("tree", "-fstype=tmpfs,strict / :root /a :a /b :b"),
            ("loose", "-fstype=tmpfs / :root /a :a"),
            ("bare", "-fstype=tmpfs /a/in :in /b :b"),
            ("deep", "-fstype=tmpfs,strict / :root /a :a /a/in :in"),
            ("sub", "-fstype=autofs file:/maps/inner"),
            ("brief", "-fstype=tmpfs,timeout=4 :tmp"),
            ("bad", "nonsense"),
            ("/data", "-fstype=tmpfs :data"),
        ] {
            play.lines.insert(key.into(), line.into());
        }
        play.log.clear();
        play
    }

    // -- telling the engine ----------------------------------------------------------------

    pub fn feed(&mut self, event: Event<Ticket>) {
        let mut commands = Vec::new();
        self.engine.handle(Millis(self.now), event, &mut commands);
        self.engine.audit().unwrap();
        for command in commands {
            self.take(command);
        }
    }

    fn take(&mut self, command: Command<Ticket>) {
        self.log.push(words(&command));
        match command {
            Command::Reply { ticket, answer } => {
                let before = self.answers.insert(ticket.0, answer);
                assert_eq!(before, None, "ticket {} was answered twice", ticket.0);
            }
            Command::Respond { id, response } => {
                let before = self.responses.insert(id.0, response);
                assert_eq!(before, None, "request {} was answered twice", id.0);
            }
            Command::Note(note) => self.notes.push(note),
            Command::Finished { left } => {
                assert_eq!(self.finished, None, "there is one end");
                self.finished = Some(left);
            }
            Command::List { .. }
            | Command::SetTimeout { .. }
            | Command::Show { .. }
            | Command::Hide { .. } => {}
            command => self.open.push_back(command),
        }
    }

    pub fn configure(&mut self, points: Vec<Point>) {
        self.feed(Event::Configure(Configuration {
            points,
            existing: Vec::new(),
        }));
    }

    pub fn adopt(&mut self, points: Vec<Point>, existing: Vec<Existing>) {
        self.feed(Event::Configure(Configuration { points, existing }));
    }

    /// Somebody touches `path`; the number of the ticket.
    pub fn touch(&mut self, path: &str) -> u32 {
        let (trigger, key) = self.trigger_for(path);
        self.touch_at(trigger, &key)
    }

    pub fn touch_at(&mut self, trigger: TriggerId, key: &str) -> u32 {
        let ticket = self.ticket();
        self.feed(Event::Access {
            trigger,
            key: key.into(),
            requester: Requester::default(),
            waited_ms: 0,
            ticket: Ticket(ticket),
        });
        ticket
    }

    /// Somebody asks whether `path` exists; the number of the ticket.
    pub fn look_up(&mut self, path: &str) -> u32 {
        let (trigger, key) = self.trigger_for(path);
        let ticket = self.ticket();
        self.feed(Event::ExistsAsked {
            trigger,
            key: key.into(),
            requester: Requester::default(),
            ticket: Ticket(ticket),
        });
        ticket
    }

    /// The kernel finds `path` idle; the number of the ticket.
    pub fn expire(&mut self, path: &str) -> u32 {
        let (trigger, key) = self.trigger_for(path);
        let ticket = self.ticket();
        self.feed(Event::ExpireAsked {
            trigger,
            key: key.into(),
            ticket: Ticket(ticket),
        });
        ticket
    }

    pub fn ticket(&mut self) -> u32 {
        self.next_ticket += 1;
        self.next_ticket
    }

    pub fn request(&mut self, request: Request) -> u64 {
        self.next_request += 1;
        let id = RequestId(self.next_request);
        self.feed(Event::Request { id, request });
        self.next_request
    }

    pub fn stop(&mut self) -> u64 {
        self.request(Request::Stop { detach: false })
    }

    /// Time passes, and the engine is woken when it asked to be.
    pub fn pass(&mut self, milliseconds: u64) {
        let end = self.now + milliseconds;
        while let Some(wake) = self.engine.next_wake().filter(|wake| wake.0 <= end) {
            self.now = self.now.max(wake.0);
            self.feed(Event::Tick);
            self.settle_expiry();
        }
        self.now = end;
        self.feed(Event::Tick);
    }

    /// Answers what is asked of servers in the background, and says who was asked.
    pub fn answer_checks(&mut self) -> Vec<BString> {
        let check = |command: &Command<Ticket>| matches!(command, Command::Check { .. });
        let mut asked = Vec::new();
        while let Some(at) = self.open.iter().position(check) {
            if let Some(command) = self.open.remove(at) {
                if let Command::Check { server, .. } = &command {
                    asked.push(server.clone());
                }
                self.answer(command);
            }
        }
        asked
    }

    fn settle_expiry(&mut self) {
        self.answer_checks();
        let expiry = |command: &Command<Ticket>| matches!(command, Command::Expire { .. });
        while let Some(at) = self.open.iter().position(expiry) {
            if let Some(Command::Expire { trigger, .. }) = self.open.remove(at) {
                self.feed(Event::ExpireDone { trigger });
            }
        }
    }

    /// The trigger that answers for a path: at it, or the indirect one above.
    pub fn trigger_for(&self, path: &str) -> (TriggerId, String) {
        let at = self
            .engine
            .triggers()
            .filter(|spec| spec.path == path && spec.kind != TriggerKind::Indirect)
            .last();
        if let Some(spec) = at {
            return (spec.id, String::new());
        }
        let (above, key) = path.rsplit_once('/').unwrap();
        let holder = self
            .engine
            .triggers()
            .find(|spec| spec.path == above && spec.kind == TriggerKind::Indirect);
        match holder {
            Some(spec) => (spec.id, key.into()),
            None => panic!("no trigger answers for {path}"),
        }
    }

    pub fn has_trigger(&self, path: &str) -> bool {
        self.engine.triggers().any(|spec| spec.path == path)
    }

    // -- the world answers -----------------------------------------------------------------

    /// Answers everything, and what follows from it.
    pub fn settle(&mut self) {
        while self.step() {}
    }

    /// Answers everything but the end of expiries: the kernel still looks.
    pub fn settle_while_expiring(&mut self) {
        let other = |command: &Command<Ticket>| !matches!(command, Command::Expire { .. });
        while let Some(at) = self.open.iter().position(other) {
            if let Some(command) = self.open.remove(at) {
                self.answer(command);
            }
        }
    }

    /// Answers the first open command.
    pub fn step(&mut self) -> bool {
        let Some(command) = self.open.pop_front() else {
            return false;
        };
        self.answer(command);
        true
    }

    /// Answers until a command of this kind is next.
    pub fn until(&mut self, kind: &str) {
        while let Some(next) = self.open.front() {
            if words(next).starts_with(kind) {
                return;
            }
            self.step();
        }
        panic!("{kind} was never asked for; the log is {:#?}", self.log);
    }

    pub fn answer(&mut self, command: Command<Ticket>) {
        match command {
            Command::Fetch { job, key, .. } => self.fetched(job, &key),
            Command::Plan { job, order } => {
                let planning = Box::new(order.plan());
                self.feed(Event::Planned { job, planning });
            }
            Command::Resolve { job, hosts, .. } => {
                let answers = self.addresses(hosts);
                self.feed(Event::Resolved { job, answers });
            }
            Command::Probe { job, targets, .. } => {
                let answers = self.probe(&targets);
                self.feed(Event::Probed { job, answers });
            }
            Command::Check {
                server,
                service,
                deadline_ms,
                ..
            } => {
                let known = self.addresses(vec![server.clone()]);
                let targets: Vec<Target> = known[&server]
                    .addresses
                    .iter()
                    .map(|address| Target {
                        address: *address,
                        scope: 0,
                        service,
                        rank: 0,
                    })
                    .collect();
                let answers = self.probe(&targets);
                let silent = answers.iter().all(|answer| *answer == Heard::Silent);
                self.now += if silent { deadline_ms } else { 1 };
                let answers = targets.into_iter().zip(answers).collect();
                self.feed(Event::Checked { server, answers });
            }
            Command::Perform { job, steps, .. } => {
                let outcome = self.outcome(&steps);
                self.feed(Event::Performed { job, outcome });
            }
            Command::Inspect { job, target, .. } => {
                let mounted = !self.bare.contains(&target);
                self.feed(Event::Inspected { job, mounted });
            }
            Command::Install { triggers } => {
                let results = self.results("install", triggers);
                self.feed(Event::Installed { results });
            }
            Command::Adopt { triggers } => {
                let results = self.results("adopt", triggers);
                self.feed(Event::Installed { results });
            }
            Command::Remove { triggers } => {
                let results = self.results("remove", triggers);
                self.feed(Event::Removed { results });
            }
            Command::Expire { trigger, .. } => self.feed(Event::ExpireDone { trigger }),
            other => panic!("{other:?} needs no answer"),
        }
    }

    fn fetched(&mut self, job: JobId, key: &BString) {
        let result = match self.lines.get(key) {
            Some(line) => Ok(found(key, line)),
            None => Err(Miss::NoSuchKey),
        };
        let costly = self.costly;
        let names = None;
        self.feed(Event::Fetched {
            job,
            names,
            costly,
            result,
        });
    }

    /// All serve, but those that are said to do otherwise.
    pub fn probe(&self, targets: &[Target]) -> Vec<Heard> {
        let serves = Heard::Serves {
            micros: 500,
            no_guests: false,
        };
        let answer = |target: &Target| self.servers.get(&target.address).cloned();
        let each = targets.iter();
        each.map(|target| answer(target).unwrap_or(serves.clone()))
            .collect()
    }

    pub fn addresses(&self, hosts: Vec<BString>) -> HostAnswers {
        // `h7` is 192.0.2.7, all others are one machine.
        let number = |host: &BString| host.to_string().strip_prefix('h')?.parse().ok();
        let address =
            |host: &BString| std::net::Ipv4Addr::new(192, 0, 2, number(host).unwrap_or(1)).into();
        let known = |host: &BString| !self.unknown.contains(host);
        hosts
            .into_iter()
            .map(|host| {
                let addresses = known(&host).then(|| address(&host)).into_iter().collect();
                (host, HostAnswer { addresses })
            })
            .collect()
    }

    /// Does steps as the performer does, with undo.
    pub fn outcome(&self, steps: &[Planned]) -> Outcome {
        let mut outcome = Outcome::default();
        for (index, planned) in steps.iter().enumerate() {
            let words = step_words(&planned.step);
            let failure = self.broken.get(&words).map(|errno| StepFailure {
                index,
                errno: Errno(*errno),
                text: format!("{words}: errno {errno}").into(),
            });
            match failure {
                None => outcome.done.push(done(index)),
                Some(failure) if planned.required => {
                    outcome.failed = Some(failure);
                    let stays = |done: &DoneStep| {
                        let undo = steps[done.index].step.undo(false);
                        undo.is_none_or(|undo| self.broken.contains_key(&step_words(&undo)))
                    };
                    outcome.done.retain(stays);
                    return outcome;
                }
                Some(failure) => outcome.tolerated.push(failure),
            }
        }
        outcome
    }

    fn results(
        &self,
        verb: &str,
        triggers: Vec<TriggerSpec>,
    ) -> Vec<(TriggerId, Result<(), StepFailure>)> {
        let result = |spec: &TriggerSpec| {
            let errno = self.broken.get(&format!("{verb} {}", spec.path));
            errno.map_or(Ok(()), |errno| Err(failure(*errno)))
        };
        triggers.iter().map(|it| (it.id, result(it))).collect()
    }

    // -- what came of it -------------------------------------------------------------------

    #[track_caller]
    pub fn assert_ready(&self, ticket: u32) {
        assert_eq!(self.answers.get(&ticket), Some(&Answer::Ready));
    }

    #[track_caller]
    pub fn assert_waits(&self, ticket: u32) {
        assert_eq!(self.answers.get(&ticket), None);
    }

    #[track_caller]
    pub fn assert_failed(&self, ticket: u32, errno: Errno) {
        match self.answers.get(&ticket) {
            Some(Answer::Failed(cause)) => assert_eq!(cause.errno(), errno, "{cause}"),
            other => panic!("ticket {ticket} got {other:?}"),
        }
    }

    pub fn cause(&self, ticket: u32) -> Option<Cause> {
        match self.answers.get(&ticket) {
            Some(Answer::Failed(cause)) => Some(cause.clone()),
            _ => None,
        }
    }

    /// Paths of what is mounted.
    pub fn mounted(&self) -> Vec<String> {
        let status = self.engine.status(Millis(self.now));
        status.mounts.iter().map(|it| it.path.to_string()).collect()
    }

    pub fn mount(&mut self, path: &str) {
        let ticket = self.touch(path);
        self.settle();
        self.assert_ready(ticket);
    }

    /// Commands in words, since they were last asked for, without notes and answers.
    pub fn orders(&mut self) -> Vec<String> {
        let log = std::mem::take(&mut self.log);
        let order = |line: &String| {
            let quiet = ["note", "reply", "respond"];
            !quiet.iter().any(|word| line.starts_with(word))
        };
        log.into_iter().filter(order).collect()
    }

    pub fn left(&self) -> Vec<String> {
        let left = self.finished.as_ref().expect("the engine has ended");
        left.iter().map(|(path, _)| path.to_string()).collect()
    }

    pub fn response_left(&self, request: u64) -> Vec<String> {
        match self.responses.get(&request) {
            Some(Response::Done { left }) => left.iter().map(|it| it.0.to_string()).collect(),
            other => panic!("request {request} got {other:?}"),
        }
    }
}

pub fn failure(errno: i32) -> StepFailure {
    StepFailure {
        index: 0,
        errno: Errno(errno),
        text: format!("errno {errno}").into(),
    }
}

pub fn done(index: usize) -> DoneStep {
    DoneStep {
        index,
        attempt: 0,
        helper: false,
    }
}

pub fn found(key: &BString, line: &str) -> Found {
    let text = format!("{key} {line}");
    Found {
        key: Span::new(0, key.len()),
        value: Span::new(key.len() + 1, text.len()),
        fragment: Fragment::whole("auto.map", text),
        matched: Matched::Exact,
        map: "auto.map".into(),
        via: Vec::new(),
    }
}

pub fn indirect(path: &str) -> Point {
    point(path, TriggerKind::Indirect, PointOptions::default())
}

pub fn direct(path: &str) -> Point {
    point(path, TriggerKind::Direct, PointOptions::default())
}

pub fn point(path: &str, kind: TriggerKind, options: PointOptions) -> Point {
    let spec = MapSpec {
        kind: None,
        format: None,
        name: "auto.map".into(),
        arguments: Vec::new(),
        origin: None,
    };
    let binding = Binding {
        maps: [spec].into(),
        options,
        dialect: Dialect::LINUX,
        source: "auto.map".into(),
        origin: Origin {
            file: "auto.master".into(),
            position: Position { line: 1, column: 1 },
        },
    };
    Point {
        path: path.into(),
        kind,
        binding: Arc::new(binding),
        listing: [].into(),
    }
}

/// A trigger of an earlier life.
pub fn existing(kind: TriggerKind, path: &str, mounted: Vec<ExistingMount>) -> Existing {
    Existing {
        kind,
        path: path.into(),
        mounted,
    }
}

pub fn existing_mount(key: &str, target: &str, offsets: Vec<Existing>) -> ExistingMount {
    ExistingMount {
        key: key.into(),
        target: target.into(),
        covered: true,
        link: None,
        whole: true,
        source: "old".into(),
        read_only: false,
        server: None,
        offsets,
        requester: Requester::default(),
    }
}

/// A command in a few words.
pub fn words(command: &Command<Ticket>) -> String {
    let paths = |triggers: &[TriggerSpec]| {
        let paths: Vec<String> = triggers.iter().map(|it| it.path.to_string()).collect();
        paths.join(" ")
    };
    match command {
        Command::Reply { ticket, answer } => format!("reply {} {answer:?}", ticket.0),
        Command::Fetch { key, .. } => format!("fetch {key}"),
        Command::Plan { .. } => "plan".into(),
        Command::Resolve { hosts, .. } => format!("resolve {}", bstr::join(" ", hosts).as_bstr()),
        Command::Probe { targets, .. } => {
            let each = targets
                .iter()
                .map(|it| format!(" {}:{}", it.address, it.rank));
            format!("probe{}", each.collect::<String>())
        }
        Command::Perform { steps, .. } => {
            let steps: Vec<String> = steps.iter().map(|it| step_words(&it.step)).collect();
            format!("perform {}", steps.join(", "))
        }
        Command::Check { server, .. } => format!("check {server}"),
        Command::Inspect { target, .. } => format!("inspect {target}"),
        Command::Install { triggers } => format!("install {}", paths(triggers)),
        Command::Adopt { triggers } => format!("adopt {}", paths(triggers)),
        Command::Remove { triggers } => format!("remove {}", paths(triggers)),
        Command::List { keys, .. } => format!("list {}", bstr::join(" ", keys.iter()).as_bstr()),
        Command::SetTimeout { key, seconds, .. } => {
            let key = key.as_ref().map(ToString::to_string).unwrap_or_default();
            format!("timeout {seconds} {key}").trim_end().into()
        }
        Command::Show { key, .. } => format!("show {key}"),
        Command::Hide { key, .. } => format!("hide {key}"),
        Command::Expire { immediate, .. } => match immediate {
            true => "expire now".into(),
            false => "expire".into(),
        },
        Command::Respond { id, response } => format!("respond {} {response:?}", id.0),
        Command::Note(note) => format!("note {note:?}"),
        Command::Finished { .. } => "finished".into(),
    }
}

pub fn step_words(step: &Step) -> String {
    match step {
        Step::MakeDirectory { path } => format!("mkdir {path}"),
        Step::Mount { target, .. } => format!("mount {target}"),
        Step::Symlink { path, to } => format!("link {path} to {to}"),
        Step::Install(spec) => format!("install {}", spec.path),
        Step::Unmount { target, .. } => format!("unmount {target}"),
        Step::Remove(spec) => format!("remove {}", spec.path),
        Step::RemoveDirectory { path } => format!("rmdir {path}"),
        Step::LetGo { target, .. } => format!("let go of {target}"),
        Step::RemoveSymlink { path } => format!("unlink {path}"),
    }
}
