//! `piton flush`: forget failures that are answered from memory, so that they are tried again.

use std::path::PathBuf;

use super::talk::{absolute, complain, connect, print};
use crate::exit::Exit;

/// Its arguments.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Only what failed at or below this path.
    path: Option<PathBuf>,
}

/// Runs it. Exit status 1 if nothing of the daemon's is at the path.
pub(crate) fn run(args: &Args) -> Exit {
    let path = match args.path.as_deref().map(absolute).transpose() {
        Ok(path) => path,
        Err(why) => return complain(&why),
    };
    match connect().and_then(|mut client| client.flush(path.as_deref())) {
        Ok(0) => print("nothing was remembered\n"),
        Ok(1) => print("1 failure is forgotten\n"),
        Ok(many) => print(&format!("{many} failures are forgotten\n")),
        Err(error) => complain(&error),
    }
}
