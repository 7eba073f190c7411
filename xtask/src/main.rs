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

use std::process::ExitCode;

/// Looks at the first word and hands the rest to the chore of that name.
fn main() -> ExitCode {
    let words: Vec<String> = std::env::args().skip(1).collect();
    let (chore, rest) = words
        .split_first()
        .map_or(("help", &words[..]), |(chore, rest)| (chore, rest));
    let outcome = match chore {
        "tidy" => tidy::run(rest),
        "test" => test::run(rest),
        "coverage" => coverage::run(rest),
        "fuzz" => fuzz::run(rest),
        "soak" => soak::run(rest),
        "founding" => tidy::write_founding(),
        "licences" => licences::run(),
        "help" | "--help" | "-h" => help::run(),
        other => help::unknown(other),
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            eprintln!("xtask: {failure}");
            ExitCode::FAILURE
        }
    }
}
