//! The command line: many worlds, or one with its trace.

use std::process::ExitCode;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;

use piton_sim::mutation::Mutation;
use piton_sim::{Report, run};

const USAGE: &str = "usage: piton-sim [--seeds N] [--from N] [--seed N [--trace]] [--mutate NAME]";

/// What was asked for.
struct Wish {
    from: u64,
    seeds: u64,
    one: Option<u64>,
    trace: bool,
    mutation: Option<Mutation>,
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
    if let Some(seed) = wish.one {
        return show(&run(seed, wish.mutation, wish.trace));
    }
    match first_failure(&wish) {
        Some(seed) => show(&run(seed, wish.mutation, true)),
        None => {
            println!("seeds {} ok", wish.seeds);
            ExitCode::SUCCESS
        }
    }
}

fn parse(mut arguments: impl Iterator<Item = String>) -> Result<Wish, String> {
    let mut wish = Wish {
        from: 0,
        seeds: 1_000,
        one: None,
        trace: false,
        mutation: None,
    };
    while let Some(argument) = arguments.next() {
        let mut number = || {
            let value = arguments
                .next()
                .ok_or(format!("{argument} needs a number"))?;
            value.parse().map_err(|_| format!("{value} is no number"))
        };
        match argument.as_str() {
            "--from" => wish.from = number()?,
            "--seeds" => wish.seeds = number()?,
            "--seed" => wish.one = Some(number()?),
            "--trace" => wish.trace = true,
            "--mutate" => {
                let name = arguments.next().unwrap_or_default();
                let names = Mutation::ALL.map(Mutation::name).join(", ");
                let found = Mutation::named(&name);
                wish.mutation = Some(found.ok_or(format!("the mutations are {names}"))?);
            }
            other => return Err(format!("what is {other}?")),
        }
    }
    Ok(wish)
}

/// Runs all seeds on all processors; the smallest seed that failed.
fn first_failure(wish: &Wish) -> Option<u64> {
    let (next, failed) = (AtomicU64::new(0), AtomicU64::new(u64::MAX));
    let work = || {
        loop {
            let number = next.fetch_add(1, Ordering::Relaxed);
            let seed = wish.from + number;
            if number >= wish.seeds || failed.load(Ordering::Relaxed) < seed {
                return;
            }
            let report = std::panic::catch_unwind(|| run(seed, wish.mutation, false));
            if report.is_err() || report.is_ok_and(|report| report.failure.is_some()) {
                failed.fetch_min(seed, Ordering::Relaxed);
            }
        }
    };
    let threads = thread::available_parallelism().map_or(1, usize::from);
    thread::scope(|scope| {
        for _ in 0..threads {
            scope.spawn(work);
        }
    });
    Some(failed.into_inner()).filter(|seed| *seed != u64::MAX)
}

fn show(report: &Report) -> ExitCode {
    for line in &report.trace {
        println!("{line}");
    }
    match &report.failure {
        Some(why) => {
            println!("seed {} failed {why}", report.seed);
            println!(
                "again: cargo run -p piton-sim --release -- --seed {} --trace",
                report.seed
            );
            ExitCode::FAILURE
        }
        None => {
            let Report {
                seed,
                events,
                hash,
                seen,
                ..
            } = report;
            println!("seed {seed} ok: {events} events, hash {hash:016x}, {seen:?}");
            ExitCode::SUCCESS
        }
    }
}
