//! Which of the servers of a location comes first: docs/replicas.md has the formula.
//!
//! Proximity, then weight, then the time of the answer, then the order written.
//! A name that has several addresses of one kind stands for several machines, as in autofs: each
//! is ranked by itself and mounted by its address, unless the name is wanted
//! ([`HostFacts::hostname_for_mounts`], or Kerberos, whose tickets are for names). An IPv4 and an
//! IPv6 address of one name are one machine: both are asked, and the first answer counts.

use alloc::collections::BTreeMap;
use alloc::format;
use alloc::string::{String, ToString};
use alloc::vec::Vec;
use core::net::IpAddr;

use bstr::{BStr, BString, ByteSlice};
use piton_map::options::Selection;

use crate::facts::{HostAnswers, HostFacts};
use crate::plan::{MountPlan, Replica, source_of};
use crate::probe::{Answer, Family, Service, Target, service};
use crate::proximity::{Proximity, is_reachable};
use crate::step::{Address, What};
use crate::variables::split_host;

/// A server to try: one replica, or one address of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Candidate {
    /// Which of [`MountPlan::replicas`].
    pub replica: usize,
    /// The server as written; `None` for this host.
    pub name: Option<BString>,
    /// What stands before the colon in the text given to mount: the name as written, or one
    /// address; `None` for this host.
    pub host: Option<BString>,
    /// Its addresses of the families that this host has; empty when none is known.
    pub addresses: Vec<IpAddr>,
    /// The number of the interface that a link-local address is on; 0: none is named.
    pub scope: u32,
    /// How far it is.
    pub proximity: Proximity,
    /// The administrator's bias.
    pub weight: u32,
    /// Whether it can be used at all.
    pub standing: Standing,
}

/// Whether a candidate can be used at all, before anybody is asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Standing {
    /// It is a directory of this host, and bind-mounted.
    Here,
    /// It may be.
    Usable,
    /// The name is known not to exist.
    Nowhere,
    /// This host has no address of its family.
    Unsupported,
}

/// What is known of a candidate.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// It answered, so many microseconds after it was asked.
    Serves {
        /// Microseconds.
        micros: u32,
    },
    /// It is a directory of this host: nobody needs to be asked.
    Here,
    /// It was not asked.
    Unasked,
    /// Others answered first, before there was time to hear of it.
    Unheard,
    /// It is there, and does not serve what is wanted, or cannot be reached.
    Refused {
        /// What the system says.
        errno: i32,
    },
    /// Nothing was heard of it in the time that there was.
    Silent,
    /// Its name does not exist.
    Nowhere,
    /// This host has no address of its family.
    Unsupported,
}

/// A candidate in its place among the others.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ranked {
    /// Who. An address stands in place of the name where that might lead to one that is dead.
    pub candidate: Candidate,
    /// What is known of it.
    pub verdict: Verdict,
    /// The address that answered first.
    pub address: Option<Address>,
    /// Whether that address does not show its root to nobody ([`Answer::Serves`]).
    pub no_guests: bool,
}

/// The servers of one mount, and how they are compared.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Choice {
    candidates: Vec<Candidate>,
    /// For each candidate: how much it is wanted before anybody is asked; the least is best.
    ranks: Vec<u32>,
    selection: Selection,
    service: Option<Service>,
    by_name: bool,
}

/// What is known of an address of a candidate; nothing: it was not asked, or too long ago.
pub type Heard<'a> = &'a dyn Fn(&Candidate, &Target) -> Option<Answer>;

impl Choice {
    /// The servers of `mount`; `seed` decides where chance does.
    pub fn new(mount: &MountPlan, facts: &HostFacts, hosts: &HostAnswers, seed: u64) -> Self {
        let candidates = candidates(mount, facts, hosts);
        let ranks = ranks(&candidates, mount.selection, seed);
        Self {
            ranks,
            selection: mount.selection,
            service: service(&mount.what, &mount.options),
            by_name: wants_name(mount, facts),
            candidates,
        }
    }

