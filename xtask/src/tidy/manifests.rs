//! Rules on Cargo.toml files: who may depend on whom.

use super::{File, Place, Rule, Tree};

/// Dependencies point one way (ARCHITECTURE.md).
pub(super) const ARROWS: Rule = Rule {
    name: "arrows",
    advice: "dependencies point one way, so that the core stays pure and each crate can be read \
             without those above it; move the code down, or hand it what it needs as a value \
             (the allowed arrows: xtask/src/tidy/manifests.rs)",
    check: arrows,
};

/// Every crate takes the workspace's lints.
pub(super) const LINTS: Rule = Rule {
    name: "lints",
    advice: "without `[lints] workspace = true` a crate escapes the laws (no unsafe code, \
             documented items); only crates/autofs has lints of its own",
    check: lints,
};

/// Which of our crates a crate may use; those that are not named may use all.
const ALLOWED: [(&str, &[&str]); 20] = [
    ("path", &[]),
    ("mountinfo", &["path"]),
    ("process", &[]),
    ("snapshot", &[]),
    ("map", &["path", "snapshot"]),
    ("plan", &["path", "map", "snapshot"]),
    ("engine", &["path", "map", "plan"]),
    ("autofs", &["mountinfo"]),
    ("rpc", &[]),
    ("resolver", &["process", "map", "plan", "rpc"]),
    ("loopback", &["rpc"]),
    ("fuse", &["mountinfo", "loopback"]),
    (
        "volumes",
        &["path", "mountinfo", "process", "autofs", "snapshot"],
    ),
    ("source", &["path", "process", "map", "snapshot"]),
    (
        "mount",
        &[
            "path",
            "mountinfo",
            "process",
            "autofs",
            "map",
            "plan",
            "snapshot",
            "volumes",
        ],
    ),
    (
        "frontend",
        &[
            "path", "process", "autofs", "loopback", "fuse", "map", "plan", "engine", "mount",
        ],
    ),
    ("control", &["path"]),
    (
        "testkit",
        &[
            "process", "map", "plan", "engine", "autofs", "source", "mount", "frontend", "control",
        ],
    ),
    ("sim", &["path", "engine", "map", "plan", "snapshot"]),
    ("xtask", &[]),
];

fn arrows(tree: &Tree) -> Vec<Place> {
    manifests(tree)
        .flat_map(|file| {
            let name = file.member_name();
            let allowed = ALLOWED
                .iter()
                .find(|(who, _)| *who == name)
                .map(|(_, allowed)| allowed);
            dependencies(&file.text)
                .into_iter()
                .filter(move |(_, on)| {
                    allowed.is_some_and(|allowed| !allowed.contains(&on.as_str()))
                })
                .map(move |(line, on)| file.place(line, format!("{name} depends on {on}")))
        })
        .collect()
}

/// The crates of ours that a manifest names as dependencies, with their lines.
fn dependencies(manifest: &str) -> Vec<(usize, String)> {
    let mut found = Vec::new();
    let mut inside = false;
    for (number, line) in manifest.lines().enumerate() {
        let line = line.trim();
        if line.starts_with('[') {
            let section = line.trim_matches(['[', ']']);
            inside = section == "dependencies"
                || section == "build-dependencies"
                || section.starts_with("target.") && section.ends_with(".dependencies");
            // A dependency may also be a section of its own.
            if let Some(name) = section.strip_prefix("dependencies.").and_then(ours) {
                found.push((number + 1, name));
            }
        } else if inside {
            let end = line.find(['=', '.', ' ']).unwrap_or(line.len());
            found.extend(ours(&line[..end]).map(|name| (number + 1, name)));
        }
    }
    found
}

/// The short name of one of our crates.
fn ours(package: &str) -> Option<String> {
    let package = package.trim().trim_matches('"');
    if package == "autofs" {
        return Some(package.to_owned());
    }
    package.strip_prefix("piton-").map(str::to_owned)
}

fn lints(tree: &Tree) -> Vec<Place> {
    manifests(tree)
        .filter(|file| file.member_name() != "autofs")
        .filter(|file| {
            let lines: Vec<&str> = file.text.lines().map(str::trim).collect();
            !lines
                .windows(2)
                .any(|pair| pair == ["[lints]", "workspace = true"])
        })
        .map(|file| file.place(1, "does not take the workspace's lints"))
        .collect()
}

fn manifests(tree: &Tree) -> impl Iterator<Item = &File> {
    tree.ending("/Cargo.toml").filter(|file| !file.is_data())
}
