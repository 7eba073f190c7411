//! The configuration changes; an earlier life is taken over.

mod common;

use std::sync::Arc;

use bstr::BString;
use common::{Play, direct, existing, existing_mount, failure, indirect, point};
use piton_engine::cause::Errno;
use piton_engine::command::Note;
use piton_engine::config::{Configuration, Point, Settings};
use piton_engine::difference::Difference;
use piton_engine::event::Event;
use piton_map::options::PointOptions;
use piton_plan::step::TriggerKind;

fn timeout(point: Point, seconds: u32) -> Point {
    let mut binding = (*point.binding).clone();
    binding.options.timeout = Some(seconds);
    Point {
        binding: Arc::new(binding),
        ..point
    }
}

fn listing(point: Point, keys: &[&str]) -> Point {
    Point {
        listing: keys.iter().map(|key| BString::from(*key)).collect(),
        ..point
    }
}

fn states(play: &Play) -> Vec<(String, &'static str)> {
    let status = play.engine.status(piton_engine::time::Millis(play.now));
    let state = |point: &piton_engine::status::PointStatus| (point.path.to_string(), point.state);
    status.points.iter().map(state).collect()
}

#[test]
fn points_are_put_in_place_parents_first_and_the_first_line_wins() {
    let mut play = Play::empty();
    let points = vec![direct("/a/b"), indirect("/a"), direct("/a")];
    play.configure(points);
    assert_eq!(play.orders(), ["install /a /a/b"]);
    assert_eq!(
        states(&play),
        [("/a".into(), "installing"), ("/a/b".into(), "installing")]
    );
    play.settle();
    assert_eq!(
        states(&play),
        [("/a".into(), "ready"), ("/a/b".into(), "ready")]
    );
    let status = play.engine.status(piton_engine::time::Millis(play.now));
    assert_eq!(status.points[0].kind, TriggerKind::Indirect);
    assert_eq!(&*status.points[0].origin, "auto.master:1:1");
}

#[test]
fn only_what_differs_is_touched() {
    let mut play = Play::usual();
    play.configure(vec![indirect("/home"), direct("/data")]);
    assert!(play.orders().is_empty());
    play.configure(vec![indirect("/home"), direct("/new")]);
    assert_eq!(play.orders(), ["remove /data", "install /new"]);
    play.settle();
    assert!(play.has_trigger("/new") && !play.has_trigger("/data"));
}

#[test]
fn the_difference_is_told_without_doing_anything() {
    let mut play = Play::usual();
    let points = vec![
        timeout(indirect("/home"), 5),
        direct("/new"),
        listing(indirect("/new"), &["x"]),
    ];
    let existing = Vec::new();
    let difference = play.engine.difference(&Configuration { points, existing });
    let told = Difference {
        added: vec!["/new".into()],
        removed: vec!["/data".into()],
        changed: vec![("/home".into(), "timeout 60 to 5".into())],
        waits: Vec::new(),
    };
    assert_eq!(difference, told);
    assert!(play.orders().is_empty());
    let same = |points| {
        let existing = Vec::new();
        let configuration = Configuration { points, existing };
        play.engine.difference(&configuration) == Difference::default()
    };
    assert!(same(vec![indirect("/home"), direct("/data")]));
    assert!(
        !same(vec![direct("/home"), direct("/data")]),
        "another kind"
    );
    assert!(!same(vec![
        listing(indirect("/home"), &["x"]),
        direct("/data")
    ]));
    // A point on its way out and wanted again is new.
    play.mount("/data");
    play.configure(vec![indirect("/home")]);
    let points = vec![indirect("/home"), direct("/data")];
    let existing = Vec::new();
    let difference = play.engine.difference(&Configuration { points, existing });
    assert_eq!(difference.added, ["/data"]);
    assert!(difference.removed.is_empty());
}

#[test]
fn what_is_busy_goes_when_it_is_not_any_more() {
    let mut play = Play::usual();
    play.mount("/data");
    play.broken.insert("unmount /data".into(), Errno::BUSY.0);
    play.configure(vec![indirect("/home")]);
    play.settle();
    assert_eq!(states(&play)[0], ("/data".into(), "pending removal"));
    let ticket = play.touch("/data");
    play.assert_failed(ticket, Errno::NOENT);
    play.broken.clear();
    play.pass(15_000);
    play.settle();
    assert!(!play.has_trigger("/data"));
    assert!(play.mounted().is_empty());
}

