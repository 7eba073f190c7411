//! All tiers of tests in one command, counted.

use crate::process::{Done, Failure, Outcome, cargo, command, is_root, python_tests};
use crate::process::{release_binary, root, shown};
use crate::{fuzz, install, licences, soak, targets, tidy, vm};
use std::collections::BTreeSet;
use std::time::Instant;

const STEPS: [&str; 14] = [
    "fmt",
    "clippy",
    "tidy",
    "licences",
    "unit",
    "golden",
    "property",
    "simulator",
    "fuzz",
    "kernel",
    "differential",
    "soak",
    "bench",
    "vm",
];
const ROOT_ONLY: [&str; 5] = ["kernel", "differential", "soak", "bench", "vm"];

/// What the command line asks for.
#[derive(Debug, Default, PartialEq)]
struct Wanted {
    quick: bool,
    unprivileged: bool,
    only: Option<String>,
}

/// One line of the table at the end.
#[derive(Debug)]
struct Row {
    step: &'static str,
    tests: usize,
    passed: usize,
    seconds: f64,
    success: bool,
    note: String,
}

/// What a step found: how many tests ran and passed, and whether all is well.
#[derive(Debug, Default, PartialEq)]
struct Count {
    tests: usize,
    passed: usize,
    success: bool,
    note: String,
}

/// Runs the checks and tiers that were asked for, prints the table, fails if anything failed.
pub(crate) fn run(words: &[String]) -> Outcome {
    let wanted = parse(words)?;
    let steps = choose(&wanted, is_root());
    let left_out = steps_left_out(&wanted, is_root());
    if steps.iter().any(|step| ROOT_ONLY.contains(step)) {
        install::what_tests_need()?;
    }
    let targets = targets::all(&root());
    let mut rows = Vec::new();
    for step in steps {
        println!("\n== {step}");
        let started = Instant::now();
        let count = perform(step, &wanted, &targets)?;
        rows.push(Row {
            step,
            tests: count.tests,
            passed: count.passed,
            seconds: started.elapsed().as_secs_f64(),
            success: count.success,
            note: count.note,
        });
    }
    print!("\n{}", table(&rows));
    verdict(&rows, &left_out, &wanted)
}

fn parse(words: &[String]) -> Result<Wanted, Failure> {
    let mut wanted = Wanted::default();
    let mut rest = words.iter();
    while let Some(word) = rest.next() {
        match word.as_str() {
            "--quick" => wanted.quick = true,
            "--unprivileged" => wanted.unprivileged = true,
            "--only" => {
                let step = rest.next().filter(|step| STEPS.contains(&step.as_str()));
                let step = step.ok_or_else(|| {
                    Failure::new(format!("--only wants one of: {}", STEPS.join(" ")))
                })?;
                wanted.only = Some(step.clone());
            }
            other => return Err(Failure::new(format!("test: no such option: {other}"))),
        }
    }
    Ok(wanted)
}

fn choose(wanted: &Wanted, root: bool) -> Vec<&'static str> {
    STEPS
        .into_iter()
        .filter(|step| match &wanted.only {
            Some(only) => only == step,
            None if *step == "fuzz" => !wanted.quick,
            None => !ROOT_ONLY.contains(step) || root && !wanted.quick && !wanted.unprivileged,
        })
        .collect()
}

/// What a full run would have had and this one cannot.
fn steps_left_out(wanted: &Wanted, root: bool) -> Vec<&'static str> {
    if root && !wanted.unprivileged || wanted.quick || wanted.only.is_some() {
        return Vec::new();
    }
    ROOT_ONLY.to_vec()
}

fn perform(step: &str, wanted: &Wanted, targets: &BTreeSet<String>) -> Result<Count, Failure> {
    match step {
        "fmt" => check(shown(cargo(&["fmt", "--all", "--check"]))?),
        "clippy" => clippy(),
        "tidy" => Ok(said(tidy::run(&[]))),
        "licences" => Ok(said(licences::run())),
        "unit" => unit(targets),
        "golden" | "property" => tier(targets, step, &[]),
        // Each mounts in a namespace of its own, but time is measured: few at a time.
        "kernel" => tier(targets, step, &["--test-threads=2"]),
        "fuzz" => fuzzing(),
        "soak" => soaking(),
        "simulator" => simulator(if wanted.quick { 1_000 } else { 10_000 }),
        "bench" => bench(),
        "vm" => machines(),
        _ => differential(),
    }
}

fn check(done: Done) -> Result<Count, Failure> {
    Ok(Count {
        success: done.success,
        ..Count::default()
    })
}

