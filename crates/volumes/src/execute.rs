//! Carrying out the commands of a snapshot's life ([`piton_snapshot::lifecycle`]).

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::os::fd::AsFd;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use bstr::{BStr, BString, ByteSlice};
use piton_snapshot::lifecycle::{
    Access, Command, Ending, Event, Fault, Look, Sweep, Swept, Wanted,
};
use piton_snapshot::{
    Found, Manifest, Means, Name, Origin, Phase, Policy, Record, Timestamp, When,
};

use crate::closed::check_closed;
use crate::error::Error;
use crate::guard::{Still, thaw_path};
use crate::journal::{Beside, Journal};
use crate::limits;
use crate::lock::{Lock, file_of};
use crate::opened::Opened;
use crate::program::Run;
use crate::provider::View;
use crate::providers::Providers;
use crate::turn::Turn;

/// Where what is common to all who work on snapshots is.
#[derive(Clone, Debug)]
pub struct Site {
    /// For the journal, which outlives the machine, and the locks. Together: who goes by the same
    /// records must not be at work at the same time, whichever daemon or command it is.
    pub state: PathBuf,
    /// What is started to look after frozen file systems, and calls [`serve_guard`].
    ///
    /// [`serve_guard`]: crate::serve_guard
    pub guard: Vec<OsString>,
    /// Who makes snapshots.
    pub providers: Providers,
}

/// Mounts a view where an access is. Called with the locks held.
pub type Mount<'a> = &'a mut dyn FnMut(&View, &Manifest) -> Result<(), Fault>;

/// One access or sweep being carried out.
struct Execution<'a> {
    site: &'a Site,
    journal: Journal,
    until: Instant,
    hook_time: Duration,
    /// Whether it matters what is in use.
    busy: bool,
    /// Whether snapshots of an origin that is not there are looked for: not by a sweep, which leaves
    /// them alone until it comes back.
    gone: bool,
    locks: Vec<Lock>,
    opened: Opened,
    still: Option<Still>,
    /// The journal's last line, on its way to the disk.
    landing: Option<Beside>,
}

impl Site {
    /// With all providers and their usual tools.
    pub fn new(state: PathBuf, guard: Vec<OsString>) -> Self {
        Self {
            state,
            guard,
            providers: Providers::default(),
        }
    }

    /// Finds or takes a snapshot, and has it mounted, by `until`; what was begun then is taken back
    /// in the time that takes.
    pub fn access(&self, wanted: Wanted, until: Instant, mount: Mount<'_>) -> Ending {
        let mut execution = Execution::new(self, until);
        if let Some(time) = wanted.settings.hooks.time {
            execution.hook_time = Duration::from_secs(time.0);
        }
        let shown_at = wanted.series.clone();
        // Only a group looks for one of which somebody uses a part.
        execution.busy = wanted.settings.origins.len() > 1;
        execution.gone = wanted.settings.when != When::Fresh;
        let mut access = Access::new(wanted);
        let mut event = Event::Begin;
        loop {
            event = match access.next(event) {
                Command::End(ending) => return ending,
                Command::Mount {
                    origin,
                    name,
                    means,
                    manifest,
                } => {
                    let view =
                        execution
                            .provider(&origin)
                            .view(&origin, name, execution.turn(&means));
                    event_of(
                        view.and_then(|view| for_users(view, shown_at.as_bstr()))
                            .map_err(fault_of)
                            .and_then(|view| mount(&view, &manifest)),
                    )
                }
                command => execution.carry_out(command),
            };
        }
    }

    /// Finishes what a crash left of the snapshots of `origins`, and removes what is not kept.
    pub fn sweep(&self, origins: Vec<Origin>, means: Means, until: Instant) -> Swept {
        let mut execution = Execution::new(self, until);
        let mut sweep = Sweep::new(origins, means);
        let mut event = Event::Begin;
        loop {
            event = match sweep.next(event) {
                Command::End(Ending::Swept(swept)) => return swept,
                Command::End(_) => return Swept::default(),
                command => execution.carry_out(command),
            };
        }
    }

    /// All that the journal knows.
    ///
    /// # Errors
    /// It cannot be read.
    pub fn records(&self, until: Instant) -> Result<Vec<Record>, Error> {
        Journal::new(&self.state).read(until)
    }

