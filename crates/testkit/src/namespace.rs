//! Running a test in a mount namespace of its own.

use std::fs::File;
use std::io::{Read, Seek};
use std::os::fd::AsRawFd;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};

/// Tells the second process that it is the second.
const INSIDE: &str = "PITON_TESTKIT_INSIDE";

/// The longest that a test may take: a hang must not stop a whole run. The longest of all takes a minute
/// and a half on a quiet machine.
const LIMIT: Duration = Duration::from_secs(600);

/// Runs `body` in a process, session and mount namespace of its own, in which nothing propagates
/// to or from outside.
///
/// `name` is the test's name as `cargo test -- --list` shows it: the test binary is started once
/// more for this test only. When it ends, all processes left in the namespace are killed.
///
/// # Panics
/// The body panicked, hung for ten minutes, or `name` is not the test's; or this process is not
/// root, for then nothing would have been tested.
#[track_caller]
pub fn in_private_namespace(name: &str, body: impl FnOnce()) {
    enter(name, &[], body);
}

#[track_caller]
fn enter(name: &str, more: &[&str], body: impl FnOnce()) {
    assert!(
        rustix::process::geteuid().is_root(),
        "the test {name} mounts and must run as root; it is not skipped, since then nothing would \
         be tested"
    );
    if std::env::var_os(INSIDE).is_some_and(|inside| inside == *name) {
        rustix::process::setsid().expect("a session of its own");
        body();
        return;
    }
    let mut output = tempfile::tempfile().expect("a file for the test's output");
    let mut child = start(name, more, &output);
    let ended = wait(&mut child, LIMIT);
    let mut text = String::new();
    output.rewind().expect("reading the test's output");
    output.read_to_string(&mut text).ok();
    match ended {
        None => panic!("the test {name} was not over after {LIMIT:?}:\n{text}"),
        Some(false) => panic!("the test {name} failed in its namespace:\n{text}"),
        Some(true) => assert!(
            text.contains("1 passed"),
            "no test is called {name}, so nothing ran in the namespace:\n{text}"
        ),
    }
}

/// [`in_private_namespace`] for a test that calls it with a closure of its own: the closure's type
/// tells the name of the function it stands in. (A name that is not the test's is noticed.)
///
/// # Panics
/// As [`in_private_namespace`].
#[track_caller]
pub fn privately<F: FnOnce()>(body: F) {
    in_private_namespace(test_of::<F>(), body);
}

/// [`privately`], in a network of its own as well, in which there is nobody: only the loopback
/// device, with its two addresses and whatever `127.0.0.0/8` has. All ports are free.
///
/// # Panics
/// As [`in_private_namespace`]; or there is no ip(8).
#[track_caller]
pub fn in_private_network<F: FnOnce()>(body: F) {
    enter(test_of::<F>(), &["--net"], || {
        let up = Command::new("ip")
            .args(["link", "set", "lo", "up"])
            .status();
        assert!(up.expect("ip(8), of iproute2").success(), "lo can be used");
        body();
    });
}

/// The name of the test that a closure stands in.
fn test_of<F>() -> &'static str {
    let whole = std::any::type_name::<F>();
    let path = whole.strip_suffix("::{{closure}}").unwrap_or(whole);
    path.split_once("::").map_or(path, |(_, name)| name)
}

fn start(name: &str, more: &[&str], output: &File) -> Child {
    let writer = || Stdio::from(output.try_clone().expect("the output file once more"));
    Command::new("unshare")
        .args(["--mount", "--propagation", "private"])
        .args(more)
        .arg("--")
        .arg(std::env::current_exe().expect("the test binary"))
        .args([
            name,
            "--exact",
            "--include-ignored",
            "--nocapture",
            "--test-threads=1",
        ])
        .env(INSIDE, name)
        .stdin(Stdio::null())
        .stdout(writer())
        .stderr(writer())
        .spawn()
        .expect("unshare(1), of util-linux")
}

/// Whether it succeeded; none when it had to be killed.
fn wait(child: &mut Child, limit: Duration) -> Option<bool> {
    let until = Instant::now() + limit;
    let ours = namespace(Path::new("/proc/self"));
    let proc = PathBuf::from(format!("/proc/{}", child.id()));
    let mut theirs: Option<Pinned> = None;
    let ended = loop {
        if theirs.is_none() {
            theirs = Pinned::of(&proc).filter(|found| Some(&found.name) != ours.as_ref());
        }
        if let Some(status) = child.try_wait().expect("waiting for the test") {
            break Some(status.success());
        }
        if Instant::now() >= until {
            let _ = child.kill();
            break None;
        }
        std::thread::sleep(Duration::from_millis(5));
    };
    if let Some(theirs) = theirs {
        kill_all_in(&theirs);
    }
    let _ = child.wait();
    ended
}

/// A mount namespace that is held open: its number would go to the next test's as soon as it is
/// gone.
struct Pinned {
    name: PathBuf,
    _open: File,
}

impl Pinned {
    fn of(proc: &Path) -> Option<Self> {
        let open = File::open(proc.join("ns/mnt")).ok()?;
        let name = std::fs::read_link(format!("/proc/self/fd/{}", open.as_raw_fd())).ok()?;
        Some(Self { name, _open: open })
    }
}

fn namespace(proc: &Path) -> Option<PathBuf> {
    std::fs::read_link(proc.join("ns/mnt")).ok()
}

/// Kills until nobody is left: a keeper and its daemon start one another anew.
fn kill_all_in(theirs: &Pinned) {
    let until = Instant::now() + Duration::from_secs(5);
    while kill_those_in(theirs) && Instant::now() < until {
        std::thread::sleep(Duration::from_millis(2));
    }
}

/// Kills all who are there; returns whether there was anybody.
fn kill_those_in(theirs: &Pinned) -> bool {
    let mut any = false;
    for entry in std::fs::read_dir("/proc").into_iter().flatten().flatten() {
        let pid = entry
            .file_name()
            .to_str()
            .and_then(|name| name.parse().ok());
        let Some(pid) = pid.and_then(Pid::from_raw) else {
            continue;
        };
        if namespace(&entry.path()).is_some_and(|found| found == theirs.name) {
            any |= kill_process(pid, Signal::KILL).is_ok();
        }
    }
    any
}
