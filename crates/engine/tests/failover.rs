//! What is read only and can be had from several servers moves when one of them dies, and is moved
//! back; servers are drained, paths are pinned.

mod common;

use bstr::BString;
use common::Play;
use piton_engine::cause::Errno;
use piton_engine::command::{Note, Response};
use piton_engine::event::Request;
use piton_engine::limits::{
    CHECK_MEMORY_MOST_MS, CHECK_MS, FAIL_BACK_AFTER_MS, FAIL_BACK_PAUSE_MS, LOOK_AGAIN_MS,
    MOVE_PAUSE_MS,
};
use piton_engine::time::Millis;
use piton_plan::probe::Answer;

const ONE: &str = "h1";
const TWO: &str = "h2";
/// After so long a death is known.
const DEATH_MS: u64 = 6_000;
const SERVES: Answer = Answer::Serves { micros: 500 };

/// Two servers, `one` wanted more than `two`; what they have, and what only they have.
fn site() -> Play {
    let mut play = Play::usual();
    for (key, line) in [
        ("man", "-fstype=nfs,ro one:/man two(1):/man"),
        ("rw", "-fstype=nfs,rw one:/rw two(1):/rw"),
        ("only", "-fstype=nfs,ro one:/only"),
        (
            "set",
            "-fstype=nfs,ro / one:/set two(1):/set /a one:/a two(1):/a",
        ),
        (
            "mixed",
            "-fstype=nfs,ro / one:/set two(1):/set /a -rw two:/a",
        ),
        ("ping1", "-fstype=nfs one:/ping"),
        ("ping2", "-fstype=nfs two:/ping"),
    ] {
        play.lines.insert(key.into(), numbers(line));
    }
    up(&mut play, "one", true);
    up(&mut play, "two", true);
    play
}

/// Names that have addresses here.
fn numbers(text: &str) -> String {
    text.replace("one", ONE).replace("two", TWO)
}

fn names(text: &str) -> String {
    text.replace(ONE, "one").replace(TWO, "two")
}

fn up(play: &mut Play, server: &str, up: bool) {
    let last = if server == "one" { 1 } else { 2 };
    let answer = if up { SERVES } else { Answer::Silent };
    play.servers.insert([192, 0, 2, last].into(), answer);
}

/// A server dies, and that is noticed.
fn dies(play: &mut Play, server: &str) {
    up(play, server, false);
    play.pass(DEATH_MS);
    if play
        .engine
        .status(Millis(play.now))
        .servers
        .iter()
        .all(|it| it.state != "dead")
    {
        // Nothing that is mounted has it asked.
        play.touch(if server == "one" {
            "/home/ping1"
        } else {
            "/home/ping2"
        });
    }
    play.settle();
}

fn returns(play: &mut Play, server: &str) {
    up(play, server, true);
    play.pass(CHECK_MEMORY_MOST_MS + CHECK_MS);
    play.settle();
}

fn source(play: &Play, path: &str) -> Option<String> {
    let status = play.engine.status(Millis(play.now));
    let mount = status.mounts.into_iter().find(|it| it.path == path)?;
    Some(names(&mount.source.to_string()))
}

fn stays(play: &Play, path: &str) -> Option<String> {
    let status = play.engine.status(Millis(play.now));
    let mount = status.mounts.into_iter().find(|it| it.path == path)?;
    mount.stays.map(|why| names(&why))
}

fn let_go(play: &Play) -> Vec<String> {
    let told = |note: &Note| match note {
        Note::LetGo { path, source, .. } => Some(names(&format!("{path} {source}"))),
        _ => None,
    };
    play.notes.iter().filter_map(told).collect()
}

#[test]
fn a_replica_of_a_dead_server_is_let_go_of_and_the_next_walk_is_served_by_the_other() {
    let mut play = site();
    play.mount("/home/man");
    assert_eq!(source(&play, "/home/man").unwrap(), "one:/man");
    dies(&mut play, "one");
    assert_eq!(let_go(&play), ["/home/man one:/man"]);
    assert_eq!(source(&play, "/home/man"), None);
    play.mount("/home/man");
    assert_eq!(source(&play, "/home/man").unwrap(), "two:/man");
}

