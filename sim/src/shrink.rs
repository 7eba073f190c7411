//! Making a failing world small: whatever can be left out without another failure coming of it
//! is left out, until nothing more can.

use std::collections::BTreeSet;
use std::panic::{AssertUnwindSafe, catch_unwind};

use crate::faults::Fault;
use crate::{Recipe, Report, Tell, run};

/// Worlds that are tried at most: each takes a millisecond or so.
const TRIES_MOST: u32 = 20_000;

/// What a shrinking came to.
#[derive(Clone, Debug)]
pub struct Shrunk {
    /// The smallest world found that fails in the same way.
    pub recipe: Recipe,
    /// What comes of it, with its trace.
    pub report: Report,
    /// Worlds that were tried.
    pub tries: u32,
}

struct Shrinker {
    /// The failure without what differs from world to world.
    kind: String,
    tries: u32,
}

/// The smallest world like `recipe`'s that fails as it does; nothing if it does not fail.
pub fn shrink(recipe: &Recipe) -> Option<Shrunk> {
    let kind = kind(&failure(recipe)?);
    let mut shrinker = Shrinker { kind, tries: 1 };
    let mut best = recipe.clone();
    loop {
        let before = best.clone();
        shrinker.faults(&mut best);
        shrinker.occurrences(&mut best);
        shrinker.points(&mut best);
        shrinker.decisions(&mut best);
        if best == before || shrinker.tries >= TRIES_MOST {
            break;
        }
    }
    let tell = Tell {
        trace: true,
        decisions: false,
    };
    let report = guarded(&best, tell);
    Some(Shrunk {
        recipe: best,
        report,
        tries: shrinker.tries,
    })
}

impl Shrinker {
    fn fails(&mut self, recipe: &Recipe) -> bool {
        if self.tries >= TRIES_MOST {
            return false;
        }
        self.tries += 1;
        failure(recipe).is_some_and(|why| kind(&why) == self.kind)
    }

    fn faults(&mut self, best: &mut Recipe) {
        for (fault, ..) in Fault::ALL {
            if best.without.contains(&fault) || best.script().faults[fault] == 0 {
                continue;
            }
            let mut candidate = best.clone();
            candidate.without.push(fault);
            if self.fails(&candidate) {
                *best = candidate;
            }
        }
    }

    fn occurrences(&mut self, best: &mut Recipe) {
        let all = best.script().occurrences;
        let all: Vec<usize> = all.into_iter().map(|it| it.number).collect();
        self.subset(best, all, |recipe, kept| recipe.occurrences = Some(kept));
    }

    fn points(&mut self, best: &mut Recipe) {
        let mut all: Vec<_> = best.script().points.into_iter().map(|it| it.path).collect();
        all.dedup();
        self.subset(best, all, |recipe, kept| recipe.points = Some(kept));
    }

    fn decisions(&mut self, best: &mut Recipe) {
        let tell = Tell {
            trace: false,
            decisions: true,
        };
        let taken = guarded(best, tell).decisions;
        self.subset(best, taken, |recipe, kept| recipe.decisions = Some(kept));
    }

    /// Leaves out as much as can be, first in large pieces and then in ever smaller ones
    /// (Zeller's delta debugging, without its first half).
    fn subset<Item: Clone + Ord>(
        &mut self,
        best: &mut Recipe,
        mut kept: Vec<Item>,
        set: impl Fn(&mut Recipe, BTreeSet<Item>),
    ) {
        let mut piece = kept.len();
        while piece > 0 && !kept.is_empty() {
            let mut at = 0;
            while at < kept.len() {
                let end = (at + piece).min(kept.len());
                let rest = [&kept[..at], &kept[end..]].concat();
                let mut candidate = best.clone();
                set(&mut candidate, rest.iter().cloned().collect());
                if self.fails(&candidate) {
                    kept = rest;
                    *best = candidate;
                } else {
                    at = end;
                }
            }
            piece /= 2;
        }
    }
}

/// A world that panics fails, too.
pub fn guarded(recipe: &Recipe, tell: Tell) -> Report {
    let done = catch_unwind(AssertUnwindSafe(|| run(recipe, tell)));
    done.unwrap_or_else(|_| Report {
        seed: recipe.seed,
        failure: Some("panic".to_owned()),
        ..Report::default()
    })
}

fn failure(recipe: &Recipe) -> Option<String> {
    guarded(recipe, Tell::default()).failure
}

/// What kind of failure it is: the words without paths and numbers.
fn kind(why: &str) -> String {
    let plain = |word: &&str| !word.contains(|it: char| it == '/' || it.is_ascii_digit());
    why.split_whitespace()
        .filter(plain)
        .collect::<Vec<_>>()
        .join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_kind_of_a_failure_has_no_paths_and_numbers() {
        assert_eq!(
            kind("at 17 ms: /a/b is mounted twice"),
            "at ms: is mounted twice"
        );
    }
}
