//! Lints about what the other dialect makes of the same text: for sites whose hosts run more
//! than one automounter, or that move from one to another.

use bstr::{BString, ByteSlice};
use piton_map::diagnostic::{Diagnostic, Severity};
use piton_map::dialect::{Dialect, WildcardRule};
use piton_map::lookup::Found;
use piton_map::requester::Requester;
use piton_plan::facts::HostAnswers;
use piton_plan::step::What;
use piton_plan::{Action, Planning};
use piton_source::cache::ListedKey;

use super::{Findings, Subject, plan};
use crate::explain::site::Opened;

/// The dialect that `one` is compared with.
fn other(one: &Dialect) -> Dialect {
    if *one == Dialect::SUN {
        Dialect::LINUX
    } else {
        Dialect::SUN
    }
}

/// `dialects-differ`: the entry mounts something else in the other dialect.
pub(crate) fn check(
    opened: &Opened,
    subject: &Subject<'_>,
    requester: &Requester,
    findings: &mut Findings,
) {
    let other = other(subject.dialect);
    let there = plan(
        opened,
        subject.point,
        subject.found,
        subject.key,
        requester,
        &other,
    );
    let ours = mounts(opened, subject.planning);
    let theirs = mounts(opened, &there);
    if ours == theirs {
        return;
    }
    let (here, there) = difference(&ours, &theirs);
    let message = format!(
        "the dialects read this differently; {}: {here}; {}: {there}",
        subject.dialect.name, other.name
    );
    let found = subject.found;
    findings.push(
        Diagnostic::new(
            Severity::Note,
            "dialects-differ",
            message,
            &found.fragment,
            found.value,
        )
        .help(
            "only matters where other automounters read this map too; docs/dialects.md has \
                 the rules",
        ),
    );
}

/// `dialects-differ`, for keys below `*`: one dialect finds them, the other does not.
pub(crate) fn below_wildcard(
    opened: &Opened,
    star: &Found,
    keys: &[ListedKey],
) -> Option<Diagnostic> {
    // Where `*` ends the scan the index reports dead entries itself.
    if opened.site.dialect.wildcard == WildcardRule::EndsScan {
        return None;
    }
    let (line, file) = (star.fragment.first_line, &star.fragment.name);
    let mut dead = keys
        .iter()
        .filter(|listed| listed.origin.file == *file && listed.origin.position.line > line);
    let first = dead.next()?;
    let more = match dead.count() {
        0 => String::new(),
        more => format!(" and {more} more"),
    };
    let message = format!(
        "the dialects read this differently; in sun `*` ends the search, and `{}`{more} below \
         it would never be found",
        first.key
    );
    let mut one = Diagnostic::new(
        Severity::Note,
        "dialects-differ",
        message,
        &star.fragment,
        star.key,
    )
    .help("move `*` to the end of the map");
    one.elsewhere
        .push((first.origin.clone(), "the first key below it".into()));
    Some(one)
}

/// What an entry mounts, in comparable words: target and the rest.
fn mounts(opened: &Opened, planning: &Planning) -> Vec<(BString, String)> {
    let Some(plan) = &planning.plan else {
        return Vec::new();
    };
    let answers = HostAnswers::new();
    let describe = |number: usize, action: &Action| match action {
        Action::Nothing => "a directory".to_owned(),
        Action::Submount(submount) => format!("the map {}", submount.map.name),
        Action::Mount(_) => {
            let attempts = plan.attempts_unasked(number, &opened.facts, &answers, 0);
            let each = attempts.iter().map(|attempt| {
                let kind = match &attempt.what {
                    What::Bind { recursive: true } => "rbind".to_owned(),
                    What::Bind { recursive: false } => "bind".to_owned(),
                    What::Type(name) => name.to_string(),
                };
                let options = bstr::join(",", &attempt.options);
                match options.is_empty() {
                    true => format!("{} type {kind}", attempt.source),
                    false => format!(
                        "{} type {kind} options {}",
                        attempt.source,
                        options.as_bstr()
                    ),
                }
            });
            each.collect::<Vec<_>>().join(", else ")
        }
    };
    plan.nodes
        .iter()
        .enumerate()
        .map(|(number, node)| (node.target.clone(), describe(number, &node.action)))
        .collect()
}

/// The first difference, in words.
fn difference(ours: &[(BString, String)], theirs: &[(BString, String)]) -> (String, String) {
    let missing = ("nothing".to_owned(), "nothing".to_owned());
    let at = (0..ours.len().max(theirs.len())).find(|at| ours.get(*at) != theirs.get(*at));
    let Some(at) = at else {
        return missing;
    };
    let words = |list: &[(BString, String)]| {
        list.get(at).map_or_else(
            || "nothing".into(),
            |(target, what)| {
                let mut words = format!("{target} is {what}");
                // A message is a sentence, not a map.
                if let Some((cut, _)) = words.char_indices().nth(160) {
                    words.truncate(cut);
                    words.push_str("...");
                }
                words
            },
        )
    };
    (words(ours), words(theirs))
}
