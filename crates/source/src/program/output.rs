//! Waiting for a program and taking what it prints, within limits.

use std::io::Read;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::process::{Child, ChildStderr, ChildStdout, ExitStatus};
use std::sync::Arc;
use std::time::{Duration, Instant};

use bstr::{BStr, BString, ByteSlice};
use piton_process::{kill_family, wait_until};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fs::{OFlags, fcntl_getfl, fcntl_setfl};
use rustix::io::Errno;
use rustix::process::{Pid, PidfdFlags, pidfd_open};

use crate::limits::{PROGRAM_OUTPUT, PROGRAM_STDERR};

/// How long a killed program is waited for before somebody else buries it: a process in an
/// uninterruptible system call dies later.
const BURIAL: Duration = Duration::from_millis(500);

/// How a program ended.
pub(super) enum Ended {
    /// By itself: its status and what it printed.
    Exited(ExitStatus, Vec<u8>),
    /// Killed, since it did not end in time.
    TimedOut,
    /// Killed, since it printed too much.
    TooMuch,
    /// We could not watch it; killed.
    Failed(Errno),
}

/// A running program and what it has printed.
pub(super) struct Output {
    child: Child,
    stdout: Option<ChildStdout>,
    stderr: Option<ChildStderr>,
    printed: Vec<u8>,
    log: Log,
}

/// What a turn of waiting came to.
enum Turn {
    /// Go on.
    Waiting,
    /// The program has ended.
    Ended,
}

impl Output {
    /// Takes over a program that was started with pipes for its output.
    pub(super) fn new(mut child: Child, name: &Arc<str>, key: &BStr) -> Self {
        let (stdout, stderr) = (child.stdout.take(), child.stderr.take());
        let log = Log {
            name: name.clone(),
            key: key.into(),
            line: Vec::new(),
            logged: 0,
        };
        Self {
            child,
            stdout,
            stderr,
            printed: Vec::new(),
            log,
        }
    }

    /// Waits for the program's end.
    pub(super) fn until(mut self, deadline: Instant) -> Ended {
        match self.run(deadline) {
            Ok(()) => match self.child.wait() {
                Ok(status) => Ended::Exited(status, self.printed),
                Err(error) => {
                    Ended::Failed(Errno::from_raw_os_error(error.raw_os_error().unwrap_or(5)))
                }
            },
            Err(ended) => {
                self.kill();
                ended
            }
        }
    }

    /// Takes output until the program has ended.
    fn run(&mut self, deadline: Instant) -> Result<(), Ended> {
        let exit = pidfd_open(Pid::from_child(&self.child), PidfdFlags::empty());
        let exit: OwnedFd = exit.map_err(Ended::Failed)?;
        for pipe in [
            self.stdout.as_ref().map(AsFd::as_fd),
            self.stderr.as_ref().map(AsFd::as_fd),
        ] {
            pipe.map_or(Ok(()), dont_wait).map_err(Ended::Failed)?;
        }
        loop {
            let turn = self.turn(exit.as_fd(), deadline)?;
            self.take()?;
            if matches!(turn, Turn::Ended) {
                // All that the program itself wrote is in the pipes and was taken; what a
                // grandchild may still write is not waited for.
                self.log.flush();
                return Ok(());
            }
        }
    }

    /// Waits for output or the end.
    fn turn(&self, exit: BorrowedFd<'_>, deadline: Instant) -> Result<Turn, Ended> {
        let left = deadline.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return Err(Ended::TimedOut);
        }
        let mut waiting = vec![PollFd::from_borrowed_fd(exit, PollFlags::IN)];
        for pipe in [
            self.stdout.as_ref().map(AsFd::as_fd),
            self.stderr.as_ref().map(AsFd::as_fd),
        ] {
            waiting.extend(pipe.map(|pipe| PollFd::from_borrowed_fd(pipe, PollFlags::IN)));
        }
        let timeout = Timespec {
            tv_sec: left.as_secs() as i64,
            tv_nsec: left.subsec_nanos().into(),
        };
        match poll(&mut waiting, Some(&timeout)) {
            Ok(_) if waiting[0].revents().is_empty() => Ok(Turn::Waiting),
            Ok(_) => Ok(Turn::Ended),
            Err(Errno::INTR) => Ok(Turn::Waiting),
            Err(errno) => Err(Ended::Failed(errno)),
        }
    }

    /// Takes what is in the pipes. A pipe at its end is dropped.
    fn take(&mut self) -> Result<(), Ended> {
        let mut buffer = [0; 16 * 1024];
        while let Some(pipe) = &mut self.stdout {
            match pipe.read(&mut buffer) {
                Ok(0) => self.stdout = None,
                Ok(count) => self.printed.extend_from_slice(&buffer[..count]),
                Err(error) if error.kind() == std::io::ErrorKind::Interrupted => {}
                Err(_) => break,
            }
            if self.printed.len() > PROGRAM_OUTPUT {
                return Err(Ended::TooMuch);
            }
        }
        // A flood on standard error must not keep us from looking at the clock.
        let mut turns = 8;
        while let Some(pipe) = self.stderr.as_mut().filter(|_| turns > 0) {
            turns -= 1;
            match pipe.read(&mut buffer) {
                Ok(0) => self.stderr = None,
                Ok(count) => self.log.add(&buffer[..count]),
                Err(error) if error.kind() == std::io::ErrorKind::Interrupted => {}
                Err(_) => break,
            }
        }
        Ok(())
    }

    /// Kills the program with its descendants and sees to its burial.
    fn kill(mut self) {
        self.log.flush();
        let pipes = [
            self.stdout.as_ref().map(AsFd::as_fd),
            self.stderr.as_ref().map(AsFd::as_fd),
        ];
        let pipes: Vec<_> = pipes.into_iter().flatten().collect();
        kill_family(Pid::from_child(&self.child), &pipes);
        let mut child = self.child;
        if wait_until(&mut child, Instant::now() + BURIAL).is_none() {
            std::thread::spawn(move || child.wait());
        }
    }
}

/// Makes reading return when there is nothing to read.
fn dont_wait(pipe: BorrowedFd<'_>) -> Result<(), Errno> {
    let flags = fcntl_getfl(pipe)?;
    fcntl_setfl(pipe, flags | OFlags::NONBLOCK)
}

/// Standard error on its way to the log.
struct Log {
    name: Arc<str>,
    key: BString,
    /// The line so far.
    line: Vec<u8>,
    /// Bytes logged for this run.
    logged: usize,
}

impl Log {
    /// Takes bytes, and logs the lines that are complete.
    fn add(&mut self, bytes: &[u8]) {
        for part in bytes.split_inclusive(|byte| *byte == b'\n') {
            if self.logged + self.line.len() > PROGRAM_STDERR {
                return self.cut();
            }
            let room = PROGRAM_STDERR + 1 - self.logged - self.line.len();
            self.line.extend_from_slice(&part[..part.len().min(room)]);
            if part.ends_with(b"\n") {
                self.flush();
            }
        }
    }

    /// Logs what there is of the last line.
    fn flush(&mut self) {
        let text = self.line.trim_end_with(|c| c.is_ascii_whitespace());
        if !text.is_empty() {
            tracing::warn!(program = %self.name, key = %self.key, "{}", text.as_bstr());
        }
        self.logged += self.line.len();
        self.line.clear();
    }

    /// Says once that the rest is not logged.
    fn cut(&mut self) {
        if self.logged <= PROGRAM_STDERR {
            self.flush();
            tracing::warn!(program = %self.name, key = %self.key, "further errors are not logged");
        }
        self.logged = PROGRAM_STDERR + 1;
        self.line.clear();
    }
}