    /// The servers, in the order written.
    pub fn candidates(&self) -> &[Candidate] {
        &self.candidates
    }

    /// Puts servers after all others that can be used, by their names.
    pub fn put_last(&mut self, last: impl Fn(&BString) -> bool) {
        let behind = self.ranks.iter().max().map_or(0, |most| most + 1);
        for (candidate, rank) in self.candidates.iter().zip(&mut self.ranks) {
            if candidate.name.as_ref().is_some_and(&last) {
                *rank += behind;
            }
        }
    }

    /// The servers by name, each once, and how much each is wanted before anybody is asked: the
    /// least is best. Where chance decides, all are wanted alike. Empty if one is this host.
    pub fn preferences(&self) -> BTreeMap<&BString, u32> {
        let mut ranks = BTreeMap::new();
        for (candidate, rank) in self.candidates.iter().zip(&self.ranks) {
            let (Some(name), true) = (&candidate.name, candidate.standing != Standing::Here) else {
                return BTreeMap::new();
            };
            let rank = match self.selection {
                Selection::Random => 0,
                _ => *rank,
            };
            let known = ranks.entry(name).or_insert(rank);
            *known = rank.min(*known);
        }
        ranks
    }

    /// The server, as written, that a mount of this source text is from: the text has its name or
    /// one of its addresses, and its path. Nothing if it is from none of them.
    pub fn origin(&self, mount: &MountPlan, source: &BStr) -> Option<&BString> {
        let plain = |text: &[u8]| BString::from(text.trim_end_with(|letter| letter == '/'));
        let source = plain(source);
        let from = |candidate: &&Candidate| {
            let Some(replica) = mount.replicas.get(candidate.replica) else {
                return false;
            };
            let addresses = candidate.addresses.iter();
            let addresses = addresses.map(|address| BString::from(address.to_string()));
            let names = candidate.host.iter().chain(&candidate.name).cloned();
            let mut hosts = names.chain(addresses);
            hosts.any(|host| {
                let text = source_of(host.as_bstr(), replica.path.as_bstr());
                plain(&text) == source
            })
        };
        self.candidates.iter().find(from)?.name.as_ref()
    }

    /// Whom to ask, if anybody is asked at all: each address of each candidate.
    pub fn targets(&self) -> impl Iterator<Item = (&Candidate, Target)> {
        let each = self.candidates.iter().zip(&self.ranks);
        each.flat_map(|(candidate, rank)| {
            let targets = self.targets_of(candidate, *rank).into_iter();
            targets.map(move |target| (candidate, target))
        })
    }

    fn targets_of(&self, candidate: &Candidate, rank: u32) -> Vec<Target> {
        let Some(service) = self.service else {
            return Vec::new();
        };
        if candidate.standing != Standing::Usable {
            return Vec::new();
        }
        let target = |address: &IpAddr| Target {
            address: *address,
            scope: candidate.scope,
            service,
            rank,
        };
        candidate.addresses.iter().map(target).collect()
    }

    /// Whether asking would change nothing: there is nobody to ask, or the best of those that are
    /// not known to fail is known to serve.
    pub fn is_decided(&self, heard: Heard) -> bool {
        if self.targets().next().is_none() {
            return true;
        }
        let mut all: Vec<(u32, Verdict)> = self.verdicts(heard);
        all.sort_by_key(|(rank, _)| *rank);
        for group in all.chunk_by(|(one, _), (other, _)| one == other) {
            let mut open = false;
            for (_, verdict) in group {
                match verdict {
                    Verdict::Serves { .. } | Verdict::Here => return true,
                    Verdict::Unasked | Verdict::Unheard => open = true,
                    _ => {}
                }
            }
            if open {
                return false;
            }
        }
        false
    }

    fn verdicts(&self, heard: Heard) -> Vec<(u32, Verdict)> {
        let each = self.candidates.iter().zip(&self.ranks);
        each.map(|(candidate, rank)| (*rank, self.judge(candidate, *rank, heard).0))
            .collect()
    }

