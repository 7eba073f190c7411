//! Of what kind a mounted file system is: whether it can be touched without waiting for anybody.
//!
//! The kernel tells without asking the file system (statmount(2), Linux 6.8). Its number for a
//! mount is never used again, so answers are kept. Before that the mount table says it.

use std::collections::HashMap;
use std::sync::{OnceLock, PoisonError, RwLock};

use rustix::fd::AsFd;
use rustix::fs::{AtFlags, StatxFlags, statx};
use rustix::io::Errno;

use crate::dependent::AUTOFS_MAGIC;
use crate::limits;
use crate::table::{self, Table};

/// `STATX_MNT_ID_UNIQUE` (Linux 6.8).
const UNIQUE: StatxFlags = StatxFlags::from_bits_retain(0x4000);

/// The mount that something is in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Mounted {
    /// Its number.
    pub(crate) mount: u64,
    /// Of what kind its file system is.
    pub(crate) kind: Kind,
}

/// Of what kind a file system is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    /// In memory, or on a disk of this host: the kernel alone answers.
    Local,
    /// An automount: the kernel alone answers us, who never trigger.
    Autofs,
    /// Layers of other file systems: local ones as a rule.
    Layered,
    /// A server or another process answers, or what does is not known.
    Foreign,
}

impl Kind {
    /// Whether names can be looked up in it without waiting for anybody.
    pub(crate) fn is_quick(self) -> bool {
        matches!(self, Self::Local | Self::Autofs)
    }

    /// By its number in linux/magic.h.
    pub(crate) fn of_magic(magic: u64) -> Self {
        match magic {
            0x794c_7630 => Self::Layered,
            // tmpfs and ramfs; ext2 to ext4, xfs, btrfs, f2fs, jfs, reiserfs, minix (four forms);
            // vfat and msdos, exfat, hfs, hfsplus, udf, ntfs3; squashfs, iso9660, erofs, romfs,
            // cramfs; proc, sysfs, devpts, cgroup2, hugetlbfs, debugfs, tracefs, nsfs; zfs.
            0x0102_1994 | 0x8584_58f6 | 0xef53 | 0x5846_5342 | 0x9123_683e | 0xf2f5_2010
            | 0x3153_464a | 0x5265_4973 | 0x137f | 0x138f | 0x2468 | 0x2478 | 0x4d5a | 0x4d44
            | 0x2011_bab0 | 0x4244 | 0x482b | 0x1501_3346 | 0x7366_746e | 0x7371_7368 | 0x9660
            | 0xe0f5_e1e2 | 0x7275 | 0x28cd_3d45 | 0x9fa0 | 0x6265_6572 | 0x1cd1 | 0x6367_7270
            | 0x9584_58f6 | 0x6462_6720 | 0x7472_6163 | 0x6e73_6673 | 0x2fc1_2fc1 => Self::Local,
            magic if magic == AUTOFS_MAGIC as u64 => Self::Autofs,
            _ => Self::Foreign,
        }
    }

    /// By its name in the mount table, where the kernel does not tell the number.
    fn of_name(name: &[u8]) -> Self {
        match name {
            b"tmpfs" | b"ramfs" | b"ext2" | b"ext3" | b"ext4" | b"xfs" | b"btrfs" | b"f2fs"
            | b"vfat" | b"squashfs" | b"iso9660" | b"erofs" | b"proc" | b"sysfs" | b"devtmpfs" => {
                Self::Local
            }
            b"autofs" => Self::Autofs,
            b"overlay" => Self::Layered,
            _ => Self::Foreign,
        }
    }
}

/// The mount that an open file (or a mere path, `O_PATH`) is in. Does not ask the file system.
pub(crate) fn of(fd: impl AsFd) -> Result<Mounted, Errno> {
    let flags = AtFlags::EMPTY_PATH | AtFlags::STATX_DONT_SYNC;
    let found = statx(&fd, "", flags, UNIQUE)?;
    let mount = found.stx_mnt_id;
    if found.stx_mask & UNIQUE.bits() == 0 {
        return by_table(fd);
    }
    let known = known().read().unwrap_or_else(PoisonError::into_inner);
    if let Some(kind) = known.get(&mount) {
        return Ok(Mounted { mount, kind: *kind });
    }
    drop(known);
    let kind = match autofs::mount_magic(mount) {
        Ok(magic) => Kind::of_magic(magic),
        // Detached, or out of our sight.
        Err(_) => Kind::Foreign,
    };
    let mut known = self::known()
        .write()
        .unwrap_or_else(PoisonError::into_inner);
    if known.len() >= limits::KNOWN_MOUNTS {
        known.clear();
    }
    known.insert(mount, kind);
    Ok(Mounted { mount, kind })
}

fn known() -> &'static RwLock<HashMap<u64, Kind>> {
    static KNOWN: OnceLock<RwLock<HashMap<u64, Kind>>> = OnceLock::new();
    KNOWN.get_or_init(RwLock::default)
}

/// Before Linux 6.8.
fn by_table(fd: impl AsFd) -> Result<Mounted, Errno> {
    let flags = AtFlags::EMPTY_PATH | AtFlags::STATX_DONT_SYNC;
    let found = statx(fd, "", flags, StatxFlags::MNT_ID)?;
    let mount = found.stx_mnt_id;
    let mut kind = Kind::Foreign;
    if found.stx_mask & StatxFlags::MNT_ID.bits() != 0 {
        let text = table::read()?;
        if let Some(line) = Table::parse(&text).by_id(mount) {
            kind = Kind::of_name(&line.fstype);
        }
    }
    Ok(Mounted { mount, kind })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_ways_agree_on_what_is_local() {
        let proc = std::fs::File::open("/proc").unwrap();
        assert_eq!(of(&proc).map(|found| found.kind), Ok(Kind::Local));
        assert_eq!(by_table(&proc).map(|found| found.kind), Ok(Kind::Local));
    }

    #[test]
    fn servers_and_unknown_kinds_are_foreign() {
        // nfs, fuse, smb2, 9p, ceph, nothing.
        for magic in [
            0x6969,
            0x6573_5546,
            0xfe53_4d42,
            0x0102_1997,
            0x00c3_6400,
            0,
        ] {
            assert_eq!(Kind::of_magic(magic), Kind::Foreign, "{magic:#x}");
        }
        assert_eq!(Kind::of_magic(0x187), Kind::Autofs);
        assert_eq!(Kind::of_name(b"nfs4"), Kind::Foreign);
    }
}
