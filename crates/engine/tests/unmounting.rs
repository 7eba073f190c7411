//! What is idle goes: by the kernel's expiry, or because somebody asks.

mod common;

use common::{Play, direct, failure, indirect, point};
use piton_engine::Command;
use piton_engine::cause::Errno;
use piton_engine::command::{Note, Response};
use piton_engine::config::Settings;
use piton_engine::event::{Event, Outcome, Request};
use piton_engine::limits::{EXPIRE_PAUSE_LEAST_MS, EXPIRE_PAUSE_MOST_MS, OPERATOR_REQUESTS};
use piton_map::options::PointOptions;
use piton_plan::step::{TriggerId, TriggerKind};

#[test]
fn the_kernel_is_answered_when_it_is_unmounted() {
    let mut play = Play::usual();
    play.mount("/home/ann");
    play.orders();
    let ticket = play.expire("/home/ann");
    play.assert_waits(ticket);
    play.settle();
    play.assert_ready(ticket);
    assert_eq!(
        play.orders(),
        ["perform unmount /home/ann, rmdir /home/ann"]
    );
    assert!(play.mounted().is_empty());
}

#[test]
fn what_is_busy_stays_and_status_says_why() {
    let mut play = Play::usual();
    play.mount("/home/ann");
    play.broken
        .insert("unmount /home/ann".into(), Errno::BUSY.0);
    let ticket = play.expire("/home/ann");
    play.settle();
    play.assert_failed(ticket, Errno::BUSY);
    let status = play.engine.status(piton_engine::time::Millis(play.now));
    assert!(status.mounts[0].busy.is_some());
    play.broken.clear();
    let ticket = play.expire("/home/ann");
    play.settle();
    play.assert_ready(ticket);
}

#[test]
fn an_expiry_of_what_is_not_mounted_is_refused() {
    let mut play = Play::usual();
    let ticket = play.expire("/home/ann");
    play.assert_failed(ticket, Errno::NOENT);
    let ticket = play.ticket();
    play.feed(Event::ExpireAsked {
        trigger: TriggerId(999),
        key: "ann".into(),
        ticket: common::Ticket(ticket),
    });
    play.assert_failed(ticket, Errno::NOENT);
}

#[test]
fn an_entry_goes_deepest_first() {
    let mut play = Play::usual();
    play.mount("/home/deep");
    play.mount("/home/deep/a");
    play.mount("/home/deep/a/in");
    play.orders();
    let ticket = play.expire("/home/deep");
    play.settle();
    play.assert_ready(ticket);
    let orders = [
        "perform unmount /home/deep/a/in",
        "perform remove /home/deep/a/in, unmount /home/deep/a",
        "perform remove /home/deep/a, unmount /home/deep, rmdir /home/deep",
    ];
    assert_eq!(play.orders(), orders);
    assert!(play.mounted().is_empty());
    assert_eq!(play.engine.sizes().triggers, 2);
}

#[test]
fn the_part_that_is_busy_keeps_its_triggers() {
    let mut play = Play::usual();
    play.mount("/home/tree");
    play.mount("/home/tree/a");
    play.broken
        .insert("unmount /home/tree".into(), Errno::BUSY.0);
    let ticket = play.expire("/home/tree");
    play.settle();
    play.assert_failed(ticket, Errno::BUSY);
    assert_eq!(play.mounted(), ["/home/tree"]);
    play.mount("/home/tree/a");
}

#[test]
fn an_offset_that_could_not_be_put_back_is_known_to_be_missing() {
    let mut play = Play::usual();
    play.mount("/home/tree");
    play.broken
        .insert("unmount /home/tree".into(), Errno::BUSY.0);
    play.broken.insert("install /home/tree/b".into(), 12);
    let ticket = play.expire("/home/tree");
    play.settle();
    play.assert_failed(ticket, Errno::BUSY);
    assert!(!play.has_trigger("/home/tree/b"));
    assert!(play.has_trigger("/home/tree/a"));
    play.broken.clear();
    play.mount("/home/tree");
    assert!(
        play.has_trigger("/home/tree/b"),
        "half an entry is not served again"
    );
}

#[test]
fn an_access_meanwhile_waits_and_is_served_after() {
    let mut play = Play::usual();
    play.mount("/home/ann");
    let expiry = play.expire("/home/ann");
    let access = play.touch("/home/ann");
    play.assert_waits(access);
    play.settle();
    play.assert_ready(expiry);
    play.assert_ready(access);
    assert_eq!(play.mounted(), ["/home/ann"]);
}

