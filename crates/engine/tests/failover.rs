//! What is read only and can be had from several servers moves when one of them dies, and is moved
//! back; servers are drained, paths are pinned.

mod common;

use bstr::BString;
use common::Play;
use piton_engine::Command;
use piton_engine::cause::Errno;
use piton_engine::command::{Note, Response};
use piton_engine::config::Settings;
use piton_engine::event::{Event, ExistingMount, ExistingServer, Request};
use piton_engine::limits::{
    CHECK_MEMORY_MOST_MS, CHECK_MS, FAIL_BACK_AFTER_MS, FAIL_BACK_PAUSE_MS, LEARN_AFTER_MS,
    LEARN_AGAIN_MS, LEARN_PAUSE_MS, LEARN_TRIES, LOOK_AGAIN_MS, MOVE_PAUSE_MS,
};
use piton_engine::time::Millis;
use piton_map::lookup::Miss;
use piton_plan::probe::{Answer, Service};
use piton_plan::step::TriggerKind;

const ONE: &str = "h1";
const TWO: &str = "h2";
/// After so long a death is known.
const DEATH_MS: u64 = 6_000;
const SERVES: Answer = Answer::Serves {
    micros: 500,
    no_guests: false,
};

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

/// The same behind links, where an entry is mounted as a whole.
fn behind_links() -> Play {
    let mut play = site();
    let settings = Settings {
        whole_entries: true,
        ..play.engine.settings().clone()
    };
    let mut links = Play::usual_with(settings);
    links.lines = std::mem::take(&mut play.lines);
    links.lines.insert(
        "parts".into(),
        numbers("-fstype=nfs,ro / two:/set /a one:/a two(1):/a /b one:/b two(1):/b"),
    );
    up(&mut links, "one", true);
    up(&mut links, "two", true);
    links
}

/// Where in the log words stand last.
fn last(lines: &[String], words: &str) -> usize {
    lines.iter().rposition(|line| line.contains(words)).unwrap()
}

#[test]
fn behind_links_a_part_of_a_dead_server_is_had_from_another() {
    let mut play = behind_links();
    play.mount("/home/parts");
    assert_eq!(source(&play, "/home/parts/a").unwrap(), "one:/a");
    play.log.clear();
    up(&mut play, "one", false);
    play.pass(DEATH_MS);
    // Who walks there meanwhile waits until the entry is whole again.
    let early = play.touch("/home/parts");
    play.assert_waits(early);
    play.settle();
    play.assert_ready(early);
    assert_eq!(source(&play, "/home/parts").unwrap(), "two:/set");
    for part in ["a", "b"] {
        let found = source(&play, &format!("/home/parts/{part}"));
        assert_eq!(found.unwrap(), format!("two:/{part}"));
    }
    let lines = &play.log;
    let last = |words| last(lines, words);
    let first = |words: &str| lines.iter().position(|line| line.contains(words)).unwrap();
    assert!(first("hide parts") < first("perform"), "{lines:#?}");
    let hidden = last("hide parts")..last("mount /home/parts/b");
    let shown = |at: usize| lines[at].contains("show parts");
    assert!(!hidden.into_iter().any(shown), "{lines:#?}");
    // The better server is back: what is idle goes as a whole, and comes back as one.
    returns(&mut play, "one");
    play.pass(FAIL_BACK_AFTER_MS + FAIL_BACK_PAUSE_MS);
    play.settle();
    assert_eq!(source(&play, "/home/parts/a").unwrap(), "two:/a");
    let expiry = play.expire("/home/parts");
    play.settle();
    play.assert_ready(expiry);
    play.mount("/home/parts");
    assert_eq!(source(&play, "/home/parts/a").unwrap(), "one:/a");
}

