//! Look-ups across maps, and the one place where map texts are remembered.
//!
//! A text is kept with its index and the state of the file it came from (device, inode, size,
//! times of content and inode). Each access compares that with one `stat` per file on its way,
//! so that a changed map is used at the next access without anybody being told.
//! The time of the content alone would not do: a map put in place by `mv` or `cp -p` may be
//! older than the one before.
//!
//! What programs print is not kept at all.

mod text;
mod walk;

use std::collections::{BTreeSet, HashMap};
use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError, RwLock};

use bstr::{BStr, BString, ByteSlice};
use piton_map::diagnostic::Diagnostic;
use piton_map::dialect::WildcardRule;
use piton_map::key::{self, MapKind};
use piton_map::lookup::{Found, MapSpec, Miss};
use piton_map::text::Origin;

use self::text::{Loaded, LoadedSwitch};
pub(crate) use self::walk::said;
use self::walk::{List, Search, Stop};
use crate::hosts::{AskExports, Lists, ServerExports};
use crate::memory::Overlay;
use crate::passwd::AskUsers;
use crate::snapshot::AskVolumes;
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
    /// Whether programs get the requester's variables without the prefix `AUTOFS_`.
    pub standard_names: bool,
    /// Who asks servers for their exports; `None`: there is no map `-hosts`.
    pub exports: Option<Arc<dyn AskExports>>,
    /// Who asks the user database; `None`: there is no map `-passwd`.
    pub users: Option<Arc<dyn AskUsers>>,
    /// Who knows the volumes of this host; `None`: maps of snapshots list what they name themselves.
    pub volumes: Option<Arc<dyn AskVolumes>>,
    /// Where what is told about mounted snapshots lies, by their mount points; `None`: nowhere.
    pub manifests: Option<PathBuf>,
    /// Whether there is only one requester: then `~` is a key of `-passwd`. A mount is the same for
    /// all who see it.
    pub personal: bool,
    /// Whether `-hosts` has exports too that are for other hosts only.
    pub all_exports: bool,
    /// Whether a server of `-hosts` is one entry of all its exports, as many as an entry may have:
    /// where mounts are behind links there are no maps inside others.
    pub whole_servers: bool,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            root: None,
            map_directory: "/etc".into(),
            nsswitch: "/etc/nsswitch.conf".into(),
            run_programs: true,
            standard_names: false,
            exports: None,
            users: None,
            volumes: None,
            manifests: None,
            personal: false,
            all_exports: false,
            whole_servers: false,
        }
    }
}

/// All maps, with what is remembered of them. Shared between threads.
#[derive(Debug, Default)]
pub struct Maps {
    settings: Settings,
    overlay: Overlay,
    /// Texts by path, for each way of reading them: see [`slot`].
    texts: [RwLock<HashMap<BString, Arc<Loaded>>>; 4],
    /// One lock for each text that is being read, so that it is read once. Only those who want
    /// the same text wait for one another.
    reading: Mutex<HashMap<(BString, usize), Turn>>,
    switch: RwLock<Option<Arc<LoadedSwitch>>>,
    /// What servers export.
    exports: Lists,
    /// Files that were looked for and could not be read.
    missing: Mutex<BTreeSet<PathBuf>>,
}

/// Held by the one who reads a text.
type Turn = Arc<Mutex<()>>;

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
    /// Whether at least one map is there at all, with a list or without.
    pub served: bool,
}

/// What to watch for changes (inotify): a change of one calls for [`Maps::keys`] or
/// [`crate::master::read`] again; look-ups notice changes by themselves.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Watch {
    /// Files that were read or looked for.
    pub files: Vec<PathBuf>,
    /// Directories in which every name matters.
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

/// Which of the four tables of texts holds those that are read in this way.
fn slot(context: &LookupContext<'_>) -> usize {
    let direct = usize::from(context.kind == MapKind::Direct);
    let sun = usize::from(context.dialect.wildcard == WildcardRule::EndsScan);
    direct * 2 + sun
}

impl Maps {
    /// No map read yet.
    pub fn new(settings: Settings) -> Self {
        Self {
            settings,
            ..Self::default()
        }
    }

    /// The same with texts that stand in for files.
    pub fn with_overlay(settings: Settings, overlay: Overlay) -> Self {
        Self {
            settings,
            overlay,
            ..Self::default()
        }
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
        match self.search(maps, key, context, true) {
            Ok(found) => Ok(found),
            Err(Stop::Miss(miss)) => Err(miss),
            Err(Stop::WouldBlock) => Err(Miss::TimedOut("the map is being read".into())),
        }
    }

