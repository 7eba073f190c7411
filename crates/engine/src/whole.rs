//! Entries that are mounted as a whole: where mounts are found by links, nobody comes by the parts
//! of an entry ([`Settings::whole_entries`](crate::config::Settings::whole_entries)).
//!
//! The parts are what they are elsewhere, triggers of their own, but that nothing of them is put in
//! place: when the root is mounted the engine itself mounts what lies in it, and what lies in that.
//! Who waits is answered when all is there. What could not be unmounted as a whole is completed
//! again.

use alloc::collections::BTreeSet;
use alloc::sync::Arc;
use alloc::vec::Vec;

use bstr::BString;
use piton_map::requester::Requester;
use piton_plan::plan::{Action, Plan};
use piton_plan::step::{Planned, Step, TriggerId, TriggerKind};

use crate::cause::{Cause, Errno};
use crate::command::Command;
use crate::engine::Engine;
use crate::event::JobId;
use crate::job::{Job, Work};
use crate::place::Place;
use crate::tree::{How, Tree};
use crate::trigger::Role;
use crate::unmounting::Wish;

/// What is known of an entry whose parts are being mounted.
#[derive(Debug, Default)]
pub(crate) struct Completing {
    /// One part that is missing fails the whole.
    strict: bool,
    /// Why the first part that failed did.
    cause: Option<Cause>,
    /// It is completed again, for nobody in particular.
    again: bool,
    /// The parts that were tried: each is, once.
    tried: BTreeSet<TriggerId>,
}

impl<T> Engine<T> {
    /// Why an entry cannot be mounted as a whole.
    pub(crate) fn indivisible(&self, plan: &Plan) -> Option<Arc<str>> {
        let submount = |action: &Action| matches!(action, Action::Submount(_));
        let inner = plan.nodes.iter().any(|node| submount(&node.action));
        (self.settings.whole_entries && inner).then(|| {
            "a map below an entry (fstype=autofs) cannot be had behind links; give it a mount point \
             in the master map"
                .into()
        })
    }

    /// Takes out of the steps of a mount what puts parts in place.
    pub(crate) fn leave_parts_out(&self, steps: &mut Vec<Planned>) {
        if self.settings.whole_entries {
            steps.retain(|planned| match &planned.step {
                Step::Install(spec) => spec.kind != TriggerKind::Offset,
                _ => true,
            });
            // A link has no directory of its own that would be made with those above it.
            let link = steps
                .iter()
                .position(|planned| matches!(planned.step, Step::Symlink { .. }));
            if let Some(at) = link
                && let Some(directory) = parent_of(&steps[at].step)
            {
                let step = Step::MakeDirectory { path: directory };
                let required = true;
                steps.insert(at, Planned { step, required });
            }
        }
    }

    /// Whether a trigger is only known to the engine: nothing of it is in place.
    pub(crate) fn is_part(&self, trigger: TriggerId) -> bool {
        let trigger = self.triggers.get(&trigger);
        self.settings.whole_entries
            && trigger.is_some_and(|trigger| trigger.spec.kind == TriggerKind::Offset)
    }

    /// The place of the entry that a place is a part of; itself where entries have no such parts.
    pub(crate) fn root_place(&self, place: &Place) -> Place {
        let mut root = place.clone();
        while self.is_part(root.trigger)
            && let Some(owner) = self.triggers.get(&root.trigger).and_then(|it| it.owner())
        {
            root = owner.clone();
        }
        root
    }

    /// Whether a job mounts a part for the job that mounts the whole: nobody waits for it, and it
    /// is wanted all the same.
    pub(crate) fn completes(&self, job: &Job<T>) -> bool {
        self.is_part(job.place.trigger)
            && self
                .working
                .get(&self.root_place(&job.place))
                .and_then(|id| self.jobs.get(id))
                .is_some_and(|job| matches!(job.work, Work::Completing(_)))
    }

    /// The root of an entry is mounted: mounts its parts, then answers who waits.
    pub(crate) fn complete(&mut self, id: JobId, strict: bool) {
        let Some(place) = self.jobs.get(&id).map(|job| job.place.clone()) else {
            return;
        };
        // A part belongs to the job of the whole, which goes on when nothing is under way any more.
        if self.is_part(place.trigger) || self.missing(&place).is_empty() {
            return self.serve(id, true);
        }
        self.begin_completing(
            id,
            Completing {
                strict,
                ..Completing::default()
            },
        );
    }

