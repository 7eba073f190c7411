//! What the journal holds: one record for each snapshot, from before it is made until it is gone.

use alloc::vec::Vec;

use bstr::BString;

use crate::manifest::{Consistency, Manifest};
use crate::name::Name;
use crate::origin::Origin;
use crate::policy::Policy;
use crate::settings::Means;

/// How far a snapshot has come.
#[derive(Clone, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Deserialize, serde::Serialize))]
pub enum Phase {
    /// It is being taken. Who finds this and holds the locks knows that the taker is dead.
    Taking {
        /// The file systems may have been frozen.
        frozen: bool,
        /// The program that tells applications to go on may not have been run.
        after: Option<BString>,
    },
    /// It is whole, and mounted or kept.
    Made,
    /// It is being removed: parts of it may be gone.
    Removing,
}

/// One snapshot.
#[derive(Clone, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Deserialize, serde::Serialize))]
pub struct Record {
    /// Its name.
    pub name: Name,
    /// Of what; more than one: all at one instant.
    pub origins: Vec<Origin>,
    /// How far it has come.
    pub phase: Phase,
    /// For whom it was taken: the path it was mounted at first. Those of the same origins and path
    /// are counted together, and the newest says how long they are kept.
    pub series: BString,
    /// How long it is kept.
    pub policy: Policy,
    /// For the provider.
    pub means: Means,
    /// How far its files fit together.
    pub consistency: Consistency,
}

impl Record {
    /// What is told about it.
    pub fn manifest(&self) -> Manifest {
        Manifest {
            name: self.name,
            origins: self.origins.clone(),
            consistency: self.consistency,
        }
    }

    /// Whether it is the record of `name` of `origin`.
    pub fn is_of(&self, origin: &Origin, name: Name) -> bool {
        self.name == name && self.origins.contains(origin)
    }

    /// Whether whoever was at work on it has not come to the end.
    pub fn is_unfinished(&self) -> bool {
        self.phase != Phase::Made
    }
}
