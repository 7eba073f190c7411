//! Jobs: what is being done at a place, and who waits for it.

use alloc::sync::Arc;
use alloc::vec::Vec;

use bstr::BString;
use piton_map::requester::Requester;
use piton_plan::plan::Plan;
use piton_plan::probe::Target as Asked;
use piton_plan::select::Choice;
use piton_plan::step::{Planned, TriggerId};

use crate::cause::Cause;
use crate::command::Note;
use crate::event::{RequestId, StepFailure};
use crate::failover::Replica;
use crate::place::Place;
use crate::sharing::Share;
use crate::time::Millis;
use crate::whole::Completing;

/// One job. While it lasts no other job works on its place.
#[derive(Debug)]
pub(crate) struct Job<T> {
    /// Where.
    pub(crate) place: Place,
    /// When it began.
    pub(crate) started: Millis,
    /// Whose access began it.
    pub(crate) requester: Requester,
    /// Accesses that get its result; or, while something is unmounted, that are served after.
    pub(crate) waiters: Vec<Waiter<T>>,
    /// What is being done.
    pub(crate) work: Work<T>,
}

/// An access that waits.
#[derive(Debug)]
pub(crate) struct Waiter<T> {
    /// To be answered, by the deadline.
    pub(crate) ticket: T,
    /// The place it wants: the job's own, or one below what is being unmounted.
    pub(crate) place: Place,
    /// Who.
    pub(crate) requester: Requester,
    /// When it is answered with an error at the latest.
    pub(crate) deadline: Millis,
    /// What it waits for.
    pub(crate) want: Want,
}

/// What an access waits for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Want {
    /// That it is mounted.
    Mount,
    /// Whether the map has it.
    Name,
}

/// What a job is doing.
#[derive(Debug)]
pub(crate) enum Work<T> {
    /// Seeing whether what should be mounted still is.
    Inspecting,
    /// Waiting for the map.
    Fetching {
        /// The adopted submount whose map the entry is to name, if it is asked for that.
        submount: Option<TriggerId>,
    },
    /// Waiting for the plan of an entry that was found.
    Planning {
        /// As before.
        submount: Option<TriggerId>,
        /// Whether the same question would cost a program or a server again.
        costly: bool,
    },
    /// Waiting for another job that mounts or unmounts what is shared.
    Sharing(Arc<Plan>),
    /// Waiting for addresses of servers.
    Resolving(Target),
    /// Waiting for answers of servers.
    Probing(Asking),
    /// Its parts are being mounted, by jobs of their own.
    Completing(Completing),
    /// Waiting for the mount.
    Mounting(Target, Vec<Planned>, Vec<(usize, TriggerId)>),
    /// Taking down, deepest first.
    Unmounting(Unmounting<T>),
    /// Leaving what is mounted to who is inside.
    LettingGo(LettingGo),
    /// Taking back by these steps what was mounted for a trigger that is gone.
    Clearing(Vec<Planned>),
}

/// What a job mounts.
#[derive(Clone, Debug)]
pub(crate) struct Target {
    /// The whole entry.
    pub(crate) plan: Arc<Plan>,
    /// Which part of it.
    pub(crate) node: usize,
    /// Why a directory of this host could not be bind-mounted, where the same is tried from
    /// servers now.
    pub(crate) unbound: Option<Cause>,
    /// The servers it could come from, if it moves when one dies; known when they are chosen
    /// among.
    pub(crate) replicas: Option<Arc<[Replica]>>,
    /// What is mounted is shared with other keys.
    pub(crate) share: Option<Share>,
}

/// What a job leaves to who is inside.
#[derive(Clone, Debug)]
pub(crate) struct LettingGo {
    /// Why, in words.
    pub(crate) why: Arc<str>,
}

/// Whom a job asks before it mounts.
#[derive(Debug)]
pub(crate) struct Asking {
    /// What is to be mounted.
    pub(crate) target: Target,
    /// The servers of it.
    pub(crate) choice: Choice,
    /// Who was asked.
    pub(crate) asked: Vec<Whom>,
    /// Whether there was time enough for silence to mean something.
    pub(crate) patient: bool,
}

/// An address that is asked, with the name of its server as written.
pub(crate) type Whom = (Option<BString>, Asked);

/// What a job unmounts, and for whom.
#[derive(Debug)]
pub(crate) struct Unmounting<T> {
    /// Places still to go; the last is next.
    pub(crate) queue: Vec<Place>,
    /// The steps under way for that one.
    pub(crate) steps: Vec<Planned>,
    /// Why they failed, while it is looked whether there was anything to unmount.
    pub(crate) failure: Option<StepFailure>,
    /// Whether only the offsets are being taken away, to see what is left then.
    pub(crate) stripping: bool,
    /// The kernel's expiry request, to be answered by the deadline.
    pub(crate) expire: Option<(T, Millis)>,
    /// An operator's request.
    pub(crate) request: Option<RequestId>,
    /// It is only tried: what is said when it is done; that it is in use is not.
    pub(crate) quiet: Option<Note>,
}

impl<T> Job<T> {
    /// Whether nothing was changed for it yet, so that it may simply be dropped.
    pub(crate) fn only_asks(&self) -> bool {
        match self.work {
            Work::Inspecting
            | Work::Fetching { .. }
            | Work::Planning { .. }
            | Work::Sharing(_)
            | Work::Resolving(_)
            | Work::Probing(_) => true,
            Work::Completing(_)
            | Work::Mounting(..)
            | Work::Unmounting(_)
            | Work::LettingGo(_)
            | Work::Clearing(_) => false,
        }
    }

    /// What is being done, in a word for `status`.
    pub(crate) fn stage(&self) -> &'static str {
        match self.work {
            Work::Inspecting => "inspecting",
            Work::Fetching { .. } => "looking up",
            Work::Planning { .. } => "planning",
            Work::Sharing(_) => "waiting for a shared mount",
            Work::Resolving(_) => "resolving",
            Work::Probing(_) => "asking servers",
            Work::Completing(_) | Work::Mounting(..) => "mounting",
            Work::Unmounting(_) => "unmounting",
            Work::LettingGo(_) => "letting go",
            Work::Clearing(_) => "clearing",
        }
    }
}
