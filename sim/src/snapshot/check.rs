//! The invariants.

use piton_snapshot::lifecycle::{Command, Fault};
use piton_snapshot::{
    Consistency, Health, Manifest, Name, Origin, Phase, Policy, Record, Timestamp, When,
};

use super::disk::Snapshot;
use super::{Machine, Process, World};

impl World {
    /// What must hold when a command is given.
    pub(super) fn check_command(&mut self, place: usize, command: &Command) {
        let wrong = match command {
            Command::Write(Record {
                phase: Phase::Taking { .. },
                origins,
                ..
            })
            | Command::Create { origins, .. }
            | Command::Freeze { origins } => self.alone(place, origins),
            Command::Remove { origin, name, .. } => self.removable(place, origin, *name),
            Command::Mount {
                origin,
                name,
                manifest,
                ..
            } => self.servable(place, origin, *name, manifest),
            _ => None,
        };
        if let Some(why) = wrong {
            self.fail(why);
        }
    }

    /// Nobody else is at work on these origins.
    fn alone(&self, place: usize, origins: &[Origin]) -> Option<String> {
        let me = self.processes[place].number;
        let others = self.processes.iter().filter(|it| it.number != me);
        let other = others.filter(|it| it.takes.is_some()).find(|it| {
            let unfinished = |(theirs, name): &(Vec<Origin>, Name)| {
                theirs.iter().any(|origin| origins.contains(origin))
                    && self.disk.records().any(|record| {
                        record.name == *name && matches!(record.phase, Phase::Taking { .. })
                    })
            };
            it.takes.as_ref().is_some_and(unfinished)
        })?;
        Some(format!(
            "[{me}] and [{}] take a snapshot of one origin",
            other.number
        ))
    }

    fn snapshot(&self, origin: &Origin, name: Name) -> Option<&Snapshot> {
        self.disk.snapshots.get(&(origin.clone(), name))
    }

    /// It may be removed.
    fn removable(&self, place: usize, origin: &Origin, name: Name) -> Option<String> {
        let snapshot = self.snapshot(origin, name)?;
        if !snapshot.ours {
            return Some(format!(
                "somebody else's {name:?} of {origin} is to be removed"
            ));
        }
        let process = &self.processes[place];
        let own = process
            .takes
            .as_ref()
            .is_some_and(|(_, takes)| *takes == name);
        let seen = process.looked.as_ref()?;
        // What was whole when it was last looked at; of the rest nothing is worth keeping.
        let was_made = seen
            .records
            .iter()
            .find(|record| record.is_of(origin, name) && record.phase == Phase::Made)?;
        let mounted = self
            .disk
            .mounted
            .iter()
            .find(|it| it.origin == *origin && it.name == name);
        if let Some(mounted) = mounted {
            return Some(format!(
                "{} is to be removed under its users",
                mounted.target
            ));
        }
        if own || !self.is_whole(&was_made.origins, name) {
            return None;
        }
        let policy = self.policy_of(was_made);
        let newer = self.disk.records().filter(|record| {
            same_series(record, was_made)
                && record.name > name
                && record.phase == Phase::Made
                && self.is_whole(&record.origins, record.name)
        });
        let rank = newer.count();
        let age = name.taken.until(Timestamp(self.disk.now));
        let young = policy.keep_for.is_some_and(|length| age < length);
        (rank < policy.keep as usize || young)
            .then(|| format!("{name:?} of {origin} is to be kept, and is removed"))
    }

    /// The policy of the newest of a series.
    fn policy_of(&self, record: &Record) -> Policy {
        let series = self
            .disk
            .records()
            .filter(|other| same_series(other, record) && other.phase == Phase::Made);
        series
            .max_by_key(|other| other.name)
            .map_or(record.policy, |newest| newest.policy)
    }

    fn is_whole(&self, origins: &[Origin], name: Name) -> bool {
        origins.iter().all(|origin| {
            self.snapshot(origin, name)
                .is_some_and(|it| it.ours && it.health == Health::Good)
        })
    }

