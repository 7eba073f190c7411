//! Carrying out commands, with what may go wrong.

use piton_snapshot::lifecycle::{Command, Ending, Event, Fault};
use piton_snapshot::{Health, Phase};

use super::disk::Mounted;
use super::{LINES, Machine, Mutation, World};

/// What goes wrong with one command.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Trouble {
    None,
    /// It is not done, and that is said.
    Refused,
    /// It is done, and the contrary is said.
    Misreported,
    /// Only the first part is done, and a failure is said.
    Half,
    /// The process dies before it, in the middle, or after it.
    DeathBefore,
    DeathWithin,
    DeathAfter,
}

impl World {
    /// Some process goes on by one command.
    pub(super) fn step(&mut self) {
        if self.processes.is_empty() {
            return;
        }
        let place = self.rng.below(self.processes.len() as u64) as usize;
        if self.processes[place].wants.is_some() {
            self.try_lock(place);
            return;
        }
        let process = &mut self.processes[place];
        let Some(event) = process.event.take() else {
            return;
        };
        let command = match &mut process.machine {
            Machine::Access(access, ..) => access.next(event),
            Machine::Sweep(sweep) => sweep.next(event),
        };
        let number = process.number;
        self.say(|| format!("[{number}] {command:?}"));
        self.carry_out(place, command);
    }

    fn try_lock(&mut self, place: usize) {
        let me = &self.processes[place];
        let (number, wants) = (me.number, me.wants.clone().unwrap_or_default());
        let others = self.processes.iter().filter(|it| it.number != number);
        let free = wants
            .iter()
            .all(|it| !others.clone().any(|one| one.holds.contains(it)));
        let free = free || self.mutation == Some(Mutation::SharedLock);
        let impatient = !self.calm && self.rng.chance(20);
        let process = &mut self.processes[place];
        if free {
            process.holds = wants;
            process.wants = None;
            process.event = Some(Event::Done);
        } else if impatient {
            process.wants = None;
            process.excused = true;
            process.event = Some(Event::Failed(Fault::new(110, "somebody holds the lock")));
        }
    }

    fn trouble(&mut self, command: &Command) -> Trouble {
        if self.calm || !self.rng.chance(60) || matches!(command, Command::End(_)) {
            return Trouble::None;
        }
        let part = matches!(command, Command::Create { .. });
        match self.rng.below(6) {
            0 => Trouble::DeathBefore,
            1 => Trouble::DeathAfter,
            2 if part => Trouble::DeathWithin,
            3 if part => Trouble::Half,
            // A failed mount has mounted nothing: mounts appear whole, as the last step.
            // What a program of the administrator does when it fails is not for us to mend.
            _ if matches!(command, Command::Hook { before: false, .. }) => Trouble::Misreported,
            4 if !matches!(command, Command::Mount { .. }) => Trouble::Misreported,
            _ => Trouble::Refused,
        }
    }

    fn carry_out(&mut self, place: usize, command: Command) {
        if let Command::End(ending) = command {
            return self.end(place, ending);
        }
        let trouble = self.trouble(&command);
        if trouble != Trouble::None {
            self.say(|| format!("      {trouble:?}"));
        }
        if trouble == Trouble::DeathBefore {
            return self.kill(place);
        }
        if self.view_refuses(&command) {
            let process = &mut self.processes[place];
            process.excused = true;
            process.event = Some(Event::Failed(Fault::new(5, "it has overflowed")));
            return;
        }
        self.check_command(place, &command);
        if self.report.failure.is_some() {
            return;
        }
        let dropped = self.mutation.is_some_and(|it| it.drops(&command));
        let partly = matches!(trouble, Trouble::Half | Trouble::DeathWithin);
        let event = match trouble {
            Trouble::Refused => None,
            _ if dropped => Some(Event::Done),
            _ => self.effect(place, &command, partly),
        };
        match trouble {
            Trouble::DeathAfter | Trouble::DeathWithin => return self.kill(place),
            _ => {}
        }
        let process = &mut self.processes[place];
        process.event = match trouble {
            // Waiting for the lock.
            Trouble::None if event.is_none() => None,
            Trouble::None => event,
            _ => {
                process.excused = true;
                process.wants = None;
                let errno = match &command {
                    // The disk of the journal is full, as often as it is broken.
                    Command::Write(record) if record.name.taken.0.is_multiple_of(2) => 28,
                    _ => 5,
                };
                Some(Event::Failed(Fault::new(errno, "a fault")))
            }
        };
    }

