//! `/dev/autofs`: how the daemon answers and asks.
//!
//! The same could be had by ioctls on a point's root, but those fail every request with `ENOENT`
//! and cannot reach a point that is covered. All commands but [`Control::version`] and
//! [`Control::mount_at`] need `CAP_SYS_ADMIN`, and all that name a point need the daemon's process
//! group, except [`Control::make_catatonic`]. Source: the kernel's
//! `filesystems/autofs-mount-control.rst` and `linux/auto_dev-ioctl.h`; where the kernel does
//! otherwise than its document says, the method here says so.

use std::mem::{MaybeUninit, offset_of};
use std::ops::BitOr;
use std::os::fd::{AsFd, AsRawFd, FromRawFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use rustix::fs::{FileType, OFlags};
use rustix::io::Errno;
use rustix::ioctl::{Opcode, opcode};

use crate::answer_errno::AnswerErrno;
use crate::device::{DeviceId, MISC_MAJOR, open_device};
use crate::error::{Error, Result};
use crate::ioctl;
use crate::packet::WaitToken;
use crate::point::PointKind;

/// The open control device.
///
/// Needs no mutability and no lock: each command is one ioctl, and any number of threads may make
/// them at once.
#[derive(Debug)]
pub struct Control {
    device: OwnedFd,
}

/// How a point is asked for something to expire.
///
/// [`ExpireHow::NORMAL`] is the ordinary one; others are joined with `|`.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct ExpireHow(u32);

impl ExpireHow {
    /// What was idle for the point's timeout or longer.
    pub const NORMAL: Self = Self(0);
    /// However short it was idle.
    pub const IMMEDIATE: Self = Self(1);
    /// Look at the leaves of the tree one by one, not at what is directly below the root.
    pub const LEAVES: Self = Self(2);
    /// Even what is in use.
    pub const FORCED: Self = Self(4);
}

impl BitOr for ExpireHow {
    type Output = Self;

    fn bitor(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }
}

/// Who was the last to trigger a point, as the kernel remembers it.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Requester {
    /// The user id.
    pub uid: u32,
    /// The group id.
    pub gid: u32,
}

/// A mount found by path.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct MountedHere {
    /// The device number of its file system.
    pub device: DeviceId,
    /// The magic number of its file system's type (`linux/magic.h`).
    pub magic: u32,
}

/// What lies on a point.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Covered {
    /// Something is mounted on the point's root or anywhere below it.
    pub has_mounts: bool,
    /// The magic number of the file system mounted directly on the point's root.
    pub magic: Option<u32>,
}

/// `struct autofs_dev_ioctl`: what every command is given and gives back.
#[repr(C, align(8))]
struct Request {
    version_major: u32,
    version_minor: u32,
    /// Of the whole argument in bytes, with the path behind this struct and its NUL.
    size: u32,
    /// The point's descriptor, or -1.
    point: i32,
    /// The kernel's union of arguments: one u64, or one or two u32.
    argument: [u8; 8],
}

/// The longest path with its NUL, in bytes.
const PATH_MAX: usize = 4096;

/// A request with its path behind it.
#[repr(C)]
struct RequestWithPath {
    request: Request,
    path: [MaybeUninit<u8>; PATH_MAX],
}

const REQUEST_SIZE: u32 = size_of::<Request>() as u32;
const NO_POINT: i32 = -1;

const _: () = assert!(REQUEST_SIZE == 24, "the size of struct autofs_dev_ioctl");
const _: () = assert!(offset_of!(RequestWithPath, path) == size_of::<Request>());

impl Request {
    fn new(point: i32) -> Self {
        // 1.1 is the only version of this interface there has been.
        let (version_major, version_minor) = (1, 1);
        Self {
            version_major,
            version_minor,
            size: REQUEST_SIZE,
            point,
            argument: [0; 8],
        }
    }

    fn with_words(mut self, first: u32, second: u32) -> Self {
        self.argument[..4].copy_from_slice(&first.to_ne_bytes());
        self.argument[4..].copy_from_slice(&second.to_ne_bytes());
        self
    }

    fn with_long(mut self, long: u64) -> Self {
        self.argument = long.to_ne_bytes();
        self
    }

    fn words(&self) -> (u32, u32) {
        let [a, b, c, d, e, f, g, h] = self.argument;
        (
            u32::from_ne_bytes([a, b, c, d]),
            u32::from_ne_bytes([e, f, g, h]),
        )
    }

