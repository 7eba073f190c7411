//! The process itself: it takes questions from its standard input and answers each when it can.

use std::io;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use bstr::{BString, ByteSlice};
use piton_plan::probe::Target;
use rustix::event::PollFlags;
use rustix::fd::{AsFd, OwnedFd};
use rustix::io::Errno;

use crate::exports::{self, Turns};
use crate::limits;
use crate::names::{Names, Stuck, What};
use crate::privilege;
use crate::probe::{Patience, probe};
use crate::task::{Place, Tell, in_thread};
use crate::wire::{self, Ask, Reply, Request, Said};

/// Gives up root, and answers the daemon at the other end of `socket` until that is closed, or has
/// asked nothing for a while. To be called by a process that has started no thread; it should end
/// soon after this returns, whatever its threads do.
///
/// # Errors
/// Rights could not be given up (nothing was read then); the socket is none, or what came is no
/// message of ours; or too many threads are stuck in look-ups, and the next process should answer.
pub fn serve(socket: impl AsFd) -> io::Result<()> {
    privilege::give_up().map_err(|error| {
        io::Error::other(format!("the rights of root cannot be given up: {error}"))
    })?;
    let service = Service {
        line: Arc::new(Mutex::new(socket.as_fd().try_clone_to_owned()?)),
        underway: Arc::default(),
        names: Names::default(),
        probing: Arc::default(),
        turns: Turns::default(),
    };
    loop {
        let until = (!service.busy()).then(|| Instant::now() + limits::IDLE);
        if !wire::ready(socket.as_fd(), PollFlags::IN, until)? {
            if service.busy() {
                continue;
            }
            return Ok(());
        }
        let Some(bytes) = wire::receive(socket.as_fd(), limits::REQUEST)? else {
            return Ok(());
        };
        service.take(wire::decode(&bytes)?).map_err(|Stuck| {
            io::Error::other("too many look-ups are stuck; the next process begins afresh")
        })?;
    }
}

/// What the process has.
struct Service {
    /// To the daemon. Whole messages are sent under the lock.
    line: Arc<Mutex<OwnedFd>>,
    /// Questions that are not answered.
    underway: Arc<AtomicUsize>,
    names: Names,
    /// Threads that ask servers whether they serve.
    probing: Arc<AtomicUsize>,
    turns: Turns,
}

impl Service {
    fn busy(&self) -> bool {
        self.underway.load(Ordering::Acquire) > 0
    }

    /// Begins to answer a question; never waits for anybody.
    fn take(&self, request: Request) -> Result<(), Stuck> {
        let time = Duration::from_millis(request.milliseconds).min(limits::LONGEST);
        let until = Instant::now() + time;
        let tell = self.teller(request.id);
        match request.ask {
            Ask::Alive => tell.say(Said::Alive),
            Ask::Addresses(name) => self.addresses(&name, until, tell)?,
            Ask::Probe(targets, grace) => {
                let patience = grace.map_or(Patience::All, |grace| {
                    Patience::Grace(Duration::from_millis(grace).min(limits::LONGEST))
                });
                self.probe(targets, patience, until, tell);
            }
            Ask::Exports(name) => self.exports(&name, until, tell)?,
            Ask::User(who) => self.names.ask(&What::User(who), until, tell)?,
        }
        Ok(())
    }

    fn probe(&self, targets: Vec<Target>, patience: Patience, until: Instant, tell: Tell) {
        let Some(place) = Place::take(&self.probing, limits::PROBES) else {
            return tell.say(Said::failed(
                Errno::AGAIN,
                "too many servers are being asked",
            ));
        };
        // If there is no thread, the answer is that.
        let _ = in_thread(move || {
            let answers = probe(&targets, patience, until);
            drop(place);
            tell.say(Said::Probed(answers));
        });
    }

    fn exports(&self, name: &BString, until: Instant, tell: Tell) -> Result<(), Stuck> {
        let turns = self.turns.clone();
        // The thread that looks up the name is for others afterwards.
        let then = Tell::new(move |said| match said {
            Said::Addresses(addresses) => {
                let _ = in_thread(move || tell.say(exports::ask(&addresses, &turns, until)));
            }
            other => tell.say(other),
        });
        self.addresses(name, until, then)
    }

    fn addresses(&self, name: &BString, until: Instant, tell: Tell) -> Result<(), Stuck> {
        match name.to_str() {
            Ok(name) if (1..=limits::NAME).contains(&name.len()) => {
                self.names.ask(&What::Host(name.into()), until, tell)
            }
            _ => {
                tell.say(Said::Addresses(Vec::new()));
                Ok(())
            }
        }
    }

    /// Sends the answer to a question.
    fn teller(&self, id: u64) -> Tell {
        self.underway.fetch_add(1, Ordering::AcqRel);
        let (line, underway) = (self.line.clone(), self.underway.clone());
        Tell::new(move |said| {
            let bytes = wire::encode(&Reply { id, said }, limits::REPLY).or_else(|errno| {
                let said = Said::failed(errno, "the answer is too long");
                wire::encode(&Reply { id, said }, limits::REPLY)
            });
            if let Ok(bytes) = bytes {
                let line = line.lock().unwrap_or_else(PoisonError::into_inner);
                // If the daemon is gone, the process is about to end.
                let _ = wire::send(line.as_fd(), &bytes, None);
            }
            underway.fetch_sub(1, Ordering::AcqRel);
        })
    }
}
