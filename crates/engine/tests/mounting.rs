//! From a touch to its answer.

mod common;

use common::{Play, Ticket, direct, done, indirect, point};
use piton_engine::cause::{Cause, Errno};
use piton_engine::command::Note;
use piton_engine::event::{Event, Outcome};
use piton_engine::limits::{
    CLEAR_PAUSE_MS, FAILURE_MEMORY_MS, JOBS, LAST_ERRORS, WAITERS_PER_PLACE,
};
use piton_engine::{Command, Engine};
use piton_map::lookup::Miss;
use piton_map::options::PointOptions;
use piton_map::requester::Requester;
use piton_plan::step::{TriggerId, TriggerKind};

#[test]
fn the_first_touch_mounts_and_is_answered_when_that_is_done() {
    let mut play = Play::usual();
    let ticket = play.touch("/home/ann");
    play.until("perform");
    play.assert_waits(ticket);
    play.settle();
    play.assert_ready(ticket);
    let orders = ["fetch ann", "perform mkdir /home/ann, mount /home/ann"];
    assert_eq!(play.orders(), orders);
    assert_eq!(play.mounted(), ["/home/ann"]);
    let mounted = |note: &Note| matches!(note, Note::Mounted { path, .. } if path == "/home/ann");
    assert!(play.notes.iter().any(mounted));
}

#[test]
fn a_direct_key_is_its_own_path_whatever_name_the_kernel_gives() {
    let mut play = Play::usual();
    let (trigger, _) = play.trigger_for("/data");
    let ticket = play.touch_at(trigger, "meaningless");
    play.settle();
    play.assert_ready(ticket);
    assert_eq!(play.orders(), ["fetch /data", "perform mount /data"]);
    assert_eq!(play.mounted(), ["/data"]);
}

#[test]
fn everybody_who_comes_meanwhile_gets_the_same_answer() {
    let mut play = Play::usual();
    let first = play.touch("/home/ann");
    let second = play.touch("/home/ann");
    play.until("perform");
    let third = play.touch("/home/ann");
    play.settle();
    for ticket in [first, second, third] {
        play.assert_ready(ticket);
    }
    assert_eq!(play.orders().len(), 2);
}

#[test]
fn an_absent_key_is_enoent_and_a_changed_file_counts_at_once() {
    let mut play = Play::usual();
    let ticket = play.touch("/home/new");
    play.settle();
    play.assert_failed(ticket, Errno::NOENT);
    play.lines.insert("new".into(), "-fstype=tmpfs :tmp".into());
    play.mount("/home/new");
}

#[test]
fn a_costly_miss_is_remembered_until_its_time_is_over() {
    let mut play = Play::usual();
    play.costly = true;
    let first = play.touch("/home/new");
    play.settle();
    play.log.clear();
    let second = play.touch("/home/new");
    play.assert_failed(first, Errno::NOENT);
    play.assert_failed(second, Errno::NOENT);
    assert!(play.orders().is_empty(), "nobody is asked again");
    play.pass(59_999);
    play.touch("/home/new");
    assert!(play.orders().is_empty());
    play.pass(1);
    play.touch("/home/new");
    assert_eq!(play.orders(), ["fetch new"]);
}

#[test]
fn what_is_remembered_never_hides_a_changed_map() {
    let mut play = Play::usual();
    play.costly = true;
    play.touch("/home/new");
    play.settle();
    assert_eq!(play.engine.sizes().negative, 1);
    play.configure(vec![indirect("/home"), direct("/data")]);
    assert_eq!(play.engine.sizes().negative, 0);
    play.lines.insert("new".into(), "-fstype=tmpfs :tmp".into());
    play.mount("/home/new");
}

#[test]
fn a_map_has_a_negative_timeout_of_its_own() {
    let mut play = Play::empty();
    let options = PointOptions {
        negative_timeout: Some(5),
        ..PointOptions::default()
    };
    play.configure(vec![point("/home", TriggerKind::Indirect, options)]);
    play.costly = true;
    play.settle();
    play.touch("/home/new");
    play.settle();
    play.log.clear();
    play.pass(4_999);
    play.touch("/home/new");
    assert!(play.orders().is_empty());
    play.pass(1);
    play.touch("/home/new");
    assert_eq!(play.orders(), ["fetch new"]);
}