fn clippy() -> Result<Count, Failure> {
    // The tests of the VM are no part of "all targets": they are not for this machine.
    let mut success = true;
    for what in [
        &["--workspace", "--all-targets"][..],
        &["-p", "piton-vm", "--test", "*"],
    ] {
        let words = [&["clippy", "--quiet"], what, &["--", "-D", "warnings"]].concat();
        success &= shown(cargo(&words))?.success;
    }
    Ok(Count {
        success,
        ..Count::default()
    })
}

/// The outcome of a chore of ours as that of a step.
fn said(outcome: Outcome) -> Count {
    if let Err(failure) = &outcome {
        println!("{failure}");
    }
    Count {
        success: outcome.is_ok(),
        ..Count::default()
    }
}

/// Tests of all packages but those that run in a virtual machine: to name one of `--test` would
/// run one of that name there, too.
fn everywhere() -> Vec<&'static str> {
    vec![
        "test",
        "--workspace",
        "--exclude",
        "piton-vm",
        "--no-fail-fast",
    ]
}

fn unit(targets: &BTreeSet<String>) -> Result<Count, Failure> {
    let others = targets::others(targets);
    let mut arguments = everywhere();
    arguments.extend(["--lib", "--bins"]);
    for name in &others {
        arguments.extend(["--test", name]);
    }
    let code = counted(&shown(cargo(&arguments))?);
    let text = counted(&shown(cargo(&["test", "--workspace", "--doc"]))?);
    Ok(Count {
        tests: code.tests + text.tests,
        passed: code.passed + text.passed,
        success: code.success && text.success,
        note: String::new(),
    })
}

fn tier(targets: &BTreeSet<String>, tier: &str, extra: &[&str]) -> Result<Count, Failure> {
    let names = targets::of_tier(targets, tier);
    if names.is_empty() {
        return Ok(Count {
            note: format!("there is no tests/{tier}*.rs"),
            ..Count::default()
        });
    }
    let mut arguments = everywhere();
    for name in &names {
        arguments.extend(["--test", name]);
    }
    arguments.push("--");
    arguments.extend(extra);
    Ok(counted(&shown(cargo(&arguments))?))
}

/// Adds up the `test result:` lines of `cargo test`.
fn counted(done: &Done) -> Count {
    let mut count = Count {
        success: done.success,
        ..Count::default()
    };
    for line in done.stdout.lines() {
        let Some(result) = line.strip_prefix("test result: ") else {
            continue;
        };
        let number = |what: &str| {
            let words: Vec<&str> = result.split_whitespace().collect();
            let at = words
                .iter()
                .position(|word| word.trim_end_matches(';') == what);
            at.and_then(|at| words.get(at.checked_sub(1)?)?.parse::<usize>().ok())
                .unwrap_or(0)
        };
        count.passed += number("passed");
        count.tests += number("passed") + number("failed");
        if number("ignored") > 0 {
            count.success = false;
            count.note = "ignored tests prove nothing".to_owned();
        }
    }
    if count.tests == 0 && count.note.is_empty() {
        count.note = "no test ran".to_owned();
    }
    count
}

/// New inputs for each law; those that were once found are in the property tier.
fn fuzzing() -> Result<Count, Failure> {
    const SECONDS: u64 = 10;
    let (laws, held) = fuzz::briefly(SECONDS)?;
    Ok(Count {
        tests: laws,
        passed: held,
        success: laws == held,
        note: format!("laws, {SECONDS} s each"),
    })
}

fn machines() -> Result<Count, Failure> {
    let (tests, passed) = vm::all()?;
    Ok(Count {
        tests,
        passed,
        success: tests == passed,
        note: String::new(),
    })
}

fn soaking() -> Result<Count, Failure> {
    let held = soak::briefly()?;
    Ok(Count {
        tests: 1,
        passed: usize::from(held),
        success: held,
        note: "2 minutes".to_owned(),
    })
}

fn simulator(seeds: usize) -> Result<Count, Failure> {
    let seeds = seeds.to_string();
    let run = [
        "run",
        "--release",
        "--quiet",
        "-p",
        "piton-sim",
        "--",
        "--seeds",
        &seeds,
    ];
    let done = shown(cargo(&run))?;
    let passed = seeds_that_held(&done.stdout);
    let tests = seeds.parse().unwrap_or(0);
    Ok(Count {
        tests,
        passed,
        success: done.success && passed == tests,
        note: String::new(),
    })
}

/// The number in the simulator's last line, `seeds N ok`.
fn seeds_that_held(stdout: &str) -> usize {
    stdout
        .lines()
        .rev()
        .find_map(|line| {
            line.strip_prefix("seeds ")?
                .strip_suffix(" ok")?
                .parse()
                .ok()
        })
        .unwrap_or(0)
}

