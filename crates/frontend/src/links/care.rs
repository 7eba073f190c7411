//! Whether what links lead to is served: a FUSE helper can die, and it can hang. Whoever followed a
//! link then would be stuck in it, where neither we nor a signal reach him.
//!
//! That a helper has died is seen when a link is read, by its process. Whether it answers has to be
//! asked of the file system, which may never answer: a worker process does that, before a link is
//! followed that has not been proven for a while, and once after links were followed, for those who
//! got in just before. A helper that answers late but does something meanwhile is left alone; one
//! that does nothing at all is *silent*, which those who come are told, and in the end given up:
//! killed, so that all who wait in it go on and the next access mounts again.

use std::collections::HashMap;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use bstr::{BStr, BString, ByteSlice};
use piton_engine::cause::Errno;
use piton_mount::serving::{Activity, Servers};
use piton_mount::{Hold, Workers};
use piton_plan::step::TriggerId;

use super::{Healing, Shared};
use crate::backstage::Backstage;
use crate::front_end::Incoming;
use crate::limits::{CARE_FRESH, CARE_LOOK, CARE_PATIENCE, CARE_QUESTION};
use crate::ticket::Ticket;

/// A key of a trigger.
pub(super) type Spot = (TriggerId, BString);

/// Looks after the servers of what links lead to.
pub(super) struct Care {
    workers: Workers,
    give_up: Option<Duration>,
    /// Look for servers, and at them; they wait for nobody.
    lookers: Arc<Backstage>,
    /// Wait for workers that ask.
    askers: Arc<Backstage>,
    state: Mutex<State>,
    bell: Condvar,
}

#[derive(Default)]
struct State {
    links: HashMap<Spot, Link>,
    /// The number of the link that was made last.
    last: u64,
    /// A thread looks at those that are asked, and at those that are to be.
    watched: bool,
}

/// A link that leads somewhere.
struct Link {
    /// A link of the same name later has another one.
    number: u64,
    /// None until they were looked for.
    servers: Option<Servers>,
    /// Those who came before that.
    early: Vec<Incoming>,
    /// When they answered last, if they ever did.
    proven: Option<Instant>,
    /// It was followed since then.
    used: bool,
    question: Option<Question>,
}

/// The file system is being asked.
struct Question {
    since: Instant,
    activity: Activity,
    /// Since when the servers have done nothing.
    quiet: Instant,
    state: Verdict,
    waiting: Vec<Incoming>,
}

/// What a worker is to ask.
struct Asked {
    spot: Spot,
    number: u64,
    places: Vec<BString>,
}

/// What is thought of servers that have not answered yet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Verdict {
    /// It is too early to say.
    Open,
    /// They do something: whoever follows the link waits with them.
    Busy,
    /// They do nothing.
    Silent,
    /// They have done nothing for so long that nobody waits any more.
    GivenUp,
}

/// What became of those who would follow a link.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Found {
    Served,
    Silent,
    Dead,
}

impl Verdict {
    fn of(asked: Duration, quiet: Duration, give_up: Option<Duration>) -> Self {
        if asked < CARE_PATIENCE {
            Self::Open
        } else if quiet < CARE_PATIENCE {
            Self::Busy
        } else if give_up.is_some_and(|time| quiet >= time) {
            Self::GivenUp
        } else {
            Self::Silent
        }
    }

    fn found(self) -> Option<Found> {
        match self {
            Self::Open => None,
            Self::Busy => Some(Found::Served),
            Self::Silent | Self::GivenUp => Some(Found::Silent),
        }
    }
}

