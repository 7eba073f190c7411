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

#[cfg(test)]
mod tests {
    use alloc::format;
    use alloc::string::String;

    use super::*;
    use crate::facts::{HostAnswer, Interface};
    use crate::step::What;

    fn facts() -> HostFacts {
        let interface = |address: &str, prefix| Interface {
            address: address.parse().unwrap(),
            prefix,
        };
        HostFacts {
            hostname: "client1.example.org".into(),
            interfaces: [interface("10.77.0.1", 24), interface("fd77::1", 64)].into(),
            ..HostFacts::default()
        }
    }

    fn answers() -> HostAnswers {
        let answer = |addresses: &[&str]| HostAnswer {
            addresses: addresses
                .iter()
                .map(|address| address.parse().unwrap())
                .collect(),
        };
        HostAnswers::from([
            ("near".into(), answer(&["10.77.0.11"])),
            ("net".into(), answer(&["10.78.0.11"])),
            ("far".into(), answer(&["172.16.5.11"])),
            ("multi".into(), answer(&["172.16.5.50", "10.77.0.50"])),
            ("dual".into(), answer(&["172.16.5.61", "fd77::161"])),
            ("us".into(), answer(&["172.16.5.2", "10.77.0.1"])),
            ("none".into(), answer(&[])),
        ])
    }

    fn mount(servers: &[(&str, u32)], selection: Selection) -> MountPlan {
        MountPlan {
            what: What::Type("nfs".into()),
            options: Vec::new(),
            replicas: servers
                .iter()
                .map(|(host, weight)| Replica {
                    host: (*host != "-").then(|| BString::from(*host)),
                    path: "/x".into(),
                    weight: *weight,
                })
                .collect(),
            propagation: Default::default(),
            symlink: false,
            nobind: false,
            selection,
            network: true,
            by_helper: false,
        }
    }

    fn ranked(mount: &MountPlan, facts: &HostFacts) -> Vec<String> {
        let host = |one: &Candidate| one.host.as_ref().map_or("-".into(), BString::to_string);
        let name = |one: &Candidate| format!("{} {}", host(one), one.proximity.name());
        candidates(mount, facts, &answers(), 1)
            .iter()
            .map(name)
            .collect()
    }

    fn order(servers: &[(&str, u32)]) -> Vec<String> {
        ranked(&mount(servers, Selection::Proximity), &facts())
    }

    #[test]
    fn proximity_then_weight_then_order() {
        assert_eq!(
            order(&[
                ("far", 0),
                ("net", 0),
                ("near", 9),
                ("localhost", 5),
                ("asked", 0)
            ]),
            [
                "localhost self",
                "near subnet",
                "net net",
                "far other",
                "asked other"
            ]
        );
        assert_eq!(
            order(&[("far", 2), ("later", 1), ("172.16.9.9", 1)]),
            ["later other", "172.16.9.9 other", "far other"]
        );
    }

    #[test]
    fn names_of_this_host_need_no_address() {
        for own in [
            "localhost",
            "CLIENT1",
            "client1.example.org.",
            "127.0.0.1",
            "::1",
            "10.77.0.1",
        ] {
            assert_eq!(order(&[(own, 0)]), [format!("{own} self")]);
            assert!(!needs_address(own.into(), &facts()), "{own}");
        }
        assert_eq!(order(&[("us", 0), ("-", 0)]), ["us self", "- self"]);
        assert!(needs_address("near".into(), &facts()));
        assert!(!needs_address("fe80::1%eth0".into(), &facts()));
        let nameless = HostFacts::default();
        assert!(needs_address("x".into(), &nameless));
    }

    #[test]
    fn several_addresses_of_a_kind_are_several_servers() {
        assert_eq!(
            order(&[("multi", 0)]),
            ["10.77.0.50 subnet", "172.16.5.50 other"]
        );
        assert_eq!(order(&[("dual", 0)]), ["dual subnet"]);
        let by_name = HostFacts {
            hostname_for_mounts: true,
            ..facts()
        };
        assert_eq!(
            ranked(&mount(&[("multi", 0)], Selection::Proximity), &by_name),
            ["multi subnet"]
        );
        let mut kerberos = mount(&[("multi", 0)], Selection::Proximity);
        kerberos.options = ["sec=sys".into(), "sec=krb5p".into()].into();
        assert_eq!(ranked(&kerberos, &facts()), ["multi subnet"]);
    }

    #[test]
    fn names_that_do_not_exist_are_left_out() {
        assert_eq!(order(&[("none", 0), ("far", 0)]), ["far other"]);
        assert!(order(&[("none", 0)]).is_empty());
    }

    #[test]
    fn other_rankings() {
        let weights = mount(
            &[("near", 9), ("far", 1), ("net", 1)],
            Selection::WeightOnly,
        );
        assert_eq!(
            ranked(&weights, &facts()),
            ["far other", "net net", "near subnet"]
        );
        let random = mount(&[("near", 0), ("far", 0), ("net", 0)], Selection::Random);
        let orders: alloc::collections::BTreeSet<Vec<usize>> = (0..64)
            .map(|seed| {
                let order = candidates(&random, &facts(), &answers(), seed);
                assert_eq!(order, candidates(&random, &facts(), &answers(), seed));
                order.iter().map(|one| one.replica).collect()
            })
            .collect();
        assert_eq!(orders.len(), 6, "every order comes up");
    }
}
