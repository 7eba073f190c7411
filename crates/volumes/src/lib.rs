//! Snapshots of live volumes, by whatever can make them.
//!
//! A [`Provider`] looks at an *origin* (a live volume), makes named snapshots of one or several
//! origins at one instant, tells how to mount one, lists those that are ours, and removes them. What
//! is to be done when is not decided here.
//!
//! # Vocabulary
//! - An *origin* is what a snapshot is made of: a logical volume, a subvolume, a dataset, an image
//!   file, a directory.
//! - A *mark* says that a snapshot was made by Piton: a tag, a property, an attribute of its
//!   directory. What has no mark is never removed, whatever its name.
//! - A snapshot that *overflowed* or is *partial* is listed, and never served.
//!
//! # What is absent
//! No policy, no map, no mounting, and no shell: programs are started with their arguments.

mod btrfs;
mod busy;
mod closed;
mod digest;
mod directory;
mod error;
mod execute;
mod guard;
mod image;
mod journal;
pub mod limits;
mod listing;
mod lock;
mod lvm;
mod opened;
mod place;
mod program;
mod provider;
mod providers;

mod room;
mod superblock;
mod table;
mod tree;
mod turn;
mod zfs;

pub use btrfs::Btrfs;
pub use directory::Directory;
pub use error::{Error, text_of};
pub use execute::{Mount, Site};
pub use guard::{GuardCommand, Still, serve_guard};
pub use image::Image;
pub use lvm::Lvm;
pub use opened::Opened;
pub use provider::{Provider, Show, View};
pub use providers::Providers;
pub use turn::Turn;
pub use zfs::Zfs;
