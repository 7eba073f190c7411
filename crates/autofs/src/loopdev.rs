//! Loop devices: files that are read as disks.
//!
//! They are here, not beside the rest of mounting, because their ioctls need `unsafe`. Source:
//! `loop(4)` and `linux/loop.h`.

use std::ffi::c_void;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::ptr;
use std::thread::sleep;
use std::time::Duration;

use rustix::fs::{FileType, OFlags};
use rustix::io::Errno;

use crate::device::{MISC_MAJOR, open_device};
use crate::error::{Error, Result};
use crate::ioctl;

/// How a file becomes a loop device.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct LoopOptions {
    /// The device cannot be written to. Needed if the file is open for reading only.
    pub read_only: bool,
    /// The file is let go when the last user of the device is gone: the mount, or [`LoopDevice`] if
    /// it is not mounted.
    pub autoclear: bool,
    /// Where in the file the device begins, in bytes.
    pub offset: u64,
    /// How long the device is, in bytes; 0 for up to the end of the file.
    pub size_limit: u64,
    /// Go past the page cache of the file's own file system, where that can be done.
    pub direct_io: bool,
}

impl Default for LoopOptions {
    /// The whole file, writable, let go after use.
    fn default() -> Self {
        Self {
            read_only: false,
            autoclear: true,
            offset: 0,
            size_limit: 0,
            direct_io: false,
        }
    }
}

/// An open loop device. With autoclear, drop it once the device is mounted.
#[derive(Debug)]
pub struct LoopDevice {
    device: OwnedFd,
    number: u32,
}

/// The major number of the disks (`linux/major.h`).
const LOOP_MAJOR: u32 = 7;

/// The minor number of the control device (`LOOP_CTRL_MINOR` in `linux/miscdevice.h`).
const CONTROL_MINOR: u32 = 237;
const CONTROL_PATH: &str = "/dev/loop-control";

/// How often to try anew when others are faster, and how long to wait for a device node that is not
/// there yet. Each lost race means that someone else got a device, so the number bounds how many
/// may do so at once.
const TRIES: u32 = 1000;
const NODE_WAIT: Duration = Duration::from_micros(200);

/// `LOOP_*` in `linux/loop.h`.
mod command {
    pub(super) const SET_FD: u32 = 0x4c00;
    pub(super) const CLR_FD: u32 = 0x4c01;
    pub(super) const SET_STATUS64: u32 = 0x4c04;
    pub(super) const SET_DIRECT_IO: u32 = 0x4c08;
    pub(super) const CONFIGURE: u32 = 0x4c0a;
    pub(super) const CTL_GET_FREE: u32 = 0x4c82;
}

/// `LO_FLAGS_*` in `linux/loop.h`.
mod flag {
    pub(super) const READ_ONLY: u32 = 1;
    pub(super) const AUTOCLEAR: u32 = 4;
    pub(super) const DIRECT_IO: u32 = 16;
}

/// `struct loop_info64`.
#[repr(C)]
struct Info {
    device: u64,
    inode: u64,
    rdevice: u64,
    offset: u64,
    size_limit: u64,
    number: u32,
    encrypt_type: u32,
    encrypt_key_size: u32,
    flags: u32,
    file_name: [u8; 64],
    crypt_name: [u8; 64],
    encrypt_key: [u8; 32],
    init: [u64; 2],
}

/// `struct loop_config`.
#[repr(C)]
struct Config {
    fd: u32,
    /// 0 for the kernel's choice.
    block_size: u32,
    info: Info,
    reserved: [u64; 8],
}

const _: () = assert!(size_of::<Info>() == 232, "the size of struct loop_info64");
const _: () = assert!(size_of::<Config>() == 304, "the size of struct loop_config");

impl Info {
    fn new(options: &LoopOptions) -> Self {
        let flags = [
            (options.read_only, flag::READ_ONLY),
            (options.autoclear, flag::AUTOCLEAR),
            (options.direct_io, flag::DIRECT_IO),
        ];
        Self {
            device: 0,
            inode: 0,
            rdevice: 0,
            offset: options.offset,
            size_limit: options.size_limit,
            number: 0,
            encrypt_type: 0,
            encrypt_key_size: 0,
            flags: flags.iter().filter(|(on, _)| *on).map(|(_, bit)| bit).sum(),
            file_name: [0; 64],
            crypt_name: [0; 64],
            encrypt_key: [0; 32],
            init: [0; 2],
        }
    }
}

