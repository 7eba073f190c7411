//! The life of snapshots ([`piton_snapshot::lifecycle`]) in a world that a seed decides: several
//! processes at once that take, serve and remove them, each of which may die before, in the middle of
//! or after any command; faults of providers; power failures; people who mount snapshots by hand.
//!
//! What must hold:
//! - two are never at work on one origin at once;
//! - what is served is whole, good, as new as it was asked for, of one instant where it is said to be,
//!   and as consistent as its manifest says;
//! - nothing is removed that is mounted, that is somebody else's, or that is kept by the map's policy;
//! - when all is quiet again nothing stays frozen or waiting, no work is unfinished, and every
//!   snapshot is mounted, borrowed or kept; and the next access works.

mod check;
mod disk;
mod mutation;
mod work;

use bstr::BString;
use piton_snapshot::lifecycle::{Access, Event, Look, Sweep, Wanted};
use piton_snapshot::{Health, Means, Name, Origin, Settings, Timestamp, When};

pub use self::mutation::Mutation;

use self::disk::{Disk, Mounted, Snapshot, origin};
use crate::rng::Rng;

/// What came of one world.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Report {
    /// The invariant that did not hold.
    pub failure: Option<String>,
    /// What happened, if it was asked for.
    pub trace: Vec<String>,
    /// What was seen.
    pub seen: Seen,
}

/// How often something happened.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Seen {
    /// Accesses that were served with a new snapshot, or with one that existed.
    pub fresh: u64,
    /// See [`Seen::fresh`].
    pub existing: u64,
    /// Accesses that failed.
    pub refused: u64,
    /// Processes that died before a command, or after it.
    pub deaths: u64,
    /// Power failures.
    pub power: u64,
    /// Snapshots that were removed.
    pub removed: u64,
    /// Leftovers of the dead that were found.
    pub mended: u64,
    /// Snapshots that overflowed.
    pub overflows: u64,
}

/// An entry of the map: where, of what, with which options.
pub(crate) struct Line {
    target: &'static str,
    location: &'static str,
    options: &'static [&'static str],
}

const LINES: [Line; 7] = [
    Line {
        target: "/snap/a",
        location: "/v/a",
        options: &["provider=image", "before=/b", "after=/a"],
    },
    Line {
        target: "/kept/a",
        location: "/v/a",
        options: &["provider=image", "keep=2"],
    },
    Line {
        target: "/kept/a@latest",
        location: "/v/a",
        options: &["provider=image", "keep=2", "at=latest"],
    },
    Line {
        target: "/snap/b",
        location: "/v/b",
        options: &["provider=image", "keep-for=1m"],
    },
    Line {
        target: "/db/a",
        location: "/v/a",
        options: &[
            "provider=image",
            "group=a/b",
            "keep=1",
            "freeze=yes",
            "after=/a",
        ],
    },
    Line {
        target: "/db/b",
        location: "/v/b",
        options: &[
            "provider=image",
            "group=a/b",
            "keep=1",
            "freeze=yes",
            "after=/a",
        ],
    },
    Line {
        target: "/files/c",
        location: "/v/c",
        options: &["provider=directory"],
    },
];

/// A process at work.
struct Process {
    number: u64,
    machine: Machine,
    /// What it is told next; none while it waits for a lock.
    event: Option<Event>,
    /// The locks it waits for.
    wants: Option<Vec<Origin>>,
    holds: Vec<Origin>,
    /// When it began.
    began: u64,
    looked: Option<Look>,
    /// The snapshot it is taking or has taken.
    takes: Option<(Vec<Origin>, Name)>,
    /// Something went wrong that was not its doing.
    excused: bool,
}

enum Machine {
    Access(Box<Access>, usize, Box<Settings>),
    Sweep(Box<Sweep>),
}

struct World {
    rng: Rng,
    disk: Disk,
    processes: Vec<Process>,
    count: u64,
    mutation: Option<Mutation>,
    /// Nothing goes wrong any more.
    calm: bool,
    report: Report,
    tell: bool,
}

