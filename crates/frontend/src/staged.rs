//! What is mounted below a staging directory: where front ends find what an earlier daemon mounted,
//! that do not mount in place.

use std::collections::BTreeMap;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::Path;

use bstr::{BStr, BString, ByteSlice};
use piton_engine::event::{Existing, ExistingMount};
use piton_map::requester::Requester;
use piton_mount::table::{Mount, Table};
use piton_path::{is_below, is_within};
use piton_plan::step::TriggerKind;

use crate::kernel::as_path;
use crate::survey::{is_read_only, server_of};

/// Where the mount is made that users find at a path, and that of `key` below it, if it is not
/// empty.
pub(crate) fn place(staging: &BStr, path: &BStr, key: &BStr) -> BString {
    let mut place = BString::from(staging.trim_end_with(|letter| letter == '/'));
    place.extend_from_slice(path);
    if !key.is_empty() {
        place.push(b'/');
        place.extend_from_slice(key);
    }
    place
}

/// What is mounted for a mount point, by the paths that users know. `marked` says at which keys
/// work was not finished.
pub(crate) fn existing(
    table: &Table<'_>,
    staging: &BStr,
    path: &BStr,
    kind: TriggerKind,
    marked: &dyn Fn(&BStr) -> bool,
) -> Vec<ExistingMount> {
    let top = place(staging, path, b"".as_bstr());
    // The last mount at a path is what one finds there.
    let mut found: BTreeMap<InTreeOrder, &Mount<'_>> = BTreeMap::new();
    for mount in table.within(top.as_bstr()) {
        found.insert(InTreeOrder::of(mount.point.as_bstr()), mount);
    }
    let mut keys: BTreeMap<BString, Vec<&Mount<'_>>> = BTreeMap::new();
    for mount in found.into_values() {
        let Some(rest) = mount.point.strip_prefix(&top[..]) else {
            continue;
        };
        let key: BString = match (kind, rest) {
            (TriggerKind::Indirect, []) => continue,
            (TriggerKind::Indirect, [_, rest @ ..]) => {
                rest.split_str("/").next().unwrap_or_default().into()
            }
            (TriggerKind::Direct | TriggerKind::Offset, _) => BString::default(),
        };
        keys.entry(key).or_default().push(mount);
    }
    let entry = |(key, mounts): (BString, Vec<&Mount<'_>>)| {
        let root = place(staging, path, key.as_bstr());
        let whole = !marked(key.as_bstr());
        let (own, below): (Vec<_>, Vec<_>) =
            mounts.into_iter().partition(|mount| *mount.point == *root);
        ExistingMount {
            whole,
            offsets: offsets(staging, &below),
            ..mounted(key, staging, root.as_bstr(), own.first().copied())
        }
    };
    let mut found: Vec<ExistingMount> = keys.into_iter().map(entry).collect();
    found.extend(links(table, staging, top.as_bstr(), kind));
    found
}

/// Keys that are links in place of mounts: what several share is mounted elsewhere.
fn links(table: &Table<'_>, staging: &BStr, top: &BStr, kind: TriggerKind) -> Vec<ExistingMount> {
    let link = |key: BString, place: &Path| {
        let to = std::fs::read_link(place).ok()?.into_os_string();
        let to = BString::from(to.into_vec());
        let shared = table
            .mounts()
            .iter()
            .rev()
            .find(|mount| is_within(&*mount.point, staging) && is_below(&to, &*mount.point));
        let inside = to.strip_prefix(staging.as_bytes()).map(BString::from);
        let place = place.as_os_str().as_bytes().as_bstr();
        Some(ExistingMount {
            covered: true,
            link: Some(inside.unwrap_or(to)),
            ..mounted(key, staging, place, shared)
        })
    };
    let top = as_path(top);
    if kind != TriggerKind::Indirect {
        return link(BString::default(), top).into_iter().collect();
    }
    let Ok(directory) = std::fs::read_dir(top) else {
        return Vec::new();
    };
    let entries = directory.flatten().filter_map(|entry| {
        let key = entry.file_name().into_vec().into();
        link(key, &entry.path())
    });
    entries.collect()
}

