//! Doing what was planned: the steps of a plan, one after the other, on the mount table.
//!
//! Vocabulary: a *step* is the planner's ([`piton_plan::step::Step`]); an *attempt* is one way to
//! get a file system; *native* is the kernel's mount API without a fork; a *helper* is mount(8)
//! (which runs `mount.TYPE`), the administrator's own mount program or,
//! where we are not root, that of a FUSE file system.
//!
//! Everything here blocks. Local mounts take microseconds; what goes to a server or through a
//! helper may take until the deadline, so callers run it in a worker that they can do without.
//!
//! Absent on purpose: which steps to do and when (planner, engine), and triggers, which belong to
//! the front end: it passes them in as [`perform::Triggers`].
#![forbid(unsafe_code)]

mod dependent;
mod error;
mod far;
mod hands;
pub mod helper;
pub mod holders;
pub mod hosts;
mod inspect;
mod kind;
mod lane;
mod lifeline;
pub mod limits;
pub mod namespaces;
mod native;
mod nfs;
mod options;
mod packet;
pub mod perform;
mod place;
mod rootless;
pub mod serving;
pub mod snapshot;
pub mod table;
mod types;
pub mod uname;
mod unmount;
mod walk;
mod wire;
pub mod worker;
pub mod workers;

pub use lane::{Hold, Lane};
pub use perform::{
    Done, Failure, Outcome, Performance, Program, Settings, Triggers, perform, perform_below,
};
pub use rootless::needs_root;
pub use types::is_on_disk;
pub use unmount::detach;
pub use walk::is_local;
#[doc(hidden)]
pub use wire::hold_law;
pub use workers::Workers;
