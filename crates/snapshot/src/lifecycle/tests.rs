//! The order of commands, whatever is answered.

use alloc::string::ToString;
use alloc::vec;

use super::*;
use crate::found::{Fill, Health};
use crate::manifest::Consistency;
use crate::origin::Kind;
use crate::record::Phase;
use crate::settings::Settings;

fn settings(options: &[&str]) -> Settings {
    let options: Vec<BString> = options.iter().map(|word| BString::from(*word)).collect();
    Settings::read(&options, "/srv/data".into()).unwrap()
}

fn access(options: &[&str]) -> Access {
    Access::new(Wanted {
        settings: settings(options),
        series: "/snap/data".into(),
    })
}

fn origin() -> Origin {
    Origin::new(Kind::Image, "/srv/data".into()).unwrap()
}

fn look(percent: u8, listed: &[u64]) -> Look {
    let fill = Fill {
        place: "file system /srv".into(),
        percent,
        free: 0,
    };
    let state = State {
        origin: origin(),
        fill,
        mounted: Some("/data".into()),
        freezes: false,
        instant: true,
        whole: true,
        tells_room: true,
    };
    let found = |ms: &u64| Found {
        origin: origin(),
        name: Name {
            taken: Timestamp(*ms),
        },
        health: Health::Good,
        used: None,
        busy: false,
    };
    Look {
        now: Timestamp(1_000),
        records: Vec::new(),
        listed: listed.iter().map(found).collect(),
        states: vec![state],
    }
}

/// The words of the commands of an access, each answered by `answer`.
fn story(access: &mut Access, mut answer: impl FnMut(&Command) -> Event) -> Vec<String> {
    let mut words = Vec::new();
    let mut event = Event::Begin;
    loop {
        let command = access.next(event);
        let word = match &command {
            Command::Write(Record { phase, .. }) => match phase {
                Phase::Taking { .. } => "taking".into(),
                Phase::Made => "made".into(),
                Phase::Removing => "removing".into(),
            },
            Command::Hook { before: true, .. } => "before".into(),
            Command::Hook { .. } => "after".into(),
            Command::End(Ending::Failed(fault)) => fault.text.clone(),
            Command::End(Ending::Mounted { manifest, .. }) => manifest.consistency.to_string(),
            other => {
                let words = alloc::format!("{other:?}").to_lowercase();
                words.split([' ', '(']).next().unwrap_or_default().into()
            }
        };
        words.push(word);
        if matches!(command, Command::End(_)) {
            return words;
        }
        event = answer(&command);
    }
}

/// Does everything; looks see `before` first, and then `after`.
fn calm(before: Look, after: Look) -> impl FnMut(&Command) -> Event {
    let mut looks = vec![after, before];
    move |command| match command {
        Command::Look { .. } => Event::Looked(looks.pop().unwrap()),
        _ => Event::Done,
    }
}

const ALL: [&str; 4] = ["provider=image", "freeze=yes", "before=/b", "after=/a"];

#[test]
fn snapshots_are_counted_by_the_path_they_are_mounted_at() {
    for (options, target, series) in [
        (&["provider=image"][..], "/snap/data", "/snap/data"),
        (&["provider=image"], "/snap/data@-1d", "/snap/data"),
        (&["provider=image"], "/a@b/data", "/a@b/data"),
        (
            &["provider=image", "group=data/wal"],
            "/snap/db@latest/data",
            "/snap/db",
        ),
        (
            &["provider=image", "group=data/wal"],
            "/snap/elsewhere",
            "/snap/elsewhere",
        ),
    ] {
        let wanted = Wanted::new(settings(options), target.into());
        assert_eq!(wanted.series, series, "{target}");
    }
}

#[test]
fn a_snapshot_is_taken_in_this_order() {
    let told = story(&mut access(&ALL), calm(look(10, &[]), look(10, &[1_000])));
    let expected = "lock look taking before freeze create thaw after look made mount application";
    assert_eq!(told.join(" "), expected);
    let plain = story(
        &mut access(&["provider=image"]),
        calm(look(10, &[]), look(10, &[1_000])),
    );
    assert_eq!(
        plain.join(" "),
        "lock look taking freeze create thaw look made mount fs-frozen"
    );
    let never = ["provider=image", "freeze=no"];
    let told = story(&mut access(&never), calm(look(10, &[]), look(10, &[1_000])));
    assert_eq!(
        told.join(" "),
        "lock look taking create look made mount crash-consistent"
    );
}