    fn long(&self) -> u64 {
        u64::from_ne_bytes(self.argument)
    }
}

/// A command: its number and its name in the kernel's document.
struct Command {
    opcode: Opcode,
    name: &'static str,
}

const fn command(number: u8, name: &'static str) -> Command {
    Command {
        opcode: opcode::read_write::<Request>(0x93, number),
        name,
    }
}

const VERSION: Command = command(0x71, "AUTOFS_DEV_IOCTL_VERSION");
const PROTOVER: Command = command(0x72, "AUTOFS_DEV_IOCTL_PROTOVER");
const PROTOSUBVER: Command = command(0x73, "AUTOFS_DEV_IOCTL_PROTOSUBVER");
const OPENMOUNT: Command = command(0x74, "AUTOFS_DEV_IOCTL_OPENMOUNT");
const READY: Command = command(0x76, "AUTOFS_DEV_IOCTL_READY");
const FAIL: Command = command(0x77, "AUTOFS_DEV_IOCTL_FAIL");
const SETPIPEFD: Command = command(0x78, "AUTOFS_DEV_IOCTL_SETPIPEFD");
const CATATONIC: Command = command(0x79, "AUTOFS_DEV_IOCTL_CATATONIC");
const TIMEOUT: Command = command(0x7a, "AUTOFS_DEV_IOCTL_TIMEOUT");
const REQUESTER: Command = command(0x7b, "AUTOFS_DEV_IOCTL_REQUESTER");
const EXPIRE: Command = command(0x7c, "AUTOFS_DEV_IOCTL_EXPIRE");
const ASKUMOUNT: Command = command(0x7d, "AUTOFS_DEV_IOCTL_ASKUMOUNT");
const ISMOUNTPOINT: Command = command(0x7e, "AUTOFS_DEV_IOCTL_ISMOUNTPOINT");

/// The device's minor number (`linux/miscdevice.h`).
const AUTOFS_MINOR: u32 = 235;

impl Control {
    /// Where the device is.
    pub const PATH: &str = "/dev/autofs";

    /// The longest timeout: 136 years. The kernel counts in ticks, and more seconds than these, or
    /// not many more, overflow its count and make a short timeout of a long one.
    pub const LONGEST_TIMEOUT_S: u64 = u32::MAX as u64;

    /// Opens the device.
    ///
    /// # Errors
    ///
    /// `ENOENT` if the kernel has no autofs or the module is not loaded, `EACCES` without
    /// permission, `ENODEV` if something else is at [`Control::PATH`].
    pub fn open() -> Result<Self> {
        let path = Path::new(Self::PATH);
        match open_device(path, OFlags::RDONLY, FileType::CharacterDevice, MISC_MAJOR) {
            Ok((device, number)) if number.minor() == AUTOFS_MINOR => Ok(Self { device }),
            Ok(_) => Err(Error::call_on("open", path, Errno::NODEV)),
            Err(errno) => Err(Error::call_on("open", path, errno)),
        }
    }

    /// The version of this interface, major and minor.
    ///
    /// # Errors
    ///
    /// `EINVAL` if the kernel speaks another major version.
    #[doc(alias = "AUTOFS_DEV_IOCTL_VERSION")]
    pub fn version(&self) -> Result<(u32, u32)> {
        let mut request = Request::new(NO_POINT);
        self.call(&VERSION, &mut request)?;
        Ok((request.version_major, request.version_minor))
    }

    /// The version of the protocol that a point speaks: 5 for points made by this crate.
    ///
    /// # Errors
    ///
    /// Those of every command on a point: `EACCES` from outside the point's process group, `EBADF`
    /// or `EINVAL` if `point` is not a descriptor of an autofs mount, `EPERM` without
    /// `CAP_SYS_ADMIN`.
    #[doc(alias = "AUTOFS_DEV_IOCTL_PROTOVER")]
    pub fn protocol_version(&self, point: impl AsFd) -> Result<u32> {
        let mut request = Request::new(point.as_fd().as_raw_fd());
        self.call(&PROTOVER, &mut request)?;
        Ok(request.words().0)
    }

