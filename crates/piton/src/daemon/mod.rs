//! The daemon proper: the loop, its workers and what it listens to.
//!
//! The loop ([`runtime`], run in [`turns`]) takes events from the front end, signals, changed
//! files and the control socket, hands them to the engine, and has the engine's commands done:
//! quick ones by a thread that steps out of the loop for it, others by [`pool`]s of threads. What
//! they did comes back as events.

mod asked;
pub(crate) mod background;
mod checks;
mod convert;
mod departed;
mod foreign;
mod held;
mod journal;
mod limits;
mod line;
mod loader;
pub(crate) mod log;
mod messages;
mod network;
mod notes;
pub(crate) mod options;
mod pending;
mod pool;
mod reload;
mod runtime;
mod service;
mod settings;
mod sightings;
pub(crate) mod signals;
mod start;
mod tasks;
mod timers;
mod trace;
mod turns;
mod watch;

pub(crate) use start::run;