#[test]
fn a_mount_under_way_in_what_goes_is_awaited() {
    let mut play = Play::usual();
    let ticket = play.touch("/data");
    play.until("perform");
    play.configure(vec![indirect("/home")]);
    assert_eq!(states(&play)[0].1, "pending removal");
    play.settle();
    play.assert_ready(ticket);
    play.pass(15_000);
    play.settle();
    assert!(!play.has_trigger("/data"));
}

#[test]
fn what_is_wanted_again_stays() {
    let mut play = Play::usual();
    play.mount("/data");
    play.broken.insert("unmount /data".into(), Errno::BUSY.0);
    play.configure(vec![indirect("/home")]);
    play.configure(vec![indirect("/home"), direct("/data")]);
    play.settle();
    assert_eq!(states(&play)[0], ("/data".into(), "ready"));
    play.mount("/data");
}

#[test]
fn what_is_wanted_again_while_it_is_taken_away_is_put_back() {
    let mut play = Play::usual();
    play.configure(vec![indirect("/home")]);
    assert_eq!(states(&play)[0], ("/data".into(), "removing"));
    play.configure(vec![indirect("/home"), direct("/data")]);
    play.settle();
    assert_eq!(states(&play)[0], ("/data".into(), "ready"));
    assert_eq!(play.orders(), ["remove /data", "install /data"]);
}

#[test]
fn what_is_wanted_again_and_cannot_be_taken_away_just_stays() {
    let mut play = Play::usual();
    play.broken.insert("remove /data".into(), Errno::BUSY.0);
    play.configure(vec![indirect("/home")]);
    play.configure(vec![indirect("/home"), timeout(direct("/data"), 7)]);
    play.settle();
    assert_eq!(states(&play)[0], ("/data".into(), "ready"));
    assert_eq!(play.orders(), ["remove /data", "timeout 7"]);
    play.mount("/data");
}

#[test]
fn what_cannot_be_taken_away_is_tried_again() {
    let mut play = Play::usual();
    play.broken.insert("remove /data".into(), Errno::BUSY.0);
    play.configure(vec![indirect("/home")]);
    play.settle();
    assert_eq!(states(&play)[0], ("/data".into(), "pending removal"));
    play.broken.clear();
    play.pass(15_000);
    play.settle();
    assert!(!play.has_trigger("/data"));
}

#[test]
fn what_somebody_took_away_by_hand_is_gone() {
    let mut play = Play::usual();
    play.broken.insert("remove /data".into(), Errno::INVAL.0);
    play.configure(vec![indirect("/home")]);
    play.settle();
    assert!(!play.has_trigger("/data"));
}

#[test]
fn a_changed_kind_is_taken_away_and_put_back() {
    let mut play = Play::usual();
    play.mount("/home/ann");
    play.orders();
    play.configure(vec![direct("/home"), direct("/data")]);
    play.settle();
    let orders = [
        "perform unmount /home/ann, rmdir /home/ann",
        "remove /home",
        "install /home",
    ];
    assert_eq!(play.orders(), orders);
    play.lines.insert("/home".into(), "-fstype=tmpfs :x".into());
    play.mount("/home");
}

#[test]
fn what_was_to_come_and_is_no_longer_wanted_does_not() {
    let mut play = Play::usual();
    play.configure(vec![direct("/home"), direct("/data")]);
    play.configure(vec![direct("/data")]);
    play.settle();
    assert!(!play.has_trigger("/home"));
    assert_eq!(play.orders(), ["remove /home"]);
}

#[test]
fn a_kind_that_changes_back_while_it_cannot_go_stays() {
    let mut play = Play::usual();
    play.broken.insert("remove /home".into(), Errno::BUSY.0);
    play.configure(vec![direct("/home"), direct("/data")]);
    play.settle();
    assert_eq!(states(&play)[1], ("/home".into(), "pending replacement"));
    play.configure(vec![indirect("/home"), direct("/data")]);
    assert_eq!(states(&play)[1], ("/home".into(), "ready"));
}

