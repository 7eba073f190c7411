//! What a provider sees: an origin's state, and the snapshots that are ours.

use alloc::string::String;

use crate::name::Name;
use crate::origin::Origin;

/// Whether a snapshot still is what it was when it was taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Deserialize, serde::Serialize))]
#[cfg_attr(feature = "serde", serde(rename_all = "lowercase"))]
pub enum Health {
    /// It is.
    Good,
    /// Its space is full and it lost what it held: never to be served.
    Overflowed,
    /// It was not made to its end.
    Partial,
}

/// A snapshot that is marked as ours.
#[derive(Clone, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Deserialize, serde::Serialize))]
pub struct Found {
    /// Of what.
    pub origin: Origin,
    /// Its name.
    pub name: Name,
    /// Whether it can be served.
    pub health: Health,
    /// Bytes it takes by itself, where that is known.
    pub used: Option<u64>,
    /// It is mounted, or open, somewhere: in any mount namespace, as far as the kernel tells.
    pub busy: bool,
}

/// How full the place is where a snapshot takes its space.
#[derive(Clone, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Deserialize, serde::Serialize))]
pub struct Fill {
    /// Its name in words: `thin pool storage/pool`, `volume group storage`, `file system /data`.
    pub place: String,
    /// Percent in use, rounded up; metadata where that is fuller.
    pub percent: u8,
    /// Bytes that are free.
    pub free: u64,
}

/// What is known of an origin before a snapshot of it is taken.
#[derive(Clone, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Deserialize, serde::Serialize))]
pub struct State {
    /// Which origin.
    pub origin: Origin,
    /// Where its snapshots take their space.
    pub fill: Fill,
    /// Where its file system is mounted, if it is: what is frozen.
    pub mounted: Option<bstr::BString>,
    /// Making a snapshot of it freezes the file system anyway (LVM, btrfs, ZFS): there is no need to
    /// freeze it before, unless it is one of a group of which LVM makes snapshots in turn.
    pub freezes: bool,
    /// A snapshot of it is one instant; else (directories copied file by file) it is not.
    pub instant: bool,
    /// A snapshot of it holds all that was written before its instant. Else (btrfs, unless it is
    /// mounted with flushoncommit) what was only in memory may be missing though later names are
    /// there, as after a power failure; and freezing it would keep the snapshot from being made.
    pub whole: bool,
    /// It is known how much room one snapshot of it takes by itself: not of a thin volume of LVM, nor
    /// where extents are shared with others.
    pub tells_room: bool,
}
