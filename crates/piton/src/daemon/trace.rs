//! Every request of the kernel with the time of each stage: always on, for `piton trace`.
//!
//! The loop keeps a [`Flight`] for each request that is under way; answered, it goes into the
//! [`Ring`], where readers find it. Memory is used again, so that a request costs some clock
//! readings and no allocation; a reader who is slow loses lines and holds up nobody.

use std::mem;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant, SystemTime};

use bstr::{BStr, BString};
use piton_control::TraceFrom;
use piton_control::limits::TRACE_BATCH;
use piton_control::message::{Trace, TraceLine};
use piton_control::time::rfc3339_micros;
use piton_engine::Event;
use piton_engine::cause::Cause;
use piton_engine::command::Answer;
use piton_engine::event::JobId;
use piton_frontend::Ticket;
use piton_map::requester::Requester;

use super::service::requester;

/// Requests that are remembered after their answer: some seconds of a busy machine, a day of a
/// quiet one. About 300 bytes each.
pub(crate) const REMEMBERED: usize = 1_024;

/// Requests under way that are traced: as many as the engine has jobs. Further ones are served
/// all the same.
const FLIGHTS: usize = piton_engine::limits::JOBS;

/// Jobs whose stages are remembered; the times of one that outlasts as many others are lost.
const JOBS: usize = 1_024;

/// How long a reader waits for the loop to have looked at who asked.
const SIGHTING: Duration = Duration::from_millis(20);

/// What is written down while requests are under way. Owned by the loop.
pub(crate) struct Tracer {
    ring: Arc<Ring>,
    flights: Vec<Flight>,
    free: Vec<u32>,
    stages: Vec<Stages>,
    number: u64,
    /// The access that the engine is being told of.
    arriving: u32,
    /// The job whose event the engine is being told of.
    job: Option<JobId>,
}

/// A request.
#[derive(Clone, Debug)]
struct Flight {
    number: u64,
    kind: Kind,
    begun: Instant,
    at: SystemTime,
    path: BString,
    requester: Requester,
    /// The job that was begun for it.
    job: Option<JobId>,
    /// What became of it.
    end: End,
}

/// What is wanted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    /// Something to be mounted.
    Access,
    /// Whether there is something to be mounted.
    Exists,
    /// Something to be unmounted.
    Expire,
}

/// How a request ended.
#[derive(Clone, Debug, Default)]
struct End {
    served: &'static str,
    stages: Stages,
    answered: Duration,
    cause: Option<Cause>,
}

/// When the stages of a job were over.
#[derive(Clone, Copy, Debug, Default)]
struct Stages {
    job: Option<JobId>,
    cached: bool,
    looked_up: Option<Instant>,
    resolved: Option<Instant>,
    probed: Option<Instant>,
    performed: Option<Instant>,
}

impl Tracer {
    /// One that has seen nothing yet.
    pub(crate) fn new(ring: Arc<Ring>) -> Self {
        Self {
            ring,
            flights: Vec::new(),
            free: Vec::new(),
            stages: vec![Stages::default(); JOBS],
            number: 0,
            arriving: 0,
            job: None,
        }
    }

    /// A request arrived for a trigger (at `path`) and a key. Returns the tag for its ticket.
    pub(crate) fn arrived(
        &mut self,
        kind: Kind,
        path: &BStr,
        key: &BStr,
        requester: &Requester,
    ) -> u32 {
        self.number += 1;
        let index = match self.free.pop() {
            Some(index) => index,
            None if self.flights.len() < FLIGHTS => {
                self.flights.push(Flight::new());
                self.flights.len() as u32 - 1
            }
            None => return 0,
        };
        let flight = &mut self.flights[index as usize];
        flight.number = self.number;
        flight.kind = kind;
        flight.begun = Instant::now();
        flight.at = SystemTime::now();
        flight.path.clear();
        flight.path.extend_from_slice(path);
        if !key.is_empty() {
            flight.path.push(b'/');
            flight.path.extend_from_slice(key);
        }
        flight.requester = requester.clone();
        flight.job = None;
        index + 1
    }

