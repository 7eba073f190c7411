//! Threads for what may block. A thread that is stuck is not waited for: another takes its
//! place, up to a bound.
//!
//! Work that depends on one server, program or mount carries its [`Lane`]. Of one lane only so much
//! is under way at once; the rest waits in a queue of its own, until its time is over. So one dead
//! server can use up its own queue, nobody else's.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError, Weak};
use std::time::{Duration, Instant};

use piton_mount::{Hold, Lane};

use super::limits::{IN_ALL_LANES, IN_LANE, LANE_QUEUE, LEAST_TIME};

/// How long a thread beyond the first ones waits for work before it ends.
const IDLE: Duration = Duration::from_secs(10);

/// How many such threads wait at one time. They are woken in turns, so that with steady work none
/// would ever have waited for [`IDLE`] and all that one crowded moment had needed would stay.
const SPARE: usize = 8;

/// How long a thread may need to wake up.
const WAKING: Duration = Duration::from_millis(5);

/// How work gets its turn.
pub(crate) enum Turn {
    /// It may begin. The hold is its place in its lane, if it has one: dropped when all that was
    /// begun is really over.
    Begin(Option<Hold>),
    /// Its time was over before it could begin, or too much waits in its lane.
    TooLate,
}

type Work = Box<dyn FnOnce(Turn) + Send>;

/// Looks after things when a thread has had nothing to do; says whether that must be done again.
type Tend = Box<dyn Fn() -> bool + Send + Sync>;

/// A set of threads that take work in order.
#[derive(Clone)]
pub(crate) struct Pool(Arc<Inner>);

struct Inner {
    name: &'static str,
    /// Threads that stay.
    core: usize,
    /// Threads there may be.
    most: usize,
    /// A further thread is started when work has waited for this long.
    patience: Duration,
    state: Mutex<State>,
    work: Condvar,
    tend: Option<Tend>,
}

#[derive(Default)]
struct State {
    /// Work that may begin.
    queue: VecDeque<Ready>,
    threads: usize,
    idle: usize,
    /// Those of the idle ones that will look around after a while.
    watching: usize,
    /// Something may have to be looked after.
    untended: bool,
    /// Lanes in which something is under way.
    lanes: HashMap<Lane, Busy>,
    /// What is under way in all of them.
    under_way: usize,
    /// Number of the next work that has to wait in a lane.
    next: u64,
}

struct Ready {
    since: Instant,
    turn: Turn,
    work: Work,
}

/// A lane in use.
#[derive(Default)]
struct Busy {
    under_way: usize,
    /// What waits, by the end of its time.
    queue: BTreeMap<(Instant, u64), Work>,
}

impl Busy {
    /// Whether more may begin, with so much under way in all lanes.
    fn has_room(&self, in_all: usize) -> bool {
        self.under_way < IN_LANE || in_all < IN_ALL_LANES
    }
}

/// A place in a lane.
struct Place {
    pool: Weak<Inner>,
    lane: Lane,
}

impl Pool {
    /// A pool of `core` lasting threads and at most `most`; more than `core` are started when
    /// work has waited for `patience`.
    pub(crate) fn new(name: &'static str, core: usize, most: usize, patience: Duration) -> Self {
        let inner = Inner {
            name,
            core,
            most,
            patience,
            state: Mutex::new(State::default()),
            work: Condvar::new(),
            tend: None,
        };
        Self(Arc::new(inner))
    }

    /// A new pool's threads look after something when they have had nothing to do for a while.
    pub(crate) fn tending(mut self, tend: impl Fn() -> bool + Send + Sync + 'static) -> Self {
        if let Some(inner) = Arc::get_mut(&mut self.0) {
            inner.tend = Some(Box::new(tend));
        }
        self
    }

    /// Has `work` done by the next thread that is free.
    pub(crate) fn submit(&self, work: impl FnOnce() + Send + 'static) {
        self.0
            .enter(self.0.lock(), Turn::Begin(None), Box::new(|_| work()));
    }

