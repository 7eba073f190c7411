//! Going into the background, as a classic daemon does: the command returns when the mount
//! points are in place.

use std::ffi::OsString;
use std::io::{Read, Write};
use std::process::{Command, Stdio};

use crate::exit::Exit;

/// What the child writes to its standard output when it is ready.
const READY: &[u8] = b"ready\n";

/// Starts this program again in a session of its own and waits until it is ready.
pub(crate) fn start(args: &[OsString]) -> Exit {
    let started = std::env::current_exe().and_then(|program| {
        Command::new(program)
            .arg("daemon")
            .arg("--background-child")
            .args(args)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .spawn()
    });
    let mut child = match started {
        Ok(child) => child,
        Err(error) => {
            eprintln!("piton: cannot start in the background: {error}");
            return Exit::Failure;
        }
    };
    let mut said = Vec::new();
    if let Some(output) = child.stdout.take() {
        // The end of the output without the word means that it failed; it has said why.
        let _ = output.take(READY.len() as u64).read_to_end(&mut said);
    }
    if said == READY {
        Exit::Success
    } else {
        Exit::Failure
    }
}

/// In the child: leaves the session of who started it.
pub(crate) fn leave_session() {
    // Fails only for a leader of a process group, who has nothing to leave.
    let _ = rustix::process::setsid();
}

/// In the child: tells the waiting command that the mount points are in place.
pub(crate) fn announce() {
    let mut output = std::io::stdout();
    let _ = output.write_all(READY).and_then(|()| output.flush());
    // Nobody reads there any more.
    if let Ok(null) = std::fs::OpenOptions::new().write(true).open("/dev/null") {
        let _ = rustix::stdio::dup2_stdout(&null);
    }
}
