//! Every bound of this crate, with its reason.

use std::time::Duration;

use piton_process::limits::STILL_MOST;

/// Time for all steps of one [`perform`](crate::perform()) unless the caller says otherwise: the
/// access's own deadline.
pub const DEADLINE: Duration = Duration::from_secs(10);

/// Time that an unmount has in any case, when the deadline of its steps is near or over: what was
/// done must be taken back even then.
pub const UNMOUNT_TIME: Duration = Duration::from_secs(3);

/// How long a worker that lets go of a mount is waited for: the mount is gone at once, or after a
/// walk to it. The rest is between the kernel and a server that may be dead.
pub const LEAVE_TIME: Duration = Duration::from_secs(1);

/// Pause before a user's mount that is busy is tried once more: whoever only asks it something is
/// gone by then.
pub(crate) const PASSER_BY: Duration = Duration::from_millis(100);

/// How long a killed helper may take to die before it is given up: a process in an uninterruptible
/// wait for a server does not die at all, and the worker is needed.
pub const KILL_GRACE: Duration = Duration::from_millis(500);

/// Bytes of a helper's output that are kept, the last ones: the reason stands at the end, and a
/// helper that floods its output must not fill memory.
pub const OUTPUT_KEPT: usize = 4096;

/// Helpers that were given up and are still to be reaped; one more is forgotten (and stays a
/// zombie, if it dies, until the daemon ends).
pub const ABANDONED: usize = 256;

/// Messages read from the log of a file system context: the kernel keeps eight.
pub const CONTEXT_MESSAGES: usize = 8;

/// Bytes of one such message; the kernel's are far shorter.
pub const CONTEXT_MESSAGE: usize = 1024;

/// Longest key or value that fsconfig(2) takes (`strndup_user(…, 256)` in fs/fsopen.c, with its
/// NUL); longer ones go by mount(2).
pub const PARAMETER: usize = 255;

/// Holders that are listed: whoever asks wants names, not a census.
pub const HOLDERS: usize = 256;

/// Descriptors looked at in one process.
pub const DESCRIPTORS: usize = 65_536;

/// Other mount namespaces whose mount table is read while looking for holders: each may have
/// thousands of mounts.
pub const NAMESPACES: usize = 64;

/// Searches for holders under way at the same time. One that meets a process stuck on a dead server
/// may get stuck itself, and keeps its thread until that server answers.
pub const SEARCHES: usize = 8;

/// Bytes read of one file below /proc.
pub const PROC_FILE: usize = 64 << 20;

/// Worker processes at once, those included that cannot be killed: more than several dead lanes
/// fill, and about a megabyte each.
pub const WORKERS: usize = 192;

/// How long a worker without work is kept: the next access often comes soon, and starting one
/// takes a millisecond or two.
pub const WORKER_IDLE: Duration = Duration::from_secs(10);

/// What a worker that has to kill a helper at its deadline may need beyond it, to say so itself.
pub const WORKER_GRACE: Duration = KILL_GRACE
    .saturating_add(STILL_MOST)
    .saturating_add(Duration::from_millis(200));

/// How often those are counted anew that cannot be killed, while there are any.
pub const BURIAL: Duration = Duration::from_millis(250);

/// Bytes of a message between daemon and worker. The longest part is a mount's options; the kernel
/// takes one page of them, and one packet must fit a socket's buffer (208 KiB).
pub const MESSAGE: usize = 128 << 10;

/// Milliseconds that a worker may be given: an hour is beyond every deadline.
pub const LONGEST_MS: u64 = 3_600_000;

/// Mounts whose kind is remembered: the file systems that binds come from. A forgotten one is
/// asked for again.
pub const KNOWN_MOUNTS: usize = 4096;

/// Most of a table of routes that is read, in bytes. A desktop has ten routes, a router of the
/// Internet a million; a line has about 150 bytes.
pub(crate) const ROUTES_BYTES: u64 = 4 << 20;

/// Routes that are kept: those that tell something of what is near. Each is looked at for each
/// address of a server.
pub(crate) const ROUTES: usize = 1_024;

/// Bytes read of a file with defaults for NFS mounts; the one that comes with nfs-utils has 5,000.
pub const CONFIGURATION: u64 = 256 << 10;

/// How long after the first failure a server is asked again, where `retry=` wants that; twice as
/// long after each further one. nfsd needs a fraction of a second to start.
pub const RETRY_PAUSE: Duration = Duration::from_millis(100);

/// The longest such pause.
pub const LONGEST_RETRY_PAUSE: Duration = Duration::from_secs(2);

/// Time kept back of an access's to take a snapshot back that could not be finished, at the most a
/// quarter of all: LVM needs half a second to remove one.
pub(crate) const SNAPSHOT_UNDO: Duration = Duration::from_secs(2);

/// What a worker may need beyond that, if a tool of volumes is slow: then it is killed, and a sweep
/// finishes what it left.
pub(crate) const SNAPSHOT_GRACE: Duration = Duration::from_secs(5);

/// Lines of one sweep for the log.
pub(crate) const SWEEP_LINES: usize = 200;

/// Time to read the journal of snapshots: another process may just write to it.
pub(crate) const JOURNAL_TIME: Duration = Duration::from_secs(5);

/// Bytes of a process's command line that are read, to see whether it names a place: its paths are
/// in front.
pub(crate) const COMMAND_LINE: u64 = 16 << 10;

/// Descriptors of a process that are looked at for FUSE's device: its server opens it early.
pub(crate) const DESCRIPTORS_LOOKED_AT: usize = 256;
