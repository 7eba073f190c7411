//! What snapshots are taken of.

use alloc::format;
use alloc::string::String;
use core::fmt;

use bstr::{BStr, BString, ByteSlice};

use crate::invalid::Invalid;
use crate::limits;
use crate::request::check_word;

/// Who makes the snapshots: which kind of volume it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[cfg_attr(feature = "serde", derive(serde::Deserialize, serde::Serialize))]
#[cfg_attr(feature = "serde", serde(rename_all = "lowercase"))]
pub enum Kind {
    /// A logical volume of LVM, thick or thin.
    Lvm,
    /// A subvolume of btrfs.
    Btrfs,
    /// A dataset of ZFS.
    Zfs,
    /// A file that holds a file system, on one that shares extents (XFS, btrfs, …).
    Image,
    /// A directory that is copied file by file, extents shared: not at one instant.
    Directory,
}

/// A volume, subvolume, dataset, image file or directory. Displays as `lvm:storage/data`.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[cfg_attr(feature = "serde", derive(serde::Deserialize, serde::Serialize))]
pub struct Origin {
    kind: Kind,
    path: BString,
}

impl Kind {
    /// All of them.
    pub const ALL: [Self; 5] = [
        Self::Lvm,
        Self::Btrfs,
        Self::Zfs,
        Self::Image,
        Self::Directory,
    ];

    /// As it is written: `provider=btrfs`.
    pub fn word(self) -> &'static str {
        match self {
            Self::Lvm => "lvm",
            Self::Btrfs => "btrfs",
            Self::Zfs => "zfs",
            Self::Image => "image",
            Self::Directory => "directory",
        }
    }

    /// Reads [`word`](Self::word).
    ///
    /// # Errors
    /// [`Invalid`] names the words there are.
    pub fn parse(text: &BStr) -> Result<Self, Invalid> {
        let found = Self::ALL.into_iter().find(|kind| text == kind.word());
        found.ok_or_else(|| {
            Invalid::new(
                "unknown-snapshot-provider",
                format!("nothing called `{}` makes snapshots", text.escape_bytes()),
                "write lvm, btrfs, zfs, image or directory",
            )
        })
    }

    /// Whether it is known how much room one snapshot takes by itself: not where extents are shared
    /// with others.
    pub fn tells_room(self) -> bool {
        matches!(self, Self::Lvm | Self::Zfs)
    }

    /// Whether snapshots are mounted by bind, so that options for a file system mean nothing.
    pub fn is_bound(self) -> bool {
        matches!(self, Self::Btrfs | Self::Directory)
    }

    /// Whether origins are paths in the file system, else names of volumes with slashes in them.
    pub fn is_path(self) -> bool {
        matches!(self, Self::Btrfs | Self::Image | Self::Directory)
    }
}

impl fmt::Display for Kind {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(self.word())
    }
}

impl Origin {
    /// An origin as it is written for its kind: `storage/data` (LVM: volume group and volume),
    /// `/data` (btrfs, images, directories), `tank/home/ann` (ZFS).
    ///
    /// # Errors
    /// [`Invalid`] for what cannot be one: such text never reaches a program or a path.
    pub fn new(kind: Kind, path: &BStr) -> Result<Self, Invalid> {
        let refuse = |message: String, help: &str| Err(Invalid::new("bad-origin", message, help));
        let shown = path.escape_bytes();
        if path.len() > limits::ORIGIN {
            return refuse(
                "the name of the origin is too long".into(),
                "4096 bytes are the most",
            );
        }
        if kind.is_path() {
            let plain = |part: &[u8]| !part.is_empty() && part != b"." && part != b"..";
            let good = path
                .strip_prefix(b"/")
                .is_some_and(|rest| rest.split_str("/").all(plain));
            if !good && path != "/" {
                return refuse(
                    format!("`{shown}` is no absolute path without `.`, `..` and double slashes"),
                    "write the path of the directory or file in full",
                );
            }
            if path.iter().any(u8::is_ascii_control) {
                return refuse(format!("`{shown}` has control characters"), "rename it");
            }
        } else {
            let parts = path.split_str("/");
            let count = parts.clone().count();
            for part in parts {
                check_word(part.as_bstr())?;
            }
            if kind == Kind::Lvm && count != 2 {
                return refuse(
                    format!("`{shown}` is no logical volume"),
                    "write volume group and volume: storage/data",
                );
            }
        }
        Ok(Self {
            kind,
            path: path.into(),
        })
    }

