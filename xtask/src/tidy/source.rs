//! Rules on Rust sources.

use super::code::{functions, is_word, without_words};
use super::{File, Place, Rule, Tree};

const FILE_LINES: usize = 1_000;
const FUNCTION_LINES: usize = 120;
const MAIN_LINES: usize = 40;
const PURE_CRATES: [&str; 5] = ["path", "snapshot", "map", "plan", "engine"];

/// The core reaches no file, socket, clock or thread.
pub(super) const PURE: Rule = Rule {
    name: "pure",
    advice: "path, snapshot, map, plan and engine are `#![no_std]` and `#![forbid(unsafe_code)]`: the \
             compiler then keeps files, clocks and threads out; put both attributes into lib.rs",
    check: pure,
};

/// Unsafe code has one place.
pub(super) const UNSAFE: Rule = Rule {
    name: "unsafe",
    advice: "unsafe code lives in crates/autofs only, behind a safe interface; use rustix, or add \
             what is missing there",
    check: unsafe_code,
};

/// Every file says what it is.
pub(super) const MODULE_DOC: Rule = Rule {
    name: "module-doc",
    advice: "begin with a line `//!` that says what this file is for: the tree is read before the code",
    check: module_doc,
};

/// Nothing unfinished.
pub(super) const LEFTOVERS: Rule = Rule {
    name: "leftovers",
    advice: "finish it, or return an error that says what is not there yet",
    check: leftovers,
};

/// A test that does not run proves nothing.
pub(super) const IGNORED: Rule = Rule {
    name: "ignored",
    advice: "a test that is skipped counts as passed; make it run, put it into the tier that can run \
             it (CONTRIBUTING.md), or delete it",
    check: ignored,
};

/// Files that can be read in one sitting.
pub(super) const FILE_SIZE: Rule = Rule {
    name: "file-size",
    advice: "split it by what its parts are about; tests may move to NAME/tests.rs",
    check: file_size,
};

/// Functions that can be seen at once.
pub(super) const FUNCTION_SIZE: Rule = Rule {
    name: "function-size",
    advice: "give its steps names of their own",
    check: function_size,
};

/// main.rs is a table of contents.
pub(super) const MAIN_SIZE: Rule = Rule {
    name: "main-size",
    advice: "main only turns words into calls and results into exit statuses; move the rest out",
    check: main_size,
};

fn pure(tree: &Tree) -> Vec<Place> {
    let mut places = Vec::new();
    for name in PURE_CRATES {
        let Some(file) = tree.file(&format!("crates/{name}/src/lib.rs")) else {
            continue;
        };
        let code = without_words(&file.text);
        for attribute in ["#![no_std]", "#![forbid(unsafe_code)]"] {
            if !code.contains(attribute) {
                places.push(file.place(1, format!("lacks {attribute}")));
            }
        }
    }
    places
}

fn unsafe_code(tree: &Tree) -> Vec<Place> {
    rust(tree)
        .filter(|file| file.member() != "crates/autofs")
        .flat_map(|file| {
            words(file, "unsafe")
                .map(|line| file.place(line, "unsafe code outside of crates/autofs"))
        })
        .collect()
}

fn module_doc(tree: &Tree) -> Vec<Place> {
    rust(tree)
        .filter(|file| !file.text.starts_with("//!"))
        .map(|file| file.place(1, "does not begin with a module doc"))
        .collect()
}

fn leftovers(tree: &Tree) -> Vec<Place> {
    rust(tree)
        .flat_map(|file| {
            ["todo", "dbg", "unimplemented"]
                .into_iter()
                .flat_map(move |name| {
                    words(file, name)
                        .filter(move |line| is_macro(file, *line, name))
                        .map(move |line| file.place(line, format!("{name}! is left over")))
                })
        })
        .collect()
}

fn is_macro(file: &File, line: usize, name: &str) -> bool {
    let code = without_words(&file.text);
    code.lines()
        .nth(line - 1)
        .is_some_and(|line| line.contains(&format!("{name}!")))
}

fn ignored(tree: &Tree) -> Vec<Place> {
    rust(tree)
        .flat_map(|file| {
            let code = without_words(&file.text);
            lines_with(&code, "#[ignore")
                .into_iter()
                .map(|line| file.place(line, "an ignored test"))
                .collect::<Vec<_>>()
        })
        .collect()
}

fn file_size(tree: &Tree) -> Vec<Place> {
    rust(tree)
        .map(|file| (file, file.text.lines().count()))
        .filter(|(_, lines)| *lines > FILE_LINES)
        .map(|(file, lines)| file.place(lines, format!("{lines} lines; {FILE_LINES} at most")))
        .collect()
}

fn function_size(tree: &Tree) -> Vec<Place> {
    rust(tree)
        .flat_map(|file| {
            functions(&without_words(&file.text))
                .into_iter()
                .filter(|function| function.lines > FUNCTION_LINES)
                .map(|function| {
                    let what = format!(
                        "fn {} has {} lines; {FUNCTION_LINES} at most",
                        function.name, function.lines
                    );
                    file.place(function.line, what)
                })
                .collect::<Vec<_>>()
        })
        .collect()
}

fn main_size(tree: &Tree) -> Vec<Place> {
    rust(tree)
        .filter(|file| file.path.ends_with("src/main.rs"))
        .map(|file| (file, file.text.lines().count()))
        .filter(|(_, lines)| *lines >= MAIN_LINES)
        .map(|(file, lines)| file.place(lines, format!("{lines} lines; fewer than {MAIN_LINES}")))
        .collect()
}

fn rust(tree: &Tree) -> impl Iterator<Item = &File> {
    tree.ending(".rs").filter(|file| !file.is_data())
}

/// The lines on which a word stands as code.
fn words<'file>(file: &'file File, word: &str) -> impl Iterator<Item = usize> + use<'file> {
    let code = without_words(&file.text);
    let bytes = code.as_bytes();
    let found: Vec<usize> = code
        .match_indices(word)
        .filter(|(at, _)| {
            let before = at
                .checked_sub(1)
                .is_some_and(|before| is_word(bytes[before]));
            let after = bytes
                .get(at + word.len())
                .is_some_and(|after| is_word(*after));
            !before && !after
        })
        .map(|(at, _)| code[..at].matches('\n').count() + 1)
        .collect();
    found.into_iter()
}

fn lines_with(text: &str, part: &str) -> Vec<usize> {
    text.lines()
        .enumerate()
        .filter(|(_, line)| line.contains(part))
        .map(|(number, _)| number + 1)
        .collect()
}
