//! The end.

mod common;

use common::{Play, direct, existing, existing_mount, indirect};
use piton_engine::cause::Errno;
use piton_engine::event::{Event, Request};
use piton_engine::limits::{OPERATOR_REQUESTS, PASSING_MS, ROUND_PATIENCE_MS, STOP_PATIENCE_MS};
use piton_plan::step::{TriggerId, TriggerKind};

/// What the longest deadline and the patience come to.
const PATIENCE_MS: u64 = 12_000 + STOP_PATIENCE_MS;

#[test]
fn what_is_idle_goes_and_the_operator_is_told() {
    let mut play = Play::usual();
    play.mount("/home/deep");
    play.mount("/home/deep/a");
    play.mount("/data");
    let id = play.stop();
    assert!(!play.engine.finished());
    play.settle();
    assert!(play.engine.finished());
    assert!(play.left().is_empty());
    assert!(play.response_left(id).is_empty());
    assert_eq!(play.engine.sizes().triggers, 0);
    assert_eq!(play.engine.next_wake(), None);
}

#[test]
fn a_stop_of_nothing_is_over_at_once() {
    let mut play = Play::empty();
    let id = play.stop();
    assert!(play.left().is_empty());
    assert!(play.response_left(id).is_empty());
}

#[test]
fn what_is_busy_is_named_with_its_mount_point() {
    let mut play = Play::usual();
    play.mount("/home/tree");
    play.mount("/home/tree/a");
    play.broken
        .insert("unmount /home/tree/a".into(), Errno::BUSY.0);
    play.stop();
    play.settle();
    assert_eq!(play.left(), ["/home", "/home/tree", "/home/tree/a"]);
    assert!(play.orders().contains(&"remove /data".into()));
}

#[test]
fn a_mount_point_that_will_not_go_is_named() {
    let mut play = Play::usual();
    play.broken.insert("remove /data".into(), Errno::BUSY.0);
    play.stop();
    play.settle();
    play.orders();
    play.pass(PASSING_MS);
    play.settle();
    assert_eq!(play.left(), ["/data"]);
    assert_eq!(play.orders(), ["remove /data", "finished"]);
}

#[test]
fn nobody_is_served_any_more_and_nobody_is_left_waiting() {
    let mut play = Play::usual();
    play.mount("/data");
    let mounting = play.touch("/home/tree");
    play.until("perform");
    let asking = play.touch("/home/ann");
    play.stop();
    play.assert_failed(asking, Errno::SHUTDOWN);
    let late = play.touch("/home/bob");
    play.assert_failed(late, Errno::SHUTDOWN);
    play.settle();
    play.assert_ready(mounting);
    assert!(
        play.left().is_empty(),
        "it was unmounted afterwards: {:?}",
        play.left()
    );
    let after = play.ticket();
    play.feed(Event::Access {
        trigger: piton_plan::step::TriggerId(1),
        key: "ann".into(),
        requester: Default::default(),
        waited_ms: 0,
        ticket: common::Ticket(after),
    });
    play.assert_failed(after, Errno::SHUTDOWN);
}

#[test]
fn after_the_end_questions_are_still_answered() {
    let mut play = Play::usual();
    play.stop();
    play.settle();
    let id = play.stop();
    assert!(play.response_left(id).is_empty());
    let id = play.request(Request::Expire { path: None });
    assert!(play.response_left(id).is_empty());
    play.orders();
    play.configure(vec![indirect("/home")]);
    play.feed(Event::Tick);
    play.feed(Event::Removed {
        results: Vec::new(),
    });
    assert!(play.orders().is_empty());
}

#[test]
fn an_expiry_under_way_gives_way_to_the_stop() {
    let mut play = Play::usual();
    play.mount("/home/tree");
    play.mount("/home/tree/a");
    let expiry = play.expire("/home/tree/a");
    play.stop();
    play.settle();
    play.assert_ready(expiry);
    assert!(
        play.left().is_empty(),
        "the rest was tried as well: {:?}",
        play.left()
    );
}

