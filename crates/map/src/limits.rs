//! How much of everything: the limits of reading one entry, each with its reason.

/// Bytes of one entry after variables and `&` are expanded. What autofs documents, and more
/// than any path (4,096) with its options; without a limit a map could make every access cost
/// as much memory as it likes.
pub const ENTRY_LIMIT: usize = 16_384;

/// Bytes of one entry as written, comments and continuation lines included. Four times
/// [`ENTRY_LIMIT`]: text may shrink when it is expanded, and this bounds the time to find out.
pub const WRITTEN_LIMIT: usize = 65_536;

/// The same for the built-in map `-hosts`, which makes one entry of all exports of a server:
/// 30,000 of them were seen, of about a hundred bytes each.
pub const HOSTS_ENTRY_LIMIT: usize = 4 << 20;

/// How a source names the map `-hosts` in what it finds.
pub const HOSTS_MAP: &str = "-hosts";

/// Limits of one entry: bytes expanded and bytes as written.
pub fn entry_limits(map: &str) -> (usize, usize) {
    if map == HOSTS_MAP {
        (HOSTS_ENTRY_LIMIT, HOSTS_ENTRY_LIMIT)
    } else {
        (ENTRY_LIMIT, WRITTEN_LIMIT)
    }
}

/// Findings kept for one entry. Each carries the entry's text, so that a line of nothing but
/// misspelt variables would cost its length squared; whoever mends twenty sees the rest next.
pub const FINDINGS_LIMIT: usize = 20;

/// Bytes of a host name: what DNS allows (RFC 1035, 2.3.4) in its written form.
pub const HOST_LIMIT: usize = 253;

/// Bytes of a file system type: far more than any kernel's, and short enough for a file name
/// (mount looks for a helper called `mount.TYPE`).
pub const FSTYPE_LIMIT: usize = 64;

/// Largest idle time that can be written, in seconds: ten years. More is a slip.
pub const TIMEOUT_LIMIT: u32 = 315_360_000;
