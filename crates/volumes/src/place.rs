//! The directories of ours in which snapshots lie that have a path: `.piton-snapshots/LABEL`, beside
//! their origin, or in it if it is the root of its mount.
//!
//! The outer one belongs to root alone and carries a mark that no user can set, as an attribute:
//! whatever else has its name is left alone. Origins have directories of their own in it because
//! btrfs makes subvolumes in one directory one after the other, and a group must be made at once.

use std::os::fd::{AsFd, OwnedFd};

use bstr::{BStr, BString, ByteSlice};
use piton_snapshot::{Name, Origin};
use rustix::fs::{
    AtFlags, Dir, FileType, Mode, OFlags, RenameFlags, Stat, StatxFlags, XattrFlags, fgetxattr,
    fsetxattr, fstat, mkdirat, openat, renameat_with, statx,
};
use rustix::io::Errno;

use crate::error::Error;
use crate::lock;
use crate::table;
use crate::turn::Turn;

/// Its name.
pub(crate) const DIRECTORY: &str = ".piton-snapshots";

/// The attribute that marks it, and in it, with the origin as its value, each snapshot that is not
/// marked in another way.
pub(crate) const MARK: &str = "trusted.piton";

/// What a snapshot's name ends with until it is finished, and while it is taken away.
pub(crate) const PARTIAL: &str = ".partial";

/// `STATX_MNT_ID_UNIQUE`, of Linux 6.8: the number of a mount that statmount(2) goes by. What an older
/// kernel gives in its place is no such number.
const UNIQUE: StatxFlags = StatxFlags::from_bits_retain(0x4000);

/// An origin that has a path.
#[derive(Debug)]
pub(crate) struct Live {
    /// The directory that it is in.
    container: OwnedFd,
    /// Itself.
    pub(crate) fd: OwnedFd,
    /// What it is.
    pub(crate) stat: Stat,
    /// It is not there: what is open is the directory that it was in.
    pub(crate) gone: bool,
}

/// A directory of ours.
#[derive(Debug)]
pub(crate) struct Place {
    /// It.
    pub(crate) fd: OwnedFd,
    /// Its path, without links.
    pub(crate) path: BString,
}

/// One name in it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Kept {
    /// Which snapshot.
    pub(crate) name: Name,
    /// It is not finished, or being taken away.
    pub(crate) partial: bool,
}

impl Live {
    /// Opens an origin. Its last component may be no link; what leads there may.
    pub(crate) fn open(origin: &Origin, flags: OFlags) -> Result<Self, Error> {
        let path = origin.path();
        let failed = |errno| match errno {
            Errno::NOENT | Errno::NOTDIR => absent(origin),
            errno => Error::call("opening", path, errno),
        };
        let flags = flags | OFlags::RDONLY | OFlags::CLOEXEC | OFlags::NOFOLLOW;
        let container = open_directory(origin.container()).map_err(failed)?;
        let name: &BStr = match origin.own_name() {
            name if name.is_empty() => ".".into(),
            name => name,
        };
        let fd = openat(&container, name.as_bytes(), flags, Mode::empty()).map_err(failed)?;
        let stat = fstat(&fd).map_err(failed)?;
        Ok(Self {
            container,
            fd,
            stat,
            gone: false,
        })
    }

    /// Opens an origin to look for its snapshots; if it is not there and the turn allows that, the
    /// directory that it was in.
    pub(crate) fn find(origin: &Origin, flags: OFlags, turn: Turn<'_>) -> Result<Self, Error> {
        let absent = match Self::open(origin, flags) {
            Err(error @ Error::Absent { .. }) if turn.gone => error,
            opened => return opened,
        };
        Self::gone(origin, absent)
    }

