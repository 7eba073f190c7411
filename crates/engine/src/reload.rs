//! The configuration: what shall be in place, compared with what is.

use alloc::boxed::Box;
use alloc::collections::BTreeMap;
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::cmp::{Ordering, Reverse};
use core::mem;

use bstr::{BString, ByteSlice};
use piton_map::dialect::Dialect;
use piton_map::options::PointOptions;
use piton_map::text::{Origin, Position};
use piton_path::ancestors;
use piton_plan::step::{TriggerId, TriggerKind, TriggerSpec};

use crate::cause::{Cause, Errno};
use crate::command::{Command, Note};
use crate::config::{Binding, Configuration, Point};
use crate::engine::Engine;
use crate::event::{Existing, ExistingMount, StepFailure};
use crate::mounting::new_trigger;
use crate::place::Place;
use crate::sharing::Share;
use crate::tree::{How, Tree};
use crate::trigger::{PointRole, Role, State, Trigger};
use crate::unmounting::{Wish, not_there};
use crate::waiting::below;

impl<T> Engine<T> {
    /// Makes the mount points those of `configuration`; touches only what differs.
    pub(crate) fn configure(&mut self, configuration: Configuration) {
        if !self.running() {
            return;
        }
        self.negative.clear();
        self.forgive_servers();
        self.waiting.clear();
        let Sorted {
            fresh,
            changed,
            mut gone,
        } = self.sort(configuration.points);
        self.mark_leaving(&gone);
        let mut existing: BTreeMap<BString, Existing> = configuration
            .existing
            .into_iter()
            .filter(|found| !self.points.contains_key(&found.path))
            .map(|found| (found.path.clone(), found))
            .collect();
        let mut adopt = Vec::new();
        let mut install = Vec::new();
        for point in fresh {
            match existing.remove(&point.path) {
                Some(found) => self.take_over(found, Some(point), &mut adopt),
                None => install.push(point),
            }
        }
        for found in existing.into_values() {
            self.take_over(found, None, &mut adopt);
        }
        for (id, point) in changed {
            if self.update(id, point) {
                gone.push(id);
            }
        }
        self.put_in_line(install, &mut gone);
        gone.sort_by_cached_key(|id| Reverse(self.triggers.get(id).map(|it| it.spec.path.clone())));
        self.leave(&gone);
        if !adopt.is_empty() {
            self.out.push(Command::Adopt { triggers: adopt });
        }
        self.clear_the_way();
        self.advance_waiting();
    }

    /// Compares what is wanted with what is there. What is the same is done with.
    fn sort(&mut self, points: Vec<Point>) -> Sorted {
        let mut wanted = in_order(points, |point| &point.path).into_iter().peekable();
        let mut sorted = Sorted::default();
        let mut same_line = SameLine::default();
        for id in self.points.values() {
            let Some(trigger) = self.triggers.get_mut(id) else {
                continue;
            };
            let path = &trigger.spec.path;
            let mut order = Ordering::Greater;
            while let Some(point) = wanted.next_if(|point| {
                order = point.path.cmp(path);
                order == Ordering::Less
            }) {
                sorted.fresh.push(point);
            }
            // Of thousands each is compared once.
            match wanted.next_if(|_| order == Ordering::Equal) {
                Some(point) if unchanged(trigger, &point, &mut same_line) => {
                    trigger.binding = point.binding;
                }
                Some(point) => sorted.changed.push((*id, point)),
                None => sorted.gone.push(*id),
            }
        }
        sorted.fresh.extend(wanted);
        sorted
    }

