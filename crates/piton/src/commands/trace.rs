//! `piton trace`: each request as it is answered, with the time of every stage.

use std::fmt::Write;
use std::path::PathBuf;

use piton_control::message::{Trace, TraceLine};

use super::talk::{
    ATTENTION, BAD, Clean, FAINT, GOOD, HEADING, absolute, complain, connect, print, requester,
};
use crate::exit::Exit;

/// Its arguments.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Show only what is at or below this path.
    path: Option<PathBuf>,
    /// Show the requests that were answered last, and end.
    #[arg(long)]
    recent: bool,
    /// As JSON, an object a line, for programs (docs/control.md); {"lost":N} where lines are missing.
    #[arg(long)]
    json: bool,
}

/// Runs it.
pub(crate) fn run(args: &Args) -> Exit {
    let path = match args.path.as_deref().map(absolute).transpose() {
        Ok(path) => path,
        Err(why) => return complain(&why),
    };
    let mut client = match connect() {
        Ok(client) => client,
        Err(error) => return complain(&error),
    };
    if args.recent {
        return match client.trace(path.as_deref()) {
            Ok(trace) => show(&trace, true, args.json),
            Err(error) => complain(&error),
        };
    }
    let mut first = true;
    let mut shown = Exit::Success;
    let followed = client.follow(path.as_deref(), |trace| {
        shown = show(&trace, std::mem::replace(&mut first, false), args.json);
        matches!(shown, Exit::Success)
    });
    match followed {
        Ok(()) => shown,
        Err(error) => complain(&error),
    }
}

fn show(trace: &Trace, first: bool, json: bool) -> Exit {
    let mut text = String::new();
    if first && !json {
        text.push_str(&heading());
    }
    // Writing to a string does not fail.
    let _ = match (trace.lost, json) {
        (0, _) => Ok(()),
        (lost, true) => writeln!(text, "{{\"lost\":{lost}}}"),
        (lost, false) => writeln!(text, "{ATTENTION}{lost} lost: read too slowly{ATTENTION:#}"),
    };
    for line in &trace.lines {
        if json {
            match serde_json::to_string(line) {
                Ok(line) => text.push_str(&line),
                Err(error) => return complain(&error),
            }
            text.push('\n');
        } else {
            text.push_str(&row(line));
        }
    }
    print(&text)
}

fn heading() -> String {
    format!(
        "{HEADING}{:<15}  {:<10}  {:>9}  {:>9}  {:>9}  {:>9}  {:>9}  path, answer and who asked{HEADING:#}\n",
        "at (UTC)", "served", "looked up", "resolved", "probed", "mounted", "answered"
    )
}

fn row(line: &TraceLine) -> String {
    let stage = |time: Option<u64>| time.map_or_else(|| "-".to_owned(), micros);
    let looked_up = match (line.cached, line.looked_up_us) {
        (true, Some(time)) => format!("({})", micros(time)),
        (_, time) => stage(time),
    };
    let time = line.at.split_once('T').map_or(&*line.at, |(_, time)| time);
    let answer = match (&line.cause, line.errno) {
        (None, _) if line.kind == "expire" => format!("{GOOD}unmounted{GOOD:#}"),
        (None, _) if line.kind == "exists" => format!("{GOOD}exists{GOOD:#}"),
        (None, _) => format!("{GOOD}ready{GOOD:#}"),
        (Some(cause), _) if line.kind == "expire" => {
            format!("{ATTENTION}stays: {}{ATTENTION:#}", Clean(cause))
        }
        (Some(cause), errno) => {
            let errno = errno.unwrap_or_default();
            format!("{BAD}{} (errno {errno}){BAD:#}", Clean(cause))
        }
    };
    let who = match line.kind.as_str() {
        "expire" => String::new(),
        _ => format!("  {FAINT}{}{FAINT:#}", requester(&line.requester)),
    };
    format!(
        "{:<15}  {:<10}  {looked_up:>9}  {:>9}  {:>9}  {:>9}  {:>9}  {}  {answer}{who}\n",
        Clean(time.trim_end_matches('Z')).to_string(),
        Clean(&line.served).to_string(),
        stage(line.resolved_us),
        stage(line.probed_us),
        stage(line.mounted_us),
        micros(line.answered_us),
        Clean(&line.path),
    )
}

/// A time in microseconds, in the unit in which it has few digits.
fn micros(time: u64) -> String {
    match time {
        0..10_000 => format!("{time} µs"),
        10_000..10_000_000 => format!("{} ms", time / 1_000),
        _ => format!("{} s", time / 1_000_000),
    }
}
