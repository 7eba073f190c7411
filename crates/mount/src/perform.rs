//! Doing steps in order, and taking them back when a required one fails.

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use bstr::{BStr, BString, ByteSlice};
use piton_map::options::Propagation;
use piton_plan::step::{Attempt, Planned, Step, TriggerSpec, What};
use rustix::fd::{AsFd, BorrowedFd};

use crate::error::Error;
use crate::far::Far;
use crate::hands::System;
use crate::lane::{Hold, Lane};
use crate::limits;
use crate::place::How;
use crate::snapshot::Places;
use crate::workers::Workers;

/// How a [`perform`] ended.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Outcome {
    /// Steps in effect at the end: done and not taken back.
    pub done: Vec<Done>,
    /// The required step that failed, if one did; what could be was then taken back.
    pub failed: Option<Failure>,
    /// Steps that were not required and failed.
    pub tolerated: Vec<Failure>,
    /// A required step failed and all that had been done is taken back: nothing is left behind.
    pub undone: bool,
    /// What could not be taken back, by the index of the step it belongs to; `done` still has it.
    pub not_undone: Vec<Failure>,
}

/// A step that is in effect.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Done {
    /// Its index in the list.
    pub index: usize,
    /// Which attempt of a mount worked; 0 for other steps.
    pub attempt: usize,
    /// Whether mount(8) or another program did it, which then also unmounts it.
    pub helper: bool,
    /// Directories or links that did not exist before, parents first: the ones that may be
    /// removed again.
    pub created: Vec<BString>,
}

/// A step that failed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Failure {
    /// Its index in the list.
    pub index: usize,
    /// What the system said, as errno(3) numbers it.
    pub errno: i32,
    /// The same in words, with the kernel's or the helper's text.
    pub text: String,
}

impl Failure {
    /// A failure for implementers of [`Triggers`]; the index is filled in by [`perform`].
    pub fn new(errno: i32, text: impl Into<String>) -> Self {
        Self {
            index: 0,
            errno,
            text: text.into(),
        }
    }

    fn of(index: usize, error: &Error) -> Self {
        Self {
            index,
            errno: error.errno().raw_os_error(),
            text: error.to_string(),
        }
    }
}

impl From<autofs::Error> for Failure {
    fn from(error: autofs::Error) -> Self {
        let errno = error.errno().unwrap_or(rustix::io::Errno::IO);
        Self::new(errno.raw_os_error(), error.to_string())
    }
}

impl From<Failure> for Error {
    fn from(failure: Failure) -> Self {
        let errno = rustix::io::Errno::from_raw_os_error(failure.errno);
        Self::Trigger {
            errno,
            words: failure.text,
        }
    }
}

/// What only the front end can do: triggers are its own, and so are directories in them.
pub trait Triggers {
    /// Puts a trigger in place.
    ///
    /// # Errors
    /// It could not be; nothing of it is left.
    fn install(&self, spec: &TriggerSpec) -> Result<(), Failure>;

    /// Takes a trigger away.
    ///
    /// # Errors
    /// It is still in place.
    fn remove(&self, spec: &TriggerSpec) -> Result<(), Failure>;

    /// [`Triggers::install`] where `attach` attaches the trigger's detached mount: it knows how to
    /// do that in a place that a server may have to be asked about.
    ///
    /// # Errors
    /// As [`Triggers::install`], and those of `attach`.
    fn install_by(&self, spec: &TriggerSpec, attach: Attach<'_>) -> Result<(), Failure> {
        let _ = attach;
        self.install(spec)
    }

    /// [`Triggers::remove`] where `detach` unmounts the trigger.
    ///
    /// # Errors
    /// As [`Triggers::remove`], and those of `detach`.
    fn remove_by(&self, spec: &TriggerSpec, detach: Detach<'_>) -> Result<(), Failure> {
        let _ = detach;
        self.remove(spec)
    }

    /// Forgets triggers that `detach` unmounts, together with what they lie on. Who waits in one of
    /// them is told; a later request of theirs means nothing any more.
    ///
    /// # Errors
    /// `EBUSY`: an answer through one of them is still under way, which would find no way any more.
    /// Those of `detach`. All is as it was.
    fn let_go(&self, triggers: &[TriggerSpec], detach: Detach<'_>) -> Result<(), Failure> {
        let _ = triggers;
        detach()
    }

