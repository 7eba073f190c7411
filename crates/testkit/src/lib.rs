//! What tests share: private mount namespaces, scratch file systems, a look at the mount table,
//! and accesses by processes outside of the automounter's process group.
//!
//! A test that mounts runs its body in [`in_private_namespace`] (or [`privately`]); what it
//! leaves behind, mounts and processes, goes with the namespace.
#![forbid(unsafe_code)]

mod access;
mod expected;
mod fuse;
mod guide;
mod namespace;
mod probe;
mod rpc;
mod scratch;
mod writer;

pub use access::{Access, Answer, heard_by};
pub use expected::Expected;
pub use fuse::{BadFuse, Silence};
pub use guide::commands;
pub use namespace::{in_private_namespace, in_private_network, privately};
pub use probe::{MountLine, mount_table, mounted_at, wait_until};
pub use rpc::{FakeNfs, FakeServer, Mischief};
pub use scratch::Scratch;
pub use writer::{Seen, Writer, state};