    /// The sub-version of the protocol: 4 and later know `strictexpire`, 5 `ignore`, 6 timeouts of
    /// single keys.
    ///
    /// # Errors
    ///
    /// Those of [`Control::protocol_version`].
    #[doc(alias = "AUTOFS_DEV_IOCTL_PROTOSUBVER")]
    pub fn protocol_subversion(&self, point: impl AsFd) -> Result<u32> {
        let mut request = Request::new(point.as_fd().as_raw_fd());
        self.call(&PROTOSUBVER, &mut request)?;
        Ok(request.words().0)
    }

    /// Opens the root of a point, even of one that is covered by another mount.
    ///
    /// The descriptor keeps the point from being unmounted, so drop it after use.
    ///
    /// # Errors
    ///
    /// `ENOENT` if no point with that device is mounted at `path`, or a *parent* of it is covered;
    /// `ENAMETOOLONG`.
    #[doc(alias = "AUTOFS_DEV_IOCTL_OPENMOUNT")]
    pub fn open_point(&self, path: &Path, device: DeviceId) -> Result<OwnedFd> {
        let request = Request::new(NO_POINT).with_words(device.raw(), 0);
        let (_, answer) = self.call_with_path(&OPENMOUNT, request, path.as_os_str().as_bytes())?;
        // SAFETY: OPENMOUNT succeeded, so the kernel has put into `ioctlfd` a descriptor that it
        // just opened for this process (autofs_dev_ioctl_open_mountpoint); no one else knows its
        // number, hence it is ours to own.
        Ok(unsafe { OwnedFd::from_raw_fd(answer.point) })
    }

    /// Answers a request: done. Wakes all who wait for it.
    ///
    /// After a missing request something must be mounted at the place, or the kernel asks 40 times
    /// in a row and gives the accessing process `ELOOP`.
    ///
    /// # Errors
    ///
    /// `EINVAL` if the point does not wait for that token, and those of
    /// [`Control::protocol_version`].
    #[doc(alias = "AUTOFS_DEV_IOCTL_READY")]
    pub fn ready(&self, point: impl AsFd, token: WaitToken) -> Result<()> {
        let request = Request::new(point.as_fd().as_raw_fd());
        self.call(&READY, &mut request.with_words(token.number(), 0))?;
        Ok(())
    }

    /// Answers a request: not done. All who wait for it get `errno`; an expired mount stays.
    ///
    /// # Errors
    ///
    /// Those of [`Control::ready`].
    #[doc(alias = "AUTOFS_DEV_IOCTL_FAIL")]
    pub fn fail(&self, point: impl AsFd, token: WaitToken, errno: AnswerErrno) -> Result<()> {
        let request = Request::new(point.as_fd().as_raw_fd());
        let status = errno.status().cast_unsigned();
        self.call(&FAIL, &mut request.with_words(token.number(), status))?;
        Ok(())
    }

    /// Has all who wait for a request walk their path once more, which makes a request anew if
    /// nothing is there still: the kernel takes `ESTALE` so. A second time in one walk it is the
    /// process's own error.
    ///
    /// # Errors
    ///
    /// Those of [`Control::ready`].
    pub fn walk_again(&self, point: impl AsFd, token: WaitToken) -> Result<()> {
        let request = Request::new(point.as_fd().as_raw_fd());
        let status = (-Errno::STALE.raw_os_error()).cast_unsigned();
        self.call(&FAIL, &mut request.with_words(token.number(), status))?;
        Ok(())
    }

    /// Gives a catatonic point a pipe, which wakes it. This process's group becomes the point's
    /// group.
    ///
    /// # Errors
    ///
    /// `EBUSY` if the point is not catatonic, `EINVAL` if this process is in another pid namespace
    /// than the point's creator, and those of [`Control::protocol_version`].
    #[doc(alias = "AUTOFS_DEV_IOCTL_SETPIPEFD")]
    pub fn set_pipe(&self, point: impl AsFd, pipe_writer: impl AsFd) -> Result<()> {
        let request = Request::new(point.as_fd().as_raw_fd());
        let pipe = pipe_writer.as_fd().as_raw_fd().cast_unsigned();
        self.call(&SETPIPEFD, &mut request.with_words(pipe, 0))?;
        Ok(())
    }