#[test]
fn what_is_written_to_or_has_no_other_server_stays_and_says_why() {
    let mut play = site();
    play.mount("/home/rw");
    play.mount("/home/only");
    dies(&mut play, "one");
    play.pass(10 * LOOK_AGAIN_MS);
    play.settle();
    assert_eq!(let_go(&play), [""; 0]);
    assert_eq!(stays(&play, "/home/rw").unwrap(), "it can be written to");
    let why = stays(&play, "/home/only").unwrap();
    assert_eq!(why, "its entry names no other server");
}

#[test]
fn nothing_moves_to_another_dead_server_until_that_returns() {
    let mut play = site();
    play.mount("/home/man");
    dies(&mut play, "two");
    dies(&mut play, "one");
    assert_eq!(let_go(&play), [""; 0]);
    assert_eq!(stays(&play, "/home/man").unwrap(), "two is dead, too");
    returns(&mut play, "two");
    assert_eq!(let_go(&play), ["/home/man one:/man"]);
}

#[test]
fn a_tree_goes_with_its_offsets_unless_one_of_them_is_written_to() {
    let mut play = site();
    for path in ["/home/set", "/home/set/a", "/home/mixed", "/home/mixed/a"] {
        play.mount(path);
    }
    dies(&mut play, "one");
    assert_eq!(let_go(&play), ["/home/set one:/set"]);
    assert!(!play.has_trigger("/home/set/a"));
    let why = stays(&play, "/home/mixed").unwrap();
    assert_eq!(why, "something mounted below it can be written to");
    play.mount("/home/set");
    play.mount("/home/set/a");
    assert_eq!(source(&play, "/home/set/a").unwrap(), "two:/a");
}

#[test]
fn who_comes_while_it_is_let_go_of_is_served_afterwards() {
    let mut play = site();
    play.mount("/home/set");
    up(&mut play, "one", false);
    play.pass(DEATH_MS);
    play.until("perform let go");
    let (above, below) = (play.touch("/home/set"), play.touch("/home/set/a"));
    play.assert_waits(above);
    play.settle();
    play.assert_ready(above);
    play.assert_failed(below, Errno::HOSTDOWN);
    assert_eq!(source(&play, "/home/set").unwrap(), "two:/set");
}

#[test]
fn what_cannot_be_let_go_of_is_tried_again() {
    let mut play = site();
    play.mount("/home/man");
    play.broken
        .insert("let go of /home/man".into(), Errno::BUSY.0);
    dies(&mut play, "one");
    assert_eq!(let_go(&play), [""; 0]);
    assert_eq!(source(&play, "/home/man").unwrap(), "one:/man");
    play.broken.clear();
    play.pass(4 * LOOK_AGAIN_MS);
    play.settle();
    assert_eq!(let_go(&play), ["/home/man one:/man"]);
}

#[test]
fn what_has_just_moved_does_not_move_again_at_once() {
    let mut play = site();
    play.mount("/home/man");
    for (times, server) in [(1, "one"), (2, "two"), (3, "one")] {
        dies(&mut play, server);
        play.settle();
        assert_eq!(let_go(&play).len(), times);
        play.mount("/home/man");
        returns(&mut play, server);
        if times < 3 {
            play.pass(MOVE_PAUSE_MS << (times - 1));
        }
    }
    // By now it has to stay for four times the first pause.
    dies(&mut play, "two");
    assert_eq!(let_go(&play).len(), 3, "it has moved a moment ago");
    play.pass(4 * MOVE_PAUSE_MS);
    play.settle();
    assert_eq!(let_go(&play).len(), 4);
}

#[test]
fn when_the_better_server_has_been_back_for_a_while_what_is_idle_moves_back() {
    let mut play = site();
    play.mount("/home/man");
    dies(&mut play, "one");
    play.mount("/home/man");
    returns(&mut play, "one");
    play.broken
        .insert("unmount /home/man".into(), Errno::BUSY.0);
    play.orders();
    play.pass(FAIL_BACK_AFTER_MS / 2);
    play.settle();
    let tried = |play: &mut Play| {
        let orders = play.orders();
        orders
            .iter()
            .filter(|it| it.contains("unmount /home/man"))
            .count()
    };
    assert_eq!(tried(&mut play), 0, "it may die again");
    play.pass(FAIL_BACK_AFTER_MS);
    play.settle();
    assert_eq!(tried(&mut play), 1, "and it is in use");
    assert_eq!(source(&play, "/home/man").unwrap(), "two:/man");
    let busy = |note: &&Note| matches!(note, Note::Stays { .. });
    assert_eq!(play.notes.iter().filter(busy).count(), 0);
    play.broken.clear();
    play.pass(FAIL_BACK_PAUSE_MS);
    play.settle();
    assert_eq!(source(&play, "/home/man"), None);
    play.mount("/home/man");
    assert_eq!(source(&play, "/home/man").unwrap(), "one:/man");
    assert_eq!(let_go(&play).len(), 1, "nothing is let go of to move back");
}

