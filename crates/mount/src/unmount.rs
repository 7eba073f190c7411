//! Taking a mount away.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::sync::OnceLock;
use std::time::Instant;

use autofs::Control;
use bstr::{BStr, BString};
use rustix::fd::{AsFd, OwnedFd};
use rustix::fs::{AtFlags, Mode, OFlags, StatxAttributes, StatxFlags, fstatfs, openat, statx};
use rustix::io::Errno;
use rustix::mount::UnmountFlags;

use crate::dependent::AUTOFS_MAGIC;
use crate::error::Error;
use crate::helper::Run;
use crate::kind::Kind;
use crate::lane::Lane;
use crate::limits;
use crate::perform::{Failure, Settings};
use crate::place::{How, Place};
use crate::rootless::{self, is_user};
use crate::serving::is_dead;
use crate::table::{self, Table};

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
    how: How,
) -> Result<(), Error> {
    if how == How::AtOnce {
        return match helper || settings.program.is_some() || is_user() {
            // Its server may be asked before it goes.
            true => Err(Error::Elsewhere(Lane::Below(root.into()))),
            false => at_once(target, root),
        };
    }
    let place = match Place::find(root, target, how) {
        Err(error) if error.errno() == Errno::NOENT => return Ok(()),
        place => place?,
    };
    let run = match &settings.program {
        Some(program) => program.umount.as_deref(),
        // umount.nfs4 does no more than this.
        None if helper && is_nfs4(&place) => None,
        None => helper.then_some(settings.umount.as_path()),
    };
    match run {
        _ if settings.program.is_none() && is_user() => {
            let run = rootless::unmount_command(target, false);
            match by_program(&run, &place, target, until) {
                // What is dead is of no use to anybody who is in it.
                Err(error) if error.errno() == Errno::BUSY && is_dead(target) => {
                    let run = rootless::unmount_command(target, true);
                    by_program(&run, &place, target, until)
                }
                // Perhaps somebody only passed by, as who asks whether its helper answers.
                Err(error) if error.errno() == Errno::BUSY => {
                    std::thread::sleep(limits::PASSER_BY);
                    by_program(&run, &place, target, until)
                }
                done => done,
            }
        }
        Some(program) => {
            let mut run = Run::new(program, target);
            run.argument(target);
            by_program(&run, &place, target, until)
        }
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

/// Unmounts what is local in a place that is local. The kernel says what is there without
/// touching it.
fn at_once(target: &BStr, root: &BStr) -> Result<(), Error> {
    let told = |errno| Error::call("unmounting", target, errno);
    let elsewhere = || Error::Elsewhere(Lane::Below(root.into()));
    let found = Place::find(root, target, How::AtOnce).and_then(|mut place| {
        place.pin().map_err(|end| end.told(told))?;
        Ok(place)
    });
    let place = match found {
        Err(error) if error.errno() == Errno::NOENT => return Ok(()),
        place => place?,
    };
    let control = control().ok_or_else(elsewhere)?;
    let path = place.path();
    let here = control.mount_at(Path::new(OsStr::from_bytes(&path)), None);
    match here {
        Ok(None) => Ok(()),
        Err(error) if error.errno() == Some(Errno::NOENT) => Ok(()),
        Err(_) => Err(elsewhere()),
        Ok(Some(mounted)) => match Kind::of_magic(mounted.magic.into()) {
            Kind::Autofs => Ok(()),
            Kind::Local => directly(&place, target),
            Kind::Layered | Kind::Foreign => Err(elsewhere()),
        },
    }
}

/// Unmounts what is on `target` lazily, with all that lies below. What lies there is not asked: the
/// kernel finds a mount without asking what is mounted. A trigger is never unmounted here.
pub(crate) fn let_go(target: &BStr, root: &BStr, until: Instant, how: How) -> Result<(), Error> {
    let told = |errno| Error::call("letting go of", target, errno);
    let found = Place::find(root, target, how).and_then(|mut place| {
        place.pin().map_err(|end| end.told(told))?;
        Ok(place)
    });
    let place = match found {
        Err(error) if error.errno() == Errno::NOENT => return Ok(()),
        place => place?,
    };
    match covered_by(&place, target)? {
        None => return Ok(()),
        // If nobody uses it, its server is taken leave of on the way out of the call.
        Some(Kind::Foreign | Kind::Layered) if how == How::AtOnce => {
            return Err(Error::Elsewhere(Lane::Below(root.into())));
        }
        Some(_) if is_user() => {
            return by_program(
                &rootless::unmount_command(target, true),
                &place,
                target,
                until,
            );
        }
        Some(_) => {}
    }
    match rustix::mount::unmount(
        &*place.path(),
        UnmountFlags::NOFOLLOW | UnmountFlags::DETACH,
    ) {
        Ok(()) | Err(Errno::NOENT | Errno::INVAL) => Ok(()),
        Err(errno) => Err(told(errno)),
    }
}

/// What kind of file system is mounted in a place, unless it is a trigger; it is not touched.
fn covered_by(place: &Place<'_>, target: &BStr) -> Result<Option<Kind>, Error> {
    let path = place.path();
    let here = control().map(|it| it.mount_at(Path::new(OsStr::from_bytes(&path)), None));
    match here {
        Some(Ok(here)) => {
            let kind = here.map(|it| Kind::of_magic(it.magic.into()));
            Ok(kind.filter(|kind| *kind != Kind::Autofs))
        }
        Some(Err(error)) if error.errno() == Some(Errno::NOENT) => Ok(None),
        Some(Err(_)) | None => Ok(covered(place, target)?.then_some(Kind::Foreign)),
    }
}

/// The place as the mount table calls it, and whether something other than a trigger is mounted
/// there; found without asking anybody.
pub(crate) fn standing(root: &BStr, path: &BStr) -> Result<(BString, bool), Errno> {
    let pinned = || {
        let mut place = Place::find(root, path, How::AtOnce).ok()?;
        place.pin().ok()?;
        Some((place.in_table().ok()?, place))
    };
    let Some((name, place)) = pinned() else {
        return Ok((path.into(), table::covered(path)?));
    };
    let Some(control) = control() else {
        let covered = table::covered(name.as_ref())?;
        return Ok((name, covered));
    };
    let here = control.mount_at(Path::new(OsStr::from_bytes(&place.path())), None);
    let covered = match here {
        Ok(here) => here.is_some_and(|it| Kind::of_magic(it.magic.into()) != Kind::Autofs),
        Err(error) if error.errno() == Some(Errno::NOENT) => false,
        Err(_) => table::covered(name.as_ref())?,
    };
    Ok((name, covered))
}

/// The kernel's ear for questions about mounts; none where there is no autofs.
fn control() -> Option<&'static Control> {
    static CONTROL: OnceLock<Option<Control>> = OnceLock::new();
    CONTROL.get_or_init(|| Control::open().ok()).as_ref()
}

/// Unmounts lazily what is on a path, with all that lies below, whoever is in it; what is there is not
/// asked.
///
/// # Errors
/// It is still there.
pub fn detach(target: &BStr) -> Result<(), Failure> {
    let done = if is_user() {
        let until = Instant::now() + limits::UNMOUNT_TIME;
        rootless::unmount_command(target, true).finish(until)
    } else {
        let path = Path::new(OsStr::from_bytes(target));
        let done = rustix::mount::unmount(path, UnmountFlags::DETACH | UnmountFlags::NOFOLLOW);
        done.map_err(|errno| Error::call("letting go of", target, errno))
    };
    done.map_err(|error| Failure::new(error.errno().raw_os_error(), error.to_string()))
}

fn by_program(run: &Run, place: &Place<'_>, target: &BStr, until: Instant) -> Result<(), Error> {
    if !covered(place, target)? {
        return Ok(());
    }
    match run.finish(until) {
        // Gone all the same: somebody else was faster, or the program complains about a detail.
        Err(_) if covered(place, target).is_ok_and(|covered| !covered) => Ok(()),
        other => other,
    }
}

/// Whether NFS of version 4 is mounted there, which the kernel alone unmounts. The server is not
/// asked.
fn is_nfs4(place: &Place<'_>) -> bool {
    let text = place.in_table().and_then(|path| Ok((path, table::read()?)));
    text.is_ok_and(|(path, text)| {
        let table = Table::parse(&text);
        table
            .at(path.as_ref())
            .is_some_and(|top| *top.fstype == "nfs4")
    })
}

fn covered(place: &Place<'_>, target: &BStr) -> Result<bool, Error> {
    place
        .in_table()
        .and_then(|path| table::covered(path.as_ref()))
        .map_err(|errno| Error::call("reading the mount table for", target, errno))
}

/// [`table::covered`] at the same cost however many mounts there are. What is mounted is not
/// touched, where the kernel can tell of it.
fn local_cover(place: &Place<'_>, target: &BStr) -> Result<bool, Error> {
    if control().is_some() {
        return covered_by(place, target).map(|kind| kind.is_some());
    }
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
