//! Where a user who automounts for himself has his maps: shared by his daemon and by `explain` and
//! `check`.

use std::ffi::{OsStr, OsString};
use std::path::{Path, PathBuf};

use bstr::{BStr, BString};

/// The maps of a user's own.
#[derive(Debug)]
pub(crate) struct OwnMaps {
    /// Where relative mount points are.
    pub(crate) below: BString,
    /// Where maps are looked for by name: beside the master map.
    pub(crate) directory: PathBuf,
    /// The master map where none is named.
    pub(crate) master: OsString,
}

impl OwnMaps {
    /// Those with relative mount points below a directory, and perhaps another master map than
    /// `piton/auto.master` where the user's settings are (XDG Base Directory Specification).
    pub(crate) fn new(below: &BStr, master: Option<&OsStr>) -> Self {
        let home = || std::env::var_os("HOME").map(|home| Path::new(&home).join(".config"));
        let config = std::env::var_os("XDG_CONFIG_HOME").map(PathBuf::from);
        let config = config.filter(|path| path.is_absolute()).or_else(home);
        let own = config.unwrap_or_default().join("piton");
        let beside = master.map(Path::new).and_then(Path::parent);
        let beside = beside.filter(|path| path.is_absolute());
        Self {
            below: below.to_owned(),
            directory: beside.map_or_else(|| own.clone(), Path::to_owned),
            master: own.join("auto.master").into_os_string(),
        }
    }
}
