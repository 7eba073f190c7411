//! Who came by, what failed for them, and who cannot see what is mounted.

mod common;

use common::Play;
use piton_engine::cause::Errno;
use piton_engine::event::Event;
use piton_engine::status::Usage;
use piton_engine::{Command, cause::Cause};
use piton_map::requester::Requester;

/// A process touches `path`; the number of its ticket.
fn touch_as(play: &mut Play, pid: u32, path: &str) -> u32 {
    let (trigger, key) = play.trigger_for(path);
    let ticket = play.ticket();
    play.feed(Event::Access {
        trigger,
        key: key.into(),
        requester: Requester {
            pid,
            ..Requester::default()
        },
        waited_ms: 0,
        ticket: common::Ticket(ticket),
    });
    ticket
}

fn usage(play: &Play, path: &str) -> Option<Usage> {
    let status = play.engine.status(piton_engine::time::Millis(play.now));
    let point = status.points.into_iter().find(|point| point.path == path);
    point.expect("a mount point").usage.map(|usage| *usage)
}

#[test]
fn a_mount_point_knows_who_came_first_and_last() {
    let mut play = Play::usual();
    assert_eq!(usage(&play, "/home"), None);
    touch_as(&mut play, 5, "/home/ann");
    play.settle();
    touch_as(&mut play, 6, "/home/nobody");
    play.settle();
    touch_as(&mut play, 7, "/home/bob");
    play.settle();
    let home = usage(&play, "/home").expect("a usage");
    assert_eq!((home.first.pid, home.last.pid, home.accesses), (5, 7, 3));
    assert_eq!(usage(&play, "/data"), None);
}

#[test]
fn accesses_of_offsets_count_for_the_mount_point_above() {
    let mut play = Play::usual();
    play.mount("/home/deep");
    touch_as(&mut play, 8, "/home/deep/a");
    play.settle();
    let home = usage(&play, "/home").expect("a usage");
    assert_eq!((home.last.pid, home.accesses), (8, 2));
}

#[test]
fn the_last_failure_stands_at_its_mount_point() {
    let mut play = Play::usual();
    play.broken.insert("mount /home/ann".into(), 5);
    let ticket = touch_as(&mut play, 5, "/home/bad");
    play.settle();
    play.assert_failed(ticket, Errno::INVAL);
    let failure = usage(&play, "/home").and_then(|usage| usage.failure);
    assert_eq!(failure.expect("a failure").path, "/home/bad");
}

#[test]
fn whoever_waited_in_vain_stands_at_the_mount_point() {
    let mut play = Play::usual();
    let ticket = touch_as(&mut play, 5, "/home/ann");
    play.pass(11_000);
    play.assert_failed(ticket, Errno::TIMEDOUT);
    let failure = usage(&play, "/home").and_then(|usage| usage.failure);
    let failure = failure.expect("a failure");
    assert_eq!(failure.path, "/home/ann");
    assert_eq!(&*failure.text, "not done within the deadline");
}

#[test]
fn who_cannot_see_a_mount_is_told_and_the_others_are_served() {
    let mut play = Play::usual();
    play.mount("/home/ann");
    let foreign = touch_as(&mut play, 5, "/home/ann");
    let thread = touch_as(&mut play, 5, "/home/ann");
    let other = touch_as(&mut play, 6, "/home/ann");
    let Some(Command::Inspect { job, pid: 5, .. }) = play.open.pop_front() else {
        panic!("an inspection was expected");
    };
    play.feed(Event::Hidden { job });
    for ticket in [foreign, thread] {
        play.assert_failed(ticket, Errno::XDEV);
        assert_eq!(play.cause(ticket), Some(Cause::Hidden));
    }
    play.assert_waits(other);
    assert!(matches!(
        play.open.front(),
        Some(Command::Inspect { pid: 6, .. })
    ));
    play.settle();
    play.assert_ready(other);
    assert_eq!(play.mounted(), ["/home/ann"]);
    // It is not remembered against the place: the next one is served.
    let next = touch_as(&mut play, 7, "/home/ann");
    play.settle();
    play.assert_ready(next);
}

#[test]
fn hidden_counts_only_while_it_is_asked() {
    let mut play = Play::usual();
    let ticket = touch_as(&mut play, 5, "/home/ann");
    let Some(Command::Fetch { job, .. }) = play.open.front() else {
        panic!("a look-up was expected");
    };
    let job = *job;
    play.feed(Event::Hidden { job });
    play.assert_waits(ticket);
    play.settle();
    play.assert_ready(ticket);
}
