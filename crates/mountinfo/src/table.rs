//! The mount table as it is now: `/proc/self/mountinfo` (proc_pid_mountinfo(5)), read and
//! understood.
//!
//! Reading it costs the kernel time for every mount there is (19 ms for ten thousand), so nothing
//! on the way of an access does.

use std::borrow::Cow;
use std::collections::HashMap;
use std::path::Path;

use bstr::{BStr, ByteSlice};
use rustix::io::Errno;

use crate::limits;

/// One line of the table.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mount<'a> {
    /// The mount's number; numbers are used again.
    pub id: u64,
    /// The mount it is in (or its own number, at the top of the table).
    pub parent: u64,
    /// Device number of its file system, major and minor.
    pub device: (u32, u32),
    /// What part of its file system is mounted.
    pub root: Cow<'a, BStr>,
    /// Where, as this process sees it.
    pub point: Cow<'a, BStr>,
    /// Options of the mount.
    pub options: &'a BStr,
    /// Number of its peer group, if it is shared.
    pub shared: Option<u64>,
    /// The peer group it receives from, if it is a slave.
    pub master: Option<u64>,
    /// It cannot be bind-mounted.
    pub unbindable: bool,
    /// File system type, with its subtype after a dot.
    pub fstype: Cow<'a, BStr>,
    /// Source text.
    pub source: Cow<'a, BStr>,
    /// Options of the file system.
    pub super_options: Cow<'a, BStr>,
}

impl<'a> Mount<'a> {
    /// Reads one line, without its newline. `None` when it has not the form of proc(5).
    pub fn parse(line: &'a [u8]) -> Option<Self> {
        let mut fields = line.split(|byte| *byte == b' ');
        let mut next = || fields.next();
        let (id, parent) = (number(next()?)?, number(next()?)?);
        let (major, minor) = next()?.split_once_str(":")?;
        let (root, point, options) = (next()?, next()?, next()?);
        let mut mount = Self {
            id,
            parent,
            device: (number32(major)?, number32(minor)?),
            root: unescaped(root),
            point: unescaped(point),
            options: options.as_bstr(),
            shared: None,
            master: None,
            unbindable: false,
            fstype: Cow::Borrowed(b"".as_bstr()),
            source: Cow::Borrowed(b"".as_bstr()),
            super_options: Cow::Borrowed(b"".as_bstr()),
        };
        loop {
            match next()? {
                b"-" => break,
                field => mount.optional(field),
            }
        }
        mount.fstype = unescaped(next()?);
        mount.source = unescaped(next()?);
        // A source of no characters leaves two blanks; options may then be missing as well.
        mount.super_options = next().map_or(mount.super_options, unescaped);
        Some(mount)
    }

    /// Optional fields are there in any number; unknown ones are passed over (proc(5)).
    fn optional(&mut self, field: &[u8]) {
        match field.split_once_str(":") {
            Some((b"shared", group)) => self.shared = number(group),
            Some((b"master", group)) => self.master = number(group),
            None if field == b"unbindable" => self.unbindable = true,
            _ => {}
        }
    }
}

fn number(text: &[u8]) -> Option<u64> {
    text.to_str().ok()?.parse().ok()
}

fn number32(text: &[u8]) -> Option<u32> {
    text.to_str().ok()?.parse().ok()
}

/// Turns `\040` and the like back into bytes. A backslash before anything else stands for itself.
pub(crate) fn unescaped(text: &[u8]) -> Cow<'_, BStr> {
    if !text.contains(&b'\\') {
        return Cow::Borrowed(text.as_bstr());
    }
    let mut out = Vec::with_capacity(text.len());
    let mut rest = text;
    while let [first, tail @ ..] = rest {
        match rest {
            [
                b'\\',
                a @ b'0'..=b'3',
                b @ b'0'..=b'7',
                c @ b'0'..=b'7',
                after @ ..,
            ] => {
                out.push((a - b'0') << 6 | (b - b'0') << 3 | (c - b'0'));
                rest = after;
            }
            _ => {
                out.push(*first);
                rest = tail;
            }
        }
    }
    Cow::Owned(out.into())
}

/// The text of this process's mount table.
///
/// # Errors
/// `/proc` is not there, or the table is beyond all bounds (`EFBIG`).
pub fn read() -> Result<Vec<u8>, Errno> {
    read_from(Path::new("/proc/self/mountinfo"))
}

/// Whether something other than an autofs trigger is mounted at `path`, without touching it: of
/// what a dead server has mounted one can read, but not look at it.
///
/// # Errors
/// As [`read`].
pub fn covered(path: &BStr) -> Result<bool, Errno> {
    let text = read()?;
    Ok(Table::parse(&text)
        .at(path)
        .is_some_and(|mount| *mount.fstype != "autofs"))
}

/// The text of another process's mount table: `/proc/PID/mountinfo`.
pub(crate) fn read_from(path: &Path) -> Result<Vec<u8>, Errno> {
    use std::io::Read;
    let told = |error: std::io::Error| Errno::from_io_error(&error).unwrap_or(Errno::IO);
    let file = std::fs::File::open(path).map_err(told)?;
    // The file's size is not known beforehand; a big buffer saves the kernel much work, since it
    // looks for its place in the table anew for each read.
    let mut text = Vec::with_capacity(256 << 10);
    file.take(limits::PROC_FILE as u64 + 1)
        .read_to_end(&mut text)
        .map_err(told)?;
    if text.len() > limits::PROC_FILE {
        Err(Errno::FBIG)
    } else {
        Ok(text)
    }
}

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
    fn bytes_that_are_not_text_and_broken_escapes_stand_for_themselves() {
        let mount =
            Mount::parse(b"1 2 0:1 / /\xff\\0\\08\\400\\\\101 rw shared:x y - t s o").unwrap();
        assert_eq!(&*mount.point, b"/\xff\\0\\08\\400\\A".as_bstr());
        assert_eq!(mount.shared, None);
    }

    #[test]
    fn circles_among_parents_end() {
        let table = Table::parse(b"1 2 0:1 / /a rw - t s o\n2 1 0:1 / /a/b rw - t s o\n");
        assert!(table.at("/a".into()).is_none());
        assert_eq!(table.within("/a".into()).len(), 2);
    }
}
