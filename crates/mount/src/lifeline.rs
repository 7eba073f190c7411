//! The thread on which a worker's life hangs: when the daemon is gone, so is the worker, with all
//! it has started, even while it waits in the kernel.

use std::os::fd::OwnedFd;
use std::sync::OnceLock;

use rustix::event::{PollFd, PollFlags, poll};
use rustix::io::Errno;
use rustix::process::{Signal, getpid, kill_process};

use piton_process::{children, kill_family};

/// The socket to the daemon, in a worker.
static LINE: OnceLock<OwnedFd> = OnceLock::new();

/// Ties this process to the other end of `line`: when that is closed it is killed, with its
/// descendants. To be called once, by a worker.
///
/// # Errors
/// No thread can be started.
pub(crate) fn tie(line: OwnedFd) -> std::io::Result<()> {
    let line = LINE.get_or_init(|| line);
    let thread = std::thread::Builder::new().name("lifeline".into());
    thread.stack_size(64 * 1024).spawn(move || {
        loop {
            let mut fds = [PollFd::new(line, PollFlags::RDHUP)];
            match poll(&mut fds, None) {
                Ok(_) if is_over(&fds[0]) => end_with_descendants(),
                Ok(_) | Err(Errno::INTR) => {}
                Err(_) => return,
            }
        }
    })?;
    Ok(())
}

/// Kills the descendants of this process, and then this process.
fn end_with_descendants() {
    for child in children(getpid()) {
        kill_family(child, &[]);
    }
    let _ = kill_process(getpid(), Signal::KILL);
}

/// Whether this is a worker whose daemon is gone: then nothing may be changed any more, a
/// successor may be at work.
pub(crate) fn is_cut() -> bool {
    let Some(line) = LINE.get() else { return false };
    let mut fds = [PollFd::new(line, PollFlags::RDHUP)];
    let now = rustix::event::Timespec::default();
    matches!(poll(&mut fds, Some(&now)), Ok(1..)) && is_over(&fds[0])
}

fn is_over(fd: &PollFd<'_>) -> bool {
    fd.revents()
        .intersects(PollFlags::RDHUP | PollFlags::HUP | PollFlags::ERR)
}
