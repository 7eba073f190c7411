//! The soak test: a release build, used and abused for a long time (`soak/soak.py`).

use crate::process::{Failure, Outcome, cargo, command, python_tests, shown};

/// Minutes when nobody says otherwise.
const MINUTES: &str = "2";

/// Builds the daemon and runs the test; further words go to it.
pub(crate) fn run(words: &[String]) -> Outcome {
    if soaked(words)? {
        return Ok(());
    }
    Err(Failure::new("soak: something was wrong, see above"))
}

/// A short run, for `cargo xtask test`: whether all was well.
pub(crate) fn briefly() -> Result<bool, Failure> {
    let own = python_tests("soak")?;
    Ok(own.success && soaked(&[])?)
}

fn soaked(words: &[String]) -> Result<bool, Failure> {
    let built = shown(cargo(&["build", "--release", "--quiet", "-p", "piton"]))?;
    if !built.success {
        return Err(Failure::new("soak: the daemon cannot be built"));
    }
    let binary = crate::process::release_binary();
    let mut arguments = vec!["soak/soak.py", "--binary", &binary];
    if !words.iter().any(|word| word == "--minutes") {
        arguments.extend(["--minutes", MINUTES]);
    }
    arguments.extend(words.iter().map(String::as_str));
    let done = shown(command("python3", &arguments))?;
    Ok(done.success && held(&done.stdout))
}

/// Whether the last word was that all was well.
fn held(stdout: &str) -> bool {
    let last = stdout.lines().rev().find(|line| line.starts_with("soak: "));
    last.is_some_and(|line| line.ends_with(" held"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_says_itself_whether_it_held() {
        assert!(held("x\nsoak: seed 1, 2 minutes: held\n"));
        assert!(!held("soak: seed 1, 2 minutes: 3 complaints\n"));
        assert!(!held(""));
    }
}
