//! The command line: many worlds, or one with its trace.

use std::process::ExitCode;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;

use bstr::BString;
use piton_sim::faults::Fault;
use piton_sim::mutation::Mutation;
use piton_sim::seen::Seen;
use piton_sim::shrink::{guarded, shrink};
use piton_sim::snapshot;
use piton_sim::{Recipe, Report, Tell};

const USAGE: &str = "\
usage: piton-sim [--seeds N] [--from N] [--mutate NAME] [--without FAULT,...] [--counts]
       piton-sim --seed N [--trace | --shrink] [--mutate NAME] [--without FAULT,...]
                 [--points PATH,...] [--occurrences NUMBER,...] [--decisions NUMBER,...]
       piton-sim --snapshots [--seeds N] [--from N] | --snapshots --seed N [--trace]

Lets many worlds happen, and shrinks the first in which an invariant does not hold; or one.";

/// What was asked for.
struct Wish {
    from: u64,
    seeds: u64,
    one: bool,
    trace: bool,
    shrink: bool,
    counts: bool,
    snapshots: bool,
    recipe: Recipe,
}

/// Does what the command line asks for.
pub(crate) fn run_command(arguments: impl Iterator<Item = String>) -> ExitCode {
    let wish = match parse(arguments) {
        Ok(wish) => wish,
        Err(why) => {
            eprintln!("{why}\n{USAGE}");
            return ExitCode::from(2);
        }
    };
    if wish.snapshots {
        return snapshots(&wish);
    }
    let tell = Tell {
        trace: wish.trace,
        decisions: false,
    };
    if wish.one && wish.shrink {
        return shrunk(&wish.recipe);
    }
    if wish.one {
        return show(&wish.recipe, &guarded(&wish.recipe, tell));
    }
    let (failed, seen) = many(&wish);
    if wish.counts {
        for (what, often) in seen.counts() {
            println!("{often:>12} {what}");
        }
    }
    match failed {
        Some(seed) => shrunk(&Recipe {
            seed,
            ..wish.recipe
        }),
        None => {
            println!("seeds {} ok", wish.seeds);
            ExitCode::SUCCESS
        }
    }
}

/// Worlds of snapshots: many, or one.
fn snapshots(wish: &Wish) -> ExitCode {
    let seeds = match wish.one {
        true => wish.recipe.seed..wish.recipe.seed + 1,
        false => wish.from..wish.from + wish.seeds,
    };
    for seed in seeds {
        let report = snapshot::run(seed, None, wish.trace);
        report.trace.iter().for_each(|line| println!("{line}"));
        if let Some(why) = report.failure {
            println!(
                "seed {seed} failed {why}\nagain: piton-sim --snapshots --seed {seed} --trace"
            );
            return ExitCode::FAILURE;
        }
    }
    println!("ok");
    ExitCode::SUCCESS
}

fn parse(mut arguments: impl Iterator<Item = String>) -> Result<Wish, String> {
    let mut wish = Wish {
        from: 0,
        seeds: 1_000,
        one: false,
        trace: false,
        shrink: false,
        counts: false,
        snapshots: false,
        recipe: Recipe::default(),
    };
    while let Some(argument) = arguments.next() {
        let mut value = || {
            let value = arguments.next();
            value.ok_or(format!("{argument} needs a value"))
        };
        let recipe = &mut wish.recipe;
        match argument.as_str() {
            "--from" => wish.from = number(&value()?)?,
            "--seeds" => wish.seeds = number(&value()?)?,
            "--seed" => {
                wish.one = true;
                recipe.seed = number(&value()?)?;
            }
            "--trace" => wish.trace = true,
            "--shrink" => wish.shrink = true,
            "--counts" => wish.counts = true,
            "--snapshots" => wish.snapshots = true,
            "--mutate" => {
                let names = Mutation::ALL.map(Mutation::name).join(", ");
                let found = Mutation::named(&value()?);
                recipe.mutation = Some(found.ok_or(format!("the mutations are {names}"))?);
            }
            "--without" => {
                let names = Fault::ALL.map(|(_, _, name)| name).join(", ");
                let fault =
                    |name: &str| Fault::named(name).ok_or(format!("the faults are {names}"));
                recipe.without = value()?.split(',').map(fault).collect::<Result<_, _>>()?;
            }
            "--points" => {
                let value = value()?;
                recipe.points = Some(items(&value).map(BString::from).collect());
            }
            "--occurrences" => {
                let numbers = items(&value()?).map(number).collect::<Result<_, _>>();
                recipe.occurrences = Some(numbers?);
            }
            "--decisions" => {
                let numbers = items(&value()?).map(number).collect::<Result<_, _>>();
                recipe.decisions = Some(numbers?);
            }
            other => return Err(format!("what is {other}?")),
        }
    }
    Ok(wish)
}

fn number<N: std::str::FromStr>(text: &str) -> Result<N, String> {
    text.parse().map_err(|_| format!("{text} is no number"))
}

/// The items of a list; `none` has none.
fn items(text: &str) -> impl Iterator<Item = &str> {
    text.split(',').filter(|item| *item != "none")
}

/// Runs all seeds on all processors; the smallest seed that failed, and what was seen.
fn many(wish: &Wish) -> (Option<u64>, Seen) {
    let (next, failed) = (AtomicU64::new(0), AtomicU64::new(u64::MAX));
    let seen = Mutex::new(Seen::default());
    let work = || {
        let mut mine = Seen::default();
        loop {
            let number = next.fetch_add(1, Ordering::Relaxed);
            let seed = wish.from + number;
            if number >= wish.seeds || failed.load(Ordering::Relaxed) < seed {
                break;
            }
            let recipe = Recipe {
                seed,
                ..wish.recipe.clone()
            };
            let report = guarded(&recipe, Tell::default());
            mine = mine.and(report.seen);
            if report.failure.is_some() {
                failed.fetch_min(seed, Ordering::Relaxed);
            }
        }
        if let Ok(mut seen) = seen.lock() {
            *seen = seen.and(mine);
        }
    };
    let threads = thread::available_parallelism().map_or(1, usize::from);
    thread::scope(|scope| {
        for _ in 0..threads {
            scope.spawn(work);
        }
    });
    let failed = Some(failed.into_inner()).filter(|seed| *seed != u64::MAX);
    (failed, seen.into_inner().unwrap_or_default())
}

/// Makes a failing world small and shows what is left of it.
fn shrunk(recipe: &Recipe) -> ExitCode {
    let Some(shrunk) = shrink(recipe) else {
        return show(recipe, &guarded(recipe, Tell::default()));
    };
    let code = show(&shrunk.recipe, &shrunk.report);
    println!("(the smallest of {} worlds like it)", shrunk.tries);
    code
}

fn show(recipe: &Recipe, report: &Report) -> ExitCode {
    for line in &report.trace {
        println!("{line}");
    }
    match &report.failure {
        Some(why) => {
            println!("seed {} failed {why}", report.seed);
            println!("again: {}", recipe.command());
            ExitCode::FAILURE
        }
        None => {
            let (seed, events, hash) = (report.seed, report.events, report.hash);
            println!(
                "seed {seed} ok: {events} events, hash {hash:016x}, {:?}",
                report.seen
            );
            ExitCode::SUCCESS
        }
    }
}
