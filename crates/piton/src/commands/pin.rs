//! `piton pin` and `piton unpin`: keep what is mounted as it is for a time, and no longer.

use std::path::PathBuf;

use super::talk::{absolute, complain, connect, seconds};
use crate::exit::Exit;

/// Its arguments.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// What is mounted at, above or below this path neither expires nor moves to another server.
    path: PathBuf,
    /// For how long: 90s, 30m, 8h, 2d.
    #[arg(value_name = "TIME", value_parser = seconds)]
    time: u64,
}

/// The arguments of `unpin`.
#[derive(Debug, clap::Args)]
pub(crate) struct UnpinArgs {
    /// The path as it was pinned.
    path: PathBuf,
}

/// Runs it.
pub(crate) fn run(args: &Args) -> Exit {
    let path = match absolute(&args.path) {
        Ok(path) => path,
        Err(why) => return complain(&why),
    };
    match connect().and_then(|mut client| client.pin(&path, args.time)) {
        Ok(()) => Exit::Success,
        Err(error) => complain(&error),
    }
}

/// Runs `unpin`.
pub(crate) fn unpin(args: &UnpinArgs) -> Exit {
    let path = match absolute(&args.path) {
        Ok(path) => path,
        Err(why) => return complain(&why),
    };
    match connect().and_then(|mut client| client.unpin(&path)) {
        Ok(true) => Exit::Success,
        Ok(false) => complain(&format_args!("{path} is not pinned")),
        Err(error) => complain(&error),
    }
}
