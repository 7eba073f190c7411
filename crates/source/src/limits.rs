//! Every limit of this crate, with its reason. Each is tested at the limit and one past it.

use std::time::Duration;

/// Largest map text, in bytes. Offsets into a text are 32 bits wide, and a text is held in
/// memory whole; ten million entries fit.
pub const MAP_BYTES: u64 = 1 << 30;

/// Largest configuration file (nsswitch.conf, autofs.conf), in bytes.
pub const CONF_BYTES: u64 = 1 << 20;

/// How many maps may include one another in a row. autofs stops at 16 too; deeper nesting is a
/// mistake more often than not.
pub const INCLUDE_DEPTH: usize = 16;

/// How many maps one look-up or listing may read. With the depth limit alone, maps that include
/// two others each could make one access read 2^16 maps.
pub const INCLUDES_IN_ALL: usize = 1024;

/// Most lines that a master map with all its includes may have as entries.
pub const MASTER_ENTRIES: usize = 100_000;

/// Time a program map may take when the caller sets no deadline: what an access may take as a
/// whole (design: 10 s), since somebody waits.
pub const PROGRAM_TIME: Duration = Duration::from_secs(10);

/// Most bytes that a program map may print. An entry of autofs has at most 16 KiB; four times
/// that leaves room for large multi-mounts.
pub const PROGRAM_OUTPUT: usize = 64 * 1024;

/// Most bytes of a program's standard error that are logged for one run.
pub const PROGRAM_STDERR: usize = 8 * 1024;

/// Most processes that are looked at when a program's descendants are killed. A fork bomb is
/// the business of the system's own limits.
pub const DESCENDANTS: usize = 4096;

/// How long it is waited for the processes that are to be killed to stand still. Being stopped takes
/// them microseconds, unless the machine is very busy.
pub const STILL_MOST: Duration = Duration::from_millis(300);

/// Age a file must have when it is read for its stamp to be trusted: within one tick of the
/// clock a file can change twice and keep its times. The coarsest tick in use is 10 ms.
pub const STAMP_TICK: Duration = Duration::from_millis(50);

/// How often a file that changes while it is being read is read again before what was read is
/// taken as it is.
pub const READ_RETRIES: usize = 3;