    /// Who mounts looks at the snapshot once more: it may have overflowed since.
    fn view_refuses(&self, command: &Command) -> bool {
        let Command::Mount { origin, name, .. } = command else {
            return false;
        };
        let snapshot = self.disk.snapshots.get(&(origin.clone(), *name));
        self.mutation != Some(Mutation::OverflowIgnored)
            && snapshot.is_some_and(|snapshot| snapshot.health != Health::Good)
    }

    /// What a command does; none if it has to be waited for.
    fn effect(&mut self, place: usize, command: &Command, partly: bool) -> Option<Event> {
        match command {
            Command::Lock { origins } => {
                let process = &mut self.processes[place];
                process.holds.clear();
                process.wants = Some(origins.clone());
                return None;
            }
            Command::Look {
                origins, states, ..
            } => {
                let foreign = self.mutation == Some(Mutation::ForeignListed);
                let mut look = self.disk.look(origins, *states, foreign);
                if look.records.iter().any(|record| record.is_unfinished()) {
                    self.report.seen.mended += 1;
                }
                if let Some(mutation) = self.mutation {
                    mutation.look(&mut look);
                }
                self.processes[place].looked = Some(look.clone());
                return Some(Event::Looked(look));
            }
            Command::Write(record) => {
                if let Phase::Taking { .. } = record.phase {
                    self.processes[place].takes = Some((record.origins.clone(), record.name));
                }
                self.disk.write(record.clone());
            }
            Command::Forget { name, origins } => {
                let stored = self.rng.chance(500);
                self.disk.forget(*name, origins, stored);
            }
            Command::Hook {
                before, origins, ..
            } => {
                let volumes = self.disk.volumes.iter_mut();
                let told = volumes.filter(|(origin, _)| origins.contains(origin));
                told.for_each(|(_, volume)| volume.quiet = *before);
            }
            Command::Freeze { origins } => self.freeze(origins, true),
            Command::Thaw { origins } => self.freeze(origins, false),
            Command::Create { origins, name, .. } => {
                let count = if partly {
                    origins.len() - 1
                } else {
                    origins.len()
                };
                let apart = self.mutation == Some(Mutation::NotAtOnce);
                self.disk.create(origins, *name, count, apart);
            }
            Command::Remove { origin, name, .. } => return Some(self.removal(origin, *name)),
            Command::Mount { origin, name, .. } => {
                if let Machine::Access(_, line, _) = self.processes[place].machine {
                    self.disk.mounted.push(Mounted {
                        target: LINES[line].target,
                        origin: origin.clone(),
                        name: *name,
                    });
                }
            }
            Command::End(_) => {}
        }
        Some(Event::Done)
    }

    fn removal(&mut self, origin: &piton_snapshot::Origin, name: piton_snapshot::Name) -> Event {
        let was_there = self.disk.snapshots.contains_key(&(origin.clone(), name));
        match self.disk.remove(origin, name) {
            Ok(()) => {
                self.report.seen.removed += u64::from(was_there);
                Event::Done
            }
            Err(fault) => Event::Failed(fault),
        }
    }

    fn freeze(&mut self, origins: &[piton_snapshot::Origin], frozen: bool) {
        let volumes = self.disk.volumes.iter_mut();
        let those = volumes.filter(|(origin, _)| origins.contains(origin));
        those
            .filter(|(_, volume)| !volume.freezes)
            .for_each(|(_, volume)| volume.frozen = frozen);
    }

    fn end(&mut self, place: usize, ending: Ending) {
        let process = self.processes.swap_remove(place);
        match ending {
            Ending::Mounted { fresh: true, .. } => self.report.seen.fresh += 1,
            Ending::Mounted { .. } => self.report.seen.existing += 1,
            Ending::Swept(_) => {}
            Ending::Failed(fault) => {
                self.report.seen.refused += 1;
                self.check_refusal(&process, &fault);
                // Who started it sweeps after a failure.
                if let Some((origins, _)) = process.takes {
                    self.sweep(origins);
                }
            }
        }
    }
}
