//! File system types: which are understood here, which need the network, and what became of
//! those of the founding systems.

use bstr::BStr;

/// The type of snapshots that are taken when they are accessed.
pub const SNAPSHOT: &str = "snapshot";

/// How an entry of some type is read.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Family {
    /// `nfs`, `nfs4`: a list of servers to choose from.
    Nfs,
    /// `bind`, `rbind`: a directory of this host.
    Bind {
        /// Whether mounts below it come along.
        recursive: bool,
    },
    /// `afs`: a symbolic link into /afs.
    Link,
    /// `autofs`: another map.
    Map,
    /// Anything else: the location is handed to mount as it is.
    Other,
}

/// What a type of the founding systems is called today.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Translation {
    /// The old type.
    pub old: &'static str,
    /// The type of Linux.
    pub new: &'static str,
}

const TRANSLATIONS: [Translation; 5] = [
    Translation {
        old: "hsfs",
        new: "iso9660",
    },
    Translation {
        old: "cdfs",
        new: "iso9660",
    },
    Translation {
        old: "cachefs",
        new: "nfs",
    },
    Translation {
        old: "lofs",
        new: "bind",
    },
    Translation {
        old: "pcfs",
        new: "vfat",
    },
];

/// Types that no server is needed for.
const LOCAL: [&str; 34] = [
    "auto", "bcachefs", "bfs", "bind", "btrfs", "changer", "erofs", "exfat", "ext2", "ext3",
    "ext4", "f2fs", "hfs", "hfsplus", "iso9660", "jfs", "minix", "msdos", "nilfs2", "none", "ntfs",
    "ntfs3", "overlay", "proc", "ramfs", "rbind", "snapshot", "squashfs", "sysfs", "tmpfs", "udf",
    "ufs", "vfat", "xfs",
];

/// Types that servers, clusters and programs are behind.
const OTHER: [&str; 40] = [
    "9p",
    "afs",
    "apfs",
    "autofs",
    "beegfs",
    "cachefs",
    "cdfs",
    "ceph",
    "cephfs",
    "cifs",
    "coda",
    "curlftpfs",
    "cvmfs",
    "davfs",
    "dfs",
    "ecryptfs",
    "efs",
    "fuse",
    "fuseblk",
    "gfs",
    "gfs2",
    "glusterfs",
    "gpfs",
    "hdfs",
    "hsfs",
    "lofs",
    "lustre",
    "mfs",
    "ncpfs",
    "nfs",
    "nfs4",
    "ocfs2",
    "pcfs",
    "qfs",
    "reiserfs",
    "s3fs",
    "smb3",
    "smbfs",
    "sshfs",
    "zfs",
];

/// The types that have a name here.
pub(crate) fn names() -> impl Iterator<Item = &'static [u8]> {
    LOCAL.iter().chain(&OTHER).map(|name| name.as_bytes())
}

/// Whether a word is the name of a type.
pub(crate) fn is_known(word: &[u8]) -> bool {
    names().any(|name| name == word)
}

/// The family of a type.
pub fn family(name: &BStr) -> Family {
    match name.as_ref() as &[u8] {
        b"nfs" | b"nfs4" => Family::Nfs,
        b"bind" => Family::Bind { recursive: false },
        b"rbind" => Family::Bind { recursive: true },
        b"afs" => Family::Link,
        b"autofs" => Family::Map,
        _ => Family::Other,
    }
}

/// Returns true unless mounting the type is known to need no server, so that it cannot hang.
pub fn needs_network(name: &BStr) -> bool {
    !LOCAL.iter().any(|local| name == local.as_bytes())
}

/// What the type is called on Linux, if it is one of the founding systems'.
pub fn translation(name: &BStr) -> Option<&'static Translation> {
    TRANSLATIONS
        .iter()
        .find(|translation| name == translation.old.as_bytes())
}

/// Returns true if and only if the option is CacheFS's own and means nothing to NFS.
pub fn is_cachefs_option(option: &BStr) -> bool {
    const VALUES: [&[u8]; 4] = [b"backfstype=", b"backpath=", b"cachedir=", b"cacheid="];
    const WORDS: [&[u8]; 6] = [
        b"write-around",
        b"non-shared",
        b"noconst",
        b"demandconst",
        b"local-access",
        b"purge",
    ];
    let text: &[u8] = option.as_ref();
    VALUES.iter().any(|name| text.starts_with(name)) || WORDS.contains(&text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn families_and_networks() {
        assert_eq!(family("nfs4".into()), Family::Nfs);
        assert_eq!(family("NFS".into()), Family::Other);
        assert_eq!(family("rbind".into()), Family::Bind { recursive: true });
        assert!(needs_network("nfs".into()));
        assert!(needs_network("fuse.sshfs".into()));
        assert!(!needs_network("ext4".into()));
        assert!(LOCAL.is_sorted());
    }

    #[test]
    fn old_types_have_new_names() {
        assert_eq!(translation("hsfs".into()).unwrap().new, "iso9660");
        assert_eq!(translation("nfs".into()), None);
        assert!(is_cachefs_option("cachedir=/cache".into()));
        assert!(!is_cachefs_option("ro".into()));
    }
}