#[test]
fn an_access_that_waits_for_an_unmount_is_refused_at_the_end_of_it() {
    let mut play = Play::usual();
    play.mount("/home/ann");
    let expiry = play.expire("/home/ann");
    let access = play.touch("/home/ann");
    play.stop();
    play.settle();
    play.assert_ready(expiry);
    play.assert_failed(access, Errno::SHUTDOWN);
}

#[test]
fn operators_who_wait_are_answered_before_the_end() {
    let mut play = Play::usual();
    play.mount("/home/ann");
    let expire = play.request(Request::Expire { path: None });
    play.open.clear();
    let first = play.stop();
    let second = play.stop();
    play.settle();
    assert!(play.engine.finished());
    for id in [expire, first, second] {
        assert!(play.responses.contains_key(&id));
    }
}

#[test]
fn so_many_operators_may_wait_for_the_end_and_no_more() {
    let mut play = Play::usual();
    play.mount("/data");
    for _ in 0..OPERATOR_REQUESTS {
        play.stop();
    }
    assert!(play.responses.is_empty());
    let one_more = play.stop();
    assert!(play.responses.contains_key(&one_more));
    play.settle();
    assert_eq!(play.responses.len(), OPERATOR_REQUESTS + 1);
}

#[test]
fn a_configuration_that_comes_too_late_is_ignored() {
    let mut play = Play::usual();
    play.mount("/data");
    play.stop();
    play.orders();
    play.configure(vec![indirect("/new")]);
    assert!(play.orders().is_empty());
}

#[test]
fn what_should_have_come_in_place_of_another_does_not() {
    let mut play = Play::usual();
    play.configure(vec![direct("/home"), direct("/data")]);
    play.stop();
    play.settle();
    assert!(play.left().is_empty());
    assert!(
        !play
            .orders()
            .iter()
            .any(|order| order.starts_with("install"))
    );
}

#[test]
fn what_is_being_put_in_place_is_awaited() {
    let mut play = Play::empty();
    play.configure(vec![indirect("/home")]);
    play.stop();
    assert!(!play.engine.finished());
    play.settle();
    assert_eq!(play.orders(), ["install /home", "remove /home", "finished"]);
}

#[test]
fn what_is_being_taken_over_is_awaited_and_then_goes() {
    let mut play = Play::empty();
    let ann = existing_mount("ann", "/home/ann", Vec::new());
    let home = existing(TriggerKind::Indirect, "/home", vec![ann]);
    play.adopt(vec![indirect("/home")], vec![home]);
    play.stop();
    play.settle();
    assert!(play.left().is_empty());
    let orders = [
        "adopt /home",
        "perform unmount /home/ann, rmdir /home/ann",
        "remove /home",
        "finished",
    ];
    assert_eq!(play.orders(), orders);
}

// -- while the kernel looks for idle mounts -------------------------------------------------

/// Has the kernel look for what is idle, with `path` mounted; in which trigger it does.
fn looking(play: &mut Play, path: &str) -> TriggerId {
    play.mount(path);
    let (trigger, _) = play.trigger_for(path);
    play.now = play.engine.next_wake().unwrap().0;
    play.feed(Event::Tick);
    assert!(play.orders().contains(&"expire".into()));
    // It is answered by hand.
    play.open.clear();
    trigger
}

#[test]
fn what_is_busy_while_the_kernel_looks_there_is_tried_again_when_it_has() {
    let mut play = Play::usual();
    let home = looking(&mut play, "/home/tree");
    play.broken
        .insert("unmount /home/tree".into(), Errno::BUSY.0);
    let id = play.stop();
    play.settle();
    assert!(!play.engine.finished());
    play.broken.clear();
    play.feed(Event::ExpireDone { trigger: home });
    play.pass(PASSING_MS);
    play.settle();
    assert!(play.left().is_empty());
    assert!(play.response_left(id).is_empty());
}

