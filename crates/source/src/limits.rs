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

/// Age a file must have when it is read for its stamp to be trusted: within one tick of the
/// clock a file can change twice and keep its times. The coarsest tick in use is 10 ms.
pub const STAMP_TICK: Duration = Duration::from_millis(50);

/// How often a file that changes while it is being read is read again before what was read is
/// taken as it is.
pub const READ_RETRIES: usize = 3;

/// Exports of one server that are used. 30,000 were seen; a server that means harm could send
/// millions.
pub const EXPORTS: usize = 100_000;

/// Bytes of an export's path: MNTPATHLEN of the MOUNT protocol (RFC 1813, 5.1.1).
pub const EXPORT_PATH: usize = 1024;

/// Components of an export's path. Each is a directory of its own when it is walked, and the kernel
/// has a limit for mounts; ten are many for a real one.
pub const EXPORT_DEPTH: usize = 32;

/// Lines of an export list that are told when they are not used. The rest is counted.
pub const REFUSED_SHOWN: usize = 5;

/// Servers whose exports are remembered: a household has a few, a campus dozens.
pub const EXPORT_LISTS: usize = 256;

/// Bytes of all remembered export lists together, about: forty of the longest ever seen.
pub const EXPORT_LISTS_BYTES: usize = 64 << 20;

/// Time to ask a server for its exports when the caller sets no deadline: as long as an access may
/// take.
pub const EXPORTS_TIME: Duration = Duration::from_secs(10);

/// Time to ask the user database when the caller sets no deadline: as long as an access may take.
pub const USERS_TIME: Duration = Duration::from_secs(10);

/// Bytes of a user's home directory that names its server: as long as an export's path.
pub const PASSWD_HOME: usize = EXPORT_PATH;

/// For how long the answer of a server is new when somebody comes to it: those who come together ask
/// once.
pub const EXPORTS_FRESH: Duration = Duration::from_secs(2);

/// How often a server is asked again because a name is not in its list. Many names that are not
/// there (a shell that looks for `.git` upwards) ask no more often.
pub const RENEWAL_PAUSE: Duration = Duration::from_secs(10);

/// Time to ask a server again whose exports are known: one that has died must not keep those out who
/// want what is known.
pub const RENEWAL_TIME: Duration = Duration::from_secs(2);

/// Exports below another one whose entry is written without a thread of its own: a microsecond
/// each.
pub const OFFSETS_AT_ONCE: usize = 200;

/// Exports of a server that are one entry, all mounted when somebody comes by: each is a mount that
/// costs the server and the kernel something, and idle ones are unmounted and mounted again together.
pub const EXPORTS_AT_ONCE: usize = 256;

/// Keys that a listing of snapshots shows. Who has more looks for one by name.
pub const VOLUMES_LISTED: usize = 10_000;

/// Time to list volumes: LVM's tools read all disks for it.
pub const VOLUMES_TIME: Duration = Duration::from_secs(10);

/// Largest hosts file that is read for the names in `-hosts` with browsing, in bytes.
pub const HOSTS_FILE_BYTES: u64 = 1 << 20;
