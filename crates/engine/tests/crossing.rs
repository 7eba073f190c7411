//! Changes that cross: one mount point comes where another one stands, above it, or below it.

mod common;

use common::{Play, direct, indirect, point};
use piton_engine::cause::Errno;
use piton_engine::config::{Configuration, Point};
use piton_engine::difference::{Difference, Pending};
use piton_map::options::PointOptions;
use piton_plan::step::TriggerKind;

fn serving(points: Vec<Point>) -> Play {
    let mut play = Play::empty();
    for key in ["x", "b", "/a", "/a/b", "/a/c"] {
        play.lines.insert(key.into(), "-fstype=tmpfs :t".into());
    }
    play.configure(points);
    play.settle();
    play.orders();
    play
}

fn difference(play: &Play, points: Vec<Point>) -> Difference {
    let existing = Vec::new();
    play.engine.difference(&Configuration { points, existing })
}

fn pending(play: &Play) -> Vec<String> {
    let words = |it: Pending| {
        let waits_for: Vec<String> = it.waits_for.iter().map(ToString::to_string).collect();
        format!("{} of {} for {}", it.what, it.path, waits_for.join(" "))
    };
    play.engine.pending().into_iter().map(words).collect()
}

fn private(path: &str) -> Point {
    let options = PointOptions {
        propagation: piton_map::options::Propagation::Private,
        ..PointOptions::default()
    };
    point(path, TriggerKind::Indirect, options)
}

#[test]
fn a_point_gives_way_to_one_above_it() {
    let mut play = serving(vec![direct("/a/b")]);
    play.configure(vec![direct("/a")]);
    assert_eq!(play.orders(), ["remove /a/b"]);
    play.settle();
    assert_eq!(play.orders(), ["install /a"]);
    play.mount("/a");
}

#[test]
fn a_point_gives_way_to_those_below_it() {
    let mut play = serving(vec![direct("/a")]);
    play.configure(vec![direct("/a/b"), direct("/a/c")]);
    assert_eq!(play.orders(), ["remove /a"]);
    play.settle();
    assert_eq!(play.orders(), ["install /a/b /a/c"]);
    play.mount("/a/c");
}

#[test]
fn what_is_busy_is_waited_for_and_said() {
    let mut play = serving(vec![indirect("/a")]);
    play.mount("/a/x");
    play.broken.insert("unmount /a/x".into(), Errno::BUSY.0);
    let after = vec![direct("/a/b"), direct("/a/c")];
    let told = difference(&play, after.clone());
    let waits = |path: &str| (path.into(), vec!["/a/x".into()]);
    assert_eq!(told.waits, [waits("/a"), waits("/a/b"), waits("/a/c")]);
    play.configure(after.clone());
    play.settle();
    assert!(!play.engine.changing());
    let expected = [
        "removal of /a for /a/x",
        "installation of /a/b for /a",
        "installation of /a/c for /a",
    ];
    assert_eq!(pending(&play), expected);
    // The same again changes nothing.
    play.orders();
    assert_eq!(difference(&play, after.clone()).added, ["/a/b", "/a/c"]);
    // A new key is refused meanwhile: the map is gone.
    let ticket = play.touch("/a/b");
    play.assert_failed(ticket, Errno::NOENT);
    play.broken.clear();
    play.pass(5_000);
    play.settle();
    assert_eq!(pending(&play), [""; 0]);
    play.mount("/a/b");
}

#[test]
fn a_point_that_stays_below_a_new_one_is_put_back_after_it() {
    let mut play = serving(vec![direct("/a/b")]);
    let after = vec![indirect("/a"), direct("/a/b")];
    let told = difference(&play, after.clone());
    assert_eq!(told.added, ["/a"]);
    let back = ("/a/b".into(), "put back after /a".into());
    assert_eq!(told.changed, [back]);
    play.configure(after);
    assert_eq!(play.orders(), ["remove /a/b"]);
    play.settle();
    assert_eq!(play.orders(), ["install /a /a/b"]);
    play.mount("/a/b");
    play.mount("/a/x");
}