    /// What is known of a candidate, and the address of it that answered first.
    fn judge(&self, candidate: &Candidate, rank: u32, heard: Heard) -> (Verdict, Option<Address>) {
        match candidate.standing {
            Standing::Here => return (Verdict::Here, None),
            Standing::Nowhere => return (Verdict::Nowhere, None),
            Standing::Unsupported => return (Verdict::Unsupported, None),
            Standing::Usable => {}
        }
        let targets = self.targets_of(candidate, rank);
        let each = targets.iter().map(|target| {
            let verdict = match heard(candidate, target) {
                None => Verdict::Unasked,
                Some(Answer::Serves { micros, .. }) => Verdict::Serves { micros },
                Some(Answer::Refused { errno, .. }) => Verdict::Refused { errno },
                Some(Answer::Silent) => Verdict::Silent,
                Some(Answer::Unheard) => Verdict::Unheard,
            };
            let address = Address {
                ip: target.address,
                scope: target.scope,
            };
            (
                verdict,
                matches!(verdict, Verdict::Serves { .. }).then_some(address),
            )
        });
        let best = each.min_by_key(|(verdict, _)| (verdict.tier(), verdict.micros()));
        best.unwrap_or((Verdict::Unasked, None))
    }

    /// All servers, best first, with what is known of them.
    pub fn ranked(&self, heard: Heard) -> Vec<Ranked> {
        let mut all: Vec<(u32, Ranked)> = self
            .candidates
            .iter()
            .zip(&self.ranks)
            .map(|(candidate, rank)| {
                let (verdict, address) = self.judge(candidate, *rank, heard);
                let no_guests = address.is_some_and(|it| self.no_guests(candidate, it, heard));
                let mut candidate = candidate.clone();
                if let Some(address) = address
                    && !self.by_name
                    && self.leads_astray(&candidate, *rank, heard)
                {
                    candidate.host = Some(address.ip.to_string().into());
                }
                (
                    *rank,
                    Ranked {
                        candidate,
                        verdict,
                        address,
                        no_guests,
                    },
                )
            })
            .collect();
        // Stable: the order written is kept among equals.
        all.sort_by_key(|(rank, one)| (one.verdict.tier(), *rank, one.verdict.micros()));
        if self.selection != Selection::FirstResponder {
            for group in all.chunk_by_mut(|(one, first), (other, second)| {
                one == other && first.verdict.tier() == second.verdict.tier()
            }) {
                self.forgive_noise(group);
            }
        }
        all.into_iter().map(|(_, one)| one).collect()
    }

    fn no_guests(&self, candidate: &Candidate, address: Address, heard: Heard) -> bool {
        let targets = self.targets_of(candidate, 0);
        let mut at = targets.iter().filter(|it| it.address == address.ip);
        at.any(|it| {
            matches!(
                heard(candidate, it),
                Some(Answer::Serves {
                    no_guests: true,
                    ..
                })
            )
        })
    }

    /// Whether the address that the name would be taken for first is not known to serve, while
    /// another is: the name would lead astray.
    fn leads_astray(&self, candidate: &Candidate, rank: u32, heard: Heard) -> bool {
        let targets = self.targets_of(candidate, rank);
        let first = targets.first().and_then(|first| heard(candidate, first));
        targets.len() > 1 && !first.is_some_and(|answer| answer.serves())
    }

    /// Puts answers that took about the same time into the order written. `group` is in the order
    /// of the answers.
    fn forgive_noise(&self, group: &mut [(u32, Ranked)]) {
        let mut rest = group;
        while let Some((_, first)) = rest.first() {
            let limit = as_fast_as(first.verdict.micros());
            let many = rest.partition_point(|(_, one)| one.verdict.micros() <= limit);
            let (alike, slower) = rest.split_at_mut(many.max(1));
            alike.sort_by_key(|(_, one)| self.written(one));
            rest = slower;
        }
    }

