//! What the engine has asked of sources, servers and the kernel: each question has its time, and
//! whoever answers it may hang.

use std::time::{Duration, Instant};

use bstr::{BStr, BString, ByteSlice};
use piton_engine::Event;
use piton_engine::event::JobId;
use piton_map::lookup::Miss;
use piton_mount::{Lane, Workers};
use piton_plan::facts::HostAnswers;
use piton_plan::probe::Target;

use super::limits::INSPECT_TIME;
use super::messages::Message;
use super::pool::Turn;
use super::runtime::Runtime;
use super::tasks::{self, Lookup};
use super::timers::Kind;
use crate::asking;

/// Time given to a task beyond what it was told, so that it can say itself what went wrong.
const GRACE_MS: u64 = 500;

impl Runtime {
    pub(super) fn fetch(&mut self, mut lookup: Lookup) {
        if let Some(event) = self.worker.lookup_cached(&lookup) {
            self.tracer.cached(lookup.job);
            return self.events.push_back(event);
        }
        let left = lookup.until.saturating_duration_since(Instant::now());
        let end = self.clock.now() + left.as_millis() as u64 + GRACE_MS;
        let number = self.outstanding.enter(lookup.job, Kind::Fetch, end);
        let (worker, mailbox) = (self.worker.clone(), self.mailbox.clone());
        let lane = tasks::lane_of(&lookup.binding, lookup.key.as_bstr());
        self.pools.slow.submit_in(lane, lookup.until, move |turn| {
            // What is too late is given up by the loop itself.
            if let Turn::Begin(_hold) = turn {
                let event = worker.lookup(&mut lookup);
                mailbox.post(Message::Task(number, event));
            }
        });
    }

    pub(super) fn resolve(&mut self, job: JobId, hosts: Vec<BString>, deadline_ms: u64) {
        let end = self.clock.now() + deadline_ms;
        let number = self.outstanding.enter(job, Kind::Resolve, end);
        let until = Instant::now() + Duration::from_millis(deadline_ms);
        let (resolver, mailbox) = (self.worker.resolver.clone(), self.mailbox.clone());
        self.pools.slow.submit_in(Lane::Names, until, move |turn| {
            if let Turn::Begin(_hold) = turn {
                let answers = asking::addresses(&resolver, &hosts, until);
                mailbox.post(Message::Task(number, Event::Resolved { job, answers }));
            }
        });
    }

    pub(super) fn probe(
        &mut self,
        job: JobId,
        targets: Vec<Target>,
        grace_ms: u64,
        deadline_ms: u64,
    ) {
        let end = self.clock.now() + deadline_ms + GRACE_MS;
        let number = self.outstanding.enter(job, Kind::Probe, end);
        let until = Instant::now() + Duration::from_millis(deadline_ms);
        let grace = Duration::from_millis(grace_ms);
        let (resolver, mailbox) = (self.worker.resolver.clone(), self.mailbox.clone());
        // Whoever else asks the same waits in the engine, so that a lane is nearly never full.
        let first = targets.first().map(|target| target.address.to_string());
        let lane = Lane::Server(first.unwrap_or_default().into());
        self.pools.slow.submit_in(lane, until, move |turn| {
            if let Turn::Begin(_hold) = turn {
                let answers = resolver.probe(&targets, grace, until);
                mailbox.post(Message::Task(number, Event::Probed { job, answers }));
            }
        });
    }

    pub(super) fn inspect(&mut self, job: JobId, target: BString, pid: u32) {
        let target = self.worker.staging.place(target.as_bstr());
        let workers = self.worker.workers.clone();
        let (worker, mailbox) = (self.worker.clone(), self.mailbox.clone());
        let slow = self.pools.slow.clone();
        self.pools.quick.submit(move || {
            let tell = move |target: &BStr, mounted: bool| {
                let hidden = mounted && worker.foreigners.includes(pid, target);
                mailbox.post(Message::Event(match hidden {
                    true => Event::Hidden { job },
                    false => Event::Inspected { job, mounted },
                }));
            };
            match Workers::inspect_at_once(target.as_bstr()) {
                Ok(mounted) => tell(target.as_bstr(), mounted),
                Err(lane) => {
                    let until = Instant::now() + INSPECT_TIME;
                    slow.submit_in(lane, until, move |turn| {
                        let mounted = match turn {
                            Turn::Begin(Some(hold)) => {
                                workers.inspect(target.as_bstr(), until, &hold)
                            }
                            Turn::Begin(None) | Turn::TooLate => false,
                        };
                        tell(target.as_bstr(), mounted);
                    });
                }
            }
        });
    }

    /// An answer is not waited for any longer: the engine is told that there is none.
    ///
    /// Only questions are given up. What changes the mount table is reported when it has really
    /// ended: the engine answers those who wait at their deadline by itself, and must not begin
    /// anew beside a mount that is still under way.
    pub(super) fn give_up(&mut self, job: JobId, kind: Kind) {
        self.events.push_back(match kind {
            Kind::Fetch => Event::Fetched {
                job,
                names: None,
                costly: false,
                result: Err(Miss::TimedOut("the map did not answer in time".into())),
            },
            Kind::Resolve => Event::Resolved {
                job,
                answers: HostAnswers::new(),
            },
            // Nobody was heard, for a reason of our own: that says nothing of the servers.
            Kind::Probe => Event::Probed {
                job,
                answers: Vec::new(),
            },
        });
    }
}
