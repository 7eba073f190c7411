//! Directories, copied file by file with their extents shared (XFS, btrfs).
//!
//! Each file is of one instant, all together are not: nothing can be made to stand still on the file
//! system to which the copies are written. A copy is a directory in ours, with our mark and the
//! origin's path as an attribute; its name ends in `.partial` until it is finished, and from the
//! moment on when it is taken away.

use std::os::fd::OwnedFd;

use bstr::ByteSlice;
use piton_snapshot::{Found, Health, Kind, Name, Origin, State};
use rustix::fs::{AtFlags, Mode, OFlags, mkdirat, unlinkat};
use rustix::io::Errno;

use crate::busy::InUse;
use crate::error::Error;
use crate::place::{Live, PARTIAL, Place, is_marked, mark, text_of};
use crate::provider::{Provider, Show, View};
use crate::room;
use crate::tree;
use crate::turn::Turn;

/// Makes copies of directories beside them.
#[derive(Clone, Copy, Debug)]
pub struct Directory;

impl Provider for Directory {
    fn kind(&self) -> Kind {
        Kind::Directory
    }

    fn inspect(&self, origin: &Origin, _: Turn<'_>) -> Result<State, Error> {
        let live = Live::open(origin, OFlags::DIRECTORY)?;
        Ok(State {
            origin: origin.clone(),
            fill: room::of_file_system(&live.fd, origin.path())?,
            // Not to be made to stand still: the copies are written to the same file system.
            mounted: None,
            freezes: false,
            instant: false,
            whole: true,
            tells_room: false,
        })
    }

    fn list(&self, origin: &Origin, turn: Turn<'_>) -> Result<Vec<Found>, Error> {
        let live = Live::find(origin, OFlags::DIRECTORY, turn)?;
        let Some(place) = live.place(origin, turn)? else {
            return live.found(origin, Vec::new());
        };
        let mut kept = place.kept(origin)?;
        kept.retain(|kept| {
            let text = text_of(origin, kept.name, kept.partial);
            matches!(open(&place, origin, &text), Ok(Some(_)))
        });
        if kept.is_empty() {
            return live.found(origin, Vec::new());
        }
        let in_use = turn.busy.then(|| InUse::mounted(turn));
        let found = kept.into_iter().map(|kept| {
            let text = text_of(origin, kept.name, kept.partial);
            Found {
                origin: origin.clone(),
                name: kept.name,
                health: match kept.partial {
                    true => Health::Partial,
                    false => Health::Good,
                },
                used: None,
                busy: in_use
                    .as_ref()
                    .is_some_and(|it| it.by(&place, &text).is_some()),
            }
        });
        Ok(found.collect())
    }

    fn create(&self, group: &[Origin], name: Name, turn: Turn<'_>) -> Result<(), Error> {
        let mut making = Vec::with_capacity(group.len());
        for origin in group {
            let live = Live::open(origin, OFlags::DIRECTORY)?;
            let place = live.make_place(origin, turn)?;
            making.push((origin, live, place));
        }
        for (index, (origin, live, place)) in making.iter().enumerate() {
            if let Err(error) = make(origin, live, place, name, turn) {
                // What cannot be taken away in time is listed as broken, and taken away later.
                for (origin, _, place) in &making[..index] {
                    take_away(place, origin, name, false, turn)?;
                }
                return Err(error);
            }
        }
        Ok(())
    }

    fn view(&self, origin: &Origin, name: Name, turn: Turn<'_>) -> Result<View, Error> {
        let absent = || Error::absent(name.of(origin), origin);
        let live = Live::find(origin, OFlags::DIRECTORY, turn)?;
        let place = live.place(origin, turn)?.ok_or_else(absent)?;
        let text = name.of(origin);
        if open(&place, origin, &text)?.is_some() {
            return Ok(View {
                source: place.at(&text),
                show: Show::Directory,
                options: vec!["ro".into()],
                live: Some(origin.path().into()),
            });
        }
        match open(&place, origin, &text_of(origin, name, true))? {
            Some(_) => Err(place.unfinished(origin, name)),
            None => Err(absent()),
        }
    }

    fn remove(&self, origin: &Origin, name: Name, turn: Turn<'_>) -> Result<(), Error> {
        let live = Live::open(origin, OFlags::DIRECTORY)?;
        let Some(place) = live.place(origin, turn)? else {
            return Ok(());
        };
        for partial in [false, true] {
            let text = text_of(origin, name, partial);
            if open(&place, origin, &text)?.is_none() {
                continue;
            }
            if let Some(by) = InUse::in_place(&place, turn).by(&place, &text) {
                return Err(Error::Busy {
                    what: place.at(&text),
                    by,
                });
            }
            take_away(&place, origin, name, partial, turn)?;
        }
        Ok(())
    }
}

/// Copies, marks, and only then gives it its name.
fn make(
    origin: &Origin,
    live: &Live,
    place: &Place,
    name: Name,
    turn: Turn<'_>,
) -> Result<(), Error> {
    let partial = text_of(origin, name, true);
    let failed = |errno| Error::call("making", place.at(&partial), errno);
    mkdirat(&place.fd, &partial, Mode::RWXU).map_err(failed)?;
    let made = place
        .open(&partial, OFlags::DIRECTORY)
        .and_then(|fd| mark(&fd, origin).map(|()| fd))
        .map_err(failed)
        .and_then(|fd| tree::copy(origin, &live.fd, &fd, turn))
        .and_then(|()| place.rename(&partial, &name.of(origin)));
    if made.is_err() {
        // The first error counts; what is left is listed as broken.
        let _ = take_away(place, origin, name, true, turn);
    }
    made
}

/// Removes a copy. From its first moment on it has the name of one that is not finished.
fn take_away(
    place: &Place,
    origin: &Origin,
    name: Name,
    is_partial: bool,
    turn: Turn<'_>,
) -> Result<(), Error> {
    let partial = text_of(origin, name, true);
    if !is_partial {
        place.rename(&name.of(origin), &partial)?;
    }
    let failed = |errno| Error::call("removing", place.at(&partial), errno);
    let fd = place.open(&partial, OFlags::DIRECTORY).map_err(failed)?;
    tree::empty(&fd, place.at(&partial).as_bstr(), turn)?;
    unlinkat(&place.fd, &partial, AtFlags::REMOVEDIR).map_err(failed)
}

/// Opens a copy that is ours; none if it is not there.
fn open(place: &Place, origin: &Origin, text: &str) -> Result<Option<OwnedFd>, Error> {
    let foreign = || Error::Foreign {
        what: place.at(text),
        mark: "the attribute trusted.piton with the origin's path",
    };
    let fd = match place.open(text, OFlags::DIRECTORY) {
        Ok(fd) => fd,
        Err(Errno::NOENT) => return Ok(None),
        Err(Errno::LOOP | Errno::NOTDIR) => return Err(foreign()),
        Err(errno) => return Err(Error::call("opening", place.at(text), errno)),
    };
    // Who died before the mark was there left an empty directory, in our own.
    let begun = text.ends_with(PARTIAL) && crate::place::is_empty(&fd);
    if begun || is_marked(&fd, origin.path()) {
        Ok(Some(fd))
    } else {
        Err(foreign())
    }
}