    /// Makes a point catatonic: all who wait get `ENOENT`, and nothing triggers until
    /// [`Control::set_pipe`].
    ///
    /// May be called from outside the point's process group. A point that is catatonic already
    /// stays so.
    ///
    /// # Errors
    ///
    /// Those of [`Control::protocol_version`], without `EACCES`.
    #[doc(alias = "AUTOFS_DEV_IOCTL_CATATONIC")]
    pub fn make_catatonic(&self, point: impl AsFd) -> Result<()> {
        self.call(&CATATONIC, &mut Request::new(point.as_fd().as_raw_fd()))?;
        Ok(())
    }

    /// Sets after how many seconds without use the mounts of a point may expire (0: never), and
    /// returns what it was. At most [`Control::LONGEST_TIMEOUT_S`] is set.
    ///
    /// # Errors
    ///
    /// Those of [`Control::protocol_version`].
    #[doc(alias = "AUTOFS_DEV_IOCTL_TIMEOUT")]
    pub fn set_timeout(&self, point: impl AsFd, timeout_s: u64) -> Result<u64> {
        let timeout_s = timeout_s.min(Self::LONGEST_TIMEOUT_S);
        let mut request = Request::new(point.as_fd().as_raw_fd()).with_long(timeout_s);
        self.call(&TIMEOUT, &mut request)?;
        Ok(request.long())
    }

    /// Sets the timeout of one directory of an indirect point (0: never; none: the point's again),
    /// and returns what it was: the point's if it had none of its own, and also if that was 0.
    ///
    /// The directory loses it when it is removed. A kernel that is given a timeout longer than the
    /// point's may log a warning, once a call, so do not set one that is not needed.
    ///
    /// # Errors
    ///
    /// `EINVAL` before protocol 5.06, on a point that is not indirect, or for a `name` with a
    /// slash; `ENOENT` if there is no such directory yet; and those of
    /// [`Control::protocol_version`].
    #[doc(alias = "AUTOFS_DEV_IOCTL_TIMEOUT")]
    pub fn set_key_timeout(
        &self,
        point: impl AsFd,
        name: &[u8],
        timeout_s: Option<u64>,
    ) -> Result<u64> {
        // The kernel takes all ones as "none of its own".
        let timeout_s = timeout_s.map_or(u64::MAX, |s| s.min(Self::LONGEST_TIMEOUT_S));
        let request = Request::new(point.as_fd().as_raw_fd()).with_long(timeout_s);
        let (_, answer) = self.call_with_path(&TIMEOUT, request, name)?;
        Ok(answer.long())
    }

    /// Who last triggered the direct or offset point at `path`.
    ///
    /// The kernel remembers this for the keys of an indirect point too, but cannot be asked for it:
    /// it looks for a whole autofs mount at `path` (measured on Linux 6.18). A point that nobody
    /// has triggered is said to be root's.
    ///
    /// # Errors
    ///
    /// `ENOENT` if the point is not mounted at `path`, and those of [`Control::protocol_version`].
    #[doc(alias = "AUTOFS_DEV_IOCTL_REQUESTER")]
    pub fn requester(&self, point: impl AsFd, path: &Path) -> Result<Requester> {
        let request = Request::new(point.as_fd().as_raw_fd());
        let (_, answer) = self.call_with_path(&REQUESTER, request, path.as_os_str().as_bytes())?;
        let (uid, gid) = answer.words();
        Ok(Requester { uid, gid })
    }

    /// Asks a point for one mount to expire: true if one was found and is gone, false if nothing
    /// was to be had.
    ///
    /// **Blocks** until the daemon itself has answered the expire packet that this sends: never
    /// call it from the thread that reads the pipe. A call that finds something also waits some 13
    /// ms for the kernel (measured on Linux 6.18).
    ///
    /// # Errors
    ///
    /// The errno with which the daemon failed the packet (failing with `EAGAIN` looks like false),
    /// and those of [`Control::protocol_version`].
    #[doc(alias = "AUTOFS_DEV_IOCTL_EXPIRE")]
    pub fn expire(&self, point: impl AsFd, how: ExpireHow) -> Result<bool> {
        let request = Request::new(point.as_fd().as_raw_fd());
        match self.call(&EXPIRE, &mut request.with_words(how.0, 0)) {
            Ok(_) => Ok(true),
            Err(error) if error.errno() == Some(Errno::AGAIN) => Ok(false),
            Err(error) => Err(error),
        }
    }

