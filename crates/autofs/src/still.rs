//! Making a file system stand still for a moment, and having a device of the device mapper go on.
//!
//! Here, not beside what takes snapshots, because the ioctls need `unsafe`. What stands still does
//! so until it is let go, whatever becomes of the process: the kernel does not undo it when the
//! descriptor is closed. Sources: `linux/fs.h` (`FIFREEZE`), `linux/dm-ioctl.h`.

use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;
use std::ptr;

use rustix::fs::{FileType, OFlags};
use rustix::io::Errno;

use crate::device::{DeviceId, MISC_MAJOR, open_device};
use crate::error::{Error, Result};
use crate::ioctl;

/// `_IOWR('X', 119, int)` and `_IOWR('X', 120, int)` in `linux/fs.h`.
const FIFREEZE: u32 = 0xc004_5877;
const FITHAW: u32 = 0xc004_5878;

/// `DM_DEV_SUSPEND` in `linux/dm-ioctl.h`.
const DM_DEV_SUSPEND: u32 = 0xc138_fd06;

const DM_CONTROL: &str = "/dev/mapper/control";

/// `MAPPER_CTRL_MINOR` in `linux/miscdevice.h`.
const DM_CONTROL_MINOR: u32 = 236;

/// Writes everything out and holds all further writers to the file system up, until [`thaw`].
///
/// # Errors
///
/// `EBUSY` if somebody else froze it, `EOPNOTSUPP` if this file system cannot be frozen, `EPERM`.
pub fn freeze(file_system: impl AsFd) -> Result<()> {
    still(file_system, FIFREEZE, "FIFREEZE")
}

/// Undoes [`freeze`].
///
/// # Errors
///
/// `EINVAL` if it is not frozen.
pub fn thaw(file_system: impl AsFd) -> Result<()> {
    still(file_system, FITHAW, "FITHAW")
}

fn still(file_system: impl AsFd, opcode: u32, call: &'static str) -> Result<()> {
    // SAFETY: The kernel answers FIFREEZE and FITHAW for every file before any driver sees them
    // (`do_vfs_ioctl` in fs/ioctl.c), and does not look at their argument.
    unsafe { ioctl::call(file_system.as_fd(), opcode, ptr::null_mut()) }
        .map(drop)
        .map_err(|errno| Error::call(call, errno))
}

/// `struct dm_ioctl`.
#[repr(C)]
struct Argument {
    version: [u32; 3],
    data_size: u32,
    data_start: u32,
    target_count: u32,
    open_count: i32,
    flags: u32,
    event: u32,
    padding: u32,
    device: u64,
    name: [u8; 128],
    uuid: [u8; 129],
    data: [u8; 7],
}

const _: () = assert!(size_of::<Argument>() == 312, "the size of struct dm_ioctl");

/// The control device of the device mapper.
#[derive(Debug)]
pub struct DeviceMapper(OwnedFd);

impl DeviceMapper {
    /// Opens it.
    ///
    /// # Errors
    ///
    /// `ENOENT` or `ENODEV` if the kernel has none.
    pub fn open() -> Result<Self> {
        let path = Path::new(DM_CONTROL);
        match open_device(path, OFlags::RDWR, FileType::CharacterDevice, MISC_MAJOR) {
            Ok((control, number)) if number.minor() == DM_CONTROL_MINOR => Ok(Self(control)),
            Ok(_) => Err(Error::call_on("open", path, Errno::NODEV)),
            Err(errno) => Err(Error::call_on("open", path, errno)),
        }
    }

    /// Has a device go on that was suspended, by a program that died before it could; nothing happens
    /// to one that is not suspended.
    ///
    /// # Errors
    ///
    /// `ENXIO` if it is no device of the device mapper.
    pub fn resume(&self, device: DeviceId) -> Result<()> {
        let (major, minor) = (u64::from(device.major()), u64::from(device.minor()));
        let mut argument = Box::new(Argument {
            version: [4, 0, 0],
            data_size: 312,
            data_start: 312,
            target_count: 0,
            open_count: 0,
            // Without DM_SUSPEND_FLAG: go on.
            flags: 0,
            event: 0,
            padding: 0,
            // `huge_encode_dev` in `linux/kdev_t.h`.
            device: (minor & 0xff) | (major << 8) | ((minor & !0xff) << 12),
            name: [0; 128],
            uuid: [0; 129],
            data: [0; 7],
        });
        let pointer = (&raw mut *argument).cast();
        // SAFETY: The descriptor is /dev/mapper/control, as `open` made sure. DM_DEV_SUSPEND reads
        // and writes `data_size` bytes at the argument, which is the size of `argument` (asserted
        // above); it is wholly initialised, and any bytes are a value of it.
        unsafe { ioctl::call(self.0.as_fd(), DM_DEV_SUSPEND, pointer) }
            .map(drop)
            .map_err(|errno| Error::call("DM_DEV_SUSPEND", errno))
    }
}
