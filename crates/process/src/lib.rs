//! Other processes: what `/proc` says of them, and how those of ours are started and ended.
//!
//! `/proc` is the kernel's memory: reading it waits for no server, and for no process. A process may
//! end while it is looked at; what cannot be read any more is left out.

pub mod about;
mod child;
mod family;
pub mod limits;
mod list;
mod stat;

pub use child::{await_end, how_ended, start_on_socket, wait_until};
pub use family::{children, kill_family};
pub use list::{everybody, has_open, living_in};
pub use stat::Stat;
