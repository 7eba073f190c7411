//! Expiry rounds: asking the kernel for idle mounts of one trigger until there are none.
//!
//! For each mount it finds the kernel waits for a grace period of some 13 ms, so that one call after
//! the other expires 78 mounts a second. Calls on the same trigger find different mounts and can
//! wait at the same time. But they must not *look* at the same time: each looks at a mount by taking
//! a reference to it, which the other then takes for use, and the mount counts as used a moment ago.
//! So the next call is begun when the one before is seen to wait.

use std::os::fd::BorrowedFd;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::sync::{Mutex, PoisonError};
use std::thread::Scope;
use std::time::Duration;

use autofs::{Control, ExpireHow};

use crate::limits::{EXPIRE_CALLERS, EXPIRE_FAILURES};

/// Pause before a caller that still looks is asked about again: looking takes some 0.3 µs for each
/// mount of the trigger.
const PAUSE: Duration = Duration::from_micros(100);

/// One round.
pub(crate) struct Round<'r> {
    control: &'r Control,
    root: BorrowedFd<'r>,
    how: ExpireHow,
    callers_most: u32,
    failures: AtomicU32,
    callers: AtomicU32,
    /// The kernel has found nothing more.
    over: AtomicBool,
    /// The thread that began to look last, until its call has ended.
    looking: Mutex<Option<i32>>,
}

impl<'r> Round<'r> {
    /// A round in the trigger with this root; in one that is not `indirect` there is one mount.
    pub(crate) fn new(
        control: &'r Control,
        root: BorrowedFd<'r>,
        how: ExpireHow,
        indirect: bool,
    ) -> Self {
        Self {
            control,
            root,
            how,
            callers_most: if indirect { EXPIRE_CALLERS } else { 1 },
            failures: AtomicU32::new(0),
            callers: AtomicU32::new(1),
            over: AtomicBool::new(false),
            looking: Mutex::new(None),
        }
    }

    /// Has the kernel expire all it finds idle.
    pub(crate) fn run(&self) {
        std::thread::scope(|scope| self.ask(scope));
    }

    /// Asks until the kernel finds nothing more. When it has found something a second thread is
    /// started, which starts a third, and so on.
    fn ask<'s>(&'s self, scope: &'s Scope<'s, '_>) {
        let mut found = false;
        while self.begin() {
            let result = self.control.expire(self.root, self.how);
            self.end();
            match result {
                Ok(true) if !found => {
                    found = true;
                    self.help(scope);
                }
                Ok(true) => {}
                Ok(false) => self.over.store(true, Ordering::Relaxed),
                Err(_) => {
                    self.failures.fetch_add(1, Ordering::Relaxed);
                }
            }
        }
    }

    fn help<'s>(&'s self, scope: &'s Scope<'s, '_>) {
        if self.callers.fetch_add(1, Ordering::Relaxed) >= self.callers_most {
            return;
        }
        let thread = std::thread::Builder::new().name("expire".into());
        let started = thread
            .stack_size(64 * 1024)
            .spawn_scoped(scope, move || self.ask(scope));
        // What one thread fewer does not do the others do.
        drop(started);
    }

    /// Waits until no other call looks; false when there is nothing more to ask for.
    fn begin(&self) -> bool {
        let me = rustix::thread::gettid().as_raw_nonzero().get();
        loop {
            let over = self.over.load(Ordering::Relaxed);
            if over || self.failures.load(Ordering::Relaxed) >= EXPIRE_FAILURES {
                return false;
            }
            let mut looking = self.looking();
            if looking.is_none_or(waits) {
                *looking = Some(me);
                return true;
            }
            drop(looking);
            std::thread::sleep(PAUSE);
        }
    }

    fn end(&self) {
        let me = rustix::thread::gettid().as_raw_nonzero().get();
        let mut looking = self.looking();
        if *looking == Some(me) {
            *looking = None;
        }
    }

    fn looking(&self) -> std::sync::MutexGuard<'_, Option<i32>> {
        self.looking.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Whether a thread of ours has found a mount and waits, for the grace period or for our answer. A
/// kernel that does not tell what threads wait for gets one call after the other.
fn waits(thread: i32) -> bool {
    let channel = std::fs::read(format!("/proc/self/task/{thread}/wchan"));
    channel.is_ok_and(|name| name == b"autofs_wait" || is_grace_period(&name))
}

fn is_grace_period(name: &[u8]) -> bool {
    name.windows(4).any(|part| part == b"_rcu")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn grace_periods_are_recognised() {
        for name in [
            "synchronize_rcu_normal",
            "synchronize_rcu_expedited",
            "__wait_rcu_gp",
        ] {
            assert!(is_grace_period(name.as_bytes()), "{name}");
        }
        for name in ["0", "", "rwsem_down_read_slowpath", "do_epoll_wait"] {
            assert!(!is_grace_period(name.as_bytes()), "{name}");
        }
    }

    #[test]
    fn who_runs_does_not_wait() {
        assert!(!waits(rustix::thread::gettid().as_raw_nonzero().get()));
    }
}
