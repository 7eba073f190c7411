//! From an entry and facts about the host to ordered steps. Pure: nothing is asked, opened or
//! mounted here.
#![no_std]
#![forbid(unsafe_code)]

extern crate alloc;

pub mod facts;
pub mod plan;
pub mod planner;
pub mod step;

pub use plan::{Action, MountPlan, Node, Plan, Replica, SubmountPlan, TriggerDefaults};
pub use planner::{PlanRequest, Planning, TraceLine, plan};
