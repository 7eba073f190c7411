//! Deliberate mistakes between the lifecycle and its world, each of which must be noticed.

use piton_snapshot::lifecycle::{Command, Look};
use piton_snapshot::{Health, Phase, Policy, Record};

/// A way to be wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mutation {
    /// Locks are given to everybody who asks.
    SharedLock,
    /// A snapshot is taken before the journal says so.
    NoIntent,
    /// The record is removed, and not the snapshot.
    ForgottenOnly,
    /// Nothing is ever thawed.
    NoThaw,
    /// Applications are never told to go on.
    NoAfterHook,
    /// What is mounted is taken for idle, and removed under its users.
    BusyIgnored,
    /// What overflowed is taken for good.
    OverflowIgnored,
    /// Nothing is kept, whatever the map says.
    NothingKept,
    /// An access gets an older snapshot than it asked for.
    Stale,
    /// Somebody else's snapshot is taken for ours.
    ForeignListed,
    /// Of a group one is taken a moment later.
    NotAtOnce,
    /// What a crash left is taken for finished.
    LeftoverTrusted,
    /// It is frozen after the snapshot is taken.
    LateFreeze,
}

impl Mutation {
    /// All of them.
    pub const ALL: [Self; 13] = [
        Self::SharedLock,
        Self::NoIntent,
        Self::ForgottenOnly,
        Self::NoThaw,
        Self::NoAfterHook,
        Self::BusyIgnored,
        Self::OverflowIgnored,
        Self::NothingKept,
        Self::Stale,
        Self::ForeignListed,
        Self::NotAtOnce,
        Self::LeftoverTrusted,
        Self::LateFreeze,
    ];

    /// Whether the command is only said to be carried out.
    pub(super) fn drops(self, command: &Command) -> bool {
        match (self, command) {
            (Self::NoIntent, Command::Write(Record { phase, .. })) => {
                matches!(phase, Phase::Taking { .. })
            }
            (Self::ForgottenOnly, Command::Remove { .. })
            | (Self::NoThaw, Command::Thaw { .. })
            | (Self::NoAfterHook, Command::Hook { before: false, .. })
            | (Self::LateFreeze, Command::Freeze { .. }) => true,
            _ => false,
        }
    }

    /// Changes what is seen.
    pub(super) fn look(self, look: &mut Look) {
        match self {
            Self::BusyIgnored => look.listed.iter_mut().for_each(|found| found.busy = false),
            Self::OverflowIgnored => {
                look.listed
                    .iter_mut()
                    .for_each(|found| found.health = Health::Good);
            }
            Self::NothingKept => {
                let policies = look.records.iter_mut().map(|record| &mut record.policy);
                policies.for_each(|policy| *policy = Policy::default());
            }
            Self::LeftoverTrusted => {
                let phases = look.records.iter_mut().map(|record| &mut record.phase);
                phases.for_each(|phase| *phase = Phase::Made);
            }
            _ => {}
        }
    }
}
