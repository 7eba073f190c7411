//! Who serves a FUSE file system: the kernel tells nobody when its server dies, until somebody looks.

use std::ffi::OsStr;
use std::fs;
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::time::Instant;

use bstr::{BStr, BString, ByteSlice};
use piton_process::{Stat, await_end, everybody, has_open};
use rustix::io::Errno;
use rustix::process::{Pid, PidfdFlags, Signal, pidfd_open, pidfd_send_signal};

use crate::limits;
use crate::table::{self, Table};

/// The servers of the FUSE file systems at and below a place.
#[derive(Debug, Default)]
pub struct Servers {
    mounts: Vec<Mounted>,
    /// One was found dead.
    dead: bool,
}

/// One of the file systems.
#[derive(Debug)]
struct Mounted {
    place: BString,
    /// The number of its device, which the kernel calls the connection by.
    device: (u32, u32),
    /// None where no process says that it serves this place.
    process: Option<(Pid, OwnedFd)>,
}

/// What servers have done so far, in the kernel's words: while this stays the same they do nothing.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Activity(Vec<u8>);

impl Servers {
    /// Looks for them; asks no file system.
    pub fn of(place: &BStr) -> Self {
        let text = table::read().unwrap_or_default();
        let table = Table::parse(&text);
        let fuse = table.within(place).into_iter();
        let fuse = fuse.filter(|mount| mount.fstype.starts_with(b"fuse."));
        let mounts = fuse.map(|mount| Mounted {
            place: mount.point.clone().into_owned(),
            device: mount.device,
            process: process_for(mount.point.as_bstr()),
        });
        Self {
            mounts: mounts.collect(),
            dead: false,
        }
    }

    /// Whether there is no FUSE file system.
    pub fn is_empty(&self) -> bool {
        self.mounts.is_empty()
    }

    /// Where they are mounted.
    pub fn places(&self) -> impl Iterator<Item = &BStr> {
        self.mounts.iter().map(|mount| mount.place.as_bstr())
    }

    /// Whether the process of each is known.
    pub fn are_known(&self) -> bool {
        self.mounts.iter().all(|mount| mount.process.is_some())
    }

    /// Whether all of them live, as far as they are known; never blocks.
    pub fn live(&self) -> bool {
        let now = Instant::now();
        !self.dead && !self.processes().any(|(_, process)| await_end(process, now))
    }

    /// One of them was found dead.
    pub fn died(&mut self) {
        self.dead = true;
    }

    /// What they have done so far.
    pub fn activity(&self) -> Activity {
        let mut all = Vec::new();
        for (pid, _) in self.processes() {
            // Bytes read and written, in all threads; and how long they have run.
            all.extend(fs::read(format!("/proc/{pid}/io")).unwrap_or_default());
            let ticks = Stat::of(*pid).map_or(0, |stat| stat.ticks);
            all.extend(ticks.to_le_bytes());
        }
        Activity(all)
    }

    /// Kills them, and has the kernel answer all who wait for them with an error, even where one
    /// cannot die.
    pub fn kill(&self) {
        for (_, process) in self.processes() {
            // It has died by itself.
            let _ = pidfd_send_signal(process, Signal::KILL);
        }
        let text = table::read().unwrap_or_default();
        let table = Table::parse(&text);
        for mount in &self.mounts {
            let now = table.at(mount.place.as_bstr()).map(|now| now.device);
            // Another file system may have the number by now.
            if now == Some(mount.device) {
                let (_, minor) = mount.device;
                // Where this is not mounted, the death of the server does the same.
                let _ = fs::write(format!("/sys/fs/fuse/connections/{minor}/abort"), "1");
            }
        }
    }

    fn processes(&self) -> impl Iterator<Item = &(Pid, OwnedFd)> {
        self.mounts
            .iter()
            .filter_map(|mount| mount.process.as_ref())
    }
}

