//! A front end in memory: for tests of what lies behind it.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::io;
use std::os::fd::BorrowedFd;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bstr::{BStr, BString};
use piton_engine::cause::Errno;
use piton_engine::event::Existing;
use piton_map::requester::Requester;
use piton_mount::perform::{Failure, Triggers};
use piton_plan::step::{TriggerId, TriggerKind, TriggerSpec};

use crate::capabilities::{Capabilities, SIMULATED};
use crate::front_end::{FrontEnd, Incoming, Resumed};
use crate::mark::Mark;
use crate::survey::{Stray, Survey};
use crate::ticket::{Answering, Ticket};

/// What a simulated process got: nothing yet, ready, or an errno.
pub type SimAnswer = Arc<Mutex<Option<Result<(), Errno>>>>;

/// Triggers and requests in memory.
///
/// Copies are the same front end: what lies behind one may die, and go on with another
/// ([`SimFrontEnd::crash`]).
#[derive(Clone, Default)]
pub struct SimFrontEnd(Arc<Mutex<State>>);

#[derive(Default)]
struct State {
    triggers: BTreeMap<TriggerId, TriggerSpec>,
    /// Not read yet.
    queue: VecDeque<Asked>,
    /// Read, not answered.
    open: BTreeMap<u64, Asked>,
    /// Marked work: the path of the trigger, and the key.
    marks: BTreeSet<(BString, BString)>,
    listed: BTreeMap<TriggerId, Arc<[BString]>>,
    /// How often the daemon has died.
    deaths: u64,
    next: u64,
}

/// A request, by what outlives the daemon's numbers.
#[derive(Clone)]
struct Asked {
    path: BString,
    key: BString,
    requester: Requester,
    expire: bool,
    waited_ms: u64,
    answer: SimAnswer,
}

impl SimFrontEnd {
    /// A process touches `path`; returns where its answer will stand, or nothing when no
    /// trigger covers the path.
    pub fn touch(&self, path: &BStr, requester: Requester) -> Option<SimAnswer> {
        let mut state = self.lock();
        let (trigger, key) = state.owner(path)?;
        Some(state.ask(trigger, key, requester, false))
    }

    /// The kernel's part in expiry: asks for `key` of `trigger` to be unmounted.
    pub fn ask_expire(&self, trigger: TriggerId, key: BString) -> SimAnswer {
        self.lock().ask(trigger, key, Requester::default(), true)
    }

    /// The keys that the trigger at a path shows.
    pub fn listed(&self, path: &BStr) -> Arc<[BString]> {
        let state = self.lock();
        let trigger = state.at(path);
        let listed = trigger.and_then(|trigger| state.listed.get(&trigger).cloned());
        listed.unwrap_or_default()
    }

    /// The triggers that are in place, by path.
    pub fn triggers(&self) -> Vec<TriggerSpec> {
        self.lock().triggers.values().cloned().collect()
    }

