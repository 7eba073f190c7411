//! The thread that serves.

use std::io;
use std::os::fd::OwnedFd;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bstr::BStr;
use piton_loopback::{Answers, Duty, Owner};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;

use crate::device::Error;
use crate::doomed::is_doomed;
use crate::limits;
use crate::parked::{Full, Parked};
use crate::reply;
use crate::request::{Operation, Request};
use crate::serve::{Outcome, Served};

/// How often those who have got a signal are looked at.
const LOOK: Duration = Duration::from_millis(100);

/// How long the kernel may take to say its first word, which it has said when it has mounted.
const HANDSHAKE: Duration = Duration::from_secs(10);

/// Agrees with the kernel on a version.
pub(crate) fn shake_hands(device: &OwnedFd, path: &Path) -> Result<(), Error> {
    let failed = |errno: Errno| Error::Start(path.to_owned(), errno.into());
    let mut buffer = vec![0; limits::REQUEST];
    loop {
        let patience = Timespec::try_from(HANDSHAKE).ok();
        let mut fds = [PollFd::new(device, PollFlags::IN)];
        if poll(&mut fds, patience.as_ref()).map_err(failed)? == 0 {
            return Err(failed(Errno::TIMEDOUT));
        }
        let length = rustix::io::read(device, &mut buffer).map_err(failed)?;
        let request = Request::decode(&buffer[..length]).ok_or(failed(Errno::PROTO))?;
        let Operation::Init {
            major,
            minor,
            readahead,
            flags,
        } = request.operation
        else {
            return Err(failed(Errno::PROTO));
        };
        let known = (major, minor) >= reply::OLDEST;
        let answer = match known {
            true => reply::success(request.unique, &reply::init(readahead, flags)),
            false => reply::failure(request.unique, Errno::PROTO),
        };
        rustix::io::write(device, &answer).map_err(failed)?;
        if !known {
            return Err(Error::Version(major, minor));
        }
        // A later major version is told ours, and asks again.
        if major == reply::VERSION.0 {
            return Ok(());
        }
    }
}

/// The state of the thread.
pub(crate) struct Work {
    device: OwnedFd,
    served: Served,
    owner: Arc<dyn Owner>,
    answers: Arc<Answers>,
    parked: Parked,
    buffer: Vec<u8>,
    /// When those who have got a signal were looked at last.
    looked: Instant,
}

/// The file system is not mounted any more.
struct Gone;

impl Work {
    pub(crate) fn new(
        device: OwnedFd,
        served: Served,
        owner: Arc<dyn Owner>,
        answers: Arc<Answers>,
    ) -> Self {
        Self {
            device,
            served,
            owner,
            answers,
            parked: Parked::default(),
            buffer: vec![0; limits::REQUEST],
            looked: Instant::now(),
        }
    }

    /// Serves until told to stop, or until it is unmounted.
    pub(crate) fn run(&mut self) {
        loop {
            if let Err(errno) = self.wait() {
                let error = io::Error::from(errno);
                tracing::error!(%error, "the FUSE server ends");
                return;
            }
            let given = self.answers.take();
            if given.stop {
                return;
            }
            for (unique, answer) in given.answers {
                if let Some(access) = self.parked.answered(unique) {
                    let reply = self.served.answer(unique, &access, answer);
                    self.send(&reply);
                }
            }
            if self.read().is_err() {
                return;
            }
            if self.parked.has_interrupted() && self.looked.elapsed() >= LOOK {
                self.looked = Instant::now();
                for unique in self.parked.given_up(is_doomed) {
                    self.send(&reply::failure(unique, Errno::INTR));
                }
            }
        }
    }

    /// Waits until something can be done.
    fn wait(&self) -> rustix::io::Result<()> {
        let look = match self.parked.has_interrupted() {
            true => Timespec::try_from(LOOK).ok(),
            false => None,
        };
        let mut fds = [
            PollFd::new(self.answers.bell(), PollFlags::IN),
            PollFd::new(&self.device, PollFlags::IN),
        ];
        match poll(&mut fds, look.as_ref()) {
            Ok(_) | Err(Errno::INTR) => Ok(()),
            Err(errno) => Err(errno),
        }
    }

    /// Carries out what the kernel asks now.
    fn read(&mut self) -> Result<(), Gone> {
        for _ in 0..limits::AT_ONCE {
            let mut buffer = std::mem::take(&mut self.buffer);
            let read = rustix::io::read(&self.device, &mut buffer);
            if let Ok(length) = read {
                self.request(&buffer[..length]);
            }
            self.buffer = buffer;
            match read {
                // A request that was taken back, or was longer than any that is known here.
                Ok(_) | Err(Errno::INTR | Errno::NOENT | Errno::IO) => {}
                Err(Errno::AGAIN) => return Ok(()),
                Err(Errno::NODEV) => return Err(Gone),
                Err(errno) => {
                    let error = io::Error::from(errno);
                    tracing::error!(%error, "the kernel cannot be heard: the FUSE server ends");
                    return Err(Gone);
                }
            }
        }
        Ok(())
    }

    fn request(&mut self, bytes: &[u8]) {
        let Some(request) = Request::decode(bytes) else {
            tracing::error!(length = bytes.len(), "the kernel sent what is no request");
            return;
        };
        tracing::trace!(
            unique = request.unique,
            uid = request.uid,
            operation = ?request.operation,
            "request"
        );
        let trusts = |name: &BStr| self.owner.trusts(self.served.root, name);
        match self.served.serve(&request, &trusts) {
            Outcome::Reply(reply) => self.send(&reply),
            Outcome::Nothing => {}
            Outcome::Interrupted(unique) => {
                if self.parked.interrupt(unique, is_doomed) {
                    self.send(&reply::failure(unique, Errno::INTR));
                }
            }
            Outcome::Ask(access) => match self.parked.park(request.unique, access.clone()) {
                Ok(()) => {
                    let duty = Duty::new(self.answers.clone(), request.unique);
                    self.owner.access(access, duty);
                }
                Err(Full) => {
                    tracing::warn!(waiting = self.parked.len(), "too many requests wait");
                    self.send(&reply::failure(request.unique, Errno::AGAIN));
                }
            },
        }
    }

    /// Whoever does not want an answer any more does not get it.
    fn send(&self, reply: &[u8]) {
        if let Err(errno) = rustix::io::write(&self.device, reply) {
            let error = io::Error::from(errno);
            tracing::debug!(%error, "an answer was not taken");
        }
    }
}
