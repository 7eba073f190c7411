//! The keeper's bounds, with their reasons.

use std::time::Duration;

/// A daemon that served for less counts as one that cannot serve. Shorter than anybody would kill
/// it by hand, longer than it takes to fall over the first request.
pub(crate) const LIFE_LEAST: Duration = Duration::from_millis(100);

/// Pause before a daemon is started again that could not serve; doubled each time.
pub(crate) const BACKOFF_FIRST: Duration = Duration::from_millis(100);

/// Longest such pause: half of the default deadline, so that what waits may still be served.
pub(crate) const BACKOFF_MOST: Duration = Duration::from_secs(5);

/// How often a very first daemon that dies of a signal is tried again.
pub(crate) const TRIES_BY_SIGNAL: u32 = 3;

/// How often a new version may fail before the old one is started again.
pub(crate) const TRIES_OF_UPGRADE: u32 = 2;

/// What a daemon that hands over may take for what is under way.
pub(crate) const HAND_OVER_MOST: Duration = Duration::from_secs(3);

/// Without a daemon for so long, somebody else answers those whose deadline passes. A successor
/// mostly serves before that.
pub(crate) const SUBSTITUTE_AFTER: Duration = Duration::from_secs(1);

/// First look after a request came in that the daemon did not wait for: it may only be busy.
pub(crate) const STUCK_FIRST_LOOK: Duration = Duration::from_millis(250);

/// A daemon that has not moved for so long, with a request in front of it, is stuck. Long enough
/// for a machine that swaps; a stopped one ([`STUCK_FIRST_LOOK`]) is not waited for. Time in which it
/// wanted a processor and had none does not count.
pub(crate) const STUCK_AFTER: Duration = Duration::from_millis(1_500);

/// How long a daemon may get no processor, or too little, before it counts as stuck all the same: no
/// access waits as long by default, and whatever keeps it from running may not keep another.
pub(crate) const STARVED_MOST: Duration = Duration::from_secs(30);

/// Pause between two looks whether the daemon still moves, when nothing comes in: a loop that
/// spins without end is suspected after two.
pub(crate) const ROUND: Duration = Duration::from_secs(5);

/// How long a killed daemon's death is waited for before its successor is started beside it: a
/// thread of it may be held by the kernel.
pub(crate) const DEATH_MOST: Duration = Duration::from_millis(200);

/// How long the helpers and programs of a dead daemon may take to die.
pub(crate) const LEFTOVERS_MOST: Duration = Duration::from_millis(500);

/// How long a daemon that was left by its keeper may take to make way for one that is started.
pub(crate) const MAKE_WAY_MOST: Duration = Duration::from_secs(10);
