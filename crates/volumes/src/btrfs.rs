//! Subvolumes of btrfs.
//!
//! A snapshot is a read-only subvolume in our directory for the origin, whose parent is the origin
//! if others could have theirs there. That it is there means that it is whole.
//!
//! # What is in it
//! The kernel writes out what is only in memory, and then closes a transaction, which the snapshot is
//! of. What is written in between is not in it, but what is renamed is: no state that ever existed.
//! With the mount option `flushoncommit` it is written out while the transaction is closed, when names
//! can be changed no more: all that was written before is there. Files can still be written meanwhile,
//! and of that some may be there without what was written a little earlier.
//!
//! # A group
//! All are of one instant if btrfs made them in one transaction. They are begun at once, by a thread
//! each and in directories of their own, for the kernel makes those in one directory one after the
//! other. Then the kernel is asked in which transaction each was made; if these are several, all are
//! removed and made anew.

use std::sync::{Arc, Barrier, OnceLock};
use std::thread;
use std::time::Duration;

use autofs::Subvolume;
use bstr::{BString, ByteSlice};
use piton_snapshot::{Found, Health, Kind, Name, Origin, State};
use rustix::fs::{OFlags, XattrFlags, fsetxattr};
use rustix::io::Errno;

use crate::busy::InUse;
use crate::error::Error;
use crate::limits;
use crate::opened::Opened;
use crate::place::{self, Live, Place};
use crate::provider::{Provider, Show, View};
use crate::room;
use crate::turn::Turn;

/// Makes read-only subvolumes beside their origin.
#[derive(Clone, Copy, Debug)]
pub struct Btrfs;

/// What is said when a snapshot is to be made on another file system.
const NOT_HERE: [Errno; 3] = [Errno::INVAL, Errno::NOTTY, Errno::XDEV];

/// An open origin.
#[derive(Debug)]
pub(crate) struct Root {
    live: Live,
    /// None: it is not there.
    subvolume: Option<Subvolume>,
    /// Our directory for it, once it was found.
    place: OnceLock<Place>,
}

impl Root {
    fn open(origin: &Origin, turn: Turn<'_>) -> Result<Arc<Self>, Error> {
        if let Some(root) = Opened::subvolume(origin, turn) {
            return Ok(root);
        }
        let root = Self::of(origin, Live::open(origin, OFlags::DIRECTORY)?)?;
        Opened::keep(origin, turn, &root);
        Ok(root)
    }

    /// Its snapshots are looked for.
    fn find(origin: &Origin, turn: Turn<'_>) -> Result<Arc<Self>, Error> {
        let absent = match Self::open(origin, turn) {
            Err(error @ Error::Absent { .. }) if turn.gone => error,
            opened => return opened,
        };
        Ok(Arc::new(Self {
            live: Live::gone(origin, absent)?,
            subvolume: None,
            place: OnceLock::new(),
        }))
    }

    /// Our directory for it, if it is there.
    fn place(&self, origin: &Origin, turn: Turn<'_>) -> Result<Option<&Place>, Error> {
        if self.place.get().is_none() {
            let Some(place) = self.live.place(origin, turn)? else {
                return Ok(None);
            };
            let _ = self.place.set(place);
        }
        Ok(self.place.get())
    }

    /// Our directory for it, made if it is not there.
    fn make_place(&self, origin: &Origin, turn: Turn<'_>) -> Result<&Place, Error> {
        if let Some(place) = self.place.get() {
            return Ok(place);
        }
        let place = self.live.make_place(origin, turn)?;
        Ok(self.place.get_or_init(|| place))
    }

    fn of(origin: &Origin, live: Live) -> Result<Arc<Self>, Error> {
        match autofs::subvolume(&live.fd) {
            Ok(found) => Ok(Arc::new(Self {
                live,
                subvolume: Some(found),
                place: OnceLock::new(),
            })),
            Err(error) if error.errno() == Some(Errno::INVAL) => Err(Error::Unsupported {
                what: origin.path().into(),
                why: "it is no subvolume of btrfs: name one, or make one (btrfs subvolume create) \
                      and move the files there"
                    .into(),
            }),
            Err(error) => Err(of_kernel("looking at", origin.path(), &error)),
        }
    }
}

impl Provider for Btrfs {
    fn kind(&self) -> Kind {
        Kind::Btrfs
    }

