//! `piton unmount`: unmount what is mounted at a path.

use std::path::PathBuf;

use super::talk::{Clean, absolute, complain, connect, explain_left, print};
use crate::exit::Exit;

/// Its arguments.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Where it is mounted.
    path: PathBuf,
}

/// Runs it. Exit status 1 if something stays.
pub(crate) fn run(args: &Args) -> Exit {
    let path = match absolute(&args.path) {
        Ok(path) => path,
        Err(why) => return complain(&why),
    };
    let mut client = match connect() {
        Ok(client) => client,
        Err(error) => return complain(&error),
    };
    match client.unmount(&path) {
        Ok(left) if left.is_empty() => print(&format!("unmounted {}\n", Clean(&path))),
        Ok(left) => {
            print(&explain_left(Some(&mut client), &left));
            Exit::Failure
        }
        Err(error) => complain(&error),
    }
}
