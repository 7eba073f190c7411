//! What threads do for the engine: look up, resolve, mount, unmount, install, expire.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::{Duration, Instant};

use bstr::{BStr, BString, ByteSlice};
use piton_engine::Event;
use piton_engine::cause::{Cause, Errno};
use piton_engine::config::Binding;
use piton_engine::event::{JobId, StepFailure};
use piton_frontend::{Failure, FrontEnd, Ticket, as_path};
use piton_map::expand::needs_requester;
use piton_map::key::MapKind;
use piton_map::lookup::{MapSpec, MapType};
use piton_map::requester::Requester;
use piton_mount::perform::{Attach, Detach, Directory, Settings};
use piton_mount::{Lane, Performance, Workers, is_on_disk};
use piton_plan::step::{Attempt, Planned, Step, TriggerId, TriggerKind, TriggerSpec};
use piton_resolver::Resolver;
use piton_source::cache::{Listing, Maps};
use piton_source::hosts::server_of;
use piton_source::source::LookupContext;
use piton_source::users;

use super::convert::{self, step_failure};
use super::departed::{Departed, Inside};
use super::foreign::Foreigners;
use super::pool::Turn;
use super::snapshots::Snapshots;
use super::staging::Staging;

/// For how long a stop tries what is busy again and again. autofs gives each mount 0.8 s.
const PASSERS_BY_MOST: Duration = Duration::from_millis(800);

/// Pause before something busy is tried again.
const PASSERS_BY_PAUSE: Duration = Duration::from_millis(10);

/// A look-up, with everything it needs.
pub(crate) struct Lookup {
    pub(crate) job: JobId,
    pub(crate) binding: Arc<Binding>,
    pub(crate) kind: TriggerKind,
    pub(crate) mount_point: BString,
    pub(crate) key: BString,
    pub(crate) requester: Requester,
    pub(crate) until: Instant,
}

/// Does the blocking work. Shared by all threads.
pub(crate) struct Worker {
    pub(crate) maps: Arc<Maps>,
    pub(crate) front_end: Arc<dyn FrontEnd>,
    /// Where mounts are made.
    pub(crate) staging: Staging,
    pub(crate) settings: Settings,
    /// Processes for what may have to wait.
    pub(crate) workers: Workers,
    /// Sweeps after snapshots.
    pub(crate) snapshots: Arc<Snapshots>,
    /// Asks the network.
    pub(crate) resolver: Resolver,
    /// `-D` variables of the command line; those of a map come after them.
    pub(crate) defines: Vec<(BString, BString)>,
    /// Directories made for triggers, to be removed with them.
    pub(crate) made: Mutex<HashMap<TriggerId, Vec<PathBuf>>>,
    /// Who cannot see what is mounted.
    pub(crate) foreigners: Arc<Foreigners>,
    /// Who stayed in what was left to them.
    pub(crate) departed: Arc<Departed>,
    /// Once the daemon ends: until when what is busy is tried again.
    pub(crate) stop_until: OnceLock<Instant>,
}

impl Worker {
    /// Answers a look-up from memory, if that can be done without blocking.
    pub(crate) fn lookup_cached(&self, lookup: &Lookup) -> Option<Event<Ticket>> {
        let result = self.with_context(lookup, |context| {
            self.maps
                .try_lookup_cached(&lookup.binding.maps, lookup.key.as_bstr(), context)
        })?;
        if result.as_ref().is_ok_and(needs_requester) {
            return None;
        }
        Some(Event::Fetched {
            job: lookup.job,
            names: None,
            costly: false,
            result,
        })
    }

    /// Looks up; may block.
    pub(crate) fn lookup(&self, lookup: &mut Lookup) -> Event<Ticket> {
        // Programs are told who asks; entries may ask for it. Both are rare on the way here.
        let Requester { uid, gid, .. } = lookup.requester;
        let names = Some(Arc::new(users::names(uid, gid)));
        lookup.requester.names.clone_from(&names);
        let maps = &lookup.binding.maps;
        let key = lookup.key.as_bstr();
        let result = self.with_context(lookup, |context| self.maps.lookup(maps, key, context));
        let asks = |map: &MapSpec| {
            runs_program(map) || matches!(map.kind, Some(MapType::Hosts | MapType::Passwd))
        };
        let costly = result.is_err() && maps.iter().any(asks);
        Event::Fetched {
            job: lookup.job,
            names,
            costly,
            result,
        }
    }

