//! Which file system a device or an image holds, and how it is shown without a write.

use std::os::fd::AsFd;

use bstr::{BStr, BString};
use rustix::io::{Errno, pread};

use crate::error::Error;

/// A file system that can be shown from a copy of its device while the origin is mounted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Known {
    /// Its type for mount(2).
    pub(crate) fstype: &'static str,
    /// What it needs besides `ro`: no journal is replayed, and no second one of the same name is
    /// minded.
    pub(crate) options: &'static [&'static str],
}

/// Magic bytes: where, what, and whose. Sources: `fs/ext4/ext4.h`, `fs/xfs/libxfs/xfs_format.h`,
/// `fs/squashfs/squashfs_fs.h`.
const TABLE: [(u64, &[u8], Known); 3] = [
    (
        1080,
        &[0x53, 0xef],
        Known {
            fstype: "ext4",
            options: &["noload"],
        },
    ),
    (
        0,
        b"XFSB",
        Known {
            fstype: "xfs",
            options: &["nouuid", "norecovery"],
        },
    ),
    (
        0,
        b"hsqs",
        Known {
            fstype: "squashfs",
            options: &[],
        },
    ),
];

/// `BTRFS_MAGIC` and where it is (`fs/btrfs/fs.h`).
const BTRFS: (u64, &[u8]) = (65_600, b"_BHRfS_M");

/// What is in an open device or image.
///
/// # Errors
/// [`Error::Unsupported`] if it is something that cannot be shown safely.
pub(crate) fn known(fd: impl AsFd, what: &BStr) -> Result<Known, Error> {
    let fd = fd.as_fd();
    for (at, magic, known) in TABLE {
        if has(fd, at, magic).map_err(|errno| Error::call("reading", what, errno))? {
            return Ok(known);
        }
    }
    let why = if has(fd, BTRFS.0, BTRFS.1).unwrap_or(false) {
        "it holds btrfs, of which no two copies may be seen at once: use provider=btrfs, which makes \
         snapshots inside"
    } else {
        "it holds no file system that is known here (ext2, ext3, ext4, xfs, squashfs)"
    };
    Err(Error::Unsupported {
        what: what.into(),
        why: why.into(),
    })
}

fn has(fd: impl AsFd, at: u64, magic: &[u8]) -> rustix::io::Result<bool> {
    let mut found = vec![0; magic.len()];
    let mut length = 0;
    while length < found.len() {
        match pread(&fd, &mut found[length..], at + length as u64) {
            Ok(0) => return Ok(false),
            Ok(count) => length += count,
            Err(Errno::INTR) => {}
            Err(errno) => return Err(errno),
        }
    }
    Ok(found == magic)
}

impl Known {
    /// All its options.
    pub(crate) fn mount_options(self) -> Vec<BString> {
        let all = ["ro"].iter().chain(self.options);
        all.map(|option| BString::from(*option)).collect()
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write;
    use std::os::unix::fs::FileExt;

    use super::*;

    #[test]
    fn magic_bytes_decide() {
        let with = |at: u64, bytes: &[u8]| {
            let file = tempfile::tempfile().unwrap();
            file.write_all_at(bytes, at).unwrap();
            known(&file, "image".into())
        };
        assert_eq!(with(1080, &[0x53, 0xef]).unwrap().fstype, "ext4");
        assert_eq!(
            with(0, b"XFSB").unwrap().mount_options(),
            ["ro", "nouuid", "norecovery"]
        );
        let error = with(65_600, b"_BHRfS_M").unwrap_err().to_string();
        assert!(error.contains("provider=btrfs"), "{error}");
        for short in [&b""[..], b"XFS", b"something else"] {
            let mut file = tempfile::tempfile().unwrap();
            file.write_all(short).unwrap();
            assert!(known(&file, "image".into()).is_err());
        }
    }
}
