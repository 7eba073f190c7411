//! Replies to the kernel (linux/fuse.h).

use std::time::Duration;

use bstr::BStr;
use piton_loopback::Seen;
use rustix::fs::FileType;
use rustix::io::Errno;

use crate::limits;

/// The version that is spoken: Linux 5.4 and later have it, and later ones know it.
pub(crate) const VERSION: (u32, u32) = (7, 31);

/// The oldest version whose replies have the same form (Linux 3.15).
pub(crate) const OLDEST: (u32, u32) = (7, 23);

/// Look-ups in one directory may be under way at the same time (`FUSE_PARALLEL_DIROPS`). Without
/// it a slow one would delay all others.
pub(crate) const PARALLEL: u32 = 1 << 18;

/// Whose everything is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Holder {
    pub(crate) uid: u32,
    pub(crate) gid: u32,
}

/// A reply with a body.
pub(crate) fn success(unique: u64, body: &[u8]) -> Vec<u8> {
    framed(unique, 0, body)
}

/// A refusal.
pub(crate) fn failure(unique: u64, errno: Errno) -> Vec<u8> {
    framed(unique, -errno.raw_os_error(), &[])
}

fn framed(unique: u64, error: i32, body: &[u8]) -> Vec<u8> {
    let length = u32::try_from(16 + body.len()).unwrap_or(u32::MAX);
    let mut bytes = Vec::with_capacity(16 + body.len());
    bytes.extend(length.to_ne_bytes());
    bytes.extend(error.to_ne_bytes());
    bytes.extend(unique.to_ne_bytes());
    bytes.extend(body);
    bytes
}

/// `fuse_init_out`.
pub(crate) fn init(readahead: u32, flags: u32) -> Vec<u8> {
    let (major, minor) = VERSION;
    let flags = flags & PARALLEL;
    // Background requests as the kernel has them by itself; times are exact to a nanosecond.
    let mut body = words(&[major, minor, readahead, flags, 0, limits::WRITE, 1]);
    body.resize(64, 0);
    body
}

/// `fuse_entry_out`: a name that has to be looked up again at the next access.
pub(crate) fn entry(seen: &Seen, holder: Holder) -> Vec<u8> {
    // Number and generation; how long name and attributes hold, in seconds and nanoseconds.
    let mut body = longs(&[seen.number, 0, 0, 0, 0]);
    body.extend(attributes(seen, holder));
    body
}

/// `fuse_attr_out`: attributes that hold for no time.
pub(crate) fn attributes_alone(seen: &Seen, holder: Holder) -> Vec<u8> {
    let mut body = longs(&[0, 0]);
    body.extend(attributes(seen, holder));
    body
}

/// `fuse_attr`.
fn attributes(seen: &Seen, holder: Holder) -> Vec<u8> {
    let length = seen.target.as_ref().map_or(0, |target| target.len());
    let (kind, mode, links) = match seen.link {
        None => (FileType::Directory, seen.mode & 0o7777, 2),
        Some(_) => (FileType::Symlink, 0o777, 1),
    };
    let (seconds, nanoseconds) = split(seen.changed);
    let size = u64::try_from(length).unwrap_or(0);
    let mut body = longs(&[seen.number, size, 0, seconds, seconds, seconds]);
    body.extend(words(&[
        nanoseconds,
        nanoseconds,
        nanoseconds,
        kind.as_raw_mode() | mode,
        links,
        holder.uid,
        holder.gid,
        0,
        4096,
        0,
    ]));
    body
}

fn split(time: Duration) -> (u64, u32) {
    (time.as_secs(), time.subsec_nanos())
}

/// `fuse_kstatfs`: nothing is kept here.
pub(crate) fn statistics() -> Vec<u8> {
    let mut body = longs(&[0; 5]);
    let name = u32::try_from(limits::NAME).unwrap_or(u32::MAX);
    body.extend(words(&[4096, name, 4096]));
    body.resize(80, 0);
    body
}

/// `fuse_open_out` of a directory whose names are not to be kept.
pub(crate) fn opened() -> Vec<u8> {
    vec![0; 16]
}

/// The names of a directory, being filled in.
pub(crate) struct Page {
    body: Vec<u8>,
    room: usize,
}

impl Page {
    pub(crate) fn new(size: u32) -> Self {
        let room = usize::try_from(size).unwrap_or(usize::MAX);
        Self {
            body: Vec::new(),
            room: room.min(limits::ANSWER),
        }
    }

    /// Adds a name (`fuse_dirent`). False if there is no room for it.
    pub(crate) fn add(&mut self, number: u64, next: u64, kind: FileType, name: &BStr) -> bool {
        let length = (24 + name.len()).next_multiple_of(8);
        if self.body.len() + length > self.room {
            return false;
        }
        let end = self.body.len() + length;
        self.body.extend(longs(&[number, next]));
        let name_length = u32::try_from(name.len()).unwrap_or(u32::MAX);
        // The kernel has the bits of the mode here, moved down.
        let kind = kind.as_raw_mode() >> 12;
        self.body.extend(words(&[name_length, kind]));
        self.body.extend_from_slice(name);
        self.body.resize(end, 0);
        true
    }

    pub(crate) fn into_body(self) -> Vec<u8> {
        self.body
    }
}

fn words(words: &[u32]) -> Vec<u8> {
    words.iter().flat_map(|word| word.to_ne_bytes()).collect()
}

fn longs(longs: &[u64]) -> Vec<u8> {
    longs.iter().flat_map(|long| long.to_ne_bytes()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn replies_have_the_sizes_that_the_kernel_expects() {
        let seen = Seen {
            number: 9,
            link: Some("ann".into()),
            target: Some("/a".into()),
            mode: 0o555,
            changed: Duration::new(5, 6),
            hidden: false,
        };
        let holder = Holder { uid: 1, gid: 2 };
        assert_eq!(init(4096, u32::MAX).len(), 64);
        assert_eq!(entry(&seen, holder).len(), 128);
        assert_eq!(attributes_alone(&seen, holder).len(), 104);
        assert_eq!(statistics().len(), 80);
        assert_eq!(success(7, b"body").len(), 20);
        assert_eq!(failure(7, Errno::NOENT)[4..8], (-2_i32).to_ne_bytes());
    }

    #[test]
    fn a_page_takes_what_fits_and_no_more() {
        let mut page = Page::new(80);
        assert!(page.add(3, 3, FileType::Symlink, "12345678".into()));
        assert!(page.add(4, 4, FileType::Symlink, "123456789".into()));
        assert!(!page.add(5, 5, FileType::Symlink, "".into()));
        assert_eq!(page.into_body().len(), 72);
        let mut page = Page::new(u32::MAX);
        let long = "x".repeat(limits::NAME);
        let mut added = 0;
        while page.add(1, 1, FileType::Symlink, long.as_str().into()) {
            added += 1;
        }
        assert_eq!(added, limits::ANSWER / 280);
    }
}
