//! Where Piton does not do what autofs did, on purpose: oracle/expected-differences.toml.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use toml_edit::DocumentMut;

/// The steps of recorded cases at which Piton differs from autofs as docs/dialects.md says.
///
/// That they do differ, and just so, is what the differential tier is for.
#[derive(Debug)]
pub struct Expected(BTreeMap<String, BTreeSet<String>>);

impl Expected {
    /// Reads the list.
    ///
    /// # Panics
    ///
    /// Panics if it cannot be read or has another form.
    pub fn load() -> Self {
        let path =
            Path::new(env!("CARGO_MANIFEST_DIR")).join("../../oracle/expected-differences.toml");
        let text = std::fs::read_to_string(&path).unwrap_or_else(|why| panic!("{path:?}: {why}"));
        let list: DocumentMut = text.parse().unwrap_or_else(|why| panic!("{path:?}: {why}"));
        let mut cases = BTreeMap::<_, BTreeSet<_>>::new();
        for difference in list["difference"].as_array_of_tables().unwrap() {
            let case = difference["case"].as_str().unwrap().to_owned();
            let steps = difference["steps"].as_table_like().unwrap();
            cases.entry(case).or_default().extend(
                steps
                    .iter()
                    .map(|(step, _)| without_number(step).to_owned()),
            );
        }
        Self(cases)
    }

    /// Whether a step (`open /m/a`) of a case is expected to differ.
    pub fn has(&self, case: &str, step: &str) -> bool {
        self.0.get(case).is_some_and(|steps| steps.contains(step))
    }
}

/// `open /m/a [3]` without the number.
fn without_number(step: &str) -> &str {
    step.rsplit_once(" [").map_or(step, |(step, _)| step)
}
