//! The daemon's side of its workers: a few processes, started when something may have to wait,
//! killed when it waits too long.
//!
//! A worker that has answered is kept for a while for the next request. One that overruns its time
//! is killed with its descendants. One that does not die even then (a process that waits for a
//! server which has taken its request cannot be killed) is given up: it keeps its place in its
//! lane, a thread buries it when it dies, and until then nothing is mounted where it might still
//! mount.

use std::collections::BTreeSet;
use std::ffi::OsString;
use std::process::Child;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use bstr::{BStr, BString};
use piton_process::{how_ended, start_on_socket, wait_until};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fd::{AsFd, BorrowedFd, OwnedFd};
use rustix::io::Errno;
use rustix::process::{Pid, PidfdFlags, pidfd_open};

use crate::error::Error;
use crate::hands::{NO_MOUNT, sweep};
use crate::helper;
use crate::inspect;
use crate::lane::{Hold, Lane};
use crate::limits;
use crate::packet;
use crate::perform::Settings;
use crate::place::How;
use crate::rootless;
use crate::snapshot::Report;
use crate::wire::{self, Answer, Means, Reply, Request};

/// The worker processes of a daemon. Clones are the same.
#[derive(Clone, Debug)]
pub struct Workers(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    /// What is run, with its arguments; its standard input is the socket for [`serve`].
    ///
    /// [`serve`]: crate::worker::serve
    command: Vec<OsString>,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    /// Those that wait for work, and since when. The last is used first.
    idle: Vec<(Process, Instant)>,
    busy: usize,
    /// Those that were killed and have not died, or stay with a helper that has not.
    stuck: Vec<Stuck>,
    /// Where one of those may still mount something.
    haunted: BTreeSet<BString>,
    /// A thread looks after them.
    buried: bool,
}

impl State {
    fn count(&self) -> usize {
        self.idle.len() + self.busy + self.stuck.len()
    }
}

/// A worker that serves us.
#[derive(Debug)]
struct Process {
    child: Child,
    socket: OwnedFd,
}

/// A worker that does not serve us any more and is still there.
#[derive(Debug)]
struct Stuck {
    child: Child,
    /// Open while it stays with a helper: closing it would kill it.
    _socket: OwnedFd,
    /// Where it may still mount something.
    haunts: Option<BString>,
    _hold: Option<Hold>,
}

/// What is known of the workers, for tests and status.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Census {
    /// Processes that wait for work.
    pub idle: usize,
    /// Processes at work.
    pub busy: usize,
    /// Processes that were killed and have not died.
    pub stuck: usize,
}

/// One request, with what belongs to it.
pub(crate) struct Asked<'a> {
    /// The request.
    pub(crate) request: &'a Request,
    /// A descriptor that goes with it.
    pub(crate) fd: Option<BorrowedFd<'a>>,
    /// What it is about, in messages.
    pub(crate) about: &'a BStr,
    /// When it must be answered.
    pub(crate) until: Instant,
    /// The place in the lane.
    pub(crate) hold: &'a Hold,
    /// Where a worker that cannot be killed may mount something later.
    pub(crate) haunts: Option<&'a BStr>,
}

/// How a request ended.
enum End {
    Reply(Reply),
    /// It was never read.
    Unread,
    /// The worker ended without an answer.
    Gone,
    Late,
}

impl Workers {
    /// None yet; `command` will be run for each, with the socket as standard input, in the process
    /// group of the caller.
    pub fn new(command: Vec<OsString>) -> Self {
        Self(Arc::new(Inner {
            command,
            state: Mutex::default(),
        }))
    }

    /// How many there are.
    pub fn census(&self) -> Census {
        let state = self.0.lock();
        Census {
            idle: state.idle.len(),
            busy: state.busy,
            stuck: state.stuck.len(),
        }
    }

    /// Ends workers that have had no work for a while; returns whether some are left to be looked
    /// after.
    pub fn tend(&self) -> bool {
        self.end_idle(limits::WORKER_IDLE)
    }

    /// Ends all workers that have no work.
    pub fn end(&self) {
        self.end_idle(Duration::ZERO);
    }

    /// Whether something of ours is at a path: a mount other than a direct or offset trigger, a
    /// link, or anything mounted below. Asks nobody.
    ///
    /// # Errors
    /// Somebody would have to be asked: in which lane.
    pub fn inspect_at_once(target: &BStr) -> Result<bool, Lane> {
        match inspect::inspect(target, How::AtOnce) {
            Err(Error::Elsewhere(lane)) => Err(lane),
            other => Ok(other.unwrap_or(false)),
        }
    }

    /// The same, where somebody has to be asked; what does not answer has nothing of ours.
    pub fn inspect(&self, target: &BStr, until: Instant, hold: &Hold) -> bool {
        let request = Request::Inspect(target.into());
        matches!(self.ask(target, &request, until, hold), Ok(Answer::Yes))
    }

