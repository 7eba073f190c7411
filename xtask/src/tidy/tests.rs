//! Each rule: what it finds, and what it leaves alone.

use super::*;

fn tree(files: &[(&str, &str)]) -> Tree {
    let files = files
        .iter()
        .map(|(path, text)| File {
            path: (*path).to_owned(),
            text: (*text).to_owned(),
        })
        .collect();
    Tree { files }
}

/// What one rule finds, as `path:line`.
fn found(rule: &Rule, files: &[(&str, &str)]) -> Vec<String> {
    (rule.check)(&tree(files))
        .iter()
        .map(|place| format!("{}:{}", place.path, place.line))
        .collect()
}

#[test]
fn names_of_rules_are_different() {
    let mut names: Vec<_> = RULES.iter().map(|rule| rule.name).collect();
    names.sort_unstable();
    names.dedup();
    assert_eq!(names.len(), RULES.len());
}

#[test]
fn a_finding_says_where_what_why_and_how() {
    let finding = Finding {
        path: "a.rs".to_owned(),
        line: 3,
        rule: "unsafe",
        what: "unsafe code".to_owned(),
        advice: "use rustix",
    };
    assert_eq!(
        finding.to_string(),
        "a.rs:3: unsafe code [unsafe]\n    use rustix"
    );
}

#[test]
fn arrows_point_down() {
    let up = "[package]\nname = \"piton-map\"\n[dependencies]\npiton-engine.workspace = true\n";
    assert_eq!(
        found(&manifests::ARROWS, &[("crates/map/Cargo.toml", up)]),
        ["crates/map/Cargo.toml:4"]
    );
    let down = "[dependencies]\npiton-map = { workspace = true }\nautofs.workspace = true\n";
    assert!(found(&manifests::ARROWS, &[("crates/mount/Cargo.toml", down)]).is_empty());
    assert!(found(&manifests::ARROWS, &[("crates/piton/Cargo.toml", up)]).is_empty());
}

#[test]
fn arrows_of_tests_are_free() {
    let tests = "[dev-dependencies]\npiton-testkit.workspace = true\n";
    assert!(found(&manifests::ARROWS, &[("crates/mount/Cargo.toml", tests)]).is_empty());
    let own = "[dependencies.piton-frontend]\nworkspace = true\n";
    assert_eq!(
        found(&manifests::ARROWS, &[("sim/Cargo.toml", own)]).len(),
        1
    );
}

#[test]
fn lints_are_the_workspaces() {
    let with = "[package]\n\n[lints]\nworkspace = true\n";
    assert!(found(&manifests::LINTS, &[("crates/map/Cargo.toml", with)]).is_empty());
    assert_eq!(
        found(&manifests::LINTS, &[("sim/Cargo.toml", "[package]\n")]).len(),
        1
    );
    assert!(
        found(
            &manifests::LINTS,
            &[("crates/autofs/Cargo.toml", "[package]\n")]
        )
        .is_empty()
    );
}

#[test]
fn the_core_is_pure() {
    let good = "//! x\n#![no_std]\n#![forbid(unsafe_code)]\n";
    assert!(found(&source::PURE, &[("crates/map/src/lib.rs", good)]).is_empty());
    let half = "//! #![no_std]\n#![forbid(unsafe_code)]\n";
    assert_eq!(
        found(&source::PURE, &[("crates/plan/src/lib.rs", half)]).len(),
        1
    );
}

#[test]
fn unsafe_is_found_as_code_only() {
    let text = "//! unsafe\n// unsafe\nlet x = \"unsafe\";\nlet unsafe_ = 1;\nunsafe { f() }\n";
    assert_eq!(
        found(&source::UNSAFE, &[("crates/map/src/a.rs", text)]),
        ["crates/map/src/a.rs:5"]
    );
    assert!(found(&source::UNSAFE, &[("crates/autofs/src/a.rs", text)]).is_empty());
}

#[test]
fn module_docs_come_first() {
    assert!(
        found(
            &source::MODULE_DOC,
            &[("sim/src/a.rs", "//! What it is.\n")]
        )
        .is_empty()
    );
    assert_eq!(
        found(
            &source::MODULE_DOC,
            &[("sim/src/a.rs", "use x;\n//! Late.\n")]
        )
        .len(),
        1
    );
}

#[test]
fn leftovers_are_macros() {
    let text = "//! todo!()\nlet todo = 1;\nfn f() { todo!() }\n";
    assert_eq!(
        found(&source::LEFTOVERS, &[("sim/src/a.rs", text)]),
        ["sim/src/a.rs:3"]
    );
}

#[test]
fn tests_are_not_ignored() {
    let text = "//! x\n#[test]\n#[ignore = \"slow\"]\nfn f() {}\n";
    assert_eq!(
        found(&source::IGNORED, &[("sim/src/a.rs", text)]),
        ["sim/src/a.rs:3"]
    );
}