    /// The mount point of the indirect or direct trigger (not of an offset) that `path` is at or
    /// below, if it is known. What lies below it is a server's: no symbolic link is followed
    /// there. Without an answer links are followed down to the directory of the first step's path,
    /// which for a lazily mounted offset is too far.
    fn entry_root(&self, path: &BStr) -> Option<BString> {
        let _ = path;
        None
    }

    /// The open root of the automount that `path` is a key of, if it is one of an indirect map's:
    /// what is there is found without a further walk.
    fn key_directory(&self, path: &BStr) -> Option<Directory> {
        let _ = path;
        None
    }

    /// Makes the directory of a key in one of its triggers. `None`: the path is not in a trigger
    /// and is made in the ordinary way. `Some(Ok(false))`: it was there already.
    fn make_directory(&self, path: &BStr) -> Option<Result<bool, Failure>> {
        let _ = path;
        None
    }

    /// Removes such a directory if it is empty. `None` as in [`Triggers::make_directory`].
    fn remove_directory(&self, path: &BStr) -> Option<Result<(), Failure>> {
        let _ = path;
        None
    }
}

/// An open directory.
pub type Directory = std::sync::Arc<dyn AsFd + Send + Sync>;

/// Attaches a detached mount where it belongs.
pub type Attach<'a> = &'a mut dyn FnMut(BorrowedFd<'_>) -> Result<(), Failure>;

/// Unmounts a trigger.
pub type Detach<'a> = &'a mut dyn FnMut() -> Result<(), Failure>;

/// The administrator's own mount program, used for every mount in place of the kernel's API.
///
/// It is run as `PROG -t TYPE [-o OPTS] WHAT WHERE`, for binds `PROG --bind [-o OPTS] WHAT WHERE`
/// (or `--rbind`); an empty type is given as `-t ''`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Program {
    /// Mounts.
    pub mount: PathBuf,
    /// Unmounts, run as `PROG WHERE`; without it the kernel is asked.
    pub umount: Option<PathBuf>,
}

impl Program {
    /// The program, and the one called `umount` in the same directory if there is one.
    pub fn beside(mount: impl Into<PathBuf>) -> Self {
        let mount = mount.into();
        let umount = mount.with_file_name("umount");
        let umount = umount.is_file().then_some(umount);
        Self { mount, umount }
    }
}

/// How steps are done on this machine. One value for a daemon's life.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Settings {
    /// Goes in place of every mount and unmount of ours.
    pub program: Option<Program>,
    /// Time for all steps of one call together. Helpers are killed at its end.
    pub deadline: Duration,
    /// mount(8).
    pub mount: PathBuf,
    /// umount(8).
    pub umount: PathBuf,
    /// A command that walks to a path (appended as its last argument, ending in `/.`) in a process
    /// group of its own, so that automounts on the way are triggered.
    pub walker: Vec<OsString>,
    /// Where those who work on snapshots meet; `None`: none are taken.
    pub snapshots: Option<Places>,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            program: None,
            deadline: limits::DEADLINE,
            mount: system_program("mount"),
            umount: system_program("umount"),
            walker: vec![system_program("ls").into(), "-d".into(), "--".into()],
            snapshots: None,
        }
    }
}

/// Where the system keeps a program; looked up once, since a helper started by absolute path is
/// spawned without a copy of our memory.
fn system_program(name: &str) -> PathBuf {
    let places = ["/usr/bin", "/bin", "/usr/sbin", "/sbin"].map(|dir| Path::new(dir).join(name));
    let [first, ..] = &places;
    places
        .iter()
        .find(|path| path.is_file())
        .unwrap_or(first)
        .clone()
}

/// Does `steps` in order, in this thread, however long it takes. A required step that fails ends it, and what was done is taken back in
/// reverse order; the failure of any other step is noted and the rest goes on.
///
/// Symbolic links are followed down to the [`Triggers::entry_root`], or, if that is not known, to
/// the directory that holds the shallowest path of the steps; below that none is followed.
pub fn perform(steps: &[Planned], triggers: &dyn Triggers, settings: &Settings) -> Outcome {
    let root = root_of(steps, triggers);
    perform_below(root.as_bstr(), steps, triggers, settings)
}

