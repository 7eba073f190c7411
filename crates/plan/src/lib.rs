//! From an entry and facts about the host to ordered steps. Pure: nothing is asked, opened or
//! mounted here.
#![no_std]
#![forbid(unsafe_code)]

extern crate alloc;

pub mod facts;
pub mod step;
