//! One access: a snapshot is found or taken, and mounted.

use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;

use bstr::{BStr, BString, ByteSlice};

use super::choose::states;
use super::chores::Chores;
use super::{Choice, Command, Ending, Event, Fault, Look, choose, errno, widened};
use crate::found::Health;
use crate::limits;
use crate::manifest::{Consistency, Manifest};
use crate::name::Name;
use crate::origin::{Kind, Origin};
use crate::record::{Phase, Record};
use crate::request::When;
use crate::settings::{Freeze, Settings};

/// What is asked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Wanted {
    /// What the entry says.
    pub settings: Settings,
    /// The path that such snapshots are counted under.
    pub series: BString,
}

impl Wanted {
    /// What an access at `target` asks for. Snapshots that were taken there before are counted with
    /// this one: those of a group's other members, and those that are asked for by time.
    pub fn new(settings: Settings, target: &BStr) -> Self {
        let own = settings.origin().own_name();
        let series = match target.strip_suffix(own.as_bytes()) {
            Some(above) if settings.origins.len() > 1 => above.trim_end_with(|c| c == '/'),
            _ => target.as_bytes(),
        };
        let start = series.rfind_byte(b'/').map_or(0, |slash| slash + 1);
        let end = series[start..]
            .find_byte(b'@')
            .map_or(series.len(), |at| start + at);
        Self {
            settings,
            series: series[..end].into(),
        }
    }
}

/// One access. Its commands come in this order: lock, look, finish what was left, then, for a new
/// snapshot, write, before-hook, freeze, create, thaw, after-hook, look, write; then mount.
#[derive(Clone, Debug)]
pub struct Access {
    wanted: Wanted,
    held: Vec<Origin>,
    relocks: usize,
    stage: Stage,
    /// What a crash left, or what this access takes back.
    chores: Chores,
    record: Option<Record>,
    notes: Vec<String>,
}

/// Which command is under way.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Stage {
    Before,
    Locking,
    Looking,
    Mending(Look),
    Writing,
    BeforeHook,
    Freezing,
    /// Some could not be frozen: all are thawed, and it goes on without.
    Unfreezing,
    Creating,
    Thawing,
    AfterHook,
    Verifying,
    Sealing,
    Mounting {
        manifest: Manifest,
        fresh: bool,
    },
    TakingBack(Fault),
}

impl Access {
    /// An access that has not begun.
    pub fn new(wanted: Wanted) -> Self {
        let mut held = wanted.settings.origins.clone();
        held.sort();
        held.dedup();
        Self {
            wanted,
            held,
            relocks: 0,
            stage: Stage::Before,
            chores: Chores::default(),
            record: None,
            notes: Vec::new(),
        }
    }

    /// What comes next.
    pub fn next(&mut self, event: Event) -> Command {
        let stage = core::mem::replace(&mut self.stage, Stage::Before);
        match (stage, event) {
            (Stage::Before, Event::Begin) => self.lock(),
            (Stage::Locking, Event::Done) => self.look(),
            (Stage::Looking, Event::Looked(look)) => self.looked(look),
            (Stage::Mending(look), Event::Done) => self.mended(look, Ok(())),
            (Stage::Mending(look), Event::Failed(fault)) => self.mended(look, Err(fault)),
            (Stage::TakingBack(why), Event::Done) => self.took_back(why, Ok(())),
            (Stage::TakingBack(why), Event::Failed(fault)) => self.took_back(why, Err(fault)),
            (Stage::Mounting { manifest, fresh }, Event::Done) => Command::End(Ending::Mounted {
                manifest,
                fresh,
                notes: core::mem::take(&mut self.notes),
            }),
            (Stage::Mounting { fresh: false, .. }, Event::Failed(fault)) => failed(fault),
            (stage, event) => match self.record.take() {
                Some(record) => self.taking(&stage, event, record),
                None => failed(fault_of(event)),
            },
        }
    }

    fn lock(&mut self) -> Command {
        self.stage = Stage::Locking;
        Command::Lock {
            origins: self.held.clone(),
        }
    }

    fn look(&mut self) -> Command {
        self.stage = Stage::Looking;
        Command::Look {
            origins: self.held.clone(),
            means: self.wanted.settings.means.clone(),
            // Of what exists the origin need not be there any more.
            states: self.wanted.settings.when == When::Fresh,
            only: None,
        }
    }

    fn looked(&mut self, look: Look) -> Command {
        if let Some(all) = widened(&look, &self.held) {
            self.relocks += 1;
            if self.relocks > limits::RELOCKS {
                let text = "groups that were left unfinished overlap without end";
                return failed(Fault::new(errno::IO, text));
            }
            self.held = all;
            return self.lock();
        }
        for record in look.records.iter().filter(|record| record.is_unfinished()) {
            self.chores.remove(record);
        }
        self.mend(look)
    }

    fn mended(&mut self, look: Look, result: Result<(), Fault>) -> Command {
        self.chores.went(result);
        self.mend(look)
    }

