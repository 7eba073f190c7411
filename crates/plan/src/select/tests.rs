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
        below: None,
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

// -- with answers ----------------------------------------------------------------------------

/// What each server says, by its address; those that are not listed were not asked.
type Say<'a> = &'a [(&'a str, Answer)];

fn serves(micros: u32) -> Answer {
    Answer::Serves {
        micros,
        no_guests: false,
    }
}

const REFUSED: Answer = Answer::Refused {
    errno: 111,
    micros: 300,
};

fn heard<'a>(say: Say<'a>) -> impl Fn(&Candidate, &Target) -> Option<Answer> + 'a {
    move |_, target| {
        let address = target.address.to_string();
        let said = say.iter().find(|(who, _)| *who == address);
        said.map(|(_, answer)| answer.clone())
    }
}

/// Who is tried in which order, with what is known of each.
fn told(mount: &MountPlan, facts: &HostFacts, say: Say<'_>) -> Vec<String> {
    let ranked = Choice::new(mount, facts, &answers(), 1).ranked(&heard(say));
    let host = |one: &Ranked| {
        let host = one.candidate.host.as_ref();
        host.map_or("-".into(), BString::to_string)
    };
    ranked
        .iter()
        .map(|one| format!("{} {}", host(one), one.verdict.name()))
        .collect()
}

fn chosen(servers: &[(&str, u32)], say: Say<'_>) -> Vec<String> {
    told(&mount(servers, Selection::Proximity), &facts(), say)
}

const NEAR: &str = "10.77.0.11";
const NET: &str = "10.78.0.11";
const FAR: &str = "172.16.5.11";

/// `man -ro alpha,bravo,charlie(1),delta(4):/usr/share/man`, all on one net.
#[test]
fn r_145_alpha_and_bravo_are_more_likely_than_charlie_and_delta_is_last() {
    let servers = [
        ("172.16.1.1", 0),
        ("172.16.1.2", 0),
        ("172.16.1.3", 1),
        ("172.16.1.4", 4),
    ];
    // Of alpha and bravo the quicker one, however quick the others are.
    let say = [
        ("172.16.1.1", serves(40_000)),
        ("172.16.1.2", serves(9_000)),
        ("172.16.1.3", serves(400)),
        ("172.16.1.4", serves(300)),
    ];
    assert_eq!(
        chosen(&servers, &say),
        [
            "172.16.1.2 serves",
            "172.16.1.1 serves",
            "172.16.1.3 serves",
            "172.16.1.4 serves"
        ]
    );
    // When neither serves it is charlie's turn.
    let say = [
        ("172.16.1.1", Answer::Silent),
        ("172.16.1.2", REFUSED),
        ("172.16.1.3", serves(400)),
        ("172.16.1.4", serves(300)),
    ];
    assert_eq!(
        chosen(&servers, &say),
        [
            "172.16.1.3 serves",
            "172.16.1.4 serves",
            "172.16.1.2 refused",
            "172.16.1.1 silent"
        ]
    );
}

#[test]
fn r_146_a_server_on_our_segment_wins_whatever_its_weight() {
    let servers = [("far", 0), ("172.16.5.12", 0), ("net", 1), ("near", 4)];
    let say = [
        (FAR, serves(200)),
        ("172.16.5.12", serves(200)),
        (NET, serves(200)),
        (NEAR, serves(90_000)),
    ];
    assert_eq!(
        chosen(&servers, &say),
        [
            "near serves",
            "net serves",
            "far serves",
            "172.16.5.12 serves"
        ]
    );
}

