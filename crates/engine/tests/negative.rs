//! Failures that are answered from memory, each cause for its own time.

mod common;

use common::{Play, existing, existing_mount, indirect};
use piton_engine::cause::{Cause, Errno};
use piton_engine::command::Response;
use piton_engine::config::Settings;
use piton_engine::event::Request;
use piton_engine::limits::{BAD_ENTRY_MEMORY_MS, FAILURE_MEMORY_MS, SERVER_MEMORY_MOST_MS};
use piton_engine::status::{NegativeStatus, Status};
use piton_engine::time::Millis;
use piton_plan::step::TriggerKind;

fn status(play: &Play) -> Status {
    play.engine.status(Millis(play.now))
}

fn kinds(play: &Play) -> Vec<(String, &'static str)> {
    let told = |it: &NegativeStatus| (it.path.to_string(), it.kind);
    status(play).negative.iter().map(told).collect()
}

fn refuse(play: &mut Play, path: &str, errno: Errno) {
    let ticket = play.touch(path);
    play.settle();
    play.assert_failed(ticket, errno);
}

#[test]
fn each_cause_is_named_and_counted() {
    let mut play = Play::usual();
    play.costly = true;
    play.broken.insert("mount /home/ann".into(), Errno::ACCES.0);
    play.unknown.insert("srv".into());
    refuse(&mut play, "/home/ann", Errno::ACCES);
    refuse(&mut play, "/home/bad", Errno::INVAL);
    refuse(&mut play, "/home/bob", Errno::HOSTDOWN);
    refuse(&mut play, "/home/.git", Errno::NOENT);
    for _ in 0..3 {
        refuse(&mut play, "/home/.git", Errno::NOENT);
    }
    let expected = [
        ("/home/.git".into(), "absent key"),
        ("/home/ann".into(), "failed mount"),
        ("/home/bad".into(), "bad entry"),
        ("/home/bob".into(), "unreachable server"),
    ];
    assert_eq!(kinds(&play), expected);
    let answered: Vec<u64> = status(&play)
        .negative
        .iter()
        .map(|it| it.answered)
        .collect();
    assert_eq!(answered, [3, 0, 0, 0]);
    play.pass(BAD_ENTRY_MEMORY_MS);
    assert_eq!(kinds(&play), [("/home/.git".into(), "absent key")]);
}

#[test]
fn what_a_file_says_is_never_remembered() {
    let mut play = Play::usual();
    refuse(&mut play, "/home/.git", Errno::NOENT);
    refuse(&mut play, "/home/bad", Errno::INVAL);
    assert_eq!(kinds(&play), []);
}

#[test]
fn what_fails_again_is_tried_at_growing_intervals_until_it_works() {
    let mut play = Play::usual();
    play.broken.insert("mount /home/ann".into(), Errno::IO.0);
    let mut pauses = Vec::new();
    for failures in 1..6 {
        refuse(&mut play, "/home/ann", Errno::IO);
        let told = status(&play).negative[0].clone();
        assert_eq!(told.failures, failures);
        pauses.push(told.left_ms);
        play.pass(told.left_ms);
    }
    assert!(pauses.windows(2).all(|two| two[0] < two[1]), "{pauses:?}");
    play.broken.clear();
    play.mount("/home/ann");
    let ticket = play.expire("/home/ann");
    play.settle();
    play.assert_ready(ticket);
    play.broken.insert("mount /home/ann".into(), Errno::IO.0);
    refuse(&mut play, "/home/ann", Errno::IO);
    assert_eq!(status(&play).negative[0].failures, 1, "a success counts");
}

