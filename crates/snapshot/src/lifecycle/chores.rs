//! Work on one snapshot after the other that ends with its being gone.

use alloc::collections::VecDeque;
use alloc::vec::Vec;

use super::{Command, Fault, errno};
use crate::name::Name;
use crate::record::{Phase, Record};

/// A list of removals.
#[derive(Clone, Debug, Default)]
pub(super) struct Chores {
    waiting: VecDeque<Chore>,
    current: Option<Chore>,
    /// Snapshots that are gone, with everything that belongs to them.
    pub(super) gone: Vec<Name>,
    /// What failed.
    pub(super) failed: Vec<(Name, Fault)>,
    /// A file system may still be frozen.
    pub(super) frozen: Option<Fault>,
}

/// The removal of one snapshot.
#[derive(Clone, Debug)]
struct Chore {
    record: Record,
    steps: VecDeque<Command>,
    /// One failed: the record stays, for another to try.
    failed: bool,
}

impl Chores {
    /// Removes what `record` is about. What is whole is first written down as going; what was being
    /// taken is first brought back to where it was, applications and all.
    pub(super) fn remove(&mut self, record: &Record) {
        let mut steps = VecDeque::new();
        match &record.phase {
            Phase::Taking { frozen, after } => {
                if *frozen {
                    steps.push_back(Command::Thaw {
                        origins: record.origins.clone(),
                    });
                }
                if let Some(program) = after {
                    steps.push_back(Command::Hook {
                        program: program.clone(),
                        before: false,
                        origins: record.origins.clone(),
                        name: record.name,
                    });
                }
            }
            Phase::Made => steps.push_back(Command::Write(Record {
                phase: Phase::Removing,
                ..record.clone()
            })),
            Phase::Removing => {}
        }
        steps.extend(record.origins.iter().map(|origin| Command::Remove {
            origin: origin.clone(),
            name: record.name,
            means: record.means.clone(),
        }));
        steps.push_back(Command::Forget {
            name: record.name,
            origins: record.origins.clone(),
        });
        self.push(record, steps);
    }

    /// Forgets a record whose snapshot is gone.
    pub(super) fn forget(&mut self, record: &Record) {
        let forget = Command::Forget {
            name: record.name,
            origins: record.origins.clone(),
        };
        self.push(record, [forget].into());
    }

    fn push(&mut self, record: &Record, steps: VecDeque<Command>) {
        self.waiting.push_back(Chore {
            record: record.clone(),
            steps,
            failed: false,
        });
    }

    /// What is next; `None`: all is done, as far as it can be.
    pub(super) fn next(&mut self) -> Option<Command> {
        loop {
            let chore = match &mut self.current {
                Some(chore) => chore,
                None => self.current.insert(self.waiting.pop_front()?),
            };
            match chore.steps.front() {
                // Another try begins with the record.
                Some(Command::Forget { .. }) if chore.failed => chore.steps.clear(),
                Some(command) => return Some(command.clone()),
                None => {
                    if !chore.failed {
                        self.gone.push(chore.record.name);
                    }
                    self.current = None;
                }
            }
        }
    }

    /// How the last one went.
    pub(super) fn went(&mut self, result: Result<(), Fault>) {
        let Some(chore) = &mut self.current else {
            return;
        };
        let Some(step) = chore.steps.pop_front() else {
            return;
        };
        let Err(fault) = result else { return };
        match step {
            // What is to be removed may be what the room is taken by: it goes, and what is left of it,
            // if this ends here, is not whole, and goes with the next sweep.
            Command::Write(_) if fault.errno == errno::NOSPC => return,
            // Without the record nobody would know of what is half removed.
            Command::Write(_) => chore.steps.clear(),
            Command::Thaw { .. } => self.frozen = Some(fault.clone()),
            _ => {}
        }
        chore.failed = true;
        self.failed.push((chore.record.name, fault));
    }
}
