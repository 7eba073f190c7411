//! Expiry: when the kernel is asked for idle mounts.

use alloc::collections::BTreeSet;
use alloc::vec::Vec;
use core::{iter, mem};

use bstr::BString;
use piton_plan::step::{TriggerId, TriggerKind};

use crate::command::{Command, Response};
use crate::engine::Engine;
use crate::event::{JobId, RequestId};
use crate::limits::{
    EXPIRE_PAUSE_LEAST_MS, EXPIRE_PAUSE_MOST_MS, OPERATOR_REQUESTS, PRESSING_PAUSE_MS,
};
use crate::place::Place;
use crate::tree::How;
use crate::trigger::Round;
use crate::unmounting::Wish;

/// An operator's request to expire now, until the kernel was asked everywhere: the deepest
/// triggers first, and those above when all below was tried, so that whole trees go.
#[derive(Debug)]
pub(crate) struct ExpireRequest {
    id: RequestId,
    path: Option<BString>,
    /// How deep the triggers lie that are being asked.
    depth: usize,
    /// Triggers in which the kernel still looks.
    waiting: BTreeSet<TriggerId>,
    /// What we ourselves take down for it.
    jobs: Vec<JobId>,
}

impl<T> Engine<T> {
    /// Plans the next expiry round of a trigger in which something is mounted, or which is on
    /// its way out.
    pub(crate) fn plan_round(&mut self, id: TriggerId) {
        let now = self.now;
        let Some(trigger) = self.triggers.get(&id) else {
            return;
        };
        if trigger.round != Round::None || self.is_part(id) {
            return;
        }
        let pressing = trigger.leaving() || self.trees_of(id).any(|it| it.1.must_go());
        if trigger.least_timeout == 0 && !pressing {
            return;
        }
        let most = match pressing {
            true => PRESSING_PAUSE_MS,
            false => EXPIRE_PAUSE_MOST_MS,
        };
        let usual = u64::from(trigger.least_timeout) * 1_000 / 4;
        let wanted = self.settings.unmount_pause_ms.unwrap_or(usual);
        let pause = wanted.clamp(EXPIRE_PAUSE_LEAST_MS, most);
        let at = now + pause;
        if let Some(trigger) = self.triggers.get_mut(&id) {
            trigger.round = Round::Due(at);
            self.rounds.insert((at, id));
        }
    }

    /// Plans the next round anew: something in the trigger must go soon.
    pub(crate) fn replan_round(&mut self, id: TriggerId) {
        if let Some(trigger) = self.triggers.get_mut(&id)
            && let Round::Due(at) = trigger.round
        {
            self.rounds.remove(&(at, id));
            trigger.round = Round::None;
        }
        self.plan_round(id);
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
        // All goes anyway, and what the kernel looks at is busy.
        if self.clears_up() {
            return self.plan_round(id);
        }
        self.renew_least_timeout(id);
        self.take_down_broken(id);
        self.expire_submounts(id, false);
        self.ask_kernel(id, false);
    }

    fn take_down_broken(&mut self, id: TriggerId) {
        let broken: Vec<Place> = self
            .trees_of(id)
            .filter(|(_, tree)| tree.must_go())
            .map(|(place, _)| place.clone())
            .collect();
        for place in broken {
            self.take_down(&place, Wish::default());
        }
    }

    fn ask_kernel(&mut self, id: TriggerId, immediate: bool) {
        let Some(trigger) = self.triggers.get_mut(&id) else {
            return;
        };
        let asked = match trigger.round {
            Round::Asked(asked) => asked,
            Round::Due(at) => {
                self.rounds.remove(&(at, id));
                0
            }
            Round::None => 0,
        };
        trigger.round = Round::Asked(asked.saturating_add(1));
        self.out.push(Command::Expire {
            trigger: id,
            immediate,
        });
    }

