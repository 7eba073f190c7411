//! Piton's decisions: closed [`event::Event`]s in, closed [`command::Command`]s out.
//!
//! The engine owns all state: which triggers there are, what is mounted at each, who waits for
//! it and what is being done about it. It does nothing itself. Whoever reads [`event`] and
//! [`command`] has read the program; [`engine::Engine::handle`] is the way from one to the other.
//!
//! Time comes in as [`time::Millis`], facts about the host as `piton_plan::facts::HostFacts`.
#![no_std]
#![forbid(unsafe_code)]

extern crate alloc;

pub mod audit;
mod care;
pub mod cause;
mod choosing;
mod clearing;
pub mod command;
pub mod config;
pub mod difference;
pub mod engine;
pub mod event;
mod expire;
mod failover;
mod health;
mod job;
mod learning;
pub mod limits;
mod mounting;
mod names;
pub mod negative;
pub mod place;
pub mod planning;
pub mod reload;
mod servers;
mod settle;
pub mod sharing;
pub mod status;
mod stop;
pub mod time;
mod tree;
mod trigger;
mod unmounting;
mod waiting;
mod whole;

pub use command::Command;
pub use engine::Engine;
pub use event::Event;
