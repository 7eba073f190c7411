//! Servers: which of them answer, which do not, and what was last heard of each.
//!
//! Each server, by its name as written in the map, has a *circuit*. It is closed while the server
//! answers, or nothing is known of it. A mount that fails for want of an answer opens it: then
//! nobody waits for that server, and whoever wants something of it alone is told so at once. When
//! its time has come it is half open: one question decides, and meanwhile the others are still
//! told at once. Pauses grow from failure to failure ([`Memory::growing`]); a success ends them.
//!
//! What each address answered when it was last asked stands beside that ([`Heard`]): a name may
//! stand for several machines, and whoever chooses among servers wants to know how quick they were.

use alloc::collections::BTreeMap;
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::net::IpAddr;

use bstr::BString;
use piton_plan::probe::{Answer, Target};
use piton_plan::step::Address;

use crate::cause::Cause;
use crate::limits::{ANSWERS_FRESH_MS, HEARD_PER_SERVER, SERVERS};
use crate::negative::{Kind, Memory};
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
    /// How often it did not answer, in a row.
    pub(crate) failures: u32,
    /// What was said when it last did not answer.
    pub(crate) error: Option<Arc<str>>,
    /// How many accesses were answered from memory.
    pub(crate) answered: u64,
    /// What its addresses answered last, each for each service it was asked for.
    heard: Vec<Heard>,
    /// When anybody last wanted something of it.
    wanted: Millis,
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
            wanted: now,
        }
    }

    /// Whether nobody should wait for it now.
    pub(crate) fn is_down(&self, now: Millis) -> bool {
        match self.circuit {
            Circuit::Closed => false,
            Circuit::Open(until) | Circuit::HalfOpen(until) => until > now,
        }
    }

    /// Milliseconds until it is asked again; 0 if it may be asked now.
    pub(crate) fn left_ms(&self, now: Millis) -> u64 {
        match self.circuit {
            Circuit::Closed | Circuit::HalfOpen(_) => 0,
            Circuit::Open(until) => until.since(now),
        }
    }
}

/// The servers anything is known of. Bounded: those that matter least go when it is full.
#[derive(Debug, Default)]
pub(crate) struct Servers {
    table: BTreeMap<BString, Server>,
    /// How many circuits are not closed: most of the time none, which is quick to tell.
    broken: usize,
}

impl Servers {
    /// A mount from it failed because it did not answer: `text` is what was said. `chance`
    /// scatters the time for which it is not asked.
    pub(crate) fn failed(&mut self, host: &BString, text: &Arc<str>, now: Millis, chance: u64) {
        // Several accesses that waited at the same time are one failure.
        let open = |it: &Server| matches!(it.circuit, Circuit::Open(until) if until > now);
        if self.table.get(host).is_some_and(open) {
            return;
        }
        let server = self.enter(host, now);
        let was_closed = server.circuit == Circuit::Closed;
        server.failures = server.failures.saturating_add(1);
        server.error = Some(text.clone());
        let memory = Memory::growing(Kind::UnreachableServer);
        server.circuit = Circuit::Open(now + memory.pause(server.failures, chance));
        if was_closed {
            server.since = now;
            server.answered = 0;
            self.broken += 1;
        }
    }

    /// Something was mounted from it, or it refused: it is there. Returns true if and only if it
    /// was believed dead.
    pub(crate) fn answered(&mut self, host: &BString, now: Millis) -> bool {
        let Some(server) = self.table.get_mut(host) else {
            return false;
        };
        server.failures = 0;
        let was_broken = server.circuit != Circuit::Closed;
        if was_broken {
            server.circuit = Circuit::Closed;
            server.since = now;
            self.broken -= 1;
        }
        was_broken
    }

