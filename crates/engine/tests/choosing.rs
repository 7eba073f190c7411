//! Servers are asked, and one is chosen.

mod common;

use common::{Play, words};
use piton_engine::cause::Errno;
use piton_engine::limits::{ANSWERS_FRESH_MS, PROBE_GRACE_MS, PROBE_LEAST_MS, PROBE_MOST_MS};
use piton_engine::{Command, Event};
use piton_plan::probe::Answer;
use piton_plan::step::Step;

const SILENT: Answer = Answer::Silent;

const SERVES: Answer = Answer::Serves {
    micros: 1,
    no_guests: false,
};

const REFUSED: Answer = Answer::Refused {
    errno: 111,
    micros: 200,
};

/// The usual world with entries of some servers each.
fn play() -> Play {
    let mut play = Play::usual();
    for (key, line) in [
        ("one", "-fstype=nfs h1:/x"),
        ("same", "-fstype=nfs h1:/y"),
        ("two", "-fstype=nfs h1,h2:/x"),
        ("three", "-fstype=nfs h1,h2(1),h3(2):/x"),
        ("cifs", "-fstype=cifs ://win/x"),
        ("rdma", "-fstype=nfs,proto=rdma h1:/x"),
        ("loose", "-fstype=nfs / h1:/x /sub h2:/x"),
    ] {
        play.lines.insert(key.into(), line.into());
    }
    play
}

fn says(play: &mut Play, host: u8, answer: Answer) {
    play.servers.insert([192, 0, 2, host].into(), answer);
}

/// The sources that the mount that was asked for last would be tried from.
fn sources(play: &Play) -> Vec<String> {
    let Some(Command::Perform { steps, .. }) = play.open.front() else {
        panic!(
            "a mount was expected, not {:?}",
            play.open.front().map(words)
        );
    };
    let attempts = steps.iter().find_map(|planned| match &planned.step {
        Step::Mount { attempts, .. } => Some(attempts),
        _ => None,
    });
    let each = attempts.expect("a mount").iter();
    each.map(|attempt| attempt.source.to_string()).collect()
}

/// The orders about `key`, up to the mount.
fn orders_of(play: &mut Play, key: &str) -> Vec<String> {
    play.log.clear();
    play.touch(&format!("/home/{key}"));
    play.until("perform");
    let orders = play.orders();
    play.settle();
    orders
}

#[test]
fn servers_are_asked_before_something_is_mounted_from_them() {
    let mut play = play();
    let orders = orders_of(&mut play, "three");
    assert_eq!(orders[1], "resolve h1 h2 h3");
    assert_eq!(orders[2], "probe 192.0.2.1:0 192.0.2.2:1 192.0.2.3:2");
    assert!(play.mounted().contains(&"/home/three".to_owned()));
}

#[test]
fn nobody_is_asked_what_was_said_a_moment_ago() {
    let mut play = play();
    orders_of(&mut play, "two");
    let asks = |orders: &[String]| orders.iter().any(|order| order.starts_with("probe"));
    assert!(!asks(&orders_of(&mut play, "one")), "h1 answered");
    // Something was mounted from it at the very end of that time: it still holds.
    play.pass(ANSWERS_FRESH_MS - 1);
    assert!(!asks(&orders_of(&mut play, "same")));
    play.pass(ANSWERS_FRESH_MS - 1);
    play.lines.insert("late".into(), "-fstype=nfs h1:/z".into());
    assert!(!asks(&orders_of(&mut play, "late")));
    play.pass(ANSWERS_FRESH_MS);
    play.lines
        .insert("later".into(), "-fstype=nfs h1:/z".into());
    assert!(asks(&orders_of(&mut play, "later")));
}

#[test]
fn what_is_no_nfs_is_not_asked() {
    for key in ["cifs", "rdma", "ann"] {
        let orders = orders_of(&mut play(), key);
        assert!(
            !orders.iter().any(|order| order.starts_with("probe")),
            "{key}"
        );
    }
}

