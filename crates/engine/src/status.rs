//! What the engine knows, for people: a snapshot without references.

use alloc::boxed::Box;
use alloc::sync::Arc;
use alloc::vec::Vec;

use bstr::BString;
use piton_map::lookup::MapSpec;
use piton_map::requester::Requester;
use piton_plan::step::{TriggerKind, TriggerSpec};

use crate::config::Binding;
use crate::difference::Pending;
use crate::engine::Engine;
use crate::time::Millis;
use crate::tree::How;
use crate::trigger::{Role, State};

pub use crate::trigger::Usage;

/// Everything that is in place, under way or remembered.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Status {
    /// Mount points of the configuration.
    pub points: Vec<PointStatus>,
    /// What is mounted: the working set.
    pub mounts: Vec<MountStatus>,
    /// What is being done.
    pub jobs: Vec<JobStatus>,
    /// Failures that are answered from memory.
    pub negative: Vec<NegativeStatus>,
    /// Servers that something is mounted from, that are asked, or that do not answer.
    pub servers: Vec<ServerStatus>,
    /// The last failures, oldest first.
    pub last_errors: Vec<LastError>,
    /// Changes of the last configuration that wait.
    pub pending: Vec<Pending>,
    /// Servers that an operator has avoided.
    pub drained: Vec<DrainStatus>,
    /// Paths that stay as they are.
    pub pins: Vec<PinStatus>,
    /// Nothing is mounted: only what is mounted already is served.
    pub frozen: bool,
}

/// A server that new accesses avoid.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DrainStatus {
    /// As the map has it.
    pub server: BString,
    /// Whether what is in use moves, too.
    pub now: bool,
    /// When it ends by itself.
    pub until: Option<Millis>,
}

/// A path that neither expires nor moves.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PinStatus {
    /// Absolute path.
    pub path: BString,
    /// When it ends by itself.
    pub until: Millis,
}

/// A mount point.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PointStatus {
    /// Absolute path.
    pub path: BString,
    /// Indirect or direct.
    pub kind: TriggerKind,
    /// The map's name.
    pub map: BString,
    /// `installing`, `ready`, `removing`, `pending removal` or `pending replacement`.
    pub state: &'static str,
    /// Seconds of idleness before expiry; 0 is never.
    pub timeout: u32,
    /// The master-map line.
    pub origin: Arc<str>,
    /// Who came by, if anybody did, and what failed last.
    pub usage: Option<Box<Usage>>,
}

/// Something mounted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MountStatus {
    /// Absolute path.
    pub path: BString,
    /// The mount point of the configuration it belongs to.
    pub point: BString,
    /// Source text; empty for a bare directory.
    pub source: BString,
    /// `mount`, `symlink`, `directory` or `submount`.
    pub how: &'static str,
    /// The server, if there is one.
    pub host: Option<BString>,
    /// Milliseconds since it was mounted.
    pub age_ms: u64,
    /// Who asked for it first.
    pub first: Requester,
    /// Who asked for it last.
    pub last: Requester,
    /// Accesses that had to wait for it.
    pub uses: u64,
    /// Seconds of idleness before expiry; 0 is never.
    pub timeout: u32,
    /// Why it could not be unmounted when that was last tried.
    pub busy: Option<Arc<str>>,
    /// When that was.
    pub busy_at: Option<Millis>,
    /// Why it stays although its server is dead.
    pub stays: Option<Arc<str>>,
}

/// Something being done.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct JobStatus {
    /// Absolute path.
    pub path: BString,
    /// `looking up`, `resolving`, `mounting`, `unmounting`, `inspecting` or `clearing`.
    pub stage: &'static str,
    /// Accesses that wait for it.
    pub waiters: usize,
    /// Milliseconds since it began.
    pub age_ms: u64,
    /// Whose access began it.
    pub requester: Requester,
}