fn root_of(steps: &[Planned], triggers: &dyn Triggers) -> BString {
    let path = shallowest(steps);
    triggers
        .entry_root(path)
        .unwrap_or_else(|| directory_of(path).into())
}

/// [`perform`] for an entry whose root is known: the mount point of the indirect map, or the direct
/// key. Paths outside of it are refused, and below it no symbolic link is followed.
pub fn perform_below(
    root: &BStr,
    steps: &[Planned],
    triggers: &dyn Triggers,
    settings: &Settings,
) -> Outcome {
    let until = Instant::now() + settings.deadline;
    let hands = System {
        root,
        settings,
        until,
        how: How::Waiting,
        triggers: None,
    };
    let mut performance = Performance::new(steps.to_vec(), until);
    // Who may wait is never sent elsewhere.
    let _ = performance.go(triggers, &hands);
    performance.into_outcome()
}

/// Steps under way. What can be done without waiting for anybody is done by a thread of the daemon
/// ([`Performance::at_once`]); where it stops, a place in a [`Lane`] is needed, and then worker
/// processes do the rest ([`Performance::with_workers`]).
#[derive(Debug)]
pub struct Performance {
    steps: Vec<Planned>,
    until: Instant,
    /// The step that is next.
    next: usize,
    outcome: Outcome,
    /// While taking back: what stays.
    left: Vec<Done>,
}

impl Performance {
    /// Nothing is done yet; all must be by `until`.
    pub fn new(steps: Vec<Planned>, until: Instant) -> Self {
        Self {
            steps,
            until,
            next: 0,
            outcome: Outcome::default(),
            left: Vec::new(),
        }
    }

    /// Goes on until the end, or until somebody might have to be waited for: then in which lane.
    pub fn at_once(&mut self, triggers: &dyn Triggers, settings: &Settings) -> Option<Lane> {
        let root = root_of(&self.steps, triggers);
        let hands = System {
            root: root.as_bstr(),
            settings,
            until: self.until,
            how: How::AtOnce,
            triggers: Some(triggers),
        };
        self.go(triggers, &hands).err()
    }

    /// Goes on to the end; what might have to wait is done by worker processes. Blocks, but not
    /// much longer than until the deadline. `hold` is the place in the lane.
    pub fn with_workers(
        &mut self,
        triggers: &dyn Triggers,
        settings: &Settings,
        workers: &Workers,
        hold: &Hold,
    ) {
        let root = root_of(&self.steps, triggers);
        let near = System {
            root: root.as_bstr(),
            settings,
            until: self.until,
            how: How::AtOnce,
            triggers: Some(triggers),
        };
        let _ = self.go(triggers, &Far::new(near, workers, hold));
    }

    /// It was not begun, or not gone on with, since its time is over.
    pub fn too_late(&mut self) {
        if self.outcome.failed.is_none() && self.next < self.steps.len() {
            let errno = rustix::io::Errno::TIMEDOUT;
            let text = "not begun within the deadline: others of the same kind are stuck";
            self.outcome.failed = Some(Failure {
                index: self.next,
                ..Failure::new(errno.raw_os_error(), text)
            });
        }
    }

    /// Begins anew, after all was taken back.
    pub fn restart(&mut self) {
        self.next = 0;
        self.outcome = Outcome::default();
        self.left.clear();
    }

    /// What is to be done.
    pub fn steps(&self) -> &[Planned] {
        &self.steps
    }

    /// How it ends, or stands.
    pub fn outcome(&self) -> &Outcome {
        &self.outcome
    }

    /// How it ended.
    pub fn into_outcome(self) -> Outcome {
        self.outcome
    }

