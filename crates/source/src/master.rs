//! The master map with everything it includes: which map governs which mount point.

use std::path::PathBuf;

use bstr::BString;
use piton_map::diagnostic::Diagnostic;
use piton_map::dialect::Dialect;
use piton_map::key::MapKind;
use piton_map::lookup::{MapSpec, Miss};
use piton_map::options::PointOptions;
use piton_map::text::Origin;

use crate::cache::Maps;

/// Everything the master map says.
#[derive(Clone, Debug)]
pub struct Site {
    /// The mount points, in reading order. An indirect path occurs once; `/-` as often as it is
    /// written, and where two direct maps have the same key the first one counts.
    pub points: Vec<SitePoint>,
    /// What there is to say about the master map and its includes.
    pub diagnostics: Vec<Diagnostic>,
    /// Files and directories that were read or looked for; a change of one of them calls for
    /// reading the master map again.
    pub files_read: Vec<PathBuf>,
    /// The dialect in which the master map was read.
    pub dialect: Dialect,
    /// The master map's name as a person would say it.
    pub master: String,
}

/// One mount point of the master map.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SitePoint {
    /// The mount point; `/-` for a direct map.
    pub path: BString,
    /// Whether keys are names under `path` or paths of their own.
    pub kind: MapKind,
    /// The maps, in the order in which they are searched.
    pub maps: Vec<MapSpec>,
    /// What the line says about the mount point.
    pub options: PointOptions,
    /// The line.
    pub origin: Origin,
}

/// Which master map to read.
#[derive(Clone, Debug, Default)]
pub struct MasterRequest {
    /// Its name or path; `None`: `auto.master`, then `auto_master`, through nsswitch.
    pub name: Option<MapSpec>,
    /// Whether to fall back to the default names, with a warning, when `name` is missing
    ///
    pub fall_back: bool,
    /// The dialect, when the command line says; `None`: the master map's comment or its name
    /// decides.
    pub dialect: Option<Dialect>,
}

/// Reads a master map with all its includes. May block.
///
/// # Errors
/// [`Miss`] when there is no master map at all or it cannot be read. Includes that cannot be
/// read are diagnostics.
pub fn read(maps: &Maps, request: &MasterRequest) -> Result<Site, Miss> {
    let (_, _) = (maps, request);
    Err(Miss::NotAvailable(
        "the master map cannot be read yet".into(),
    ))
}
