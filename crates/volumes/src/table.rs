//! What is mounted, in this namespace and in all others, as far as a process lives in them.

use std::collections::HashSet;
use std::fs::File;
use std::io::{BufReader, Read};
use std::path::Path;

use bstr::{BString, ByteSlice};
use piton_mountinfo::Mount;
use piton_process::{about, everybody};

use crate::limits;
use crate::turn::Turn;

/// One line of a mount table.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Mounted {
    /// The kernel's number of it.
    pub(crate) id: u64,
    /// Device number of its file system, major and minor.
    pub(crate) device: (u32, u32),
    /// What part of its file system is mounted.
    pub(crate) root: BString,
    /// Where.
    pub(crate) point: BString,
    /// File system type.
    pub(crate) fstype: BString,
    /// Its source, as text.
    pub(crate) source: BString,
    /// The file system's options, as text.
    pub(crate) options: BString,
}

impl Mounted {
    /// Whether its file system has this option.
    pub(crate) fn has(&self, option: &str) -> bool {
        self.options
            .split_str(",")
            .any(|word| word == option.as_bytes())
    }
}

/// This process's own mounts.
pub(crate) fn own() -> Vec<Mounted> {
    read(Path::new("/proc/self/mountinfo"))
}

/// This process's own mount of this number. The table is read as far as it stands, since the kernel
/// takes its time for each line; what has been mounted long ago stands before what came of it.
pub(crate) fn own_with(id: u64) -> Option<Mounted> {
    let file = File::open("/proc/self/mountinfo").ok()?;
    // Little at a time: the kernel writes lines until what was asked for is full.
    let mut table = BufReader::with_capacity(1 << 10, file.take(limits::MOUNT_TABLE as u64));
    let mut line = Vec::new();
    while std::io::BufRead::read_until(&mut table, b'\n', &mut line).ok()? > 0 {
        let found = parse(line.trim_end_with(|end| end == '\n'));
        if let Some(mount) = found.filter(|mount| mount.id == id) {
            return Some(mount);
        }
        line.clear();
    }
    None
}

/// Where a file system is mounted here: of several mounts the one that shows most of it, for what is
/// bound elsewhere is a part.
pub(crate) fn point_of(is_it: impl Fn(&Mounted) -> bool) -> Option<BString> {
    widest(own().into_iter().filter(is_it))
}

fn widest(mounts: impl Iterator<Item = Mounted>) -> Option<BString> {
    mounts
        .min_by_key(|mount| mount.root.len())
        .map(|mount| mount.point)
}

/// The mounts of all namespaces in which a process lives; those of a namespace once.
pub(crate) fn everywhere(turn: Turn<'_>) -> Vec<Mounted> {
    let mut seen = HashSet::new();
    let mut found = Vec::new();
    for pid in everybody().into_iter().flatten().take(limits::PROCESSES) {
        if turn.check("the mount tables".into()).is_err() {
            break;
        }
        let Some(namespace) = about::namespace(pid.as_raw_pid().unsigned_abs()) else {
            continue;
        };
        if seen.insert(namespace) {
            found.extend(read(format!("/proc/{pid}/mountinfo").as_ref()));
        }
    }
    found
}

fn read(path: &Path) -> Vec<Mounted> {
    let mut text = Vec::new();
    if let Ok(file) = File::open(path) {
        // A table that cannot be read to its end is used as far as it goes.
        let _ = file.take(limits::MOUNT_TABLE as u64).read_to_end(&mut text);
    }
    text.lines().filter_map(parse).collect()
}

fn parse(line: &[u8]) -> Option<Mounted> {
    let mount = Mount::parse(line)?;
    Some(Mounted {
        id: mount.id,
        device: mount.device,
        root: mount.root.into_owned(),
        point: mount.point.into_owned(),
        fstype: mount.fstype.into_owned(),
        source: mount.source.into_owned(),
        options: mount.super_options.into_owned(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_is_read() {
        let line =
            b"36 35 98:0 /mnt1/a\\040b /mnt2 rw,noatime master:1 shared:7 - ext3 /dev/root rw";
        assert_eq!(
            parse(line),
            Some(Mounted {
                id: 36,
                device: (98, 0),
                root: "/mnt1/a b".into(),
                point: "/mnt2".into(),
                fstype: "ext3".into(),
                source: "/dev/root".into(),
                options: "rw".into(),
            })
        );
        for bad in ["", "36 35 98:0 /", "36 35 98 / /mnt rw - ext3 a rw"] {
            assert_eq!(parse(bad.as_bytes()), None);
        }
    }

    #[test]
    fn of_the_mounts_of_a_file_system_the_whole_counts() {
        let table = b"1 2 98:0 /pub /pub rw - ext4 a rw\n\
                      1 2 98:0 / /srv/private rw - ext4 a rw\n\
                      1 2 98:0 / /srv/again rw - ext4 a rw";
        let mounts = table.lines().filter_map(parse);
        assert_eq!(widest(mounts), Some("/srv/private".into()));
        assert_eq!(widest([].into_iter()), None);
    }

    #[test]
    fn our_own_table_has_a_root_and_is_among_all() {
        let own = own();
        let root = own.iter().find(|mount| mount.point == "/");
        assert!(root.is_some());
        for mount in &own {
            assert_eq!(own_with(mount.id).as_ref(), Some(mount));
        }
        assert_eq!(own_with(u64::MAX), None);
        let all = everywhere(Turn::within(std::time::Duration::from_secs(60)));
        assert!(all.contains(root.unwrap()));
    }
}
