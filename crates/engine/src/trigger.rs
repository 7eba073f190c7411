//! Triggers: mount points, offsets and submounts, as the engine knows them.

use alloc::boxed::Box;
use alloc::sync::Arc;

use bstr::BString;
use piton_map::requester::Requester;
use piton_plan::plan::Plan;
use piton_plan::step::TriggerSpec;

use crate::config::Binding;
use crate::place::Place;
use crate::status::LastError;
use crate::time::Millis;

/// One trigger.
#[derive(Debug)]
pub(crate) struct Trigger {
    /// What the front end was given.
    pub(crate) spec: TriggerSpec,
    /// How far it is.
    pub(crate) state: State,
    /// Why it is there.
    pub(crate) role: Role,
    /// The master-map line it comes from.
    pub(crate) binding: Arc<Binding>,
    /// Its next expiry round.
    pub(crate) round: Round,
    /// The smallest idle time of anything mounted in it, in seconds; 0 is never.
    pub(crate) least_timeout: u32,
    /// The idle time changed while the trigger was being put in place.
    pub(crate) timeout_changed: bool,
    /// The last access through it.
    pub(crate) last_used: Millis,
    /// Who came by here or by a trigger below, if anybody did.
    pub(crate) usage: Option<Box<Usage>>,
}

/// Who came by a mount point, and what became of it: for `status`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Usage {
    /// The first who had to wait here.
    pub first: Requester,
    /// The last one.
    pub last: Requester,
    /// How many had to wait, or were answered from memory.
    pub accesses: u64,
    /// The last failure.
    pub failure: Option<LastError>,
}

/// How far a trigger is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum State {
    /// The front end is putting it in place; it may fire already.
    Installing,
    /// The front end is taking over what an earlier life left; it may fire already.
    Adopting,
    /// In place.
    Ready,
    /// The front end is taking it away.
    Removing,
}

/// Why a trigger is there.
#[derive(Debug)]
pub(crate) enum Role {
    /// A line of the master map, or a key of a direct map.
    Point(PointRole),
    /// A part of the hierarchical entry mounted at `owner`.
    Offset {
        /// Where the entry's next higher part is mounted.
        owner: Place,
        /// What to mount, unless the trigger was adopted: then the map is asked at first use.
        node: Option<(Arc<Plan>, usize)>,
    },
    /// The directory of a map named by `fstype=autofs` in an entry mounted at `owner`.
    Submount {
        /// Where that entry stands.
        owner: Place,
        /// False after an adoption: the entry must be asked which map it is.
        map_known: bool,
    },
}

/// What is particular to a mount point of the configuration.
#[derive(Debug, Default)]
pub(crate) struct PointRole {
    /// No longer in the configuration: goes as soon as nothing in it is used.
    pub(crate) leaving: bool,
    /// Keys shown before they are mounted.
    pub(crate) listing: Arc<[BString]>,
}

/// An expiry round of one trigger.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Round {
    /// None is planned: nothing is mounted, or it never expires.
    None,
    /// Planned.
    Due(Millis),
    /// The kernel is being asked, by so many commands.
    Asked(u32),
}

impl Trigger {
    /// Whether the front end is putting it in place, taking it over or taking it away.
    pub(crate) fn moving(&self) -> bool {
        match self.state {
            State::Installing | State::Adopting | State::Removing => true,
            State::Ready => false,
        }
    }

    /// Whether the trigger is on its way out.
    pub(crate) fn leaving(&self) -> bool {
        matches!(&self.role, Role::Point(point) if point.leaving)
    }

    /// The place that this trigger's own entry is mounted at, for offsets and submounts.
    pub(crate) fn owner(&self) -> Option<&Place> {
        match &self.role {
            Role::Point(_) => None,
            Role::Offset { owner, .. } | Role::Submount { owner, .. } => Some(owner),
        }
    }
}
