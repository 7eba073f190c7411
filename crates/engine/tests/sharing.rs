//! One mount for several keys.

mod common;

use std::sync::Arc;

use common::{Play, existing_mount, indirect};
use piton_engine::command::Answer;
use piton_engine::config::{Point, Settings};
use piton_engine::event::Existing;
use piton_map::dialect::Dialect;
use piton_plan::step::TriggerKind;

const EBUSY: i32 = 16;

const SHARE: &str = "/.shared/srv:+home+srv";

fn settings() -> Settings {
    Settings {
        timeout: 60,
        whole_entries: true,
        ..Settings::default()
    }
}

/// In the dialect that has sub-directories.
fn home() -> Point {
    let mut point = indirect("/home");
    Arc::make_mut(&mut point.binding).dialect = Dialect::SUN;
    point
}

fn play() -> Play {
    let mut play = Play::with(settings());
    play.configure(vec![home()]);
    play.settle();
    for (key, line) in [
        ("mike", "srv:/home/srv:mike"),
        ("dianna", "srv:/home/srv:dianna"),
        ("other", "-ro srv:/home/srv:other"),
        ("apart", "srv:/home/srv/apart"),
    ] {
        play.lines.insert(key.into(), line.into());
    }
    play.log.clear();
    play
}

fn performed(play: &Play) -> Vec<String> {
    let lines = play.log.iter();
    let steps = lines.filter_map(|line| line.strip_prefix("perform "));
    let mut all: Vec<String> = Vec::new();
    for line in steps {
        all.extend(line.split(", ").map(str::to_owned));
    }
    all
}

fn ready(play: &Play, ticket: u32) -> bool {
    play.answers.get(&ticket) == Some(&Answer::Ready)
}

#[test]
fn two_keys_have_one_mount_and_the_last_one_unmounts_it() {
    let mut play = play();
    let (mike, dianna) = (play.touch("/home/mike"), play.touch("/home/dianna"));
    play.settle();
    assert!(
        ready(&play, mike) && ready(&play, dianna),
        "{:?}",
        play.answers
    );
    let expected = [
        format!("mkdir {SHARE}"),
        format!("mount {SHARE}"),
        "mkdir /home".into(),
        format!("link /home/mike to {SHARE}/mike"),
        "mkdir /home".into(),
        format!("link /home/dianna to {SHARE}/dianna"),
    ];
    assert_eq!(performed(&play), expected);
    play.log.clear();
    for key in ["mike", "dianna"] {
        let ticket = play.expire(&format!("/home/{key}"));
        play.settle();
        assert!(ready(&play, ticket));
    }
    let expected = [
        "unlink /home/mike".into(),
        format!("unmount {SHARE}"),
        format!("rmdir {SHARE}"),
        "unlink /home/dianna".into(),
    ];
    assert_eq!(performed(&play), expected);
    // And it is mounted anew.
    play.log.clear();
    play.touch("/home/dianna");
    play.settle();
    assert_eq!(performed(&play)[1], format!("mount {SHARE}"));
}

#[test]
fn what_is_mounted_otherwise_is_another_mount() {
    let mut play = play();
    for key in ["mike", "other", "apart"] {
        let ticket = play.touch(&format!("/home/{key}"));
        play.settle();
        assert!(ready(&play, ticket));
    }
    let mounts: Vec<String> = performed(&play);
    let mounts: Vec<&String> = mounts.iter().filter(|it| it.starts_with("mount")).collect();
    let read_only = format!("mount {SHARE},ro");
    assert_eq!(
        mounts,
        [&format!("mount {SHARE}"), &read_only, "mount /home/apart"]
    );
}

#[test]
fn a_busy_one_stays_with_its_last_key() {
    let mut play = play();
    play.touch("/home/mike");
    play.settle();
    play.broken.insert(format!("unmount {SHARE}"), EBUSY);
    let expiry = play.expire("/home/mike");
    let meanwhile = play.touch("/home/dianna");
    play.settle();
    assert!(matches!(play.answers[&expiry], Answer::Failed(_)));
    assert!(ready(&play, meanwhile), "who waited uses it");
    let mounts = performed(&play)
        .into_iter()
        .filter(|it| it.starts_with("mount"));
    assert_eq!(mounts.count(), 1);
    // It can go without its other key, and then with the last.
    let mike = play.expire("/home/mike");
    play.settle();
    assert!(ready(&play, mike));
    play.broken.clear();
    let dianna = play.expire("/home/dianna");
    play.settle();
    assert!(ready(&play, dianna));
    assert_eq!(performed(&play).last().unwrap(), "unlink /home/dianna");
}

#[test]
fn who_waits_for_one_that_fails_tries_by_himself() {
    let mut play = play();
    play.broken.insert(format!("mount {SHARE}"), 5);
    let (mike, dianna) = (play.touch("/home/mike"), play.touch("/home/dianna"));
    play.settle();
    for ticket in [mike, dianna] {
        assert!(matches!(play.answers[&ticket], Answer::Failed(_)));
    }
    assert!(play.engine.is_idle());
}

#[test]
fn an_earlier_life_has_its_users_known() {
    let mut play = Play::with(settings());
    play.lines
        .insert("dianna".into(), "srv:/home/srv:dianna".into());
    let mut mike = existing_mount("mike", "/home/mike", vec![]);
    mike.link = Some(format!("{SHARE}/mike").into());
    let home = Existing {
        kind: TriggerKind::Indirect,
        path: "/home".into(),
        mounted: vec![mike],
    };
    play.adopt(vec![self::home()], vec![home]);
    play.settle();
    play.touch("/home/dianna");
    play.settle();
    let steps = performed(&play);
    assert!(
        !steps.iter().any(|step| step.starts_with("mount")),
        "{steps:?}"
    );
    play.stop();
    play.settle();
    assert_eq!(play.finished, Some(vec![]));
    let steps = performed(&play);
    let unmounts = steps
        .iter()
        .filter(|step| **step == format!("unmount {SHARE}"));
    assert_eq!(unmounts.count(), 1);
}
