//! A small NFSv3 server on the loopback interface, for directories of symbolic links.
//!
//! It is what an automounter was before kernels had autofs: the daemon is the NFS server of its
//! mount points. A [`Tree`] says what is there: roots that are directories of links, or single
//! links. What leads nowhere yet, when a client looks at it, becomes a question to the [`Owner`], who
//! answers with a [`Duty`] whenever he can; others are served meanwhile. docs/older-automounter.md
//! says how the kernel's client mounts it and what it can and cannot.
//!
//! Only clients of root on this host are served. Nothing can be changed through it, and no file can
//! be read: there are none. Whatever clients send, it costs no more than [`limits`] says.
#![forbid(unsafe_code)]

mod call;
mod connection;
mod duty;
mod expand;
mod handle;
mod law;
pub mod limits;
mod listener;
mod mountd;
mod nfs;
mod parked;
mod peer;
mod question;
mod serve;
mod server;
mod stamp;
mod status;
mod tree;

pub use duty::{Access, Answers, Caller, Duty, Given, Owner, Purpose};
pub use expand::Witness;
pub use handle::Secret;
#[doc(hidden)]
pub use law::hold_law;
pub use listener::{Listener, RESERVED};
pub use server::Server;
pub use tree::{Link, RootId, RootKind, Seen, Tree, TreeError};
