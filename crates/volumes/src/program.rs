//! Running a program to its end: its report, its complaints, its deadline. No shell.

use std::borrow::Cow;
use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use bstr::{BStr, BString, ByteSlice};
use piton_process::how_ended;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fd::OwnedFd;
use rustix::io::Errno;
use rustix::process::{Pid, PidfdFlags, Signal, kill_process_group, pidfd_open};

use crate::error::Error;
use crate::limits;
use crate::turn::Turn;

/// All that a program finds in its environment; words are to be in English.
const ENVIRONMENT: [(&str, &str); 5] = [
    (
        "PATH",
        "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
    ),
    ("LANG", "C.UTF-8"),
    ("LC_ALL", "C.UTF-8"),
    ("HOME", "/root"),
    ("TZ", "UTC"),
];

/// A program to be run.
#[derive(Debug)]
pub(crate) struct Run<'a> {
    program: Cow<'a, Path>,
    arguments: Vec<OsString>,
    what: &'a BStr,
    /// What is read of its report.
    most: usize,
}

impl<'a> Run<'a> {
    /// `what` is what it is run for, in messages. A program that is named without a directory is
    /// looked for now, when it is needed.
    pub(crate) fn new(program: &'a Path, what: &'a BStr) -> Self {
        let program = match program.to_str() {
            Some(name) if !name.contains('/') => Cow::Owned(find(name)),
            _ => Cow::Borrowed(program),
        };
        Self {
            program,
            arguments: Vec::new(),
            what,
            most: limits::REPORT,
        }
    }

    /// Adds an argument.
    pub(crate) fn arg(mut self, argument: impl AsRef<[u8]>) -> Self {
        let argument = OsStr::from_bytes(argument.as_ref());
        self.arguments.push(argument.to_owned());
        self
    }

    /// Adds arguments.
    pub(crate) fn args<A: AsRef<[u8]>>(self, arguments: impl IntoIterator<Item = A>) -> Self {
        arguments.into_iter().fold(self, Self::arg)
    }

    /// Runs it and returns its report. It has a process group of its own, which is told to end, and
    /// then killed, when the time is over.
    pub(crate) fn report(self, turn: Turn<'_>) -> Result<Vec<u8>, Error> {
        let begun = Instant::now();
        let (mut child, out, err) = self.spawn(turn)?;
        let mut report = Stream::new(out, self.most);
        let mut words = Stream::new(err, limits::WORDS);
        let status = watch(&mut child, &mut report, &mut words, turn.until);
        let status = match status {
            Some(status) => status,
            None => {
                end(&mut child, &mut report, &mut words);
                return Err(Error::Overran {
                    what: self.described(),
                    milliseconds: begun.elapsed().as_millis(),
                });
            }
        };
        report.read();
        words.read();
        if !status.success() {
            return Err(Error::Program {
                program: self.program.display().to_string(),
                what: self.what.into(),
                status: how_ended(status),
                words: words.text(),
            });
        }
        if report.cut {
            return Err(Error::Unreadable {
                program: self.program.display().to_string(),
                why: format!("it is longer than {} bytes", self.most),
            });
        }
        Ok(report.kept)
    }

    fn described(&self) -> BString {
        let program = self.program.display();
        format!("{program} for {}", self.what).into()
    }

    fn spawn(&self, turn: Turn<'_>) -> Result<(Child, OwnedFd, OwnedFd), Error> {
        let failed = |errno| Error::call("running", self.program.as_os_str().as_bytes(), errno);
        let stdin = match turn.lock {
            Some(lock) => Stdio::from(lock.try_clone_to_owned().map_err(|e| failed(of(&e)))?),
            None => Stdio::null(),
        };
        let (out, out_writer) = pipe().map_err(failed)?;
        let (err, err_writer) = pipe().map_err(failed)?;
        let child = Command::new(&*self.program)
            .args(&self.arguments)
            .env_clear()
            .envs(ENVIRONMENT)
            .stdin(stdin)
            .stdout(Stdio::from(out_writer))
            .stderr(Stdio::from(err_writer))
            .current_dir("/")
            .process_group(0)
            .spawn();
        match child {
            Ok(child) => Ok((child, out, err)),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Err(Error::Unsupported {
                what: self.what.into(),
                why: format!(
                    "the program {} is not installed, and nothing can be done without it",
                    self.program.display()
                ),
            }),
            Err(error) => Err(failed(of(&error))),
        }
    }
}

/// Where a program is that is named without a directory, as the environment of programs has it.
fn find(name: &str) -> PathBuf {
    ENVIRONMENT[0]
        .1
        .split(':')
        .map(|directory| Path::new(directory).join(name))
        .find(|path| path.exists())
        .unwrap_or_else(|| name.into())
}

fn of(error: &std::io::Error) -> Errno {
    Errno::from_io_error(error).unwrap_or(Errno::IO)
}

/// A pipe whose first end does not block.
fn pipe() -> rustix::io::Result<(OwnedFd, OwnedFd)> {
    let (reader, writer) = rustix::pipe::pipe_with(rustix::pipe::PipeFlags::CLOEXEC)?;
    rustix::io::ioctl_fionbio(&reader, true)?;
    Ok((reader, writer))
}

