//! The configuration: what shall be in place, compared with what is.

use alloc::boxed::Box;
use alloc::collections::BTreeMap;
use alloc::sync::Arc;
use alloc::vec::Vec;

use bstr::BString;
use piton_plan::step::{TriggerId, TriggerKind, TriggerSpec};

use crate::command::{Command, Note};
use crate::config::{Binding, Configuration, Point};
use crate::engine::Engine;
use crate::event::{Existing, ExistingMount, StepFailure};
use crate::mounting::new_trigger;
use crate::place::Place;
use crate::tree::{How, Tree};
use crate::trigger::{PointRole, Role, State, Trigger};

/// What a new configuration would change.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Difference {
    /// Mount points to be put in place.
    pub added: Vec<BString>,
    /// Mount points to be taken away.
    pub removed: Vec<BString>,
    /// Mount points that stay, with another map, option or listing.
    pub changed: Vec<BString>,
}

impl<T> Engine<T> {
    /// What `configuration` would change, without changing it.
    pub fn difference(&self, configuration: &Configuration) -> Difference {
        let mut difference = Difference::default();
        let mut wanted = BTreeMap::new();
        for point in &configuration.points {
            wanted.entry(&point.path).or_insert(point);
        }
        for (path, point) in &wanted {
            match self.points.get(*path).and_then(|id| self.triggers.get(id)) {
                Some(trigger) if !trigger.leaving() => {
                    let same_listing = matches!(&trigger.role,
                        Role::Point(role) if role.listing == point.listing);
                    if !same_listing
                        || !same(&trigger.binding, &point.binding, &trigger.spec, point)
                    {
                        difference.changed.push((*path).clone());
                    }
                }
                _ => difference.added.push((*path).clone()),
            }
        }
        for (path, id) in &self.points {
            let leaving = self
                .triggers
                .get(id)
                .is_none_or(|trigger| trigger.leaving());
            if !leaving && !wanted.contains_key(path) {
                difference.removed.push(path.clone());
            }
        }
        difference
    }

    /// Makes the mount points those of `configuration`; touches only what differs.
    pub(crate) fn configure(&mut self, configuration: Configuration) {
        if !self.running() {
            return;
        }
        self.negative.clear();
        let mut wanted: BTreeMap<BString, Point> = BTreeMap::new();
        for point in configuration.points {
            wanted.entry(point.path.clone()).or_insert(point);
        }
        let gone: Vec<TriggerId> = self
            .points
            .iter()
            .filter(|(path, _)| !wanted.contains_key(*path))
            .map(|(_, id)| *id)
            .collect();
        let mut existing: BTreeMap<BString, Existing> = configuration
            .existing
            .into_iter()
            .map(|found| (found.path.clone(), found))
            .collect();
        let (mut install, mut adopt) = (Vec::new(), Vec::new());
        for (path, point) in wanted {
            match self.points.get(&path).copied() {
                Some(id) => self.update(id, point),
                None => {
                    let found = existing
                        .remove(&path)
                        .filter(|found| found.kind == point.kind);
                    let spec = self.enter_point(&point);
                    match found {
                        Some(found) => {
                            self.adopt_mounts(spec.id, found.mounted, &mut adopt, spec);
                        }
                        None => install.push(spec),
                    }
                }
            }
        }
        self.leave(&gone);
        if !adopt.is_empty() {
            self.out.push(Command::Adopt { triggers: adopt });
        }
        if !install.is_empty() {
            self.out.push(Command::Install { triggers: install });
        }
    }

    /// Enters a mount point that is to be put in place.
    fn enter_point(&mut self, point: &Point) -> TriggerSpec {
        let id = self.new_trigger_id();
        let options = &point.binding.options;
        let spec = TriggerSpec {
            id,
            kind: point.kind,
            path: point.path.clone(),
            source: point.binding.source.clone(),
            timeout: self.timeout_of(&point.binding),
            strict_expire: options.strict_expire,
            mode: options.mode,
            propagation: options.propagation,
        };
        let role = PointRole {
            listing: point.listing.clone(),
            ..PointRole::default()
        };
        let trigger = new_trigger(spec.clone(), Role::Point(role), point.binding.clone());
        self.triggers.insert(id, trigger);
        self.points.insert(point.path.clone(), id);
        spec
    }