#[test]
fn a_failed_mount_is_remembered_for_a_moment() {
    let mut play = Play::usual();
    play.broken.insert("mount /home/ann".into(), Errno::ACCES.0);
    let first = play.touch("/home/ann");
    play.settle();
    let second = play.touch("/home/ann");
    play.assert_failed(first, Errno::ACCES);
    play.assert_failed(second, Errno::ACCES);
    let status = play.engine.status(piton_engine::time::Millis(play.now));
    assert_eq!(status.negative.len(), 1);
    assert_eq!(status.last_errors.len(), 1);
    play.broken.clear();
    play.pass(FAILURE_MEMORY_MS);
    play.mount("/home/ann");
}

#[test]
fn other_costly_failures_are_remembered_for_a_moment() {
    let mut play = Play::usual();
    let ticket = play.touch("/home/ann");
    let Some(Command::Fetch { job, .. }) = play.open.pop_front() else {
        panic!("a look-up was expected");
    };
    play.feed(Event::Fetched {
        job,
        names: None,
        costly: true,
        result: Err(Miss::TimedOut("slow".into())),
    });
    play.assert_failed(ticket, Errno::TIMEDOUT);
    let again = play.touch("/home/ann");
    play.assert_failed(again, Errno::TIMEDOUT);
    play.pass(FAILURE_MEMORY_MS);
    play.mount("/home/ann");
}

#[test]
fn names_that_cannot_be_keys_and_unknown_triggers_are_answered_at_once() {
    let mut play = Play::usual();
    let (home, _) = play.trigger_for("/home/ann");
    let slash = play.touch_at(home, "a/b");
    let empty = play.touch_at(home, "");
    let stranger = play.touch_at(TriggerId(999), "ann");
    for ticket in [slash, empty, stranger] {
        play.assert_failed(ticket, Errno::NOENT);
    }
    assert!(play.orders().is_empty());
}

#[test]
fn a_server_that_nobody_knows_is_down() {
    let mut play = Play::usual();
    play.unknown.insert("srv".into());
    let ticket = play.touch("/home/bob");
    play.settle();
    assert_eq!(play.cause(ticket), Some(Cause::UnknownHost("srv".into())));
    play.unknown.clear();
    play.pass(FAILURE_MEMORY_MS);
    play.mount("/home/bob");
    assert!(play.orders().contains(&"resolve srv".into()));
}

#[test]
fn an_entry_that_cannot_be_used_is_einval_and_its_diagnostic_is_told() {
    let mut play = Play::usual();
    let ticket = play.touch("/home/bad");
    play.settle();
    play.assert_failed(ticket, Errno::INVAL);
    let diagnosed = |note: &Note| matches!(note, Note::Diagnosed(_));
    assert!(play.notes.iter().any(diagnosed));
}

#[test]
fn nobody_waits_longer_than_the_deadline() {
    let mut play = Play::usual();
    let first = play.touch("/home/ann");
    play.pass(4_000);
    let second = play.touch("/home/ann");
    play.pass(5_999);
    play.assert_waits(first);
    play.pass(1);
    play.assert_failed(first, Errno::TIMEDOUT);
    play.assert_waits(second);
    play.pass(4_000);
    play.assert_failed(second, Errno::TIMEDOUT);
    assert_eq!(play.engine.sizes().deadlines, 0);
}

#[test]
fn what_is_mounted_late_is_kept_and_serves_the_next() {
    let mut play = Play::usual();
    let late = play.touch("/home/ann");
    play.until("perform");
    play.pass(10_000);
    play.assert_failed(late, Errno::TIMEDOUT);
    play.settle();
    assert_eq!(play.mounted(), ["/home/ann"]);
    play.log.clear();
    play.mount("/home/ann");
    assert_eq!(play.orders(), ["inspect /home/ann"]);
}

#[test]
fn nothing_is_mounted_for_nobody() {
    for stage in ["fetch", "resolve"] {
        let mut play = Play::usual();
        play.touch("/home/bob");
        play.until(stage);
        play.pass(10_000);
        play.log.clear();
        play.settle();
        assert!(play.orders().is_empty(), "{stage}");
        assert_eq!(play.engine.sizes().jobs, 0);
    }
}

