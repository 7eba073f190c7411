//! Finishing what a crash left, and removing what is not kept.

use alloc::vec::Vec;

use super::chores::Chores;
use super::{Command, Ending, Event, Fault, Left, Look, Swept, errno, widened};
use crate::found::{Found, Health};
use crate::limits;
use crate::origin::Origin;
use crate::policy::Aged;
use crate::record::Record;
use crate::settings::Means;

/// One sweep over some origins: those of one record, or of one entry.
#[derive(Clone, Debug)]
pub struct Sweep {
    origins: Vec<Origin>,
    means: Means,
    stage: Stage,
    chores: Chores,
    swept: Swept,
    relocks: usize,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stage {
    Before,
    Locking,
    Looking,
    Working,
}

impl Sweep {
    /// A sweep over `origins`.
    pub fn new(mut origins: Vec<Origin>, means: Means) -> Self {
        origins.sort();
        origins.dedup();
        Self {
            origins,
            means,
            stage: Stage::Before,
            chores: Chores::default(),
            swept: Swept::default(),
            relocks: 0,
        }
    }

    /// What comes next.
    pub fn next(&mut self, event: Event) -> Command {
        match (self.stage, event) {
            (Stage::Before, Event::Begin) => self.lock(),
            (Stage::Locking, Event::Done) => {
                self.stage = Stage::Looking;
                Command::Look {
                    origins: self.origins.clone(),
                    means: self.means.clone(),
                    states: false,
                    only: None,
                }
            }
            (Stage::Looking, Event::Looked(look)) => self.looked(&look),
            (Stage::Working, Event::Done) => self.went(Ok(())),
            (Stage::Working, Event::Failed(fault)) => self.went(Err(fault)),
            (_, Event::Failed(fault)) => self.given_up(fault),
            (_, event) => self.given_up(Fault::unexpected(&event)),
        }
    }

    fn lock(&mut self) -> Command {
        self.stage = Stage::Locking;
        Command::Lock {
            origins: self.origins.clone(),
        }
    }

    fn given_up(&mut self, fault: Fault) -> Command {
        self.swept.left.push(Left { name: None, fault });
        self.end()
    }

    fn looked(&mut self, look: &Look) -> Command {
        if let Some(all) = widened(look, &self.origins) {
            self.relocks += 1;
            if self.relocks > limits::RELOCKS {
                let text = "groups that were left unfinished overlap without end";
                return self.given_up(Fault::new(errno::IO, text));
            }
            self.origins = all;
            return self.lock();
        }
        for record in look.records.iter().filter(|record| record.is_unfinished()) {
            self.chores.remove(record);
        }
        for series in series(look, &self.origins, &self.means) {
            self.retain(look, &series);
        }
        self.stage = Stage::Working;
        self.next_chore()
    }

    /// Removes what the newest record's policy does not keep of a series.
    fn retain(&mut self, look: &Look, series: &[Record]) {
        let Some(newest) = series.iter().max_by_key(|record| record.name) else {
            return;
        };
        let mut candidates: Vec<&Record> = Vec::new();
        let mut aged: Vec<Aged> = Vec::new();
        for record in series {
            let parts: Vec<&Found> = parts(look, record).collect();
            let name = record.name;
            if parts.is_empty() {
                self.chores.forget(record);
                continue;
            }
            let busy = parts.iter().any(|found| found.busy);
            if parts.iter().any(|found| found.health == Health::Overflowed) {
                self.swept.overflowed.push(name);
            }
            // Of a group none may be missing.
            let spoilt = parts.len() < record.origins.len()
                || parts.iter().any(|found| found.health != Health::Good);
            match (spoilt, busy) {
                // Nobody can use it any more.
                (true, false) => self.chores.remove(record),
                // Who still reads it gets errors of the file system; it does not count.
                (true, true) => self.swept.kept.push(name),
                (false, busy) => {
                    candidates.push(record);
                    let used = parts.iter().map(|found| found.used);
                    let used = used.fold(None, |sum: Option<u64>, used| match (sum, used) {
                        (Some(sum), Some(used)) => Some(sum.saturating_add(used)),
                        (one, other) => one.or(other),
                    });
                    aged.push(Aged {
                        taken: name.taken,
                        used,
                        busy,
                    });
                }
            }
        }
        let surplus = newest.policy.surplus(look.now, &aged);
        for (index, record) in candidates.iter().enumerate() {
            if !surplus.contains(&index) {
                self.swept.kept.push(record.name);
            }
        }
        surplus
            .iter()
            .for_each(|index| self.chores.remove(candidates[*index]));
    }

    fn went(&mut self, result: Result<(), Fault>) -> Command {
        self.chores.went(result);
        self.next_chore()
    }

    fn next_chore(&mut self) -> Command {
        match self.chores.next() {
            Some(command) => command,
            None => self.end(),
        }
    }

    fn end(&mut self) -> Command {
        self.stage = Stage::Before;
        let chores = core::mem::take(&mut self.chores);
        let mut swept = core::mem::take(&mut self.swept);
        swept.removed = chores.gone;
        let left = chores.failed.into_iter();
        swept.left.extend(left.map(|(name, fault)| Left {
            name: Some(name),
            fault,
        }));
        Command::End(Ending::Swept(swept))
    }
}

/// What is listed of a record.
fn parts<'l>(look: &'l Look, record: &'l Record) -> impl Iterator<Item = &'l Found> {
    look.listed
        .iter()
        .filter(|found| record.is_of(&found.origin, found.name))
}

/// The finished records, those counted together in one list. Only such are here whose locks are all
/// held. What is ours but has no record (the journal was lost) stays: nobody says that it is not
/// wanted. If a record of the origin tells how long such are kept, it is one of that series.
fn series(look: &Look, held: &[Origin], means: &Means) -> Vec<Vec<Record>> {
    let is_held = |record: &&Record| record.origins.iter().all(|origin| held.contains(origin));
    let finished = look
        .records
        .iter()
        .filter(|record| !record.is_unfinished())
        .filter(is_held);
    let mut all: Vec<Vec<Record>> = Vec::new();
    for record in finished {
        let same = |list: &&mut Vec<Record>| {
            list[0].origins == record.origins && list[0].series == record.series
        };
        match all.iter_mut().find(same) {
            Some(list) => list.push(record.clone()),
            None => all.push(alloc::vec![record.clone()]),
        }
    }
    for found in &look.listed {
        if look
            .records
            .iter()
            .any(|record| record.is_of(&found.origin, found.name))
        {
            continue;
        }
        let alone = |list: &&mut Vec<Record>| list[0].origins == [found.origin.clone()];
        let newest = |list: &&mut Vec<Record>| list.iter().map(|record| record.name).max();
        if let Some(list) = all.iter_mut().filter(|list| alone(list)).max_by_key(newest) {
            let like = list.iter().max_by_key(|record| record.name).cloned();
            list.extend(like.map(|like| Record {
                name: found.name,
                means: means.clone(),
                ..like
            }));
        }
    }
    all
}
