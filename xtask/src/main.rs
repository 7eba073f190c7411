//! Chores of the project, started with `cargo xtask`: laws, test tiers, coverage.

mod coverage;
mod fuzz;
mod help;
mod install;
mod licences;
mod process;
mod soak;
mod targets;
mod test;
mod tidy;
mod vm;

use std::process::ExitCode;

/// Looks at the first word and hands the rest to the chore of that name.
fn main() -> ExitCode {
    let words: Vec<String> = std::env::args().skip(1).collect();
    match help::chore(&words) {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            eprintln!("xtask: {failure}");
            ExitCode::FAILURE
        }
    }
}
