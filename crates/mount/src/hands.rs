//! The system's side of each operation: where a step meets the kernel or a helper.

use std::time::Instant;

use bstr::{BStr, BString, ByteSlice};
use piton_plan::step::{Attempt, What};
use rustix::fd::BorrowedFd;
use rustix::fs::{
    AtFlags, CWD, FileType, Mode, StatxFlags, mkdirat, readlinkat, statx, symlinkat, unlinkat,
};
use rustix::io::Errno;
use rustix::mount::{UnmountFlags, unmount as unmount_now};

use crate::dependent;
use crate::error::Error;
use crate::helper;
use crate::lane::Lane;
use crate::limits;
use crate::native::{self, By};
use crate::nfs;
use crate::options;
use crate::perform::{Hands, MountJob, Settings, Triggers};
use crate::place::{How, Place};
use crate::rootless::{self, is_user};
use crate::snapshot;
use crate::table::{self, Table};
use crate::types;
use crate::unmount;

/// The machine we run on.
pub(crate) struct System<'a> {
    /// Below it no symbolic link is followed.
    pub(crate) root: &'a BStr,
    /// How steps are done here.
    pub(crate) settings: &'a Settings,
    /// When all must be done.
    pub(crate) until: Instant,
    /// Whether anybody may be waited for.
    pub(crate) how: How,
    /// Who knows the automounts that targets are keys of.
    pub(crate) triggers: Option<&'a dyn Triggers>,
}

