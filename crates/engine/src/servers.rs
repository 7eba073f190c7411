//! Servers: which of them answer, which do not, and what was last heard of each.
//!
//! Each server, by its name as written in the map, has a *circuit*. It is closed while the server
//! answers, or nothing is known of it. A mount that fails for want of an answer opens it: then
//! nobody waits for that server, and whoever wants something of it alone is told so at once. When
//! its time has come it is half open: one question decides, and meanwhile the others are still
//! told at once. Pauses grow from failure to failure; a success ends them.
//!
//! The question is asked in the background where the daemon knows how to ask (NFS, by RPC), and
//! costs nobody anything; otherwise the next access is the question. Servers that something is
//! mounted from are asked now and then although they answer ([`Watch`]), so that it is known when
//! they die. One answer that does not come is no death ([`MISSES_CLOSELY`], [`MISSES_SLOWLY`]).
//!
//! What each address answered when it was last asked stands beside that ([`Heard`]): a name may
//! stand for several machines, and whoever chooses among servers wants to know how quick they were.

use alloc::collections::{BTreeMap, BTreeSet};
use alloc::sync::Arc;
use alloc::vec::Vec;

use bstr::BString;
use piton_plan::probe::{Answer, Service, Target};
use piton_plan::step::Address;

use crate::cause::{Cause, Errno};
use crate::choosing::refusal;
use crate::limits::{
    ANSWERS_FRESH_MS, CHECK_MEMORY_MOST_MS, CHECK_MS, CHECK_PAUSE_LEAST_MS, CLOSELY_MS,
    FAILURE_MEMORY_MS, HEARD_PER_SERVER, LATE_CHECK_MS, MISS_PAUSE_CLOSELY_MS,
    MISS_PAUSE_SLOWLY_MS, MISSES_CLOSELY, MISSES_SLOWLY, PATIENCE_CLOSELY_MS, PATIENCE_FACTOR,
    SERVER_MEMORY_MOST_MS, SERVERS, SLOWLY_MS, UNWANTED_MS,
};
use crate::negative::{Memory, scatter};
use crate::time::Millis;

/// Whether a server is asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Circuit {
    /// It is.
    Closed,
    /// It is not, until then.
    Open(Millis),
    /// Somebody is asking it; if nothing came of that by then, somebody else may.
    HalfOpen(Millis),
}

/// How closely a server is watched because of something mounted from it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Watch {
    /// Its death is to be known sooner or later.
    Slowly,
    /// Another server can take its place at once.
    Closely,
}

/// Where something is mounted from, and how that server is asked whether it lives.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Served {
    /// The server as the map has it.
    pub(crate) host: BString,
    /// The address, where it is known.
    pub(crate) address: Option<Address>,
    /// What is wanted of it.
    pub(crate) service: Service,
    /// How closely it is watched.
    pub(crate) watch: Watch,
}

/// What one address of a server answered when it was last asked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Heard {
    /// Who was asked for what.
    pub(crate) target: Target,
    /// What came.
    pub(crate) answer: Answer,
    /// When.
    pub(crate) at: Millis,
}

/// What is known of a server.
#[derive(Clone, Debug)]
pub(crate) struct Server {
    pub(crate) circuit: Circuit,
    /// Since when its circuit is closed, or not closed.
    pub(crate) since: Millis,
    /// How often it did not answer, in a row: until something is mounted from it again.
    pub(crate) failures: u32,
    /// What was said when it last did not answer.
    pub(crate) error: Option<Arc<str>>,
    /// How many accesses were answered from memory.
    pub(crate) answered: u64,
    /// What its addresses answered last, each for each service it was asked for.
    pub(crate) heard: Vec<Heard>,
    /// What is wanted of it, where it can be asked in the background.
    service: Option<Service>,
    /// What is mounted from it: where from, how closely watched, how often.
    mounts: BTreeMap<(Option<Address>, Watch), u32>,
    /// Background questions without an answer in a row, while its circuit is closed.
    misses: u32,
    /// It has answered a background question, so that silence means something.
    proven: bool,
    /// It failed although it had answered a background question since the failure before.
    hollow: bool,
    /// When it was last asked in the background, and whether the answer is still awaited.
    asked: Option<(Millis, bool)>,
    /// When it is asked next.
    next: Option<Millis>,
    /// When anybody last wanted something of it.
    wanted: Millis,
}

