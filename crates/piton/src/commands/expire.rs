//! `piton expire`: unmount what is idle now.

use std::path::PathBuf;

use super::talk::{absolute, complain, connect, explain_left, print};
use crate::exit::Exit;

/// Its arguments.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Only what is at or below this path.
    path: Option<PathBuf>,
}

/// Runs it. What is in use stays, and that is no failure; a path with nothing of the daemon's is one.
pub(crate) fn run(args: &Args) -> Exit {
    let path = match args.path.as_deref().map(absolute).transpose() {
        Ok(path) => path,
        Err(why) => return complain(&why),
    };
    let mut client = match connect() {
        Ok(client) => client,
        Err(error) => return complain(&error),
    };
    match client.expire(path.as_deref()) {
        Ok(left) if left.is_empty() => print("nothing stays mounted\n"),
        Ok(left) => {
            let mut text = explain_left(Some(&mut client), &left);
            text += &format!("{} in use\n", left.len());
            print(&text)
        }
        Err(error) => complain(&error),
    }
}