    /// Returns true if and only if nothing below the point is in use, so that it can be unmounted.
    ///
    /// (The kernel's document states the reverse.)
    ///
    /// # Errors
    ///
    /// Those of [`Control::protocol_version`].
    #[doc(alias = "AUTOFS_DEV_IOCTL_ASKUMOUNT")]
    pub fn may_unmount(&self, point: impl AsFd) -> Result<bool> {
        let mut request = Request::new(point.as_fd().as_raw_fd());
        self.call(&ASKUMOUNT, &mut request)?;
        Ok(request.words().0 != 0)
    }

    /// The mount at `path`: the topmost of any type, or with `kind` the autofs mount of that kind,
    /// covered or not.
    ///
    /// Nothing if `path` exists and is not where a mount begins. Costs one path walk, whatever the
    /// size of the mount table.
    ///
    /// # Errors
    ///
    /// `ENOENT` if there is no `path`, or with `kind`, no such point at it.
    #[doc(alias = "AUTOFS_DEV_IOCTL_ISMOUNTPOINT")]
    pub fn mount_at(&self, path: &Path, kind: Option<PointKind>) -> Result<Option<MountedHere>> {
        let request = Request::new(NO_POINT).with_words(kind.map_or(0, PointKind::number), 0);
        let (is, answer) =
            self.call_with_path(&ISMOUNTPOINT, request, path.as_os_str().as_bytes())?;
        let (device, magic) = answer.words();
        Ok((is != 0).then_some(MountedHere {
            device: DeviceId::from_raw(device),
            magic,
        }))
    }

    /// What is mounted on the point at `path`, and below it.
    ///
    /// # Errors
    ///
    /// `ENOENT` if the point is not mounted at `path`, and those of [`Control::protocol_version`].
    #[doc(alias = "AUTOFS_DEV_IOCTL_ISMOUNTPOINT")]
    pub fn covered(&self, point: impl AsFd, path: &Path) -> Result<Covered> {
        let request = Request::new(point.as_fd().as_raw_fd());
        let (has_mounts, answer) =
            self.call_with_path(&ISMOUNTPOINT, request, path.as_os_str().as_bytes())?;
        let (_, magic) = answer.words();
        Ok(Covered {
            has_mounts: has_mounts != 0,
            magic: (magic != 0).then_some(magic),
        })
    }

    /// Makes a command without a path. One ioctl; allocates nothing.
    fn call(&self, command: &Command, request: &mut Request) -> Result<i32> {
        debug_assert_eq!(request.size, REQUEST_SIZE);
        // SAFETY: `device` is /dev/autofs, as `open` made sure, and these opcodes are its own. It
        // reads and writes `size` bytes at the argument: 24, a whole, initialised and exclusively
        // borrowed `Request`, whose fields are integers that may take any value.
        unsafe {
            ioctl::call(
                self.device.as_fd(),
                command.opcode,
                (&raw mut *request).cast(),
            )
        }
        .map_err(|errno| Error::call(command.name, errno))
    }

    /// Makes a command with a path, and returns what it returned and its answer. One ioctl;
    /// allocates nothing unless it fails.
    fn call_with_path(
        &self,
        command: &Command,
        mut request: Request,
        path: &[u8],
    ) -> Result<(i32, Request)> {
        let fail = |errno| {
            Error::call_on(
                command.name,
                Path::new(std::ffi::OsStr::from_bytes(path)),
                errno,
            )
        };
        if path.contains(&0) {
            return Err(fail(Errno::INVAL));
        }
        if path.len() >= PATH_MAX {
            return Err(fail(Errno::NAMETOOLONG));
        }
        request.size = REQUEST_SIZE + path.len() as u32 + 1;
        let mut whole = RequestWithPath {
            request,
            path: [MaybeUninit::uninit(); PATH_MAX],
        };
        for (to, from) in whole.path.iter_mut().zip(path.iter().chain(&[0])) {
            to.write(*from);
        }
        // SAFETY: `device` is /dev/autofs, as `open` made sure, and these opcodes are its own. It
        // reads `size` bytes at the argument and writes the first 24 of them. `size` is the header
        // and the path with its NUL, all of which are initialised just above and lie within
        // `whole`, to which nobody else refers; the header's fields are integers that may take any
        // value.
        let returned =
            unsafe { ioctl::call(self.device.as_fd(), command.opcode, (&raw mut whole).cast()) };
        Ok((returned.map_err(fail)?, whole.request))
    }
}
