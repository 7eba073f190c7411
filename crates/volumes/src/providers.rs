//! All providers there are.

use piton_snapshot::Kind;

use crate::{Btrfs, Directory, Image, Lvm, Provider, Zfs};

/// One of each kind.
#[derive(Clone, Debug, Default)]
pub struct Providers {
    /// For LVM.
    pub lvm: Lvm,
    /// For ZFS.
    pub zfs: Zfs,
}

impl Providers {
    /// The one for a kind of volume.
    pub fn of(&self, kind: Kind) -> &dyn Provider {
        match kind {
            Kind::Btrfs => &Btrfs,
            Kind::Directory => &Directory,
            Kind::Image => &Image,
            Kind::Lvm => &self.lvm,
            Kind::Zfs => &self.zfs,
        }
    }
}
