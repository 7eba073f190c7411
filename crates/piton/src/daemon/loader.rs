//! Reading master map, direct maps and listings: what shall be in place.

use std::sync::Arc;
use std::time::SystemTime;

use bstr::{BString, ByteSlice};
use piton_engine::config::{Binding, Configuration, Point};
use piton_map::diagnostic::Diagnostic;
use piton_map::key::MapKind;
use piton_map::lookup::{MapSpec, MapType, Miss};
use piton_map::options::Selection;
use piton_map::requester::Requester;
use piton_map::text::Origin;
use piton_plan::step::TriggerKind;
use piton_source::cache::{ListedKey, Listing, Maps, Watch};
use piton_source::master::{self, MasterRequest, Site, SitePoint};
use piton_source::source::LookupContext;

/// Why the maps were read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Reason {
    /// The daemon starts.
    Start,
    /// Somebody asked (command or signal): the number of the question.
    Asked(u64),
    /// A file changed.
    Changed,
    /// Somebody asked what would change: the number of the question.
    Planned(u64),
}

/// What was read.
pub(crate) struct Loaded {
    /// Why.
    pub(crate) reason: Reason,
    /// Since when: later changes may be missing.
    pub(crate) began: SystemTime,
    /// The desired state, or why there is none.
    pub(crate) result: Result<Configuration, Miss>,
    /// What there is to say about the texts.
    pub(crate) diagnostics: Vec<Diagnostic>,
    /// Maps that are missing or cannot be read, with the mount point.
    pub(crate) incomplete: Vec<(BString, Arc<str>, Miss)>,
    /// Lines whose maps are all missing or cannot be read. What stands there already stays.
    pub(crate) unserved: Vec<Unserved>,
    /// Mount points that cannot be.
    pub(crate) refused: Vec<Refused>,
    /// What to watch from now on.
    pub(crate) watch: Watch,
}

/// A line of the master map whose maps cannot be used now.
pub(crate) struct Unserved {
    /// An indirect map's mount point; `None` for direct maps.
    pub(crate) path: Option<BString>,
    /// The line.
    pub(crate) binding: Arc<Binding>,
}

/// What reading needs.
pub(crate) struct Loader {
    pub(crate) maps: Arc<Maps>,
    pub(crate) request: MasterRequest,
    pub(crate) browse: bool,
    /// How servers are ranked where a line says nothing (`-r`).
    pub(crate) selection: Selection,
    pub(crate) defines: Vec<(BString, BString)>,
}

impl Loader {
    /// Reads everything. May block.
    pub(crate) fn load(&self, reason: Reason) -> Loaded {
        let mut loaded = Loaded {
            reason,
            began: SystemTime::now(),
            result: Ok(Configuration::default()),
            diagnostics: Vec::new(),
            incomplete: Vec::new(),
            unserved: Vec::new(),
            refused: Vec::new(),
            watch: Watch::default(),
        };
        let (mut files, mut directories) = (Vec::new(), Vec::new());
        match master::read(&self.maps, &self.request) {
            Ok(site) => {
                let points = self.points(&site, &mut loaded);
                (files, directories) = (site.files_read, site.directories_read);
                loaded.diagnostics.extend(site.diagnostics);
                loaded.result = Ok(Configuration {
                    points,
                    existing: Vec::new(),
                });
            }
            Err(miss) => loaded.result = Err(miss),
        }
        loaded.watch = self.maps.watch();
        // A directory that is not there yet is a name in the one above.
        loaded.watch.files.extend(files);
        loaded.watch.directories = directories;
        loaded
    }

