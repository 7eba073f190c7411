//! File system types that are mounted without a helper.
//!
//! The rule: the kernel alone can mount it, given its options; no program has to speak to a server,
//! look for parts of it or keep it alive. Whatever is not here goes through mount(8). So does a
//! type that this kernel does not have: there may be a `mount.TYPE` for it.

use piton_plan::step::{Attempt, What};

/// What a type is mounted from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    /// Nothing: the source is any word.
    Virtual,
    /// Other directories, named in its options.
    Overlay,
    /// A disk, or a file that is shown as one.
    Block {
        /// It cannot be written to by nature, and opening the disk for writing may fail.
        read_only: bool,
    },
}

/// How the kernel mounts a type by itself; none for types that need a helper.
pub(crate) fn native(fstype: &[u8]) -> Option<Kind> {
    Some(match fstype {
        b"tmpfs" | b"ramfs" | b"proc" | b"sysfs" | b"devpts" | b"devtmpfs" | b"mqueue"
        | b"hugetlbfs" | b"debugfs" | b"tracefs" | b"securityfs" | b"configfs" | b"bpf"
        | b"pstore" | b"binfmt_misc" | b"cgroup2" | b"fusectl" | b"efivarfs" => Kind::Virtual,
        b"overlay" => Kind::Overlay,
        b"ext2" | b"ext3" | b"ext4" | b"xfs" | b"btrfs" | b"f2fs" | b"jfs" | b"reiserfs"
        | b"minix" | b"vfat" | b"msdos" | b"exfat" | b"hfs" | b"hfsplus" | b"udf" | b"ntfs3" => {
            Kind::Block { read_only: false }
        }
        b"squashfs" | b"iso9660" | b"erofs" | b"romfs" | b"cramfs" => {
            Kind::Block { read_only: true }
        }
        _ => return None,
    })
}

/// Whether the kernel reads a disk or an image to mount this, which may take a while.
pub fn is_on_disk(what: &What) -> bool {
    match what {
        What::Bind { .. } => false,
        What::Type(fstype) => matches!(native(fstype), Some(Kind::Block { .. })),
    }
}

/// Whether only a helper can mount this, or a helper is wanted.
pub(crate) fn needs_helper(attempt: &Attempt) -> bool {
    attempt.by_helper
        || match &attempt.what {
            What::Bind { .. } => false,
            What::Type(fstype) => native(fstype).is_none(),
        }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn servers_and_helpers_are_not_native() {
        for fstype in [
            "",
            "auto",
            "none",
            "nfs",
            "nfs4",
            "cifs",
            "smb3",
            "fuse",
            "fuse.sshfs",
            "fuseblk",
            "nilfs2",
            "autofs",
            "9p",
            "ceph",
            "TMPFS",
        ] {
            assert_eq!(native(fstype.as_bytes()), None, "{fstype}");
        }
    }

    #[test]
    fn the_types_that_are_promised_are_native() {
        for fstype in ["ext2", "ext3", "ext4", "xfs", "btrfs", "vfat"] {
            assert_eq!(
                native(fstype.as_bytes()),
                Some(Kind::Block { read_only: false })
            );
        }
        for fstype in ["squashfs", "iso9660", "erofs"] {
            assert_eq!(
                native(fstype.as_bytes()),
                Some(Kind::Block { read_only: true })
            );
        }
        assert_eq!(native(b"tmpfs"), Some(Kind::Virtual));
        assert_eq!(native(b"overlay"), Some(Kind::Overlay));
    }
}
