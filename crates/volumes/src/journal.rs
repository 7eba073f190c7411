//! The journal: a record of each snapshot, from before it is made until it is gone.
//!
//! A file of lines, each with its checksum; later lines replace earlier ones. A line that was torn
//! by a crash counts for nothing. When most lines say nothing any more the file is written anew.

use std::cell::{OnceCell, RefCell};
use std::fs::{self, File, OpenOptions};
use std::io::{ErrorKind, Write};
use std::os::unix::fs::{FileExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::mpsc::{self, Receiver, SendError, Sender};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::Builder;
use std::time::Instant;

use bstr::ByteSlice;
use piton_snapshot::{Name, Origin, Record};
use rustix::fs::{FlockOperation, flock};
use rustix::io::Errno;
use serde::{Deserialize, Serialize};

use crate::digest::digest;
use crate::error::Error;
use crate::limits;
use crate::lock;

/// One line.
#[derive(Debug, Deserialize, Serialize)]
#[serde(rename_all = "lowercase")]
enum Line {
    Write(Record),
    Forget { name: Name, origins: Vec<Origin> },
}

/// The journal in a directory. Its files stay open from one use to the next.
#[derive(Debug)]
pub(crate) struct Journal {
    directory: PathBuf,
    lock: OnceCell<File>,
    file: RefCell<Option<Arc<File>>>,
}

/// Nobody else is at the journal until this is dropped.
struct Held<'a>(&'a File);

impl Drop for Held<'_> {
    fn drop(&mut self) {
        // What stays locked is unlocked when it is closed.
        let _ = flock(self.0, FlockOperation::Unlock);
    }
}

impl Journal {
    /// One that may not be there yet.
    pub(crate) fn new(directory: &Path) -> Self {
        Self {
            directory: directory.to_owned(),
            lock: OnceCell::new(),
            file: RefCell::default(),
        }
    }

    /// All records.
    pub(crate) fn read(&self, until: Instant) -> Result<Vec<Record>, Error> {
        self.read_with(until, |_| true)
    }

    /// The records that have one of these origins. An access reads the journal twice: the lines of
    /// others are not even parsed.
    pub(crate) fn read_of(&self, origins: &[Origin], until: Instant) -> Result<Vec<Record>, Error> {
        // As they stand in each of their lines, whatever it says.
        let written = origins.iter().map(serde_json::to_string);
        let written: Vec<String> = written.filter_map(Result::ok).collect();
        let finders: Vec<_> = written.iter().map(bstr::Finder::new).collect();
        let mut records = self.read_with(until, |line| {
            finders.iter().any(|finder| finder.find(line).is_some())
        })?;
        records.retain(|record| record.origins.iter().any(|it| origins.contains(it)));
        Ok(records)
    }

    /// The records of the lines that are wanted.
    fn read_with(
        &self,
        until: Instant,
        wanted: impl Fn(&[u8]) -> bool,
    ) -> Result<Vec<Record>, Error> {
        // Where there is no journal none is begun by reading it.
        if self.file.borrow().is_none() && !self.path().exists() {
            return Ok(Vec::new());
        }
        let _held = self.hold(until)?;
        match self.current()? {
            Some(file) => self.load(&file, wanted),
            None => Ok(Vec::new()),
        }
    }

    /// Writes a record in place of the one of its name and origins. It is safe from the death of
    /// this process when this returns, and from that of the machine when the answer has been
    /// [waited for](Landing::wait).
    pub(crate) fn write(&self, record: &Record, until: Instant) -> Result<Landing, Error> {
        self.append(&Line::Write(record.clone()), until)
    }

    /// Removes the record of a name and origins. It may come back when the machine loses power: the
    /// snapshot that it is about is gone then.
    pub(crate) fn forget(
        &self,
        name: Name,
        origins: &[Origin],
        until: Instant,
    ) -> Result<(), Error> {
        let origins = origins.to_vec();
        self.append(&Line::Forget { name, origins }, until)
            .map(drop)
    }