#[test]
fn an_access_below_what_is_unmounted_waits_too() {
    let mut play = Play::usual();
    play.mount("/home/tree");
    play.broken
        .insert("unmount /home/tree".into(), Errno::BUSY.0);
    let expiry = play.expire("/home/tree");
    let access = play.touch("/home/tree/a");
    play.assert_waits(access);
    play.settle();
    play.assert_failed(expiry, Errno::BUSY);
    play.assert_ready(access);
}

#[test]
fn an_expiry_while_something_is_mounted_below_is_refused() {
    let mut play = Play::usual();
    play.mount("/home/deep");
    play.mount("/home/deep/a");
    let access = play.touch("/home/deep/a/in");
    let expiry = play.expire("/home/deep");
    play.assert_failed(expiry, Errno::BUSY);
    play.settle();
    play.assert_ready(access);
}

#[test]
fn the_kernel_does_not_wait_longer_than_the_deadline() {
    let mut play = Play::usual();
    play.mount("/home/ann");
    let expiry = play.expire("/home/ann");
    let access = play.touch("/home/ann");
    play.pass(10_000);
    play.assert_failed(access, Errno::TIMEDOUT);
    play.assert_waits(expiry);
    play.pass(2_000);
    play.assert_failed(expiry, Errno::TIMEDOUT);
    play.settle();
    assert!(play.mounted().is_empty(), "and the job went on");
    assert_eq!(play.engine.sizes().deadlines, 0);
}

// -- unmounted by hand (R-260) --------------------------------------------------------------

#[test]
fn what_is_no_longer_mounted_needs_no_unmounting() {
    let mut play = Play::usual();
    play.mount("/home/ann");
    play.broken
        .insert("unmount /home/ann".into(), Errno::INVAL.0);
    play.bare.insert("/home/ann".into());
    let ticket = play.expire("/home/ann");
    play.settle();
    play.assert_ready(ticket);
    assert!(play.mounted().is_empty());
}

#[test]
fn a_failure_is_believed_if_something_is_still_there() {
    let mut play = Play::usual();
    play.mount("/home/ann");
    play.broken
        .insert("unmount /home/ann".into(), Errno::INVAL.0);
    let ticket = play.expire("/home/ann");
    play.settle();
    play.assert_failed(ticket, Errno::BUSY);
    assert_eq!(play.mounted(), ["/home/ann"]);
}

#[test]
fn a_trigger_that_is_gone_needs_no_removal() {
    let mut play = Play::usual();
    play.mount("/home/tree");
    play.broken
        .insert("remove /home/tree/b".into(), Errno::INVAL.0);
    let ticket = play.expire("/home/tree");
    play.settle();
    play.assert_ready(ticket);
    assert!(play.mounted().is_empty());
}

#[test]
fn a_submount_that_is_gone_needs_no_removal() {
    let mut play = Play::usual();
    play.mount("/home/sub");
    play.broken
        .insert("remove /home/sub".into(), Errno::INVAL.0);
    let ticket = play.expire("/home/sub");
    play.settle();
    play.assert_ready(ticket);
    assert!(play.mounted().is_empty());
    assert_eq!(play.engine.sizes().triggers, 2);
}

#[test]
fn offsets_that_were_put_back_where_nothing_is_mounted_go_too() {
    // Somebody unmounts the root just when its offsets are away (simulator, seed 2339).
    let mut play = Play::usual();
    play.mount("/home/tree");
    play.broken
        .insert("unmount /home/tree".into(), Errno::INVAL.0);
    let ticket = play.expire("/home/tree");
    play.until("inspect");
    play.step();
    play.bare.insert("/home/tree".into());
    play.settle();
    play.assert_ready(ticket);
    assert!(play.mounted().is_empty());
}

#[test]
fn offsets_that_will_not_go_keep_the_rest() {
    let mut play = Play::usual();
    play.mount("/home/tree");
    play.broken
        .insert("unmount /home/tree".into(), Errno::INVAL.0);
    let ticket = play.expire("/home/tree");
    play.until("inspect");
    play.step();
    play.broken
        .insert("remove /home/tree/a".into(), Errno::BUSY.0);
    play.settle();
    play.assert_failed(ticket, Errno::BUSY);
    assert_eq!(play.mounted(), ["/home/tree"]);
}

