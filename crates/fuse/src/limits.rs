//! The bounds of this crate, with their reasons.

/// Longest request that is read, in bytes. The kernel refuses to give any to whoever reads less than
/// 8 KiB; the longest that is not simply refused here is a look-up of some 4 KiB.
pub const REQUEST: usize = 16 << 10;

/// Longest write that the kernel is told: it makes none, and this is the least it knows.
pub(crate) const WRITE: u32 = 4096;

/// Longest answer in bytes, and so the most that one reading of a directory gives.
pub const ANSWER: usize = 64 << 10;

/// Requests that wait at once for the owner. Each costs some 300 bytes here, and holds up a process;
/// one more is answered with EAGAIN.
pub const PARKED: usize = 4096;

/// Requests carried out in one turn of the loop, so that a flood of them delays no answer for long.
pub(crate) const AT_ONCE: usize = 64;

/// Processes that have got a signal and are looked at in one turn, ten times a second: each costs
/// reading a file of /proc.
pub(crate) const LOOKED_AT: usize = 64;

/// Longest name in a directory, as everywhere in Linux (`NAME_MAX`).
pub const NAME: usize = 255;

/// Bytes of what fusermount3 says that are read: one line of it is shown.
pub(crate) const COMPLAINT: u64 = 4096;
