//! `automount --old`: the automounter before autofs, which serves its mount points by NFS and shows
//! links. What is wrong is said before anything goes into the background.

mod words;

use std::collections::HashSet;
use std::ffi::OsString;

use piton_map::diagnostic::Severity;
use piton_map::dialect::Dialect;
use piton_map::key::MapKind;
use piton_map::lookup::{MapSpec, MapType, Miss};
use piton_map::requester::Requester;
use piton_source::cache::{Maps, Settings};
use piton_source::master::{self, MasterRequest, Site, SitePoint};
use piton_source::source::LookupContext;

use self::words::{MASTER, Older};
use crate::daemon;
use crate::exit::Exit;
use crate::exports::NotAsking;
use crate::render;

const USAGE: &str = "\
usage: automount --old [-nTv] [-D name=value] [-f master-file] [-M mount-directory]
                 [-tl duration] [-tm interval] [-tw interval]
                 [directory map [-mount-options]]...";

/// What its options mean, after [`USAGE`].
const OPTIONS: &str = "
Options:
  -n                 mount nothing: only what is mounted already is served
  -T                 log each NFS call and its answer in automount.log
  -v                 log each mount and unmount
  -D NAME=VALUE      a variable for maps (may be repeated)
  -f FILE            lines DIRECTORY MAP [-OPTIONS], read before auto_master
  -M DIRECTORY       mount below this directory [/tmp_mnt]
  -tl DURATION       unmount after this time without use [300]
  -tm INTERVAL       retry what fails again and again at most this long after it failed [30]
  -tw INTERVAL       look for idle mounts so often [60]
  --environment NAME let maps use this variable of the environment (may be repeated)
  --trace-file FILE  where -T logs
  --foreground       do not go into the background: for systemd

DIRECTORY MAP is a mount point and its map, as in `/net -hosts`, `/homes /etc/auto.homes`,
`/- /etc/auto.direct`; `/homes -null` takes one of auto_master away. The first line for a
directory counts: the command line's, then -f's, then auto_master's.

Exit status: 0 mount points are in place (those that are not are named), 2 the command line is
wrong, 3 there is no map to serve, else 1.";

/// Runs it with the words after `--old`.
pub(super) fn run(args: &[OsString]) -> Exit {
    if args.first().is_some_and(|first| first == "--help") {
        println!("{USAGE}\n{OPTIONS}");
        return Exit::Success;
    }
    let older = match words::read(args) {
        Ok(older) => older,
        Err(wrong) => {
            tell(&render::diagnostic(&wrong));
            tell(USAGE);
            return Exit::Usage;
        }
    };
    if older.without_meaning {
        tell("automount: -m has no meaning and is ignored");
    }
    match look(&older) {
        Ok(()) => daemon::run(&older.daemon_words(calls_log())),
        Err(why) => {
            tell(&format!("automount: {why}"));
            Exit::MapNotFound
        }
    }
}

/// Where calls are logged with `-T`: what the founding documents say where there is such a
/// directory, else where logs are.
fn calls_log() -> &'static str {
    match std::path::Path::new("/var/adm").is_dir() {
        true => "/var/adm/automount.log",
        false => "/var/log/automount.log",
    }
}

/// Looks at master map and maps, and says what is wrong with them.
///
/// # Errors
/// There is nothing to serve.
fn look(older: &Older) -> Result<(), String> {
    let asks = std::sync::Arc::new(NotAsking);
    let maps = Maps::new(Settings {
        exports: Some(asks.clone()),
        users: Some(asks),
        run_programs: false,
        ..Settings::default()
    });
    let request = MasterRequest {
        name: older.master.clone().map(|name| MapSpec {
            kind: None,
            format: None,
            name,
            arguments: Vec::new(),
            origin: None,
        }),
        dialect: Some(Dialect::OLDER),
        lines: older.master_lines(),
        also: Some(MASTER.into()),
        ..MasterRequest::default()
    };
    let site = match master::read(&maps, &request) {
        Ok(site) => site,
        Err(Miss::NoSuchMap(_) | Miss::NotAvailable(_)) if request.name.is_none() => {
            return Err(format!("there are no maps: {}", what_to_do(false)));
        }
        Err(miss) => {
            let why = piton_engine::cause::Cause::Lookup(miss);
            return Err(format!("the master map cannot be read: {why}"));
        }
    };
    for one in &site.diagnostics {
        if one.severity != Severity::Note || older.verbose {
            tell(&render::diagnostic(one));
        }
    }
    let served = points_with_maps(&maps, &site);
    match site.points.is_empty() || served == 0 {
        true => Err(format!(
            "none of the maps is there: {}",
            what_to_do(!site.points.is_empty())
        )),
        false => Ok(()),
    }
}

fn what_to_do(named: bool) -> &'static str {
    match named {
        true => "correct their names",
        false => {
            "name a directory and a map, as in `automount --old /net -hosts`, a file of such lines \
             with -f, or write /etc/auto_master"
        }
    }
}

/// How many mount points have a map that is there; says which maps are not.
fn points_with_maps(maps: &Maps, site: &Site) -> usize {
    let mut told = HashSet::new();
    let mut served = 0;
    for point in &site.points {
        let listing = maps.incomplete(&point.maps, &context(site, point));
        served += usize::from(listing.served || point.maps.iter().any(is_program));
        for (map, miss) in listing.incomplete {
            // That programs are not run yet is no fault of theirs.
            if !matches!(miss, Miss::NotAvailable(_)) && told.insert(map.clone()) {
                let why = piton_engine::cause::Cause::Lookup(miss);
                tell(&format!("automount: {}: {why}", point.path));
            }
        }
    }
    served
}

fn is_program(map: &MapSpec) -> bool {
    map.kind == Some(MapType::Program)
}

fn context<'c>(site: &'c Site, point: &'c SitePoint) -> LookupContext<'c> {
    static NOBODY: std::sync::LazyLock<Requester> = std::sync::LazyLock::new(Requester::default);
    LookupContext {
        kind: match point.path == "/-" {
            true => MapKind::Direct,
            false => MapKind::Indirect,
        },
        dialect: &site.dialect,
        requester: &NOBODY,
        defines: &point.options.defines,
        mount_point: point.path.as_ref(),
        deadline: None,
    }
}

/// Says something on standard error.
fn tell(text: &str) {
    anstream::eprintln!("{}", text.trim_end());
}
