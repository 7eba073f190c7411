//! Threads for what may block. A thread that is stuck is not waited for: another takes its
//! place, up to a bound.

use std::collections::VecDeque;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// How long a thread beyond the first ones waits for work before it ends.
const IDLE: Duration = Duration::from_secs(10);

type Work = Box<dyn FnOnce() + Send>;

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
}

#[derive(Default)]
struct State {
    queue: VecDeque<(Instant, Work)>,
    threads: usize,
    idle: usize,
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
        };
        Self(Arc::new(inner))
    }

    /// Has `work` done by the next thread that is free.
    pub(crate) fn submit(&self, work: impl FnOnce() + Send + 'static) {
        let mut state = self.0.lock();
        state.queue.push_back((Instant::now(), Box::new(work)));
        if state.idle > 0 && state.queue.len() <= state.idle {
            drop(state);
            self.0.work.notify_one();
            return;
        }
        self.grow(state);
    }

    /// Starts a further thread if work has waited too long; returns when to look again.
    pub(crate) fn relieve(&self) -> Option<Duration> {
        let state = self.0.lock();
        let waited = state.queue.front()?.0.elapsed();
        if waited >= self.0.patience {
            self.grow(state);
            return Some(self.0.patience.max(Duration::from_millis(1)));
        }
        Some(self.0.patience - waited)
    }

    fn grow(&self, mut state: MutexGuard<'_, State>) {
        let overdue = state
            .queue
            .front()
            .is_some_and(|(since, _)| since.elapsed() >= self.0.patience);
        let wanted = state.threads < self.0.core || (overdue && state.threads < self.0.most);
        if !wanted {
            drop(state);
            self.0.work.notify_one();
            return;
        }
        state.threads += 1;
        drop(state);
        let inner = self.0.clone();
        let started = std::thread::Builder::new()
            .name(self.0.name.into())
            .stack_size(512 * 1024)
            .spawn(move || inner.serve());
        if let Err(error) = started {
            self.0.lock().threads -= 1;
            tracing::error!(pool = self.0.name, %error, "cannot start a thread");
        }
    }
}

impl Inner {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn serve(&self) {
        let mut state = self.lock();
        loop {
            if let Some((_, work)) = state.queue.pop_front() {
                drop(state);
                work();
                state = self.lock();
                continue;
            }
            state.idle += 1;
            let (again, timeout) = self
                .work
                .wait_timeout(state, IDLE)
                .unwrap_or_else(PoisonError::into_inner);
            state = again;
            state.idle -= 1;
            if timeout.timed_out() && state.queue.is_empty() && state.threads > self.core {
                state.threads -= 1;
                return;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc;

    use super::*;

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
        finished.recv_timeout(Duration::from_secs(5)).unwrap();
        drop(stuck_until);
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
