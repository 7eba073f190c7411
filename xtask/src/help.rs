//! What `cargo xtask` can do.

use crate::process::{Failure, Outcome};
use crate::{coverage, fuzz, licences, soak, test, tidy, vm};

const TEXT: &str = "\
cargo xtask CHORE

  test                 everything: fmt, clippy, tidy, licences, and all tiers of tests; as root it
                       installs what it needs
  test --quick         without root's tiers, 1,000 seeds; a few minutes
  test --unprivileged  as an ordinary user: leaves out the tiers that need root, says so
  test --only TIER     one tier or check: fmt clippy tidy licences unit golden property simulator
                       fuzz kernel differential soak bench vm
  fuzz [--seconds N] [LAW...]
                       libFuzzer on the laws of fuzz/, 60 s each; wants a C++ compiler
  fuzz --shrink [LAW...]
                       keeps the fewest inputs in fuzz/corpus/ that reach as much
  soak [--minutes N] [--seed N]
                       a daemon used, reloaded, expired and killed, 2 minutes; as root
  vm-test [--dev] [--show] [--out FOLDER] [NAME...]
                       tests in a virtual machine, all or those whose names contain a NAME; makes
                       the machine first; --dev: with a build of Piton that is quicker to make;
                       --show: what they print; as root (vm/README.md)
  tidy                 the laws of ARCHITECTURE.md and CONTRIBUTING.md that a program can check
  founding             writes docs/founding-documents.md: which test shows what is asked for
  front-ends           writes the table of capabilities in docs/front-ends.md
  licences             that deny.toml allows what is built in
  coverage             lines of map, plan and engine that tests reach; at least 90 %
";

/// Hands all words but the first to the chore of that name.
pub(crate) fn chore(words: &[String]) -> Outcome {
    let (chore, rest) = match words.split_first() {
        Some((chore, rest)) => (chore.as_str(), rest),
        None => ("help", words),
    };
    match chore {
        "tidy" => tidy::run(rest),
        "test" => test::run(rest),
        "coverage" => coverage::run(rest),
        "fuzz" => fuzz::run(rest),
        "soak" => soak::run(rest),
        "vm-test" => vm::run(rest),
        "founding" => tidy::write_founding(),
        "front-ends" => tidy::write_front_ends(),
        "licences" => licences::run(),
        "help" | "--help" | "-h" => {
            print!("{TEXT}");
            Ok(())
        }
        other => Err(Failure::new(format!("no such chore: {other}\n\n{TEXT}"))),
    }
}