    /// Goes on with what a crash left; when that is done as far as it can be, chooses.
    fn mend(&mut self, look: Look) -> Command {
        if let Some(command) = self.chores.next() {
            self.stage = Stage::Mending(look);
            return command;
        }
        let chores = core::mem::take(&mut self.chores);
        if let Some(fault) = chores.frozen {
            let text = format!("what was left frozen cannot be thawed: {}", fault.text);
            return failed(Fault::new(fault.errno, text));
        }
        let settings = &self.wanted.settings;
        match choose(settings, &look) {
            Choice::Refused(fault) => failed(fault),
            Choice::Existing(name) => {
                let manifest = self.manifest(&look, name);
                self.mount(manifest, false)
            }
            Choice::New(name) => self.begin(&look, name),
        }
    }

    /// What is told about a snapshot that exists.
    fn manifest(&self, look: &Look, name: Name) -> Manifest {
        let origin = self.wanted.settings.origin();
        let record = look
            .records
            .iter()
            .find(|record| record.is_of(origin, name));
        record.map_or_else(
            // Without a record nobody can say more.
            || Manifest {
                name,
                origins: self.wanted.settings.origins.clone(),
                consistency: Consistency::Crash,
            },
            Record::manifest,
        )
    }

    fn mount(&mut self, manifest: Manifest, fresh: bool) -> Command {
        let settings = &self.wanted.settings;
        let command = Command::Mount {
            origin: settings.origin().clone(),
            name: manifest.name,
            means: settings.means.clone(),
            manifest: manifest.clone(),
        };
        self.stage = Stage::Mounting { manifest, fresh };
        command
    }

    /// Begins to take a snapshot.
    fn begin(&mut self, look: &Look, name: Name) -> Command {
        let settings = &self.wanted.settings;
        let instant = states(settings, look).all(|state| state.instant);
        let by_itself = states(settings, look)
            .all(|state| state.freezes && !in_turn(&settings.origins) || state.mounted.is_none());
        let frozen = match settings.freeze {
            _ if by_itself => false,
            Freeze::Never if in_turn(&settings.origins) => {
                let text = "the snapshots of a group are of one instant only if its file systems \
                            are frozen; remove freeze=no";
                return failed(Fault::new(errno::OPNOTSUPP, text));
            }
            Freeze::Never => false,
            // What is copied file by file is copied to the file system that would be frozen.
            Freeze::Auto => instant,
            Freeze::Always if instant => true,
            Freeze::Always => {
                let text = format!(
                    "{} is copied file by file and cannot be frozen meanwhile; remove freeze=yes",
                    settings.origin()
                );
                return failed(Fault::new(errno::OPNOTSUPP, text));
            }
        };
        let whole = states(settings, look).all(|state| state.whole);
        if !whole && settings.freeze != Freeze::Never {
            let text = format!(
                "{} is on btrfs, whose snapshots may lack what was written last, as after a power \
                 failure: mount it with flushoncommit",
                settings.origin()
            );
            if settings.freeze == Freeze::Always {
                return failed(Fault::new(errno::OPNOTSUPP, text));
            }
            self.notes.push(text);
        }
        let settings = &self.wanted.settings;
        let record = Record {
            name,
            origins: settings.origins.clone(),
            phase: Phase::Taking {
                frozen,
                after: settings.hooks.after.clone(),
            },
            series: self.wanted.series.clone(),
            policy: settings.policy,
            means: settings.means.clone(),
            consistency: match (instant, by_itself) {
                (false, _) => Consistency::FileByFile,
                (true, true) if whole => Consistency::Frozen,
                (true, _) => Consistency::Crash,
            },
        };
        self.enter(Stage::Writing, Command::Write(record.clone()), record)
    }

    fn enter(&mut self, stage: Stage, command: Command, record: Record) -> Command {
        self.stage = stage;
        self.record = Some(record);
        command
    }

