//! Who keeps a mount busy.
//!
//! Everything is learnt from /proc without touching the mount, which may be a dead server's: links
//! are read, never followed, and nothing is looked up below the mount point. Descriptors are known
//! by the mount's number (`mnt_id` in fdinfo), the rest by path, in the process's own mount
//! namespace. What the kernel itself holds (an NFS server's exports, swap) is not seen here.

use std::collections::HashMap;
use std::fs;
use std::io::Read;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use bstr::{BStr, BString, ByteSlice};
use rustix::io::Errno;

use crate::limits;
use crate::table::{self, Table, is_within};

/// One use of a mount.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Holder {
    /// The process; none for what is not a process's.
    pub process: Option<Process>,
    /// What kind of use.
    pub how: How,
    /// The path that is used.
    pub path: BString,
}

/// A process that uses a mount.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Process {
    /// Its number.
    pub pid: i32,
    /// Its name, cut to 15 bytes by the kernel.
    pub name: BString,
    /// Its effective user.
    pub uid: u32,
    /// It lives in another mount namespace, so it uses a copy of the mount. That keeps nothing
    /// busy here, but it is why the file system stays in use.
    pub elsewhere: bool,
}

/// How a mount is used.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum How {
    /// The current directory of a process.
    Cwd,
    /// The root directory of a process.
    Root,
    /// The program it runs.
    Program,
    /// An open file or directory.
    Descriptor,
    /// A file mapped into memory.
    Map,
    /// A file that a loop device shows.
    Loop,
    /// Another mount hangs on it.
    Mount,
}

/// A list of holders.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Holders {
    /// Uses found, nested mounts first, then by process.
    pub found: Vec<Holder>,
    /// There are more than [`limits::HOLDERS`].
    pub more: bool,
}

/// Who uses what is mounted at `target`, this process's own uses too. Empty when nothing is
/// mounted there.
///
/// # Errors
/// `/proc` cannot be read.
pub fn holders(target: &BStr) -> Result<Holders, Errno> {
    let text = table::read()?;
    let table = Table::parse(&text);
    let Some(mount) = table.at(target) else {
        return Ok(Holders::default());
    };
    let mut scan = Scan {
        identity: Identity {
            device: mount.device,
            root: mount.root.clone().into_owned(),
        },
        ours: namespace_of(Path::new("/proc/self")),
        views: HashMap::new(),
        out: Holders::default(),
    };
    for child in table.children(mount.id) {
        scan.add(None, How::Mount, &child.point);
    }
    scan.loop_devices(target);
    let view = View {
        ids: vec![mount.id],
        points: vec![target.to_owned()],
        nested: Vec::new(),
    };
    let nested = table
        .children(mount.id)
        .map(|child| child.point.clone().into_owned());
    let view = View {
        nested: nested.collect(),
        ..view
    };
    let ours = scan.ours.clone();
    scan.views.insert(ours, view);
    scan.processes()?;
    Ok(scan.out)
}

/// What makes a mount in another namespace a copy of ours.
#[derive(Debug)]
struct Identity {
    device: (u32, u32),
    root: BString,
}

/// The mount as one mount namespace shows it.
#[derive(Clone, Debug, Default)]
struct View {
    ids: Vec<u64>,
    points: Vec<BString>,
    /// Mounts on it: what lies in them is their use, not its.
    nested: Vec<BString>,
}

impl View {
    fn of(table: &Table<'_>, identity: &Identity) -> Self {
        let same = |m: &&table::Mount<'_>| m.device == identity.device && *m.root == identity.root;
        let mut view = Self::default();
        for mount in table.mounts().iter().filter(same) {
            view.ids.push(mount.id);
            view.points.push(mount.point.clone().into_owned());
            let nested = table
                .children(mount.id)
                .map(|child| child.point.clone().into_owned());
            view.nested.extend(nested);
        }
        view
    }

    fn holds(&self, path: &BStr) -> bool {
        let within = |tops: &[BString]| tops.iter().any(|top| is_within(path, top.as_bstr()));
        within(&self.points) && !within(&self.nested)
    }
}

/// The text of the link /proc/PID/ns/mnt.
type Namespace = Vec<u8>;

struct Scan {
    identity: Identity,
    ours: Namespace,
    views: HashMap<Namespace, View>,
    out: Holders,
}

impl Scan {
    fn full(&self) -> bool {
        self.out.found.len() >= limits::HOLDERS
    }

    fn add(&mut self, process: Option<&Process>, how: How, path: &BStr) {
        if self.full() {
            self.out.more = true;
        } else {
            let process = process.cloned();
            self.out.found.push(Holder {
                process,
                how,
                path: path.to_owned(),
            });
        }
    }

    fn loop_devices(&mut self, target: &BStr) {
        for device in fs::read_dir("/sys/block").into_iter().flatten().flatten() {
            let file = read_small(&device.path().join("loop/backing_file"));
            let file = file.trim_end_with(|c| c == '\n').as_bstr();
            if !file.is_empty() && is_within(file, target) {
                self.add(None, How::Loop, file);
            }
        }
    }

    fn processes(&mut self) -> Result<(), Errno> {
        let entries = fs::read_dir("/proc")
            .map_err(|error| Errno::from_io_error(&error).unwrap_or(Errno::IO))?;
        let mut pids: Vec<i32> = entries
            .flatten()
            .filter_map(|entry| entry.file_name().to_str()?.parse().ok())
            .collect();
        pids.sort_unstable();
        for pid in pids {
            self.process(pid);
            if self.full() && self.out.more {
                break;
            }
        }
        Ok(())
    }