    /// Goes on; stops where `hands` might have to wait, and can be called again.
    fn go(&mut self, triggers: &dyn Triggers, hands: &dyn Hands) -> Result<(), Lane> {
        while self.outcome.failed.is_none() && self.next < self.steps.len() {
            let (index, planned) = (self.next, &self.steps[self.next]);
            match carry_out_one(&planned.step, triggers, hands) {
                Ok(done) => self.outcome.done.push(Done { index, ..done }),
                Err(Error::Elsewhere(lane)) => return Err(lane),
                Err(error) if planned.required => {
                    self.outcome.failed = Some(Failure::of(index, &error));
                }
                Err(error) => self.outcome.tolerated.push(Failure::of(index, &error)),
            }
            self.next += 1;
        }
        if self.outcome.failed.is_some() {
            self.take_back(triggers, hands)?;
        }
        Ok(())
    }

    /// Undoes what was done, last first. What could not be undone stays in `done`.
    fn take_back(&mut self, triggers: &dyn Triggers, hands: &dyn Hands) -> Result<(), Lane> {
        let outcome = &mut self.outcome;
        while let Some(done) = outcome.done.pop() {
            match take_back_one(&self.steps[done.index].step, &done, triggers, hands) {
                Ok(true) => {}
                Ok(false) => self.left.push(done),
                Err(Error::Elsewhere(lane)) => {
                    outcome.done.push(done);
                    return Err(lane);
                }
                Err(error) => {
                    outcome.not_undone.push(Failure::of(done.index, &error));
                    self.left.push(done);
                }
            }
        }
        self.left.reverse();
        outcome.undone = self.left.is_empty();
        outcome.done = std::mem::take(&mut self.left);
        Ok(())
    }
}

fn shallowest(steps: &[Planned]) -> &BStr {
    let paths = steps.iter().map(|planned| path_of(&planned.step));
    paths
        .min_by_key(|path| path.len())
        .unwrap_or(BStr::new("/"))
}

fn directory_of(path: &BStr) -> &BStr {
    match path.rfind_byte(b'/') {
        None | Some(0) => BStr::new("/"),
        Some(slash) => path[..slash].as_bstr(),
    }
}

fn path_of(step: &Step) -> &BStr {
    match step {
        Step::MakeDirectory { path }
        | Step::Symlink { path, .. }
        | Step::RemoveDirectory { path }
        | Step::RemoveSymlink { path } => path.as_bstr(),
        Step::Mount { target, .. } | Step::Unmount { target, .. } | Step::LetGo { target, .. } => {
            target.as_bstr()
        }
        Step::Install(spec) | Step::Remove(spec) => spec.path.as_bstr(),
    }
}

/// The operations that steps are made of; tests put a recorder in the system's place.
pub(crate) trait Hands {
    /// Makes a directory and its missing parents; returns those it made, parents first.
    fn make_directory(&self, path: &BStr) -> Result<Vec<BString>, Error>;
    /// Removes a directory if it is there and empty.
    fn remove_directory(&self, path: &BStr) -> Result<(), Error>;
    /// Mounts by one attempt; true when a helper did it.
    fn mount(&self, job: &MountJob<'_>) -> Result<bool, Error>;
    /// Unmounts.
    fn unmount(&self, target: &BStr, helper: bool) -> Result<(), Error>;
    /// Unmounts lazily, with all that lies below.
    fn let_go(&self, target: &BStr) -> Result<(), Error>;
    /// Makes a symbolic link; false when it was there already.
    fn symlink(&self, path: &BStr, to: &BStr) -> Result<bool, Error>;
    /// Removes a symbolic link.
    fn remove_symlink(&self, path: &BStr) -> Result<(), Error>;
    /// Attaches a trigger's detached mount.
    fn attach(&self, mount: BorrowedFd<'_>, path: &BStr) -> Result<(), Error>;
    /// Unmounts a trigger.
    fn detach(&self, path: &BStr) -> Result<(), Error>;
}

/// One attempt at one mount.
#[derive(Clone, Copy, Debug)]
pub(crate) struct MountJob<'a> {
    /// Where.
    pub(crate) target: &'a BStr,
    /// What.
    pub(crate) attempt: &'a Attempt,
    /// Its propagation.
    pub(crate) propagation: Propagation,
    /// How many attempts there are for the time that is left, this one included.
    pub(crate) attempts_left: u32,
}

impl MountJob<'_> {
    /// The propagation of the new mount, `asked` by its options; `None` is that of the mount it
    /// stands on. Only a bind mount has an origin that it could be the slave of, and could
    /// disturb. What is mounted below any other is for all who see it: a container that receives
    /// a tree's root would find empty directories in place of its offsets.
    pub(crate) fn propagates(&self, asked: Option<Propagation>) -> Option<Propagation> {
        match (asked, self.propagation, &self.attempt.what) {
            (Some(asked), _, _) => Some(asked),
            (None, Propagation::Slave, What::Type(_)) => None,
            (None, given, _) => Some(given),
        }
    }
}

