//! Rules on every text file: nothing of one developer's machine, nothing invisible.

use super::{File, Place, Rule, Tree};

const ENDINGS: [&str; 12] = [
    ".rs", ".md", ".toml", ".py", ".sh", ".json", ".c", ".h", ".yml", ".service", ".txt", "/run",
];

/// The repository must mean the same on every machine.
pub(super) const MACHINE: Rule = Rule {
    name: "machine",
    advice: "a clean clone on another machine does not have it: use a path within the repository, \
             a temporary folder, or an argument",
    check: machine,
};

/// Blanks at the end of lines.
pub(super) const WHITESPACE: Rule = Rule {
    name: "whitespace",
    advice: "remove the blanks at the end of the line; a test that needs them can write \\x20",
    check: whitespace,
};

/// Characters one cannot see.
pub(super) const CONTROL: Rule = Rule {
    name: "control",
    advice: "write it as an escape, so that a reader can see it",
    check: control,
};

/// Paths of the machines this is developed on; written in two parts, or we would find ourselves.
const PRIVATE: [(&str, &str); 8] = [
    ("../", "shared"),
    ("/work/", "main"),
    ("/work/", "shared"),
    ("/work/", ".library"),
    ("/root/", ".cargo"),
    ("/root/", ".rustup"),
    ("/tmp/", "target"),
    ("index.crates", ".io-"),
];

fn machine(tree: &Tree) -> Vec<Place> {
    let private: Vec<String> = PRIVATE
        .iter()
        .map(|(one, two)| format!("{one}{two}"))
        .collect();
    each_line(tree, |line| {
        let path = private.iter().find(|path| line.contains(path.as_str()))?;
        Some(format!("names {path}"))
    })
}

fn whitespace(tree: &Tree) -> Vec<Place> {
    each_line(tree, |line| {
        line.ends_with([' ', '\t', '\r'])
            .then(|| "ends in white space".to_owned())
    })
}

fn control(tree: &Tree) -> Vec<Place> {
    each_line(tree, |line| {
        let control = line
            .chars()
            .find(|letter| letter.is_control() && *letter != '\t')?;
        Some(format!(
            "holds the control character U+{:04X}",
            u32::from(control)
        ))
    })
}

fn each_line(tree: &Tree, wrong: impl Fn(&str) -> Option<String>) -> Vec<Place> {
    tree.files
        .iter()
        .filter(|file| is_ours(file))
        .flat_map(|file| {
            file.text
                .split('\n')
                .enumerate()
                .filter_map(|(number, line)| Some(file.place(number + 1, wrong(line)?)))
                .collect::<Vec<_>>()
        })
        .collect()
}

fn is_ours(file: &File) -> bool {
    !file.is_data() && ENDINGS.iter().any(|end| file.path.ends_with(end))
}
