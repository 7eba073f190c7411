//! Taking a mount away.

use std::time::Instant;

use bstr::BStr;
use rustix::fd::{AsFd, OwnedFd};
use rustix::fs::{AtFlags, Mode, OFlags, StatxAttributes, StatxFlags, fstatfs, openat, statx};
use rustix::io::Errno;
use rustix::mount::UnmountFlags;

use crate::dependent::AUTOFS_MAGIC;
use crate::error::Error;
use crate::helper::Run;
use crate::perform::Settings;
use crate::place::Place;
use crate::table;

/// Unmounts what is on `target`. That nothing is mounted there is no failure: somebody else was
/// faster. A trigger is never unmounted here.
///
/// Blocks: for a network file system until its server has answered, or for ever.
pub(crate) fn unmount(
    target: &BStr,
    root: &BStr,
    helper: bool,
    settings: &Settings,
    until: Instant,
) -> Result<(), Error> {
    let place = match Place::find(root, target) {
        Err(error) if error.errno() == Errno::NOENT => return Ok(()),
        place => place?,
    };
    let run = match &settings.program {
        Some(program) => program.umount.as_deref(),
        None => helper.then_some(settings.umount.as_path()),
    };
    match run {
        Some(program) => by_program(program, &place, target, until),
        None if helper => {
            if covered(&place, target)? {
                directly(&place, target)
            } else {
                Ok(())
            }
        }
        None => {
            if local_cover(&place, target)? {
                directly(&place, target)
            } else {
                Ok(())
            }
        }
    }
}

fn by_program(
    program: &std::path::Path,
    place: &Place<'_>,
    target: &BStr,
    until: Instant,
) -> Result<(), Error> {
    if !covered(place, target)? {
        return Ok(());
    }
    let mut run = Run::new(program, target);
    run.argument(target);
    match run.finish(until) {
        // Gone all the same: somebody else was faster, or the program complains about a detail.
        Err(_) if covered(place, target).is_ok_and(|covered| !covered) => Ok(()),
        other => other,
    }
}

fn covered(place: &Place<'_>, target: &BStr) -> Result<bool, Error> {
    place
        .in_table()
        .and_then(|path| table::covered(path.as_ref()))
        .map_err(|errno| Error::call("reading the mount table for", target, errno))
}

/// [`table::covered`] for a local file system, which may be looked at: it costs the same however
/// many mounts there are.
fn local_cover(place: &Place<'_>, target: &BStr) -> Result<bool, Error> {
    let flags = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let top = match openat(place.dir(), place.name(), flags, Mode::empty()) {
        Ok(top) => top,
        Err(Errno::NOENT) => return Ok(false),
        Err(errno) => return Err(Error::call("unmounting", target, errno)),
    };
    Ok(is_mount_root(&top) != Some(false)
        && fstatfs(&top).map_or(true, |found| found.f_type != AUTOFS_MAGIC))
}

/// None before Linux 5.8, which does not tell.
fn is_mount_root(fd: &OwnedFd) -> Option<bool> {
    let found = statx(fd.as_fd(), "", AtFlags::EMPTY_PATH, StatxFlags::empty()).ok()?;
    let told = found
        .stx_attributes_mask
        .contains(StatxAttributes::MOUNT_ROOT);
    told.then(|| found.stx_attributes.contains(StatxAttributes::MOUNT_ROOT))
}

fn directly(place: &Place<'_>, target: &BStr) -> Result<(), Error> {
    match rustix::mount::unmount(&*place.path(), UnmountFlags::NOFOLLOW) {
        Ok(()) | Err(Errno::NOENT) => Ok(()),
        Err(Errno::INVAL) if covered(place, target).is_ok_and(|covered| !covered) => Ok(()),
        Err(errno) => Err(Error::call("unmounting", target, errno)),
    }
}
