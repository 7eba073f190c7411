//! The whole table: what lies on what, and what hides it.

use std::collections::HashMap;

use bstr::{BStr, ByteSlice};

use crate::line::Mount;

/// The mounts of one mount namespace, in the kernel's order.
#[derive(Clone, Debug, Default)]
pub struct Table<'a> {
    mounts: Vec<Mount<'a>>,
    by_id: HashMap<u64, usize>,
    /// For each mount that another one covers entirely, which.
    covered_by: HashMap<u64, u64>,
    /// How many lines could not be read.
    pub unreadable: usize,
}

impl<'a> Table<'a> {
    /// Reads the text of a table. A bad line costs that line.
    pub fn parse(text: &'a [u8]) -> Self {
        let mut table = Self::default();
        for line in text.lines() {
            match Mount::parse(line) {
                Some(mount) => table.mounts.push(mount),
                None => table.unreadable += usize::from(!line.is_empty()),
            }
        }
        let ids = table.mounts.iter().enumerate();
        table.by_id = ids.map(|(index, mount)| (mount.id, index)).collect();
        for mount in &table.mounts {
            let parent = table
                .by_id
                .get(&mount.parent)
                .map(|index| &table.mounts[*index]);
            if parent.is_some_and(|parent| parent.id != mount.id && parent.point == mount.point) {
                table.covered_by.insert(mount.parent, mount.id);
            }
        }
        table
    }

    /// All mounts.
    pub fn mounts(&self) -> &[Mount<'a>] {
        &self.mounts
    }

