//! Planning an entry apart from the engine, where that takes long.
//!
//! A plan depends on nothing but what is here, so that whoever carries the order out may do so in a
//! thread of its own while the engine serves others.

use alloc::sync::Arc;
use alloc::vec::Vec;

use bstr::{BString, ByteSlice};
use piton_map::lookup::Found;
use piton_map::requester::Requester;
use piton_plan::facts::HostFacts;
use piton_plan::planner::{PlanRequest, Planning, plan_silently};
use piton_plan::step::TriggerKind;

use crate::config::Binding;

/// An entry that was found, and all that its plan depends on.
#[derive(Clone, Debug)]
pub struct PlanOrder {
    pub(crate) found: Found,
    pub(crate) key: BString,
    pub(crate) mount_point: BString,
    pub(crate) kind: TriggerKind,
    pub(crate) binding: Arc<Binding>,
    pub(crate) global_options: Vec<BString>,
    pub(crate) append_options: bool,
    pub(crate) requester: Requester,
    pub(crate) facts: Arc<HostFacts>,
}

impl PlanOrder {
    /// Plans it. The same order gives the same plan.
    pub fn plan(&self) -> Planning {
        plan_silently(&PlanRequest {
            found: &self.found,
            key: self.key.as_bstr(),
            mount_point: self.mount_point.as_bstr(),
            kind: self.kind,
            options: &self.binding.options,
            global_options: &self.global_options,
            append_options: self.append_options,
            dialect: &self.binding.dialect,
            requester: &self.requester,
            facts: &self.facts,
        })
    }

    /// Bytes of the entry's text.
    pub(crate) fn length(&self) -> usize {
        self.found.value.end.saturating_sub(self.found.value.start) as usize
    }
}