    /// Brings a mount point that stays up to date.
    fn update(&mut self, id: TriggerId, point: Point) {
        let timeout = self.timeout_of(&point.binding);
        let Some(trigger) = self.triggers.get_mut(&id) else {
            return;
        };
        let Role::Point(role) = &mut trigger.role else {
            return;
        };
        let replaced = trigger.spec.kind != point.kind
            || trigger.spec.strict_expire != point.binding.options.strict_expire;
        if trigger.state == State::Removing || replaced {
            role.leaving = true;
            role.next = Some(Box::new(point));
            return self.leave(&[id]);
        }
        role.leaving = false;
        role.next = None;
        if role.listing != point.listing {
            role.listing = point.listing.clone();
            let keys = point.listing.clone();
            self.out.push(Command::List { trigger: id, keys });
        }
        trigger.binding = point.binding;
        if trigger.spec.timeout != timeout {
            trigger.spec.timeout = timeout;
            self.set_timeout(id, timeout);
        }
    }

    fn set_timeout(&mut self, id: TriggerId, seconds: u32) {
        if let Some(trigger) = self.triggers.get_mut(&id) {
            trigger.least_timeout = seconds;
        }
        self.out.push(Command::SetTimeout {
            trigger: id,
            key: None,
            seconds,
        });
        if self.trees_of(id).next().is_some() {
            self.plan_round(id);
        }
    }

    /// Sends mount points on their way out.
    pub(crate) fn leave(&mut self, ids: &[TriggerId]) {
        let mut ready = Vec::new();
        for id in ids {
            let Some(trigger) = self.triggers.get_mut(id) else {
                continue;
            };
            if let Role::Point(role) = &mut trigger.role {
                role.leaving = true;
            }
            self.empty_out(*id);
            if let Some(spec) = self.removable(*id) {
                ready.push(spec);
            } else {
                self.plan_round(*id);
            }
        }
        self.remove(ready);
    }

    /// Begins to unmount everything in a trigger.
    pub(crate) fn empty_out(&mut self, id: TriggerId) {
        let places: Vec<Place> = self.trees_of(id).map(|(place, _)| place.clone()).collect();
        for place in places {
            if !self.working.contains_key(&place) {
                let deadline = self.now + self.settings.unmount_deadline_ms;
                self.take_down(&place, None, deadline, None);
            }
        }
    }

    /// A trigger on its way out may go when nothing is mounted in it any more.
    pub(crate) fn advance_leaving(&mut self, id: TriggerId) {
        if let Some(spec) = self.removable(id) {
            self.remove(alloc::vec![spec]);
        }
    }

    fn removable(&mut self, id: TriggerId) -> Option<TriggerSpec> {
        if !self.is_empty(id) {
            return None;
        }
        let trigger = self.triggers.get_mut(&id)?;
        if !trigger.leaving() || trigger.state != State::Ready {
            return None;
        }
        trigger.state = State::Removing;
        Some(trigger.spec.clone())
    }

    fn remove(&mut self, mut triggers: Vec<TriggerSpec>) {
        if triggers.is_empty() {
            return;
        }
        triggers.sort_by(|one, other| other.path.cmp(&one.path));
        self.out.push(Command::Remove { triggers });
    }

    /// Triggers were put in place, or could not be.
    pub(crate) fn installed(&mut self, results: Vec<(TriggerId, Result<(), StepFailure>)>) {
        for (id, result) in results {
            let Some(trigger) = self.triggers.get_mut(&id) else {
                continue;
            };
            let path = trigger.spec.path.clone();
            match result {
                Ok(()) => {
                    trigger.state = State::Ready;
                    self.note(Note::Installed { path });
                    self.show_listing(id);
                    self.plan_round_if_used(id);
                    self.advance_leaving(id);
                }
                Err(failure) => {
                    let next = self.forget_point(id);
                    self.note(Note::NotInstalled { path, failure });
                    self.install_next(next);
                }
            }
        }
    }

    fn show_listing(&mut self, id: TriggerId) {
        let Some(Trigger {
            role: Role::Point(role),
            ..
        }) = self.triggers.get(&id)
        else {
            return;
        };
        if !role.listing.is_empty() {
            let keys = role.listing.clone();
            self.out.push(Command::List { trigger: id, keys });
        }
    }

    fn plan_round_if_used(&mut self, id: TriggerId) {
        if self.trees_of(id).next().is_some() {
            self.plan_round(id);
        }
    }

