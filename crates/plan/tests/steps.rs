//! Plans turned into steps: what is made, mounted and installed, and in which order.

use bstr::{BString, ByteSlice};
use piton_map::dialect::Dialect;
use piton_map::lookup::{Found, Matched};
use piton_map::options::{PointOptions, Propagation};
use piton_map::requester::Requester;
use piton_map::text::{Fragment, Span};
use piton_plan::facts::{HostAnswers, HostFacts, Interface};
use piton_plan::step::{Step, TriggerId, TriggerKind, What};
use piton_plan::{Plan, PlanRequest, Planning, TriggerDefaults, plan};

fn facts() -> HostFacts {
    HostFacts {
        hostname: "client1.example.org".into(),
        interfaces: vec![Interface::new("10.77.0.1".parse().unwrap(), 24)],
        ..HostFacts::default()
    }
}

fn planning(value: &str, kind: TriggerKind, options: &PointOptions) -> Planning {
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
        facts: &facts(),
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
            "/d is nfs from 2 server(s), ranked by proximity, then weight, then answer time, options g",
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