    fn inspect(&self, origin: &Origin, turn: Turn<'_>) -> Result<State, Error> {
        let root = Root::open(origin, turn)?;
        Ok(State {
            origin: origin.clone(),
            fill: room::of_file_system(&root.live.fd, origin.path())?,
            mounted: Some(origin.path().into()),
            freezes: true,
            instant: true,
            whole: root.live.is_mounted_with("flushoncommit"),
            tells_room: false,
        })
    }

    fn list(&self, origin: &Origin, turn: Turn<'_>) -> Result<Vec<Found>, Error> {
        let root = Root::find(origin, turn)?;
        let Some(place) = root.place(origin, turn)? else {
            return root.live.found(origin, Vec::new());
        };
        let mut kept = place.kept(origin)?;
        kept.retain(|kept| !kept.partial && check(place, origin, kept.name, &root, turn).is_ok());
        if kept.is_empty() {
            return root.live.found(origin, Vec::new());
        }
        let in_use = turn.busy.then(|| InUse::mounted(turn));
        let found = kept.into_iter().map(|kept| Found {
            origin: origin.clone(),
            name: kept.name,
            health: Health::Good,
            used: None,
            busy: in_use
                .as_ref()
                .is_some_and(|it| it.by(place, &kept.name.of(origin)).is_some()),
        });
        Ok(found.collect())
    }

    fn find(&self, origin: &Origin, name: Name, turn: Turn<'_>) -> Result<Option<Found>, Error> {
        let root = Root::find(origin, turn)?;
        let Some(place) = root.place(origin, turn)? else {
            return Ok(None);
        };
        Ok(check(place, origin, name, &root, turn)
            .is_ok()
            .then(|| Found {
                origin: origin.clone(),
                name,
                health: Health::Good,
                used: None,
                busy: false,
            }))
    }

    fn create(&self, group: &[Origin], name: Name, turn: Turn<'_>) -> Result<(), Error> {
        let roots = group.iter().map(|origin| Root::open(origin, turn));
        let roots = roots.collect::<Result<Vec<_>, _>>()?;
        let mut making = Vec::with_capacity(group.len());
        for (origin, root) in group.iter().zip(&roots) {
            making.push(Making {
                place: root.make_place(origin, turn)?,
                root,
                name: name.of(origin),
            });
        }
        match &making[..] {
            [] => Ok(()),
            [one] => one.make(),
            several => together(several, turn),
        }
        .map_err(|error| match (error, &turn.means.store) {
            // What btrfs says of a directory that is not its own.
            (Error::Call { errno, .. }, Some(store)) if NOT_HERE.contains(&errno) => {
                Error::Unsupported {
                    what: store.clone(),
                    why: "it is not on the file system of the origin: name a directory there"
                        .into(),
                }
            }
            (error, _) => error,
        })
    }

    fn view(&self, origin: &Origin, name: Name, turn: Turn<'_>) -> Result<View, Error> {
        let root = Root::find(origin, turn)?;
        let place = root
            .place(origin, turn)?
            .ok_or_else(|| Error::absent(name.of(origin), origin))?;
        check(place, origin, name, &root, turn)?;
        Ok(View {
            source: place.at(&name.of(origin)),
            show: Show::Directory,
            options: vec!["ro".into()],
            live: Some(origin.path().into()),
        })
    }

    fn remove(&self, origin: &Origin, name: Name, turn: Turn<'_>) -> Result<(), Error> {
        let root = Root::open(origin, turn)?;
        let Some(place) = root.place(origin, turn)? else {
            return Ok(());
        };
        match check(place, origin, name, &root, turn) {
            Ok(()) => {}
            Err(Error::Absent { .. }) => return Ok(()),
            Err(error) => return Err(error),
        }
        let text = name.of(origin);
        if let Some(by) = InUse::in_place(place, turn).by(place, &text) {
            return Err(Error::Busy {
                what: place.at(&text),
                by,
            });
        }
        destroy(place, &text)
    }
}

/// A snapshot that is to be made.
struct Making<'a> {
    root: &'a Root,
    place: &'a Place,
    name: String,
}

impl Making<'_> {
    fn make(&self) -> Result<(), Error> {
        autofs::snapshot_subvolume(&self.root.live.fd, &self.place.fd, &self.name)
            .map_err(|error| of_kernel("making", self.place.at(&self.name), &error))
    }

    /// The transaction in which it was made.
    fn transaction(&self) -> Result<u64, Error> {
        let path = || self.place.at(&self.name);
        let fd = self
            .place
            .open(&self.name, OFlags::DIRECTORY)
            .map_err(|errno| Error::call("opening", path(), errno))?;
        autofs::subvolume(&fd)
            .map(|found| found.made_in)
            .map_err(|error| of_kernel("looking at", path(), &error))
    }
}