    /// Where a candidate stands in the order written.
    fn written(&self, ranked: &Ranked) -> usize {
        let same = |one: &Candidate| {
            one.replica == ranked.candidate.replica && one.addresses == ranked.candidate.addresses
        };
        self.candidates.iter().position(same).unwrap_or(usize::MAX)
    }
}

impl Ranked {
    /// Why it has its place among the others, of whom `first` is the one tried first: for people.
    pub fn reason(&self, first: &Self, selection: Selection) -> String {
        match self.verdict {
            Verdict::Silent => return "it does not answer".into(),
            Verdict::Nowhere => return "nobody knows its address".into(),
            Verdict::Unsupported => return "this host has no address of its family".into(),
            Verdict::Refused { errno } if UNREACHABLE.contains(&errno) => {
                return format!("it cannot be reached, or nothing listens there (errno {errno})");
            }
            Verdict::Refused { errno } => {
                return format!("it does not serve what is wanted (errno {errno})");
            }
            _ => {}
        }
        let (own, other) = (&self.candidate, &first.candidate);
        if self == first {
            return match self.verdict {
                Verdict::Here => "it is this host".into(),
                _ => format!("it is the first by {}", selection.name()),
            };
        }
        if first.verdict == Verdict::Here {
            return "this host serves it itself".into();
        }
        if self.verdict.tier() != first.verdict.tier() {
            return "others answered before it was heard".into();
        }
        let nearness = selection == Selection::Proximity && own.proximity != other.proximity;
        let weights = matches!(selection, Selection::Proximity | Selection::WeightOnly);
        if nearness {
            format!("{} is nearer", other.proximity.name())
        } else if selection == Selection::Random {
            "chance put it here".into()
        } else if weights && own.weight != other.weight {
            format!("its weight is {}, not {}", own.weight, other.weight)
        } else if !matches!(self.verdict, Verdict::Serves { .. }) {
            "it is written later".into()
        } else if selection != Selection::FirstResponder
            && self.verdict.micros() <= as_fast_as(first.verdict.micros())
        {
            "it is as fast, and written later".into()
        } else {
            "it answered later".into()
        }
    }
}

/// Up to which time an answer counts as fast as one that took `micros`: what is left is noise of
/// the network and of this host.
pub fn as_fast_as(micros: u32) -> u32 {
    micros.saturating_add((micros / 4).max(1_000))
}

impl Verdict {
    /// Those of a larger tier come after all of a smaller one.
    fn tier(self) -> u8 {
        match self {
            Self::Serves { .. } | Self::Here => 0,
            Self::Unasked | Self::Unheard => 1,
            Self::Refused { .. } => 2,
            Self::Silent => 3,
            Self::Nowhere | Self::Unsupported => 4,
        }
    }

    /// Whether a mount from it may well work.
    pub fn may_serve(self) -> bool {
        self.tier() < 2
    }

    /// Whether it answered at all, if only with a refusal of its own: the system, which says for
    /// others that nobody listens there or that there is no way, did not say this.
    pub fn is_there(self) -> bool {
        match self {
            Self::Refused { errno } => !UNREACHABLE.contains(&errno),
            _ => self.may_serve(),
        }
    }

    /// Whether a mount from it may work, or will at least say better than it did why not. A version
    /// that is not served is not served.
    pub fn may_be_tried(self) -> bool {
        self.is_there()
            && self
                != Self::Refused {
                    errno: EPROTONOSUPPORT,
                }
    }

    /// The time of the answer; 0 where there is none.
    fn micros(self) -> u32 {
        match self {
            Self::Serves { micros } => micros,
            _ => 0,
        }
    }

    /// The word for people and for `explain --json`.
    pub fn name(self) -> &'static str {
        match self {
            Self::Serves { .. } => "serves",
            Self::Here => "here",
            Self::Unasked => "unasked",
            Self::Unheard => "unheard",
            Self::Refused { .. } => "refused",
            Self::Silent => "silent",
            Self::Nowhere => "unknown-host",
            Self::Unsupported => "unsupported",
        }
    }
}