impl Hands for System<'_> {
    fn make_directory(&self, path: &BStr) -> Result<Vec<BString>, Error> {
        match make_one(self.root, path, self.how) {
            Ok(made) => Ok(made.then(|| path.to_owned()).into_iter().collect()),
            Err(error) if error.errno() == Errno::NOENT => make_all(self.root, path, self.how),
            Err(error) => Err(error),
        }
    }

    fn remove_directory(&self, path: &BStr) -> Result<(), Error> {
        let Some(place) = self.existing(path)? else {
            return Ok(());
        };
        match unlinkat(place.dir(), place.name(), AtFlags::REMOVEDIR) {
            Ok(()) | Err(Errno::NOENT | Errno::NOTEMPTY | Errno::EXIST) => Ok(()),
            Err(errno) => Err(Error::call("removing the directory", path, errno)),
        }
    }

    fn mount(&self, job: &MountJob<'_>) -> Result<bool, Error> {
        if self.how == How::Waiting && snapshot::is_snapshot(job.attempt) {
            return self.mount_snapshot(job);
        }
        let program = self.settings.program.as_ref();
        if self.how == How::AtOnce
            && (program.is_some() || is_user() || types::needs_helper(job.attempt))
        {
            return Err(Error::Elsewhere(lane_of(job.attempt)));
        }
        let key_directory = self.triggers.and_then(|it| it.key_directory(job.target));
        let place = match key_directory {
            Some(root) => Place::in_automount(root, job.target, self.how),
            None => Place::find(self.root, job.target, self.how)?,
        };
        let until = self.share(job.attempts_left);
        let reach = |source: &BStr| dependent::reach(source, job.target, self.settings, until);
        let run = match program {
            Some(program) => helper::program_command(program, job.attempt, job.target)?,
            None if is_user() => rootless::mount_command(job.attempt, job.target)?,
            None => match native::mount(job, &place, &reach, until)? {
                By::Kernel => return Ok(false),
                By::Helper if self.how == How::AtOnce => {
                    return Err(Error::Elsewhere(lane_of(job.attempt)));
                }
                By::Helper => helper::mount_command(self.settings, job.attempt, job.target)?,
            },
        };
        if dependent::is_path(job.attempt) {
            reach(job.attempt.source.as_bstr())?;
        }
        let before = mount_id(&place, job.target)?;
        run.finish(until).map_err(|error| {
            before
                .into_iter()
                .for_each(|before| sweep(job.target, before));
            match program {
                Some(_) => error,
                None => nfs::missing(&job.attempt.what, job.target, &job.attempt.source, error),
            }
        })?;
        if before.is_some() && mount_id(&place, job.target)? == before {
            let program = run.program.display();
            let why = format!("{program} reported success, but nothing is mounted there");
            return Err(Error::refused(job.target, Errno::IO, why));
        }
        let asked = options::asked_propagation(&job.attempt.options);
        let Some(propagation) = job.propagates(asked) else {
            return Ok(true);
        };
        match native::propagate_at(&place, propagation) {
            // A kernel without mount_setattr(2) has no way to do this by descriptor.
            Ok(()) | Err(Errno::NOSYS) => Ok(true),
            // Only root may.
            Err(Errno::PERM) if is_user() => Ok(true),
            Err(errno) => {
                before
                    .into_iter()
                    .for_each(|before| sweep(job.target, before));
                Err(Error::call("setting the propagation of", job.target, errno))
            }
        }
    }

    fn unmount(&self, target: &BStr, helper: bool) -> Result<(), Error> {
        // Taking back must be possible when the time for doing has run out.
        let until = self.until.max(Instant::now() + limits::UNMOUNT_TIME);
        unmount::unmount(target, self.root, helper, self.settings, until, self.how)?;
        if let Some(places) = &self.settings.snapshots {
            places.forget(target);
        }
        Ok(())
    }

    fn let_go(&self, target: &BStr) -> Result<(), Error> {
        let until = self.until.max(Instant::now() + limits::UNMOUNT_TIME);
        unmount::let_go(target, self.root, until, self.how)
    }

    fn attach(&self, mount: BorrowedFd<'_>, path: &BStr) -> Result<(), Error> {
        let place = Place::find(self.root, path, self.how)?;
        native::attach(mount, &place)
            .map_err(|end| end.told(|errno| Error::call("putting a trigger on", path, errno)))
    }

    fn detach(&self, path: &BStr) -> Result<(), Error> {
        let mut place = Place::find(self.root, path, self.how)?;
        let told = |errno| Error::call("unmounting the trigger", path, errno);
        place.pin().map_err(|end| end.told(told))?;
        unmount_now(&*place.path(), UnmountFlags::NOFOLLOW).map_err(told)
    }

    fn symlink(&self, path: &BStr, to: &BStr) -> Result<bool, Error> {
        let place = self.pinned(path)?;
        match symlinkat(to.as_bytes(), place.dir(), place.name()) {
            Ok(()) => Ok(true),
            Err(Errno::EXIST) => {
                let there = readlinkat(place.dir(), place.name(), Vec::new());
                if there.is_ok_and(|there| there.as_bytes() == to.as_bytes()) {
                    return Ok(false);
                }
                Err(Error::call("making the symbolic link", path, Errno::EXIST))
            }
            Err(errno) => Err(Error::call("making the symbolic link", path, errno)),
        }
    }

    fn remove_symlink(&self, path: &BStr) -> Result<(), Error> {
        let Some(place) = self.existing(path)? else {
            return Ok(());
        };
        let told = |errno| Error::call("removing the symbolic link", path, errno);
        match readlinkat(place.dir(), place.name(), Vec::new()) {
            Ok(_) => unlinkat(place.dir(), place.name(), AtFlags::empty()).map_err(told),
            Err(Errno::NOENT) => Ok(()),
            Err(Errno::INVAL) => Err(Error::refused(
                path,
                Errno::EXIST,
                "not a symbolic link, so not removed",
            )),
            Err(errno) => Err(told(errno)),
        }
    }
}

/// The queue of what only a helper can mount.
pub(crate) fn lane_of(attempt: &Attempt) -> Lane {
    match (&attempt.host, &attempt.what) {
        (Some(host), _) => Lane::Server(host.clone()),
        (None, What::Type(fstype)) => Lane::Helper(fstype.clone()),
        (None, What::Bind { .. }) => Lane::Helper("bind".into()),
    }
}

impl System<'_> {
    /// An entry, with the directory that holds it open.
    fn pinned<'p>(&self, path: &'p BStr) -> Result<Place<'p>, Error> {
        pinned(Place::find(self.root, path, self.how)?, path)
    }

    /// The same; none if that directory is not there.
    fn existing<'p>(&self, path: &'p BStr) -> Result<Option<Place<'p>>, Error> {
        match self.pinned(path) {
            Err(error) if error.errno() == Errno::NOENT => Ok(None),
            place => place.map(Some),
        }
    }

    /// When an attempt must be over, if as many as `attempts` may be needed: each gets its share
    /// of the time left, and what one does not use falls to the others.
    pub(crate) fn share(&self, attempts: u32) -> Instant {
        let now = Instant::now();
        let left = self.until.saturating_duration_since(now);
        now + left / attempts.max(1)
    }
}

