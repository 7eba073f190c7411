//! Subvolumes of btrfs: their snapshots.
//!
//! They are here, not beside the other kinds of snapshots, because their ioctls need `unsafe`.
//! Source: `linux/btrfs.h`.

use std::os::fd::{AsFd, BorrowedFd};

use rustix::io::Errno;

use crate::error::{Error, Result};
use crate::ioctl;

/// What is told of a subvolume.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Subvolume {
    /// The name for good of the file system it is in.
    pub file_system: [u8; 16],
    /// Its number in its file system.
    pub id: u64,
    /// Its name for good.
    pub uuid: [u8; 16],
    /// The subvolume that it was a snapshot of when it was made; zeros if of none.
    pub parent_uuid: [u8; 16],
    /// Nothing in it can be changed.
    pub read_only: bool,
    /// The transaction in which it was made: those of one transaction are of one instant.
    pub made_in: u64,
    /// When it was made, in seconds since 1970.
    pub made: u64,
}

/// `BTRFS_SUPER_MAGIC` in `linux/magic.h`.
const MAGIC: u32 = 0x9123_683e;

/// The root directory of every subvolume (`BTRFS_FIRST_FREE_OBJECTID`).
const ROOT_INODE: u64 = 256;

/// `BTRFS_IOC_*` in `linux/btrfs.h`.
mod command {
    pub(super) const SNAP_DESTROY: u32 = 0x5000_940f;
    pub(super) const SNAP_CREATE_V2: u32 = 0x5000_9417;
    pub(super) const FS_INFO: u32 = 0x8400_941f;
    pub(super) const GET_SUBVOL_INFO: u32 = 0x81f8_943c;
}

/// `BTRFS_SUBVOL_RDONLY`.
const RDONLY: u64 = 1 << 1;

/// `BTRFS_ROOT_SUBVOL_RDONLY` in `linux/btrfs_tree.h`.
const ROOT_RDONLY: u64 = 1;

/// `struct btrfs_ioctl_vol_args`.
#[repr(C)]
struct Arguments {
    fd: i64,
    name: [u8; 4088],
}

/// `struct btrfs_ioctl_vol_args_v2`.
#[repr(C)]
struct Arguments2 {
    fd: i64,
    transid: u64,
    flags: u64,
    unused: [u64; 4],
    name: [u8; 4040],
}

/// `struct btrfs_ioctl_get_subvol_info_args`.
#[repr(C)]
struct Info {
    id: u64,
    name: [u8; 256],
    parent_id: u64,
    directory: u64,
    generation: u64,
    flags: u64,
    uuid: [u8; 16],
    parent_uuid: [u8; 16],
    received_uuid: [u8; 16],
    /// Of the last change, the making, and of sending and receiving.
    transactions: [u64; 4],
    /// Seconds, and nanoseconds with their padding: of the last change, the making, and of sending
    /// and receiving.
    times: [[u64; 2]; 4],
    reserved: [u64; 8],
}

/// `struct btrfs_ioctl_fs_info_args`.
#[repr(C)]
struct FileSystem {
    devices: [u64; 2],
    uuid: [u8; 16],
    rest: [u64; 124],
}

const _: () = assert!(size_of::<FileSystem>() == 1024, "btrfs_ioctl_fs_info_args");
const _: () = assert!(size_of::<Arguments>() == 4096, "btrfs_ioctl_vol_args");
const _: () = assert!(size_of::<Arguments2>() == 4096, "btrfs_ioctl_vol_args_v2");
const _: () = assert!(size_of::<Info>() == 504, "btrfs_ioctl_get_subvol_info_args");

/// Longest name of a subvolume (`BTRFS_VOL_NAME_MAX`).
const LONGEST_NAME: usize = 255;

/// Makes a read-only snapshot of a subvolume, as `name` in `directory` of the same file system.
///
/// # Errors
///
/// `EINVAL` if `origin` is not the root of a subvolume or the name is none, `EXDEV` for a directory
/// of another file system, `EEXIST`, `ENOSPC`, and whatever else the kernel answers.
pub fn snapshot_subvolume(
    origin: impl AsFd,
    directory: impl AsFd,
    name: impl AsRef<[u8]>,
) -> Result<()> {
    let call = "BTRFS_IOC_SNAP_CREATE_V2";
    let (origin, directory) = (origin.as_fd(), directory.as_fd());
    check_root(origin).map_err(|errno| Error::call(call, errno))?;
    check_btrfs(directory).map_err(|errno| Error::call(call, errno))?;
    let mut arguments = Box::new(Arguments2 {
        fd: std::os::fd::AsRawFd::as_raw_fd(&origin).into(),
        transid: 0,
        flags: RDONLY,
        unused: [0; 4],
        name: [0; 4040],
    });
    put_name(&mut arguments.name, name.as_ref()).map_err(|errno| Error::call(call, errno))?;
    let pointer = (&raw mut *arguments).cast();
    // SAFETY: `directory` is on btrfs, as was just looked at. SNAP_CREATE_V2 reads one
    // `btrfs_ioctl_vol_args_v2` at the argument and writes nothing but its `transid`, with a flag
    // that is not set; `arguments` is one, wholly initialised (its size is asserted above), and its
    // pointers are only used with a flag that is not set.
    unsafe { ioctl::call(directory, command::SNAP_CREATE_V2, pointer) }
        .map(drop)
        .map_err(|errno| Error::call(call, errno))
}