#[test]
fn a_busy_point_below_a_new_one_serves_until_it_is_idle() {
    let mut play = serving(vec![indirect("/a/b")]);
    play.mount("/a/b/x");
    play.broken.insert("unmount /a/b/x".into(), Errno::BUSY.0);
    play.configure(vec![indirect("/a"), indirect("/a/b")]);
    play.settle();
    let expected = [
        "replacement of /a/b for /a/b/x",
        "installation of /a for /a/b",
    ];
    assert_eq!(pending(&play), expected);
    play.mount("/a/b/b");
    // It is told otherwise before it could happen.
    play.configure(vec![indirect("/a/b")]);
    assert_eq!(pending(&play), [""; 0]);
    play.settle();
    assert!(play.mounted().contains(&"/a/b/x".to_owned()));
}

#[test]
fn a_mounted_key_gives_way_to_a_point_of_its_name() {
    let mut play = serving(vec![indirect("/a")]);
    play.mount("/a/b");
    play.broken.insert("unmount /a/b".into(), Errno::BUSY.0);
    let after = vec![indirect("/a"), direct("/a/b")];
    assert_eq!(
        difference(&play, after.clone()).waits,
        [("/a/b".into(), vec!["/a/b".into()])]
    );
    play.configure(after);
    play.settle();
    assert_eq!(pending(&play), ["installation of /a/b for /a/b"]);
    play.broken.clear();
    play.pass(5_000);
    play.settle();
    assert_eq!(pending(&play), [""; 0]);
    assert!(play.has_trigger("/a/b"));
    play.mount("/a/b");
}

#[test]
fn a_point_whose_options_change_serves_by_the_new_line_while_it_is_busy() {
    let mut play = serving(vec![indirect("/a")]);
    play.mount("/a/x");
    play.broken.insert("unmount /a/x".into(), Errno::BUSY.0);
    play.configure(vec![private("/a")]);
    play.settle();
    assert_eq!(pending(&play), ["replacement of /a for /a/x"]);
    play.mount("/a/b");
    play.broken.clear();
    play.pass(5_000);
    play.settle();
    assert_eq!(pending(&play), [""; 0]);
    play.mount("/a/x");
}

#[test]
fn an_access_at_the_moment_of_replacement_is_told_to_come_again() {
    let mut play = serving(vec![indirect("/a")]);
    play.configure(vec![private("/a")]);
    let ticket = play.touch("/a/x");
    play.assert_failed(ticket, Errno::AGAIN);
    play.settle();
    play.mount("/a/x");
}

#[test]
fn nested_points_go_children_first() {
    let mut play = serving(vec![indirect("/a"), direct("/a/b")]);
    play.mount("/a/b");
    play.orders();
    play.configure(Vec::new());
    play.settle();
    let orders = ["perform unmount /a/b", "remove /a/b", "remove /a"];
    assert_eq!(play.orders(), orders);
}

#[test]
fn indirect_and_direct_change_into_each_other_while_busy() {
    let mut play = serving(vec![direct("/a")]);
    play.mount("/a");
    play.broken.insert("unmount /a".into(), Errno::BUSY.0);
    play.configure(vec![indirect("/a")]);
    play.settle();
    assert_eq!(pending(&play), ["replacement of /a for /a"]);
    play.broken.clear();
    play.pass(5_000);
    play.settle();
    play.mount("/a/x");
}

#[test]
fn a_direct_key_that_moves_to_another_map_stays_where_it_is() {
    let mut play = serving(vec![direct("/a")]);
    play.mount("/a");
    let mut moved = direct("/a");
    let mut binding = (*moved.binding).clone();
    binding.source = "other".into();
    moved.binding = binding.into();
    let told = difference(&play, vec![moved.clone()]);
    assert_eq!(told.waits, []);
    play.orders();
    play.configure(vec![moved]);
    assert!(play.orders().is_empty());
    assert_eq!(play.mounted(), ["/a"]);
}
