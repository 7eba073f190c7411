//! One mount for several keys: behind links `host:path:subdirectory` has `host:path` mounted once,
//! and each key is a link to its sub-directory.
//!
//! The shared mount belongs to all keys that use it: the first has it mounted, the last has it
//! unmounted. While one of them does so, the others wait.

use alloc::collections::{BTreeMap, BTreeSet};
use alloc::sync::Arc;
use alloc::vec::Vec;

use bstr::{BString, ByteSlice};
use piton_map::options::Propagation;
use piton_plan::plan::{MountPlan, Plan};
use piton_plan::step::{Attempt, Planned, Step, What};

use crate::engine::Engine;
use crate::event::JobId;
use crate::job::{Target, Work};
use crate::limits::SHARE_NAME;
use crate::place::Place;

/// Where shared mounts are, among the paths that users see: no mount point is called so.
pub const SHARED: &str = "/.shared";

/// A mount that a key has with others.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Share {
    /// What it is called.
    pub(crate) name: BString,
    /// The key's own directory in it.
    pub(crate) below: BString,
}

impl Share {
    /// Where it is mounted.
    fn target(&self) -> BString {
        target_of(&self.name)
    }

    /// Where the key leads.
    fn to(&self) -> BString {
        [&self.target()[..], b"/", &self.below[..]].concat().into()
    }

    /// What a link that was made for a key says.
    pub(crate) fn of_link(to: &BString) -> Option<Self> {
        let rest = to.strip_prefix(SHARED.as_bytes())?.strip_prefix(b"/")?;
        let (name, below) = rest.split_once_str("/")?;
        Some(Self {
            name: name.into(),
            below: below.into(),
        })
    }
}

fn target_of(name: &BString) -> BString {
    [SHARED.as_bytes(), b"/", &name[..]].concat().into()
}

/// Who uses a shared mount.
#[derive(Debug, Default)]
pub(crate) struct Users {
    /// The keys that lead there: none, and it is not mounted.
    places: BTreeSet<Place>,
    /// The job that mounts or unmounts it.
    held: Option<JobId>,
}

/// All shared mounts, by name.
pub(crate) type Shares = BTreeMap<BString, Users>;

impl<T> Engine<T> {
    /// What of an entry is shared: its plan without the sub-directory, and the share.
    fn share_of(&self, plan: &Plan) -> Option<(Plan, Share)> {
        if !self.settings.whole_entries {
            return None;
        }
        let (plan, below) = plan.shared()?;
        let name = name_of(plan.mount(0)?);
        (name.len() <= SHARE_NAME).then_some((plan, Share { name, below }))
    }

    /// Whether a job goes another way, because what its entry names can be shared.
    pub(crate) fn goes_shared(&mut self, id: JobId, plan: &Arc<Plan>) -> bool {
        let Some((stripped, share)) = self.share_of(plan) else {
            return false;
        };
        let Some(job) = self.jobs.get_mut(&id) else {
            return false;
        };
        let target = Target {
            plan: Arc::new(stripped),
            node: 0,
            unbound: None,
            replicas: None,
            share: Some(share.clone()),
        };
        let users = self.shares.entry(share.name).or_default();
        if users.held.is_some() {
            job.work = Work::Sharing(plan.clone());
        } else if users.places.is_empty() {
            users.held = Some(id);
            self.resolve(id, target);
        } else {
            self.prepare(id, &target, &[]);
        }
        true
    }

    /// The steps that have a key lead to what it shares, and mount that if nobody did yet.
    pub(crate) fn steps_shared(
        &self,
        place: &Place,
        target: &Target,
        attempts: Vec<Attempt>,
    ) -> Option<Vec<Planned>> {
        let share = target.share.as_ref()?;
        let must = |step| Planned {
            step,
            required: true,
        };
        let mut steps = Vec::new();
        let users = self.shares.get(&share.name);
        if users.is_none_or(|users| users.places.is_empty()) {
            let target = share.target();
            steps.push(must(Step::MakeDirectory {
                path: target.clone(),
            }));
            steps.push(must(Step::Mount {
                target,
                attempts,
                propagation: Propagation::default(),
            }));
        }
        steps.push(must(Step::Symlink {
            path: self.path_of(place),
            to: share.to(),
        }));
        Some(steps)
    }