    /// The mount of a number.
    pub fn by_id(&self, id: u64) -> Option<&Mount<'a>> {
        self.by_id.get(&id).map(|index| &self.mounts[*index])
    }

    /// What one sees at `path`, if it is a mount point: the topmost mount there that nothing
    /// hides.
    pub fn at(&self, path: &BStr) -> Option<&Mount<'a>> {
        let here = self.mounts.iter().filter(|mount| &*mount.point == path);
        here.filter(|mount| !self.covered_by.contains_key(&mount.id))
            .find(|mount| self.is_visible(mount))
    }

    /// The mounts at and below `path`, hidden ones too, each after the one it is in: unmount them
    /// from the back.
    pub fn within(&self, path: &BStr) -> Vec<&Mount<'a>> {
        let mut found: Vec<_> = self
            .mounts
            .iter()
            .filter(|mount| piton_path::is_within(&*mount.point, path))
            .collect();
        found.sort_by_key(|mount| self.depth(mount));
        found
    }

    /// The mounts that hang directly on the mount `id`, itself excepted.
    pub fn children(&self, id: u64) -> impl Iterator<Item = &Mount<'a>> {
        self.mounts
            .iter()
            .filter(move |mount| mount.parent == id && mount.id != id)
    }

    /// No mount above it is covered by one that it does not hang on.
    fn is_visible(&self, mount: &Mount<'a>) -> bool {
        let mut child = mount;
        for _ in 0..self.mounts.len() {
            let Some(parent) = self
                .by_id(child.parent)
                .filter(|parent| parent.id != child.id)
            else {
                return true;
            };
            if self
                .covered_by
                .get(&parent.id)
                .is_some_and(|cover| *cover != child.id)
            {
                return false;
            }
            child = parent;
        }
        false
    }

    /// How many mounts it hangs on; the table's length for one in a circle.
    fn depth(&self, mount: &Mount<'a>) -> usize {
        let mut mount = mount;
        for depth in 0..self.mounts.len() {
            match self.by_id(mount.parent) {
                Some(parent) if parent.id != mount.id => mount = parent,
                _ => return depth,
            }
        }
        self.mounts.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEXT: &[u8] = b"\
22 1 8:1 / / rw,relatime shared:1 - ext4 /dev/root rw,errors=remount-ro
30 22 0:25 / /home rw shared:2 master:1 propagate_from:3 - autofs /etc/auto.home rw,fd=6
31 30 0:26 /sub /home/ann rw,nosuid - tmpfs a\\040b rw,size=1k
32 22 0:27 / /a\\040b\\134c\\011 ro unbindable - tmpfs none rw
40 22 0:40 / /direct rw - autofs auto.direct rw
41 40 0:41 / /direct rw - nfs4 h:/x rw
42 41 0:42 / /direct/off rw - autofs auto.direct rw
50 31 0:50 / /home/ann/deep rw - tmpfs  rw
60 30 0:60 / /home rw - tmpfs cover rw
";

    fn table() -> Table<'static> {
        Table::parse(TEXT)
    }

    fn at(path: &str) -> Option<u64> {
        table().at(path.into()).map(|mount| mount.id)
    }

    #[test]
    fn every_field_is_read() {
        let table = table();
        assert_eq!((table.mounts().len(), table.unreadable), (9, 0));
        let home = table.by_id(30).unwrap();
        assert_eq!((home.parent, home.device), (22, (0, 25)));
        assert_eq!(
            (home.shared, home.master, home.unbindable),
            (Some(2), Some(1), false)
        );
        assert_eq!(&*home.super_options, "rw,fd=6");
        let ann = table.by_id(31).unwrap();
        assert_eq!(
            (&*ann.root, ann.options),
            ("/sub".into(), "rw,nosuid".into())
        );
        assert_eq!((&*ann.fstype, &*ann.source), ("tmpfs".into(), "a b".into()));
        let odd = table.by_id(32).unwrap();
        assert_eq!(&*odd.point, "/a b\\c\t");
        assert!(odd.unbindable);
        assert_eq!(&*table.by_id(50).unwrap().source, "");
    }

    #[test]
    fn the_topmost_visible_mount_is_at_a_path() {
        assert_eq!(at("/direct"), Some(41));
        assert_eq!(at("/direct/off"), Some(42));
        assert_eq!(at("/"), Some(22));
        assert_eq!(at("/home"), Some(60));
        assert_eq!(at("/home/ann"), None, "hidden by the mount on /home");
        assert_eq!(at("/hom"), None);
        assert_eq!(at("/home/"), None);
    }

    #[test]
    fn mounts_below_a_path_come_parents_first() {
        let ids = |path: &str| {
            table()
                .within(path.into())
                .iter()
                .map(|mount| mount.id)
                .collect::<Vec<_>>()
        };
        assert_eq!(ids("/direct"), [40, 41, 42]);
        assert_eq!(ids("/home"), [30, 31, 60, 50]);
        assert_eq!(ids("/home/an"), [] as [u64; 0]);
        assert_eq!(table().children(22).count(), 3);
    }

    #[test]
    fn hostile_lines_cost_only_themselves() {
        for line in [
            &b""[..],
            b"\n",
            b" ",
            b"1 2 3",
            b"1 2 8:1 / / rw",
            b"1 2 8:1 / / rw -",
            b"1 2 8:1 / / rw - t",
            b"x 2 8:1 / / rw - t s o",
            b"1 2 81 / / rw - t s o",
            b"1 2 8:1 / / rw shared:1 t s o",
            b"99999999999999999999999 2 8:1 / / rw - t s o",
            b"\xff\xfe\x00",
        ] {
            let text = [line, b"\n7 7 0:1 / / rw - t s o\n"].concat();
            let table = Table::parse(&text);
            assert_eq!(table.mounts().len(), 1, "{:?}", line.as_bstr());
            assert!(table.at("/".into()).is_some());
        }
    }

    #[test]
    fn circles_among_parents_end() {
        let table = Table::parse(b"1 2 0:1 / /a rw - t s o\n2 1 0:1 / /a/b rw - t s o\n");
        assert!(table.at("/a".into()).is_none());
        assert_eq!(table.within("/a".into()).len(), 2);
    }
}
