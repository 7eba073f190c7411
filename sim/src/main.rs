//! `piton-sim`: many worlds, or one with its trace.

mod cli;

use std::process::ExitCode;

fn main() -> ExitCode {
    cli::run_command(std::env::args().skip(1))
}
