//! What is to be known of a snapshot, for people and backup programs.

use alloc::vec::Vec;
use core::fmt;

use crate::name::Name;
use crate::origin::Origin;

/// How far the files in a snapshot fit together, weakest first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[cfg_attr(feature = "serde", derive(serde::Deserialize, serde::Serialize))]
#[cfg_attr(feature = "serde", serde(rename_all = "kebab-case"))]
pub enum Consistency {
    /// Each file was copied by itself: they are not of one instant.
    FileByFile,
    /// One instant, as after a power failure: a journal may have to be replayed.
    Crash,
    /// One instant, with the file system told to write everything before.
    Frozen,
    /// The same, and the applications were told, too (hooks).
    Application,
}

impl Consistency {
    /// As it is written: `crash-consistent`, …
    pub fn word(self) -> &'static str {
        match self {
            Self::FileByFile => "file-by-file",
            Self::Crash => "crash-consistent",
            Self::Frozen => "fs-frozen",
            Self::Application => "application",
        }
    }
}

impl fmt::Display for Consistency {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(self.word())
    }
}

/// Where a snapshot is from, when and how it was taken.
#[derive(Clone, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Deserialize, serde::Serialize))]
pub struct Manifest {
    /// Its name, which is when it was taken.
    pub name: Name,
    /// Of what; more than one were taken at one instant.
    pub origins: Vec<Origin>,
    /// How far its files fit together.
    pub consistency: Consistency,
}