#[test]
fn a_server_that_does_not_answer_is_not_asked_for_its_other_keys() {
    let mut play = Play::usual();
    for key in ["bob", "eve"] {
        let line = format!("-fstype=nfs srv:/{key}");
        play.lines.insert(key.into(), line);
        let mount = format!("mount /home/{key}");
        play.broken.insert(mount, Errno::TIMEDOUT.0);
    }
    refuse(&mut play, "/home/bob", Errno::TIMEDOUT);
    play.orders();
    let told = play.engine.sizes().negative;
    refuse(&mut play, "/home/eve", Errno::HOSTDOWN);
    assert_eq!(play.orders(), ["fetch eve"], "the server is not asked");
    assert_eq!(play.engine.sizes().negative, told, "no failure of the key");
    let server = status(&play).servers[0].clone();
    assert_eq!(
        (server.host.to_string().as_str(), server.answered),
        ("srv", 1)
    );
    // Its turn comes; when it answers, all is forgiven.
    play.pass(FAILURE_MEMORY_MS);
    play.broken.clear();
    play.mount("/home/eve");
    assert_eq!(status(&play).servers[0].state, "alive");
    play.mount("/home/bob");
}

#[test]
fn a_server_that_refuses_is_up() {
    let mut play = Play::usual();
    play.lines
        .insert("eve".into(), "-fstype=nfs srv:/eve".into());
    play.broken.insert("mount /home/bob".into(), Errno::ACCES.0);
    refuse(&mut play, "/home/bob", Errno::ACCES);
    play.mount("/home/eve");
}

#[test]
fn pauses_of_servers_have_a_limit_and_chance_has_a_seed() {
    let run = |seed| {
        let mut play = Play::with(piton_engine::config::Settings {
            seed,
            ..Default::default()
        });
        play.configure(vec![common::indirect("/home")]);
        play.settle();
        play.lines
            .insert("bob".into(), "-fstype=nfs srv:/bob".into());
        play.broken
            .insert("mount /home/bob".into(), Errno::TIMEDOUT.0);
        let mut pauses = Vec::new();
        for _ in 0..9 {
            refuse(&mut play, "/home/bob", Errno::TIMEDOUT);
            let told = status(&play);
            let server = told.servers[0].left_ms.unwrap_or(0);
            let pause = server.max(told.negative[0].left_ms);
            assert!(pause <= SERVER_MEMORY_MOST_MS);
            pauses.push(pause);
            play.pass(pause);
        }
        assert!(pauses[8] >= SERVER_MEMORY_MOST_MS * 3 / 4);
        pauses
    };
    assert_eq!(run(1), run(1));
    assert_ne!(run(1), run(2));
}

#[test]
fn flush_forgets_at_or_below_a_path() {
    let mut play = Play::usual();
    play.costly = true;
    play.broken.insert("mount /data".into(), Errno::IO.0);
    for (path, errno) in [("/home/x", Errno::NOENT), ("/home/y", Errno::NOENT)] {
        refuse(&mut play, path, errno);
    }
    refuse(&mut play, "/data", Errno::IO);
    let flush = |play: &mut Play, path: Option<&str>| {
        let path = path.map(Into::into);
        let id = play.request(Request::Flush { path });
        play.responses[&id].clone()
    };
    assert_eq!(flush(&mut play, Some("/home/x")), Response::Flushed(1));
    assert_eq!(flush(&mut play, Some("/hom")), Response::Flushed(0));
    assert_eq!(kinds(&play).len(), 2);
    assert_eq!(flush(&mut play, None), Response::Flushed(2));
    assert_eq!(kinds(&play), []);
    play.broken.clear();
    play.mount("/data");
}

#[test]
fn what_is_known_of_a_server_is_told_in_its_words() {
    let mut play = Play::usual();
    play.lines
        .insert("eve".into(), "-fstype=nfs srv:/eve".into());
    play.broken
        .insert("mount /home/bob".into(), Errno::HOSTUNREACH.0);
    refuse(&mut play, "/home/bob", Errno::HOSTUNREACH);
    let ticket = play.touch("/home/eve");
    play.settle();
    play.assert_failed(ticket, Errno::HOSTDOWN);
    let Some(Cause::KnownDown(text)) = play.cause(ticket) else {
        panic!("{:?}", play.cause(ticket));
    };
    assert_eq!(&*text, "srv: mount /home/bob: errno 113");
}

