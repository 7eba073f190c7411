//! What outlives a process: volumes, snapshots, the journal, and what is mounted.

use std::collections::BTreeMap;

use piton_snapshot::lifecycle::{Fault, Look};
use piton_snapshot::{
    Fill, Found, Health, Kind, Name, Origin, Phase, Policy, Record, State, Timestamp,
};

/// A volume.
#[derive(Clone, Debug)]
pub(super) struct Volume {
    /// Its file system is frozen.
    pub(super) frozen: bool,
    /// Its applications were told to wait.
    pub(super) quiet: bool,
    /// Percent of its room.
    pub(super) percent: u8,
    /// Taking a snapshot freezes it anyway.
    pub(super) freezes: bool,
    /// A snapshot of it is one instant.
    pub(super) instant: bool,
}

/// A snapshot.
#[derive(Clone, Debug)]
pub(super) struct Snapshot {
    /// When it was really taken: a number that grows with everything that happens.
    pub(super) instant: u64,
    /// Whether the file system stood still, and applications did.
    pub(super) frozen: bool,
    pub(super) quiet: bool,
    pub(super) health: Health,
    /// It carries our mark.
    pub(super) ours: bool,
    /// Somebody mounted it by hand, in a namespace of their own.
    pub(super) borrowed: bool,
}

/// A record as processes see it, and as it would be found after a power failure.
#[derive(Clone, Debug, Default)]
struct Entry {
    seen: Option<Record>,
    stored: Option<Record>,
}

/// Something of ours that is mounted.
#[derive(Clone, Debug)]
pub(super) struct Mounted {
    pub(super) target: &'static str,
    pub(super) origin: Origin,
    pub(super) name: Name,
}

/// All of it.
#[derive(Clone, Debug, Default)]
pub(super) struct Disk {
    /// Milliseconds since 1970.
    pub(super) now: u64,
    /// How much has happened.
    pub(super) tick: u64,
    pub(super) volumes: BTreeMap<Origin, Volume>,
    pub(super) snapshots: BTreeMap<(Origin, Name), Snapshot>,
    journal: BTreeMap<(Vec<Origin>, Name), Entry>,
    pub(super) mounted: Vec<Mounted>,
}

pub(super) fn origin(name: &str) -> Origin {
    let kind = if name == "c" {
        Kind::Directory
    } else {
        Kind::Image
    };
    match Origin::new(kind, format!("/v/{name}").as_str().into()) {
        Ok(origin) => origin,
        Err(why) => panic!("{why}"),
    }
}

impl Disk {
    /// Three volumes: one that has to be frozen, one that freezes by itself, and a directory.
    pub(super) fn new() -> Self {
        let volume = |freezes, instant| Volume {
            frozen: false,
            quiet: false,
            percent: 10,
            freezes,
            instant,
        };
        let volumes = [
            (origin("a"), volume(false, true)),
            (origin("b"), volume(true, true)),
            (origin("c"), volume(false, false)),
        ];
        Self {
            now: 1_000_000,
            volumes: volumes.into(),
            ..Self::default()
        }
    }

    pub(super) fn records(&self) -> impl Iterator<Item = &Record> {
        self.journal
            .values()
            .filter_map(|entry| entry.seen.as_ref())
    }

    pub(super) fn write(&mut self, record: Record) {
        // As the real journal: what is neither kept nor unfinished need not survive a power failure.
        let durable = record.phase != Phase::Made || record.policy != Policy::default();
        let key = (record.origins.clone(), record.name);
        let entry = self.journal.entry(key).or_default();
        if durable {
            entry.stored = Some(record.clone());
        }
        entry.seen = Some(record);
    }

    /// `stored`: the removal itself has come to the disk.
    pub(super) fn forget(&mut self, name: Name, origins: &[Origin], stored: bool) {
        if let Some(entry) = self.journal.get_mut(&(origins.to_vec(), name)) {
            entry.seen = None;
            if stored {
                entry.stored = None;
            }
        }
    }

    /// The machine loses its power: nothing is mounted, frozen or held any more.
    pub(super) fn lose_power(&mut self) {
        self.mounted.clear();
        for entry in self.journal.values_mut() {
            entry.seen = entry.stored.clone();
        }
        for volume in self.volumes.values_mut() {
            (volume.frozen, volume.quiet) = (false, false);
        }
        self.snapshots
            .values_mut()
            .for_each(|snapshot| snapshot.borrowed = false);
    }

    pub(super) fn is_busy(&self, origin: &Origin, name: Name) -> bool {
        let is_it = |it: &Mounted| it.origin == *origin && it.name == name;
        let borrowed = self.snapshots.get(&(origin.clone(), name));
        self.mounted.iter().any(is_it) || borrowed.is_some_and(|snapshot| snapshot.borrowed)
    }

    pub(super) fn look(&self, origins: &[Origin], states: bool, foreign: bool) -> Look {
        let ours = self.snapshots.iter().filter(|((origin, _), snapshot)| {
            origins.contains(origin) && (snapshot.ours || foreign)
        });
        let found = |((origin, name), snapshot): (&(Origin, Name), &Snapshot)| Found {
            origin: origin.clone(),
            name: *name,
            health: snapshot.health,
            used: Some(1),
            busy: self.is_busy(origin, *name),
        };
        let about = |record: &&Record| record.origins.iter().any(|it| origins.contains(it));
        let state = |origin: &Origin| {
            let volume = &self.volumes[origin];
            State {
                origin: origin.clone(),
                fill: Fill {
                    place: "the pool".into(),
                    percent: volume.percent,
                    free: 0,
                },
                mounted: Some("/live".into()),
                freezes: volume.freezes,
                instant: volume.instant,
                whole: true,
                tells_room: true,
            }
        };
        Look {
            now: Timestamp(self.now),
            records: self.records().filter(about).cloned().collect(),
            listed: ours.map(found).collect(),
            states: match states {
                true => origins.iter().map(state).collect(),
                false => Vec::new(),
            },
        }
    }

    /// Makes the first `count` snapshots of a group.
    pub(super) fn create(&mut self, origins: &[Origin], name: Name, count: usize, apart: bool) {
        for (place, origin) in origins.iter().take(count).enumerate() {
            let volume = &self.volumes[origin];
            let instant = if apart {
                self.tick + place as u64
            } else {
                self.tick
            };
            let snapshot = Snapshot {
                instant,
                frozen: volume.frozen || volume.freezes,
                quiet: volume.quiet,
                health: if count < origins.len() {
                    Health::Partial
                } else {
                    Health::Good
                },
                ours: true,
                borrowed: false,
            };
            self.snapshots.insert((origin.clone(), name), snapshot);
        }
    }

    /// As providers do it: what is busy or foreign stays.
    pub(super) fn remove(&mut self, origin: &Origin, name: Name) -> Result<(), Fault> {
        let key = (origin.clone(), name);
        match self.snapshots.get(&key) {
            Some(snapshot) if !snapshot.ours => Err(Fault::new(1, "not ours")),
            Some(_) if self.is_busy(origin, name) => Err(Fault::new(16, "busy")),
            _ => {
                self.snapshots.remove(&key);
                Ok(())
            }
        }
    }
}
