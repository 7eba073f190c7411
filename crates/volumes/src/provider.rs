//! What every provider of snapshots can do.

use bstr::BString;
use piton_snapshot::{Found, Kind, Name, Origin, State};

use crate::error::Error;
use crate::turn::Turn;

/// Makes, shows, lists and removes snapshots of one kind of volume.
///
/// Every method may block until its turn is over and is to be called where that does no harm.
/// Providers lock nothing: the caller holds the origin's lock while something is changed.
pub trait Provider: Send + Sync {
    /// Of which volumes.
    fn kind(&self) -> Kind;

    /// What the origin is like now.
    ///
    /// # Errors
    /// [`Error::Absent`] if there is no such origin, [`Error::Unsupported`] if this provider can
    /// make no snapshots of it.
    fn inspect(&self, origin: &Origin, turn: Turn<'_>) -> Result<State, Error>;

    /// All snapshots of the origin that carry our mark, whatever their health, in no order.
    ///
    /// # Errors
    /// [`Error::Absent`] if there is no such origin.
    fn list(&self, origin: &Origin, turn: Turn<'_>) -> Result<Vec<Found>, Error>;

    /// One of those that [`list`](Self::list) lists; what is in use does not matter.
    ///
    /// # Errors
    /// Those of [`list`](Self::list).
    fn find(&self, origin: &Origin, name: Name, turn: Turn<'_>) -> Result<Option<Found>, Error> {
        let turn = Turn {
            busy: false,
            ..turn
        };
        let mut found = self.list(origin, turn)?.into_iter();
        Ok(found.find(|found| found.name == name))
    }

    /// Makes a snapshot of each origin of `group`, all of the same instant and by the same name. If
    /// one fails, none is left. Where [`State::freezes`] is false, the caller makes the file systems
    /// stand still meanwhile.
    ///
    /// # Errors
    /// [`Error::Full`] before anything is changed, if there is not enough room to go on safely.
    fn create(&self, group: &[Origin], name: Name, turn: Turn<'_>) -> Result<(), Error>;

    /// How to mount a snapshot. Never anything that could be written through.
    ///
    /// # Errors
    /// [`Error::Spoilt`] if it overflowed or was never finished, [`Error::Absent`] if it is not
    /// there, [`Error::Foreign`] if it is not ours.
    fn view(&self, origin: &Origin, name: Name, turn: Turn<'_>) -> Result<View, Error>;

    /// Removes a snapshot, finished or not. That it is not there is success.
    ///
    /// # Errors
    /// [`Error::Busy`] if it is mounted in any namespace or open, [`Error::Foreign`] if it is not
    /// ours.
    fn remove(&self, origin: &Origin, name: Name, turn: Turn<'_>) -> Result<(), Error>;
}

/// How to mount a snapshot.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct View {
    /// The directory, device or image.
    pub source: BString,
    /// How that is mounted.
    pub show: Show,
    /// Mount options: always `ro`, and what this file system needs not to write by itself.
    pub options: Vec<BString>,
    /// Where users find the origin itself: it or its file system is mounted there. The view shows it
    /// to nobody whom the directories above keep out.
    pub live: Option<BString>,
}

/// How a view is mounted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Show {
    /// By a bind mount of a directory.
    Directory,
    /// As this type of file system, from a device, an image (with option `loop`) or a name that
    /// the type understands.
    FileSystem(&'static str),
}