    /// Who makes its snapshots.
    pub fn kind(&self) -> Kind {
        self.kind
    }

    /// As written: `storage/data`, `/data`, `tank/home`.
    pub fn path(&self) -> &BStr {
        self.path.as_bstr()
    }

    /// What it is in: the volume group, the parent dataset (empty for a pool), the parent directory.
    pub fn container(&self) -> &BStr {
        match self.path.rfind_byte(b'/') {
            Some(0) => b"/".as_bstr(),
            Some(slash) => self.path[..slash].as_bstr(),
            None => b"".as_bstr(),
        }
    }

    /// Its own name in its container; empty for the directory `/`.
    pub fn own_name(&self) -> &BStr {
        let start = self.path.rfind_byte(b'/').map_or(0, |slash| slash + 1);
        self.path[start..].as_bstr()
    }

    /// What stands for it in the names of its snapshots: its own name, bytes that not every kind
    /// of volume can hold replaced, cut at [`limits::LABEL`]. It need not be the only one of that
    /// label: who lists snapshots asks the volume whose they are.
    pub fn label(&self) -> String {
        let own = self.own_name();
        let mut label = String::new();
        for byte in own.bytes().take(limits::LABEL) {
            let fits = byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'+' | b'.')
                // First it would be an option, or hidden.
                || byte == b'-' && !label.is_empty();
            let hidden = byte == b'.' && label.is_empty();
            label.push(if fits && !hidden {
                char::from(byte)
            } else {
                '_'
            });
        }
        if label.is_empty() {
            label.push_str("root");
        }
        label
    }
}

impl fmt::Display for Origin {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "{}:{}", self.kind, self.path)
    }
}

#[cfg(test)]
mod tests {
    use alloc::string::ToString;

    use super::*;

    fn origin(kind: Kind, path: &str) -> Result<Origin, Invalid> {
        Origin::new(kind, path.into())
    }

    #[test]
    fn origins_and_their_parts() {
        for (kind, path, container, own, label) in [
            (Kind::Lvm, "storage/data", "storage", "data", "data"),
            (Kind::Zfs, "tank", "", "tank", "tank"),
            (Kind::Zfs, "tank/a/b", "tank/a", "b", "b"),
            (Kind::Btrfs, "/data", "/", "data", "data"),
            (Kind::Btrfs, "/", "/", "", "root"),
            (
                Kind::Image,
                "/vm/.a b-1.img",
                "/vm",
                ".a b-1.img",
                "_a_b-1.img",
            ),
            (Kind::Directory, "/srv/-x", "/srv", "-x", "_x"),
        ] {
            let origin = origin(kind, path).unwrap();
            assert_eq!(origin.container(), container, "{path}");
            assert_eq!(origin.own_name(), own, "{path}");
            assert_eq!(origin.label(), label, "{path}");
            assert_eq!(origin.to_string(), format!("{kind}:{path}"));
        }
        let long = format!("/{}", "x".repeat(limits::LABEL + 1));
        assert_eq!(
            origin(Kind::Btrfs, &long).unwrap().label().len(),
            limits::LABEL
        );
    }

    #[test]
    fn what_can_be_no_origin() {
        for (kind, path) in [
            (Kind::Lvm, "data"),
            (Kind::Lvm, "storage/data/x"),
            (Kind::Lvm, "/dev/storage/data"),
            (Kind::Lvm, "storage/-data"),
            (Kind::Lvm, "storage/a b"),
            (Kind::Zfs, ""),
            (Kind::Zfs, "tank/"),
            (Kind::Zfs, "tank/a@b"),
            (Kind::Btrfs, "data"),
            (Kind::Btrfs, ""),
            (Kind::Btrfs, "/data/"),
            (Kind::Btrfs, "/data/../etc"),
            (Kind::Btrfs, "//data"),
            (Kind::Directory, "/a\nb"),
        ] {
            assert!(origin(kind, path).is_err(), "{kind} {path}");
        }
        let at_limit = format!("/{}", "x".repeat(limits::ORIGIN - 1));
        assert!(origin(Kind::Btrfs, &at_limit).is_ok());
        assert!(origin(Kind::Btrfs, &(at_limit + "x")).is_err());
    }

    #[test]
    fn kinds_have_words() {
        for kind in Kind::ALL {
            assert_eq!(Kind::parse(kind.word().into()), Ok(kind));
        }
        assert_eq!(
            Kind::parse("LVM".into()).unwrap_err().code,
            "unknown-snapshot-provider"
        );
    }
}
