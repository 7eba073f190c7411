//! The recorded decisions of autofs 5.1.8 (oracle/cases), replayed through look-up and
//! planning: every `open` of a map that is a file must come to the same mounts and triggers.
//!
//! Where Piton decides otherwise on purpose the step is listed in oracle/expected-differences.toml;
//! [`EXCEPTIONS`] has what differs here alone.

mod replay;

use piton_map::dialect::Dialect;
use piton_testkit::Expected;
use replay::case::{Case, Outcome, load_all};
use replay::site::{Ours, Site};

/// Cases about the master map and the daemon's configuration: `piton-map` and the engine have
/// tests of their own, and the differential tier runs them all.
const ELSEWHERE: [&str; 2] = ["master-", "conf-"];

/// `(case, step or "*", the difference in docs/dialects.md)`, where the list of expected differences
/// has the step otherwise or not at all; `engine:` is what only a running daemon can get right.
#[rustfmt::skip]
const EXCEPTIONS: &[(&str, &str, &str)] = &[
    ("direct-nested-keys-reverse", "open /d/a/b", "D-37"),
    ("direct-nested-keys", "open /d/a/b", "D-37"),
    ("direct-parent", "open /file/c", "engine: the parent is a file"),
    ("keys-length", "*", "D-32"),
    ("nested-missing", "open /m/a", "engine: a submount of a map that is missing"),
    ("nested-wildcard", "open /m/none/x", "engine: a submount of a map that is missing"),
    ("offsets-readonly-root", "*", "engine: the offset's directory cannot be made"),
    ("source-on-automount", "*", "engine: the automounts that sources lie on"),
];

#[test]
fn recorded_decisions_are_ours() {
    let only = std::env::var("CASE").ok();
    let expected = Expected::load();
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
            if expected.has(&case.name, &outcome.step) {
                return;
            }
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
