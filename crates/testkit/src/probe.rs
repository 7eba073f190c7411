//! A look at the mount table, apart from the automounter's own parser of it.

use std::path::Path;
use std::time::{Duration, Instant};

/// One line of /proc/self/mountinfo.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MountLine {
    /// Number of the mount.
    pub id: u64,
    /// Number of the mount it is in.
    pub parent: u64,
    /// What part of the file system is mounted.
    pub root: String,
    /// Where.
    pub point: String,
    /// Options of the mount, with commas.
    pub options: String,
    /// `shared:1 master:2` and the like; empty for a private mount.
    pub propagation: String,
    /// Type.
    pub fstype: String,
    /// Source text.
    pub source: String,
    /// Options of the file system, with commas.
    pub super_options: String,
}

impl MountLine {
    /// Whether the mount or its file system has this option.
    pub fn has(&self, option: &str) -> bool {
        self.options
            .split(',')
            .chain(self.super_options.split(','))
            .any(|has| has == option)
    }

    fn parse(line: &str) -> Option<Self> {
        let (mount, fs) = line.split_once(" - ")?;
        let mut mount = mount.splitn(7, ' ');
        let mut fs = fs.splitn(3, ' ');
        let (id, parent) = (mount.next()?.parse().ok()?, mount.next()?.parse().ok()?);
        let _device = mount.next()?;
        Some(Self {
            id,
            parent,
            root: plain(mount.next()?),
            point: plain(mount.next()?),
            options: mount.next()?.into(),
            propagation: mount.next().unwrap_or("").into(),
            fstype: fs.next()?.into(),
            source: plain(fs.next()?),
            super_options: plain(fs.next().unwrap_or("")),
        })
    }
}

fn plain(text: &str) -> String {
    [
        ("\\040", " "),
        ("\\011", "\t"),
        ("\\012", "\n"),
        ("\\134", "\\"),
    ]
    .iter()
    .fold(text.to_owned(), |text, (code, meant)| {
        text.replace(code, meant)
    })
}

/// The whole mount table of this process, in the kernel's order.
///
/// # Panics
/// /proc is not there.
pub fn mount_table() -> Vec<MountLine> {
    let text = std::fs::read("/proc/self/mountinfo").expect("/proc");
    String::from_utf8_lossy(&text)
        .lines()
        .filter_map(MountLine::parse)
        .collect()
}

/// What was mounted last at `path`, if anything is.
pub fn mounted_at(path: impl AsRef<Path>) -> Option<MountLine> {
    let path = path.as_ref().to_str().expect("a path of a test");
    let here: Vec<_> = mount_table()
        .into_iter()
        .filter(|line| line.point == path)
        .collect();
    let top = here
        .iter()
        .find(|line| !here.iter().any(|other| other.parent == line.id));
    top.cloned()
}

/// Waits until `test` holds, and looks again every few milliseconds.
///
/// # Panics
/// It does not hold within `limit`; `what` is what was waited for.
#[track_caller]
pub fn wait_until(what: &str, limit: Duration, mut test: impl FnMut() -> bool) {
    let until = Instant::now() + limit;
    while !test() {
        assert!(Instant::now() < until, "waited {limit:?} in vain: {what}");
        std::thread::sleep(Duration::from_millis(5));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_root_is_in_the_table() {
        assert_eq!(mounted_at("/").expect("a root").point, "/");
        assert_eq!(mounted_at("/no/such"), None);
    }

    #[test]
    fn a_line_is_read() {
        let line = "31 30 0:26 / /a\\040b rw,nosuid shared:1 master:2 - tmpfs x rw,size=1k";
        let line = MountLine::parse(line).unwrap();
        assert_eq!(
            (line.point.as_str(), line.propagation.as_str()),
            ("/a b", "shared:1 master:2")
        );
        assert!(line.has("nosuid") && line.has("size=1k") && !line.has("ro"));
        let private = MountLine::parse("31 30 0:26 / /a rw - tmpfs none rw").unwrap();
        assert_eq!(private.propagation, "");
    }
}
