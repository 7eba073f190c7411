//! Events and commands in a line of the trace.

use piton_engine::command::Note;
use piton_engine::config::{Configuration, Point};
use piton_engine::event::Existing;
use piton_engine::{Command, Event};
use piton_plan::step::{Planned, Step, TriggerSpec};

use crate::ticket::Ticket;

/// An event in a line of the trace.
pub(crate) fn told(event: &Event<Ticket>) -> String {
    match event {
        Event::Configure(configuration) => configured(configuration),
        Event::Fetched { job, result, .. } => match result {
            Ok(found) => format!("Fetched {job:?} {}", found.fragment.text),
            Err(miss) => format!("Fetched {job:?} {miss:?}"),
        },
        Event::Access { trigger, key, .. } => format!("Access #{} {key:?}", trigger.0),
        Event::ExistsAsked { trigger, key, .. } => format!("ExistsAsked #{} {key:?}", trigger.0),
        Event::ExpireAsked { trigger, key, .. } => {
            format!("ExpireAsked #{} {key:?}", trigger.0)
        }
        other => format!("{other:?}"),
    }
}

fn configured(configuration: &Configuration) -> String {
    let point = |point: &Point| format!("{} {:?}", point.path, point.kind);
    let points: Vec<String> = configuration.points.iter().map(point).collect();
    let existing: Vec<String> = configuration.existing.iter().map(found).collect();
    format!(
        "Configure {}; existing {}",
        points.join(", "),
        existing.join(", ")
    )
}

fn found(existing: &Existing) -> String {
    let mounted = existing.mounted.iter().map(|mount| {
        let below: Vec<String> = mount.offsets.iter().map(found).collect();
        let covered = if mount.covered { "" } else { " bare" };
        format!("{}{covered} [{}]", mount.target, below.join(", "))
    });
    let mounted: Vec<String> = mounted.collect();
    format!("{} {{{}}}", existing.path, mounted.join(", "))
}

/// A command in a line of the trace.
pub(crate) fn ordered(command: &Command<Ticket>) -> String {
    match command {
        Command::Reply { ticket, answer } => format!("Reply to {ticket} {answer:?}"),
        Command::Note(note) => noted(note),
        Command::Fetch { job, key, .. } => format!("Fetch {job:?} {key}"),
        Command::Install { triggers } => format!("Install {}", paths(triggers)),
        Command::Adopt { triggers } => format!("Adopt {}", paths(triggers)),
        Command::Remove { triggers } => format!("Remove {}", paths(triggers)),
        Command::Perform { job, steps, .. } => {
            let steps: Vec<String> = steps.iter().map(in_short).collect();
            format!("Perform {job:?} {}", steps.join(", "))
        }
        other => format!("{other:?}"),
    }
}

fn noted(note: &Note) -> String {
    match note {
        Note::Accessed { job, path, .. } => format!("{job:?} is for {path}"),
        Note::Failed {
            job, path, cause, ..
        } => format!("{job:?} for {path} failed: {cause}"),
        other => format!("{other:?}"),
    }
}

pub(crate) fn paths(triggers: &[TriggerSpec]) -> String {
    let one = |spec: &TriggerSpec| format!("{}#{}", spec.path, spec.id.0);
    triggers.iter().map(one).collect::<Vec<_>>().join(" ")
}

pub(crate) fn in_short(planned: &Planned) -> String {
    let optional = if planned.required { "" } else { "?" };
    let step = match &planned.step {
        Step::MakeDirectory { path } => format!("mkdir {path}"),
        Step::Mount { target, .. } => format!("mount {target}"),
        Step::Symlink { path, to } => format!("link {path} to {to}"),
        Step::Install(spec) => format!("install {}#{}", spec.path, spec.id.0),
        Step::Unmount { target, .. } => format!("unmount {target}"),
        Step::LetGo { target, .. } => format!("let go of {target}"),
        Step::Remove(spec) => format!("remove {}#{}", spec.path, spec.id.0),
        Step::RemoveDirectory { path } => format!("rmdir {path}"),
        Step::RemoveSymlink { path } => format!("unlink {path}"),
    };
    step + optional
}