impl Care {
    /// Nothing to look after yet. Servers that do nothing for the time `give_up` are killed.
    pub(super) fn new(workers: Workers, give_up: Option<Duration>) -> Self {
        Self {
            workers,
            give_up,
            lookers: Arc::default(),
            askers: Arc::default(),
            state: Mutex::default(),
            bell: Condvar::new(),
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether a link may be followed at once; never blocks.
    pub(super) fn trusts(&self, shared: &Arc<Shared>, spot: &Spot) -> bool {
        let mut state = self.lock();
        let Some(link) = state.links.get_mut(spot) else {
            return true;
        };
        match &link.servers {
            None => return false,
            Some(servers) if servers.is_empty() => return true,
            Some(servers) if !servers.live() => return false,
            Some(_) if link.question.is_some() || !link.is_fresh() => return false,
            Some(_) => {}
        }
        let first = !std::mem::replace(&mut link.used, true);
        if first {
            self.watch(shared, state);
        }
        true
    }

    /// Has a link looked after that leads to a place.
    pub(super) fn begin(&self, shared: &Arc<Shared>, spot: Spot, place: BString) {
        let number = {
            let mut state = self.lock();
            // It is looked after already: whoever mounts something else there ends it first.
            if state.links.contains_key(&spot) {
                return;
            }
            state.last += 1;
            let number = state.last;
            state.links.insert(spot.clone(), Link::new(number));
            number
        };
        let own = shared.clone();
        self.lookers.submit(move || {
            let servers = Servers::of(place.as_bstr());
            let Some(care) = &own.care else { return };
            let mut state = care.lock();
            let link = state.links.get_mut(&spot);
            let Some(link) = link.filter(|link| link.number == number) else {
                return;
            };
            // It has just been mounted; but who serves it may have died long ago.
            link.proven = servers.are_known().then(Instant::now);
            link.servers = Some(servers);
            let early = std::mem::take(&mut link.early);
            drop(state);
            early.into_iter().for_each(|it| own.visit(spot.clone(), it));
        });
    }

    /// It leads nowhere any more; those who waited for an answer.
    pub(super) fn end(&self, spot: &Spot) -> Vec<Incoming> {
        let Some(mut link) = self.lock().links.remove(spot) else {
            return Vec::new();
        };
        let mut all = std::mem::take(&mut link.early);
        all.extend(link.question.into_iter().flat_map(|it| it.waiting));
        all
    }

    /// No key of a trigger leads anywhere any more.
    pub(super) fn end_all(&self, trigger: TriggerId) {
        self.lock().links.retain(|(own, _), _| *own != trigger);
    }

    /// The links whose servers are silent: for how long they have done nothing, and when they are
    /// given up.
    pub(super) fn silent(&self) -> Vec<(Spot, Duration, Option<Duration>)> {
        let now = Instant::now();
        let state = self.lock();
        let silent = state.links.iter().filter_map(|(spot, link)| {
            let question = link.question.as_ref()?;
            (question.state.found() == Some(Found::Silent)).then_some(())?;
            let quiet = now.saturating_duration_since(question.quiet);
            let left = self.give_up.map(|time| time.saturating_sub(quiet));
            Some((spot.clone(), quiet, left))
        });
        silent.collect()
    }

    /// Kills the servers that hang: nobody comes after us who would.
    pub(super) fn leave(&self) {
        for link in self.lock().links.values() {
            let question = link.question.as_ref();
            if let Some(servers) = &link.servers
                && question.is_some_and(|question| question.state.found() == Some(Found::Silent))
            {
                servers.kill();
            }
        }
    }

    /// Has somebody look again and again, while there is something to be seen. Work is handed on
    /// without the lock: where no thread can be had it is done here and now.
    fn watch(&self, shared: &Arc<Shared>, mut state: MutexGuard<'_, State>) {
        let watched = std::mem::replace(&mut state.watched, true);
        drop(state);
        if watched {
            self.bell.notify_all();
        } else {
            let own = shared.clone();
            self.lookers.submit(move || own.watch());
        }
    }
}

impl Link {
    fn new(number: u64) -> Self {
        Self {
            number,
            servers: None,
            early: Vec::new(),
            proven: None,
            used: false,
            question: None,
        }
    }

    fn is_fresh(&self) -> bool {
        self.proven.is_some_and(|at| at.elapsed() < CARE_FRESH)
    }

    /// When it is to be asked without anybody waiting.
    fn due(&self) -> Option<Instant> {
        let due = self.proven.filter(|_| self.used)? + CARE_FRESH;
        self.question.is_none().then_some(due)
    }
}

impl Shared {
    /// Somebody would follow a link that is not trusted, or leads nowhere yet.
    pub(super) fn visit(self: &Arc<Self>, spot: Spot, incoming: Incoming) {
        let Some(care) = &self.care else {
            return self.come_in(incoming);
        };
        let mut state = care.lock();
        let Some(link) = state.links.get_mut(&spot) else {
            drop(state);
            return self.come_in(incoming);
        };
        let fresh = link.is_fresh();
        let found = match (&link.servers, &mut link.question) {
            (None, _) => return link.early.push(incoming),
            (Some(servers), _) if servers.is_empty() => Found::Served,
            (Some(servers), _) if !servers.live() => Found::Dead,
            (Some(_), Some(question)) => match question.state.found() {
                Some(found) => found,
                None => return question.waiting.push(incoming),
            },
            (Some(_), None) if fresh => Found::Served,
            (Some(_), None) => {
                let Some(asked) = link.ask(&spot, vec![incoming]) else {
                    return;
                };
                care.watch(self, state);
                return self.ask(asked);
            }
        };
        drop(state);
        self.settle(&spot, found, vec![incoming]);
    }

    /// Asks the file systems that a link leads to.
    fn ask(self: &Arc<Self>, asked: Asked) {
        let Some(care) = &self.care else { return };
        let own = self.clone();
        care.askers.submit(move || {
            let Some(care) = &own.care else { return };
            let hold: Hold = Arc::new(());
            let until = Instant::now() + CARE_QUESTION;
            let dead = |place: &BString| {
                let served = care.workers.serves(place.as_bstr(), until, &hold);
                served == Ok(false)
            };
            let dead = asked.places.iter().any(dead);
            own.answered(&asked.spot, asked.number, dead);
        });
    }

    fn answered(self: &Arc<Self>, spot: &Spot, number: u64, dead: bool) {
        let Some(care) = &self.care else { return };
        let waiting = {
            let mut state = care.lock();
            let link = state.links.get_mut(spot);
            let Some(link) = link.filter(|link| link.number == number) else {
                return;
            };
            let Some(question) = link.question.take() else {
                return;
            };
            if dead {
                link.servers.iter_mut().for_each(Servers::died);
            } else {
                if question.state == Verdict::Silent {
                    tracing::info!(key = %spot.1, "what is mounted answers again");
                }
                link.proven = Some(Instant::now());
            }
            question.waiting
        };
        let found = if dead { Found::Dead } else { Found::Served };
        self.settle(spot, found, waiting);
    }

    fn settle(self: &Arc<Self>, spot: &Spot, found: Found, waiting: Vec<Incoming>) {
        let (trigger, key) = spot;
        for incoming in waiting {
            match (found, incoming) {
                (Found::Silent, Incoming::Access { ticket, .. }) => ticket.fail(Errno::TIMEDOUT),
                // It leads somewhere: where nobody serves any more. That has to go first.
                (Found::Dead, incoming) if self.unlink(*trigger, key.as_bstr()) => {
                    tracing::warn!(%key, "what is mounted is dead: it is mounted again");
                    let next = Some((self.clone(), incoming));
                    self.come_in(Incoming::Expire {
                        trigger: *trigger,
                        key: key.clone(),
                        ticket: Ticket::new(Healing(next)),
                    });
                }
                (_, incoming) => self.come_in(incoming),
            }
        }
    }

    /// Looks at servers that are asked, and has those asked that are due, until there are none.
    fn watch(self: &Arc<Self>) {
        let Some(care) = &self.care else { return };
        loop {
            let mut settled = Vec::new();
            let mut state = care.lock();
            let now = Instant::now();
            let due: Vec<Spot> = state
                .links
                .iter()
                .filter(|(_, link)| link.due().is_some_and(|due| due <= now))
                .map(|(spot, _)| spot.clone())
                .collect();
            let ask = |spot: Spot| {
                let link = state.links.get_mut(&spot)?;
                link.ask(&spot, Vec::new())
            };
            let asked: Vec<Asked> = due.into_iter().filter_map(ask).collect();
            let mut next: Option<Instant> = None;
            for (spot, link) in &mut state.links {
                let looked = link.look(now, care.give_up, spot);
                settled.extend(looked.map(|(found, waiting)| (spot.clone(), found, waiting)));
                let asked = link.question.as_ref().map(|_| now + CARE_LOOK);
                let times = [next, asked, link.due()];
                next = times.into_iter().flatten().min();
            }
            if settled.is_empty() && asked.is_empty() {
                let Some(next) = next else {
                    state.watched = false;
                    return;
                };
                let pause = next.saturating_duration_since(now);
                drop(care.bell.wait_timeout(state, pause));
                continue;
            }
            drop(state);
            asked.into_iter().for_each(|asked| self.ask(asked));
            for (spot, found, waiting) in settled {
                self.settle(&spot, found, waiting);
            }
        }
    }
}

impl Link {
    /// Begins a question, if it is known whom to ask.
    fn ask(&mut self, spot: &Spot, waiting: Vec<Incoming>) -> Option<Asked> {
        let servers = self.servers.as_ref()?;
        let now = Instant::now();
        self.used = false;
        self.question = Some(Question {
            since: now,
            activity: servers.activity(),
            quiet: now,
            state: Verdict::Open,
            waiting,
        });
        Some(Asked {
            spot: spot.clone(),
            number: self.number,
            places: servers.places().map(BStr::to_owned).collect(),
        })
    }

    /// Looks how servers are doing that are asked; those who need not wait any more.
    fn look(
        &mut self,
        now: Instant,
        give_up: Option<Duration>,
        (_, key): &Spot,
    ) -> Option<(Found, Vec<Incoming>)> {
        let (question, servers) = (self.question.as_mut()?, self.servers.as_ref()?);
        let activity = servers.activity();
        if activity != question.activity {
            (question.activity, question.quiet) = (activity, now);
        }
        let before = question.state;
        question.state = Verdict::of(now - question.since, now - question.quiet, give_up);
        match (before, question.state) {
            (Verdict::Open | Verdict::Busy, Verdict::Silent) => {
                tracing::warn!(%key, "what is mounted does not answer: its helper hangs");
            }
            (Verdict::Open | Verdict::Busy | Verdict::Silent, Verdict::GivenUp) => {
                tracing::error!(%key, "what is mounted has not answered for long: its helper is killed");
                servers.kill();
            }
            _ => {}
        }
        let found = question.state.found()?;
        let waiting = std::mem::take(&mut question.waiting);
        (!waiting.is_empty()).then_some((found, waiting))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_does_something_is_left_alone_and_who_does_nothing_is_given_up() {
        let give_up = Some(Duration::from_secs(60));
        let instant = Duration::from_millis(1);
        let of = |asked, quiet| Verdict::of(asked, quiet, give_up);
        let early = CARE_PATIENCE - instant;
        assert_eq!(of(Duration::ZERO, Duration::ZERO), Verdict::Open);
        assert_eq!(of(early, early), Verdict::Open);
        let hour = Duration::from_secs(3_600);
        assert_eq!(of(hour, Duration::ZERO), Verdict::Busy);
        assert_eq!(of(hour, early), Verdict::Busy);
        assert_eq!(of(CARE_PATIENCE, CARE_PATIENCE), Verdict::Silent);
        let nearly = Duration::from_secs(60) - instant;
        assert_eq!(of(hour, nearly), Verdict::Silent);
        assert_eq!(of(hour, nearly + instant), Verdict::GivenUp);
        assert_eq!(Verdict::of(hour, hour, None), Verdict::Silent);
    }

    #[test]
    fn only_who_hangs_is_told_so() {
        let told = [
            (Verdict::Open, None),
            (Verdict::Busy, Some(Found::Served)),
            (Verdict::Silent, Some(Found::Silent)),
            (Verdict::GivenUp, Some(Found::Silent)),
        ];
        for (verdict, found) in told {
            assert_eq!(verdict.found(), found);
        }
    }
}
