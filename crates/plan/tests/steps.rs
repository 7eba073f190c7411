//! Plans turned into steps: what is made, mounted and installed, and in which order.

use bstr::{BString, ByteSlice};
use piton_map::dialect::Dialect;
use piton_map::lookup::{Found, Matched};
use piton_map::options::{PointOptions, Propagation, Selection};
use piton_map::requester::Requester;
use piton_map::text::{Fragment, Span};
use piton_plan::facts::{HostAnswers, HostFacts, Interface};
use piton_plan::step::{Step, TriggerId, TriggerKind, What};
use piton_plan::{Plan, PlanRequest, Planning, TriggerDefaults, plan, plan_silently};

fn facts() -> HostFacts {
    HostFacts {
        hostname: "client1.example.org".into(),
        interfaces: vec![Interface::new("10.77.0.1".parse().unwrap(), 24)],
        ..HostFacts::default()
    }
}

fn planning(value: &str, kind: TriggerKind, options: &PointOptions) -> Planning {
    planning_with(value, kind, options, &facts())
}

fn planning_with(
    value: &str,
    kind: TriggerKind,
    options: &PointOptions,
    facts: &HostFacts,
) -> Planning {
    let text = format!("key {value}");
    let found = Found {
        key: Span::new(0, 3),
        value: Span::new(4, text.len()),
        fragment: Fragment::whole("/etc/auto.m", text),
        matched: Matched::Wildcard,
        map: "/etc/auto.m".into(),
        via: vec![Fragment::whole("/etc/auto.n", "+auto.m").origin(Span::new(0, 1))],
    };
    let (key, mount_point) = match kind {
        TriggerKind::Indirect => ("key", "/m/"),
        _ => ("/d/key", "/d/key"),
    };
    plan(&PlanRequest {
        found: &found,
        key: key.into(),
        mount_point: mount_point.into(),
        kind,
        options,
        global_options: &["g".into()],
        append_options: true,
        dialect: &Dialect::LINUX,
        requester: &Requester::default(),
        facts,
    })
}

fn indirect(value: &str) -> Plan {
    let planning = planning(value, TriggerKind::Indirect, &PointOptions::default());
    planning
        .plan
        .unwrap_or_else(|| panic!("{value}: {:?}", planning.diagnostics))
}

/// The code of the error that refuses `value`.
fn refusal(value: &str, kind: TriggerKind) -> &'static str {
    let planning = planning(value, kind, &PointOptions::default());
    assert_eq!(planning.plan, None, "{value}");
    planning.diagnostics.last().unwrap().code
}

/// Each step of `node` in a word or two; `?` marks those whose failure is not the whole's.
fn steps(plan: &Plan, node: usize, make_root: bool) -> Vec<String> {
    let defaults = TriggerDefaults {
        source: "/etc/auto.m".into(),
        timeout: 300,
        ..TriggerDefaults::default()
    };
    let mut number = |child: usize| TriggerId(100 + child as u32);
    let attempts = plan.attempts_unasked(node, &facts(), &HostAnswers::new(), 0);
    let planned = plan.steps(node, make_root, attempts, &mut number, &defaults);
    planned
        .iter()
        .map(|planned| {
            let text = match &planned.step {
                Step::MakeDirectory { path } => format!("mkdir {path}"),
                Step::Mount {
                    target, attempts, ..
                } => {
                    let attempt = attempts.iter().map(|attempt| match &attempt.what {
                        What::Bind { .. } => format!("bind {}", attempt.source),
                        What::Type(name) => format!("{name} {}", attempt.source),
                    });
                    format!("mount {target}: {}", attempt.collect::<Vec<_>>().join(", "))
                }
                Step::Symlink { path, to } => format!("link {path} to {to}"),
                Step::Install(spec) => format!(
                    "{:?} {} {} of {} for {}",
                    spec.kind, spec.path, spec.id.0, spec.source, spec.timeout
                ),
                other => panic!("{other:?}"),
            };
            if planned.required { text } else { text + "?" }
        })
        .collect()
}