    /// What came of asking addresses of it. One that serves proves that the server is there:
    /// returns true if and only if it was believed dead. Silence proves nothing by itself: whoever
    /// gives up on the server says so by [`Self::failed`].
    pub(crate) fn heard<'t>(
        &mut self,
        host: &BString,
        answers: impl IntoIterator<Item = (&'t Target, &'t Answer)>,
        now: Millis,
    ) -> bool {
        let mut serves = false;
        let server = self.enter(host, now);
        for (target, answer) in answers {
            if *answer == Answer::Unheard {
                continue;
            }
            serves |= answer.serves();
            let same = |it: &Heard| {
                it.target.address == target.address
                    && it.target.scope == target.scope
                    && it.target.service == target.service
            };
            server.heard.retain(|it| !same(it));
            if server.heard.len() >= HEARD_PER_SERVER {
                server.heard.remove(0);
            }
            server.heard.push(Heard {
                target: target.clone(),
                answer: answer.clone(),
                at: now,
            });
        }
        serves && self.answered(host, now)
    }

    /// What an address of a server answered a moment ago: no need to ask it again.
    pub(crate) fn fresh(&self, host: &BString, target: &Target, now: Millis) -> Option<&Answer> {
        let same = |it: &&Heard| {
            it.target.address == target.address
                && it.target.scope == target.scope
                && it.target.service == target.service
                && now.since(it.at) < ANSWERS_FRESH_MS
        };
        let heard = self.table.get(host)?.heard.iter().find(same)?;
        Some(&heard.answer)
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

    /// How many microseconds an address of a server took for its last answer, however long ago.
    #[cfg_attr(not(test), expect(dead_code, reason = "servers are not probed yet"))]
    pub(crate) fn micros(&self, host: &BString, address: IpAddr) -> Option<u32> {
        let of = |it: &Heard| match it.answer {
            Answer::Serves { micros } if it.target.address == address => Some(micros),
            _ => None,
        };
        self.table.get(host)?.heard.iter().rev().find_map(of)
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
    pub(crate) fn undecided(&mut self, host: &BString, now: Millis) {
        if let Some(server) = self.table.get_mut(host)
            && let Circuit::HalfOpen(_) = server.circuit
        {
            server.circuit = Circuit::Open(now);
        }
    }

    /// What whoever wants something of a server is told that is down; counts the answer.
    pub(crate) fn recall(&mut self, host: &BString, now: Millis) -> Option<Cause> {
        let server = self.table.get_mut(host).filter(|it| it.is_down(now))?;
        server.answered = server.answered.saturating_add(1);
        server.wanted = now;
        let text = server.error.as_deref().unwrap_or("it did not answer");
        Some(Cause::KnownDown(alloc::format!("{host}: {text}").into()))
    }

    /// Forgets everything: maps have changed, or an operator wants all tried anew.
    pub(crate) fn clear(&mut self) {
        self.table.clear();
        self.broken = 0;
    }

    /// Those of which anything is known, by name.
    pub(crate) fn iter(&self) -> impl Iterator<Item = (&BString, &Server)> {
        self.table.iter()
    }

    /// How many those are.
    pub(crate) fn len(&self) -> usize {
        self.table.len()
    }

    /// The entry of a server that somebody wants something of. In a full table it takes the place
    /// of one that matters less: one that answers before one that does not, then what nobody
    /// wanted for longest.
    fn enter(&mut self, host: &BString, now: Millis) -> &mut Server {
        if self.table.len() >= SERVERS && !self.table.contains_key(host) {
            let matter = |it: &Server| (it.circuit != Circuit::Closed, it.wanted);
            let least = self.table.iter().min_by_key(|(_, server)| matter(server));
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
        let removed = self.table.remove(host);
        if removed.is_some_and(|server| server.circuit != Circuit::Closed) {
            self.broken -= 1;
        }
    }
}

#[cfg(test)]
mod tests {
    use alloc::format;

    use piton_plan::probe::Service;

    use super::*;
    use crate::cause::Errno;
    use crate::limits::{FAILURE_MEMORY_MS, SERVER_MEMORY_MOST_MS};

    fn target(last: u8) -> Target {
        Target {
            address: [192, 0, 2, last].into(),
            scope: 0,
            service: Service::default(),
            rank: 0,
        }
    }

    fn host(name: &str) -> BString {
        name.into()
    }

    const SERVES: Answer = Answer::Serves { micros: 700 };

    fn until(servers: &Servers, host: &BString) -> Millis {
        match servers.table[host].circuit {
            Circuit::Open(until) | Circuit::HalfOpen(until) => until,
            Circuit::Closed => panic!("{host} is not down"),
        }
    }

    #[test]
    fn one_that_does_not_answer_is_not_asked_until_its_time_and_then_by_one_alone() {
        let (mut servers, srv) = (Servers::default(), host("srv"));
        let now = Millis(1_000);
        servers.failed(&srv, &"no answer".into(), now, 0);
        assert!(servers.is_down(&srv, now) && servers.any_down());
        let cause = servers.recall(&srv, now).unwrap();
        assert_eq!(cause.errno(), Errno::HOSTDOWN);
        assert_eq!(
            format!("{cause}"),
            "srv: no answer (not asked again for a while)"
        );
        assert_eq!(servers.table[&srv].answered, 1);
        let later = until(&servers, &srv);
        assert!(later <= now + FAILURE_MEMORY_MS);
        assert!(!servers.is_down(&srv, later));
        assert_eq!(servers.recall(&srv, later), None);
        // The first one who comes then decides for all.
        servers.admit(&srv, later, later + 10_000);
        assert!(servers.is_down(&srv, later + 9_999));
        assert!(!servers.is_down(&srv, later + 10_000), "nothing came of it");
        servers.undecided(&srv, later + 1);
        assert!(!servers.is_down(&srv, later + 1));
        servers.admit(&srv, later + 1, later + 10_000);
        servers.failed(&srv, &"still none".into(), later + 5_000, 0);
        assert_eq!(servers.table[&srv].failures, 2);
        assert_eq!(servers.table[&srv].since, now);
        let again = until(&servers, &srv);
        assert!(again.since(later + 5_000) > FAILURE_MEMORY_MS);
        servers.admit(&srv, again, again + 10_000);
        assert!(servers.answered(&srv, again + 1));
        assert!(!servers.is_down(&srv, again + 1) && !servers.any_down());
        assert!(!servers.answered(&srv, again + 2), "no news");
    }

    #[test]
    fn failures_at_the_same_time_are_one_and_pauses_grow_to_a_limit() {
        let (mut servers, srv) = (Servers::default(), host("srv"));
        let text: Arc<str> = "no answer".into();
        let mut now = Millis(0);
        let mut pauses = Vec::new();
        for failures in 1..=9 {
            servers.failed(&srv, &text, now, now.0);
            servers.failed(&srv, &text, now, now.0);
            assert_eq!(servers.table[&srv].failures, failures);
            pauses.push(until(&servers, &srv).since(now));
            now = until(&servers, &srv);
        }
        assert!(pauses.iter().all(|it| *it <= SERVER_MEMORY_MOST_MS));
        assert!(pauses[8] >= SERVER_MEMORY_MOST_MS * 3 / 4, "{pauses:?}");
        assert!(pauses[..6].is_sorted(), "{pauses:?}");
    }

    #[test]
    fn what_addresses_answered_is_fresh_for_a_while() {
        let (mut servers, srv) = (Servers::default(), host("srv"));
        let now = Millis(50);
        let asked = [
            (target(1), SERVES),
            (target(2), Answer::Silent),
            (target(3), Answer::Unheard),
        ];
        let news = servers.heard(&srv, asked.iter().map(|(t, a)| (t, a)), now);
        assert!(!news);
        assert_eq!(servers.fresh(&srv, &target(1), now), Some(&SERVES));
        assert_eq!(servers.fresh(&srv, &target(2), now), Some(&Answer::Silent));
        assert_eq!(servers.fresh(&srv, &target(3), now), None);
        let otherwise = Target {
            service: Service {
                version: Some(3),
                ..Service::default()
            },
            ..target(1)
        };
        assert_eq!(servers.fresh(&srv, &otherwise, now), None);
        let last = now + (ANSWERS_FRESH_MS - 1);
        assert!(servers.fresh(&srv, &target(1), last).is_some());
        assert!(servers.fresh(&srv, &target(1), last + 1).is_none());
        assert_eq!(servers.micros(&srv, target(1).address), Some(700));
        assert_eq!(servers.micros(&srv, target(2).address), None);
    }

    #[test]
    fn a_mount_proves_what_an_address_said_or_makes_it_doubtful() {
        let (mut servers, srv) = (Servers::default(), host("srv"));
        let at = |last| {
            Some(Address {
                ip: target(last).address,
                scope: 0,
            })
        };
        let both = [(target(1), SERVES), (target(2), Answer::Silent)];
        servers.heard(&srv, both.iter().map(|(t, a)| (t, a)), Millis(0));
        let later = Millis(ANSWERS_FRESH_MS);
        for last in [1, 2] {
            servers.proved(&srv, at(last), later);
        }
        assert_eq!(servers.fresh(&srv, &target(1), later + 1), Some(&SERVES));
        assert_eq!(servers.fresh(&srv, &target(2), later + 1), None);
        servers.forget(&srv, at(2));
        assert!(servers.fresh(&srv, &target(1), later + 1).is_some());
        servers.forget(&srv, at(1));
        assert_eq!(servers.fresh(&srv, &target(1), later + 1), None);
    }

    #[test]
    fn one_address_that_serves_closes_the_circuit_and_silence_does_not_open_it() {
        let (mut servers, srv) = (Servers::default(), host("srv"));
        let now = Millis(0);
        servers.heard(&srv, [(&target(1), &Answer::Silent)], now);
        assert!(!servers.is_down(&srv, now));
        servers.failed(&srv, &"no answer".into(), now, 0);
        servers.heard(&srv, [(&target(1), &Answer::Silent)], now);
        assert!(servers.is_down(&srv, now));
        let both = [(target(1), Answer::Silent), (target(2), SERVES)];
        assert!(servers.heard(&srv, both.iter().map(|(t, a)| (t, a)), now));
        assert!(!servers.is_down(&srv, now));
    }

    #[test]
    fn answers_of_one_server_are_bounded() {
        let (mut servers, srv) = (Servers::default(), host("srv"));
        for last in 0..=HEARD_PER_SERVER as u8 {
            servers.heard(&srv, [(&target(last), &SERVES)], Millis(0));
            servers.heard(&srv, [(&target(last), &SERVES)], Millis(1));
        }
        assert_eq!(servers.table[&srv].heard.len(), HEARD_PER_SERVER);
        assert_eq!(servers.fresh(&srv, &target(0), Millis(1)), None);
        assert!(servers.fresh(&srv, &target(1), Millis(1)).is_some());
    }

    #[test]
    fn the_table_is_bounded_and_those_that_matter_least_go_first() {
        let mut servers = Servers::default();
        let text: Arc<str> = "no answer".into();
        servers.heard(&host("well"), [(&target(1), &SERVES)], Millis(500));
        for number in 1..SERVERS as u64 {
            servers.failed(&host(&format!("h{number}")), &text, Millis(number), 0);
        }
        assert_eq!(servers.len(), SERVERS);
        servers.failed(&host("one more"), &text, Millis(10_000), 0);
        assert_eq!(servers.len(), SERVERS);
        assert!(!servers.table.contains_key(&host("well")));
        servers.failed(&host("and more"), &text, Millis(10_000), 0);
        assert!(!servers.table.contains_key(&host("h1")));
        assert_eq!(servers.len(), SERVERS);
        assert_eq!(servers.broken, SERVERS);
        servers.clear();
        assert!(!servers.any_down() && servers.len() == 0);
    }
}
