//! Changes that wait for something in use: what a reload would leave pending, and who is to blame.

use std::time::Instant;

use bstr::BStr;
use piton_control::message::{Change, Holder, Pending, ReloadPlan};
use piton_engine::difference;
use piton_mount::table::{self, Table};

use super::messages::Outline;
use super::service::{HOLDERS_LOOKED_FOR, HOLDERS_TIME, find_holders};
use super::staging::Staging;

/// Processes named in one line.
const NAMED: usize = 3;

/// A pending change as the control socket tells it.
pub(super) fn message(pending: &difference::Pending) -> Pending {
    Pending {
        path: pending.path.to_string(),
        what: pending.what.into(),
        map: pending.map.to_string(),
        origin: pending.origin.to_string(),
        waits_for: pending.waits_for.iter().map(ToString::to_string).collect(),
        holders: Vec::new(),
    }
}

/// Who keeps any of these busy: what would have the kernel refuse to unmount them. Each is looked
/// at in /proc, so that there is a limit.
pub(super) fn holders_of(staging: &Staging, mounts: &[String], until: Instant) -> Vec<Holder> {
    let ours = |holder: &Holder| {
        let path = holder.path.as_deref().unwrap_or_default();
        holder.pid == 0 && (mounts.iter().any(|mount| mount == path) || is_trigger(path.into()))
    };
    let looked_at = mounts.iter().take(HOLDERS_LOOKED_FOR);
    looked_at
        .flat_map(|mount| find_holders(staging, mount, until).0)
        // A copy in another namespace does not hold ours; what is ours goes with it.
        .filter(|holder| !holder.elsewhere && holder.how != "copy of the mount" && !ours(holder))
        .collect()
}

fn is_trigger(path: &BStr) -> bool {
    let Ok(text) = table::read() else {
        return false;
    };
    let table = Table::parse(&text);
    table
        .at(path)
        .is_some_and(|mount| *mount.fstype == "autofs")
}

/// Moves what would have to wait to `pending`: that in whose way something busy is mounted.
pub(super) fn foresee(staging: &Staging, mut outline: Outline) -> ReloadPlan {
    let until = Instant::now() + HOLDERS_TIME;
    for (path, mounts) in &outline.waits {
        let holders = holders_of(staging, mounts, until);
        if !holders.is_empty() {
            postpone(&mut outline.plan, path, &detail(mounts, &holders));
        }
    }
    outline.plan
}

/// Says of what is pending who is to blame.
pub(super) fn explain(staging: &Staging, mut outline: Outline) -> ReloadPlan {
    let until = Instant::now() + HOLDERS_TIME;
    for (path, mounts) in &outline.waits {
        let holders = holders_of(staging, mounts, until);
        postpone(&mut outline.plan, path, &detail(mounts, &holders));
    }
    outline.plan
}

/// Moves a change to `pending`, or says more of one that is there already.
fn postpone(plan: &mut ReloadPlan, path: &str, detail: &str) {
    let known = plan.pending.iter().position(|change| change.path == path);
    let known = known.map(|at| plan.pending.remove(at));
    let (mut map, mut before) = known.map(|it| (it.map, it.detail)).unwrap_or_default();
    let lists = [
        ("removed", &mut plan.removed),
        ("changed", &mut plan.changed),
        ("added", &mut plan.added),
    ];
    for (word, list) in lists {
        if let Some(at) = list.iter().position(|change| change.path == path) {
            let change = list.remove(at);
            map = change.map;
            before = match change.detail.is_empty() {
                true => format!("to be {word}"),
                false => format!("to be {word}: {}", change.detail),
            };
        }
    }
    let comma = if before.is_empty() { "" } else { ", " };
    plan.pending.push(Change {
        path: path.to_owned(),
        map,
        detail: format!("{before}{comma}{detail}"),
    });
}

fn detail(mounts: &[String], holders: &[Holder]) -> String {
    let mut text = match mounts {
        [] => "waits".to_owned(),
        [one] => format!("waits for {one}"),
        [one, rest @ ..] => format!("waits for {one} and {} more", rest.len()),
    };
    let name = |holder: &Holder| match holder.pid {
        0 => format!(
            "{} {}",
            holder.how,
            holder.path.as_deref().unwrap_or_default()
        ),
        pid => format!("{} (pid {pid}): {}", holder.comm, holder.how),
    };
    let named: Vec<String> = holders.iter().take(NAMED).map(name).collect();
    if !named.is_empty() {
        text += &format!(", held by {}", named.join(", "));
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_waits_is_in_one_list_only() {
        let change = |path: &str, detail: &str| Change {
            path: path.into(),
            map: "m".into(),
            detail: detail.into(),
        };
        let mut plan = ReloadPlan {
            removed: vec![change("/a", ""), change("/b", "")],
            changed: vec![change("/c", "options")],
            pending: vec![change("/d", "removal")],
            ..ReloadPlan::default()
        };
        postpone(&mut plan, "/a", "waits for /a/x");
        postpone(&mut plan, "/c", "waits");
        postpone(&mut plan, "/d", "waits for /d");
        assert_eq!(plan.removed, [change("/b", "")]);
        let expected = [
            change("/a", "to be removed, waits for /a/x"),
            change("/c", "to be changed: options, waits"),
            change("/d", "removal, waits for /d"),
        ];
        assert_eq!(plan.pending, expected);
        assert!(plan.changed.is_empty());
    }

    #[test]
    fn who_holds_is_named() {
        let holder = |pid, how: &str| Holder {
            pid,
            comm: "vi".into(),
            how: how.into(),
            path: Some("/a/x/f".into()),
            ..Holder::default()
        };
        let mounts = ["/a/x".to_owned(), "/a/y".to_owned()];
        let holders = [holder(0, "nested mount"), holder(7, "open file")];
        assert_eq!(
            detail(&mounts, &holders),
            "waits for /a/x and 1 more, held by nested mount /a/x/f, vi (pid 7): open file"
        );
    }
}
