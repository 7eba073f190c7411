//! Rules on documents: found from the front door, and true.

use super::code::{functions, without_words};
use super::{Place, Rule, Tree};

/// A document nobody is led to is not read, and rots.
pub(super) const LINKED: Rule = Rule {
    name: "linked",
    advice: "link it from README.md or ARCHITECTURE.md, or delete it",
    check: linked,
};

/// The grammar and the parser say the same.
pub(super) const GRAMMAR: Rule = Rule {
    name: "grammar",
    advice: "each production of GRAMMAR.md (a line `name = ...` in a fenced block) is parsed by a \
             function of that name in crates/map; rename one of the two",
    check: grammar,
};

/// Users learn of changes from one place.
pub(super) const CHANGELOG: Rule = Rule {
    name: "changelog",
    advice: "CHANGELOG.md begins with a section `## Unreleased` that the next change adds to",
    check: changelog,
};

fn linked(tree: &Tree) -> Vec<Place> {
    let doors: String = ["README.md", "ARCHITECTURE.md"]
        .iter()
        .filter_map(|path| tree.file(path))
        .map(|file| file.text.as_str())
        .collect();
    tree.files
        .iter()
        .filter(|file| file.path.starts_with("docs/") && file.path.ends_with(".md"))
        .filter(|file| !doors.contains(&file.path))
        .map(|file| file.place(1, "is linked from neither README.md nor ARCHITECTURE.md"))
        .collect()
}

fn grammar(tree: &Tree) -> Vec<Place> {
    let Some(file) = tree.file("GRAMMAR.md") else {
        return missing("GRAMMAR.md");
    };
    let parsers: Vec<String> = tree
        .ending(".rs")
        .filter(|file| file.path.starts_with("crates/map/src/"))
        .flat_map(|file| functions(&without_words(&file.text)))
        .map(|function| function.name)
        .collect();
    let productions = productions(&file.text);
    if productions.is_empty() {
        return vec![file.place(1, "has no productions")];
    }
    productions
        .into_iter()
        .filter(|(_, name)| !parsers.contains(name))
        .map(|(line, name)| file.place(line, format!("no function {name} in crates/map/src")))
        .collect()
}

/// The names at the left of `name = ...` and `name ::= ...` in fenced blocks; names in capitals
/// are tokens, which the lexer makes.
fn productions(text: &str) -> Vec<(usize, String)> {
    let mut found = Vec::new();
    let mut fenced = false;
    for (number, line) in text.lines().enumerate() {
        if line.starts_with("```") {
            fenced = !fenced;
            continue;
        }
        let Some((name, _)) = line.split_once('=').filter(|_| fenced) else {
            continue;
        };
        let name = name.trim_end_matches(':').trim_end();
        let is_name = !name.is_empty()
            && name.chars().all(|letter| {
                letter.is_ascii_lowercase() || letter.is_ascii_digit() || letter == '_'
            });
        if is_name {
            found.push((number + 1, name.to_owned()));
        }
    }
    found
}

fn changelog(tree: &Tree) -> Vec<Place> {
    let Some(file) = tree.file("CHANGELOG.md") else {
        return missing("CHANGELOG.md");
    };
    let first = file.text.lines().find(|line| line.starts_with("## "));
    match first.map(|line| line.trim_start_matches('#').trim().trim_matches(['[', ']'])) {
        Some("Unreleased") => Vec::new(),
        _ => vec![file.place(1, "has no section Unreleased at its top")],
    }
}

fn missing(path: &str) -> Vec<Place> {
    vec![Place {
        path: path.to_owned(),
        line: 1,
        what: "is missing".to_owned(),
    }]
}