#[test]
fn who_serves_is_mounted_from_and_who_does_not_is_not_even_tried() {
    let mut play = play();
    says(&mut play, 1, SILENT);
    says(&mut play, 2, REFUSED);
    play.touch("/home/three");
    play.until("perform");
    assert_eq!(sources(&play), ["h3:/x"]);
}

#[test]
fn silence_of_all_is_an_error_at_once_and_the_next_is_told_from_memory() {
    let mut play = play();
    says(&mut play, 1, SILENT);
    says(&mut play, 2, SILENT);
    let ticket = play.touch("/home/two");
    play.settle();
    play.assert_failed(ticket, Errno::TIMEDOUT);
    let told = "h1: the server does not answer; h2: the server does not answer";
    assert!(play.log.iter().any(|line| line.contains(told)));
    assert!(!play.log.iter().any(|line| line.starts_with("perform")));
    // Another key of one of them is not made to wait.
    play.log.clear();
    let other = play.touch("/home/one");
    play.settle();
    play.assert_failed(other, Errno::HOSTDOWN);
    assert!(!play.log.iter().any(|line| line.starts_with("probe")));
    // It serves again, which is found out when its time has come.
    says(&mut play, 1, SERVES);
    play.pass(1_000);
    let again = play.touch("/home/one");
    play.settle();
    play.assert_ready(again);
}

#[test]
fn a_refusal_counts_more_than_silence() {
    let mut play = play();
    says(&mut play, 1, SILENT);
    says(&mut play, 2, REFUSED);
    let ticket = play.touch("/home/two");
    play.settle();
    play.assert_failed(ticket, Errno::CONNREFUSED);
}

#[test]
fn one_known_to_be_dead_is_not_asked_beside_another() {
    let mut play = play();
    says(&mut play, 1, SILENT);
    let ticket = play.touch("/home/one");
    play.settle();
    play.assert_failed(ticket, Errno::TIMEDOUT);
    let orders = orders_of(&mut play, "two");
    assert!(
        orders.contains(&"probe 192.0.2.2:0".to_owned()),
        "{orders:?}"
    );
}

#[test]
fn one_that_was_late_is_not_waited_for_again_so_soon() {
    let mut play = play();
    says(&mut play, 1, Answer::Unheard);
    let orders = orders_of(&mut play, "three");
    assert!(orders[2].starts_with("probe"));
    play.lines
        .insert("next".into(), "-fstype=nfs h1,h2(1):/y".into());
    play.log.clear();
    play.touch("/home/next");
    play.until("perform");
    assert!(!play.log.iter().any(|order| order.starts_with("probe")));
    assert_eq!(sources(&play), ["h2:/y"]);
}

#[test]
fn a_mount_that_fails_makes_what_was_said_doubtful() {
    let mut play = play();
    play.broken.insert("mount /home/one".into(), 13);
    let ticket = play.touch("/home/one");
    play.settle();
    play.assert_failed(ticket, Errno::ACCES);
    let orders = orders_of(&mut play, "same");
    assert!(orders.iter().any(|order| order.starts_with("probe")));
}

#[test]
fn many_keys_of_one_server_ask_once() {
    let mut play = play();
    for key in 0..50 {
        let line = format!("-fstype=nfs h1:/{key}");
        play.lines.insert(format!("k{key}").into(), line);
    }
    let tickets: Vec<_> = (0..50)
        .map(|key| play.touch(&format!("/home/k{key}")))
        .collect();
    // All of them come as far as the question, before it is answered.
    while let Some(at) = play
        .open
        .iter()
        .position(|command| !matches!(command, Command::Probe { .. }))
    {
        let command = play.open.remove(at).expect("it is there");
        play.answer(command);
    }
    assert_eq!(play.open.len(), 1, "one question");
    play.settle();
    for ticket in tickets {
        play.assert_ready(ticket);
    }
}

