//! libFuzzer on the laws of `fuzz/`, built by cargo itself: what cargo-fuzz does, without it.

mod figures;

use self::figures::Figures;
use crate::process::{Failure, Outcome, cargo, command, is_installed, quietly, root};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::{Mutex, PoisonError};
use std::thread;

/// Seconds for each law when nobody says otherwise.
const SECONDS: u64 = 60;
/// Longest input: longer ones find nothing more and cost time.
const LENGTH: &str = "-max_len=4096";

/// What libFuzzer needs of the compiler: counters for every edge, and what is compared with what;
/// and the address sanitizer, since crates/autofs has unsafe code.
const FLAGS: [&str; 7] = [
    "-Cpasses=sancov-module",
    "-Cllvm-args=-sanitizer-coverage-level=4",
    "-Cllvm-args=-sanitizer-coverage-inline-8bit-counters",
    "-Cllvm-args=-sanitizer-coverage-pc-table",
    "-Cllvm-args=-sanitizer-coverage-trace-compares",
    "-Zsanitizer=address",
    "--cfg=fuzzing",
];

/// What the command line asks for.
#[derive(Debug, PartialEq)]
struct Wanted {
    seconds: u64,
    shrink: bool,
    laws: Vec<String>,
}

/// Tries new inputs on each law for a while; fails when one is broken.
pub(crate) fn run(words: &[String]) -> Outcome {
    let wanted = parse(words, &laws()?)?;
    let programs = build(&wanted.laws)?;
    if wanted.shrink {
        return wanted
            .laws
            .iter()
            .try_for_each(|law| shrink(&programs, law));
    }
    let mut rows = Vec::new();
    for law in &wanted.laws {
        rows.push(one(&programs, law, wanted.seconds, None)?);
    }
    print!("\n{}", figures::table(&rows));
    let broken: Vec<&str> = rows
        .iter()
        .filter(|row| !row.held)
        .map(|row| &*row.law)
        .collect();
    if broken.is_empty() {
        return Ok(());
    }
    Err(Failure::new(format!(
        "fuzz: broken: {}\n  mend the code, copy the input into fuzz/corpus/LAW/, and write a unit \
         test",
        broken.join(", ")
    )))
}

/// A short run on every law, for `cargo xtask test`: how many there are and how many held. Chance
/// is left to the long runs: this one begins with the same seed each time. Each law has a processor to
/// itself, as long as there are some.
pub(crate) fn briefly(seconds: u64) -> Result<(usize, usize), Failure> {
    let laws = laws()?;
    let programs = build(&laws)?;
    let rest = Mutex::new(laws.iter());
    let next = || rest.lock().unwrap_or_else(PoisonError::into_inner).next();
    let some = || {
        let mut held = 0;
        while let Some(law) = next() {
            held += usize::from(one(&programs, law, seconds, Some(1))?.held);
        }
        Ok(held)
    };
    let processors = thread::available_parallelism().map_or(1, usize::from);
    let held: Result<usize, Failure> = thread::scope(|scope| {
        let threads: Vec<_> = (0..processors.min(laws.len()))
            .map(|_| scope.spawn(some))
            .collect();
        let join = |thread: thread::ScopedJoinHandle<'_, _>| thread.join().expect("no panic");
        threads.into_iter().map(join).sum()
    });
    Ok((laws.len(), held?))
}

/// The laws there are, by their programs.
fn laws() -> Result<Vec<String>, Failure> {
    let folder = root().join("fuzz/fuzz_targets");
    let mut laws: Vec<String> = listed(&folder)?
        .iter()
        .filter_map(|file| Some(file.file_stem()?.to_string_lossy().into_owned()))
        .collect();
    laws.sort();
    Ok(laws)
}

fn listed(folder: &Path) -> Result<Vec<PathBuf>, Failure> {
    let failed = |error| Failure::new(format!("{}: {error}", folder.display()));
    let entries = fs::read_dir(folder).map_err(failed)?;
    Ok(entries
        .filter_map(|entry| Some(entry.ok()?.path()))
        .collect())
}

fn parse(words: &[String], laws: &[String]) -> Result<Wanted, Failure> {
    let mut wanted = Wanted {
        seconds: SECONDS,
        shrink: false,
        laws: Vec::new(),
    };
    let mut rest = words.iter();
    while let Some(word) = rest.next() {
        match word.as_str() {
            "--seconds" => {
                let number = rest.next().and_then(|number| number.parse().ok());
                wanted.seconds = number
                    .filter(|number| *number > 0)
                    .ok_or_else(|| Failure::new("fuzz: --seconds wants a number"))?;
            }
            "--shrink" => wanted.shrink = true,
            law if laws.iter().any(|known| known == law) => wanted.laws.push(law.to_owned()),
            other => {
                return Err(Failure::new(format!(
                    "fuzz: no law or option {other}; the laws are: {}",
                    laws.join(" ")
                )));
            }
        }
    }
    if wanted.laws.is_empty() {
        wanted.laws = laws.to_vec();
    }
    Ok(wanted)
}

/// Where the programs, new inputs and findings go.
fn folder() -> PathBuf {
    let target = std::env::var("CARGO_TARGET_DIR");
    target
        .map_or_else(|_| root().join("target"), |at| root().join(at))
        .join("fuzz")
}

/// The machine that rustc builds for, in its words.
fn host() -> Result<String, Failure> {
    let told = quietly(command("rustc", &["-vV"]))?.stdout;
    told.lines()
        .find_map(|line| line.strip_prefix("host: "))
        .map(str::to_owned)
        .ok_or_else(|| Failure::new("fuzz: rustc -vV names no host"))
}

