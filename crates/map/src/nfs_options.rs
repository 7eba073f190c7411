//! The names of options that mean something to an NFS mount: to the kernel, to mount.nfs, or to
//! mount(8) for any type.
//!
//! What is not here is left out when it is mounted, so that maps can be shared with systems that
//! have other options. It may as well be a slip, and then nobody would know.

/// Of the kernel and mount.nfs: nfs(5), and fs/nfs/fs_context.c up to Linux 6.18.
#[rustfmt::skip]
const NFS: [&str; 63] = [
    "ac", "acdirmax", "acdirmin", "acl", "acregmax", "acregmin", "actimeo", "addr",
    "alignwrite", "bg", "bsize", "cert_serial", "clientaddr", "cto", "fatal_neterrors", "fg",
    "fsc", "hard", "intr", "local_lock", "lock", "lookupcache", "max_connect", "migration",
    "minorversion", "mountaddr", "mounthost", "mountport", "mountproto", "mountvers", "namlen",
    "nconnect", "nfsvers", "port", "posix", "privkey_serial", "proto", "rdirplus", "rdma",
    "resvport", "retrans", "retry", "rsize", "sec", "sharecache", "sloppy", "soft", "softerr",
    "softreval", "tcp", "timeo", "trunkdiscovery", "udp", "v2", "v3", "v4", "v4.0", "v4.1",
    "v4.2", "vers", "write", "wsize", "xprtsec",
];

/// Of mount(8), for any type.
#[rustfmt::skip]
const ANY: [&str; 36] = [
    "_netdev", "async", "atime", "auto", "comment", "context", "defaults", "defcontext", "dev",
    "diratime", "dirsync", "exec", "fscontext", "group", "helper", "iversion", "lazytime",
    "loud", "mand", "owner", "private", "relatime", "remount", "ro", "rootcontext", "rw",
    "shared", "silent", "slave", "strictatime", "suid", "symfollow", "sync", "uhelper", "user",
    "users",
];

/// Whether an option of this name means something; most may have a `no` before them.
pub(crate) fn is_known(name: &[u8]) -> bool {
    let has = |name: &[u8]| names().any(|known| known == name);
    let without = name.strip_prefix(b"no");
    has(name)
        || without.is_some_and(has)
        || name.starts_with(b"x-")
        || name.starts_with(b"X-")
        || name.is_empty()
}

/// All of them.
pub(crate) fn names() -> impl Iterator<Item = &'static [u8]> {
    NFS.iter().chain(&ANY).map(|name| name.as_bytes())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lists_are_sorted() {
        assert!(NFS.is_sorted() && ANY.is_sorted());
    }

    #[test]
    fn options_of_manuals_are_known() {
        let known = "ro rw soft hard intr nointr timeo retrans noac nolock nosharecache norelatime \
                     x-systemd.automount X-mount.mkdir nofsc nosuid bg vers v4.2";
        for name in known.split_ascii_whitespace() {
            assert!(is_known(name.as_bytes()), "{name}");
        }
        for name in ["timeout", "quota", "nosuchoption", "rsise"] {
            assert!(!is_known(name.as_bytes()), "{name}");
        }
    }
}
