//! The daemon proper: the loop, its workers and what it listens to.
//!
//! The loop ([`runtime`], run in [`turns`]) takes events from the front end, signals, changed
//! files and the control socket, hands them to the engine, and has the engine's commands done:
//! quick ones by a thread that steps out of the loop for it, others by [`pool`]s of threads. What
//! they did comes back as events.

mod asked;
pub(crate) mod background;
mod beginning;
mod calls;
mod checks;
mod convert;
mod departed;
mod ending;
mod foreign;
pub(crate) mod front;
mod held;
mod incoming;
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
mod performing;
mod pool;
mod questions;
mod relisting;
mod reload;
mod runtime;
mod service;
mod settings;
mod sightings;
pub(crate) mod signals;
mod snapshots;
mod staging;
mod start;
mod tasks;
mod timers;
mod trace;
mod turns;
mod watch;

pub(crate) use start::run;