    /// Triggers were taken away, or stay.
    pub(crate) fn removed(&mut self, results: Vec<(TriggerId, Result<(), StepFailure>)>) {
        for (id, result) in results {
            let Some(trigger) = self.triggers.get_mut(&id) else {
                continue;
            };
            let path = trigger.spec.path.clone();
            match result {
                Ok(()) => {
                    let next = self.forget_point(id);
                    self.note(Note::Removed { path });
                    self.install_next(next);
                }
                Err(failure) => {
                    trigger.state = State::Ready;
                    self.stays(id, &path, &failure.text);
                    self.plan_round(id);
                }
            }
        }
    }

    /// Forgets a mount point; returns what is to stand in its place.
    fn forget_point(&mut self, id: TriggerId) -> Option<Box<Point>> {
        let path = self.triggers.get(&id)?.spec.path.clone();
        let next = match &mut self.triggers.get_mut(&id)?.role {
            Role::Point(role) => role.next.take(),
            Role::Offset { .. } | Role::Submount { .. } => None,
        };
        let places: Vec<Place> = self.trees_of(id).map(|(place, _)| place.clone()).collect();
        for place in places {
            self.fell(&place);
        }
        self.drop_trigger(id);
        if self.points.get(&path) == Some(&id) {
            self.points.remove(&path);
        }
        next
    }

    fn install_next(&mut self, next: Option<Box<Point>>) {
        if let Some(point) = next
            && self.running()
        {
            let spec = self.enter_point(&point);
            self.out.push(Command::Install {
                triggers: alloc::vec![spec],
            });
        }
    }

    // -- taking over from an earlier life --------------------------------------------------

    /// Enters what is mounted in a trigger that exists already, and the offsets below it.
    fn adopt_mounts(
        &mut self,
        id: TriggerId,
        mounted: Vec<ExistingMount>,
        adopt: &mut Vec<TriggerSpec>,
        spec: TriggerSpec,
    ) {
        let own_directory = spec.kind == TriggerKind::Indirect;
        adopt.push(spec);
        for found in mounted {
            let place = Place {
                trigger: id,
                key: found.key,
            };
            let how = if found.covered {
                // Unmounting by program is right for all: umount(8) falls back to the call.
                How::Mount {
                    source: found.source,
                    host: None,
                    helper: true,
                }
            } else {
                How::Directory
            };
            let mut offsets = Vec::new();
            for below in found.offsets {
                let Some(binding) = self.triggers.get(&id).map(|it| it.binding.clone()) else {
                    continue;
                };
                let number = self.enter_offset(&place, &below, &binding);
                offsets.push(number);
                let Some(trigger) = self.triggers.get(&number) else {
                    continue;
                };
                let spec = trigger.spec.clone();
                self.adopt_mounts(number, below.mounted, adopt, spec);
            }
            let tree = Tree {
                target: found.target,
                how,
                own_directory,
                offsets,
                since: self.now,
                first: found.requester.clone(),
                last: found.requester,
                uses: 0,
                busy: None,
            };
            self.trees.insert(place, tree);
        }
    }

    fn enter_offset(
        &mut self,
        owner: &Place,
        found: &Existing,
        binding: &Arc<Binding>,
    ) -> TriggerId {
        let id = self.new_trigger_id();
        let spec = TriggerSpec {
            id,
            kind: TriggerKind::Offset,
            path: found.path.clone(),
            source: binding.source.clone(),
            timeout: self.timeout_of(binding),
            strict_expire: binding.options.strict_expire,
            mode: None,
            propagation: binding.options.propagation,
        };
        let role = Role::Offset {
            owner: owner.clone(),
            node: None,
        };
        self.triggers
            .insert(id, new_trigger(spec, role, binding.clone()));
        id
    }
}

fn same(one: &Binding, other: &Binding, spec: &TriggerSpec, point: &Point) -> bool {
    // The place in the file does not matter: a line moved is no change.
    let maps_same = one.maps.len() == other.maps.len()
        && one.maps.iter().zip(other.maps.iter()).all(|(left, right)| {
            (&left.kind, &left.format, &left.name, &left.arguments)
                == (&right.kind, &right.format, &right.name, &right.arguments)
        });
    maps_same
        && one.options == other.options
        && one.dialect == other.dialect
        && spec.kind == point.kind
}