fn carry_out_one(step: &Step, triggers: &dyn Triggers, hands: &dyn Hands) -> Result<Done, Error> {
    let mut done = Done {
        index: 0,
        attempt: 0,
        helper: false,
        created: Vec::new(),
    };
    match step {
        Step::MakeDirectory { path } => {
            done.created = match triggers.make_directory(path.as_bstr()) {
                Some(made) => {
                    if made? {
                        vec![path.clone()]
                    } else {
                        Vec::new()
                    }
                }
                None => hands.make_directory(path.as_bstr())?,
            };
        }
        Step::Mount {
            target,
            attempts,
            propagation,
        } => {
            let (attempt, helper) = mount_first(target.as_bstr(), attempts, *propagation, hands)?;
            done.attempt = attempt;
            done.helper = helper;
        }
        Step::Symlink { path, to } => {
            if hands.symlink(path.as_bstr(), to.as_bstr())? {
                done.created.push(path.clone());
            }
        }
        Step::Install(spec) => {
            let mut stop = None;
            let result = triggers.install_by(spec, &mut |mount| {
                aside(hands.attach(mount, spec.path.as_bstr()), &mut stop)
            });
            stop.map_or(result.map_err(Error::from), Err)?;
        }
        Step::Unmount { target, helper } => {
            hands.unmount(target.as_bstr(), *helper)?;
            done.helper = *helper;
        }
        Step::LetGo {
            target,
            triggers: below,
        } => {
            let mut stop = None;
            let result = triggers.let_go(below, &mut || {
                aside(hands.let_go(target.as_bstr()), &mut stop)
            });
            stop.map_or(result.map_err(Error::from), Err)?;
        }
        Step::Remove(spec) => {
            let mut stop = None;
            let result = triggers.remove_by(spec, &mut || {
                aside(hands.detach(spec.path.as_bstr()), &mut stop)
            });
            stop.map_or(result.map_err(Error::from), Err)?;
        }
        Step::RemoveDirectory { path } => remove_directory(path.as_bstr(), triggers, hands)?,
        Step::RemoveSymlink { path } => hands.remove_symlink(path.as_bstr())?,
    }
    Ok(done)
}

/// A result for the front end, which has no word for "elsewhere": that is put aside.
fn aside(result: Result<(), Error>, stop: &mut Option<Error>) -> Result<(), Failure> {
    result.map_err(|error| {
        let failure = Failure::of(0, &error);
        if matches!(error, Error::Elsewhere(_)) {
            *stop = Some(error);
        }
        failure
    })
}

fn remove_directory(path: &BStr, triggers: &dyn Triggers, hands: &dyn Hands) -> Result<(), Error> {
    match triggers.remove_directory(path) {
        Some(removed) => Ok(removed?),
        None => hands.remove_directory(path),
    }
}

/// Tries attempts until one works; its index, and whether a helper did it.
fn mount_first(
    target: &BStr,
    attempts: &[Attempt],
    propagation: Propagation,
    hands: &dyn Hands,
) -> Result<(usize, bool), Error> {
    let mut worst: Option<Error> = None;
    for (index, attempt) in attempts.iter().enumerate() {
        let attempts_left = u32::try_from(attempts.len() - index).unwrap_or(u32::MAX);
        match hands.mount(&MountJob {
            target,
            attempt,
            propagation,
            attempts_left,
        }) {
            Ok(helper) => return Ok((index, helper)),
            Err(Error::Elsewhere(lane)) => return Err(Error::Elsewhere(lane)),
            Err(error) => worst = Some(more_telling(worst, error)),
        }
    }
    Err(worst.unwrap_or_else(|| {
        let errno = rustix::io::Errno::INVAL;
        Error::refused(target, errno, "nothing to mount: the plan names no attempt")
    }))
}

