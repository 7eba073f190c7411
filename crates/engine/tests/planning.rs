//! Entries that take long to plan are planned by somebody else, while others are served.

mod common;

use common::{Play, Ticket, indirect};
use piton_engine::Command;
use piton_engine::cause::Errno;
use piton_engine::config::Settings;
use piton_engine::event::{Event, Request};
use piton_engine::limits::PLAN_APART;

/// All entries are planned apart.
fn apart() -> Play {
    Play::usual_with(Settings {
        timeout: 60,
        plan_apart: 0,
        ..Settings::default()
    })
}

fn plan(play: &mut Play) -> Command<Ticket> {
    let planned = |command: &Command<Ticket>| matches!(command, Command::Plan { .. });
    let at = play.open.iter().position(planned).unwrap();
    play.open.remove(at).unwrap()
}

#[test]
fn others_are_served_meanwhile() {
    let mut play = apart();
    let long = play.touch("/home/deep");
    play.until("plan");
    let order = plan(&mut play);
    let joins = play.touch("/home/deep");
    play.mount("/home/ann");
    play.assert_waits(long);
    play.answer(order);
    play.settle();
    play.assert_ready(long);
    play.assert_ready(joins);
    assert!(play.has_trigger("/home/deep/a"));
    play.mount("/home/deep/a");
    play.mount("/home/deep/a/in");
}

#[test]
fn an_entry_of_this_length_is_planned_apart_and_a_shorter_one_is_not() {
    let mut play = Play::usual();
    let entry = "-fstype=tmpfs :";
    for (length, expected) in [(PLAN_APART, true), (PLAN_APART - 1, false)] {
        let line = format!("{entry}{}", "x".repeat(length - entry.len()));
        play.lines.insert("long".into(), line);
        let ticket = play.touch("/home/long");
        play.step();
        let plans = play
            .open
            .iter()
            .any(|it| matches!(it, Command::Plan { .. }));
        assert_eq!(plans, expected, "{length}");
        play.settle();
        play.assert_ready(ticket);
        play.request(Request::Unmount {
            path: "/home/long".into(),
        });
        play.settle();
    }
}

#[test]
fn what_cannot_be_planned_is_an_error() {
    let mut play = apart();
    let ticket = play.touch("/home/bad");
    play.settle();
    play.assert_failed(ticket, Errno::INVAL);
    let told = |note: &_| matches!(note, piton_engine::command::Note::Diagnosed(_));
    assert!(play.notes.iter().any(told));
}

#[test]
fn nothing_is_mounted_for_nobody() {
    let mut play = apart();
    let ticket = play.touch("/home/ann");
    play.until("plan");
    let order = plan(&mut play);
    play.pass(10_000);
    play.assert_failed(ticket, Errno::TIMEDOUT);
    play.answer(order);
    play.settle();
    assert!(play.mounted().is_empty());
    assert!(play.engine.is_idle());
    play.mount("/home/ann");
}

#[test]
fn a_mount_point_may_go_and_a_plan_come_twice() {
    let mut play = apart();
    let ticket = play.touch("/home/ann");
    play.until("plan");
    let Command::Plan { job, order } = plan(&mut play) else {
        unreachable!("it is one")
    };
    let planned = || Event::Planned {
        job,
        planning: Box::new(order.plan()),
    };
    play.configure(vec![indirect("/other")]);
    play.feed(planned());
    play.feed(planned());
    play.settle();
    play.pass(10_000);
    assert!(play.answers.contains_key(&ticket));
    play.stop();
    play.settle();
    assert_eq!(play.finished, Some(Vec::new()));
}

#[test]
fn whether_a_name_exists_is_told_with_its_plan() {
    let mut play = Play::usual_with(Settings {
        whole_entries: true,
        plan_apart: 0,
        ..Settings::default()
    });
    let asked = play.look_up("/home/ann");
    play.until("plan");
    let joins = play.look_up("/home/ann");
    play.assert_waits(joins);
    play.settle();
    play.assert_ready(asked);
    play.assert_ready(joins);
    let bad = play.look_up("/home/bad");
    play.settle();
    play.assert_failed(bad, Errno::INVAL);
}