#[test]
fn a_key_of_an_indirect_map() {
    let plan = indirect("srv:/a");
    assert_eq!(
        steps(&plan, 0, true),
        ["mkdir /m/key", "mount /m/key: nfs srv:/a"]
    );
    assert_eq!(steps(&plan, 0, false), ["mount /m/key: nfs srv:/a"]);
    assert_eq!(steps(&plan, 7, true), Vec::<String>::new());
    assert_eq!(plan.hosts(0, &facts()), ["srv"]);
    assert_eq!(plan.origin.to_string(), "/etc/auto.m:1:1");
}

#[test]
fn a_hierarchy_is_put_in_place_level_by_level() {
    let plan = indirect("/x/y s:/3 /x s:/2 / s:/1 /x-y s:/4");
    let paths: Vec<_> = plan
        .nodes
        .iter()
        .map(|node| (node.offset.to_string(), node.parent))
        .collect();
    let expected = [
        ("/", None),
        ("/x", Some(0)),
        ("/x/y", Some(1)),
        ("/x-y", Some(0)),
    ];
    assert_eq!(
        paths,
        expected.map(|(path, parent)| (path.to_owned(), parent))
    );
    assert_eq!(
        steps(&plan, 0, true),
        [
            "mkdir /m/key",
            "mount /m/key: nfs s:/1?",
            "mkdir /m/key/x?",
            "Offset /m/key/x 101 of /etc/auto.m for 300?",
            "mkdir /m/key/x-y?",
            "Offset /m/key/x-y 103 of /etc/auto.m for 300?",
        ]
    );
    assert_eq!(
        steps(&plan, 1, false),
        [
            "mount /m/key/x: nfs s:/2?",
            "mkdir /m/key/x/y?",
            "Offset /m/key/x/y 102 of /etc/auto.m for 300?",
        ]
    );
    assert_eq!(steps(&plan, 2, false), ["mount /m/key/x/y: nfs s:/3"]);
}

#[test]
fn an_entry_without_a_root_makes_its_directory_only() {
    let plan = indirect("-strict,timeout=9 /x/y :/a");
    assert_eq!(
        steps(&plan, 0, true),
        [
            "mkdir /m/key",
            "mkdir /m/key/x/y",
            "Offset /m/key/x/y 101 of /etc/auto.m for 9",
        ]
    );
    assert!(plan.strict);
    assert!(
        plan.attempts_unasked(0, &facts(), &HostAnswers::new(), 0)
            .is_empty()
    );
}

#[test]
fn strict_means_that_the_root_must_come() {
    let plan = indirect("-strict / s:/1 /x s:/2");
    assert_eq!(steps(&plan, 0, false)[0], "mount /m/key: nfs s:/1");
}

#[test]
fn a_submount_becomes_an_indirect_trigger() {
    let plan = indirect("-fstype=autofs,timeout=5 auto.sub");
    assert_eq!(plan.timeout, None);
    assert_eq!(
        steps(&plan, 0, true),
        ["mkdir /m/key", "Indirect /m/key 100 of auto.sub for 5"]
    );
    let below = indirect("/ s:/1 /n -fstype=autofs auto.sub");
    assert_eq!(
        steps(&below, 0, false)[2],
        "Offset /m/key/n 101 of /etc/auto.m for 300?"
    );
    assert_eq!(
        steps(&below, 1, false),
        ["Indirect /m/key/n 101 of auto.sub for 300"]
    );
    assert!(below.hosts(1, &facts()).is_empty());
}

