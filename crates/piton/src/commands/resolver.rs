//! `piton resolver`: the process without rights that the daemon starts for what speaks to networks.
//! Not for people.

use std::io;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use signal_hook::consts::{SIGHUP, SIGINT, SIGQUIT, SIGTERM, SIGUSR1, SIGUSR2};

use crate::exit::Exit;

/// Serves the daemon at the other end of standard input until it hangs up.
pub(crate) fn run() -> Exit {
    // Signals to the daemon's process group are for the daemon, which may need this process to the
    // end.
    for signal in [SIGHUP, SIGINT, SIGQUIT, SIGTERM, SIGUSR1, SIGUSR2] {
        if signal_hook::flag::register(signal, Arc::new(AtomicBool::new(false))).is_err() {
            return Exit::Failure;
        }
    }
    let _ = rustix::thread::set_name(c"piton-resolver");
    match piton_resolver::serve(io::stdin()) {
        Ok(()) => Exit::Success,
        Err(error) => {
            eprintln!("piton resolver: {error}; it is started by the daemon, not by hand");
            Exit::Failure
        }
    }
}