#[test]
fn options_that_the_front_end_cannot_change_in_place_need_a_new_trigger() {
    for options in [
        PointOptions {
            strict_expire: true,
            ..PointOptions::default()
        },
        PointOptions {
            mode: Some(0o700),
            ..PointOptions::default()
        },
        PointOptions {
            propagation: piton_map::options::Propagation::Private,
            ..PointOptions::default()
        },
    ] {
        let mut play = Play::usual();
        play.configure(vec![
            point("/home", TriggerKind::Indirect, options),
            direct("/data"),
        ]);
        play.settle();
        assert_eq!(play.orders(), ["remove /home", "install /home"]);
    }
}

#[test]
fn idle_times_and_listings_change_in_place() {
    let mut play = Play::usual();
    play.mount("/home/ann");
    play.orders();
    let home = listing(timeout(indirect("/home"), 8), &["ann", "bob"]);
    play.configure(vec![home.clone(), direct("/data")]);
    assert_eq!(play.orders(), ["list ann bob", "timeout 8"]);
    assert_eq!(
        play.engine.next_wake().unwrap().0,
        play.now + 2_000,
        "no longer 15 s"
    );
    play.configure(vec![home, direct("/data")]);
    assert!(play.orders().is_empty());
}

#[test]
fn what_changes_while_it_is_put_in_place_is_told_afterwards() {
    let mut play = Play::empty();
    play.configure(vec![indirect("/home")]);
    play.configure(vec![listing(timeout(indirect("/home"), 8), &["ann"])]);
    assert_eq!(play.orders(), ["install /home"]);
    play.settle();
    assert_eq!(play.orders(), ["list ann", "timeout 8"]);
}

#[test]
fn keys_that_come_and_go_though_no_map_changes_are_shown() {
    let mut play = Play::empty();
    play.configure(vec![listing(indirect("/snap"), &["data"])]);
    let listed = |play: &mut Play, path: &str, keys: &[&str]| {
        play.feed(Event::Listed {
            path: path.into(),
            listing: keys.iter().map(|key| BString::from(*key)).collect(),
        });
    };
    // Not before it is there.
    listed(&mut play, "/snap", &["data", "data@1"]);
    play.settle();
    assert_eq!(play.orders(), ["install /snap", "list data data@1"]);
    listed(&mut play, "/snap", &["data", "data@1"]);
    listed(&mut play, "/other", &["x"]);
    assert!(play.orders().is_empty());
    listed(&mut play, "/snap", &["data"]);
    assert_eq!(play.orders(), ["list data"]);
    // The map said so all the time.
    play.configure(vec![listing(indirect("/snap"), &["data"])]);
    assert!(play.orders().is_empty());
}

#[test]
fn what_goes_while_it_is_put_in_place_goes_afterwards() {
    let mut play = Play::empty();
    play.configure(vec![indirect("/home")]);
    play.configure(Vec::new());
    play.settle();
    assert_eq!(play.orders(), ["install /home", "remove /home"]);
    assert_eq!(play.engine.sizes().triggers, 0);
    assert_eq!(play.engine.sizes().rounds, 0);
}

#[test]
fn what_cannot_be_put_in_place_is_tried_at_the_next_reload() {
    let mut play = Play::empty();
    play.broken.insert("install /home".into(), 13);
    play.configure(vec![indirect("/home")]);
    play.settle();
    let told = |note: &Note| matches!(note, Note::NotInstalled { .. });
    assert!(play.notes.iter().any(told));
    assert_eq!(play.engine.sizes().triggers, 0);
    play.broken.clear();
    play.configure(vec![indirect("/home")]);
    play.settle();
    assert_eq!(states(&play), [("/home".into(), "ready")]);
}

#[test]
fn whoever_waits_in_what_could_not_be_put_in_place_is_told() {
    let mut play = Play::empty();
    play.configure(vec![indirect("/home")]);
    let ticket = play.touch("/home/ann");
    play.broken.insert("install /home".into(), 13);
    play.settle();
    play.assert_failed(ticket, Errno::NOENT);
}

// -- adoption -------------------------------------------------------------------------------

fn tree_of_an_earlier_life() -> Vec<piton_engine::event::Existing> {
    let a = existing(TriggerKind::Offset, "/home/tree/a", Vec::new());
    let mounted = vec![existing_mount("", "/home/tree/b", Vec::new())];
    let b = existing(TriggerKind::Offset, "/home/tree/b", mounted);
    let tree = existing_mount("tree", "/home/tree", vec![a, b]);
    vec![existing(TriggerKind::Indirect, "/home", vec![tree])]
}

