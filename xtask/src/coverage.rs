//! Which lines of map, plan and engine the tests reach, from rustc's own instrumentation.

use crate::install;
use crate::process::{
    Failure, Outcome, cargo, command, executables, is_installed, is_root, quietly, root,
};
use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

const CRATES: [&str; 3] = ["map", "plan", "engine"];
const AT_LEAST: f64 = 90.0;
/// Seeds the simulator runs: enough to reach what it can reach.
const SEEDS: &str = "300";
/// Debian's newest; it reads what rustc's own LLVM writes.
const PACKAGE: &str = "llvm-19";

/// The two programs of LLVM that are needed.
#[derive(Debug)]
struct Tools {
    profdata: String,
    cov: String,
}

/// Lines of one file: how many there are, and which no test reaches.
#[derive(Debug, Default, PartialEq)]
struct Lines {
    count: usize,
    missed: Vec<usize>,
}

/// Measures, prints a line for each file, fails below 90 % of all lines.
pub(crate) fn run(_words: &[String]) -> Outcome {
    let folder = target().join("coverage");
    let profiles = folder.join("profiles");
    let _ = fs::remove_dir_all(&profiles);
    fs::create_dir_all(&profiles).map_err(|error| Failure::new(format!("coverage: {error}")))?;
    let binaries = build(&folder)?;
    exercise(&folder, &profiles)?;
    let (tools, merged) = merge(&profiles)?;
    let report = export(&tools, &merged, &binaries)?;
    judge(&read(&report, &root()))
}

fn target() -> PathBuf {
    std::env::var("CARGO_TARGET_DIR").map_or_else(|_| root().join("target"), |at| root().join(at))
}

fn packages() -> Vec<String> {
    CRATES
        .iter()
        .map(|name| format!("piton-{name}"))
        .chain(["piton-sim".to_owned()])
        .flat_map(|package| ["-p".to_owned(), package])
        .collect()
}

fn instrumented(arguments: &[&str], folder: &Path, profiles: &Path) -> std::process::Command {
    let mut run = cargo(arguments);
    run.env("CARGO_TARGET_DIR", folder)
        .env("RUSTFLAGS", "-Cinstrument-coverage")
        .env("LLVM_PROFILE_FILE", profiles.join("%p-%m.profraw"));
    run
}

/// Builds the tests; returns the programs that hold them.
fn build(folder: &Path) -> Result<Vec<String>, Failure> {
    let packages = packages();
    let mut arguments: Vec<&str> = vec!["test", "--no-run", "--lib", "--bins", "--tests"];
    arguments.extend(packages.iter().map(String::as_str));
    let done = quietly(instrumented(&arguments, folder, folder))?;
    if !done.success {
        return Err(Failure::new(format!(
            "coverage: cannot build\n{}",
            done.stderr
        )));
    }
    let mut binaries = executables(&done.stderr, &root());
    binaries.push(
        folder
            .join("debug/piton-sim")
            .to_string_lossy()
            .into_owned(),
    );
    Ok(binaries)
}

/// Runs the tests and the simulator.
fn exercise(folder: &Path, profiles: &Path) -> Outcome {
    let packages = packages();
    let mut tests: Vec<&str> = vec!["test", "--quiet", "--lib", "--bins", "--tests"];
    tests.extend(packages.iter().map(String::as_str));
    let simulator = ["run", "--quiet", "-p", "piton-sim", "--", "--seeds", SEEDS];
    for arguments in [&tests[..], &simulator] {
        let done = quietly(instrumented(arguments, folder, profiles))?;
        if !done.success {
            return Err(Failure::new(format!(
                "coverage: {}{}",
                done.stdout, done.stderr
            )));
        }
    }
    Ok(())
}

