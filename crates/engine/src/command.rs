//! Everything the engine can ask the world for: the closed list.

use alloc::boxed::Box;
use alloc::sync::Arc;
use alloc::vec::Vec;

use bstr::BString;
use piton_map::diagnostic::Diagnostic;
use piton_map::requester::Requester;
use piton_plan::probe::{Service, Target};
use piton_plan::step::{Planned, TriggerId, TriggerKind, TriggerSpec};

use crate::cause::Cause;
use crate::config::Binding;
use crate::event::{JobId, RequestId, StepFailure};
use crate::planning::PlanOrder;

/// Something to be done. `T` is the front end's ticket.
#[derive(Debug)]
pub enum Command<T> {
    /// Answer a waiting process (or the kernel's expiry).
    Reply {
        /// Spent by the answer.
        ticket: T,
        /// The answer.
        answer: Answer,
    },
    /// Look a key up; answered by `Event::Fetched`.
    Fetch {
        /// Comes back with the answer.
        job: JobId,
        /// The maps to search, the dialect, the map's defines.
        binding: Arc<Binding>,
        /// How the map is used.
        kind: TriggerKind,
        /// The mount point: where a program map runs.
        mount_point: BString,
        /// The key: a name, or an absolute path in a direct map.
        key: BString,
        /// Who asks.
        requester: Requester,
        /// Milliseconds it may take.
        deadline_ms: u64,
    },
    /// Plan an entry that is too long to be planned in passing; answered by `Event::Planned` with
    /// what [`PlanOrder::plan`] makes of it.
    Plan {
        /// Comes back with the answer.
        job: JobId,
        /// The entry, and all that is known about it.
        order: Box<PlanOrder>,
    },
    /// Find addresses of servers; answered by `Event::Resolved`.
    Resolve {
        /// Comes back with the answer.
        job: JobId,
        /// Names as written in the map.
        hosts: Vec<BString>,
        /// Milliseconds it may take.
        deadline_ms: u64,
    },
    /// Ask servers whether they serve, all at the same time; answered by `Event::Probed`.
    Probe {
        /// Comes back with the answer.
        job: JobId,
        /// Whom; never empty.
        targets: Vec<Target>,
        /// Milliseconds that are waited for the others after the first answer.
        grace_ms: u64,
        /// Milliseconds it may take.
        deadline_ms: u64,
    },
    /// Ask a server in the background whether it lives; answered by `Event::Checked`, in any case.
    Check {
        /// Comes back with the answer.
        server: BString,
        /// Its addresses. None: its name is to be looked up, and all that it has be asked for
        /// `service`.
        targets: Vec<Target>,
        /// What is wanted of it.
        service: Service,
        /// Milliseconds it may take.
        deadline_ms: u64,
    },
    /// Do these steps in order; answered by `Event::Performed`.
    Perform {
        /// Comes back with the answer.
        job: JobId,
        /// What to do.
        steps: Vec<Planned>,
        /// Milliseconds it may take.
        deadline_ms: u64,
    },
    /// See whether anything of ours is in place at a path: a mount on it (other than a direct
    /// or offset trigger, which waits there for one), a symbolic link, or, for the bare
    /// directory of an entry without a root, a mount below it. Answered by `Event::Inspected`, or
    /// `Event::Hidden`.
    Inspect {
        /// Comes back with the answer.
        job: JobId,
        /// Absolute path.
        target: BString,
        /// Who asks for what is mounted already; 0: nobody.
        pid: u32,
    },
    /// Put triggers in place, in this order; answered by `Event::Installed`.
    Install {
        /// The triggers, parents before children.
        triggers: Vec<TriggerSpec>,
    },
    /// Take over triggers that exist already; answered by `Event::Installed`.
    Adopt {
        /// The triggers, parents before children.
        triggers: Vec<TriggerSpec>,
    },
    /// Take triggers away, in this order; answered by `Event::Removed`.
    Remove {
        /// The triggers, children before parents.
        triggers: Vec<TriggerSpec>,
    },
    /// Show these names in an indirect trigger before they are mounted, and no others.
    List {
        /// The trigger.
        trigger: TriggerId,
        /// The names; what is mounted is shown in any case.
        keys: Arc<[BString]>,
    },
    /// Have a key lead to its mount, though nobody is answered with that now: only where mounts are
    /// behind links.
    Show {
        /// The trigger.
        trigger: TriggerId,
        /// The key; empty for a direct trigger.
        key: BString,
    },
    /// Have a key lead nowhere: its mount is about to go.
    Hide {
        /// The trigger.
        trigger: TriggerId,
        /// The key; empty for a direct trigger.
        key: BString,
    },
    /// Change the idle time of a trigger, or of one key where the kernel can.
    SetTimeout {
        /// The trigger.
        trigger: TriggerId,
        /// One key of an indirect trigger, or the whole.
        key: Option<BString>,
        /// Seconds; 0 is never.
        seconds: u32,
    },
    /// Ask the kernel for idle mounts, one after the other, until it has no more; each comes
    /// as `Event::ExpireAsked`, the end as `Event::ExpireDone`.
    Expire {
        /// The trigger.
        trigger: TriggerId,
        /// Whatever the idle time.
        immediate: bool,
    },
    /// An operator's request was carried out (or not).
    Respond {
        /// The request.
        id: RequestId,
        /// What came of it.
        response: Response,
    },
    /// Something worth a log line.
    Note(Note),
    /// The engine has ended: no command follows but answers to what still comes in. What is
    /// named stays mounted, with what is below it.
    Finished {
        /// Paths that stay, with the reason.
        left: Vec<(BString, Arc<str>)>,
    },
}

