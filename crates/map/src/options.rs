//! Options of a mount point: what the master map (and the command line above it) says for a
//! whole map, apart from the options that are handed to mount.

use alloc::sync::Arc;
use alloc::vec::Vec;

use bstr::BString;

use crate::deny::Deny;

/// How a mount takes part in mount propagation.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[cfg_attr(feature = "serde", derive(serde::Deserialize, serde::Serialize))]
pub enum Propagation {
    /// Receives from its origin and sends nothing back: safe, the default.
    #[default]
    Slave,
    /// Neither receives nor sends.
    Private,
    /// Both: other namespaces see what is mounted here.
    Shared,
}

/// How the servers of a replicated entry are ranked.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Selection {
    /// Proximity, then weight, then response time.
    #[default]
    Proximity,
    /// Weight, whatever the distance.
    WeightOnly,
    /// The first that answers, whatever its distance and weight.
    FirstResponder,
    /// Any of them.
    Random,
}

impl Selection {
    /// All of them, by the word for `selection=`.
    pub const ALL: [(&'static str, Self); 4] = [
        ("proximity", Self::Proximity),
        ("weight-only", Self::WeightOnly),
        ("first-responder", Self::FirstResponder),
        ("random", Self::Random),
    ];

    /// The word for `selection=`.
    pub fn name(self) -> &'static str {
        let word = Self::ALL.iter().find(|(_, one)| *one == self);
        word.map_or("proximity", |(word, _)| word)
    }
}

/// What a master-map line (over the daemon's defaults) says about its mount point. `None`
/// means: not said, the level above decides.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PointOptions {
    /// Seconds of idleness after which a mount goes; 0 is never.
    pub timeout: Option<u32>,
    /// Seconds for which a failed key is remembered.
    pub negative_timeout: Option<u32>,
    /// Whether keys are listed before they are mounted (`browse`, `--ghost`).
    pub browse: Option<bool>,
    /// `nobind`: never bind-mount a local server's path.
    pub nobind: bool,
    /// `symlink`: symbolic links in place of bind mounts.
    pub symlink: bool,
    /// `strictexpire`: path walks don't count as use.
    pub strict_expire: bool,
    /// `strict`: one failing offset fails the entry.
    pub strict: bool,
    /// Propagation of mounts: `slave`, `private`, `shared`.
    pub propagation: Propagation,
    /// Ranking of replicated servers.
    pub selection: Selection,
    /// `--mode=`: permission bits of the mount point.
    pub mode: Option<u32>,
    /// `-D name=value`, in order; the last of a name counts.
    pub defines: Vec<(BString, BString)>,
    /// `--[no-]slashify-colons`; `None` leaves it to the dialect.
    pub slashify_colons: Option<bool>,
    /// `--deny-keys=`, `--deny-comm=`, `--deny-cgroup=`: what is answered as if it were not there.
    pub deny: Arc<Deny>,
    /// Options for mount, in the order written, without a leading `-`.
    pub mount: Vec<BString>,
}

impl PointOptions {
    /// Has replicated servers ranked so where the line says nothing: it can name any ranking but the
    /// usual one.
    pub fn rank_by_default(&mut self, selection: Selection) {
        if self.selection == Selection::default() {
            self.selection = selection;
        }
    }
}
