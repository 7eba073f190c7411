//! Copying a directory with all that is in it, extents shared, and taking such a copy away.
//!
//! Nothing is followed: no link, and no mount (what is mounted below is an empty directory in the
//! copy). The number of files, the depth and the time are bounded. Owners, modes, times, extended
//! attributes, ACLs among them, and links between files of the tree are kept; sockets are left out.

use std::collections::HashMap;
use std::ffi::{CStr, CString};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use bstr::{BStr, BString, ByteSlice};
use piton_snapshot::Origin;
use rustix::fs::{
    AtFlags, Dir, FileType, Gid, Mode, OFlags, ResolveFlags, Stat, Timespec, Timestamps, Uid,
    XattrFlags, chmodat, chownat, fgetxattr, flistxattr, fsetxattr, fstat, ioctl_ficlone, linkat,
    mkdirat, mknodat, openat, openat2, readlinkat, statat, symlinkat, unlinkat, utimensat,
};
use rustix::io::Errno;

use crate::error::Error;
use crate::image::no_clone;
use crate::limits;
use crate::place::{DIRECTORY, MARK};
use crate::turn::Turn;

/// Copies what is in the directory `from` into the empty directory `to`, and then what `from` itself
/// is like.
pub(crate) fn copy(
    origin: &Origin,
    from: &OwnedFd,
    to: &OwnedFd,
    turn: Turn<'_>,
) -> Result<(), Error> {
    let mut copying = Copying {
        origin,
        top: to,
        turn,
        count: 0,
        links: HashMap::new(),
    };
    copying.inside(from, to, BStr::new(""), 0)?;
    let stat = fstat(from).map_err(|errno| copying.failed("looking at", "".into(), errno))?;
    attributes(from.as_fd(), to.as_fd())
        .and_then(|()| like(to, c".", &stat))
        .map_err(|errno| copying.failed("copying", "".into(), errno))
}

struct Copying<'a> {
    origin: &'a Origin,
    top: &'a OwnedFd,
    turn: Turn<'a>,
    count: usize,
    /// Where in the copy a file is that has several names.
    links: HashMap<(u64, u64), BString>,
}

impl Copying<'_> {
    fn failed(&self, doing: &'static str, below: &BStr, errno: Errno) -> Error {
        let path = [self.origin.path().as_bytes(), b"/", below].concat();
        Error::call(doing, path, errno)
    }

    fn too_much(&self, why: String) -> Error {
        Error::Unsupported {
            what: self.origin.path().into(),
            why,
        }
    }

    fn inside(
        &mut self,
        from: &OwnedFd,
        to: &OwnedFd,
        below: &BStr,
        depth: usize,
    ) -> Result<(), Error> {
        if depth > limits::DEPTH {
            return Err(self.too_much(format!(
                "directories are more than {} levels deep in it, too deep for a copy",
                limits::DEPTH
            )));
        }
        let entries = Dir::read_from(from).map_err(|errno| self.failed("reading", below, errno))?;
        for entry in entries {
            let entry = entry.map_err(|errno| self.failed("reading", below, errno))?;
            let name = entry.file_name();
            if matches!(name.to_bytes(), b"." | b"..") {
                continue;
            }
            if depth == 0 && name.to_bytes() == DIRECTORY.as_bytes() {
                continue;
            }
            self.count += 1;
            if self.count > limits::COPIED {
                return Err(self.too_much(format!(
                    "more than {} files and directories are in it, too many for a copy",
                    limits::COPIED
                )));
            }
            self.turn.check(self.origin.path())?;
            let mut path = BString::from(below);
            if !path.is_empty() {
                path.push(b'/');
            }
            path.extend_from_slice(name.to_bytes());
            self.one(from, to, name, &path, depth)?;
        }
        Ok(())
    }

    fn one(
        &mut self,
        from: &OwnedFd,
        to: &OwnedFd,
        name: &CStr,
        path: &BString,
        depth: usize,
    ) -> Result<(), Error> {
        let failed = |errno| self.failed("copying", path.as_bstr(), errno);
        // Not even an automount is asked: it may lead to a server.
        let how = AtFlags::SYMLINK_NOFOLLOW | AtFlags::NO_AUTOMOUNT;
        let stat = match statat(from, name, how) {
            Ok(stat) => stat,
            // It was removed meanwhile.
            Err(Errno::NOENT) => return Ok(()),
            Err(errno) => return Err(failed(errno)),
        };
        match FileType::from_raw_mode(stat.st_mode) {
            FileType::Directory => self.directory(from, to, name, path, depth),
            FileType::RegularFile => {
                if stat.st_nlink > 1 {
                    if let Some(first) = self.links.get(&(stat.st_dev, stat.st_ino)) {
                        return linkat(self.top, first.as_bytes(), to, name, AtFlags::empty())
                            .map_err(failed);
                    }
                    let key = (stat.st_dev, stat.st_ino);
                    self.links.insert(key, path.clone());
                }
                self.file(from, to, name, path)
            }
            FileType::Symlink => (|| {
                let text: CString = readlinkat(from, name, Vec::new())?;
                symlinkat(text, to, name)?;
                like(to, name, &stat)
            })()
            .map_err(failed),
            kind @ (FileType::Fifo | FileType::CharacterDevice | FileType::BlockDevice) => {
                mknodat(to, name, kind, Mode::RUSR, stat.st_rdev)
                    .and_then(|()| like(to, name, &stat))
                    .map_err(failed)
            }
            _ => Ok(()),
        }
    }

    fn directory(
        &mut self,
        from: &OwnedFd,
        to: &OwnedFd,
        name: &CStr,
        path: &BString,
        depth: usize,
    ) -> Result<(), Error> {
        let failed = |errno| Error::call("copying", path.as_slice(), errno);
        mkdirat(to, name, Mode::RWXU).map_err(failed)?;
        let source = match open_inside(from, name, OFlags::DIRECTORY) {
            Ok(source) => source,
            // Something is mounted on it, or it was removed or changed meanwhile.
            Err(Errno::XDEV | Errno::NOENT | Errno::NOTDIR | Errno::LOOP) => return Ok(()),
            Err(errno) => return Err(failed(errno)),
        };
        let target = open_inside(to, name, OFlags::DIRECTORY).map_err(failed)?;
        self.inside(&source, &target, path.as_bstr(), depth + 1)?;
        attributes(source.as_fd(), target.as_fd())
            .and_then(|()| like(to, name, &fstat(&source)?))
            .map_err(failed)
    }

    fn file(&self, from: &OwnedFd, to: &OwnedFd, name: &CStr, path: &BString) -> Result<(), Error> {
        let failed = |errno| self.failed("copying", path.as_bstr(), errno);
        let source = match open_inside(from, name, OFlags::NONBLOCK) {
            Ok(source) => source,
            Err(Errno::XDEV | Errno::NOENT | Errno::LOOP) => return Ok(()),
            Err(errno) => return Err(failed(errno)),
        };
        let stat = fstat(&source).map_err(failed)?;
        if FileType::from_raw_mode(stat.st_mode) != FileType::RegularFile {
            return Ok(());
        }
        let flags = OFlags::CREATE | OFlags::EXCL | OFlags::WRONLY | OFlags::CLOEXEC;
        let target = openat(to, name, flags, Mode::RUSR | Mode::WUSR).map_err(failed)?;
        if stat.st_size > 0 {
            ioctl_ficlone(&target, &source).map_err(|errno| no_clone(self.origin, errno))?;
        }
        attributes(source.as_fd(), target.as_fd())
            .and_then(|()| like(to, name, &stat))
            .map_err(failed)
    }
}

