//! A FUSE file system whose server falls silent on demand: it stands for a dead server. Whatever
//! name is looked up in it is an empty directory. (The protocol: linux/fuse.h, 7.31.)

use std::os::fd::{AsRawFd, OwnedFd};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use rustix::fs::{Mode, OFlags};
use rustix::mount::MountFlags;

/// The server's end; it runs until the process ends.
pub(crate) struct Server {
    silent: Arc<AtomicBool>,
}

impl Server {
    /// Mounts its file system and begins to answer.
    pub(crate) fn mount(path: &str) -> Self {
        let flags = OFlags::RDWR | OFlags::CLOEXEC | OFlags::NONBLOCK;
        let device = rustix::fs::open(Path::new("/dev/fuse"), flags, Mode::empty());
        let device = device.expect("FUSE in the kernel");
        let options = format!(
            "fd={},rootmode=40000,user_id=0,group_id=0,allow_other",
            device.as_raw_fd()
        );
        let options = std::ffi::CString::new(options).unwrap();
        rustix::mount::mount("silent", path, "fuse", MountFlags::empty(), &*options).unwrap();
        let silent = Arc::new(AtomicBool::new(false));
        let shared = silent.clone();
        std::thread::spawn(move || serve(&device, &shared));
        Self { silent }
    }

    /// Answers, or does not.
    pub(crate) fn be_silent(&self, silent: bool) {
        self.silent.store(silent, Ordering::SeqCst);
    }
}

fn serve(device: &OwnedFd, silent: &AtomicBool) {
    let mut request = vec![0; 1 << 17];
    loop {
        std::thread::sleep(Duration::from_millis(1));
        if silent.load(Ordering::SeqCst) {
            continue;
        }
        while let Ok(length) = rustix::io::read(device, &mut request[..]) {
            let word = |at: usize| u32::from_ne_bytes(*request[at..].first_chunk().unwrap());
            assert!(length >= 40, "a request has a header");
            let Some(answer) = answer(word(4)) else {
                continue;
            };
            let (error, body) = answer.map_or_else(|errno| (-errno, Vec::new()), |body| (0, body));
            let mut reply = (16 + body.len() as u32).to_ne_bytes().to_vec();
            reply.extend_from_slice(&error.to_ne_bytes());
            reply.extend_from_slice(&request[8..16]);
            reply.extend_from_slice(&body);
            // Who asked may be gone.
            let _ = rustix::io::write(device, &reply);
            if silent.load(Ordering::SeqCst) {
                break;
            }
        }
    }
}

/// The answer to an operation, if it has one: a body or an errno.
fn answer(operation: u32) -> Option<Result<Vec<u8>, i32>> {
    const ENOSYS: i32 = 38;
    let words = |words: &[u32]| words.iter().flat_map(|it| it.to_ne_bytes()).collect();
    // Inode and sizes, times, then mode (a directory), links, owner.
    let mut attributes = vec![0_u32; 22];
    attributes[0] = 1;
    attributes[15] = 0o40_755;
    attributes[16] = 2;
    Some(match operation {
        // FORGET, INTERRUPT, BATCH_FORGET
        2 | 36 | 42 => return None,
        // LOOKUP: node 2, valid for no time.
        1 => {
            attributes[0] = 2;
            let mut entry = vec![2, 0, 1, 0, 0, 0, 0, 0, 0, 0];
            entry.append(&mut attributes);
            Ok(words(&entry))
        }
        // GETATTR: valid for no time.
        3 => {
            let mut all = vec![0; 4];
            all.append(&mut attributes);
            Ok(words(&all))
        }
        // STATFS
        17 => Ok(vec![0; 80]),
        // INIT: 7.31, and nothing that is optional.
        26 => {
            let mut init = vec![7, 31, 0, 0, 0, 4096];
            init.resize(16, 0);
            Ok(words(&init))
        }
        // OPENDIR, READDIR: nothing in it. RELEASEDIR.
        27 => Ok(vec![0; 16]),
        28 | 29 => Ok(Vec::new()),
        _ => Err(ENOSYS),
    })
}
