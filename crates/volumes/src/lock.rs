//! Locks: one at work on an origin at a time, whatever process it is.
//!
//! A lock is an advisory one (flock) on a file beside the journal. It goes with the last who
//! has the open file: this process, or a program that it started under the lock.

use std::fs::{DirBuilder, File, OpenOptions};
use std::io::ErrorKind;
use std::os::fd::AsFd;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::thread::sleep;
use std::time::Instant;

use piton_snapshot::Origin;
use rustix::fs::{FlockOperation, OFlags, flock};
use rustix::io::Errno;

use crate::digest::digest;
use crate::error::Error;
use crate::limits;

/// A lock that is held until this is dropped.
#[derive(Debug)]
pub(crate) struct Lock {
    pub(crate) file: File,
}

impl Lock {
    /// Waits for the lock of a file, which is made if it is not there.
    pub(crate) fn take(path: &Path, until: Instant) -> Result<Self, Error> {
        let file = open(path)?;
        wait(&file, path, until)?;
        Ok(Self { file })
    }
}

/// Opens the file of a lock, which is made if it is not there, and the directory that it is in.
pub(crate) fn open(path: &Path) -> Result<File, Error> {
    let bytes = path.as_os_str().as_encoded_bytes();
    let open = || {
        OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .mode(0o600)
            .custom_flags(OFlags::NOFOLLOW.bits().cast_signed())
            .open(path)
    };
    let opened = match (open(), path.parent()) {
        (Err(error), Some(directory)) if error.kind() == ErrorKind::NotFound => {
            make_directory(directory)?;
            open()
        }
        (opened, _) => opened,
    };
    opened.map_err(|error| Error::io("opening the lock", bytes, &error))
}

/// Waits for the lock of an open file or directory, which is held until that is closed.
pub(crate) fn wait(file: impl AsFd, path: &Path, until: Instant) -> Result<(), Error> {
    let begun = Instant::now();
    loop {
        match flock(&file, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => return Ok(()),
            Err(Errno::INTR) => {}
            Err(Errno::WOULDBLOCK) if Instant::now() < until => sleep(limits::LOCK_PAUSE),
            Err(Errno::WOULDBLOCK) => {
                return Err(Error::Overran {
                    what: format!("waiting for the lock {}", path.display()).into(),
                    milliseconds: begun.elapsed().as_millis(),
                });
            }
            Err(errno) => {
                return Err(Error::call(
                    "locking",
                    path.as_os_str().as_encoded_bytes(),
                    errno,
                ));
            }
        }
    }
}

/// The file for the lock of an origin. Two origins may share one: locks of a set are taken by their
/// files, each once.
pub(crate) fn file_of(directory: &Path, origin: &Origin) -> PathBuf {
    let whole = origin.to_string();
    let kind = origin.kind().word();
    let label: String = origin.label().chars().take(40).collect();
    directory.join(format!(
        "{kind}.{label}.{:016x}.lock",
        digest(whole.as_bytes())
    ))
}

/// Makes a directory of ours, for root alone.
fn make_directory(path: &Path) -> Result<(), Error> {
    DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(path)
        .map_err(|error| Error::io("making", path.as_os_str().as_encoded_bytes(), &error))
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use piton_snapshot::Kind;

    use super::*;

    fn after(milliseconds: u64) -> Instant {
        Instant::now() + Duration::from_millis(milliseconds)
    }

    #[test]
    fn one_at_a_time() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("a.lock");
        let first = Lock::take(&path, after(50)).unwrap();
        let error = Lock::take(&path, after(50)).unwrap_err();
        assert!(matches!(error, Error::Overran { .. }), "{error:?}");
        drop(first);
        // A process that another test starts at this moment holds a copy of it until it runs its program.
        Lock::take(&path, after(60_000)).unwrap();
    }

    #[test]
    fn files_are_told_apart_by_the_whole_origin() {
        let of = |path: &str| {
            let origin = Origin::new(Kind::Btrfs, path.into()).unwrap();
            file_of(Path::new("/run/x"), &origin)
        };
        assert_eq!(of("/a/data"), of("/a/data"));
        assert_ne!(of("/a/data"), of("/b/data"));
        let long = of(&format!("/{}", "x".repeat(4000)));
        assert!(long.file_name().unwrap().len() < 100, "{long:?}");
    }
}