#[test]
fn a_local_server_is_bound_first() {
    let plan = indirect("client1:/srv far:/x");
    assert_eq!(steps(&plan, 0, false), ["mount /m/key: bind /srv"]);
    // When that failed, the servers.
    assert_eq!(
        steps(&plan.over_network(0).unwrap(), 0, false),
        ["mount /m/key: nfs client1:/srv, nfs far:/x"]
    );
    assert_eq!(indirect(":/srv").over_network(0), None);
    assert_eq!(indirect("-nobind client1:/srv").over_network(0), None);
    // What is of use without it is not tried a second time.
    assert_eq!(
        steps(&indirect("/ client1:/srv /x s:/2"), 0, false)[0],
        "mount /m/key: bind /srv, nfs client1:/srv?"
    );
    assert_eq!(plan.hosts(0, &facts()), ["far"]);
    assert_eq!(
        steps(&indirect("-nobind client1:/srv"), 0, false),
        ["mount /m/key: nfs client1:/srv"]
    );
    assert_eq!(
        steps(&indirect(":/srv"), 0, false),
        ["mount /m/key: bind /srv"]
    );
    let itself = indirect("client1:/m/key/x far:/y");
    assert_eq!(
        steps(&itself, 0, false),
        ["mount /m/key: nfs client1:/m/key/x, nfs far:/y"]
    );
}

#[test]
fn links_are_for_keys_of_indirect_maps_without_offsets() {
    assert_eq!(
        steps(&indirect("-symlink :/srv"), 0, true),
        ["link /m/key to /srv"]
    );
    assert_eq!(
        steps(&indirect("-symlink,fstype=bind :/srv"), 0, true),
        ["link /m/key to /srv"]
    );
    assert_eq!(
        steps(&indirect("-fstype=afs :/afs/x"), 0, true),
        ["link /m/key to /afs/x"]
    );
    assert_eq!(
        steps(&indirect("-symlink :/srv"), 0, false),
        ["mount /m/key: bind /srv"]
    );
    assert_eq!(
        steps(&indirect("-symlink far:/srv"), 0, true)[1],
        "mount /m/key: nfs far:/srv"
    );
    assert_eq!(
        steps(&indirect("-symlink :/srv /x :/x"), 0, true)[1],
        "mount /m/key: bind /srv?"
    );
}

#[test]
fn a_direct_key_is_its_own_directory() {
    let options = PointOptions {
        propagation: Propagation::Private,
        ..PointOptions::default()
    };
    let planning = planning("-ro / s:/a /b s:/c", TriggerKind::Direct, &options);
    let plan = planning.plan.unwrap();
    assert_eq!(plan.nodes[1].target, "/d/key/b");
    assert_eq!(plan.mount(0).unwrap().propagation, Propagation::Private);
    assert_eq!(
        plan.mount(0).unwrap().options,
        ["g", "ro"].map(BString::from)
    );
    assert_eq!(plan.matched, Matched::Wildcard);
}

#[test]
fn what_would_wait_for_itself_is_refused() {
    for (value, code) in [
        ("-fstype=bind :/d/key", "bind-of-itself"),
        ("-fstype=bind :/d//key/x/", "bind-of-itself"),
        (":/d/key/x", "bind-of-itself"),
        ("-fstype=afs :/d/key", "bind-of-itself"),
        ("-nobind :/srv", "nobind-local"),
        ("-fstype=autofs / :a /x :b", "offset-below-submount"),
        (":/a /../x :/b", "bad-offset"),
    ] {
        assert_eq!(refusal(value, TriggerKind::Direct), code, "{value}");
    }
    let part = "x".repeat(250);
    let path = |parts: usize| format!("{} :/a", format!("/{part}").repeat(parts));
    assert!(indirect(&path(16)).nodes[1].target.len() < 4_096);
    assert_eq!(refusal(&path(17), TriggerKind::Indirect), "path-too-long");
}

