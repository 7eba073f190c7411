//! Whatever stands still goes on again, also when this process is killed at the worst moment.
//!
//! The kernel keeps a file system frozen when the process that asked for it dies. So before anything is made to stand still a *guard* process is started, which holds the
//! file systems by descriptors and waits: when this process is gone, or when the time is over, it
//! lets them go. It is no descendant of this process (it is started by one that ends at once), so it
//! outlives whoever kills us with our family. If it is killed as well, the journal says that
//! something may stand still, and the next sweep lets it go.

use std::ffi::{OsStr, OsString};
use std::io::{IoSlice, IoSliceMut};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode, Stdio};
use std::time::{Duration, Instant};

use bstr::{BString, ByteSlice};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fs::{Mode, OFlags};
use rustix::io::Errno;
use rustix::net::{
    AddressFamily, RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendAncillaryBuffer,
    SendAncillaryMessage, SendFlags, Shutdown, SocketFlags, SocketType, recvmsg, send, sendmsg,
    shutdown, socketpair,
};

use crate::error::Error;

/// File systems that this process has frozen. They go on when this is dropped, or its time is over, or
/// this process is killed.
#[derive(Debug)]
pub struct Still {
    held: Held,
    guard: OwnedFd,
    begun: Instant,
}

/// File systems that stand still or are about to.
#[derive(Debug, Default)]
struct Held {
    file_systems: Vec<(BString, OwnedFd)>,
    done: bool,
}

/// How to start a guard: a program and its arguments, which ends up in [`serve_guard`].
pub type GuardCommand = [OsString];

/// What the two say.
const READY: &[u8] = b"R";
const DONE: &[u8] = b"D";

/// The argument by which a guard knows that it is the second process.
const HOLD: &str = "hold";

impl Still {
    /// Freezes the file systems that are mounted at these paths, for `limit` at the most; or none, if
    /// it fails for one.
    ///
    /// # Errors
    /// One cannot be frozen, or no guard can be started.
    pub fn new(paths: &[BString], guard: &GuardCommand, limit: Duration) -> Result<Self, Error> {
        let held = Held::open(paths)?;
        let guard = start(guard, &held, limit)?;
        let mut still = Self {
            held,
            guard,
            begun: Instant::now(),
        };
        still.held.stop()?;
        Ok(still)
    }

    /// Lets all go.
    ///
    /// # Errors
    /// [`Error::Overran`] if they went on before, because the time was over: then nothing that was
    /// done meanwhile is of one instant.
    pub fn go(mut self) -> Result<(), Error> {
        self.held.go()?;
        let said = send(&self.guard, DONE, SendFlags::NOSIGNAL);
        let mut answer = [0; 8];
        let heard = said.and_then(|_| rustix::io::read(&self.guard, &mut answer));
        if heard.is_ok_and(|length| answer[..length] == *DONE) {
            return Ok(());
        }
        Err(Error::Overran {
            what: "holding file systems still for a snapshot".into(),
            milliseconds: self.begun.elapsed().as_millis(),
        })
    }
}

impl Drop for Still {
    fn drop(&mut self) {
        // What is left is the guard's: it hears that its socket is closed.
        let _ = self.held.go();
    }
}

impl Held {
    fn open(paths: &[BString]) -> Result<Self, Error> {
        let open = |path: &BString| Ok((path.clone(), open(path)?));
        Ok(Self {
            file_systems: paths.iter().map(open).collect::<Result<_, _>>()?,
            done: false,
        })
    }

    fn stop(&mut self) -> Result<(), Error> {
        for index in 0..self.file_systems.len() {
            let (path, fd) = &self.file_systems[index];
            if let Err(error) = autofs::freeze(fd) {
                let failed = of_kernel("freezing", path, &error);
                // Those that come later are not frozen, or not by us.
                self.file_systems.truncate(index);
                self.go()?;
                return Err(failed);
            }
        }
        Ok(())
    }

    /// Lets all go, each even if another does not.
    fn go(&mut self) -> Result<(), Error> {
        if std::mem::replace(&mut self.done, true) {
            return Ok(());
        }
        let mut result = Ok(());
        for (path, fd) in &self.file_systems {
            result = result.and(thaw(path, fd.as_fd()));
        }
        result
    }
}

/// Has a file system go on, whoever froze it. One that is not frozen is no mistake.
pub(crate) fn thaw_path(path: &BString) -> Result<(), Error> {
    let fd = open(path)?;
    thaw(path, fd.as_fd())
}

fn thaw(path: &BString, fd: BorrowedFd<'_>) -> Result<(), Error> {
    match autofs::thaw(fd) {
        Ok(()) => Ok(()),
        Err(error) if error.errno() == Some(Errno::INVAL) => Ok(()),
        Err(error) => Err(of_kernel("thawing", path, &error)),
    }
}

fn open(path: &BString) -> Result<OwnedFd, Error> {
    let flags = OFlags::RDONLY | OFlags::CLOEXEC | OFlags::DIRECTORY;
    rustix::fs::open(path.as_bytes(), flags, Mode::empty())
        .map_err(|errno| Error::call("opening", path.as_slice(), errno))
}

fn of_kernel(doing: &'static str, path: &BString, error: &autofs::Error) -> Error {
    Error::call(doing, path.as_slice(), error.errno().unwrap_or(Errno::IO))
}