/// Lets the world of `seed` happen.
pub fn run(seed: u64, mutation: Option<Mutation>, tell: bool) -> Report {
    let mut world = World {
        rng: Rng::new(seed),
        disk: Disk::new(),
        processes: Vec::new(),
        count: 0,
        mutation,
        calm: false,
        report: Report::default(),
        tell,
    };
    world.happen();
    world.report
}

/// The line's settings.
fn settings(line: &Line) -> Settings {
    let options: Vec<BString> = line.options.iter().map(|it| BString::from(*it)).collect();
    match Settings::read(&options, line.location.into()) {
        Ok(settings) => settings,
        Err(problem) => panic!("{}", problem.invalid),
    }
}

impl World {
    fn happen(&mut self) {
        // Somebody else's, of the same form.
        let theirs = Name {
            taken: Timestamp(7),
        };
        let foreign = Snapshot {
            instant: 0,
            frozen: false,
            quiet: false,
            health: Health::Good,
            ours: false,
            borrowed: false,
        };
        self.disk.snapshots.insert((origin("a"), theirs), foreign);
        for _ in 0..self.rng.between(50, 300) {
            if self.report.failure.is_some() {
                return;
            }
            self.something();
        }
        self.settle();
    }

    /// One thing happens.
    fn something(&mut self) {
        self.disk.tick += 1;
        self.disk.now += self.rng.below(if self.rng.clone().chance(20) {
            100_000
        } else {
            20
        });
        match self.rng.below(1_000) {
            0..=59 if self.processes.len() < 5 => {
                let line = self.rng.below(LINES.len() as u64) as usize;
                self.access(line);
            }
            60..=109 => self.unmount(),
            110..=119 => self.mishap(),
            120..=129 => self.die(),
            130..=132 => self.everybody_dies(),
            133..=134 => self.lose_power(),
            _ => self.step(),
        }
    }

    fn say(&mut self, what: impl FnOnce() -> String) {
        if self.tell {
            let (tick, what) = (self.disk.tick, what());
            self.report.trace.push(format!("{tick:>4} {what}"));
        }
    }

    fn fail(&mut self, why: String) {
        self.say(|| format!("FAILED {why}"));
        self.report.failure.get_or_insert(why);
    }

    fn begin(&mut self, machine: Machine) {
        self.count += 1;
        self.processes.push(Process {
            number: self.count,
            machine,
            event: Some(Event::Begin),
            wants: None,
            holds: Vec::new(),
            began: self.disk.tick,
            looked: None,
            takes: None,
            excused: false,
        });
    }

    /// Somebody touches a path; whoever comes while it is mounted, or on its way, gets the same.
    fn access(&mut self, line: usize) {
        let target = LINES[line].target;
        let mounted = self.disk.mounted.iter().any(|it| it.target == target);
        let on_its_way = self
            .processes
            .iter()
            .any(|it| matches!(&it.machine, Machine::Access(_, other, _) if *other == line));
        if mounted || on_its_way {
            return;
        }
        let mut settings = settings(&LINES[line]);
        let asked = settings.clone();
        if self.mutation == Some(Mutation::Stale) && settings.when == When::Fresh {
            settings.when = When::Latest;
        }
        self.say(|| format!("access {target}"));
        let access = Access::new(Wanted::new(settings, target.into()));
        self.begin(Machine::Access(Box::new(access), line, Box::new(asked)));
    }

    /// Something idle is unmounted, and swept after.
    fn unmount(&mut self) {
        if self.disk.mounted.is_empty() {
            return;
        }
        let place = self.rng.below(self.disk.mounted.len() as u64) as usize;
        let Mounted {
            target,
            origin,
            name,
        } = self.disk.mounted.swap_remove(place);
        self.say(|| format!("unmount {target}"));
        let record = self
            .disk
            .records()
            .find(|record| record.is_of(&origin, name));
        let origins = record.map_or_else(|| vec![origin], |record| record.origins.clone());
        self.sweep(origins);
    }

