//! Snapshots on access, as far as they can be decided without touching anything: what they are
//! called, which one a key asks for, how long they are kept, and in which order one is taken,
//! shared, removed, and found again after a crash. Pure: no volume, file or clock is reached.
#![no_std]
#![forbid(unsafe_code)]

extern crate alloc;

mod found;
mod invalid;
pub mod lifecycle;
pub mod limits;
mod manifest;
mod name;
mod origin;
mod policy;
mod record;
mod request;
mod settings;
mod time;
mod volumes;

pub use found::{Fill, Found, Health, State};
pub use invalid::Invalid;
pub use manifest::{Consistency, Manifest};
pub use name::Name;
pub use origin::{Kind, Origin};
pub use policy::{Aged, Cap, Policy};
pub use record::{Phase, Record};
pub use request::{Request, When, check_word};
pub use settings::{Freeze, Hooks, Means, OPTIONS, Problem, Settings, Size};
pub use time::{Seconds, Timestamp};
pub use volumes::Volumes;
