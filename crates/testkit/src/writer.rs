//! A volume that is written at full speed, so that a copy of it tells of which moment it is.

use std::fs::{self, File};
use std::io;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::{self, JoinHandle};

/// Files that are written into, and blocks in each: ten megabytes, which take a copying program
/// long enough to tear.
const FILES: u64 = 40;
const BLOCKS: u64 = 64;
const BLOCK: usize = 4096;
/// Files that are renamed, in turn, and which steps do that.
const NAMES: u64 = 32;
const RENAMES: u64 = 16;

/// A thread that changes a folder in numbered steps, each of them one system call: it overwrites a
/// block, or renames a file, and leaves its number there. So what the folder held after a step is
/// known to the last byte, and [`state`] tells whether a copy is any of these states.
///
/// A file system that is frozen lets each such call be over or not begin. Dropped, it stops.
#[derive(Debug)]
pub struct Writer {
    steps: Arc<AtomicU64>,
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Writer {
    /// Fills a new folder and begins to change it.
    ///
    /// # Panics
    /// The folder cannot be made or written.
    #[track_caller]
    pub fn at(folder: impl Into<PathBuf>) -> Self {
        let folder = folder.into();
        let files = fill(&folder).expect("filling the writer's folder");
        let (steps, stop) = <(Arc<AtomicU64>, Arc<AtomicBool>)>::default();
        let (done, end) = (steps.clone(), stop.clone());
        let thread = thread::spawn(move || {
            for number in 1.. {
                if end.load(Ordering::Relaxed) {
                    break;
                }
                step(&folder, &files, number).expect("a step of the writer");
                done.store(number, Ordering::Release);
            }
        });
        let thread = Some(thread);
        Self {
            steps,
            stop,
            thread,
        }
    }

    /// How many steps are done; one more may have been.
    pub fn steps(&self) -> u64 {
        self.steps.load(Ordering::Acquire)
    }
}

impl Drop for Writer {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        let ended = self.thread.take().map(JoinHandle::join);
        if ended.is_some_and(|end| end.is_err()) && !thread::panicking() {
            panic!("the writer could not write");
        }
    }
}

/// What a step does.
enum Step {
    /// Overwrites a block of a file.
    Write(u64, u64),
    /// Renames a file, whose name ended in the number of this earlier step.
    Rename(u64, u64),
}

fn what(number: u64) -> Step {
    if number.is_multiple_of(RENAMES) {
        let earlier = number.saturating_sub(RENAMES * NAMES);
        return Step::Rename(number / RENAMES % NAMES, earlier);
    }
    // The finaliser of SplitMix64: numbers that look random, the same each time.
    let mut mixed = number.wrapping_mul(0x9e37_79b9_7f4a_7c15);
    mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    mixed ^= mixed >> 27;
    Step::Write(mixed % FILES, (mixed >> 32) % BLOCKS)
}

fn file(number: u64) -> String {
    format!("file-{number}")
}

fn name(which: u64, number: u64) -> String {
    format!("name-{which}-{number}")
}

/// A block as a step writes it: its number, and then what depends on the number and the place.
fn block(number: u64) -> Vec<u8> {
    let words = BLOCK / size_of::<u64>();
    (0..words as u64)
        .flat_map(|place| (number + (place << 40)).to_le_bytes())
        .collect()
}

fn fill(folder: &Path) -> io::Result<Vec<File>> {
    fs::create_dir(folder)?;
    for which in 0..NAMES {
        fs::write(folder.join(name(which, 0)), [])?;
    }
    (0..FILES)
        .map(|number| {
            let path = folder.join(file(number));
            fs::write(&path, block(0).repeat(BLOCKS as usize))?;
            File::options().write(true).open(path)
        })
        .collect()
}

fn step(folder: &Path, files: &[File], number: u64) -> io::Result<()> {
    match what(number) {
        Step::Write(file, place) => {
            let bytes = block(number);
            let written = files[file as usize].write_at(&bytes, place * BLOCK as u64)?;
            assert_eq!(written, BLOCK, "a block is written at once");
            Ok(())
        }
        Step::Rename(which, earlier) => fs::rename(
            folder.join(name(which, earlier)),
            folder.join(name(which, number)),
        ),
    }
}

/// The newest step that each place of a copy of a [`Writer`]'s folder has.
#[derive(Debug)]
pub struct Seen {
    blocks: Vec<u64>,
    names: Vec<u64>,
}