    fn sweep(&mut self, origins: Vec<Origin>) {
        self.say(|| format!("sweep {origins:?}"));
        self.begin(Machine::Sweep(Box::new(Sweep::new(
            origins,
            Means::default(),
        ))));
    }

    /// Sweeps all that the journal knows, as at a start.
    fn sweep_all(&mut self) {
        let mut all: Vec<Vec<Origin>> = self.disk.records().map(|it| it.origins.clone()).collect();
        all.sort();
        all.dedup();
        all.into_iter().for_each(|origins| self.sweep(origins));
    }

    /// Something happens to volumes or snapshots that nobody of ours did.
    fn mishap(&mut self) {
        match self.rng.below(3) {
            0 => {
                let percent = *self.rng.pick(&[10, 10, 99]);
                let all = self.disk.volumes.values_mut();
                all.for_each(|volume| volume.percent = percent);
                self.say(|| format!("the pool is {percent} % full"));
            }
            1 => {
                let thick = origin("b");
                let mut theirs = self.disk.snapshots.iter_mut();
                if let Some(((_, name), one)) = theirs.find(|((it, _), _)| *it == thick) {
                    one.health = Health::Overflowed;
                    let name = *name;
                    self.report.seen.overflows += 1;
                    self.say(|| format!("overflow {name:?}"));
                }
            }
            _ => {
                let good = |it: &&mut Snapshot| it.ours && it.health == Health::Good;
                if let Some(one) = self.disk.snapshots.values_mut().find(good) {
                    one.borrowed = !one.borrowed;
                    let borrowed = one.borrowed;
                    self.say(|| format!("mounted by hand: {borrowed}"));
                }
            }
        }
    }

    /// A process dies between two commands; who started it sweeps after it.
    fn die(&mut self) {
        if !self.processes.is_empty() {
            let place = self.rng.below(self.processes.len() as u64) as usize;
            self.kill(place);
        }
    }

    fn kill(&mut self, place: usize) {
        let process = self.processes.swap_remove(place);
        self.report.seen.deaths += 1;
        self.say(|| format!("[{}] dies", process.number));
        let origins = process.takes.map(|(origins, _)| origins);
        let origins = origins.or(process.looked.map(|look| {
            look.states
                .into_iter()
                .map(|state| state.origin)
                .collect::<Vec<_>>()
        }));
        if let Some(origins) = origins.filter(|origins| !origins.is_empty()) {
            self.sweep(origins);
        }
    }

    /// The daemon dies with all its workers; the next one sweeps.
    fn everybody_dies(&mut self) {
        self.report.seen.deaths += self.processes.len() as u64;
        self.processes.clear();
        self.say(|| "everybody dies".into());
        self.sweep_all();
    }

    fn lose_power(&mut self) {
        self.report.seen.power += 1;
        self.processes.clear();
        self.disk.lose_power();
        self.say(|| "power failure".into());
        self.sweep_all();
    }

    /// Lets everything come to its end, without further mishaps, and looks at what is left.
    fn settle(&mut self) {
        self.calm = true;
        self.disk
            .volumes
            .values_mut()
            .for_each(|volume| volume.percent = 10);
        self.disk
            .snapshots
            .values_mut()
            .for_each(|snapshot| snapshot.borrowed = false);
        self.finish();
        while !self.disk.mounted.is_empty() {
            self.unmount();
            self.finish();
        }
        self.sweep_all();
        self.finish();
        self.check_rest();
        for line in [0, 1, 3, 4, 5, 6, 2] {
            self.access(line);
            self.finish();
            let target = LINES[line].target;
            if !self.disk.mounted.iter().any(|it| it.target == target) {
                self.fail(format!("{target} cannot be mounted when all is well"));
            }
        }
    }

    fn finish(&mut self) {
        for _ in 0..10_000 {
            if self.processes.is_empty() || self.report.failure.is_some() {
                return;
            }
            self.disk.tick += 1;
            self.disk.now += 1;
            self.step();
        }
        self.fail("somebody works for ever".into());
    }
}