/// The answer to a waiting process.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Answer {
    /// It is mounted (or, for an expiry, unmounted).
    Ready,
    /// It is not.
    Failed(Cause),
}

/// The answer to an operator's request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Response {
    /// Done. Paths that were not, with the reason.
    Done {
        /// What stayed as it was.
        left: Vec<(BString, Arc<str>)>,
    },
    /// So many failures were forgotten.
    Flushed(u64),
    /// Nothing of ours is there.
    NoSuchPlace,
}

/// Something worth a log line, with the access's number from touch to answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Note {
    /// A process touched a path and a job was begun for it.
    Accessed {
        /// Number of the job.
        job: JobId,
        /// Absolute path.
        path: BString,
        /// Who.
        requester: Requester,
    },
    /// Mounted.
    Mounted {
        /// Number of the job.
        job: JobId,
        /// Absolute path.
        path: BString,
        /// Source text; empty for a bare directory.
        source: BString,
        /// Milliseconds from access to answer.
        took_ms: u64,
    },
    /// An access failed.
    Failed {
        /// Number of the job.
        job: JobId,
        /// Absolute path.
        path: BString,
        /// Why.
        cause: Cause,
        /// Who asked.
        requester: Requester,
    },
    /// Unmounted.
    Unmounted {
        /// Absolute path.
        path: BString,
    },
    /// Left to who is inside, so that others are served by another server.
    LetGo {
        /// Absolute path.
        path: BString,
        /// Source text.
        source: BString,
        /// Why.
        why: Arc<str>,
    },
    /// Its server is dead or drained, and it stays all the same.
    CannotMove {
        /// Absolute path.
        path: BString,
        /// Why.
        why: Arc<str>,
    },
    /// Was idle and is unmounted, because another server is to serve it.
    Moves {
        /// Absolute path.
        path: BString,
        /// That server.
        to: BString,
    },
    /// Mounted from a server that is drained, because there was no other.
    FromDrained {
        /// Absolute path.
        path: BString,
        /// That server.
        server: BString,
    },
    /// Could not be unmounted and stays.
    Stays {
        /// Absolute path.
        path: BString,
        /// Why.
        why: Arc<str>,
    },
    /// An offset could not be put in place; the rest of the entry works.
    OffsetMissing {
        /// Absolute path.
        path: BString,
        /// Why.
        failure: StepFailure,
    },
    /// A mount point was put in place.
    Installed {
        /// Absolute path.
        path: BString,
    },
    /// A mount point could not be put in place or taken over.
    NotInstalled {
        /// Absolute path.
        path: BString,
        /// Why.
        failure: StepFailure,
    },
    /// A mount point was taken away.
    Removed {
        /// Absolute path.
        path: BString,
    },
    /// A server that was believed alive does not answer.
    ServerDied {
        /// Its name, as the map has it.
        server: BString,
        /// What was said.
        why: Arc<str>,
        /// Absolute paths of what is mounted from it.
        mounts: Vec<BString>,
    },
    /// A server that was believed dead answers.
    ServerBack {
        /// Its name, as the map has it.
        server: BString,
        /// For how many milliseconds it was believed dead.
        dead_ms: u64,
    },
    /// What a map says amiss, found while an entry was used.
    Diagnosed(Diagnostic),
}