    /// A key leads to what it shares.
    pub(crate) fn use_share(&mut self, place: &Place, share: &Share) {
        let users = self.shares.entry(share.name.clone()).or_default();
        users.places.insert(place.clone());
    }

    /// A key leads there no more.
    pub(crate) fn leave_share(&mut self, place: &Place, share: &Share) {
        if let Some(users) = self.shares.get_mut(&share.name) {
            users.places.remove(place);
            if users.places.is_empty() && users.held.is_none() {
                self.shares.remove(&share.name);
            }
        }
    }

    /// The steps that unmount what the key of a place shares, if it is the last one.
    pub(crate) fn steps_unshared(&self, place: &Place, share: &Share) -> Vec<Planned> {
        let last =
            |users: &Users| users.held.is_none() && users.places.iter().all(|other| other == place);
        if !self.shares.get(&share.name).is_some_and(last) {
            return Vec::new();
        }
        let target = share.target();
        let unmount = Planned {
            step: Step::Unmount {
                target: target.clone(),
                helper: true,
            },
            required: true,
        };
        let remove = Planned {
            step: Step::RemoveDirectory { path: target },
            required: false,
        };
        [unmount, remove].into()
    }

    /// A job is about to take a key away: it unmounts what the key shares, or leaves it to others, who
    /// may go at the same time.
    pub(crate) fn hold_share(&mut self, id: JobId, place: &Place, steps: &[Planned]) {
        let Some(share) = self.trees.get(place).and_then(|tree| tree.share.clone()) else {
            return;
        };
        let target = share.target();
        let unmounts = |planned: &Planned| matches!(&planned.step, Step::Unmount { target: of, .. } if *of == target);
        let Some(users) = self.shares.get_mut(&share.name) else {
            return;
        };
        match steps.iter().any(unmounts) {
            true => users.held = Some(id),
            false => drop(users.places.remove(place)),
        }
    }

    /// A key could not be taken away: it goes on using what it shares.
    pub(crate) fn keep_share(&mut self, place: &Place) {
        if let Some(share) = self.trees.get(place).and_then(|tree| tree.share.clone()) {
            self.use_share(place, &share);
        }
    }

    /// A job has ended: whoever waits for what it held goes on.
    pub(crate) fn let_shares_go(&mut self, id: JobId) {
        if self.shares.is_empty() {
            return;
        }
        let mut free = false;
        self.shares.retain(|_, users| {
            if users.held == Some(id) {
                users.held = None;
                free = true;
            }
            users.held.is_some() || !users.places.is_empty()
        });
        self.shares_free |= free;
    }

    /// Has those go on who wait for a shared mount.
    pub(crate) fn advance_sharing(&mut self) {
        if !core::mem::take(&mut self.shares_free) {
            return;
        }
        let waits = |(id, job): (&JobId, &crate::job::Job<T>)| match &job.work {
            Work::Sharing(plan) => Some((*id, plan.clone())),
            _ => None,
        };
        let waiting: Vec<(JobId, Arc<Plan>)> = self.jobs.iter().filter_map(waits).collect();
        for (id, plan) in waiting {
            if !self.abandoned(id) {
                self.goes_shared(id, &plan);
            }
        }
    }
}

/// What a shared mount is called: what is mounted, and how, in one component of a path.
fn name_of(mount: &MountPlan) -> BString {
    let mut text = BString::default();
    for replica in &mount.replicas {
        if !text.is_empty() {
            text.push(b' ');
        }
        text.extend_from_slice(&replica.source());
    }
    for option in &mount.options {
        text.push(b',');
        text.extend_from_slice(option);
    }
    match &mount.what {
        What::Type(fstype) if fstype == "nfs" => {}
        What::Type(fstype) => {
            text.push(b',');
            text.extend_from_slice(fstype);
        }
        What::Bind { .. } => text.extend_from_slice(b",bind"),
    }
    let mut name = BString::default();
    for byte in text.bytes() {
        match byte {
            b'/' => name.push(b'+'),
            b'+' => name.extend_from_slice(b"%2B"),
            b'%' => name.extend_from_slice(b"%25"),
            other => name.push(other),
        }
    }
    name
}
