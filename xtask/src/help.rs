//! What `cargo xtask` can do.

use crate::process::{Failure, Outcome};

const TEXT: &str = "\
cargo xtask CHORE

  test                 everything: fmt, clippy, tidy, licences, and all tiers of tests; as root it
                       installs what it needs
  test --quick         without root's tiers, 1,000 seeds; a few minutes
  test --unprivileged  as an ordinary user: leaves out the kernel and differential tiers, says so
  test --only TIER     one tier or check: fmt clippy tidy licences unit golden property simulator
                       fuzz kernel differential soak
  fuzz [--seconds N] [LAW...]
                       libFuzzer on the laws of fuzz/, 60 s each; wants a C++ compiler
  fuzz --shrink [LAW...]
                       keeps the fewest inputs in fuzz/corpus/ that reach as much
  soak [--minutes N] [--seed N]
                       a daemon used, reloaded, expired and killed, 2 minutes; as root
  tidy                 the laws of ARCHITECTURE.md and CONTRIBUTING.md that a program can check
  founding             writes docs/founding-documents.md: which test shows what is asked for
  licences             that deny.toml allows what is built in
  coverage             lines of map, plan and engine that tests reach; at least 90 %
";

/// Prints the list of chores.
pub(crate) fn run() -> Outcome {
    print!("{TEXT}");
    Ok(())
}

/// Says that there is no such chore.
pub(crate) fn unknown(chore: &str) -> Outcome {
    Err(Failure::new(format!("no such chore: {chore}\n\n{TEXT}")))
}
