//! What the command line and the daemon say to each other.
//!
//! The daemon listens on a unix socket in its runtime directory and speaks varlink: JSON objects,
//! each ended by a NUL byte. Read-only calls are for everybody, changing calls for root and the
//! daemon's own user. This crate holds the messages (the only serialised types of the daemon), a
//! small server that never runs on the daemon's loop, the client, and the runtime directory with
//! the lock that keeps a second daemon out. docs/control.md describes the interface to users.
//!
//! Deliberately absent: the engine. The daemon implements [`Service`]; this crate only carries
//! its answers.

pub mod client;
pub mod limits;
pub mod line;
pub mod message;
pub mod runtime;
pub mod server;
mod service;
pub mod time;
pub mod varlink;

pub use client::{Client, ClientError};
pub use runtime::{Lock, LockError, RuntimeDir, RuntimeError};
pub use server::{Server, ServerError};
pub use service::{Caller, Service, ServiceError, TraceFrom};