    /// Whether somebody serves the FUSE file system at a path: false if its server is gone. Blocks
    /// until it has answered.
    ///
    /// # Errors
    /// In words: it has not answered until then, or nobody could ask.
    pub fn serves(&self, place: &BStr, until: Instant, hold: &Hold) -> Result<bool, String> {
        let request = Request::Serves(place.into());
        match self.ask(place, &request, until, hold) {
            Ok(answer) => Ok(answer != Answer::No),
            Err(error) => Err(error.to_string()),
        }
    }

    /// Finishes what was begun with snapshots, and removes those that are not kept, within
    /// `time`. Blocks.
    ///
    /// # Errors
    /// In words: no worker did it in its time.
    pub fn sweep_snapshots(
        &self,
        settings: &Settings,
        time: Duration,
        hold: &Hold,
    ) -> Result<Report, String> {
        let request = Request::Sweep(Means::new(settings, time));
        let until = Instant::now() + time + limits::SNAPSHOT_GRACE;
        match self.ask(BStr::new("snapshots"), &request, until, hold) {
            Ok(Answer::Swept(report)) => Ok(report),
            Ok(_) => Ok(Report::default()),
            Err(error) => Err(error.to_string()),
        }
    }

    fn ask(
        &self,
        about: &BStr,
        request: &Request,
        until: Instant,
        hold: &Hold,
    ) -> Result<Answer, Error> {
        self.call(&Asked {
            request,
            fd: None,
            about,
            until,
            hold,
            haunts: None,
        })
    }

    /// Has a worker do something. Blocks, but not much longer than allowed. A request that
    /// overruns is [`Error::Overran`].
    pub(crate) fn call(&self, asked: &Asked<'_>) -> Result<Answer, Error> {
        let about = asked.about;
        let bytes = wire::encode(asked.request)
            .map_err(|errno| Error::call("asking a worker about", about, errno))?;
        if asked
            .haunts
            .is_some_and(|it| self.0.lock().haunted.contains(it))
        {
            let why = "an earlier attempt is still stuck in the kernel, and cannot be killed";
            return Err(Error::refused(about, Errno::TIMEDOUT, why));
        }
        let begun = Instant::now();
        loop {
            let process = self.take(about)?;
            match process.ask(&bytes, asked) {
                End::Reply(reply) => {
                    self.give_back(process, &reply, asked);
                    return Ok(reply.answer);
                }
                // Somebody killed it while it had nothing to do.
                End::Unread => self.bury(process, None, None),
                End::Gone => {
                    let status = self.bury_dead(process, asked);
                    let why = format!("the worker process ended before it was done: {status}");
                    return Err(Error::refused(about, Errno::IO, why));
                }
                End::Late => match self.kill(process, asked) {
                    // Done in the last moment.
                    Some(reply) => return Ok(reply.answer),
                    None => {
                        return Err(Error::Overran {
                            program: "a worker".into(),
                            path: about.into(),
                            milliseconds: begun.elapsed().as_millis(),
                            words: String::new(),
                        });
                    }
                },
            }
        }
    }

    fn take(&self, about: &BStr) -> Result<Process, Error> {
        let mut state = self.0.lock();
        if let Some((process, _)) = state.idle.pop() {
            state.busy += 1;
            return Ok(process);
        }
        if state.count() >= limits::WORKERS {
            let why = "too many workers are busy or stuck";
            return Err(Error::refused(about, Errno::AGAIN, why));
        }
        state.busy += 1;
        drop(state);
        self.0.start().map_err(|error| {
            self.0.lock().busy -= 1;
            let errno = Errno::from_io_error(&error).unwrap_or(Errno::IO);
            let why = format!("no worker can be started: {error}");
            Error::refused(about, errno, why)
        })
    }

    fn give_back(&self, process: Process, reply: &Reply, asked: &Asked<'_>) {
        if reply.lingers {
            return self.bury(process, asked.haunts, Some(asked.hold));
        }
        let mut state = self.0.lock();
        state.busy -= 1;
        state.idle.push((process, Instant::now()));
    }

    /// Kills a worker at work; its answer, if it gave one all the same.
    fn kill(&self, process: Process, asked: &Asked<'_>) -> Option<Reply> {
        let Process { child, socket } = process;
        let left = helper::end(child);
        let reply = match read_now(&socket) {
            End::Reply(reply) => Some(reply),
            _ => None,
        };
        match left {
            Ok(_) => self.0.lock().busy -= 1,
            Err(child) => {
                let haunts = asked.haunts.filter(|_| reply.is_none());
                let process = Process { child, socket };
                self.bury(process, haunts, Some(asked.hold));
            }
        }
        reply
    }

