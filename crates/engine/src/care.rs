//! What operators ask for a time: servers that are avoided, and paths that stay as they are.

use alloc::collections::BTreeMap;
use alloc::format;
use alloc::sync::Arc;
use alloc::vec::Vec;

use bstr::BString;
use piton_path::are_related;

use crate::cause::Cause;
use crate::command::{Command, Response};
use crate::engine::Engine;
use crate::event::{JobId, RequestId};
use crate::limits::{DRAINED_SERVERS, OPERATOR_REQUESTS, PINS};
use crate::place::Place;
use crate::time::Millis;

/// A server that new accesses avoid.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Drain {
    /// What can move is moved at once, used or not.
    pub(crate) now: bool,
    /// When it ends by itself.
    pub(crate) until: Option<Millis>,
}

/// Servers and paths that an operator spoke of.
#[derive(Debug, Default)]
pub(crate) struct Care {
    pub(crate) drained: BTreeMap<BString, Drain>,
    /// Servers that were drained, and when that ended.
    freed: BTreeMap<BString, Millis>,
    /// Until when which path stays as it is.
    pub(crate) pins: BTreeMap<BString, Millis>,
}

/// An operator who wants to know what is left of a server that he drains.
#[derive(Debug)]
pub(crate) struct DrainRequest {
    id: RequestId,
    server: BString,
    /// What moves for it.
    jobs: Vec<JobId>,
}

impl Care {
    pub(crate) fn is_drained(&self, host: &BString) -> bool {
        self.drained.contains_key(host)
    }

    /// When the drain of a server ended, if it was drained.
    pub(crate) fn freed(&self, host: &BString) -> Option<Millis> {
        self.freed.get(host).copied()
    }

    /// Until when a path is to stay as it is, because it is pinned, or one above or below it is.
    pub(crate) fn pinned(&self, path: &BString) -> Option<Millis> {
        let near = |pin: &BString| are_related(pin, path);
        let pins = self.pins.iter().filter(|(pin, _)| near(pin));
        pins.map(|(_, until)| *until).max()
    }

    fn free(&mut self, host: &BString, now: Millis) -> bool {
        if self.drained.remove(host).is_none() {
            return false;
        }
        if self.freed.len() >= DRAINED_SERVERS
            && let Some(first) = self.freed.iter().min_by_key(|(_, at)| **at)
        {
            let first = first.0.clone();
            self.freed.remove(&first);
        }
        self.freed.insert(host.clone(), now);
        true
    }

    /// When the next of it ends by itself.
    pub(crate) fn next_end(&self) -> Option<Millis> {
        let drains = self.drained.values().filter_map(|drain| drain.until);
        drains.chain(self.pins.values().copied()).min()
    }
}

impl<T> Engine<T> {
    /// Ends what has come to its end.
    pub(crate) fn end_care(&mut self) {
        let now = self.now;
        if self.care.next_end().is_none_or(|end| end > now) {
            return;
        }
        self.care.pins.retain(|_, until| *until > now);
        let over = |drain: &Drain| drain.until.is_some_and(|until| until <= now);
        let drained = self.care.drained.iter();
        let ended: Vec<BString> = drained
            .filter(|(_, drain)| over(drain))
            .map(|(host, _)| host.clone())
            .collect();
        for host in ended {
            self.care.free(&host, now);
        }
        self.look_at_replicas(now);
    }

    /// An operator wants a server to be avoided.
    pub(crate) fn drain(
        &mut self,
        id: RequestId,
        server: BString,
        now: bool,
        until: Option<Millis>,
    ) {
        let drained = &mut self.care.drained;
        let room = drained.len() < DRAINED_SERVERS || drained.contains_key(&server);
        if !room || self.drain_requests.len() >= OPERATOR_REQUESTS {
            let why: Arc<str> = "too many servers are drained".into();
            let left = alloc::vec![(server, why)];
            return self.out.push(Command::Respond {
                id,
                response: Response::Done { left },
            });
        }
        drained.insert(server.clone(), Drain { now, until });
        self.care.freed.remove(&server);
        let jobs = self.move_away(&server);
        self.drain_requests.push(DrainRequest { id, server, jobs });
    }

    /// Answers operators once all that could move at once has.
    pub(crate) fn advance_drain_requests(&mut self) {
        let mut at = 0;
        while let Some(request) = self.drain_requests.get(at) {
            if request.jobs.iter().any(|id| self.jobs.contains_key(id)) {
                at += 1;
                continue;
            }
            let request = self.drain_requests.swap_remove(at);
            self.respond_drained(&request);
        }
    }

    /// Answers all who still wait: the end has come.
    pub(crate) fn end_drain_requests(&mut self) {
        for request in core::mem::take(&mut self.drain_requests) {
            self.respond_drained(&request);
        }
    }

    fn respond_drained(&mut self, request: &DrainRequest) {
        let from = |tree: &&crate::tree::Tree| tree.host() == Some(&request.server);
        let mounted = self.trees.iter().filter(|(_, tree)| from(tree));
        let left = mounted
            .map(|(_, tree)| (tree.target.clone(), self.why_it_stays(tree)))
            .collect();
        self.out.push(Command::Respond {
            id: request.id,
            response: Response::Done { left },
        });
    }

    /// An operator lets a server be used again.
    pub(crate) fn undrain(&mut self, id: RequestId, server: &BString) {
        let was = self.care.free(server, self.now);
        if was {
            self.look_at_replicas(self.now);
        }
        self.respond_if(id, was);
    }

    /// An operator wants what is mounted at or below a path to stay as it is.
    pub(crate) fn pin(&mut self, id: RequestId, path: BString, until: Millis) {
        let ours = |point: &BString| are_related(point, &path);
        let pins = &self.care.pins;
        let room = pins.len() < PINS || pins.contains_key(&path);
        let pinned = room && until > self.now && self.points.keys().any(ours);
        if pinned {
            self.care.pins.insert(path, until);
        }
        self.respond_if(id, pinned);
    }

    /// An operator lets a path go its way again.
    pub(crate) fn unpin(&mut self, id: RequestId, path: &BString) {
        let was = self.care.pins.remove(path).is_some();
        if was {
            self.look_at_replicas(self.now);
        }
        self.respond_if(id, was);
    }

    fn respond_if(&mut self, id: RequestId, done: bool) {
        let response = match done {
            true => Response::Done { left: Vec::new() },
            false => Response::NoSuchPlace,
        };
        self.out.push(Command::Respond { id, response });
    }

    /// Why what is mounted at a place is not to be expired now, if an operator pinned it.
    pub(crate) fn pinned(&self, place: &Place) -> Option<Cause> {
        if self.care.pins.is_empty() {
            return None;
        }
        self.why_pinned(&self.trees.get(place)?.target)
            .map(Cause::Busy)
    }

    /// The same in words, of what is mounted at a path.
    pub(crate) fn why_pinned(&self, target: &BString) -> Option<Arc<str>> {
        let until = self.care.pinned(target)?;
        let seconds = until.since(self.now).div_ceil(1_000);
        Some(format!("it is pinned for another {seconds} s").into())
    }
}
