//! What comes over a world from outside, decided before it begins: so that any of it can be left
//! out while a failure is being made smaller.

use bstr::{BString, ByteSlice};
use piton_engine::config::Point;
use piton_engine::event::Request;
use piton_engine::time::Millis;

use crate::faults::{Fault, Faults};
use crate::maps::{self, Maps};
use crate::rng::Rng;

/// Something that happens to the daemon.
#[derive(Clone, Debug)]
pub enum What {
    /// A process touches a path.
    Touch {
        /// Which.
        path: BString,
        /// For how many milliseconds it stays there.
        stay: u64,
        /// After how many milliseconds it is killed if it still waits.
        killed: Option<u64>,
    },
    /// Somebody edits a line of a map.
    Edit {
        /// In which map.
        map: &'static str,
        /// Whose.
        key: BString,
        /// Its new text; nothing: it is gone.
        text: String,
    },
    /// The master map changes and is read again.
    Reload(Vec<Point>),
    /// The master map changes, and nobody says so.
    Replace(Vec<Point>),
    /// Somebody unmounts by hand.
    Tamper {
        /// Which of all mounts.
        which: u64,
        /// Whether it is in use or not.
        lazily: bool,
    },
    /// An operator asks for something.
    Operate(Request),
    /// The daemon is stopped, and later started again.
    Stop {
        /// Leaving everything mounted.
        detach: bool,
    },
    /// The daemon dies.
    Crash {
        /// After so many further commands, steps and answers.
        after: u64,
        /// As do those after it, one after the other, each after so many from its start on.
        again: Vec<u64>,
    },
    /// The keeper dies; the daemon makes a new one after so many milliseconds.
    KeeperDies(u64),
    /// The clock leaps forward by so many milliseconds.
    Jump(u64),
}

/// What happens, and when.
#[derive(Clone, Debug)]
pub struct Occurrence {
    /// Its number in the script.
    pub number: usize,
    /// In milliseconds from the beginning.
    pub at: u64,
    /// What.
    pub what: What,
}

/// A world before it begins.
#[derive(Clone, Debug)]
pub struct Script {
    /// What goes wrong how often.
    pub faults: Faults,
    /// The maps at the beginning.
    pub maps: Maps,
    /// The master map at the beginning.
    pub points: Vec<Point>,
    /// When nothing new happens any more and nothing goes wrong any more.
    pub length: u64,
    /// What happens, in no order.
    pub occurrences: Vec<Occurrence>,
}

impl Script {
    /// The script of a seed, with nothing of the faults in `without`.
    pub fn new(seed: u64, without: &[Fault]) -> Self {
        let mut rng = Rng::new(seed);
        let mut faults = Faults::new(&mut rng);
        let maps = Maps::new(&mut rng);
        let points = maps::master(&mut rng);
        let length = rng.between(10_000, 90_000);
        let mut script = Self {
            faults: faults.clone(),
            maps,
            points,
            length,
            occurrences: Vec::new(),
        };
        script.visitors(&mut rng);
        script.events(&mut rng);
        for fault in without {
            faults.without(*fault);
        }
        script.occurrences.retain(|it| it.what.allowed(&faults));
        script.faults = faults;
        script
    }

    fn add(&mut self, at: u64, what: What) {
        let number = self.occurrences.len();
        self.occurrences.push(Occurrence { number, at, what });
    }

    fn visitors(&mut self, rng: &mut Rng) {
        for _ in 0..rng.between(10, 80) {
            let mut at = rng.below(self.length);
            self.touch(at, rng);
            // Where one comes, others follow.
            while rng.chance(300) {
                at += rng.below(100);
                self.touch(at, rng);
            }
        }
        if rng.chance(self.faults[Fault::Burst] * 5) {
            let at = rng.below(self.length);
            for _ in 0..rng.between(20, 60) {
                let delay = rng.below(20);
                self.touch(at + delay, rng);
            }
        }
    }

    fn touch(&mut self, at: u64, rng: &mut Rng) {
        let path = some_path(rng);
        let stay = match rng.below(4) {
            0 => rng.below(20_000),
            1 => rng.below(1_000),
            _ => 0,
        };
        let killed = rng
            .chance(self.faults[Fault::Kill])
            .then(|| rng.below(12_000));
        self.add(at, What::Touch { path, stay, killed });
    }

    fn events(&mut self, rng: &mut Rng) {
        let threads = rng.between(1, 6);
        for _ in 0..threads {
            let mut at = rng.below(5_000);
            while at < self.length {
                self.event(at, rng);
                at += rng.between(50, 6_000);
            }
        }
    }

