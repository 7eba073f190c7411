//! Device numbers in the kernel's own 32-bit form, and the name they give to a point.

use std::fmt;
use std::os::fd::OwnedFd;
use std::path::Path;

use rustix::fs::{FileType, Mode, OFlags};
use rustix::io::Errno;

/// A device number as the kernel writes it in packets and takes it in ioctls: its "new" 32-bit
/// encoding.
///
/// 12 bits of major and 20 bits of minor number: the low 8 bits of the minor, then the major, then
/// the rest of the minor (`new_encode_dev` in the kernel's `linux/kdev_t.h`). This is neither the C
/// library's `dev_t` nor `MKDEV`.
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct DeviceId(u32);

impl DeviceId {
    /// The device with this major and minor number; bits that the kernel cannot have (beyond 12 and
    /// 20) are dropped.
    pub const fn new(major: u32, minor: u32) -> Self {
        let (major, minor) = (major & 0xfff, minor & 0xf_ffff);
        Self((minor & 0xff) | (major << 8) | ((minor & !0xff) << 12))
    }

    /// The device that `stat(2)` reports as `st_dev`.
    pub fn from_st_dev(st_dev: u64) -> Self {
        Self::new(rustix::fs::major(st_dev), rustix::fs::minor(st_dev))
    }

    /// The device with this encoding, as found in a packet.
    pub const fn from_raw(raw: u32) -> Self {
        Self(raw)
    }

    /// The encoding, as the kernel takes it.
    pub const fn raw(self) -> u32 {
        self.0
    }

    /// The major number; 0 for every autofs mount.
    pub const fn major(self) -> u32 {
        (self.0 >> 8) & 0xfff
    }

    /// The minor number.
    pub const fn minor(self) -> u32 {
        (self.0 & 0xff) | ((self.0 >> 12) & 0xf_ff00)
    }
}

impl fmt::Display for DeviceId {
    /// `major:minor`, as `/proc/self/mountinfo` writes it.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.major(), self.minor())
    }
}

/// What names a point in packets: its file system's device number and its root's inode number.
///
/// Unique among the points that are mounted at one time; the kernel gives a device number again
/// after an unmount.
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct PointId {
    /// The device number of the point's own file system.
    pub device: DeviceId,
    /// The inode number of its root directory.
    pub inode: u64,
}

impl PointId {
    pub(crate) fn from_stat(stat: &rustix::fs::Stat) -> Self {
        Self {
            device: DeviceId::from_st_dev(stat.st_dev),
            inode: stat.st_ino,
        }
    }
}

impl fmt::Display for PointId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "device {} inode {}", self.device, self.inode)
    }
}

/// The major number of `/dev/autofs` and of `/dev/loop-control` (`MISC_MAJOR` in `linux/major.h`).
pub(crate) const MISC_MAJOR: u32 = 10;

/// Opens a device special file, and makes sure that it is one of this type and major number.
///
/// An ioctl's number means something to one driver only; what another driver would do with it, and
/// to the memory that comes along, nobody knows. `ENODEV` if it is something else.
pub(crate) fn open_device(
    path: &Path,
    access: OFlags,
    file_type: FileType,
    major: u32,
) -> rustix::io::Result<(OwnedFd, DeviceId)> {
    let fd = rustix::fs::open(path, access | OFlags::CLOEXEC, Mode::empty())?;
    let stat = rustix::fs::fstat(&fd)?;
    let device = DeviceId::from_st_dev(stat.st_rdev);
    if FileType::from_raw_mode(stat.st_mode) != file_type || device.major() != major {
        return Err(Errno::NODEV);
    }
    Ok((fd, device))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// (major, minor, encoding), worked out by hand from the layout in the kernel's
    /// `linux/kdev_t.h`.
    const KNOWN: [(u32, u32, u32); 6] = [
        (0, 0, 0),
        (0, 45, 0x0000_002d),
        (0, 255, 0x0000_00ff),
        (0, 256, 0x0010_0000),
        (8, 1, 0x0000_0801),
        (0xfff, 0xf_ffff, 0xffff_ffff),
    ];

    #[test]
    fn encodes_and_decodes_known_numbers() {
        for (major, minor, raw) in KNOWN {
            let device = DeviceId::new(major, minor);
            assert_eq!(device.raw(), raw, "{major}:{minor}");
            assert_eq!((device.major(), device.minor()), (major, minor));
            assert_eq!(DeviceId::from_raw(raw), device);
            assert_eq!(device.to_string(), format!("{major}:{minor}"));
        }
    }

    #[test]
    fn opens_devices_of_the_right_kind_only() {
        let open = |path: &str, file_type, major| {
            open_device(Path::new(path), OFlags::RDONLY, file_type, major).map(|(_, device)| device)
        };
        let null = DeviceId::new(1, 3);
        assert_eq!(open("/dev/null", FileType::CharacterDevice, 1), Ok(null));
        assert_eq!(
            open("/dev/null", FileType::CharacterDevice, 2),
            Err(Errno::NODEV)
        );
        assert_eq!(
            open("/dev/null", FileType::BlockDevice, 1),
            Err(Errno::NODEV)
        );
        assert_eq!(open("/", FileType::CharacterDevice, 0), Err(Errno::NODEV));
    }

    #[test]
    fn agrees_with_the_c_librarys_dev_t() {
        for (major, minor, raw) in KNOWN {
            assert_eq!(
                DeviceId::from_st_dev(rustix::fs::makedev(major, minor)).raw(),
                raw
            );
        }
    }
}
