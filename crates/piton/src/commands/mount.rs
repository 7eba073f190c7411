//! `piton mount`.

use crate::exit::Exit;

/// Its arguments.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {}

/// Runs it.
pub(crate) fn run(_args: &Args) -> Exit {
    Exit::Failure
}
