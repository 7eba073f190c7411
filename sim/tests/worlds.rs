//! A few hundred worlds, and proof that the simulator would notice.

use piton_sim::mutation::Mutation;
use piton_sim::seen::Seen;
use piton_sim::shrink::shrink;
use piton_sim::{Recipe, Report, Tell, run};

/// Worlds of one `cargo test`; `piton-sim --seeds` runs more.
const WORLDS: u64 = 400;

/// Worlds within which each mutation must be noticed: one in six hundred notices the rarest, and which
/// one that is changes with every change of the engine.
const CAUGHT_WITHIN: u64 = 6_000;

fn world(seed: u64) -> Report {
    run(&Recipe::new(seed, None), Tell::default())
}

/// The first world in which a mutation does harm.
fn caught(mutation: Mutation) -> Option<Recipe> {
    let worlds = (0..CAUGHT_WITHIN).map(|seed| Recipe::new(seed, Some(mutation)));
    let fails = |recipe: &Recipe| run(recipe, Tell::default()).failure.is_some();
    worlds.into_iter().find(fails)
}

#[test]
fn every_invariant_holds_in_every_world_and_all_that_can_happen_does() {
    let mut seen = Seen::default();
    for seed in 0..WORLDS {
        let report = world(seed);
        if let Some(why) = report.failure {
            let again = Recipe::new(seed, None).command();
            panic!("seed {seed} failed {why}\nagain: {again}");
        }
        seen = seen.and(report.seen);
    }
    for (what, often) in seen.counts() {
        assert!(often > 0, "{what}: never in {WORLDS} worlds");
    }
}

#[test]
fn the_same_seed_gives_the_same_world() {
    let all = Tell {
        trace: true,
        decisions: true,
    };
    for seed in 0..30 {
        let recipe = Recipe::new(seed, None);
        let (one, other) = (run(&recipe, all), run(&recipe, all));
        assert_eq!(one, other);
        assert_eq!(one.hash, world(seed).hash, "the trace changes the world");
    }
    assert_ne!(world(1).hash, world(2).hash);
}

#[test]
fn a_world_of_all_its_decisions_is_the_world_itself() {
    let tell = Tell {
        trace: false,
        decisions: true,
    };
    for seed in 0..30 {
        let whole = run(&Recipe::new(seed, None), tell);
        let again = Recipe {
            decisions: Some(whole.decisions.iter().copied().collect()),
            ..Recipe::new(seed, None)
        };
        assert_eq!(run(&again, Tell::default()).hash, whole.hash);
    }
}

#[test]
fn each_mutation_is_caught() {
    for mutation in Mutation::ALL {
        let name = mutation.name();
        assert!(caught(mutation).is_some(), "{name} was not noticed");
        assert_eq!(Mutation::named(name), Some(mutation));
    }
    assert_eq!(Mutation::named("none"), None);
}

#[test]
fn a_failing_world_is_made_small_and_fails_in_the_same_way() {
    for mutation in [Mutation::LostTicket, Mutation::HalfTrusted] {
        let recipe = caught(mutation).unwrap();
        let whole = run(&recipe, Tell::default());
        let shrunk = shrink(&recipe).unwrap();
        let all = recipe.script().occurrences.len();
        let some = shrunk.recipe.script().occurrences.len();
        assert!(some * 4 < all, "{some} of {all} occurrences are left");
        assert!(shrunk.report.events < whole.events);
        // What is left is enough, and it is told what it is.
        let again = run(&shrunk.recipe, Tell::default());
        assert_eq!(again.failure, shrunk.report.failure);
        let command = shrunk.recipe.command();
        assert!(command.contains(" --occurrences "), "{command}");
        assert!(!shrunk.report.trace.is_empty());
    }
}