/// A question for the background.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Question {
    pub(crate) server: BString,
    pub(crate) service: Service,
    /// Nobody: its name has to be looked up first.
    pub(crate) targets: Vec<Target>,
    pub(crate) deadline_ms: u64,
}

/// What has become of a server.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum News {
    /// Nothing new.
    #[default]
    None,
    /// It was believed alive, and does not answer.
    Died,
    /// It was believed dead for so many milliseconds, and answers.
    Back(u64),
}

impl Server {
    fn new(now: Millis) -> Self {
        Self {
            circuit: Circuit::Closed,
            since: now,
            failures: 0,
            error: None,
            answered: 0,
            heard: Vec::new(),
            service: None,
            mounts: BTreeMap::new(),
            misses: 0,
            proven: false,
            hollow: false,
            asked: None,
            next: None,
            wanted: now,
        }
    }

    /// Whether nobody should wait for it now. One that is asked in the background stays down
    /// until it was.
    pub(crate) fn is_down(&self, now: Millis) -> bool {
        match self.circuit {
            Circuit::Closed => false,
            Circuit::Open(until) => until > now || self.next.is_some(),
            Circuit::HalfOpen(until) => until > now,
        }
    }

    /// Whether there is anything to say of it: somebody uses it, or it failed.
    pub(crate) fn is_remarkable(&self) -> bool {
        !self.mounts.is_empty() || self.circuit != Circuit::Closed
    }