    /// Reaps a worker that has died at work; how it ended.
    fn bury_dead(&self, process: Process, asked: &Asked<'_>) -> String {
        let Process { child, socket } = process;
        // Its descendants may be left, if it was killed.
        match helper::end(child) {
            Ok(status) => {
                self.0.lock().busy -= 1;
                how_ended(status)
            }
            Err(child) => {
                let process = Process { child, socket };
                self.bury(process, asked.haunts, Some(asked.hold));
                "it does not die".into()
            }
        }
    }

    /// Hands a busy worker over to the thread that waits for its end.
    fn bury(&self, process: Process, haunts: Option<&BStr>, hold: Option<&Hold>) {
        let Process { child, socket } = process;
        let mut state = self.0.lock();
        state.busy -= 1;
        let haunts: Option<BString> = haunts.map(Into::into);
        state.haunted.extend(haunts.clone());
        state.stuck.push(Stuck {
            child,
            _socket: socket,
            haunts,
            _hold: hold.cloned(),
        });
        if !state.buried {
            state.buried = true;
            drop(state);
            let inner = self.0.clone();
            let thread = std::thread::Builder::new().name("burial".into());
            let started = thread.stack_size(128 * 1024).spawn(move || inner.bury());
            if started.is_err() {
                // The next one tries again.
                self.0.lock().buried = false;
            }
        }
    }

    fn end_idle(&self, after: Duration) -> bool {
        let mut state = self.0.lock();
        let now = Instant::now();
        let (old, young) = std::mem::take(&mut state.idle)
            .into_iter()
            .partition::<Vec<_>, _>(|(_, since)| now.duration_since(*since) >= after);
        state.idle = young;
        state.busy += old.len();
        let more = state.count() > old.len();
        drop(state);
        for (Process { mut child, socket }, _) in old {
            drop(socket);
            if wait_until(&mut child, Instant::now() + limits::KILL_GRACE).is_none() {
                let _ = helper::end(child);
            }
            self.0.lock().busy -= 1;
        }
        more
    }
}

impl Inner {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn start(&self) -> std::io::Result<Process> {
        let environment = rootless::environment();
        let (child, socket) = start_on_socket(&self.command, environment, packet::KIND)?;
        Ok(Process { child, socket })
    }

    /// Waits for the end of those that are stuck, and clears up after them.
    fn bury(&self) {
        loop {
            let mut dead = Vec::new();
            let mut state = self.lock();
            let mut index = 0;
            while index < state.stuck.len() {
                match state.stuck[index].child.try_wait() {
                    Ok(None) => index += 1,
                    Ok(Some(_)) | Err(_) => dead.push(state.stuck.swap_remove(index)),
                }
            }
            if dead.is_empty() && state.stuck.is_empty() {
                state.buried = false;
                return;
            }
            let pids: Vec<Pid> = state
                .stuck
                .iter()
                .map(|it| Pid::from_child(&it.child))
                .collect();
            drop(state);
            for stuck in dead {
                if let Some(target) = &stuck.haunts {
                    sweep(target.as_ref(), NO_MOUNT);
                    self.lock().haunted.remove(target);
                }
            }
            let watched: Vec<OwnedFd> = pids
                .into_iter()
                .filter_map(|pid| pidfd_open(pid, PidfdFlags::empty()).ok())
                .collect();
            let mut fds: Vec<PollFd<'_>> = watched
                .iter()
                .map(|fd| PollFd::new(fd, PollFlags::IN))
                .collect();
            // Others may join them meanwhile.
            let _ = poll(&mut fds, Timespec::try_from(limits::BURIAL).ok().as_ref());
        }
    }
}

impl Process {
    fn ask(&self, bytes: &[u8], asked: &Asked<'_>) -> End {
        match packet::send(self.socket.as_fd(), bytes, asked.fd) {
            Ok(()) => {}
            Err(Errno::PIPE | Errno::CONNRESET) => return End::Unread,
            Err(_) => return End::Gone,
        }
        loop {
            let left = asked.until.saturating_duration_since(Instant::now());
            let mut fds = [PollFd::new(&self.socket, PollFlags::IN)];
            match poll(&mut fds, Timespec::try_from(left).ok().as_ref()) {
                Ok(0) => return End::Late,
                Ok(_) => return read_now(&self.socket),
                Err(Errno::INTR) => {}
                Err(_) => return End::Gone,
            }
        }
    }
}

/// What is in the socket now.
fn read_now(socket: &OwnedFd) -> End {
    let mut fds = [PollFd::new(socket, PollFlags::IN)];
    if !matches!(poll(&mut fds, Some(&Timespec::default())), Ok(1..)) {
        return End::Late;
    }
    let mut buffer = vec![0; limits::MESSAGE];
    match packet::receive(socket.as_fd(), &mut buffer) {
        Ok(Some((length, _))) => match wire::decode(&buffer[..length]) {
            Ok(reply) => End::Reply(reply),
            Err(_) => End::Gone,
        },
        // Closed with our request in its queue.
        Err(Errno::CONNRESET) => End::Unread,
        Ok(None) | Err(_) => End::Gone,
    }
}
