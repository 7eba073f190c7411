//! Threads for answers that may hang.
//!
//! To answer through a trigger that is not kept open it must be opened by its path, and that asks
//! every file system on the way. One of them may be a dead server's. The loop must not wait for it.

use std::collections::VecDeque;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};

use crate::limits::{ANSWERING_THREAD_STAYS, ANSWERING_THREADS};

type Work = Box<dyn FnOnce() + Send>;

/// As many threads as there is work for, up to a bound; none when there is none.
#[derive(Default)]
pub(crate) struct Backstage {
    state: Mutex<State>,
    bell: Condvar,
}

#[derive(Default)]
struct State {
    waiting: VecDeque<Work>,
    threads: usize,
    idle: usize,
}

impl Backstage {
    /// Has a thread do this; returns at once.
    pub(crate) fn submit(self: &Arc<Self>, work: impl FnOnce() + Send + 'static) {
        let mut state = self.lock();
        state.waiting.push_back(Box::new(work));
        if state.idle >= state.waiting.len() {
            self.bell.notify_one();
            return;
        }
        if state.threads >= ANSWERING_THREADS {
            return;
        }
        let own = self.clone();
        let thread = std::thread::Builder::new().name("answer".into());
        if thread.spawn(move || own.serve()).is_ok() {
            state.threads += 1;
        } else if state.threads == 0
            && let Some(work) = state.waiting.pop_back()
        {
            // Better late than never.
            drop(state);
            work();
        }
    }

    fn serve(&self) {
        let mut state = self.lock();
        loop {
            if let Some(work) = state.waiting.pop_front() {
                drop(state);
                work();
                state = self.lock();
                continue;
            }
            state.idle += 1;
            let waited = self.bell.wait_timeout(state, ANSWERING_THREAD_STAYS);
            let timed_out;
            (state, timed_out) = waited.unwrap_or_else(PoisonError::into_inner);
            state.idle -= 1;
            if timed_out.timed_out() && state.waiting.is_empty() {
                state.threads -= 1;
                return;
            }
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc::channel;
    use std::time::Duration;

    use super::*;

    const LONG: Duration = Duration::from_secs(20);

    #[test]
    fn what_hangs_holds_up_nobody_until_all_threads_hang() {
        let backstage = Arc::new(Backstage::default());
        let (done, ends) = channel();
        let mut stuck = Vec::new();
        for _ in 0..ANSWERING_THREADS - 1 {
            let (release, hangs) = channel::<()>();
            stuck.push(release);
            backstage.submit(move || {
                let _ = hangs.recv();
            });
        }
        for number in 0..3 {
            let done = done.clone();
            backstage.submit(move || done.send(number).unwrap());
        }
        assert_eq!(
            (0..3)
                .map(|_| ends.recv_timeout(LONG).unwrap())
                .sum::<i32>(),
            3
        );
        // One more: now there is no thread left.
        let (release, hangs) = channel::<()>();
        let (begun, begins) = channel();
        backstage.submit(move || {
            begun.send(()).unwrap();
            let _ = hangs.recv();
        });
        begins.recv_timeout(LONG).unwrap();
        assert_eq!(backstage.lock().threads, ANSWERING_THREADS);
        backstage.submit(move || done.send(9).unwrap());
        assert!(ends.recv_timeout(Duration::from_millis(20)).is_err());
        drop(release);
        assert_eq!(ends.recv_timeout(LONG), Ok(9));
        drop(stuck);
    }
}
