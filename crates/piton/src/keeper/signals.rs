//! The signals that a keeper, or who attends to it, hears.

use std::io;

use rustix::process::Signal;
use signal_hook::consts::{SIGCHLD, SIGHUP, SIGINT, SIGTERM, SIGUSR1, SIGUSR2};

use crate::daemon::signals::Signals;

/// A signal.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Came {
    /// A child ended, or was stopped.
    Child,
    /// Meant for the daemon.
    For(Signal),
}

/// Begins to listen.
pub(crate) fn listen() -> io::Result<Signals<Came>> {
    Signals::listen(&[
        (SIGCHLD, Came::Child),
        (SIGHUP, Came::For(Signal::HUP)),
        (SIGUSR1, Came::For(Signal::USR1)),
        (SIGUSR2, Came::For(Signal::USR2)),
        (SIGTERM, Came::For(Signal::TERM)),
        (SIGINT, Came::For(Signal::INT)),
    ])
}
