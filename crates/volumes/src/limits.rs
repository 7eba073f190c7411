//! Every bound of this crate, with its reason.

use std::time::Duration;

/// Bytes of a program's report that are read: LVM tells of some ten thousand volumes in them.
pub const REPORT: usize = 16 << 20;

/// Bytes of a program's complaints that are kept, the last ones: the reason stands at the end.
pub const WORDS: usize = 4096;

/// How long a program has to end by itself when its time is over, before it is killed: LVM puts
/// off signals while volumes stand still, and must not be killed there.
pub const GRACE: Duration = Duration::from_secs(2);

/// How often to look for a lock that somebody else holds: there is no waiting for it with a limit.
pub const LOCK_PAUSE: Duration = Duration::from_millis(5);

/// Files and directories of one copied directory: each is a few system calls, all of them while
/// somebody waits for the access to be answered.
pub const COPIED: usize = 1_000_000;

/// How deep below the origin a copied directory may be: each level is two open descriptors, of which
/// a process commonly has 1,024.
pub const DEPTH: usize = 200;

/// Bytes of one extended attribute, and of the list of their names, that are copied (`XATTR_SIZE_MAX`
/// and `XATTR_LIST_MAX` of the kernel).
pub const ATTRIBUTE: usize = 65_536;

/// How often a group of subvolumes is tried: most come into one transaction of btrfs within a few
/// tries, each of which takes some milliseconds.
pub const GROUP_TRIES: u32 = 100;

/// How long after an earlier transaction is closed the group is begun, times 0 to [`GROUP_DELAYS`]:
/// which is best depends on the disk.
pub const GROUP_DELAY: Duration = Duration::from_micros(300);

/// See [`GROUP_DELAY`].
pub const GROUP_DELAYS: u32 = 10;

/// Mount namespaces and processes that are looked at to see whether a snapshot is in use: as many
/// processes as Linux has by default.
pub const PROCESSES: usize = 32_768;

/// Bytes of one mount table that are read: a hundred thousand mounts, as many as a namespace has.
pub const MOUNT_TABLE: usize = 64 << 20;

/// Percent of the origin's size that a thick snapshot gets unless the map says otherwise.
pub const THICK_SIZE: u8 = 20;

/// How long file systems stand still at the most: all who write to them wait.
pub const STILL: Duration = Duration::from_secs(10);

/// Bytes of the journal beyond which it is written anew if that halves it: it is read at every
/// access.
pub const JOURNAL: u64 = 128 << 10;

/// Time that a program of the administrator has to tell applications, unless the map says
/// otherwise.
pub const HOOK: Duration = Duration::from_secs(10);

/// Time in which what was begun is undone, when the time of an access is over.
pub const UNDO: Duration = Duration::from_secs(5);

/// How long another program of LVM's may have a volume suspended before it is taken for one that a
/// crash left so: they suspend for parts of a second.
pub const SUSPENDED: Duration = Duration::from_secs(3);

/// How often to look meanwhile.
pub const SUSPENDED_PAUSE: Duration = Duration::from_millis(200);

/// What LVM writes to: a volume with one of these cannot be frozen for a group.
pub const NEEDED: [&str; 6] = ["/", "/etc/lvm", "/run", "/run/lock", "/var", "/var/lib"];

/// Volumes of one place that are listed. Who has more asks for one by name.
pub const LISTED: usize = 10_000;