#[test]
fn an_earlier_life_is_taken_over_with_all_that_is_mounted() {
    let mut play = Play::empty();
    play.adopt(
        vec![indirect("/home"), direct("/data")],
        tree_of_an_earlier_life(),
    );
    assert_eq!(
        play.orders(),
        ["adopt /home /home/tree/a /home/tree/b", "install /data"]
    );
    assert_eq!(play.mounted(), ["/home/tree", "/home/tree/b"]);
    // Nothing is unmounted before it is ours.
    let early = play.expire("/home/tree");
    play.assert_failed(early, Errno::BUSY);
    play.settle();
    assert_eq!(states(&play)[1], ("/home".into(), "ready"));
    play.orders();
    let ticket = play.expire("/home/tree");
    play.settle();
    play.assert_ready(ticket);
    let orders = [
        "perform unmount /home/tree/b",
        "perform remove /home/tree/b, remove /home/tree/a, unmount /home/tree, rmdir /home/tree",
    ];
    assert_eq!(play.orders(), orders);
}

#[test]
fn what_an_earlier_life_left_half_done_goes_before_it_is_used() {
    let mut play = Play::empty();
    let mut earlier = tree_of_an_earlier_life();
    earlier[0].mounted[0].whole = false;
    play.adopt(vec![indirect("/home")], earlier);
    play.settle();
    let (trigger, key) = play.trigger_for("/home/tree");
    assert!(play.engine.is_broken(trigger, &key.as_str().into()));
    play.lines
        .insert("tree".into(), "-fstype=tmpfs,strict / :root /c :c".into());
    play.orders();
    play.mount("/home/tree");
    assert_eq!(
        play.orders(),
        [
            "perform unmount /home/tree/b",
            "perform remove /home/tree/b, remove /home/tree/a, unmount /home/tree, \
             rmdir /home/tree",
            "fetch tree",
            "perform mkdir /home/tree, mount /home/tree, mkdir /home/tree/c, install /home/tree/c",
        ]
    );
    assert!(!play.engine.is_broken(trigger, &key.as_str().into()));
}

#[test]
fn what_is_missing_is_added_where_what_is_there_cannot_go() {
    let mut play = Play::empty();
    let a = existing(TriggerKind::Offset, "/home/tree/a", Vec::new());
    let mut tree = existing_mount("tree", "/home/tree", vec![a]);
    tree.whole = false;
    let earlier = existing(TriggerKind::Indirect, "/home", vec![tree]);
    play.adopt(vec![indirect("/home")], vec![earlier]);
    play.settle();
    let line = "-fstype=tmpfs,strict / :root /a :a /b :b";
    play.lines.insert("tree".into(), line.into());
    play.orders();
    // Somebody waits in the offset, and so holds it.
    let busy = Errno::BUSY.0;
    play.broken.insert("remove /home/tree/a".into(), busy);
    let first = play.touch("/home/tree");
    let second = play.touch("/home/tree/a");
    play.settle();
    play.assert_ready(first);
    play.assert_ready(second);
    let (trigger, key) = play.trigger_for("/home/tree");
    assert!(!play.engine.is_broken(trigger, &key.as_str().into()));
    assert_eq!(
        play.orders(),
        [
            "perform remove /home/tree/a, unmount /home/tree, rmdir /home/tree",
            "fetch tree",
            "fetch tree",
            "perform mkdir /home/tree, mkdir /home/tree/a, mkdir /home/tree/b, \
             install /home/tree/b",
            "perform mount /home/tree/a",
        ]
    );
    // All of it is one entry again.
    play.broken.clear();
    let ticket = play.expire("/home/tree");
    play.settle();
    play.assert_ready(ticket);
    assert!(play.mounted().is_empty());
}

#[test]
fn nobody_touches_it_and_it_goes_all_the_same() {
    let mut play = Play::empty();
    let mut earlier = tree_of_an_earlier_life();
    earlier[0].mounted[0].whole = false;
    let options = PointOptions {
        timeout: Some(0),
        ..PointOptions::default()
    };
    play.adopt(
        vec![point("/home", TriggerKind::Indirect, options)],
        earlier,
    );
    play.settle();
    play.pass(3_600_000);
    play.settle();
    assert!(play.mounted().is_empty());
}