    fn begin_completing(&mut self, id: JobId, completing: Completing) {
        if let Some(job) = self.jobs.get_mut(&id) {
            job.work = Work::Completing(completing);
        }
        self.mount_missing(id);
    }

    /// Has parts mounted that are not, each once; whether there were any left to try.
    fn mount_missing(&mut self, id: JobId) -> bool {
        let Some(job) = self.jobs.get(&id) else {
            return false;
        };
        let (root, requester) = (job.place.clone(), job.requester.clone());
        let mut begun = false;
        for trigger in self.missing(&root) {
            let job = self.jobs.get_mut(&id).map(|job| &mut job.work);
            let Some(Work::Completing(completing)) = job else {
                return begun;
            };
            if !completing.tried.insert(trigger) {
                continue;
            }
            begun = true;
            let part = self.begin(Job {
                place: Place::of(trigger),
                started: self.now,
                requester: requester.clone(),
                waiters: Vec::new(),
                work: Work::Fetching { submount: None },
            });
            self.seek(part);
        }
        begun
    }

    /// The parts of an entry that are not mounted, of those whose ground is.
    fn missing(&self, place: &Place) -> Vec<TriggerId> {
        let mut missing = Vec::new();
        if !self.settings.whole_entries {
            return missing;
        }
        let mut entry = Vec::new();
        self.below(place, &mut entry);
        for place in entry {
            let offsets = self
                .trees
                .get(&place)
                .into_iter()
                .flat_map(|it| &it.offsets);
            missing.extend(offsets.filter(|id| !self.trees.contains_key(&Place::of(**id))));
        }
        missing
    }

    /// A job that takes a part of an entry away, because its server is dead: the entry is not whole
    /// until that has ended.
    pub(crate) fn part_at_work(&self, place: &Place) -> Option<JobId> {
        let tree = self.trees.get(place)?;
        if !self.settings.whole_entries || tree.offsets.is_empty() {
            return None;
        }
        let mut entry = Vec::new();
        self.below(place, &mut entry);
        let parts = entry.iter().skip(1);
        parts
            .filter_map(|part| self.working.get(part))
            .copied()
            .next()
    }

    /// Remembers why a part could not be mounted.
    pub(crate) fn part_failed(&mut self, place: &Place, cause: &Cause) {
        if !self.is_part(place.trigger) {
            return;
        }
        let root = self.root_place(place);
        let job = self.working.get(&root).and_then(|id| self.jobs.get_mut(id));
        if let Some(Work::Completing(completing)) = job.map(|job| &mut job.work) {
            completing.cause.get_or_insert_with(|| cause.clone());
        }
    }

    /// Goes on without the parts of an entry that could not be mounted.
    fn do_without(&mut self, root: &Place) {
        for trigger in self.missing(root) {
            let owner = self.triggers.get(&trigger).and_then(|it| it.owner());
            let Some(owner) = owner.cloned() else {
                continue;
            };
            if let Some(tree) = self.trees.get_mut(&owner) {
                tree.offsets.retain(|offset| *offset != trigger);
            }
            self.drop_trigger(trigger);
        }
    }

    /// Goes on with entries of which no part is under way any more.
    pub(crate) fn advance_completing(&mut self) {
        for id in core::mem::take(&mut self.completing) {
            let Some(job) = self.jobs.get(&id) else {
                continue;
            };
            if matches!(job.work, Work::Completing(_))
                && !self.works_below(&job.place)
                && !self.mount_missing(id)
            {
                self.completed(id);
            }
        }
    }

    /// A job has ended: whoever waits for a part of an entry looks.
    pub(crate) fn part_ended(&mut self, place: &Place) {
        if self.is_part(place.trigger)
            && let Some(id) = self.working.get(&self.root_place(place))
        {
            self.completing.insert(*id);
        }
    }