    /// Has `work` done when its lane has room for it. `work` is called in any case, by `until` or a
    /// little later.
    pub(crate) fn submit_in(
        &self,
        lane: Lane,
        until: Instant,
        work: impl FnOnce(Turn) + Send + 'static,
    ) {
        let work: Work = Box::new(work);
        let mut state = self.0.lock();
        let (number, in_all) = (state.next, state.under_way);
        let busy = state.lanes.entry(lane.clone()).or_default();
        if busy.has_room(in_all) {
            busy.under_way += 1;
            state.under_way += 1;
            let turn = Turn::Begin(Some(self.0.place(lane)));
            self.0.enter(state, turn, work);
        } else if busy.queue.len() < LANE_QUEUE {
            busy.queue.insert((until, number), work);
            state.next += 1;
        } else {
            self.0.enter(state, Turn::TooLate, work);
        }
    }

    /// Starts a further thread if work has waited too long, and gives up what has waited in a lane
    /// until its time was over; returns when to look again.
    pub(crate) fn relieve(&self) -> Option<Duration> {
        let mut state = self.0.lock();
        let overdue = state.overdue();
        if !overdue.is_empty() {
            for work in overdue {
                let since = Instant::now();
                let turn = Turn::TooLate;
                state.queue.push_back(Ready { since, turn, work });
            }
            self.0.grow(state);
            state = self.0.lock();
        }
        let end = state.next_end();
        let relief = state.queue.front().map(|ready| ready.since.elapsed());
        let relief = relief.map(|waited| {
            // A thread that was woken for it may not have come yet.
            let patience = self.0.patience.max(WAKING);
            if waited >= patience {
                self.0.grow(state);
                patience
            } else {
                patience - waited
            }
        });
        [end, relief].into_iter().flatten().min()
    }
}

impl State {
    /// Takes what has waited in a lane until its time was over.
    fn overdue(&mut self) -> Vec<Work> {
        if self.lanes.is_empty() {
            return Vec::new();
        }
        let now = Instant::now();
        let mut found = Vec::new();
        for busy in self.lanes.values_mut() {
            while let Some(first) = busy.queue.first_entry() {
                if first.key().0 > now {
                    break;
                }
                found.push(first.remove());
            }
        }
        found
    }

    /// When the next of those is over.
    fn next_end(&self) -> Option<Duration> {
        let ends = self.lanes.values().filter_map(|busy| {
            let (until, _) = busy.queue.first_key_value()?.0;
            Some(until.saturating_duration_since(Instant::now()))
        });
        // Not before it, or it would not be over yet.
        ends.min().map(|left| left + Duration::from_millis(1))
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let Some(pool) = self.pool.upgrade() else {
            return;
        };
        let mut state = pool.lock();
        state.leave(&self.lane);
        let soon = Instant::now() + LEAST_TIME;
        while let Some((lane, until, work)) = state.next_waiting() {
            let begins = until > soon;
            let turn = match begins {
                // Its place goes to the next.
                true => Turn::Begin(Some(pool.place(lane))),
                false => {
                    state.leave(&lane);
                    Turn::TooLate
                }
            };
            pool.enter(state, turn, work);
            if begins {
                return;
            }
            state = pool.lock();
        }
    }
}

impl State {
    /// One place less is taken in a lane.
    fn leave(&mut self, lane: &Lane) {
        self.under_way -= 1;
        if let Some(busy) = self.lanes.get_mut(lane) {
            busy.under_way -= 1;
            if busy.under_way == 0 && busy.queue.is_empty() {
                self.lanes.remove(lane);
            }
        }
    }

    /// Takes what waits in a lane with room, gives it a place, and returns it: what has the least
    /// time left.
    fn next_waiting(&mut self) -> Option<(Lane, Instant, Work)> {
        let in_all = self.under_way;
        let waiting = self.lanes.iter().filter_map(|(lane, busy)| {
            let first = *busy.queue.first_key_value()?.0;
            busy.has_room(in_all).then_some((first, lane))
        });
        let ((until, number), lane) = waiting.min_by_key(|(first, _)| *first)?;
        let lane = lane.clone();
        let busy = self.lanes.get_mut(&lane)?;
        let work = busy.queue.remove(&(until, number))?;
        busy.under_way += 1;
        self.under_way += 1;
        Some((lane, until, work))
    }
}

impl Inner {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn place(self: &Arc<Self>, lane: Lane) -> Hold {
        let pool = Arc::downgrade(self);
        Arc::new(Place { pool, lane })
    }

    /// Puts work in that may begin.
    fn enter(self: &Arc<Self>, mut state: MutexGuard<'_, State>, turn: Turn, work: Work) {
        let since = Instant::now();
        state.queue.push_back(Ready { since, turn, work });
        if state.idle > 0 && state.queue.len() <= state.idle {
            drop(state);
            self.work.notify_one();
            return;
        }
        self.grow(state);
    }