#[test]
fn the_kernel_may_have_looked_before_the_failure_is_known() {
    let mut play = Play::usual();
    let home = looking(&mut play, "/home/tree");
    play.broken
        .insert("unmount /home/tree".into(), Errno::BUSY.0);
    play.stop();
    play.feed(Event::ExpireDone { trigger: home });
    play.until("perform");
    play.step();
    play.broken.clear();
    play.settle();
    play.pass(PASSING_MS);
    play.settle();
    assert!(play.left().is_empty());
}

#[test]
fn a_mount_point_that_somebody_walked_by_is_tried_again_when_he_is_gone() {
    let mut play = Play::usual();
    play.mount("/home/ann");
    play.broken.insert("remove /home".into(), Errno::BUSY.0);
    play.stop();
    play.settle();
    assert!(!play.engine.finished());
    let time = piton_engine::time::Millis(play.now + PASSING_MS);
    assert_eq!(play.engine.next_wake(), Some(time));
    play.broken.clear();
    play.pass(PASSING_MS);
    play.settle();
    assert!(play.left().is_empty());
}

#[test]
fn what_was_to_go_when_the_end_came_is_tried_again_too() {
    let mut play = Play::usual();
    play.broken.insert("remove /home".into(), Errno::BUSY.0);
    play.configure(Vec::new());
    play.stop();
    play.settle();
    play.broken.clear();
    play.pass(PASSING_MS);
    play.settle();
    assert!(play.left().is_empty());
}

#[test]
fn what_is_busy_for_somebody_else_is_tried_twice_at_most() {
    let mut play = Play::usual();
    let home = looking(&mut play, "/home/ann");
    play.broken
        .insert("unmount /home/ann".into(), Errno::BUSY.0);
    play.stop();
    play.settle();
    play.orders();
    play.feed(Event::ExpireDone { trigger: home });
    play.pass(PASSING_MS);
    play.settle();
    assert_eq!(play.left(), ["/home", "/home/ann"]);
    let orders = ["perform unmount /home/ann, rmdir /home/ann", "finished"];
    assert_eq!(play.orders(), orders);
}

#[test]
fn where_the_kernel_does_not_look_a_stop_does_not_wait_for_it() {
    let mut play = Play::usual();
    looking(&mut play, "/home/ann");
    play.mount("/data");
    play.broken.insert("unmount /data".into(), Errno::BUSY.0);
    play.stop();
    play.settle();
    assert_eq!(play.left(), ["/data"]);
}

#[test]
fn a_look_that_does_not_end_is_not_waited_for_any_longer() {
    let mut play = Play::usual();
    looking(&mut play, "/home/ann");
    play.broken
        .insert("unmount /home/ann".into(), Errno::BUSY.0);
    play.stop();
    play.settle();
    let end = piton_engine::time::Millis(play.now + ROUND_PATIENCE_MS);
    assert_eq!(play.engine.next_wake(), Some(end));
    play.pass(ROUND_PATIENCE_MS - 1);
    assert!(!play.engine.finished());
    play.broken.clear();
    play.pass(1);
    play.settle();
    assert!(
        play.left().is_empty(),
        "it gets its second try all the same"
    );
}

#[test]
fn nothing_new_is_looked_for_at_the_end() {
    let mut play = Play::usual();
    play.mount("/home/tree");
    play.mount("/home/tree/a");
    play.stop();
    play.open.clear();
    play.orders();
    let expire = play.request(Request::Expire { path: None });
    play.pass(STOP_PATIENCE_MS);
    assert!(
        play.orders()
            .iter()
            .all(|order| !order.starts_with("expire"))
    );
    assert_eq!(play.response_left(expire), ["/home/tree", "/home/tree/a"]);
}

// -- leaving all as it is -------------------------------------------------------------------

