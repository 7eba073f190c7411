//! Walking to a path without waiting for anybody.
//!
//! The kernel walks in its own memory (`RESOLVE_CACHED`, Linux 5.12) and says EAGAIN where it would
//! have to ask the file system. Is that a local one, it is asked for that one name, and the walk
//! goes on. Everything else is for another process ([`Error::Elsewhere`]).

use bstr::{BStr, ByteSlice};
use rustix::fd::{AsFd, BorrowedFd, OwnedFd};
use rustix::fs::{CWD, Mode, OFlags, ResolveFlags, openat2};
use rustix::io::Errno;

use crate::error::Error;
use crate::kind::{self, Kind};
use crate::lane::Lane;

/// How often the kernel is asked again when mounting elsewhere disturbed its walk.
const TRIES: usize = 8;

/// Names that are fetched from local disks on one walk: more than a path can have is a circle.
const FETCHES: usize = 256;

/// Why a walk ended.
#[derive(Debug)]
pub(crate) enum End {
    /// As a system call fails.
    Errno(Errno),
    /// It would have to wait.
    Elsewhere(Lane),
}

impl End {
    /// As an error; `told` makes one of an errno.
    pub(crate) fn told(self, told: impl FnOnce(Errno) -> Error) -> Error {
        match self {
            Self::Errno(errno) => told(errno),
            Self::Elsewhere(lane) => Error::Elsewhere(lane),
        }
    }
}

/// Opens `path` below `dir` without waiting. `flags` must have `O_PATH`: opening in earnest asks
/// the file system.
pub(crate) fn open(
    dir: BorrowedFd<'_>,
    path: &[u8],
    flags: OFlags,
    resolve: ResolveFlags,
) -> Result<OwnedFd, End> {
    debug_assert!(flags.contains(OFlags::PATH));
    let mut fetched = None;
    for _ in 0..FETCHES {
        match cached(dir, path, flags, resolve) {
            Ok(fd) => return Ok(fd),
            Err(Errno::AGAIN) => {}
            // A kernel that cannot do this.
            Err(Errno::NOSYS | Errno::INVAL) => return Err(elsewhere(path)),
            Err(errno) => return Err(End::Errno(errno)),
        }
        let place = fetch(dir, path, resolve)?;
        if fetched == Some(place) {
            // It was there already: a link that leads somewhere else.
            return Err(elsewhere(&path[..place]));
        }
        fetched = Some(place);
    }
    Err(elsewhere(path))
}

fn elsewhere(path: &[u8]) -> End {
    End::Elsewhere(Lane::Path(path.into()))
}

fn cached(
    dir: BorrowedFd<'_>,
    path: &[u8],
    flags: OFlags,
    resolve: ResolveFlags,
) -> Result<OwnedFd, Errno> {
    let resolve = resolve | ResolveFlags::CACHED;
    for _ in 1..TRIES {
        match openat2(dir, path, flags, Mode::empty(), resolve) {
            Err(Errno::AGAIN) => {}
            other => return other,
        }
    }
    openat2(dir, path, flags, Mode::empty(), resolve)
}

/// Has a local file system look up the first name on the way that the kernel has forgotten;
/// returns where that name ends in the path.
fn fetch(dir: BorrowedFd<'_>, path: &[u8], resolve: ResolveFlags) -> Result<usize, End> {
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let mut end = path.len();
    loop {
        let trimmed = path[..end].trim_end_with(|c| c == '/');
        let name = trimmed.rfind_byte(b'/').map_or(0, |slash| slash + 1);
        let above: &[u8] = match &path[..name] {
            [] => b".",
            above => above,
        };
        match cached(dir, above, flags, resolve) {
            Ok(found) => {
                let found_in = kind::of(&found).map_err(End::Errno)?;
                if !found_in.kind.is_quick() {
                    return Err(End::Elsewhere(Lane::Mount(found_in.mount)));
                }
                let flags = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
                let inside = resolve | ResolveFlags::NO_XDEV;
                return match openat2(found, &trimmed[name..], flags, Mode::empty(), inside) {
                    Ok(_) => Ok(trimmed.len()),
                    // An automount's key where nothing is mounted yet (Linux 6.18 says it so).
                    Err(Errno::XDEV) if !resolve.contains(ResolveFlags::NO_XDEV) => {
                        Err(elsewhere(trimmed))
                    }
                    Err(errno) => Err(End::Errno(errno)),
                };
            }
            Err(Errno::AGAIN) if name > 0 => end = name,
            Err(Errno::AGAIN) => return Err(elsewhere(path)),
            Err(errno) => return Err(End::Errno(errno)),
        }
    }
}

/// Whether the directory `path` is on a file system of this host, as far as can be told without
/// waiting for anybody. An overlay counts as one.
pub fn is_local(path: &BStr) -> bool {
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
    open(CWD.as_fd(), path, flags, ResolveFlags::empty())
        .is_ok_and(|found| kind::of(&found).is_ok_and(|found| found.kind != Kind::Foreign))
}

/// The mount that the deepest existing part of `path` is in, found without waiting.
pub(crate) fn deepest(path: &BStr) -> Result<Kind, End> {
    let mut part = path.as_bytes();
    loop {
        match open(
            CWD.as_fd(),
            part,
            OFlags::PATH | OFlags::CLOEXEC,
            ResolveFlags::empty(),
        ) {
            Ok(fd) => return Ok(kind::of(&fd).map_err(End::Errno)?.kind),
            Err(End::Errno(Errno::NOENT | Errno::NOTDIR)) => {}
            Err(end) => return Err(end),
        }
        match part.rfind_byte(b'/') {
            None | Some(0) => return Ok(Kind::Local),
            Some(slash) => part = &part[..slash],
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The kernel walks no path without waiting while somebody on the machine mounts something, which
    /// other tests do all the time, nor past a link whose time of access it would have to write: then
    /// somebody walks there who may wait, as a worker would, and it is tried again.
    fn open_at_once(path: &[u8]) -> Result<OwnedFd, End> {
        let flags = OFlags::PATH | OFlags::CLOEXEC;
        for _ in 1..1_000 {
            match open(CWD.as_fd(), path, flags, ResolveFlags::empty()) {
                Err(End::Elsewhere(_)) => std::thread::sleep(std::time::Duration::from_millis(1)),
                other => return other,
            }
            let _ = rustix::fs::stat(path);
        }
        open(CWD.as_fd(), path, flags, ResolveFlags::empty())
    }

    #[test]
    fn a_local_path_is_opened_and_a_missing_one_is_missing() {
        let scratch = tempfile::tempdir().unwrap();
        let base = scratch.path().to_str().unwrap();
        std::fs::create_dir_all(scratch.path().join("a/b/c")).unwrap();
        std::os::unix::fs::symlink("a/b", scratch.path().join("link")).unwrap();
        for tail in ["", "/", "/a/b/c", "/a//b/./c/", "/link/c", "/link"] {
            let path = format!("{base}{tail}");
            assert!(open_at_once(path.as_bytes()).is_ok(), "{path}");
        }
        for tail in ["/x", "/x/y", "/a/b/c/d/e", "/link/x"] {
            let path = format!("{base}{tail}");
            match open_at_once(path.as_bytes()) {
                Err(End::Errno(Errno::NOENT)) => {}
                other => panic!("{path}: {other:?}"),
            }
        }
    }

    #[test]
    fn the_deepest_part_decides() {
        assert_eq!(deepest("/proc/no/such".into()).unwrap(), Kind::Local);
        assert_eq!(deepest("no/such".into()).unwrap(), Kind::Local);
    }
}