    /// One of the things that happen now and then, perhaps.
    fn event(&mut self, at: u64, rng: &mut Rng) {
        let faults = self.faults.clone();
        if rng.chance(faults[Fault::Edit]) {
            let (map, key, text) = self.maps.edited(rng);
            self.add(at, What::Edit { map, key, text });
        }
        if rng.chance(faults[Fault::Tamper]) {
            let (which, lazily) = (rng.bits(), rng.chance(500));
            self.add(at, What::Tamper { which, lazily });
        }
        if rng.chance(faults[Fault::Operate]) {
            let path = some_path(rng);
            let server = BString::from(*rng.pick(&["red", "blue", "green"]));
            let until = Millis(at + rng.below(60_000));
            let request = match rng.below(8) {
                0 => Request::Expire { path: None },
                1 => Request::Expire { path: Some(path) },
                2 => Request::Flush { path: None },
                3 => Request::Drain {
                    server,
                    now: rng.chance(500),
                    until: Some(until),
                },
                4 => Request::Undrain { server },
                5 => Request::Pin { path, until },
                6 => Request::Unpin { path },
                _ => Request::Unmount { path },
            };
            self.add(at, What::Operate(request));
        }
        if rng.chance(faults[Fault::Reload]) {
            let points = maps::master(rng);
            self.add(at, What::Reload(points));
        }
        if rng.chance(faults[Fault::Restart]) {
            let detach = rng.chance(500);
            self.add(at, What::Stop { detach });
        }
        if rng.chance(faults[Fault::Jump]) {
            let most = [2_000, 60_000, 86_400_000][rng.below(3) as usize];
            self.add(at, What::Jump(rng.between(500, most)));
        }
        if rng.chance(faults[Fault::Keeper]) {
            let back = rng.below(3_000);
            self.add(at, What::KeeperDies(back));
        }
        if rng.chance(faults[Fault::Crash]) {
            let after = rng.below(60);
            let mut again = Vec::new();
            while again.len() < 6 && rng.chance(faults[Fault::Again]) {
                again.push(rng.below(40));
            }
            self.add(at, What::Crash { after, again });
            if faults[Fault::Reload] > 0 && rng.chance(300) {
                let points = maps::master(rng);
                self.add(at, What::Replace(points));
            }
        }
    }
}

impl What {
    fn allowed(&self, faults: &Faults) -> bool {
        let fault = match self {
            Self::Touch { .. } => return true,
            Self::Edit { .. } => Fault::Edit,
            Self::Reload(_) | Self::Replace(_) => Fault::Reload,
            Self::Tamper { .. } => Fault::Tamper,
            Self::Operate(_) => Fault::Operate,
            Self::Stop { .. } => Fault::Restart,
            Self::Crash { .. } => Fault::Crash,
            Self::KeeperDies(_) => Fault::Keeper,
            Self::Jump(_) => Fault::Jump,
        };
        faults[fault] > 0
    }

    /// In a line of a trace.
    pub fn told(&self) -> String {
        match self {
            Self::Reload(points) | Self::Replace(points) => {
                let paths: Vec<_> = points.iter().map(|it| it.path.to_str_lossy()).collect();
                let how = match self {
                    Self::Reload(_) => "is read",
                    _ => "waits to be read",
                };
                format!("a new master map {how}: {}", paths.join(" "))
            }
            other => format!("{other:?}"),
        }
    }
}

/// A path that somebody may want: of few, so that they meet.
fn some_path(rng: &mut Rng) -> BString {
    let mut path = BString::default();
    if rng.chance(650) {
        path.extend_from_slice(rng.pick(&maps::INDIRECT).0.as_bytes());
        path.push(b'/');
        path.extend_from_slice(rng.pick(&maps::KEYS).as_bytes());
    } else {
        path.extend_from_slice(rng.pick(&maps::DIRECT).as_bytes());
    }
    path.extend_from_slice(rng.pick(&maps::BELOW).as_bytes());
    path
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn without_a_fault_the_rest_stays_as_it_is() {
        let crash = |it: &&Occurrence| matches!(it.what, What::Crash { .. });
        let seed = (0..)
            .find(|seed| {
                Script::new(*seed, &[])
                    .occurrences
                    .iter()
                    .any(|it| crash(&it))
            })
            .unwrap();
        let all = Script::new(seed, &[]);
        let some = Script::new(seed, &[Fault::Crash]);
        let crashes = all.occurrences.iter().filter(crash).count();
        assert_eq!(some.occurrences.iter().filter(crash).count(), 0);
        assert_eq!(some.occurrences.len(), all.occurrences.len() - crashes);
    }
}
