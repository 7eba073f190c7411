//! The life of a snapshot, as a state machine: [`Access`] finds or takes one and has it mounted,
//! [`Sweep`] finishes what a crash left and removes what is not kept.
//!
//! Both are asked with an [`Event`] what comes next and answer with one [`Command`]; the event after
//! it says how that went. Whoever carries commands out may die between any two of them, or while one
//! is carried out: the journal's records, what providers list, and what is mounted tell the next one
//! what to do. Who holds the locks of all origins of a record is the only one at work on it.

mod access;
mod choose;
mod chores;
mod sweep;
#[cfg(test)]
mod tests;

use alloc::string::String;
use alloc::vec::Vec;

use bstr::BString;

pub use self::access::{Access, Wanted};
pub use self::choose::{Choice, choose};
pub use self::sweep::Sweep;

use crate::found::{Found, State};
use crate::manifest::Manifest;
use crate::name::Name;
use crate::origin::Origin;
use crate::record::Record;
use crate::settings::Means;
use crate::time::Timestamp;

/// What has happened.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Event {
    /// It begins. Comes first, and only once.
    Begin,
    /// The command was carried out.
    Done,
    /// What [`Command::Look`] saw.
    Looked(Look),
    /// The command was not carried out, or not wholly.
    Failed(Fault),
}

/// What is to be done next.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Command {
    /// Hold the locks of these origins and no others: give back all that are held, then take these
    /// in this order. Locks go with whoever holds them.
    Lock {
        /// In order.
        origins: Vec<Origin>,
    },
    /// Read the journal, and list what is there; answered by [`Event::Looked`]. An origin that is
    /// not there now is a failure: its snapshots may come back with it.
    Look {
        /// Of which origins.
        origins: Vec<Origin>,
        /// Snapshots are looked for with these means, and with those of each record.
        means: Means,
        /// Whether [`Look::states`] is wanted.
        states: bool,
        /// Only this snapshot is wanted, and no records.
        only: Option<Name>,
    },
    /// Write into the journal, in place of the record of the same name and origins. It is on disk
    /// when this is done.
    Write(Record),
    /// Remove the record of this name and origins from the journal.
    Forget {
        /// The name.
        name: Name,
        /// The origins.
        origins: Vec<Origin>,
    },
    /// Run a program of the administrator.
    Hook {
        /// Absolute path.
        program: BString,
        /// Before the snapshot, or after it.
        before: bool,
        /// Of what.
        origins: Vec<Origin>,
        /// The snapshot.
        name: Name,
    },
    /// Freeze the file systems of these origins, all of them.
    Freeze {
        /// Of which.
        origins: Vec<Origin>,
    },
    /// Thaw them. One that is not frozen, or is not mounted, is thawed.
    Thaw {
        /// Of which.
        origins: Vec<Origin>,
    },
    /// Make a snapshot of each, at one instant.
    Create {
        /// Of which.
        origins: Vec<Origin>,
        /// By this name.
        name: Name,
        /// For the provider.
        means: Means,
    },
    /// Remove a snapshot. That it is not there is success; what is mounted or open anywhere, and
    /// what does not carry our mark, stays, which is a failure.
    Remove {
        /// Of which origin.
        origin: Origin,
        /// The snapshot.
        name: Name,
        /// For the provider.
        means: Means,
    },
    /// Mount a snapshot where the access is.
    Mount {
        /// Of which origin.
        origin: Origin,
        /// The snapshot.
        name: Name,
        /// For the provider.
        means: Means,
        /// What is to be told about it.
        manifest: Manifest,
    },
    /// All is done: the locks are given back.
    End(Ending),
}

/// What there is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Look {
    /// The time now.
    pub now: Timestamp,
    /// The records of the journal that have one of the origins.
    pub records: Vec<Record>,
    /// Snapshots of the origins that are marked as ours.
    pub listed: Vec<Found>,
    /// The state of each origin; empty if it was not asked for.
    pub states: Vec<State>,
}

/// Why something was not done.
#[derive(Clone, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Deserialize, serde::Serialize))]
pub struct Fault {
    /// As errno(3) numbers it.
    pub errno: i32,
    /// In words.
    pub text: String,
}

/// How it ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Ending {
    /// A snapshot is mounted.
    Mounted {
        /// Which.
        manifest: Manifest,
        /// It was taken for this access.
        fresh: bool,
        /// What did not go as it should have.
        notes: Vec<String>,
    },
    /// The access fails.
    Failed(Fault),
    /// A sweep is over.
    Swept(Swept),
}

/// What a sweep did.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Deserialize, serde::Serialize))]
pub struct Swept {
    /// Snapshots that are gone.
    pub removed: Vec<Name>,
    /// Snapshots that are kept, or used.
    pub kept: Vec<Name>,
    /// What could not be done.
    pub left: Vec<Left>,
    /// Snapshots that lost what they held.
    pub overflowed: Vec<Name>,
}

/// Something a sweep could not finish.
#[derive(Clone, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Deserialize, serde::Serialize))]
pub struct Left {
    /// The snapshot; none: nothing could be looked at.
    pub name: Option<Name>,
    /// Why.
    pub fault: Fault,
}

/// The numbers of errno(3) that are given here.
pub(crate) mod errno {
    pub(crate) const NOENT: i32 = 2;
    pub(crate) const IO: i32 = 5;
    pub(crate) const NOSPC: i32 = 28;
    pub(crate) const PROTO: i32 = 71;
    pub(crate) const OPNOTSUPP: i32 = 95;
}

impl Fault {
    /// A failure in words.
    pub fn new(errno: i32, text: impl Into<String>) -> Self {
        Self {
            errno,
            text: text.into(),
        }
    }

    /// An answer that does not belong to the command.
    fn unexpected(event: &Event) -> Self {
        Self::new(errno::PROTO, alloc::format!("unexpected answer: {event:?}"))
    }
}

/// Origins of unfinished records that are not all among `held`, joined with those: whoever holds
/// the locks of some of them only does not touch the record.
fn widened(look: &Look, held: &[Origin]) -> Option<Vec<Origin>> {
    let mut all: Vec<Origin> = held.to_vec();
    let unfinished = look.records.iter().filter(|record| record.is_unfinished());
    all.extend(unfinished.flat_map(|record| record.origins.iter().cloned()));
    all.sort();
    all.dedup();
    (all.len() > held.len()).then_some(all)
}
