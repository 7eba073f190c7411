//! What `Trace` says: one line for each request of the kernel that was answered.

use serde::{Deserialize, Serialize};

use super::Requester;

/// Requests that were answered, in that order.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Trace {
    /// A line each.
    pub lines: Vec<TraceLine>,
    /// How many before these were lost, because they were not read in time.
    pub lost: u64,
}

/// A request of the kernel, from its arrival to its answer.
///
/// Times are microseconds since the arrival; null for a stage that it did not go through.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct TraceLine {
    /// Number of the request, in the order in which they arrived.
    pub number: u64,
    /// When it arrived, RFC 3339 with microseconds.
    pub at: String,
    /// `access` or `expire`.
    pub kind: String,
    /// Absolute path.
    pub path: String,
    /// Who asks; the daemon itself for an expiry.
    pub requester: Requester,
    /// How it was served: `fresh` (looked up and mounted for it), `joined` (that was under way
    /// for another), `present` (it was mounted already), `remembered` (a failure, from memory),
    /// `refused` (without trying) or `expiry`.
    pub served: String,
    /// The map's line was there without reading or asking anything.
    pub cached: bool,
    /// The map had answered.
    pub looked_up_us: Option<u64>,
    /// Servers had addresses.
    pub resolved_us: Option<u64>,
    /// It was mounted, or had failed to be; for an expiry, unmounted.
    pub mounted_us: Option<u64>,
    /// The kernel had its answer.
    pub answered_us: u64,
    /// The errno of the answer; null when it was "ready".
    pub errno: Option<i32>,
    /// Why it failed.
    pub cause: Option<String>,
    /// Servers had been asked whether they serve.
    #[serde(default)]
    pub probed_us: Option<u64>,
}

impl Trace {
    /// Keeps what is at or below `path`.
    pub fn narrow(&mut self, path: &str) {
        self.lines
            .retain(|line| piton_path::is_within(&line.path, path));
    }

    /// Keeps what a user may see: what the user asked for.
    pub fn redact_for(&mut self, uid: u32) {
        self.lines
            .retain(|line| line.kind == "access" && line.requester.uid == uid);
    }
}
