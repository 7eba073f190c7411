//! Our own children: started on a socket, and waited for.

use std::ffi::{OsStr, OsString};
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::process::ExitStatusExt;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;
use rustix::net::{AddressFamily, SocketFlags, SocketType, socketpair};
use rustix::process::{Pid, PidfdFlags, pidfd_open};

/// How often it is looked whether a child has ended, on a kernel without pidfds (before Linux 5.3).
const LOOK: Duration = Duration::from_millis(2);

/// Starts a program that finds one end of a socket as its standard input, and nothing in its
/// environment but `environment`; gives the other end. It prints nothing, complains where we do, and
/// stays in our process group.
///
/// # Errors
/// `command` is empty, there is no such program, or it cannot be started.
pub fn start_on_socket<K, V>(
    command: &[OsString],
    environment: impl IntoIterator<Item = (K, V)>,
    kind: SocketType,
) -> io::Result<(Child, OwnedFd)>
where
    K: AsRef<OsStr>,
    V: AsRef<OsStr>,
{
    let (ours, theirs) = socketpair(AddressFamily::UNIX, kind, SocketFlags::CLOEXEC, None)?;
    let (program, arguments) = command.split_first().ok_or(io::ErrorKind::NotFound)?;
    // Nothing here makes the standard library fork: the child shares our memory until it runs the
    // program (posix_spawn), whatever our other threads do.
    let child = Command::new(program)
        .args(arguments)
        .env_clear()
        .envs(environment)
        .stdin(Stdio::from(theirs))
        .stdout(Stdio::null())
        .stderr(Stdio::inherit())
        .spawn()?;
    Ok((child, ours))
}

/// Waits for the end of a child and reaps it; none when it lives on at `until`.
pub fn wait_until(child: &mut Child, until: Instant) -> Option<ExitStatus> {
    let process = pidfd_open(Pid::from_child(child), PidfdFlags::empty());
    loop {
        match child.try_wait() {
            Ok(None) => {}
            Ok(Some(status)) => return Some(status),
            // Somebody else has reaped it (or SIGCHLD is ignored): how it ended is not known.
            Err(_) => return Some(ExitStatus::from_raw(0xff00)),
        }
        let left = until.checked_duration_since(Instant::now())?;
        match &process {
            Ok(process) => drop(await_end(process, until)),
            Err(_) => std::thread::sleep(left.min(LOOK)),
        }
    }
}

/// Waits for the end of the process that a pidfd stands for; false when it lives on at `until`.
pub fn await_end(process: &OwnedFd, until: Instant) -> bool {
    loop {
        let left = until.saturating_duration_since(Instant::now());
        let left = Timespec::try_from(left).unwrap_or_default();
        let mut fds = [PollFd::from_borrowed_fd(process.as_fd(), PollFlags::IN)];
        match poll(&mut fds, Some(&left)) {
            Ok(ready) => return ready > 0,
            Err(Errno::INTR) => {}
            Err(_) => return false,
        }
    }
}

/// How a program ended, in words for people.
pub fn how_ended(status: ExitStatus) -> String {
    match (status.code(), status.signal()) {
        (Some(code), _) => format!("exit status {code}"),
        (None, Some(signal)) => format!("killed by signal {signal}"),
        (None, None) => status.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use std::io::{Read, Write};
    use std::os::unix::net::UnixStream;

    use super::*;

    fn command(words: &[&str]) -> Vec<OsString> {
        words.iter().map(OsString::from).collect()
    }

    fn soon() -> Instant {
        Instant::now() + Duration::from_secs(60)
    }

    #[test]
    fn a_child_hears_us_and_has_only_what_it_is_given() {
        let script = "read line; echo \"$line $GIVEN ${HOME-none}\" >&0";
        let shell = command(&["/bin/sh", "-c", script]);
        let given = [("GIVEN", "this")];
        let (mut child, socket) = start_on_socket(&shell, given, SocketType::STREAM).unwrap();
        let mut socket = UnixStream::from(socket);
        socket.write_all(b"hello\n").unwrap();
        let mut said = String::new();
        socket.read_to_string(&mut said).unwrap();
        assert_eq!(said, "hello this none\n");
        let ended = wait_until(&mut child, soon()).unwrap();
        assert_eq!(how_ended(ended), "exit status 0");
    }

    #[test]
    fn a_command_without_a_program_is_not_there() {
        for words in [&[][..], &["/no/such"]] {
            let none = [("", ""); 0];
            let started = start_on_socket(&command(words), none, SocketType::SEQPACKET);
            assert_eq!(started.unwrap_err().kind(), io::ErrorKind::NotFound);
        }
    }

    #[test]
    fn one_that_lives_on_is_told_from_one_that_has_ended() {
        let mut child = Command::new("sleep").arg("100").spawn().unwrap();
        let process = pidfd_open(Pid::from_child(&child), PidfdFlags::empty()).unwrap();
        assert_eq!(wait_until(&mut child, Instant::now()), None);
        assert!(!await_end(&process, Instant::now()));
        child.kill().unwrap();
        assert!(await_end(&process, soon()));
        let ended = wait_until(&mut child, soon()).unwrap();
        assert_eq!(how_ended(ended), "killed by signal 9");
    }
}
