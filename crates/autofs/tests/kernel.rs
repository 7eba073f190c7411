//! The promises of this crate on the real kernel. Needs root and `/dev/autofs`; fails where it
//! cannot run.
//!
//! Each test is run in a sandbox (`kernel/sandbox.rs`), as a daemon of its own
//! (`kernel/daemon.rs`).

#[path = "kernel/daemon.rs"]
mod daemon;
#[path = "kernel/sandbox.rs"]
mod sandbox;

#[path = "kernel/attributes.rs"]
mod attributes;
#[path = "kernel/disks.rs"]
mod disks;
#[path = "kernel/expire.rs"]
mod expire;
#[path = "kernel/let_go.rs"]
mod let_go;
#[path = "kernel/points.rs"]
mod points;
#[path = "kernel/requests.rs"]
mod requests;
#[path = "kernel/restart.rs"]
mod restart;