    /// The keys of a map that is not in the master map; a server may be asked until then.
    pub(super) fn keys(
        &self,
        binding: &Binding,
        mount_point: &BStr,
        until: Option<Instant>,
    ) -> Listing {
        let own = binding.options.defines.iter();
        let defines: Vec<_> = self.defines.iter().chain(own).cloned().collect();
        let nobody = Requester::default();
        let context = LookupContext {
            kind: MapKind::Indirect,
            dialect: &binding.dialect,
            requester: &nobody,
            defines: &defines,
            mount_point,
            deadline: until,
        };
        self.maps.keys(&binding.maps, &context)
    }

    fn with_context<R>(&self, lookup: &Lookup, act: impl FnOnce(&LookupContext<'_>) -> R) -> R {
        let own = &lookup.binding.options.defines;
        let all: Vec<(BString, BString)>;
        let defines = match (self.defines.is_empty(), own.is_empty()) {
            (true, _) => own,
            (false, true) => &self.defines,
            (false, false) => {
                all = self.defines.iter().chain(own).cloned().collect();
                &all
            }
        };
        act(&LookupContext {
            kind: match lookup.kind {
                TriggerKind::Indirect => MapKind::Indirect,
                TriggerKind::Direct | TriggerKind::Offset => MapKind::Direct,
            },
            dialect: &lookup.binding.dialect,
            requester: &lookup.requester,
            defines,
            mount_point: lookup.mount_point.as_bstr(),
            deadline: Some(lookup.until),
        })
    }

    /// Does steps that wait for nobody; tells the lane in which to go on, if it comes to that.
    pub(crate) fn perform_at_once(&self, task: &mut Perform) -> Option<Lane> {
        if let (Some(target), None) = (&task.leaves, &task.inside) {
            task.inside = Some(Inside::look(target.as_bstr()));
        }
        let front = self.front(&task.submounts, task.until);
        loop {
            let lane = task.performance.at_once(&front, &self.settings);
            if lane.is_some() || !self.again(&mut task.performance) {
                return lane;
            }
        }
    }

    /// Does the other steps. Blocks, but not much longer than until the task's deadline.
    pub(crate) fn perform_with_workers(&self, task: &mut Perform, turn: Turn) {
        let front = self.front(&task.submounts, task.until);
        let performance = &mut task.performance;
        let (hold, in_time) = match turn {
            Turn::Begin(hold) => (hold, true),
            Turn::TooLate => (None, false),
        };
        if !in_time {
            performance.too_late();
        }
        // What is too late takes back what was done, which must be possible without a place.
        let hold = hold.unwrap_or_else(|| Arc::new(()));
        loop {
            performance.with_workers(&front, &self.settings, &self.workers, &hold);
            if !(in_time && self.again(performance)) {
                return;
            }
        }
    }

    /// Whether steps that met something busy are tried once more: then they begin anew.
    fn again(&self, performance: &mut Performance) -> bool {
        let outcome = performance.outcome();
        let busy = |failure: &Failure| failure.errno == Errno::BUSY.0;
        let undone = outcome.done.is_empty() && outcome.failed.as_ref().is_some_and(busy);
        let again = undone && self.once_more();
        if again {
            performance.restart();
        }
        again
    }

    /// The daemon ends and unmounts all it can.
    pub(crate) fn begin_stop(&self) {
        let _ = self.stop_until.set(Instant::now() + PASSERS_BY_MOST);
    }

    /// At the end, what is busy is tried again after a pause: perhaps somebody only passed by.
    fn once_more(&self) -> bool {
        let more = self
            .stop_until
            .get()
            .is_some_and(|end| Instant::now() < *end);
        if more {
            std::thread::sleep(PASSERS_BY_PAUSE);
        }
        more
    }

    fn front<'w>(&'w self, submounts: &'w [Submount], until: Instant) -> Front<'w> {
        Front {
            worker: self,
            submounts,
            until,
        }
    }

    /// Puts mount points in place, making their directories where they are missing.
    pub(crate) fn install(
        &self,
        triggers: &[TriggerSpec],
    ) -> Vec<(TriggerId, Result<(), StepFailure>)> {
        triggers
            .iter()
            .map(|spec| (spec.id, self.install_one(spec).map_err(step_failure)))
            .collect()
    }

    fn install_one(&self, spec: &TriggerSpec) -> Result<(), Failure> {
        let path = as_path(spec.path.as_bstr());
        let made = make_directories(path).map_err(|error| {
            let errno = error.raw_os_error().unwrap_or(Errno::IO.0);
            Failure::new(
                errno,
                format!("cannot make the directory {}: {error}", path.display()),
            )
        })?;
        let prepared = self.staging.prepare(spec.path.as_bstr());
        let prepared = prepared.map_err(|error| {
            let errno = error.raw_os_error().unwrap_or(Errno::IO.0);
            let place = self.staging.place(spec.path.as_bstr());
            Failure::new(errno, format!("cannot make the directory {place}: {error}"))
        });
        let result = prepared.and_then(|()| self.front_end.install(spec));
        if result.is_err() {
            self.staging.clear(spec.path.as_bstr());
        }
        match result {
            Ok(()) if made.is_empty() => {}
            Ok(()) => {
                self.made().insert(spec.id, made);
            }
            Err(_) => drop(remove_directories(made)),
        }
        result
    }

    /// Takes over mount points of an earlier life.
    pub(crate) fn adopt(
        &self,
        triggers: &[TriggerSpec],
    ) -> Vec<(TriggerId, Result<(), StepFailure>)> {
        self.front_end.expect(triggers);
        triggers
            .iter()
            .map(|spec| (spec.id, self.front_end.adopt(spec).map_err(step_failure)))
            .collect()
    }

    /// Takes mount points away, with the directories made for them.
    pub(crate) fn remove(
        &self,
        triggers: &[TriggerSpec],
    ) -> Vec<(TriggerId, Result<(), StepFailure>)> {
        triggers
            .iter()
            .map(|spec| {
                let result = self.remove_one(spec);
                if result.is_ok() {
                    self.staging.clear(spec.path.as_bstr());
                    let made = self.made().remove(&spec.id);
                    let left = made.map(remove_directories).unwrap_or_default();
                    if !left.is_empty() {
                        // Others' mount points are in it: at the end it is tried again.
                        self.made().insert(spec.id, left);
                    }
                }
                (spec.id, result.map_err(step_failure))
            })
            .collect()
    }

    /// Takes one mount point away.
    fn remove_one(&self, spec: &TriggerSpec) -> Result<(), Failure> {
        loop {
            match self.front_end.remove(spec) {
                Err(failure) if failure.errno == Errno::BUSY.0 && self.once_more() => {}
                result => return result,
            }
        }
    }

    /// Removes the directories of mount points that are gone by now.
    pub(crate) fn remove_made(&self) {
        let made = std::mem::take(&mut *self.made());
        let mut made: Vec<PathBuf> = made.into_values().flatten().collect();
        made.sort();
        for directory in made.iter().rev() {
            // What is not empty stays.
            let _ = std::fs::remove_dir(directory);
        }
    }

    fn made(&self) -> std::sync::MutexGuard<'_, HashMap<TriggerId, Vec<PathBuf>>> {
        self.made.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What a look-up keeps waiting when its source does not answer: the server whose exports are
/// asked for, or the map.
pub(crate) fn lane_of(binding: &Binding, key: &BStr) -> Lane {
    match server_of(&binding.maps, key) {
        Some(server) => Lane::Server(server),
        None => Lane::Map(binding.source.clone()),
    }
}

/// Whether asking this map again would run a program again.
fn runs_program(map: &MapSpec) -> bool {
    use std::os::unix::fs::PermissionsExt;
    match map.kind {
        Some(MapType::Program) => true,
        None if map.name.starts_with(b"/") => std::fs::metadata(as_path(map.name.as_bstr()))
            .is_ok_and(|file| file.is_file() && file.permissions().mode() & 0o100 != 0),
        _ => false,
    }
}

/// The map of a submount that is put in place.
pub(crate) struct Submount {
    pub(crate) trigger: TriggerId,
    /// Whether its keys are shown before they are mounted.
    pub(crate) browse: bool,
    pub(crate) binding: Arc<Binding>,
}

/// Steps under way, with what they need.
pub(crate) struct Perform {
    performance: Performance,
    submounts: Vec<Submount>,
    until: Instant,
    /// What is left to those who are inside.
    leaves: Option<BString>,
    /// Who they are.
    inside: Option<Inside>,
}

impl Perform {
    pub(crate) fn new(steps: Vec<Planned>, submounts: Vec<Submount>, until: Instant) -> Self {
        let leaves = steps.iter().find_map(|planned| match &planned.step {
            Step::LetGo { target, .. } => Some(target.clone()),
            _ => None,
        });
        Self {
            performance: Performance::new(steps, until),
            submounts,
            until,
            leaves,
            inside: None,
        }
    }

    /// When all must be done.
    pub(crate) fn until(&self) -> Instant {
        self.until
    }

    /// What the engine is told at the end.
    pub(crate) fn ended(self, job: JobId, worker: &Worker) -> Event<Ticket> {
        worker.snapshots.performed(&self.performance);
        let departed = &worker.departed;
        let outcome = convert::outcome(self.performance.into_outcome());
        if let (Some(inside), None) = (self.inside, &outcome.failed) {
            departed.keep(inside);
        }
        Event::Performed { job, outcome }
    }
}

/// A front end as the performer sees it.
struct Front<'w> {
    worker: &'w Worker,
    submounts: &'w [Submount],
    until: Instant,
}

impl Front<'_> {
    fn front_end(&self) -> &dyn FrontEnd {
        &*self.worker.front_end
    }

