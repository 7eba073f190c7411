//! Requests on their way to the engine: read from the front end, or left by an earlier life.

use std::sync::Arc;

use bstr::{BString, ByteSlice};
use piton_engine::Event;
use piton_engine::cause::Errno;
use piton_frontend::{Incoming, Ticket};
use piton_map::requester::{Program, Requester};
use piton_plan::step::TriggerId;
use piton_process::about;

use super::runtime::{Earlier, Runtime};
use super::tasks;
use super::trace;

impl Runtime {
    /// Takes the requests that have come, if all is there that they may be about.
    pub(super) fn read_requests(&mut self) -> std::io::Result<()> {
        if !self.unread || self.earlier != Earlier::Over {
            return Ok(());
        }
        self.unread = false;
        while let Some(incoming) = self.front_end.next()? {
            self.take_request(incoming);
        }
        Ok(())
    }

    fn take_request(&mut self, incoming: Incoming) {
        match incoming {
            Incoming::Expire {
                trigger,
                key,
                ticket,
            } if !self.engine.is_mounted(trigger, &key) => {
                self.expire_nothing(trigger, &key, ticket);
            }
            incoming => {
                let event = self.event_of(incoming);
                self.events.push_back(event);
                self.work();
            }
        }
    }

    fn event_of(&mut self, incoming: Incoming) -> Event<Ticket> {
        match incoming {
            Incoming::Access {
                trigger,
                key,
                mut requester,
                waited_ms,
                ticket,
            } => {
                requester.sighting = self.sightings.meet(requester.pid);
                if self.engine.asks_program(trigger) {
                    requester.program = program(requester.pid);
                }
                let tag = self.trace(trace::Kind::Access, trigger, &key, &requester);
                Event::Access {
                    trigger,
                    key,
                    requester,
                    waited_ms,
                    ticket: ticket.tagged(tag),
                }
            }
            Incoming::Exists {
                trigger,
                key,
                requester,
                ticket,
            } => {
                let tag = self.trace(trace::Kind::Exists, trigger, &key, &requester);
                Event::ExistsAsked {
                    trigger,
                    key,
                    requester,
                    ticket: ticket.tagged(tag),
                }
            }
            Incoming::Expire {
                trigger,
                key,
                ticket,
            } => {
                let nobody = Requester::default();
                let tag = self.trace(trace::Kind::Expire, trigger, &key, &nobody);
                Event::ExpireAsked {
                    trigger,
                    key,
                    ticket: ticket.tagged(tag),
                }
            }
        }
    }

    fn trace(
        &mut self,
        kind: trace::Kind,
        trigger: TriggerId,
        key: &BString,
        requester: &Requester,
    ) -> u32 {
        let path = self.engine.path_of_trigger(trigger);
        let path = path.map(|path| path.as_bstr()).unwrap_or_default();
        self.tracer.arrived(kind, path, key.as_bstr(), requester)
    }

    /// The kernel waits for something to be unmounted that the engine does not know: an earlier
    /// life has unmounted it and could not say so. Whoever accesses it now may wait for this answer
    /// and would get its errno; READY without a directory would be ENOENT too.
    fn expire_nothing(&self, trigger: TriggerId, key: &BString, ticket: Ticket) {
        let Some(mut path) = self.engine.path_of_trigger(trigger).cloned() else {
            return ticket.fail(Errno::NOENT);
        };
        if !key.is_empty() {
            path.push(b'/');
            path.extend_from_slice(key);
        }
        let front_end = self.front_end.clone();
        self.pools.quick.submit(move || {
            if tasks::is_anything_within(path.as_bstr()) {
                return ticket.fail(Errno::BUSY);
            }
            if let Some(Err(failure)) = front_end.make_directory(path.as_bstr()) {
                tracing::debug!(%path, why = failure.text, "no directory for those who wait");
            }
            ticket.ready();
        });
    }

    /// Goes on where an earlier life ended: what it left is known to the engine by now.
    pub(super) fn resume(&mut self) {
        self.earlier = Earlier::Over;
        let resumed = self.front_end.resume();
        for (trigger, key, mark) in resumed.marks {
            let place = (trigger, key);
            if self.marks.contains_key(&place) {
                // Work has begun there anew, with a mark of its own.
                mark.end();
                continue;
            }
            self.marks.insert(place.clone(), mark);
            self.unmark(&place);
        }
        for incoming in resumed.incoming {
            self.take_request(incoming);
        }
    }
}

/// Which program a process runs, as its map's filter wants to know. Reading that never blocks.
fn program(pid: u32) -> Option<Arc<Program>> {
    let name = about::name(pid)?;
    let cgroup = about::cgroup(pid);
    Some(Arc::new(Program { name, cgroup }))
}
