//! `piton check`: looks for mistakes in maps.

use std::ffi::OsString;
use std::sync::Arc;

use crate::check::{self, output};
use crate::exit::Exit;
use crate::explain::site;
use crate::exports::NotAsking;
use crate::render;

/// Its arguments.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Master maps; without one /etc/auto.master, then /etc/auto_master.
    masters: Vec<OsString>,
    #[command(flatten)]
    site: site::SiteArgs,
    /// Print one JSON object in place of text (docs/diagnostics.md).
    #[arg(long)]
    json: bool,
    /// Print SARIF 2.1.0, for code review and CI.
    #[arg(long, conflicts_with = "json")]
    sarif: bool,
}

/// Runs it. Exit status 0: nothing but notes; 1: warnings or errors; 2: could not look.
pub(crate) fn run(args: &Args) -> Exit {
    let mut masters: Vec<_> = args
        .masters
        .iter()
        .map(|name| Some(name.as_os_str()))
        .collect();
    if masters.is_empty() {
        masters.push(None);
    }
    let mut findings = check::Findings::default();
    let mut blind = false;
    for master in masters {
        match site::open(master, &args.site, false, Arc::new(NotAsking)) {
            Ok(opened) => check::check(&opened, &mut findings),
            Err(why) => {
                render::complain("check", &why);
                blind = true;
            }
        }
    }
    if blind && findings.is_empty() {
        return Exit::Usage;
    }
    let findings = findings.finish();
    match (args.sarif, args.json) {
        (true, _) => render::print(&output::sarif(&findings)),
        (false, true) => render::print(&output::json(&findings)),
        (false, false) => render::print(&output::text(&findings)),
    }
    match (blind, findings.fails()) {
        (true, _) => Exit::Usage,
        (false, true) => Exit::Failure,
        (false, false) => Exit::Success,
    }
}