/// Makes all of them in one transaction.
fn together(all: &[Making<'_>], turn: Turn<'_>) -> Result<(), Error> {
    let of = |one: &Making<'_>| one.root.subvolume.as_ref().map(|it| it.file_system);
    if all.iter().any(|one| of(one) != of(&all[0])) {
        return Err(Error::Unsupported {
            what: all[0].place.path.clone(),
            why: "the subvolumes of this group are not all of one file system, and btrfs makes \
                  snapshots of one instant only in one"
                .into(),
        });
    }
    for round in 0..limits::GROUP_TRIES {
        let made = at_once(all, limits::GROUP_DELAY * (round % limits::GROUP_DELAYS))?;
        let failed = made.iter().find_map(|made| made.clone().err());
        let one_instant = failed.is_none() && {
            let numbers = all.iter().map(Making::transaction);
            let numbers = numbers.collect::<Result<Vec<_>, _>>()?;
            numbers.iter().all(|number| *number == numbers[0])
        };
        if one_instant {
            return Ok(());
        }
        for (one, made) in all.iter().zip(&made) {
            if made.is_ok() {
                destroy(one.place, &one.name)?;
            }
        }
        if let Some(error) = failed {
            return Err(error);
        }
        turn.check(all[0].place.path.as_bstr())?;
    }
    Err(Error::Busy {
        what: all[0].place.path.clone(),
        by: format!(
            "so much that btrfs did not make the snapshots of this group in one transaction in {} \
             tries",
            limits::GROUP_TRIES
        ),
    })
}

/// Begins all of them while an earlier transaction is being written out: the next one cannot be
/// closed until that is done, so they come into it together.
fn at_once(all: &[Making<'_>], delay: Duration) -> Result<Vec<Result<(), Error>>, Error> {
    let first = &all[0];
    let failed = |errno| Error::call("syncing", &first.place.path, errno);
    // Something is to be written out.
    fsetxattr(&first.place.fd, place::MARK, b"group", XattrFlags::empty()).map_err(failed)?;
    let barrier = Barrier::new(all.len() + 1);
    let made = thread::scope(|scope| {
        let threads: Vec<_> = all
            .iter()
            .map(|one| {
                let barrier = &barrier;
                scope.spawn(move || {
                    barrier.wait();
                    thread::sleep(delay);
                    one.make()
                })
            })
            .collect();
        barrier.wait();
        let synced = rustix::fs::syncfs(&first.place.fd);
        let join = |thread: thread::ScopedJoinHandle<'_, _>| {
            thread.join().expect("a thread that makes one system call")
        };
        let made: Vec<_> = threads.into_iter().map(join).collect();
        synced.map(|()| made)
    });
    made.map_err(failed)
}

fn destroy(place: &Place, name: &str) -> Result<(), Error> {
    autofs::destroy_subvolume(&place.fd, name)
        .map_err(|error| of_kernel("removing", place.at(name), &error))
}

/// That a snapshot is there and ours. Its parent is the origin, or what was there before: who has
/// deleted a subvolume, or gone back to an earlier state, needs the snapshots most.
fn check(
    place: &Place,
    origin: &Origin,
    name: Name,
    root: &Root,
    turn: Turn<'_>,
) -> Result<(), Error> {
    let text = name.of(origin);
    let foreign = || Error::Foreign {
        what: place.at(&text),
        mark: "a read-only snapshot of the origin",
    };
    let fd = match place.open(&text, OFlags::DIRECTORY) {
        Ok(fd) => fd,
        Err(Errno::NOENT) => return Err(Error::absent(name.of(origin), origin)),
        Err(Errno::NOTDIR | Errno::LOOP) => return Err(foreign()),
        Err(errno) => return Err(Error::call("opening", place.at(&text), errno)),
    };
    match autofs::subvolume(&fd) {
        Ok(found)
            if found.read_only
                && (root
                    .subvolume
                    .as_ref()
                    .is_some_and(|it| it.uuid == found.parent_uuid)
                    || root.live.is_alone(origin, turn)) =>
        {
            Ok(())
        }
        _ => Err(foreign()),
    }
}

fn of_kernel(doing: &'static str, path: impl Into<BString>, error: &autofs::Error) -> Error {
    Error::call(doing, path.into(), error.errno().unwrap_or(Errno::IO))
}
