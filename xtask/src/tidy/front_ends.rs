//! The table in docs/front-ends.md: what each front end can do, as
//! crates/frontend/src/capabilities.rs says.

use std::fmt::Write as _;

use super::{Place, Rule, Tree};

const SOURCE: &str = "crates/frontend/src/capabilities.rs";
const PAGE: &str = "docs/front-ends.md";
const BEGIN: &str =
    "<!-- Made by `cargo xtask front-ends` of crates/frontend/src/capabilities.rs. -->\n";
const END: &str = "<!-- End of what is made. -->\n";

/// The table says what the code says.
pub(super) const FRONT_ENDS: Rule = Rule {
    name: "front-ends",
    advice: "docs/front-ends.md shows what front ends state in crates/frontend/src/capabilities.rs; \
             `cargo xtask front-ends` writes the table",
    check: front_ends,
};

fn front_ends(tree: &Tree) -> Vec<Place> {
    let place = |path: &str, what: String| {
        vec![Place {
            path: path.to_owned(),
            line: 1,
            what,
        }]
    };
    match page(tree) {
        Err(what) => place(SOURCE, what),
        Ok(page) if tree.file(PAGE).is_some_and(|file| file.text == page) => Vec::new(),
        Ok(_) => place(
            PAGE,
            "is not what `cargo xtask front-ends` writes now".to_owned(),
        ),
    }
}

/// The page's path and text.
pub(super) fn written(tree: &Tree) -> Result<(&'static str, String), Vec<Place>> {
    page(tree).map(|text| (PAGE, text)).map_err(|what| {
        vec![Place {
            path: SOURCE.to_owned(),
            line: 1,
            what,
        }]
    })
}

/// The page with the table in its place.
fn page(tree: &Tree) -> Result<String, String> {
    let source = tree.file(SOURCE).ok_or("is missing")?;
    let page = tree.file(PAGE).ok_or(format!("{PAGE} is missing"))?;
    let parts = page.text.split_once(BEGIN);
    let parts = parts.and_then(|(before, rest)| Some((before, rest.split_once(END)?.1)));
    let (before, after) = parts.ok_or(format!("{PAGE} has no place for the table"))?;
    let table = table(&source.text)?;
    Ok(format!("{before}{BEGIN}\n{table}\n{END}{after}"))
}

/// A constant: the first line of its comment, and its fields with their values.
struct FrontEnd<'t> {
    title: &'t str,
    values: Vec<(&'t str, &'t str)>,
}

fn table(source: &str) -> Result<String, String> {
    let mut questions = Vec::new();
    let mut front_ends: Vec<FrontEnd<'_>> = Vec::new();
    let mut comment: Option<&str> = None;
    for line in source.lines().map(str::trim) {
        if let Some(text) = line.strip_prefix("/// ") {
            comment = comment.or(Some(text));
            continue;
        }
        if line == "///" {
            continue;
        }
        if let Some((name, _)) = field(line) {
            let text = comment.ok_or(format!("{name} has no comment"))?;
            questions.push((name, text));
        } else if line.ends_with(": Capabilities = Capabilities {") {
            let title = comment.ok_or(format!("{line} has no comment"))?;
            let title = title.trim_end_matches('.');
            let values = Vec::new();
            front_ends.push(FrontEnd { title, values });
        } else if let (Some(front_end), Some(value)) = (front_ends.last_mut(), value(line)) {
            front_end.values.push(value);
        }
        comment = None;
    }
    if questions.is_empty() || front_ends.is_empty() {
        return Err("no capabilities are found in it".to_owned());
    }
    render(&questions, &front_ends)
}

fn render(questions: &[(&str, &str)], front_ends: &[FrontEnd<'_>]) -> Result<String, String> {
    let mut text = String::from("|");
    for front_end in front_ends {
        let _ = write!(text, " | {}", front_end.title);
    }
    text += " |\n|---";
    text += &"|---".repeat(front_ends.len());
    text += "|\n";
    for (name, question) in questions {
        let _ = write!(text, "| {}", question.trim_end_matches('.'));
        for front_end in front_ends {
            let value = front_end.values.iter().find(|(field, _)| field == name);
            let (_, value) = value.ok_or(format!("{} does not say {name}", front_end.title))?;
            let _ = write!(text, " | {}", answer(value));
        }
        text += " |\n";
    }
    Ok(text)
}

/// A field of the struct: `pub name: type,`.
fn field(line: &str) -> Option<(&str, &str)> {
    let rest = line.strip_prefix("pub ")?.strip_suffix(',')?;
    rest.split_once(": ")
}

/// A field of a constant: `name: value,`.
fn value(line: &str) -> Option<(&str, &str)> {
    line.strip_suffix(',')?.split_once(": ")
}

/// A value for people: yes, no, or the words of a variant's name.
fn answer(value: &str) -> String {
    match value {
        "true" => return "yes".to_owned(),
        "false" => return "no".to_owned(),
        _ => {}
    }
    let name = value.rsplit("::").next().unwrap_or(value);
    let mut words = String::new();
    for letter in name.chars() {
        if letter.is_uppercase() && !words.is_empty() {
            words.push(' ');
        }
        words.extend(letter.to_lowercase());
    }
    words
}

#[cfg(test)]
mod tests {
    use super::*;

    const SOURCE: &str = "
/// What it can do.
pub struct Capabilities {
    /// In place.
    ///
    /// Otherwise not.
    pub in_place: bool,
    /// Who waits.
    pub unanswered: Unanswered,
}

/// FUSE.
pub(crate) const FUSE: Capabilities = Capabilities {
    in_place: false,
    unanswered: Unanswered::HasAnError,
};
";

    #[test]
    fn a_row_for_each_field_and_a_column_for_each_constant() {
        assert_eq!(
            table(SOURCE).unwrap(),
            "| | FUSE |\n|---|---|\n| In place | no |\n| Who waits | has an error |\n"
        );
    }

    #[test]
    fn what_is_not_said_is_noticed() {
        let without = SOURCE.replace("    in_place: false,\n", "");
        assert_eq!(table(&without).unwrap_err(), "FUSE does not say in_place");
        assert!(table("").is_err());
    }
}
