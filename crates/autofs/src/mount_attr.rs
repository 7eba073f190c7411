//! `mount_setattr(2)`: flags and propagation of a mount that exists.

use std::ffi::CString;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use rustix::fs::CWD;
use rustix::io::Errno;
use rustix::mount::MountAttrFlags;

use crate::error::{Error, Result};

/// How mounts and unmounts below a mount spread to other mounts (`mount_namespaces(7)`).
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Propagation {
    /// Neither in nor out.
    Private,
    /// In both directions, within a group of peers.
    Shared,
    /// In from its master, not out.
    Slave,
    /// Neither, and it cannot be bind-mounted.
    Unbindable,
}

impl Propagation {
    /// The kernel's flag (`MS_*` in `linux/mount.h`).
    const fn bits(self) -> u64 {
        match self {
            Self::Unbindable => 1 << 17,
            Self::Private => 1 << 18,
            Self::Slave => 1 << 19,
            Self::Shared => 1 << 20,
        }
    }
}

/// When an access updates a file's access time.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum AccessTime {
    /// Never (`noatime`).
    Never,
    /// When it is older than the last change, or than a day (`relatime`).
    Relative,
    /// Always (`strictatime`).
    Strict,
}

impl AccessTime {
    const fn flag(self) -> MountAttrFlags {
        match self {
            Self::Relative => MountAttrFlags::MOUNT_ATTR_RELATIME,
            Self::Never => MountAttrFlags::MOUNT_ATTR_NOATIME,
            Self::Strict => MountAttrFlags::MOUNT_ATTR_STRICTATIME,
        }
    }
}

/// What to change about a mount; the default changes nothing.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct MountAttributes {
    /// The flags to set: read-only, nosuid, nodev, noexec, nodiratime, nosymfollow. (Flags of
    /// access time are [`MountAttributes::access_time`]'s.)
    pub set: MountAttrFlags,
    /// The flags to clear.
    pub clear: MountAttrFlags,
    /// When access times are updated; none to leave that.
    pub access_time: Option<AccessTime>,
    /// How mounts spread; none to leave that.
    pub propagation: Option<Propagation>,
}

impl Default for MountAttributes {
    fn default() -> Self {
        Self {
            set: MountAttrFlags::empty(),
            clear: MountAttrFlags::empty(),
            access_time: None,
            propagation: None,
        }
    }
}

/// The field of three modes that access time is (`MOUNT_ATTR__ATIME`): it is cleared as a whole or
/// not at all.
const ACCESS_TIME_FIELD: MountAttrFlags = MountAttrFlags::MOUNT_ATTR__ATIME;

/// `struct mount_attr`, version 0.
#[repr(C)]
struct RawAttributes {
    set: u64,
    clear: u64,
    propagation: u64,
    /// The user namespace of an id-mapped mount: not offered here.
    user_namespace: u64,
}

impl RawAttributes {
    fn new(attributes: &MountAttributes) -> Self {
        let mut set = attributes.set;
        let mut clear = attributes.clear;
        if let Some(access_time) = attributes.access_time {
            set = (set - ACCESS_TIME_FIELD) | access_time.flag();
            clear |= ACCESS_TIME_FIELD;
        } else if set.intersects(ACCESS_TIME_FIELD) {
            clear |= ACCESS_TIME_FIELD;
        }
        Self {
            set: set.bits().into(),
            clear: clear.bits().into(),
            propagation: attributes.propagation.map_or(0, Propagation::bits),
            user_namespace: 0,
        }
    }
}

/// Changes the mount that `mount` is open on: a descriptor of `fsmount(2)`, `open_tree(2)`, or of
/// the root of a mount.
///
/// With `recursive`, all mounts below it too, or none if one of them refuses.
///
/// # Errors
///
/// `EINVAL` if `mount` is not the root of a mount, `EPERM` without `CAP_SYS_ADMIN` or if a flag is
/// locked, `EBUSY` if it cannot become read-only because a file is open for writing, `ENOSYS`
/// before Linux 5.12.
pub fn set_mount_attributes(
    mount: impl AsFd,
    attributes: &MountAttributes,
    recursive: bool,
) -> Result<()> {
    mount_setattr(
        mount.as_fd(),
        c"",
        libc::AT_EMPTY_PATH,
        attributes,
        recursive,
    )
    .map_err(|errno| Error::call("mount_setattr", errno))
}

/// Changes the topmost mount at `path`, without following a symbolic link at its end and without
/// triggering it.
///
/// # Errors
///
/// Those of [`set_mount_attributes`], and of the path walk.
pub fn set_mount_attributes_at(
    path: &Path,
    attributes: &MountAttributes,
    recursive: bool,
) -> Result<()> {
    let fail = |errno| Error::call_on("mount_setattr", path, errno);
    let text = CString::new(path.as_os_str().as_bytes()).map_err(|_| fail(Errno::INVAL))?;
    let flags = libc::AT_SYMLINK_NOFOLLOW | libc::AT_NO_AUTOMOUNT;
    mount_setattr(CWD, &text, flags, attributes, recursive).map_err(fail)
}

fn mount_setattr(
    dir: BorrowedFd<'_>,
    path: &std::ffi::CStr,
    flags: i32,
    attributes: &MountAttributes,
    recursive: bool,
) -> rustix::io::Result<()> {
    const RECURSIVE: i32 = 0x8000; // AT_RECURSIVE in linux/fcntl.h
    let flags = if recursive { flags | RECURSIVE } else { flags };
    let attributes = RawAttributes::new(attributes);
    // SAFETY: mount_setattr reads a NUL-terminated path, which a `CStr` is, and as many bytes of
    // attributes as the last argument says, which is the size of the initialised struct that it
    // points to; it writes nothing. `dir` is open for as long as it is borrowed.
    let returned = unsafe {
        libc::syscall(
            libc::SYS_mount_setattr,
            dir.as_raw_fd(),
            path.as_ptr(),
            flags,
            &raw const attributes,
            size_of::<RawAttributes>(),
        )
    };
    if returned == 0 {
        return Ok(());
    }
    Err(Errno::from_io_error(&std::io::Error::last_os_error()).unwrap_or(Errno::INVAL))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn access_time_is_replaced_as_a_whole() {
        for (access_time, bits) in [
            (AccessTime::Relative, 0),
            (AccessTime::Never, 0x10),
            (AccessTime::Strict, 0x20),
        ] {
            let attributes = MountAttributes {
                access_time: Some(access_time),
                ..MountAttributes::default()
            };
            let raw = RawAttributes::new(&attributes);
            assert_eq!((raw.set, raw.clear), (bits, 0x70));
        }
    }

    #[test]
    fn an_access_time_among_the_flags_counts_too() {
        let set = MountAttrFlags::MOUNT_ATTR_NOATIME | MountAttrFlags::MOUNT_ATTR_RDONLY;
        let raw = RawAttributes::new(&MountAttributes {
            set,
            ..MountAttributes::default()
        });
        assert_eq!((raw.set, raw.clear), (0x11, 0x70));
    }

    #[test]
    fn the_default_changes_nothing() {
        let raw = RawAttributes::new(&MountAttributes::default());
        assert_eq!(
            (raw.set, raw.clear, raw.propagation, raw.user_namespace),
            (0, 0, 0, 0)
        );
    }
}
