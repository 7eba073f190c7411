//! Every limit of this crate, with its reason. Each is tested at the limit and one past it.

use std::time::Duration;

/// Bytes of a reply that says a word or two: to NULL, or where a program listens.
pub const SHORT_REPLY: usize = 2048;

/// Bytes of a list of exports: 30,000 with paths of a hundred bytes and a few groups each are a
/// quarter of this.
pub const EXPORT_REPLY: usize = 16 << 20;

/// Fragments of one reply. Servers make them of eight kilobytes and more.
pub const FRAGMENTS: usize = 16 << 10;

/// Bytes of a datagram: UDP has no longer ones.
pub const DATAGRAM: usize = 64 << 10;

/// Replies to other calls than ours that are passed over in one exchange. A repeated call may be
/// answered more than once; more is nonsense.
pub const STRAYS: usize = 32;

/// Bytes of credentials that an answer may carry (RFC 5531: 400).
pub const VERIFIER: usize = 400;

/// Bytes of an address as rpcbind writes it: the longest has 46 and the port.
pub const UNIVERSAL_ADDRESS: usize = 128;

/// Exports of one server. Three times as many as were ever seen.
pub const EXPORTS: usize = 100_000;

/// Bytes of an export's path: `MNTPATHLEN` of RFC 1813.
pub const PATH: usize = 1024;

/// Bytes of one part of a path: Linux has no longer names, and each becomes a directory.
pub const PART: usize = 255;

/// Bytes of a group's name: `MNTNAMLEN` of RFC 1813.
pub const GROUP: usize = 255;

/// Groups of one export.
pub const GROUPS: usize = 10_000;

/// Groups of all exports of a server together: memory for a hundred megabytes at most.
pub const ALL_GROUPS: usize = 1_000_000;

/// Faults in a list of exports that are told word for word; the rest is counted.
pub const FAULTS: usize = 20;

/// When a datagram that was not answered is sent again; the time doubles up to [`REPEAT_MOST`].
pub const REPEAT: Duration = Duration::from_millis(250);

/// The longest pause before a datagram is sent again.
pub const REPEAT_MOST: Duration = Duration::from_secs(2);
