//! The recorded decisions of autofs 5.1.8 (oracle/cases), replayed through look-up and
//! planning: every `open` of a map that is a file must come to the same mounts and triggers.
//!
//! Where Piton decides otherwise on purpose the step is listed in [`EXCEPTIONS`] with the
//! number of the difference in docs/dialects.md.

mod replay;

use piton_map::dialect::Dialect;
use replay::case::{Case, Outcome, load_all};
use replay::site::{Ours, Site};

/// Cases about the master map and the daemon's configuration: `piton-map` and the engine have
/// tests of their own, and the differential tier runs them all.
const ELSEWHERE: [&str; 2] = ["master-", "conf-"];

/// `(case, step or "*", the difference in docs/dialects.md)`; `engine:` is what only a running
/// daemon can get right.
#[rustfmt::skip]
const EXCEPTIONS: &[(&str, &str, &str)] = &[
    ("ampersand-key-special-nfs", "open /m/a\\b", "D-5"),
    ("ampersand-key-special", "open /m/a\"b", "D-5"),
    ("ampersand-key-special", "open /m/a\\b", "D-5"),
    ("ampersand-key-special", "open /m/a\tb", "D-6"),
    ("ampersand-master", "*", "master map"),
    ("bind-propagation", "*", "D-17"),
    ("bind-trouble", "open /m/f", "D-18"),
    ("direct-nested-keys-reverse", "open /d/a/b", "D-37"),
    ("direct-nested-keys", "open /d/a/b", "D-37"),
    ("direct-parent", "open /file/c", "engine: the parent is a file"),
    ("direct-same-as-indirect", "open /m/a", "D-37"),
    ("include-cycle", "*", "D-31"),
    ("include-indented", "*", "D-30"),
    ("ipv6-locations", "open /m/e", "D-14"),
    ("keys-leading-dash", "open /m/+d", "D-9"),
    ("keys-length", "*", "D-32"),
    ("line-bom", "open /m/a", "D-30"),
    ("line-continuation-double", "open /m/c", "D-33"),
    ("line-continuation-forms", "open /m/eee", "D-33"),
    ("line-continuation-forms", "open /m/i", "D-33"),
    ("line-leading-blank-after-comment", "*", "D-30"),
    ("line-leading-blank-comment", "*", "D-30"),
    ("line-leading-blank-later", "*", "D-30"),
    ("line-leading-blank-tab", "*", "D-30"),
    ("line-trailing-blank-backslash", "open /m/a", "D-30"),
    ("line-unicode-quoted", "open /m/foé", "D-32"),
    ("line-unicode", "*", "D-32"),
    ("local-host-options", "open /m/a", "D-7"),
    ("location-forms-nfs", "open /m/o", "D-14"),
    ("nested-missing", "open /m/a", "engine: a submount of a map that is missing"),
    ("nested-wildcard", "open /m/none/x", "engine: a submount of a map that is missing"),
    ("offsets-dotdot-far", "*", "D-2"),
    ("offsets-dotdot-inside", "*", "D-2"),
    ("offsets-dotdot", "*", "D-2"),
    ("offsets-forms", "open /m/e", "D-2"),
    ("offsets-forms", "open /m/e/x", "D-2"),
    ("offsets-forms", "open /m/f", "D-2"),
    ("offsets-forms", "open /m/f/y", "D-2"),
    ("offsets-forms", "open /m/p", "D-2"),
    ("offsets-forms", "open /m/i/x y", "D-9"),
    ("offsets-quoted", "*", "D-9"),
    ("offsets-readonly-root", "*", "engine: the offset's directory cannot be made"),
    ("offsets-slashes", "*", "D-2"),
    ("options-commas", "open /m/d", "D-12"),
    ("options-fstype-place", "open /m/h", "D-4"),
    ("options-fstype-twice", "open /m/i", "D-4"),
    ("options-fstype-twice", "open /m/m", "D-4"),
    ("options-global-dash", "*", "D-7"),
    ("options-groups", "open /m/e", "D-12"),
    ("options-groups", "open /m/g", "D-11"),
    ("options-master-merge", "open /m/d", "D-7"),
    ("options-pseudo-background", "open /m/bg1", "D-16"),
    ("quote-key", "open /m/m\"n", "D-9"),
    ("quote-location", "*", "D-9"),
    ("quote-options", "*", "D-9"),
    ("replicas-odd-00", "open /m/a", "D-13"),
    ("replicas-odd-17", "open /m/a", "D-13"),
    ("replicas-odd-21", "open /m/a", "D-13"),
    ("symlink-option", "*", "D-19"),
    ("types-modules", "open /m/p", "D-24"),
    ("variables-builtin", "open /m/PATH", "D-20"),
    ("variables-case", "open /m/f", "D-22"),
    ("variables-define-long", "open /m/a", "D-23"),
    ("variables-define-master-forms", "open /m/c", "D-23"),
    ("variables-environment", "*", "D-20"),
    ("variables-user", "open /m/unknown", "D-21"),
];

