//! That everything built into Piton has a licence that deny.toml allows, without cargo-deny.

use crate::process::{Failure, Outcome, cargo, quietly, root};
use std::fs;

/// Looks at every package that is built for Linux.
pub(crate) fn run() -> Outcome {
    let list = fs::read_to_string(root().join("deny.toml"))
        .map_err(|error| Failure::new(format!("deny.toml: {error}")))?;
    let allowed = allowed(&list);
    let platform = "x86_64-unknown-linux-gnu";
    let done = quietly(cargo(&[
        "metadata",
        "--format-version",
        "1",
        "--filter-platform",
        platform,
    ]))?;
    if !done.success {
        return Err(Failure::new(format!("licences: {}", done.stderr)));
    }
    let packages = packages(&done.stdout);
    let refused: Vec<String> = packages
        .iter()
        .filter(|(_, licence)| !is_allowed(licence, &allowed))
        .map(|(name, licence)| format!("  {name}: {licence}"))
        .collect();
    if packages.is_empty() || allowed.is_empty() {
        return Err(Failure::new("licences: nothing was found to look at"));
    }
    if refused.is_empty() {
        println!("licences: {} packages, all allowed", packages.len());
        return Ok(());
    }
    Err(Failure::new(format!(
        "licences: deny.toml does not allow\n{}\n  use another crate, or add the licence with a reason",
        refused.join("\n")
    )))
}

/// The strings of `allow = [ ... ]` in the section `[licenses]`.
fn allowed(deny: &str) -> Vec<String> {
    let section = deny.split("[licenses]").nth(1).unwrap_or("");
    let list = section.split("allow = [").nth(1).unwrap_or("");
    let list = list.split(']').next().unwrap_or("");
    list.split('"')
        .skip(1)
        .step_by(2)
        .map(str::to_owned)
        .collect()
}

/// Names and licences in cargo's description of the packages.
fn packages(metadata: &str) -> Vec<(String, String)> {
    metadata
        .split("{\"name\":\"")
        .skip(1)
        .filter_map(|part| {
            let name = part.split('"').next()?;
            let rest = part.split_once("\"license\":")?;
            // Dependencies and targets are objects with names as well, without a version first.
            let is_package = part[name.len()..].starts_with("\",\"version\":");
            let licence = rest
                .1
                .strip_prefix('"')
                .map_or("none", |text| text.split('"').next().unwrap_or("none"));
            is_package.then(|| (name.to_owned(), licence.to_owned()))
        })
        .collect()
}

/// Whether an SPDX expression can be fulfilled: one side of each OR, both of each AND.
fn is_allowed(expression: &str, allowed: &[String]) -> bool {
    // Older packages write `MIT/Apache-2.0`.
    let spaced = expression
        .replace('/', " OR ")
        .replace('(', " ( ")
        .replace(')', " ) ");
    let mut words = spaced.split_whitespace().peekable();
    let fulfilled = any_of(&mut words, allowed);
    fulfilled && words.next().is_none()
}

type Words<'text> = std::iter::Peekable<std::str::SplitWhitespace<'text>>;

fn any_of(words: &mut Words<'_>, allowed: &[String]) -> bool {
    let mut fulfilled = all_of(words, allowed);
    while words.next_if_eq(&"OR").is_some() {
        // Both sides have to be read, whatever the first is.
        fulfilled |= all_of(words, allowed);
    }
    fulfilled
}

fn all_of(words: &mut Words<'_>, allowed: &[String]) -> bool {
    let mut fulfilled = one(words, allowed);
    while words.next_if_eq(&"AND").is_some() {
        fulfilled &= one(words, allowed);
    }
    fulfilled
}

fn one(words: &mut Words<'_>, allowed: &[String]) -> bool {
    if words.next_if_eq(&"(").is_some() {
        let fulfilled = any_of(words, allowed);
        return words.next_if_eq(&")").is_some() && fulfilled;
    }
    let mut licence = words.next().unwrap_or_default().to_owned();
    if words.next_if_eq(&"WITH").is_some() {
        licence = format!("{licence} WITH {}", words.next().unwrap_or_default());
    }
    allowed.contains(&licence)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn known() -> Vec<String> {
        allowed("[licenses]\nallow = [\n  \"MIT\",\n  \"Apache-2.0\",\n  \"Unicode-3.0\",\n]\n")
    }

    #[test]
    fn the_list_is_read_from_deny_toml() {
        assert_eq!(known(), ["MIT", "Apache-2.0", "Unicode-3.0"]);
    }

    #[test]
    fn one_of_two_is_enough_and_both_of_both_are_needed() {
        let known = known();
        assert!(is_allowed("MIT OR GPL-3.0", &known));
        assert!(is_allowed("GPL-3.0/MIT", &known));
        assert!(is_allowed("(MIT OR Apache-2.0) AND Unicode-3.0", &known));
        assert!(!is_allowed("GPL-3.0", &known));
        assert!(!is_allowed("MIT AND GPL-3.0", &known));
        assert!(!is_allowed("(MIT OR Apache-2.0) AND GPL-3.0", &known));
        assert!(!is_allowed("MIT WITH something", &known));
        assert!(!is_allowed("(MIT", &known));
        assert!(!is_allowed("none", &known));
    }

    #[test]
    fn packages_are_told_from_their_dependencies() {
        let text = "{\"packages\":[{\"name\":\"a\",\"version\":\"1\",\"id\":\"x\",\"license\":\"MIT\",\
                    \"dependencies\":[{\"name\":\"b\",\"source\":null}]},\
                    {\"name\":\"c\",\"version\":\"1\",\"license\":null}]}";
        let names = packages(text);
        assert_eq!(names.len(), 2);
        assert_eq!(names[0], ("a".to_owned(), "MIT".to_owned()));
        assert_eq!(names[1].1, "none");
    }
}