#[test]
fn a_filter_denies_keys_and_programs_at_once() {
    use piton_engine::event::Event;
    use piton_map::deny::Deny;
    use piton_map::options::PointOptions;
    use piton_map::requester::{Program, Requester};
    use piton_plan::step::TriggerKind;

    let deny = Deny {
        keys: [".git*".into()].into(),
        programs: ["indexer".into()].into(),
        cgroups: ["/user.slice/*".into()].into(),
    };
    let options = PointOptions {
        deny: deny.into(),
        ..PointOptions::default()
    };
    let mut play = Play::usual();
    play.configure(vec![
        common::point("/home", TriggerKind::Indirect, options),
        common::direct("/data"),
    ]);
    play.settle();
    play.orders();
    let (home, _) = play.trigger_for("/home/ann");
    let (data, _) = play.trigger_for("/data");
    assert!(play.engine.asks_program(home) && !play.engine.asks_program(data));
    let denied = play.touch("/home/.gitignore");
    play.assert_failed(denied, Errno::NOENT);
    let touch_as = |play: &mut Play, name: &str, cgroup: Option<&str>| {
        let ticket = play.ticket();
        let program = Program {
            name: name.into(),
            cgroup: cgroup.map(Into::into),
        };
        play.feed(Event::Access {
            trigger: home,
            key: "ann".into(),
            requester: Requester {
                program: Some(program.into()),
                ..Requester::default()
            },
            ticket: common::Ticket(ticket),
            waited_ms: 0,
        });
        ticket
    };
    let indexer = touch_as(&mut play, "indexer", None);
    let grouped = touch_as(&mut play, "ls", Some("/user.slice/x"));
    play.assert_failed(indexer, Errno::NOENT);
    play.assert_failed(grouped, Errno::NOENT);
    assert!(play.orders().is_empty(), "nobody is asked");
    assert_eq!(status(&play).last_errors, []);
    let other = touch_as(&mut play, "ls", Some("/system.slice/x"));
    play.settle();
    play.assert_ready(other);
}

#[test]
fn r_230_attempts_to_mount_come_at_intervals_that_grow_up_to_the_one_asked_for() {
    for seconds in [4_u64, 30] {
        let mut play = Play::usual_with(Settings {
            retry_most_ms: Some(seconds * 1_000),
            ..Settings::default()
        });
        play.broken.insert("mount /home/ann".into(), Errno::IO.0);
        let mut pauses = Vec::new();
        for _ in 0..12 {
            refuse(&mut play, "/home/ann", Errno::IO);
            let left = status(&play).negative[0].left_ms;
            pauses.push(left);
            play.pass(left);
        }
        assert!(pauses[0] <= FAILURE_MEMORY_MS, "{pauses:?}");
        // Up to a quarter less, by chance.
        let last = pauses[11];
        assert!(
            last <= seconds * 1_000 && last >= seconds * 750,
            "{pauses:?}"
        );
    }
}

#[test]
fn r_223_frozen_serves_what_is_mounted_and_mounts_nothing() {
    let mut play = Play::usual_with(Settings {
        frozen: true,
        ..Settings::default()
    });
    refuse(&mut play, "/home/ann", Errno::NOENT);
    refuse(&mut play, "/data", Errno::NOENT);
    assert_eq!(play.mounted(), Vec::<String>::new());
    assert!(
        play.log.iter().all(|it| !it.starts_with("fetch")),
        "no map is asked"
    );
    assert_eq!(kinds(&play), [], "and nothing is remembered against it");
    // What an earlier life mounted is served.
    let mut play = Play::with(Settings {
        frozen: true,
        ..Settings::default()
    });
    let mounted = vec![existing_mount("ann", "/home/ann", Vec::new())];
    let home = existing(TriggerKind::Indirect, "/home", mounted);
    play.adopt(vec![indirect("/home")], vec![home]);
    play.settle();
    let ticket = play.touch("/home/ann");
    play.settle();
    play.assert_ready(ticket);
    refuse(&mut play, "/home/bob", Errno::NOENT);
}
