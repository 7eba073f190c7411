//! What reaches the loop from other threads, and the way it gets there.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::PathBuf;
use std::sync::mpsc::Sender;
use std::sync::{Arc, Mutex, PoisonError};

use bstr::BString;
use piton_control::message::{Left, ReloadPlan};
use piton_engine::Event;
use piton_engine::event::JobId;
use piton_engine::status::Status;
use piton_frontend::Ticket;
use piton_mount::Lane;
use piton_plan::facts::{Interface, Route};
use rustix::event::EventfdFlags;

use super::loader::Loaded;
use super::tasks::Perform;

/// Something for the loop.
pub(crate) enum Message {
    /// A task ended: for the engine.
    Event(Event<Ticket>),
    /// What an earlier life left is taken over: for the engine.
    Adopted(Event<Ticket>),
    /// Steps wait for somebody: they go on in a lane.
    Elsewhere {
        /// Comes back with the outcome.
        job: JobId,
        /// The steps.
        task: Box<Perform>,
        /// The lane.
        lane: Lane,
    },
    /// The question with this number was answered: for the engine, unless it was given up.
    Task(u64, Event<Ticket>),
    /// Master map and direct maps were read.
    Loaded(Box<Loaded>),
    /// Files of maps have changed while they were not watched.
    FilesChanged,
    /// Snapshots have come or gone.
    Volumes,
    /// What maps list was read again, by mount point; what could not be is missing.
    Listed(Vec<(BString, Arc<[BString]>)>),
    /// This host's addresses and routes were read; nothing if they could not be.
    Moved(Option<(Vec<Interface>, Vec<Route>)>),
    /// Somebody asks through the control socket.
    Ask(Question),
}

/// What a reload changes, and what is mounted in the way of it.
#[derive(Clone, Debug, Default)]
pub(crate) struct Outline {
    /// For people. What is pending has no detail yet.
    pub(crate) plan: ReloadPlan,
    /// By path of a mount point: what must be unmounted before it can change.
    pub(crate) waits: Vec<(String, Vec<String>)>,
}

/// A question of the control socket. A dropped sender tells the asker that no answer comes.
pub(crate) enum Question {
    /// What is in place.
    Status(Sender<(Status, u64)>),
    /// Read the maps and say what would change.
    Plan(Sender<Result<Outline, String>>),
    /// Read the maps and apply what changed.
    Reload(Sender<Result<Outline, String>>),
    /// Expire now.
    Expire(Option<BString>, Sender<Vec<Left>>),
    /// Forget failures that are answered from memory.
    Flush(Option<BString>, Sender<u64>),
    /// Unmount now; `None`: nothing of ours is there.
    Unmount(BString, Sender<Option<Vec<Left>>>),
    /// Avoid a server, for so many seconds or until it is used again.
    Drain {
        server: BString,
        now: bool,
        seconds: Option<u64>,
        answer: Sender<Vec<Left>>,
    },
    /// Use a server again; `None`: it was not drained.
    Undrain(BString, Sender<Option<Vec<Left>>>),
    /// Keep a path as it is for so many seconds; `None`: nothing of ours is there.
    Pin(BString, u64, Sender<Option<Vec<Left>>>),
    /// End that; `None`: it was not pinned.
    Unpin(BString, Sender<Option<Vec<Left>>>),
    /// Have the program at this path take over.
    Upgrade(PathBuf),
    /// End.
    Stop {
        detach: bool,
        answer: Sender<Vec<Left>>,
    },
}

/// The loop's letter box.
#[derive(Clone)]
pub(crate) struct Mailbox(Arc<Inner>);

struct Inner {
    letters: Mutex<Vec<Message>>,
    bell: OwnedFd,
}

impl Mailbox {
    /// An empty one.
    pub(crate) fn new() -> rustix::io::Result<Self> {
        let bell = rustix::event::eventfd(0, EventfdFlags::NONBLOCK | EventfdFlags::CLOEXEC)?;
        Ok(Self(Arc::new(Inner {
            letters: Mutex::new(Vec::new()),
            bell,
        })))
    }

    /// Puts a message in and wakes the loop.
    pub(crate) fn post(&self, message: Message) {
        let mut letters = self
            .0
            .letters
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        letters.push(message);
        let first = letters.len() == 1;
        drop(letters);
        if first {
            // The counter cannot overflow: the loop resets it before it empties the box.
            let _ = rustix::io::write(&self.0.bell, &1u64.to_ne_bytes());
        }
    }

    /// Takes all messages.
    pub(crate) fn take(&self, into: &mut Vec<Message>) {
        let _ = rustix::io::read(&self.0.bell, &mut [0u8; 8]);
        let mut letters = self
            .0
            .letters
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        into.append(&mut letters);
    }

    /// Becomes readable when a message is there.
    pub(crate) fn bell(&self) -> BorrowedFd<'_> {
        self.0.bell.as_fd()
    }
}
