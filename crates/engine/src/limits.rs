//! Every bound of the engine, with its reason.

/// Look-ups that may be remembered as failed, over all maps. A desktop searches for some dozens
/// of absent names; a scanner for millions. The oldest go first. About 100 bytes each.
pub const NEGATIVE_ENTRIES: usize = 10_000;

/// Accesses that may wait for one place. The kernel makes one request for all walkers of a
/// name, so more than a few mean a broken front end; each further one is refused at once.
pub const WAITERS_PER_PLACE: usize = 1_024;

/// Jobs at the same time. Each holds a few kilobytes; beyond it accesses are refused with
/// EAGAIN's sense (`Cause::Overloaded`) rather than queued without end.
pub const JOBS: usize = 65_536;

/// Shortest pause between two expiry rounds of one trigger, in milliseconds: the kernel counts
/// idleness in seconds, so asking more often finds nothing new.
pub const EXPIRE_PAUSE_LEAST_MS: u64 = 1_000;

/// Longest such pause: a day-long timeout is still looked at often enough to be exact to 5 %.
pub const EXPIRE_PAUSE_MOST_MS: u64 = 600_000;

/// For how long a mount that failed is answered from memory, in milliseconds. `ls` asks twice
/// (stat, open); a user who mended the cause must not wait.
pub const FAILURE_MEMORY_MS: u64 = 1_000;

/// Failures kept for `status`: enough to see a pattern, little enough to read.
pub const LAST_ERRORS: usize = 64;

/// Requests of operators that may wait for their answer at the same time; further ones are
/// refused at once. Each is a person or a script waiting.
pub const OPERATOR_REQUESTS: usize = 1_024;

/// What a stop waits beyond the deadlines of mounting and unmounting before it gives up what
/// is stuck, in milliseconds: room for the answer to come through.
pub const STOP_PATIENCE_MS: u64 = 2_000;

/// Pause before it is tried again to take back a mount that belongs to nobody, in milliseconds.
pub const CLEAR_PAUSE_MS: u64 = 5_000;
