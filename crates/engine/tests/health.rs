//! Servers that die and return while something is mounted from them.

mod common;

use common::Play;
use piton_engine::cause::Errno;
use piton_engine::command::{Note, Response};
use piton_engine::event::{Event, ExistingServer, Request};
use piton_engine::status::ServerStatus;
use piton_engine::time::Millis;
use piton_plan::probe::{Answer, Service};
use piton_plan::step::TriggerKind;

const ADDRESS: [u8; 4] = [192, 0, 2, 1];

fn play() -> Play {
    let mut play = Play::usual();
    for (key, line) in [
        ("eve", "-fstype=nfs srv:/eve"),
        ("pair", "-fstype=nfs,ro srv:/p h2:/p"),
        ("parts", "-fstype=nfs / srv:/r /a srv:/a /b h2:/b"),
    ] {
        play.lines.insert(key.into(), line.into());
    }
    play
}

fn die(play: &mut Play) {
    play.servers.insert(ADDRESS.into(), Answer::Silent);
}

fn come_back(play: &mut Play) {
    play.servers.clear();
}

fn server(play: &Play) -> ServerStatus {
    let status = play.engine.status(Millis(play.now));
    let found = status.servers.iter().find(|it| it.host == "srv");
    found.unwrap().clone()
}

fn is_dead(play: &mut Play) -> bool {
    play.pass(1_000);
    server(play).down
}

fn until_dead(play: &mut Play) -> u64 {
    let began = play.now;
    while !is_dead(play) {
        assert!(play.now < began + 60_000, "{:?}", server(play));
    }
    play.now - began
}

#[test]
fn a_death_is_told_with_what_is_mounted_and_so_is_the_return() {
    let mut play = play();
    play.mount("/home/bob");
    play.mount("/home/eve");
    play.pass(30_000);
    assert_eq!(server(&play).state, "alive");
    assert_eq!(server(&play).micros, Some(500));
    die(&mut play);
    let took = until_dead(&mut play);
    assert!(took > 2_000, "one answer that does not come is no death");
    let died = play.notes.iter().find_map(|note| match note {
        Note::ServerDied { server, mounts, .. } => Some((server.clone(), mounts.clone())),
        _ => None,
    });
    let mounts = ["/home/bob", "/home/eve"].map(Into::into).to_vec();
    assert_eq!(died, Some(("srv".into(), mounts)));
    // It returns, and the next access is served although nobody waited for it.
    play.lines.insert("new".into(), "-fstype=nfs srv:/n".into());
    let refused = play.touch("/home/new");
    play.settle();
    play.assert_failed(refused, Errno::HOSTDOWN);
    come_back(&mut play);
    play.pass(20_000);
    assert!(matches!(
        play.notes.last(),
        Some(Note::ServerBack { dead_ms: 1.., .. })
    ));
    play.mount("/home/new");
    assert_eq!(server(&play).failures, 0);
}

#[test]
fn one_that_can_be_replaced_is_watched_closely() {
    let mut play = play();
    play.mount("/home/pair");
    play.pass(10_000);
    die(&mut play);
    assert!(until_dead(&mut play) <= 6_000);
}

#[test]
fn nobody_is_asked_where_nothing_is_mounted_or_a_program_mounts() {
    let mut play = play();
    play.mount("/home/ann");
    play.mount("/home/bob");
    let ticket = play.expire("/home/bob");
    play.settle();
    play.assert_ready(ticket);
    let ticket = play.expire("/home/ann");
    play.settle();
    play.assert_ready(ticket);
    play.pass(120_000);
    assert_eq!(play.engine.next_wake(), None);
    let mut play = Play::with(piton_engine::config::Settings {
        asks_servers: false,
        timeout: 0,
        ..Default::default()
    });
    play.configure(vec![common::indirect("/home")]);
    play.settle();
    play.lines.insert("bob".into(), "-fstype=nfs srv:/b".into());
    play.mount("/home/bob");
    assert_eq!(play.engine.next_wake(), None);
}

#[test]
fn what_comes_from_a_dead_server_is_let_go_of() {
    let mut play = play();
    play.mount("/home/bob");
    play.mount("/home/parts");
    play.mount("/home/parts/a");
    play.mount("/home/parts/b");
    play.pass(30_000);
    die(&mut play);
    until_dead(&mut play);
    play.orders();
    let ticket = play.expire("/home/bob");
    play.settle();
    play.assert_ready(ticket);
    let orders = play.orders().join("; ");
    assert!(orders.contains("let go of /home/bob"), "{orders}");
    // What lies in something dead waits for that; no walk would come through.
    let ticket = play.expire("/home/parts/b");
    play.settle();
    play.assert_failed(ticket, Errno::BUSY);
    assert_eq!(play.orders(), Vec::<String>::new());
    // The whole goes at once.
    let ticket = play.expire("/home/parts");
    play.settle();
    play.assert_ready(ticket);
    let orders = play.orders();
    assert!(
        orders[0].starts_with("perform let go of /home/parts"),
        "{orders:?}"
    );
    assert_eq!(play.mounted(), Vec::<String>::new());
    assert!(!play.has_trigger("/home/parts/a"));
}

#[test]
fn a_stop_lets_go_of_what_is_dead_and_reports_what_is_busy() {
    let mut play = play();
    play.mount("/home/bob");
    play.mount("/home/ann");
    play.broken
        .insert("unmount /home/bob".into(), Errno::BUSY.0);
    play.broken
        .insert("unmount /home/ann".into(), Errno::BUSY.0);
    play.pass(30_000);
    die(&mut play);
    until_dead(&mut play);
    let id = play.stop();
    play.settle();
    let Some(Response::Done { left }) = play.responses.get(&id) else {
        panic!("{:?}", play.responses);
    };
    let left: Vec<String> = left.iter().map(|(path, _)| path.to_string()).collect();
    assert_eq!(left, ["/home", "/home/ann"]);
}

#[test]
fn a_stop_lets_go_of_what_does_not_unmount_in_time() {
    let mut play = play();
    play.mount("/home/bob");
    play.broken
        .insert("unmount /home/bob".into(), Errno::TIMEDOUT.0);
    let id = play.stop();
    play.settle();
    let done = Response::Done { left: Vec::new() };
    assert_eq!(play.responses.get(&id), Some(&done));
    assert!(play.finished.is_some());
}

#[test]
fn what_an_earlier_life_mounted_is_watched_from_the_beginning() {
    let mut play = Play::empty();
    let mount = piton_engine::event::ExistingMount {
        source: "srv:/bob".into(),
        server: Some(ExistingServer {
            host: "srv".into(),
            address: Some(std::net::IpAddr::from(ADDRESS).into()),
            service: Some(Service::default()),
        }),
        ..common::existing_mount("bob", "/home/bob", Vec::new())
    };
    let existing = common::existing(TriggerKind::Indirect, "/home", vec![mount]);
    die(&mut play);
    play.adopt(vec![common::indirect("/home")], vec![existing]);
    play.settle();
    until_dead(&mut play);
    assert_eq!(play.mounted(), ["/home/bob"]);
}

#[test]
fn a_flush_forgives_and_a_check_that_nobody_asked_for_changes_nothing() {
    let mut play = play();
    play.mount("/home/bob");
    play.pass(30_000);
    die(&mut play);
    until_dead(&mut play);
    play.request(Request::Flush { path: None });
    assert!(!server(&play).down);
    come_back(&mut play);
    play.mount("/home/eve");
    play.feed(Event::Checked {
        server: "nobody".into(),
        answers: Vec::new(),
    });
    assert_eq!(play.engine.status(Millis(play.now)).servers.len(), 1);
}
