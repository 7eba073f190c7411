//! The system's side of each operation: where a step meets the kernel or a helper.

use std::time::Instant;

use bstr::{BStr, BString, ByteSlice};
use rustix::fs::{
    AtFlags, CWD, FileType, Mode, StatxFlags, mkdirat, readlinkat, statx, symlinkat, unlinkat,
};
use rustix::io::Errno;
use rustix::mount::{UnmountFlags, unmount as unmount_now};

use crate::dependent;
use crate::error::Error;
use crate::helper;
use crate::limits;
use crate::native::{self, By};
use crate::options;
use crate::perform::{Hands, MountJob, Settings};
use crate::place::Place;
use crate::table::{self, Table};
use crate::unmount;

/// The machine we run on.
pub(crate) struct System<'a> {
    /// Below it no symbolic link is followed.
    pub(crate) root: &'a BStr,
    /// How steps are done here.
    pub(crate) settings: &'a Settings,
    /// When all must be done.
    pub(crate) until: Instant,
}

impl Hands for System<'_> {
    fn make_directory(&self, path: &BStr) -> Result<Vec<BString>, Error> {
        match make_one(self.root, path) {
            Ok(made) => Ok(made.then(|| path.to_owned()).into_iter().collect()),
            Err(error) if error.errno() == Errno::NOENT => make_all(self.root, path),
            Err(error) => Err(error),
        }
    }

    fn remove_directory(&self, path: &BStr) -> Result<(), Error> {
        let place = match Place::find(self.root, path) {
            Err(error) if error.errno() == Errno::NOENT => return Ok(()),
            place => place?,
        };
        match unlinkat(place.dir(), place.name(), AtFlags::REMOVEDIR) {
            Ok(()) | Err(Errno::NOENT | Errno::NOTEMPTY | Errno::EXIST) => Ok(()),
            Err(errno) => Err(Error::call("removing the directory", path, errno)),
        }
    }

    fn mount(&self, job: &MountJob<'_>) -> Result<bool, Error> {
        let place = Place::find(self.root, job.target)?;
        let until = self.share(job.attempts_left);
        let reach = |source: &BStr| dependent::reach(source, job.target, self.settings, until);
        let run = match &self.settings.program {
            Some(program) => helper::program_command(program, job.attempt, job.target)?,
            None => match native::mount(job, &place, &reach)? {
                By::Kernel => return Ok(false),
                By::Helper => helper::mount_command(self.settings, job.attempt, job.target)?,
            },
        };
        reach(job.attempt.source.as_bstr())?;
        let before = mount_id(&place, job.target)?;
        run.finish(until)
            .inspect_err(|_| sweep(job.target, before))?;
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
            Err(errno) => {
                sweep(job.target, before);
                Err(Error::call("setting the propagation of", job.target, errno))
            }
        }
    }

    fn unmount(&self, target: &BStr, helper: bool) -> Result<(), Error> {
        // Taking back must be possible when the time for doing has run out.
        let until = self.until.max(Instant::now() + limits::UNMOUNT_TIME);
        unmount::unmount(target, self.root, helper, self.settings, until)
    }

    fn symlink(&self, path: &BStr, to: &BStr) -> Result<bool, Error> {
        let place = Place::find(self.root, path)?;
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
        let place = match Place::find(self.root, path) {
            Err(error) if error.errno() == Errno::NOENT => return Ok(()),
            place => place?,
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

impl System<'_> {
    /// When an attempt must be over, if as many as `attempts` may be needed: each gets its share
    /// of the time left, and what one does not use falls to the others.
    fn share(&self, attempts: u32) -> Instant {
        let now = Instant::now();
        let left = self.until.saturating_duration_since(now);
        now + left / attempts.max(1)
    }
}

/// Detaches what a failed helper has mounted all the same: one that was killed a moment too late,
/// or that failed at something after the mount. Whatever a server does, this does not wait.
fn sweep(target: &BStr, before: Option<u64>) {
    let Ok(text) = table::read() else { return };
    let table = Table::parse(&text);
    let top = table.at(target).filter(|top| *top.fstype != "autofs");
    if top.is_some_and(|top| before.is_some() && Some(top.id) != before) {
        let _ = unmount_now(
            target.as_bytes(),
            UnmountFlags::DETACH | UnmountFlags::NOFOLLOW,
        );
    }
}

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
fn make_one(root: &BStr, path: &BStr) -> Result<bool, Error> {
    let place = Place::find(root, path)?;
    make_at(&place, AtFlags::SYMLINK_NOFOLLOW, path)
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
        follow | AtFlags::NO_AUTOMOUNT,
        StatxFlags::TYPE,
    )
    .is_ok_and(|there| FileType::from_raw_mode(there.stx_mode.into()).is_dir())
}

/// Makes a directory with its missing parents, which may include the root itself. What was made
/// is removed again when the rest cannot be.
fn make_all(root: &BStr, path: &BStr) -> Result<Vec<BString>, Error> {
    let mut made: Vec<BString> = Vec::new();
    let slashes = path
        .iter()
        .enumerate()
        .skip(1)
        .filter(|(_, byte)| **byte == b'/');
    for at in slashes.map(|(at, _)| at).chain([path.len()]) {
        let part = path[..at].as_bstr();
        let result = if part.len() <= root.len() {
            make_at(&Place::trusted(part), AtFlags::empty(), part)
        } else {
            make_one(root, part)
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
