//! What is mounted at a place.

use alloc::sync::Arc;
use alloc::vec::Vec;

use bstr::BString;
use piton_map::requester::Requester;
use piton_plan::step::TriggerId;

use crate::time::Millis;

/// What is mounted at one place, with the triggers of the next level of its entry.
#[derive(Debug)]
pub(crate) struct Tree {
    /// Absolute path.
    pub(crate) target: BString,
    /// How it came about, and so how it is taken away.
    pub(crate) how: How,
    /// Whether the directory itself was made for this key and goes with it.
    pub(crate) own_directory: bool,
    /// Offset triggers below, parents' children only.
    pub(crate) offsets: Vec<TriggerId>,
    /// Since when it is there.
    pub(crate) since: Millis,
    /// Who asked for it first.
    pub(crate) first: Requester,
    /// Who asked for it last (as far as the kernel says: after mounting, accesses don't come
    /// by here).
    pub(crate) last: Requester,
    /// Accesses that came by here.
    pub(crate) uses: u64,
    /// Why it could not be unmounted when that was last tried.
    pub(crate) busy: Option<Arc<str>>,
}

/// How something came to be at a place.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum How {
    /// A mount.
    Mount {
        /// The source text.
        source: BString,
        /// The server, if there is one.
        host: Option<BString>,
        /// Whether mount(8) or another program did it, and umount(8) must undo it.
        helper: bool,
    },
    /// A symbolic link.
    Symlink {
        /// What it points to.
        to: BString,
    },
    /// Nothing but a directory: the entry has offsets only.
    Directory,
    /// Another map's directory.
    Submount(TriggerId),
}
