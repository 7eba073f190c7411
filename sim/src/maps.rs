//! The maps of the world: entries that change, and the master map's lines.

use std::collections::BTreeMap;
use std::sync::Arc;

use bstr::{BString, ByteSlice};
use piton_engine::config::{Binding, Point};
use piton_map::dialect::Dialect;
use piton_map::lookup::{Found, MapSpec, Matched, Miss};
use piton_map::options::PointOptions;
use piton_map::text::{Fragment, Origin, Position, Span};
use piton_plan::step::TriggerKind;

use crate::rng::Rng;

/// The map behind a submount.
const INNER: &str = "/maps/inner";

/// The keys that processes ask for, in every map; one of them is usually absent.
pub const KEYS: [&str; 8] = ["ann", "bob", "cy", "tree", "bare", "deep", "sub", "nil"];

/// What a key may stand for.
const PLAIN: [&str; 6] = [
    "-fstype=tmpfs :tmp",
    "-fstype=nfs,ro red:/export/&",
    "-fstype=nfs red:/a blue:/b",
    "-fstype=nfs,timeout=2 red,blue:/export/&",
    "-fstype=bind :/srv/&",
    "-fstype=ext4 :/dev/&",
];

const TREES: [&str; 4] = [
    "-fstype=tmpfs / :root /a :a /b :b",
    "-fstype=nfs,strict / red:/r /a red:/a /b blue:/b",
    "-fstype=tmpfs,strict / :root /a :a /a/in :in /b :b",
    "-fstype=nfs / green:/r /a red:/a /a/in blue:/in",
];

const BARE: [&str; 3] = [
    "-fstype=tmpfs /a :a /b :b",
    "-fstype=nfs,strict /a red:/a /b blue:/b",
    "-fstype=tmpfs,strict /a :a /a/in :in",
];

const DEEP: [&str; 2] = [
    "-fstype=tmpfs,strict / :root /a :a /a/in :in",
    "-fstype=tmpfs /a/in :in /b :b",
];

/// Paths below a key that processes walk to.
pub const BELOW: [&str; 6] = ["", "", "/a", "/b", "/a/in", "/ann"];

/// The maps' texts as they are now.
#[derive(Clone, Debug)]
pub struct Maps {
    entries: BTreeMap<(&'static str, BString), String>,
}

impl Maps {
    /// Maps as the seed has them.
    pub fn new(rng: &mut Rng) -> Self {
        let mut maps = Self {
            entries: BTreeMap::new(),
        };
        for map in ["home", "net", "wild", "prog", INNER] {
            for key in KEYS {
                maps.rewrite(map, key.into(), rng);
            }
        }
        maps.entries.insert(("wild", "*".into()), PLAIN[0].into());
        for path in DIRECT {
            maps.rewrite("direct", path.into(), rng);
        }
        maps
    }

