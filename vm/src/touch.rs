//! Accesses that may wait for a server for ever.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::thread;
use std::time::{Duration, Instant};

/// An access under way, in a thread of the test: no process is started, which is slow in the guest.
/// The test is no child of a daemon, so what it touches triggers.
#[derive(Debug)]
pub struct Touch {
    path: PathBuf,
    answer: Receiver<Touched>,
}

/// What an access came to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Touched {
    /// The text of a file, or the sorted names in a directory, a line each; or the errno.
    pub result: Result<String, i32>,
    /// How long it took.
    pub took: Duration,
}

impl Touch {
    /// Reads a file.
    pub fn read(path: impl AsRef<Path>) -> Self {
        Self::begin(path.as_ref(), |path| {
            Ok(String::from_utf8_lossy(&fs::read(path)?).into_owned())
        })
    }

    /// Lists a directory.
    pub fn list(path: impl AsRef<Path>) -> Self {
        Self::begin(path.as_ref(), |path| {
            let mut names = fs::read_dir(path)?
                .map(|entry| Ok(entry?.file_name().to_string_lossy().into_owned()))
                .collect::<io::Result<Vec<_>>>()?;
            names.sort();
            Ok(names.iter().map(|name| format!("{name}\n")).collect())
        })
    }

    /// Writes a file.
    pub fn write(path: impl AsRef<Path>, text: &'static str) -> Self {
        Self::begin(path.as_ref(), move |path| {
            fs::write(path, text).map(|()| String::new())
        })
    }

    fn begin<F>(path: &Path, what: F) -> Self
    where
        F: FnOnce(&Path) -> io::Result<String> + Send + 'static,
    {
        crate::in_the_guest();
        let (tell, answer) = channel();
        let owned = path.to_owned();
        let begun = Instant::now();
        thread::spawn(move || {
            let result = what(&owned).map_err(|error| error.raw_os_error().unwrap_or(0));
            let took = begun.elapsed();
            // The test may have gone on without it.
            let _ = tell.send(Touched { result, took });
        });
        Self {
            path: path.to_owned(),
            answer,
        }
    }

    /// Waits for its end.
    ///
    /// # Panics
    /// It is not over within `limit`.
    #[track_caller]
    pub fn within(self, limit: Duration) -> Touched {
        self.answer
            .recv_timeout(limit)
            .unwrap_or_else(|_| panic!("{} was not answered within {limit:?}", self.path.display()))
    }

    /// What it came to, if it is over within `limit`.
    pub fn ends_within(&self, limit: Duration) -> Option<Result<String, i32>> {
        self.answer
            .recv_timeout(limit)
            .ok()
            .map(|touched| touched.result)
    }

    /// Whether it still waits for an answer.
    pub fn is_waiting(&self) -> bool {
        let waited = self.answer.recv_timeout(Duration::ZERO);
        matches!(waited, Err(RecvTimeoutError::Timeout))
    }
}

impl Touched {
    /// What was read.
    ///
    /// # Panics
    /// It failed.
    #[track_caller]
    pub fn text(&self) -> &str {
        let text = self.result.as_deref();
        text.unwrap_or_else(|errno| {
            let error = io::Error::from_raw_os_error(*errno);
            panic!("it failed after {:?}: {error}", self.took)
        })
    }

    /// The errno.
    ///
    /// # Panics
    /// It succeeded.
    #[track_caller]
    pub fn errno(&self) -> i32 {
        match &self.result {
            Err(errno) => *errno,
            Ok(text) => panic!("it succeeded after {:?}: {text}", self.took),
        }
    }
}