    /// Where an origin was that is not there; if not even that is, it is `absent`.
    pub(crate) fn gone(origin: &Origin, absent: Error) -> Result<Self, Error> {
        let Ok(container) = open_directory(origin.container()) else {
            return Err(absent);
        };
        let failed = |errno| Error::call("looking at", origin.path(), errno);
        Ok(Self {
            fd: container.try_clone().map_err(|error| failed(of(&error)))?,
            stat: fstat(&container).map_err(failed)?,
            container,
            gone: true,
        })
    }

    /// What was found of its snapshots: of an origin that is not there nothing is the same as that
    /// it is not there, for the file system may not be mounted.
    pub(crate) fn found<T>(&self, origin: &Origin, found: Vec<T>) -> Result<Vec<T>, Error> {
        match self.gone && found.is_empty() {
            true => Err(absent(origin)),
            false => Ok(found),
        }
    }

    /// Whether no other origin can have snapshots in the directory of ours for this one: not if the
    /// map says where it is, or if what is beside it and what is in it could have the same label.
    pub(crate) fn is_alone(&self, origin: &Origin, turn: Turn<'_>) -> bool {
        turn.means.store.is_none()
            && origin.own_name() == origin.label().as_str()
            && self.is_root_of_mount(origin).is_ok_and(|is_root| !is_root)
    }

    /// Whether the file system that it is in is mounted with this option.
    pub(crate) fn is_mounted_with(&self, option: &str) -> bool {
        let number = |flag| statx(&self.fd, "", AtFlags::EMPTY_PATH, flag).map(|it| it.stx_mnt_id);
        // The table of all mounts costs many times as much.
        let options = number(UNIQUE)
            .ok()
            .and_then(|id| autofs::mount_options(id).ok());
        match options {
            Some(options) => options
                .split(|byte| *byte == b',')
                .any(|it| it == option.as_bytes()),
            None => number(StatxFlags::MNT_ID)
                .ok()
                .and_then(table::own_with)
                .is_some_and(|mount| mount.has(option)),
        }
    }

    /// Our directory for this origin, if it is there.
    pub(crate) fn place(&self, origin: &Origin, turn: Turn<'_>) -> Result<Option<Place>, Error> {
        let base = self.base(origin, turn)?;
        let outer = match Place::at_base(&base, origin) {
            Ok(outer) => outer,
            Err(Error::Call { errno, .. }) if errno == Errno::NOENT => return Ok(None),
            Err(error) => return Err(error),
        };
        // One that somebody is about to mark is empty.
        if !outer.is_ours() && is_empty(&outer.fd) {
            return Ok(None);
        }
        outer.check()?;
        outer.inner(origin)
    }

    /// Our directory for this origin, made if it is not there.
    pub(crate) fn make_place(&self, origin: &Origin, turn: Turn<'_>) -> Result<Place, Error> {
        let base = self.base(origin, turn)?;
        make(&base, DIRECTORY).map_err(|errno| Error::call("making", origin.path(), errno))?;
        let outer = Place::at_base(&base, origin)?;
        let failed = |errno| Error::call("marking", &outer.path, errno);
        if !outer.is_ours() {
            // Others may be about to do the same for other origins; closed, it is unlocked.
            let path = outer.path.to_path_lossy();
            let held = open_in(&base, DIRECTORY, OFlags::DIRECTORY).map_err(failed)?;
            lock::wait(&held, &path, turn.until)?;
            // One that was just made, by us or by one who died at it, is empty and root's.
            let stat = fstat(&outer.fd).map_err(failed)?;
            let is_new = stat.st_uid == 0 && stat.st_mode & 0o777 == 0o700 && is_empty(&outer.fd);
            if is_new && !outer.is_ours() {
                fsetxattr(&outer.fd, MARK, b"1", XattrFlags::empty()).map_err(failed)?;
            }
        }
        outer.check()?;
        make(&outer.fd, &origin.label()).map_err(failed)?;
        outer.inner(origin)?.ok_or_else(|| failed(Errno::NOENT))
    }

