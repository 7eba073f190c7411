//! The bare tree of a point, as only the daemon's process group sees and may change it.

use std::ffi::OsStr;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use bstr::BString;
use rustix::fs::{AtFlags, Dir, Mode, OFlags};
use rustix::io::Errno;

use crate::device::PointId;
use crate::error::{Error, Result};

/// The open root directory of a point: what answers go through, and the way to its bare tree.
///
/// It keeps the point busy: as long as it is open, unmounting the point fails with `EBUSY`.
///
/// All names are relative to the root; an absolute one, and one with a `..`, is refused with
/// `EINVAL`, so that nothing outside the point can be changed through it. All changes fail with
/// `EACCES` from outside the point's process group and on a catatonic point.
#[derive(Debug)]
pub struct PointRoot {
    root: OwnedFd,
}

impl PointRoot {
    /// The device and inode number of the point.
    ///
    /// # Errors
    ///
    /// What `fstat(2)` answers.
    pub fn id(&self) -> Result<PointId> {
        let stat = rustix::fs::fstat(&self.root).map_err(|errno| Error::call("fstat", errno))?;
        Ok(PointId::from_stat(&stat))
    }

    /// Makes a directory, with these permission bits less the process's umask.
    ///
    /// # Errors
    ///
    /// `EEXIST` if it is there, and whatever else `mkdirat(2)` answers.
    pub fn make_dir(&self, name: &[u8], mode: u32) -> Result<()> {
        self.change("mkdirat", name, |root| {
            rustix::fs::mkdirat(root, name, Mode::from_raw_mode(mode))
        })
    }

    /// Removes an empty directory.
    ///
    /// # Errors
    ///
    /// `EBUSY` if something is mounted on it, `ENOTEMPTY`, and whatever else `unlinkat(2)` answers.
    pub fn remove_dir(&self, name: &[u8]) -> Result<()> {
        self.change("unlinkat", name, |root| {
            rustix::fs::unlinkat(root, name, AtFlags::REMOVEDIR)
        })
    }

    /// Makes a symbolic link to `target`, which an access follows without a mount.
    ///
    /// # Errors
    ///
    /// Whatever `symlinkat(2)` answers.
    pub fn make_link(&self, name: &[u8], target: &[u8]) -> Result<()> {
        self.change("symlinkat", name, |root| {
            rustix::fs::symlinkat(target, root, name)
        })
    }

    /// Removes a symbolic link.
    ///
    /// # Errors
    ///
    /// `EISDIR` for a directory, and whatever else `unlinkat(2)` answers.
    pub fn remove_link(&self, name: &[u8]) -> Result<()> {
        self.change("unlinkat", name, |root| {
            rustix::fs::unlinkat(root, name, AtFlags::empty())
        })
    }

    /// The names that are in the root now, in no order.
    ///
    /// # Errors
    ///
    /// What opening or reading the directory answers.
    pub fn names(&self) -> Result<Vec<BString>> {
        let fail = |errno| Error::call("getdents64", errno);
        let mut names = Vec::new();
        for entry in Dir::read_from(&self.root).map_err(fail)? {
            let entry = entry.map_err(fail)?;
            let name = entry.file_name().to_bytes();
            if name != b"." && name != b".." {
                names.push(name.into());
            }
        }
        Ok(names)
    }

    fn change(
        &self,
        call: &'static str,
        name: &[u8],
        change: impl FnOnce(BorrowedFd<'_>) -> rustix::io::Result<()>,
    ) -> Result<()> {
        let done = if stays_inside(name) {
            change(self.root.as_fd())
        } else {
            Err(Errno::INVAL)
        };
        done.map_err(|errno| Error::call_on(call, Path::new(OsStr::from_bytes(name)), errno))
    }
}

/// Returns true if and only if the name leads to something below the directory that it is relative
/// to, as far as names alone can tell (only the daemon can put symbolic links there).
fn stays_inside(name: &[u8]) -> bool {
    !name.is_empty()
        && name
            .split(|byte| *byte == b'/')
            .all(|part| !matches!(part, b"" | b"." | b".."))
}

/// Opens the directory that a mount's descriptor (`fsmount(2)`) stands for.
pub(crate) fn open_root_of(mount: BorrowedFd<'_>) -> rustix::io::Result<PointRoot> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    Ok(rustix::fs::openat(mount, ".", flags, Mode::empty())?.into())
}

impl AsFd for PointRoot {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.root.as_fd()
    }
}

impl From<OwnedFd> for PointRoot {
    /// The root that [`Control::open_point`](crate::Control::open_point) opened.
    fn from(root: OwnedFd) -> Self {
        Self { root }
    }
}

impl From<PointRoot> for OwnedFd {
    fn from(root: PointRoot) -> Self {
        root.root
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn refuses_names_that_lead_out() {
        for name in [
            "",
            "/",
            "/etc",
            ".",
            "..",
            "a/..",
            "../a",
            "a/../../b",
            "a//b",
            "a/",
            "a/./b",
        ] {
            assert!(!stays_inside(name.as_bytes()), "{name:?}");
        }
        for name in ["a", "a/b", "..a", "...", "a b", "\\"] {
            assert!(stays_inside(name.as_bytes()), "{name:?}");
        }
    }

    #[test]
    fn lists_again_and_again() {
        let dir = tempfile::tempdir().unwrap();
        let root = PointRoot::from(OwnedFd::from(std::fs::File::open(dir.path()).unwrap()));
        root.make_dir(b"a", 0o755).unwrap();
        root.make_link(b"b", b"/nowhere").unwrap();
        for _ in 0..2 {
            let mut names = root.names().unwrap();
            names.sort();
            assert_eq!(names, ["a", "b"]);
        }
        let error = root.make_dir(b"../c", 0o755).unwrap_err();
        assert_eq!(
            error.to_string(),
            "mkdirat ../c: Invalid argument (os error 22)"
        );
    }
}