/// `man -ro alpha:/usr/man bravo,charlie(1):/usr/share/man delta(3):/export/man`.
#[test]
fn r_148_weights_count_across_different_paths() {
    let servers = [
        ("172.16.1.1", 0),
        ("172.16.1.2", 0),
        ("172.16.1.3", 1),
        ("172.16.1.4", 3),
    ];
    let mut plan = mount(&servers, Selection::Proximity);
    let paths = [
        "/usr/man",
        "/usr/share/man",
        "/usr/share/man",
        "/export/man",
    ];
    for (replica, path) in plan.replicas.iter_mut().zip(paths) {
        replica.path = path.into();
    }
    let say: Vec<(&str, Answer)> = servers
        .iter()
        .map(|(host, _)| (*host, serves(500)))
        .collect();
    let choice = Choice::new(&plan, &facts(), &answers(), 0);
    let attempts = crate::attempt::attempts(&plan, "/m".into(), &choice.ranked(&heard(&say)), true);
    let sources: Vec<String> = attempts.iter().map(|it| it.source.to_string()).collect();
    assert_eq!(
        sources,
        [
            "172.16.1.1:/usr/man",
            "172.16.1.2:/usr/share/man",
            "172.16.1.3:/usr/share/man",
            "172.16.1.4:/export/man"
        ]
    );
}

#[test]
fn answers_that_take_about_the_same_time_keep_the_order_written() {
    let servers = [("172.16.1.1", 0), ("172.16.1.2", 0), ("172.16.1.3", 0)];
    for (times, first) in [
        ([1_300, 900, 400], "172.16.1.1"),
        ([1_500, 900, 400], "172.16.1.2"),
        ([50_000, 41_000, 70_000], "172.16.1.1"),
        ([52_000, 41_000, 70_000], "172.16.1.2"),
        ([90_000, 80_000, 20_000], "172.16.1.3"),
    ] {
        let say: Vec<(&str, Answer)> = servers
            .iter()
            .zip(times)
            .map(|((host, _), time)| (*host, serves(time)))
            .collect();
        assert_eq!(
            chosen(&servers, &say)[0],
            format!("{first} serves"),
            "{times:?}"
        );
    }
    assert_eq!(as_fast_as(0), 1_000);
    assert_eq!(as_fast_as(u32::MAX), u32::MAX);
}

#[test]
fn other_policies_with_answers() {
    let servers = [("near", 2), ("net", 1), ("far", 1)];
    let say = [(NEAR, serves(700)), (NET, serves(900)), (FAR, serves(600))];
    let order = |selection| told(&mount(&servers, selection), &facts(), &say);
    assert_eq!(
        order(Selection::FirstResponder),
        ["far serves", "near serves", "net serves"]
    );
    assert_eq!(
        order(Selection::WeightOnly),
        ["net serves", "far serves", "near serves"]
    );
    let silent = [(NEAR, serves(1)), (NET, Answer::Silent), (FAR, serves(2))];
    for seed in 0..32 {
        let random = mount(&servers, Selection::Random);
        let ranked = Choice::new(&random, &facts(), &answers(), seed).ranked(&heard(&silent));
        assert_eq!(ranked[2].verdict, Verdict::Silent);
    }
}