    /// It may be mounted for this access.
    fn servable(
        &self,
        place: usize,
        origin: &Origin,
        name: Name,
        manifest: &Manifest,
    ) -> Option<String> {
        let process = &self.processes[place];
        let Machine::Access(_, _, settings) = &process.machine else {
            return Some("a sweep mounts something".into());
        };
        let Some(snapshot) = self.snapshot(origin, name) else {
            return Some(format!("{name:?} of {origin} is served and is not there"));
        };
        if !snapshot.ours || snapshot.health != Health::Good {
            return Some(format!(
                "{name:?} of {origin} is served: {:?}",
                snapshot.health
            ));
        }
        if self
            .disk
            .records()
            .any(|record| record.is_of(origin, name) && record.is_unfinished())
        {
            return Some(format!(
                "{name:?} of {origin} is served and is not finished"
            ));
        }
        let group: Vec<&Snapshot> = settings
            .origins
            .iter()
            .filter_map(|origin| self.snapshot(origin, name))
            .collect();
        let at_once = group.iter().all(|it| it.instant == snapshot.instant);
        if group.len() < settings.origins.len() || !at_once {
            return Some(format!("the group {name:?} is not of one instant"));
        }
        // Used when the access looked.
        let used = process.looked.as_ref().is_some_and(|look| {
            let mut listed = look.listed.iter();
            listed.any(|found| found.name == name && found.busy)
        });
        let shared = settings.origins.len() > 1 && used;
        if settings.when == When::Fresh && snapshot.instant < process.began && !shared {
            return Some(format!("{name:?} of {origin} is older than the access"));
        }
        let volume = &self.disk.volumes[origin];
        let real = match (volume.instant, snapshot.frozen, snapshot.quiet) {
            (false, ..) => Consistency::FileByFile,
            (true, _, true) => Consistency::Application,
            (true, true, false) => Consistency::Frozen,
            (true, false, false) => Consistency::Crash,
        };
        (manifest.consistency > real).then(|| {
            format!(
                "{name:?} is said to be {}, and is {real}",
                manifest.consistency
            )
        })
    }

    /// An access fails only for a reason.
    pub(super) fn check_refusal(&mut self, process: &Process, fault: &Fault) {
        let Machine::Access(_, _, settings) = &process.machine else {
            return;
        };
        let look = process.looked.as_ref();
        let full = look.is_some_and(|look| look.states.iter().any(|it| it.fill.percent >= 95));
        let none = settings.when != When::Fresh && fault.errno == 2;
        let spoilt =
            look.is_some_and(|look| look.listed.iter().any(|found| found.health != Health::Good));
        let errno = fault.errno;
        if !(process.excused || full || none || spoilt || errno == 16) {
            self.fail(format!("an access fails without a reason: {}", fault.text));
        }
    }

    /// What must hold when all is quiet.
    pub(super) fn check_rest(&mut self) {
        let mut wrong = Vec::new();
        for (origin, volume) in &self.disk.volumes {
            if volume.frozen || volume.quiet {
                wrong.push(format!("{origin} stays frozen or waiting"));
            }
        }
        for record in self.disk.records() {
            let there = record
                .origins
                .iter()
                .any(|it| self.snapshot(it, record.name).is_some());
            if record.is_unfinished() || !there {
                wrong.push(format!("the journal still has {record:?}"));
            }
        }
        let foreign = self.disk.snapshots.values().filter(|it| !it.ours).count();
        if foreign != 1 {
            wrong.push("somebody else's snapshot is gone".into());
        }
        for ((origin, name), snapshot) in &self.disk.snapshots {
            if !snapshot.ours {
                continue;
            }
            let record = self
                .disk
                .records()
                .find(|record| record.is_of(origin, *name));
            let kept = record.is_some_and(|record| {
                let newer = self
                    .disk
                    .records()
                    .filter(|other| same_series(other, record) && other.name > *name);
                let policy = self.policy_of(record);
                let age = name.taken.until(Timestamp(self.disk.now));
                newer.count() < policy.keep as usize
                    || policy.keep_for.is_some_and(|length| age <= length)
            });
            if !kept || snapshot.health != Health::Good {
                wrong.push(format!("{name:?} of {origin} is left behind"));
            }
        }
        if let Some(why) = wrong.into_iter().next() {
            self.fail(why);
        }
    }
}

fn same_series(one: &Record, other: &Record) -> bool {
    one.origins == other.origins && one.series == other.series
}
