//! Texts in memory, and whether they are still those of their files.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{SystemTime, UNIX_EPOCH};

use bstr::{BStr, BString, ByteSlice};
use piton_map::diagnostic::Diagnostic;
use piton_map::index::MapIndex;
use piton_map::lookup::Miss;
use piton_map::text::Fragment;

use super::{MapStatus, Maps, lock, read, slot};
use crate::file::{self, FileSource};
use crate::limits::{CONF_BYTES, STAMP_TICK};
use crate::source::{LookupContext, MapSource, MapText, Stamp};
use crate::switch::Switch;

/// A map's text with its index.
#[derive(Debug)]
pub(super) struct Loaded {
    pub(super) index: Arc<MapIndex>,
    /// The file it was read from; `None` for a text that stands in for a file.
    pub(super) path: Option<PathBuf>,
    pub(super) diagnostics: Vec<Diagnostic>,
    /// Whether it is a program where no type is named; as a `file:` its text is read all the same.
    pub(super) program: bool,
    state: State,
    /// Why the file could not be read again, while that is so.
    stale: Mutex<Option<Miss>>,
}

/// The name service switch as it was read.
#[derive(Debug)]
pub(crate) struct LoadedSwitch {
    pub(crate) switch: Switch,
    pub(crate) diagnostics: Vec<Diagnostic>,
    path: PathBuf,
    state: State,
}

/// The state of a file when it was read.
#[derive(Debug)]
struct State {
    /// `None`: there was no file, or no need for one.
    stamp: Option<Stamp>,
    /// Whether asking for the state cannot block.
    local: bool,
    /// Whether the stamp can be trusted: a file that was younger than a tick of the clock when
    /// it was read may have changed since and look the same.
    settled: bool,
}

/// What one map is, whatever it is called: for finding cycles.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Identity {
    /// Device and inode.
    File(u64, u64),
    /// The name of a text without a file.
    Name(Arc<str>),
}

impl State {
    /// The state `stamp`, read at `read_at` nanoseconds since 1970.
    fn new(stamp: Option<Stamp>, local: bool, read_at: i128) -> Self {
        let tick = STAMP_TICK.as_nanos() as i128;
        let settled = stamp.is_none_or(|stamp| {
            // A change in the future tells nothing: the clock was set back, or is a server's.
            let age = read_at - stamp.ctime_ns;
            age >= tick || age < -tick
        });
        Self {
            stamp,
            local,
            settled,
        }
    }

    /// Returns true if and only if `now` is the state that was read.
    fn is(&self, now: Option<Stamp>) -> bool {
        self.settled && self.stamp == now
    }
}

/// Nanoseconds since 1970.
fn now_ns() -> i128 {
    SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .map_or(0, |since| since.as_nanos() as i128)
}

impl Loaded {
    /// What this map is, whatever it is called.
    pub(super) fn identity(&self) -> Identity {
        match self.state.stamp {
            Some(stamp) => Identity::File(stamp.dev, stamp.ino),
            None => Identity::Name(self.index.text().name.clone()),
        }
    }

    /// Returns true if and only if the file is as it was read. Costs one `stat`.
    fn is_fresh(&self) -> bool {
        match &self.path {
            None => true,
            Some(path) => file::stamp_of(path).is_ok_and(|now| self.state.is(Some(now))),
        }
    }

    /// What `status` shows.
    pub(super) fn status(&self) -> MapStatus {
        MapStatus {
            name: self.index.text().name.clone(),
            keys: self.index.len(),
            bytes: self.index.text().text.len(),
            stale: lock(&self.stale).clone(),
        }
    }
}

impl Maps {
    /// The text called `path` if it is in memory, its file is on a local file system and has
    /// not changed. Does not block.
    pub(super) fn cached(&self, path: &BStr, context: &LookupContext<'_>) -> Option<Arc<Loaded>> {
        let loaded = self.texts[slot(context)]
            .try_read()
            .ok()?
            .get(path)
            .cloned()?;
        (loaded.state.local && loaded.is_fresh()).then_some(loaded)
    }

    /// The text called `path`, read if it has changed. Blocks.
    ///
    /// # Errors
    /// [`Miss`] says why there is none. A file that has become unreadable is answered with the
    /// copy that was read last; one that is gone is gone.
    pub(super) fn fresh(
        &self,
        path: &BStr,
        context: &LookupContext<'_>,
    ) -> Result<Arc<Loaded>, Miss> {
        let slot = slot(context);
        let known = || read(&self.texts[slot]).get(path).cloned();
        if let Some(loaded) = known().filter(|loaded| loaded.is_fresh()) {
            return Ok(loaded);
        }
        let turn = lock(&self.reading)
            .entry((path.into(), slot))
            .or_default()
            .clone();
        let _turn = lock(&turn);
        let old = known();
        if let Some(loaded) = old.clone().filter(|loaded| loaded.is_fresh()) {
            return Ok(loaded);
        }
        let result = self.load(path, context, old);
        lock(&self.reading).remove(&(path.into(), slot));
        result
    }

