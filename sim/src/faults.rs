//! What may go wrong in one world. Each seed has its own mixture: many worlds in which one
//! thing often fails find more than one world in which everything sometimes does.

use std::ops::Index;

use crate::rng::Rng;

/// Something that may go wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Fault {
    /// A mount fails.
    Mount,
    /// A trigger cannot be put in place.
    Install,
    /// A trigger of an earlier life cannot be taken over.
    Adopt,
    /// A directory cannot be made.
    Directory,
    /// An unmount or a removal fails although nobody uses it.
    Busy,
    /// What was done cannot be taken back.
    Undo,
    /// A worker dies in a step, which is done by then or is not.
    Worker,
    /// A look-up fails.
    Fetch,
    /// A look-up brings a wrong, torn or old text.
    Lie,
    /// A server's name is unknown.
    Host,
    /// A mount or an answer takes seconds.
    Slow,
    /// A mount or an answer takes longer than any deadline.
    Stuck,
    /// A mount that should be given up at its deadline is not.
    Overrun,
    /// Somebody unmounts by hand.
    Tamper,
    /// The daemon dies; the keeper starts another one.
    Crash,
    /// The new daemon dies as well.
    Again,
    /// The keeper dies.
    Keeper,
    /// The table of requests is small.
    Table,
    /// The engine's queues are short.
    Queue,
    /// The clock leaps forward.
    Jump,
    /// Many processes come at once.
    Burst,
    /// The daemon is stopped and started again.
    Restart,
    /// The configuration changes.
    Reload,
    /// Somebody edits a map.
    Edit,
    /// Operators ask for something.
    Operate,
    /// Processes are killed while they wait.
    Kill,
    /// A server is dead for a while.
    Server,
}

impl Fault {
    /// All of them, with how often of 1,000 each happens at most, and their names.
    pub const ALL: [(Self, u64, &'static str); 27] = [
        (Self::Mount, 400, "mount"),
        (Self::Install, 200, "install"),
        (Self::Adopt, 150, "adopt"),
        (Self::Directory, 100, "directory"),
        (Self::Busy, 300, "busy"),
        (Self::Undo, 300, "undo"),
        (Self::Worker, 150, "worker"),
        (Self::Fetch, 300, "fetch"),
        (Self::Lie, 200, "lie"),
        (Self::Host, 300, "host"),
        (Self::Slow, 300, "slow"),
        (Self::Stuck, 30, "stuck"),
        (Self::Overrun, 1_000, "overrun"),
        (Self::Tamper, 150, "tamper"),
        (Self::Crash, 200, "crash"),
        (Self::Again, 500, "again"),
        (Self::Keeper, 100, "keeper"),
        (Self::Table, 500, "table"),
        (Self::Queue, 300, "queue"),
        (Self::Jump, 60, "jump"),
        (Self::Burst, 60, "burst"),
        (Self::Restart, 60, "restart"),
        (Self::Reload, 150, "reload"),
        (Self::Edit, 200, "edit"),
        (Self::Operate, 200, "operate"),
        (Self::Kill, 200, "kill"),
        (Self::Server, 500, "server"),
    ];

    /// Its name on the command line.
    pub fn name(self) -> &'static str {
        Self::ALL[self as usize].2
    }

    /// The fault called `name`.
    pub fn named(name: &str) -> Option<Self> {
        let found = Self::ALL.iter().find(|(_, _, it)| *it == name);
        found.map(|(fault, ..)| *fault)
    }
}

/// How often, of 1,000, each thing goes wrong.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Faults([u64; Fault::ALL.len()]);

impl Faults {
    /// The mixture of a seed.
    pub fn new(rng: &mut Rng) -> Self {
        // In some worlds nothing goes wrong but what Piton has in its own hands: there no access
        // has an excuse to fail.
        let own = rng.chance(300);
        // In half of these servers die, and operators care: there all that can move must.
        let servers = rng.chance(500);
        Self(Fault::ALL.map(|(fault, most, _)| {
            let often = match rng.below(3) {
                0 => 0,
                1 => rng.below(most / 4 + 1),
                _ => rng.below(most + 1),
            };
            let allowed = match fault {
                Fault::Crash | Fault::Again | Fault::Burst | Fault::Kill | Fault::Keeper => true,
                Fault::Server | Fault::Operate => servers,
                _ => false,
            };
            match own && !allowed {
                true => 0,
                false if own && fault == Fault::Server => most,
                false => often,
            }
        }))
    }

    /// This never goes wrong.
    pub fn without(&mut self, fault: Fault) {
        self.0[fault as usize] = 0;
    }

    /// What goes wrong at all.
    pub fn some(&self) -> impl Iterator<Item = Fault> {
        let all = Fault::ALL.into_iter().map(|(fault, ..)| fault);
        all.filter(|fault| self[*fault] > 0)
    }
}

impl Index<Fault> for Faults {
    type Output = u64;

    fn index(&self, fault: Fault) -> &u64 {
        &self.0[fault as usize]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_fault_has_its_row_and_name() {
        for (at, (fault, _, name)) in Fault::ALL.into_iter().enumerate() {
            assert_eq!(fault as usize, at);
            assert_eq!(Fault::named(name), Some(fault));
            assert_eq!(fault.name(), name);
        }
        assert_eq!(Fault::named("rain"), None);
    }

    #[test]
    fn what_is_left_out_does_not_happen() {
        let mut faults = (0..)
            .map(|seed| Faults::new(&mut Rng::new(seed)))
            .find(|faults| faults[Fault::Mount] > 0)
            .unwrap();
        faults.without(Fault::Mount);
        assert!(faults.some().all(|fault| fault != Fault::Mount));
    }
}
