//! Where things are mounted from, and what must become of them when that server dies: what can be
//! had elsewhere moves, and nothing else is let go of.

use std::collections::{BTreeMap, BTreeSet};

use bstr::{BString, ByteSlice};
use piton_engine::event::{ExistingServer, JobId, Request};
use piton_path::{are_related, is_below};
use piton_plan::probe::{Service, service};
use piton_plan::step::{Attempt, Step, TriggerKind};

use crate::dice::About;
use crate::faults::Fault;
use crate::kernel::{MountId, What};
use crate::mutation::Mutation;
use crate::servers::{NOTICED_MS, SPELL_MS, address};
use crate::world::{World, Wrong};

/// So long after a server's death all that can move has: with room for answers that take a while.
const MOVED_MS: u64 = 6_000;

/// So long a server must have served before its death means something: it is asked each second.
const WATCHED_MS: u64 = 5_000;

/// So long after a daemon began to serve it has asked all maps about what an earlier one mounted.
const LEARNT_MS: u64 = 6_000;

/// Why a server may be believed dead that is not, or something stay where it is.
const MISLEADING: [Fault; 11] = [
    Fault::Mount,
    Fault::Install,
    Fault::Directory,
    Fault::Busy,
    Fault::Undo,
    Fault::Worker,
    Fault::Host,
    Fault::Slow,
    Fault::Stuck,
    Fault::Overrun,
    Fault::Jump,
];

/// Where a mount comes from.
#[derive(Clone, Debug)]
struct Source {
    host: BString,
    /// The source text.
    text: BString,
    /// How that server is asked, if it can be.
    service: Option<Service>,
    /// Servers that it could come from as well.
    others: BTreeSet<BString>,
    read_only: bool,
    since: u64,
    /// In which life of the daemon it was mounted.
    life: u32,
}

/// Where everything comes from, and what operators said of that.
#[derive(Debug, Default)]
pub(crate) struct Failover {
    sources: BTreeMap<MountId, Source>,
    /// Which servers were asked for which job.
    asked: BTreeMap<JobId, Vec<BString>>,
    /// What was let go of in this life: it may not move again at once.
    moved: BTreeSet<BString>,
    /// Until when servers are drained.
    drained: BTreeMap<BString, u64>,
    pinned: Vec<BString>,
    /// What operators wanted to be unmounted.
    unwanted: Vec<BString>,
    /// Whether what is mounted need not be what maps and master map say.
    reconfigured: bool,
    /// Whether what earlier lives mounted need not be: a line was changed.
    edited: bool,
}

impl World {
    /// Which of its attempts a mount comes to: one whose server lives.
    pub(crate) fn attempt_of(&mut self, step: &Step, place: &BString) -> usize {
        let living: Vec<usize> = match step {
            Step::Mount { attempts, .. } => {
                let hosts = attempts.iter().map(|it| it.host.clone()).enumerate();
                let hosts: Vec<_> = hosts.collect();
                let living = hosts.into_iter().filter(|(_, host)| match host {
                    Some(host) => !self.is_dead(host),
                    None => true,
                });
                living.map(|(index, _)| index).collect()
            }
            _ => Vec::new(),
        };
        let chosen = self.dice.below(About::Attempt, place, living.len() as u64);
        living.get(chosen as usize).copied().unwrap_or(0)
    }

    /// Servers are asked for a job.
    pub(crate) fn asks(&mut self, job: JobId, servers: impl Iterator<Item = BString>) {
        self.failover.asked.insert(job, servers.collect());
    }