/// The error that says more of two: a server that answered says more than one that did not, and
/// among equals the first, since attempts come best first.
fn more_telling(before: Option<Error>, error: Error) -> Error {
    match before {
        Some(before) if telling(&before) >= telling(&error) => before,
        _ => error,
    }
}

fn telling(error: &Error) -> u8 {
    use rustix::io::Errno as E;
    match error.errno() {
        E::ACCESS | E::PERM => 5,
        E::IO => 2,
        E::CONNREFUSED => 3,
        E::HOSTDOWN | E::HOSTUNREACH | E::NETUNREACH | E::NETDOWN => 1,
        E::TIMEDOUT => 0,
        _ => 4,
    }
}

/// True when nothing of the step is left; false when it is of a kind that cannot be undone.
fn take_back_one(
    step: &Step,
    done: &Done,
    triggers: &dyn Triggers,
    hands: &dyn Hands,
) -> Result<bool, Error> {
    match step {
        Step::MakeDirectory { .. } => {
            for path in done.created.iter().rev() {
                remove_directory(path.as_bstr(), triggers, hands)?;
            }
            Ok(true)
        }
        Step::Symlink { .. } if done.created.is_empty() => Ok(true),
        _ => match step.undo(done.helper) {
            None => Ok(false),
            Some(undo) => carry_out_one(&undo, triggers, hands).map(|_| true),
        },
    }
}

#[cfg(test)]
mod tests {
    use std::cell::RefCell;

    use piton_plan::step::{TriggerId, TriggerKind};
    use rustix::io::Errno;

    use super::*;

    /// Writes down each operation, and fails those it is told to.
    #[derive(Default)]
    struct Recorder {
        log: RefCell<Vec<String>>,
        fail: Vec<(&'static str, Errno)>,
    }

