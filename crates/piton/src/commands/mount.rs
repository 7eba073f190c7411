//! `piton mount`: mount what is behind a path, by touching it.
//!
//! The touch happens in this process, so the kernel asks the daemon exactly as it would for any
//! other program.

use std::path::{Path, PathBuf};
use std::sync::mpsc;
use std::thread;
use std::time::Duration;

use piton_control::Client;
use piton_control::message::{Mount, Status};
use rustix::fs::{CWD, Mode, OFlags, openat};
use rustix::io::Errno;
use rustix::process::{Pid, getpgid, getpgrp, setpgid};

use super::talk::{Clean, absolute, complain, connect, print};
use crate::exit::Exit;

/// Its arguments.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// What to touch.
    path: PathBuf,
    /// Give up after so many seconds.
    #[arg(long, value_name = "SECONDS", default_value_t = 30)]
    timeout: u64,
}

/// Runs it. Exit status 1 if nothing got mounted.
pub(crate) fn run(args: &Args) -> Exit {
    let path = match absolute(&args.path) {
        Ok(path) => path,
        Err(why) => return complain(&why),
    };
    let mut client = match connect() {
        Ok(client) => client,
        Err(error) => return complain(&error),
    };
    let before = match client.status(Some(&path)) {
        Ok(status) => status,
        Err(error) => return complain(&error),
    };
    if let Err(error) = leave_group_of(&before) {
        return complain(&format_args!(
            "cannot leave the daemon's process group: {error}"
        ));
    }
    match touch(&path, Duration::from_secs(args.timeout)) {
        Touched::Reached => report(&mut client, &path, &before),
        Touched::Failed(errno) => fail(&mut client, &path, errno),
        Touched::Waiting => complain(&format_args!(
            "{}: no answer within {} s; see `piton status {0}`",
            Clean(&path),
            args.timeout
        )),
    }
}

/// Leaves the daemon's process group: what its members touch does not get mounted, by the kernel's
/// rule that lets the daemon walk below its own mount points.
fn leave_group_of(status: &Status) -> rustix::io::Result<()> {
    let raw = i32::try_from(status.daemon.pid).ok();
    match raw.and_then(Pid::from_raw).map(|pid| getpgid(Some(pid))) {
        Some(Ok(group)) if group == getpgrp() => setpgid(None, None),
        _ => Ok(()),
    }
}

/// What came of a touch.
enum Touched {
    Reached,
    Failed(Errno),
    Waiting,
}

/// Opens the path as a directory, on a thread of its own: a wait in the kernel ends only with the
/// answer or with the process.
fn touch(path: &str, limit: Duration) -> Touched {
    let (sender, receiver) = mpsc::sync_channel(1);
    let path = path.to_owned();
    thread::spawn(move || {
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let opened = openat(CWD, Path::new(&path), flags, Mode::empty());
        // The receiver is gone when the time has passed.
        let _ = sender.send(opened.map(drop));
    });
    match receiver.recv_timeout(limit) {
        // A file below something mounted has been reached, too.
        Ok(Ok(()) | Err(Errno::NOTDIR)) => Touched::Reached,
        Ok(Err(errno)) => Touched::Failed(errno),
        Err(_) => Touched::Waiting,
    }
}

/// The innermost mount that holds a path.
fn mount_of<'a>(status: &'a Status, path: &str) -> Option<&'a Mount> {
    let holds = |mount: &&Mount| Path::new(path).starts_with(&mount.path);
    status
        .mounts
        .iter()
        .filter(holds)
        .max_by_key(|mount| mount.path.len())
}

fn report(client: &mut Client, path: &str, before: &Status) -> Exit {
    let status = match client.status(Some(path)) {
        Ok(status) => status,
        Err(error) => return complain(&error),
    };
    let Some(mount) = mount_of(&status, path) else {
        return complain(&format_args!("{}: nothing is mounted there", Clean(path)));
    };
    let source = if mount.source.is_empty() {
        &mount.kind
    } else {
        &mount.source
    };
    // A mount that is younger than it was has been replaced meanwhile.
    let same = |old: &Mount| old.path == mount.path && old.age_ms <= mount.age_ms;
    let known = before.mounts.iter().any(same);
    let already = if known { ", as it was before" } else { "" };
    print(&format!(
        "{}  {}{already}\n",
        Clean(&mount.path),
        Clean(source)
    ))
}

fn fail(client: &mut Client, path: &str, errno: Errno) -> Exit {
    let status = client.status(Some(path)).unwrap_or_default();
    let remembered = status
        .negative
        .iter()
        .map(|negative| (&negative.path, &negative.reason));
    let failures = status
        .last_errors
        .iter()
        .map(|error| (&error.path, &error.reason));
    // The reason may stand at the key above the path that was touched.
    let reason = remembered
        .chain(failures)
        .rfind(|(failed, _)| Path::new(path).starts_with(failed))
        .map(|(_, reason)| format!(": {}", Clean(reason)));
    // A miss is remembered nowhere, for it costs nothing to find again.
    let reason = reason.unwrap_or_else(|| format!("; see `piton explain {}`", Clean(path)));
    complain(&format_args!(
        "{}: {}{reason}",
        Clean(path),
        describe(errno)
    ))
}

/// The system's words for an errno, without its number.
fn describe(errno: Errno) -> String {
    let text = std::io::Error::from(errno).to_string();
    match text.find(" (os error") {
        Some(end) => text[..end].to_owned(),
        None => text,
    }
}
