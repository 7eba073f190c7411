//! Whether a name exists is answered from the map alone.

mod common;

use common::Play;
use piton_engine::command::Answer;

fn asked(play: &Play, what: &str) -> usize {
    let asked = play.log.iter().filter(|line| line.starts_with(what));
    asked.count()
}

fn failed(play: &Play, ticket: u32) -> bool {
    matches!(play.answers[&ticket], Answer::Failed(_))
}

#[test]
fn a_name_exists_as_soon_as_the_map_has_it_and_nothing_is_mounted_for_that() {
    let mut play = Play::usual();
    let (ann, absent) = (play.look_up("/home/ann"), play.look_up("/home/nobody"));
    let bad = play.look_up("/home/bad");
    play.settle();
    assert_eq!(play.answers[&ann], Answer::Ready);
    assert!(failed(&play, absent) && failed(&play, bad));
    assert_eq!((asked(&play, "perform"), asked(&play, "resolve")), (0, 0));
    assert!(play.engine.is_idle());
}

#[test]
fn who_follows_a_name_has_the_map_asked_once() {
    let mut play = Play::usual();
    let name = play.look_up("/home/ann");
    play.settle();
    let mount = play.touch("/home/ann");
    play.settle();
    assert_eq!(play.answers[&name], Answer::Ready);
    assert_eq!(play.answers[&mount], Answer::Ready);
    assert_eq!(asked(&play, "fetch"), 1);
    // Once, and not for long.
    play.look_up("/home/bob");
    play.settle();
    play.pass(5_000);
    play.touch("/home/bob");
    play.settle();
    assert_eq!(asked(&play, "fetch"), 3);
}

#[test]
fn what_is_mounted_being_mounted_or_could_not_be_exists_at_once() {
    let mut play = Play::usual();
    let mount = play.touch("/home/bob");
    let early = play.look_up("/home/bob");
    play.until("perform");
    assert_eq!(play.answers[&early], Answer::Ready, "the map has it");
    assert!(!play.answers.contains_key(&mount));
    let meanwhile = play.look_up("/home/bob");
    assert_eq!(play.answers[&meanwhile], Answer::Ready);
    play.settle();
    let mounted = play.look_up("/home/bob");
    assert_eq!(play.answers[&mounted], Answer::Ready);
    play.broken.insert("mount /home/ann".into(), 5);
    let mount = play.touch("/home/ann");
    play.settle();
    assert!(failed(&play, mount));
    let name = play.look_up("/home/ann");
    assert_eq!(play.answers[&name], Answer::Ready);
}

#[test]
fn a_name_that_a_slow_map_does_not_tell_is_answered_in_time() {
    let mut play = Play::usual();
    let name = play.look_up("/home/ann");
    play.pass(10_000);
    assert!(failed(&play, name));
    play.settle();
    assert!(play.engine.is_idle());
}
