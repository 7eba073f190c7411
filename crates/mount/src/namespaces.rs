//! Mount namespaces other than this process's: whether a mount made here reaches them.

use std::path::Path;

use bstr::{BStr, ByteSlice};
use piton_process::about::{namespace, namespace_of};

use crate::table::{self, Mount, Table};

/// The mount namespace of process `pid`, if what is mounted at `target` here is missing there.
///
/// That can be told only where the namespace has a copy of the trigger that `target` is in:
/// otherwise the process came another way, and this is no matter of namespaces.
pub fn hidden_from(pid: u32, target: &BStr) -> Option<u64> {
    let theirs = namespace(pid)?;
    if theirs == namespace_of(Path::new("/proc/self"))? {
        return None;
    }
    let here = table::read().ok()?;
    let there = table::read_from(Path::new(&format!("/proc/{pid}/mountinfo"))).ok()?;
    lacks(&Table::parse(&here), &Table::parse(&there), target).then_some(theirs)
}

/// Whether `there` has the trigger that the mount at `target` hangs on, but not the mount.
fn lacks(here: &Table<'_>, there: &Table<'_>, target: &BStr) -> bool {
    let Some((mount, trigger)) = here.at(target).and_then(|mount| {
        let trigger = here.by_id(mount.parent)?;
        (*trigger.fstype == "autofs").then_some((mount, trigger))
    }) else {
        return false;
    };
    let Some(tail) = mount.point.strip_prefix(trigger.point.as_bytes()) else {
        return false;
    };
    let copy = |other: &&Mount<'_>| other.device == trigger.device;
    let mut copies = there.mounts().iter().filter(copy).peekable();
    if copies.peek().is_none() {
        return false;
    }
    !copies.any(|copy| {
        there.children(copy.id).any(|child| {
            let below = child.point.strip_prefix(copy.point.as_bytes());
            child.device == mount.device && below == Some(tail)
        })
    })
}

/// Whether mounts made by this process stay among itself: its mount namespace is not that of
/// process 1, and nothing there receives mounts from this one's root. False when /proc does not
/// say.
pub fn is_cut_off() -> bool {
    let own = namespace_of(Path::new("/proc/self"));
    let first = namespace(1);
    if own.is_none() || first.is_none() || own == first {
        return false;
    }
    let read = |path: &str| table::read_from(Path::new(path));
    let (Ok(here), Ok(there)) = (read("/proc/self/mountinfo"), read("/proc/1/mountinfo")) else {
        return false;
    };
    !passes_on(&Table::parse(&here), &Table::parse(&there))
}

/// Whether what is mounted on the root of `here` appears in `there`, too.
fn passes_on(here: &Table<'_>, there: &Table<'_>) -> bool {
    let group = here.at("/".into()).and_then(|root| root.shared);
    group.is_some_and(|group| {
        let receives = |mount: &Mount<'_>| [mount.shared, mount.master].contains(&Some(group));
        there.mounts().iter().any(receives)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const HERE: &str = "\
22 1 8:1 / / rw shared:1 - ext4 /dev/root rw
30 22 0:25 / /home rw shared:2 - autofs auto.home rw,indirect
31 30 0:26 /sub /home/ann rw - tmpfs t rw
40 22 0:40 / /direct rw - autofs auto.direct rw,direct
41 40 0:41 / /direct rw - tmpfs d rw
";

    fn lack(there: &str, target: &str) -> bool {
        let (here, there) = (HERE.as_bytes(), there.as_bytes());
        lacks(&Table::parse(here), &Table::parse(there), target.into())
    }

    #[test]
    fn a_copy_of_the_trigger_without_the_mount_lacks_it() {
        let copy = "1 0 8:1 / / rw - ext4 x rw\n2 1 0:25 / /mnt/home rw - autofs a rw\n";
        assert!(lack(copy, "/home/ann"));
        let received = format!("{copy}3 2 0:26 /sub /mnt/home/ann rw - tmpfs t rw\n");
        assert!(!lack(&received, "/home/ann"));
        let another = format!("{copy}3 2 0:26 /sub /mnt/home/bob rw - tmpfs t rw\n");
        assert!(lack(&another, "/home/ann"));
    }

    #[test]
    fn a_direct_mount_lies_on_its_trigger() {
        let copy = "2 1 0:40 / /d rw - autofs a rw\n";
        assert!(lack(copy, "/direct"));
        assert!(!lack(
            &format!("{copy}3 2 0:41 / /d rw - tmpfs d rw\n"),
            "/direct"
        ));
    }

    #[test]
    fn without_the_trigger_nothing_can_be_said() {
        assert!(!lack("1 0 8:1 / / rw - ext4 x rw\n", "/home/ann"));
        assert!(!lack("2 1 0:25 / /home rw - autofs a rw\n", "/home/nobody"));
    }

    #[test]
    fn mounts_pass_on_to_peers_and_slaves_only() {
        let passes = |there: &str| {
            let (here, there) = (HERE.as_bytes(), there.as_bytes());
            passes_on(&Table::parse(here), &Table::parse(there))
        };
        assert!(passes("1 0 8:1 / / rw shared:1 - ext4 x rw\n"));
        assert!(passes("1 0 8:1 / / rw shared:9 master:1 - ext4 x rw\n"));
        assert!(!passes("1 0 8:1 / / rw shared:9 - ext4 x rw\n"));
        assert!(!passes("1 0 8:1 / / rw - ext4 x rw\n"));
    }
}