    /// The daemon dies, and a successor begins after so many milliseconds: tickets that were given
    /// out answer nobody any more, triggers and marks stay, and what was not answered can be
    /// resumed.
    pub fn crash(&self, after_ms: u64) {
        let mut state = self.lock();
        state.deaths += 1;
        let waiting = state.open.values_mut();
        waiting.for_each(|asked| asked.waited_ms += after_ms);
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Gives a request out. Nothing if its trigger is gone: then it is answered.
    fn give(&self, asked: Asked) -> Option<Incoming> {
        let mut state = self.lock();
        let Some(trigger) = state.at(asked.path.as_ref()) else {
            record(&asked.answer, Err(Errno::NOENT));
            return None;
        };
        let number = state.next;
        state.next += 1;
        let ticket = Ticket::new(Recorder {
            state: self.0.clone(),
            life: state.deaths,
            number,
        });
        state.open.insert(number, asked.clone());
        let Asked {
            key,
            requester,
            waited_ms,
            ..
        } = asked;
        Some(match asked.expire {
            true => Incoming::Expire {
                trigger,
                key,
                ticket,
            },
            false => Incoming::Access {
                trigger,
                key,
                requester,
                waited_ms,
                ticket,
            },
        })
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

    fn at(&self, path: &BStr) -> Option<TriggerId> {
        let here = self.triggers.values().find(|spec| spec.path == *path);
        here.map(|spec| spec.id)
    }

    fn ask(
        &mut self,
        trigger: TriggerId,
        key: BString,
        requester: Requester,
        expire: bool,
    ) -> SimAnswer {
        let answer = SimAnswer::default();
        let spec = self.triggers.get(&trigger);
        self.queue.push_back(Asked {
            path: spec.map(|spec| spec.path.clone()).unwrap_or_default(),
            key,
            requester,
            expire,
            waited_ms: 0,
            answer: answer.clone(),
        });
        answer
    }
}

struct Recorder {
    state: Arc<Mutex<State>>,
    /// In which life of the daemon the ticket was given out: the dead answer nobody.
    life: u64,
    number: u64,
}

impl Recorder {
    fn record(&self, result: Result<(), Errno>) {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        if state.deaths == self.life
            && let Some(asked) = state.open.remove(&self.number)
        {
            record(&asked.answer, result);
        }
    }
}

fn record(answer: &SimAnswer, result: Result<(), Errno>) {
    let mut answer = answer.lock().unwrap_or_else(PoisonError::into_inner);
    assert!(answer.is_none(), "a request was answered twice");
    *answer = Some(result);
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
        SIMULATED
    }

    fn readable(&self) -> Option<BorrowedFd<'_>> {
        None
    }

    fn next(&self) -> io::Result<Option<Incoming>> {
        loop {
            let asked = self.lock().queue.pop_front();
            let Some(asked) = asked else {
                return Ok(None);
            };
            if let Some(incoming) = self.give(asked) {
                return Ok(Some(incoming));
            }
        }
    }

    /// Knows of the triggers, not of what is mounted in them.
    fn survey(&self, wanted: &[(BString, TriggerKind)]) -> Survey {
        let state = self.lock();
        let mut survey = Survey::default();
        if state.deaths == 0 {
            return survey;
        }
        for spec in state.triggers.values() {
            let existing = Existing {
                kind: spec.kind,
                path: spec.path.clone(),
                mounted: Vec::new(),
            };
            if wanted.iter().any(|(path, _)| *path == spec.path) {
                survey.orphans.push(existing);
            } else {
                let source = spec.source.clone();
                survey.strays.push(Stray { existing, source });
            }
        }
        survey
    }

    fn adopt(&self, spec: &TriggerSpec) -> Result<(), Failure> {
        self.lock().triggers.retain(|_, old| old.path != spec.path);
        self.install(spec)
    }

    fn resume(&self) -> Resumed {
        let (open, marks) = {
            let mut state = self.lock();
            let open = std::mem::take(&mut state.open);
            (open, state.marks.clone())
        };
        let known = |(path, key): (BString, BString)| {
            let trigger = self.lock().at(path.as_ref())?;
            let mark = self.mark(trigger, key.as_ref())?;
            Some((trigger, key, mark))
        };
        Resumed {
            incoming: open.into_values().filter_map(|it| self.give(it)).collect(),
            marks: marks.into_iter().filter_map(known).collect(),
        }
    }

    fn mark(&self, trigger: TriggerId, key: &BStr) -> Option<Mark> {
        let mut state = self.lock();
        let spot = (state.triggers.get(&trigger)?.path.clone(), key.to_owned());
        state.marks.insert(spot.clone());
        let own = self.clone();
        Some(Mark::new(move || {
            own.lock().marks.remove(&spot);
        }))
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
        let mut state = self.lock();
        let queue = std::mem::take(&mut state.queue);
        for asked in queue {
            record(&asked.answer, Err(Errno::NOENT));
        }
    }
}
