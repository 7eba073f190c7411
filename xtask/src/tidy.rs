//! The project's laws, as far as a program can check them: one named rule for each.

mod code;
mod documents;
mod founding;
mod front_ends;
mod manifests;
mod source;
mod text;

use crate::process::{Failure, Outcome, root};
use std::fmt;
use std::fs;
use std::path::Path;

/// Folders that hold no sources of ours.
const SKIPPED: [&str; 5] = ["target", "build", "node_modules", "__pycache__", ".git"];

/// One file of the repository, by its path from the top.
#[derive(Debug)]
pub(crate) struct File {
    path: String,
    text: String,
}

/// All files of the repository that hold text.
#[derive(Debug, Default)]
pub(crate) struct Tree {
    files: Vec<File>,
}

/// A law that is broken somewhere.
#[derive(Debug, PartialEq)]
pub(crate) struct Finding {
    path: String,
    line: usize,
    rule: &'static str,
    what: String,
    advice: &'static str,
}

/// A law: its name, and what finds where it is broken.
struct Rule {
    name: &'static str,
    /// Why it is a law, and what to do about a finding.
    advice: &'static str,
    check: fn(&Tree) -> Vec<Place>,
}

/// Where a law is broken, and how.
#[derive(Debug, PartialEq)]
struct Place {
    path: String,
    line: usize,
    what: String,
}

const RULES: [Rule; 18] = [
    manifests::ARROWS,
    manifests::LINTS,
    source::PURE,
    source::UNSAFE,
    source::MODULE_DOC,
    source::LEFTOVERS,
    source::IGNORED,
    source::FILE_SIZE,
    source::FUNCTION_SIZE,
    source::MAIN_SIZE,
    text::MACHINE,
    text::WHITESPACE,
    text::CONTROL,
    documents::LINKED,
    documents::GRAMMAR,
    documents::CHANGELOG,
    founding::FOUNDING,
    front_ends::FRONT_ENDS,
];

/// Checks every rule on the repository; `--list` names them.
pub(crate) fn run(words: &[String]) -> Outcome {
    if words.iter().any(|word| word == "--list") {
        for rule in &RULES {
            println!("{:<14} {}", rule.name, rule.advice);
        }
        return Ok(());
    }
    let tree = Tree::read(&root())?;
    let findings = tree.findings();
    for finding in &findings {
        println!("{finding}");
    }
    if findings.is_empty() {
        println!(
            "tidy: {} files, {} rules, nothing to say",
            tree.files.len(),
            RULES.len()
        );
        Ok(())
    } else {
        Err(Failure::new(format!("tidy: {} findings", findings.len())))
    }
}

/// Writes docs/founding-documents.md.
pub(crate) fn write_founding() -> Outcome {
    write_page(founding::written)
}

/// Writes the table in docs/front-ends.md.
pub(crate) fn write_front_ends() -> Outcome {
    write_page(front_ends::written)
}

/// A page that is made of others: its path and text, or why it cannot be made.
type Written = Result<(&'static str, String), Vec<Place>>;

fn write_page(written: fn(&Tree) -> Written) -> Outcome {
    let tree = Tree::read(&root())?;
    let (path, text) = written(&tree).map_err(|places| {
        let lines = places
            .iter()
            .map(|it| format!("{}:{}: {}", it.path, it.line, it.what));
        Failure::new(lines.collect::<Vec<_>>().join("\n"))
    })?;
    fs::write(root().join(path), text)
        .map_err(|error| Failure::new(format!("cannot write {path}: {error}")))
}

impl Tree {
    /// Reads all text files below a folder.
    fn read(root: &Path) -> Result<Self, Failure> {
        let mut tree = Tree::default();
        tree.read_folder(root, "")
            .map_err(|error| Failure::new(format!("cannot read the repository: {error}")))?;
        tree.files.sort_by(|one, other| one.path.cmp(&other.path));
        Ok(tree)
    }

    fn read_folder(&mut self, folder: &Path, prefix: &str) -> std::io::Result<()> {
        for entry in fs::read_dir(folder)? {
            let entry = entry?;
            let name = entry.file_name().to_string_lossy().into_owned();
            let path = format!("{prefix}{name}");
            let kind = entry.file_type()?;
            if kind.is_dir() && !SKIPPED.contains(&name.as_str()) {
                self.read_folder(&entry.path(), &format!("{path}/"))?;
            } else if kind.is_file()
                && let Ok(text) = fs::read_to_string(entry.path())
            {
                self.files.push(File { path, text });
            }
        }
        Ok(())
    }

    /// Every place where a law is broken, in order of files.
    fn findings(&self) -> Vec<Finding> {
        let mut findings: Vec<Finding> = RULES
            .iter()
            .flat_map(|rule| {
                (rule.check)(self).into_iter().map(|place| Finding {
                    path: place.path,
                    line: place.line,
                    rule: rule.name,
                    what: place.what,
                    advice: rule.advice,
                })
            })
            .collect();
        findings.sort_by(|one, other| (&one.path, one.line).cmp(&(&other.path, other.line)));
        findings
    }

    /// The file with exactly this path.
    fn file(&self, path: &str) -> Option<&File> {
        self.files.iter().find(|file| file.path == path)
    }

    /// All files whose names end so.
    fn ending<'tree>(&'tree self, end: &'tree str) -> impl Iterator<Item = &'tree File> {
        self.files
            .iter()
            .filter(move |file| file.path.ends_with(end))
    }
}

impl File {
    fn place(&self, line: usize, what: impl Into<String>) -> Place {
        Place {
            path: self.path.clone(),
            line,
            what: what.into(),
        }
    }

    /// The folder of the crate it belongs to: `crates/NAME`, `sim` or `xtask`.
    fn member(&self) -> &str {
        let mut slashes = self.path.match_indices('/').map(|(at, _)| at);
        let end = if self.path.starts_with("crates/") {
            slashes.nth(1)
        } else {
            slashes.next()
        };
        &self.path[..end.unwrap_or(0)]
    }

    /// The last part of the crate's folder.
    fn member_name(&self) -> &str {
        self.member().rsplit('/').next().unwrap_or("")
    }

    /// Whether it is test data, which may hold anything.
    fn is_data(&self) -> bool {
        [
            "/testdata/",
            "/snapshots/",
            "/corpus/",
            "/seeds/",
            "proptest-regressions",
        ]
        .iter()
        .any(|part| self.path.contains(part))
    }
}

impl fmt::Display for Finding {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            formatter,
            "{}:{}: {} [{}]\n    {}",
            self.path, self.line, self.what, self.rule, self.advice
        )
    }
}

#[cfg(test)]
mod tests;
