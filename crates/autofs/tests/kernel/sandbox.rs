//! Where a kernel test runs: a copy of the test process in mount and pid namespaces of its own.
//!
//! What the test mounts is seen by nobody else and goes with the namespace; what it starts dies
//! with it, also when the test hangs.

use std::fs::File;
use std::io::Read;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

/// Set in the copy: the directory it may mount on.
const DIRECTORY: &str = "AUTOFS_TEST_DIRECTORY";

/// After this a test has failed; the longest one waits two seconds for the kernel's clock.
const DEADLINE: Duration = Duration::from_secs(60);

/// Runs a test's body, which must be a closure written in the test, in a sandbox, with an empty
/// directory.
pub(crate) fn run<F: Fn(&Path)>(body: F) {
    if let Some(directory) = std::env::var_os(DIRECTORY) {
        inside(&PathBuf::from(directory), body);
    } else {
        outside(test_of::<F>());
    }
}

/// The name under which the test of a closure is run: `crate::path::to::test::{{closure}}` without
/// the ends. (If that ever reads differently, no test is found and all fail.)
fn test_of<F>() -> &'static str {
    let name = std::any::type_name::<F>();
    let name = name.strip_suffix("::{{closure}}").unwrap_or(name);
    name.split_once("::").map_or(name, |(_, test)| test)
}

fn inside(directory: &Path, body: impl Fn(&Path)) {
    autofs::own_process_group().expect("a process group of our own");
    rustix::mount::mount(
        "sandbox",
        directory,
        "tmpfs",
        rustix::mount::MountFlags::empty(),
        None,
    )
    .expect("a tmpfs for the test");
    body(directory);
}

fn outside(name: &str) {
    assert!(
        rustix::process::geteuid().is_root(),
        "kernel tests need root; without it, leave this file out: cargo test -p autofs --lib"
    );
    assert!(
        Path::new(autofs::Control::PATH).exists(),
        "kernel tests need {}: is the kernel built with autofs, and the module loaded?",
        autofs::Control::PATH
    );
    let directory = tempfile::tempdir().expect("a directory for the sandbox");
    let log = tempfile::tempfile().expect("a file for the test's output");
    let both = || Stdio::from(log.try_clone().expect("a copy of a descriptor"));
    let mut test = Command::new("unshare")
        .args(["--mount", "--propagation", "private"])
        .args(["--pid", "--fork", "--kill-child", "--mount-proc", "--"])
        .arg(std::env::current_exe().expect("the path of this program"))
        .args(["--exact", name, "--nocapture", "--test-threads=1"])
        .env(DIRECTORY, directory.path())
        .env("LC_ALL", "C")
        .stdin(Stdio::null())
        .stdout(both())
        .stderr(both())
        .process_group(0)
        .spawn()
        .expect("unshare (of util-linux) starts");
    let begin = Instant::now();
    let status = loop {
        match test.try_wait().expect("the test process can be waited for") {
            Some(status) => break Some(status),
            None if begin.elapsed() > DEADLINE => {
                // The namespace's first process dies with it, and takes all others along.
                test.kill().expect("the test process can be killed");
                test.wait().expect("the test process ends");
                break None;
            }
            None => std::thread::sleep(Duration::from_millis(5)),
        }
    };
    let output = text_of(&log);
    assert!(
        status.is_some(),
        "not done after {DEADLINE:?}; so far it said:\n{output}"
    );
    // A test that is not found also "succeeds": then none has passed.
    let passed = status.is_some_and(|status| status.success()) && output.contains(" 1 passed");
    assert!(
        passed,
        "in its sandbox the test failed ({status:?}):\n{output}"
    );
}

/// Everything in a file that others have written to through the same open file.
fn text_of(mut file: &File) -> String {
    use std::io::Seek;
    let mut bytes = Vec::new();
    file.rewind().expect("a file can be rewound");
    file.read_to_end(&mut bytes).expect("a file can be read");
    String::from_utf8_lossy(&bytes).into_owned()
}