    fn append(&self, line: &Line, until: Instant) -> Result<Landing, Error> {
        let _held = self.hold(until)?;
        let (file, is_new) = match self.current()? {
            Some(file) => (file, false),
            None => (self.begin()?, true),
        };
        let length = add(&file, line).map_err(|error| self.failed("writing", &error))?;
        if length > limits::JOURNAL {
            self.renew(&file, length)?;
        }
        if is_new {
            sync_directory(&self.directory).map_err(|error| self.failed("writing", &error))?;
        }
        // Without the lock: others may add their lines meanwhile, and the disk is waited for
        // together.
        Ok(Landing {
            file,
            path: self.path(),
        })
    }

    /// Writes the file anew if that makes it much shorter.
    fn renew(&self, old: &File, length: u64) -> Result<(), Error> {
        let records = self.load(old, |_| true)?;
        let lines = records
            .into_iter()
            .map(|record| encode(&Line::Write(record)));
        let text = lines.collect::<Vec<_>>().concat();
        if text.len() as u64 > length / 2 {
            return Ok(());
        }
        let new = self.directory.join("journal.new");
        let written = || -> std::io::Result<()> {
            let mut file = OpenOptions::new()
                .write(true)
                .create(true)
                .truncate(true)
                .mode(0o600)
                .open(&new)?;
            file.write_all(&text)?;
            file.sync_data()?;
            fs::rename(&new, self.path())?;
            sync_directory(&self.directory)
        };
        written().map_err(|error| self.failed("renewing", &error))
    }

    /// The records of the lines that are wanted.
    fn load(&self, file: &File, wanted: impl Fn(&[u8]) -> bool) -> Result<Vec<Record>, Error> {
        let read = || -> std::io::Result<Vec<u8>> {
            let length = file.metadata()?.len();
            let mut text = vec![0; usize::try_from(length).map_err(std::io::Error::other)?];
            file.read_exact_at(&mut text, 0)?;
            Ok(text)
        };
        let text = read().map_err(|error| self.failed("reading", &error))?;
        Ok(replay(text.lines().filter(|line| wanted(line))))
    }

    /// Waits until nobody else is at the journal.
    fn hold(&self, until: Instant) -> Result<Held<'_>, Error> {
        let path = self.directory.join("journal.lock");
        let file = match self.lock.get() {
            Some(file) => file,
            None => {
                let file = lock::open(&path)?;
                self.lock.get_or_init(|| file)
            }
        };
        lock::wait(file, &path, until)?;
        Ok(Held(file))
    }

    /// The file as it is now, if it is there: another may have written it anew.
    fn current(&self) -> Result<Option<Arc<File>>, Error> {
        let known = self.file.borrow().clone();
        if let Some(file) = known {
            let found = file.metadata();
            if found
                .map_err(|error| self.failed("looking at", &error))?
                .nlink()
                > 0
            {
                return Ok(Some(file));
            }
        }
        match open(&self.path(), false) {
            Ok(file) => Ok(Some(self.keep(file))),
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
            Err(error) => Err(self.failed("opening", &error)),
        }
    }

    fn begin(&self) -> Result<Arc<File>, Error> {
        let file = open(&self.path(), true).map_err(|error| self.failed("opening", &error))?;
        Ok(self.keep(file))
    }

    fn keep(&self, file: File) -> Arc<File> {
        let file = Arc::new(file);
        *self.file.borrow_mut() = Some(file.clone());
        file
    }

    fn path(&self) -> PathBuf {
        self.directory.join("journal")
    }

    fn failed(&self, doing: &'static str, error: &std::io::Error) -> Error {
        Error::io(doing, self.path().as_os_str().as_encoded_bytes(), error)
    }
}

/// A line that is on its way to the disk.
#[derive(Debug)]
#[must_use = "what is to survive the machine's death has to be waited for"]
pub(crate) struct Landing {
    file: Arc<File>,
    path: PathBuf,
}

