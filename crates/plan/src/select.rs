//! Which of the servers of a location comes first.
//!
//! Proximity, then weight, then the order written. A name that has several
//! addresses of one kind stands for several machines, as in autofs: each is ranked by itself
//! and mounted by its address, unless the name is wanted ([`HostFacts::hostname_for_mounts`],
//! or Kerberos, whose tickets are for names).

use alloc::string::ToString;
use alloc::vec::Vec;
use core::net::IpAddr;

use bstr::{BStr, BString, ByteSlice};
use piton_map::options::Selection;

use crate::facts::{HostAnswers, HostFacts};
use crate::plan::{MountPlan, Replica};
use crate::proximity::Proximity;
use crate::variables::split_host;

/// A server to try: one replica, or one address of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Candidate {
    /// Which of [`MountPlan::replicas`].
    pub replica: usize,
    /// What stands before the colon in the text given to mount: the name as written, or one
    /// address; `None` for this host.
    pub host: Option<BString>,
    /// How far it is.
    pub proximity: Proximity,
    /// The administrator's bias.
    pub weight: u32,
}

/// The servers of `mount`, best first. Names that are known not to exist are left out.
pub fn candidates(
    mount: &MountPlan,
    facts: &HostFacts,
    answers: &HostAnswers,
    seed: u64,
) -> Vec<Candidate> {
    let by_name = facts.hostname_for_mounts || is_kerberos(&mount.options);
    let mut all = Vec::new();
    for (number, replica) in mount.replicas.iter().enumerate() {
        let candidate = |host, proximity| Candidate {
            replica: number,
            host,
            proximity,
            weight: replica.weight,
        };
        match place(replica, facts, answers, by_name) {
            Place::Known(proximity) => all.push(candidate(replica.host.clone(), proximity)),
            Place::Addresses(addresses) => all.extend(addresses.into_iter().map(|address| {
                let host = Some(address.to_string().into());
                candidate(host, Proximity::of(address, &facts.interfaces))
            })),
            Place::Nowhere => {}
        }
    }
    // A stable sort keeps the order written among equals.
    match mount.selection {
        Selection::Proximity => all.sort_by_key(|one| (one.proximity, one.weight)),
        Selection::WeightOnly => all.sort_by_key(|one| one.weight),
        Selection::Random => shuffle(&mut all, seed),
    }
    all
}

/// Returns true if and only if the address of `host` must be asked for to rank it: it is
/// neither an address nor a name of this host.
pub fn needs_address(host: &BStr, facts: &HostFacts) -> bool {
    literal(host).is_none() && !is_own_name(host, facts)
}

/// Where a replica is.
enum Place {
    /// One server, so far away.
    Known(Proximity),
    /// One server for each address.
    Addresses(Vec<IpAddr>),
    /// The name is known not to exist.
    Nowhere,
}

fn place(replica: &Replica, facts: &HostFacts, answers: &HostAnswers, by_name: bool) -> Place {
    let Some(host) = &replica.host else {
        return Place::Known(Proximity::Own);
    };
    if let Some(address) = literal(host.as_ref()) {
        return Place::Known(Proximity::of(address, &facts.interfaces));
    }
    if is_own_name(host.as_ref(), facts) {
        return Place::Known(Proximity::Own);
    }
    let Some(answer) = answers.get(host) else {
        return Place::Known(Proximity::Other);
    };
    let addresses = &answer.addresses;
    let each = addresses
        .iter()
        .map(|address| Proximity::of(*address, &facts.interfaces));
    match each.min() {
        None => Place::Nowhere,
        Some(nearest) if by_name || nearest == Proximity::Own || !are_several(addresses) => {
            Place::Known(nearest)
        }
        Some(_) => Place::Addresses(addresses.clone()),
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

/// Returns true if and only if the options ask for Kerberos.
fn is_kerberos(options: &[BString]) -> bool {
    let flavour = options
        .iter()
        .rev()
        .find_map(|option| option.strip_prefix(b"sec="));
    flavour.is_some_and(|flavour| flavour.contains_str("krb5"))
}

/// Puts `all` into an order that depends on `seed` alone.
fn shuffle(all: &mut [Candidate], seed: u64) {
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
