//! Signals as something the loop can wait for.

use std::ffi::c_int;
use std::io::{self, Read};
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::net::UnixStream;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use signal_hook::consts::{SIGHUP, SIGINT, SIGPIPE, SIGTERM, SIGUSR1, SIGUSR2};

/// What a signal means (autofs's meanings).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Meaning {
    /// HUP: read the maps again.
    Reload,
    /// USR1: unmount what is idle.
    Expire,
    /// TERM, INT: end.
    Stop,
    /// USR2: end, and detach what is busy.
    ForceStop,
}

/// Begins to listen to what a daemon is told by signals.
///
/// # Errors
/// No descriptor, or a handler cannot be set.
pub(crate) fn listen() -> io::Result<Signals<Meaning>> {
    Signals::listen(&[
        (SIGHUP, Meaning::Reload),
        (SIGUSR1, Meaning::Expire),
        (SIGTERM, Meaning::Stop),
        (SIGINT, Meaning::Stop),
        (SIGUSR2, Meaning::ForceStop),
    ])
}

/// The signals that have come, by what they mean.
pub(crate) struct Signals<M> {
    bell: UnixStream,
    came: Vec<(Arc<AtomicBool>, M)>,
}

impl<M: Copy> Signals<M> {
    /// Begins to listen to these. From here on they no longer end the process.
    ///
    /// # Errors
    /// No descriptor, or a handler cannot be set.
    pub(crate) fn listen(meanings: &[(c_int, M)]) -> io::Result<Self> {
        let (bell, ring) = UnixStream::pair()?;
        bell.set_nonblocking(true)?;
        ring.set_nonblocking(true)?;
        let mut came = Vec::new();
        for &(signal, meaning) in meanings {
            let flag = Arc::new(AtomicBool::new(false));
            signal_hook::flag::register(signal, flag.clone())?;
            // After the flag, so that the loop finds it set when the bell has rung.
            signal_hook::low_level::pipe::register(signal, ring.try_clone()?)?;
            came.push((flag, meaning));
        }
        signal_hook::flag::register(SIGPIPE, Arc::new(AtomicBool::new(false)))?;
        Ok(Self { bell, came })
    }

    /// Takes what has come, each meaning once.
    pub(crate) fn take(&mut self) -> Vec<M> {
        while matches!(self.bell.read(&mut [0; 64]), Ok(1..)) {}
        let taken = self
            .came
            .iter()
            .filter(|(flag, _)| flag.swap(false, Ordering::SeqCst));
        taken.map(|(_, meaning)| *meaning).collect()
    }

    /// Becomes readable when a signal has come.
    pub(crate) fn bell(&self) -> BorrowedFd<'_> {
        self.bell.as_fd()
    }
}
