//! Lints about mount points: among each other, and on this host.

use std::collections::HashMap;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use bstr::{BStr, BString, ByteSlice};
use piton_map::diagnostic::{Diagnostic, Severity};
use piton_map::key::MapKind;
use piton_map::text::Origin;
use piton_mount::table::{self, Mount, Table};
use piton_path::is_within;

use super::{Findings, Surveyed, at};
use crate::explain::site::Opened;

/// Keys of one direct map above which a note is made: each is a mount that is there all the
/// time, in every namespace.
const DIRECT_KEYS: usize = 10_000;

/// Most directories that are looked into.
const LOOKED_INTO: usize = 10_000;

/// File systems that may hang when a directory of theirs is read.
const REMOTE: [&[u8]; 8] = [
    b"nfs", b"nfs4", b"cifs", b"smb3", b"ceph", b"afs", b"fuse", b"autofs",
];

/// A path at which a trigger is put.
struct Trigger {
    path: BString,
    direct: bool,
    origin: Origin,
}

/// Looks at all mount points.
pub(crate) fn check(opened: &Opened, surveyed: &[Surveyed<'_>], findings: &mut Findings) {
    let mut triggers = Vec::new();
    for one in surveyed {
        findings.extend(long_direct_map(opened, one));
        findings.extend(direct_by_fuse(opened, one));
        match one.point.kind {
            MapKind::Indirect => triggers.push(Trigger {
                path: piton_path::normalize(&one.point.path).into_owned(),
                direct: false,
                origin: one.point.origin.clone(),
            }),
            MapKind::Direct => triggers.extend(one.listing.keys.iter().map(|listed| Trigger {
                path: listed.key.clone(),
                direct: true,
                origin: listed.origin.clone(),
            })),
        }
    }
    same_path(opened, &triggers, findings);
    nested(opened, &mut triggers, findings);
    hidden_files(opened, &triggers, findings);
}

/// `long-direct-map`: very many mounts that are always there.
fn long_direct_map(opened: &Opened, one: &Surveyed<'_>) -> Option<Diagnostic> {
    let count = one.listing.keys.len();
    if one.point.kind != MapKind::Direct || count <= DIRECT_KEYS {
        return None;
    }
    let message = format!("the direct map has {count} keys, each a mount that is always there");
    Some(
        at(
            opened,
            &one.point.origin,
            Severity::Note,
            "long-direct-map",
            message,
        )
        .help(
            "keys with a common parent directory can be an indirect map: one mount for all of them",
        ),
    )
}

/// `direct-by-fuse`: a direct map of a user's, which his daemon refuses.
fn direct_by_fuse(opened: &Opened, one: &Surveyed<'_>) -> Option<Diagnostic> {
    if !opened.of_user || one.point.kind != MapKind::Direct {
        return None;
    }
    let message = "a direct map cannot be served by FUSE".to_owned();
    let (origin, code) = (&one.point.origin, "direct-by-fuse");
    let found = at(opened, origin, Severity::Error, code, message);
    Some(found.help("use an indirect map, and make links to its keys where the direct ones are"))
}

/// `duplicate-mount-point`: two lines for one path; the first counts.
fn same_path(opened: &Opened, triggers: &[Trigger], findings: &mut Findings) {
    let mut first: HashMap<&BStr, &Trigger> = HashMap::with_capacity(triggers.len());
    for trigger in triggers {
        let Some(earlier) = first.get(trigger.path.as_bstr()) else {
            first.insert(trigger.path.as_ref(), trigger);
            continue;
        };
        let message = format!(
            "{} is a mount point already; this line is not used",
            trigger.path
        );
        let mut one = at(
            opened,
            &trigger.origin,
            Severity::Warning,
            "duplicate-mount-point",
            message,
        )
        .help("remove one of the two lines; the first one counts");
        one.elsewhere
            .push((earlier.origin.clone(), "the first one".into()));
        findings.push(one);
    }
}

/// `nested-mount-point`: one mount point inside another, where one of them is a direct key (R-164;
/// of indirect ones the master map's reader says it). Sorts the triggers.
fn nested(opened: &Opened, triggers: &mut [Trigger], findings: &mut Findings) {
    // By components: everything below a path comes directly after it.
    triggers.sort_by(|one, other| one.path.split_str("/").cmp(other.path.split_str("/")));
    let mut around: Vec<&Trigger> = Vec::new();
    for trigger in triggers.iter() {
        while around
            .last()
            .is_some_and(|outer| !is_within(&trigger.path, &outer.path))
        {
            around.pop();
        }
        let counts =
            |outer: &&&Trigger| outer.path != trigger.path && (outer.direct || trigger.direct);
        if let Some(outer) = around.last().filter(counts) {
            let what = |one: &Trigger| {
                if one.direct {
                    "the direct key"
                } else {
                    "the mount point"
                }
            };
            let message = format!(
                "{} {} lies inside {} {}",
                what(trigger),
                trigger.path,
                what(outer),
                outer.path
            );
            let help = match outer.direct {
                true => "make it an offset of the outer entry: `/outer location /inner location`",
                false => "make it a key of the outer map, or move it out of that directory",
            };
            let mut one = at(
                opened,
                &trigger.origin,
                Severity::Warning,
                "nested-mount-point",
                message,
            )
            .help(help);
            one.elsewhere.push((
                outer.origin.clone(),
                format!("{} is written here", outer.path),
            ));
            findings.push(one);
        }
        around.push(trigger);
    }
}

/// `hidden-files`: the directory has something in it that nobody will see.
fn hidden_files(opened: &Opened, triggers: &[Trigger], findings: &mut Findings) {
    // Without the table nothing is known to be safe.
    let text = table::read().unwrap_or_default();
    let table = Table::parse(&text);
    for trigger in triggers.iter().take(LOOKED_INTO) {
        let place = opened.locate(trigger.path.as_ref());
        if !is_safe(&table, &place) || !has_entries(&place) {
            continue;
        }
        let message = format!(
            "the directory {} is not empty; what is in it will be hidden",
            trigger.path
        );
        findings.push(
            at(
                opened,
                &trigger.origin,
                Severity::Warning,
                "hidden-files",
                message,
            )
            .help("move its content into a map, or choose an empty directory"),
        );
    }
}

/// Returns true if and only if the directory has anything in it.
fn has_entries(place: &Path) -> bool {
    std::fs::read_dir(place).is_ok_and(|mut entries| entries.next().is_some())
}

/// Returns true if and only if `place` is no mount point, and stands on a local disk: reading
/// it wakes neither a trigger nor a dead server.
fn is_safe(table: &Table<'_>, place: &Path) -> bool {
    let place = BStr::new(place.as_os_str().as_bytes());
    let around = |mount: &&Mount<'_>| is_within(place, &*mount.point);
    let mut nearest: Option<&Mount<'_>> = None;
    for mount in table.mounts().iter().filter(around) {
        if *mount.point == *place || mount.fstype.as_bytes() == b"autofs" {
            return false;
        }
        if nearest.is_none_or(|best| mount.point.len() >= best.point.len()) {
            nearest = Some(mount);
        }
    }
    nearest.is_some_and(|mount| !REMOTE.iter().any(|remote| mount.fstype.starts_with(remote)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_mount_table_says_where_it_is_safe_to_look() {
        let text = b"22 1 0:2 / / rw - ext4 /dev/sda rw\n\
            30 22 0:3 / /home rw shared:1 - autofs auto.home rw\n\
            31 22 0:4 / /srv\\040x rw - nfs4 a:/b rw\n";
        let table = Table::parse(text);
        let cases = [
            ("/data", true),
            ("/home", false),
            ("/home/ann", false),
            ("/srv x/y", false),
            ("/srv", true),
        ];
        for (place, safe) in cases {
            assert_eq!(is_safe(&table, Path::new(place)), safe, "{place}");
        }
        assert!(
            !is_safe(&Table::parse(b""), Path::new("/data")),
            "nothing is known to be safe"
        );
    }
}
