//! Watching the directories of maps: master maps and direct maps are applied when they change.

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::OsString;
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::{Component, Path, PathBuf};
use std::time::{Duration, SystemTime};

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

/// How many links in one directory are followed, each to the next.
const LINKS: usize = 8;

/// The clock by which the kernel dates changes lags by a tick (1 to 10 ms) behind the exact one.
const TICK: Duration = Duration::from_millis(10);

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

    /// Watches these files and directories from now on, and no others. Returns whether some of
    /// their directories were not watched before: what happened there until now was not noticed.
    pub(crate) fn set(&mut self, watch: &Watch) -> bool {
        self.names.clear();
        for file in &watch.files {
            let Some(directory) = file.parent() else {
                continue;
            };
            let names = self.names.entry(directory.to_owned()).or_default();
            names.extend(names_of(file, directory));
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
        let new = wanted.iter().filter(|path| self.add(path));
        new.count() > 0
    }

    /// Watches a directory; returns whether it was not watched before.
    fn add(&mut self, path: &Path) -> bool {
        if self.by_path.contains_key(path) {
            return false;
        }
        match inotify::add_watch(&self.inotify, path, EVENTS) {
            Ok(number) => {
                self.directories.insert(number, path.to_owned());
                self.by_path.insert(path.to_owned(), number);
                true
            }
            Err(error) => {
                tracing::debug!(path = %path.display(), %error, "directory cannot be watched");
                false
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
            let Some((directory, names)) = self
                .directories
                .get(&event.wd())
                .and_then(|path| self.names.get_key_value(path))
            else {
                continue;
            };
            let name = event
                .file_name()
                .map(|name| std::ffi::OsStr::from_bytes(name.to_bytes()));
            if names.is_empty() || name.is_none_or(|name| names.contains(name)) {
                let changed = directory.join(name.unwrap_or_default());
                tracing::debug!(path = %changed.display(), how = ?event.events(), "noticed");
                matters = true;
            }
        }
        matters
    }

    /// Becomes readable when something has happened.
    pub(crate) fn bell(&self) -> BorrowedFd<'_> {
        self.inotify.as_fd()
    }
}

/// Whether a file, or any name in its directory, may have changed at `time` or later. May block.
pub(crate) fn changed_since(watch: &Watch, time: SystemTime) -> bool {
    let changed = |path: &Path| {
        let stat = rustix::fs::stat(path).ok();
        let time = time - TICK;
        stat.is_some_and(|stat| changed_at(&stat) >= time)
    };
    let files = watch.files.iter();
    let files = files.flat_map(|file| [Some(file.as_path()), file.parent()]);
    let mut paths = files
        .flatten()
        .chain(watch.directories.iter().map(PathBuf::as_path));
    paths.any(changed)
}

/// When a file or what is known of it was changed last.
fn changed_at(stat: &rustix::fs::Stat) -> SystemTime {
    let seconds = Duration::from_secs(u64::try_from(stat.st_ctime).unwrap_or_default());
    SystemTime::UNIX_EPOCH + seconds + Duration::from_nanos(stat.st_ctime_nsec)
}

/// The names in a file's directory that make the file another one when they change: its own, and
/// what that leads to as a link: `auto.home -> ..data/auto.home`.
fn names_of(file: &Path, directory: &Path) -> Vec<OsString> {
    let mut names: Vec<OsString> = file.file_name().map(OsString::from).into_iter().collect();
    while let (Some(last), true) = (names.last(), names.len() <= LINKS) {
        let Ok(target) = std::fs::read_link(directory.join(last)) else {
            break;
        };
        let Some(Component::Normal(next)) = target.components().next() else {
            break;
        };
        names.push(next.to_owned());
    }
    names
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_that_matter_are_noticed_and_others_are_not() {
        let folder = tempfile::tempdir().unwrap();
        let at = |name: &str| folder.path().join(name);
        for directory in ["old", "new", "master.d"] {
            std::fs::create_dir(at(directory)).unwrap();
        }
        std::os::unix::fs::symlink("old", at("..data")).unwrap();
        std::os::unix::fs::symlink("..data/auto.home", at("auto.home")).unwrap();
        let mut watcher = Watcher::new().unwrap();
        let watch = Watch {
            files: vec![at("auto.home"), at("auto.data"), at("none/auto.x")],
            directories: vec![at("master.d"), at("none.d")],
        };
        assert!(watcher.set(&watch), "directories that were not watched");
        assert!(!watcher.set(&watch));
        let mut noticed = |act: &dyn Fn()| {
            act();
            watcher.take()
        };
        assert!(!noticed(&|| std::fs::write(at("other"), "").unwrap()));
        assert!(noticed(&|| std::fs::write(at("auto.data"), "").unwrap()));
        assert!(noticed(
            &|| std::fs::rename(at("other"), at("auto.data")).unwrap()
        ));
        assert!(noticed(&|| {
            std::os::unix::fs::symlink("new", at("..new")).unwrap();
            std::fs::rename(at("..new"), at("..data")).unwrap();
        }));
        assert!(noticed(&|| std::fs::write(at("master.d/any"), "").unwrap()));
        assert!(!noticed(
            &|| std::fs::write(at("new/auto.home"), "").unwrap()
        ));
        assert!(!noticed(&|| std::fs::create_dir(at("none")).unwrap()));
    }

    #[test]
    fn what_changed_before_it_was_watched_is_found_by_its_date() {
        let folder = tempfile::tempdir().unwrap();
        let at = |name: &str| folder.path().join(name);
        std::fs::create_dir(at("maps")).unwrap();
        std::fs::write(at("maps/auto.home"), "").unwrap();
        let watch = Watch {
            files: vec![at("maps/auto.home"), at("none/auto.x")],
            directories: vec![at("none.d")],
        };
        let ages = || {
            std::thread::sleep(3 * TICK);
            SystemTime::now()
        };
        let changes: [&dyn Fn(); 3] = [
            &|| std::fs::write(at("maps/auto.home"), "ann fs1:/ann").unwrap(),
            &|| std::fs::write(at("maps/new"), "").unwrap(),
            &|| std::fs::remove_file(at("maps/auto.home")).unwrap(),
        ];
        for change in changes {
            let began = ages();
            assert!(!changed_since(&watch, began));
            change();
            assert!(changed_since(&watch, began));
        }
    }

    #[test]
    fn links_that_lead_in_a_circle_end() {
        let folder = tempfile::tempdir().unwrap();
        std::os::unix::fs::symlink("b", folder.path().join("a")).unwrap();
        std::os::unix::fs::symlink("a", folder.path().join("b")).unwrap();
        let names = names_of(&folder.path().join("a"), folder.path());
        assert_eq!(names.len(), LINKS + 1);
    }
}
