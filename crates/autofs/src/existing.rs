//! Points that are there already: those an earlier daemon left, found in `/proc/self/mountinfo`.

use std::ffi::OsString;
use std::fs::File;
use std::io::{BufRead, BufReader};
use std::os::fd::AsFd;
use std::os::unix::ffi::OsStringExt;
use std::path::{Path, PathBuf};

use bstr::{BString, ByteSlice};
use piton_mountinfo::Mount;
use rustix::io::Errno;

use crate::control::Control;
use crate::device::DeviceId;
use crate::error::{Error, Result};
use crate::packet::WaitToken;
use crate::point::PointKind;
use crate::root::PointRoot;

const AUTOFS: &[u8] = b"autofs";
const MOUNTINFO: &str = "/proc/self/mountinfo";

/// Where a point's requests go.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum PipeState {
    /// Nowhere: it is catatonic.
    Catatonic,
    /// To the pipe with this inode number ([`RequestPipe::inode`](crate::RequestPipe::inode)), read
    /// or not.
    Connected {
        /// The inode number of the pipe.
        inode: u64,
    },
    /// The kernel does not tell which pipe (before Linux 4.9).
    Unknown,
}

/// A point as the mount table shows it.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct ExistingPoint {
    /// The number of the mount, which may be given again after an unmount.
    pub mount_id: u64,
    /// The number of the mount that it lies on.
    pub parent_id: u64,
    /// The device number of its file system.
    pub device: DeviceId,
    /// Which directory of its file system is mounted: `/`, unless it is a bind mount of a part.
    pub inner_root: BString,
    /// Where it is mounted.
    pub target: PathBuf,
    /// The text that was given as what is mounted.
    pub source: BString,
    /// What triggers it.
    pub kind: PointKind,
    /// Where its requests go.
    pub pipe: PipeState,
    /// The process group that does not trigger, or nothing if that has no number here.
    pub process_group: Option<u32>,
    /// The timeout, in seconds; 0 for never.
    pub timeout_s: u64,
    /// The lowest and the highest protocol version that its daemon offered.
    pub protocol: (u32, u32),
    /// Walking through does not count as use.
    pub strict_expire: bool,
    /// Marked to be left out of listings.
    pub ignore: bool,
}

impl ExistingPoint {
    /// Returns true if and only if the point has no daemon.
    pub fn is_catatonic(&self) -> bool {
        self.pipe == PipeState::Catatonic
    }

    /// The point of one line of mountinfo; nothing for a mount of another type.
    ///
    /// # Errors
    ///
    /// [`Error::Mountinfo`] if the line is one of an autofs mount and lacks what makes a point.
    pub fn parse(line: &[u8]) -> Result<Option<Self>> {
        let line = line.trim_end_with(|c| c == '\n');
        let mount = Mount::parse(line);
        let point = match mount {
            Some(mount) if *mount.fstype == AUTOFS => point_of(mount),
            None if line.contains_str(" - autofs ") => None,
            _ => return Ok(None),
        };
        point.map(Some).ok_or_else(|| Error::Mountinfo {
            line: String::from_utf8_lossy(line).into(),
        })
    }
}

