//! The unprivileged process that speaks to networks for the daemon.
//!
//! [`Resolver`] is the daemon's side: it starts the process (`piton resolver`) when something is
//! asked for the first time, asks many things at once, and starts another when it dies.
//! [`serve`] is the process: it gives up root before it reads anything, and does whatever needs a
//! network protocol to be understood. What it answers is data to the daemon, and bounded.
#![forbid(unsafe_code)]

mod client;
mod error;
mod exports;
pub mod limits;
mod names;
mod privilege;
mod probe;
mod process;
mod serve;
mod task;
mod wire;

pub use client::{Resolver, User};
pub use error::Error;
pub use piton_rpc::exports::{Export, Exports, Origin};
pub use serve::serve;
pub use wire::hold_law;
