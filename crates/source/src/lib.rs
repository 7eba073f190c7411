//! Where maps come from: files, directories, programs, the name service switch.
//!
//! A [`source::MapSource`] delivers text with its origin and nothing else: it does not parse,
//! mount or remember. [`cache::Maps`] is the one layer above all sources that keeps texts with
//! their freshness, follows includes and merged maps in reading order, and answers look-ups.
//! [`master`] reads a master map with everything it includes into a [`master::Site`].
//!
//! Everything here may block (a disk, an NFS server, a program); the daemon's loop calls only
//! [`cache::Maps::try_lookup_cached`], which does not.
#![forbid(unsafe_code)]

pub mod cache;
pub mod conf;
pub mod directory;
pub mod file;
pub mod hosts;
pub mod limits;
pub mod master;
pub mod memory;
pub mod null;
pub mod passwd;
pub mod program;
pub mod snapshot;
pub mod source;
pub mod switch;
pub mod users;