    fn grow(self: &Arc<Self>, mut state: MutexGuard<'_, State>) {
        let overdue = state
            .queue
            .front()
            .is_some_and(|ready| ready.since.elapsed() >= self.patience);
        let wanted = state.threads < self.core || (overdue && state.threads < self.most);
        if !wanted {
            drop(state);
            self.work.notify_one();
            return;
        }
        state.threads += 1;
        drop(state);
        let inner = self.clone();
        let started = std::thread::Builder::new()
            .name(self.name.into())
            .stack_size(512 * 1024)
            .spawn(move || inner.serve());
        if let Err(error) = started {
            self.lock().threads -= 1;
            tracing::error!(pool = self.name, %error, "cannot start a thread");
        }
    }

    fn serve(&self) {
        let mut state = self.lock();
        loop {
            if let Some(Ready { turn, work, .. }) = state.queue.pop_front() {
                drop(state);
                work(turn);
                state = self.lock();
                state.untended = self.tend.is_some();
                continue;
            }
            if state.threads > self.core && state.watching >= SPARE {
                state.threads -= 1;
                return;
            }
            let watches = state.untended || state.threads > self.core;
            state.idle += 1;
            state.watching += usize::from(watches);
            let timed_out;
            (state, timed_out) = self.sleep(state, watches);
            state.idle -= 1;
            state.watching -= usize::from(watches);
            if !timed_out || !state.queue.is_empty() {
                continue;
            }
            let others_watch = state.watching > 0;
            if state.threads > self.core && (others_watch || !state.untended) {
                state.threads -= 1;
                return;
            }
            if let Some(tend) = self
                .tend
                .as_ref()
                .filter(|_| state.untended && !others_watch)
            {
                state.untended = false;
                drop(state);
                let again = tend();
                state = self.lock();
                state.untended |= again;
            }
        }
    }