    /// The kernel does not expire an indirect map's directory that stands inside another
    /// (`fstype=autofs`): that is ours to do, when nothing in it was touched for its time.
    fn expire_submounts(&mut self, id: TriggerId, immediate: bool) -> Vec<JobId> {
        let now = self.now;
        let idle: Vec<Place> = self
            .trees_of(id)
            .filter(|(place, _)| self.pinned(place).is_none())
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
                How::Mount { .. } | How::Symlink { .. } | How::Directory => false,
            })
            .map(|(place, _)| place.clone())
            .collect();
        idle.iter()
            .filter_map(|place| self.take_down(place, Wish::default()))
            .collect()
    }

    /// The kernel has nothing more to expire in a trigger.
    pub(crate) fn expire_done(&mut self, id: TriggerId) {
        let mut over = true;
        if let Some(trigger) = self.triggers.get_mut(&id)
            && let Round::Asked(asked) = trigger.round
        {
            over = asked <= 1;
            trigger.round = match over {
                true => Round::None,
                false => Round::Asked(asked - 1),
            };
            let leaving = trigger.leaving();
            if over && (leaving || self.trees_of(id).next().is_some()) {
                self.plan_round(id);
            }
        }
        if over {
            for request in &mut self.expire_requests {
                request.waiting.remove(&id);
            }
        }
    }

    /// An operator wants idle mounts gone now.
    pub(crate) fn expire_request(&mut self, id: RequestId, path: Option<BString>) {
        let triggers = self.triggers_under(path.as_ref());
        let full = self.expire_requests.len() >= OPERATOR_REQUESTS;
        if triggers.is_empty() || full || self.clears_up() {
            return self.respond_expired(id, path.as_ref());
        }
        let depth = triggers.iter().map(|it| self.depth(*it)).max();
        let request = ExpireRequest {
            id,
            path,
            depth: depth.unwrap_or(0),
            waiting: BTreeSet::new(),
            jobs: Vec::new(),
        };
        let request = self.ask_level(request);
        self.expire_requests.push(request);
    }

    /// Has the triggers of the request's depth looked at.
    fn ask_level(&mut self, mut request: ExpireRequest) -> ExpireRequest {
        for trigger in self.triggers_under(request.path.as_ref()) {
            if self.depth(trigger) == request.depth {
                if let Some(places) = self.only_keys(trigger, request.path.as_ref()) {
                    let begin = |place: &Place| self.take_down(place, Wish::default());
                    request.jobs.extend(places.iter().filter_map(begin));
                    continue;
                }
                request.jobs.extend(self.expire_submounts(trigger, true));
                request.waiting.insert(trigger);
                self.ask_kernel(trigger, true);
            }
        }
        request
    }

    /// The keys that are meant, where not all of a trigger is. The kernel has no way to ask for
    /// one key: it is unmounted by us, which fails just as well while it is in use.
    fn only_keys(&self, id: TriggerId, path: Option<&BString>) -> Option<Vec<Place>> {
        let trigger = self.triggers.get(&id)?;
        if trigger.spec.kind != TriggerKind::Indirect || covers(path, &trigger.spec.path) {
            return None;
        }
        let meant = self
            .trees_of(id)
            .filter(|(place, tree)| covers(path, &tree.target) && self.pinned(place).is_none());
        Some(meant.map(|(place, _)| place.clone()).collect())
    }

    /// How many entries a trigger stands in, one inside the other.
    fn depth(&self, id: TriggerId) -> usize {
        let owner = |id: &TriggerId| Some(self.triggers.get(id)?.owner()?.trigger);
        iter::successors(owner(&id), owner).count()
    }

    /// The triggers in which something is mounted at or below `path`.
    fn triggers_under(&self, path: Option<&BString>) -> BTreeSet<TriggerId> {
        let under = self.trees.iter();
        under
            .filter(|(_, tree)| covers(path, &tree.target))
            .map(|(place, _)| place.trigger)
            .collect()
    }

    /// Goes on to the next higher triggers, and answers operators once all that they asked for
    /// was tried.
    pub(crate) fn advance_expire_requests(&mut self) {
        let mut at = 0;
        while let Some(request) = self.expire_requests.get(at) {
            let tried = |id| !self.jobs.contains_key(id);
            if !request.waiting.is_empty() || !request.jobs.iter().all(tried) {
                at += 1;
                continue;
            }
            let mut request = self.expire_requests.swap_remove(at);
            if request.depth == 0 || !self.running() {
                self.respond_expired(request.id, request.path.as_ref());
                continue;
            }
            request.depth -= 1;
            request.jobs.clear();
            let request = self.ask_level(request);
            self.expire_requests.push(request);
        }
    }

    /// Answers all operators who still wait: the end has come.
    pub(crate) fn end_expire_requests(&mut self) {
        for request in mem::take(&mut self.expire_requests) {
            self.respond_expired(request.id, request.path.as_ref());
        }
    }

    fn respond_expired(&mut self, id: RequestId, path: Option<&BString>) {
        let left = self
            .trees
            .values()
            .filter(|tree| covers(path, &tree.target))
            .map(|tree| {
                // What is pinned was not even tried.
                let why = self.why_pinned(&tree.target).or_else(|| tree.why_busy());
                (tree.target.clone(), why.unwrap_or_else(|| "in use".into()))
            })
            .collect();
        self.out.push(Command::Respond {
            id,
            response: Response::Done { left },
        });
    }

    /// Gives one key (or a direct trigger) its own idle time.
    pub(crate) fn set_key_timeout(&mut self, id: TriggerId, key: Option<BString>, seconds: u32) {
        let least = self.triggers.get(&id).map_or(0, |it| it.least_timeout);
        if seconds > 0 && (least == 0 || seconds < least) {
            self.look_every(id, seconds);
        }
        self.out.push(Command::SetTimeout {
            trigger: id,
            key,
            seconds,
        });
    }

    /// Works out how often a trigger must be looked at: by the smallest idle time in it.
    pub(crate) fn renew_least_timeout(&mut self, id: TriggerId) {
        let own = self.triggers.get(&id).map(|trigger| trigger.spec.timeout);
        let of_keys = self.trees_of(id).filter_map(|(_, tree)| tree.timeout);
        let least = own.into_iter().chain(of_keys).filter(|it| *it > 0).min();
        self.look_every(id, least.unwrap_or(0));
    }

    fn look_every(&mut self, id: TriggerId, least: u32) {
        let Some(trigger) = self.triggers.get_mut(&id) else {
            return;
        };
        if trigger.least_timeout == least {
            return;
        }
        trigger.least_timeout = least;
        let round = trigger.round;
        match round {
            Round::Due(_) => self.replan_round(id),
            // What was never to expire is, now.
            Round::None if self.trees_of(id).next().is_some() => self.plan_round(id),
            Round::None | Round::Asked(_) => {}
        }
    }
}

/// Whether `path` is `target` or lies above it; no path covers all.
pub(crate) fn covers(path: Option<&BString>, target: &BString) -> bool {
    path.is_none_or(|path| piton_path::is_within(target, path))
}