    /// The keys to show in a submount; an error when its map is not there.
    fn submount_keys(&self, spec: &TriggerSpec) -> Result<Arc<[BString]>, Failure> {
        let submount = self.submounts.iter().find(|it| it.trigger == spec.id);
        let Some(submount) = submount else {
            return Ok(Arc::from([]));
        };
        let worker = self.worker;
        let Listing {
            keys,
            incomplete,
            served,
        } = worker.keys(&submount.binding, spec.path.as_bstr(), Some(self.until));
        if !served && let Some((_, miss)) = incomplete.into_iter().next() {
            let cause = Cause::Lookup(miss);
            return Err(Failure::new(cause.errno().0, cause.to_string()));
        }
        Ok(match submount.browse {
            true => keys.into_iter().map(|listed| listed.key).collect(),
            false => Arc::from([]),
        })
    }
}

impl piton_frontend::Triggers for Front<'_> {
    fn install(&self, spec: &TriggerSpec) -> Result<(), Failure> {
        self.install_with(spec, |front_end| front_end.install(spec))
    }

    fn install_by(&self, spec: &TriggerSpec, attach: Attach<'_>) -> Result<(), Failure> {
        self.install_with(spec, |front_end| front_end.install_by(spec, attach))
    }

    fn remove(&self, spec: &TriggerSpec) -> Result<(), Failure> {
        self.front_end().remove(spec)
    }

    fn remove_by(&self, spec: &TriggerSpec, detach: Detach<'_>) -> Result<(), Failure> {
        self.front_end().remove_by(spec, detach)
    }

    fn let_go(&self, triggers: &[TriggerSpec], detach: Detach<'_>) -> Result<(), Failure> {
        self.front_end().let_go(triggers, detach)
    }

    fn entry_root(&self, path: &BStr) -> Option<BString> {
        self.front_end().entry_root(path)
    }

    fn key_directory(&self, path: &BStr) -> Option<Directory> {
        self.front_end().key_directory(path)
    }

    fn make_directory(&self, path: &BStr) -> Option<Result<bool, Failure>> {
        self.front_end().make_directory(path)
    }

    fn remove_directory(&self, path: &BStr) -> Option<Result<(), Failure>> {
        self.front_end().remove_directory(path)
    }
}

