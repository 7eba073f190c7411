//! The engine in a seeded, deterministic world with injected faults.
//!
//! [`run`] lets one world happen: the engine of the daemon, unchanged, and around it a
//! [`kernel`] with a mount tree and processes, [`maps`] that change, hands that [`perform`]
//! steps, operators, and [`faults`] in a mixture that the seed decides. After everything that
//! happens the invariants of `check` are asked. No clock, no thread, no number from outside:
//! the same seed gives the same world, and its trace says what went wrong.

mod check;
pub mod faults;
pub mod kernel;
pub mod maps;
pub mod mutation;
pub mod perform;
mod process;
pub mod rng;
pub mod seen;
mod world;

use mutation::Mutation;
use world::World;

/// What came of one world.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Report {
    /// Its seed.
    pub seed: u64,
    /// Things that happened.
    pub events: u64,
    /// What they were.
    pub seen: seen::Seen,
    /// Stands for all that the engine did: equal for equal worlds.
    pub hash: u64,
    /// The invariant that did not hold.
    pub failure: Option<String>,
    /// What happened, if it was asked for.
    pub trace: Vec<String>,
}

/// Lets the world of `seed` happen, with a deliberately broken engine if asked for.
pub fn run(seed: u64, mutation: Option<Mutation>, trace: bool) -> Report {
    let mut world = World::new(seed, mutation, trace);
    let result = world.run();
    Report {
        seed,
        events: world.events,
        seen: world.seen,
        hash: world.hash,
        failure: result
            .err()
            .map(|why| format!("at {} ms: {why}", world.now)),
        trace: world.trace.unwrap_or_default(),
    }
}