#[test]
fn commands_are_given_the_time_that_is_left() {
    let mut play = Play::usual();
    play.touch("/home/bob");
    play.until("resolve");
    play.pass(7_000);
    play.until("perform");
    let Some(Command::Perform { deadline_ms, .. }) = play.open.front() else {
        panic!("a mount was expected");
    };
    assert_eq!(*deadline_ms, 3_000);
}

#[test]
fn an_answer_that_comes_twice_changes_nothing() {
    let mut play = Play::usual();
    let ticket = play.touch("/home/bob");
    play.until("resolve");
    let Some(Command::Resolve { job, hosts, .. }) = play.open.pop_front() else {
        panic!("a resolution was expected");
    };
    for _ in 0..2 {
        let answers = play.addresses(hosts.clone());
        play.feed(Event::Resolved { job, answers });
    }
    play.feed(Event::Inspected { job, mounted: true });
    play.assert_waits(ticket);
    play.settle();
    play.assert_ready(ticket);
    for outcome in [Outcome::default(), Outcome::default()] {
        play.feed(Event::Performed { job, outcome });
    }
    assert_eq!(play.mounted(), ["/home/bob"]);
}

#[test]
fn a_place_takes_so_many_waiters_and_no_more() {
    let mut play = Play::usual();
    for _ in 0..WAITERS_PER_PLACE {
        play.touch("/home/ann");
    }
    assert!(play.answers.is_empty());
    let one_too_many = play.touch("/home/ann");
    play.assert_failed(one_too_many, Errno::AGAIN);
    play.settle();
    assert_eq!(play.answers.len(), WAITERS_PER_PLACE + 1);
}

#[test]
fn so_many_jobs_and_no_more_but_joining_one_is_allowed() {
    let mut engine: Engine<Ticket> = Engine::new(Default::default());
    let mut out = Vec::new();
    let now = piton_engine::time::Millis(0);
    let points = vec![indirect("/home")];
    let existing = Vec::new();
    let configuration = piton_engine::config::Configuration { points, existing };
    engine.handle(now, Event::Configure(configuration), &mut out);
    let trigger = engine.triggers().next().unwrap().id;
    let mut touch = |key: usize| {
        let mut out = Vec::new();
        let event = Event::Access {
            trigger,
            key: format!("key{key}").into(),
            requester: Requester::default(),
            waited_ms: 0,
            ticket: Ticket(0),
        };
        engine.handle(now, event, &mut out);
        out.iter()
            .any(|command| matches!(command, Command::Reply { .. }))
    };
    for key in 0..JOBS {
        assert!(!touch(key));
    }
    assert!(touch(JOBS), "the first one past the limit is refused");
    assert!(!touch(0), "an access to what is being done anyway is not");
}