/// Detaches what a failed helper has mounted all the same: one that was killed a moment too late,
/// or that failed at something after the mount. `before` is the number of the mount that was there
/// before, or [`NO_MOUNT`]. Whatever a server does, this does not wait.
pub(crate) fn sweep(target: &BStr, before: u64) {
    let Ok(text) = table::read() else { return };
    let table = Table::parse(&text);
    let top = table.at(target).filter(|top| *top.fstype != "autofs");
    if top.is_some_and(|top| top.id != before) {
        // What stays is found by the next look.
        let _ = unmount::detach(target);
    }
}

/// The number of no mount.
pub(crate) const NO_MOUNT: u64 = 0;

/// Which mount `place` is in, or the one on top of it. A symbolic link is refused: a helper would
/// follow it. None where the kernel does not tell (before Linux 5.8).
fn mount_id(place: &Place<'_>, target: &BStr) -> Result<Option<u64>, Error> {
    let flags = AtFlags::SYMLINK_NOFOLLOW | AtFlags::NO_AUTOMOUNT | AtFlags::STATX_DONT_SYNC;
    let wanted = StatxFlags::TYPE | StatxFlags::MNT_ID;
    let found = statx(place.dir(), place.name(), flags, wanted)
        .map_err(|errno| Error::call("looking at", target, errno))?;
    if FileType::from_raw_mode(found.stx_mode.into()).is_symlink() {
        let why = "a symbolic link is in the way, and no helper is to follow it";
        return Err(Error::refused(target, Errno::ACCESS, why));
    }
    let told = found.stx_mask & StatxFlags::MNT_ID.bits() != 0;
    Ok(told.then_some(found.stx_mnt_id))
}

/// Makes one directory; false when it is there already.
fn make_one(root: &BStr, path: &BStr, how: How) -> Result<bool, Error> {
    let place = pinned(Place::find(root, path, how)?, path)?;
    make_at(&place, AtFlags::SYMLINK_NOFOLLOW, path)
}

fn pinned<'p>(mut place: Place<'p>, path: &BStr) -> Result<Place<'p>, Error> {
    let told = |errno| Error::call("finding the directory of", path, errno);
    place.pin().map_err(|end| end.told(told))?;
    Ok(place)
}

fn make_at(place: &Place<'_>, follow: AtFlags, path: &BStr) -> Result<bool, Error> {
    match mkdirat(place.dir(), place.name(), Mode::from_raw_mode(0o755)) {
        Ok(()) => Ok(true),
        Err(Errno::EXIST) if is_directory(place, follow) => Ok(false),
        Err(Errno::EXIST) => {
            let why = "something that is not a directory is in the way";
            Err(Error::refused(path, Errno::NOTDIR, why))
        }
        Err(errno) => Err(Error::call("making the directory", path, errno)),
    }
}

fn is_directory(place: &Place<'_>, follow: AtFlags) -> bool {
    statx(
        place.dir(),
        place.name(),
        follow | AtFlags::NO_AUTOMOUNT | AtFlags::STATX_DONT_SYNC,
        StatxFlags::TYPE,
    )
    .is_ok_and(|there| FileType::from_raw_mode(there.stx_mode.into()).is_dir())
}

/// Makes a directory with its missing parents, which may include the root itself. What was made
/// is removed again when the rest cannot be.
fn make_all(root: &BStr, path: &BStr, how: How) -> Result<Vec<BString>, Error> {
    let mut made: Vec<BString> = Vec::new();
    let slashes = path
        .iter()
        .enumerate()
        .skip(1)
        .filter(|(_, byte)| **byte == b'/');
    for at in slashes.map(|(at, _)| at).chain([path.len()]) {
        let part = path[..at].as_bstr();
        let result = if part.len() <= root.len() {
            pinned(Place::trusted(part, how), part)
                .and_then(|place| make_at(&place, AtFlags::empty(), part))
        } else {
            make_one(root, part, how)
        };
        match result {
            Ok(true) => made.push(part.to_owned()),
            Ok(false) => {}
            Err(error) => {
                for path in made.iter().rev() {
                    let _ = unlinkat(CWD, path.as_slice(), AtFlags::REMOVEDIR);
                }
                return Err(error);
            }
        }
    }
    Ok(made)
}