/// Removes the subvolume `name` in `directory`, with all that is in it, whoever uses it: the kernel
/// does not ask whether it is mounted or open.
///
/// # Errors
///
/// `ENOENT`, `EINVAL` if it is no subvolume, `EPERM` if it is what is mounted by default,
/// `ENOTEMPTY` if there are subvolumes in it, and whatever else the kernel answers.
pub fn destroy_subvolume(directory: impl AsFd, name: impl AsRef<[u8]>) -> Result<()> {
    let call = "BTRFS_IOC_SNAP_DESTROY";
    let directory = directory.as_fd();
    check_btrfs(directory).map_err(|errno| Error::call(call, errno))?;
    let mut arguments = Box::new(Arguments {
        fd: 0,
        name: [0; 4088],
    });
    put_name(&mut arguments.name, name.as_ref()).map_err(|errno| Error::call(call, errno))?;
    let pointer = (&raw mut *arguments).cast();
    // SAFETY: `directory` is on btrfs, as was just looked at. SNAP_DESTROY reads one
    // `btrfs_ioctl_vol_args` at the argument and writes nothing; `arguments` is one, wholly
    // initialised (its size is asserted above).
    unsafe { ioctl::call(directory, command::SNAP_DESTROY, pointer) }
        .map(drop)
        .map_err(|errno| Error::call(call, errno))
}

/// What the subvolume is like whose root directory `root` is.
///
/// # Errors
///
/// `EINVAL` if it is not the root of a subvolume of btrfs, `ENOTTY` before Linux 4.18.
pub fn subvolume(root: impl AsFd) -> Result<Subvolume> {
    let call = "BTRFS_IOC_GET_SUBVOL_INFO";
    let root = root.as_fd();
    check_root(root).map_err(|errno| Error::call(call, errno))?;
    let mut info = Box::new(Info {
        id: 0,
        name: [0; 256],
        parent_id: 0,
        directory: 0,
        generation: 0,
        flags: 0,
        uuid: [0; 16],
        parent_uuid: [0; 16],
        received_uuid: [0; 16],
        transactions: [0; 4],
        times: [[0; 2]; 4],
        reserved: [0; 8],
    });
    let pointer = (&raw mut *info).cast();
    // SAFETY: `root` is on btrfs, as was just looked at. GET_SUBVOL_INFO reads nothing and writes
    // one `btrfs_ioctl_get_subvol_info_args` at the argument; `info` has its size (asserted above),
    // and any bytes are a value of it.
    unsafe { ioctl::call(root, command::GET_SUBVOL_INFO, pointer) }
        .map_err(|errno| Error::call(call, errno))?;
    let [_, made_in, ..] = info.transactions;
    let [_, made, ..] = info.times;
    Ok(Subvolume {
        file_system: file_system(root)?,
        id: info.id,
        uuid: info.uuid,
        parent_uuid: info.parent_uuid,
        read_only: info.flags & ROOT_RDONLY != 0,
        made_in,
        made: made[0],
    })
}

fn file_system(root: BorrowedFd<'_>) -> Result<[u8; 16]> {
    let mut found = Box::new(FileSystem {
        devices: [0; 2],
        uuid: [0; 16],
        rest: [0; 124],
    });
    let pointer = (&raw mut *found).cast();
    // SAFETY: `root` is on btrfs, as the caller looked at. FS_INFO reads and writes one
    // `btrfs_ioctl_fs_info_args` at the argument; `found` has its size (asserted above), is wholly
    // initialised, and any bytes are a value of it.
    unsafe { ioctl::call(root, command::FS_INFO, pointer) }
        .map(|_| found.uuid)
        .map_err(|errno| Error::call("BTRFS_IOC_FS_INFO", errno))
}

/// The numbers of these ioctls mean something to btrfs only.
fn check_btrfs(fd: BorrowedFd<'_>) -> rustix::io::Result<()> {
    let is = rustix::fs::fstatfs(fd)?.f_type.cast_unsigned() & 0xffff_ffff;
    if is == u64::from(MAGIC) {
        Ok(())
    } else {
        Err(Errno::INVAL)
    }
}

fn check_root(fd: BorrowedFd<'_>) -> rustix::io::Result<()> {
    check_btrfs(fd)?;
    let stat = rustix::fs::fstat(fd)?;
    if stat.st_ino == ROOT_INODE {
        Ok(())
    } else {
        Err(Errno::INVAL)
    }
}

/// The rest of `field` stays zero.
fn put_name(field: &mut [u8], name: &[u8]) -> rustix::io::Result<()> {
    let is_name = !name.is_empty() && !name.contains(&b'/') && !name.contains(&0);
    if !is_name || name.len() > LONGEST_NAME {
        return Err(Errno::INVAL);
    }
    field[..name.len()].copy_from_slice(name);
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_is_asked_of_other_file_systems() {
        let root = std::fs::File::open("/proc").unwrap();
        let errno = |result: Result<()>| result.unwrap_err().errno();
        assert_eq!(
            errno(snapshot_subvolume(&root, &root, "a")),
            Some(Errno::INVAL)
        );
        assert_eq!(errno(destroy_subvolume(&root, "a")), Some(Errno::INVAL));
        assert_eq!(errno(subvolume(&root).map(drop)), Some(Errno::INVAL));
    }

    #[test]
    fn names_are_one_component_of_up_to_255_bytes() {
        let mut field = [0; 4088];
        assert!(put_name(&mut field, &[b'x'; 255]).is_ok());
        for bad in [&b""[..], b"a/b", b"a\0b", &[b'x'; 256]] {
            assert_eq!(put_name(&mut field, bad), Err(Errno::INVAL));
        }
    }
}