/// It does not serve the program, or not in the version, or not by the protocol that is wanted.
const EPROTONOSUPPORT: i32 = 93;

/// What the system says of a server that cannot be reached: ENETDOWN, ENETUNREACH, ECONNABORTED,
/// ECONNRESET, ETIMEDOUT, ECONNREFUSED, EHOSTDOWN, EHOSTUNREACH.
const UNREACHABLE: [i32; 8] = [100, 101, 103, 104, 110, 111, 112, 113];

/// The servers of `mount`, in the order written.
fn candidates(mount: &MountPlan, facts: &HostFacts, hosts: &HostAnswers) -> Vec<Candidate> {
    let by_name = wants_name(mount, facts);
    let family = Family::wanted(&mount.options);
    let mut all = Vec::new();
    for (number, replica) in mount.replicas.iter().enumerate() {
        let candidate = |host, addresses, proximity, standing| Candidate {
            replica: number,
            name: replica.host.clone(),
            host,
            addresses,
            scope: replica.host.as_ref().map_or(0, |host| zone(host.as_ref())),
            proximity,
            weight: replica.weight,
            standing,
        };
        let name = replica.host.clone();
        match place(replica, facts, hosts) {
            Place::Here(addresses) => {
                let standing = match mount.nobind && name.is_some() {
                    true => Standing::Usable,
                    false => Standing::Here,
                };
                all.push(candidate(name, addresses, Proximity::Own, standing));
            }
            Place::Nowhere => {
                let standing = Standing::Nowhere;
                all.push(candidate(name, Vec::new(), Proximity::Other, standing));
            }
            Place::Unknown => {
                let standing = Standing::Usable;
                all.push(candidate(name, Vec::new(), Proximity::Other, standing));
            }
            Place::At(addresses) => {
                let reachable = |address: &&IpAddr| is_reachable(**address, facts);
                let mut usable: Vec<IpAddr> = addresses.iter().filter(reachable).copied().collect();
                // Where none is of the kind that is asked for, mounting says so.
                if let Some(family) = family
                    && usable.iter().any(|address| family.has(*address))
                {
                    usable.retain(|address| family.has(*address));
                }
                let nearest = |addresses: &[IpAddr]| {
                    let each = addresses.iter().map(|it| Proximity::of(*it, facts));
                    each.min().unwrap_or(Proximity::Other)
                };
                if usable.is_empty() {
                    let (proximity, standing) = (nearest(&addresses), Standing::Unsupported);
                    all.push(candidate(name, addresses, proximity, standing));
                } else if by_name || !are_several(&addresses) {
                    let proximity = nearest(&usable);
                    all.push(candidate(name, usable, proximity, Standing::Usable));
                } else {
                    all.extend(usable.into_iter().map(|address| {
                        let host = Some(address.to_string().into());
                        let proximity = Proximity::of(address, facts);
                        candidate(host, [address].into(), proximity, Standing::Usable)
                    }));
                }
            }
        }
    }
    all
}

/// How much each candidate is wanted before anybody is asked.
fn ranks(candidates: &[Candidate], selection: Selection, seed: u64) -> Vec<u32> {
    let dense = |keys: Vec<(Proximity, u32)>| {
        let mut sorted = keys.clone();
        sorted.sort_unstable();
        sorted.dedup();
        let rank = |key: &(Proximity, u32)| sorted.partition_point(|it| it < key) as u32;
        keys.iter().map(rank).collect()
    };
    match selection {
        Selection::Proximity => dense(
            candidates
                .iter()
                .map(|one| (one.proximity, one.weight))
                .collect(),
        ),
        Selection::WeightOnly => dense(
            candidates
                .iter()
                .map(|one| (Proximity::Own, one.weight))
                .collect(),
        ),
        Selection::FirstResponder => alloc::vec![0; candidates.len()],
        Selection::Random => {
            let mut ranks: Vec<u32> = (0..candidates.len() as u32).collect();
            shuffle(&mut ranks, seed);
            ranks
        }
    }
}