    /// A process may end while it is looked at: what cannot be read any more is no use.
    fn process(&mut self, pid: i32) {
        let base = PathBuf::from(format!("/proc/{pid}"));
        let namespace = namespace_of(&base);
        let Some(view) = self.view(&namespace, &base) else {
            return;
        };
        if view.points.is_empty() {
            return;
        }
        let mut uses = Vec::new();
        for (link, how) in [
            ("cwd", How::Cwd),
            ("root", How::Root),
            ("exe", How::Program),
        ] {
            let path = link_text(&base.join(link));
            if view.holds(path.as_bstr()) {
                uses.push((how, path));
            }
        }
        descriptors(&base, &view, &mut uses);
        maps(&base, &view, &mut uses);
        if uses.is_empty() {
            return;
        }
        let process = Process {
            pid,
            name: read_small(&base.join("comm")).trim_ascii_end().into(),
            uid: fs::metadata(&base).map_or(u32::MAX, |found| found.uid()),
            elsewhere: namespace != self.ours,
        };
        for (how, path) in uses {
            self.add(Some(&process), how, path.as_bstr());
        }
    }

    fn view(&mut self, namespace: &Namespace, base: &Path) -> Option<View> {
        if namespace.is_empty() {
            return None; // A kernel thread, or a process that has ended.
        }
        if let Some(view) = self.views.get(namespace) {
            return Some(view.clone());
        }
        if self.views.len() > limits::NAMESPACES {
            self.out.more = true;
            return None;
        }
        let text = table::read_from(&base.join("mountinfo")).ok()?;
        let view = View::of(&Table::parse(&text), &self.identity);
        self.views.insert(namespace.clone(), view.clone());
        Some(view)
    }
}

type Uses = Vec<(How, BString)>;

fn descriptors(base: &Path, view: &View, uses: &mut Uses) {
    let entries = fs::read_dir(base.join("fdinfo"))
        .into_iter()
        .flatten()
        .flatten();
    for entry in entries.take(limits::DESCRIPTORS) {
        let text = read_small(&entry.path());
        let id = text.lines().find_map(|line| line.strip_prefix(b"mnt_id:"));
        let id = id.and_then(|id| id.trim_ascii().to_str().ok()?.parse::<u64>().ok());
        if id.is_some_and(|id| view.ids.contains(&id)) {
            let path = link_text(&base.join("fd").join(entry.file_name()));
            uses.push((How::Descriptor, path));
        }
    }
}

/// Mapped files, each once: `address perms offset dev inode   path`.
fn maps(base: &Path, view: &View, uses: &mut Uses) {
    let mut text = Vec::new();
    let Ok(file) = fs::File::open(base.join("maps")) else {
        return;
    };
    if file
        .take(limits::PROC_FILE as u64)
        .read_to_end(&mut text)
        .is_err()
    {
        return;
    }
    let program = uses
        .iter()
        .find(|(how, _)| *how == How::Program)
        .map(|(_, path)| path.clone());
    let mut last: &[u8] = b"";
    for line in text.lines() {
        let Some(start) = line.find_byte(b'/') else {
            continue;
        };
        let path = &line[start..];
        if path == last || program.as_ref().is_some_and(|program| program == path) {
            continue;
        }
        last = path;
        if view.holds(path.as_bstr()) && !uses.iter().any(|u| u.0 == How::Map && u.1 == path) {
            uses.push((How::Map, path.into()));
        }
    }
}

fn namespace_of(base: &Path) -> Namespace {
    link_text(&base.join("ns/mnt")).into()
}

/// What a link of /proc says; empty if it cannot be read.
fn link_text(path: &Path) -> BString {
    fs::read_link(path).map_or_else(
        |_| BString::default(),
        |to| to.as_os_str().as_bytes().into(),
    )
}

/// The beginning of a small file; empty if it cannot be read.
fn read_small(path: &Path) -> Vec<u8> {
    let mut text = Vec::new();
    if let Ok(file) = fs::File::open(path) {
        let _ = file.take(8192).read_to_end(&mut text);
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_lies_in_a_nested_mount_is_not_a_use_of_the_outer_one() {
        let view = View {
            ids: vec![1],
            points: vec!["/home/ann".into()],
            nested: vec!["/home/ann/docs".into()],
        };
        assert!(view.holds("/home/ann".into()));
        assert!(view.holds("/home/ann/x (deleted)".into()));
        assert!(!view.holds("/home/ann/docs/x".into()));
        assert!(!view.holds("/home/anna".into()));
    }

    #[test]
    fn copies_in_another_table_are_known_by_device_and_root() {
        let text = b"1 1 0:9 / / rw - t s o\n\
            5 1 0:26 / /x rw - tmpfs a rw\n\
            6 1 0:26 /sub /y rw - tmpfs a rw\n\
            7 5 0:27 / /x/n rw - tmpfs a rw\n";
        let identity = Identity {
            device: (0, 26),
            root: "/".into(),
        };
        let view = View::of(&Table::parse(text), &identity);
        assert_eq!(
            (view.ids, view.points),
            (vec![5], vec![BString::from("/x")])
        );
        assert_eq!(view.nested, [BString::from("/x/n")]);
    }
}