impl Landing {
    /// Has it waited for while something else is done. What waits stays for the next time: to start a
    /// thread takes longer than most of what an access does.
    pub(crate) fn wait_beside(self) -> Result<Beside, Error> {
        static WAITING: Mutex<Option<Sender<Job>>> = Mutex::new(None);
        let (answer, beside) = mpsc::channel();
        let mut waiting = WAITING.lock().unwrap_or_else(PoisonError::into_inner);
        let job = (self, answer);
        let job = match &*waiting {
            None => job,
            Some(jobs) => match jobs.send(job) {
                Ok(()) => return Ok(Beside(beside)),
                Err(SendError(job)) => job,
            },
        };
        let (jobs, received) = mpsc::channel();
        let _ = jobs.send(job);
        let thread = Builder::new().name("journal".into());
        let wait = move || {
            for (landing, answer) in received {
                // Nobody may want to know any more.
                let _ = answer.send(landing.wait());
            }
        };
        thread
            .spawn(wait)
            .map_err(|error| Error::io("starting", "a thread", &error))?;
        *waiting = Some(jobs);
        Ok(Beside(beside))
    }

    /// Waits until it is there.
    pub(crate) fn wait(self) -> Result<(), Error> {
        let path = self.path.as_os_str().as_encoded_bytes();
        self.file
            .sync_data()
            .map_err(|error| Error::io("writing", path, &error))
    }
}

type Job = (Landing, Sender<Result<(), Error>>);

/// A line that a thread waits for.
#[derive(Debug)]
pub(crate) struct Beside(Receiver<Result<(), Error>>);

impl Beside {
    /// Waits until it is on the disk.
    pub(crate) fn wait(self) -> Result<(), Error> {
        let lost = |_| Error::call("writing", "the journal", Errno::IO);
        self.0.recv().map_err(lost)?
    }
}

fn open(path: &Path, make: bool) -> std::io::Result<File> {
    OpenOptions::new()
        .read(true)
        .append(true)
        .create(make)
        .mode(0o600)
        .open(path)
}

/// Adds a line and returns how long the file is then.
fn add(mut file: &File, line: &Line) -> std::io::Result<u64> {
    let mut bytes = encode(line);
    let length = file.metadata()?.len();
    if let Some(last) = length.checked_sub(1) {
        let mut found = [0];
        file.read_exact_at(&mut found, last)?;
        if found != *b"\n" {
            // Whoever wrote here before died at it.
            bytes.insert(0, b'\n');
        }
    }
    file.write_all(&bytes)?;
    Ok(length + bytes.len() as u64)
}

fn encode(line: &Line) -> Vec<u8> {
    // Plain data without maps whose names are not text: it can always be written.
    let text = serde_json::to_string(line).unwrap_or_default();
    format!("{:016x} {text}\n", digest(text.as_bytes())).into_bytes()
}

fn decode(line: &[u8]) -> Option<Line> {
    let (sum, text) = line.split_once_str(" ")?;
    let sum = u64::from_str_radix(sum.to_str().ok()?, 16).ok()?;
    if sum != digest(text) {
        return None;
    }
    serde_json::from_slice(text).ok()
}

/// What the lines come to; those that cannot be read count for nothing.
fn replay<'a>(lines: impl Iterator<Item = &'a [u8]>) -> Vec<Record> {
    let mut records: Vec<Record> = Vec::new();
    for line in lines.filter_map(decode) {
        match line {
            Line::Write(record) => {
                let same =
                    |it: &&mut Record| it.name == record.name && it.origins == record.origins;
                match records.iter_mut().find(same) {
                    Some(earlier) => *earlier = record,
                    None => records.push(record),
                }
            }
            Line::Forget { name, origins } => {
                records.retain(|it| it.name != name || it.origins != origins);
            }
        }
    }
    records
}