    /// In a word for `status`.
    pub(crate) fn state(&self, now: Millis) -> &'static str {
        match self.circuit {
            Circuit::Closed if self.misses > 0 => "doubtful",
            Circuit::Closed => "alive",
            Circuit::Open(_) if self.is_down(now) => "dead",
            Circuit::Open(_) => "to be asked",
            Circuit::HalfOpen(_) => "being asked",
        }
    }

    /// Milliseconds until it is asked again; nothing where nobody is waiting for the time.
    pub(crate) fn left_ms(&self, now: Millis) -> Option<u64> {
        match (self.next, self.circuit) {
            (Some(next), _) => Some(next.since(now)),
            (None, Circuit::Open(until)) => Some(until.since(now)),
            (None, Circuit::Closed | Circuit::HalfOpen(_)) => None,
        }
    }

    /// Microseconds that its last answer took.
    pub(crate) fn micros(&self) -> Option<u32> {
        let last = self.heard.iter().rev();
        last.filter_map(|it| match it.answer {
            Answer::Serves { micros, .. } => Some(micros),
            _ => None,
        })
        .next()
    }

    /// How closely it is watched, if at all.
    fn watch(&self) -> Option<Watch> {
        self.mounts.keys().map(|(_, watch)| *watch).max()
    }

    /// Milliseconds for which an answer to a background question is awaited: a server that always
    /// takes long has not died when it takes long.
    fn patience_ms(&self) -> u64 {
        if self.circuit != Circuit::Closed || self.watch() != Some(Watch::Closely) {
            return CHECK_MS;
        }
        let usual = u64::from(self.micros().unwrap_or(0)) / 1_000;
        usual
            .saturating_mul(PATIENCE_FACTOR)
            .clamp(PATIENCE_CLOSELY_MS, CHECK_MS)
    }

    /// Who is asked in the background: where something is mounted from, or who answered before. Of
    /// one that is dead, every now and then, whoever has its name by now.
    fn targets(&self) -> Vec<Target> {
        let Some(service) = self.service else {
            return Vec::new();
        };
        let mut addresses: Vec<Address> = self.mounts.keys().filter_map(|it| it.0).collect();
        if addresses.is_empty()
            && (self.circuit == Circuit::Closed || !self.failures.is_multiple_of(4))
        {
            addresses.extend(self.heard.iter().map(|it| Address {
                ip: it.target.address,
                scope: it.target.scope,
            }));
        }
        addresses.sort_unstable();
        addresses.dedup();
        let target = |address: Address| Target {
            address: address.ip,
            scope: address.scope,
            service,
            rank: 0,
        };
        addresses.into_iter().map(target).collect()
    }

    /// When it is asked next in the background, if at all.
    fn schedule(&self, now: Millis, chance: u64) -> Option<Millis> {
        self.service?;
        match self.circuit {
            Circuit::HalfOpen(_) => None,
            // Its time is over, and it was not to be asked: whoever wants it does.
            Circuit::Open(until)
                if until <= now && self.next.is_none() && self.mounts.is_empty() =>
            {
                None
            }
            Circuit::Open(until) => {
                let wanted = !self.mounts.is_empty() || now.since(self.wanted) < UNWANTED_MS;
                // Where nobody could be asked the circuit is open until that moment.
                let least = self
                    .asked
                    .map_or(until, |(at, _)| at + CHECK_PAUSE_LEAST_MS);
                wanted.then_some(until.max(least))
            }
            Circuit::Closed => {
                let (pause, missed) = match self.watch()? {
                    Watch::Closely => (CLOSELY_MS, MISS_PAUSE_CLOSELY_MS),
                    Watch::Slowly => (SLOWLY_MS, MISS_PAUSE_SLOWLY_MS),
                };
                Some(match (self.misses, self.proven) {
                    // One that never answered cannot be told from one that is never going to.
                    (MISSES_SLOWLY.., false) => return None,
                    (0, _) => now + (pause - scatter(chance) % (pause / 4 + 1)),
                    // One that refuses at once is not asked more often than one that is silent.
                    _ => {
                        let asked = self.asked.map_or(now, |(at, _)| at);
                        now.max(asked + self.patience_ms()) + missed
                    }
                })
            }
        }
    }

    /// Whether so many questions without an answer are a death.
    fn has_died(&self) -> bool {
        let most = match self.watch() {
            Some(Watch::Closely) => MISSES_CLOSELY,
            Some(Watch::Slowly) | None => MISSES_SLOWLY,
        };
        self.proven && self.misses >= most
    }

    fn close(&mut self, now: Millis) -> News {
        self.misses = 0;
        match self.circuit {
            Circuit::Closed => News::None,
            Circuit::Open(_) | Circuit::HalfOpen(_) => {
                let dead_ms = now.since(self.since);
                self.circuit = Circuit::Closed;
                self.since = now;
                News::Back(dead_ms)
            }
        }
    }
}

/// The servers anything is known of. Bounded: those that matter least go when it is full.
#[derive(Debug, Default)]
pub(crate) struct Servers {
    table: BTreeMap<BString, Server>,
    /// When which is asked in the background.
    checks: BTreeSet<(Millis, BString)>,
    /// How many circuits are not closed: most of the time none, which is quick to tell.
    broken: usize,
    /// How often a circuit was opened or closed.
    turns: u64,
}

impl Servers {
    /// A mount from it failed because it did not answer: `text` is what was said. `chance`
    /// scatters the time for which it is not asked.
    pub(crate) fn failed(
        &mut self,
        host: &BString,
        text: &Arc<str>,
        now: Millis,
        chance: u64,
    ) -> News {
        let server = self.enter(host, now);
        // Several accesses that waited at the same time are one failure.
        if matches!(server.circuit, Circuit::Open(until) if until > now) {
            return News::None;
        }
        if server.circuit == Circuit::Closed {
            if now.since(server.since) >= UNWANTED_MS {
                server.failures = 0;
            }
            server.hollow = server.failures > 0 && server.proven;
        }
        self.open(host, text, now, chance)
    }