    /// Waits for work, for good or for a while; whether it was in vain.
    fn sleep<'s>(
        &self,
        state: MutexGuard<'s, State>,
        for_a_while: bool,
    ) -> (MutexGuard<'s, State>, bool) {
        if for_a_while {
            let woken = self.work.wait_timeout(state, IDLE);
            let (state, timeout) = woken.unwrap_or_else(PoisonError::into_inner);
            (state, timeout.timed_out())
        } else {
            let woken = self.work.wait(state);
            (woken.unwrap_or_else(PoisonError::into_inner), false)
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc;

    use super::*;

    /// Longest wait for what must happen, also where many others work.
    const LONG: Duration = Duration::from_secs(60);

    #[test]
    fn a_stuck_thread_is_replaced() {
        let pool = Pool::new("test", 1, 2, Duration::from_millis(5));
        let (stuck_until, stuck) = mpsc::channel::<()>();
        pool.submit(move || {
            let _ = stuck.recv();
        });
        let (done, finished) = mpsc::channel();
        pool.submit(move || done.send(()).unwrap());
        assert!(finished.recv_timeout(Duration::from_millis(1)).is_err());
        std::thread::sleep(Duration::from_millis(10));
        pool.relieve();
        finished.recv_timeout(LONG).unwrap();
        drop(stuck_until);
    }

    fn after(milliseconds: u64) -> Instant {
        Instant::now() + Duration::from_millis(milliseconds)
    }

    /// What one lane may have under way alone.
    const ALONE: usize = IN_ALL_LANES;

    #[test]
    fn a_lane_has_so_many_places_and_other_lanes_are_not_its_concern() {
        let pool = Pool::new("test", 1, 200, Duration::ZERO);
        let dead = || Lane::Server("dead".into());
        let (begun, beginning) = mpsc::channel();
        for number in 0..=ALONE {
            let begun = begun.clone();
            pool.submit_in(dead(), after(60_000), move |turn| match turn {
                Turn::Begin(hold) => begun.send((number, hold)).unwrap(),
                Turn::TooLate => panic!("it is not late"),
            });
        }
        let wait = || beginning.recv_timeout(LONG);
        let mut holds: Vec<_> = (0..ALONE).map(|_| wait().unwrap()).collect();
        assert!(beginning.recv_timeout(Duration::from_millis(20)).is_err());
        let (done, alive) = mpsc::channel();
        pool.submit_in(Lane::Server("alive".into()), after(60_000), move |_| {
            done.send(()).unwrap();
        });
        alive.recv_timeout(LONG).unwrap();
        // The work itself is long over: what counts is the hold.
        holds.pop();
        assert_eq!(wait().unwrap().0, ALONE);
        drop(holds);
        assert!(pool.0.lock().lanes.is_empty());
    }

    #[test]
    fn beside_full_ones_each_lane_has_its_own_places() {
        let pool = Pool::new("test", 1, 200, Duration::ZERO);
        let (begun, beginning) = mpsc::channel();
        let submit = |lane: &str| {
            let (begun, lane) = (begun.clone(), lane.to_owned());
            let place = Lane::Server(lane.clone().into());
            pool.submit_in(place, after(60_000), move |turn| match turn {
                Turn::Begin(hold) => begun.send((lane, hold)).unwrap(),
                Turn::TooLate => panic!("it is not late"),
            });
        };
        let wait = || beginning.recv_timeout(LONG).unwrap();
        (0..ALONE).for_each(|_| submit("greedy"));
        let mut holds: Vec<_> = (0..ALONE).map(|_| wait()).collect();
        (0..=IN_LANE).for_each(|_| submit("modest"));
        let modest: Vec<_> = (0..IN_LANE).map(|_| wait()).collect();
        assert!(modest.iter().all(|(lane, _)| lane == "modest"));
        submit("greedy");
        assert!(beginning.recv_timeout(Duration::from_millis(20)).is_err());
        // What the greedy one gives back goes to none until there is room for all again.
        holds.drain(..IN_LANE);
        assert!(beginning.recv_timeout(Duration::from_millis(20)).is_err());
        holds.pop();
        assert_eq!(wait().0, "modest");
        drop((holds, modest));
        assert_eq!(wait().0, "greedy");
    }

    #[test]
    fn what_waits_too_long_or_behind_too_many_is_told_so() {
        let pool = Pool::new("test", 1, 200, Duration::ZERO);
        let (told, tell) = mpsc::channel();
        let submit = |until| {
            let told = told.clone();
            pool.submit_in(Lane::Names, until, move |turn| told.send(turn).unwrap());
        };
        let wait = || tell.recv_timeout(LONG).unwrap();
        (0..ALONE).for_each(|_| submit(after(60_000)));
        let holds: Vec<_> = (0..ALONE).map(|_| wait()).collect();
        submit(after(0));
        (1..LANE_QUEUE).for_each(|_| submit(after(60_000)));
        assert!(tell.recv_timeout(Duration::from_millis(20)).is_err());
        submit(after(60_000));
        assert!(matches!(wait(), Turn::TooLate), "the queue is full");
        assert!(pool.relieve().is_some());
        assert!(matches!(wait(), Turn::TooLate), "the time of one is over");
        assert!(tell.recv_timeout(Duration::from_millis(20)).is_err());
        drop(holds);
        (1..LANE_QUEUE).for_each(|_| assert!(matches!(wait(), Turn::Begin(Some(_)))));
    }

    #[test]
    fn a_thread_that_has_nothing_to_do_sleeps_for_good() {
        let pool = Pool::new("test", 1, 2, Duration::ZERO).tending(|| false);
        let (done, finished) = mpsc::channel();
        pool.submit(move || done.send(()).unwrap());
        finished.recv_timeout(LONG).unwrap();
        assert_eq!(pool.relieve(), None);
    }

    #[test]
    fn few_of_many_threads_stay() {
        let pool = Pool::new("test", 1, 64, Duration::ZERO);
        let gate = Arc::new(std::sync::Barrier::new(41));
        for _ in 0..40 {
            let gate = gate.clone();
            pool.submit(move || {
                gate.wait();
            });
        }
        gate.wait();
        let end = Instant::now() + LONG;
        while pool.0.lock().threads > 1 + SPARE && Instant::now() < end {
            std::thread::sleep(Duration::from_millis(1));
        }
        assert!(pool.0.lock().threads <= 1 + SPARE);
    }

    #[test]
    fn work_is_done_in_order_by_one_thread() {
        let pool = Pool::new("test", 1, 1, Duration::ZERO);
        let (done, finished) = mpsc::channel();
        for number in 0..100 {
            let done = done.clone();
            pool.submit(move || done.send(number).unwrap());
        }
        drop(done);
        assert_eq!(
            finished.iter().collect::<Vec<_>>(),
            (0..100).collect::<Vec<_>>()
        );
    }
}
