//! `piton explain`: what would happen if a path were touched, and why.

use std::ffi::OsString;

use crate::exit::Exit;
use crate::explain::{self, Status, json, site, text};
use crate::render;

/// Its arguments.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// The path somebody would touch; it need not exist.
    path: OsString,
    /// The master map; without it /etc/auto.master, then /etc/auto_master.
    #[arg(long, short = 'f', value_name = "FILE")]
    master: Option<OsString>,
    #[command(flatten)]
    site: site::SiteArgs,
    /// Print one JSON object (docs/explain.md) in place of text.
    #[arg(long)]
    json: bool,
    /// Who touches it, by name or number: some variables and program maps depend on it.
    #[arg(long, value_name = "NAME|UID")]
    user: Option<String>,
    /// Run program maps. They are programs: they may do anything.
    #[arg(long)]
    run: bool,
    /// Ask name services and servers, for some seconds at most. Without it nobody is asked.
    #[arg(long)]
    probe: bool,
}

/// Runs it. Exit status 0: found; 1: not found, or found and of no use; 2: could not look.
pub(crate) fn run(args: &Args) -> Exit {
    let request = explain::Request {
        path: &args.path,
        master: args.master.as_deref(),
        site: &args.site,
        user: args.user.as_deref(),
        run_programs: args.run,
        probe: args.probe,
    };
    let explanation = match explain::explain(&request) {
        Ok(explanation) => explanation,
        Err(why) => {
            render::complain("explain", &why);
            return Exit::Usage;
        }
    };
    if args.json {
        render::print(&json::render(&explanation));
    } else {
        render::print(&text::render(&explanation));
    }
    match explanation.status {
        Status::Found => Exit::Success,
        Status::NotFound | Status::Error => Exit::Failure,
    }
}
