//! `piton check` on a bad map for each lint, word for word; and that each finding is documented.

mod golden;

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

/// Words of the sources that look like codes and are none: a key, and options.
const NO_CODES: [&str; 8] = [
    "any-key-at-all",
    "first-responder",
    "no-slashify-colons",
    "random-multimount-selection",
    "slashify-colons",
    "unknown-host",
    "use-weight-only",
    "weight-only",
];

#[test]
fn findings() {
    golden::run_all("check");
}

#[test]
fn a_long_direct_map_is_noted_and_looked_through() {
    let root = tempfile::tempdir().unwrap();
    fs::create_dir(root.path().join("etc")).unwrap();
    fs::write(root.path().join("etc/auto_master"), "/- auto_direct\n").unwrap();
    let map = root.path().join("etc/auto_direct");
    let keys = |count| {
        (0..count)
            .map(|key| format!("/data/{key} srv:/{key}\n"))
            .collect::<String>()
    };
    for (count, noted) in [(10_000, false), (10_001, true)] {
        fs::write(&map, keys(count)).unwrap();
        let result = Command::new(env!("CARGO_BIN_EXE_piton"))
            .args(["check", "--root"])
            .arg(root.path())
            .output()
            .unwrap();
        let text = String::from_utf8(result.stdout).unwrap();
        assert_eq!(text.contains("note[long-direct-map]"), noted, "{text}");
        assert!(result.status.success(), "{text}");
    }
}

#[test]
fn every_code_is_documented_and_every_documented_code_exists() {
    let workspace = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    let mut sources = Vec::new();
    for folder in ["map/src", "plan/src", "source/src", "piton/src/check"] {
        collect(&workspace.join("crates").join(folder), &mut sources);
    }
    let mut codes: BTreeSet<String> = BTreeSet::new();
    for source in &sources {
        let text = fs::read_to_string(source).unwrap();
        let text = text.split("#[cfg(test)]").next().unwrap();
        codes.extend(code_like(text));
    }
    codes.retain(|code| !NO_CODES.contains(&code.as_str()));
    let page = fs::read_to_string(workspace.join("docs/diagnostics.md")).unwrap();
    let documented: BTreeSet<String> = page
        .lines()
        .filter_map(|line| line.strip_prefix("| `")?.split('`').next())
        .map(str::to_owned)
        .collect();
    let missing: Vec<_> = codes.difference(&documented).collect();
    let stale: Vec<_> = documented.difference(&codes).collect();
    assert!(
        missing.is_empty(),
        "add these to docs/diagnostics.md (or, if they are no codes, to NO_CODES here): {missing:?}"
    );
    assert!(
        stale.is_empty(),
        "no source has these, which docs/diagnostics.md lists: {stale:?}"
    );
}

/// All Rust files below `folder`, without those of tests.
fn collect(folder: &Path, into: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            collect(&path, into);
        } else if path.extension().is_some_and(|end| end == "rs") && !path.ends_with("tests.rs") {
            into.push(path);
        }
    }
}

/// String literals of two or more lower-case words with hyphens between, that are not bytes.
fn code_like(text: &str) -> impl Iterator<Item = String> + '_ {
    let quotes: Vec<usize> = text.match_indices('"').map(|(at, _)| at).collect();
    let pairs: Vec<(usize, usize)> = quotes.windows(2).map(|pair| (pair[0], pair[1])).collect();
    pairs.into_iter().filter_map(move |(open, close)| {
        let word = &text[open + 1..close];
        let parts = || word.split('-');
        let lower = |part: &str| {
            !part.is_empty()
                && part
                    .bytes()
                    .all(|b| b.is_ascii_lowercase() || b.is_ascii_digit())
        };
        let bytes = text[..open].ends_with('b');
        (!bytes && parts().count() > 1 && parts().all(lower)).then(|| word.to_owned())
    })
}
