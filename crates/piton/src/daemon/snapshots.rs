//! After snapshots: when one is not used any more, or one could not be taken, a worker sweeps.
//!
//! Nothing of this is on the way of an access, and a daemon without snapshots has no thread for it.

use std::collections::HashSet;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use bstr::BString;
use piton_mount::perform::Settings;
use piton_mount::snapshot::{self, Report};
use piton_mount::{Performance, Workers};
use piton_plan::step::Step;

use super::limits;

/// Is called when snapshots have come or gone.
type Tell = Box<dyn Fn() + Send + Sync>;

/// Has sweeps done when they are due.
pub(crate) struct Snapshots {
    workers: Workers,
    settings: Settings,
    tell: Tell,
    state: Mutex<State>,
    changed: Condvar,
    /// Held during a sweep.
    turn: Mutex<()>,
}

#[derive(Debug, Default)]
struct State {
    /// Where snapshots are mounted.
    mounted: HashSet<BString>,
    /// When the next sweep is due.
    due: Option<Instant>,
    /// Somebody wants to be told when snapshots come and go.
    told: bool,
    /// When it is told next.
    news: Option<Instant>,
    /// There is a thread.
    served: bool,
    /// It sweeps just now.
    sweeping: bool,
}

impl Snapshots {
    pub(crate) fn new(workers: Workers, settings: Settings, tell: Tell) -> Arc<Self> {
        Arc::new(Self {
            workers,
            settings,
            tell,
            state: Mutex::default(),
            changed: Condvar::new(),
            turn: Mutex::default(),
        })
    }

    /// The daemon begins: what an earlier one left is finished.
    pub(crate) fn begin(self: &Arc<Self>) {
        let Some(places) = &self.settings.snapshots else {
            return;
        };
        if snapshot::is_any(places) {
            let mounted = snapshot::mounted().into_iter();
            self.state().mounted.extend(mounted.map(|it| it.point));
            self.sweep_in(Duration::ZERO);
        }
    }

    /// Steps have ended. What is unmounted may be removed; what could not be mounted may have left
    /// something.
    pub(crate) fn performed(self: &Arc<Self>, performance: &Performance) {
        let steps = performance.steps();
        let outcome = performance.outcome();
        let mut state = self.state();
        let (mut sweep, mut mounted) = (false, false);
        for done in &outcome.done {
            match steps.get(done.index).map(|planned| &planned.step) {
                Some(Step::Unmount { target, .. } | Step::LetGo { target, .. }) => {
                    sweep |= !state.mounted.is_empty() && state.mounted.remove(target);
                }
                Some(step) => {
                    if let Some(target) = snapshot::target_of(step) {
                        // One that was mounted there was unmounted by somebody else.
                        sweep |= !state.mounted.insert(target.clone());
                        mounted = true;
                    }
                }
                None => {}
            }
        }
        let failed = outcome.failed.is_some() || !outcome.tolerated.is_empty();
        let ours =
            |planned: &piton_plan::step::Planned| snapshot::target_of(&planned.step).is_some();
        sweep |= failed && steps.iter().any(ours);
        mounted &= state.told;
        drop(state);
        if sweep {
            self.sweep_in(limits::SWEEP_PAUSE);
        }
        if mounted {
            self.tell_in(limits::LISTING_PAUSE);
        }
    }

    /// Whether somebody wants to be told when snapshots come and go.
    pub(crate) fn is_watched(&self, watched: bool) {
        self.state().told = watched;
    }

    fn sweep_in(self: &Arc<Self>, pause: Duration) {
        let due = Instant::now() + pause;
        let mut state = self.state();
        state.due = Some(state.due.map_or(due, |other| other.min(due)));
        self.have_served(state);
    }

    fn tell_in(self: &Arc<Self>, pause: Duration) {
        let mut state = self.state();
        state.news.get_or_insert(Instant::now() + pause);
        self.have_served(state);
    }

    /// Something is due: there is a thread for it.
    fn have_served(self: &Arc<Self>, mut state: MutexGuard<'_, State>) {
        if !state.served {
            let snapshots = self.clone();
            let thread = std::thread::Builder::new().name("snapshots".into());
            let started = thread
                .stack_size(limits::SMALL_STACK)
                .spawn(move || snapshots.serve());
            // Else the next one tries again.
            state.served = started.is_ok();
        }
        drop(state);
        self.changed.notify_all();
    }

    /// Sweeps and tells whenever it is due, until nothing is.
    fn serve(&self) {
        let mut state = self.state();
        while let Some(due) = [state.due, state.news].into_iter().flatten().min() {
            let now = Instant::now();
            let left = due.saturating_duration_since(now);
            if !left.is_zero() {
                let waited = self.changed.wait_timeout(state, left);
                state = waited.unwrap_or_else(PoisonError::into_inner).0;
                continue;
            }
            if state.news.take_if(|due| *due <= now).is_some() {
                drop(state);
                (self.tell)();
                state = self.state();
                continue;
            }
            state.due = None;
            state.sweeping = true;
            drop(state);
            let (next, removed) = self.sweep(limits::SWEEP_TIME);
            state = self.state();
            state.sweeping = false;
            if removed && state.told {
                state.news = Some(Instant::now());
            }
            self.changed.notify_all();
            if let Some(pause) = next {
                let next = Instant::now() + pause;
                state.due = Some(state.due.map_or(next, |due| due.min(next)));
            }
        }
        state.served = false;
    }

    /// Sweeps; when the next sweep is due, if one is, and whether anything was done.
    fn sweep(&self, time: Duration) -> (Option<Duration>, bool) {
        let _turn = self.turn.lock().unwrap_or_else(PoisonError::into_inner);
        let hold: piton_mount::Hold = Arc::new(());
        match self.workers.sweep_snapshots(&self.settings, time, &hold) {
            Ok(Report {
                done,
                troubles,
                kept,
            }) => {
                done.iter().for_each(|line| tracing::info!("{line}"));
                troubles.iter().for_each(|line| tracing::warn!("{line}"));
                let next = match (troubles.is_empty(), kept) {
                    (false, _) => Some(limits::SWEEP_AGAIN),
                    // Those that are kept for a time grow old.
                    (true, 1..) => Some(limits::SWEEP_ROUND),
                    (true, 0) => None,
                };
                (next, !done.is_empty())
            }
            Err(error) => {
                tracing::warn!("sweeping after snapshots: {error}");
                (Some(limits::SWEEP_AGAIN), false)
            }
        }
    }

    /// The daemon ends: what was unmounted last is swept now, if that can be done soon.
    pub(crate) fn finish(&self) {
        let begun = Instant::now();
        let mut state = self.state();
        // One that is under way may be that of what was unmounted last. It is waited for, and done once
        // more: its worker may have ended with the others, and so may that of one that is to be tried
        // again.
        let mut due = state.sweeping;
        while state.sweeping {
            let left = limits::SWEEP_LAST.saturating_sub(begun.elapsed());
            if left.is_zero() {
                break;
            }
            let waited = self.changed.wait_timeout(state, left);
            state = waited.unwrap_or_else(PoisonError::into_inner).0;
        }
        let soon = Instant::now() + limits::SWEEP_AGAIN;
        due |= state.due.is_some_and(|due| due <= soon);
        // One that does not end is not waited for a second time.
        due &= !state.sweeping;
        state.due = None;
        state.news = None;
        drop(state);
        if due {
            self.sweep(limits::SWEEP_LAST);
            self.workers.end();
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
