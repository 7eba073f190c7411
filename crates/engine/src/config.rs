//! What the engine is asked to keep in place: the desired mount points and the daemon's settings.

use alloc::sync::Arc;
use alloc::vec::Vec;

use bstr::BString;
use piton_map::dialect::Dialect;
use piton_map::lookup::MapSpec;
use piton_map::options::PointOptions;
use piton_map::text::Origin;
use piton_plan::facts::HostFacts;
use piton_plan::step::TriggerKind;

use crate::event::Existing;
use crate::limits::{JOBS, PLAN_APART, WAITERS_PER_PLACE};

/// What several mount points share: a master-map line.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Binding {
    /// Maps that are searched in this order.
    pub maps: Arc<[MapSpec]>,
    /// The line's options.
    pub options: PointOptions,
    /// The dialect of the master map.
    pub dialect: Dialect,
    /// What the mount table shows as source of the triggers: the map's name.
    pub source: BString,
    /// The master-map line.
    pub origin: Origin,
}

/// A mount point that shall exist: an indirect map's directory, or one key of a direct map.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Point {
    /// Absolute path.
    pub path: BString,
    /// `Indirect` or `Direct`.
    pub kind: TriggerKind,
    /// Its master-map line.
    pub binding: Arc<Binding>,
    /// Keys to show before they are mounted (browse mode).
    pub listing: Arc<[BString]>,
}

/// The whole desired state.
#[derive(Clone, Debug, Default)]
pub struct Configuration {
    /// The mount points, in the order of the master map.
    pub points: Vec<Point>,
    /// Triggers that exist already, from an earlier life of the daemon, and what is mounted in
    /// them. Only at the first configuration. What is no longer wanted, or is of another kind,
    /// is taken over too and goes as soon as nothing in it is used.
    pub existing: Vec<Existing>,
}

/// Settings of the daemon (command line, autofs.conf).
#[derive(Clone, Debug)]
pub struct Settings {
    /// Seconds of idleness before expiry where a map says nothing; 0 is never.
    pub timeout: u32,
    /// Seconds for which an absent key of a program or a server is remembered.
    pub negative_timeout: u32,
    /// Milliseconds within which every access is answered.
    pub deadline_ms: u64,
    /// Milliseconds that unmounting may take before it is reported as stuck.
    pub unmount_deadline_ms: u64,
    /// Milliseconds between attempts to mount what fails again and again, at most (`-tm`); `None`:
    /// as long as is good for each cause.
    pub retry_most_ms: Option<u64>,
    /// Milliseconds between attempts to unmount what is idle (`-tw`); `None`: by the idle time.
    pub unmount_pause_ms: Option<u64>,
    /// Nothing is mounted: only what is mounted already is served.
    pub frozen: bool,
    /// Jobs at the same time; further accesses are refused.
    pub jobs_most: usize,
    /// Accesses that may wait for one place; further ones are refused.
    pub waiters_most: usize,
    /// Mount options for all maps (`-O`).
    pub global_options: Vec<BString>,
    /// Whether entry options come after the global ones or in their place (autofs.conf).
    pub append_options: bool,
    /// Whether keys are listed by default.
    pub browse: bool,
    /// Whether servers of NFS are asked in the background whether they live; not where a program
    /// of the administrator mounts, which may mean something else by a server.
    pub asks_servers: bool,
    /// Whether an entry is mounted and unmounted as a whole: where mounts are behind links, nobody
    /// comes by the parts of an entry.
    pub whole_entries: bool,
    /// Bytes of an entry's text from which on it is planned by `Command::Plan`, and not in passing.
    pub plan_apart: usize,
    /// Facts about the host.
    pub facts: Arc<HostFacts>,
    /// Where chance is needed it comes from here: the same seed and events give the same commands.
    pub seed: u64,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            timeout: 300,
            negative_timeout: 60,
            deadline_ms: 10_000,
            unmount_deadline_ms: 12_000,
            retry_most_ms: None,
            unmount_pause_ms: None,
            frozen: false,
            jobs_most: JOBS,
            waiters_most: WAITERS_PER_PLACE,
            global_options: Vec::new(),
            append_options: true,
            browse: false,
            asks_servers: true,
            whole_entries: false,
            plan_apart: PLAN_APART,
            facts: Arc::default(),
            seed: 0,
        }
    }
}
