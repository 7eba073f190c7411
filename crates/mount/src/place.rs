//! Finding a mount point without being led astray.
//!
//! What lies below a key's own mount belongs to a server. One that plants `x -> /etc` must not get
//! an offset mounted over /etc. So a path has two parts: down to its *root* (the trigger of the
//! entry, or the directory it is in) the administrator's symbolic links are followed; below it no
//! link is followed, in no component.

use std::borrow::Cow;

use bstr::{BStr, BString, ByteSlice};
use rustix::fd::{AsFd, BorrowedFd, OwnedFd};
use rustix::fs::{CWD, Mode, OFlags, ResolveFlags, open, openat, openat2, readlink};
use rustix::io::Errno;

use crate::error::Error;
use crate::kind;
use crate::lane::Lane;
use crate::perform::Directory;
use crate::walk::{self, End};

/// Whether an operation may wait for a server.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum How {
    /// It may: this process can be done without.
    Waiting,
    /// It must not: what might is [`Error::Elsewhere`].
    AtOnce,
}

/// A directory that is held open.
enum Dir {
    Own(OwnedFd),
    /// The root of an automount: what is in it is found by the kernel alone.
    Automount(Directory),
}

/// A directory entry that system calls can be pointed at.
pub(crate) struct Place<'a> {
    /// The directory it is in, unless `name` is an absolute path.
    dir: Option<Dir>,
    /// One component, or an absolute path whose last component is not to be followed.
    name: &'a [u8],
    how: How,
}

impl<'a> Place<'a> {
    /// Finds the directory that holds `path`.
    ///
    /// # Errors
    /// `path` is not absolute, climbs, leaves `root`, or has a symbolic link below it.
    pub(crate) fn find(root: &BStr, path: &'a BStr, how: How) -> Result<Self, Error> {
        let below = below(root, path)?;
        let Some(slash) = below.rfind_byte(b'/') else {
            return Ok(Self {
                dir: None,
                name: path,
                how,
            });
        };
        let dir = match how {
            How::Waiting => {
                let base = open_root(root)?;
                open_beneath(base.as_fd(), &below[..slash]).map_err(|e| told(e, root, path))?
            }
            How::AtOnce => {
                let base = walk::open(CWD.as_fd(), or_top(root), DIRECTORY, ResolveFlags::empty())
                    .map_err(|end| end.told(|e| Error::call("opening", root, e)))?;
                walk::open(base.as_fd(), &below[..slash], DIRECTORY, BENEATH)
                    .map_err(|end| end.told(|e| told(e, root, path)))?
            }
        };
        Ok(Self {
            dir: Some(Dir::Own(dir)),
            name: &below[slash + 1..],
            how,
        })
    }

    /// A key in the root of its automount.
    pub(crate) fn in_automount(root: Directory, path: &'a BStr, how: How) -> Self {
        let name = path.rfind_byte(b'/').map_or(0, |slash| slash + 1);
        Self {
            dir: Some(Dir::Automount(root)),
            name: &path[name..],
            how,
        }
    }

    /// The directory and the name, if they lead to the entry with no walk that could wait.
    pub(crate) fn in_reach(&self) -> Option<(BorrowedFd<'_>, &'a [u8])> {
        matches!(self.dir, Some(Dir::Automount(_))).then(|| (self.dir(), self.name))
    }

    /// A path that the administrator wrote, at or above a root: links in it are followed.
    pub(crate) fn trusted(path: &'a BStr, how: How) -> Self {
        Self {
            dir: None,
            name: path,
            how,
        }
    }

    /// The entry itself, opened as a mere path; a symbolic link is not followed.
    pub(crate) fn open(&self) -> Result<OwnedFd, End> {
        let flags = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        match self.how {
            How::Waiting => openat(self.dir(), self.name, flags, Mode::empty()).map_err(End::Errno),
            How::AtOnce => walk::open(self.dir(), self.name, flags, ResolveFlags::empty()),
        }
    }