/// A failure that is answered from memory.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NegativeStatus {
    /// Absolute path.
    pub path: BString,
    /// Why, in words.
    pub text: Arc<str>,
    /// What kind of failure it is.
    pub kind: &'static str,
    /// How often it failed in a row.
    pub failures: u32,
    /// How many accesses were answered from memory.
    pub answered: u64,
    /// Milliseconds until it is tried again.
    pub left_ms: u64,
}

/// A server.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ServerStatus {
    /// Name or address, as the map has it.
    pub host: BString,
    /// `alive`, `doubtful`, `dead`, `being asked` or `to be asked` (dead: whoever wants it asks).
    pub state: &'static str,
    /// Whether nobody waits for it now.
    pub down: bool,
    /// Milliseconds that it has been alive or dead for.
    pub age_ms: u64,
    /// What was said when it last did not answer.
    pub text: Option<Arc<str>>,
    /// How often it did not answer, in a row.
    pub failures: u32,
    /// How many accesses were answered from memory.
    pub answered: u64,
    /// Milliseconds until it is asked again, if that is planned.
    pub left_ms: Option<u64>,
    /// Microseconds that its last answer took.
    pub micros: Option<u32>,
}

/// An access that failed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LastError {
    /// Absolute path.
    pub path: BString,
    /// Why.
    pub text: Arc<str>,
    /// When.
    pub at: Millis,
}

impl<T> Engine<T> {
    /// A snapshot.
    pub fn status(&self, now: Millis) -> Status {
        Status {
            points: self.point_statuses(),
            mounts: self.mount_statuses(now),
            jobs: self.job_statuses(now),
            negative: self
                .negative
                .iter(now)
                .map(|(place, failure)| NegativeStatus {
                    path: self.path_of(place),
                    text: alloc::format!("{}", failure.cause).into(),
                    kind: failure.kind.words(),
                    failures: failure.failures,
                    answered: failure.answered,
                    left_ms: failure.until.since(now),
                })
                .collect(),
            servers: self
                .servers
                .iter()
                .filter(|(_, server)| server.is_remarkable())
                .map(|(host, server)| ServerStatus {
                    host: host.clone(),
                    state: server.state(now),
                    down: server.is_down(now),
                    age_ms: now.since(server.since),
                    text: server.error.clone(),
                    failures: server.failures,
                    answered: server.answered,
                    left_ms: server.left_ms(now),
                    micros: server.micros(),
                })
                .collect(),
            last_errors: self.last_errors.iter().cloned().collect(),
            pending: self.pending(),
            drained: self.drain_statuses(),
            pins: self.pin_statuses(),
            frozen: self.settings.frozen,
        }
    }

    fn drain_statuses(&self) -> Vec<DrainStatus> {
        let drained = self.care.drained.iter();
        let status = drained.map(|(server, drain)| DrainStatus {
            server: server.clone(),
            now: drain.now,
            until: drain.until,
        });
        status.collect()
    }

    fn pin_statuses(&self) -> Vec<PinStatus> {
        let status = |(path, until): (&BString, &Millis)| PinStatus {
            path: path.clone(),
            until: *until,
        };
        self.care.pins.iter().map(status).collect()
    }

    fn point_statuses(&self) -> Vec<PointStatus> {
        let status = |trigger: &crate::trigger::Trigger| PointStatus {
            path: trigger.spec.path.clone(),
            kind: trigger.spec.kind,
            map: trigger.binding.source.clone(),
            state: match trigger.state {
                State::Installing | State::Adopting => "installing",
                State::Removing => "removing",
                State::Ready if trigger.leaving() => {
                    match self.waiting.contains_key(&trigger.spec.path) {
                        true => "pending replacement",
                        false => "pending removal",
                    }
                }
                State::Ready => "ready",
            },
            timeout: trigger.spec.timeout,
            origin: alloc::format!("{}", trigger.binding.origin).into(),
            usage: trigger.usage.clone(),
        };
        self.points
            .values()
            .filter_map(|id| self.triggers.get(id))
            .map(status)
            .collect()
    }

