//! Links served by FUSE: what an ordinary user can have.

use std::collections::HashMap;
use std::io;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use autofs::RequestTable;
use bstr::{BStr, BString, ByteSlice};
use piton_fuse::{Audience, Mount, Settings};
use piton_loopback::{RootId, RootKind};
use piton_mount::Workers;
use piton_mount::perform::Failure;
use piton_mount::table::Table;

use super::care::Care;
use super::{Host, Links, Root, Serving};
use crate::capabilities::{Capabilities, FUSE};
use crate::kernel::as_path;

/// What a FUSE front end is made of. A successor has the same.
pub struct FuseSettings {
    /// What numbers of files are hashed with: 16 random bytes.
    pub secret: [u8; 16],
    /// Where marks of unfinished work stand.
    pub table: RequestTable,
    /// Where mounts are made, an absolute path: the mount of `/home/ann/net/host` is at this with
    /// `/home/ann/net/host` behind it.
    pub staging: BString,
    /// Who may use it.
    pub audience: Audience,
    /// Ask helpers whether they answer; without them every link is trusted.
    pub workers: Option<Workers>,
    /// A helper that neither answers nor does anything for so long is killed; none is by `None`.
    pub give_up: Option<Duration>,
}

/// Automounting without root.
pub type FuseFrontEnd = Links<Fuse>;

impl FuseFrontEnd {
    /// A front end that serves nothing yet.
    ///
    /// # Errors
    /// No descriptor can be had.
    pub fn new(settings: FuseSettings) -> io::Result<Self> {
        let host = Fuse {
            audience: settings.audience,
            mounts: Mutex::default(),
        };
        let care = settings.workers;
        let care = care.map(|workers| Care::new(workers, settings.give_up));
        let (table, staging) = (settings.table, settings.staging);
        Self::of(host, settings.secret, table, staging, care)
    }
}

/// A file system with a server of its own for each root.
pub struct Fuse {
    audience: Audience,
    mounts: Mutex<HashMap<RootId, Mount>>,
}

impl Fuse {
    fn mounts(&self) -> MutexGuard<'_, HashMap<RootId, Mount>> {
        self.mounts.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Host for Fuse {
    const CAPABILITIES: Capabilities = FUSE;

    /// Each root has a server of its own, from when it is shown.
    fn serve(&self, _: &Serving) -> Result<(), Failure> {
        Ok(())
    }

    fn seat(&self, serving: &Serving, root: &Root<'_>) -> Result<(), Failure> {
        let mount = Mount::start(Settings {
            tree: serving.tree.clone(),
            root: root.id,
            path: as_path(root.path).to_owned(),
            // So a successor knows it, and people see where its mounts are.
            source: root.staged.to_str_lossy().into_owned(),
            audience: self.audience,
            owner: serving.owner.clone(),
        });
        let mount = mount.map_err(|error| Failure::new(error.errno(), error.to_string()))?;
        self.mounts().insert(root.id, mount);
        Ok(())
    }

    /// Whoever is in it loses nothing: mounts are elsewhere.
    fn unseat(&self, root: &Root<'_>) -> Result<(), Failure> {
        let mount = self.mounts().remove(&root.id);
        drop(mount);
        Ok(())
    }

    fn seated(&self, staging: &BStr, table: &Table<'_>) -> Vec<(BString, RootKind)> {
        let ours = table.mounts().iter().filter(|mount| {
            let path = mount.source.strip_prefix(staging.as_bytes());
            *mount.fstype == "fuse.piton" && path == Some(mount.point.as_bytes())
        });
        ours.map(|mount| (mount.point.clone().into_owned(), RootKind::Directory))
            .collect()
    }

    /// The server has died with its process: another one is mounted in its place.
    fn take_over(&self, serving: &Serving, root: &Root<'_>) -> Result<(), Failure> {
        self.seat(serving, root)
    }

    fn abandon(&self, root: &Root<'_>) {
        drop(self.mounts().remove(&root.id));
    }
}