#[test]
fn recorded_decisions_are_ours() {
    let only = std::env::var("CASE").ok();
    let mut differences = Vec::new();
    let mut used = Vec::new();
    let (mut steps, mut cases) = (0, 0);
    for case in load_all() {
        let elsewhere = ELSEWHERE.iter().any(|prefix| case.name.starts_with(prefix));
        if elsewhere || only.as_ref().is_some_and(|only| *only != case.name) {
            continue;
        }
        let before = steps;
        replay(&case, &mut |outcome, ours| {
            steps += 1;
            let Some(difference) = difference(outcome, &ours) else {
                return;
            };
            let exception = EXCEPTIONS.iter().position(|(name, step, _)| {
                *name == case.name && (*step == outcome.step || *step == "*")
            });
            match exception {
                Some(number) => used.push(number),
                None => differences.push(format!("{}: {}: {difference}", case.name, outcome.step)),
            }
        });
        cases += u32::from(steps > before);
    }
    println!(
        "{steps} steps of {cases} cases, {} differences",
        differences.len()
    );
    assert!(differences.is_empty(), "{}", differences.join("\n"));
    if only.is_none() {
        assert!(cases > 150, "only {cases} cases were replayed");
        for (number, (name, step, _)) in EXCEPTIONS.iter().enumerate() {
            assert!(used.contains(&number), "{name}: {step} differs no longer");
        }
    }
}

/// Replays the `open` steps of a case up to the first step of another kind that changes what
/// is there.
fn replay(case: &Case, each: &mut dyn FnMut(&Outcome, Ours)) {
    let Ok(mut site) = Site::start(case, Dialect::LINUX) else {
        return;
    };
    for (step, outcome) in case.steps().iter().zip(&case.outcomes[1..]) {
        let op = step["op"].as_str().unwrap_or("open");
        let path = step.as_str().or(step["path"].as_str()).unwrap_or_default();
        let id = |name: &str| step["as"][name].as_u64().unwrap_or(0) as u32;
        match op {
            // They come as far as the last directory of the path.
            "stat" | "lstat" | "readlink" => {
                let parent = path.rsplit_once('/').map_or("", |(parent, _)| parent);
                if site.open(parent, (0, 0), outcome).is_err() {
                    return;
                }
            }
            "open" => {
                let Ok(ours) = site.open(path, (id("uid"), id("gid")), outcome) else {
                    return;
                };
                each(outcome, ours);
            }
            _ => return,
        }
    }
}

/// How we differ from what was recorded, if we do.
fn difference(recorded: &Outcome, ours: &Ours) -> Option<String> {
    let mut theirs = recorded.mounts.clone();
    let mut mounts = ours.mounts.clone();
    theirs.sort();
    mounts.sort();
    let same = theirs.len() == mounts.len()
        && theirs
            .iter()
            .zip(&mounts)
            .all(|(theirs, ours)| same_text(theirs, ours));
    if same && recorded.triggers == ours.triggers {
        return None;
    }
    let texts = [
        &theirs,
        &recorded.triggers,
        &mounts,
        &ours.triggers,
        &ours.notes,
    ];
    let [theirs, their_triggers, mounts, triggers, notes] =
        texts.map(|list| list.iter().map(|text| clipped(text)).collect::<Vec<_>>());
    Some(format!(
        "{}\n    autofs {theirs:?} {their_triggers:?}\n    piton  {mounts:?} {triggers:?} \
         {notes:?}",
        recorded.status
    ))
}

/// Very long texts are recorded by their beginning, length and a checksum.
fn same_text(recorded: &str, ours: &str) -> bool {
    match recorded.split_once("... ") {
        Some((beginning, rest)) if rest.contains("sha256") => {
            let length = format!("{} characters", ours.chars().count());
            ours.starts_with(beginning) && rest.starts_with(&length)
        }
        _ => recorded == ours,
    }
}

fn clipped(text: &str) -> String {
    text.chars().take(200).collect()
}
