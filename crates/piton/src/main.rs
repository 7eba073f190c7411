//! `piton`: one binary for daemon and client; called `automount` it is the documents' command.

mod asking;
mod check;
mod cli;
mod commands;
mod daemon;
mod exit;
mod explain;
mod exports;
mod facts;
mod keeper;
mod named;
mod own_maps;
mod render;
mod volumes;

use std::process::ExitCode;

fn main() -> ExitCode {
    cli::run(std::env::args_os().collect())
}
