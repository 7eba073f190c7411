//! What would happen if a path were touched: the same steps that the daemon goes through, from
//! the master map to the plan, without doing any of them.
//!
//! [`explain`] walks a path through the site: which mount point governs it, which line of which
//! map has its key, what that line becomes. Where the line is a map of its own
//! (`-fstype=autofs`) the walk goes on inside, so that the result is a chain of [`Link`]s.
//! [`text`] and [`json`] show the chain; nothing is decided there.

pub(crate) mod asker;
pub(crate) mod daemon;
pub(crate) mod json;
pub(crate) mod near;
pub(crate) mod site;
pub(crate) mod text;
mod walk;

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::sync::Arc;

use std::net::IpAddr;

use bstr::BString;
use piton_engine::cause::Cause;
use piton_map::diagnostic::Diagnostic;
use piton_map::key::MapKind;
use piton_map::limits::HOSTS_MAP;
use piton_map::lookup::{Found, MapSpec, MapType};
use piton_map::text::Fragment;
use piton_plan::TraceLine;
use piton_plan::step::TriggerKind;
use piton_source::cache::Listing;
use piton_source::master::SitePoint;

use crate::exports::{Asking, Asks, NotAsking};

/// How the reason ends for which a program map has no answer when programs may not be run.
pub(crate) const NOT_RUN: &str = "programs are not run here";

/// What is asked.
pub(crate) struct Request<'a> {
    /// The path.
    pub(crate) path: &'a OsStr,
    /// The master map, when one is named.
    pub(crate) master: Option<&'a OsStr>,
    /// Where to look, and how to read.
    pub(crate) site: &'a site::SiteArgs,
    /// Who asks, by name or number.
    pub(crate) user: Option<&'a str>,
    /// Whether program maps may be run.
    pub(crate) run_programs: bool,
    /// Whether servers are asked.
    pub(crate) probe: bool,
}

/// How it ended: the `status` of `explain --json`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Status {
    /// Touching the path mounts something, or the path is a mount point.
    Found,
    /// No map has it.
    NotFound,
    /// There is a map or an entry for it that cannot be used.
    Error,
}