impl Seen {
    /// Looks at a copy.
    ///
    /// # Errors
    /// It has files that a writer does not make, or lacks some, or a block is of no step.
    pub fn at(copy: &Path) -> Result<Self, String> {
        let failed = |error: io::Error| format!("{}: {error}", copy.display());
        let mut seen = Self {
            blocks: Vec::new(),
            names: vec![0; NAMES as usize],
        };
        let mut names: Vec<String> = fs::read_dir(copy)
            .map_err(failed)?
            .map(|entry| Ok(entry?.file_name().to_string_lossy().into_owned()))
            .collect::<io::Result<_>>()
            .map_err(failed)?;
        names.sort();
        for found in names.iter().filter_map(|name| name.strip_prefix("name-")) {
            let (which, number) = found.split_once('-').unwrap_or((found, ""));
            let which: usize = which.parse().unwrap_or(usize::MAX);
            let number = number.parse().unwrap_or(u64::MAX);
            if let Some(newest) = seen.names.get_mut(which) {
                *newest = number;
            }
        }
        let mut expected: Vec<String> = (0..FILES).map(file).collect();
        expected.extend((0..).zip(&seen.names).map(|(at, number)| name(at, *number)));
        expected.sort();
        if names != expected {
            return Err(format!("there are {names:?}"));
        }
        for number in 0..FILES {
            let bytes = fs::read(copy.join(file(number))).map_err(failed)?;
            for (place, bytes) in bytes.chunks(BLOCK).enumerate() {
                let step = bytes.first_chunk().map_or(0, |it| u64::from_le_bytes(*it));
                if bytes != block(step) {
                    return Err(format!("block {place} of file-{number} is torn"));
                }
                seen.blocks.push(step);
            }
        }
        match seen.blocks.len() as u64 == FILES * BLOCKS {
            true => Ok(seen),
            false => Err(format!("there are {} blocks", seen.blocks.len())),
        }
    }

    /// The newest step of which anything is there.
    pub fn last(&self) -> u64 {
        self.blocks
            .iter()
            .copied()
            .max()
            .unwrap_or(0)
            .max(self.last_name())
    }

    /// The newest renaming that is there.
    pub fn last_name(&self) -> u64 {
        self.names.iter().copied().max().unwrap_or(0)
    }

    /// So many steps are there without a gap.
    pub fn whole(&self) -> u64 {
        let there = |step: &u64| match what(*step) {
            Step::Write(file, place) => self.blocks[(file * BLOCKS + place) as usize],
            Step::Rename(which, _) => self.names[which as usize],
        };
        let last = self.last();
        (1..=last)
            .find(|step| there(step) < *step)
            .map_or(last, |lost| lost - 1)
    }
}

/// After how many steps of a [`Writer`] its folder was what this copy is, byte for byte.
///
/// # Errors
/// It never was; says why not.
pub fn state(copy: &Path) -> Result<u64, String> {
    let seen = Seen::at(copy)?;
    match (seen.whole(), seen.last()) {
        (whole, last) if whole == last => Ok(last),
        (whole, last) => Err(format!(
            "step {} is missing, step {last} is there",
            whole + 1
        )),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_copy_tells_of_which_moment_it_is() {
        let scratch = tempfile::tempdir().expect("a directory");
        let folder = scratch.path().join("area");
        let writer = Writer::at(&folder);
        while writer.steps() < 1_000 {
            thread::yield_now();
        }
        let steps = writer.steps.clone();
        drop(writer);
        let last = steps.load(Ordering::Acquire);
        assert_eq!(state(&folder), Ok(last));
        // A write of the last sixteen is lost: what an earlier one wrote there shows again.
        let written = |step: u64| match what(step) {
            Step::Write(file, place) => Some((file, place)),
            Step::Rename(..) => None,
        };
        let is_alone = |step: &u64| written(*step).is_some() && written(*step) != written(last);
        let lost = (1..last).rev().find(is_alone).expect("a write");
        let (number, place) = written(lost).expect("a write");
        let before = (1..lost).rev().find(|step| written(*step) == written(lost));
        let path = folder.join(file(number));
        let whole = fs::read(&path).expect("a file");
        let mut bytes = whole.clone();
        bytes[place as usize * BLOCK..][..BLOCK].copy_from_slice(&block(before.unwrap_or(0)));
        fs::write(&path, &bytes).expect("a file");
        let seen = Seen::at(&folder).expect("whole blocks");
        assert_eq!((seen.whole(), seen.last()), (lost - 1, last));
        assert!(state(&folder).is_err());
        bytes[place as usize * BLOCK] ^= 1;
        fs::write(&path, &bytes).expect("a file");
        assert!(
            Seen::at(&folder)
                .expect_err("a torn block")
                .contains("torn")
        );
        fs::write(&path, &whole[BLOCK..]).expect("a file");
        assert!(Seen::at(&folder).is_err(), "a file is short");
        fs::write(&path, whole).expect("a file");
        let renamed = Seen::at(&folder).expect("it is whole again").last_name();
        let Step::Rename(which, earlier) = what(renamed) else {
            panic!("{renamed} renames");
        };
        let [new, old] = [renamed, earlier].map(|step| folder.join(name(which, step)));
        fs::rename(&new, &old).expect("a name");
        assert_eq!(Seen::at(&folder).expect("all names").whole(), renamed - 1);
        fs::write(&new, "").expect("a file");
        assert!(Seen::at(&folder).is_err(), "one name too many");
    }
}
