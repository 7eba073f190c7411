//! A FUSE file system for directories of symbolic links.
//!
//! It serves what `piton_loopback` serves by NFS, to the kernel itself and without root: the same
//! [`Tree`](piton_loopback::Tree) says what is there, and what leads nowhere yet becomes the same
//! question to the same [`Owner`](piton_loopback::Owner), who answers with a duty whenever he can.
//! Others are served meanwhile. docs/fuse.md says how it is mounted and what it can and cannot.
//!
//! A [`Mount`] is one root of the tree on one directory. Nothing can be changed through it, and no
//! file can be read: there are none.
#![forbid(unsafe_code)]

mod device;
mod doomed;
mod law;
pub mod limits;
mod mount;
mod parked;
mod reply;
mod request;
mod serve;
mod server;

pub use device::{Dead, Error, clear};
#[doc(hidden)]
pub use law::hold_law;
pub use mount::{Audience, Mount, Settings};
