//! The map type `snapshot`: volumes as keys, for each the entry that mounts a snapshot of it.
//!
//! What entries look like is decided by [`Volumes`]; nothing is asked for them, so that no answer is
//! ever older than the access. Only a listing asks [`AskVolumes`] what there is.

use std::collections::BTreeSet;
use std::fmt::Debug;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::sync::Arc;
use std::time::Instant;

use bstr::{BStr, BString, ByteSlice};
use piton_map::lookup::{Found, Matched, Miss};
use piton_map::text::{Fragment, Span};
use piton_snapshot::{Invalid, Volumes};

use crate::hosts::quote;
use crate::limits::{VOLUMES_LISTED, VOLUMES_TIME};
use crate::source::LookupContext;

/// The key that leads to what is told about the snapshots that are mounted beside it.
pub const MANIFESTS: &str = ".piton-snapshot";

/// Tells what volumes and snapshots there are.
pub trait AskVolumes: Debug + Send + Sync {
    /// Keys of the map: its volumes, and `name@time` for snapshots that exist. May block until then.
    ///
    /// # Errors
    /// In words, why there is no list.
    fn keys(&self, map: &Volumes, until: Instant) -> Result<Vec<BString>, Arc<str>>;
}

/// The map that `name` describes.
pub(crate) fn map(name: &BStr) -> Result<Volumes, Miss> {
    Volumes::parse(name).map_err(|invalid| Miss::NotAvailable(invalid.to_string().into()))
}

/// The entry of a key.
pub(crate) fn entry(
    map: &Volumes,
    name: &BStr,
    key: &BStr,
    context: &LookupContext<'_>,
    manifests: Option<&Path>,
) -> Result<Found, Miss> {
    let text = if key == MANIFESTS {
        let directory = manifests.ok_or(Miss::NoSuchKey)?;
        let mut path = directory.as_os_str().as_bytes().to_vec();
        path.extend_from_slice(context.mount_point);
        let mut text = b"-fstype=bind,ro ".to_vec();
        quote(b":", path.as_bstr(), &mut text);
        text.into()
    } else {
        let entry = map
            .entry(key)
            .map_err(|invalid| Miss::BadKey(why(&invalid)))?;
        entry.ok_or(Miss::NoSuchKey)?
    };
    let value = Span::new(0, text.len());
    Ok(Found {
        fragment: Fragment::whole(format!("snapshot:{name} for {key}"), text),
        key: Span::default(),
        value,
        matched: Matched::Exact,
        map: format!("snapshot:{name}").into(),
        via: Vec::new(),
    })
}

/// Why something can be no key, for the log.
fn why(invalid: &Invalid) -> &'static str {
    match invalid.code {
        "bad-snapshot-time" | "bad-length-of-time" => {
            "after the @ stands latest, -1d (so long ago) or a time in UTC such as 2026-11-22T03:00"
        }
        _ => {
            "names of volumes are made of at most 80 letters, digits, _ + . and -, and begin neither \
             with . nor with -"
        }
    }
}

/// The keys that a listing shows, each once, in their order.
pub(crate) fn keys(
    map: &Volumes,
    asker: Option<&dyn AskVolumes>,
    until: Option<Instant>,
) -> Result<BTreeSet<BString>, Miss> {
    let groups = map.groups().map(BString::from);
    let mut keys: BTreeSet<BString> = groups.collect();
    if let Some(asker) = asker {
        let until = until.unwrap_or_else(|| Instant::now() + VOLUMES_TIME);
        let told = asker.keys(map, until).map_err(Miss::Unreadable)?;
        // What could not be asked for is not shown.
        let good = told
            .into_iter()
            .filter(|key| matches!(map.entry(key.as_bstr()), Ok(Some(_))));
        keys.extend(good.take(VOLUMES_LISTED));
    } else {
        keys.extend(
            map.only()
                .into_iter()
                .flatten()
                .map(|name| BString::from(name.as_str())),
        );
    }
    Ok(keys)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cache::{Maps, Settings};
    use piton_map::dialect::Dialect;
    use piton_map::key::MapKind;
    use piton_map::requester::Requester;
    use piton_map::spec;

    #[derive(Debug)]
    struct Told(Vec<&'static str>);

    impl AskVolumes for Told {
        fn keys(&self, map: &Volumes, _until: Instant) -> Result<Vec<BString>, Arc<str>> {
            assert_eq!(map.container(), "storage");
            Ok(self.0.iter().map(|key| BString::from(*key)).collect())
        }
    }

    fn maps(told: Option<Vec<&'static str>>) -> Maps {
        let volumes = told.map(|told| Arc::new(Told(told)) as Arc<dyn AskVolumes>);
        Maps::new(Settings {
            volumes,
            manifests: Some("/run/p q".into()),
            ..Settings::default()
        })
    }

    fn context() -> LookupContext<'static> {
        static REQUESTER: std::sync::LazyLock<Requester> =
            std::sync::LazyLock::new(Requester::default);
        LookupContext {
            kind: MapKind::Indirect,
            dialect: &Dialect::LINUX,
            requester: &REQUESTER,
            defines: &[],
            mount_point: BStr::new("/snap"),
            deadline: None,
        }
    }

    fn value(maps: &Maps, map: &str, key: &str) -> Result<String, Miss> {
        let specs = [spec::parse(map.into(), None).unwrap()];
        let found = maps
            .try_lookup_cached(&specs, key.into(), &context())
            .expect("nobody is asked")?;
        Ok(found.fragment.slice(found.value).to_string())
    }

    #[test]
    fn a_key_has_its_entry_at_once() {
        let maps = maps(None);
        let map = "snapshot:lvm,vg=storage";
        assert_eq!(
            value(&maps, map, "data@latest").unwrap(),
            "-fstype=snapshot,provider=lvm,at=latest \":storage/data\""
        );
        assert_eq!(
            value(&maps, map, MANIFESTS).unwrap(),
            "-fstype=bind,ro \":/run/p q/snap\""
        );
        let bad = |key| match value(&maps, map, key) {
            Err(Miss::BadKey(why)) => why,
            other => panic!("{other:?}"),
        };
        assert!(bad("-x").starts_with("names of volumes"));
        assert!(bad("data@2026-03-29T02:30+01:00").contains("in UTC"));
        let most = piton_snapshot::limits::NAME.to_string();
        assert!(bad(&"x".repeat(81)).contains(&most), "the limit is named");
        let only = "snapshot:lvm,vg=storage,only=a";
        assert_eq!(value(&maps, only, "data"), Err(Miss::NoSuchKey));
    }

    #[test]
    fn a_listing_shows_what_could_be_asked_for() {
        let keys = |told, map: &str| {
            let specs = [spec::parse(map.into(), None).unwrap()];
            let listing = maps(told).keys(&specs, &context());
            assert!(listing.served);
            let keys = listing.keys.iter().map(|listed| listed.key.to_string());
            keys.collect::<Vec<_>>().join(" ")
        };
        let told = vec!["data", "data@2026-11-22T03:00:15.123Z", "-x", "a b", "data"];
        let map = "snapshot:lvm,vg=storage,group.db=data/wal";
        assert_eq!(
            keys(Some(told), map),
            "data data@2026-11-22T03:00:15.123Z db"
        );
        assert_eq!(keys(None, map), "db");
        assert_eq!(keys(None, "snapshot:lvm,vg=storage,only=a/b"), "a b");
    }
}
