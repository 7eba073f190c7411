//! What several calls of one access need: opened by the first, used by the others.

use std::cell::RefCell;
use std::sync::Arc;

use bstr::BString;
use piton_snapshot::Origin;

use crate::btrfs::Root;
use crate::turn::Turn;

/// Subvolumes that are open, with the directory of their snapshots. To be [closed](Self::close)
/// whenever a program of the administrator has run, which may have put others in their place.
#[derive(Debug, Default)]
pub struct Opened(RefCell<Vec<Entry>>);

/// An origin, where its snapshots are if the map says so, and itself.
type Entry = (Origin, Option<BString>, Arc<Root>);

impl Opened {
    /// Closes all.
    pub fn close(&self) {
        self.0.borrow_mut().clear();
    }

    /// One that was kept.
    pub(crate) fn subvolume(origin: &Origin, turn: Turn<'_>) -> Option<Arc<Root>> {
        let entries = turn.opened?.0.borrow();
        let is_it = |entry: &&Entry| entry.0 == *origin && entry.1 == turn.means.store;
        entries.iter().find(is_it).map(|entry| entry.2.clone())
    }

    /// Keeps one.
    pub(crate) fn keep(origin: &Origin, turn: Turn<'_>, root: &Arc<Root>) {
        if let Some(opened) = turn.opened {
            let entry = (origin.clone(), turn.means.store.clone(), root.clone());
            opened.0.borrow_mut().push(entry);
        }
    }
}