/// Merges what the runs wrote, with the first LLVM here that can read it.
fn merge(profiles: &Path) -> Result<(Tools, String), Failure> {
    if let Some(merged) = candidates()
        .into_iter()
        .find_map(|tools| try_merge(tools, profiles))
    {
        return Ok(merged);
    }
    if is_root() && is_installed("apt-get") {
        install::install(&[PACKAGE])?;
    }
    candidates()
        .into_iter()
        .find_map(|tools| try_merge(tools, profiles))
        .ok_or_else(|| {
            Failure::new(format!(
                "coverage: no llvm-profdata here can read what rustc writes; apt-get install \
             {PACKAGE}, or rustup component add llvm-tools"
            ))
        })
}

fn candidates() -> Vec<Tools> {
    let sysroot = quietly(command("rustc", &["--print", "target-libdir"])).unwrap_or_default();
    let own = Path::new(sysroot.stdout.trim()).with_file_name("bin");
    let own = own.to_string_lossy();
    let mut found = vec![Tools {
        profdata: format!("{own}/llvm-profdata"),
        cov: format!("{own}/llvm-cov"),
    }];
    let versions = (15..=40).rev().map(|version| format!("-{version}"));
    found.extend(versions.chain([String::new()]).map(|version| Tools {
        profdata: format!("llvm-profdata{version}"),
        cov: format!("llvm-cov{version}"),
    }));
    found.retain(|tools| Path::new(&tools.profdata).is_file() || is_installed(&tools.profdata));
    found
}

fn try_merge(tools: Tools, profiles: &Path) -> Option<(Tools, String)> {
    let merged = profiles
        .join("merged.profdata")
        .to_string_lossy()
        .into_owned();
    let mut arguments = vec![
        "merge".to_owned(),
        "-sparse".to_owned(),
        "-o".to_owned(),
        merged.clone(),
    ];
    let raw = fs::read_dir(profiles)
        .ok()?
        .flatten()
        .map(|entry| entry.path());
    let raw = raw.filter(|path| path.extension().is_some_and(|end| end == "profraw"));
    arguments.extend(raw.map(|path| path.to_string_lossy().into_owned()));
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let done = quietly(command(&tools.profdata, &arguments)).ok()?;
    done.success.then_some((tools, merged))
}

fn export(tools: &Tools, merged: &str, binaries: &[String]) -> Result<String, Failure> {
    let profile = format!("--instr-profile={merged}");
    let mut arguments = vec!["export", "--format=lcov", &profile];
    for binary in binaries.iter().filter(|path| Path::new(path).is_file()) {
        arguments.extend(["--object", binary]);
    }
    let done = quietly(command(&tools.cov, &arguments))?;
    if done.success {
        Ok(done.stdout)
    } else {
        Err(Failure::new(format!("coverage: {}", done.stderr)))
    }
}

/// The lines of our crates in an lcov report, without those of tests.
fn read(report: &str, root: &Path) -> BTreeMap<String, Lines> {
    let mut files: BTreeMap<String, BTreeMap<usize, u64>> = BTreeMap::new();
    let mut current = None;
    for line in report.lines() {
        if let Some(path) = line.strip_prefix("SF:") {
            let path = Path::new(path)
                .strip_prefix(root)
                .unwrap_or(Path::new(path));
            current = Some(path.to_string_lossy().into_owned()).filter(|path| counts(path));
        } else if let (Some(path), Some(data)) = (&current, line.strip_prefix("DA:")) {
            let mut numbers = data
                .split(',')
                .map(|number| number.parse::<u64>().unwrap_or(0));
            if let (Some(at), Some(hits)) = (numbers.next(), numbers.next()) {
                let at = usize::try_from(at).unwrap_or(0);
                *files
                    .entry(path.clone())
                    .or_default()
                    .entry(at)
                    .or_insert(0) += hits;
            }
        }
    }
    files
        .into_iter()
        .map(|(path, hits)| {
            let text = fs::read_to_string(root.join(&path)).unwrap_or_default();
            let end = start_of_tests(&text);
            let ours = || hits.iter().filter(|(at, _)| **at < end);
            let missed = ours()
                .filter(|(_, hits)| **hits == 0)
                .map(|(at, _)| *at)
                .collect();
            (
                path,
                Lines {
                    count: ours().count(),
                    missed,
                },
            )
        })
        .collect()
}