#[test]
fn detached_everything_stays() {
    let mut play = Play::usual();
    play.mount("/home/ann");
    play.orders();
    let id = play.request(Request::Stop { detach: true });
    assert!(play.left().is_empty());
    assert!(play.response_left(id).is_empty());
    assert_eq!(play.orders(), ["finished"]);
    assert_eq!(play.mounted(), ["/home/ann"]);
}

#[test]
fn detached_who_waits_is_still_served() {
    let mut play = Play::usual();
    let ticket = play.touch("/home/ann");
    play.request(Request::Stop { detach: true });
    assert!(!play.engine.finished());
    play.settle();
    play.assert_ready(ticket);
    assert!(play.engine.finished());
}

#[test]
fn detached_nobody_waits_for_what_nobody_wants() {
    let mut play = Play::usual();
    let ticket = play.touch("/home/ann");
    play.pass(10_000);
    play.assert_failed(ticket, Errno::TIMEDOUT);
    play.request(Request::Stop { detach: true });
    assert!(play.engine.finished());
}

// -- when the world does not answer ---------------------------------------------------------

#[test]
fn a_stop_does_not_wait_for_ever() {
    let mut play = Play::usual();
    play.mount("/home/ann");
    play.mount("/home/tree");
    let mounting = play.touch("/data");
    play.until("perform");
    let expiry = play.expire("/home/ann");
    let path = "/home/tree".into();
    let unmount = play.request(Request::Unmount { path });
    let access = play.touch("/home/tree");
    play.open.clear();
    let stop = play.stop();
    play.pass(PATIENCE_MS - 1);
    assert!(!play.engine.finished());
    play.pass(1);
    assert!(play.engine.finished());
    for ticket in [mounting, expiry, access] {
        assert!(play.cause(ticket).is_some());
    }
    assert_eq!(play.response_left(unmount), ["/home/tree"]);
    let left = ["/data", "/home", "/home/ann", "/home/tree"];
    assert_eq!(play.left(), left);
    assert_eq!(play.response_left(stop), left);
}

#[test]
fn those_whom_the_patience_overtakes_are_answered() {
    let mut play = Play::with(piton_engine::config::Settings {
        deadline_ms: 50_000,
        unmount_deadline_ms: 50_000,
        ..Default::default()
    });
    play.configure(vec![indirect("/home"), direct("/data")]);
    play.settle();
    play.lines.insert("ann".into(), "-fstype=tmpfs :x".into());
    play.lines.insert("/data".into(), "-fstype=tmpfs :x".into());
    play.mount("/home/ann");
    play.stop();
    play.open.clear();
    play.pass(49_000);
    // An answer shows that the world is alive: it is given its time anew.
    play.feed(Event::Resolved {
        job: piton_engine::event::JobId(99),
        answers: Default::default(),
    });
    play.pass(3_001);
    assert!(!play.engine.finished());
    play.pass(50_000);
    assert!(play.engine.finished());
}

#[test]
fn waiters_of_a_stuck_mount_are_told_at_the_end() {
    let mut play = Play::with(piton_engine::config::Settings {
        deadline_ms: 40_000,
        unmount_deadline_ms: 1_000,
        ..Default::default()
    });
    play.configure(vec![indirect("/home")]);
    play.settle();
    play.lines.insert("ann".into(), "-fstype=tmpfs :x".into());
    play.pass(1_000);
    let first = play.touch("/home/ann");
    play.until("perform");
    play.pass(20_000);
    let second = play.touch("/home/ann");
    play.stop();
    play.open.clear();
    play.pass(40_000 + STOP_PATIENCE_MS);
    play.assert_failed(first, Errno::TIMEDOUT);
    assert!(play.cause(second).is_some());
    assert_eq!(play.left(), ["/home", "/home/ann"]);
}

#[test]
fn a_mount_point_that_is_stuck_on_its_way_is_named() {
    let mut play = Play::empty();
    play.configure(vec![indirect("/home")]);
    play.open.clear();
    play.stop();
    play.pass(PATIENCE_MS);
    assert_eq!(play.left(), ["/home"]);
}
