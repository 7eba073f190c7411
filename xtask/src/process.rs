//! Running programs, and the one error type of the chores.

use std::fmt;
use std::io::{BufRead, BufReader};
use std::path::PathBuf;
use std::process::{Command, Stdio};

/// What a chore ends with.
pub(crate) type Outcome = Result<(), Failure>;

/// Why a chore could not be done, for people.
#[derive(Debug)]
pub(crate) struct Failure(String);

impl Failure {
    /// A failure with this text.
    pub(crate) fn new(text: impl Into<String>) -> Self {
        Failure(text.into())
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.0)
    }
}

/// The top of the repository, from where this program was built.
pub(crate) fn root() -> PathBuf {
    let here = PathBuf::from(env!("CARGO_MANIFEST_DIR"));
    here.parent().map_or(here.clone(), PathBuf::from)
}

/// A command that runs at the top of the repository.
pub(crate) fn command(program: &str, arguments: &[&str]) -> Command {
    let mut command = Command::new(program);
    command.args(arguments).current_dir(root());
    command
}

/// The cargo that runs us, at the top of the repository.
///
/// Its property tests draw the same inputs each time, unless `PROPTEST_RNG_SEED` says which (or
/// `random`): a gate has to say the same about the same code twice.
pub(crate) fn cargo(arguments: &[&str]) -> Command {
    const SEED: &str = "PROPTEST_RNG_SEED";
    let program = std::env::var("CARGO").unwrap_or_else(|_| "cargo".to_owned());
    let mut cargo = command(&program, arguments);
    match std::env::var(SEED).as_deref() {
        Ok("random") => cargo.env_remove(SEED),
        Ok(_) => &mut cargo,
        Err(_) => cargo.env(SEED, "1"),
    };
    cargo
}

/// What a finished program printed, and whether it succeeded.
#[derive(Debug, Default)]
pub(crate) struct Done {
    /// Exit status 0.
    pub(crate) success: bool,
    /// Its standard output.
    pub(crate) stdout: String,
    /// Its standard error, when it was asked for.
    pub(crate) stderr: String,
}

/// Runs a program silently.
pub(crate) fn quietly(mut command: Command) -> Result<Done, Failure> {
    let output = command
        .stdin(Stdio::null())
        .output()
        .map_err(|error| cannot_start(&command, &error))?;
    Ok(Done {
        success: output.status.success(),
        stdout: String::from_utf8_lossy(&output.stdout).into_owned(),
        stderr: String::from_utf8_lossy(&output.stderr).into_owned(),
    })
}

/// Runs a program whose output is shown as it comes, and kept.
pub(crate) fn shown(mut command: Command) -> Result<Done, Failure> {
    println!("$ {}", describe(&command));
    let mut child = command
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .spawn()
        .map_err(|error| cannot_start(&command, &error))?;
    let mut stdout = String::new();
    if let Some(pipe) = child.stdout.take() {
        for line in BufReader::new(pipe).split(b'\n') {
            let line = line.map_err(|error| Failure::new(format!("reading output: {error}")))?;
            let line = String::from_utf8_lossy(&line);
            println!("{line}");
            stdout.push_str(&line);
            stdout.push('\n');
        }
    }
    let status = child
        .wait()
        .map_err(|error| Failure::new(format!("waiting: {error}")))?;
    Ok(Done {
        success: status.success(),
        stdout,
        stderr: String::new(),
    })
}

/// Runs the unit tests (`test_*.py`) of a folder of Python programs.
pub(crate) fn python_tests(folder: &str) -> Result<Done, Failure> {
    let words = [
        "-m",
        "unittest",
        "discover",
        "-s",
        folder,
        "-p",
        "test_*.py",
    ];
    shown(command("python3", &words))
}

/// Whether a program of this name is in PATH (or in root's usual places).
pub(crate) fn is_installed(program: &str) -> bool {
    let path = std::env::var("PATH").unwrap_or_default();
    path.split(':')
        .chain(["/usr/sbin", "/sbin"])
        .any(|folder| PathBuf::from(folder).join(program).is_file())
}

/// Whether this process is root.
pub(crate) fn is_root() -> bool {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    effective_user(&status) == Some(0)
}

fn effective_user(status: &str) -> Option<u32> {
    let line = status.lines().find(|line| line.starts_with("Uid:"))?;
    line.split_whitespace().nth(2)?.parse().ok()
}

/// The paths in cargo's lines `Executable unittests src/lib.rs (PATH)`.
pub(crate) fn executables(stderr: &str, root: &std::path::Path) -> Vec<String> {
    stderr
        .lines()
        .filter(|line| line.trim_start().starts_with("Executable"))
        .filter_map(|line| line.rsplit_once('(')?.1.strip_suffix(')'))
        .map(|path| {
            // Cargo shortens paths below the folder where it stands: the workspace's.
            root.join(path)
        })
        .map(|path| path.to_string_lossy().into_owned())
        .collect()
}

/// Cargo's folder for what it builds.
pub(crate) fn target_folder() -> PathBuf {
    std::env::var("CARGO_TARGET_DIR")
        .map_or_else(|_| root().join("target"), |folder| root().join(folder))
}

/// The program as released, once it is built.
pub(crate) fn release_binary() -> String {
    let binary = target_folder().join("release/piton");
    binary.to_string_lossy().into_owned()
}

fn describe(command: &Command) -> String {
    let program = PathBuf::from(command.get_program());
    let mut words = vec![
        program
            .file_name()
            .unwrap_or(program.as_os_str())
            .to_string_lossy()
            .into_owned(),
    ];
    words.extend(
        command
            .get_args()
            .map(|word| word.to_string_lossy().into_owned()),
    );
    words.join(" ")
}

fn cannot_start(command: &Command, error: &std::io::Error) -> Failure {
    Failure::new(format!("cannot run `{}`: {error}", describe(command)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_effective_user_is_the_second_number() {
        assert_eq!(effective_user("Name:\tx\nUid:\t1000\t0\t0\t0\n"), Some(0));
        assert_eq!(effective_user("Name:\tx\n"), None);
    }

    #[test]
    fn output_is_kept_and_status_told() {
        let done = quietly(command("sh", &["-c", "echo out; echo err >&2; exit 3"])).unwrap();
        assert!(!done.success);
        assert_eq!(done.stdout, "out\n");
        assert_eq!(done.stderr, "err\n");
    }

    #[test]
    fn a_missing_program_is_named() {
        let failure = quietly(command("no-such-program-here", &[])).unwrap_err();
        assert!(failure.to_string().contains("no-such-program-here"));
    }

    #[test]
    fn programs_are_read_from_what_cargo_says() {
        let said = "   Compiling x\n  Executable unittests src/lib.rs (/t/debug/deps/x-1)\n";
        assert_eq!(
            executables(said, std::path::Path::new("/r")),
            ["/t/debug/deps/x-1"]
        );
        let said = "  Executable tests/a.rs (target/coverage/debug/deps/a-1)\n";
        let below_the_root = ["/r/target/coverage/debug/deps/a-1"];
        assert_eq!(
            executables(said, std::path::Path::new("/r")),
            below_the_root
        );
    }
}
