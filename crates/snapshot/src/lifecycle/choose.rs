//! Which snapshot an access gets.

use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;

use super::{Fault, Look, errno};
use crate::found::{Found, Health, State};
use crate::name::Name;
use crate::record::Phase;
use crate::request::When;
use crate::settings::Settings;

/// What an access comes to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Choice {
    /// One that exists.
    Existing(Name),
    /// A new one by this name.
    New(Name),
    /// None, and why.
    Refused(Fault),
}

/// What an access with these settings comes to.
pub fn choose(settings: &Settings, look: &Look) -> Choice {
    let whole = whole(settings, look);
    if settings.when == When::Fresh {
        return match shared(settings, look, &whole) {
            Some(name) => Choice::Existing(name),
            None => new(settings, look),
        };
    }
    match settings.when.choose(look.now, &whole, |name| name.taken) {
        Some(name) => Choice::Existing(*name),
        None => Choice::Refused(Fault::new(errno::NOENT, nothing(settings, look))),
    }
}

/// The snapshots that can be served: whole, good, and not going.
fn whole(settings: &Settings, look: &Look) -> Vec<Name> {
    let mut names: Vec<Name> = look.listed.iter().map(|found| found.name).collect();
    names.sort();
    names.dedup();
    let good = |name: &Name| {
        settings.origins.iter().all(|origin| {
            let is_it = |found: &&Found| found.name == *name && found.origin == *origin;
            let unfinished = look
                .records
                .iter()
                .any(|record| record.is_unfinished() && record.is_of(origin, *name));
            !unfinished
                && look
                    .listed
                    .iter()
                    .find(is_it)
                    .is_some_and(|it| it.health == Health::Good)
        })
    };
    names.retain(good);
    names
}

/// The newest snapshot of a group of which some part is used: its other parts are of that instant,
/// too.
fn shared(settings: &Settings, look: &Look, whole: &[Name]) -> Option<Name> {
    if settings.origins.len() < 2 {
        return None;
    }
    let used = |name: &&Name| {
        let of_group = look
            .records
            .iter()
            .any(|record| record.name == **name && record.origins == settings.origins);
        let busy = |found: &Found| found.name == **name && found.busy;
        of_group && look.listed.iter().any(busy)
    };
    whole.iter().rev().find(used).copied()
}

/// The states of the origins that are wanted; others may have been looked at, too.
pub(super) fn states<'l>(
    settings: &'l Settings,
    look: &'l Look,
) -> impl Iterator<Item = &'l State> {
    look.states
        .iter()
        .filter(|state| settings.origins.contains(&state.origin))
}

fn new(settings: &Settings, look: &Look) -> Choice {
    for state in states(settings, look) {
        let fill = &state.fill;
        let most = settings.means.refuse_at(settings.origin().kind());
        if fill.percent >= most {
            let text = format!(
                "{} is {} % full: no snapshot taken; free space or raise refuse-at={most}",
                fill.place, fill.percent
            );
            return Choice::Refused(Fault::new(errno::NOSPC, text));
        }
    }
    let unknown = states(settings, look).find(|state| !state.tells_room);
    if let (Some(_), Some(state)) = (settings.policy.cap, unknown) {
        let text = format!(
            "nothing tells how much room one snapshot of {} takes by itself, for it is thin: remove \
             cap=; keep= and keep-for= say what stays, and refuse-at= leaves room in the pool",
            state.origin
        );
        return Choice::Refused(Fault::new(errno::OPNOTSUPP, text));
    }
    let is_taken = |name: Name| {
        look.listed.iter().any(|found| found.name == name)
            || look.records.iter().any(|record| record.name == name)
    };
    Choice::New(Name::free(look.now, is_taken))
}

/// Why there is nothing to choose from.
fn nothing(settings: &Settings, look: &Look) -> String {
    let origin = settings.origin();
    let spoilt = look
        .listed
        .iter()
        .filter(|found| found.health != Health::Good)
        .count();
    let wanted = match settings.when {
        When::Fresh | When::Latest => String::new(),
        When::Ago(length) => format!(" that is {length} old"),
        When::At(time) => format!(" from {time} or before"),
    };
    let spoilt = match spoilt {
        0 => String::new(),
        count => format!(" ({count} overflowed or were never finished)"),
    };
    let going = look
        .records
        .iter()
        .any(|record| record.phase == Phase::Removing);
    let going = if going { " (one is being removed)" } else { "" };
    format!("there is no snapshot of {origin}{wanted}{spoilt}{going}")
}
