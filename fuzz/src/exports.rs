//! What a server says it exports, and the entries that are made of it.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Instant;

use bstr::{BStr, BString, ByteSlice};
use piton_map::dialect::Dialect;
use piton_map::entry::{EntryRequest, What, read};
use piton_map::key::MapKind;
use piton_map::lookup::{MapSpec, MapType};
use piton_map::options::PointOptions;
use piton_map::requester::Requester;
use piton_source::cache::{Maps, Settings};
use piton_source::hosts::list::refusal;
use piton_source::hosts::{AskExports, Offer, Offered, Trouble};
use piton_source::source::LookupContext;

/// A server that says what the input says.
#[derive(Debug)]
struct Says(Offered);

impl AskExports for Says {
    fn exports(&self, _server: &BStr, _until: Instant) -> Result<Offered, Trouble> {
        Ok(self.0.clone())
    }
}

/// An export list: whoever walks everywhere below the server's key finds the exports that can be
/// used, each where it belongs, with its own path, untrusted, and nothing else. Input: the paths,
/// each ended by a zero byte.
pub fn exports(data: &[u8]) {
    let paths: Vec<BString> = data
        .split(|byte| *byte == 0)
        .map(BString::from)
        .take(64)
        .collect();
    let wanted: BTreeSet<BString> = paths.iter().filter_map(usable).collect();
    let offer = |path| Offer {
        path,
        groups: Vec::new(),
    };
    let asker = Says(Offered {
        exports: paths.into_iter().map(offer).collect(),
        ..Offered::default()
    });
    let maps = Maps::new(Settings {
        exports: Some(Arc::new(asker)),
        ..Settings::default()
    });
    for dialect in [Dialect::LINUX, Dialect::SUN] {
        assert_eq!(walked(&maps, &dialect), wanted);
    }
}

/// The path as it is mounted, if it can be.
fn usable(path: &BString) -> Option<BString> {
    let trimmed = path.trim_end_with(|c| c == '/').as_bstr();
    let path: &BStr = match trimmed.is_empty() && !path.is_empty() {
        true => "/".into(),
        false => trimmed,
    };
    refusal(path).is_none().then(|| path.into())
}

fn walked(maps: &Maps, dialect: &Dialect) -> BTreeSet<BString> {
    let context = LookupContext {
        kind: MapKind::Indirect,
        dialect,
        requester: &Requester::default(),
        defines: &[],
        mount_point: "/net".into(),
        deadline: None,
    };
    let hosts = MapSpec {
        kind: Some(MapType::Hosts),
        format: None,
        name: "-hosts".into(),
        arguments: Vec::new(),
        origin: None,
    };
    let mut found = BTreeSet::new();
    let mut todo = vec![(hosts, BString::from("nas"), BString::default())];
    while let Some((map, key, at)) = todo.pop() {
        let Ok(text) = maps.lookup(&[map], key.as_bstr(), &context) else {
            assert!(at.is_empty(), "what is listed is there: {at:?}");
            continue;
        };
        let reading = read(&EntryRequest {
            found: &text,
            key: key.as_bstr(),
            variables: &(),
            point: &PointOptions::default(),
            global: &[],
            append: true,
            dialect,
        });
        assert_eq!(reading.diagnostics, []);
        let entry = reading.entry.expect("what is written can be read");
        for mount in entry.mounts {
            let place = match &mount.offset[..] {
                b"/" => at.clone(),
                offset => [&at[..], offset].concat().into(),
            };
            match mount.what {
                What::Servers { servers, .. } => {
                    assert_eq!(mount.options, ["nosuid", "nodev"]);
                    assert_eq!(servers.len(), 1);
                    assert_eq!(servers[0].host.as_ref().expect("a server"), "nas");
                    assert_eq!(servers[0].subdirectory, None);
                    let whole = if place.is_empty() { "/".into() } else { place };
                    assert_eq!(servers[0].path, whole);
                    assert!(found.insert(whole), "each is mounted once");
                }
                What::Map { map, .. } => {
                    let listing = maps.keys(std::slice::from_ref(&map), &context);
                    assert!(!listing.keys.is_empty());
                    for listed in listing.keys {
                        let below = [&place[..], b"/", &listed.key].concat().into();
                        todo.push((map.clone(), listed.key, below));
                    }
                }
                other => panic!("{other:?}"),
            }
        }
    }
    found
}
