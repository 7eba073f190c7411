//! Entries that are mounted as a whole, as they are behind links.

mod common;

use common::{Play, direct, existing_mount, indirect};
use piton_engine::command::{Answer, Response};
use piton_engine::config::Settings;
use piton_engine::event::{Existing, Request};
use piton_engine::time::Millis;
use piton_plan::step::TriggerKind;

const EBUSY: i32 = 16;
const EIO: i32 = 5;

fn play() -> Play {
    let mut play = Play::with(Settings {
        timeout: 60,
        whole_entries: true,
        ..Settings::default()
    });
    play.configure(vec![indirect("/home"), direct("/data")]);
    play.settle();
    for (key, line) in [
        ("ann", "-fstype=tmpfs :tmp"),
        ("tree", "-fstype=tmpfs,strict / :root /a :a /b :b"),
        ("loose", "-fstype=tmpfs / :root /a :a /b :b"),
        ("bare", "-fstype=tmpfs /a/in :in /b :b"),
        ("deep", "-fstype=tmpfs / :root /a :a /a/in :in"),
        ("sub", "-fstype=autofs file:/maps/inner"),
        ("/data", "-fstype=tmpfs / :data /in :in"),
    ] {
        play.lines.insert(key.into(), line.into());
    }
    play.log.clear();
    play
}

fn failed(play: &Play, ticket: u32) -> bool {
    matches!(play.answers.get(&ticket), Some(Answer::Failed(_)))
}

/// The steps that were asked for, in order.
fn performed(play: &Play) -> Vec<&str> {
    let lines = play.log.iter();
    lines
        .filter_map(|line| line.strip_prefix("perform "))
        .collect()
}

fn mounted(play: &Play) -> Vec<String> {
    let status = play.engine.status(Millis(play.now));
    let mut paths: Vec<String> = status.mounts.iter().map(|it| it.path.to_string()).collect();
    paths.sort();
    paths
}

#[test]
fn all_of_an_entry_is_mounted_before_anybody_is_answered() {
    let mut play = play();
    let ticket = play.touch("/home/deep");
    play.until("perform");
    play.step();
    assert!(
        !play.answers.contains_key(&ticket),
        "only the root is there"
    );
    play.settle();
    assert_eq!(play.answers[&ticket], Answer::Ready);
    let steps = [
        "mkdir /home/deep, mount /home/deep, mkdir /home/deep/a",
        "mount /home/deep/a, mkdir /home/deep/a/in",
        "mount /home/deep/a/in",
    ];
    assert_eq!(performed(&play), steps);
    assert_eq!(
        mounted(&play),
        ["/home/deep", "/home/deep/a", "/home/deep/a/in"]
    );
    // A direct key gets a directory of its own.
    let ticket = play.touch("/data");
    play.settle();
    assert_eq!(play.answers[&ticket], Answer::Ready);
    assert_eq!(
        performed(&play)[3],
        "mkdir /data, mount /data, mkdir /data/in"
    );
}

#[test]
fn all_of_an_entry_is_unmounted_deepest_first() {
    let mut play = play();
    for path in ["/home/deep", "/home/bare", "/data"] {
        play.touch(path);
        play.settle();
    }
    play.log.clear();
    for path in ["/home/deep", "/home/bare", "/data"] {
        let ticket = play.expire(path);
        play.settle();
        assert_eq!(play.answers[&ticket], Answer::Ready, "{path}");
    }
    let steps = [
        "unmount /home/deep/a/in",
        "unmount /home/deep/a",
        "unmount /home/deep, rmdir /home/deep",
        "unmount /home/bare/b",
        "unmount /home/bare/a/in",
    ];
    assert_eq!(performed(&play)[..5], steps);
    assert!(mounted(&play).is_empty());
}

#[test]
fn what_is_busy_keeps_the_whole() {
    let mut play = play();
    play.touch("/home/deep");
    play.settle();
    play.log.clear();
    play.broken.insert("unmount /home/deep/a".into(), EBUSY);
    let ticket = play.expire("/home/deep");
    play.settle();
    assert!(failed(&play, ticket));
    // What could be unmounted is back, and only then links lead there again.
    let all = ["/home/deep", "/home/deep/a", "/home/deep/a/in"];
    assert_eq!(mounted(&play), all);
    let lines: Vec<&str> = play.log.iter().map(String::as_str).collect();
    let at = |words: &str| {
        lines
            .iter()
            .rposition(|line| line.starts_with(words))
            .unwrap()
    };
    assert!(
        at("hide deep") < at("perform mount /home/deep/a/in"),
        "{lines:#?}"
    );
    assert!(
        at("perform mount /home/deep/a/in") < at("show deep"),
        "{lines:#?}"
    );
    assert!(play.engine.is_idle());
    // Who comes meanwhile waits for the whole.
    play.expire("/home/deep");
    let walker = play.touch("/home/deep");
    play.settle();
    assert_eq!(play.answers[&walker], Answer::Ready);
    assert_eq!(mounted(&play), all);
}