    /// The engine is about to be told of an event.
    pub(crate) fn telling(&mut self, event: &Event<Ticket>) {
        self.arriving = 0;
        self.job = None;
        let stage: fn(&mut Stages) -> &mut Option<Instant> = match event {
            Event::Access { ticket, .. }
            | Event::ExistsAsked { ticket, .. }
            | Event::ExpireAsked { ticket, .. } => {
                self.arriving = ticket.tag();
                return;
            }
            Event::Fetched { .. } => |stages| &mut stages.looked_up,
            Event::Resolved { .. } => |stages| &mut stages.resolved,
            Event::Probed { .. } => |stages| &mut stages.probed,
            Event::Performed { .. } => |stages| &mut stages.performed,
            _ => {
                if let Event::Inspected { job, .. } | Event::Hidden { job } = event {
                    self.job = Some(*job);
                }
                return;
            }
        };
        if let Event::Fetched { job, .. }
        | Event::Resolved { job, .. }
        | Event::Probed { job, .. }
        | Event::Performed { job, .. } = event
        {
            self.job = Some(*job);
            *stage(self.stages_of(*job)) = Some(Instant::now());
        }
    }

    /// A job was begun.
    pub(crate) fn job(&mut self, job: JobId) {
        if let Some(flight) = self.flight(self.arriving) {
            flight.job = Some(job);
        }
    }

    /// A look-up was answered from memory.
    pub(crate) fn cached(&mut self, job: JobId) {
        self.stages_of(job).cached = true;
    }

    /// The kernel has its answer.
    pub(crate) fn answered(&mut self, tag: u32, answer: Answer) {
        let at_once = tag == self.arriving;
        let working = self.job;
        let Some(flight) = self.flight(tag) else {
            return;
        };
        let cause = match answer {
            Answer::Ready => None,
            Answer::Failed(cause) => Some(cause),
        };
        let job = working.or(flight.job);
        let own = flight.job.is_some() && flight.job == job;
        let kind = flight.kind;
        let stages = job.map(|job| *self.stages_of(job)).unwrap_or_default();
        let served = match &cause {
            _ if kind == Kind::Expire => "expiry",
            Some(cause) if at_once && is_refusal(cause) => "refused",
            Some(_) if at_once => "remembered",
            _ if !own => "joined",
            None if stages.performed.is_none() => "present",
            Some(Cause::Hidden) => "present",
            _ => "fresh",
        };
        let Some(flight) = self.flights.get_mut(tag as usize - 1) else {
            return;
        };
        flight.end = End {
            served,
            stages,
            answered: flight.begun.elapsed(),
            cause,
        };
        self.ring.push(flight);
        self.free.push(tag - 1);
    }

    fn flight(&mut self, tag: u32) -> Option<&mut Flight> {
        self.flights.get_mut((tag as usize).checked_sub(1)?)
    }

    fn stages_of(&mut self, job: JobId) -> &mut Stages {
        let stages = &mut self.stages[(job.0 % JOBS as u64) as usize];
        if stages.job != Some(job) {
            *stages = Stages {
                job: Some(job),
                ..Stages::default()
            };
        }
        stages
    }
}

/// Whether it was not even tried.
fn is_refusal(cause: &Cause) -> bool {
    use piton_map::lookup::Miss;
    matches!(
        cause,
        Cause::NoTrigger | Cause::Stopping | Cause::Overloaded | Cause::Lookup(Miss::BadKey(_))
    )
}

impl Flight {
    fn new() -> Self {
        Self {
            number: 0,
            kind: Kind::Access,
            begun: Instant::now(),
            at: SystemTime::UNIX_EPOCH,
            path: BString::default(),
            requester: Requester::default(),
            job: None,
            end: End::default(),
        }
    }

