//! What happened in a world, counted: an invariant that was never put to the test proves nothing.

use piton_engine::cause::Cause;
use piton_engine::command::Answer;
use piton_engine::event::Outcome;

/// How often things happened.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Seen {
    /// Answers: it is there (or, for an expiry, gone).
    pub ready: u64,
    /// Answers with an error.
    pub failed: u64,
    /// Answers that nothing came of it in time.
    pub timed_out: u64,
    /// Names that the kernel expired.
    pub expired: u64,
    /// Lists of steps that were done.
    pub performed: u64,
    /// Lists of steps of which a required one failed.
    pub undone: u64,
    /// Such lists that could not be taken back whole.
    pub half_done: u64,
    /// Triggers that were taken over from an earlier life.
    pub adopted: u64,
    /// Lives of the daemon that ended.
    pub lives: u64,
    /// Mounts that somebody unmounted by hand.
    pub by_hand: u64,
}

impl Seen {
    pub(crate) fn answer(&mut self, answer: &Answer) {
        match answer {
            Answer::Ready => self.ready += 1,
            Answer::Failed(Cause::TimedOut) => self.timed_out += 1,
            Answer::Failed(_) => self.failed += 1,
        }
    }

    pub(crate) fn outcome(&mut self, outcome: &Outcome) {
        match (&outcome.failed, outcome.done.is_empty()) {
            (None, _) => self.performed += 1,
            (Some(_), true) => self.undone += 1,
            (Some(_), false) => self.half_done += 1,
        }
    }

    /// The sum of both.
    pub fn and(self, other: Self) -> Self {
        Self {
            ready: self.ready + other.ready,
            failed: self.failed + other.failed,
            timed_out: self.timed_out + other.timed_out,
            expired: self.expired + other.expired,
            performed: self.performed + other.performed,
            undone: self.undone + other.undone,
            half_done: self.half_done + other.half_done,
            adopted: self.adopted + other.adopted,
            lives: self.lives + other.lives,
            by_hand: self.by_hand + other.by_hand,
        }
    }
}