    /// One step of taking a snapshot is over.
    fn taking(&mut self, stage: &Stage, event: Event, mut record: Record) -> Command {
        let done = event == Event::Done;
        match stage {
            // Nothing was done. If the record stands nevertheless, a sweep will find it.
            Stage::Writing if !done => failed(fault_of(event)),
            Stage::Writing => self.before_hook(record),
            Stage::BeforeHook if !done => {
                let fault = fault_of(event);
                let text = format!("no snapshot taken: {}", fault.text);
                if let Phase::Taking { frozen, .. } = &mut record.phase {
                    *frozen = false;
                }
                self.take_back(record, Fault::new(fault.errno, text))
            }
            Stage::BeforeHook => {
                if record.consistency > Consistency::FileByFile {
                    record.consistency = Consistency::Application;
                }
                self.freeze(record)
            }
            Stage::Freezing if done => {
                record.consistency = record.consistency.max(Consistency::Frozen);
                self.create(record)
            }
            Stage::Freezing
                if self.wanted.settings.freeze == Freeze::Always || in_turn(&record.origins) =>
            {
                self.take_back(record, fault_of(event))
            }
            Stage::Freezing => {
                self.notes
                    .push(format!("not frozen: {}", fault_of(event).text));
                let thaw = Command::Thaw {
                    origins: record.origins.clone(),
                };
                self.enter(Stage::Unfreezing, thaw, record)
            }
            Stage::Unfreezing if done => self.create(record),
            Stage::Creating if done => match &record.phase {
                Phase::Taking { frozen: true, .. } => {
                    let thaw = Command::Thaw {
                        origins: record.origins.clone(),
                    };
                    self.enter(Stage::Thawing, thaw, record)
                }
                _ => self.after_hook(record),
            },
            Stage::Thawing if done => self.after_hook(record),
            Stage::AfterHook => {
                if !done {
                    self.notes.push(fault_of(event).text);
                }
                self.verify(record)
            }
            Stage::Verifying => self.verified(event, record),
            Stage::Sealing if done => {
                let manifest = record.manifest();
                let command = self.mount(manifest, true);
                self.record = Some(record);
                command
            }
            Stage::Sealing => {
                record.phase = Phase::Taking {
                    frozen: false,
                    after: None,
                };
                self.take_back(record, fault_of(event))
            }
            // Unfreezing, creating, thawing or mounting failed.
            _ => self.take_back(record, fault_of(event)),
        }
    }

    fn before_hook(&mut self, record: Record) -> Command {
        match &self.wanted.settings.hooks.before {
            Some(program) => {
                let command = Command::Hook {
                    program: program.clone(),
                    before: true,
                    origins: record.origins.clone(),
                    name: record.name,
                };
                self.enter(Stage::BeforeHook, command, record)
            }
            None => self.freeze(record),
        }
    }

    fn freeze(&mut self, record: Record) -> Command {
        match record.phase {
            Phase::Taking { frozen: true, .. } => {
                let freeze = Command::Freeze {
                    origins: record.origins.clone(),
                };
                self.enter(Stage::Freezing, freeze, record)
            }
            _ => self.create(record),
        }
    }

    fn create(&mut self, record: Record) -> Command {
        let command = Command::Create {
            origins: record.origins.clone(),
            name: record.name,
            means: record.means.clone(),
        };
        self.enter(Stage::Creating, command, record)
    }

    fn after_hook(&mut self, record: Record) -> Command {
        match &self.wanted.settings.hooks.after {
            Some(program) => {
                let command = Command::Hook {
                    program: program.clone(),
                    before: false,
                    origins: record.origins.clone(),
                    name: record.name,
                };
                self.enter(Stage::AfterHook, command, record)
            }
            None => self.verify(record),
        }
    }

    fn verify(&mut self, mut record: Record) -> Command {
        // From here on taking back means removing, and nothing else.
        record.phase = Phase::Taking {
            frozen: false,
            after: None,
        };
        let command = Command::Look {
            origins: record.origins.clone(),
            means: record.means.clone(),
            states: false,
            only: Some(record.name),
        };
        self.enter(Stage::Verifying, command, record)
    }

    fn verified(&mut self, event: Event, mut record: Record) -> Command {
        let look = match event {
            Event::Looked(look) => look,
            event => return self.take_back(record, fault_of(event)),
        };
        let is_good = |origin: &Origin| {
            let mut found = look.listed.iter();
            found.any(|it| {
                it.name == record.name && it.origin == *origin && it.health == Health::Good
            })
        };
        if let Some(origin) = record.origins.iter().find(|origin| !is_good(origin)) {
            let text = format!("the snapshot of {origin} that was just taken is not usable");
            return self.take_back(record, Fault::new(errno::IO, text));
        }
        record.phase = Phase::Made;
        self.enter(Stage::Sealing, Command::Write(record.clone()), record)
    }

    /// Undoes what was done of a new snapshot.
    fn take_back(&mut self, record: Record, why: Fault) -> Command {
        self.chores.remove(&record);
        self.take_back_on(why)
    }

    fn took_back(&mut self, why: Fault, result: Result<(), Fault>) -> Command {
        self.chores.went(result);
        self.take_back_on(why)
    }

    fn take_back_on(&mut self, why: Fault) -> Command {
        match self.chores.next() {
            Some(command) => {
                self.stage = Stage::TakingBack(why);
                command
            }
            None => {
                let chores = core::mem::take(&mut self.chores);
                let mut why = why;
                if let Some(fault) = chores.frozen {
                    why.text = format!("{}; it stays frozen: {}", why.text, fault.text);
                }
                failed(why)
            }
        }
    }
}

/// Whether these are several of which snapshots are made one after the other, so that they are of one
/// instant only if all are frozen meanwhile.
fn in_turn(origins: &[Origin]) -> bool {
    let kind = origins.first().map(Origin::kind);
    origins.len() > 1 && matches!(kind, Some(Kind::Lvm | Kind::Image))
}

fn failed(fault: Fault) -> Command {
    Command::End(Ending::Failed(fault))
}

fn fault_of(event: Event) -> Fault {
    match event {
        Event::Failed(fault) => fault,
        event => Fault::unexpected(&event),
    }
}
