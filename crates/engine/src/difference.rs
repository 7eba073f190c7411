//! What a new configuration would change, and what of the last one is still to come.

use alloc::borrow::ToOwned;
use alloc::collections::BTreeMap;
use alloc::format;
use alloc::string::String;
use alloc::sync::Arc;
use alloc::vec::Vec;

use bstr::{BString, ByteSlice};
use piton_path::ancestors;
use piton_plan::step::{TriggerId, TriggerKind};

use crate::config::{Configuration, Point};
use crate::engine::Engine;
use crate::reload::{SameLine, in_order, replaced, unchanged};
use crate::trigger::{Role, State, Trigger};
use crate::waiting::below;

/// What a new configuration would change.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Difference {
    /// Mount points to be put in place.
    pub added: Vec<BString>,
    /// Mount points to be taken away.
    pub removed: Vec<BString>,
    /// Mount points that stay, with another map, option or listing: what differs, in words.
    pub changed: Vec<(BString, String)>,
    /// What is mounted in the way of a change: it waits until all of that is unmounted.
    pub waits: Vec<(BString, Vec<BString>)>,
}

/// A change of the last configuration that still waits for something.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pending {
    /// Absolute path of the mount point.
    pub path: BString,
    /// `removal`, `replacement` or `installation`.
    pub what: &'static str,
    /// Its map's name: the new one's where there is one.
    pub map: BString,
    /// The line of the master map.
    pub origin: Arc<str>,
    /// What is mounted in the way, or the mount points that are.
    pub waits_for: Vec<BString>,
}

impl<T> Engine<T> {
    /// What `configuration` would change, without changing it.
    pub fn difference(&self, configuration: &Configuration) -> Difference {
        let mut difference = Difference::default();
        let points: Vec<&Point> = configuration.points.iter().collect();
        let wanted = in_order(points, |point| &point.path);
        let mut same_line = SameLine::default();
        // What must go, and what waits for room.
        let mut leaving: BTreeMap<BString, TriggerId> = BTreeMap::new();
        let mut coming: Vec<&BString> = Vec::new();
        let mut at = wanted.iter().copied().peekable();
        for (path, id) in &self.points {
            while let Some(point) = at.next_if(|point| point.path < *path) {
                difference.added.push(point.path.clone());
                coming.push(&point.path);
            }
            let Some(trigger) = self.triggers.get(id) else {
                continue;
            };
            let point = at.next_if(|point| point.path == *path);
            match point {
                None if trigger.leaving() => {
                    leaving.insert(path.clone(), *id);
                }
                None => {
                    difference.removed.push(path.clone());
                    leaving.insert(path.clone(), *id);
                }
                Some(point) if unchanged(trigger, point, &mut same_line) => {}
                Some(point) => {
                    match trigger.leaving() && !self.waiting.contains_key(path) {
                        true => difference.added.push(path.clone()),
                        false => {
                            let what = self.what_differs(trigger, point);
                            difference.changed.push((path.clone(), what));
                        }
                    }
                    if replaced(&trigger.spec, point) {
                        leaving.insert(path.clone(), *id);
                        coming.push(path);
                    }
                }
            }
        }
        for point in at {
            difference.added.push(point.path.clone());
            coming.push(&point.path);
        }
        self.displace(&coming, &mut leaving, &mut difference);
        self.find_waits(&coming, &leaving, &mut difference);
        difference
    }

    /// What stands below a new mount point is taken away and put back.
    fn displace(
        &self,
        coming: &[&BString],
        leaving: &mut BTreeMap<BString, TriggerId>,
        difference: &mut Difference,
    ) {
        for above in coming.iter().filter(|it| !self.points.contains_key(**it)) {
            for (path, id) in below(&self.points, above) {
                if leaving.insert(path.clone(), *id).is_none() {
                    let why = format!("put back after {above}");
                    difference.changed.push((path.clone(), why));
                }
            }
        }
    }

    fn find_waits(
        &self,
        coming: &[&BString],
        leaving: &BTreeMap<BString, TriggerId>,
        difference: &mut Difference,
    ) {
        let mut waits: BTreeMap<BString, Vec<BString>> = BTreeMap::new();
        for (path, id) in leaving {
            let mounts = self.mounts_in(*id);
            let inner = below(leaving, path).flat_map(|(_, id)| self.mounts_in(*id));
            waits.insert(path.clone(), mounts.into_iter().chain(inner).collect());
        }
        for path in coming {
            let mut mounts: Vec<BString> = waits.remove(*path).unwrap_or_default();
            for (_, id) in below(leaving, path) {
                mounts.extend(self.mounts_in(*id));
            }
            for above in ancestors(path.as_bstr()) {
                mounts.extend(waits.get(above).into_iter().flatten().cloned());
                let place = self.key_in_the_way(above, path);
                let tree = place.and_then(|place| self.trees.get(&place));
                mounts.extend(tree.map(|tree| tree.target.clone()));
            }
            mounts.sort();
            mounts.dedup();
            waits.insert((*path).clone(), mounts);
        }
        waits.retain(|_, mounts| !mounts.is_empty());
        difference.waits = waits.into_iter().collect();
    }

