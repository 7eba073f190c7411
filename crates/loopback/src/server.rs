//! The thread that serves.

use std::collections::BTreeMap;
use std::io;
use std::net::{SocketAddr, SocketAddrV4};
use std::os::fd::AsFd;
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;

use crate::connection::{Connection, Gone};
use crate::duty::{Answers, Duty, Owner};
use crate::expand::{self, Witness};
use crate::limits;
use crate::listener::Listener;
use crate::mountd::Mounted;
use crate::parked::{ConnectionId, Parked, Place};
use crate::peer::{Looks, is_served};
use crate::serve::{Outcome, serve};
use crate::tree::Tree;

/// How long nobody is accepted when the process has no descriptor left.
const BREATH: Duration = Duration::from_millis(100);

/// A server at work: one thread, which never waits for anybody. Ends when dropped.
///
/// Requests that were not answered by then are not answered with an error: the connections are
/// closed, and the kernel's client sends them again to whoever listens at the same port next.
#[derive(Debug)]
pub struct Server {
    answers: Arc<Answers>,
    address: SocketAddrV4,
    thread: Option<JoinHandle<()>>,
}

impl Server {
    /// Serves a tree to the clients of a port.
    ///
    /// # Errors
    /// No thread or descriptor can be had.
    pub fn start(listener: Listener, tree: Tree, owner: Arc<dyn Owner>) -> io::Result<Self> {
        Self::start_seen(listener, tree, owner, None)
    }

    /// The same; a witness is told of each call and each answer.
    ///
    /// # Errors
    /// As [`Server::start`].
    pub fn start_seen(
        listener: Listener,
        tree: Tree,
        owner: Arc<dyn Owner>,
        witness: Option<Arc<dyn Witness>>,
    ) -> io::Result<Self> {
        let answers = Arc::new(Answers::new()?);
        let address = listener.address();
        let mut work = Work {
            listener,
            tree,
            owner,
            witness,
            answers: answers.clone(),
            clients: BTreeMap::new(),
            next: 0,
            parked: Parked::default(),
            mounted: Mounted::default(),
            looks: Looks::new(Instant::now()),
            pause: None,
        };
        let thread = std::thread::Builder::new().name("loopback".into());
        let thread = thread.spawn(move || {
            if let Err(errno) = work.run() {
                tracing::error!(error = %io::Error::from(errno), "the loopback server ends");
            }
        })?;
        Ok(Self {
            answers,
            address,
            thread: Some(thread),
        })
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddrV4 {
        self.address
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.answers.stop();
        if let Some(thread) = self.thread.take() {
            // A panic has been told already.
            let _ = thread.join();
        }
    }
}

struct Work {
    listener: Listener,
    tree: Tree,
    owner: Arc<dyn Owner>,
    witness: Option<Arc<dyn Witness>>,
    answers: Arc<Answers>,
    clients: BTreeMap<ConnectionId, Connection>,
    next: ConnectionId,
    parked: Parked,
    mounted: Mounted,
    looks: Looks,
    /// Until then nobody is accepted.
    pause: Option<Instant>,
}

impl Work {
    /// Serves until told to stop.
    fn run(&mut self) -> Result<(), Errno> {
        loop {
            let ready = self.wait()?;
            let given = self.answers.take();
            if given.stop {
                return Ok(());
            }
            for (number, result) in given.answers {
                self.answered(number, result);
            }
            let now = Instant::now();
            while let Some(number) = self.parked.overdue(now) {
                // It may not: whoever follows it will be told.
                self.answered(number, Ok(()));
            }
            for (id, flags) in ready.clients {
                self.serve(id, flags);
            }
            if ready.listener {
                self.accept();
            }
        }
    }

    /// Waits until something can be done.
    fn wait(&mut self) -> Result<Ready, Errno> {
        let now = Instant::now();
        self.pause = self.pause.filter(|until| *until > now);
        let accepting = self.pause.is_none() && self.clients.len() < limits::CONNECTIONS;
        let timers = [self.pause, self.parked.next_overdue()];
        let next = timers.into_iter().flatten().min();
        let left = next.map(|until| until.saturating_duration_since(now));
        let left = left.and_then(|left| Timespec::try_from(left).ok());
        let listening = match accepting {
            true => PollFlags::IN,
            false => PollFlags::empty(),
        };
        let mut fds = vec![
            PollFd::new(self.answers.bell(), PollFlags::IN),
            PollFd::from_borrowed_fd(self.listener.as_fd(), listening),
        ];
        let clients = self.clients.values();
        fds.extend(clients.map(|client| PollFd::new(client.socket(), client.wants())));
        match poll(&mut fds, left.as_ref()) {
            Ok(_) => {}
            Err(Errno::INTR) => return Ok(Ready::default()),
            Err(errno) => return Err(errno),
        }
        let happened: Vec<PollFlags> = fds.iter().map(PollFd::revents).collect();
        let clients = self.clients.keys().zip(&happened[2..]);
        Ok(Ready {
            listener: accepting && !happened[1].is_empty(),
            clients: clients
                .filter(|(_, flags)| !flags.is_empty())
                .map(|(id, flags)| (*id, *flags))
                .collect(),
        })
    }