    /// Reads the text called `path`.
    fn load(
        &self,
        path: &BStr,
        context: &LookupContext<'_>,
        old: Option<Arc<Loaded>>,
    ) -> Result<Arc<Loaded>, Miss> {
        let texts = &self.texts[slot(context)];
        let read_at = now_ns();
        match (self.text(path), old) {
            (Ok(text), old) => {
                let state = State::new(text.stamp, text.local, read_at);
                // A file that was touched, or read when it had just been written: to compare is a
                // tenth of the work.
                let same = old.filter(|old| old.index.text() == &text.fragment);
                let (index, diagnostics) = match same {
                    Some(old) => (old.index.clone(), old.diagnostics.clone()),
                    None => {
                        let (index, diagnostics) =
                            MapIndex::new(text.fragment, context.kind, context.dialect);
                        report(&diagnostics);
                        (Arc::new(index), diagnostics)
                    }
                };
                let path_read = state.stamp.is_some().then(|| self.real(path));
                let stale = Mutex::new(None);
                let loaded = Loaded {
                    index,
                    path: path_read,
                    diagnostics,
                    program: self.is_program(path),
                    state,
                    stale,
                };
                let loaded = Arc::new(loaded);
                let mut texts = texts.write().unwrap_or_else(PoisonError::into_inner);
                texts.insert(path.into(), loaded.clone());
                Ok(loaded)
            }
            (Err(why @ Miss::Unreadable(_)), Some(old)) => {
                let mut stale = lock(&old.stale);
                if stale.as_ref() != Some(&why) {
                    tracing::warn!(map = %path, ?why, "using the copy that was read last");
                    *stale = Some(why);
                }
                drop(stale);
                Ok(old)
            }
            (Err(miss), _) => {
                texts
                    .write()
                    .unwrap_or_else(PoisonError::into_inner)
                    .remove(path);
                Err(miss)
            }
        }
    }

    /// The bytes of the text called `path`, from memory or its file. Blocks.
    pub(crate) fn text(&self, path: &BStr) -> Result<MapText, Miss> {
        let shown: Arc<str> = path.to_str_lossy().into();
        let real = self.real(path);
        if let Some(text) = self.overlay.get(Path::new(OsStr::from_bytes(path))) {
            return text.read();
        }
        let result = FileSource::new(real.clone(), shown).read();
        let mut missing = lock(&self.missing);
        match &result {
            Err(_) => missing.insert(real),
            Ok(_) => missing.remove(&real),
        };
        result
    }

    /// The name service switch if it can be told without blocking that it is as it was read.
    pub(super) fn switch_cached(&self) -> Option<Arc<LoadedSwitch>> {
        let switch = self.switch.try_read().ok()?.clone()?;
        (switch.state.local && switch.is_fresh()).then_some(switch)
    }

    /// The name service switch, read if it has changed. One that cannot be read counts as
    /// absent.
    pub(crate) fn switch(&self) -> Arc<LoadedSwitch> {
        let known = read(&self.switch).clone();
        if let Some(switch) = known.filter(|switch| switch.is_fresh()) {
            return switch;
        }
        let name: BString = self.settings.nsswitch.as_os_str().as_bytes().into();
        let path = self.real(name.as_ref());
        let shown: Arc<str> = name.to_str_lossy().into();
        let read_at = now_ns();
        let text = match self.overlay.get(&self.settings.nsswitch) {
            Some(text) => text.read(),
            None => file::read_text(&path, &shown, CONF_BYTES),
        };
        let (fragment, state) = match text {
            Ok(text) => (text.fragment, State::new(text.stamp, text.local, read_at)),
            Err(_) => (Fragment::whole(shown, ""), State::new(None, true, read_at)),
        };
        let (switch, diagnostics) = Switch::parse(&fragment);
        report(&diagnostics);
        let loaded = Arc::new(LoadedSwitch {
            switch,
            diagnostics,
            path,
            state,
        });
        *self.switch.write().unwrap_or_else(PoisonError::into_inner) = Some(loaded.clone());
        loaded
    }
}

impl LoadedSwitch {
    /// Returns true if and only if the file is as it was read, or still absent.
    fn is_fresh(&self) -> bool {
        self.state.is(file::stamp_of(&self.path).ok())
    }
}

/// Logs what there is to say about a text that was just read.
fn report(diagnostics: &[Diagnostic]) {
    for one in diagnostics {
        let place = one.origin();
        tracing::warn!(code = one.code, "{place}: {}", one.message);
    }
}