fn drain(now: bool, until: Option<u64>) -> Request {
    Request::Drain {
        server: ONE.into(),
        now,
        until: until.map(Millis),
    }
}

#[test]
fn a_drained_server_is_avoided_and_what_is_left_of_it_is_listed() {
    let mut play = site();
    for path in ["/home/man", "/home/rw", "/home/only"] {
        play.mount(path);
    }
    play.broken
        .insert("unmount /home/man".into(), Errno::BUSY.0);
    let request = play.request(drain(false, None));
    play.settle();
    assert_eq!(
        play.response_left(request),
        ["/home/man", "/home/only", "/home/rw"]
    );
    play.broken.clear();
    play.pass(FAIL_BACK_PAUSE_MS);
    play.settle();
    assert_eq!(source(&play, "/home/man"), None);
    play.mount("/home/man");
    assert_eq!(source(&play, "/home/man").unwrap(), "two:/man");
    // What only it has still comes from it, and that is told.
    play.mount("/home/ping1");
    let told =
        |note: &Note| matches!(note, Note::FromDrained { path, .. } if path == "/home/ping1");
    assert!(play.notes.iter().any(told));
    // Undrained, what moved goes back when it is idle.
    let server: BString = ONE.into();
    let request = play.request(Request::Undrain { server });
    assert_eq!(play.response_left(request), [""; 0]);
    play.pass(FAIL_BACK_AFTER_MS);
    play.settle();
    play.mount("/home/man");
    assert_eq!(source(&play, "/home/man").unwrap(), "one:/man");
}

#[test]
fn drained_now_moves_what_is_in_use_and_ends_by_itself() {
    let mut play = site();
    play.mount("/home/man");
    play.mount("/home/rw");
    let until = play.now + 5_000;
    let request = play.request(drain(true, Some(until)));
    play.settle();
    assert_eq!(play.response_left(request), ["/home/rw"]);
    assert_eq!(let_go(&play), ["/home/man one:/man"]);
    assert_eq!(play.engine.status(Millis(play.now)).drained.len(), 1);
    play.pass(5_000);
    assert_eq!(play.engine.status(Millis(play.now)).drained, []);
    let server: BString = ONE.into();
    play.request(Request::Undrain { server });
    assert_eq!(play.responses[&2], Response::NoSuchPlace);
}

#[test]
fn a_drained_server_serves_when_the_others_are_dead() {
    let mut play = site();
    play.request(drain(false, None));
    dies(&mut play, "two");
    play.mount("/home/man");
    assert_eq!(source(&play, "/home/man").unwrap(), "one:/man");
}

#[test]
fn what_is_pinned_neither_expires_nor_moves_until_its_time_is_over() {
    let mut play = site();
    play.mount("/home/man");
    play.mount("/home/ann");
    let pin = |path: &str, until| Request::Pin {
        path: path.into(),
        until: Millis(until),
    };
    let until = play.now + 60_000;
    play.request(pin("/home", until));
    play.request(pin("/elsewhere", until));
    assert_eq!(play.responses[&2], Response::NoSuchPlace);
    assert_eq!(play.engine.status(Millis(play.now)).pins.len(), 1);
    dies(&mut play, "one");
    assert_eq!(let_go(&play), [""; 0]);
    assert_eq!(stays(&play, "/home/man").unwrap(), "it is pinned");
    let ticket = play.expire("/home/ann");
    play.settle();
    play.assert_failed(ticket, Errno::BUSY);
    let path = Some("/home/ann".into());
    let request = play.request(Request::Expire { path });
    play.settle();
    assert_eq!(play.response_left(request), ["/home/ann"]);
    // An operator who names it means it.
    let path = "/home/ann".into();
    let request = play.request(Request::Unmount { path });
    play.settle();
    assert_eq!(play.response_left(request), [""; 0]);
    play.pass(60_000);
    play.settle();
    assert_eq!(let_go(&play), ["/home/man one:/man"]);
    play.request(Request::Unpin {
        path: "/home".into(),
    });
    assert_eq!(play.responses[&5], Response::NoSuchPlace);
}
