//! Which test targets there are, and to which tier their names assign them.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

/// Prefixes of test target names that have a tier of their own.
pub(crate) const TIERS: [&str; 3] = ["golden", "property", "kernel"];

/// The names of all test targets of the workspace: `tests/NAME.rs` and `tests/NAME/main.rs`.
pub(crate) fn all(root: &Path) -> BTreeSet<String> {
    let mut members: Vec<_> = fs::read_dir(root.join("crates"))
        .into_iter()
        .flatten()
        .flatten()
        .map(|entry| entry.path())
        .collect();
    members.extend([root.join("sim"), root.join("xtask")]);
    members
        .iter()
        .flat_map(|member| fs::read_dir(member.join("tests")).into_iter().flatten())
        .flatten()
        .filter_map(|entry| name(&entry.path()))
        .collect()
}

fn name(path: &Path) -> Option<String> {
    let is_target = path.extension().is_some_and(|end| end == "rs") && path.is_file()
        || path.join("main.rs").is_file();
    is_target.then(|| {
        path.file_stem()
            .map(|stem| stem.to_string_lossy().into_owned())
    })?
}

/// The targets of one tier.
pub(crate) fn of_tier(targets: &BTreeSet<String>, tier: &str) -> Vec<String> {
    targets
        .iter()
        .filter(|name| name.starts_with(tier))
        .cloned()
        .collect()
}

/// The targets of no tier: they need nothing special and run with the unit tests.
pub(crate) fn others(targets: &BTreeSet<String>) -> Vec<String> {
    targets
        .iter()
        .filter(|name| !TIERS.iter().any(|tier| name.starts_with(tier)))
        .cloned()
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_decide_the_tier() {
        let targets: BTreeSet<String> = ["golden_maps", "kernel", "property_lines", "server"]
            .iter()
            .map(|name| (*name).to_owned())
            .collect();
        assert_eq!(of_tier(&targets, "golden"), ["golden_maps"]);
        assert_eq!(of_tier(&targets, "kernel"), ["kernel"]);
        assert_eq!(others(&targets), ["server"]);
    }

    #[test]
    fn this_workspace_has_kernel_tests() {
        let targets = all(&crate::process::root());
        assert!(targets.contains("kernel"), "{targets:?}");
    }
}