    /// Somebody edits a line.
    pub fn edit(&mut self, rng: &mut Rng) {
        let all: Vec<(&'static str, BString)> = self.entries.keys().cloned().collect();
        let (map, key) = rng.pick(&all).clone();
        if key != "*" {
            self.rewrite(map, key, rng);
        }
    }

    fn rewrite(&mut self, map: &'static str, key: BString, rng: &mut Rng) {
        let name = key.rsplit_str("/").next().unwrap_or_default().to_vec();
        let text = match name.as_slice() {
            b"tree" => *rng.pick(&TREES),
            b"bare" => *rng.pick(&BARE),
            b"deep" => *rng.pick(&DEEP),
            b"sub" if map != INNER => "-fstype=autofs,timeout=2 file:/maps/inner",
            b"nil" => "",
            _ if rng.chance(60) => "red:/x -oops",
            _ => *rng.pick(&PLAIN),
        };
        if rng.chance(100) || text.is_empty() {
            self.entries.insert((map, key), String::new());
        } else {
            self.entries.insert((map, key), text.into());
        }
    }

    /// Looks a key up in a map.
    ///
    /// # Errors
    /// The key is not in it.
    pub fn find(&self, map: &BString, key: &BString) -> Result<Found, Miss> {
        let of_map = |wanted: &BString| {
            let entry = self
                .entries
                .iter()
                .find(|((name, entry), _)| *map == *name && entry == wanted);
            entry
                .map(|(_, text)| text.as_str())
                .filter(|it| !it.is_empty())
        };
        let (text, matched) = match (of_map(key), of_map(&"*".into())) {
            (Some(text), _) => (text, Matched::Exact),
            (None, Some(text)) if key != "nil" => (text, Matched::Wildcard),
            _ => return Err(Miss::NoSuchKey),
        };
        let line = format!("{key} {text}");
        Ok(Found {
            key: Span::new(0, key.len()),
            value: Span::new(key.len() + 1, line.len()),
            fragment: Fragment::whole(map.to_string(), line),
            matched,
            map: map.to_string().into(),
            via: Vec::new(),
        })
    }
}

/// The keys of the direct map.
pub const DIRECT: [&str; 5] = ["/d/one", "/d/two", "/d/tree", "/d/bare", "/x"];

/// The indirect mount points.
pub const INDIRECT: [(&str, &str); 5] = [
    ("/home", "home"),
    ("/net", "net"),
    ("/wild", "wild"),
    ("/prog", "prog"),
    ("/x", "home"),
];

/// A master map as the seed has it: some of all lines, `/x` direct or indirect.
pub fn master(rng: &mut Rng) -> Vec<Point> {
    let mut points = Vec::new();
    let crossed = rng.chance(500);
    for (path, map) in INDIRECT {
        if rng.chance(800) && (path != "/x" || crossed) {
            points.push(point(path, map, TriggerKind::Indirect, rng));
        }
    }
    for path in DIRECT {
        if rng.chance(800) && (path != "/x" || !crossed) {
            points.push(point(path, "direct", TriggerKind::Direct, rng));
        }
    }
    points
}

fn point(path: &str, map: &'static str, kind: TriggerKind, rng: &mut Rng) -> Point {
    let options = PointOptions {
        timeout: match rng.below(4) {
            0 => Some(0),
            1 => Some(1),
            2 => Some(5),
            _ => None,
        },
        negative_timeout: Some(1),
        strict_expire: rng.chance(50),
        symlink: map == "wild" && rng.chance(300),
        ..PointOptions::default()
    };
    let spec = MapSpec {
        kind: None,
        format: None,
        name: map.into(),
        arguments: Vec::new(),
        origin: None,
    };
    let binding = Binding {
        maps: [spec].into(),
        options,
        dialect: Dialect::LINUX,
        source: map.into(),
        origin: Origin {
            file: "auto.master".into(),
            position: Position { line: 1, column: 1 },
        },
    };
    let listing: Arc<[BString]> = match rng.chance(100) {
        true => [BString::from("ann")].into(),
        false => [].into(),
    };
    Point {
        path: path.into(),
        kind,
        binding: Arc::new(binding),
        listing,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn wildcards_find_what_has_no_line_of_its_own() {
        let maps = Maps::new(&mut Rng::new(3));
        let found = maps.find(&"wild".into(), &"zoe".into()).unwrap();
        assert_eq!(found.matched, Matched::Wildcard);
        assert_eq!(found.fragment.slice(found.key), "zoe");
        let missed = maps.find(&"home".into(), &"nil".into());
        assert_eq!(missed, Err(Miss::NoSuchKey));
    }

    #[test]
    fn one_path_has_one_line() {
        for seed in 0..100 {
            let points = master(&mut Rng::new(seed));
            let mut paths: Vec<_> = points.iter().map(|point| &point.path).collect();
            paths.sort();
            paths.dedup();
            assert_eq!(paths.len(), points.len());
        }
    }
}