#[test]
fn sizes_have_limits() {
    let long = format!("//! x\n{}", "\n".repeat(1_000));
    assert_eq!(
        found(&source::FILE_SIZE, &[("sim/src/a.rs", &long)]).len(),
        1
    );
    let short = "\n".repeat(1_000);
    assert!(found(&source::FILE_SIZE, &[("sim/src/a.rs", &short)]).is_empty());

    let function = |lines: usize| format!("fn f() {{{}}}\n", "\n".repeat(lines - 1));
    assert!(found(&source::FUNCTION_SIZE, &[("a.rs", &function(120))]).is_empty());
    assert_eq!(
        found(&source::FUNCTION_SIZE, &[("a.rs", &function(121))]),
        ["a.rs:1"]
    );

    let main = "\n".repeat(40);
    assert_eq!(
        found(&source::MAIN_SIZE, &[("sim/src/main.rs", &main)]).len(),
        1
    );
    assert!(found(&source::MAIN_SIZE, &[("sim/src/main.rs", &main[1..])]).is_empty());
}

#[test]
fn private_paths_are_found_also_in_documents() {
    let text = format!("see {}{}/x\n", "/work/", "main");
    assert_eq!(
        found(&text::MACHINE, &[("docs/a.md", &text)]),
        ["docs/a.md:1"]
    );
    assert!(
        found(
            &text::MACHINE,
            &[("docs/a.md", "/work/of/art and /home/ann\n")]
        )
        .is_empty()
    );
}

#[test]
fn white_space_and_control_characters_are_found() {
    assert_eq!(found(&text::WHITESPACE, &[("a.md", "x\ny \n")]), ["a.md:2"]);
    assert_eq!(found(&text::CONTROL, &[("a.rs", "x\u{7}\n")]), ["a.rs:1"]);
    assert!(found(&text::CONTROL, &[("a.c", "\tx\n")]).is_empty());
    assert!(found(&text::WHITESPACE, &[("crates/map/testdata/a.md", "x \n")]).is_empty());
}

#[test]
fn documents_are_linked() {
    let files = [
        ("docs/errno.md", "x"),
        ("README.md", "[errno](docs/errno.md)"),
    ];
    assert!(found(&documents::LINKED, &files).is_empty());
    assert_eq!(found(&documents::LINKED, &files[..1]), ["docs/errno.md:1"]);
}

#[test]
fn productions_are_functions() {
    let grammar = "```\nentry = key location\nlocation ::= x\nWORD = y\n```\nnot = one\n";
    let parser = ("crates/map/src/parser.rs", "fn entry() {}\n");
    assert_eq!(
        found(&documents::GRAMMAR, &[("GRAMMAR.md", grammar), parser]),
        ["GRAMMAR.md:3"]
    );
    assert_eq!(found(&documents::GRAMMAR, &[parser]).len(), 1);
}

#[test]
fn the_changelog_begins_with_what_is_unreleased() {
    assert!(
        found(
            &documents::CHANGELOG,
            &[("CHANGELOG.md", "# C\n\n## Unreleased\n")]
        )
        .is_empty()
    );
    assert_eq!(
        found(&documents::CHANGELOG, &[("CHANGELOG.md", "# C\n## 1.0\n")]).len(),
        1
    );
    assert_eq!(found(&documents::CHANGELOG, &[]).len(), 1);
}

#[test]
fn every_requirement_has_a_test_or_a_reason() {
    let asked = "## S\n| R-001 | B | one | |\n| R-002 | B | two | x |\n| R-003 | G | three | |\n";
    let tests = "#[test]\nfn r_001_r_003_both() {}\n#[test]\nfn other() {}\n";
    let rule = |shown: &str| {
        let files = [
            ("docs/founding/requirements.md", asked),
            ("docs/founding/shown.txt", shown),
            ("crates/a/tests/a.rs", tests),
        ];
        found(&founding::FOUNDING, &files)
    };
    // The page is not there.
    assert_eq!(rule("R-002  other\n"), ["docs/founding-documents.md:1"]);
    assert_eq!(
        rule("R-002  - a reason\n"),
        ["docs/founding-documents.md:1"]
    );
    assert_eq!(rule(""), ["docs/founding/requirements.md:3"]);
    for bad in [
        "R-002  nothing\n",
        "R-002  - y\nR-001  - x\n",
        "R-002  other\nR-004  other\n",
    ] {
        let places = rule(bad);
        assert_eq!(places.len(), 1, "{bad}");
        assert!(places[0].starts_with("docs/founding/shown.txt:"), "{bad}");
    }
    // Those of the older automounter have tests of their names.
    let older = [
        ("docs/founding/requirements.md", "| R-211 | B | links | |\n"),
        ("docs/founding/shown.txt", "R-211  other\n"),
        ("crates/a/tests/a.rs", tests),
    ];
    let places = found(&founding::FOUNDING, &older);
    assert_eq!(places, ["docs/founding/shown.txt:1"]);
    let files = [
        ("docs/founding/requirements.md", asked),
        ("docs/founding/shown.txt", "R-002  - a reason\n"),
        ("crates/a/tests/a.rs", tests),
    ];
    let (_, page) = founding::written(&tree(&files)).expect("a page");
    assert!(
        page.contains("| R-001 | one | `r_001_r_003_both` |\n"),
        "{page}"
    );
    assert!(
        page.contains("| R-002 | two | \u{2013} a reason |\n"),
        "{page}"
    );
    assert!(
        page.contains("| R-003 | three | `r_001_r_003_both` |\n"),
        "{page}"
    );
}
