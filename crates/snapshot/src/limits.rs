//! Every bound of snapshots, with its reason.

/// Bytes of a name that is part of a key. A logical volume's name has 127 at most with its volume
/// group's, each hyphen counted twice, and what marks a snapshot as ours needs 26 of them.
pub const NAME: usize = 80;

/// Bytes of what stands for the origin in the name of a snapshot; what is longer (only names of
/// files can be) is cut off: the origin is known from elsewhere.
pub const LABEL: usize = NAME;

/// Bytes of an origin: a path of Linux (PATH_MAX) is longer than any volume's name.
pub const ORIGIN: usize = 4_096;

/// Origins of one group. All are frozen together, so that each one lengthens the pause of all.
pub const GROUP: usize = 16;

/// Snapshots that may be kept of one origin. Thick LVM slows down with each, and a list of more
/// is not read by people.
pub const KEPT: u32 = 1_000;

/// Longest time in seconds that policy can keep a snapshot, and that a key can look back: ten
/// years.
pub const AGE: u64 = 10 * 366 * 24 * 60 * 60;

/// How often the locks are taken anew because more of them turn out to be needed. Once is the rule
/// after a crash; another process that crashes just then adds one.
pub const RELOCKS: usize = 4;

/// Percent of a pool or volume group at which no snapshot is taken unless the entry says otherwise:
/// one that runs full stops every volume in it.
pub const POOL_FULL: u8 = 90;

/// The same for a file system, which only refuses to write when it is full.
pub const FILE_SYSTEM_FULL: u8 = 95;
