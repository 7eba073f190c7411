//! Whether a snapshot with a path is in use: mounted, in whatever namespace, or open.
//!
//! The kernel removes a subvolume or a file that somebody uses without asking.

use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::path::PathBuf;

use bstr::{BString, ByteSlice};
use piton_path::{is_below, is_within};
use piton_process::{about, everybody};
use rustix::process::Pid;

use crate::place::Place;
use crate::table::{self, Mounted};
use crate::turn::Turn;

/// What is in use at one moment.
pub(crate) struct InUse {
    mounts: Vec<Mounted>,
    own: Vec<Mounted>,
    /// Paths that processes have open, with who.
    open: Vec<(BString, String)>,
}

impl InUse {
    /// Looks at the mounts of all namespaces. Quick: what is open takes a look at every descriptor
    /// of every process.
    pub(crate) fn mounted(turn: Turn<'_>) -> Self {
        Self {
            mounts: table::everywhere(turn),
            own: table::own(),
            open: Vec::new(),
        }
    }

    /// Looks everywhere for what lies in `place`.
    pub(crate) fn in_place(place: &Place, turn: Turn<'_>) -> Self {
        Self {
            open: open_below(&place.path, turn),
            ..Self::mounted(turn)
        }
    }

    /// By whom what is called `text` in `place` is used; none if by nobody.
    pub(crate) fn by(&self, place: &Place, text: &str) -> Option<String> {
        let path = place.at(text);
        if let Some((device, root)) = self.in_file_system(&path) {
            let used = self
                .mounts
                .iter()
                .find(|mount| mount.device == device && is_within(&mount.root, &root));
            if let Some(mount) = used {
                return Some(format!("as a mount at {}", mount.point));
            }
        }
        let open = self.open.iter().find(|(open, _)| is_within(open, &path));
        open.map(|(_, who)| format!("by {who}"))
    }

    /// The device of the file system that a path lies in, and its path there.
    fn in_file_system(&self, path: &BString) -> Option<((u32, u32), BString)> {
        // Of mounts that cover one another the last counts.
        let mount = self
            .own
            .iter()
            .filter(|mount| is_within(path, &mount.point))
            .max_by_key(|mount| mount.point.len())?;
        let tail = path.strip_prefix(mount.point.as_slice())?;
        let tail = tail.strip_prefix(b"/").unwrap_or(tail);
        let root = mount.root.strip_suffix(b"/").unwrap_or(&mount.root);
        let root = [root, b"/", tail].concat();
        Some((mount.device, root.into()))
    }
}

/// The paths below `place` that processes have open, are in, or run. Links of /proc are read, never
/// followed.
fn open_below(place: &BString, turn: Turn<'_>) -> Vec<(BString, String)> {
    let mut found = Vec::new();
    let all = everybody().into_iter().flatten();
    for pid in all.take(crate::limits::PROCESSES) {
        if turn.check(place.as_bstr()).is_err() {
            break;
        }
        let process = PathBuf::from(format!("/proc/{pid}"));
        let fds = fs::read_dir(process.join("fd")).into_iter().flatten();
        let fds = fds.flatten().map(|entry| entry.path());
        let others = ["cwd", "root", "exe"].map(|link| process.join(link));
        for link in others.into_iter().chain(fds) {
            let Ok(target) = fs::read_link(&link) else {
                continue;
            };
            let target = BString::from(target.as_os_str().as_bytes());
            if is_below(&target, place) {
                found.push((target, who(pid)));
            }
        }
    }
    found
}

fn who(process: Pid) -> String {
    let name = about::name(process.as_raw_pid().unsigned_abs()).unwrap_or_default();
    let name = name.to_string();
    format!("process {process} ({})", name.escape_debug())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mounted(device: (u32, u32), root: &str, point: &str) -> Mounted {
        Mounted {
            id: 1,
            device,
            root: root.into(),
            point: point.into(),
            fstype: "btrfs".into(),
            source: "/dev/sda".into(),
            options: "rw".into(),
        }
    }

    #[test]
    fn a_mount_of_it_or_of_a_part_of_it_counts_whatever_the_namespace() {
        let own = vec![
            mounted((0, 1), "/", "/"),
            mounted((0, 9), "/@data", "/data"),
        ];
        let place = |fd| Place {
            fd,
            path: "/data/.piton-snapshots".into(),
        };
        let place = place(std::fs::File::open("/").unwrap().into());
        let by = |root: &str| {
            let mut mounts = own.clone();
            mounts.push(mounted((0, 9), root, "/elsewhere"));
            let in_use = InUse {
                mounts,
                own: own.clone(),
                open: Vec::new(),
            };
            in_use.by(&place, "a")
        };
        let at = Some("as a mount at /elsewhere".to_owned());
        assert_eq!(by("/@data/.piton-snapshots/a"), at);
        assert_eq!(by("/@data/.piton-snapshots/a/b"), at);
        assert_eq!(by("/@data/.piton-snapshots/ab"), None);
        assert_eq!(by("/@data/.piton-snapshots"), None);
        assert_eq!(by("/.piton-snapshots/a"), None);
    }
}
