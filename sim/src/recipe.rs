//! Which world is meant: a seed, and what of its world is left out.

use std::collections::BTreeSet;
use std::fmt::Write;

use bstr::BString;

use crate::dice::Decision;
use crate::faults::Fault;
use crate::mutation::Mutation;
use crate::script::{Script, What};

/// A world, exactly.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Recipe {
    /// Decides everything that is not said here.
    pub seed: u64,
    /// How the engine is broken on purpose.
    pub mutation: Option<Mutation>,
    /// What does not go wrong although the seed says so.
    pub without: Vec<Fault>,
    /// The occurrences that happen, by number; nothing: all.
    pub occurrences: Option<BTreeSet<usize>>,
    /// The decisions that are not calm; nothing: all as the seed says.
    pub decisions: Option<BTreeSet<Decision>>,
    /// The mount points that the master map may have; nothing: all.
    pub points: Option<BTreeSet<BString>>,
}

impl Recipe {
    /// The world of a seed, as it is.
    pub fn new(seed: u64, mutation: Option<Mutation>) -> Self {
        Self {
            seed,
            mutation,
            ..Self::default()
        }
    }

    /// What comes from outside in it.
    pub fn script(&self) -> Script {
        let mut script = Script::new(self.seed, &self.without);
        if let Some(numbers) = &self.occurrences {
            script.occurrences.retain(|it| numbers.contains(&it.number));
            // Calm begins when the last of them has happened.
            let last = script.occurrences.iter().map(|it| it.at).max();
            script.length = script.length.min(last.unwrap_or(0) + 30_000);
        }
        if let Some(paths) = &self.points {
            script.points.retain(|it| paths.contains(&it.path));
            for occurrence in &mut script.occurrences {
                if let What::Reload(points) | What::Replace(points) = &mut occurrence.what {
                    points.retain(|it| paths.contains(&it.path));
                }
            }
        }
        script
    }

    /// The command line that lets this world happen again, with its trace.
    pub fn command(&self) -> String {
        let mut command = "cargo run -q -p piton-sim --release --".to_owned();
        let mut add = |text: String| command.push_str(&text);
        add(format!(" --seed {} --trace", self.seed));
        if let Some(mutation) = self.mutation {
            add(format!(" --mutate {}", mutation.name()));
        }
        if !self.without.is_empty() {
            let names: Vec<&str> = self.without.iter().map(|it| it.name()).collect();
            add(format!(" --without {}", names.join(",")));
        }
        if let Some(points) = &self.points {
            add(format!(" --points {}", listed(points.iter())));
        }
        if let Some(numbers) = &self.occurrences {
            add(format!(" --occurrences {}", listed(numbers.iter())));
        }
        if let Some(decisions) = &self.decisions {
            add(format!(" --decisions {}", listed(decisions.iter())));
        }
        command
    }
}

/// In one word; `none` for nothing, so that it is one.
fn listed(items: impl Iterator<Item = impl std::fmt::Display>) -> String {
    let mut text = String::new();
    for item in items {
        let comma = if text.is_empty() { "" } else { "," };
        // Writing to a string cannot fail.
        let _ = write!(text, "{comma}{item}");
    }
    match text.is_empty() {
        true => "none".to_owned(),
        false => text,
    }
}
