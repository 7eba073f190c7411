//! GRAMMAR.md and the parser are one: each production of the entry language is a function of
//! the same name.

use std::path::Path;

/// Productions that are a test of one character, or words read in place.
const IN_PLACE: [&str; 2] = ["key", "name"];

#[test]
fn every_production_is_a_function() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let read = |path: &str| std::fs::read_to_string(root.join(path)).unwrap();
    let grammar = read("../../GRAMMAR.md");
    let start = grammar.find("\n## Entries").expect("a chapter on entries");
    let rest = &grammar[start + 1..];
    let chapter = &rest[..rest[1..].find("\n## ").map_or(rest.len(), |end| end + 1)];
    let sources: String = ["expand", "lexer", "parser", "entry", "location"]
        .map(|name| read(&format!("src/{name}.rs")))
        .concat();
    let mut count = 0;
    for block in chapter.split("```ebnf\n").skip(1) {
        let block = &block[..block.find("```").unwrap()];
        for line in block.lines() {
            let Some((name, _)) = line.split_once('=') else {
                continue;
            };
            let name = name.trim();
            if name.is_empty() || !name.bytes().all(|byte| byte.is_ascii_lowercase()) {
                continue;
            }
            count += 1;
            let function = format!("fn {name}(");
            assert!(
                IN_PLACE.contains(&name) || sources.contains(&function),
                "no {function}…)"
            );
        }
    }
    assert!(count >= 18, "only {count} productions were found");
}