fn sync_directory(path: &Path) -> std::io::Result<()> {
    File::open(path)?.sync_all()
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use piton_snapshot::{Consistency, Kind, Means, Phase, Policy, Timestamp};

    use super::*;

    fn record(taken: u64, phase: Phase) -> Record {
        Record {
            name: Name {
                taken: Timestamp(taken),
            },
            origins: vec![Origin::new(Kind::Btrfs, "/data".into()).unwrap()],
            phase,
            series: "/snap/data".into(),
            policy: Policy::default(),
            means: Means::default(),
            consistency: Consistency::Crash,
        }
    }

    fn until() -> Instant {
        Instant::now() + Duration::from_secs(20)
    }

    #[test]
    fn the_last_line_of_a_record_counts() {
        let directory = tempfile::tempdir().unwrap();
        let journal = Journal::new(&directory.path().join("state"));
        assert_eq!(journal.read(until()), Ok(vec![]));
        let taking = Phase::Taking {
            frozen: false,
            after: Some(b"/x\xff".into()),
        };
        for one in [
            record(1, taking.clone()),
            record(2, taking),
            record(1, Phase::Made),
        ] {
            journal.write(&one, until()).unwrap().wait().unwrap();
        }
        let found = journal.read(until()).unwrap();
        assert_eq!(found.len(), 2);
        assert_eq!(found[0], record(1, Phase::Made));
        let origins = found[0].origins.clone();
        journal.forget(found[0].name, &origins, until()).unwrap();
        let left = journal.read(until()).unwrap();
        assert_eq!(left, found[1..]);
    }

    /// Whatever the last write was cut to, all before it stands, and more can be written.
    #[test]
    fn torn_lines_count_for_nothing_wherever_they_are_torn() {
        let first = encode(&Line::Write(record(1, Phase::Made)));
        let second = encode(&Line::Write(record(2, Phase::Made)));
        for cut in 0..second.len() {
            let directory = tempfile::tempdir().unwrap();
            let journal = Journal::new(directory.path());
            fs::write(journal.path(), [&first, &second[..cut]].concat()).unwrap();
            // All but its end of line is a whole line.
            let mut expected = vec![record(1, Phase::Made)];
            if cut == second.len() - 1 {
                expected.push(record(2, Phase::Made));
            }
            assert_eq!(journal.read(until()).unwrap(), expected, "{cut}");
            let _ = journal.write(&record(3, Phase::Made), until()).unwrap();
            expected.push(record(3, Phase::Made));
            assert_eq!(journal.read(until()).unwrap(), expected, "{cut}");
        }
    }

    /// Also when names contain one another, or have bytes that are written otherwise.
    #[test]
    fn those_of_an_origin_are_found_among_all() {
        let directory = tempfile::tempdir().unwrap();
        let journal = Journal::new(directory.path());
        let paths = ["/data", "/data/x", "/data x", "/d\"", "/d\\", "/\u{e4}"];
        let origins = paths.map(|path| Origin::new(Kind::Btrfs, path.into()).unwrap());
        for (number, origin) in (1..).zip(&origins) {
            for phase in [Phase::Made, Phase::Removing] {
                let one = Record {
                    origins: vec![origin.clone(), origins[1].clone()],
                    ..record(number, phase)
                };
                let _ = journal.write(&one, until()).unwrap();
            }
        }
        let gone = [origins[3].clone(), origins[1].clone()];
        let name = record(4, Phase::Made).name;
        journal.forget(name, &gone, until()).unwrap();
        let all = journal.read(until()).unwrap();
        assert_eq!(all.len(), 5);
        for origin in &origins {
            let mut expected = all.clone();
            expected.retain(|record| record.origins.contains(origin));
            let found = journal.read_of(std::slice::from_ref(origin), until());
            assert_eq!(found.unwrap(), expected, "{origin}");
        }
    }

    #[test]
    fn a_changed_byte_is_noticed() {
        let line = encode(&Line::Write(record(1, Phase::Made)));
        for place in 0..line.len() - 1 {
            let mut changed = line.clone();
            changed[place] ^= 1;
            assert_eq!(replay(changed.lines()), [], "{place}");
        }
    }

    #[test]
    fn it_does_not_grow_without_end() {
        let directory = tempfile::tempdir().unwrap();
        let journal = Journal::new(directory.path());
        let _ = journal.write(&record(0, Phase::Made), until()).unwrap();
        let origins = record(0, Phase::Made).origins;
        for number in 1..2_000 {
            let one = record(number, Phase::Made);
            let _ = journal.write(&one, until()).unwrap();
            journal.forget(one.name, &origins, until()).unwrap();
        }
        let length = fs::metadata(journal.path()).unwrap().len();
        assert!(length <= limits::JOURNAL + 1_000, "{length}");
        assert_eq!(journal.read(until()).unwrap(), [record(0, Phase::Made)]);
    }
}
