//! A front end in memory: for tests of what lies behind it.

use std::collections::{BTreeMap, VecDeque};
use std::io;
use std::os::fd::BorrowedFd;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bstr::{BStr, BString};
use piton_engine::cause::Errno;
use piton_map::requester::Requester;
use piton_mount::perform::{Failure, Triggers};
use piton_plan::step::{TriggerId, TriggerKind, TriggerSpec};

use crate::front_end::{Capabilities, FrontEnd, Incoming};
use crate::survey::Survey;
use crate::ticket::{Answering, Ticket};

/// What a simulated process got: nothing yet, ready, or an errno.
pub type SimAnswer = Arc<Mutex<Option<Result<(), Errno>>>>;

/// Triggers and requests in memory.
#[derive(Default)]
pub struct SimFrontEnd {
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    triggers: BTreeMap<TriggerId, TriggerSpec>,
    queue: VecDeque<Incoming>,
    listed: BTreeMap<TriggerId, Arc<[BString]>>,
}

impl SimFrontEnd {
    /// A process touches `path`; returns where its answer will stand, or nothing when no
    /// trigger covers the path.
    pub fn touch(&self, path: &BStr, requester: Requester) -> Option<SimAnswer> {
        let mut state = self.lock();
        let (trigger, key) = state.owner(path)?;
        let (ticket, answer) = sim_ticket();
        state.queue.push_back(Incoming::Access {
            trigger,
            key,
            requester,
            ticket,
        });
        Some(answer)
    }

    /// The kernel's part in expiry: asks for `key` of `trigger` to be unmounted.
    pub fn ask_expire(&self, trigger: TriggerId, key: BString) -> SimAnswer {
        let (ticket, answer) = sim_ticket();
        self.lock().queue.push_back(Incoming::Expire {
            trigger,
            key,
            ticket,
        });
        answer
    }

    /// The triggers that are in place, by path.
    pub fn triggers(&self) -> Vec<TriggerSpec> {
        self.lock().triggers.values().cloned().collect()
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    /// The trigger that answers for `path`: the deepest that stands at it or, for indirect
    /// ones, directly above it.
    fn owner(&self, path: &BStr) -> Option<(TriggerId, BString)> {
        self.triggers
            .values()
            .filter_map(|spec| {
                if spec.path == *path {
                    let own = spec.kind != TriggerKind::Indirect;
                    return own.then(|| (spec.path.len(), spec.id, BString::default()));
                }
                let key = path.strip_prefix(&spec.path[..])?.strip_prefix(b"/")?;
                let key = key.split(|byte| *byte == b'/').next()?;
                let indirect = spec.kind == TriggerKind::Indirect && !key.is_empty();
                indirect.then(|| (spec.path.len(), spec.id, key.into()))
            })
            .max_by_key(|(depth, _, _)| *depth)
            .map(|(_, id, key)| (id, key))
    }
}

fn sim_ticket() -> (Ticket, SimAnswer) {
    let answer = SimAnswer::default();
    (Ticket::new(Recorder(answer.clone())), answer)
}

struct Recorder(SimAnswer);

impl Recorder {
    fn record(&self, result: Result<(), Errno>) {
        let mut answer = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        assert!(answer.is_none(), "a ticket was answered twice");
        *answer = Some(result);
    }
}

impl Answering for Recorder {
    fn ready(&mut self) {
        self.record(Ok(()));
    }

    fn fail(&mut self, errno: Errno) {
        self.record(Err(errno));
    }
}

impl Triggers for SimFrontEnd {
    fn install(&self, spec: &TriggerSpec) -> Result<(), Failure> {
        self.lock().triggers.insert(spec.id, spec.clone());
        Ok(())
    }

    fn remove(&self, spec: &TriggerSpec) -> Result<(), Failure> {
        self.lock().triggers.remove(&spec.id);
        Ok(())
    }
}

impl FrontEnd for SimFrontEnd {
    fn capabilities(&self) -> Capabilities {
        Capabilities {
            in_place: true,
            key_timeouts: true,
            strict_expire: true,
            requesters: true,
        }
    }

    fn readable(&self) -> Option<BorrowedFd<'_>> {
        None
    }

    fn next(&self) -> io::Result<Option<Incoming>> {
        Ok(self.lock().queue.pop_front())
    }

    fn survey(&self, _wanted: &[(BString, TriggerKind)]) -> Survey {
        Survey::default()
    }

    fn adopt(&self, spec: &TriggerSpec) -> Result<(), Failure> {
        self.install(spec)
    }

    fn list(&self, trigger: TriggerId, keys: &Arc<[BString]>) {
        self.lock().listed.insert(trigger, keys.clone());
    }

    fn set_timeout(
        &self,
        trigger: TriggerId,
        key: Option<&BStr>,
        seconds: u32,
    ) -> Result<(), Failure> {
        if key.is_none()
            && let Some(spec) = self.lock().triggers.get_mut(&trigger)
        {
            spec.timeout = seconds;
        }
        Ok(())
    }

    fn expire(&self, _trigger: TriggerId, _immediate: bool) {}

    fn detach(&self) {
        self.lock().queue.clear();
    }
}