    fn open(&mut self, host: &BString, text: &Arc<str>, now: Millis, chance: u64) -> News {
        self.change(host, now, chance, |server| {
            let was_closed = server.circuit == Circuit::Closed;
            server.failures = server.failures.saturating_add(1);
            server.error = Some(text.clone());
            server.misses = 0;
            let most_ms = match server.service.is_some() && !server.hollow {
                true => CHECK_MEMORY_MOST_MS,
                false => SERVER_MEMORY_MOST_MS,
            };
            let memory = Memory::of_server(most_ms);
            server.circuit = Circuit::Open(now + memory.pause(server.failures, chance));
            if !was_closed {
                return News::None;
            }
            server.since = now;
            server.answered = 0;
            News::Died
        })
    }

    /// Something was mounted from it, or it refused: it is there.
    pub(crate) fn answered(&mut self, host: &BString, now: Millis, chance: u64) -> News {
        self.change(host, now, chance, |server| {
            server.failures = 0;
            server.hollow = false;
            server.close(now)
        })
    }

    /// What came of asking addresses of it. One that serves proves that the server is there.
    /// Silence proves nothing by itself: whoever gives up on the server says so by
    /// [`Self::failed`].
    pub(crate) fn heard<'t>(
        &mut self,
        host: &BString,
        answers: impl IntoIterator<Item = (&'t Target, &'t Answer)>,
        now: Millis,
        chance: u64,
    ) -> News {
        let server = self.enter(host, now);
        if !server.hear(answers, now) {
            return News::None;
        }
        server.proven = true;
        self.change(host, now, chance, |server| server.close(now))
    }

    /// What came of a background question: nothing, if its name has no address. That all went
    /// unheard means that there was no time to ask.
    pub(crate) fn checked(
        &mut self,
        host: &BString,
        answers: &[(Target, Answer)],
        now: Millis,
        chance: u64,
    ) -> News {
        let Some(server) = self.table.get_mut(host) else {
            return News::None;
        };
        server.asked = server.asked.map(|(at, _)| (at, false));
        let serves = server.hear(answers.iter().map(|(one, two)| (one, two)), now);
        if serves {
            server.proven = true;
            return self.change(host, now, chance, |server| server.close(now));
        }
        let unheard = |(_, answer): &(Target, Answer)| *answer == Answer::Unheard;
        let asked = answers.is_empty() || !answers.iter().all(unheard);
        let dead = match (server.circuit, asked) {
            (Circuit::HalfOpen(_), true) => true,
            // Names cannot be looked up, for example: nothing has changed.
            (Circuit::HalfOpen(_), false) if server.proven => {
                let before = server.error.clone().unwrap_or_default();
                return self.open(host, &before, now, chance);
            }
            // Whoever comes next asks.
            (Circuit::HalfOpen(_), false) => {
                server.circuit = Circuit::Open(now);
                return News::None;
            }
            // Somebody else has found out meanwhile.
            (Circuit::Open(_), _) | (Circuit::Closed, false) => false,
            (Circuit::Closed, true) => {
                server.misses = server.misses.saturating_add(1);
                server.has_died()
            }
        };
        match dead {
            true => self.open(host, &silence(answers), now, chance),
            false => self.change(host, now, chance, |_| News::None),
        }
    }

    /// It is wanted for a mount, and can be asked in the background for `service`.
    pub(crate) fn wants(&mut self, host: &BString, service: Service, now: Millis, chance: u64) {
        self.enter(host, now);
        self.change(host, now, chance, |server| server.service = Some(service));
    }

    /// Something is mounted from it.
    pub(crate) fn mounted(&mut self, served: &Served, now: Millis, chance: u64) {
        self.enter(&served.host, now);
        self.change(&served.host, now, chance, |server| {
            server.service = Some(served.service);
            // The kernel mounted from there: it can be asked there.
            server.proven |= served.address.is_some();
            let key = (served.address, served.watch);
            *server.mounts.entry(key).or_default() += 1;
        });
    }

    /// Something is no longer mounted from it.
    pub(crate) fn unmounted(&mut self, served: &Served, now: Millis, chance: u64) {
        self.change(&served.host, now, chance, |server| {
            let key = (served.address, served.watch);
            if let Some(count) = server.mounts.get_mut(&key) {
                *count -= 1;
                if *count == 0 {
                    server.mounts.remove(&key);
                }
            }
            if server.mounts.is_empty() {
                server.misses = 0;
            }
        });
    }

    /// Changes an entry, and keeps what depends on it: how many are broken, and when it is asked.
    fn change<R: Default>(
        &mut self,
        host: &BString,
        now: Millis,
        chance: u64,
        change: impl FnOnce(&mut Server) -> R,
    ) -> R {
        let Some(server) = self.table.get_mut(host) else {
            return R::default();
        };
        let before = (
            server.circuit,
            server.misses,
            server.watch(),
            server.service,
        );
        let was_broken = server.circuit != Circuit::Closed;
        let result = change(server);
        let is_broken = server.circuit != Circuit::Closed;
        self.broken = self.broken + usize::from(is_broken) - usize::from(was_broken);
        self.turns += u64::from(is_broken != was_broken);
        let lost = CHECK_MS + LATE_CHECK_MS;
        let waits = matches!(server.asked, Some((at, true)) if now.since(at) < lost);
        let same = before
            == (
                server.circuit,
                server.misses,
                server.watch(),
                server.service,
            );
        let planned = same && server.next.is_some();
        if !waits && !planned {
            let next = server.schedule(now, chance);
            self.plan(host, next);
        }
        result
    }

    /// Has it asked at that time and at no other.
    fn plan(&mut self, host: &BString, next: Option<Millis>) {
        let Some(server) = self.table.get_mut(host) else {
            return;
        };
        if let Some(before) = core::mem::replace(&mut server.next, next) {
            self.checks.remove(&(before, host.clone()));
        }
        if let Some(at) = next {
            self.checks.insert((at, host.clone()));
        }
    }

    /// When the next background question is due.
    pub(crate) fn next_check(&self) -> Option<Millis> {
        self.checks.first().map(|(at, _)| *at)
    }

    /// A background question that is due.
    pub(crate) fn due(&mut self, now: Millis) -> Option<Question> {
        loop {
            let (at, host) = self.checks.first()?;
            if *at > now {
                return None;
            }
            let host = host.clone();
            self.plan(&host, None);
            let Some(server) = self.table.get_mut(&host) else {
                continue;
            };
            let Some(service) = server.service else {
                continue;
            };
            let deadline_ms = server.patience_ms();
            if let Circuit::Open(_) = server.circuit {
                server.circuit = Circuit::HalfOpen(now + (deadline_ms + LATE_CHECK_MS));
            }
            server.asked = Some((now, true));
            return Some(Question {
                targets: server.targets(),
                server: host,
                service,
                deadline_ms,
            });
        }
    }

    /// Something was mounted from an address: what it said a while ago still holds.
    pub(crate) fn proved(&mut self, host: &BString, address: Option<Address>, now: Millis) {
        let (Some(server), Some(address)) = (self.table.get_mut(host), address) else {
            return;
        };
        for heard in &mut server.heard {
            if heard.target.address == address.ip && heard.answer.serves() {
                heard.at = now;
            }
        }
    }

    /// A mount from an address failed: what it said is doubtful.
    pub(crate) fn forget(&mut self, host: &BString, address: Option<Address>) {
        if let (Some(server), Some(address)) = (self.table.get_mut(host), address) {
            server
                .heard
                .retain(|heard| heard.target.address != address.ip);
        }
    }

    /// Whether nobody should wait for a server now.
    pub(crate) fn is_down(&self, host: &BString, now: Millis) -> bool {
        let server = self.table.get(host);
        self.any_down() && server.is_some_and(|server| server.is_down(now))
    }

    /// Whether any server is believed dead.
    pub(crate) fn any_down(&self) -> bool {
        self.broken > 0
    }

    /// Whether a server is believed dead, also while it is asked whether it still is.
    pub(crate) fn is_dead(&self, host: &BString) -> bool {
        let open = |server: &Server| server.circuit != Circuit::Closed;
        self.any_down() && self.table.get(host).is_some_and(open)
    }

    /// What was said when a server last did not answer.
    pub(crate) fn why(&self, host: &BString) -> Option<Arc<str>> {
        self.table.get(host)?.error.clone()
    }

    /// Since when a server is back that was dead.
    pub(crate) fn back_since(&self, host: &BString) -> Option<Millis> {
        let server = self.table.get(host)?;
        (server.circuit == Circuit::Closed && server.error.is_some()).then_some(server.since)
    }

    /// How often servers have died or returned.
    pub(crate) fn turns(&self) -> u64 {
        self.turns
    }

    /// Somebody begins to ask a server whose time has come: until `until` nobody else does.
    pub(crate) fn admit(&mut self, host: &BString, now: Millis, until: Millis) {
        if let Some(server) = self.table.get_mut(host) {
            server.wanted = now;
            if server.circuit != Circuit::Closed && !server.is_down(now) {
                server.circuit = Circuit::HalfOpen(until);
            }
        }
    }

    /// What was asked ended for a reason that says nothing about the server: the next may ask.
    pub(crate) fn undecided(&mut self, host: &BString, now: Millis, chance: u64) {
        self.change(host, now, chance, |server| {
            if let Circuit::HalfOpen(_) = server.circuit {
                server.circuit = Circuit::Open(now);
            }
        });
    }

    /// What whoever wants something of a server is told that is down; counts the answer, and has
    /// the server asked soon.
    pub(crate) fn recall(&mut self, host: &BString, now: Millis) -> Option<Cause> {
        let server = self.table.get_mut(host).filter(|it| it.is_down(now))?;
        server.answered = server.answered.saturating_add(1);
        server.wanted = now;
        let text = server.error.as_deref().unwrap_or("it did not answer");
        let cause = Cause::KnownDown(alloc::format!("{host}: {text}").into());
        let earliest = match server.asked {
            Some((at, _)) => at + CHECK_PAUSE_LEAST_MS,
            None => server.since + FAILURE_MEMORY_MS,
        };
        let hasten = server.next.is_some_and(|next| next > earliest.max(now));
        if hasten && !server.hollow {
            self.plan(host, Some(earliest.max(now)));
        }
        Some(cause)
    }

    /// Forgets everything but what is mounted: maps have changed, or an operator wants all tried
    /// anew.
    pub(crate) fn clear(&mut self, now: Millis, chance: u64) {
        self.broken = 0;
        self.turns += 1;
        self.checks.clear();
        self.table.retain(|_, server| !server.mounts.is_empty());
        for server in self.table.values_mut() {
            *server = Server {
                mounts: core::mem::take(&mut server.mounts),
                service: server.service,
                proven: server.proven,
                asked: server.asked,
                ..Server::new(now)
            };
        }
        let hosts: Vec<BString> = self.table.keys().cloned().collect();
        for (host, nth) in hosts.iter().zip(0..) {
            self.change(host, now, chance ^ nth, |_| ());
        }
    }

    /// What an address of a server answered a moment ago: no need to ask it again.
    pub(crate) fn fresh(&self, host: &BString, target: &Target, now: Millis) -> Option<&Answer> {
        let fresh = |it: &&Heard| it.is_of(target) && now.since(it.at) < ANSWERS_FRESH_MS;
        let heard = self.table.get(host)?.heard.iter().find(fresh)?;
        Some(&heard.answer)
    }

    /// What is known of one.
    pub(crate) fn get(&self, host: &BString) -> Option<&Server> {
        self.table.get(host)
    }

    /// Those of which anything is known, by name.
    pub(crate) fn iter(&self) -> impl Iterator<Item = (&BString, &Server)> {
        self.table.iter()
    }

    /// How many those are.
    pub(crate) fn len(&self) -> usize {
        self.table.len()
    }

    /// Checks the tables against each other; `mounts` counts what is mounted from each server.
    pub(crate) fn audit(&self, mounts: &BTreeMap<&BString, u32>) -> Result<(), &'static str> {
        let broken = |server: &&Server| server.circuit != Circuit::Closed;
        if self.table.values().filter(broken).count() != self.broken {
            return Err("the number of dead servers is wrong");
        }
        let planned = self.table.values().filter(|it| it.next.is_some()).count();
        let of_one = |(at, host): &(Millis, BString)| {
            self.table.get(host).is_some_and(|it| it.next == Some(*at))
        };
        if planned != self.checks.len() || !self.checks.iter().all(of_one) {
            return Err("servers are not asked when they should be");
        }
        let counted = |host: &BString| {
            let server = self.table.get(host);
            server.map_or(0, |server| server.mounts.values().sum())
        };
        let known: u32 = self.table.keys().map(counted).sum();
        let right = |(host, count): (&&BString, &u32)| counted(host) == *count;
        match known == mounts.values().sum() && mounts.iter().all(right) {
            true => Ok(()),
            false => Err("what is mounted from servers is counted wrongly"),
        }
    }

    /// The entry of a server that somebody wants something of. In a full table it takes the place
    /// of one that matters less: first what answers, then what does not, never what something is
    /// mounted from; of these what nobody wanted for longest.
    fn enter(&mut self, host: &BString, now: Millis) -> &mut Server {
        if self.table.len() >= SERVERS && !self.table.contains_key(host) {
            let idle = self.table.iter().filter(|(_, it)| it.mounts.is_empty());
            let matter = |it: &Server| (it.circuit != Circuit::Closed, it.wanted);
            let least = idle.min_by_key(|(_, server)| matter(server));
            if let Some(least) = least.map(|(host, _)| host.clone()) {
                self.remove(&least);
            }
        }
        let server = self.table.entry(host.clone());
        let server = server.or_insert_with(|| Server::new(now));
        server.wanted = now;
        server
    }

    fn remove(&mut self, host: &BString) {
        self.plan(host, None);
        let removed = self.table.remove(host);
        if removed.is_some_and(|server| server.circuit != Circuit::Closed) {
            self.broken -= 1;
        }
    }
}