#[test]
fn whatever_fails_is_taken_back() {
    // The number of the command that fails, and what comes after it.
    for (fails, expected) in [
        (0, "lock no"),
        (1, "lock look no"),
        (2, "lock look taking no"),
        (
            3,
            "lock look taking before after remove forget no snapshot taken: no",
        ),
        (
            4,
            "lock look taking before freeze thaw after remove forget no",
        ),
        (
            5,
            "lock look taking before freeze create thaw after remove forget no",
        ),
        (
            6,
            "lock look taking before freeze create thaw thaw after remove forget no",
        ),
        (
            8,
            "lock look taking before freeze create thaw after look remove forget no",
        ),
        (
            9,
            "lock look taking before freeze create thaw after look made remove forget no",
        ),
        (
            10,
            "lock look taking before freeze create thaw after look made mount removing remove forget no",
        ),
    ] {
        let mut answer = calm(look(10, &[]), look(10, &[1_000]));
        let mut count = 0;
        let told = story(&mut access(&ALL), |command| {
            count += 1;
            let event = answer(command);
            if count == fails + 1 {
                Event::Failed(Fault::new(5, "no"))
            } else {
                event
            }
        });
        assert_eq!(told.join(" "), expected, "{fails}");
    }
}

#[test]
fn a_failing_after_hook_costs_a_note_only() {
    let mut answer = calm(look(10, &[]), look(10, &[1_000]));
    let told = story(&mut access(&ALL), |command| match command {
        Command::Hook { before: false, .. } => Event::Failed(Fault::new(5, "no")),
        command => answer(command),
    });
    assert_eq!(told.last().unwrap(), "application");
}

#[test]
fn what_cannot_be_frozen_is_taken_unfrozen_unless_it_must_be() {
    let mut answer = calm(look(10, &[]), look(10, &[1_000]));
    let told = story(&mut access(&["provider=image"]), |command| match command {
        Command::Freeze { .. } => Event::Failed(Fault::new(95, "no")),
        command => answer(command),
    });
    let expected = "lock look taking freeze thaw create thaw look made mount crash-consistent";
    assert_eq!(told.join(" "), expected);
}

/// Without, their snapshots would be of one moment each.
#[test]
fn a_group_whose_snapshots_are_made_in_turn_is_frozen_or_not_taken() {
    let group = |option| access(&["provider=image", "group=data/wal", option]);
    let both = || {
        let mut look = look(10, &[]);
        let mut wal = look.states[0].clone();
        wal.origin = Origin::new(Kind::Image, "/srv/wal".into()).unwrap();
        look.states.push(wal);
        look
    };
    let mut answer = calm(both(), both());
    let told = story(&mut group("freeze=auto"), |command| match command {
        Command::Freeze { .. } => Event::Failed(Fault::new(95, "no")),
        command => answer(command),
    });
    let expected = "lock look taking freeze thaw remove remove forget no";
    assert_eq!(told.join(" "), expected);
    let told = story(&mut group("freeze=no"), calm(both(), both()));
    assert!(told[2].ends_with("remove freeze=no"), "{told:?}");
}

#[test]
fn a_place_that_is_nearly_full_is_left_alone() {
    let told = story(
        &mut access(&["provider=image"]),
        calm(look(95, &[]), look(95, &[])),
    );
    assert_eq!(
        told.join(" "),
        "lock look file system /srv is 95 % full: no snapshot taken; free space or raise refuse-at=95"
    );
}

/// Thin volumes of LVM look like thick ones to a map.
#[test]
fn a_cap_that_could_not_be_kept_is_refused_when_that_is_seen() {
    let location = "storage/data".into();
    let options = ["provider=lvm".into(), "cap=20G".into()];
    let settings = Settings::read(&options, location).unwrap();
    let state = |tells_room| State {
        origin: settings.origins[0].clone(),
        tells_room,
        ..look(10, &[]).states[0].clone()
    };
    for (tells_room, last) in [
        (true, "taking"),
        (
            false,
            "nothing tells how much room one snapshot of lvm:storage/data takes by itself, for it is \
             thin: remove cap=; keep= and keep-for= say what stays, and refuse-at= leaves room in the \
             pool",
        ),
    ] {
        let wanted = Wanted {
            settings: settings.clone(),
            series: "/snap/data".into(),
        };
        let told = story(&mut Access::new(wanted), |command| match command {
            Command::Look { .. } => Event::Looked(Look {
                states: vec![state(tells_room)],
                ..look(10, &[])
            }),
            Command::Write(_) => Event::Failed(Fault::new(5, "no")),
            _ => Event::Done,
        });
        assert_eq!(told[2], last);
    }
}