    /// Enters a mount point that is to be put in place.
    pub(crate) fn enter_point(&mut self, point: &Point) -> TriggerSpec {
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

    /// Brings a mount point that stays up to date; returns whether it must go first, since the
    /// front end cannot change it in place.
    fn update(&mut self, id: TriggerId, point: Point) -> bool {
        let timeout = self.timeout_of(&point.binding);
        let Some(trigger) = self.triggers.get_mut(&id) else {
            return false;
        };
        let same_kind = trigger.spec.kind == point.kind;
        if trigger.state == State::Removing || replaced(&trigger.spec, &point) {
            if same_kind {
                // What is mounted from now on is mounted by the new line.
                trigger.binding = point.binding.clone();
            }
            self.waiting.insert(point.path.clone(), point);
            return true;
        }
        let Role::Point(role) = &mut trigger.role else {
            return false;
        };
        role.leaving = false;
        let list = role.listing != point.listing;
        role.listing = point.listing.clone();
        trigger.binding = point.binding;
        let changed = trigger.spec.timeout != timeout;
        trigger.spec.timeout = timeout;
        let moving = trigger.moving();
        trigger.timeout_changed |= changed && moving;
        // What is still being put in place gets both when it is there.
        if list && !moving {
            let keys = point.listing;
            self.out.push(Command::List { trigger: id, keys });
        }
        if changed && !moving {
            self.set_timeout(id);
        }
        false
    }

    /// Tells the front end a trigger's idle time.
    fn set_timeout(&mut self, id: TriggerId) {
        self.renew_least_timeout(id);
        let Some(trigger) = self.triggers.get_mut(&id) else {
            return;
        };
        trigger.timeout_changed = false;
        let seconds = trigger.spec.timeout;
        self.out.push(Command::SetTimeout {
            trigger: id,
            key: None,
            seconds,
        });
        self.plan_round_if_used(id);
    }

    /// Says of mount points that they are on their way out.
    pub(crate) fn mark_leaving(&mut self, ids: &[TriggerId]) {
        for id in ids {
            if let Some(trigger) = self.triggers.get_mut(id)
                && let Role::Point(role) = &mut trigger.role
            {
                role.leaving = true;
            }
        }
    }

    /// Sends mount points on their way out, in this order: children before parents.
    pub(crate) fn leave(&mut self, ids: &[TriggerId]) {
        self.mark_leaving(ids);
        let mut ready = Vec::new();
        for id in ids {
            self.empty_out(*id);
            if let Some(spec) = self.removable(*id) {
                ready.push(spec);
            } else {
                self.replan_round(*id);
            }
        }
        self.remove(ready);
    }

    /// Begins to unmount everything in a trigger.
    pub(crate) fn empty_out(&mut self, id: TriggerId) {
        let places: Vec<Place> = self.trees_of(id).map(|(place, _)| place.clone()).collect();
        for place in places {
            self.take_down(&place, Wish::default());
        }
    }

    /// A trigger on its way out may go when nothing is mounted in it any more.
    pub(crate) fn advance_leaving(&mut self, id: TriggerId) {
        self.remove_leaving(&[id]);
    }

    /// Takes away those of the triggers that are on their way out and empty; returns whether
    /// there was any.
    pub(crate) fn remove_leaving(&mut self, ids: &[TriggerId]) -> bool {
        let ready: Vec<TriggerSpec> = ids.iter().filter_map(|id| self.removable(*id)).collect();
        let any = !ready.is_empty();
        self.remove(ready);
        any
    }

    fn removable(&mut self, id: TriggerId) -> Option<TriggerSpec> {
        if !self.is_empty(id) {
            return None;
        }
        let trigger = self.triggers.get(&id)?;
        if !trigger.leaving() || trigger.state != State::Ready {
            return None;
        }
        if self.something_stands_below(id) {
            return None;
        }
        let trigger = self.triggers.get_mut(&id)?;
        trigger.state = State::Removing;
        Some(trigger.spec.clone())
    }

    /// Whether a mount point lies below another one and is not being taken away yet.
    fn something_stands_below(&self, id: TriggerId) -> bool {
        let Some(path) = self.triggers.get(&id).map(|it| &it.spec.path) else {
            return false;
        };
        let removing = |id: &TriggerId| {
            let trigger = self.triggers.get(id);
            trigger.is_none_or(|trigger| trigger.state == State::Removing)
        };
        below(&self.points, path).any(|(_, id)| !removing(id))
    }

    fn remove(&mut self, mut triggers: Vec<TriggerSpec>) {
        if triggers.is_empty() {
            return;
        }
        triggers.sort_by(|one, other| other.path.cmp(&one.path));
        self.out.push(Command::Remove { triggers });
    }

    /// Triggers were put in place or taken over, or could not be.
    pub(crate) fn installed(&mut self, results: Vec<(TriggerId, Result<(), StepFailure>)>) {
        let ids: Vec<TriggerId> = results.iter().map(|(id, _)| *id).collect();
        for (id, result) in results {
            let Some(trigger) = self.triggers.get(&id) else {
                continue;
            };
            let (adopted, is_point) = match trigger.state {
                State::Adopting => (true, matches!(trigger.role, Role::Point(_))),
                State::Installing if matches!(trigger.role, Role::Point(_)) => (false, true),
                // Offsets and submounts are put in place by their entry's steps.
                State::Installing | State::Ready | State::Removing => continue,
            };
            match (result, adopted && is_point) {
                (Ok(()), _) => self.in_place(id, is_point),
                (Err(failure), true) => self.install_anew(id, failure),
                (Err(failure), false) => self.not_in_place(id, failure),
            }
        }
        self.stirred = true;
        // Only now: what is below is in place as well.
        for id in ids {
            let trigger = self.triggers.get(&id);
            if trigger.is_some_and(|it| it.leaving() && it.state == State::Ready) {
                self.empty_out(id);
                self.advance_leaving(id);
                self.plan_round(id);
            }
        }
    }

    fn in_place(&mut self, id: TriggerId, is_point: bool) {
        let Some(trigger) = self.triggers.get_mut(&id) else {
            return;
        };
        trigger.state = State::Ready;
        let timeout_changed = trigger.timeout_changed;
        if is_point {
            let path = trigger.spec.path.clone();
            self.note(Note::Installed { path });
            self.show_listing(id);
        }
        if timeout_changed {
            self.set_timeout(id);
        }
        self.plan_round_if_used(id);
    }

    /// A mount point of an earlier life could not be taken over: a new one is put there, unless
    /// it is not wanted any more.
    fn install_anew(&mut self, id: TriggerId, failure: StepFailure) {
        self.fell_all(id);
        let Some(trigger) = self.triggers.get_mut(&id) else {
            return;
        };
        if trigger.leaving() {
            return self.not_in_place(id, failure);
        }
        trigger.state = State::Installing;
        let spec = trigger.spec.clone();
        let path = spec.path.clone();
        self.note(Note::NotInstalled { path, failure });
        self.out.push(Command::Install {
            triggers: alloc::vec![spec],
        });
    }

    fn not_in_place(&mut self, id: TriggerId, failure: StepFailure) {
        let Some(trigger) = self.triggers.get(&id) else {
            return;
        };
        let path = trigger.spec.path.clone();
        if let Some(owner) = trigger.owner().cloned() {
            self.lose_offset(&owner, id, &failure);
        } else {
            self.forget_point(id);
        }
        self.note(Note::NotInstalled { path, failure });
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

    /// The keys of a mount point were listed anew.
    pub(crate) fn listed(&mut self, path: &BString, listing: Arc<[BString]>) {
        let Some(&id) = self.points.get(path) else {
            return;
        };
        if let Some(trigger) = self.triggers.get_mut(&id)
            && let Role::Point(role) = &mut trigger.role
            && role.listing != listing
        {
            role.listing = listing.clone();
            // What is still being put in place gets it when it is there.
            if trigger.state == State::Ready {
                self.out.push(Command::List {
                    trigger: id,
                    keys: listing,
                });
            }
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
            if trigger.state != State::Removing {
                continue;
            }
            match result {
                Err(failure) if !not_there(failure.errno) => self.not_removed(id, &failure),
                // Gone, by us or by hand.
                _ => {
                    let path = trigger.spec.path.clone();
                    self.forget_point(id);
                    self.advance_above(&path);
                    self.note(Note::Removed { path });
                }
            }
        }
    }

    /// A mount point could not be taken away. If it is wanted again by now, it just stays.
    fn not_removed(&mut self, id: TriggerId, failure: &StepFailure) {
        let running = self.running();
        let Some(trigger) = self.triggers.get_mut(&id) else {
            return;
        };
        trigger.state = State::Ready;
        let path = trigger.spec.path.clone();
        let next = self.waiting.get(&path);
        if running
            && next.is_some_and(|next| !replaced(&trigger.spec, next))
            && !self.is_displaced(&path)
            && let Some(next) = self.waiting.remove(&path)
        {
            self.update(id, next);
            self.stirred = true;
            return;
        }
        self.stays(id, &path, failure);
        self.plan_round(id);
    }

    /// Forgets a mount point.
    fn forget_point(&mut self, id: TriggerId) {
        let Some(path) = self.triggers.get(&id).map(|it| it.spec.path.clone()) else {
            return;
        };
        self.drop_trigger(id);
        if self.points.get(&path) == Some(&id) {
            self.points.remove(&path);
        }
        self.stirred = true;
    }

    /// A mount point is gone: those above it that are on their way out may go.
    fn advance_above(&mut self, path: &BString) {
        let above: Vec<TriggerId> = ancestors(path.as_bstr())
            .filter_map(|above| self.points.get(above).copied())
            .collect();
        for id in above.into_iter().rev() {
            self.advance_leaving(id);
        }
    }

    // -- taking over from an earlier life --------------------------------------------------

    /// Takes over a trigger that exists already. `wanted` is what shall stand there: if that is
    /// nothing, or something else, the trigger goes as soon as nothing in it is used.
    fn take_over(&mut self, found: Existing, wanted: Option<Point>, adopt: &mut Vec<TriggerSpec>) {
        let stays = wanted.as_ref().is_some_and(|it| it.kind == found.kind);
        let point = match &wanted {
            Some(wanted) => Point {
                kind: found.kind,
                ..wanted.clone()
            },
            None => unwanted(&found),
        };
        let spec = self.enter_point(&point);
        let id = spec.id;
        if !stays
            && let Some(trigger) = self.triggers.get_mut(&id)
            && let Role::Point(role) = &mut trigger.role
        {
            role.leaving = true;
            if let Some(wanted) = wanted {
                self.waiting.insert(wanted.path.clone(), wanted);
            }
        }
        self.adopt_mounts(spec, found.mounted, adopt);
    }

    /// Enters what is mounted in a trigger that exists already, and the triggers below it.
    fn adopt_mounts(
        &mut self,
        spec: TriggerSpec,
        mounted: Vec<ExistingMount>,
        adopt: &mut Vec<TriggerSpec>,
    ) {
        let (id, kind) = (spec.id, spec.kind);
        let part = self.is_part(id);
        let Some(trigger) = self.triggers.get_mut(&id) else {
            return;
        };
        if part {
            trigger.state = State::Ready;
        } else {
            adopt.push(spec);
            trigger.state = State::Adopting;
        }
        let binding = trigger.binding.clone();
        for mut found in mounted {
            let key = match kind {
                TriggerKind::Indirect => mem::take(&mut found.key),
                TriggerKind::Direct | TriggerKind::Offset => BString::default(),
            };
            let place = Place { trigger: id, key };
            let share = found.link.as_ref().and_then(Share::of_link);
            if let Some(share) = &share {
                self.use_share(&place, share);
            }
            let mut how = match found.covered {
                _ if found.link.is_some() => How::Symlink {
                    to: found.link.take().unwrap_or_default(),
                },
                // Unmounting by program is right for all: umount(8) falls back to the call.
                true => How::Mount {
                    source: mem::take(&mut found.source),
                    host: found.server.as_ref().map(|it| it.host.clone()),
                    served: self.served_as_found(&found).map(Box::new),
                    helper: true,
                },
                false => How::Directory,
            };
            let mut offsets = Vec::new();
            let directories = match found.covered {
                true => Vec::new(),
                false => found.offsets.iter().map(|it| it.path.clone()).collect(),
            };
            for below in mem::take(&mut found.offsets) {
                let spec = self.enter_below(&place, &below, &binding);
                if spec.kind == TriggerKind::Indirect {
                    how = How::Submount(spec.id);
                } else {
                    offsets.push(spec.id);
                }
                self.adopt_mounts(spec, below.mounted, adopt);
            }
            let own_directory = self.makes_directory(kind);
            let unfinished = || {
                let why = "the daemon ended before all of it was mounted or unmounted";
                Cause::Mount(Errno::IO, why.into())
            };
            let mut tree = Tree {
                target: found.target,
                how,
                own_directory,
                offsets,
                directories,
                since: self.now,
                first: found.requester.clone(),
                last: found.requester,
                uses: 0,
                busy: None,
                timeout: None,
                broken: (!found.whole).then(unfinished),
                replicas: None,
                read_only: found.read_only,
                stuck: None,
                hurried: false,
                unfinished: !found.whole,
                in_the_way: false,
                share,
            };
            self.count_mount(&tree.how);
            self.learn_later(&place, &mut tree);
            self.trees.insert(place, tree);
        }
    }

    /// Enters an offset or a submount of an earlier life.
    fn enter_below(
        &mut self,
        owner: &Place,
        found: &Existing,
        binding: &Arc<Binding>,
    ) -> TriggerSpec {
        let id = self.new_trigger_id();
        let owner = owner.clone();
        let (kind, role) = match found.kind {
            TriggerKind::Indirect => {
                let map_known = false;
                (TriggerKind::Indirect, Role::Submount { owner, map_known })
            }
            TriggerKind::Direct | TriggerKind::Offset => {
                (TriggerKind::Offset, Role::Offset { owner, node: None })
            }
        };
        let spec = TriggerSpec {
            id,
            kind,
            path: found.path.clone(),
            source: binding.source.clone(),
            timeout: self.timeout_of(binding),
            strict_expire: binding.options.strict_expire,
            mode: None,
            propagation: binding.options.propagation,
        };
        let trigger = new_trigger(spec.clone(), role, binding.clone());
        self.triggers.insert(id, trigger);
        spec
    }
}

/// A mount point of an earlier life that nobody wants any more, as if it stood in a master map.
fn unwanted(found: &Existing) -> Point {
    let origin = Origin {
        file: "an earlier configuration".into(),
        position: Position { line: 1, column: 1 },
    };
    let binding = Binding {
        maps: [].into(),
        options: PointOptions::default(),
        dialect: Dialect::LINUX,
        source: BString::default(),
        origin,
    };
    Point {
        path: found.path.clone(),
        kind: found.kind,
        binding: Arc::new(binding),
        listing: [].into(),
    }
}

/// Whether a mount point must be taken away and put back to become `point`: the front end
/// cannot change these in place.
pub(crate) fn replaced(spec: &TriggerSpec, point: &Point) -> bool {
    let options = &point.binding.options;
    spec.kind != point.kind
        || spec.strict_expire != options.strict_expire
        || spec.mode != options.mode
        || spec.propagation != options.propagation
}

/// What a new configuration means for what is there.
#[derive(Default)]
struct Sorted {
    /// To be put in place, parents before children.
    fresh: Vec<Point>,
    /// There, and to be brought up to date.
    changed: Vec<(TriggerId, Point)>,
    /// No longer wanted, parents before children.
    gone: Vec<TriggerId>,
}

/// In the order of their paths, which puts parents before children; of equal paths the first
/// counts.
pub(crate) fn in_order<P>(mut points: Vec<P>, path: impl Fn(&P) -> &BString) -> Vec<P> {
    let sorted = points.is_sorted_by(|one, other| path(one) < path(other));
    if !sorted {
        points.sort_by(|one, other| path(one).cmp(path(other)));
        points.dedup_by(|one, other| path(one) == path(other));
    }
    points
}

/// Whether a mount point is as it shall be. Thousands share a line: two lines are compared once.
pub(crate) fn unchanged(trigger: &Trigger, point: &Point, same_line: &mut SameLine) -> bool {
    let Role::Point(role) = &trigger.role else {
        return false;
    };
    !role.leaving
        && trigger.spec.kind == point.kind
        && role.listing == point.listing
        && same_line.check(&trigger.binding, &point.binding)
}

/// The last two lines that were compared, and whether they mean the same.
#[derive(Default)]
pub(crate) struct SameLine(Option<(Arc<Binding>, Arc<Binding>, bool)>);

impl SameLine {
    fn check(&mut self, one: &Arc<Binding>, other: &Arc<Binding>) -> bool {
        if let Some((left, right, verdict)) = &self.0
            && Arc::ptr_eq(left, one)
            && Arc::ptr_eq(right, other)
        {
            return *verdict;
        }
        let verdict = same(one, other);
        self.0 = Some((one.clone(), other.clone(), verdict));
        verdict
    }
}

fn same(one: &Binding, other: &Binding) -> bool {
    // The place in the file does not matter: a line moved is no change.
    let maps_same = one.maps.len() == other.maps.len()
        && one.maps.iter().zip(other.maps.iter()).all(|(left, right)| {
            (&left.kind, &left.format, &left.name, &left.arguments)
                == (&right.kind, &right.format, &right.name, &right.arguments)
        });
    maps_same && one.options == other.options && one.dialect == other.dialect
}