    /// Where our directory is, or is to be: where the map says, else beside the origin.
    fn base(&self, origin: &Origin, turn: Turn<'_>) -> Result<OwnedFd, Error> {
        let failed = |errno| Error::call("looking at", origin.path(), errno);
        let copy = |fd: &OwnedFd| fd.try_clone().map_err(|error| failed(of(&error)));
        let base = match &turn.means.store {
            Some(store) => open_directory(store.as_bstr())
                .map_err(|errno| Error::call("opening the store", store.as_slice(), errno))?,
            None if self.is_root_of_mount(origin).map_err(failed)? => copy(&self.fd)?,
            None => copy(&self.container)?,
        };
        let stat = fstat(&base).map_err(failed)?;
        // Who can rename in it could have something else shown as a snapshot.
        if stat.st_uid != 0 || stat.st_mode & 0o022 != 0 {
            return Err(Error::Unsupported {
                what: origin.path().into(),
                why: format!(
                    "others than root can write to {}, where the snapshots would be: have it \
                     belong to root, with mode 0755 at the most, or name another directory of the \
                     same file system by store=",
                    path_of_fd(&base).unwrap_or_default()
                ),
            });
        }
        Ok(base)
    }

    /// Whether it is a directory on which something is mounted, so that nothing beside it is of the
    /// same file system.
    fn is_root_of_mount(&self, origin: &Origin) -> rustix::io::Result<bool> {
        if FileType::from_raw_mode(self.stat.st_mode) != FileType::Directory {
            return Ok(false);
        }
        let number = |fd: &OwnedFd| {
            let found = statx(fd, "", AtFlags::EMPTY_PATH, StatxFlags::MNT_ID);
            found.map(|found| found.stx_mnt_id)
        };
        Ok(origin.own_name().is_empty() || number(&self.container)? != number(&self.fd)?)
    }
}

fn absent(origin: &Origin) -> Error {
    Error::Absent {
        what: origin.path().into(),
        place: "the file system".into(),
    }
}

fn of(error: &std::io::Error) -> Errno {
    Errno::from_io_error(error).unwrap_or(Errno::IO)
}

/// What a snapshot's file or directory is called: as it is, or until it is finished.
pub(crate) fn text_of(origin: &Origin, name: Name, partial: bool) -> String {
    let end = if partial { PARTIAL } else { "" };
    format!("{}{end}", name.of(origin))
}

impl Place {
    /// Why a snapshot that has only its name until it is finished is not shown.
    pub(crate) fn unfinished(&self, origin: &Origin, name: Name) -> Error {
        Error::Spoilt {
            what: self.at(&text_of(origin, name, true)),
            why: "it was never finished".into(),
        }
    }

    /// The outer directory, whosoever it is.
    fn at_base(base: &OwnedFd, origin: &Origin) -> Result<Self, Error> {
        let path = path_of(base, origin)?;
        match open_in(base, DIRECTORY, OFlags::DIRECTORY) {
            Ok(fd) => Ok(Self { fd, path }),
            Err(Errno::LOOP | Errno::NOTDIR) => Err(foreign(&path)),
            Err(errno) => Err(Error::call("opening", path, errno)),
        }
    }

    /// The origin's own in the outer one.
    fn inner(&self, origin: &Origin) -> Result<Option<Self>, Error> {
        let label = origin.label();
        let path = self.at(&label);
        match self.open(&label, OFlags::DIRECTORY) {
            Ok(fd) => Ok(Some(Self { fd, path })),
            Err(Errno::NOENT) => Ok(None),
            Err(errno) => Err(Error::call("opening", path, errno)),
        }
    }

    /// The path of what is called `text` in it.
    pub(crate) fn at(&self, text: &str) -> BString {
        format!("{}/{text}", self.path).into()
    }

    /// Opens what is called `text` in it.
    pub(crate) fn open(&self, text: &str, flags: OFlags) -> rustix::io::Result<OwnedFd> {
        open_in(&self.fd, text, flags)
    }