    /// The same from memory, without blocking: `None` when that cannot be done because a map is
    /// not loaded, has changed, stands on a remote file system, or is a program.
    pub fn try_lookup_cached(
        &self,
        maps: &[MapSpec],
        key: &BStr,
        context: &LookupContext<'_>,
    ) -> Option<Result<Found, Miss>> {
        match self.search(maps, key, context, false) {
            Ok(found) => Some(Ok(found)),
            Err(Stop::Miss(miss)) => Some(Err(miss)),
            Err(Stop::WouldBlock) => None,
        }
    }

    /// Searches `maps` for `key`, blocking or not.
    fn search(
        &self,
        maps: &[MapSpec],
        key: &BStr,
        context: &LookupContext<'_>,
        may_block: bool,
    ) -> Result<Found, Stop> {
        let key = match context.kind {
            MapKind::Indirect => std::borrow::Cow::Borrowed(key),
            MapKind::Direct => piton_path::normalize(key),
        };
        key::check(context.kind, &key).map_err(Stop::Miss)?;
        Search::new(self, context, may_block).maps(maps, &key)
    }

    /// The keys of `maps` in reading order, for browsing and for direct maps. May block.
    /// Programs have none.
    pub fn keys(&self, maps: &[MapSpec], context: &LookupContext<'_>) -> Listing {
        let mut list = List::new(self, context, true);
        list.maps(maps);
        list.listing
    }

    /// [`Maps::keys`] without the keys: whether any of `maps` is there, and what of them, includes
    /// followed, cannot be listed or read, and why. Reads what is not in memory, and costs nothing for a map that is. May
    /// block.
    pub fn incomplete(&self, maps: &[MapSpec], context: &LookupContext<'_>) -> Listing {
        let mut list = List::new(self, context, false);
        list.maps(maps);
        list.listing
    }

    /// What there is to say about the texts of `maps`, includes followed. May block.
    pub fn diagnostics(&self, maps: &[MapSpec], context: &LookupContext<'_>) -> Vec<Diagnostic> {
        let mut list = List::new(self, context, false);
        list.maps(maps);
        list.diagnostics
    }

    /// The files to watch.
    pub fn watch(&self) -> Watch {
        let mut files: BTreeSet<PathBuf> = lock(&self.missing).clone();
        files.insert(self.real(self.settings.nsswitch.as_os_str().as_bytes().as_bstr()));
        for texts in &self.texts {
            files.extend(
                read(texts)
                    .values()
                    .filter_map(|loaded| loaded.path.clone()),
            );
        }
        Watch {
            files: files.into_iter().collect(),
            directories: Vec::new(),
        }
    }

    /// What is remembered, for `status`.
    pub fn status(&self) -> Vec<MapStatus> {
        let mut all: Vec<MapStatus> = Vec::new();
        for texts in &self.texts {
            all.extend(read(texts).values().map(|loaded| loaded.status()));
        }
        all.sort_by(|one, other| one.name.cmp(&other.name));
        all
    }

    /// Forgets every text; the next access reads again. For maps that the master map no longer
    /// names.
    pub fn forget(&self) {
        for texts in &self.texts {
            texts
                .write()
                .unwrap_or_else(PoisonError::into_inner)
                .clear();
        }
        lock(&self.missing).clear();
        self.renew_exports();
    }

    /// Has servers asked again before what is known of their exports is used.
    pub fn renew_exports(&self) {
        self.exports.out_of_date();
    }

    /// What is known of servers' exports, in the order of their names.
    pub fn exports(&self) -> Vec<ServerExports> {
        self.exports.status()
    }

    /// Where the file is that maps call `path`.
    pub(crate) fn real(&self, path: &BStr) -> PathBuf {
        let path = Path::new(OsStr::from_bytes(path));
        match &self.settings.root {
            Some(root) => root.join(path.strip_prefix("/").unwrap_or(path)),
            None => path.into(),
        }
    }

    /// What the service `files` calls the map `name`.
    pub(crate) fn in_map_directory(&self, name: &BStr) -> BString {
        let directory = self.settings.map_directory.as_os_str().as_bytes();
        let mut path = Vec::with_capacity(directory.len() + 1 + name.len());
        path.extend_from_slice(directory);
        path.push(b'/');
        path.extend_from_slice(name);
        path.into()
    }
}

/// Locks; another thread's panic does not spoil what is only a memory.
fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Locks for reading.
fn read<T>(lock: &RwLock<T>) -> std::sync::RwLockReadGuard<'_, T> {
    lock.read().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests;