#[test]
fn who_has_little_time_does_not_find_a_server_dead() {
    let mut play = play();
    says(&mut play, 1, SILENT);
    let hasty = play.touch("/home/one");
    play.until("resolve");
    play.pass(10_000 - 2 * PROBE_LEAST_MS + 1);
    play.step();
    assert!(
        play.open
            .front()
            .is_some_and(|it| words(it).starts_with("probe"))
    );
    // Another who has time asks for itself.
    play.touch("/home/same");
    play.step();
    play.until("perform");
    assert_eq!(sources(&play), ["h1:/x"], "it may serve after all");
    play.assert_waits(hasty);
}

#[test]
fn questions_have_half_of_the_time_and_not_too_much() {
    let mut play = play();
    play.touch("/home/one");
    play.until("probe");
    let Some(Command::Probe {
        grace_ms,
        deadline_ms,
        ..
    }) = play.open.front()
    else {
        panic!("a question was expected");
    };
    assert_eq!((*grace_ms, *deadline_ms), (PROBE_GRACE_MS, PROBE_MOST_MS));
    let mut play = self::play();
    play.touch("/home/one");
    play.until("resolve");
    play.pass(6_000);
    play.step();
    let Some(Command::Probe { deadline_ms, .. }) = play.open.front() else {
        panic!("a question was expected");
    };
    assert_eq!(*deadline_ms, 2_000);
}

#[test]
fn answers_too_few_too_many_or_twice_do_no_harm() {
    for count in 0..4 {
        let mut play = play();
        let ticket = play.touch("/home/two");
        play.until("probe");
        let Some(Command::Probe { job, .. }) = play.open.pop_front() else {
            panic!("a question was expected");
        };
        for _ in 0..2 {
            let answers = vec![SERVES; count];
            play.feed(Event::Probed { job, answers });
        }
        play.settle();
        play.assert_ready(ticket);
    }
}

#[test]
fn an_entry_with_offsets_is_there_without_its_root() {
    let mut play = play();
    says(&mut play, 1, SILENT);
    let ticket = play.touch("/home/loose");
    play.settle();
    play.assert_ready(ticket);
    assert!(
        !play
            .log
            .iter()
            .any(|line| line.contains("mount /home/loose"))
    );
    assert!(play.log.iter().any(|line| line.contains("OffsetMissing")));
    assert!(play.has_trigger("/home/loose/sub"));
    // So is the next one, when the server is known not to answer and is not asked.
    let line = "-fstype=nfs / h1:/y /sub h2:/x";
    play.lines.insert("also".into(), line.into());
    play.orders();
    let ticket = play.touch("/home/also");
    play.settle();
    play.assert_ready(ticket);
    assert!(play.has_trigger("/home/also/sub"));
    let orders = play.orders();
    assert!(
        !orders.iter().any(|it| it.starts_with("probe")),
        "{orders:?}"
    );
}

#[test]
fn what_cannot_be_bound_is_mounted_from_the_servers_and_else_the_first_reason_is_told() {
    let mut play = play();
    let line = "-fstype=nfs localhost:/none,h2:/x";
    let entry = |play: &mut Play| {
        play.lines.insert("own".into(), line.replace(",h2", " h2"));
        play.broken.insert("mount /home/own".into(), 2);
        let ticket = play.touch("/home/own");
        play.until("perform");
        assert_eq!(sources(play), ["/none"], "nobody is asked for a bind mount");
        play.step();
        play.until("probe");
        ticket
    };
    let ticket = entry(&mut play);
    assert!(
        words(&play.open[0]).starts_with("probe 127.0.0.1:0"),
        "{}",
        words(&play.open[0])
    );
    play.broken.clear();
    play.until("perform");
    assert_eq!(sources(&play), ["localhost:/none", "h2:/x"]);
    play.settle();
    play.assert_ready(ticket);
    // Nobody serves it.
    let mut play = self::play();
    play.servers.insert([127, 0, 0, 1].into(), REFUSED);
    says(&mut play, 2, SILENT);
    let ticket = entry(&mut play);
    play.settle();
    play.assert_failed(ticket, Errno::NOENT);
    // That says nothing of this host: other entries are bound all the same.
    play.broken.clear();
    play.lines
        .insert("fine".into(), "-fstype=nfs localhost:/there".into());
    play.mount("/home/fine");
}
