//! Decisions while a world happens: each has a name of its own, so that leaving one out does not
//! change the others, and a calm answer, which is 0. So a failing world can be made smaller.

use std::collections::{BTreeSet, HashMap};
use std::hash::{BuildHasherDefault, Hasher};

/// What a decision is about; together with a place it is the decision's name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum About {
    /// How long an answer of the world takes.
    Delay,
    /// Whether it takes seconds, or longer than anybody waits.
    Slow,
    /// How long a step of the daemon's hands takes.
    Step,
    /// Whether something goes wrong.
    Fault,
    /// In which of several ways.
    Way,
    /// Whether what should be over goes on.
    Overrun,
    /// Which of several attempts worked, and by what means.
    Attempt,
    /// Which addresses are known.
    Host,
    /// What a source says.
    Source,
    /// How long a request is on its way.
    Packet,
    /// When the kernel looks for what is idle.
    Scan,
    /// When a process goes on.
    Walk,
    /// When the daemon comes back.
    Return,
    /// Which daemons die, and when.
    Death,
    /// What is in the table at the moment of a death.
    Slot,
    /// Which servers are dead.
    Server,
}

/// A decision by number; equal for equal worlds.
pub type Decision = u32;

/// Makes the decisions of one world.
#[derive(Debug, Default)]
pub struct Dice {
    seed: u64,
    counts: HashMap<u64, u64, BuildHasherDefault<Same>>,
    kept: Option<BTreeSet<Decision>>,
    taken: Option<Vec<Decision>>,
}

impl Dice {
    /// The dice of a seed. All decisions but those `kept` are calm.
    pub fn new(seed: u64, kept: Option<BTreeSet<Decision>>) -> Self {
        Self {
            seed: mix(seed ^ 0x5851_f42d_4c95_7f2d),
            kept,
            ..Self::default()
        }
    }

    /// Has the decisions remembered that are not calm.
    pub fn record(&mut self) {
        self.taken = Some(Vec::new());
    }

    /// The decisions that were not calm, in their order.
    pub fn taken(&mut self) -> Vec<Decision> {
        self.taken.take().unwrap_or_default()
    }

    /// A number below `bound`, which must not be 0, for the next decision about a place.
    pub fn below(&mut self, about: About, place: &[u8], bound: u64) -> u64 {
        let mut name = about as u64 + 1;
        for byte in place {
            name = (name ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3);
        }
        let count = self.counts.entry(mix(name)).or_default();
        *count += 1;
        let bits = mix(self.seed ^ mix(name) ^ count.wrapping_mul(0x9e37_79b9_7f4a_7c15));
        let number = bits as Decision;
        if let Some(kept) = &self.kept
            && !kept.contains(&number)
        {
            return 0;
        }
        let value = (bits >> 32) % bound.max(1);
        if value > 0
            && let Some(taken) = &mut self.taken
        {
            taken.push(number);
        }
        value
    }

    /// True in `per_mille` of 1,000 cases.
    pub fn chance(&mut self, about: About, place: &[u8], per_mille: u64) -> bool {
        per_mille > 0 && {
            let value = self.below(about, place, 1_001);
            value > 0 && value <= per_mille
        }
    }

    /// One of `choices`, which must not be empty; the first is the calm one.
    pub fn pick<'c, C>(&mut self, about: About, place: &[u8], choices: &'c [C]) -> &'c C {
        &choices[self.below(about, place, choices.len() as u64) as usize]
    }
}

/// The finaliser of splitmix64.
fn mix(mut bits: u64) -> u64 {
    bits = (bits ^ (bits >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    bits = (bits ^ (bits >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    bits ^ (bits >> 31)
}

/// Hashes numbers that are well mixed already.
#[derive(Debug, Default)]
struct Same(u64);

impl Hasher for Same {
    fn finish(&self) -> u64 {
        self.0
    }

    fn write(&mut self, bytes: &[u8]) {
        for byte in bytes {
            self.0 = mix(self.0 ^ u64::from(*byte));
        }
    }

    fn write_u64(&mut self, number: u64) {
        self.0 = number;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_decision_does_not_depend_on_the_others() {
        let (mut one, mut other) = (Dice::new(7, None), Dice::new(7, None));
        one.below(About::Delay, b"/b", 100);
        let both = [&mut one, &mut other].map(|dice| dice.below(About::Delay, b"/a", 1_000_000));
        assert_eq!(both[0], both[1]);
        assert_ne!(both[0], one.below(About::Delay, b"/a", 1_000_000));
        let mut third = Dice::new(8, None);
        assert_ne!(both[0], third.below(About::Delay, b"/a", 1_000_000));
    }

    #[test]
    fn what_is_not_kept_is_calm() {
        let mut dice = Dice::new(1, None);
        dice.record();
        let drawn: Vec<u64> = (0..50).map(|_| dice.below(About::Step, b"x", 10)).collect();
        let taken = dice.taken();
        assert_eq!(taken.len(), drawn.iter().filter(|it| **it > 0).count());
        let mut kept = Dice::new(1, Some(taken.iter().take(1).copied().collect()));
        let drawn: Vec<u64> = (0..50).map(|_| kept.below(About::Step, b"x", 10)).collect();
        assert_eq!(drawn.iter().filter(|it| **it > 0).count(), 1);
        let mut calm = Dice::new(1, Some(BTreeSet::new()));
        assert!(!calm.chance(About::Fault, b"x", 1_000));
        assert_eq!(*calm.pick(About::Way, b"x", &[5, 6]), 5);
    }
}