fn differential() -> Result<Count, Failure> {
    let built = shown(cargo(&["build", "--release", "--quiet", "-p", "piton"]))?;
    let own = python_tests("oracle")?;
    let binary = release_binary();
    let done = shown(command(
        "python3",
        &["oracle/differential.py", "--binary", &binary],
    ))?;
    let mut count = compared(&done.stdout);
    count.success = built.success && own.success && done.success && count.tests > 0;
    Ok(count)
}

/// Every row of the figures yields a number, with small sizes. How fast things are is not asserted.
fn bench() -> Result<Count, Failure> {
    let built = shown(cargo(&["build", "--release", "--quiet", "-p", "piton"]))?;
    let helpers = shown(command("make", &["-s", "-C", "bench"]))?;
    let tables = ["-m", "unittest", "bench/tests/test_report.py"];
    let own = shown(command("python3", &tables))?;
    let binary = release_binary();
    let smoke = [
        "bench/bench.py",
        "figures",
        "--smoke",
        "--without-autofs",
        "--reps=1",
        "--piton",
        &binary,
    ];
    let done = shown(command("python3", &smoke))?;
    let (passed, tests) = rows_measured(&done.stdout);
    let success = built.success && helpers.success && own.success && done.success && tests > 0;
    Ok(Count {
        tests,
        passed,
        success,
        note: "rows of the figures".to_owned(),
    })
}

/// The numbers in the line `rows N of M`.
fn rows_measured(stdout: &str) -> (usize, usize) {
    let line = stdout
        .lines()
        .rev()
        .find_map(|line| line.strip_prefix("rows "));
    let numbers = line.and_then(|line| line.split_once(" of "));
    let number = |text: &str| text.parse().unwrap_or(0);
    numbers.map_or((0, 0), |(have, of)| (number(have), number(of)))
}

/// Reads `differential: N cases: A equal, B explained (...), C unexplained; ...`.
fn compared(stdout: &str) -> Count {
    let Some(line) = stdout
        .lines()
        .rev()
        .find_map(|line| line.strip_prefix("differential: "))
    else {
        return Count {
            note: "it printed no summary".to_owned(),
            ..Count::default()
        };
    };
    let words: Vec<&str> = line.split_whitespace().collect();
    let before = |what: &str| {
        let at = words
            .iter()
            .position(|word| word.trim_end_matches([',', ';', ':']) == what);
        at.and_then(|at| words.get(at.checked_sub(1)?)?.parse::<usize>().ok())
            .unwrap_or(0)
    };
    let explained = before("explained");
    Count {
        tests: before("cases"),
        passed: before("equal") + explained,
        success: true,
        note: format!("{explained} of them differ as docs/dialects.md says"),
    }
}

fn table(rows: &[Row]) -> String {
    let mut text = format!(
        "{:<13} {:>7} {:>7} {:>8}\n",
        "tier", "tests", "passed", "time"
    );
    for row in rows {
        let (tests, passed) = if row.tests == 0 {
            (
                "-".to_owned(),
                if row.success { "yes" } else { "NO" }.to_owned(),
            )
        } else {
            (row.tests.to_string(), row.passed.to_string())
        };
        let mark = if row.success { "" } else { "  FAILED" };
        let note = if row.note.is_empty() {
            String::new()
        } else {
            format!("  {}", row.note)
        };
        text += &format!(
            "{:<13} {tests:>7} {passed:>7} {:>6.0} s{mark}{note}\n",
            row.step, row.seconds
        );
    }
    text
}

fn verdict(rows: &[Row], left_out: &[&str], wanted: &Wanted) -> Outcome {
    let mut failed: Vec<&str> = rows
        .iter()
        .filter(|row| !good(row))
        .map(|row| row.step)
        .collect();
    if !left_out.is_empty() {
        println!("\nNOT RUN, because they need root: {}", left_out.join(", "));
        if !wanted.unprivileged {
            failed.extend(left_out);
        }
    }
    if failed.is_empty() {
        return Ok(());
    }
    let mut text = format!("failed: {}", failed.join(", "));
    if !left_out.is_empty() && !wanted.unprivileged {
        text += "\n  run it as root, or say --unprivileged to do without those tiers";
    }
    Err(Failure::new(text))
}

/// A tier that ran no test has failed: it proved nothing.
fn good(row: &Row) -> bool {
    let is_check = matches!(row.step, "fmt" | "clippy" | "tidy" | "licences");
    row.success && (is_check || row.tests > 0 && row.tests == row.passed)
}

#[cfg(test)]
mod tests;