    /// Opens the directory that holds the entry, if [`Place::dir`] does not name it, so that the
    /// entry can be changed with no further walk. At once it must be one that answers at once.
    pub(crate) fn pin(&mut self) -> Result<(), End> {
        if self.dir.is_none() {
            let slash = self.name.rfind_byte(b'/').unwrap_or(0);
            let above = &self.name[..slash.max(1)];
            self.dir = Some(Dir::Own(match self.how {
                How::Waiting => openat(CWD, above, DIRECTORY, Mode::empty()).map_err(End::Errno)?,
                How::AtOnce => walk::open(CWD.as_fd(), above, DIRECTORY, ResolveFlags::empty())?,
            }));
            self.name = &self.name[slash + 1..];
        }
        if self.how == How::AtOnce {
            let found = kind::of(self.dir()).map_err(End::Errno)?;
            if !found.kind.is_quick() {
                return Err(End::Elsewhere(Lane::Mount(found.mount)));
            }
        }
        Ok(())
    }

    /// Whether it may be waited for.
    pub(crate) fn how(&self) -> How {
        self.how
    }

    /// The directory that [`Place::name`] is relative to.
    pub(crate) fn dir(&self) -> BorrowedFd<'_> {
        match &self.dir {
            None => CWD,
            Some(Dir::Own(dir)) => dir.as_fd(),
            Some(Dir::Automount(dir)) => dir.as_fd(),
        }
    }

    /// The entry's name in [`Place::dir`].
    pub(crate) fn name(&self) -> &'a [u8] {
        self.name
    }

    /// The path as the mount table has it: the administrator's links followed.
    pub(crate) fn in_table(&self) -> Result<BString, Errno> {
        use std::os::fd::AsRawFd;
        let slash = self.name.rfind_byte(b'/');
        let above;
        let (dir, name) = match (&self.dir, slash) {
            (Some(_), _) => (self.dir(), self.name),
            (None, None) => return Ok(self.name.into()),
            (None, Some(slash)) => {
                let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
                above = open(&self.name[..slash.max(1)], flags, Mode::empty())?;
                (above.as_fd(), &self.name[slash + 1..])
            }
        };
        let link = format!("/proc/self/fd/{}", dir.as_raw_fd());
        let mut path = readlink(link, Vec::new())?.into_bytes();
        if !path.ends_with(b"/") {
            path.push(b'/');
        }
        path.extend_from_slice(name);
        Ok(path.into())
    }

    /// A path for calls that take no directory descriptor. The last component is still not to be
    /// followed.
    pub(crate) fn path(&self) -> Cow<'a, [u8]> {
        match &self.dir {
            None => Cow::Borrowed(self.name),
            Some(_) => {
                use std::os::fd::AsRawFd;
                let mut path = format!("/proc/self/fd/{}/", self.dir().as_raw_fd()).into_bytes();
                path.extend_from_slice(self.name);
                Cow::Owned(path)
            }
        }
    }
}

/// The part of `path` below `root`; empty when they are the same.
fn below<'a>(root: &BStr, path: &'a BStr) -> Result<&'a BStr, Error> {
    check(path)?;
    piton_path::below(path, root).ok_or_else(|| {
        let why = format!("lies outside of {root}");
        Error::refused(path, Errno::INVAL, why)
    })
}

/// Refuses paths that the planner would not have made.
fn check(path: &BStr) -> Result<(), Error> {
    let Some(rest) = path.strip_prefix(b"/") else {
        return Err(Error::refused(path, Errno::INVAL, "not an absolute path"));
    };
    if path.contains(&0) {
        return Err(Error::refused(
            path,
            Errno::INVAL,
            "a path cannot contain NUL",
        ));
    }
    if rest
        .split_str("/")
        .any(|name| matches!(name, b"" | b"." | b".."))
    {
        let why = "not a normal path: it has an empty, `.` or `..` component";
        return Err(Error::refused(path, Errno::INVAL, why));
    }
    Ok(())
}

