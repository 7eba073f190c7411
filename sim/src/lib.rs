//! The engine in a seeded, deterministic world with injected faults.
//!
//! [`run`] lets one world happen: the engine of the daemon, unchanged, and around it a
//! [`kernel`] with a mount tree and processes, [`maps`] that change, hands that [`perform`]
//! steps, a keeper with the pipe and the table of requests, operators, and [`faults`] in a mixture
//! that the seed decides. What comes from outside is a [`script`] written beforehand; what the
//! world decides on the way, its [`dice`] decide. After everything that happens the invariants of
//! `check` are asked. No clock, no thread, no number from outside: the same [`Recipe`] gives the
//! same world, and its trace says what went wrong. [`shrink`] makes a failing one small.
//!
//! README.md beside this crate says what is modelled and what is not.

mod check;
pub mod dice;
mod excuse;
mod failover;
pub mod faults;
mod hands;
mod keeper;
pub mod kernel;
pub mod maps;
pub mod mutation;
pub mod perform;
mod process;
mod recipe;
pub mod rng;
pub mod script;
pub mod seen;
mod servers;
pub mod shrink;
pub mod snapshot;
mod survey;
mod ticket;
mod words;
mod world;

pub use recipe::Recipe;

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
    /// The decisions that were not calm, if they were asked for.
    pub decisions: Vec<dice::Decision>,
}

/// What to tell of a world.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Tell {
    /// What happened, line by line.
    pub trace: bool,
    /// The decisions.
    pub decisions: bool,
}

/// Lets a world happen.
pub fn run(recipe: &Recipe, tell: Tell) -> Report {
    let mut world = World::new(recipe, tell);
    let result = world.run();
    Report {
        seed: recipe.seed,
        events: world.events,
        seen: world.seen,
        hash: world.hash,
        failure: result
            .err()
            .map(|why| format!("at {} ms: {why}", world.now)),
        decisions: world.dice.taken(),
        trace: world.trace.unwrap_or_default(),
    }
}