impl Front<'_> {
    fn install_with(
        &self,
        spec: &TriggerSpec,
        install: impl FnOnce(&dyn FrontEnd) -> Result<(), Failure>,
    ) -> Result<(), Failure> {
        let keys = self.submount_keys(spec)?;
        install(self.front_end())?;
        if !keys.is_empty() {
            self.front_end().list(spec.id, &keys);
        }
        Ok(())
    }
}

/// How soon steps are done, or found to be for workers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Pace {
    /// In no time.
    Quick,
    /// When a disk has answered: mostly in no time.
    Disk,
    /// A submount's map is looked for.
    Slow,
}

/// How soon all of `steps` is done.
pub(crate) fn pace(steps: &[Planned], settings: &Settings) -> Pace {
    let paces = steps.iter().map(|planned| match &planned.step {
        Step::Mount { attempts, .. } if settings.program.is_none() => {
            let slow = |attempt: &Attempt| is_on_disk(&attempt.what);
            if attempts.iter().any(slow) {
                Pace::Disk
            } else {
                Pace::Quick
            }
        }
        Step::Install(spec) if spec.kind == TriggerKind::Indirect => Pace::Slow,
        // Who is inside is looked for.
        Step::LetGo { .. } => Pace::Slow,
        _ => Pace::Quick,
    });
    paces.max_by_key(|pace| *pace as u8).unwrap_or(Pace::Quick)
}