// -- operators ------------------------------------------------------------------------------

#[test]
fn an_operator_unmounts_what_is_mounted() {
    let mut play = Play::usual();
    play.mount("/home/ann");
    let path = "/home/ann".into();
    let id = play.request(Request::Unmount { path });
    assert!(play.responses.is_empty());
    play.settle();
    assert!(play.response_left(id).is_empty());
    assert!(play.mounted().is_empty());
}

#[test]
fn an_operator_is_told_what_is_not_there_and_what_stays() {
    let mut play = Play::usual();
    let path = "/home/ann".into();
    let id = play.request(Request::Unmount { path });
    assert_eq!(play.responses[&id], Response::NoSuchPlace);
    play.mount("/home/tree");
    let access = play.touch("/home/tree/a");
    let path = "/home/tree".into();
    let id = play.request(Request::Unmount { path });
    assert_eq!(
        play.response_left(id),
        ["/home/tree"],
        "something is being done there"
    );
    play.settle();
    play.assert_ready(access);
    play.broken
        .insert("unmount /home/tree/a".into(), Errno::BUSY.0);
    let path = "/home/tree".into();
    let id = play.request(Request::Unmount { path });
    play.settle();
    assert_eq!(play.response_left(id), ["/home/tree/a"]);
}

#[test]
fn an_operator_expires_everything_or_a_part() {
    let mut play = Play::usual();
    let nothing = play.request(Request::Expire { path: None });
    assert!(play.response_left(nothing).is_empty());
    play.mount("/home/ann");
    play.mount("/data");
    play.orders();
    let path = Some("/home".into());
    let id = play.request(Request::Expire { path });
    assert_eq!(play.orders(), ["expire now"]);
    assert!(!play.responses.contains_key(&id));
    let ticket = play.expire("/home/ann");
    play.settle_while_expiring();
    play.assert_ready(ticket);
    assert!(!play.responses.contains_key(&id));
    play.settle();
    assert!(play.response_left(id).is_empty());
    let path = Some("/".into());
    let all = play.request(Request::Expire { path });
    play.settle();
    assert_eq!(
        play.response_left(all),
        ["/data"],
        "the kernel left it alone"
    );
    let path = Some("/dat".into());
    let none = play.request(Request::Expire { path });
    assert!(play.response_left(none).is_empty(), "half a name is none");
}

#[test]
fn an_answer_of_an_earlier_round_does_not_end_an_operators_request() {
    let mut play = Play::usual();
    play.mount("/home/ann");
    let (home, _) = play.trigger_for("/home/ann");
    let wake = play.engine.next_wake().unwrap();
    play.now = wake.0;
    play.feed(Event::Tick);
    let id = play.request(Request::Expire { path: None });
    play.open.clear();
    play.feed(Event::ExpireDone { trigger: home });
    assert!(!play.responses.contains_key(&id));
    play.feed(Event::ExpireDone { trigger: home });
    assert!(play.responses.contains_key(&id));
    play.feed(Event::ExpireDone { trigger: home });
    play.feed(Event::ExpireDone {
        trigger: TriggerId(999),
    });
}

#[test]
fn an_operators_expiry_takes_empty_submounts_along() {
    let mut play = Play::usual();
    play.mount("/home/sub");
    play.lines.insert("x".into(), "-fstype=tmpfs :x".into());
    play.mount("/home/sub/x");
    let id = play.request(Request::Expire { path: None });
    let ticket = play.expire("/home/sub/x");
    play.settle_while_expiring();
    play.settle();
    play.assert_ready(ticket);
    assert!(play.mounted().is_empty());
    assert!(play.response_left(id).is_empty());
}

#[test]
fn an_operators_expiry_goes_from_the_innermost_outwards() {
    let mut play = Play::usual();
    play.mount("/home/tree");
    play.mount("/home/tree/a");
    play.orders();
    let (home, _) = play.trigger_for("/home/ann");
    let (tree, _) = play.trigger_for("/home/tree/a");
    let id = play.request(Request::Expire { path: None });
    assert_eq!(
        play.orders(),
        ["expire now"],
        "only the offset is looked at"
    );
    play.open.clear();
    play.feed(Event::ExpireDone { trigger: home });
    assert!(play.orders().is_empty(), "nobody asked that");
    play.feed(Event::ExpireDone { trigger: tree });
    assert_eq!(play.orders(), ["expire now"], "then what it stands in");
    assert!(!play.responses.contains_key(&id));
    play.open.clear();
    play.feed(Event::ExpireDone { trigger: home });
    assert_eq!(play.response_left(id), ["/home/tree", "/home/tree/a"]);
}