fn or_top(root: &BStr) -> &[u8] {
    if root.is_empty() { b"/" } else { root }
}

fn open_root(root: &BStr) -> Result<OwnedFd, Error> {
    openat(CWD, or_top(root), DIRECTORY, Mode::empty())
        .map_err(|errno| Error::call("opening", root, errno))
}

const DIRECTORY: OFlags = OFlags::PATH.union(OFlags::DIRECTORY).union(OFlags::CLOEXEC);

const BENEATH: ResolveFlags = ResolveFlags::BENEATH
    .union(ResolveFlags::NO_SYMLINKS)
    .union(ResolveFlags::NO_MAGICLINKS);

/// How often a walk is begun again when something was renamed under it.
const WALKS: usize = 16;

/// Opens a directory below `base` without following any symbolic link.
pub(crate) fn open_beneath(base: BorrowedFd<'_>, path: &[u8]) -> Result<OwnedFd, Errno> {
    let mut last = Errno::AGAIN;
    for _ in 0..WALKS {
        match openat2(base, path, DIRECTORY, Mode::empty(), BENEATH) {
            Err(Errno::AGAIN) => last = Errno::AGAIN,
            other => return other,
        }
    }
    Err(last)
}

fn told(errno: Errno, root: &BStr, path: &BStr) -> Error {
    if errno == Errno::LOOP {
        let why = format!("a symbolic link is in the way below {root}, where none is followed");
        return Error::refused(path, Errno::ACCESS, why);
    }
    Error::call("finding the directory of", path, errno)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn find(root: &str, path: &str) -> Result<(), Error> {
        let at_once = Place::find(root.into(), path.into(), How::AtOnce).map(|_| ());
        let waiting = Place::find(root.into(), path.into(), How::Waiting).map(|_| ());
        assert_eq!(at_once, waiting);
        at_once
    }

    #[test]
    fn paths_that_climb_or_leave_the_root_are_refused() {
        for (root, path) in [
            ("/a", "/a/../etc"),
            ("/a", "/ab"),
            ("/a", "/b/c"),
            ("/a", "a/b"),
            ("/a", "/a//b"),
            ("/a", "/a/./b"),
            ("/a", "/a/b/"),
            ("/a", "/a/b\0c"),
            ("/a", ""),
            ("/a", "/"),
        ] {
            let error = find(root, path).unwrap_err();
            assert_eq!(error.errno(), Errno::INVAL, "{path}: {error}");
        }
    }

    #[test]
    fn one_component_below_the_root_costs_no_system_call() {
        let place = Place::find("/nowhere".into(), "/nowhere/x".into(), How::AtOnce).unwrap();
        assert_eq!(place.name(), b"/nowhere/x");
        assert_eq!(&*place.path(), b"/nowhere/x");
        assert!(find("/nowhere", "/nowhere").is_ok());
        assert!(find("/", "/x").is_ok());
        assert!(find("", "/x").is_ok());
    }

    #[test]
    fn a_symbolic_link_below_the_root_is_refused_and_above_it_followed() {
        let scratch = tempfile::tempdir().unwrap();
        let base = scratch.path();
        std::fs::create_dir_all(base.join("real/in/deep")).unwrap();
        std::os::unix::fs::symlink("real", base.join("link")).unwrap();
        std::os::unix::fs::symlink("/etc", base.join("real/evil")).unwrap();
        let text = |tail: &str| format!("{}/{tail}", base.display());

        assert!(find(&text("link"), &text("link/in/deep")).is_ok());
        let error = find(&text("real"), &text("real/evil/x11/y")).unwrap_err();
        assert_eq!(error.errno(), Errno::ACCESS, "{error}");
        assert!(error.to_string().contains("symbolic link"), "{error}");
        assert_eq!(
            find(&text("real"), &text("real/no/x")).unwrap_err().errno(),
            Errno::NOENT
        );
    }
}
