//! `piton check` on a bad map for each lint, word for word; and that each finding is documented.

mod golden;

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

/// Words of the sources that look like codes and are none: a key, and options.
const NO_CODES: [&str; 15] = [
    "any-key-at-all",
    "crash-consistent",
    "file-by-file",
    "first-responder",
    "fs-frozen",
    "hook-time",
    "kebab-case",
    "keep-for",
    "no-slashify-colons",
    "random-multimount-selection",
    "refuse-at",
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
        let (success, text) = check(root.path());
        assert_eq!(text.contains("note[long-direct-map]"), noted, "{text}");
        assert!(success, "{text}");
    }
}

/// What `piton check` says of a file system below `root`, and whether it found nothing wrong.
fn check(root: &Path) -> (bool, String) {
    let result = Command::new(env!("CARGO_BIN_EXE_piton"))
        .args(["check", "--root"])
        .arg(root)
        .output()
        .unwrap();
    let text = String::from_utf8(result.stdout).unwrap();
    (result.status.success(), text)
}

/// A site with one indirect map.
fn site_of(map: &str) -> tempfile::TempDir {
    let root = tempfile::tempdir().unwrap();
    fs::create_dir(root.path().join("etc")).unwrap();
    fs::write(root.path().join("etc/auto_master"), "/home auto_home\n").unwrap();
    fs::write(root.path().join("etc/auto_home"), map).unwrap();
    root
}

#[test]
fn r_243_what_a_mount_point_hides_is_said() {
    let root = site_of("ann srv:/home/ann\n");
    fs::create_dir_all(root.path().join("home")).unwrap();
    let (_, text) = check(root.path());
    assert!(!text.contains("hidden-files"), "{text}");
    fs::create_dir_all(root.path().join("home/local")).unwrap();
    let (_, text) = check(root.path());
    let message = "warning[hidden-files]: the directory /home is not empty; what is in it will be";
    assert!(text.contains(message), "{text}");
    assert!(text.contains("/etc/auto_master:1:1"), "{text}");
}

#[test]
fn r_256_a_variable_in_a_key_is_said() {
    let root = site_of("ann srv:/home/${USER}x\n$USER srv:/home/ann\n");
    let (_, text) = check(root.path());
    assert_eq!(text.matches("[variable-in-key]").count(), 1, "{text}");
    assert!(text.contains("/etc/auto_home:2:1"), "{text}");
}

#[test]
fn every_code_is_documented_and_every_documented_code_exists() {
    let workspace = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    let mut sources = Vec::new();
    for folder in [
        "snapshot/src",
        "map/src",
        "plan/src",
        "source/src",
        "piton/src/check",
    ] {
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
