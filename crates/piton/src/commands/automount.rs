//! `piton automount`.

use std::ffi::OsString;

use crate::exit::Exit;

/// Runs it.
pub(crate) fn run(_args: &[OsString]) -> Exit {
    Exit::Failure
}