#[test]
fn what_is_not_whole_after_it_was_made_is_not_served() {
    let mut spoilt = look(10, &[1_000]);
    spoilt.listed[0].health = Health::Overflowed;
    let told = story(
        &mut access(&["provider=image"]),
        calm(look(10, &[]), spoilt),
    );
    assert_eq!(
        told[7..].join(" "),
        "remove forget the snapshot of image:/srv/data that was just taken is not usable"
    );
}

#[test]
fn old_ones_are_found_and_nothing_is_made_instead() {
    let at = ["provider=image", "at=latest"];
    let told = story(&mut access(&at), calm(look(99, &[5, 7]), look(99, &[])));
    assert_eq!(told.join(" "), "lock look mount crash-consistent");
    let told = story(&mut access(&at), calm(look(10, &[]), look(10, &[])));
    assert_eq!(told[2], "there is no snapshot of image:/srv/data");
    let mut spoilt = look(10, &[5]);
    spoilt.listed[0].health = Health::Overflowed;
    let told = story(
        &mut access(&["provider=image", "at=1970-01-01"]),
        calm(spoilt, look(10, &[])),
    );
    assert_eq!(
        told[2],
        "there is no snapshot of image:/srv/data from 1970-01-01T23:59:59.999Z or before (1 overflowed or \
         were never finished)"
    );
}

#[test]
fn what_may_lack_what_was_written_last_is_called_so() {
    let mut state = look(10, &[]);
    (state.states[0].freezes, state.states[0].whole) = (true, false);
    let told = story(
        &mut access(&["provider=image"]),
        calm(state.clone(), look(10, &[1_000])),
    );
    assert_eq!(
        told.join(" "),
        "lock look taking create look made mount crash-consistent"
    );
    let told = story(
        &mut access(&["provider=image", "freeze=yes"]),
        calm(state, look(10, &[])),
    );
    assert!(told[2].contains("flushoncommit"), "{told:?}");
}

#[test]
fn copies_file_by_file_are_not_frozen() {
    let mut state = look(10, &[]);
    state.states[0].instant = false;
    let told = story(
        &mut access(&["provider=image"]),
        calm(state.clone(), look(10, &[1_000])),
    );
    assert_eq!(
        told.join(" "),
        "lock look taking create look made mount file-by-file"
    );
    let told = story(
        &mut access(&["provider=image", "freeze=yes"]),
        calm(state, look(10, &[])),
    );
    assert!(told[2].contains("remove freeze=yes"), "{told:?}");
    assert!(Consistency::FileByFile < Consistency::Crash);
}

/// What is to be removed may be what the disk of the journal is full of.
#[test]
fn a_full_journal_keeps_nothing_from_being_removed_and_a_broken_one_does() {
    let steps = |errno: i32| {
        let mut seen = look(10, &[5]);
        let settings = settings(&["provider=image"]);
        seen.records.push(Record {
            name: seen.listed[0].name,
            origins: settings.origins.clone(),
            phase: Phase::Made,
            series: "/snap/data".into(),
            policy: settings.policy,
            means: settings.means.clone(),
            consistency: Consistency::Frozen,
        });
        let mut sweep = Sweep::new(settings.origins, settings.means);
        let mut event = Event::Begin;
        let mut removed = 0;
        loop {
            event = match sweep.next(event) {
                Command::Look { .. } => Event::Looked(seen.clone()),
                Command::Write(_) => Event::Failed(Fault::new(errno, "not written")),
                Command::Remove { .. } => {
                    removed += 1;
                    Event::Done
                }
                Command::End(Ending::Swept(swept)) => {
                    return (removed, swept.removed.len(), swept.left.len());
                }
                _ => Event::Done,
            };
        }
    };
    assert_eq!(steps(errno::NOSPC), (1, 1, 0));
    assert_eq!(steps(errno::IO), (0, 0, 1));
}