/// Opens what is in a directory: no link, and nothing that is mounted there.
fn open_inside(directory: &OwnedFd, name: &CStr, flags: OFlags) -> rustix::io::Result<OwnedFd> {
    let flags = flags | OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let inside = ResolveFlags::NO_XDEV | ResolveFlags::NO_SYMLINKS | ResolveFlags::BENEATH;
    openat2(directory, name, flags, Mode::empty(), inside)
}

/// Copies the extended attributes but our mark.
fn attributes(from: BorrowedFd<'_>, to: BorrowedFd<'_>) -> rustix::io::Result<()> {
    let mut names = vec![0; limits::ATTRIBUTE];
    let length = match flistxattr(from, &mut names[..]) {
        Ok(0) | Err(Errno::OPNOTSUPP) => return Ok(()),
        Ok(length) => length,
        Err(errno) => return Err(errno),
    };
    let mut value = vec![0; limits::ATTRIBUTE];
    for name in names[..length].split(|byte| *byte == 0) {
        if name.is_empty() || name == MARK.as_bytes() {
            continue;
        }
        match fgetxattr(from, name, &mut value[..]) {
            Ok(length) => fsetxattr(to, name, &value[..length], XattrFlags::empty())?,
            Err(Errno::NODATA) => {}
            Err(errno) => return Err(errno),
        }
    }
    Ok(())
}

/// Gives a copy the owner, mode and times of what it is a copy of.
fn like(directory: &OwnedFd, name: &CStr, stat: &Stat) -> rustix::io::Result<()> {
    let itself = AtFlags::SYMLINK_NOFOLLOW;
    let (uid, gid) = (Uid::from_raw(stat.st_uid), Gid::from_raw(stat.st_gid));
    chownat(directory, name, Some(uid), Some(gid), itself)?;
    if FileType::from_raw_mode(stat.st_mode) != FileType::Symlink {
        // After the owner, whose change takes the set-user-id bit away.
        let mode = Mode::from_raw_mode(stat.st_mode & 0o7777);
        chmodat(directory, name, mode, AtFlags::empty())?;
    }
    let time = |seconds, nanoseconds: u64| Timespec {
        tv_sec: seconds,
        tv_nsec: nanoseconds.cast_signed(),
    };
    let times = Timestamps {
        last_access: time(stat.st_atime, stat.st_atime_nsec),
        last_modification: time(stat.st_mtime, stat.st_mtime_nsec),
    };
    utimensat(directory, name, &times, itself)
}

/// Removes what is in a directory, and what is in that. Nothing is followed.
pub(crate) fn empty(directory: &OwnedFd, path: &BStr, turn: Turn<'_>) -> Result<(), Error> {
    let failed = |errno| Error::call("removing", path, errno);
    turn.check(path)?;
    for entry in Dir::read_from(directory).map_err(failed)? {
        let entry = entry.map_err(failed)?;
        let name = entry.file_name();
        if matches!(name.to_bytes(), b"." | b"..") {
            continue;
        }
        match unlinkat(directory, name, AtFlags::empty()) {
            Ok(()) | Err(Errno::NOENT) => continue,
            Err(Errno::ISDIR) => {}
            Err(errno) => return Err(failed(errno)),
        }
        let inner = open_inside(directory, name, OFlags::DIRECTORY).map_err(failed)?;
        empty(&inner, path, turn)?;
        unlinkat(directory, name, AtFlags::REMOVEDIR).map_err(failed)?;
    }
    Ok(())
}