/// What comes out of a program.
struct Stream {
    fd: Option<OwnedFd>,
    kept: Vec<u8>,
    most: usize,
    cut: bool,
}

impl Stream {
    fn new(fd: OwnedFd, most: usize) -> Self {
        Self {
            fd: Some(fd),
            kept: Vec::new(),
            most,
            cut: false,
        }
    }

    /// Takes what is there.
    fn read(&mut self) {
        let mut buffer = [0; 16384];
        while let Some(fd) = &self.fd {
            match rustix::io::read(fd, &mut buffer) {
                Ok(0) => self.fd = None,
                Ok(count) => {
                    self.kept.extend_from_slice(&buffer[..count]);
                    // The last bytes count: of a report that is too long nothing is used.
                    if self.kept.len() > self.most {
                        self.cut = true;
                        self.kept.drain(..self.kept.len() - self.most);
                    }
                }
                Err(Errno::INTR) => {}
                Err(Errno::AGAIN) => return,
                Err(_) => self.fd = None,
            }
        }
    }

    /// Its lines as one, without control characters.
    fn text(&self) -> String {
        let text = self.kept.to_str_lossy();
        let lines = text.lines().map(str::trim).filter(|line| !line.is_empty());
        let joined = lines.collect::<Vec<_>>().join("; ");
        joined.chars().filter(|c| !c.is_control()).collect()
    }
}

/// Waits until the child ends, reading what it says. None when `until` comes first. The end of the
/// output is not waited for: a program gone to the background keeps it open.
fn watch(
    child: &mut Child,
    report: &mut Stream,
    words: &mut Stream,
    until: Instant,
) -> Option<ExitStatus> {
    let ended = pidfd_open(Pid::from_child(child), PidfdFlags::empty()).ok();
    loop {
        match child.try_wait() {
            Ok(None) => {}
            Ok(Some(status)) => return Some(status),
            // SIGCHLD is ignored: how it ended is not known.
            Err(_) => return Some(ExitStatus::from_raw(0xff00)),
        }
        let left = until.checked_duration_since(Instant::now())?;
        // Without pidfds (before Linux 5.3) look again now and then.
        let pause = match &ended {
            Some(_) => left,
            None => left.min(Duration::from_millis(5)),
        };
        let fds = [&report.fd, &words.fd, &ended];
        let mut fds: Vec<_> = fds
            .into_iter()
            .flatten()
            .map(|fd| PollFd::new(fd, PollFlags::IN))
            .collect();
        let _ = poll(&mut fds, Timespec::try_from(pause).ok().as_ref());
        drop(fds);
        report.read();
        words.read();
    }
}

/// Has a child and its group end.
fn end(child: &mut Child, report: &mut Stream, words: &mut Stream) {
    let group = Pid::from_child(child);
    let _ = kill_process_group(group, Signal::TERM);
    let grace = Instant::now() + limits::GRACE;
    let ended = watch(child, report, words, grace);
    // Also when the first of them is gone: the others may be there still.
    let _ = kill_process_group(group, Signal::KILL);
    if ended.is_none() {
        let _ = watch(child, report, words, Instant::now() + limits::GRACE);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sh(script: &str) -> Run<'_> {
        Run::new(Path::new("/bin/sh"), "a test".into()).args(["-c", script])
    }

    fn soon() -> Turn<'static> {
        Turn::within(Duration::from_secs(20))
    }

    #[test]
    fn the_report_is_what_it_writes() {
        let report = sh("echo one; echo no >&2; echo two");
        assert_eq!(report.report(soon()).unwrap(), b"one\ntwo\n");
    }

    #[test]
    fn a_failure_has_its_status_and_words() {
        let error = sh("echo first >&2; echo second >&2; exit 5").report(soon());
        assert_eq!(
            error.unwrap_err().to_string(),
            "/bin/sh for \"a test\": exit status 5 (first; second)"
        );
    }

    #[test]
    fn a_report_has_a_limit() {
        let run = |count: usize| {
            let script = format!("head -c {count} /dev/zero");
            let mut run = sh(&script);
            run.most = 1000;
            run.report(soon())
        };
        assert_eq!(run(1000).unwrap().len(), 1000);
        assert!(matches!(run(1001), Err(Error::Unreadable { .. })));
    }

    #[test]
    fn what_takes_too_long_ends_with_all_its_children() {
        let script = "(sleep 75.25; true) & wait";
        let error = sh(script).report(Turn::within(Duration::from_millis(200)));
        assert!(matches!(error, Err(Error::Overran { .. })), "{error:?}");
        let runs = |process: std::fs::DirEntry| {
            let line = std::fs::read(process.path().join("cmdline")).unwrap_or_default();
            line.contains_str("75.25")
        };
        let until = Instant::now() + Duration::from_secs(60);
        while std::fs::read_dir("/proc").unwrap().flatten().any(runs) {
            assert!(Instant::now() < until, "its children are not gone");
            std::thread::sleep(Duration::from_millis(5));
        }
    }

    #[test]
    fn a_missing_program_is_named() {
        let error = Run::new(Path::new("/nonexistent/zfs"), "tank".into()).report(soon());
        let text = error.unwrap_err().to_string();
        assert!(text.contains("/nonexistent/zfs is not installed"), "{text}");
    }
}