    fn line(&self) -> TraceLine {
        let since = |at: Option<Instant>| {
            // A job that another access began may have been there before this one.
            at.map(|at| micros(at.saturating_duration_since(self.begun)))
        };
        let End {
            served,
            stages,
            answered,
            cause,
        } = &self.end;
        TraceLine {
            number: self.number,
            at: rfc3339_micros(self.at),
            kind: match self.kind {
                Kind::Access => "access".into(),
                Kind::Exists => "exists".into(),
                Kind::Expire => "expire".into(),
            },
            path: self.path.to_string(),
            requester: requester(&self.requester),
            served: (*served).into(),
            cached: stages.cached,
            looked_up_us: since(stages.looked_up),
            resolved_us: since(stages.resolved),
            mounted_us: since(stages.performed),
            answered_us: micros(*answered),
            errno: cause.as_ref().map(|cause| cause.errno().0),
            cause: cause.as_ref().map(ToString::to_string),
            probed_us: since(stages.probed),
        }
    }
}

fn micros(time: Duration) -> u64 {
    u64::try_from(time.as_micros()).unwrap_or(u64::MAX)
}

/// The requests that were answered last.
#[derive(Default)]
pub(crate) struct Ring {
    inner: Mutex<Inner>,
    more: Condvar,
    /// Readers that wait.
    waiting: AtomicUsize,
}

#[derive(Default)]
struct Inner {
    /// The request that was answered as the n-th is at n modulo [`REMEMBERED`].
    flights: Vec<Flight>,
    /// How many were answered.
    end: u64,
}

impl Ring {
    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes a request that was answered, and gives another's memory for it.
    fn push(&self, flight: &mut Flight) {
        let mut inner = self.lock();
        let index = (inner.end % REMEMBERED as u64) as usize;
        match inner.flights.get_mut(index) {
            Some(oldest) => mem::swap(oldest, flight),
            None => inner.flights.push(mem::replace(flight, Flight::new())),
        }
        inner.end += 1;
        drop(inner);
        if self.waiting.load(Ordering::Acquire) > 0 {
            self.more.notify_all();
        }
    }

    /// What was answered from a place on; waits up to `wait` until there is something.
    pub(crate) fn read(&self, from: TraceFrom, wait: Duration) -> (Trace, TraceFrom) {
        let mut inner = self.lock();
        let mut start = match from {
            TraceFrom::Oldest => inner.oldest(),
            TraceFrom::Now => inner.end,
            TraceFrom::At(place) => place,
        };
        if start >= inner.end && !wait.is_zero() {
            self.waiting.fetch_add(1, Ordering::AcqRel);
            let waited = self
                .more
                .wait_timeout_while(inner, wait, |inner| start >= inner.end);
            inner = waited.unwrap_or_else(PoisonError::into_inner).0;
            self.waiting.fetch_sub(1, Ordering::AcqRel);
        }
        let lost = inner.oldest().saturating_sub(start);
        start += lost;
        let end = inner.end.min(start + TRACE_BATCH as u64);
        let flight = |place: u64| inner.flights[(place % REMEMBERED as u64) as usize].clone();
        let flights: Vec<Flight> = (start..end).map(flight).collect();
        drop(inner);
        // Who asked is looked at right after the answer.
        let until = Instant::now() + SIGHTING;
        let lines = flights.iter().map(|flight| {
            while is_unseen(&flight.requester) && Instant::now() < until {
                std::thread::sleep(Duration::from_millis(1));
            }
            flight.line()
        });
        let lines = lines.collect();
        (Trace { lines, lost }, TraceFrom::At(end.max(start)))
    }
}

/// Whether the loop has still to look at a process.
fn is_unseen(who: &Requester) -> bool {
    who.sighting.0.is_some() && super::sightings::seen(who).is_none()
}

impl Inner {
    fn oldest(&self) -> u64 {
        self.end.saturating_sub(REMEMBERED as u64)
    }
}

#[cfg(test)]
mod tests {
    use piton_engine::event::Outcome;

    use super::*;

    fn tracer() -> (Tracer, Arc<Ring>) {
        let ring = Arc::new(Ring::default());
        (Tracer::new(ring.clone()), ring)
    }

    struct Nobody;

    impl piton_frontend::Answering for Nobody {
        fn ready(&mut self) {}
        fn fail(&mut self, _: piton_engine::cause::Errno) {}
    }

    /// An access arrives and the engine is told.
    fn touch(tracer: &mut Tracer, key: &str) -> u32 {
        let requester = Requester::default();
        let tag = tracer.arrived(Kind::Access, "/home".into(), key.into(), &requester);
        tracer.telling(&Event::Access {
            trigger: piton_plan::step::TriggerId(1),
            key: key.into(),
            requester,
            waited_ms: 0,
            ticket: Ticket::new(Nobody).tagged(tag),
        });
        tag
    }

