//! What a source of maps is.

use std::sync::Arc;
use std::time::Instant;

use bstr::{BStr, BString};
use piton_map::dialect::Dialect;
use piton_map::key::MapKind;
use piton_map::lookup::{Found, Miss};
use piton_map::requester::Requester;
use piton_map::text::Fragment;

/// What a look-up needs to know besides map and key.
#[derive(Clone, Debug)]
pub struct LookupContext<'c> {
    /// Whether the map's keys are names or paths.
    pub kind: MapKind,
    /// The dialect of the master map.
    pub dialect: &'c Dialect,
    /// Who asks; programs are told.
    pub requester: &'c Requester,
    /// `-D` variables, global ones first; programs are told.
    pub defines: &'c [(BString, BString)],
    /// Where the map is mounted: the working directory of programs.
    pub mount_point: &'c BStr,
    /// When the answer must be there; `None`: each source's own limit.
    pub deadline: Option<Instant>,
}

/// Which state of a source a text was read from. Two equal stamps mean the same text.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Stamp {
    /// Device.
    pub dev: u64,
    /// Inode.
    pub ino: u64,
    /// Bytes.
    pub size: u64,
    /// Last change of the content, in nanoseconds since 1970.
    pub mtime_ns: i128,
    /// Last change of the content or the inode; cannot be set back, unlike `mtime_ns`.
    pub ctime_ns: i128,
}

/// The text of a whole map and what is known about its state.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MapText {
    /// The text with the name of its source.
    pub fragment: Fragment,
    /// The state it was read from; `None` when the source has no such thing.
    pub stamp: Option<Stamp>,
    /// Whether asking for the stamp again cannot block (a local file system).
    pub local: bool,
}

/// Gives the text of one map. Never parses beyond that, never mounts, never remembers.
///
/// A source either has a whole text ([`MapSource::read`]) or is asked key by key
/// ([`MapSource::lookup`]); [`MapSource::is_per_key`] says which.
pub trait MapSource: Send + Sync {
    /// The map's name as a person would say it.
    fn name(&self) -> Arc<str>;

    /// Returns true if and only if the source is asked key by key.
    fn is_per_key(&self) -> bool {
        false
    }

    /// The text of the whole map. May block.
    ///
    /// # Errors
    /// [`Miss::NotAvailable`] for a source that is asked key by key; else why there is no text.
    fn read(&self) -> Result<MapText, Miss>;

    /// The entry of one key. May block, up to the deadline.
    ///
    /// # Errors
    /// [`Miss::NotAvailable`] for a source that has whole texts; else why there is no entry.
    fn lookup(&self, key: &BStr, context: &LookupContext<'_>) -> Result<Found, Miss> {
        let (_, _) = (key, context);
        Err(Miss::NotAvailable(
            format!("{} is not asked key by key", self.name()).into(),
        ))
    }

    /// The state of the source now, for comparing with [`MapText::stamp`]. May block unless the
    /// source is local.
    ///
    /// # Errors
    /// As [`MapSource::read`].
    fn stamp(&self) -> Result<Option<Stamp>, Miss> {
        Ok(None)
    }
}
