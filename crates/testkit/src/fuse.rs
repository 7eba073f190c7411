//! A FUSE file system whose server is as bad as a test wants it: it answers for some names, and
//! never for the others. It stands for every server that is dead.
//!
//! What it answers with are directories that are empty but for the same names again. The protocol
//! is that of linux/fuse.h, version 7.31, as far as needed.

use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fs::{Mode, OFlags, open};
use rustix::io::{read, write};
use rustix::mount::{MountFlags, UnmountFlags, mount, unmount};

/// How the server treats what it does not answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Silence {
    /// It takes the request: then who waits cannot be killed before the server is gone.
    Taken,
    /// It does not even take requests, once it is mounted: who waits can be killed.
    Deaf,
}

/// A mounted file system of this kind. When dropped, its server dies, and it is unmounted.
#[derive(Debug)]
pub struct BadFuse {
    path: PathBuf,
    device: Option<Arc<OwnedFd>>,
    server: Option<JoinHandle<()>>,
    shared: Arc<Shared>,
}

#[derive(Debug, Default)]
struct Shared {
    end: AtomicBool,
    unanswered: AtomicUsize,
}

impl BadFuse {
    /// Mounts one on `path`. Names that begin with `good` are answered for.
    ///
    /// # Panics
    /// It cannot be mounted: not root, or no FUSE in the kernel.
    #[track_caller]
    pub fn mount(path: impl AsRef<Path>, silence: Silence) -> Self {
        let path = path.as_ref().to_owned();
        let flags = OFlags::RDWR | OFlags::CLOEXEC;
        let device = open("/dev/fuse", flags, Mode::empty()).expect("FUSE in the kernel");
        let number = device.as_raw_fd();
        let options = format!("fd={number},rootmode=40000,user_id=0,group_id=0,allow_other");
        let options = std::ffi::CString::new(options).expect("no NUL");
        mount("bad", &path, "fuse", MountFlags::empty(), &*options).expect("mounting FUSE");
        let shared = Arc::new(Shared::default());
        let device = Arc::new(device);
        let server = Server {
            device: device.clone(),
            shared: shared.clone(),
            silence,
        };
        let server = std::thread::spawn(move || server.serve());
        Self {
            path,
            device: Some(device),
            server: Some(server),
            shared,
        }
    }

    /// How many requests were taken and not answered; of a deaf server's, whether there are any.
    pub fn unanswered(&self) -> usize {
        self.shared.unanswered.load(Ordering::Relaxed)
    }

    /// The server dies: who waits for it gets ENOTCONN or ECONNABORTED, and so does who comes
    /// later. The file system stays mounted.
    pub fn die(&mut self) {
        self.shared.end.store(true, Ordering::Relaxed);
        if let Some(server) = self.server.take() {
            let _ = server.join();
        }
        self.device = None;
    }
}

impl Drop for BadFuse {
    fn drop(&mut self) {
        self.die();
        let _ = unmount(&self.path, UnmountFlags::DETACH);
    }
}

struct Server {
    device: Arc<OwnedFd>,
    shared: Arc<Shared>,
    silence: Silence,
}

// Operations of linux/fuse.h.
const LOOKUP: u32 = 1;
const FORGET: u32 = 2;
const GETATTR: u32 = 3;
const OPEN: u32 = 14;
const RELEASE: u32 = 18;
const INIT: u32 = 26;
const OPENDIR: u32 = 27;
const READDIR: u32 = 28;
const RELEASEDIR: u32 = 29;
const INTERRUPT: u32 = 36;
const BATCH_FORGET: u32 = 42;

/// The number of the root; all other directories have the next one, and are one and the same.
const ROOT: u64 = 1;

