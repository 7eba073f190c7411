//! Snapshots taken, served and removed in some thousand worlds, with a death at every step; and proof
//! that mistakes would be noticed.

use piton_sim::snapshot::{Mutation, Seen, run};

const WORLDS: u64 = 3_000;

/// Worlds within which each mutation must be noticed.
const CAUGHT_WITHIN: u64 = 3_000;

#[test]
fn snapshots_hold_in_every_world() {
    let mut all = Seen::default();
    for seed in 0..WORLDS {
        let report = run(seed, None, false);
        if let Some(why) = report.failure {
            let told = run(seed, None, true).trace.join("\n");
            panic!("{told}\nseed {seed} failed: {why}");
        }
        let seen = report.seen;
        all.fresh += seen.fresh;
        all.existing += seen.existing;
        all.refused += seen.refused;
        all.deaths += seen.deaths;
        all.power += seen.power;
        all.removed += seen.removed;
        all.mended += seen.mended;
        all.overflows += seen.overflows;
    }
    let Seen {
        fresh,
        existing,
        refused,
        deaths,
        power,
        removed,
        mended,
        overflows,
    } = all;
    let counts = [
        fresh, existing, refused, deaths, power, removed, mended, overflows,
    ];
    assert!(counts.iter().all(|count| *count > WORLDS / 30), "{all:?}");
}

#[test]
fn the_same_seed_gives_the_same_snapshots() {
    for seed in 0..20 {
        assert_eq!(run(seed, None, true), run(seed, None, true));
    }
}

#[test]
fn each_mistake_with_snapshots_is_noticed() {
    for mutation in Mutation::ALL {
        let noticed =
            (0..CAUGHT_WITHIN).find(|seed| run(*seed, Some(mutation), false).failure.is_some());
        assert!(noticed.is_some(), "{mutation:?} was not noticed");
    }
}