/// Starts a guard over what is about to stand still, and waits until it is ready.
fn start(command: &GuardCommand, held: &Held, limit: Duration) -> Result<OwnedFd, Error> {
    let failed = |errno| Error::call("starting the guard over", "frozen file systems", errno);
    let [program, arguments @ ..] = command else {
        return Err(failed(Errno::INVAL));
    };
    let flags = SocketFlags::CLOEXEC;
    let (ours, theirs) =
        socketpair(AddressFamily::UNIX, SocketType::SEQPACKET, flags, None).map_err(failed)?;
    let status = Command::new(program)
        .args(arguments)
        .stdin(Stdio::from(theirs))
        .stdout(Stdio::null())
        .current_dir("/")
        .status()
        .map_err(|error| failed(Errno::from_io_error(&error).unwrap_or(Errno::IO)))?;
    if !status.success() {
        return Err(failed(Errno::CHILD));
    }
    let bytes = limit.as_millis().to_string();
    let fds: Vec<BorrowedFd<'_>> = held.file_systems.iter().map(|(_, fd)| fd.as_fd()).collect();
    let mut space = vec![MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(MOST_FDS))];
    let mut along = SendAncillaryBuffer::new(&mut space);
    if !fds.is_empty() && !along.push(SendAncillaryMessage::ScmRights(&fds)) {
        return Err(failed(Errno::TOOBIG));
    }
    let bytes = [IoSlice::new(bytes.as_bytes())];
    sendmsg(&ours, &bytes, &mut along, SendFlags::NOSIGNAL).map_err(failed)?;
    let mut answer = [0; 8];
    match rustix::io::read(&ours, &mut answer) {
        Ok(length) if answer[..length] == *READY => Ok(ours),
        Ok(_) => Err(failed(Errno::PIPE)),
        Err(errno) => Err(failed(errno)),
    }
}

/// Descriptors of one message: of a group, which is smaller.
const MOST_FDS: usize = 64;

/// The guard's side: what a program does that was started with a guard's command. `arguments` are
/// those after the command's own. The socket is its standard input.
pub fn serve_guard(arguments: &[OsString]) -> ExitCode {
    let code = match arguments {
        [] => second(),
        [only] if only == HOLD => hold(),
        _ => None,
    };
    code.map_or(ExitCode::FAILURE, |()| ExitCode::SUCCESS)
}

/// Starts the guard proper, and ends: so it is nobody's child.
fn second() -> Option<()> {
    let mut all = std::env::args_os();
    let name = all.next()?;
    let own = PathBuf::from("/proc/self/exe");
    let program: &OsStr = if own.exists() { own.as_os_str() } else { &name };
    let socket = rustix::stdio::stdin().try_clone_to_owned().ok()?;
    let child = Command::new(Path::new(program))
        .args(all)
        .arg(HOLD)
        .stdin(Stdio::from(socket))
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn();
    child.ok().map(drop)
}

fn hold() -> Option<()> {
    // Signals to the group of who started us are not for us.
    let _ = rustix::process::setsid();
    let socket = rustix::stdio::stdin();
    let (mut held, limit) = receive(socket)?;
    let until = Instant::now() + limit;
    send(socket, READY, SendFlags::NOSIGNAL).ok()?;
    if wait(socket, Some(until)) {
        held.done = true;
        return send(socket, DONE, SendFlags::NOSIGNAL).ok().map(drop);
    }
    // The other may be in the middle of freezing one: it is told that the time is over, and once it
    // is gone all are let go again.
    let _ = shutdown(socket, Shutdown::Write);
    loop {
        held.done = false;
        let _ = held.go();
        if wait(socket, None) || is_closed(socket) {
            break;
        }
    }
    held.done = false;
    let _ = held.go();
    Some(())
}

/// What is to be held, and for how long.
fn receive(socket: BorrowedFd<'_>) -> Option<(Held, Duration)> {
    let mut space = vec![MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(MOST_FDS))];
    let mut along = RecvAncillaryBuffer::new(&mut space);
    let mut bytes = [0; 4096];
    let flags = RecvFlags::CMSG_CLOEXEC;
    let got = recvmsg(
        socket,
        &mut [IoSliceMut::new(&mut bytes)],
        &mut along,
        flags,
    )
    .ok()?;
    let mut held = Held::default();
    for message in along.drain() {
        if let RecvAncillaryMessage::ScmRights(fds) = message {
            held.file_systems
                .extend(fds.map(|fd| (BString::default(), fd)));
        }
    }
    let limit = bytes[..got.bytes].to_str().ok()?.parse().ok()?;
    let limit = Duration::from_millis(limit);
    Some((held, limit))
}

/// Waits for the word that all is done. False if that does not come: the other is gone, or the time
/// is over.
fn wait(socket: BorrowedFd<'_>, until: Option<Instant>) -> bool {
    loop {
        let left = match until.map(|until| until.checked_duration_since(Instant::now())) {
            Some(None) => return false,
            Some(Some(left)) => Timespec::try_from(left).ok(),
            None => None,
        };
        let mut fds = [PollFd::from_borrowed_fd(socket, PollFlags::IN)];
        match poll(&mut fds, left.as_ref()) {
            Ok(0) => return false,
            Ok(_) => {}
            Err(Errno::INTR) => continue,
            Err(_) => return false,
        }
        let mut said = [0; 8];
        return match rustix::io::read(socket, &mut said) {
            Ok(length) => said[..length] == *DONE,
            Err(_) => false,
        };
    }
}

fn is_closed(socket: BorrowedFd<'_>) -> bool {
    let mut fds = [PollFd::from_borrowed_fd(socket, PollFlags::IN)];
    let now = Timespec {
        tv_sec: 0,
        tv_nsec: 0,
    };
    poll(&mut fds, Some(&now)).is_err() || fds[0].revents().contains(PollFlags::HUP)
}