#[test]
fn behind_links_a_part_that_stays_with_its_dead_server_is_shown_again() {
    let mut play = behind_links();
    play.mount("/home/parts");
    play.broken.insert("let go of /home/parts/a".into(), 16);
    play.log.clear();
    dies(&mut play, "one");
    let lines = &play.log;
    let last = |words| last(lines, words);
    assert!(last("hide parts") < last("show parts"), "{lines:#?}");
    assert_eq!(source(&play, "/home/parts/a").unwrap(), "one:/a");
    assert_eq!(source(&play, "/home/parts/b").unwrap(), "two:/b");
    let ticket = play.touch("/home/parts");
    play.settle();
    play.assert_ready(ticket);
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
    let Response::Done { left } = &play.responses[&request] else {
        panic!("{:?}", play.responses[&request])
    };
    assert_eq!(left[0].0, "/home/ann");
    assert!(left[0].1.starts_with("it is pinned"), "{left:?}");
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

/// What the mount table shows of something mounted from `one`.
fn found(key: &str, path: &str, source: &str, read_only: bool) -> ExistingMount {
    ExistingMount {
        source: numbers(source).into(),
        read_only,
        server: Some(ExistingServer {
            host: ONE.into(),
            address: Some(std::net::IpAddr::from([192, 0, 2, 1]).into()),
            service: Some(Service::default()),
        }),
        ..common::existing_mount(key, path, Vec::new())
    }
}

/// A successor of the daemon that mounted these in `/home`.
fn successor(mounted: Vec<ExistingMount>) -> Play {
    let mut play = Play::empty();
    play.lines = site().lines;
    up(&mut play, "one", true);
    up(&mut play, "two", true);
    let existing = common::existing(TriggerKind::Indirect, "/home", mounted);
    play.adopt(vec![common::indirect("/home")], vec![existing]);
    play.settle();
    play
}

/// Maps are asked about what was mounted.
fn learn(play: &mut Play) {
    play.pass(LEARN_AFTER_MS);
    for _ in 0..10 {
        play.settle();
        play.pass(LEARN_PAUSE_MS);
    }
}

fn fetched(play: &Play) -> Vec<&str> {
    let fetches = play.log.iter().filter_map(|it| it.strip_prefix("fetch "));
    fetches.collect()
}

#[test]
fn what_an_earlier_daemon_mounted_moves_once_its_entry_was_asked_for() {
    let mut play = successor(vec![found("man", "/home/man", "one:/man", true)]);
    assert_eq!(fetched(&play), [""; 0], "the start waits for no map");
    learn(&mut play);
    assert_eq!(fetched(&play), ["man"]);
    dies(&mut play, "one");
    assert_eq!(let_go(&play), ["/home/man one:/man"]);
    play.mount("/home/man");
    assert_eq!(source(&play, "/home/man").unwrap(), "two:/man");
    // Nothing is asked twice.
    assert_eq!(fetched(&play), ["man", "man"]);
}

#[test]
fn what_an_earlier_daemon_mounted_moves_also_if_its_server_is_dead_already() {
    let mut play = successor(vec![found("man", "/home/man", "one:/man/", true)]);
    up(&mut play, "one", false);
    learn(&mut play);
    play.pass(DEATH_MS);
    play.settle();
    assert_eq!(let_go(&play), ["/home/man one:/man/"]);
}

#[test]
fn what_was_mounted_by_an_address_is_known_by_the_name_of_its_server() {
    let mounted = ExistingMount {
        source: "192.0.2.1:/man".into(),
        ..found("man", "/home/man", "one:/man", true)
    };
    let mut play = successor(vec![mounted]);
    learn(&mut play);
    let request = play.request(drain(true, None));
    play.settle();
    assert_eq!(play.response_left(request), [""; 0]);
    assert_eq!(let_go(&play).len(), 1);
}

#[test]
fn of_what_can_be_written_to_no_map_is_asked_and_what_is_in_no_entry_stays() {
    let mut play = successor(vec![
        found("rw", "/home/rw", "one:/rw", false),
        found("man", "/home/man", "one:/elsewhere", true),
        found("only", "/home/only", "one:/only", true),
        found("gone", "/home/gone", "one:/gone", true),
        found("ping1", "/home/ping1", "one:/ping", true),
    ]);
    let why = "an earlier daemon mounted it, and its map has not been asked yet";
    let request = play.request(drain(false, Some(5_000)));
    let Response::Done { left } = &play.responses[&request] else {
        panic!("{:?}", play.responses[&request])
    };
    assert_eq!(&*left[1].1, why);
    learn(&mut play);
    play.pass(5_000);
    assert_eq!(fetched(&play), ["man", "only", "gone", "ping1"]);
    // Where nothing can move nobody watches closely.
    up(&mut play, "one", false);
    play.pass(40_000);
    play.settle();
    assert_eq!(let_go(&play), [""; 0]);
    for (key, why) in [
        ("rw", "it can be written to"),
        ("man", "its entry no longer names its server"),
        ("only", "its entry names no other server"),
        ("gone", "its entry is gone"),
        ("ping1", "its entry names no other server"),
    ] {
        let path = format!("/home/{key}");
        assert_eq!(stays(&play, &path).as_deref(), Some(why), "{path}");
    }
}

#[test]
fn the_parts_of_what_an_earlier_daemon_mounted_move_with_it() {
    let part = common::existing(
        TriggerKind::Offset,
        "/home/set/a",
        vec![found("", "/home/set/a", "one:/a", true)],
    );
    let mut root = found("set", "/home/set", "one:/set", true);
    root.offsets = vec![part];
    let mut play = successor(vec![root]);
    learn(&mut play);
    dies(&mut play, "one");
    assert_eq!(let_go(&play), ["/home/set one:/set"]);
    assert!(!play.has_trigger("/home/set/a"));
    play.mount("/home/set");
    play.mount("/home/set/a");
    assert_eq!(source(&play, "/home/set/a").unwrap(), "two:/a");
}

#[test]
fn a_map_that_cannot_be_asked_is_asked_again_a_few_times() {
    let mut play = successor(vec![found("man", "/home/man", "one:/man", true)]);
    let fetch = |command: &Command<common::Ticket>| matches!(command, Command::Fetch { .. });
    let mut asked = 0;
    for _ in 0..2 * LEARN_TRIES {
        play.pass(LEARN_AGAIN_MS << LEARN_TRIES);
        let open = play.open.iter().position(fetch);
        if let Some(Command::Fetch { job, .. }) = open.and_then(|at| play.open.remove(at)) {
            asked += 1;
            play.feed(Event::Fetched {
                job,
                names: None,
                costly: true,
                result: Err(Miss::TimedOut("too slow".into())),
            });
        }
    }
    assert_eq!(asked, LEARN_TRIES);
    assert_eq!(play.mounted(), ["/home/man"]);
}

#[test]
fn an_answer_about_what_is_gone_by_then_changes_nothing() {
    let mut play = successor(vec![found("man", "/home/man", "one:/man", true)]);
    play.pass(LEARN_AFTER_MS);
    play.until("fetch man");
    let fetch = play.open.pop_front().unwrap();
    let path = "/home/man".into();
    play.request(Request::Unmount { path });
    play.settle();
    assert_eq!(play.mounted(), [""; 0]);
    play.answer(fetch);
    play.settle();
    assert_eq!(play.mounted(), [""; 0]);
    play.mount("/home/man");
}
