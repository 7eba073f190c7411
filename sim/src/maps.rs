//! The maps of the world: entries that change, and the master map's lines.

use std::collections::BTreeMap;
use std::sync::Arc;

use bstr::{BStr, BString, ByteSlice};
use piton_engine::config::{Binding, Point};
use piton_map::dialect::Dialect;
use piton_map::lookup::{Found, MapSpec, Matched, Miss};
use piton_map::options::PointOptions;
use piton_map::text::{Fragment, Origin, Position, Span};
use piton_plan::step::TriggerKind;

use crate::rng::Rng;

/// The map behind a submount.
pub const INNER: &str = "/maps/inner";

/// The keys that processes ask for, in every map; one of them is usually absent.
pub const KEYS: [&str; 8] = ["ann", "bob", "cy", "tree", "bare", "deep", "sub", "nil"];

/// What a key may stand for.
const PLAIN: [&str; 8] = [
    "-fstype=tmpfs :tmp",
    "-fstype=nfs,ro red:/export/&",
    "-fstype=nfs red:/a blue:/b",
    "-fstype=nfs,timeout=2 red,blue:/export/&",
    "-fstype=nfs,ro red,blue(1):/export/&",
    "-fstype=nfs,ro blue,green:/export/&",
    "-fstype=bind :/srv/&",
    "-fstype=ext4 :/dev/&",
];

/// An entry that cannot be used.
pub const BAD: &str = "red:/x -oops";

const TREES: [&str; 5] = [
    "-fstype=tmpfs / :root /a :a /b :b",
    "-fstype=nfs,strict / red:/r /a red:/a /b blue:/b",
    "-fstype=tmpfs,strict / :root /a :a /a/in :in /b :b",
    "-fstype=nfs / green:/r /a red:/a /a/in blue:/in",
    "-fstype=nfs,ro / red,blue:/r /a blue,green:/a",
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
                let text = new_text(map, &key.into(), rng);
                maps.write(map, key.into(), text);
            }
        }
        maps.entries.insert(("wild", "*".into()), PLAIN[0].into());
        for path in DIRECT {
            let text = new_text("direct", &path.into(), rng);
            maps.write("direct", path.into(), text);
        }
        maps
    }

    /// Somebody edits a line: of which map, of which key, and the new text.
    pub fn edited(&self, rng: &mut Rng) -> (&'static str, BString, String) {
        let all: Vec<_> = self.entries.keys().filter(|(_, key)| key != "*").collect();
        let (map, key) = (*rng.pick(&all)).clone();
        let text = new_text(map, &key, rng);
        (map, key, text)
    }

    /// A line has this text from now on; an empty one is gone.
    pub fn write(&mut self, map: &'static str, key: BString, text: String) {
        self.entries.insert((map, key), text);
    }

    /// What a map says of a key; nothing: it has no such line.
    pub fn text(&self, map: &BStr, key: &BStr) -> Option<&str> {
        let wild = || self.exact(map, "*".into()).filter(|_| key != "nil");
        self.exact(map, key).or_else(wild)
    }

    fn exact(&self, map: &BStr, key: &BStr) -> Option<&str> {
        let mut entries = self.entries.iter();
        let entry = entries.find(|((name, entry), _)| map == *name && entry == key);
        entry
            .map(|(_, text)| text.as_str())
            .filter(|it| !it.is_empty())
    }

    /// Looks a key up in a map.
    ///
    /// # Errors
    /// The key is not in it.
    pub fn find(&self, map: &BStr, key: &BStr) -> Result<Found, Miss> {
        let text = self.text(map, key).ok_or(Miss::NoSuchKey)?;
        let matched = match self.exact(map, key) {
            Some(_) => Matched::Exact,
            None => Matched::Wildcard,
        };
        Ok(found(map, key, text, matched))
    }

    /// The same from a source that lies: it tells a part of the text, that of another key, or
    /// that there is none.
    ///
    /// # Errors
    /// It says that the key is not in the map.
    pub fn lie(&self, map: &BStr, key: &BStr, how: u64) -> Result<Found, Miss> {
        let texts: Vec<&String> = self.entries.values().collect();
        let text = match (how % 4, self.text(map, key)) {
            (0, _) | (1, None) => return Err(Miss::NoSuchKey),
            (1, Some(text)) => &text[..how as usize / 4 % text.len()],
            _ => texts[how as usize / 4 % texts.len()],
        };
        Ok(found(map, key, text, Matched::Exact))
    }
}

fn found(map: &BStr, key: &BStr, text: &str, matched: Matched) -> Found {
    let line = format!("{key} {text}");
    Found {
        key: Span::new(0, key.len()),
        value: Span::new(key.len() + 1, line.len()),
        fragment: Fragment::whole(map.to_string(), line),
        matched,
        map: map.to_string().into(),
        via: Vec::new(),
    }
}

/// A text that an entry may have.
fn new_text(map: &'static str, key: &BString, rng: &mut Rng) -> String {
    let name = key.rsplit_str("/").next().unwrap_or_default();
    let text = match name {
        b"tree" => *rng.pick(&TREES),
        b"bare" => *rng.pick(&BARE),
        b"deep" => *rng.pick(&DEEP),
        b"sub" if map != INNER => "-fstype=autofs,timeout=2 file:/maps/inner",
        b"nil" => "",
        _ if rng.chance(60) => BAD,
        _ => *rng.pick(&PLAIN),
    };
    match rng.chance(100) {
        true => String::new(),
        false => text.into(),
    }
}

/// The keys of the direct map.
pub const DIRECT: [&str; 6] = ["/d/one", "/d/two", "/d/tree", "/d/bare", "/x", "/x/ann"];

/// The indirect mount points.
pub const INDIRECT: [(&str, &str); 6] = [
    ("/home", "home"),
    ("/net", "net"),
    ("/x/tree", "net"),
    ("/wild", "wild"),
    ("/prog", "prog"),
    ("/x", "home"),
];

/// A master map as the seed has it: some of all lines, and at or below `/x` one at most.
pub fn master(rng: &mut Rng) -> Vec<Point> {
    let mut points = Vec::new();
    // Mount points that get in each other's way: one of them at a time.
    let crossing = [
        ("/x", TriggerKind::Indirect),
        ("/x", TriggerKind::Direct),
        ("/x/ann", TriggerKind::Direct),
        ("/x/tree", TriggerKind::Indirect),
    ];
    let chosen = rng.pick(&crossing);
    let allowed = |path: &str, kind| !path.starts_with("/x") || *chosen == (path, kind);
    for (path, map) in INDIRECT {
        if rng.chance(800) && allowed(path, TriggerKind::Indirect) {
            points.push(point(path, map, TriggerKind::Indirect, rng));
        }
    }
    for path in DIRECT {
        if rng.chance(800) && allowed(path, TriggerKind::Direct) {
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
        let found = maps.find("wild".into(), "zoe".into()).unwrap();
        assert_eq!(found.matched, Matched::Wildcard);
        assert_eq!(found.fragment.slice(found.key), "zoe");
        let missed = maps.find("home".into(), "nil".into());
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