    fn accept(&mut self) {
        for _ in 0..limits::ACCEPTED_AT_ONCE {
            if self.clients.len() >= limits::CONNECTIONS {
                return;
            }
            let (socket, client) = match self.listener.accept() {
                Ok(accepted) => accepted,
                Err(error) => {
                    let fleeting = matches!(
                        error.kind(),
                        io::ErrorKind::Interrupted | io::ErrorKind::ConnectionAborted
                    );
                    if !fleeting && error.kind() != io::ErrorKind::WouldBlock {
                        tracing::warn!(%error, "a client cannot be accepted");
                        self.pause = Some(Instant::now() + BREATH);
                    }
                    return;
                }
            };
            let served = match client {
                SocketAddr::V4(client) => {
                    is_served(client, self.listener.address(), &mut self.looks)
                }
                SocketAddr::V6(_) => false,
            };
            if !served {
                if self.looks.tell(Instant::now()) {
                    tracing::info!(%client, "a client is turned away: it does not belong to root");
                }
                continue;
            }
            let id = self.next;
            self.next += 1;
            self.clients.insert(id, Connection::new(socket));
        }
    }

    /// Does what a client's connection allows.
    fn serve(&mut self, id: ConnectionId, flags: PollFlags) {
        let done = self.exchange(id, flags);
        if done == Err(Gone) {
            self.clients.remove(&id);
        }
    }

    fn exchange(&mut self, id: ConnectionId, flags: PollFlags) -> Result<(), Gone> {
        let client = self.clients.get_mut(&id).ok_or(Gone)?;
        if flags.contains(PollFlags::OUT) {
            client.flush()?;
        }
        if flags.intersects(PollFlags::HUP | PollFlags::ERR) {
            return Err(Gone);
        }
        let end = match flags.contains(PollFlags::IN) {
            true => client.read(),
            false => Ok(()),
        };
        // What was read before may have been left because answers were not taken.
        while let Some(message) = self.clients.get_mut(&id).ok_or(Gone)?.next()? {
            self.message(id, &message)?;
        }
        end
    }

    /// Carries out what a message asks for, or asks the owner.
    fn message(&mut self, id: ConnectionId, message: &[u8]) -> Result<(), Gone> {
        if let Some(witness) = &self.witness {
            witness.saw(expand::call(&self.tree, message));
        }
        let reply = match serve(&self.tree, &mut self.mounted, message) {
            Outcome::Reply(reply) => reply,
            Outcome::Nonsense => return Err(Gone),
            Outcome::Ask(question) => {
                match self.parked.park(&question, message, id, Instant::now()) {
                    Place::Again => return Ok(()),
                    Place::Full => {
                        tracing::warn!(
                            waiting = self.parked.len(),
                            "too many requests wait: a client is told to come again"
                        );
                        question.later()
                    }
                    Place::New(number) => {
                        let duty = Duty::new(self.answers.clone(), number);
                        self.owner.access(question.access, duty);
                        return Ok(());
                    }
                }
            }
        };
        if let Some(witness) = &self.witness {
            witness.saw(expand::reply(&self.tree, message, &reply));
        }
        self.clients.get_mut(&id).ok_or(Gone)?.send(&reply)
    }

    /// The owner has answered.
    fn answered(&mut self, number: u64, result: Result<(), Errno>) {
        let Some((question, connections)) = self.parked.answered(number) else {
            return;
        };
        let reply = question.reply(&self.tree, result);
        if let Some(witness) = &self.witness {
            witness.saw(expand::answer(&self.tree, &question, &reply));
        }
        for id in connections {
            let client = self.clients.get_mut(&id);
            if client.is_some_and(|client| client.send(&reply).is_err()) {
                self.clients.remove(&id);
            }
        }
    }
}

/// What can be done.
#[derive(Debug, Default)]
struct Ready {
    listener: bool,
    clients: Vec<(ConnectionId, PollFlags)>,
}
