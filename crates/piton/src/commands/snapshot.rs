//! `piton snapshot`: what snapshots there are, why one is what it is, and removing what is not kept.
//! Reads the journal and asks the volumes; needs root, and no daemon.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use clap::Subcommand;
use piton_control::RuntimeDir;
use piton_mount::snapshot::{self as sweeps, Places};
use piton_snapshot::{Found, Health, Origin, Phase, Policy, Record};
use piton_volumes::Site;
use serde::Serialize;

use super::talk::{BAD, FAINT, HEADING, absolute, complain, field, print, print_json};
use crate::exit::Exit;

/// Time for all that is asked; LVM's tools read all disks.
const TIME: Duration = Duration::from_secs(60);

/// Its arguments.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// List the snapshots that were taken on access.
    List {
        /// As JSON (docs/snapshots.md).
        #[arg(long)]
        json: bool,
    },
    /// Finish what a crash left, and remove what nobody uses and no map keeps.
    Prune {
        /// As JSON (docs/snapshots.md).
        #[arg(long)]
        json: bool,
    },
    /// Say of what, when and how the snapshot at a path was taken, and how long it stays.
    Why {
        /// A path at or below a snapshot's mount.
        path: PathBuf,
        /// As JSON (docs/snapshots.md).
        #[arg(long)]
        json: bool,
    },
}

/// One snapshot.
#[derive(Debug, Serialize)]
struct Shown {
    /// What its provider calls it, for each origin.
    snapshots: Vec<String>,
    origins: Vec<String>,
    taken: String,
    consistency: &'static str,
    /// `used`, `kept`, `idle`, `taking`, `removing`, `overflowed`, `partial`, `missing`.
    state: &'static str,
    /// Bytes it takes by itself, where that is known.
    used_bytes: Option<u64>,
    /// The path it was taken for.
    path: String,
    /// What the map says about keeping it.
    policy: String,
}

/// Runs it.
pub(crate) fn run(args: &Args) -> Exit {
    if !rustix::process::geteuid().is_root() {
        return complain(&"only root may look at the journal of snapshots");
    }
    let places = Places::usual(RuntimeDir::from_env().path().into());
    let done = match &args.command {
        Command::List { json } => list(&places, *json),
        Command::Prune { json } => Ok(prune(&places, *json)),
        Command::Why { path, json } => why(&places, path, *json),
    };
    done.unwrap_or_else(|trouble| complain(&trouble))
}

fn list(places: &Places, json: bool) -> Result<Exit, String> {
    let shown = all(places)?;
    if json {
        return Ok(print_json(&shown));
    }
    if shown.is_empty() {
        return Ok(print("no snapshots\n"));
    }
    let mut text = format!(
        "{HEADING}{:<24} {:<10} {:<16} {:>8}  ORIGIN{HEADING:#}\n",
        "TAKEN", "STATE", "CONSISTENCY", "USED"
    );
    for one in &shown {
        let origins = one.origins.join(" ");
        let used = one.used_bytes.map_or_else(|| "-".into(), amount);
        // Writing to a string does not fail.
        let _ = writeln!(
            text,
            "{:<24} {:<10} {:<16} {used:>8}  {} {FAINT}for {}{FAINT:#}",
            one.taken,
            one.state,
            one.consistency,
            field(&origins),
            field(&one.path)
        );
    }
    Ok(print(&text))
}

/// All snapshots that the journal knows, the newest last.
fn all(places: &Places) -> Result<Vec<Shown>, String> {
    let site = places.site();
    let until = Instant::now() + TIME;
    let mut records = site.records(until).map_err(|error| error.to_string())?;
    records.sort_by_key(|record| record.name);
    let mut listed = BTreeMap::new();
    let all = records
        .iter()
        .map(|record| shown(&site, record, &mut listed, until));
    Ok(all.collect())
}

/// What providers list, by origin; an origin that cannot be asked lists nothing.
type Listed = BTreeMap<(Origin, Option<bstr::BString>), Vec<Found>>;

fn shown(site: &Site, record: &Record, listed: &mut Listed, until: Instant) -> Shown {
    let mut parts: Vec<Found> = Vec::new();
    for origin in &record.origins {
        let key = (origin.clone(), record.means.store.clone());
        let found = listed.entry(key).or_insert_with(|| {
            site.list(origin, &record.means, until)
                .unwrap_or_else(|error| {
                    complain(&error);
                    Vec::new()
                })
        });
        parts.extend(
            found
                .iter()
                .filter(|found| found.name == record.name)
                .cloned(),
        );
    }
    let used = parts.iter().filter_map(|found| found.used);
    Shown {
        snapshots: record
            .origins
            .iter()
            .map(|origin| record.name.of(origin))
            .collect(),
        origins: record.origins.iter().map(ToString::to_string).collect(),
        taken: record.name.taken.to_string(),
        consistency: record.consistency.word(),
        state: state(record, &parts),
        used_bytes: used.reduce(u64::saturating_add),
        path: record.series.to_string(),
        policy: policy_in_words(&record.policy),
    }
}

fn state(record: &Record, parts: &[Found]) -> &'static str {
    let any = |health| parts.iter().any(|found| found.health == health);
    match &record.phase {
        Phase::Taking { .. } => "taking",
        Phase::Removing => "removing",
        Phase::Made if any(Health::Overflowed) => "overflowed",
        Phase::Made if parts.is_empty() => "missing",
        Phase::Made if any(Health::Partial) || parts.len() < record.origins.len() => "partial",
        Phase::Made if parts.iter().any(|found| found.busy) => "used",
        Phase::Made if record.policy == Policy::default() => "idle",
        Phase::Made => "kept",
    }
}