    fn points(&self, site: &Site, loaded: &mut Loaded) -> Vec<Point> {
        let mut written = Vec::new();
        for point in &site.points {
            let mut options = point.options.clone();
            options.rank_by_default(self.selection);
            let binding = Arc::new(Binding {
                maps: point.maps.clone().into(),
                options,
                dialect: site.dialect.clone(),
                source: source_text(&point.maps),
                origin: point.origin.clone(),
            });
            match point.kind {
                MapKind::Indirect => {
                    let path = point.path.clone();
                    match self.listing(point, &binding, loaded) {
                        Some(listing) => written.push(Written {
                            origin: binding.origin.clone(),
                            point: Point {
                                path,
                                kind: TriggerKind::Indirect,
                                binding,
                                listing,
                            },
                        }),
                        None => loaded.unserved.push(Unserved {
                            path: Some(path),
                            binding,
                        }),
                    }
                }
                MapKind::Direct => {
                    let nothing: Arc<[BString]> = Arc::from([]);
                    let keys = self.direct_keys(point, &binding, loaded);
                    written.extend(keys.into_iter().map(|listed| Written {
                        origin: listed.origin,
                        point: Point {
                            path: listed.key,
                            kind: TriggerKind::Direct,
                            binding: binding.clone(),
                            listing: nothing.clone(),
                        },
                    }));
                }
            }
        }
        without_hidden(written, &mut loaded.refused)
    }

    fn direct_keys(
        &self,
        point: &SitePoint,
        binding: &Arc<Binding>,
        loaded: &mut Loaded,
    ) -> Vec<ListedKey> {
        let listing = self.keys(point, binding, true);
        if unserved(&listing, &point.maps) {
            loaded.unserved.push(Unserved {
                path: None,
                binding: binding.clone(),
            });
        }
        for (map, miss) in listing.incomplete {
            loaded.incomplete.push((point.path.clone(), map, miss));
        }
        listing.keys
    }

    /// The keys to show before they are mounted; `None` when no map is there at all, or can be
    /// read by this build: then no mount point is made, and what is in its place stays visible.
    fn listing(
        &self,
        point: &SitePoint,
        binding: &Binding,
        loaded: &mut Loaded,
    ) -> Option<Arc<[BString]>> {
        let browse = point.options.browse.unwrap_or(self.browse);
        let listing = self.keys(point, binding, browse);
        let missing = unserved(&listing, &point.maps);
        for (map, miss) in listing.incomplete {
            loaded.incomplete.push((point.path.clone(), map, miss));
        }
        if missing {
            return None;
        }
        Some(listing.keys.into_iter().map(|listed| listed.key).collect())
    }

    /// The state of a mount point's maps, and their keys if they are wanted: a map of a million
    /// keys is not listed for nothing.
    fn keys(&self, point: &SitePoint, binding: &Binding, wanted: bool) -> Listing {
        let mut defines = self.defines.clone();
        defines.extend(point.options.defines.iter().cloned());
        let context = LookupContext {
            kind: point.kind,
            dialect: &binding.dialect,
            requester: &Requester::default(),
            defines: &defines,
            mount_point: point.path.as_bstr(),
            deadline: None,
        };
        match wanted {
            true => self.maps.keys(&point.maps, &context),
            false => self.maps.incomplete(&point.maps, &context),
        }
    }
}

/// Whether no map is there at all, or can be read by this build.
fn unserved(listing: &Listing, maps: &[MapSpec]) -> bool {
    !listing.served && listing.incomplete.len() >= maps.len()
}

/// A mount point, and where it is written: its line of the master map or of the direct map.
struct Written {
    point: Point,
    origin: Origin,
}

/// A mount point that cannot be: a direct key above it would hide it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Refused {
    /// Absolute path.
    pub(crate) path: BString,
    /// Its map's name.
    pub(crate) map: BString,
    /// Why, with both lines.
    pub(crate) why: String,
}

