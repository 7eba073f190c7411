//! A small, bounded client of ONC RPC (RFC 5531): what an automounter asks of servers before it
//! mounts from them.
//!
//! [`exchange`] is one call over TCP or UDP, driven by whoever polls; [`call()`] is one that waits.
//! On these stand [`portmap`] (where does a program listen?) and [`exports`] (what may be
//! mounted?). What servers say is checked here and bounded by [`limits`]; it never makes anything
//! panic, reserve memory that has not come, or wait longer than it was told.
//!
//! Nothing here is meant to be run by root: crates/resolver runs it in a process without rights. The
//! exceptions are [`xdr`] and [`record`], with which crates/loopback reads what root's own clients on
//! this host send.
#![forbid(unsafe_code)]

mod error;
pub mod exchange;
pub mod exports;
pub mod limits;
pub mod message;
pub mod nfs4;
pub mod portmap;
pub mod record;
pub mod xdr;

pub use error::Error;
pub use exchange::{Protocol, call};

/// The program NFS, whose procedure 0 (NULL) says that it is there.
pub const NFS: u32 = 100_003;

/// Where NFS listens, if nothing else is said.
pub const NFS_PORT: u16 = 2049;

/// The program MOUNT, which knows the exports of a server.
pub const MOUNT: u32 = 100_005;

/// The procedure of every program that does nothing.
pub const NULL: u32 = 0;
