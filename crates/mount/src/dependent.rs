//! Sources that lie on another automount.
//!
//! The daemon's process group never triggers anything ("oz mode", autofs.rst), or it would wait
//! for itself. When what is to be mounted lies in an automount that is not mounted now, somebody
//! outside of the group has to walk there first.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::time::Instant;

use bstr::{BStr, BString, ByteSlice};
use piton_map::fstype::needs_network;
use piton_plan::step::{Attempt, What};
use rustix::fd::{AsRawFd, OwnedFd};
use rustix::fs::{CWD, Mode, OFlags, openat, readlinkat};
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
    if !source.starts_with(b"/") {
        return Ok(false);
    }
    let Some(deepest) = Deepest::of(source) else {
        return Ok(false);
    };
    if !kind::of(&deepest.fd).is_ok_and(|found| found.kind == Kind::Autofs) {
        return Ok(false);
    }
    // What is written may lead there in many ways: `//d/k`, `/d/x/../k`, a symbolic link.
    let place = Deepest::of(target).map_or_else(|| target.to_owned(), Deepest::whole);
    if Path::new(OsStr::from_bytes(&deepest.whole())).starts_with(OsStr::from_bytes(&place)) {
        let why = format!("lies at or below {target}, where it is to be mounted");
        return Err(Error::refused(source, Errno::DEADLK, why));
    }
    walk(source, settings, until)?;
    Ok(true)
}

/// Returns true if and only if what mounts the attempt takes its source for a path: `//srv/share`
/// is a share for types that servers are behind.
pub(crate) fn is_path(attempt: &Attempt) -> bool {
    match &attempt.what {
        What::Bind { .. } => true,
        What::Type(fstype) => {
            !(attempt.source.starts_with(b"//") && needs_network(fstype.as_bstr()))
        }
    }
}

/// The deepest part of a path that exists.
struct Deepest<'a> {
    fd: OwnedFd,
    /// What of the path is below it.
    rest: &'a [u8],
    /// The path as it is written.
    written: &'a BStr,
}

impl<'a> Deepest<'a> {
    /// None if nothing of the path can be seen.
    fn of(path: &'a BStr) -> Option<Self> {
        let mut part = path.as_bytes();
        loop {
            // Without O_PATH this would open what may be a device or a pipe.
            match openat(CWD, part, OFlags::PATH | OFlags::CLOEXEC, Mode::empty()) {
                Ok(fd) => {
                    return Some(Self {
                        fd,
                        rest: &path[part.len()..],
                        written: path,
                    });
                }
                Err(Errno::NOENT | Errno::NOTDIR) => {}
                Err(_) => return None,
            }
            part = match part.rfind_byte(b'/') {
                None | Some(0) => return None,
                Some(slash) => &part[..slash],
            };
        }
    }

    /// The whole path, with what exists of it as the kernel calls it.
    fn whole(self) -> BString {
        let link = format!("/proc/self/fd/{}", self.fd.as_raw_fd());
        match readlinkat(CWD, link, Vec::new()) {
            Ok(real) => [real.as_bytes(), self.rest].concat().into(),
            // Without /proc.
            Err(_) => self.written.to_owned(),
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