#[test]
fn a_start_is_over_when_nothing_is_taken_over_or_put_in_place_any_more() {
    for broken in [false, true] {
        for installed_first in [false, true] {
            let mut play = Play::empty();
            assert!(!play.engine.moving());
            if broken {
                play.broken.insert("adopt /home".into(), Errno::NOENT.0);
            }
            let points = vec![indirect("/home"), direct("/data")];
            let earlier = existing(TriggerKind::Indirect, "/home", Vec::new());
            play.adopt(points, vec![earlier]);
            assert_eq!(play.orders(), ["adopt /home", "install /data"]);
            if installed_first {
                play.open.rotate_left(1);
            }
            while play.engine.moving() {
                assert!(play.step(), "somebody is still at work");
            }
            assert!(play.open.is_empty(), "{:?}", play.orders());
            let ready = |path: &str| (path.into(), "ready");
            assert_eq!(states(&play), [ready("/data"), ready("/home")]);
        }
    }
}

#[test]
fn an_adopted_offset_asks_the_map_when_it_is_touched() {
    let mut play = Play::empty();
    play.adopt(vec![indirect("/home")], tree_of_an_earlier_life());
    play.settle();
    let line = "-fstype=tmpfs,strict / :root /a :a /b :b";
    play.lines.insert("tree".into(), line.into());
    play.orders();
    play.mount("/home/tree/a");
    assert_eq!(play.orders(), ["fetch tree", "perform mount /home/tree/a"]);
}

#[test]
fn an_adopted_offset_that_the_map_no_longer_has_fails() {
    let mut play = Play::empty();
    play.adopt(vec![indirect("/home")], tree_of_an_earlier_life());
    play.settle();
    play.lines
        .insert("tree".into(), "-fstype=tmpfs :root".into());
    let ticket = play.touch("/home/tree/a");
    play.settle();
    play.assert_failed(ticket, Errno::INVAL);
}

#[test]
fn a_bare_directory_of_an_earlier_life_is_one() {
    let mut play = Play::empty();
    let b = existing(TriggerKind::Offset, "/home/bare/b", Vec::new());
    let mut bare = existing_mount("bare", "/home/bare", vec![b]);
    bare.covered = false;
    play.adopt(
        vec![indirect("/home")],
        vec![existing(TriggerKind::Indirect, "/home", vec![bare])],
    );
    play.settle();
    play.orders();
    let ticket = play.expire("/home/bare");
    play.settle();
    play.assert_ready(ticket);
    assert_eq!(
        play.orders(),
        ["perform remove /home/bare/b, rmdir /home/bare/b, rmdir /home/bare"]
    );
}

fn submount_of_an_earlier_life() -> Vec<piton_engine::event::Existing> {
    let x = existing_mount("x", "/home/sub/x", Vec::new());
    let inner = existing(TriggerKind::Indirect, "/home/sub", vec![x]);
    let sub = existing_mount("sub", "/home/sub", vec![inner]);
    vec![existing(TriggerKind::Indirect, "/home", vec![sub])]
}

#[test]
fn an_adopted_submount_asks_which_map_it_is() {
    let mut play = Play::empty();
    play.adopt(vec![indirect("/home")], submount_of_an_earlier_life());
    play.settle();
    let line = "-fstype=autofs file:/maps/inner";
    play.lines.insert("sub".into(), line.into());
    play.lines.insert("y".into(), "-fstype=tmpfs :y".into());
    play.orders();
    play.mount("/home/sub/y");
    let orders = [
        "fetch sub",
        "fetch y",
        "perform mkdir /home/sub/y, mount /home/sub/y",
    ];
    assert_eq!(play.orders(), orders);
    play.mount("/home/sub/x");
    play.lines.insert("z".into(), "-fstype=tmpfs :z".into());
    play.orders();
    play.mount("/home/sub/z");
    assert_eq!(play.orders()[0], "fetch z", "it is known by now");
}

