//! Who keeps a mount busy.
//!
//! Everything is learnt from /proc without touching the mount, which may be a dead server's: links
//! are read, never followed, and nothing is looked up below the mount point. Descriptors are known
//! by the mount's number (`mnt_id` in fdinfo), the rest by path, in the process's own mount
//! namespace. What the kernel itself holds (an NFS server's exports) and mount namespaces without a
//! process are not seen here.
//!
//! The search has a time limit and a thread of its own: the kernel lists what a process has mapped
//! only when that process is not in the middle of mapping something from a dead server.

use std::collections::HashMap;
use std::fs;
use std::io::Read;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, mpsc};
use std::thread;
use std::time::{Duration, Instant};

use bstr::{BStr, BString, ByteSlice};
use piton_path::is_within;
use piton_process::about::{link_text, namespace_of, read_small};
use piton_process::everybody;
use rustix::io::Errno;
use rustix::process::Pid;

use crate::limits;
use crate::table::{self, Table};

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
    /// A file that memory is swapped to.
    Swap,
    /// Another mount namespace has a copy of it, where the process lives. That keeps nothing busy
    /// here, but the file system stays in use as long as the copy is there.
    Copy,
}

/// A list of holders.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Holders {
    /// Uses found, nested mounts first, then by process.
    pub found: Vec<Holder>,
    /// There are more than [`limits::HOLDERS`].
    pub more: bool,
    /// Not all could be looked at in the time given.
    pub cut: bool,
}

/// Searches under way.
static SEARCHES: AtomicUsize = AtomicUsize::new(0);

/// Who uses what is mounted at `target`, this process's own uses too, as far as it is found within
/// `limit`. Empty when nothing is mounted there.
///
/// # Errors
/// `/proc` cannot be read, or no thread can be had (`EAGAIN`).
pub fn holders(target: &BStr, limit: Duration) -> Result<Holders, Errno> {
    let until = Instant::now() + limit;
    if SEARCHES.fetch_add(1, Ordering::Relaxed) >= limits::SEARCHES {
        SEARCHES.fetch_sub(1, Ordering::Relaxed);
        return Err(Errno::AGAIN);
    }
    let found = Arc::new(Mutex::new(Holders::default()));
    let (sender, receiver) = mpsc::sync_channel(1);
    let (target, out) = (target.to_owned(), found.clone());
    let started = thread::Builder::new()
        .name("holders".into())
        .spawn(move || {
            let result = search(target.as_bstr(), until, &out);
            SEARCHES.fetch_sub(1, Ordering::Relaxed);
            // Nobody waits any more when the time was over.
            let _ = sender.send(result);
        });
    if started.is_err() {
        SEARCHES.fetch_sub(1, Ordering::Relaxed);
        return Err(Errno::AGAIN);
    }
    match receiver.recv_timeout(limit) {
        Ok(result) => result?,
        Err(_) => locked(&found).cut = true,
    }
    let found = locked(&found).clone();
    Ok(found)
}

fn locked(found: &Mutex<Holders>) -> MutexGuard<'_, Holders> {
    found.lock().unwrap_or_else(PoisonError::into_inner)
}

fn search(target: &BStr, until: Instant, out: &Mutex<Holders>) -> Result<(), Errno> {
    let text = table::read()?;
    let table = Table::parse(&text);
    let Some(mount) = table.at(target) else {
        return Ok(());
    };
    let ours = namespace_of(Path::new("/proc/self"));
    let mut scan = Scan {
        identity: Identity {
            device: mount.device,
            root: mount.root.clone().into_owned(),
        },
        ours,
        views: HashMap::new(),
        until,
        out,
    };
    let children = || table.children(mount.id);
    for child in children() {
        scan.add(None, How::Mount, &child.point);
    }
    scan.loop_devices(target);
    scan.swap_files(target);
    if let Some(ours) = ours {
        let nested = children().map(|child| child.point.clone().into_owned());
        let view = View {
            ids: vec![mount.id],
            points: vec![target.to_owned()],
            nested: nested.collect(),
        };
        scan.views.insert(ours, Arc::new(view));
    }
    scan.processes()
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

struct Scan<'s> {
    identity: Identity,
    /// The number of this process's mount namespace.
    ours: Option<u64>,
    views: HashMap<u64, Arc<View>>,
    until: Instant,
    out: &'s Mutex<Holders>,
}

impl Scan<'_> {
    /// Whether nothing more can be found: the list is full, or the time is over.
    fn is_over(&self) -> bool {
        let mut out = locked(self.out);
        out.cut |= Instant::now() >= self.until;
        out.more || out.cut
    }

    fn add(&self, process: Option<&Process>, how: How, path: &BStr) {
        let mut out = locked(self.out);
        if out.found.len() >= limits::HOLDERS {
            out.more = true;
        } else {
            let process = process.cloned();
            out.found.push(Holder {
                process,
                how,
                path: path.to_owned(),
            });
        }
    }

    fn loop_devices(&self, target: &BStr) {
        for device in fs::read_dir("/sys/block").into_iter().flatten().flatten() {
            let file = read_small(&device.path().join("loop/backing_file"));
            let file = file.trim_end_with(|c| c == '\n').as_bstr();
            if !file.is_empty() && is_within(file, target) {
                self.add(None, How::Loop, file);
            }
        }
    }

    /// `name type size used priority`, after a line of headings.
    fn swap_files(&self, target: &BStr) {
        for line in read_small(Path::new("/proc/swaps")).lines().skip(1) {
            let name = line.split(u8::is_ascii_whitespace).next();
            let file = piton_mountinfo::unescaped(name.unwrap_or_default());
            if is_within(&*file, target) {
                self.add(None, How::Swap, &file);
            }
        }
    }

    fn processes(&mut self) -> Result<(), Errno> {
        let all = everybody().map_err(|error| Errno::from_io_error(&error).unwrap_or(Errno::IO))?;
        let mut pids: Vec<i32> = all.map(Pid::as_raw_pid).collect();
        pids.sort_unstable();
        for pid in pids {
            if self.is_over() {
                break;
            }
            self.process(pid);
        }
        Ok(())
    }

    /// A process may end while it is looked at: what cannot be read any more is no use.
    fn process(&mut self, pid: i32) {
        let base = PathBuf::from(format!("/proc/{pid}"));
        let Some(namespace) = namespace_of(&base) else {
            return; // A kernel thread, or a process that has ended.
        };
        let first = !self.views.contains_key(&namespace);
        let Some(view) = self.view(namespace, &base) else {
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
        if first && let Some(point) = view.points.first() {
            uses.push((How::Copy, point.clone()));
        }
        if uses.is_empty() {
            return;
        }
        let process = Process {
            pid,
            name: read_small(&base.join("comm")).trim_ascii_end().into(),
            uid: fs::metadata(&base).map_or(u32::MAX, |found| found.uid()),
            elsewhere: Some(namespace) != self.ours,
        };
        for (how, path) in uses {
            self.add(Some(&process), how, path.as_bstr());
        }
    }

    fn view(&mut self, namespace: u64, base: &Path) -> Option<Arc<View>> {
        if let Some(view) = self.views.get(&namespace) {
            return Some(view.clone());
        }
        if self.views.len() > limits::NAMESPACES {
            locked(self.out).cut = true;
            return None;
        }
        let text = table::read_from(&base.join("mountinfo")).ok()?;
        let view = Arc::new(View::of(&Table::parse(&text), &self.identity));
        self.views.insert(namespace, view.clone());
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