/// The answer.
pub(crate) struct Explanation {
    /// The path, absolute and clean.
    pub(crate) path: BString,
    pub(crate) status: Status,
    /// The status in one sentence.
    pub(crate) reason: String,
    /// What a program that touches the path gets to see when the status is not `Found`.
    pub(crate) cause: Option<Cause>,
    /// Name of the dialect in force.
    pub(crate) dialect: &'static str,
    /// The master map's name.
    pub(crate) master: String,
    /// Seconds of idleness for all maps, and who says so.
    pub(crate) timeout: Option<(u32, &'static str)>,
    /// Whether it is for the settings of the daemon that runs here.
    pub(crate) told: bool,
    /// One for each mount point gone through, outermost first.
    pub(crate) chain: Vec<Link>,
    /// What there is to say about the lines gone through.
    pub(crate) diagnostics: Vec<Diagnostic>,
    /// Whether servers were asked.
    pub(crate) probed: bool,
    /// What a daemon that runs here has to say about it.
    pub(crate) daemon: Option<daemon::Daemon>,
    /// Why a daemon that runs here said nothing.
    pub(crate) unheard: Option<String>,
}

/// One mount point on the way, and what becomes of its key.
pub(crate) struct Link {
    pub(crate) point: SitePoint,
    /// The line that names the map, if its file can be read.
    pub(crate) line: Option<Fragment>,
    /// Absolute path of the trigger: the mount point, or a direct map's key.
    pub(crate) mount_point: BString,
    /// The key; `None` when the path is the mount point itself.
    pub(crate) key: Option<BString>,
    /// The path below the key.
    pub(crate) rest: BString,
    /// The entry's line.
    pub(crate) found: Option<Found>,
    pub(crate) trace: Vec<TraceLine>,
    /// Seconds of idleness that the entry names.
    pub(crate) timeout: Option<u32>,
    /// Everything the entry mounts, parents first.
    pub(crate) mounts: Vec<Mount>,
    /// The keys, when the path is the mount point itself.
    pub(crate) listing: Option<Listing>,
}

/// A mount of an entry.
pub(crate) struct Mount {
    pub(crate) target: BString,
    pub(crate) fstype: BString,
    pub(crate) options: Vec<BString>,
    pub(crate) source: BString,
    /// The servers, the one tried first in front.
    pub(crate) servers: Vec<Server>,
    /// Whether touching the path mounts it, or only the trigger for it is put in place.
    pub(crate) on_the_way: bool,
}

/// A server of a replicated mount.
pub(crate) struct Server {
    pub(crate) host: BString,
    pub(crate) path: BString,
    pub(crate) weight: u32,
    pub(crate) proximity: &'static str,
    /// The address that answered, or the first that is known.
    pub(crate) address: Option<IpAddr>,
    /// What is known of it: docs/explain.md.
    pub(crate) verdict: &'static str,
    /// Milliseconds to its answer.
    pub(crate) answer_ms: Option<f64>,
    /// Why it has its place.
    pub(crate) reason: String,
    /// Whether it is the one that would be mounted from.
    pub(crate) chosen: bool,
    /// What a daemon that runs here knows of it.
    pub(crate) health: Option<daemon::Health>,
}

/// Explains a path.
///
/// # Errors
/// Why it cannot be looked: no master map, an unknown user.
pub(crate) fn explain(request: &Request<'_>) -> Result<Explanation, String> {
    let requester = match request.user {
        Some(user) => asker::named(user)?,
        None => asker::caller(),
    };
    let path = absolute(request.path)?;
    // Who names anything means a site as it could be.
    let told = match request.master.is_none() && request.site.is_silent() {
        true => daemon::settings(),
        false => None,
    };
    let opened = {
        let asks: Arc<dyn Asks> = match request.probe {
            true => Arc::new(Asking::new(near::resolver())),
            false => Arc::new(NotAsking),
        };
        match &told {
            Some(told) => site::open_told(told, request.run_programs, asks)?,
            None => site::open(request.master, request.site, request.run_programs, asks)?,
        }
    };
    let mut explanation = walk::walk(&opened, requester, path, request.probe);
    explanation.told = told.is_some();
    // A site below another directory is not what a daemon of this host serves.
    if request.site.is_installed() && !explanation.chain.is_empty() {
        let looked = daemon::look(&mut explanation);
        explanation.unheard = looked.err().map(|error| error.to_string());
    }
    Ok(explanation)
}

/// The path as the kernel would see it, without looking at the disk.
fn absolute(path: &OsStr) -> Result<BString, String> {
    if path.is_empty() {
        return Err("the path is empty: name an absolute path such as /home/ann".into());
    }
    let whole = match Path::new(path).is_absolute() {
        true => Path::new(path).to_owned(),
        false => std::env::current_dir()
            .map_err(|error| {
                format!("the current directory is not known ({error}): give an absolute path")
            })?
            .join(path),
    };
    Ok(piton_path::normalize(whole.as_os_str().as_bytes()).into_owned())
}

/// The names of a mount point's maps as they are written.
pub(crate) fn map_names(point: &SitePoint) -> String {
    let name = |map: &MapSpec| match &map.kind {
        Some(MapType::Hosts) if map.name != HOSTS_MAP => format!("hosts:{}", map.name),
        Some(MapType::Hosts | MapType::Null | MapType::Passwd) | None => map.name.to_string(),
        Some(MapType::File) => format!("file:{}", map.name),
        Some(MapType::Snapshot) => format!("snapshot:{}", map.name),
        Some(MapType::Program) => format!("program:{}", map.name),
        Some(MapType::Other(kind)) => format!("{kind}:{}", map.name),
    };
    point.maps.iter().map(name).collect::<Vec<_>>().join(" -- ")
}

/// The kind of trigger for a kind of map.
pub(crate) fn trigger_kind(kind: MapKind) -> TriggerKind {
    match kind {
        MapKind::Indirect => TriggerKind::Indirect,
        MapKind::Direct => TriggerKind::Direct,
    }
}
