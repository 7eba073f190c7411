//! Expiry: when the kernel is asked for idle mounts.

use alloc::collections::BTreeSet;
use alloc::sync::Arc;
use alloc::vec::Vec;

use bstr::{BString, ByteSlice};
use piton_plan::step::TriggerId;

use crate::command::{Command, Response};
use crate::engine::Engine;
use crate::event::RequestId;
use crate::limits::{EXPIRE_PAUSE_LEAST_MS, EXPIRE_PAUSE_MOST_MS};
use crate::place::Place;
use crate::tree::How;
use crate::trigger::Round;

/// An operator's request to expire now, until the kernel was asked everywhere.
#[derive(Debug)]
pub(crate) struct ExpireRequest {
    id: RequestId,
    path: Option<BString>,
    waiting: BTreeSet<TriggerId>,
}

impl<T> Engine<T> {
    /// Plans the next expiry round of a trigger in which something is mounted.
    pub(crate) fn plan_round(&mut self, id: TriggerId) {
        let now = self.now;
        let Some(trigger) = self.triggers.get_mut(&id) else {
            return;
        };
        if trigger.round != Round::None || (trigger.least_timeout == 0 && !trigger.leaving()) {
            return;
        }
        let pause = (u64::from(trigger.least_timeout) * 1_000 / 4)
            .clamp(EXPIRE_PAUSE_LEAST_MS, EXPIRE_PAUSE_MOST_MS);
        let at = now + pause;
        trigger.round = Round::Due(at);
        self.rounds.insert((at, id));
    }

    /// It is time to look at a trigger.
    pub(crate) fn round(&mut self, id: TriggerId) {
        let Some(trigger) = self.triggers.get_mut(&id) else {
            return;
        };
        trigger.round = Round::None;
        if trigger.leaving() {
            self.empty_out(id);
            self.advance_leaving(id);
            return self.plan_round(id);
        }
        if self.trees_of(id).next().is_none() {
            return;
        }
        self.expire_submounts(id, false);
        self.ask_kernel(id, false);
    }

    fn ask_kernel(&mut self, id: TriggerId, immediate: bool) {
        let Some(trigger) = self.triggers.get_mut(&id) else {
            return;
        };
        if let Round::Due(at) = trigger.round {
            self.rounds.remove(&(at, id));
        }
        trigger.round = Round::Asked;
        self.out.push(Command::Expire {
            trigger: id,
            immediate,
        });
    }

    /// The kernel does not expire an indirect map's directory that stands inside another
    /// (`fstype=autofs`): that is ours to do, when nothing in it was touched for its time.
    fn expire_submounts(&mut self, id: TriggerId, immediate: bool) {
        let now = self.now;
        let idle: Vec<Place> = self
            .trees_of(id)
            .filter(|(_, tree)| match tree.how {
                How::Submount(below) => {
                    let Some(inner) = self.triggers.get(&below) else {
                        return true;
                    };
                    let timeout = u64::from(inner.spec.timeout) * 1_000;
                    let used = inner.last_used.max(tree.since);
                    let due = immediate || (timeout > 0 && now.since(used) >= timeout);
                    due && self.is_empty(below)
                }
                _ => false,
            })
            .map(|(place, _)| place.clone())
            .collect();
        for place in idle {
            let deadline = now + self.settings.unmount_deadline_ms;
            self.take_down(&place, None, deadline, None);
        }
    }

    /// The kernel has nothing more to expire in a trigger.
    pub(crate) fn expire_done(&mut self, id: TriggerId) {
        if let Some(trigger) = self.triggers.get_mut(&id)
            && trigger.round == Round::Asked
        {
            trigger.round = Round::None;
            if self.trees_of(id).next().is_some() {
                self.plan_round(id);
            }
        }
        let mut ended = Vec::new();
        for request in &mut self.expire_requests {
            request.waiting.remove(&id);
        }
        self.expire_requests.retain(|request| {
            let over = request.waiting.is_empty();
            if over {
                ended.push((request.id, request.path.clone()));
            }
            !over
        });
        for (id, path) in ended {
            self.respond_expired(id, path.as_ref());
        }
    }

    /// An operator wants idle mounts gone now.
    pub(crate) fn expire_request(&mut self, id: RequestId, path: Option<BString>) {
        self.negative.clear();
        let mut triggers: Vec<(BString, TriggerId)> = self
            .trees
            .iter()
            .filter(|(_, tree)| covers(path.as_ref(), &tree.target))
            .filter_map(|(place, _)| {
                let trigger = self.triggers.get(&place.trigger)?;
                Some((trigger.spec.path.clone(), place.trigger))
            })
            .collect();
        if triggers.is_empty() {
            return self.respond_expired(id, path.as_ref());
        }
        triggers.sort();
        triggers.dedup();
        let waiting = triggers.iter().map(|(_, trigger)| *trigger).collect();
        self.expire_requests
            .push(ExpireRequest { id, path, waiting });
        // Deepest first: what is below must go before what it stands on.
        for (_, trigger) in triggers.into_iter().rev() {
            self.expire_submounts(trigger, true);
            self.ask_kernel(trigger, true);
        }
    }

    fn respond_expired(&mut self, id: RequestId, path: Option<&BString>) {
        let left = self
            .trees
            .values()
            .filter(|tree| covers(path, &tree.target))
            .map(|tree| {
                let why: Arc<str> = tree.busy.clone().unwrap_or_else(|| "in use".into());
                (tree.target.clone(), why)
            })
            .collect();
        self.out.push(Command::Respond {
            id,
            response: Response::Done { left },
        });
    }

    /// Gives one key (or a direct trigger) its own idle time.
    pub(crate) fn set_key_timeout(&mut self, id: TriggerId, key: Option<BString>, seconds: u32) {
        let Some(trigger) = self.triggers.get_mut(&id) else {
            return;
        };
        if seconds > 0 && (trigger.least_timeout == 0 || seconds < trigger.least_timeout) {
            trigger.least_timeout = seconds;
            if let Round::Due(at) = trigger.round {
                self.rounds.remove(&(at, id));
                trigger.round = Round::None;
            }
        }
        self.out.push(Command::SetTimeout {
            trigger: id,
            key,
            seconds,
        });
    }
}

/// Whether `path` is `target` or lies above it; no path covers all.
fn covers(path: Option<&BString>, target: &BString) -> bool {
    let Some(path) = path else { return true };
    match target.strip_prefix(path.as_bytes()) {
        Some(rest) => rest.is_empty() || rest[0] == b'/' || path.as_bytes() == b"/",
        None => false,
    }
}