/// Whether a file is one of the sources that are measured.
fn counts(path: &str) -> bool {
    let is_ours = CRATES
        .iter()
        .any(|name| path.starts_with(&format!("crates/{name}/src/")));
    is_ours && !path.ends_with("/tests.rs") && !path.contains("/tests/")
}

/// The line on which the tests at the bottom of a file begin.
fn start_of_tests(text: &str) -> usize {
    let lines: Vec<&str> = text.lines().collect();
    let begins = |pair: &[&str]| pair[0] == "#[cfg(test)]" && pair[1].starts_with("mod ");
    lines
        .windows(2)
        .position(begins)
        .map_or(usize::MAX, |at| at + 1)
}

fn judge(files: &BTreeMap<String, Lines>) -> Outcome {
    let mut totals: BTreeMap<&str, (usize, usize)> = BTreeMap::new();
    for (path, lines) in files {
        let share = percent(lines.count - lines.missed.len(), lines.count);
        let missed = if share < AT_LEAST {
            ranges(&lines.missed)
        } else {
            String::new()
        };
        println!("{share:>6.1} %  {path} {missed}");
        let name = path.split('/').nth(1).unwrap_or("");
        for key in [name, "all"] {
            let total = totals.entry(key).or_default();
            total.0 += lines.count - lines.missed.len();
            total.1 += lines.count;
        }
    }
    for (name, (reached, count)) in &totals {
        println!(
            "coverage of {name}: {:.1} % of {count} lines",
            percent(*reached, *count)
        );
    }
    let (reached, count) = totals.get("all").copied().unwrap_or_default();
    if CRATES.iter().any(|name| !totals.contains_key(name)) {
        return Err(Failure::new("coverage: a crate has no lines in the report"));
    }
    let share = percent(reached, count);
    if share < AT_LEAST {
        return Err(Failure::new(format!(
            "coverage: {share:.1} % of lines, {AT_LEAST} % are wanted"
        )));
    }
    Ok(())
}

#[expect(clippy::cast_precision_loss, reason = "lines of code fit")]
fn percent(part: usize, whole: usize) -> f64 {
    if whole == 0 {
        100.0
    } else {
        100.0 * part as f64 / whole as f64
    }
}

/// `3, 5-7`: line numbers for people.
fn ranges(lines: &[usize]) -> String {
    let mut parts: Vec<(usize, usize)> = Vec::new();
    for line in lines {
        match parts.last_mut() {
            Some((_, last)) if *last + 1 == *line => *last = *line,
            _ => parts.push((*line, *line)),
        }
    }
    let shown = parts.iter().take(20).map(|(first, last)| {
        if first == last {
            first.to_string()
        } else {
            format!("{first}-{last}")
        }
    });
    shown.collect::<Vec<_>>().join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reports_of_several_programs_are_added() {
        let report = "SF:/r/crates/map/src/a.rs\nDA:1,0\nDA:2,3\nend_of_record\n\
                      SF:/r/crates/map/src/a.rs\nDA:1,1\nDA:2,0\nDA:9,0\nend_of_record\n\
                      SF:/r/crates/map/src/a/tests.rs\nDA:1,0\nSF:/other/lib.rs\nDA:1,0\n";
        let files = read(report, Path::new("/r"));
        let a = Lines {
            count: 3,
            missed: vec![9],
        };
        assert_eq!(
            files,
            BTreeMap::from([("crates/map/src/a.rs".to_owned(), a)])
        );
    }

    #[test]
    fn tests_at_the_bottom_do_not_count() {
        assert_eq!(start_of_tests("fn f() {}\n#[cfg(test)]\nmod tests {\n"), 2);
        assert_eq!(start_of_tests("#[cfg(test)]\nuse x;\n"), usize::MAX);
    }

    #[test]
    fn ranges_are_short() {
        assert_eq!(ranges(&[1, 3, 4, 5, 9]), "1, 3-5, 9");
    }
}
