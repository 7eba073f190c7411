//! `piton stop`: end the daemon.

use std::thread;
use std::time::{Duration, Instant};

use piton_control::{Client, RuntimeDir};

use super::talk::{complain, count, explain_left, print};
use crate::exit::Exit;

/// How long the daemon and its keeper may take to be gone after they have said goodbye: longer than the
/// last sweep of snapshots.
const GONE: Duration = Duration::from_secs(60);

/// Its arguments.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Leave everything mounted, for the next daemon to take over.
    #[arg(long)]
    detach: bool,
}

/// Runs it. Returns once the next daemon can start; what stays mounted is no failure.
pub(crate) fn run(args: &Args) -> Exit {
    let dir = RuntimeDir::from_env();
    let left = match Client::connect(&dir).and_then(|mut client| client.stop(args.detach)) {
        Ok(left) => left,
        Err(error) => return complain(&error),
    };
    let mut text = String::new();
    if args.detach {
        text += &format!("left {} for the next daemon\n", count(left.len(), "mount"));
    } else if !left.is_empty() {
        text += &explain_left(None, &left);
        text += &format!("{} in use\n", left.len());
    }
    let printed = print(&text);
    let until = Instant::now() + GONE;
    while dir.is_locked() {
        if Instant::now() >= until {
            return complain(&"the daemon has stopped, but its processes have not ended yet");
        }
        thread::sleep(Duration::from_millis(10));
    }
    printed
}
