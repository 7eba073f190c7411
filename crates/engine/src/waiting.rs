//! Mount points that have to wait until something else is out of the way.
//!
//! A mount point cannot be put where one on its way out still stands, nor above another (it would
//! hide it) nor inside a key that is mounted. So `/a` that becomes `/a/b`, and `/a/b` that becomes
//! `/a`, wait for each other in the right order, and for whatever is busy there.

use alloc::collections::BTreeMap;
use alloc::vec::Vec;
use core::mem;

use bstr::{BStr, BString, ByteSlice};
use piton_path::ancestors;
use piton_plan::step::{TriggerId, TriggerKind};

use crate::command::Command;
use crate::config::Point;
use crate::engine::Engine;
use crate::place::Place;
use crate::trigger::{Role, Trigger};
use crate::unmounting::Wish;

impl<T> Engine<T> {
    /// Lets new mount points wait for their turn. Those that stand below one of them go and are
    /// put back after it.
    pub(crate) fn put_in_line(&mut self, points: Vec<Point>, gone: &mut Vec<TriggerId>) {
        for point in points {
            let displaced: Vec<TriggerId> = below(&self.points, &point.path)
                .map(|(_, id)| *id)
                .filter(|id| self.triggers.get(id).is_some_and(|it| !it.leaving()))
                .collect();
            for id in &displaced {
                if let Some(back) = self.triggers.get(id).and_then(as_point) {
                    self.waiting.insert(back.path.clone(), back);
                }
            }
            self.mark_leaving(&displaced);
            gone.extend(displaced);
            self.waiting.insert(point.path.clone(), point);
        }
    }

    /// Whether a mount point that goes and comes back must make room for one above it.
    pub(crate) fn is_displaced(&self, path: &BString) -> bool {
        ancestors(path.as_bstr()).any(|above| self.waiting.contains_key(above))
    }

    /// Puts mount points in place that nothing is in the way of any more, parents first.
    pub(crate) fn advance_waiting(&mut self) {
        if self.waiting.is_empty() || !self.running() {
            return;
        }
        let fence = self.next_trigger_id();
        let mut install = Vec::new();
        let mut rest = BTreeMap::new();
        for (path, point) in mem::take(&mut self.waiting) {
            if self.is_blocked(&path, fence, &rest) {
                rest.insert(path, point);
            } else {
                install.push(self.enter_point(&point));
            }
        }
        self.waiting = rest;
        if !install.is_empty() {
            self.out.push(Command::Install { triggers: install });
        }
    }

    /// Whether something is in the way of a mount point. `rest`: those above it that wait
    /// themselves; triggers from `fence` on are put in place before it.
    fn is_blocked(
        &self,
        path: &BString,
        fence: TriggerId,
        rest: &BTreeMap<BString, Point>,
    ) -> bool {
        if self.points.contains_key(path) || below(&self.points, path).next().is_some() {
            return true;
        }
        let mut above = ancestors(path.as_bstr());
        above.any(|above| {
            let blocks = |id: &TriggerId| {
                let trigger = self.triggers.get(id);
                trigger.is_some_and(|it| it.leaving() || (it.moving() && *id < fence))
            };
            rest.contains_key(above)
                || self.points.get(above).is_some_and(blocks)
                || self.key_in_the_way(above, path).is_some()
        })
    }

    /// The key of the indirect mount point at `above` that `path` lies in, if something is
    /// mounted or being done there.
    pub(crate) fn key_in_the_way(&self, above: &BStr, path: &BString) -> Option<Place> {
        let id = self.points.get(above)?;
        let trigger = self.triggers.get(id)?;
        if trigger.spec.kind != TriggerKind::Indirect {
            return None;
        }
        let rest = path.get(above.len() + 1..)?;
        let key = rest.split_str("/").next()?;
        let place = Place {
            trigger: *id,
            key: key.into(),
        };
        let taken = self.trees.contains_key(&place) || self.working.contains_key(&place);
        taken.then_some(place)
    }

    /// Begins to unmount the keys that new mount points are to stand in.
    pub(crate) fn clear_the_way(&mut self) {
        for tree in self.trees.values_mut() {
            tree.in_the_way = false;
        }
        let mut places: Vec<Place> = Vec::new();
        for path in self.waiting.keys() {
            let in_the_way = |above| self.key_in_the_way(above, path);
            places.extend(ancestors(path.as_bstr()).filter_map(in_the_way));
        }
        places.sort();
        places.dedup();
        for place in places {
            if let Some(tree) = self.trees.get_mut(&place) {
                tree.in_the_way = true;
            }
            self.replan_round(place.trigger);
            if self.trees.contains_key(&place) {
                self.take_down(&place, Wish::default());
            }
        }
    }

    /// Something ended at a place: perhaps a mount point waits for just that.
    pub(crate) fn stir(&mut self, place: &Place) {
        if self.waiting.is_empty() {
            return;
        }
        let path = self.path_of(place);
        let mut from = self.waiting.range(path.clone()..);
        let known = self.triggers.contains_key(&place.trigger);
        let near = from.next().is_some_and(|(next, _)| next.starts_with(&path));
        self.stirred |= near || !known;
    }

    /// Whether a mount point waits although nothing is in its way.
    pub(crate) fn waits_for_nothing(&self) -> Option<&BString> {
        let fence = self.next_trigger_id();
        let blocked = |path: &BString| {
            let waits = |above| self.waiting.contains_key(above);
            ancestors(path.as_bstr()).any(waits) || self.is_blocked(path, fence, &BTreeMap::new())
        };
        self.waiting.keys().find(|path| !blocked(path))
    }
}

/// A mount point as the configuration would name it.
fn as_point(trigger: &Trigger) -> Option<Point> {
    let Role::Point(role) = &trigger.role else {
        return None;
    };
    Some(Point {
        path: trigger.spec.path.clone(),
        kind: trigger.spec.kind,
        binding: trigger.binding.clone(),
        listing: role.listing.clone(),
    })
}

/// What lies below a path.
pub(crate) fn below<'m, V>(
    map: &'m BTreeMap<BString, V>,
    path: &BString,
) -> impl Iterator<Item = (&'m BString, &'m V)> {
    let mut from = path.clone();
    if from != "/" {
        from.push(b'/');
    }
    let prefix = from.clone();
    map.range(from..)
        .take_while(move |(other, _)| other.starts_with(&prefix))
        .filter(|(other, _)| *other != "/")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_lies_below() {
        let paths = ["/", "/a", "/a-b", "/a/b", "/a/b/c", "/a0", "/b"];
        let map: BTreeMap<BString, ()> = paths.map(|it| (it.into(), ())).into();
        let names = |path: &str| -> Vec<&BString> {
            below(&map, &path.into()).map(|(path, ())| path).collect()
        };
        assert_eq!(names("/a"), ["/a/b", "/a/b/c"]);
        assert_eq!(names("/").len(), 6);
        assert!(names("/b").is_empty());
    }
}