    /// The snapshots of an origin that are ours.
    ///
    /// # Errors
    /// Those of [`Provider::list`](crate::Provider::list).
    pub fn list(
        &self,
        origin: &Origin,
        means: &Means,
        until: Instant,
    ) -> Result<Vec<Found>, Error> {
        let turn = Turn {
            means,
            gone: true,
            ..Turn::until(until)
        };
        self.providers.of(origin.kind()).list(origin, turn)
    }
}

impl<'a> Execution<'a> {
    fn new(site: &'a Site, until: Instant) -> Self {
        Self {
            site,
            journal: Journal::new(&site.state),
            until,
            hook_time: limits::HOOK,
            busy: true,
            gone: false,
            locks: Vec::new(),
            opened: Opened::default(),
            still: None,
            landing: None,
        }
    }

    fn provider(&self, origin: &Origin) -> &'a dyn crate::Provider {
        self.site.providers.of(origin.kind())
    }

    /// What is undone has time in any case.
    fn turn_until<'t>(&'t self, means: &'t Means, until: Instant) -> Turn<'t> {
        Turn {
            until,
            lock: self.locks.first().map(|lock| lock.file.as_fd()),
            means,
            busy: self.busy,
            gone: self.gone,
            opened: Some(&self.opened),
        }
    }

    fn turn<'t>(&'t self, means: &'t Means) -> Turn<'t> {
        self.turn_until(means, self.until)
    }

    fn later(&self) -> Instant {
        self.until.max(Instant::now() + limits::UNDO)
    }

    fn carry_out(&mut self, command: Command) -> Event {
        // Others may have been at the origins meanwhile.
        if let Command::Lock { .. } | Command::Hook { .. } = &command {
            self.opened.close();
        }
        let done = match command {
            Command::Lock { origins } => self.lock(&origins),
            Command::Look {
                origins,
                means,
                states,
                only,
            } => {
                let look = match only {
                    None => self.look(&origins, &means, states),
                    Some(name) => self.look_at(&origins, name, &means),
                };
                return match look {
                    Ok(look) => Event::Looked(look),
                    Err(error) => Event::Failed(fault_of(error)),
                };
            }
            Command::Write(record) => self.write(&record),
            Command::Forget { name, origins } => self.journal.forget(name, &origins, self.later()),
            Command::Hook {
                program,
                before,
                origins,
                name,
            } => self.hook(program.as_bstr(), before, &origins, name),
            Command::Freeze { origins } => self.freeze(&origins),
            Command::Thaw { origins } => self.thaw(&origins),
            Command::Create {
                origins,
                name,
                means,
            } => self.create(&origins, name, &means),
            Command::Remove {
                origin,
                name,
                means,
            } => {
                let turn = self.turn_until(&means, self.later());
                self.provider(&origin).remove(&origin, name, turn)
            }
            Command::Mount { .. } | Command::End(_) => Ok(()),
        };
        event_of(done.map_err(fault_of))
    }

    /// Gives all locks back and takes these, in the order of their files.
    fn lock(&mut self, origins: &[Origin]) -> Result<(), Error> {
        self.locks.clear();
        let directory = self.site.state.join("locks");
        let mut files: Vec<_> = origins.iter().map(|it| file_of(&directory, it)).collect();
        files.sort();
        files.dedup();
        for file in files {
            self.locks.push(Lock::take(&file, self.until)?);
        }
        Ok(())
    }

    fn look(&self, origins: &[Origin], means: &Means, states: bool) -> Result<Look, Error> {
        let records = self.journal.read_of(origins, self.later())?;
        let mut listed: BTreeMap<(Origin, Name), Found> = BTreeMap::new();
        let mut seen = Vec::new();
        for origin in origins {
            let of_records = records
                .iter()
                .filter(|record| record.origins.contains(origin));
            let all = of_records.map(|record| &record.means).chain([means]);
            for means in all {
                // The room of a snapshot says nothing about where it is.
                if seen.contains(&(origin, &means.store)) {
                    continue;
                }
                seen.push((origin, &means.store));
                let found = self.provider(origin).list(origin, self.turn(means))?;
                let found = found
                    .into_iter()
                    .map(|it| ((it.origin.clone(), it.name), it));
                listed.extend(found);
            }
        }
        let state = |origin: &Origin| self.provider(origin).inspect(origin, self.turn(means));
        Ok(Look {
            now: now(),
            listed: listed.into_values().collect(),
            states: match states {
                true => origins.iter().map(state).collect::<Result<_, _>>()?,
                false => Vec::new(),
            },
            records,
        })
    }

    /// Looks at one snapshot and nothing else.
    fn look_at(&self, origins: &[Origin], name: Name, means: &Means) -> Result<Look, Error> {
        let find = |origin: &Origin| {
            let found = self.provider(origin).find(origin, name, self.turn(means));
            found.transpose()
        };
        Ok(Look {
            now: now(),
            records: Vec::new(),
            listed: origins.iter().filter_map(find).collect::<Result<_, _>>()?,
            states: Vec::new(),
        })
    }

    /// That something is being taken need not be on disk before it is begun, only before it is said
    /// to be there: the wait for one disk goes on beside that for the other.
    fn write(&mut self, record: &Record) -> Result<(), Error> {
        let landing = self.journal.write(record, self.later())?;
        match &record.phase {
            Phase::Taking { .. } => {
                self.landing = Some(landing.wait_beside()?);
                Ok(())
            }
            // One that is not kept is gone when the machine comes back, if its record says so or not.
            Phase::Made if record.policy == Policy::default() => Ok(()),
            Phase::Made | Phase::Removing => landing.wait(),
        }
    }

    fn create(&mut self, origins: &[Origin], name: Name, means: &Means) -> Result<(), Error> {
        let Some(first) = origins.first() else {
            return Ok(());
        };
        let made = self.provider(first).create(origins, name, self.turn(means));
        let landed = self.landing.take().map_or(Ok(()), Beside::wait);
        made.and(landed)
    }

    /// Runs a program of the administrator: its arguments are `before` or `after`, the snapshot's
    /// name, and the origins.
    fn hook(
        &self,
        program: &BStr,
        before: bool,
        origins: &[Origin],
        name: Name,
    ) -> Result<(), Error> {
        let means = Means::default();
        let turn = self.turn_until(&means, Instant::now() + self.hook_time);
        let path = Path::new(std::ffi::OsStr::from_bytes(program));
        let when = if before { "before" } else { "after" };
        let first = origins.first().map_or("".into(), Origin::path);
        Run::new(path, first)
            .arg(when)
            .arg(name.taken.compact().to_string())
            .args(origins.iter().map(ToString::to_string))
            .report(turn)
            .map(drop)
    }

    fn freeze(&mut self, origins: &[Origin]) -> Result<(), Error> {
        let paths = self.mounted(origins)?;
        if paths.is_empty() {
            return Ok(());
        }
        self.still = Some(Still::new(&paths, &self.site.guard, limits::STILL)?);
        Ok(())
    }

    /// What we froze; else, after a crash, what is frozen.
    fn thaw(&mut self, origins: &[Origin]) -> Result<(), Error> {
        if let Some(still) = self.still.take() {
            return still.go();
        }
        let mut result = Ok(());
        for path in self.mounted(origins)? {
            result = result.and(thaw_path(&path));
        }
        result
    }

    /// Where the file systems of these origins are mounted.
    fn mounted(&self, origins: &[Origin]) -> Result<Vec<BString>, Error> {
        let means = Means::default();
        let mut paths = Vec::new();
        for origin in origins {
            let turn = self.turn_until(&means, self.later());
            let state = self.provider(origin).inspect(origin, turn)?;
            paths.extend(state.mounted);
        }
        Ok(paths)
    }
}

/// A view as users may see it at a path: nothing is open in it that is closed above the origin, and
/// what was a way to more rights then is none now, for its holes may have been closed since.
fn for_users(mut view: View, path: &BStr) -> Result<View, Error> {
    if let Some(live) = &view.live {
        check_closed(live.as_bstr(), path)?;
    }
    view.options.extend(["nosuid", "nodev"].map(BString::from));
    Ok(view)
}

fn now() -> Timestamp {
    let since = SystemTime::now().duration_since(UNIX_EPOCH);
    Timestamp(since.map_or(0, |since| {
        u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
    }))
}

fn event_of(result: Result<(), Fault>) -> Event {
    match result {
        Ok(()) => Event::Done,
        Err(fault) => Event::Failed(fault),
    }
}

fn fault_of(error: Error) -> Fault {
    Fault::new(error.errno().raw_os_error(), error.to_string())
}
