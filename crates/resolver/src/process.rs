//! One process, as its parent sees it: questions go in, a thread gives each answer to whoever
//! waits for it, and ends the process when it says what is no answer.

use std::collections::HashMap;
use std::ffi::OsString;
use std::io;
use std::process::Child;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use piton_process::start_on_socket;
use rustix::fd::{AsFd, OwnedFd};
use rustix::net::{Shutdown, SocketType, shutdown};

use crate::limits;
use crate::wire::{self, Ask, Reply, Request, Said};

/// All that the process finds in its environment: the C library's look-ups take orders from there.
const ENVIRONMENT: [(&str, &str); 2] = [("PATH", "/usr/bin:/bin"), ("LC_ALL", "C.UTF-8")];

/// A process that runs, or has just ended.
#[derive(Debug)]
pub(crate) struct Process {
    socket: OwnedFd,
    /// Questions are sent whole, under the lock.
    sending: Mutex<()>,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    /// It has ended, or will at once.
    over: bool,
    next: u64,
    waiting: HashMap<u64, SyncSender<Said>>,
    /// When it was asked whether it lives, if it has said nothing since.
    asked: Option<Instant>,
}

/// Why a question was not answered.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Unanswered {
    /// The process has ended.
    Gone,
    /// There was no answer in time.
    Late,
    /// Too many wait already.
    Full,
}

impl Process {
    /// Starts the process, with the socket as its standard input, in our process group: the kernel
    /// lets only that walk below our mount points without asking us.
    pub(crate) fn start(command: &[OsString]) -> io::Result<Arc<Self>> {
        let (child, socket) = start_on_socket(command, ENVIRONMENT, SocketType::STREAM)?;
        let process = Arc::new(Self {
            socket,
            sending: Mutex::default(),
            state: Mutex::default(),
        });
        let child = Arc::new(Mutex::new(Some(child)));
        let (heard, reaped) = (process.clone(), child.clone());
        let thread = std::thread::Builder::new().name("resolver".into());
        let listening = thread.stack_size(256 << 10).spawn(move || {
            heard.listen();
            reap(&reaped);
        });
        if let Err(error) = listening {
            process.end();
            reap(&child);
            return Err(error);
        }
        Ok(process)
    }

    /// Asks, and waits for the answer.
    pub(crate) fn ask(&self, ask: Ask, until: Instant) -> Result<Said, Unanswered> {
        let (id, answer) = self.register()?;
        let left = until.saturating_duration_since(Instant::now());
        let request = Request {
            id,
            milliseconds: u64::try_from(left.as_millis()).unwrap_or(u64::MAX),
            ask,
        };
        // What is too long was made so by the caller, who bounds it.
        if let Ok(bytes) = wire::encode(&request, limits::REQUEST) {
            self.send(&bytes, until + limits::LATENESS);
        }
        let due = (until + limits::LATENESS).saturating_duration_since(Instant::now());
        match answer.recv_timeout(due) {
            Ok(said) => Ok(said),
            Err(std::sync::mpsc::RecvTimeoutError::Disconnected) => Err(Unanswered::Gone),
            Err(std::sync::mpsc::RecvTimeoutError::Timeout) => {
                self.lock().waiting.remove(&id);
                self.doubt();
                Err(Unanswered::Late)
            }
        }
    }

    /// Whether it can be asked. One that has said nothing for too long since it was asked whether
    /// it lives is ended.
    pub(crate) fn is_well(&self) -> bool {
        let state = self.lock();
        let silent = state
            .asked
            .is_some_and(|since| since.elapsed() > limits::SILENCE);
        let over = state.over;
        drop(state);
        if silent && !over {
            self.end();
        }
        !silent && !over
    }

    /// Ends it; whoever waits for an answer hears so.
    pub(crate) fn end(&self) {
        let mut state = self.lock();
        state.over = true;
        state.waiting.clear();
        drop(state);
        // The thread that listens sees that, and kills it.
        let _ = shutdown(&self.socket, Shutdown::Both);
    }

    fn register(&self) -> Result<(u64, Receiver<Said>), Unanswered> {
        let mut state = self.lock();
        if state.over {
            return Err(Unanswered::Gone);
        }
        if state.waiting.len() >= limits::UNDERWAY {
            return Err(Unanswered::Full);
        }
        state.next += 1;
        let id = state.next;
        let (sender, receiver) = sync_channel(1);
        state.waiting.insert(id, sender);
        Ok((id, receiver))
    }

    fn send(&self, bytes: &[u8], until: Instant) {
        let turn = self.sending.lock().unwrap_or_else(PoisonError::into_inner);
        let sent = wire::send(self.socket.as_fd(), bytes, Some(until));
        drop(turn);
        if sent.is_err() {
            // It is gone, or has not read for so long that it does not serve any more.
            self.end();
        }
    }

    /// Asks it whether it lives, if it has not been asked.
    fn doubt(&self) {
        let mut state = self.lock();
        if state.over || state.asked.is_some() {
            return;
        }
        state.asked = Some(Instant::now());
        drop(state);
        let request = Request {
            id: 0,
            milliseconds: 0,
            ask: Ask::Alive,
        };
        if let Ok(bytes) = wire::encode(&request, limits::REQUEST) {
            self.send(&bytes, Instant::now() + limits::LATENESS);
        }
    }

    fn listen(&self) {
        while let Ok(Some(bytes)) = wire::receive(self.socket.as_fd(), limits::REPLY) {
            // Anything else is not from a resolver that is in its right mind.
            let Ok(reply) = wire::decode::<Reply>(&bytes) else {
                break;
            };
            let mut state = self.lock();
            state.asked = None;
            let waiting = state.waiting.remove(&reply.id);
            drop(state);
            if let Some(waiting) = waiting {
                // There is room for one, and there is one; or nobody waits any more.
                let _ = waiting.try_send(reply.said);
            }
        }
        self.end();
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Kills the process, if it has not ended, and reaps it.
fn reap(child: &Mutex<Option<Child>>) {
    let child = child.lock().unwrap_or_else(PoisonError::into_inner).take();
    if let Some(mut child) = child {
        let _ = child.kill();
        let _ = child.wait();
    }
}