#[test]
fn so_many_operators_may_wait_and_no_more() {
    let mut play = Play::usual();
    play.mount("/home/ann");
    let ids: Vec<u64> = (0..OPERATOR_REQUESTS)
        .map(|_| play.request(Request::Expire { path: None }))
        .collect();
    assert!(play.responses.is_empty());
    let refused = play.request(Request::Expire { path: None });
    assert_eq!(play.response_left(refused), ["/home/ann"]);
    play.settle();
    assert!(ids.iter().all(|id| play.responses.contains_key(id)));
}

// -- rounds ---------------------------------------------------------------------------------

#[test]
fn the_kernel_is_asked_four_times_in_an_idle_time() {
    let mut play = Play::usual();
    assert_eq!(
        play.engine.next_wake(),
        None,
        "nothing is mounted, nobody is woken"
    );
    play.mount("/home/ann");
    let begun = play.now;
    assert_eq!(play.engine.next_wake().unwrap().0, begun + 15_000);
    play.orders();
    play.pass(60_000);
    assert_eq!(play.orders(), ["expire"; 4]);
}

#[test]
fn the_pause_between_two_looks_has_bounds() {
    let pause = |seconds| {
        let mut play = Play::empty();
        let options = PointOptions {
            timeout: Some(seconds),
            ..PointOptions::default()
        };
        play.configure(vec![point("/home", TriggerKind::Indirect, options)]);
        play.settle();
        play.lines.insert("ann".into(), "-fstype=tmpfs :x".into());
        play.mount("/home/ann");
        play.engine.next_wake().unwrap().0 - play.now
    };
    assert_eq!(pause(1), EXPIRE_PAUSE_LEAST_MS);
    assert_eq!(pause(8), 2_000);
    assert_eq!(pause(86_400), EXPIRE_PAUSE_MOST_MS);
    assert_eq!(pause(u32::MAX), EXPIRE_PAUSE_MOST_MS);
}

#[test]
fn where_nothing_expires_nobody_is_asked() {
    let mut play = Play::empty();
    let options = PointOptions {
        timeout: Some(0),
        ..PointOptions::default()
    };
    play.configure(vec![point("/home", TriggerKind::Indirect, options)]);
    play.settle();
    play.lines.insert("ann".into(), "-fstype=tmpfs :x".into());
    play.lines
        .insert("eve".into(), "-fstype=tmpfs,timeout=8 :x".into());
    play.mount("/home/ann");
    assert_eq!(play.engine.next_wake(), None);
    play.orders();
    play.mount("/home/eve");
    assert!(play.orders().contains(&"timeout 8 eve".into()));
    assert_eq!(play.engine.next_wake().unwrap().0, play.now + 2_000);
    let ticket = play.expire("/home/eve");
    play.settle();
    play.assert_ready(ticket);
    play.pass(2_000);
    assert_eq!(play.engine.next_wake(), None);
}

#[test]
fn a_shorter_idle_time_of_a_key_is_not_slept_through() {
    let mut play = Play::usual();
    play.mount("/home/ann");
    play.mount("/home/brief");
    assert_eq!(play.engine.next_wake().unwrap().0, play.now + 1_000);
    let status = play.engine.status(piton_engine::time::Millis(play.now));
    let timeouts: Vec<u32> = status.mounts.iter().map(|mount| mount.timeout).collect();
    assert_eq!(timeouts, [60, 4]);
    let ticket = play.expire("/home/brief");
    play.settle();
    play.assert_ready(ticket);
    play.pass(1_000);
    assert_eq!(play.engine.next_wake().unwrap().0, play.now + 15_000);
}

