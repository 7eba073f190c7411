//! The names of options that mean something to an NFS mount: to the kernel, to mount.nfs, or to
//! mount(8) for any type.
//!
//! What is not here is left out when it is mounted, so that maps can be shared with systems that
//! have other options. It may as well be a slip, and then nobody would know.

use bstr::BString;

use crate::suggest;

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
const ANY: [&str; 37] = [
    "_netdev", "async", "atime", "auto", "comment", "context", "defaults", "defcontext", "dev",
    "diratime", "dirsync", "exec", "fscontext", "group", "helper", "iversion", "lazytime",
    "loud", "mand", "nofail", "owner", "private", "relatime", "remount", "ro", "rootcontext", "rw",
    "shared", "silent", "slave", "strictatime", "suid", "symfollow", "sync", "uhelper", "user",
    "users",
];

/// Of other types, and a slip away from an option of any type or of the automounter: ext4, XFS, UDF,
/// Ceph, 9p, GPFS, and those of macOS.
#[rustfmt::skip]
const OTHERS: [&str; 12] = [
    "i_version", "mtime", "noload", "noowners", "noshare", "nostrict", "nouuid", "nowsync",
    "share", "stripe", "version", "wsync",
];

/// Whether a type other than NFS has an option of this name, however much it looks like a slip.
pub(crate) fn is_of_another_type(name: &[u8]) -> bool {
    OTHERS.iter().any(|known| known.as_bytes() == name)
}

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

/// The option of any mount that is one slip away from `name`, a `no` before it included.
pub(crate) fn nearest(name: &[u8]) -> Option<BString> {
    let any = || ANY.iter().map(|name| name.as_bytes());
    let bare = name.strip_prefix(b"no").unwrap_or(name);
    let known = any().any(|known| known == name || known == bare);
    if name.len() < 5 || known || is_of_another_type(name) {
        return None;
    }
    if let Some(meant) = suggest::nearest(name, any()) {
        return Some(meant.into());
    }
    let without = name.strip_prefix(b"no")?;
    let meant = suggest::nearest(without, any())?;
    Some([b"no", meant].concat().into())
}

/// What the value of an option has to be, if it is not.
pub(crate) fn wanted(name: &[u8], value: &[u8]) -> Option<&'static str> {
    let (good, wanted) = match name {
        b"vers" | b"nfsvers" => (
            matches!(value, b"2" | b"3" | b"4" | b"4.0" | b"4.1" | b"4.2"),
            "the versions are 3, 4, 4.0, 4.1 and 4.2",
        ),
        b"proto" | b"mountproto" => (
            matches!(
                value,
                b"tcp" | b"udp" | b"rdma" | b"tcp6" | b"udp6" | b"rdma6"
            ),
            "the protocols are tcp, udp, rdma, tcp6, udp6 and rdma6",
        ),
        b"rsize" | b"wsize" | b"timeo" | b"retrans" | b"port" | b"retry" | b"acregmin"
        | b"acregmax" | b"acdirmin" | b"acdirmax" | b"actimeo" | b"nconnect" | b"mountport" => (
            !value.is_empty() && value.iter().all(u8::is_ascii_digit),
            "write a number without a unit",
        ),
        _ => return None,
    };
    (!good).then_some(wanted)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lists_are_sorted() {
        assert!(NFS.is_sorted() && ANY.is_sorted() && OTHERS.is_sorted());
    }

    #[test]
    fn slips_and_values_are_seen() {
        for (name, meant) in [
            ("nosiud", Some("nosuid")),
            ("nodve", Some("nodev")),
            ("noexce", Some("noexec")),
            ("nodfs", None),
            ("noperm", None),
            ("guest", None),
            ("noload", None),
            ("nouuid", None),
            ("nouser", None),
            ("users", None),
            ("version", None),
            ("uid", None),
        ] {
            assert_eq!(nearest(name.as_bytes()), meant.map(Into::into), "{name}");
        }
        for (name, value, good) in [
            ("vers", "4.2", true),
            ("vers", "5", false),
            ("proto", "tpc", false),
            ("rsize", "32k", false),
            ("rsize", "32768", true),
            ("sec", "krb5", true),
        ] {
            assert_eq!(
                wanted(name.as_bytes(), value.as_bytes()).is_none(),
                good,
                "{name}={value}"
            );
        }
    }

    #[test]
    fn options_of_manuals_are_known() {
        let known = "ro rw soft hard intr nointr timeo retrans noac nolock nosharecache norelatime nofail \
                     x-systemd.automount X-mount.mkdir nofsc nosuid bg vers v4.2";
        for name in known.split_ascii_whitespace() {
            assert!(is_known(name.as_bytes()), "{name}");
        }
        for name in ["timeout", "quota", "nosuchoption", "rsise"] {
            assert!(!is_known(name.as_bytes()), "{name}");
        }
    }
}