#[test]
fn decisions_are_told_in_words() {
    let value = "-fstype=bind,timeout=5 / :/srv/& /b -fstype=fake,x=$NONE :q /c -fstype=autofs m \
                 /d -fstype=nfs a:/x b:/y /e -fstype=rbind :/e /f -fstype=afs :/f";
    let planning = planning(value, TriggerKind::Indirect, &PointOptions::default());
    let told: Vec<&str> = planning
        .trace
        .iter()
        .map(|line| line.text.as_str())
        .collect();
    assert_eq!(
        told,
        [
            "the include line /etc/auto.n:1:1 was followed",
            "the key `key` is matched by `*` in /etc/auto.m",
            "& is the key, `key`",
            "$NONE is nothing",
            "in dialect linux options of an entry come after those of its map; command line: g",
            "/ is a bind mount of /srv/key, options g",
            "/b is `q` as fake, options g,x=",
            "/c is the map m, options g",
            "/d is nfs from 2 servers, ranked by proximity, then weight, then answer time, options g",
            "/e is a recursive bind mount of /e, options g",
            "/f is a symbolic link to /f, options g",
            "what is mounted goes after 5 idle seconds",
        ]
    );
    assert_eq!(
        planning.trace[2].origin.as_ref().unwrap().to_string(),
        "/etc/auto.m:1:36"
    );
}

#[test]
fn servers_and_directories_of_this_host_are_told_apart() {
    for (value, expected) in [
        ("a:/x", "nfs from 1 server"),
        (":/x", "a bind mount of /x"),
        ("-fstype=nfs4 :/x :/y", "a bind mount of /x or /y"),
        (
            "-fstype=nfs4 :/x a:/y",
            "a bind mount of /x or nfs4 from 1 server, ranked by",
        ),
        ("-nobind :/x a:/y", "nfs from 1 server, ranked by"),
        (
            "-selection=random a,b:/x",
            "nfs from 2 servers, in random order, options",
        ),
        (
            "-selection=first-responder a,b:/x",
            "nfs from 2 servers, the first that answers,",
        ),
    ] {
        let planning = planning(value, TriggerKind::Indirect, &PointOptions::default());
        let told = planning.trace.iter().map(|line| &line.text);
        let start = format!("/ is {expected}");
        let found = told.clone().any(|line| line.starts_with(&start));
        assert!(found, "{value}: {:?}", told.collect::<Vec<_>>());
    }
}

#[test]
fn without_root_what_is_here_already_is_a_link() {
    let facts = HostFacts {
        rootless: true,
        ..facts()
    };
    for value in [
        ":/x",
        "-fstype=bind :/x",
        "client1.example.org:/x",
        ":/x a:/x",
    ] {
        let plan = planning_with(
            value,
            TriggerKind::Indirect,
            &PointOptions::default(),
            &facts,
        );
        let steps = steps(&plan.plan.unwrap(), 0, true);
        assert_eq!(steps, ["link /m/key to /x"], "{value}");
    }
}

#[test]
fn a_server_is_named_for_queues_also_of_other_types() {
    let plan = indirect("-fstype=cifs ://win/share");
    let attempts = plan.attempts_unasked(0, &facts(), &HostAnswers::new(), 0);
    assert_eq!(attempts[0].host, Some("win".into()));
    assert!(plan.mount(0).unwrap().network);
    assert!(plan.hosts(0, &facts()).is_empty());
    let local = indirect("-fstype=ext4 :/dev/sdb");
    assert_eq!(
        local.attempts_unasked(0, &facts(), &HostAnswers::new(), 0)[0].host,
        None
    );
    let replica = &indirect("[fd00::1]:/x").mount(0).unwrap().replicas[0].clone();
    assert_eq!(replica.source().to_str().unwrap(), "[fd00::1]:/x");
}

#[test]
fn steps_and_their_undoing() {
    let plan = indirect("/ s:/1 /x s:/2");
    let mut number = |child: usize| TriggerId(child as u32);
    let defaults = TriggerDefaults::default();
    let attempts = plan.attempts_unasked(0, &facts(), &HostAnswers::new(), 0);
    let planned = plan.steps(0, true, attempts, &mut number, &defaults);
    let undone: Vec<Step> = planned
        .iter()
        .filter_map(|planned| planned.step.undo(true))
        .collect();
    assert_eq!(undone.len(), planned.len());
    assert!(matches!(&undone[1], Step::Unmount { helper: true, .. }));
    assert!(undone[1].undo(true).is_none());
    assert!(matches!(undone[3].undo(false), Some(Step::Install(_))));
    let link = Step::Symlink {
        path: "/m/a".into(),
        to: "/b".into(),
    };
    assert!(matches!(link.undo(false), Some(Step::RemoveSymlink { .. })));
}