#[test]
fn the_requesters_names_come_with_the_line() {
    let mut play = Play::usual();
    let ticket = play.touch("/home/ann");
    let Some(Command::Fetch { job, .. }) = play.open.pop_front() else {
        panic!("a look-up was expected");
    };
    let names = piton_map::requester::RequesterNames {
        user: "ann".into(),
        ..Default::default()
    };
    play.feed(Event::Fetched {
        job,
        names: Some(names.into()),
        costly: false,
        result: Ok(common::found(&"ann".into(), "-fstype=tmpfs :$USER")),
    });
    let Some(Command::Perform { steps, .. }) = play.open.front() else {
        panic!("a mount was expected");
    };
    assert!(
        format!("{steps:?}").contains(r#"source: "ann""#),
        "{steps:?}"
    );
    play.settle();
    play.assert_ready(ticket);
}

// -- hierarchical entries -------------------------------------------------------------------

#[test]
fn offsets_are_triggers_and_mounted_when_touched() {
    let mut play = Play::usual();
    play.mount("/home/tree");
    let steps = "perform mkdir /home/tree, mount /home/tree, mkdir /home/tree/a, \
                 install /home/tree/a, mkdir /home/tree/b, install /home/tree/b";
    assert_eq!(play.orders(), ["fetch tree", steps]);
    play.mount("/home/tree/b");
    assert_eq!(
        play.orders(),
        ["perform mount /home/tree/b"],
        "the map is not asked again"
    );
    assert_eq!(play.mounted(), ["/home/tree", "/home/tree/b"]);
}

#[test]
fn an_offset_may_fire_before_its_entry_is_reported_done() {
    let mut play = Play::usual();
    let root = play.touch("/home/tree");
    play.until("perform");
    let offset = play.touch("/home/tree/a");
    assert_eq!(play.open.len(), 2, "both are being mounted");
    play.settle();
    play.assert_ready(root);
    play.assert_ready(offset);
}

#[test]
fn a_strict_entry_is_all_there_or_not_at_all() {
    let mut play = Play::usual();
    play.broken.insert("install /home/tree/b".into(), 12);
    let ticket = play.touch("/home/tree");
    play.settle();
    play.assert_failed(ticket, Errno(12));
    assert!(play.mounted().is_empty());
    assert!(!play.has_trigger("/home/tree/a"));
}

#[test]
fn an_offset_of_another_entry_may_be_missing_and_is_told() {
    let mut play = Play::usual();
    play.broken.insert("install /home/loose/a".into(), 12);
    play.mount("/home/loose");
    assert!(!play.has_trigger("/home/loose/a"));
    let missing = |note: &Note| matches!(note, Note::OffsetMissing { .. });
    assert!(play.notes.iter().any(missing));
}

#[test]
fn an_entry_of_which_nothing_works_is_never_ready() {
    let mut play = Play::usual();
    for step in ["install /home/bare/a/in", "install /home/bare/b"] {
        play.broken.insert(step.into(), Errno::ACCES.0);
    }
    let ticket = play.touch("/home/bare");
    play.settle();
    play.assert_failed(ticket, Errno::ACCES);
    assert!(play.mounted().is_empty());
    let tidied = "perform rmdir /home/bare/b, rmdir /home/bare/a/in, rmdir /home/bare/a, \
                  rmdir /home/bare";
    assert!(play.orders().contains(&tidied.into()));
}

#[test]
fn an_outcome_without_a_word_is_an_error_too() {
    let mut play = Play::usual();
    let ticket = play.touch("/home/ann");
    play.until("perform");
    let Some(Command::Perform { job, .. }) = play.open.pop_front() else {
        panic!("a mount was expected");
    };
    let outcome = Outcome {
        done: vec![done(0), done(77)],
        ..Outcome::default()
    };
    play.feed(Event::Performed { job, outcome });
    play.assert_failed(ticket, Errno::IO);
}

#[test]
fn what_could_not_be_taken_back_goes_before_the_entry_is_mounted_anew() {
    let mut play = Play::usual();
    play.broken.insert("install /home/tree/b".into(), 12);
    play.broken
        .insert("unmount /home/tree".into(), Errno::BUSY.0);
    let ticket = play.touch("/home/tree");
    play.settle();
    play.assert_failed(ticket, Errno(12));
    assert_eq!(play.mounted(), ["/home/tree"], "it has an owner");
    // As long as it cannot go, it is not served.
    play.pass(FAILURE_MEMORY_MS);
    let again = play.touch("/home/tree");
    play.settle();
    play.assert_failed(again, Errno(12));
    play.broken.clear();
    play.pass(FAILURE_MEMORY_MS);
    play.log.clear();
    play.mount("/home/tree");
    let orders = play.orders();
    assert!(
        orders[0].starts_with("perform unmount /home/tree"),
        "{orders:?}"
    );
    assert_eq!(orders[1], "fetch tree");
    assert!(play.has_trigger("/home/tree/b"));
}

#[test]
fn what_could_not_be_taken_back_goes_by_itself_as_well() {
    let mut play = Play::usual();
    play.broken.insert("install /home/tree/b".into(), 12);
    play.broken
        .insert("unmount /home/tree".into(), Errno::BUSY.0);
    play.touch("/home/tree");
    play.settle();
    play.broken.clear();
    play.pass(20_000);
    play.settle();
    assert!(play.mounted().is_empty());
}

// -- submounts ------------------------------------------------------------------------------

#[test]
fn an_entry_may_be_a_map() {
    let mut play = Play::usual();
    play.mount("/home/sub");
    play.lines.insert("x".into(), "-fstype=tmpfs :x".into());
    play.orders();
    play.mount("/home/sub/x");
    let orders = ["fetch x", "perform mkdir /home/sub/x, mount /home/sub/x"];
    assert_eq!(play.orders(), orders);
    assert_eq!(play.mounted(), ["/home/sub", "/home/sub/x"]);
    let status = play.engine.status(piton_engine::time::Millis(play.now));
    assert!(status.mounts.iter().all(|mount| mount.point == "/home"));
    assert_eq!(status.mounts[0].how, "submount");
}

#[test]
fn a_link_is_in_place_of_a_bind() {
    let mut play = Play::empty();
    let options = PointOptions {
        symlink: true,
        ..PointOptions::default()
    };
    play.configure(vec![point("/srv", TriggerKind::Indirect, options)]);
    play.settle();
    play.lines.insert("x".into(), "-fstype=bind :/there".into());
    play.log.clear();
    play.mount("/srv/x");
    assert_eq!(play.orders(), ["fetch x", "perform link /srv/x to /there"]);
    let status = play.engine.status(piton_engine::time::Millis(play.now));
    assert_eq!(
        (status.mounts[0].how, &status.mounts[0].source[..]),
        ("symlink", &b"/there"[..])
    );
    let ticket = play.expire("/srv/x");
    play.settle();
    play.assert_ready(ticket);
    assert!(play.orders().contains(&"perform unlink /srv/x".into()));
}

// -- unmounted by hand (R-260) --------------------------------------------------------------

#[test]
fn a_touch_where_something_should_be_mounted_looks_first() {
    let mut play = Play::usual();
    play.mount("/home/ann");
    play.orders();
    play.mount("/home/ann");
    assert_eq!(play.orders(), ["inspect /home/ann"]);
    let status = play.engine.status(piton_engine::time::Millis(play.now));
    assert_eq!(status.mounts[0].uses, 2);
    play.bare.insert("/home/ann".into());
    play.mount("/home/ann");
    let orders = [
        "inspect /home/ann",
        "fetch ann",
        "perform mkdir /home/ann, mount /home/ann",
    ];
    assert_eq!(play.orders(), orders);
}

#[test]
fn whoever_waits_in_what_was_unmounted_by_hand_is_told() {
    let mut play = Play::usual();
    play.mount("/home/tree");
    let below = play.touch("/home/tree/a");
    play.bare.insert("/home/tree".into());
    let root = play.touch("/home/tree");
    let inspect = play.open.remove(1).unwrap();
    play.answer(inspect);
    play.assert_failed(below, Errno::NOENT);
    play.assert_waits(root);
    // The late mount is taken back, and only then all is mounted anew.
    play.log.clear();
    play.settle();
    play.assert_ready(root);
    let orders = play.orders();
    assert_eq!(orders[0], "perform unmount /home/tree/a");
    assert_eq!(orders[1], "fetch tree");
    assert_eq!(play.mounted(), ["/home/tree"]);
}

/// A mount below a root that was unmounted by hand meanwhile, and will not go.
fn stubborn_orphan() -> (Play, u32) {
    let mut play = Play::usual();
    play.mount("/home/tree");
    play.touch("/home/tree/a");
    play.bare.insert("/home/tree".into());
    play.broken
        .insert("unmount /home/tree/a".into(), Errno::BUSY.0);
    let root = play.touch("/home/tree");
    let inspect = play.open.remove(1).unwrap();
    play.answer(inspect);
    play.settle();
    (play, root)
}

#[test]
fn what_comes_late_for_nobody_and_will_not_go_is_tried_again() {
    let (mut play, root) = stubborn_orphan();
    play.assert_failed(root, Errno::BUSY);
    let stays = |note: &Note| matches!(note, Note::Stays { path, .. } if path == "/home/tree/a");
    assert!(play.notes.iter().any(stays));
    play.log.clear();
    play.pass(CLEAR_PAUSE_MS);
    play.settle();
    play.broken.clear();
    let waits = play.touch("/home/tree");
    play.assert_waits(waits);
    play.pass(CLEAR_PAUSE_MS);
    play.settle();
    play.assert_ready(waits);
    let orders = play.orders();
    assert_eq!(
        orders[..2],
        [
            "perform unmount /home/tree/a",
            "perform unmount /home/tree/a"
        ]
    );
    assert_eq!(play.engine.sizes().jobs, 0);
}

#[test]
fn what_comes_late_for_nobody_and_never_goes_is_named_at_the_end() {
    let (mut play, _) = stubborn_orphan();
    play.stop();
    play.pass(CLEAR_PAUSE_MS);
    play.settle();
    assert_eq!(play.left(), ["/home/tree/a"]);
}

#[test]
fn clearing_that_took_too_long_is_begun_again() {
    let (mut play, _) = stubborn_orphan();
    play.pass(CLEAR_PAUSE_MS);
    let Some(Command::Perform { job, .. }) = play.open.pop_front() else {
        panic!("another try was expected");
    };
    let outcome = Outcome {
        failed: Some(common::failure(Errno::TIMEDOUT.0)),
        ..Outcome::default()
    };
    play.feed(Event::Performed { job, outcome });
    play.broken.clear();
    play.pass(CLEAR_PAUSE_MS);
    play.settle();
    assert_eq!(play.engine.sizes().jobs, 0);
}

#[test]
fn an_orphan_that_mounted_nothing_is_simply_over() {
    let mut play = Play::usual();
    play.mount("/home/deep");
    let below = play.touch("/home/deep/a");
    play.bare.insert("/home/deep".into());
    play.broken.insert("mount /home/deep/a".into(), 5);
    play.touch("/home/deep");
    let inspect = play.open.remove(1).unwrap();
    play.answer(inspect);
    play.assert_failed(below, Errno::NOENT);
    play.settle();
    assert_eq!(play.mounted(), ["/home/deep"]);
    assert_eq!(play.engine.sizes().jobs, 0);
}

#[test]
fn so_many_last_errors_are_kept_and_the_oldest_goes() {
    let mut play = Play::usual();
    for number in 0..=LAST_ERRORS {
        play.lines
            .insert(format!("bad{number}").into(), "nonsense".into());
        play.touch(&format!("/home/bad{number}"));
        play.settle();
    }
    let status = play.engine.status(piton_engine::time::Millis(play.now));
    assert_eq!(status.last_errors.len(), LAST_ERRORS);
    assert_eq!(status.last_errors[0].path, "/home/bad1");
}

#[test]
fn status_says_how_far_each_job_is() {
    let stage = |play: &Play| {
        let status = play.engine.status(piton_engine::time::Millis(play.now + 5));
        let job = &status.jobs[0];
        (job.stage, job.waiters, job.age_ms)
    };
    let mut play = Play::usual();
    play.touch("/home/bob");
    assert_eq!(stage(&play), ("looking up", 1, 5));
    play.until("resolve");
    assert_eq!(stage(&play).0, "resolving");
    play.until("perform");
    assert_eq!(stage(&play).0, "mounting");
    play.settle();
    play.touch("/home/bob");
    assert_eq!(stage(&play).0, "inspecting");
    play.settle();
    play.expire("/home/bob");
    assert_eq!(stage(&play), ("unmounting", 0, 5));
}

#[test]
fn the_deadline_counts_from_the_access_also_after_a_death() {
    let mut play = Play::usual();
    let deadline = play.engine.settings().deadline_ms;
    let mut touch = |key: &str, waited_ms| {
        let (trigger, key) = play.trigger_for(key);
        let ticket = play.ticket();
        play.feed(Event::Access {
            trigger,
            key: key.into(),
            requester: Requester::default(),
            waited_ms,
            ticket: Ticket(ticket),
        });
        ticket
    };
    let waited = touch("/home/ann", deadline - 10);
    let too_long = touch("/home/bob", u64::MAX);
    let fresh = touch("/home/eve", 0);
    play.pass(9);
    play.assert_waits(waited);
    play.assert_failed(too_long, Errno::TIMEDOUT);
    play.pass(1);
    play.assert_failed(waited, Errno::TIMEDOUT);
    play.assert_waits(fresh);
}

#[test]
fn says_where_a_job_works() {
    let mut play = Play::usual();
    play.lines
        .insert("tree".into(), "-fstype=tmpfs / :root /a :a".into());
    play.touch("/home/tree");
    play.until("perform");
    let (trigger, key) = play.trigger_for("/home/tree");
    let Some(&Command::Perform { job, .. }) = play.open.front() else {
        panic!("{:?}", play.open)
    };
    assert_eq!(
        play.engine.work_at(job),
        Some((trigger, key.as_str().into()))
    );
    assert!(!play.engine.is_mounted(trigger, &key.as_str().into()));
    play.settle();
    assert_eq!(play.engine.work_at(job), None);
    assert!(play.engine.is_mounted(trigger, &key.as_str().into()));
}