    /// Something was mounted.
    pub(crate) fn mounted_from(
        &mut self,
        job: JobId,
        target: &BString,
        attempts: &[Attempt],
        chosen: usize,
    ) {
        let top = self.kernel.top(target.as_bstr());
        let attempt = attempts.get(chosen);
        let (Some(id), Some(Some(host))) = (top, attempt.map(|it| it.host.clone())) else {
            return;
        };
        let word = |it: &&BString| **it == "ro" || **it == "rw";
        let options = &attempts[chosen].options;
        let hosts = attempts.iter().filter_map(|it| it.host.clone());
        let asked = self.failover.asked.remove(&job).unwrap_or_default();
        let source = Source {
            others: hosts.chain(asked).filter(|it| *it != host).collect(),
            read_only: options
                .iter()
                .rev()
                .find(word)
                .is_some_and(|it| *it == "ro"),
            since: self.now,
            life: self.life,
            text: attempts[chosen].source.clone(),
            service: service(&attempts[chosen].what, options),
            host,
        };
        self.failover.sources.insert(id, source);
    }

    /// An operator asks for something.
    pub(crate) fn heed(&mut self, request: &Request) {
        let failover = &mut self.failover;
        match request {
            Request::Drain { server, until, .. } => {
                let until = until.map_or(u64::MAX, |it| it.0);
                failover.drained.insert(server.clone(), until);
            }
            Request::Pin { path, .. } => failover.pinned.push(path.clone()),
            Request::Unmount { path } => failover.unwanted.push(path.clone()),
            // What is undrained may be on its way.
            _ => {}
        }
    }

    /// The maps are others.
    pub(crate) fn reconfigured(&mut self) {
        self.failover.reconfigured = true;
        self.edited();
    }

    /// Somebody edits a map.
    pub(crate) fn edited(&mut self) {
        self.failover.edited = true;
    }

    /// What the mount table says of where something is from: the text, the server, and whether
    /// nothing can be written to it.
    pub(crate) fn found_from(&self, id: MountId) -> Option<(BString, ExistingServer, bool)> {
        let source = self.failover.sources.get(&id)?;
        let server = ExistingServer {
            host: source.host.clone(),
            address: Some(address(source.host.as_bstr()).into()),
            service: Some(source.service?),
        };
        let believed = self.mutation != Some(Mutation::TakenForWritable);
        Some((source.text.clone(), server, source.read_only && believed))
    }

    /// The daemon is another: what operators said is forgotten, and what moved.
    pub(crate) fn forget_care(&mut self) {
        let sources = std::mem::take(&mut self.failover.sources);
        self.failover = Failover {
            sources,
            reconfigured: true,
            edited: self.failover.edited,
            ..Failover::default()
        };
    }

    fn is_misled(&self) -> bool {
        self.calm || MISLEADING.into_iter().any(|fault| self.faults[fault] > 0)
    }

    /// Something is about to be let go of: its server is dead, or was found so a moment ago, or is
    /// drained; and who uses what cannot be had elsewhere is left alone.
    pub(crate) fn check_let_go(&mut self, target: &BString) -> Result<(), Wrong> {
        let Some(id) = self.kernel.top(target.as_bstr()) else {
            return Ok(());
        };
        if !matches!(self.kernel.mounts[&id].what, What::Files) {
            return Ok(());
        }
        self.failover.moved.insert(target.clone());
        let unwanted = self.failover.unwanted.iter();
        let wished = unwanted.into_iter().any(|it| are_related(it, target));
        if wished || self.stopping.is_some() || self.is_misled() {
            return Ok(());
        }
        let Some(source) = self.failover.sources.get(&id).cloned() else {
            return Err(format!("{target} is let go of and has no server"));
        };
        let until = self.failover.drained.get(&source.host);
        let drained = until.is_some_and(|until| *until + MOVED_MS > self.now);
        let seen = self.servers.seen_dead(&source.host);
        let dead = seen.is_some_and(|seen| self.now - seen <= NOTICED_MS);
        if !drained && !dead {
            return Err(format!("{target} is let go of, and {} lives", source.host));
        }
        let mut inside: Vec<MountId> = self.kernel.below(target.as_bstr()).collect();
        inside.push(id);
        let used = inside.iter().any(|id| self.kernel.mounts[id].users > 0);
        let movable = source.read_only && !source.others.is_empty();
        match used && !movable && !self.failover.reconfigured {
            true => Err(format!("{target} is let go of under its users")),
            false => Ok(()),
        }
    }

