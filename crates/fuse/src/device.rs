//! The kernel's end: how a file system of ours is mounted, and unmounted.

use std::ffi::CString;
use std::io::{IoSliceMut, Read};
use std::mem::MaybeUninit;
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::{fs, io};

use bstr::ByteSlice;
use piton_mountinfo::Mount;
use rustix::fs::{Mode, OFlags};
use rustix::io::Errno;
use rustix::mount::{MountFlags, UnmountFlags};
use rustix::net::{
    AddressFamily, RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SocketFlags, SocketType,
};

use crate::limits;
use crate::mount::Audience;

/// The type that file systems of ours have in the mount table.
const TYPE: &str = "fuse.piton";

/// What ordinary users mount with, and unmount: it belongs to root and is setuid.
const HELPER: &str = "fusermount3";

/// Why something is not mounted.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The root is not there, or it is a link, which ordinary users cannot mount.
    #[error("{}: only directories of links can be served by FUSE", .0.display())]
    NoDirectory(PathBuf),
    /// The path is not absolute, or its parent is not there.
    #[error("{}: this cannot be a mount point: {}", .0.display(), .1)]
    Path(PathBuf, #[source] io::Error),
    /// /dev/fuse cannot be opened.
    #[error("/dev/fuse: {0}: is the kernel's module fuse loaded, and may you use it?")]
    Device(#[source] io::Error),
    /// The kernel does not mount it.
    #[error("{}: {}", .0.display(), .1)]
    Refused(PathBuf, #[source] io::Error),
    /// fusermount3 is not there.
    #[error("{HELPER}: {0}: mounting without root needs it (the package fuse3)")]
    NoHelper(#[source] io::Error),
    /// fusermount3 does not do it, and says why.
    #[error("{}: {HELPER} refuses: {}", .0.display(), .1)]
    Helper(PathBuf, String),
    /// The kernel's protocol is another one.
    #[error("this kernel's FUSE has version {0}.{1}; 7.23 is needed at least")]
    Version(u32, u32),
    /// The kernel does not speak, or no thread or descriptor can be had.
    #[error("{}: the FUSE server does not start: {}", .0.display(), .1)]
    Start(PathBuf, #[source] io::Error),
}

impl Error {
    /// The number that says it to programs.
    pub fn errno(&self) -> i32 {
        let error = match self {
            Self::Path(_, error)
            | Self::Device(error)
            | Self::Refused(_, error)
            | Self::NoHelper(error)
            | Self::Start(_, error) => error.raw_os_error(),
            Self::NoDirectory(_) => Some(Errno::OPNOTSUPP.raw_os_error()),
            Self::Helper(..) => Some(Errno::PERM.raw_os_error()),
            Self::Version(..) => Some(Errno::PROTO.raw_os_error()),
        };
        error.unwrap_or(Errno::IO.raw_os_error())
    }
}

/// Whether something dead was in the way.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Dead {
    /// A file system of ours whose server had died. It is unmounted.
    Cleared,
    /// Nothing of that kind.
    Nothing,
}

/// Unmounts what a server that was killed has left at a path. What lives, or is not ours, stays.
///
/// # Errors
/// It is still there.
pub fn clear(path: &Path) -> Result<Dead, Error> {
    let path = real(path)?;
    let dead = matches!(rustix::fs::lstat(&path), Err(Errno::NOTCONN));
    if !dead || !is_ours(&path) {
        return Ok(Dead::Nothing);
    }
    unmount(&path)?;
    Ok(Dead::Cleared)
}

/// The path without links in front of its last component, which may be dead.
pub(crate) fn real(path: &Path) -> Result<PathBuf, Error> {
    let wrong = |error| Error::Path(path.to_owned(), error);
    let (Some(parent), Some(name), true) = (path.parent(), path.file_name(), path.is_absolute())
    else {
        return Err(wrong(io::ErrorKind::InvalidInput.into()));
    };
    Ok(fs::canonicalize(parent).map_err(wrong)?.join(name))
}

/// Whether what was mounted last at a path is a file system of ours.
fn is_ours(path: &Path) -> bool {
    let table = fs::read("/proc/self/mountinfo").unwrap_or_default();
    let path = path.as_os_str().as_bytes();
    let mut here = table.lines().filter_map(Mount::parse);
    let last = here.rfind(|mount| *mount.point == path);
    last.is_some_and(|mount| *mount.fstype == TYPE.as_bytes())
}

/// Mounts a file system on a directory; the device on which the kernel asks.
pub(crate) fn mount(path: &Path, source: &str, audience: Audience) -> Result<OwnedFd, Error> {
    let device = match rustix::process::geteuid().is_root() {
        true => mount_as_root(path, source, audience)?,
        false => mount_as_user(path, source, audience)?,
    };
    let not_started = |errno: Errno| Error::Start(path.to_owned(), errno.into());
    let flags = rustix::fs::fcntl_getfl(&device).map_err(not_started)?;
    rustix::fs::fcntl_setfl(&device, flags | OFlags::NONBLOCK).map_err(not_started)?;
    Ok(device)
}

fn mount_as_root(path: &Path, source: &str, audience: Audience) -> Result<OwnedFd, Error> {
    let flags = OFlags::RDWR | OFlags::CLOEXEC;
    let device = rustix::fs::open("/dev/fuse", flags, Mode::empty());
    let device = device.map_err(|errno| Error::Device(errno.into()))?;
    let options = format!(
        "fd={},rootmode=40000,user_id={},group_id={},default_permissions{}",
        device.as_raw_fd(),
        rustix::process::geteuid().as_raw(),
        rustix::process::getegid().as_raw(),
        audience.option(),
    );
    let options = CString::new(options).map_err(|error| refused(path, error.into()))?;
    let flags = MountFlags::RDONLY | MountFlags::NOSUID | MountFlags::NODEV;
    let mounted = rustix::mount::mount(source, path, TYPE, flags, options.as_c_str());
    mounted.map_err(|errno| refused(path, errno.into()))?;
    Ok(device)
}

/// The helper opens the device, mounts, and sends the device's descriptor.
fn mount_as_user(path: &Path, source: &str, audience: Audience) -> Result<OwnedFd, Error> {
    let start = |errno: Errno| Error::Start(path.to_owned(), errno.into());
    let (ours, theirs) = rustix::net::socketpair(
        AddressFamily::UNIX,
        SocketType::STREAM,
        SocketFlags::CLOEXEC,
        None,
    )
    .map_err(start)?;
    let mut source: String = source.replace('\\', "\\\\").replace(',', "\\,");
    source.truncate(source.find('\0').unwrap_or(source.len()));
    let kind = TYPE.trim_start_matches("fuse.");
    let options = format!(
        "ro,nosuid,nodev,default_permissions,fsname={source},subtype={kind}{}",
        audience.option()
    );
    let mut command = Command::new(HELPER);
    // The socket is its standard input, so that no other child of ours inherits it.
    command.arg("-o").arg(options).arg("--").arg(path);
    command.env("_FUSE_COMMFD", "0").stdin(theirs);
    run(command, path)?;
    match receive(&ours) {
        Ok(Some(device)) => Ok(device),
        Ok(None) => Err(Error::Helper(path.to_owned(), "no device came".into())),
        Err(errno) => Err(start(errno)),
    }
}

/// The descriptor that was sent, if one was.
fn receive(socket: &OwnedFd) -> rustix::io::Result<Option<OwnedFd>> {
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut control = RecvAncillaryBuffer::new(&mut space);
    let mut byte = [0];
    let mut bytes = [IoSliceMut::new(&mut byte)];
    // Whoever sends it has ended, so nobody is waited for.
    let flags = RecvFlags::CMSG_CLOEXEC | RecvFlags::DONTWAIT;
    rustix::net::recvmsg(socket, &mut bytes, &mut control, flags)?;
    let device = control.drain().find_map(|message| match message {
        RecvAncillaryMessage::ScmRights(mut descriptors) => descriptors.next(),
        _ => None,
    });
    Ok(device)
}

/// Unmounts at once, whoever is in it.
pub(crate) fn unmount(path: &Path) -> Result<(), Error> {
    if rustix::process::geteuid().is_root() {
        let flags = UnmountFlags::DETACH | UnmountFlags::NOFOLLOW;
        return rustix::mount::unmount(path, flags).map_err(|errno| refused(path, errno.into()));
    }
    let mut command = Command::new(HELPER);
    command.args(["-u", "-z", "--"]).arg(path);
    command.stdin(Stdio::null());
    run(command, path)
}

fn run(mut command: Command, path: &Path) -> Result<(), Error> {
    command.stdout(Stdio::null()).stderr(Stdio::piped());
    let mut child = command.spawn().map_err(Error::NoHelper)?;
    // The command holds the other end of the socket as well.
    drop(command);
    let mut said = Vec::new();
    if let Some(stderr) = child.stderr.take() {
        // What cannot be read is not shown.
        let _ = stderr.take(limits::COMPLAINT).read_to_end(&mut said);
    }
    let status = child.wait().map_err(Error::NoHelper)?;
    if status.success() {
        return Ok(());
    }
    let said = String::from_utf8_lossy(&said);
    let said = said
        .trim()
        .trim_start_matches(HELPER)
        .trim_start_matches(": ");
    let mut text = if said.is_empty() {
        status.to_string()
    } else {
        said.to_owned()
    };
    if text.contains("/dev/fuse") {
        text +=
            ": the kernel's module fuse must be loaded, and you must be allowed to use the device";
    }
    Err(Error::Helper(path.to_owned(), text))
}

fn refused(path: &Path, error: io::Error) -> Error {
    Error::Refused(path.to_owned(), error)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_not_absolute_or_has_no_parent_is_no_mount_point() {
        for path in ["net", "/", "/no/such/parent", ""] {
            assert!(
                matches!(real(Path::new(path)), Err(Error::Path(..))),
                "{path}"
            );
        }
        assert_eq!(real(Path::new("/proc/../net")).unwrap(), Path::new("/net"));
    }

    #[test]
    fn nothing_is_cleared_where_nothing_is_dead() {
        assert_eq!(clear(Path::new("/proc")).unwrap(), Dead::Nothing);
        assert_eq!(clear(Path::new("/not-there")).unwrap(), Dead::Nothing);
    }
}
