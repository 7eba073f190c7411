//! From an entry and facts about the host to ordered steps. Pure: nothing is asked, opened or
//! mounted here.
#![no_std]
#![forbid(unsafe_code)]

extern crate alloc;

mod attempt;
pub mod facts;
pub mod plan;
pub mod planner;
pub mod probe;
pub mod proximity;
pub mod select;
pub mod step;
mod trace;
mod variables;

pub use plan::{Action, MountPlan, Node, Plan, Replica, SubmountPlan, TriggerDefaults};
pub use planner::{PlanRequest, Planning, plan, plan_silently};
pub use proximity::Proximity;
pub use trace::TraceLine;
pub use variables::value_of;
