//! Maps that are files.

use std::fs::File;
use std::io::{self, Read};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustix::fs::{FileType, Mode, OFlags, Stat};
use rustix::io::Errno;

use piton_map::lookup::Miss;
use piton_map::text::Fragment;

use crate::limits::{MAP_BYTES, READ_RETRIES};
use crate::source::{MapSource, MapText, Stamp};

/// A map in Sun format in one file.
#[derive(Clone, Debug)]
pub struct FileSource {
    path: PathBuf,
    name: Arc<str>,
}

impl FileSource {
    /// The file at `path`, called `name` in messages.
    pub fn new(path: PathBuf, name: Arc<str>) -> Self {
        Self { path, name }
    }
}

impl MapSource for FileSource {
    fn name(&self) -> Arc<str> {
        self.name.clone()
    }

    fn read(&self) -> Result<MapText, Miss> {
        read_text(&self.path, &self.name, MAP_BYTES)
    }

    fn stamp(&self) -> Result<Option<Stamp>, Miss> {
        stamp_of(&self.path)
            .map(Some)
            .map_err(|errno| miss(&self.name, errno))
    }
}

/// Reads a regular file of at most `limit` bytes. A file that changes meanwhile is read again.
///
/// # Errors
/// [`Miss::NoSuchMap`] when there is none, [`Miss::Unreadable`] for anything else.
pub fn read_text(path: &Path, name: &Arc<str>, limit: u64) -> Result<MapText, Miss> {
    let failed = |error: io::Error| match error.raw_os_error() {
        Some(code) => miss(name, Errno::from_raw_os_error(code)),
        None => Miss::Unreadable(format!("{name}: {error}").into()),
    };
    let mut retries = READ_RETRIES;
    loop {
        // Non-blocking, so that a named pipe in the map's place does not hold us.
        let flags = OFlags::RDONLY | OFlags::CLOEXEC | OFlags::NONBLOCK | OFlags::NOCTTY;
        let file =
            rustix::fs::open(path, flags, Mode::empty()).map_err(|errno| miss(name, errno))?;
        let before = rustix::fs::fstat(&file).map_err(|errno| miss(name, errno))?;
        check_kind(name, &before, limit)?;
        let local = rustix::fs::fstatfs(&file).is_ok_and(|fs| is_local(fs.f_type as u64));
        let mut file = File::from(file);
        let mut bytes = Vec::with_capacity(before.st_size as usize + 1);
        let read = (&mut file)
            .take(limit + 1)
            .read_to_end(&mut bytes)
            .map_err(failed)?;
        if read as u64 > limit {
            return Err(too_large(name, limit));
        }
        let after = rustix::fs::fstat(&file).map_err(|errno| miss(name, errno))?;
        if stamp(&before) == stamp(&after) || retries == 0 {
            bytes.shrink_to_fit();
            let fragment = Fragment::whole(name.clone(), bytes);
            return Ok(MapText {
                fragment,
                stamp: Some(stamp(&before)),
                local,
            });
        }
        retries -= 1;
    }
}

/// Refuses what is not a regular file of a bearable size.
fn check_kind(name: &Arc<str>, stat: &Stat, limit: u64) -> Result<(), Miss> {
    let kind = match FileType::from_raw_mode(stat.st_mode) {
        FileType::RegularFile if stat.st_size as u64 > limit => return Err(too_large(name, limit)),
        FileType::RegularFile => return Ok(()),
        FileType::Directory => "a directory",
        FileType::Fifo => "a named pipe",
        FileType::Socket => "a socket",
        _ => "a device",
    };
    Err(Miss::Unreadable(
        format!("{name} is {kind}, not a file").into(),
    ))
}

/// The miss for a file beyond the limit.
fn too_large(name: &Arc<str>, limit: u64) -> Miss {
    Miss::Unreadable(format!("{name} has more than {limit} bytes").into())
}

/// The miss that an error of a system call on a map's file means.
pub(crate) fn miss(name: &Arc<str>, errno: Errno) -> Miss {
    match errno {
        Errno::NOENT | Errno::NOTDIR => Miss::NoSuchMap(name.clone()),
        other => {
            let text = io::Error::from_raw_os_error(other.raw_os_error());
            Miss::Unreadable(format!("{name}: {text}").into())
        }
    }
}

/// The state of the file at `path` now.
pub(crate) fn stamp_of(path: &Path) -> Result<Stamp, Errno> {
    rustix::fs::stat(path).map(|stat| stamp(&stat))
}

