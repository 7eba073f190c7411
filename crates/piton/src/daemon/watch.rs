//! Watching the directories of maps: master maps and direct maps are applied when they change.

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::OsString;
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use piton_source::cache::Watch;
use rustix::fs::inotify;

/// Watches files by way of their directories: a file that is replaced by another keeps its name
/// but not its inode.
pub(crate) struct Watcher {
    inotify: OwnedFd,
    directories: BTreeMap<i32, PathBuf>,
    by_path: BTreeMap<PathBuf, i32>,
    /// Names that matter, by directory; an empty set: all.
    names: BTreeMap<PathBuf, BTreeSet<OsString>>,
}

const EVENTS: inotify::WatchFlags = inotify::WatchFlags::CLOSE_WRITE
    .union(inotify::WatchFlags::MOVED_TO)
    .union(inotify::WatchFlags::MOVED_FROM)
    .union(inotify::WatchFlags::CREATE)
    .union(inotify::WatchFlags::DELETE)
    .union(inotify::WatchFlags::ATTRIB)
    .union(inotify::WatchFlags::ONLYDIR);

impl Watcher {
    /// Watches nothing yet.
    pub(crate) fn new() -> rustix::io::Result<Self> {
        let flags = inotify::CreateFlags::CLOEXEC | inotify::CreateFlags::NONBLOCK;
        let inotify = inotify::init(flags)?;
        Ok(Self {
            inotify,
            directories: BTreeMap::new(),
            by_path: BTreeMap::new(),
            names: BTreeMap::new(),
        })
    }

    /// Watches these files and directories from now on, and no others.
    pub(crate) fn set(&mut self, watch: &Watch) {
        self.names.clear();
        for file in &watch.files {
            let Some(directory) = file.parent() else {
                continue;
            };
            let Some(name) = file.file_name() else {
                continue;
            };
            self.names
                .entry(directory.to_owned())
                .or_default()
                .insert(name.to_owned());
        }
        for directory in &watch.directories {
            self.names.insert(directory.clone(), BTreeSet::new());
        }
        let gone: Vec<PathBuf> = self
            .by_path
            .keys()
            .filter(|path| !self.names.contains_key(*path))
            .cloned()
            .collect();
        for path in gone {
            if let Some(number) = self.by_path.remove(&path) {
                self.directories.remove(&number);
                // The kernel drops it by itself when the directory is gone.
                let _ = inotify::remove_watch(&self.inotify, number);
            }
        }
        let wanted: Vec<PathBuf> = self.names.keys().cloned().collect();
        for path in wanted {
            self.add(&path);
        }
    }

    fn add(&mut self, path: &Path) {
        if self.by_path.contains_key(path) {
            return;
        }
        match inotify::add_watch(&self.inotify, path, EVENTS) {
            Ok(number) => {
                self.directories.insert(number, path.to_owned());
                self.by_path.insert(path.to_owned(), number);
            }
            Err(error) => {
                tracing::debug!(path = %path.display(), %error, "directory cannot be watched");
            }
        }
    }

    /// Takes what has happened; returns whether any of it matters.
    pub(crate) fn take(&mut self) -> bool {
        let mut buffer = [MaybeUninit::uninit(); 4096];
        let mut reader = inotify::Reader::new(self.inotify.as_fd(), &mut buffer);
        let mut matters = false;
        while let Ok(event) = reader.next() {
            if event.events().contains(inotify::ReadFlags::QUEUE_OVERFLOW) {
                matters = true;
                continue;
            }
            let Some(names) = self
                .directories
                .get(&event.wd())
                .and_then(|path| self.names.get(path))
            else {
                continue;
            };
            let name = event
                .file_name()
                .map(|name| std::ffi::OsStr::from_bytes(name.to_bytes()));
            matters |= names.is_empty() || name.is_none_or(|name| names.contains(name));
        }
        matters
    }

    /// Becomes readable when something has happened.
    pub(crate) fn bell(&self) -> BorrowedFd<'_> {
        self.inotify.as_fd()
    }
}