impl Heard {
    fn is_of(&self, target: &Target) -> bool {
        self.target.address == target.address
            && self.target.scope == target.scope
            && self.target.service == target.service
    }
}

impl Server {
    /// Remembers answers; whether one of them serves.
    fn hear<'t>(
        &mut self,
        answers: impl IntoIterator<Item = (&'t Target, &'t Answer)>,
        now: Millis,
    ) -> bool {
        let mut serves = false;
        for (target, answer) in answers {
            if *answer == Answer::Unheard {
                continue;
            }
            serves |= answer.serves();
            self.heard.retain(|it| !it.is_of(target));
            if self.heard.len() >= HEARD_PER_SERVER {
                self.heard.remove(0);
            }
            self.heard.push(Heard {
                target: target.clone(),
                answer: answer.clone(),
                at: now,
            });
        }
        serves
    }
}

/// Why a server that was asked in the background counts as dead, in words.
fn silence(answers: &[(Target, Answer)]) -> Arc<str> {
    let refused = |(_, answer): &(Target, Answer)| match answer {
        Answer::Refused { errno, .. } => Some(*errno),
        _ => None,
    };
    match answers.iter().find_map(refused) {
        Some(errno) => refusal(Errno(errno)).into(),
        None if answers.is_empty() => "its name has no address now".into(),
        None => "the server does not answer".into(),
    }
}

#[cfg(test)]
mod tests;