    fn all(ring: &Ring) -> Vec<TraceLine> {
        ring.read(TraceFrom::Oldest, Duration::ZERO).0.lines
    }

    #[test]
    fn each_stage_has_its_time() {
        let (mut tracer, ring) = tracer();
        let job = JobId(7);
        let first = touch(&mut tracer, "ann");
        tracer.job(job);
        tracer.cached(job);
        let second = touch(&mut tracer, "ann");
        tracer.telling(&Event::Fetched {
            job,
            names: None,
            costly: false,
            result: Err(piton_map::lookup::Miss::NoSuchKey),
        });
        tracer.telling(&Event::Performed {
            job,
            outcome: Outcome::default(),
        });
        tracer.answered(first, Answer::Ready);
        tracer.answered(second, Answer::Failed(Cause::TimedOut));
        let lines = all(&ring);
        let told: Vec<_> = lines
            .iter()
            .map(|line| (line.path.as_str(), line.served.as_str(), line.errno))
            .collect();
        assert_eq!(
            told,
            [
                ("/home/ann", "fresh", None),
                ("/home/ann", "joined", Some(110))
            ]
        );
        for line in lines {
            assert!(line.cached && line.resolved_us.is_none());
            assert!(line.looked_up_us <= line.mounted_us);
            assert!(line.mounted_us <= Some(line.answered_us));
        }
    }

    #[test]
    fn what_is_answered_at_once_came_from_memory_or_was_refused() {
        let (mut tracer, ring) = tracer();
        let one = touch(&mut tracer, "ann");
        tracer.answered(one, Answer::Failed(Cause::UnknownHost("h".into())));
        let two = touch(&mut tracer, "bob");
        tracer.answered(two, Answer::Failed(Cause::Stopping));
        let three = touch(&mut tracer, "carol");
        tracer.job(JobId(1));
        tracer.telling(&Event::Inspected {
            job: JobId(1),
            mounted: true,
        });
        tracer.answered(three, Answer::Ready);
        let served: Vec<_> = all(&ring).into_iter().map(|line| line.served).collect();
        assert_eq!(served, ["remembered", "refused", "present"]);
    }

    #[test]
    fn the_ring_has_its_bound_and_counts_what_is_lost() {
        let (mut tracer, ring) = tracer();
        for number in 0..REMEMBERED {
            let tag = touch(&mut tracer, &number.to_string());
            tracer.answered(tag, Answer::Ready);
        }
        let (trace, from) = ring.read(TraceFrom::Oldest, Duration::ZERO);
        assert_eq!((trace.lines.len(), trace.lost), (TRACE_BATCH, 0));
        assert_eq!(trace.lines[0].number, 1);
        let tag = touch(&mut tracer, "one more");
        tracer.answered(tag, Answer::Ready);
        let (trace, _) = ring.read(TraceFrom::At(0), Duration::ZERO);
        assert_eq!((trace.lines[0].number, trace.lost), (2, 1));
        let (trace, _) = ring.read(from, Duration::ZERO);
        assert_eq!(
            (trace.lines[0].number, trace.lost),
            (TRACE_BATCH as u64 + 1, 0)
        );
        let (trace, end) = ring.read(TraceFrom::Now, Duration::ZERO);
        assert_eq!(
            (trace.lines.len(), end),
            (0, TraceFrom::At(REMEMBERED as u64 + 1))
        );
        assert_eq!(
            (tracer.flights.len(), ring.lock().flights.len()),
            (1, REMEMBERED)
        );
    }

    #[test]
    fn a_reader_is_woken() {
        let (mut tracer, ring) = tracer();
        let reader = {
            let ring = ring.clone();
            std::thread::spawn(move || ring.read(TraceFrom::At(0), Duration::from_secs(60)).0)
        };
        let tag = touch(&mut tracer, "ann");
        tracer.answered(tag, Answer::Ready);
        assert_eq!(reader.join().expect("no panic").lines.len(), 1);
    }
}