    /// What is called like a snapshot of the origin in it. That does not make it ours yet.
    pub(crate) fn kept(&self, origin: &Origin) -> Result<Vec<Kept>, Error> {
        let failed = |errno| Error::call("reading", &self.path, errno);
        let label = origin.label();
        let mut found = Vec::new();
        for entry in Dir::read_from(&self.fd).map_err(failed)? {
            let entry = entry.map_err(failed)?;
            let Ok(text) = entry.file_name().to_str() else {
                continue;
            };
            let (text, partial) = match text.strip_suffix(PARTIAL) {
                Some(text) => (text, true),
                None => (text, false),
            };
            if let Some((of, name)) = Name::parse(text)
                && of == label
            {
                found.push(Kept { name, partial });
            }
        }
        Ok(found)
    }

    /// Gives something in it another name, unless that is taken.
    pub(crate) fn rename(&self, from: &str, to: &str) -> Result<(), Error> {
        renameat_with(&self.fd, from, &self.fd, to, RenameFlags::NOREPLACE)
            .map_err(|errno| Error::call("renaming", self.at(from), errno))
    }

    fn is_ours(&self) -> bool {
        is_marked(&self.fd, b"1")
    }

    fn check(&self) -> Result<(), Error> {
        if self.is_ours() {
            Ok(())
        } else {
            Err(foreign(&self.path))
        }
    }
}

/// Whether an open file carries our mark with this value.
pub(crate) fn is_marked(fd: impl AsFd, value: &[u8]) -> bool {
    // A longer value is another one; the kernel says ERANGE.
    let mut found = vec![0; value.len().max(1)];
    fgetxattr(fd, MARK, &mut found[..]).is_ok_and(|length| found[..length] == *value)
}

/// Marks an open file as a snapshot of the origin.
pub(crate) fn mark(fd: impl AsFd, origin: &Origin) -> rustix::io::Result<()> {
    fsetxattr(fd, MARK, origin.path(), XattrFlags::empty())
}

fn foreign(path: &BString) -> Error {
    Error::Foreign {
        what: path.clone(),
        mark: "the attribute trusted.piton",
    }
}

fn make(directory: &OwnedFd, name: &str) -> rustix::io::Result<()> {
    match mkdirat(directory, name, Mode::RWXU) {
        Err(Errno::EXIST) => Ok(()),
        made => made,
    }
}

/// Whether nothing is in an open directory.
pub(crate) fn is_empty(fd: &OwnedFd) -> bool {
    let named = |name: &std::ffi::CStr| !matches!(name.to_bytes(), b"." | b"..");
    Dir::read_from(fd).is_ok_and(|mut entries| {
        !entries.any(|entry| entry.is_ok_and(|entry| named(entry.file_name())))
    })
}

fn open_directory(path: &BStr) -> rustix::io::Result<OwnedFd> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    rustix::fs::open(path.as_bytes(), flags, Mode::empty())
}

fn open_in(directory: &OwnedFd, name: &str, flags: OFlags) -> rustix::io::Result<OwnedFd> {
    let flags = flags | OFlags::CLOEXEC | OFlags::NOFOLLOW;
    openat(directory, name, flags, Mode::empty())
}

/// The path of our directory in `base`.
fn path_of(base: &OwnedFd, origin: &Origin) -> Result<BString, Error> {
    let base = path_of_fd(base).map_err(|errno| Error::call("looking at", origin.path(), errno))?;
    let slash = if base == "/" { "" } else { "/" };
    Ok(format!("{base}{slash}{DIRECTORY}").into())
}

/// The path of an open file, without links.
pub(crate) fn path_of_fd(fd: impl AsFd) -> rustix::io::Result<BString> {
    use std::os::fd::AsRawFd;
    let link = format!("/proc/self/fd/{}", fd.as_fd().as_raw_fd());
    rustix::fs::readlink(link, Vec::new()).map(|path| path.into_bytes().into())
}
