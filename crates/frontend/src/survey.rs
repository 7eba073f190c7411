//! Finding triggers of an earlier life, and what is mounted in them.

use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use autofs::{Control, ExistingPoint, PipeState, PointKind};
use bstr::{BStr, BString, ByteSlice};
use piton_engine::event::{Existing, ExistingMount};
use piton_map::requester::Requester;
use piton_mount::table::{self, Mount, Table};
use piton_plan::step::TriggerKind;

use crate::kernel::{as_path, point_kind};

/// What was found at the wanted mount points.
#[derive(Debug, Default)]
pub struct Survey {
    /// Triggers without a daemon: they can be adopted.
    pub orphans: Vec<Existing>,
    /// Triggers that somebody serves.
    pub owned: Vec<Owned>,
}

/// A mount point that belongs to another automounter.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Owned {
    /// Absolute path.
    pub path: BString,
    /// Its process group.
    pub process_group: u32,
}

/// Looks for triggers at `wanted`. Changes nothing.
pub(crate) fn survey(control: &Control, wanted: &[(BString, TriggerKind)]) -> Survey {
    let mut survey = Survey::default();
    let points: Vec<ExistingPoint> = match autofs::existing_points() {
        Ok(points) => points.filter_map(Result::ok).collect(),
        Err(error) => {
            tracing::warn!(%error, "cannot look for triggers of an earlier life");
            return survey;
        }
    };
    if points.is_empty() {
        return survey;
    }
    let Ok(text) = table::read() else {
        return survey;
    };
    let table = Table::parse(&text);
    let wanted: std::collections::HashMap<&Path, TriggerKind> = wanted
        .iter()
        .map(|(path, kind)| (as_path(path.as_bstr()), *kind))
        .collect();
    for point in &points {
        let Some(kind) = wanted.get(point.target.as_path()) else {
            continue;
        };
        if point.kind != point_kind(*kind) {
            continue;
        }
        match living_owner(point) {
            Some(process_group) => {
                let path = point.target.as_os_str().as_bytes().into();
                survey.owned.push(Owned {
                    path,
                    process_group,
                });
            }
            None => survey
                .orphans
                .push(existing(control, &table, &points, point, *kind)),
        }
    }
    survey
}

/// The process group that serves a point, if it still lives and is not our own.
fn living_owner(point: &ExistingPoint) -> Option<u32> {
    if point.pipe == PipeState::Catatonic {
        return None;
    }
    let group = point.process_group?;
    let pid = autofs::Pid::from_raw(i32::try_from(group).ok()?)?;
    if autofs::process_group() == Some(pid) {
        return None;
    }
    rustix::process::test_kill_process_group(pid)
        .is_ok()
        .then_some(group)
}

fn existing(
    control: &Control,
    table: &Table<'_>,
    points: &[ExistingPoint],
    point: &ExistingPoint,
    kind: TriggerKind,
) -> Existing {
    let path: BString = point.target.as_os_str().as_bytes().into();
    let mounted = match kind {
        TriggerKind::Indirect => keys(control, table, points, point),
        TriggerKind::Direct | TriggerKind::Offset => {
            let own = table
                .children(point.mount_id)
                .find(|mount| *mount.point == path);
            own.map(|mount| mounted(control, table, points, BString::default(), mount))
                .into_iter()
                .collect()
        }
    };
    Existing {
        kind,
        path,
        mounted,
    }
}

/// What is mounted in an indirect point: one element for each key.
fn keys(
    control: &Control,
    table: &Table<'_>,
    points: &[ExistingPoint],
    point: &ExistingPoint,
) -> Vec<ExistingMount> {
    let root: BString = point.target.as_os_str().as_bytes().into();
    let mut found: Vec<ExistingMount> = Vec::new();
    for mount in table.children(point.mount_id) {
        let Some(rest) = mount.point.strip_prefix(root.as_bytes()) else {
            continue;
        };
        let rest = rest.trim_start_with(|letter| letter == '/');
        let key: BString = rest.split_str("/").next().unwrap_or_default().into();
        if rest.len() == key.len() {
            found.push(mounted(control, table, points, key, mount));
            continue;
        }
        // An entry without a root: its offsets stand in a bare directory.
        let Some(offset) = point_at(points, mount, PointKind::Offset) else {
            continue;
        };
        let offset = existing(control, table, points, offset, TriggerKind::Offset);
        match found
            .iter_mut()
            .find(|other| other.key == key && !other.covered)
        {
            Some(bare) => bare.offsets.push(offset),
            None => {
                let mut target = root.clone();
                target.push(b'/');
                target.extend_from_slice(&key);
                found.push(ExistingMount {
                    requester: requester(control, point, target.as_bstr()),
                    key,
                    target,
                    covered: false,
                    source: BString::default(),
                    offsets: vec![offset],
                });
            }
        }
    }
    found
}

fn mounted(
    control: &Control,
    table: &Table<'_>,
    points: &[ExistingPoint],
    key: BString,
    mount: &Mount<'_>,
) -> ExistingMount {
    let below = |point, kind| existing(control, table, points, point, kind);
    let offsets = match point_at(points, mount, PointKind::Indirect) {
        // The key is a map of its own (`fstype=autofs`).
        Some(submount) => vec![below(submount, TriggerKind::Indirect)],
        None => table
            .children(mount.id)
            .filter_map(|child| point_at(points, child, PointKind::Offset))
            .map(|offset| below(offset, TriggerKind::Offset))
            .collect(),
    };
    let parent = points.iter().find(|point| point.mount_id == mount.parent);
    ExistingMount {
        requester: parent
            .map(|point| requester(control, point, (*mount.point).as_bstr()))
            .unwrap_or_default(),
        key,
        target: mount.point.clone().into_owned(),
        covered: true,
        source: mount.source.clone().into_owned(),
        offsets,
    }
}

/// The trigger that a line of the mount table is, if it is one of this kind.
fn point_at<'p>(
    points: &'p [ExistingPoint],
    mount: &Mount<'_>,
    kind: PointKind,
) -> Option<&'p ExistingPoint> {
    points
        .iter()
        .find(|point| point.mount_id == mount.id && point.kind == kind)
}

/// Who asked for a mount, if the kernel remembers.
fn requester(control: &Control, point: &ExistingPoint, path: &BStr) -> Requester {
    let known = control
        .open_point(&point.target, point.device)
        .and_then(|fd| control.requester(fd, as_path(path)));
    match known {
        Ok(who) => Requester {
            uid: who.uid,
            gid: who.gid,
            ..Requester::default()
        },
        Err(_) => Requester::default(),
    }
}