/// What becomes of it, in words.
pub(crate) fn policy_in_words(policy: &Policy) -> String {
    let mut words = Vec::new();
    if policy.keep > 0 {
        words.push(format!("the newest {} are kept", policy.keep));
    }
    if let Some(length) = policy.keep_for {
        words.push(format!("those younger than {length} are kept"));
    }
    if words.is_empty() {
        return "removed when nobody uses it".into();
    }
    if let Some(cap) = policy.cap {
        words.push(format!(
            "all together take {} at the most",
            amount(cap.bytes)
        ));
    }
    words.join("; ")
}

/// Bytes as people read them: `3.2G`.
fn amount(bytes: u64) -> String {
    let units = [("T", 40), ("G", 30), ("M", 20), ("K", 10)];
    let unit = units.iter().find(|(_, shift)| bytes >> shift > 0);
    match unit {
        None => format!("{bytes}"),
        Some((unit, shift)) => {
            let tenths = bytes.saturating_mul(10) >> shift;
            format!("{}.{}{unit}", tenths / 10, tenths % 10)
        }
    }
}

fn prune(places: &Places, json: bool) -> Exit {
    let report = sweeps::sweep(places, Instant::now() + TIME);
    let left = !report.troubles.is_empty();
    let printed = if json {
        print_json(&report)
    } else {
        let mut text = String::new();
        report.done.iter().for_each(|line| {
            let _ = writeln!(text, "{line}");
        });
        report.troubles.iter().for_each(|line| {
            let _ = writeln!(text, "{BAD}{line}{BAD:#}");
        });
        let _ = writeln!(text, "{} kept or in use", report.kept);
        print(&text)
    };
    if left { Exit::Failure } else { printed }
}

fn why(places: &Places, path: &Path, json: bool) -> Result<Exit, String> {
    let path = absolute(path)?;
    let told = manifest(places, Path::new(&path)).ok_or_else(|| {
        format!("{path}: no snapshot is mounted there (piton explain tells what would be)")
    })?;
    let taken = told["taken"].as_str().unwrap_or_default().to_owned();
    let origins = &told["origins"];
    let of = |one: &Shown| one.taken == taken && serde_json::json!(one.origins) == *origins;
    let one = all(places)?.into_iter().find(of);
    if json {
        let record = serde_json::json!(one);
        return Ok(print_json(
            &serde_json::json!({ "manifest": told, "record": record }),
        ));
    }
    let words = |value: &serde_json::Value| match value.as_array() {
        Some(all) => all
            .iter()
            .filter_map(|one| one.as_str())
            .collect::<Vec<_>>()
            .join(" and "),
        None => value.as_str().unwrap_or_default().to_owned(),
    };
    let mut text = format!("{HEADING}{}{HEADING:#}\n", field(&path));
    for (name, value) in [
        ("snapshot", words(&told["snapshot"])),
        ("of", words(origins)),
        ("taken", taken.clone()),
        ("by", words(&told["provider"])),
        (
            "consistency",
            meaning(told["consistency"].as_str().unwrap_or_default()),
        ),
        ("notes", words(&told["notes"])),
        (
            "state",
            one.as_ref()
                .map_or("not in the journal", |one| one.state)
                .into(),
        ),
        (
            "stays",
            one.as_ref().map_or(String::new(), |one| one.policy.clone()),
        ),
    ] {
        if !value.is_empty() {
            let _ = writeln!(text, "  {name:<12} {}", field(&value));
        }
    }
    Ok(print(&text))
}

/// The manifest of the mount that a path is at or below.
fn manifest(places: &Places, path: &Path) -> Option<serde_json::Value> {
    path.ancestors().find_map(|path| {
        let file = places.manifest(path.to_str()?.into());
        let text = std::fs::read(file).ok()?;
        serde_json::from_slice(&text).ok()
    })
}

/// A level of consistency with what it means.
fn meaning(level: &str) -> String {
    let words = match level {
        "file-by-file" => "each file was copied by itself; they are not of one instant",
        "crash-consistent" => "one instant, as after a power failure",
        "fs-frozen" => "one instant, with everything written before",
        "application" => "one instant, and the applications were told",
        _ => return level.into(),
    };
    format!("{level}: {words}")
}

#[cfg(test)]
mod tests {
    use piton_snapshot::{Cap, Seconds};

    use super::*;

    #[test]
    fn every_field_that_programs_read_is_documented() {
        let one = Shown {
            snapshots: Vec::new(),
            origins: Vec::new(),
            taken: String::new(),
            consistency: "",
            state: "",
            used_bytes: None,
            path: String::new(),
            policy: String::new(),
        };
        let page = include_str!("../../../../docs/snapshots.md");
        let table = page
            .split("`list --json` prints")
            .nth(1)
            .expect("its chapter");
        let listed = serde_json::json!(one);
        let pruned = serde_json::json!(sweeps::Report::default());
        for field in [listed, pruned]
            .iter()
            .flat_map(|object| object.as_object().expect("an object").keys())
        {
            assert!(table.contains(&format!("`{field}`")), "{field}");
        }
    }

    #[test]
    fn amounts_and_policies_are_words() {
        for (bytes, text) in [
            (0, "0"),
            (1023, "1023"),
            (1536, "1.5K"),
            (20 << 30, "20.0G"),
        ] {
            assert_eq!(amount(bytes), text);
        }
        assert_eq!(
            policy_in_words(&Policy::default()),
            "removed when nobody uses it"
        );
        let all = Policy {
            keep: 3,
            keep_for: Some(Seconds(86_400)),
            cap: Some(Cap { bytes: 1 << 40 }),
        };
        assert_eq!(
            policy_in_words(&all),
            "the newest 3 are kept; those younger than 1d are kept; all together take 1.0T at the most"
        );
    }
}
