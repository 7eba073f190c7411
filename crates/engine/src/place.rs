//! Places: where something is, or could be, mounted.

use bstr::BString;
use piton_plan::step::TriggerId;

/// A trigger and the key below it. At most one job works on a place at a time.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Place {
    /// The trigger.
    pub trigger: TriggerId,
    /// The key of an indirect trigger; empty for direct and offset triggers, which are their
    /// own key.
    pub key: BString,
}

impl Place {
    /// The place of a direct or offset trigger.
    pub fn of(trigger: TriggerId) -> Self {
        Self {
            trigger,
            key: BString::default(),
        }
    }
}
