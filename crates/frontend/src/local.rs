//! Which file systems never make one wait for a server: those may be walked through on the loop.
//!
//! What is not known here is taken to be a server's.

/// Their names in the mount table.
const LOCAL: [&str; 21] = [
    "autofs", "btrfs", "cgroup2", "devpts", "devtmpfs", "erofs", "exfat", "ext2", "ext3", "ext4",
    "f2fs", "iso9660", "jfs", "overlay", "proc", "ramfs", "squashfs", "tmpfs", "vfat", "xfs",
    "zfs",
];

/// Whether a type of the mount table is a local one.
pub(crate) fn is_local_type(name: &[u8]) -> bool {
    LOCAL.iter().any(|local| local.as_bytes() == name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn knows_this_machines_own() {
        assert!(is_local_type(b"ext4") && is_local_type(b"tmpfs"));
        for name in ["nfs", "nfs4", "cifs", "fuse", "fuse.sshfs", "9p", "", "ext"] {
            assert!(!is_local_type(name.as_bytes()), "{name}");
        }
    }
}