    /// All parts of an entry are there, or cannot be.
    fn completed(&mut self, id: JobId) {
        let Some(job) = self.jobs.get_mut(&id) else {
            return;
        };
        let place = job.place.clone();
        let Work::Completing(completing) = &mut job.work else {
            return;
        };
        let (strict, again) = (completing.strict, completing.again);
        let cause = completing.cause.take();
        self.do_without(&place);
        let bare = |tree: &Tree| tree.how == How::Directory && tree.offsets.is_empty();
        let nothing = self.trees.get(&place).is_some_and(bare);
        let failed = strict && cause.is_some();
        if !(nothing || failed) {
            return self.serve(id, !again);
        }
        let cause = cause.unwrap_or_else(|| {
            Cause::Mount(Errno::IO, "nothing of the entry could be mounted".into())
        });
        if let Some(tree) = self.trees.get_mut(&place) {
            tree.broken = Some(cause.clone());
        }
        self.fail(id, cause, false);
        self.take_down(&place, Wish::default());
    }

    /// Something of an entry could not be unmounted: what could be comes back. Otherwise links lead
    /// there again.
    pub(crate) fn keep_whole(&mut self, place: &Place) {
        if !self.settings.whole_entries || !self.trees.contains_key(place) {
            return;
        }
        let broken = self
            .trees
            .get(place)
            .is_some_and(|tree| tree.broken.is_some());
        if !self.running() || broken || self.at_work(place).is_some() {
            return;
        }
        if self.missing(place).is_empty() {
            return self.show(place);
        }
        self.hide(place);
        let id = self.begin(Job {
            place: place.clone(),
            started: self.now,
            requester: Requester::default(),
            waiters: Vec::new(),
            work: Work::Fetching { submount: None },
        });
        let completing = Completing {
            again: true,
            ..Completing::default()
        };
        self.begin_completing(id, completing);
    }

    /// Has links lead to a place: whoever asked for it may not have waited.
    pub(crate) fn show(&mut self, place: &Place) {
        if self.is_linked(place) {
            self.out.push(Command::Show {
                trigger: place.trigger,
                key: place.key.clone(),
            });
        }
    }

    /// Has no link lead to a place, so that whoever comes by asks.
    pub(crate) fn hide(&mut self, place: &Place) {
        if self.is_linked(place) {
            self.out.push(Command::Hide {
                trigger: place.trigger,
                key: place.key.clone(),
            });
        }
    }

    fn is_linked(&self, place: &Place) -> bool {
        let trigger = self.triggers.get(&place.trigger);
        self.settings.whole_entries
            && trigger.is_some_and(|trigger| matches!(trigger.role, Role::Point(_)))
    }

    /// Whether what a job works at is an entry of several parts, so that there can be a part of it.
    pub fn works_at_several(&self, job: JobId) -> bool {
        let Some(job) = self.jobs.get(&job) else {
            return false;
        };
        let several = match &job.work {
            Work::Mounting(target, ..) => target.plan.nodes.len() > 1,
            _ => false,
        };
        let tree = self.trees.get(&self.root_place(&job.place));
        self.settings.whole_entries
            && (several || tree.is_some_and(|tree| !tree.offsets.is_empty()))
    }

    /// What links may lead to: trigger, key and path of each.
    pub fn linked(&self) -> impl Iterator<Item = (TriggerId, &BString, &BString)> {
        let linked = self.trees.iter().filter(|(place, _)| self.is_linked(place));
        linked.map(|(place, tree)| (place.trigger, &place.key, &tree.target))
    }

    /// Whether parts of an entry are missing at the moment.
    pub(crate) fn is_incomplete(&self, place: &Place) -> bool {
        let job = self.working.get(place).and_then(|id| self.jobs.get(id));
        let completing = job.is_some_and(|job| matches!(job.work, Work::Completing(_)));
        completing || !self.missing(place).is_empty()
    }

    /// The path of a part is that of its entry, for whoever wants it unmounted.
    pub(crate) fn whole_of(&self, path: &BString) -> Option<Place> {
        let place = self.trees.iter().find(|(_, tree)| tree.target == *path)?.0;
        Some(self.root_place(place))
    }
}

fn parent_of(step: &Step) -> Option<BString> {
    let Step::Symlink { path, .. } = step else {
        return None;
    };
    let slash = path.iter().rposition(|byte| *byte == b'/')?;
    Some(path[..slash].into()).filter(|path: &BString| !path.is_empty())
}

/// Jobs that may go on.
pub(crate) type Stirred = BTreeSet<JobId>;