fn point_of(mount: Mount<'_>) -> Option<ExistingPoint> {
    let mut kind = None;
    let (mut descriptor, mut pipe_inode) = (None, None);
    let (mut process_group, mut timeout_s, mut protocol) = (None, 0, (5, 5));
    let (mut strict_expire, mut ignore) = (false, false);
    for option in mount.super_options.split(|byte| *byte == b',') {
        let (name, value) = option.split_once_str("=").unwrap_or((option, b""));
        match name {
            b"fd" => descriptor = Some(number::<i64>(value)?),
            b"pipe_ino" => pipe_inode = Some(number::<i64>(value)?),
            b"pgrp" => process_group = number(value).filter(|group| *group != 0),
            b"timeout" => timeout_s = number(value)?,
            b"minproto" => protocol.0 = number(value)?,
            b"maxproto" => protocol.1 = number(value)?,
            b"strictexpire" => strict_expire = true,
            b"ignore" => ignore = true,
            _ => kind = PointKind::from_name(name).or(kind),
        }
    }
    let pipe = match (descriptor, pipe_inode) {
        (Some(..0), _) | (_, Some(..0)) => PipeState::Catatonic,
        (_, Some(inode)) => PipeState::Connected {
            inode: inode.cast_unsigned(),
        },
        (_, None) => PipeState::Unknown,
    };
    Some(ExistingPoint {
        mount_id: mount.id,
        parent_id: mount.parent,
        device: DeviceId::new(mount.device.0, mount.device.1),
        inner_root: mount.root.into_owned(),
        target: OsString::from_vec(mount.point.into_owned().into()).into(),
        source: mount.source.into_owned(),
        kind: kind?,
        pipe,
        process_group,
        timeout_s,
        protocol,
        strict_expire,
        ignore,
    })
}

fn number<T: std::str::FromStr>(text: &[u8]) -> Option<T> {
    text.to_str().ok()?.parse().ok()
}

/// The points of this process's mount namespace, in the order of the mount table: parents before
/// children.
///
/// Reads the table line by line, since it can have a hundred thousand of them.
///
/// # Errors
///
/// If `/proc` is not mounted. What goes wrong later comes out of the iterator.
pub fn existing_points() -> Result<ExistingPoints> {
    let fail = |error| mountinfo_error("open", &error);
    let table = BufReader::with_capacity(1 << 16, File::open(MOUNTINFO).map_err(fail)?);
    Ok(ExistingPoints {
        table,
        line: Vec::new(),
    })
}

fn mountinfo_error(call: &'static str, error: &std::io::Error) -> Error {
    let errno = Errno::from_io_error(error).unwrap_or(Errno::IO);
    Error::call_on(call, Path::new(MOUNTINFO), errno)
}

/// The iterator of [`existing_points`]. A line that cannot be read costs that line.
#[derive(Debug)]
pub struct ExistingPoints {
    table: BufReader<File>,
    line: Vec<u8>,
}

impl Iterator for ExistingPoints {
    type Item = Result<ExistingPoint>;

    fn next(&mut self) -> Option<Self::Item> {
        loop {
            self.line.clear();
            match self.table.read_until(b'\n', &mut self.line) {
                Ok(0) => return None,
                Ok(_) => {}
                Err(error) => return Some(Err(mountinfo_error("read", &error))),
            }
            if let Some(point) = ExistingPoint::parse(&self.line).transpose() {
                return Some(point);
            }
        }
    }
}

/// Takes over a point from a daemon that is gone, with a new pipe, and returns its open root.
///
/// Processes that wait for the old daemon get `ENOENT`: a point changes hands only through being
/// catatonic. Those whose requests are known, because the old pipe was kept, are named in `waiting`:
/// they are sent to walk their path again at the moment of the change, and mostly come back to the
/// point after it (it takes two calls; waking a process takes longer). What is mounted on the point
/// stays. This process's group becomes the point's. (A daemon of the same group that still holds the
/// pipe's read end needs none of this.)
///
/// # Errors
///
/// Those of [`Control::open_point`], [`Control::make_catatonic`], [`Control::set_pipe`] and
/// [`Control::set_timeout`], in this order; after one of the later ones the point is catatonic, and
/// this can be tried again.
pub fn reconnect(
    control: &Control,
    target: &Path,
    device: DeviceId,
    pipe_writer: impl AsFd,
    timeout_s: u64,
    waiting: &[WaitToken],
) -> Result<PointRoot> {
    let root = control.open_point(target, device)?;
    for token in waiting {
        // It may have been answered: then nobody waits.
        let _ = control.walk_again(root.as_fd(), *token);
    }
    control.make_catatonic(root.as_fd())?;
    control.set_pipe(root.as_fd(), pipe_writer)?;
    control.set_timeout(root.as_fd(), timeout_s)?;
    Ok(root.into())
}

#[cfg(test)]
mod tests;
