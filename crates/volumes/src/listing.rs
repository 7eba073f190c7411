//! Which volumes there are in one place, for those who list a map.

use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::Path;

use bstr::{BStr, BString, ByteSlice};
use piton_snapshot::{Kind, check_word};
use rustix::io::Errno;

use crate::error::Error;
use crate::execute::Site;
use crate::limits;
use crate::program::Run;
use crate::turn::Turn;

/// The root of a subvolume of btrfs has this number, and no other directory does.
const SUBVOLUME: u64 = 256;

impl Site {
    /// The names of volumes of a kind in a volume group, a dataset or a directory: those that could be
    /// keys of a map, in no order, [`limits::LISTED`] at the most.
    ///
    /// # Errors
    /// The place is not there, or cannot be asked.
    pub fn volumes(
        &self,
        kind: Kind,
        container: &BStr,
        turn: Turn<'_>,
    ) -> Result<Vec<BString>, Error> {
        let mut names = match kind {
            Kind::Lvm => {
                let run = Run::new(&self.providers.lvm.lvm, container);
                let run = run.args(["lvs", "--noheadings", "-o", "lv_name"]);
                // Pools and snapshots are no volumes to take one of.
                let run = run.args(["-S", "segtype!=thin-pool && origin=\"\""]);
                let report = run.arg(container).report(turn)?;
                report
                    .lines()
                    .map(|line| line.trim_ascii().into())
                    .collect()
            }
            Kind::Zfs => {
                let run = Run::new(&self.providers.zfs.zfs, container);
                let run = run.args(["list", "-H", "-d", "1", "-t", "filesystem", "-o", "name"]);
                let report = run.arg(container).report(turn)?;
                let below = |line: &[u8]| {
                    let name = line
                        .strip_prefix(container.as_bytes())?
                        .strip_prefix(b"/")?;
                    Some(BString::from(name))
                };
                report.lines().filter_map(below).collect()
            }
            Kind::Btrfs | Kind::Image | Kind::Directory => in_directory(kind, container)?,
        };
        names.retain(|name| check_word(name.as_bstr()).is_ok());
        names.truncate(limits::LISTED);
        Ok(names)
    }
}

fn in_directory(kind: Kind, container: &BStr) -> Result<Vec<BString>, Error> {
    use std::os::unix::fs::MetadataExt;
    let path = Path::new(std::ffi::OsStr::from_bytes(container));
    let failed = |error: std::io::Error| {
        let errno = Errno::from_io_error(&error).unwrap_or(Errno::IO);
        Error::call("listing", container, errno)
    };
    let mut names: Vec<BString> = Vec::new();
    for entry in std::fs::read_dir(path).map_err(failed)? {
        let entry = entry.map_err(failed)?;
        let Ok(about) = entry.metadata() else {
            continue;
        };
        let is_one = match kind {
            Kind::Image => about.is_file(),
            Kind::Btrfs => about.is_dir() && about.ino() == SUBVOLUME,
            _ => about.is_dir(),
        };
        if is_one {
            names.push(entry.file_name().into_vec().into());
        }
        if names.len() >= limits::LISTED {
            break;
        }
    }
    Ok(names)
}
