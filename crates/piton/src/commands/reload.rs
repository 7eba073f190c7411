//! `piton reload`: read the maps again and apply what changed, or say what would.

use std::fmt::{self, Write};

use anstyle::Style;
use piton_control::message::{Change, ReloadPlan};

use super::talk::{ATTENTION, BAD, Clean, GOOD, complain, connect, print};
use crate::exit::Exit;

/// Its arguments.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Only say what would change.
    #[arg(long)]
    plan: bool,
}

/// Runs it.
pub(crate) fn run(args: &Args) -> Exit {
    let answer = connect().and_then(|mut client| {
        if args.plan {
            client.plan()
        } else {
            client.reload()
        }
    });
    match answer {
        Ok(plan) => {
            for diagnostic in &plan.diagnostics {
                complain(diagnostic);
            }
            print(&render(&plan, args.plan))
        }
        Err(error) => complain(&error),
    }
}

fn render(plan: &ReloadPlan, planned: bool) -> String {
    let mut text = String::new();
    // Writing to a string does not fail.
    let _ = write_plan(&mut text, plan, planned);
    text
}

fn write_plan(out: &mut String, plan: &ReloadPlan, planned: bool) -> fmt::Result {
    for (sign, style, changes) in [
        ('-', BAD, &plan.removed),
        ('~', ATTENTION, &plan.changed),
        ('+', GOOD, &plan.added),
        ('?', ATTENTION, &plan.pending),
        ('!', BAD, &plan.refused),
    ] {
        changes
            .iter()
            .try_for_each(|change| write_change(out, sign, style, change))?;
    }
    let ReloadPlan {
        added,
        removed,
        changed,
        unchanged,
        pending,
        refused,
        ..
    } = plan;
    let verb = if planned { "would be " } else { "" };
    if added.is_empty() && removed.is_empty() && changed.is_empty() {
        let verb = if planned { "would change" } else { "changed" };
        write!(out, "nothing {verb}; {unchanged} unchanged")?;
    } else {
        write!(
            out,
            "{} {verb}added, {} {verb}removed, {} {verb}changed, {unchanged} unchanged",
            added.len(),
            removed.len(),
            changed.len()
        )?;
    }
    if !pending.is_empty() {
        write!(out, ", {} {verb}pending", pending.len())?;
    }
    if !refused.is_empty() {
        write!(out, ", {} refused", refused.len())?;
    }
    writeln!(out)
}

fn write_change(out: &mut String, sign: char, style: Style, change: &Change) -> fmt::Result {
    write!(
        out,
        "{style}{sign}{style:#} {}  map {}",
        Clean(&change.path),
        Clean(&change.map)
    )?;
    if !change.detail.is_empty() {
        write!(out, "  ({})", Clean(&change.detail))?;
    }
    writeln!(out)
}