/// Whether somebody serves what is mounted at a place. Blocks until that has answered, if need be for
/// ever.
pub(crate) fn is_served(place: &BStr) -> bool {
    let path = Path::new(OsStr::from_bytes(place));
    // Some helpers answer one of them by themselves, without asking a server.
    let asked = [
        rustix::fs::statfs(path).map(drop),
        rustix::fs::lstat(path).map(drop),
    ];
    let dead =
        |asked: &rustix::io::Result<()>| matches!(asked, Err(Errno::NOTCONN | Errno::CONNABORTED));
    !asked.iter().any(dead)
}

/// Whether the program that served it is gone. Blocks until it has answered otherwise.
pub(crate) fn is_dead(place: &BStr) -> bool {
    let asked = rustix::fs::statfs(Path::new(OsStr::from_bytes(place)));
    matches!(asked, Err(Errno::NOTCONN))
}

/// A process of this user's that has the place in its command line, and FUSE's device open.
fn process_for(place: &BStr) -> Option<(Pid, OwnedFd)> {
    let own = rustix::process::geteuid().as_raw();
    let is_ours = |pid: &Pid| fs::metadata(format!("/proc/{pid}")).is_ok_and(|it| it.uid() == own);
    let mut ours = everybody().ok()?.filter(is_ours);
    ours.find_map(|pid| {
        let process = pidfd_open(pid, PidfdFlags::empty()).ok()?;
        serves(pid, place).then_some((pid, process))
    })
}

fn serves(process: Pid, place: &BStr) -> bool {
    use std::io::Read;
    let mut line = Vec::new();
    let file = fs::File::open(format!("/proc/{process}/cmdline"));
    let read = file.and_then(|file| file.take(limits::COMMAND_LINE).read_to_end(&mut line));
    let names_it = read.is_ok()
        && line
            .split(|byte| *byte == 0)
            .any(|word| word == place.as_bytes());
    names_it && has_open(process, "/dev/fuse".as_ref(), limits::DESCRIPTORS_LOOKED_AT)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn where_nothing_is_mounted_nobody_is_dead() {
        let servers = Servers::of("/not-there".into());
        assert!(servers.live() && servers.is_empty());
    }

    /// As if `cat` served something.
    fn cat() -> (std::process::Child, Servers) {
        let child = std::process::Command::new("cat")
            .stdin(std::process::Stdio::piped())
            .stdout(std::process::Stdio::piped())
            .spawn()
            .unwrap();
        let pid = Pid::from_child(&child);
        let process = pidfd_open(pid, PidfdFlags::empty()).unwrap();
        let mount = Mounted {
            place: "/not-there".into(),
            device: (0, 0),
            process: Some((pid, process)),
        };
        let servers = Servers {
            mounts: vec![mount],
            dead: false,
        };
        (child, servers)
    }

    #[test]
    fn a_process_that_has_ended_is_noticed() {
        let (mut child, mut servers) = cat();
        assert!(servers.live() && servers.are_known());
        servers.died();
        assert!(!servers.live());
        servers.dead = false;
        drop(child.stdin.take());
        child.wait().unwrap();
        assert!(!servers.live());
    }

    #[test]
    fn it_is_seen_whether_a_process_does_something_and_it_can_be_killed() {
        use std::io::{Read, Write};
        use std::os::unix::process::ExitStatusExt;
        let (mut child, servers) = cat();
        let (mut input, mut output) = (child.stdin.take().unwrap(), child.stdout.take().unwrap());
        let mut byte = [0];
        let before = servers.activity();
        input.write_all(b"x").unwrap();
        output.read_exact(&mut byte).unwrap();
        assert_ne!(servers.activity(), before);
        servers.kill();
        assert_eq!(child.wait().unwrap().signal(), Some(9));
    }

    #[test]
    fn whoever_only_names_a_place_does_not_serve_it() {
        let own = std::env::args().next().unwrap();
        assert!(!serves(rustix::process::getpid(), own.as_str().into()));
    }
}
