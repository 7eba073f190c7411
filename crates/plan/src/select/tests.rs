//! Choices, with and without answers.

use alloc::format;
use alloc::string::String;

use super::*;
use crate::facts::{HostAnswer, Interface};
use crate::plan::Replica;
use crate::step::What;

fn facts() -> HostFacts {
    let interface = |address: &str, prefix| Interface::new(address.parse().unwrap(), prefix);
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
    let ranked = Choice::new(mount, facts, &answers(), 1).ranked(&|_, _| None);
    let usable = |one: &&Ranked| one.verdict.may_serve();
    ranked
        .iter()
        .filter(usable)
        .map(|one| name(&one.candidate))
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
            let choice = |seed| Choice::new(&random, &facts(), &answers(), seed);
            assert_eq!(choice(seed), choice(seed));
            let order = choice(seed).ranked(&|_, _| None);
            order.iter().map(|one| one.candidate.replica).collect()
        })
        .collect();
    assert_eq!(orders.len(), 6, "every order comes up");
}