    fn mount_statuses(&self, now: Millis) -> Vec<MountStatus> {
        let mut mounts: Vec<MountStatus> = self
            .trees
            .iter()
            .filter_map(|(place, tree)| {
                let trigger = self.triggers.get(&place.trigger)?;
                Some(MountStatus {
                    path: tree.target.clone(),
                    point: self.point_path(place.trigger),
                    source: tree.source(),
                    how: match tree.how {
                        How::Mount { .. } => "mount",
                        How::Symlink { .. } => "symlink",
                        How::Directory => "directory",
                        How::Submount(_) => "submount",
                    },
                    host: match &tree.how {
                        How::Mount { host, .. } => host.clone(),
                        _ => None,
                    },
                    age_ms: now.since(tree.since),
                    first: tree.first.clone(),
                    last: tree.last.clone(),
                    uses: tree.uses,
                    timeout: tree.timeout.unwrap_or(trigger.spec.timeout),
                    busy: tree.why_busy(),
                    busy_at: tree.busy.as_ref().map(|(_, at)| *at),
                    stays: self.why_not_moved(tree),
                })
            })
            .collect();
        mounts.sort_by(|one, other| one.path.cmp(&other.path));
        mounts
    }

    /// Where a trigger is.
    pub fn path_of_trigger(&self, id: piton_plan::step::TriggerId) -> Option<&BString> {
        self.triggers.get(&id).map(|trigger| &trigger.spec.path)
    }

    /// The line or entry that a trigger comes from: its maps and their options.
    pub fn binding(&self, id: piton_plan::step::TriggerId) -> Option<&Arc<Binding>> {
        self.triggers.get(&id).map(|trigger| &trigger.binding)
    }

    /// The configured mount points of one kind whose maps these are.
    pub fn points_of<'e>(
        &'e self,
        kind: TriggerKind,
        maps: &'e [MapSpec],
    ) -> impl Iterator<Item = &'e BString> {
        self.points.iter().filter_map(move |(path, id)| {
            let trigger = self.triggers.get(id)?;
            let same = trigger.spec.kind == kind && *trigger.binding.maps == *maps;
            (same && !trigger.leaving()).then_some(path)
        })
    }

    /// The configured mount points that stay, with their lines.
    pub fn configured(&self) -> impl Iterator<Item = (&BString, &Arc<Binding>)> {
        self.points.iter().filter_map(|(path, id)| {
            let trigger = self.triggers.get(id)?;
            (!trigger.leaving()).then_some((path, &trigger.binding))
        })
    }

    /// The maps named by entries (`fstype=autofs`) whose directories are in place.
    pub fn submounts(&self) -> impl Iterator<Item = (&TriggerSpec, &Arc<Binding>)> {
        let known = |role: &Role| {
            matches!(
                role,
                Role::Submount {
                    map_known: true,
                    ..
                }
            )
        };
        let submounts = self.triggers.values();
        submounts
            .filter(move |trigger| trigger.state == State::Ready && known(&trigger.role))
            .map(|trigger| (&trigger.spec, &trigger.binding))
    }

    /// The name of the map of a configured mount point.
    pub fn map_at(&self, path: &BString) -> Option<&BString> {
        let trigger = self.triggers.get(self.points.get(path)?)?;
        Some(&trigger.binding.source)
    }

    /// The path of the configured mount point above a trigger.
    fn point_path(&self, mut id: piton_plan::step::TriggerId) -> BString {
        loop {
            let Some(trigger) = self.triggers.get(&id) else {
                return BString::default();
            };
            match &trigger.role {
                Role::Point(_) => return trigger.spec.path.clone(),
                Role::Offset { owner, .. } | Role::Submount { owner, .. } => id = owner.trigger,
            }
        }
    }

    fn job_statuses(&self, now: Millis) -> Vec<JobStatus> {
        self.jobs
            .iter()
            .map(|(id, job)| JobStatus {
                path: self.path_of_job(*id, job),
                stage: job.stage(),
                waiters: job.waiters.len(),
                age_ms: now.since(job.started),
                requester: job.requester.clone(),
            })
            .collect()
    }
}
