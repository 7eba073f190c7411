//! Look-ups across maps, and the one place where map texts are remembered.

use std::path::PathBuf;
use std::sync::Arc;

use bstr::{BStr, BString};
use piton_map::diagnostic::Diagnostic;
use piton_map::lookup::{Found, MapSpec, Miss};
use piton_map::text::Origin;

use crate::source::LookupContext;

/// Where this crate finds things; tests and `explain` may move them.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Put before every path of a map, program or configuration file; `None`: nothing.
    pub root: Option<PathBuf>,
    /// The directory in which the service `files` looks for maps by name.
    pub map_directory: PathBuf,
    /// The name service switch.
    pub nsswitch: PathBuf,
    /// Whether programs are run at all; `check` and `explain` may forbid it.
    pub run_programs: bool,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            root: None,
            map_directory: "/etc".into(),
            nsswitch: "/etc/nsswitch.conf".into(),
            run_programs: true,
        }
    }
}

/// All maps, with what is remembered of them. Shared between threads.
#[derive(Debug, Default)]
pub struct Maps {
    settings: Settings,
}

/// One key of a listing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ListedKey {
    /// The key, quotes and escapes resolved; a normalised path in a direct map.
    pub key: BString,
    /// Where it is written.
    pub origin: Origin,
}

/// The keys of a mount point's maps, in reading order, each once.
#[derive(Clone, Debug, Default)]
pub struct Listing {
    /// The keys.
    pub keys: Vec<ListedKey>,
    /// What could not be listed, and why: programs, sources that are not there.
    pub incomplete: Vec<(Arc<str>, Miss)>,
}

/// What to watch for changes (inotify): a change of one calls for [`Maps::keys`] or
/// [`crate::master::read`] again; look-ups notice changes by themselves.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Watch {
    /// Files that were read or looked for.
    pub files: Vec<PathBuf>,
    /// The directories they stand in: a file may be replaced by another of its name.
    pub directories: Vec<PathBuf>,
}

/// What is known about one map, for `status`.
#[derive(Clone, Debug)]
pub struct MapStatus {
    /// The map's name as a person would say it.
    pub name: Arc<str>,
    /// Number of keys without `*`.
    pub keys: usize,
    /// Bytes of text.
    pub bytes: usize,
    /// Why an older copy is used, if so.
    pub stale: Option<Miss>,
}

impl Maps {
    /// No map read yet.
    pub fn new(settings: Settings) -> Self {
        Self { settings }
    }

    /// The settings.
    pub fn settings(&self) -> &Settings {
        &self.settings
    }

    /// The line for `key` in the first of `maps` that has it. May block: reads what has
    /// changed, runs programs.
    ///
    /// # Errors
    /// Why there is no line. Where one map failed and no other has the key, the failure is
    /// returned rather than [`Miss::NoSuchKey`].
    pub fn lookup(
        &self,
        maps: &[MapSpec],
        key: &BStr,
        context: &LookupContext<'_>,
    ) -> Result<Found, Miss> {
        let (_, _, _) = (maps, key, context);
        Err(Miss::NotAvailable("maps cannot be read yet".into()))
    }

    /// The same from memory, without blocking: `None` when that cannot be done because a map is
    /// not loaded, has changed, stands on a remote file system, or is a program.
    pub fn try_lookup_cached(
        &self,
        maps: &[MapSpec],
        key: &BStr,
        context: &LookupContext<'_>,
    ) -> Option<Result<Found, Miss>> {
        let (_, _, _) = (maps, key, context);
        None
    }

    /// The keys of `maps` in reading order, for browsing and for direct maps. May block.
    /// Programs have none.
    pub fn keys(&self, maps: &[MapSpec], context: &LookupContext<'_>) -> Listing {
        let (_, _) = (maps, context);
        Listing::default()
    }

    /// What there is to say about the texts of `maps`, includes followed. May block.
    pub fn diagnostics(&self, maps: &[MapSpec], context: &LookupContext<'_>) -> Vec<Diagnostic> {
        let (_, _) = (maps, context);
        Vec::new()
    }

    /// The files and directories to watch.
    pub fn watch(&self) -> Watch {
        Watch::default()
    }

    /// What is remembered, for `status`.
    pub fn status(&self) -> Vec<MapStatus> {
        Vec::new()
    }
}