    impl Recorder {
        fn failing(fail: &[(&'static str, Errno)]) -> Self {
            Self {
                fail: fail.to_vec(),
                ..Self::default()
            }
        }

        fn note(&self, operation: String) -> Result<(), Error> {
            let failing = self.fail.iter().find(|(what, _)| *what == operation);
            self.log.borrow_mut().push(operation);
            match failing {
                None => Ok(()),
                Some((what, errno)) => Err(Error::call("trying", what, *errno)),
            }
        }
    }

    impl Hands for Recorder {
        fn make_directory(&self, path: &BStr) -> Result<Vec<BString>, Error> {
            self.note(format!("mkdir {path}"))?;
            Ok(if path == "/there" {
                Vec::new()
            } else {
                vec![path.to_owned()]
            })
        }
        fn remove_directory(&self, path: &BStr) -> Result<(), Error> {
            self.note(format!("rmdir {path}"))
        }
        fn mount(&self, job: &MountJob<'_>) -> Result<bool, Error> {
            self.note(format!("mount {} {}", job.attempt.source, job.target))?;
            Ok(job.attempt.host.is_some())
        }
        fn unmount(&self, target: &BStr, helper: bool) -> Result<(), Error> {
            self.note(format!(
                "unmount {target}{}",
                if helper { " by helper" } else { "" }
            ))
        }
        fn let_go(&self, target: &BStr) -> Result<(), Error> {
            self.note(format!("let go of {target}"))
        }
        fn symlink(&self, path: &BStr, _to: &BStr) -> Result<bool, Error> {
            self.note(format!("link {path}")).map(|()| path != "/same")
        }
        fn remove_symlink(&self, path: &BStr) -> Result<(), Error> {
            self.note(format!("unlink {path}"))
        }

        fn attach(&self, _: BorrowedFd<'_>, path: &BStr) -> Result<(), Error> {
            self.note(format!("attach {path}"))
        }

        fn detach(&self, path: &BStr) -> Result<(), Error> {
            self.note(format!("detach {path}"))
        }
    }

    impl Triggers for Recorder {
        fn install(&self, spec: &TriggerSpec) -> Result<(), Failure> {
            self.note(format!("install {}", spec.path))
                .map_err(|error| Failure::new(error.errno().raw_os_error(), error.to_string()))
        }
        fn remove(&self, spec: &TriggerSpec) -> Result<(), Failure> {
            self.note(format!("remove {}", spec.path))
                .map_err(|error| Failure::new(error.errno().raw_os_error(), error.to_string()))
        }
    }

    fn trigger(path: &str) -> TriggerSpec {
        TriggerSpec {
            id: TriggerId(1),
            kind: TriggerKind::Offset,
            path: path.into(),
            source: "map".into(),
            timeout: 0,
            strict_expire: false,
            mode: None,
            propagation: Propagation::Slave,
        }
    }

    fn attempt(source: &str) -> Attempt {
        let host = source.split_once(':').map(|(host, _)| host.into());
        let what = What::Type("t".into());
        Attempt {
            what,
            source: source.into(),
            options: Vec::new(),
            host,
            address: None,
            no_guests: false,
            by_helper: false,
        }
    }

    fn mount(target: &str, sources: &[&str]) -> Step {
        let attempts = sources.iter().map(|source| attempt(source)).collect();
        Step::Mount {
            target: target.into(),
            attempts,
            propagation: Propagation::Slave,
        }
    }

    fn required(steps: impl IntoIterator<Item = Step>) -> Vec<Planned> {
        steps
            .into_iter()
            .map(|step| Planned {
                step,
                required: true,
            })
            .collect()
    }

    fn run(steps: &[Planned], recorder: &Recorder) -> (Outcome, Vec<String>) {
        let mut performance = Performance::new(steps.to_vec(), Instant::now());
        assert_eq!(performance.go(recorder, recorder), Ok(()));
        let outcome = performance.into_outcome();
        (outcome, recorder.log.take())
    }

    fn entry() -> Vec<Planned> {
        required([
            Step::MakeDirectory { path: "/k".into() },
            mount("/k", &["h:/x"]),
            Step::Install(trigger("/k/a")),
            Step::Symlink {
                path: "/l".into(),
                to: "/to".into(),
            },
            Step::Install(trigger("/k/b")),
        ])
    }

    const DONE: [&str; 5] = [
        "mkdir /k",
        "mount h:/x /k",
        "install /k/a",
        "link /l",
        "install /k/b",
    ];
    const UNDONE: [&str; 4] = [
        "unlink /l",
        "remove /k/a",
        "unmount /k by helper",
        "rmdir /k",
    ];

    #[test]
    fn steps_are_done_in_order() {
        let (outcome, log) = run(&entry(), &Recorder::default());
        assert_eq!(log, DONE);
        assert_eq!(outcome.done.len(), 5);
        assert!(outcome.failed.is_none() && !outcome.undone);
        assert!(outcome.done[1].helper && !outcome.done[2].helper);
        assert_eq!(outcome.done[0].created, [BString::from("/k")]);
    }

    #[test]
    fn whichever_step_fails_all_before_it_is_taken_back_in_reverse() {
        for (index, failing) in DONE.iter().enumerate() {
            let recorder = Recorder::failing(&[(failing, Errno::IO)]);
            let (outcome, log) = run(&entry(), &recorder);
            let expected: Vec<_> = DONE[..=index]
                .iter()
                .chain(&UNDONE[4 - index..])
                .copied()
                .collect();
            assert_eq!(log, expected);
            let failed = outcome.failed.unwrap();
            assert_eq!(
                (failed.index, failed.errno),
                (index, Errno::IO.raw_os_error())
            );
            assert!(outcome.undone && outcome.done.is_empty() && outcome.not_undone.is_empty());
        }
    }

    #[test]
    fn what_cannot_be_taken_back_is_reported_and_the_rest_goes_on() {
        for (index, failing) in UNDONE.iter().enumerate() {
            let recorder =
                Recorder::failing(&[("install /k/b", Errno::IO), (failing, Errno::BUSY)]);
            let (outcome, log) = run(&entry(), &recorder);
            assert_eq!(log[5..], UNDONE);
            assert!(!outcome.undone);
            assert_eq!(outcome.done.len(), 1);
            assert_eq!(outcome.done[0].index, 3 - index);
            assert_eq!(outcome.not_undone[0].index, 3 - index);
            assert_eq!(outcome.not_undone[0].errno, Errno::BUSY.raw_os_error());
        }
    }

    #[test]
    fn what_was_there_before_is_not_taken_back() {
        let steps = required([
            Step::MakeDirectory {
                path: "/there".into(),
            },
            Step::Symlink {
                path: "/same".into(),
                to: "/to".into(),
            },
            mount("/m", &["bad"]),
        ]);
        let (outcome, log) = run(&steps, &Recorder::failing(&[("mount bad /m", Errno::IO)]));
        assert_eq!(log, ["mkdir /there", "link /same", "mount bad /m"]);
        assert!(outcome.undone);
    }

    #[test]
    fn an_unmount_is_not_undone_but_a_removed_trigger_is_put_back() {
        let steps = required([
            Step::Remove(trigger("/k/a")),
            Step::Unmount {
                target: "/k/c".into(),
                helper: false,
            },
            Step::Unmount {
                target: "/k".into(),
                helper: true,
            },
        ]);
        let fail = [("unmount /k by helper", Errno::BUSY)];
        let (outcome, log) = run(&steps, &Recorder::failing(&fail));
        assert_eq!(log[3..], ["install /k/a"]);
        assert_eq!(outcome.done.len(), 1);
        assert_eq!(outcome.done[0].index, 1);
        assert!(!outcome.undone && outcome.not_undone.is_empty());
    }

    #[test]
    fn a_step_that_is_not_required_costs_only_itself() {
        let mut steps = entry();
        steps[2].required = false;
        let recorder = Recorder::failing(&[("install /k/a", Errno::ACCESS)]);
        let (outcome, log) = run(&steps, &recorder);
        assert_eq!(log, DONE);
        assert!(outcome.failed.is_none());
        assert_eq!(outcome.tolerated.len(), 1);
        assert_eq!(
            (outcome.tolerated[0].index, outcome.tolerated[0].errno),
            (2, 13)
        );
    }

    #[test]
    fn attempts_are_tried_in_order_and_the_most_telling_failure_is_reported() {
        let fail = [
            ("mount dead:/x /m", Errno::TIMEDOUT),
            ("mount off:/x /m", Errno::HOSTUNREACH),
            ("mount no:/x /m", Errno::ACCESS),
            ("mount shut:/x /m", Errno::CONNREFUSED),
            ("mount none:/x /m", Errno::NOENT),
        ];
        let errno = |sources: &[&str]| {
            let steps = required([mount("/m", sources)]);
            run(&steps, &Recorder::failing(&fail))
                .0
                .failed
                .map(|failed| failed.errno)
        };
        assert_eq!(errno(&["dead:/x", "off:/x", "no:/x", "shut:/x"]), Some(13));
        assert_eq!(errno(&["dead:/x", "none:/x", "shut:/x"]), Some(2));
        assert_eq!(errno(&["dead:/x", "off:/x"]), Some(113));
        assert_eq!(errno(&["dead:/x"]), Some(110));
        assert_eq!(errno(&[]), Some(22));
        assert_eq!(errno(&["dead:/x", "good:/x"]), None);

        let steps = required([mount("/m", &["dead:/x", "good"])]);
        let (outcome, _) = run(&steps, &Recorder::failing(&fail));
        assert_eq!(
            (outcome.done[0].attempt, outcome.done[0].helper),
            (1, false)
        );
    }

    #[test]
    fn the_root_is_presumed_to_be_the_directory_of_the_shallowest_path() {
        let root = |steps: &[Planned]| directory_of(shallowest(steps)).to_string();
        assert_eq!(root(&required([mount("/home/ann", &[])])), "/home");
        assert_eq!(root(&required([mount("/x", &[])])), "/");
        let deeper = [mount("/home/ann/a/b", &[]), mount("/home/ann", &[])];
        assert_eq!(root(&required(deeper)), "/home");
        assert_eq!(root(&[]), "/");
    }
}