#[test]
fn what_is_below_a_node_follows_it_directly() {
    let offsets = [
        "/b/c", "/a/b/c", "/a", "/a-b", "/c/x/y", "/a/b", "/b", "/b/c/d", "/a/c", "/a-b/a",
    ];
    for without in 0..1_u32 << offsets.len() {
        let chosen = (0..).zip(offsets).filter(|(at, _)| without >> at & 1 == 0);
        let text: String = chosen.map(|(_, it)| format!(" {it} srv:{it}")).collect();
        let plan = indirect(&format!("/ srv:/{text}"));
        for node in 0..plan.nodes.len() {
            let nodes = plan.nodes.iter().enumerate();
            let theirs = nodes.filter(|(_, child)| child.parent == Some(node));
            let theirs: Vec<usize> = theirs.map(|(number, _)| number).collect();
            assert!(plan.children(node).eq(theirs), "{text}: {node}");
        }
    }
}

/// A line of a map with a key of three letters.
fn found(text: &str) -> Found {
    Found {
        key: Span::new(0, 3),
        value: Span::new(4, text.len()),
        fragment: Fragment::whole("m", text),
        matched: Matched::Exact,
        map: "m".into(),
        via: Vec::new(),
    }
}

#[test]
fn without_a_trace_the_plan_is_the_same() {
    let text = "key -ro,sfot / srv:/x /a -rw srv:/a /b srv:/b";
    let found = found(text);
    let request = PlanRequest {
        found: &found,
        key: "key".into(),
        mount_point: "/m".into(),
        kind: TriggerKind::Indirect,
        options: &PointOptions::default(),
        global_options: &[],
        append_options: true,
        dialect: &Dialect::LINUX,
        requester: &Requester::default(),
        facts: &facts(),
    };
    let (said, silent) = (plan(&request), plan_silently(&request));
    assert!(!said.trace.is_empty() && silent.trace.is_empty());
    assert_eq!(
        (said.plan, said.diagnostics),
        (silent.plan, silent.diagnostics)
    );
}

#[test]
fn selection_may_be_said_for_a_map_and_for_all_maps() {
    let text = "key -ro near(9),far:/x";
    let own = "key -ro,selection=random near(9),far:/x";
    let chosen = |text: &str, map: &[BString], all: &[BString], dialect: &Dialect| {
        let found = found(text);
        let options = PointOptions {
            mount: map.to_vec(),
            ..PointOptions::default()
        };
        let planning = plan(&PlanRequest {
            found: &found,
            key: "key".into(),
            mount_point: "/m".into(),
            kind: TriggerKind::Indirect,
            options: &options,
            global_options: all,
            append_options: true,
            dialect,
            requester: &Requester::default(),
            facts: &facts(),
        });
        let plan = planning.plan.expect("a plan");
        let mount = plan.mount(0).expect("a mount").clone();
        assert_eq!(mount.options, ["ro"], "it is no option of mount");
        mount.selection
    };
    let word = |name: &str| [BString::from(format!("selection={name}"))];
    let (weight, first) = (word("weight-only"), word("first-responder"));
    let linux = &Dialect::LINUX;
    assert_eq!(chosen(text, &[], &[], linux), Selection::Proximity);
    assert_eq!(chosen(text, &weight, &[], linux), Selection::WeightOnly);
    assert_eq!(chosen(text, &[], &first, linux), Selection::FirstResponder);
    // The innermost counts.
    assert_eq!(chosen(text, &weight, &first, linux), Selection::WeightOnly);
    assert_eq!(chosen(own, &weight, &first, linux), Selection::Random);
    // Where an entry's options replace those further out, they take this one away, too.
    assert_eq!(
        chosen(text, &weight, &first, &Dialect::SUN),
        Selection::Proximity
    );
}
