//! Everything that can happen to the engine: the closed list.

use alloc::boxed::Box;
use alloc::sync::Arc;
use alloc::vec::Vec;

use bstr::BString;
use piton_map::lookup::{Found, Miss};
use piton_map::requester::{Requester, RequesterNames};
use piton_plan::facts::{HostAnswers, Interface, Route};
use piton_plan::planner::Planning;
use piton_plan::probe::{Answer, Service, Target};
use piton_plan::step::{Address, TriggerId, TriggerKind};

use crate::cause::Errno;
use crate::config::Configuration;
use crate::time::Millis;

/// Number of a job; commands carry it out and the answering event brings it back.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct JobId(pub u64);

/// Number of an operator's request.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RequestId(pub u64);

/// Something happened. `T` is the front end's ticket: the duty to answer, spent once.
#[derive(Debug)]
pub enum Event<T> {
    /// A process touched a key (indirect) or a trigger (direct, offset) and waits.
    Access {
        /// The trigger.
        trigger: TriggerId,
        /// The key; empty for direct and offset triggers.
        key: BString,
        /// Who.
        requester: Requester,
        /// For how many milliseconds the process has waited already: an earlier life of the
        /// daemon took the request and did not answer it.
        waited_ms: u64,
        /// To be answered.
        ticket: T,
    },
    /// A client of links asks whether a key exists, before it asks where it leads. Answered from
    /// the map alone: no server is asked, and nothing is mounted.
    ExistsAsked {
        /// The trigger.
        trigger: TriggerId,
        /// The key.
        key: BString,
        /// Who.
        requester: Requester,
        /// To be answered: ready if it exists.
        ticket: T,
    },
    /// The kernel found a key idle and asks to unmount it; it waits for the answer.
    ExpireAsked {
        /// The trigger.
        trigger: TriggerId,
        /// The key; empty for direct and offset triggers.
        key: BString,
        /// To be answered: ready when it is unmounted, failed when it stays.
        ticket: T,
    },
    /// A source answered a [`crate::Command::Fetch`].
    Fetched {
        /// The job that asked.
        job: JobId,
        /// The requester's names, if the entry or the source needed them.
        names: Option<Arc<RequesterNames>>,
        /// Whether the same question would cost a program or a server again: such a miss is
        /// remembered.
        costly: bool,
        /// The line, or why there is none.
        result: Result<Found, Miss>,
    },
    /// An entry was planned for a [`crate::Command::Plan`].
    Planned {
        /// The job that asked.
        job: JobId,
        /// What came of it.
        planning: Box<Planning>,
    },
    /// Servers' names were looked up for a [`crate::Command::Resolve`].
    Resolved {
        /// The job that asked.
        job: JobId,
        /// Addresses by name.
        answers: HostAnswers,
    },
    /// Servers were asked for a [`crate::Command::Probe`].
    Probed {
        /// The job that asked.
        job: JobId,
        /// One for each target, in their order. Those that are missing were not heard.
        answers: Vec<Answer>,
    },
    /// A [`crate::Command::Perform`] ended.
    Performed {
        /// The job that asked.
        job: JobId,
        /// What holds now.
        outcome: Outcome,
    },
    /// A [`crate::Command::Inspect`] was answered.
    Inspected {
        /// The job that asked.
        job: JobId,
        /// Whether something is mounted there (or the link exists).
        mounted: bool,
    },
    /// The other answer to a [`crate::Command::Inspect`]: it is mounted, but the process that asks
    /// lives in a mount namespace that the mount did not reach.
    Hidden {
        /// The job that asked.
        job: JobId,
    },
    /// A [`crate::Command::Install`] or [`crate::Command::Adopt`] ended.
    Installed {
        /// One result for each trigger.
        results: Vec<(TriggerId, Result<(), StepFailure>)>,
    },
    /// A [`crate::Command::Remove`] ended.
    Removed {
        /// One result for each trigger.
        results: Vec<(TriggerId, Result<(), StepFailure>)>,
    },
    /// The kernel has nothing more to expire in this trigger for now.
    ExpireDone {
        /// The trigger.
        trigger: TriggerId,
    },
    /// The master map and the direct maps were read (at start or anew).
    Configure(Configuration),
    /// What the maps of a configured mount point list has changed, though the maps have not: volumes
    /// and snapshots come and go.
    Listed {
        /// The mount point.
        path: BString,
        /// Its keys, shown before they are mounted.
        listing: Arc<[BString]>,
    },
    /// A server was asked for a [`crate::Command::Check`].
    Checked {
        /// The server, as it was named.
        server: BString,
        /// Who was asked, and what came. Nobody: its name has no address.
        answers: Vec<(Target, Answer)>,
    },
    /// This host has other addresses or routes than before.
    Moved {
        /// All of its addresses.
        interfaces: Vec<Interface>,
        /// All of its routes that tell what is near.
        routes: Vec<Route>,
    },
    /// An operator asked for something.
    Request {
        /// Number that the reply carries.
        id: RequestId,
        /// What.
        request: Request,
    },
    /// Time has passed: something may be due.
    Tick,
}

