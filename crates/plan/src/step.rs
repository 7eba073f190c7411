//! The smallest things that can be done to the mount table, in order, and how each is undone.

use alloc::vec::Vec;
use core::net::IpAddr;

use bstr::BString;
use piton_map::options::Propagation;

/// A trigger (an autofs mount, or whatever the front end has in its place) by number.
///
/// Numbers are given by the engine and never used twice in a daemon's life.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TriggerId(pub u32);

/// The three kinds of trigger (kernel document autofs.rst).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum TriggerKind {
    /// Its sub-directories are the keys.
    Indirect,
    /// It is itself the key.
    Direct,
    /// Like direct, below another mount of the same entry.
    Offset,
}

/// A trigger to be put in place.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TriggerSpec {
    /// Its number.
    pub id: TriggerId,
    /// Indirect, direct or offset.
    pub kind: TriggerKind,
    /// Absolute path of its mount point.
    pub path: BString,
    /// What the mount table shows as source: the map's name.
    pub source: BString,
    /// Seconds of idleness before expiry; 0 is never.
    pub timeout: u32,
    /// Path walks don't count as use.
    pub strict_expire: bool,
    /// Permission bits of the mount point's root, when set by `--mode`.
    pub mode: Option<u32>,
    /// Propagation of the trigger's own mount, where one is asked for.
    pub propagation: Propagation,
}

/// One way to get a file system: what is handed to mount.
#[derive(Clone, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Deserialize, serde::Serialize))]
pub struct Attempt {
    /// Bind mount, or a file system of a type.
    pub what: What,
    /// The text given to mount as source: `host:/path`, a device, a directory, a word.
    pub source: BString,
    /// Options in order, after all merging, without pseudo-options.
    pub options: Vec<BString>,
    /// The server, where there is one.
    pub host: Option<BString>,
    /// Which of the server's addresses is to be used, where that was decided; else whoever mounts
    /// looks for one.
    pub address: Option<Address>,
    /// Whether the server at that address does not show its root of NFS 4 to who does not say who
    /// he is: [`crate::probe::Answer::Serves`].
    pub no_guests: bool,
    /// `mount-helper=yes`: mount(8) mounts it, even where Piton could by itself.
    pub by_helper: bool,
}

/// An address of a server.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[cfg_attr(feature = "serde", derive(serde::Deserialize, serde::Serialize))]
pub struct Address {
    /// The address.
    pub ip: IpAddr,
    /// The number of the interface that a link-local address is on; 0: none is named.
    pub scope: u32,
}

impl From<IpAddr> for Address {
    fn from(ip: IpAddr) -> Self {
        Self { ip, scope: 0 }
    }
}

/// What kind of mount an [`Attempt`] is.
#[derive(Clone, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Deserialize, serde::Serialize))]
pub enum What {
    /// A directory (or file) of this host made visible elsewhere.
    Bind {
        /// Whether mounts below it come along (`rbind`).
        recursive: bool,
    },
    /// A file system of this type; empty means that none was named (`fstype=`).
    Type(BString),
}

/// One thing to do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Step {
    /// Make the directory (and missing parents) if it is not there.
    MakeDirectory {
        /// Absolute path.
        path: BString,
    },
    /// Mount the first of `attempts` that works.
    Mount {
        /// Absolute path of the mount point.
        target: BString,
        /// Ways to get it, best first.
        attempts: Vec<Attempt>,
        /// Propagation of the new mount.
        propagation: Propagation,
    },
    /// Make a symbolic link in place of a mount.
    Symlink {
        /// Absolute path of the link.
        path: BString,
        /// What it points to.
        to: BString,
    },
    /// Put a trigger in place.
    Install(TriggerSpec),
    /// Unmount what is on `target`; what is used stays and the step fails with EBUSY.
    Unmount {
        /// Absolute path.
        target: BString,
        /// Whether to go through umount(8) because mount(8) or its helper mounted it.
        helper: bool,
    },
    /// Take a trigger away.
    Remove(TriggerSpec),
    /// Unmount what is on `target` lazily, with all that lies below it: who is inside stays there,
    /// and everybody else finds nothing mounted.
    LetGo {
        /// Absolute path.
        target: BString,
        /// The triggers below, which go with it, however deep.
        triggers: Vec<TriggerSpec>,
    },
    /// Remove the directory if it is empty and ours.
    RemoveDirectory {
        /// Absolute path.
        path: BString,
    },
    /// Remove a symbolic link that [`Step::Symlink`] made.
    RemoveSymlink {
        /// Absolute path.
        path: BString,
    },
}

/// A step and whether the whole fails with it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Planned {
    /// What to do.
    pub step: Step,
    /// False: a failure is reported and the rest goes on (offsets of a non-strict entry).
    pub required: bool,
}

impl Step {
    /// The step that takes this one back, if it can be taken back.
    ///
    /// `helper` tells how a mount was made. Unmounting is not undone by mounting again: a
    /// trigger put back does that at the next access.
    pub fn undo(&self, helper: bool) -> Option<Step> {
        match self {
            Self::MakeDirectory { path } => Some(Self::RemoveDirectory { path: path.clone() }),
            Self::Mount { target, .. } => Some(Self::Unmount {
                target: target.clone(),
                helper,
            }),
            Self::Symlink { path, .. } => Some(Self::RemoveSymlink { path: path.clone() }),
            Self::Install(spec) => Some(Self::Remove(spec.clone())),
            Self::Remove(spec) => Some(Self::Install(spec.clone())),
            Self::Unmount { .. }
            | Self::LetGo { .. }
            | Self::RemoveDirectory { .. }
            | Self::RemoveSymlink { .. } => None,
        }
    }
}