    /// What can be had from a living server is not served by a dead one for long.
    pub(crate) fn check_moved(&mut self) -> Result<(), Wrong> {
        let kernel = &self.kernel;
        let sources = &mut self.failover.sources;
        sources.retain(|id, _| kernel.mounts.contains_key(id));
        if self.is_misled() || self.stopping.is_some() || self.faults[Fault::Server] == 0 {
            return Ok(());
        }
        let sources: Vec<_> = self.failover.sources.clone().into_iter().collect();
        for (id, source) in sources {
            let path = self.kernel.mounts[&id].path.clone();
            let (Some(dead), true) = (
                self.since(&source.host, true),
                self.is_movable(id, &path, &source),
            ) else {
                continue;
            };
            let own = source.life == self.life;
            if own && source.since + WATCHED_MS > dead {
                continue;
            }
            let known = match own {
                true => 0,
                false => self.keeper.since + LEARNT_MS,
            };
            // One that was dead before may be believed dead for a while.
            let alive = source.others.iter().filter_map(|other| {
                let since = self.since(other, false)?;
                Some(if since == 0 { 0 } else { since + NOTICED_MS })
            });
            let Some(alive) = alive.min() else { continue };
            // Whoever walks there would wait for what lies above.
            let Some(reachable) = self.reachable(&path) else {
                continue;
            };
            if self.now > dead.max(alive).max(reachable).max(known) + MOVED_MS {
                let (host, ms) = (source.host, self.now - dead);
                return Err(format!(
                    "{path} is served by {host}, which has been dead for {ms} ms"
                ));
            }
        }
        Ok(())
    }

    /// Whether nothing keeps a mount where it is, so far as the world knows.
    fn is_movable(&self, id: MountId, path: &BString, source: &Source) -> bool {
        let failover = &self.failover;
        let own = source.life == self.life;
        let known = source.read_only && (own || self.is_learnt(path));
        let kept =
            failover.moved.contains(path) || failover.pinned.iter().any(|it| are_related(it, path));
        let top = self.kernel.top(path.as_bstr()) == Some(id);
        let waited = self
            .kernel
            .pending
            .values()
            .any(|it| are_related(&it.path, path));
        let below =
            self.kernel
                .below(path.as_bstr())
                .all(|id| match &self.kernel.mounts[&id].what {
                    What::Files => failover.sources.get(&id).is_some_and(|it| it.read_only),
                    What::Trigger(trigger) => trigger.spec.kind == TriggerKind::Offset,
                });
        known && top && below && !kept && !waited
    }

    /// Whether the map can tell a daemon what an earlier one mounted at a path.
    fn is_learnt(&self, path: &BString) -> bool {
        let told = self.faults[Fault::Fetch] + self.faults[Fault::Lie] == 0;
        let half = self.scarred.iter().any(|root| are_related(root, path)) || self.known_half(path);
        told && !half && !self.failover.edited
    }

    /// Since when all that is mounted above a path is known to be served by living servers; none
    /// if it is not.
    fn reachable(&mut self, path: &BString) -> Option<u64> {
        let sources = self.failover.sources.iter();
        let hosts: Vec<BString> = sources
            .filter(|(id, _)| is_below(path, &self.kernel.mounts[id].path))
            .map(|(_, source)| source.host.clone())
            .collect();
        let mut reachable = 0;
        for host in hosts {
            let since = self.since(&host, false)?;
            if since > 0 {
                reachable = reachable.max(since + NOTICED_MS);
            }
        }
        Some(reachable)
    }

    /// Since when a server is dead, or alive; none if it is not so now.
    fn since(&mut self, host: &BString, dead: bool) -> Option<u64> {
        let mut spell = self.now / SPELL_MS;
        if self.spell(host, spell) != dead {
            return None;
        }
        while spell > 0 && self.spell(host, spell - 1) == dead {
            spell -= 1;
        }
        Some(spell * SPELL_MS)
    }
}