    /// What is mounted in a mount point, at any depth.
    fn mounts_in(&self, id: TriggerId) -> Vec<BString> {
        let mut mounts = Vec::new();
        let mut triggers = alloc::vec![id];
        while let Some(id) = triggers.pop() {
            for (_, tree) in self.trees_of(id) {
                mounts.push(tree.target.clone());
                triggers.extend(tree.triggers());
            }
        }
        mounts
    }

    fn what_differs(&self, trigger: &Trigger, point: &Point) -> String {
        let kind = |kind: TriggerKind| match kind {
            TriggerKind::Indirect => "indirect",
            TriggerKind::Direct | TriggerKind::Offset => "direct",
        };
        let (old, new) = (&trigger.binding, &point.binding);
        let (before, after) = (self.timeout_of(old), self.timeout_of(new));
        let mut parts: Vec<String> = Vec::new();
        if trigger.spec.kind != point.kind {
            let (before, after) = (kind(trigger.spec.kind), kind(point.kind));
            parts.push(format!("{before} to {after}"));
        }
        if old.source != new.source {
            parts.push(format!("map {} to {}", old.source, new.source));
        } else if old.maps != new.maps {
            parts.push("maps".to_owned());
        }
        if before != after {
            parts.push(format!("timeout {before} to {after}"));
        }
        let mut rest = new.options.clone();
        rest.timeout = old.options.timeout;
        if old.options != rest {
            parts.push("options".to_owned());
        }
        if matches!(&trigger.role, Role::Point(role) if role.listing != point.listing) {
            parts.push("listed keys".to_owned());
        }
        if parts.is_empty() {
            parts.push("wanted again".to_owned());
        }
        parts.join(", ")
    }

    /// Whether the front end is putting mount points in place, taking them over or taking them away
    /// at this moment. What must wait until something is unmounted is not being moved.
    pub fn moving(&self) -> bool {
        let mut points = self.points.values().filter_map(|id| self.triggers.get(id));
        points.any(Trigger::moving)
    }

    /// How many mount points of the configuration are in place.
    pub fn points_in_place(&self) -> usize {
        let points = self.points.values().filter_map(|id| self.triggers.get(id));
        let stays = |it: &&Trigger| it.state == State::Ready && !it.leaving();
        points.filter(stays).count()
    }

    /// Whether no mount point is there, on its way, or wanted.
    pub fn has_no_points(&self) -> bool {
        self.points.is_empty() && self.waiting.is_empty()
    }

    /// Whether mount points are being put in place, emptied or taken away at this moment.
    pub fn changing(&self) -> bool {
        self.moving()
            || self.jobs.values().any(|job| {
                let waited_for = self.trees.get(&job.place).is_some_and(|it| it.in_the_way);
                !job.only_asks() && (waited_for || self.in_leaving(job.place.trigger))
            })
    }

    /// Whether a trigger belongs to a mount point on its way out.
    fn in_leaving(&self, mut id: TriggerId) -> bool {
        while let Some(trigger) = self.triggers.get(&id) {
            match trigger.owner() {
                Some(owner) => id = owner.trigger,
                None => return trigger.leaving(),
            }
        }
        false
    }

    /// The changes of the last configuration that still wait.
    pub fn pending(&self) -> Vec<Pending> {
        let mut pending = Vec::new();
        for (path, id) in &self.points {
            let Some(trigger) = self.triggers.get(id).filter(|it| it.leaving()) else {
                continue;
            };
            let next = self.waiting.get(path);
            let binding = next.map_or(&trigger.binding, |next| &next.binding);
            let mut waits_for = self.mounts_in(*id);
            waits_for.extend(below(&self.points, path).map(|(path, _)| path.clone()));
            pending.push(Pending {
                path: path.clone(),
                what: match next {
                    Some(_) => "replacement",
                    None => "removal",
                },
                map: binding.source.clone(),
                origin: format!("{}", binding.origin).into(),
                waits_for,
            });
        }
        for (path, point) in &self.waiting {
            if self.points.contains_key(path) {
                continue;
            }
            pending.push(Pending {
                path: path.clone(),
                what: "installation",
                map: point.binding.source.clone(),
                origin: format!("{}", point.binding.origin).into(),
                waits_for: self.waits_for(path),
            });
        }
        pending
    }

    /// What a mount point that is to be put in place waits for.
    fn waits_for(&self, path: &BString) -> Vec<BString> {
        let mut waits_for: Vec<BString> = below(&self.points, path)
            .map(|(path, _)| path.clone())
            .collect();
        for above in ancestors(path.as_bstr()) {
            let leaving = |id: &TriggerId| self.triggers.get(id).is_some_and(Trigger::leaving);
            if self.waiting.contains_key(above) || self.points.get(above).is_some_and(leaving) {
                waits_for.push(above.into());
            }
            let place = self.key_in_the_way(above, path);
            let tree = place.and_then(|place| self.trees.get(&place));
            waits_for.extend(tree.map(|tree| tree.target.clone()));
        }
        waits_for
    }
}