#[test]
fn who_is_asked_for_what() {
    let mut plan = mount(
        &[
            ("near", 0),
            ("multi", 3),
            ("dual", 0),
            ("us", 0),
            ("none", 0),
            ("asked", 0),
        ],
        Selection::Proximity,
    );
    let targets = |plan: &MountPlan, facts: &HostFacts| -> Vec<String> {
        let choice = Choice::new(plan, facts, &answers(), 1);
        let each = choice.targets();
        each.map(|(_, target)| format!("{} {}", target.address, target.rank))
            .collect()
    };
    // This host and names without an address are not asked; both addresses of one machine are.
    assert_eq!(
        targets(&plan, &facts()),
        [
            "10.77.0.11 1",
            "172.16.5.50 4",
            "10.77.0.50 2",
            "172.16.5.61 1",
            "fd77::161 1"
        ]
    );
    // Kerberos keeps the name: then all its addresses are one server's.
    plan.options = ["sec=krb5".into()].into();
    assert_eq!(
        targets(&plan, &facts())[1..3],
        ["172.16.5.50 2", "10.77.0.50 2"]
    );
    // So is one that is not asked for, where there is the other.
    plan.options = ["proto=tcp6".into()].into();
    let asked = targets(&plan, &facts());
    assert!(asked.contains(&"fd77::161 1".into()) && !asked.contains(&"172.16.5.61 1".into()));
    assert!(
        asked.contains(&"10.77.0.11 1".into()),
        "mounting says what is wrong"
    );
    plan.options = ["tcp".into()].into();
    assert!(!targets(&plan, &facts()).contains(&"fd77::161 1".into()));
    plan.options.clear();
    // A family that this host lacks is left out.
    let only_v4 = HostFacts {
        interfaces: [Interface::new("10.77.0.1".parse().unwrap(), 24)].into(),
        ..facts()
    };
    plan.options.clear();
    assert!(!targets(&plan, &only_v4).contains(&"fd77::161 1".into()));
    let sixth = mount(&[("fd00::9", 0), ("near", 0)], Selection::Proximity);
    assert_eq!(
        told(&sixth, &only_v4, &[(NEAR, serves(9))]),
        ["near serves", "fd00::9 unsupported"]
    );
    plan.options = ["proto=rdma".into()].into();
    assert!(targets(&plan, &facts()).is_empty());
    plan.options = ["nobind".into()].into();
    plan.nobind = true;
    assert!(targets(&plan, &facts()).contains(&"10.77.0.1 0".into()));
}

#[test]
fn two_addresses_of_one_machine_race_and_the_one_that_answers_is_used() {
    let plan = mount(&[("dual", 0)], Selection::Proximity);
    let (fourth, sixth) = ("172.16.5.61", "fd77::161");
    let first = |facts: &HostFacts, say: Say<'_>| {
        let ranked = Choice::new(&plan, facts, &answers(), 1).ranked(&heard(say));
        assert_eq!(ranked.len(), 1, "one machine");
        let host = ranked[0].candidate.host.clone().unwrap().to_string();
        let address = ranked[0].address.map(|address| address.ip.to_string());
        (host, address.unwrap_or_default())
    };
    let both = [(fourth, serves(900)), (sixth, serves(300))];
    assert_eq!(first(&facts(), &both), ("dual".into(), sixth.into()));
    // The name might lead to the address that is silent.
    let one = [(fourth, Answer::Silent), (sixth, serves(900))];
    assert_eq!(first(&facts(), &one), (sixth.into(), sixth.into()));
    // The one that the name means first: no harm is done by the other.
    let other = [(fourth, serves(900)), (sixth, Answer::Silent)];
    assert_eq!(first(&facts(), &other), ("dual".into(), fourth.into()));
    let by_name = HostFacts {
        hostname_for_mounts: true,
        ..facts()
    };
    assert_eq!(first(&by_name, &one), ("dual".into(), sixth.into()));
    assert_eq!(first(&facts(), &[]), ("dual".into(), String::new()));
}

#[test]
fn what_was_heard_decides_when_the_best_that_may_serve_is_known_to() {
    let plan = mount(&[("near", 0), ("net", 0), ("far", 0)], Selection::Proximity);
    let decided =
        |say: Say<'_>| Choice::new(&plan, &facts(), &answers(), 1).is_decided(&heard(say));
    assert!(!decided(&[]));
    assert!(decided(&[(NEAR, serves(1))]));
    assert!(!decided(&[(NET, serves(1))]), "near might serve");
    assert!(decided(&[(NEAR, Answer::Silent), (NET, serves(1))]));
    assert!(!decided(&[(NEAR, REFUSED), (FAR, serves(1))]));
    let all = [(NEAR, REFUSED), (NET, Answer::Silent), (FAR, REFUSED)];
    assert!(!decided(&all), "perhaps one serves by now");
    let own = mount(&[("near", 0), ("localhost", 0)], Selection::Proximity);
    assert!(Choice::new(&own, &facts(), &answers(), 1).is_decided(&|_, _| None));
    let elsewhere = MountPlan {
        what: What::Type("cifs".into()),
        ..plan.clone()
    };
    assert!(Choice::new(&elsewhere, &facts(), &answers(), 1).is_decided(&|_, _| None));
}