/// Builds the programs of these laws; returns the folder they are in.
///
/// The flags are those of rustc's nightly builds; `RUSTC_BOOTSTRAP` makes the stable compiler take
/// them, for this build only. Naming the host as `--target` keeps them away from build scripts.
fn build(laws: &[String]) -> Result<PathBuf, Failure> {
    let compiler = std::env::var("CXX").unwrap_or_else(|_| "c++".to_owned());
    if !is_installed(&compiler) && !Path::new(&compiler).is_file() {
        return Err(Failure::new(format!(
            "fuzz: libFuzzer is C++ and there is no `{compiler}`\n  as root: apt-get install g++"
        )));
    }
    let host = host()?;
    let folder = folder();
    let mut arguments = vec![
        "build",
        "--profile",
        "fuzz",
        "-p",
        "piton-fuzz",
        "--features",
        "libfuzzer",
        "--target",
        &host,
    ];
    for law in laws {
        arguments.extend(["--bin", law]);
    }
    let mut build = cargo(&arguments);
    build
        .env("CARGO_TARGET_DIR", &folder)
        .env("RUSTC_BOOTSTRAP", "1")
        .env("RUSTFLAGS", FLAGS.join(" "));
    println!("building {} programs for libFuzzer", laws.len());
    let done = quietly(build)?;
    if done.success {
        return Ok(folder.join(host).join("fuzz"));
    }
    Err(Failure::new(format!("fuzz: cannot build\n{}", done.stderr)))
}

fn libfuzzer(programs: &Path, law: &str) -> Command {
    let mut run = command(&programs.join(law).to_string_lossy(), &[LENGTH]);
    // An input may take long, and much memory, only because something is wrong.
    run.args(["-timeout=10", "-rss_limit_mb=512", "-print_final_stats=1"]);
    // Less of what was freed is kept to look at: 256 MB is for whole browsers.
    run.env("ASAN_OPTIONS", "quarantine_size_mb=16");
    run
}

/// Where a law's new inputs are kept from run to run.
fn found(law: &str) -> Result<PathBuf, Failure> {
    let folder = folder().join("corpus").join(law);
    fs::create_dir_all(&folder)
        .map_err(|error| Failure::new(format!("{}: {error}", folder.display())))?;
    Ok(folder)
}

fn seeds(law: &str) -> PathBuf {
    root().join("fuzz/corpus").join(law)
}

/// Tries inputs on one law for some seconds, from this seed or a random one.
fn one(programs: &Path, law: &str, seconds: u64, seed: Option<u32>) -> Result<Figures, Failure> {
    let findings = folder().join("findings");
    fs::create_dir_all(&findings)
        .map_err(|error| Failure::new(format!("{}: {error}", findings.display())))?;
    let mut run = libfuzzer(programs, law);
    if let Some(seed) = seed {
        run.arg(format!("-seed={seed}"));
    }
    run.arg(format!("-max_total_time={seconds}"))
        .arg(format!("-artifact_prefix={}/{law}-", findings.display()))
        .args([found(law)?, seeds(law)])
        .stdin(Stdio::null());
    let done = quietly(run)?;
    let figures = figures::read(law, &done);
    println!("{}", figures.line());
    if !figures.held {
        println!("{}", figures::finding(&done));
    }
    Ok(figures)
}

/// Replaces a law's corpus in the tree by the fewest inputs that reach as much of the code as it
/// and all that runs have found.
fn shrink(programs: &Path, law: &str) -> Outcome {
    let failed = |error| Failure::new(format!("fuzz: {law}: {error}"));
    let (found, seeds, least) = (found(law)?, seeds(law), folder().join("least"));
    let _ = fs::remove_dir_all(&least);
    fs::create_dir_all(&least).map_err(failed)?;
    let mut merge = libfuzzer(programs, law);
    // How often an edge is taken does not matter here: that would keep hundreds of inputs.
    merge
        .args(["-set_cover_merge=1", "-use_counters=0"])
        .args([&least, &seeds, &found]);
    let done = quietly(merge)?;
    let inputs = listed(&least)?;
    if !done.success || inputs.is_empty() {
        return Err(Failure::new(format!(
            "fuzz: {law}: {}",
            figures::finding(&done)
        )));
    }
    let before = listed(&seeds)?;
    for input in &before {
        fs::remove_file(input).map_err(failed)?;
    }
    for (number, input) in inputs.iter().enumerate() {
        fs::copy(input, seeds.join(format!("{number:03}"))).map_err(failed)?;
    }
    println!(
        "{law}: {} inputs of {} are enough",
        inputs.len(),
        before.len()
    );
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn words(text: &str) -> Vec<String> {
        text.split_whitespace().map(str::to_owned).collect()
    }

    #[test]
    fn laws_and_seconds_are_taken() {
        let laws = words("entry lexer");
        let wanted = parse(&words("--seconds 5 lexer"), &laws).unwrap();
        assert_eq!((wanted.seconds, wanted.laws), (5, words("lexer")));
        assert_eq!(parse(&[], &laws).unwrap().laws, laws);
        assert!(parse(&words("--seconds 0"), &laws).is_err());
        assert!(parse(&words("lexr"), &laws).is_err());
    }

    #[test]
    fn there_are_laws_with_seeds() {
        let laws = laws().unwrap();
        assert!(laws.len() > 10);
        assert!(laws.iter().all(|law| seeds(law).is_dir()));
    }
}