/// Returns true if and only if the address of `host` must be asked for to rank it: it is
/// neither an address nor a name of this host.
pub fn needs_address(host: &BStr, facts: &HostFacts) -> bool {
    literal(host).is_none() && !is_own_name(host, facts)
}

/// Where a replica is.
enum Place {
    /// On this host.
    Here(Vec<IpAddr>),
    /// At these addresses.
    At(Vec<IpAddr>),
    /// Nobody has told.
    Unknown,
    /// The name is known not to exist.
    Nowhere,
}

fn place(replica: &Replica, facts: &HostFacts, hosts: &HostAnswers) -> Place {
    let Some(host) = &replica.host else {
        return Place::Here(Vec::new());
    };
    let addresses = match literal(host.as_ref()) {
        Some(address) => [address].into(),
        None if is_own_name(host.as_ref(), facts) => {
            return Place::Here([IpAddr::from([127, 0, 0, 1])].into());
        }
        None => match hosts.get(host) {
            Some(answer) => answer.addresses.clone(),
            None => return Place::Unknown,
        },
    };
    let own = |address: &&IpAddr| Proximity::of(**address, facts) == Proximity::Own;
    if addresses.is_empty() {
        return Place::Nowhere;
    }
    match addresses.iter().find(own) {
        Some(own) => Place::Here([*own].into()),
        None => Place::At(addresses),
    }
}

/// Returns true if and only if there are several addresses of one kind.
fn are_several(addresses: &[IpAddr]) -> bool {
    let fourth = addresses.iter().filter(|address| address.is_ipv4()).count();
    fourth > 1 || addresses.len() - fourth > 1
}

/// The address that `host` is, if it is one.
fn literal(host: &BStr) -> Option<IpAddr> {
    let address = host
        .split_once_str(b"%")
        .map_or(host.as_bytes(), |(address, _zone)| address);
    address.to_str().ok()?.parse().ok()
}

/// The interface that a literal link-local address names by its number; 0: none.
fn zone(host: &BStr) -> u32 {
    let zone = host.split_once_str(b"%").map(|(_, zone)| zone);
    zone.and_then(|zone| zone.to_str().ok()?.parse().ok())
        .unwrap_or(0)
}

/// Returns true if and only if `host` is a name of this host.
fn is_own_name(host: &BStr, facts: &HostFacts) -> bool {
    let host = host.strip_suffix(b".").unwrap_or(host);
    let (short, _domain) = split_host(facts.hostname.as_ref());
    let own = [facts.hostname.as_bytes(), short.as_bytes()];
    host.eq_ignore_ascii_case(b"localhost")
        || own
            .iter()
            .any(|own| !own.is_empty() && host.eq_ignore_ascii_case(own))
}

/// Returns true if and only if servers are mounted by their names, never by an address.
fn wants_name(mount: &MountPlan, facts: &HostFacts) -> bool {
    facts.hostname_for_mounts || is_kerberos(&mount.options)
}

/// Returns true if and only if the options ask for Kerberos.
fn is_kerberos(options: &[BString]) -> bool {
    let flavour = options
        .iter()
        .rev()
        .find_map(|option| option.strip_prefix(b"sec="));
    flavour.is_some_and(|flavour| flavour.contains_str("krb5"))
}

/// Puts `all` into an order that depends on `seed` alone.
fn shuffle(all: &mut [u32], seed: u64) {
    let mut state = seed;
    for last in (1..all.len()).rev() {
        // splitmix64: good enough to spread load, and the same on every machine.
        state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = state;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^= mixed >> 31;
        all.swap(last, (mixed % (last as u64 + 1)) as usize);
    }
}

/// Returns true if and only if `what` is a network file system whose servers are chosen here.
pub fn is_nfs(what: &What) -> bool {
    matches!(what, What::Type(name) if name == "nfs" || name == "nfs4")
}

#[cfg(test)]
mod tests;