/// Whether anything but the trigger itself is mounted at or below a path; true where that cannot be
/// known.
pub(crate) fn is_anything_within(path: &BStr) -> bool {
    let Ok(text) = piton_mount::table::read() else {
        return true;
    };
    let table = piton_mount::table::Table::parse(&text);
    let mut within = table.within(path).into_iter();
    within.any(|mount| *mount.fstype != "autofs" || *mount.point != *path)
}

/// How many of `steps` change what is mounted.
pub(crate) fn effects(steps: &[Planned]) -> usize {
    let changes = steps.iter().filter(|planned| {
        matches!(
            planned.step,
            Step::Mount { .. }
                | Step::Unmount { .. }
                | Step::LetGo { .. }
                | Step::Install(_)
                | Step::Remove(_)
                | Step::Symlink { .. }
                | Step::RemoveSymlink { .. }
        )
    });
    changes.count()
}

/// Makes a directory and its parents; returns those that were missing, parents first.
fn make_directories(path: &Path) -> std::io::Result<Vec<PathBuf>> {
    use std::io::ErrorKind;
    // Mostly it is there, or only itself is missing.
    match (std::fs::create_dir(path), path.parent()) {
        (Ok(()), _) => Ok(vec![path.to_owned()]),
        (Err(error), _) if error.kind() == ErrorKind::AlreadyExists => Ok(Vec::new()),
        (Err(error), Some(parent)) if error.kind() == ErrorKind::NotFound => {
            let mut made = make_directories(parent)?;
            match std::fs::create_dir(path) {
                Ok(()) => made.push(path.to_owned()),
                Err(error) if error.kind() == ErrorKind::AlreadyExists => {}
                Err(error) => {
                    drop(remove_directories(made));
                    return Err(error);
                }
            }
            Ok(made)
        }
        (Err(error), _) => Err(error),
    }
}

/// Removes directories that were made, the deepest first; what is not empty stays. Returns
/// those.
fn remove_directories(mut made: Vec<PathBuf>) -> Vec<PathBuf> {
    while made
        .pop_if(|directory| std::fs::remove_dir(directory).is_ok())
        .is_some()
    {}
    made
}
