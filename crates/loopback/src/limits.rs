//! The bounds of this crate, with their reasons.

use std::time::Duration;

/// Connections at once. The kernel's client needs one for each network namespace (and one more while
/// it mounts); the rest is room for other clients of root.
pub const CONNECTIONS: usize = 64;

/// Connections accepted in one turn of the loop, so that a flood of them delays no answer for long.
pub(crate) const ACCEPTED_AT_ONCE: usize = 16;

/// Longest call in bytes. The longest that is answered with more than "read-only" is a LOOKUP of
/// less than 1 KiB; writes cannot be longer than [`TRANSFER`] allows.
pub const RECORD: usize = 64 << 10;

/// The size of writes that clients are told. None is carried out, but libnfs does not mount where it
/// is less than 8 KiB.
pub const TRANSFER: u32 = 32 << 10;

/// Longest answer in bytes, and so the most that one reading of a directory gives: some 300 names
/// with their attributes, 1,500 without.
pub const ANSWER: usize = ANSWER_WORD as usize;

/// The same as clients are told it.
pub(crate) const ANSWER_WORD: u32 = 64 << 10;

/// Bytes that wait to be sent on one connection before its next calls are left unread: a client that
/// does not take its answers gets no more.
pub const UNSENT: usize = 256 << 10;

/// Requests that wait at once for something to be mounted. Each costs some 500 bytes; one more is
/// told to come again ("jukebox"), which the kernel's client does five seconds later.
pub const PARKED: usize = 4096;

/// How long a look-up waits for the owner; then the name is said to exist, and whoever follows it
/// learns the truth. As long as one waits, whoever wants to make something in the directory stops
/// everybody else there (docs/older-automounter.md), and a map that is asked over the network should
/// be able to answer in it.
pub const LOOK_UP: Duration = Duration::from_secs(1);

/// Connections that wait for the same request: its client's present one, and those that it gave up.
pub(crate) const WAITERS: usize = 4;

/// Roots. As many direct mount points as a map of a large site has.
pub const ROOTS: usize = 100_000;

/// Names in one directory, listed or linked: a map of a million keys can be shown.
pub const NAMES: usize = 1 << 20;

/// Names that were found to exist and are neither listed nor linked, in all directories together.
/// They are kept so that their handles stay good until the link is read. When there are more the
/// oldest go, whose clients look them up again: any name exists where a map has a wildcard.
pub const KNOWN: usize = 16_384;

/// Longest name in a directory, as everywhere in Linux (`NAME_MAX`).
pub const NAME: usize = 255;

/// Longest target of a link, as everywhere in Linux (`PATH_MAX` without its NUL).
pub const TARGET: usize = 4095;

/// Longest path that MNT is asked for (`MNTPATHLEN` of RFC 1813).
pub const MOUNT_PATH: usize = 1024;

/// Longest credential in bytes (RFC 5531).
pub const CREDENTIAL: usize = 400;

/// Longest name of a machine in a credential (RFC 5531).
pub const MACHINE: usize = 255;

/// Most groups in a credential (RFC 5531).
pub const GROUPS: usize = 16;

/// Mounts that DUMP lists; of more the first ones.
pub const DUMPED: usize = 256;

/// Bytes of the mount table of sockets that are read to find a client's owner: some 400,000 sockets.
pub(crate) const SOCKETS: u64 = 64 << 20;

/// How often in a second that is done at most: anybody on this host can connect.
pub(crate) const LOOKS: u32 = 10;

/// Names of a directory that are told when each call is (`-T`): the first tell what it is.
pub const NAMES_TOLD: usize = 16;
