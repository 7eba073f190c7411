//! `piton worker`: a process that the daemon starts for what may be stuck. Not for people.

use std::io;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use signal_hook::consts::{SIGHUP, SIGINT, SIGQUIT, SIGTERM, SIGUSR1, SIGUSR2};

use crate::exit::Exit;

/// Serves the daemon at the other end of standard input until it hangs up.
pub(crate) fn run() -> Exit {
    // Signals to the daemon's process group are for the daemon, which may need its workers to the
    // end. Programs that a worker starts have the usual actions again.
    for signal in [SIGHUP, SIGINT, SIGQUIT, SIGTERM, SIGUSR1, SIGUSR2] {
        if signal_hook::flag::register(signal, Arc::new(AtomicBool::new(false))).is_err() {
            return Exit::Failure;
        }
    }
    let _ = rustix::thread::set_name(c"piton-worker");
    match piton_mount::worker::serve(io::stdin()) {
        Ok(()) => Exit::Success,
        Err(error) => {
            eprintln!("piton worker: {error}; it is started by the daemon, not by hand");
            Exit::Failure
        }
    }
}