#[test]
fn silent_servers_are_not_tried_and_refusing_ones_only_when_there_is_no_other() {
    let plan = mount(&[("near", 0), ("net", 0), ("far", 0)], Selection::Proximity);
    let tried = |say: Say<'_>| -> Vec<String> {
        let ranked = Choice::new(&plan, &facts(), &answers(), 1).ranked(&heard(say));
        let attempts = crate::attempt::attempts(&plan, "/m".into(), &ranked, true);
        attempts.iter().map(|it| it.source.to_string()).collect()
    };
    let denied = Answer::Refused {
        errno: 13,
        micros: 10,
    };
    assert_eq!(tried(&[]), ["near:/x", "net:/x", "far:/x"]);
    assert_eq!(
        tried(&[
            (NEAR, Answer::Unheard),
            (NET, serves(5)),
            (FAR, Answer::Silent)
        ]),
        ["net:/x", "near:/x"]
    );
    assert_eq!(
        tried(&[
            (NEAR, denied.clone()),
            (NET, Answer::Silent),
            (FAR, REFUSED)
        ]),
        ["near:/x"],
        "the mount says it in better words"
    );
    let other_version = Answer::Refused {
        errno: EPROTONOSUPPORT,
        micros: 10,
    };
    assert!(tried(&[(NEAR, other_version), (NET, Answer::Silent), (FAR, REFUSED)]).is_empty());
    assert_eq!(
        tried(&[(NEAR, denied), (NET, Answer::Silent), (FAR, serves(1))]),
        ["far:/x"]
    );
    assert!(
        tried(&[
            (NEAR, Answer::Silent),
            (NET, Answer::Silent),
            (FAR, REFUSED)
        ])
        .is_empty()
    );
}

#[test]
fn each_place_has_its_reason() {
    let servers = [
        ("near", 0),
        ("10.77.0.12", 0),
        ("10.77.0.13", 0),
        ("10.77.0.14", 3),
        ("net", 0),
        ("none", 0),
        ("10.77.0.15", 0),
        ("10.77.0.16", 0),
        ("10.77.0.17", 0),
    ];
    let say = [
        (NEAR, serves(400)),
        ("10.77.0.12", serves(300)),
        ("10.77.0.13", serves(9_000)),
        ("10.77.0.14", serves(300)),
        (NET, serves(300)),
        ("10.77.0.15", Answer::Silent),
        ("10.77.0.16", REFUSED),
        ("10.77.0.17", Answer::Unheard),
    ];
    let plan = mount(&servers, Selection::Proximity);
    let ranked = Choice::new(&plan, &facts(), &answers(), 1).ranked(&heard(&say));
    let reasons: Vec<String> = ranked
        .iter()
        .map(|one| one.reason(&ranked[0], Selection::Proximity))
        .collect();
    assert_eq!(
        reasons,
        [
            "it is the first by proximity",
            "it is as fast, and written later",
            "it answered later",
            "its weight is 3, not 0",
            "subnet is nearer",
            "others answered before it was heard",
            "it cannot be reached, or nothing listens there (errno 111)",
            "it does not answer",
            "nobody knows its address",
        ]
    );
}

/// Numbers that look like chance, the same each time.
struct Dice(u64);

impl Dice {
    fn below(&mut self, most: u64) -> u64 {
        self.0 = self
            .0
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1);
        (self.0 >> 33) % most
    }
}