/// Puts mount points in the order of their paths, of equal ones the first, and leaves out what
/// lies below a direct key: a trigger there would keep the key itself from ever being mounted,
/// and its mount would hide the trigger.
fn without_hidden(mut written: Vec<Written>, refused: &mut Vec<Refused>) -> Vec<Point> {
    if !written.is_sorted_by(|one, other| one.point.path < other.point.path) {
        written.sort_by(|one, other| one.point.path.cmp(&other.point.path));
        written.dedup_by(|one, other| one.point.path == other.point.path);
    }
    // Direct keys whose paths begin the present one's, the shortest first: parents are sorted
    // before their children, but `/a-b` comes between `/a` and `/a/b`.
    let mut above: Vec<(usize, Origin)> = Vec::new();
    let mut points: Vec<Point> = Vec::with_capacity(written.len());
    for Written { point, origin } in written {
        let path = |at: usize| &points[at].path;
        while above
            .last()
            .is_some_and(|(top, _)| !point.path.starts_with(path(*top)))
        {
            above.pop();
        }
        let hides = |(top, _): &&(usize, Origin)| point.path.get(path(*top).len()) == Some(&b'/');
        if let Some((top, line)) = above.iter().find(hides) {
            let top = path(*top);
            refused.push(Refused {
                why: format!("{origin}: the direct key {top} ({line}) would hide it"),
                map: point.binding.source.clone(),
                path: point.path,
            });
            continue;
        }
        if point.kind == TriggerKind::Direct {
            above.push((points.len(), origin));
        }
        points.push(point);
    }
    points
}

/// What the mount table shows as source of a mount point: its first map.
fn source_text(maps: &[MapSpec]) -> BString {
    let Some(map) = maps.first() else {
        return "piton".into();
    };
    match map.kind {
        Some(MapType::Hosts) => "-hosts".into(),
        Some(MapType::Passwd) => "-passwd".into(),
        Some(MapType::Snapshot) => "snapshot".into(),
        _ => map.name.clone(),
    }
}

#[cfg(test)]
mod tests {
    use piton_map::text::Position;

    use super::*;

    fn written(path: &str, kind: TriggerKind, line: u32) -> Written {
        let origin = Origin {
            file: "m".into(),
            position: Position { line, column: 1 },
        };
        let binding = Binding {
            maps: Arc::from([]),
            options: Default::default(),
            dialect: piton_map::dialect::Dialect::LINUX,
            source: "m".into(),
            origin: origin.clone(),
        };
        let point = Point {
            path: path.into(),
            kind,
            binding: Arc::new(binding),
            listing: Arc::from([]),
        };
        Written { point, origin }
    }

    #[test]
    fn what_a_direct_key_hides_is_refused_with_both_lines() {
        let (direct, indirect) = (TriggerKind::Direct, TriggerKind::Indirect);
        let all = vec![
            written("/a/b", direct, 1),
            written("/i/d", direct, 2),
            written("/a-b/c", direct, 3),
            written("/a", direct, 4),
            written("/a/b/c", indirect, 5),
            written("/i", indirect, 6),
            written("/a", indirect, 7),
        ];
        let mut refused = Vec::new();
        let points = without_hidden(all, &mut refused);
        let paths: Vec<_> = points.iter().map(|it| it.path.to_string()).collect();
        assert_eq!(paths, ["/a", "/a-b/c", "/i", "/i/d"]);
        assert_eq!(points[0].kind, direct, "the first of equal ones");
        let whys: Vec<_> = refused.iter().map(|it| it.why.as_str()).collect();
        assert_eq!(
            whys,
            [
                "m:1:1: the direct key /a (m:4:1) would hide it",
                "m:5:1: the direct key /a (m:4:1) would hide it"
            ]
        );
    }

    #[test]
    fn servers_are_ranked_as_the_daemon_was_told_where_a_line_says_nothing() {
        let loader = Loader {
            maps: Arc::new(Maps::new(piton_source::cache::Settings {
                root: Some("/nonexistent".into()),
                ..Default::default()
            })),
            request: MasterRequest {
                lines: vec!["/a /no.map".into(), "/b /no.map -w".into()],
                ..MasterRequest::default()
            },
            browse: false,
            selection: Selection::Random,
            defines: Vec::new(),
        };
        let unserved = loader.load(Reason::Start).unserved;
        let ranked = unserved.iter().map(|it| it.binding.options.selection);
        let expected = [Selection::Random, Selection::WeightOnly];
        assert_eq!(ranked.collect::<Vec<_>>(), expected);
    }
}