#[test]
fn a_part_that_fails_costs_itself_and_a_strict_entry_all() {
    let mut play = play();
    for part in ["/home/loose/a", "/home/tree/a"] {
        play.broken.insert(format!("mount {part}"), EIO);
    }
    let loose = play.touch("/home/loose");
    play.settle();
    assert_eq!(play.answers[&loose], Answer::Ready);
    assert_eq!(mounted(&play), ["/home/loose", "/home/loose/b"]);
    let strict = play.touch("/home/tree");
    play.settle();
    assert!(failed(&play, strict));
    assert_eq!(mounted(&play), ["/home/loose", "/home/loose/b"]);
    // Nothing at all of an entry is not ready either.
    for part in ["/home/bare/a/in", "/home/bare/b"] {
        play.broken.insert(format!("mount {part}"), EIO);
    }
    let bare = play.touch("/home/bare");
    play.settle();
    assert!(failed(&play, bare));
    assert!(play.engine.is_idle());
}

#[test]
fn a_map_below_an_entry_is_refused() {
    let mut play = play();
    let ticket = play.touch("/home/sub");
    play.settle();
    let Answer::Failed(cause) = &play.answers[&ticket] else {
        panic!("{:?}", play.answers)
    };
    assert!(
        cause.to_string().contains("mount point in the master map"),
        "{cause}"
    );
}

#[test]
fn an_operator_unmounts_and_expires_the_whole() {
    let mut play = play();
    play.touch("/home/deep");
    play.settle();
    let request = play.request(Request::Unmount {
        path: "/home/deep/a".into(),
    });
    play.settle();
    assert_eq!(play.responses[&request], Response::Done { left: vec![] });
    assert!(mounted(&play).is_empty());
    assert!(play.log.iter().any(|line| line == "hide deep"));
}

#[test]
fn what_nobody_waits_for_any_more_is_shown() {
    let mut play = play();
    let ticket = play.touch("/home/ann");
    play.until("perform");
    play.pass(10_000);
    assert!(failed(&play, ticket));
    play.settle();
    assert!(play.log.iter().any(|line| line == "show ann"));
    assert_eq!(mounted(&play), ["/home/ann"]);
}

#[test]
fn what_an_earlier_life_mounted_is_taken_over_as_a_whole() {
    let mut play = Play::with(Settings {
        timeout: 60,
        whole_entries: true,
        ..Settings::default()
    });
    let line = "-fstype=tmpfs / :root /a :a /b :b";
    play.lines.insert("loose".into(), line.into());
    let offset = Existing {
        kind: TriggerKind::Offset,
        path: "/home/loose/a".into(),
        mounted: vec![existing_mount("", "/home/loose/a", vec![])],
    };
    for whole in [true, false] {
        let mut loose = existing_mount("loose", "/home/loose", vec![offset.clone()]);
        loose.whole = whole;
        let home = Existing {
            kind: TriggerKind::Indirect,
            path: "/home".into(),
            mounted: vec![loose],
        };
        play.adopt(vec![indirect("/home")], vec![home]);
        assert!(
            play.log.iter().any(|line| line == "adopt /home"),
            "{:?}",
            play.log
        );
        play.settle();
        if whole {
            let ticket = play.expire("/home/loose");
            play.settle();
            assert_eq!(play.answers[&ticket], Answer::Ready);
            assert!(mounted(&play).is_empty());
            play.stop();
            play.settle();
            play = Play::with(play.engine.settings().clone());
            play.lines.insert("loose".into(), line.into());
        }
    }
    // What was half done is done anew, and completed where it is in use.
    play.broken.insert("unmount /home/loose".into(), EBUSY);
    let ticket = play.touch("/home/loose");
    play.settle();
    assert_eq!(play.answers[&ticket], Answer::Ready);
    assert_eq!(
        mounted(&play),
        ["/home/loose", "/home/loose/a", "/home/loose/b"]
    );
}

#[test]
fn a_stop_leaves_nothing() {
    let mut play = play();
    play.touch("/home/deep");
    play.settle();
    play.touch("/home/loose");
    play.until("perform mount /home/loose/");
    play.stop();
    play.settle();
    assert_eq!(play.finished, Some(vec![]));
    assert!(mounted(&play).is_empty());
}