impl Server {
    fn serve(&self) {
        let mut initialised = false;
        let mut buffer = vec![0; 128 << 10];
        let look = Timespec::try_from(Duration::from_millis(20)).ok();
        while !self.shared.end.load(Ordering::Relaxed) {
            let mut fds = [PollFd::from_borrowed_fd(self.device.as_fd(), PollFlags::IN)];
            if !matches!(poll(&mut fds, look.as_ref()), Ok(1..)) {
                continue;
            }
            if self.silence == Silence::Deaf && initialised {
                self.shared.unanswered.store(1, Ordering::Relaxed);
                std::thread::sleep(Duration::from_millis(20));
                continue;
            }
            initialised = true;
            match read(&*self.device, &mut buffer) {
                Ok(length) => self.request(&buffer[..length]),
                Err(rustix::io::Errno::NODEV) => return,
                Err(_) => {}
            }
        }
    }

    fn request(&self, bytes: &[u8]) {
        let word = |at: usize| u32::from_ne_bytes(bytes[at..at + 4].try_into().expect("4 bytes"));
        let long = |at: usize| u64::from_ne_bytes(bytes[at..at + 8].try_into().expect("8 bytes"));
        let (operation, unique, node) = (word(4), long(8), long(16));
        let answer = match operation {
            INIT => init(),
            GETATTR => [validity(), attributes(node)].concat(),
            LOOKUP if bytes[40..].starts_with(b"good") => entry(ROOT + 1),
            OPEN | OPENDIR => vec![0; 16],
            READDIR | RELEASE | RELEASEDIR => Vec::new(),
            FORGET | BATCH_FORGET => return,
            INTERRUPT => return,
            _ => {
                self.shared.unanswered.fetch_add(1, Ordering::Relaxed);
                return;
            }
        };
        let mut whole = Vec::new();
        let length = u32::try_from(16 + answer.len()).expect("it is short");
        whole.extend(length.to_ne_bytes());
        whole.extend(0_i32.to_ne_bytes());
        whole.extend(unique.to_ne_bytes());
        whole.extend(answer);
        let _ = write(&*self.device, &whole);
    }
}

fn words(words: &[u32]) -> Vec<u8> {
    words.iter().flat_map(|word| word.to_ne_bytes()).collect()
}

/// `fuse_init_out`: version, read-ahead, no flags, background requests, largest write.
fn init() -> Vec<u8> {
    let mut answer = words(&[7, 31, 4096, 0, 0, 4096]);
    answer.resize(64, 0);
    answer
}

/// How long attributes hold: for ever.
fn validity() -> Vec<u8> {
    [3600_u64.to_ne_bytes(), 0_u64.to_ne_bytes()].concat()
}

/// `fuse_attr` of a directory.
fn attributes(node: u64) -> Vec<u8> {
    let mut answer: Vec<u8> = [node, 0, 0, 0, 0, 0].map(u64::to_ne_bytes).concat();
    answer.extend(words(&[0, 0, 0, 0o040_755, 2, 0, 0, 0, 4096, 0]));
    answer
}

/// `fuse_entry_out`: a directory that holds for a moment, so that it is asked for again.
fn entry(node: u64) -> Vec<u8> {
    let numbers = [node, 0, 0, 3600, 0].map(u64::to_ne_bytes).concat();
    [numbers, attributes(node)].concat()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Access, Scratch, privately, wait_until};

    const LIMIT: Duration = Duration::from_secs(20);

    #[test]
    fn it_answers_for_good_names_only_and_its_death_releases_who_waits() {
        privately(|| {
            let scratch = Scratch::new();
            let mut fuse = BadFuse::mount(scratch.directory("f"), Silence::Taken);
            assert_eq!(Access::list(scratch.at("f/good")).wait(LIMIT).text, "");
            let mut waiting = Access::list(scratch.at("f/bad"));
            wait_until("it waits", LIMIT, || fuse.unanswered() > 0);
            assert!(waiting.is_waiting());
            fuse.die();
            let errno = waiting.wait(LIMIT).errno;
            assert!(matches!(errno, Some(103 | 107)), "{errno:?}");
            assert_eq!(
                Access::list(scratch.at("f/bad")).wait(LIMIT).errno,
                Some(107)
            );
        });
    }
}
