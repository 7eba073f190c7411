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
    /// Deaths of the daemon.
    pub crashes: u64,
    /// Those of them in which no steps were under way.
    pub crashes_idle: u64,
    /// Requests that a successor took up again.
    pub resumed: u64,
    /// Requests that the keeper answered.
    pub substituted: u64,
    /// Requests for which the table had no place.
    pub untracked: u64,
    /// Requests that died with a daemon, since they were not in the table.
    pub lost: u64,
    /// Deaths of the keeper.
    pub keepers: u64,
    /// Deaths of the daemon without a keeper: whoever waited got an error.
    pub both_dead: u64,
    /// Steps that were done when their worker died.
    pub workers: u64,
    /// Triggers that could not be taken over.
    pub not_adopted: u64,
    /// Wrong or torn answers of sources.
    pub lies: u64,
    /// Trees that a dead daemon left half done.
    pub half: u64,
    /// Accesses that were refused since a queue was full.
    pub overloaded: u64,
    /// Mounts that moved from a dead or drained server to another.
    pub moved: u64,
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

    /// What it counts, by name.
    pub fn counts(&self) -> [(&'static str, u64); 24] {
        [
            ("ready", self.ready),
            ("failed", self.failed),
            ("timed out", self.timed_out),
            ("expired", self.expired),
            ("performed", self.performed),
            ("undone", self.undone),
            ("half done", self.half_done),
            ("adopted", self.adopted),
            ("lives", self.lives),
            ("by hand", self.by_hand),
            ("crashes", self.crashes),
            ("crashes idle", self.crashes_idle),
            ("resumed", self.resumed),
            ("substituted", self.substituted),
            ("untracked", self.untracked),
            ("lost", self.lost),
            ("keepers", self.keepers),
            ("both dead", self.both_dead),
            ("workers", self.workers),
            ("not adopted", self.not_adopted),
            ("lies", self.lies),
            ("half", self.half),
            ("overloaded", self.overloaded),
            ("moved", self.moved),
        ]
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
            crashes: self.crashes + other.crashes,
            crashes_idle: self.crashes_idle + other.crashes_idle,
            resumed: self.resumed + other.resumed,
            substituted: self.substituted + other.substituted,
            untracked: self.untracked + other.untracked,
            lost: self.lost + other.lost,
            keepers: self.keepers + other.keepers,
            both_dead: self.both_dead + other.both_dead,
            workers: self.workers + other.workers,
            not_adopted: self.not_adopted + other.not_adopted,
            lies: self.lies + other.lies,
            half: self.half + other.half,
            overloaded: self.overloaded + other.overloaded,
            moved: self.moved + other.moved,
        }
    }
}