#[test]
fn a_submount_goes_when_nothing_in_it_was_touched_for_its_time() {
    let mut play = Play::usual();
    play.lines.insert("x".into(), "-fstype=tmpfs :x".into());
    play.mount("/home/sub");
    play.mount("/home/sub/x");
    play.pass(59_000);
    play.settle();
    assert_eq!(play.mounted().len(), 2);
    let ticket = play.expire("/home/sub/x");
    play.settle();
    play.assert_ready(ticket);
    play.pass(30_000);
    play.settle();
    assert!(play.mounted().is_empty(), "{:?}", play.mounted());
}

#[test]
fn events_for_what_is_over_are_ignored() {
    let mut play = Play::usual();
    play.mount("/home/ann");
    play.orders();
    let job = piton_engine::event::JobId(1);
    let home = play.trigger_for("/home/ann").0;
    play.feed(Event::Performed {
        job,
        outcome: Outcome::default(),
    });
    play.feed(Event::Inspected {
        job,
        mounted: false,
    });
    play.feed(Event::Resolved {
        job,
        answers: Default::default(),
    });
    let results = vec![(home, Ok(())), (TriggerId(77), Ok(()))];
    play.feed(Event::Removed { results });
    let results = vec![(home, Err(failure(5))), (TriggerId(77), Ok(()))];
    play.feed(Event::Installed { results });
    assert!(play.orders().is_empty());
    assert_eq!(play.mounted(), ["/home/ann"]);
}

#[test]
fn an_orphaned_unmount_is_awaited_too() {
    let mut play = Play::usual();
    play.mount("/home/deep");
    play.mount("/home/deep/a");
    let expiry = play.expire("/home/deep/a");
    let Some(Command::Perform { job, steps, .. }) = play.open.pop_front() else {
        panic!("an unmount was expected");
    };
    play.bare.insert("/home/deep".into());
    let access = play.touch("/home/deep");
    play.settle();
    play.assert_waits(access);
    let outcome = play.outcome(&steps);
    play.feed(Event::Performed { job, outcome });
    play.settle();
    play.assert_ready(expiry);
    play.assert_ready(access);
    let unmounted = |note: &Note| matches!(note, Note::Unmounted { .. });
    assert!(!play.notes.iter().any(unmounted));
    assert_eq!(play.mounted(), ["/home/deep"]);
    play.configure(vec![indirect("/home"), direct("/data")]);
}

#[test]
fn a_request_for_one_key_touches_no_other() {
    let mut play = Play::usual();
    for path in ["/home/ann", "/home/tree/b", "/home/sub/x"] {
        play.lines.insert("x".into(), "-fstype=tmpfs :t".into());
        play.mount(
            path.rsplit_once("/b")
                .map_or(path, |(above, _)| above)
                .trim_end_matches("/x"),
        );
        play.mount(path);
    }
    let expire = |play: &mut Play, path: &str| {
        let path = Some(path.into());
        let id = play.request(Request::Expire { path });
        play.settle();
        play.responses[&id].clone()
    };
    let gone = Response::Done { left: Vec::new() };
    assert_eq!(expire(&mut play, "/home/tree"), gone);
    assert_eq!(play.mounted(), ["/home/ann", "/home/sub", "/home/sub/x"]);
    assert_eq!(expire(&mut play, "/home/sub/x"), gone);
    assert_eq!(play.mounted(), ["/home/ann", "/home/sub"]);
    play.broken
        .insert("unmount /home/ann".into(), Errno::BUSY.0);
    let Response::Done { left } = expire(&mut play, "/home/ann") else {
        panic!("a list was expected");
    };
    assert_eq!(left[0].0, "/home/ann");
    assert!(!left[0].1.is_empty());
    assert_eq!(play.mounted(), ["/home/ann", "/home/sub"]);
}

#[test]
fn r_231_attempts_to_unmount_come_at_the_interval_asked_for() {
    for (wanted, timeout, pause) in [
        (Some(7_000), 300, 7_000),
        (Some(7_000), 4, 7_000),
        (Some(1), 300, EXPIRE_PAUSE_LEAST_MS),
        (None, 300, 75_000),
    ] {
        let mut play = Play::usual_with(Settings {
            timeout,
            unmount_pause_ms: wanted,
            ..Settings::default()
        });
        play.mount("/home/ann");
        let mut last = play.now;
        for _ in 0..3 {
            let wake = play.engine.next_wake().unwrap().0;
            assert_eq!(wake - last, pause, "{wanted:?} {timeout}");
            last = wake;
            play.pass(wake - play.now);
        }
    }
}
