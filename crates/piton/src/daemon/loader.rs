//! Reading master map, direct maps and listings: what shall be in place.

use std::collections::{BTreeSet, HashSet};
use std::sync::Arc;

use bstr::{BStr, BString, ByteSlice};
use piton_engine::config::{Binding, Configuration, Point};
use piton_map::diagnostic::Diagnostic;
use piton_map::key::MapKind;
use piton_map::lookup::{MapSpec, MapType, Miss};
use piton_map::requester::Requester;
use piton_plan::step::TriggerKind;
use piton_source::cache::{Listing, Maps, Watch};
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
    /// The desired state, or why there is none.
    pub(crate) result: Result<Configuration, Miss>,
    /// What there is to say about the texts.
    pub(crate) diagnostics: Vec<Diagnostic>,
    /// Maps that are missing or cannot be read, with the mount point.
    pub(crate) incomplete: Vec<(BString, Arc<str>, Miss)>,
    /// Lines whose maps are all missing or cannot be read. What stands there already stays.
    pub(crate) unserved: Vec<Unserved>,
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
    pub(crate) defines: Vec<(BString, BString)>,
}

impl Loader {
    /// Reads everything. May block.
    pub(crate) fn load(&self, reason: Reason) -> Loaded {
        let mut loaded = Loaded {
            reason,
            result: Ok(Configuration::default()),
            diagnostics: Vec::new(),
            incomplete: Vec::new(),
            unserved: Vec::new(),
            watch: Watch::default(),
        };
        match master::read(&self.maps, &self.request) {
            Ok(site) => {
                let points = self.points(&site, &mut loaded);
                loaded.diagnostics.extend(site.diagnostics);
                loaded.result = Ok(Configuration {
                    points,
                    existing: Vec::new(),
                });
            }
            Err(miss) => loaded.result = Err(miss),
        }
        loaded.watch = self.maps.watch();
        loaded
    }

    fn points(&self, site: &Site, loaded: &mut Loaded) -> Vec<Point> {
        let mut points = Vec::new();
        let mut taken = BTreeSet::new();
        for point in &site.points {
            let binding = Arc::new(Binding {
                maps: point.maps.clone().into(),
                options: point.options.clone(),
                dialect: site.dialect.clone(),
                source: source_text(&point.maps),
                origin: point.origin.clone(),
            });
            match point.kind {
                MapKind::Indirect => {
                    let path = point.path.clone();
                    match self.listing(point, &binding, loaded) {
                        Some(listing) if taken.insert(path.clone()) => points.push(Point {
                            path,
                            kind: TriggerKind::Indirect,
                            binding,
                            listing,
                        }),
                        Some(_) => {}
                        None => loaded.unserved.push(Unserved {
                            path: Some(path),
                            binding,
                        }),
                    }
                }
                MapKind::Direct => {
                    for key in self.direct_keys(point, &binding, loaded) {
                        if taken.insert(key.clone()) {
                            points.push(Point {
                                path: key,
                                kind: TriggerKind::Direct,
                                binding: binding.clone(),
                                listing: Arc::from([]),
                            });
                        }
                    }
                }
            }
        }
        without_hidden(points)
    }

    fn direct_keys(
        &self,
        point: &SitePoint,
        binding: &Arc<Binding>,
        loaded: &mut Loaded,
    ) -> Vec<BString> {
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
        listing.keys.into_iter().map(|listed| listed.key).collect()
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

/// Leaves out what lies below a direct key: a trigger there would keep the key itself from ever
/// being mounted, and its mount would hide the trigger.
fn without_hidden(points: Vec<Point>) -> Vec<Point> {
    let direct: HashSet<BString> = points
        .iter()
        .filter(|point| point.kind == TriggerKind::Direct)
        .map(|point| point.path.clone())
        .collect();
    let above = |path: &BStr| {
        let mut ends = path.find_iter("/").skip(1);
        ends.find_map(|end| direct.get(path[..end].as_bstr()))
    };
    let mut points = points;
    points.retain(|point| match above(point.path.as_ref()) {
        Some(above) => {
            tracing::warn!(path = %point.path, "no mount point: the direct key {above} hides it");
            false
        }
        None => true,
    });
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
        _ => map.name.clone(),
    }
}
