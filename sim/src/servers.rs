//! Servers that die and return, as the world has it: who is dead when, and what they answer.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr};

use bstr::{BStr, BString};
use piton_engine::Event;
use piton_engine::cause::Cause;
use piton_engine::event::JobId;
use piton_plan::probe::{Answer, Service, Target};
use piton_plan::step::Attempt;

use crate::dice::About;
use crate::faults::Fault;
use crate::world::{Action, World, Wrong};

/// For so long a server is dead or alive.
pub(crate) const SPELL_MS: u64 = 40_000;

/// So many milliseconds after it was last found dead a server is no longer called so: the longest
/// pause between questions, the time of one, and room for an answer that is lost.
pub(crate) const NOTICED_MS: u64 = 15_000 + 2_000 + 5_000 + 1_000;

/// Pause between two questions to one server at the least, and questions in a minute at most.
const PAUSE_LEAST_MS: u64 = 90;
const IN_A_MINUTE: usize = 120;

/// The servers that maps name, by the last number of their address.
const NAMES: [&str; 3] = ["red", "blue", "green"];

/// What is decided about servers, and who was asked when.
#[derive(Debug, Default)]
pub(crate) struct Servers {
    spells: BTreeMap<(BString, u64), bool>,
    asked: BTreeMap<BString, Vec<u64>>,
    /// When somebody last found one dead.
    seen_dead: BTreeMap<BString, u64>,
}

/// The address of a server.
pub(crate) fn address(host: &BStr) -> IpAddr {
    let known = NAMES.iter().position(|name| host == *name);
    let last = known.map_or(200, |at| at + 1);
    Ipv4Addr::new(192, 0, 2, last as u8).into()
}

fn name(address: IpAddr) -> BString {
    let known = NAMES
        .iter()
        .find(|name| self::address((**name).into()) == address);
    known.map_or_else(|| "other".into(), |name| BString::from(*name))
}

impl Servers {
    /// When somebody last found one dead.
    pub(crate) fn seen_dead(&self, host: &BString) -> Option<u64> {
        self.seen_dead.get(host).copied()
    }
}

impl World {
    /// Whether a server is dead now.
    pub(crate) fn is_dead(&mut self, host: &BString) -> bool {
        let dead = self.spell(host, self.now / SPELL_MS);
        if dead {
            self.servers.seen_dead.insert(host.clone(), self.now);
            let end = (self.now / SPELL_MS + 1) * SPELL_MS;
            self.excuses.of_servers(end + NOTICED_MS);
        }
        dead
    }

    pub(crate) fn spell(&mut self, host: &BString, number: u64) -> bool {
        let often = self.faults[Fault::Server];
        if often == 0 || self.calm {
            return false;
        }
        if let Some(dead) = self.servers.spells.get(&(host.clone(), number)) {
            return *dead;
        }
        let place = format!("{host} {number}");
        let dead = self.dice.chance(About::Server, place.as_bytes(), often);
        self.servers.spells.insert((host.clone(), number), dead);
        dead
    }

    /// Whether nobody is there who could serve any of these.
    pub(crate) fn all_dead(&mut self, attempts: &[Attempt]) -> bool {
        let hosts = attempts.iter().map(|attempt| attempt.host.clone());
        let hosts: Option<Vec<BString>> = hosts.collect();
        let hosts = hosts.unwrap_or_default();
        !hosts.is_empty() && hosts.iter().all(|host| self.is_dead(host))
    }

    /// Servers are asked for an access: some are silent, some refuse.
    pub(crate) fn probe(&mut self, job: JobId, targets: &[Target]) {
        self.asks(job, targets.iter().map(|target| name(target.address)));
        let answers = targets.iter().map(|target| self.answer(target)).collect();
        self.deliver(&job.0.to_le_bytes(), Event::Probed { job, answers });
    }

    fn answer(&mut self, target: &Target) -> Answer {
        let silent = self.faults[Fault::Host];
        if silent > 0 {
            self.excuses.of_servers(self.now + 100_000);
        }
        if self.is_dead(&name(target.address)) {
            return Answer::Silent;
        }
        let place = target.address.to_string();
        let place = place.as_bytes();
        let fails = self.dice.chance(About::Host, place, silent);
        match (fails, self.dice.below(About::Way, place, 4)) {
            (false, way) => Answer::Serves {
                micros: way as u32 * 1_000 + 200,
                no_guests: way % 2 == 0,
            },
            (true, 0 | 1) => Answer::Silent,
            (true, 2) => Answer::Unheard,
            (true, _) => Answer::Refused {
                errno: 111,
                micros: 100,
            },
        }
    }

    /// A server is asked in the background.
    pub(crate) fn check_server(
        &mut self,
        server: BString,
        targets: Vec<Target>,
        service: Service,
        deadline_ms: u64,
    ) -> Result<(), Wrong> {
        self.no_storm(&server)?;
        let mut targets = targets;
        if targets.is_empty() {
            targets.push(Target {
                address: address(server.as_ref()),
                scope: 0,
                service,
                rank: 0,
            });
        }
        let mut answers = Vec::new();
        for target in targets {
            let answer = self.answer(&target);
            let answer = match self.mutation {
                Some(mutation) => mutation.heard(answer),
                None => answer,
            };
            answers.push((target, answer));
        }
        let silent = answers.iter().all(|(_, answer)| *answer == Answer::Silent);
        let took = match silent {
            true => deadline_ms,
            false => self.delay(&server),
        };
        let event = Event::Checked { server, answers };
        self.at(self.now + took, Action::Deliver(event));
        Ok(())
    }

    fn no_storm(&mut self, server: &BString) -> Result<(), Wrong> {
        // By the daemon's clock, which leaps now and then.
        let now = self.now + self.leap;
        let asked = self.servers.asked.entry(server.clone()).or_default();
        if asked.last().is_some_and(|last| now < last + PAUSE_LEAST_MS) {
            return Err(format!("{server} is asked again at once"));
        }
        asked.push(now);
        asked.retain(|at| now < at + 60_000);
        match asked.len() > IN_A_MINUTE {
            true => Err(format!(
                "{server} is asked {} times in a minute",
                asked.len()
            )),
            false => Ok(()),
        }
    }

    /// An access was refused because servers are dead: they are, or were a moment ago.
    pub(crate) fn check_known_dead(&mut self, cause: &Cause) -> Result<(), Wrong> {
        let Cause::KnownDown(text) = cause else {
            return Ok(());
        };
        let misleading = [
            Fault::Mount,
            Fault::Busy,
            Fault::Host,
            Fault::Slow,
            Fault::Stuck,
            Fault::Overrun,
            Fault::Worker,
        ];
        // Once the world is calm it does not know any more which faults there were.
        if self.calm || misleading.into_iter().any(|fault| self.faults[fault] > 0) {
            return Ok(());
        }
        let host: BString = text.split(':').next().unwrap_or_default().into();
        let seen = self.servers.seen_dead.get(&host).copied().unwrap_or(0);
        let ago = self.now - seen;
        match ago > NOTICED_MS {
            true => Err(format!(
                "{host} is called dead, and was last found so {ago} ms ago"
            )),
            false => Ok(()),
        }
    }
}