impl LoopDevice {
    /// Makes a free loop device show `file`.
    ///
    /// Tries again, up to a limit, when another process takes the free device first or its node is
    /// not there yet.
    ///
    /// # Errors
    ///
    /// `ENOENT` if the kernel has no loop devices, `EACCES` without permission, `EBUSY` if all
    /// tries were lost, `EBADF` or `EINVAL` if the file cannot back a device, and whatever else the
    /// calls answer.
    pub fn attach(file: impl AsFd, options: &LoopOptions) -> Result<Self> {
        let path = Path::new(CONTROL_PATH);
        let control = match open_device(path, OFlags::RDWR, FileType::CharacterDevice, MISC_MAJOR) {
            Ok((control, number)) if number.minor() == CONTROL_MINOR => control,
            Ok(_) => return Err(Error::call_on("open", path, Errno::NODEV)),
            Err(errno) => return Err(Error::call_on("open", path, errno)),
        };
        let access = if options.read_only {
            OFlags::RDONLY
        } else {
            OFlags::RDWR
        };
        let mut lost = None;
        for _ in 0..TRIES {
            let number = free_number(control.as_fd())
                .map_err(|errno| Error::call("LOOP_CTL_GET_FREE", errno))?;
            let path = device_path(number);
            match open_device(&path, access, FileType::BlockDevice, LOOP_MAJOR) {
                Ok((device, _)) => match configure(device.as_fd(), file.as_fd(), options) {
                    Ok(()) => return Ok(Self { device, number }),
                    Err(Errno::BUSY) => lost = Some(("LOOP_CONFIGURE", path, Errno::BUSY)),
                    Err(errno) => return Err(Error::call_on("LOOP_CONFIGURE", &path, errno)),
                },
                // The node is made by another process, or the device was just taken away again.
                Err(errno @ (Errno::NOENT | Errno::NXIO | Errno::NODEV)) => {
                    lost = Some(("open", path, errno));
                    sleep(NODE_WAIT);
                }
                Err(errno) => return Err(Error::call_on("open", &path, errno)),
            }
        }
        let (call, path, errno) =
            lost.unwrap_or(("LOOP_CTL_GET_FREE", CONTROL_PATH.into(), Errno::BUSY));
        Err(Error::call_on(call, &path, errno))
    }

    /// The device's number.
    pub fn number(&self) -> u32 {
        self.number
    }

    /// The path of the device, to be given as what to mount.
    pub fn path(&self) -> PathBuf {
        device_path(self.number)
    }

    /// Lets the file go, for a device without autoclear: at once if nobody uses it, else when the
    /// last user is gone.
    ///
    /// # Errors
    ///
    /// `ENXIO` if it shows no file any more.
    pub fn detach(&self) -> Result<()> {
        call_with_number(self.device.as_fd(), command::CLR_FD, 0)
            .map(drop)
            .map_err(|errno| Error::call_on("LOOP_CLR_FD", &self.path(), errno))
    }
}

impl AsFd for LoopDevice {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.device.as_fd()
    }
}

impl From<LoopDevice> for OwnedFd {
    fn from(device: LoopDevice) -> Self {
        device.device
    }
}

fn device_path(number: u32) -> PathBuf {
    format!("/dev/loop{number}").into()
}

fn free_number(control: BorrowedFd<'_>) -> rustix::io::Result<u32> {
    let number = call_with_number(control, command::CTL_GET_FREE, 0)?;
    u32::try_from(number).map_err(|_| Errno::INVAL)
}

fn configure(
    device: BorrowedFd<'_>,
    file: BorrowedFd<'_>,
    options: &LoopOptions,
) -> rustix::io::Result<()> {
    let fd = file.as_raw_fd().cast_unsigned();
    let mut config = Config {
        fd,
        block_size: 0,
        info: Info::new(options),
        reserved: [0; 8],
    };
    // SAFETY: `device` is a loop device, as `open_device` made sure. Its LOOP_CONFIGURE reads one
    // `struct loop_config` at the argument, and writes nothing; `config` is one, wholly
    // initialised, with the kernel's layout (its size is asserted above).
    let done = unsafe { ioctl::call(device, command::CONFIGURE, (&raw mut config).cast()) };
    match done {
        Ok(_) => Ok(()),
        // Before Linux 5.8 the command is unknown, which the block layer reports in one of these
        // ways.
        Err(Errno::NOTTY | Errno::INVAL) => configure_in_steps(device, file, options),
        Err(errno) => Err(errno),
    }
}

/// The way before Linux 5.8. For a moment the device shows the whole file.
fn configure_in_steps(
    device: BorrowedFd<'_>,
    file: BorrowedFd<'_>,
    options: &LoopOptions,
) -> rustix::io::Result<()> {
    call_with_number(device, command::SET_FD, file.as_raw_fd() as usize)?;
    let mut info = Info::new(options);
    // SAFETY: `device` is a loop device, as `open_device` made sure. Its LOOP_SET_STATUS64 reads
    // one `struct loop_info64` at the argument, and writes nothing; `info` is one, wholly
    // initialised, with the kernel's layout (its size is asserted above).
    let done = unsafe { ioctl::call(device, command::SET_STATUS64, (&raw mut info).cast()) };
    if let Err(errno) = done {
        // Best effort: the error that counts is the first one.
        let _ = call_with_number(device, command::CLR_FD, 0);
        return Err(errno);
    }
    if options.direct_io {
        // A wish: LOOP_CONFIGURE also goes on without it.
        let _ = call_with_number(device, command::SET_DIRECT_IO, 1);
    }
    Ok(())
}

/// Makes a loop ioctl whose argument is a plain number.
fn call_with_number(fd: BorrowedFd<'_>, opcode: u32, number: usize) -> rustix::io::Result<i32> {
    let argument: *mut c_void = ptr::without_provenance_mut(number);
    // SAFETY: Called only with SET_FD, CLR_FD and SET_DIRECT_IO on a loop device and CTL_GET_FREE on
    // /dev/loop-control, as `attach` made sure. These take the argument as a number: no memory is
    // read or written through it.
    unsafe { ioctl::call(fd, opcode, argument) }
}
