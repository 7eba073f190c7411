//! Files that hold a file system, on one that shares extents (XFS, btrfs).
//!
//! A snapshot is a file of the same extents (FICLONE, which is of one instant) in our directory, with
//! our mark and the origin's path as an attribute. It has a name of its own, ending in `.partial`,
//! until it is finished. Who makes it has the file system inside stand still.

use std::ffi::OsStr;
use std::fs;
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use bstr::{BString, ByteSlice};
use piton_snapshot::{Found, Health, Kind, Name, Origin, State};
use rustix::fs::{AtFlags, FileType, Mode, OFlags, fstat, ioctl_ficlone, openat, unlinkat};
use rustix::io::Errno;

use crate::error::Error;
use crate::place::{Live, PARTIAL, Place, is_marked, mark, text_of};
use crate::provider::{Provider, Show, View};
use crate::room;
use crate::superblock;
use crate::table;
use crate::turn::Turn;

/// Makes clones of image files beside them.
#[derive(Clone, Copy, Debug)]
pub struct Image;

fn open(origin: &Origin) -> Result<Live, Error> {
    check(origin, Live::open(origin, OFlags::NONBLOCK)?)
}

fn check(origin: &Origin, live: Live) -> Result<Live, Error> {
    if live.gone || FileType::from_raw_mode(live.stat.st_mode) == FileType::RegularFile {
        return Ok(live);
    }
    Err(Error::Unsupported {
        what: origin.path().into(),
        why: "it is no file: of directories the provider is btrfs or directory".into(),
    })
}

impl Provider for Image {
    fn kind(&self) -> Kind {
        Kind::Image
    }

    fn inspect(&self, origin: &Origin, _: Turn<'_>) -> Result<State, Error> {
        let live = open(origin)?;
        superblock::known(&live.fd, origin.path())?;
        Ok(State {
            origin: origin.clone(),
            fill: room::of_file_system(&live.fd, origin.path())?,
            mounted: mounted(origin, &live),
            freezes: false,
            instant: true,
            whole: true,
            tells_room: false,
        })
    }

    fn list(&self, origin: &Origin, turn: Turn<'_>) -> Result<Vec<Found>, Error> {
        let live = check(origin, Live::find(origin, OFlags::NONBLOCK, turn)?)?;
        let Some(place) = live.place(origin, turn)? else {
            return live.found(origin, Vec::new());
        };
        let mut found = Vec::new();
        for kept in place.kept(origin)? {
            let text = text_of(origin, kept.name, kept.partial);
            let Ok(Some(_)) = Copy::open(&place, origin, &text) else {
                continue;
            };
            found.push(Found {
                origin: origin.clone(),
                name: kept.name,
                health: match kept.partial {
                    true => Health::Partial,
                    false => Health::Good,
                },
                used: None,
                busy: is_in_use(&text),
            });
        }
        live.found(origin, found)
    }

    fn create(&self, group: &[Origin], name: Name, turn: Turn<'_>) -> Result<(), Error> {
        let mut making = Vec::with_capacity(group.len());
        for origin in group {
            let live = open(origin)?;
            superblock::known(&live.fd, origin.path())?;
            let place = live.make_place(origin, turn)?;
            making.push((origin, live, place));
        }
        for (index, (origin, live, place)) in making.iter().enumerate() {
            let made = turn
                .check(origin.path())
                .and_then(|()| make(origin, live, place, name));
            if let Err(error) = made {
                for (origin, _, place) in &making[..index] {
                    take_away(place, &name.of(origin))?;
                }
                return Err(error);
            }
        }
        Ok(())
    }

    fn view(&self, origin: &Origin, name: Name, turn: Turn<'_>) -> Result<View, Error> {
        let absent = || Error::absent(name.of(origin), origin);
        let live = check(origin, Live::find(origin, OFlags::NONBLOCK, turn)?)?;
        let place = live.place(origin, turn)?.ok_or_else(absent)?;
        let text = name.of(origin);
        if let Some(copy) = Copy::open(&place, origin, &text)? {
            let known = superblock::known(&copy.fd, place.at(&text).as_bstr())?;
            let mut options = known.mount_options();
            options.push("loop".into());
            return Ok(View {
                source: place.at(&text),
                show: Show::FileSystem(known.fstype),
                options,
                live: mounted(origin, &live),
            });
        }
        match Copy::open(&place, origin, &text_of(origin, name, true))? {
            Some(_) => Err(place.unfinished(origin, name)),
            None => Err(absent()),
        }
    }

    fn remove(&self, origin: &Origin, name: Name, turn: Turn<'_>) -> Result<(), Error> {
        let Some(place) = open(origin)?.place(origin, turn)? else {
            return Ok(());
        };
        for partial in [false, true] {
            let text = text_of(origin, name, partial);
            if Copy::open(&place, origin, &text)?.is_none() {
                continue;
            }
            if is_in_use(&text) {
                return Err(Error::Busy {
                    what: place.at(&text),
                    by: "by a loop device".into(),
                });
            }
            take_away(&place, &text)?;
        }
        Ok(())
    }
}

