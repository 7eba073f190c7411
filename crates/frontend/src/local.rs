//! Which file systems never make one wait for a server: those may be walked through on the loop.
//!
//! What is not known here is taken to be a server's.

use std::path::Path;

/// By the magic number of `statfs(2)` (`linux/magic.h`) and by the name in the mount table.
const LOCAL: [(u64, &str); 21] = [
    (0x0187, "autofs"),
    (0x9123_683e, "btrfs"),
    (0x6367_7270, "cgroup2"),
    (0x1cd1, "devpts"),
    (0x0102_1994, "devtmpfs"),
    (0xe0f5_e1e2, "erofs"),
    (0x2011_bab0, "exfat"),
    (0xef53, "ext2"),
    (0xef53, "ext3"),
    (0xef53, "ext4"),
    (0xf2f5_2010, "f2fs"),
    (0x9660, "iso9660"),
    (0x3153_464a, "jfs"),
    (0x794c_7630, "overlay"),
    (0x9fa0, "proc"),
    (0x8584_58f6, "ramfs"),
    (0x7371_7368, "squashfs"),
    (0x0102_1994, "tmpfs"),
    (0x4d44, "vfat"),
    (0x5846_5342, "xfs"),
    (0x2fc1_2fc1, "zfs"),
];

/// Whether a type of the mount table is a local one.
pub(crate) fn is_local_type(name: &[u8]) -> bool {
    LOCAL.iter().any(|(_, local)| local.as_bytes() == name)
}

/// Whether `path` lies on a local file system. May hang; false where it cannot be seen.
pub(crate) fn is_on_local(path: &Path) -> bool {
    rustix::fs::statfs(path).is_ok_and(|stat| {
        let magic = stat.f_type as u64 & 0xffff_ffff;
        LOCAL.iter().any(|(local, _)| *local == magic)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn knows_this_machines_own() {
        assert!(is_on_local(Path::new("/proc")));
        assert!(!is_on_local(Path::new("/proc/nothing of that name")));
        assert!(is_local_type(b"ext4") && is_local_type(b"tmpfs"));
        for name in ["nfs", "nfs4", "cifs", "fuse", "fuse.sshfs", "9p", "", "ext"] {
            assert!(!is_local_type(name.as_bytes()), "{name}");
        }
    }
}
