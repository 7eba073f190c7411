//! A file in which each NFS call and its answer is a line: `-T` of the older automounter.
//!
//! The thread that serves never waits for the disk: lines go to a thread of their own, and what is
//! more than that can write is counted and left out.

use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};

use piton_control::time::rfc3339_micros;
use piton_loopback::Witness;

use super::limits::{CALLS_LOG_BYTES, CALLS_WAITING};

/// The log. It ends when the last who sees calls is gone.
pub(super) struct CallLog {
    lines: SyncSender<String>,
    lost: Arc<AtomicU64>,
}

impl CallLog {
    /// Begins to write at the end of a file, which is made if it is not there.
    ///
    /// # Errors
    /// It cannot be opened, or there is no thread.
    pub(super) fn begin(path: &Path) -> io::Result<Self> {
        let (lines, waiting) = sync_channel(CALLS_WAITING);
        let lost = Arc::<AtomicU64>::default();
        let log = Log {
            path: path.to_owned(),
            file: open(path)?,
            most: CALLS_LOG_BYTES,
            lost: lost.clone(),
        };
        let thread = std::thread::Builder::new().name("calls".into());
        thread.spawn(move || log.write_all(&waiting))?;
        Ok(Self { lines, lost })
    }
}

impl Witness for CallLog {
    fn saw(&self, line: String) {
        let now = std::time::SystemTime::now();
        let line = format!("{} {line}\n", rfc3339_micros(now));
        if self.lines.try_send(line).is_err() {
            self.lost.fetch_add(1, Ordering::Relaxed);
        }
    }
}

/// Only root may read who looks for what. A link is not followed: whoever could make one would
/// have us write elsewhere.
fn open(path: &Path) -> io::Result<File> {
    let flags = rustix::fs::OFlags::NOFOLLOW.bits();
    OpenOptions::new()
        .create(true)
        .append(true)
        .mode(0o600)
        .custom_flags(flags.cast_signed())
        .open(path)
}

struct Log {
    path: PathBuf,
    file: File,
    most: u64,
    lost: Arc<AtomicU64>,
}

impl Log {
    fn write_all(mut self, lines: &Receiver<String>) {
        while let Ok(line) = lines.recv() {
            if let Err(error) = self.write(&line) {
                tracing::warn!(path = %self.path.display(), %error, "calls are not logged any more");
                return;
            }
        }
    }

    fn write(&mut self, line: &str) -> io::Result<()> {
        if self.file.metadata()?.len() + line.len() as u64 > self.most {
            // One older file is kept.
            let mut older = self.path.clone().into_os_string();
            older.push(".0");
            std::fs::rename(&self.path, older)?;
            self.file = open(&self.path)?;
        }
        let lost = self.lost.swap(0, Ordering::Relaxed);
        if lost > 0 {
            writeln!(
                self.file,
                "{lost} lines are left out: there were too many at once"
            )?;
        }
        self.file.write_all(line.as_bytes())
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc::sync_channel;
    use std::time::Duration;

    use super::*;

    #[test]
    fn r_224_calls_are_lines_of_a_file() {
        let scratch = tempfile::tempdir().expect("a directory");
        let path = scratch.path().join("calls");
        let log = CallLog::begin(&path).expect("a log");
        log.saw("call 1".into());
        log.saw("done 1".into());
        piton_testkit::wait_until("they are written", Duration::from_secs(20), || {
            let text = std::fs::read_to_string(&path).expect("the log");
            text.lines().count() == 2 && text.ends_with(" done 1\n")
        });
        let mode = std::os::unix::fs::MetadataExt::mode(&path.metadata().expect("a file"));
        assert_eq!(mode & 0o777, 0o600);
        let link = scratch.path().join("link");
        std::os::unix::fs::symlink(&path, &link).expect("a link");
        assert!(CallLog::begin(&link).is_err());
    }

    #[test]
    fn the_file_is_bounded_and_one_older_one_is_kept() {
        let scratch = tempfile::tempdir().expect("a directory");
        let path = scratch.path().join("calls");
        let mut log = Log {
            file: open(&path).expect("a file"),
            path: path.clone(),
            most: 10,
            lost: Arc::new(AtomicU64::new(0)),
        };
        let read = |name: &str| std::fs::read_to_string(scratch.path().join(name));
        log.write("1234\n").expect("room");
        log.write("5678\n").expect("room up to the limit");
        assert!(read("calls.0").is_err());
        log.write("9\n").expect("a new file");
        assert_eq!(read("calls").expect("the new one"), "9\n");
        assert_eq!(read("calls.0").expect("the old one"), "1234\n5678\n");
    }

    #[test]
    fn who_serves_does_not_wait_and_what_is_left_out_is_told() {
        let (lines, waiting) = sync_channel(1);
        let log = CallLog {
            lines,
            lost: Arc::default(),
        };
        for _ in 0..3 {
            log.saw("x".into());
        }
        assert_eq!(log.lost.load(Ordering::Relaxed), 2);
        let scratch = tempfile::tempdir().expect("a directory");
        let path = scratch.path().join("calls");
        let mut file = Log {
            file: open(&path).expect("a file"),
            path: path.clone(),
            most: 1000,
            lost: log.lost.clone(),
        };
        file.write(&waiting.recv().expect("a line")).expect("room");
        let text = std::fs::read_to_string(&path).expect("the log");
        assert!(text.starts_with("2 lines are left out"), "{text}");
    }
}