/// For any servers and any answers: nobody is lost or doubled, the same question has the same
/// answer, the order does not depend on how the answers came in, the first of each kind keeps
/// the rules, and who serves is before who does not.
#[test]
fn any_answers_give_one_order_that_keeps_the_rules() {
    let hosts = [
        "near",
        "net",
        "far",
        "multi",
        "dual",
        "us",
        "none",
        "asked",
        "10.77.0.99",
        "fe80::1%2",
        "172.16.9.9",
        "fd00::1",
    ];
    for seed in 0..5_000 {
        let mut dice = Dice(seed);
        let servers: Vec<(&str, u32)> = (0..=dice.below(7))
            .map(|_| (hosts[dice.below(12) as usize], dice.below(3) as u32))
            .collect();
        let selection = [
            Selection::Proximity,
            Selection::WeightOnly,
            Selection::FirstResponder,
            Selection::Random,
        ][dice.below(4) as usize];
        let plan = mount(&servers, selection);
        let choice = Choice::new(&plan, &facts(), &answers(), seed);
        let say: Vec<(IpAddr, Answer)> = choice
            .targets()
            .filter_map(|(_, target)| {
                let answer = match dice.below(6) {
                    0 => return None,
                    1 => Answer::Silent,
                    2 => Answer::Unheard,
                    3 => REFUSED,
                    _ => serves(dice.below(50) as u32 * 400),
                };
                Some((target.address, answer))
            })
            .collect();
        let heard = |_: &Candidate, target: &Target| {
            let said = say.iter().find(|(address, _)| *address == target.address);
            said.map(|(_, answer)| answer.clone())
        };
        let ranked = choice.ranked(&heard);
        assert_eq!(ranked, choice.ranked(&heard));
        assert_eq!(ranked.len(), choice.candidates().len(), "{servers:?}");
        for (place, one) in ranked.iter().enumerate() {
            for later in &ranked[place + 1..] {
                assert!(one.verdict.tier() <= later.verdict.tier(), "{ranked:?}");
                if one.verdict.tier() != later.verdict.tier() {
                    continue;
                }
                let (a, b) = (&one.candidate, &later.candidate);
                match selection {
                    Selection::Proximity => {
                        assert!((a.proximity, a.weight) <= (b.proximity, b.weight));
                    }
                    Selection::WeightOnly => assert!(a.weight <= b.weight),
                    Selection::FirstResponder => {
                        assert!(one.verdict.micros() <= later.verdict.micros());
                    }
                    Selection::Random => {}
                }
            }
        }
        // The one that is chosen was not much slower than any of its equals.
        if let Some(first) = ranked.first()
            && selection == Selection::Proximity
            && let Verdict::Serves { micros } = first.verdict
        {
            let equal = |one: &&Ranked| {
                one.candidate.proximity == first.candidate.proximity
                    && one.candidate.weight == first.candidate.weight
                    && matches!(one.verdict, Verdict::Serves { .. })
            };
            let quickest = ranked
                .iter()
                .filter(equal)
                .map(|one| one.verdict.micros())
                .min();
            assert!(micros <= as_fast_as(quickest.unwrap()), "{ranked:?}");
        }
    }
}

#[test]
fn a_mount_is_from_the_server_that_its_source_names() {
    let servers = [("near", 0), ("multi", 0), ("dual", 0), ("none", 0)];
    let mount = mount(&servers, Selection::Proximity);
    let choice = Choice::new(&mount, &facts(), &answers(), 1);
    let origin = |source: &str| choice.origin(&mount, source.into()).map(BString::to_string);
    for (source, server) in [
        ("near:/x", Some("near")),
        ("near:/x/", Some("near")),
        ("10.77.0.11:/x", Some("near")),
        ("multi:/x", Some("multi")),
        ("10.77.0.50:/x", Some("multi")),
        ("[fd77::161]:/x", Some("dual")),
        ("none:/x", Some("none")),
        ("near:/y", None),
        ("near:/x/y", None),
        ("near:", None),
        ("net:/x", None),
        ("10.77.0.12:/x", None),
        ("", None),
    ] {
        assert_eq!(origin(source).as_deref(), server, "{source}");
    }
}
