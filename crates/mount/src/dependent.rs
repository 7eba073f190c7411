//! Sources that lie on another automount.
//!
//! The daemon's process group never triggers anything ("oz mode", autofs.rst), or it would wait
//! for itself. When what is to be mounted lies in an automount that is not mounted now, somebody
//! outside of the group has to walk there first.

use std::time::Instant;

use bstr::{BStr, ByteSlice};
use rustix::fs::{CWD, Mode, OFlags, openat};
use rustix::io::Errno;

use crate::error::Error;
use crate::helper::{Group, Run};
use crate::kind::{self, Kind};
use crate::perform::Settings;

/// `AUTOFS_SUPER_MAGIC` in linux/magic.h.
pub(crate) const AUTOFS_MAGIC: rustix::fs::FsWord = 0x0187;

/// Walks to `source` if the deepest part of it that can be seen from here is a directory of an
/// automount. False: it is not, and nothing was done.
///
/// # Errors
/// The walk is not over at `until`; or `source` is at or below `target`, so that the mount would
/// wait for itself.
pub(crate) fn reach(
    source: &BStr,
    target: &BStr,
    settings: &Settings,
    until: Instant,
) -> Result<bool, Error> {
    if !source.starts_with(b"/") || !ends_in_automount(source) {
        return Ok(false);
    }
    if source == target
        || source
            .strip_prefix(target.as_bytes())
            .is_some_and(|r| r[0] == b'/')
    {
        let why = format!("lies at or below {target}, where it is to be mounted");
        return Err(Error::refused(source, Errno::DEADLK, why));
    }
    walk(source, settings, until)?;
    Ok(true)
}

/// Whether the deepest existing part of `path` is on an autofs file system.
fn ends_in_automount(path: &BStr) -> bool {
    let mut part = path.as_bytes();
    loop {
        // Without O_PATH this would open what may be a device or a pipe.
        match openat(CWD, part, OFlags::PATH | OFlags::CLOEXEC, Mode::empty()) {
            Ok(fd) => return kind::of(&fd).is_ok_and(|found| found.kind == Kind::Autofs),
            Err(Errno::NOENT | Errno::NOTDIR) => {}
            Err(_) => return false,
        }
        match part.rfind_byte(b'/') {
            None | Some(0) => return false,
            Some(slash) => part = &part[..slash],
        }
    }
}

/// Has a process in a group of its own look at the path. Whether it finds anything is not asked:
/// the caller looks again for itself.
fn walk(path: &BStr, settings: &Settings, until: Instant) -> Result<(), Error> {
    let Some((program, arguments)) = settings.walker.split_first() else {
        return Err(Error::refused(
            path,
            Errno::NOENT,
            "lies on an automount that is not mounted",
        ));
    };
    // `/.` so that the last component is entered, too.
    let whole = [path.as_bytes(), b"/."].concat();
    let mut run = Run::new(program.as_ref(), path);
    run.arguments.extend(arguments.iter().cloned());
    run.argument(&whole);
    run.group = Group::Own;
    match run.finish(until) {
        Err(error @ Error::Overran { .. }) => Err(error),
        Ok(()) | Err(_) => Ok(()),
    }
}