/// What an operator may ask of the engine.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Request {
    /// Expire at once what is idle: everything, or what is at or below a path.
    Expire {
        /// Absolute path, or everything.
        path: Option<BString>,
    },
    /// Forget failures that are answered from memory: all, or those at or below a path.
    Flush {
        /// Absolute path, or everything.
        path: Option<BString>,
    },
    /// Unmount what is mounted at a path now.
    Unmount {
        /// Absolute path of a mounted key, direct key or offset.
        path: BString,
    },
    /// Avoid a server as if it were dead, unless there is no other, and move what can move.
    Drain {
        /// The server as the map has it.
        server: BString,
        /// Move what is in use, too: who is inside stays with that server.
        now: bool,
        /// When this ends by itself.
        until: Option<Millis>,
    },
    /// Use a server again.
    Undrain {
        /// The server as the map has it.
        server: BString,
    },
    /// Neither expire nor move what is mounted at, below or above a path.
    Pin {
        /// Absolute path.
        path: BString,
        /// When this ends by itself.
        until: Millis,
    },
    /// Take a pin away.
    Unpin {
        /// Absolute path.
        path: BString,
    },
    /// End: unmount what is idle (`detach` false), or leave all as it is for a successor.
    Stop {
        /// Leave everything mounted.
        detach: bool,
    },
}

/// How a list of steps ended.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Outcome {
    /// Steps in effect at the end: done and not taken back.
    pub done: Vec<DoneStep>,
    /// The required step that failed, if one did; what could be was then taken back.
    pub failed: Option<StepFailure>,
    /// Steps that were not required and failed.
    pub tolerated: Vec<StepFailure>,
}

/// A step that is in effect.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DoneStep {
    /// Its index in the list.
    pub index: usize,
    /// Which attempt of a mount worked.
    pub attempt: usize,
    /// Whether mount(8) or another program did it.
    pub helper: bool,
}

/// A step that failed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StepFailure {
    /// Its index in the list.
    pub index: usize,
    /// What the system said.
    pub errno: Errno,
    /// The same in words, with the kernel's or the helper's text.
    pub text: Arc<str>,
}

/// A trigger left by an earlier life of the daemon.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Existing {
    /// Indirect or direct.
    pub kind: TriggerKind,
    /// Absolute path of its mount point.
    pub path: BString,
    /// What is mounted in it: keys of an indirect trigger, or one with an empty key.
    pub mounted: Vec<ExistingMount>,
}

/// Something mounted in a trigger that is being adopted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ExistingMount {
    /// The key; empty for a direct trigger or an offset.
    pub key: BString,
    /// Absolute path.
    pub target: BString,
    /// False for the bare directory of an entry without a root.
    pub covered: bool,
    /// False when work was under way here that an earlier life did not finish: parts of the entry
    /// may be missing.
    pub whole: bool,
    /// What a link leads to that is there in place of a mount, as users see it.
    pub link: Option<BString>,
    /// Source text in the mount table.
    pub source: BString,
    /// Whether nothing can be written to it, as the mount table says.
    pub read_only: bool,
    /// The server it is mounted from, if there is one.
    pub server: Option<ExistingServer>,
    /// Offset triggers below, each with what is mounted on it. One of kind `Indirect` at the
    /// mount's own path is a map named by `fstype=autofs`, with its keys.
    pub offsets: Vec<Existing>,
    /// Who asked for it first, if the kernel remembers.
    pub requester: Requester,
}

/// The server of something that is mounted, as the mount table tells.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ExistingServer {
    /// Its name or address, as it was given to mount.
    pub host: BString,
    /// The address that the kernel uses.
    pub address: Option<Address>,
    /// How it can be asked whether it lives, if it can be.
    pub service: Option<Service>,
}
