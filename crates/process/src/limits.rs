//! What is bounded here, and why there.

use std::time::Duration;

/// Most processes that are looked for when one is ended with its descendants: far above any helper or
/// program of a map, and an end for one that forks without end. A fork bomb is the business of the
/// system's own limits.
pub const FAMILY: usize = 4096;

/// How long it is waited for the processes that are to be killed to stand still. Being stopped takes
/// them microseconds, unless the machine is very busy.
pub const STILL_MOST: Duration = Duration::from_millis(300);