/// Where the file system in an image is mounted.
fn mounted(origin: &Origin, live: &Live) -> Option<BString> {
    let file = (live.stat.st_dev, live.stat.st_ino);
    let loops = loops_of(origin.own_name(), Some(file));
    table::point_of(|mount| loops.contains(&mount.device))
}

/// Clones, marks, and only then gives it its name.
fn make(origin: &Origin, live: &Live, place: &Place, name: Name) -> Result<(), Error> {
    let partial = text_of(origin, name, true);
    let path = place.at(&partial);
    let flags = OFlags::CREATE | OFlags::EXCL | OFlags::WRONLY | OFlags::CLOEXEC;
    let file = openat(&place.fd, &partial, flags, Mode::RUSR | Mode::WUSR)
        .map_err(|errno| Error::call("making", &path, errno))?;
    let made = mark(&file, origin)
        .map_err(|errno| Error::call("marking", &path, errno))
        .and_then(|()| ioctl_ficlone(&file, &live.fd).map_err(|errno| no_clone(origin, errno)))
        .and_then(|()| place.rename(&partial, &name.of(origin)));
    if made.is_err() {
        take_away(place, &partial)?;
    }
    made
}

/// Why extents could not be shared.
pub(crate) fn no_clone(origin: &Origin, errno: Errno) -> Error {
    match errno {
        Errno::OPNOTSUPP | Errno::NOTTY | Errno::INVAL => Error::Unsupported {
            what: origin.path().into(),
            why: "its file system cannot share extents between files (XFS made with reflink=1 and \
                  btrfs can)"
                .into(),
        },
        errno => Error::call("cloning", origin.path(), errno),
    }
}

fn take_away(place: &Place, text: &str) -> Result<(), Error> {
    match unlinkat(&place.fd, text, AtFlags::empty()) {
        Ok(()) | Err(Errno::NOENT) => Ok(()),
        Err(errno) => Err(Error::call("removing", place.at(text), errno)),
    }
}

/// A snapshot that is ours.
struct Copy {
    fd: OwnedFd,
}

impl Copy {
    /// None if it is not there.
    fn open(place: &Place, origin: &Origin, text: &str) -> Result<Option<Self>, Error> {
        let foreign = || Error::Foreign {
            what: place.at(text),
            mark: "the attribute trusted.piton with the origin's path",
        };
        let failed = |errno| Error::call("opening", place.at(text), errno);
        let fd = match place.open(text, OFlags::NONBLOCK) {
            Ok(fd) => fd,
            Err(Errno::NOENT) => return Ok(None),
            Err(Errno::LOOP) => return Err(foreign()),
            Err(errno) => return Err(failed(errno)),
        };
        let stat = fstat(&fd).map_err(failed)?;
        let is_file = FileType::from_raw_mode(stat.st_mode) == FileType::RegularFile;
        // Who died before the mark was there left an empty file, in our own directory.
        let begun = text.ends_with(PARTIAL) && stat.st_size == 0;
        if !is_file || !(begun || is_marked(&fd, origin.path())) {
            return Err(foreign());
        }
        Ok(Some(Self { fd }))
    }
}

/// The loop devices that show a file of this name, whatever namespace they are mounted in; with an
/// inode only those that show just that one.
fn loops_of(name: &[u8], inode: Option<(u64, u64)>) -> Vec<(u32, u32)> {
    let entries = fs::read_dir("/sys/block").into_iter().flatten().flatten();
    let shows = |path: &Path| {
        let Ok(file) = fs::read(path.join("loop/backing_file")) else {
            return false;
        };
        let path = Path::new(OsStr::from_bytes(file.strip_suffix(b"\n").unwrap_or(&file)));
        // Only what has its name is looked at: others may lie on a server that is dead.
        path.file_name()
            .is_some_and(|found| found.as_bytes() == name)
            && inode.is_none_or(|inode| {
                fs::metadata(path).is_ok_and(|found| (found.dev(), found.ino()) == inode)
            })
    };
    entries
        .map(|entry| entry.path())
        .filter(|path| shows(path))
        .filter_map(|path| {
            let number = BString::from(fs::read(path.join("dev")).ok()?);
            let (major, minor) = number.to_str().ok()?.trim().split_once(':')?;
            Some((major.parse().ok()?, minor.parse().ok()?))
        })
        .collect()
}

/// Whether a loop device shows a snapshot. Its name is like no other's, and its path may be another
/// in the namespace where it is mounted.
fn is_in_use(text: &str) -> bool {
    !loops_of(text.as_bytes(), None).is_empty()
}
