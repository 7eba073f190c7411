//! The daemon proper: the loop, its workers and what it listens to.
//!
//! The loop ([`runtime`]) never does anything that can block: it takes events from the front
//! end, signals, changed files and the control socket, hands them to the engine, and gives the
//! engine's commands to [`pool`]s of threads. What they did comes back as events.

mod background;
mod convert;
mod foreign;
mod journal;
mod loader;
pub(crate) mod log;
mod messages;
mod notes;
pub(crate) mod options;
mod pool;
mod runtime;
mod service;
mod settings;
mod sightings;
mod signals;
mod start;
mod tasks;
mod timers;
mod watch;

pub(crate) use start::run;