/// The parts of an entry, each with what lies in it; `mounts` are in tree order.
fn offsets(staging: &BStr, mounts: &[&Mount<'_>]) -> Vec<Existing> {
    let mut offsets = Vec::new();
    let mut rest = mounts;
    while let Some((first, after)) = rest.split_first() {
        let inside = |mount: &&&Mount<'_>| is_below(&*mount.point, &*first.point);
        let count = after.iter().take_while(inside).count();
        let (inner, next) = after.split_at(count);
        let own = mounted(
            BString::default(),
            staging,
            first.point.as_bstr(),
            Some(first),
        );
        offsets.push(Existing {
            kind: TriggerKind::Offset,
            path: own.target.clone(),
            mounted: vec![ExistingMount {
                offsets: self::offsets(staging, inner),
                ..own
            }],
        });
        rest = next;
    }
    offsets
}

fn mounted(key: BString, staging: &BStr, place: &BStr, mount: Option<&Mount<'_>>) -> ExistingMount {
    let staging = staging.trim_end_with(|letter| letter == '/');
    ExistingMount {
        key,
        target: place.strip_prefix(staging).unwrap_or(place).into(),
        covered: mount.is_some(),
        link: None,
        whole: true,
        source: mount.map_or_else(BString::default, |mount| mount.source.clone().into_owned()),
        read_only: mount.is_some_and(is_read_only),
        server: mount.and_then(server_of),
        offsets: Vec::new(),
        requester: Requester::default(),
    }
}

/// A path that is sorted so that what lies in it comes right after it: `/a/b` before `/a-b`.
#[derive(PartialEq, Eq, PartialOrd, Ord)]
struct InTreeOrder(Vec<BString>);

impl InTreeOrder {
    fn of(path: &BStr) -> Self {
        Self(path.split_str("/").map(BString::from).collect())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn links_are_found_with_what_they_lead_to() {
        let scratch = piton_testkit::Scratch::new();
        let staging = scratch.path().to_str().unwrap();
        let shared = format!("{staging}/.shared/srv:+home");
        let home = format!("{staging}/home");
        std::fs::create_dir_all(&home).unwrap();
        std::os::unix::fs::symlink(format!("{shared}/mike"), format!("{home}/mike")).unwrap();
        std::os::unix::fs::symlink("/usr/share", format!("{home}/here")).unwrap();
        let text = format!("30 1 0:30 / {shared} rw - nfs4 srv:/home rw\n");
        let table = Table::parse(text.as_bytes());
        let (staging, home) = (staging.into(), "/home".into());
        let mut found = existing(&table, staging, home, TriggerKind::Indirect, &|_| false);
        found.sort_by(|one, other| one.key.cmp(&other.key));
        let [here, mike] = &found[..] else {
            panic!("{found:?}")
        };
        assert_eq!(mike.target, "/home/mike");
        assert_eq!(mike.link, Some("/.shared/srv:+home/mike".into()));
        assert_eq!(mike.source, "srv:/home");
        assert_eq!(here.link, Some("/usr/share".into()));
    }

    #[test]
    fn entries_are_found_with_all_their_parts_by_visible_paths() {
        let line = |id: u32, path: &str| format!("{id} 1 0:{id} / {path} rw - tmpfs of{path} rw\n");
        let text: String = [
            "/tmp_mnt/net/srv/usr",
            "/tmp_mnt/net/srv/usr-local",
            "/tmp_mnt/net/srv/usr/man",
            "/tmp_mnt/net/ann",
            "/tmp_mnt/network/no",
            "/tmp_mnt/net/srv/usr/man/man1",
        ]
        .iter()
        .zip(10..)
        .map(|(path, id)| line(id, path))
        .collect();
        let table = Table::parse(text.as_bytes());
        let marked = |key: &BStr| key == "ann";
        let staging = "/tmp_mnt".into();
        let found = existing(
            &table,
            staging,
            "/net".into(),
            TriggerKind::Indirect,
            &marked,
        );
        let [ann, srv] = &found[..] else {
            panic!("{found:?}")
        };
        assert_eq!(ann.target, "/net/ann");
        assert!(ann.covered && !ann.whole && ann.offsets.is_empty());
        assert_eq!(srv.target, "/net/srv");
        assert!(!srv.covered && srv.whole);
        let [usr, local] = &srv.offsets[..] else {
            panic!("{srv:?}")
        };
        assert_eq!(
            (&usr.path[..], &local.path[..]),
            (&b"/net/srv/usr"[..], &b"/net/srv/usr-local"[..])
        );
        let man = &usr.mounted[0].offsets[0];
        assert_eq!(man.path, "/net/srv/usr/man");
        assert_eq!(man.mounted[0].source, "of/tmp_mnt/net/srv/usr/man");
        assert_eq!(man.mounted[0].offsets[0].path, "/net/srv/usr/man/man1");

        let path = "/net/srv/usr/man".into();
        let found = existing(&table, staging, path, TriggerKind::Direct, &marked);
        let [man] = &found[..] else {
            panic!("{found:?}")
        };
        assert_eq!(
            (&man.key[..], &man.target[..]),
            (&b""[..], &b"/net/srv/usr/man"[..])
        );
        assert_eq!(man.offsets.len(), 1);
    }
}
