//! Where mounts are made, which is not where users find them when the front end hands out links.
//!
//! Engine, command line and users speak of the paths that are seen (`/home/ann`); whoever works on
//! the mount table needs places (`/tmp_mnt/home/ann`). This module translates, and nothing else
//! knows that there is a difference.

use std::collections::HashSet;
use std::io::ErrorKind;
use std::path::Path;
use std::sync::Arc;

use bstr::{BStr, BString, ByteSlice};
use piton_engine::event::Existing;
use piton_engine::sharing::SHARED;
use piton_frontend::{FrontEnd, Silent, as_path};
use piton_mount::table::{self, Table};
use piton_plan::step::{Planned, Step, TriggerId};

/// Tells places from paths.
#[derive(Clone)]
pub(crate) struct Staging {
    front_end: Arc<dyn FrontEnd>,
    in_place: bool,
}

impl Staging {
    /// For the mounts of a front end.
    pub(crate) fn of(front_end: &Arc<dyn FrontEnd>) -> Self {
        Self {
            front_end: front_end.clone(),
            in_place: front_end.capabilities().in_place,
        }
    }

    /// What is mounted somewhere and does not answer.
    pub(crate) fn silent(&self) -> Vec<Silent> {
        self.front_end.silent()
    }

    /// Where that is mounted which users find at a path.
    pub(crate) fn place(&self, visible: &BStr) -> BString {
        match self.in_place {
            true => visible.into(),
            false => self.front_end.place(visible),
        }
    }

    /// The same steps at the places where they are to be done. Mount points stay where they are
    /// seen: putting them there is what a front end is for.
    pub(crate) fn steps(&self, mut steps: Vec<Planned>) -> Vec<Planned> {
        if self.in_place {
            return steps;
        }
        for planned in &mut steps {
            match &mut planned.step {
                Step::MakeDirectory { path }
                | Step::RemoveDirectory { path }
                | Step::RemoveSymlink { path }
                | Step::Mount { target: path, .. }
                | Step::Unmount { target: path, .. }
                | Step::LetGo { target: path, .. } => *path = self.place(path.as_bstr()),
                Step::Symlink { path, to } => {
                    *path = self.place(path.as_bstr());
                    // What keys share is below the staging directory as well.
                    if to.starts_with(SHARED.as_bytes()) {
                        *to = self.place(to.as_bstr());
                    }
                }
                Step::Install(_) | Step::Remove(_) => {}
            }
        }
        steps
    }

    /// Makes the directory in which the mounts of a mount point are made: two at once, or a link, would
    /// not find it.
    pub(crate) fn prepare(&self, mount_point: &BStr) -> std::io::Result<()> {
        match self.in_place {
            true => Ok(()),
            false => std::fs::create_dir_all(as_path(self.place(mount_point).as_bstr())),
        }
    }

    /// Removes the directories that were made for the mounts of a mount point, which is gone: those
    /// below the staging directory are nobody else's. What is not empty stays.
    pub(crate) fn clear(&self, mount_point: &BStr) {
        let top = self.place(b"/".as_bstr());
        let top = as_path(top.as_bstr());
        if self.in_place {
            return;
        }
        // That of a key may be gone with its mount.
        let gone = |directory: &Path| match std::fs::remove_dir(directory) {
            Ok(()) => true,
            Err(error) => error.kind() == ErrorKind::NotFound,
        };
        gone(as_path(self.place(SHARED.into()).as_bstr()));
        let place = self.place(mount_point);
        let mut directory = as_path(place.as_bstr());
        while directory.starts_with(top)
            && directory != top
            && gone(directory)
            && let Some(parent) = directory.parent()
        {
            directory = parent;
        }
    }

    /// Whether users find mounts at the paths themselves.
    pub(crate) fn is_in_place(&self) -> bool {
        self.in_place
    }

    /// Looks whether what links lead to is still there; where it is not (somebody unmounted it by
    /// hand, R-259), whoever comes by asks again.
    pub(crate) fn look_after(&self, linked: Vec<(TriggerId, BString, BString)>) {
        let Ok(text) = table::read() else { return };
        let table = Table::parse(&text);
        for (trigger, key, path) in linked {
            let place = self.place(path.as_bstr());
            let link = || std::fs::read_link(as_path(place.as_bstr())).is_ok();
            let gone = || table.within(place.as_bstr()).is_empty() && !link();
            // What we unmount ourselves led nowhere before.
            if gone() && self.front_end.hide(trigger, key.as_bstr()) {
                tracing::info!(%path, "was unmounted by somebody else");
            }
        }
    }
}

/// Unmounts what an earlier life mounted for keys to share and no key leads to: it died in between. In
/// a thread of its own, since a server may be asked.
pub(crate) fn sweep(front_end: &dyn FrontEnd, existing: &[Existing]) {
    if front_end.capabilities().in_place {
        return;
    }
    let Ok(text) = table::read() else { return };
    let shared = front_end.place(SHARED.into());
    let links = existing.iter().flat_map(|found| &found.mounted);
    let used: HashSet<BString> = links
        .filter_map(|mount| mount.link.as_ref())
        .map(|to| front_end.place(to.as_bstr()))
        .collect();
    let leads_into = |point: &BStr| used.iter().any(|to| piton_path::is_below(to, point));
    let table = Table::parse(&text);
    for mount in table.within(shared.as_bstr()) {
        let point = mount.point.clone().into_owned();
        if leads_into(point.as_bstr()) {
            continue;
        }
        let sweeping = std::thread::Builder::new().name("sweep".into());
        let begun = sweeping.spawn(move || {
            let path = as_path(point.as_bstr());
            let flags = rustix::mount::UnmountFlags::NOFOLLOW;
            match rustix::mount::unmount(path, flags) {
                Ok(()) => drop(std::fs::remove_dir(path)),
                Err(error) => tracing::warn!(%point, %error, "no key leads there, and it stays"),
            }
        });
        if let Err(error) = begun {
            tracing::warn!(%error, "what no key leads to stays mounted");
        }
    }
}
