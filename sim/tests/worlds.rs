//! A few hundred worlds, and proof that the simulator would notice.

use piton_sim::mutation::Mutation;
use piton_sim::run;
use piton_sim::seen::Seen;

/// Worlds of one `cargo test`; `piton-sim --seeds` runs more.
const WORLDS: u64 = 300;

#[test]
fn every_invariant_holds_in_every_world() {
    for seed in 0..WORLDS {
        let report = run(seed, None, false);
        if let Some(why) = report.failure {
            let trace = run(seed, None, true).trace.join("\n");
            panic!("{trace}\nseed {seed} failed {why}");
        }
    }
}

#[test]
fn everything_that_can_happen_does() {
    let seen = (0..WORLDS).map(|seed| run(seed, None, false).seen);
    let seen = seen.fold(Seen::default(), Seen::and);
    for (what, often) in [
        ("ready", seen.ready),
        ("failed", seen.failed),
        ("timed out", seen.timed_out),
        ("expired", seen.expired),
        ("performed", seen.performed),
        ("undone", seen.undone),
        ("half done", seen.half_done),
        ("adopted", seen.adopted),
        ("lives", seen.lives),
        ("by hand", seen.by_hand),
    ] {
        assert!(
            often > WORLDS / 10,
            "{what}: {often} times in {WORLDS} worlds"
        );
    }
}

#[test]
fn the_same_seed_gives_the_same_world() {
    for seed in 0..20 {
        let (one, other) = (run(seed, None, true), run(seed, None, true));
        assert_eq!(one, other);
        assert_eq!(
            one.hash,
            run(seed, None, false).hash,
            "the trace changes the world"
        );
    }
    assert_ne!(run(1, None, false).hash, run(2, None, false).hash);
}

#[test]
fn each_mutation_is_caught() {
    for mutation in Mutation::ALL {
        let caught = (0..1_000).any(|seed| run(seed, Some(mutation), false).failure.is_some());
        assert!(caught, "{} was not noticed", mutation.name());
        assert_eq!(Mutation::named(mutation.name()), Some(mutation));
    }
    assert_eq!(Mutation::named("none"), None);
}
