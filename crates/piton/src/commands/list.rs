//! `piton list`: what is mounted, a line each.
//!
//! The lines are for programs; docs/control.md has their columns, and the fields of `--json`.

use std::fmt::Write;

use super::talk::{complain, connect, field, print, print_json};
use crate::exit::Exit;

/// Its arguments.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// As JSON: an array of objects (docs/control.md).
    #[arg(long)]
    json: bool,
}

/// Runs it.
pub(crate) fn run(args: &Args) -> Exit {
    let mounts = match connect().and_then(|mut client| client.list()) {
        Ok(mounts) => mounts,
        Err(error) => return complain(&error),
    };
    if args.json {
        return print_json(&mounts);
    }
    let mut text = String::new();
    for mount in &mounts {
        let fields =
            [&mount.path, &mount.source, &mount.kind, &mount.mount_point].map(|text| field(text));
        // Writing to a string does not fail.
        let age_s = mount.age_ms / 1000;
        let last = &mount.last;
        let comm = field(last.comm.as_deref().unwrap_or("-"));
        let _ = writeln!(
            text,
            "{}\t{age_s}\t{}\t{}\t{}\t{comm}",
            fields.join("\t"),
            mount.uses,
            last.uid,
            last.pid
        );
    }
    print(&text)
}