#[test]
fn two_that_ask_which_map_an_adopted_submount_is_both_get_what_they_want() {
    for plan_apart in [0, usize::MAX] {
        let mut play = Play::with(Settings {
            plan_apart,
            ..Settings::default()
        });
        play.adopt(vec![indirect("/home")], submount_of_an_earlier_life());
        play.settle();
        let line = "-fstype=autofs file:/maps/inner";
        play.lines.insert("sub".into(), line.into());
        play.lines.insert("y".into(), "-fstype=tmpfs :y".into());
        play.lines.insert("z".into(), "-fstype=tmpfs :z".into());
        play.orders();
        let tickets = ["/home/sub/y", "/home/sub/z"].map(|path| play.touch(path));
        play.settle();
        for ticket in tickets {
            play.assert_ready(ticket);
        }
        let mut performed = play.orders();
        performed.retain(|it| it.starts_with("perform"));
        let orders = [
            "perform mkdir /home/sub/y, mount /home/sub/y",
            "perform mkdir /home/sub/z, mount /home/sub/z",
        ];
        assert_eq!(
            performed, orders,
            "planned apart from {plan_apart} bytes on"
        );
    }
}

#[test]
fn an_adopted_submount_that_the_map_no_longer_has_fails() {
    let mut play = Play::empty();
    play.adopt(vec![indirect("/home")], submount_of_an_earlier_life());
    play.settle();
    play.lines.insert("sub".into(), "-fstype=tmpfs :x".into());
    let ticket = play.touch("/home/sub/y");
    play.settle();
    play.assert_failed(ticket, Errno::INVAL);
}

#[test]
fn what_an_earlier_life_left_and_nobody_wants_goes() {
    let mut play = Play::empty();
    play.adopt(vec![direct("/data")], tree_of_an_earlier_life());
    play.settle();
    assert!(play.mounted().is_empty());
    assert!(!play.has_trigger("/home"));
    assert!(play.has_trigger("/data"));
}

#[test]
fn what_an_earlier_life_left_of_another_kind_is_replaced() {
    let mut play = Play::empty();
    play.adopt(vec![direct("/home")], tree_of_an_earlier_life());
    play.settle();
    let status = play.engine.status(piton_engine::time::Millis(play.now));
    assert_eq!(status.points[0].kind, TriggerKind::Direct);
    assert_eq!(status.points[0].state, "ready");
}

#[test]
fn what_cannot_be_taken_over_is_put_in_place_anew() {
    let mut play = Play::empty();
    play.broken.insert("adopt /home".into(), Errno::NOENT.0);
    play.adopt(vec![indirect("/home")], tree_of_an_earlier_life());
    play.settle();
    assert_eq!(states(&play), [("/home".into(), "ready")]);
    assert_eq!(play.engine.sizes().triggers, 1);
    assert!(play.orders().contains(&"install /home".into()));
}

#[test]
fn what_cannot_be_taken_over_and_is_not_wanted_is_forgotten() {
    let mut play = Play::empty();
    play.broken.insert("adopt /home".into(), Errno::NOENT.0);
    play.adopt(Vec::new(), tree_of_an_earlier_life());
    play.settle();
    assert_eq!(play.engine.sizes().triggers, 0);
}

#[test]
fn an_offset_that_cannot_be_taken_over_breaks_its_entry() {
    let mut play = Play::empty();
    play.broken
        .insert("adopt /home/tree/a".into(), Errno::NOENT.0);
    play.adopt(vec![indirect("/home")], tree_of_an_earlier_life());
    play.settle();
    assert!(!play.has_trigger("/home/tree/a"));
    let line = "-fstype=tmpfs,strict / :root /a :a /b :b";
    play.lines.insert("tree".into(), line.into());
    play.mount("/home/tree");
    assert!(
        play.has_trigger("/home/tree/a"),
        "the entry was mounted anew"
    );
}

#[test]
fn what_exists_counts_only_at_first() {
    let mut play = Play::usual();
    play.adopt(
        vec![indirect("/home"), direct("/data")],
        tree_of_an_earlier_life(),
    );
    assert!(play.orders().is_empty());
}

#[test]
fn a_late_answer_about_a_trigger_that_is_there_changes_nothing() {
    let mut play = Play::usual();
    let home = play.trigger_for("/home/x").0;
    play.feed(Event::Installed {
        results: vec![(home, Err(failure(5)))],
    });
    play.feed(Event::Removed {
        results: vec![(home, Ok(()))],
    });
    assert!(play.has_trigger("/home"));
}