/// What identifies the state of a file.
pub(crate) fn stamp(stat: &Stat) -> Stamp {
    let nanoseconds =
        |seconds: i64, rest: u64| i128::from(seconds) * 1_000_000_000 + i128::from(rest);
    Stamp {
        dev: stat.st_dev,
        ino: stat.st_ino,
        size: stat.st_size as u64,
        mtime_ns: nanoseconds(stat.st_mtime, stat.st_mtime_nsec),
        ctime_ns: nanoseconds(stat.st_ctime, stat.st_ctime_nsec),
    }
}

/// Whether the file at `path` is to be run rather than read: a regular file that its owner may
/// execute (autofs's rule; R-171).
pub(crate) fn is_program(path: &Path) -> Result<bool, Errno> {
    let stat = rustix::fs::stat(path)?;
    Ok(FileType::from_raw_mode(stat.st_mode) == FileType::RegularFile && stat.st_mode & 0o100 != 0)
}

/// File systems whose `stat` does not wait for anybody, by the magic number of statfs(2).
/// What is not named here (NFS, SMB, FUSE, 9p, cluster file systems) may.
const LOCAL: &[u64] = &[
    0xef53,      // ext2, ext3, ext4
    0x5846_5342, // xfs
    0x9123_683e, // btrfs
    0x0102_1994, // tmpfs
    0x8584_58f6, // ramfs
    0x794c_7630, // overlayfs
    0x2fc1_2fc1, // zfs
    0xf2f5_2010, // f2fs
    0xca45_1a4e, // bcachefs
    0x7371_7368, // squashfs
    0xe0f5_e1e2, // erofs
    0x3153_464a, // jfs
    0x5265_4973, // reiserfs
    0x3434,      // nilfs2
    0x4d44,      // vfat
    0x2011_bab0, // exfat
    0x2405_1905, // ubifs
    0x9660,      // iso9660
];

/// Returns true if and only if a file system of this type answers from this machine.
fn is_local(magic: u64) -> bool {
    LOCAL.contains(&magic)
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::{PermissionsExt, symlink};

    use super::*;

    fn read(path: &Path) -> Result<MapText, Miss> {
        FileSource::new(path.into(), "m".into()).read()
    }

    #[test]
    fn a_file_is_read_whole_with_its_state() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("m");
        std::fs::write(&path, "a :/1\n").unwrap();
        let text = read(&path).unwrap();
        assert_eq!(text.fragment.text, "a :/1\n");
        assert_eq!(text.stamp, Some(stamp_of(&path).unwrap()));
        symlink(&path, dir.path().join("link")).unwrap();
        assert_eq!(read(&dir.path().join("link")), Ok(text));
    }

    #[test]
    fn what_is_no_file_is_refused_at_once() {
        let dir = tempfile::tempdir().unwrap();
        let missing = Miss::NoSuchMap("m".into());
        assert_eq!(read(&dir.path().join("none")), Err(missing.clone()));
        assert_eq!(read(&dir.path().join("none/x")), Err(missing));
        assert!(
            matches!(read(dir.path()), Err(Miss::Unreadable(why)) if why.contains("directory"))
        );
        assert!(matches!(
            read(Path::new("/dev/null")),
            Err(Miss::Unreadable(_))
        ));
        let fifo = dir.path().join("fifo");
        rustix::fs::mknodat(rustix::fs::CWD, &fifo, FileType::Fifo, 0o600.into(), 0).unwrap();
        assert!(matches!(read(&fifo), Err(Miss::Unreadable(why)) if why.contains("pipe")));
    }

    #[test]
    fn the_size_limit_is_exact() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("m");
        std::fs::write(&path, "12345").unwrap();
        assert!(read_text(&path, &"m".into(), 5).is_ok());
        assert!(matches!(
            read_text(&path, &"m".into(), 4),
            Err(Miss::Unreadable(_))
        ));
    }

    #[test]
    fn the_owner_s_execute_bit_makes_a_program() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("m");
        std::fs::write(&path, "").unwrap();
        for (mode, expected) in [(0o644, false), (0o744, true), (0o655, false)] {
            std::fs::set_permissions(&path, std::fs::Permissions::from_mode(mode)).unwrap();
            assert_eq!(is_program(&path), Ok(expected), "{mode:o}");
        }
        assert_eq!(is_program(dir.path()), Ok(false));
        assert_eq!(is_program(&dir.path().join("none")), Err(Errno::NOENT));
    }
}
