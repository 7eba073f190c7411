//! The command line: which command, with which arguments.

use std::ffi::OsString;
use std::path::Path;
use std::process::ExitCode;

use clap::{Parser, Subcommand};

use crate::commands::{
    automount, check, daemon, demo, drain, expire, explain, flush, list, mount, pin, reload,
    resolver, snapshot, status, stop, trace, unmount, upgrade, worker,
};
use crate::exit::Exit;

/// An automounter for Linux: touch a path and the filesystem behind it is there.
#[derive(Debug, Parser)]
#[command(name = "piton", version, arg_required_else_help = true)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Run the automounter.
    #[command(disable_help_flag = true)]
    Daemon(RawArgs),
    /// Say what would happen if a path were touched, and why. Needs no root and no daemon.
    Explain(explain::Args),
    /// Look for mistakes in maps. Exit status 0: none, 1: some, 2: could not look.
    Check(check::Args),
    /// Show what is mounted, who waits, what failed and who keeps things busy.
    Status(status::Args),
    /// List what is mounted, a line each.
    ///
    /// The columns, parted by tabs: path, source, kind, mount point, age in seconds, uses, and uid, pid
    /// and program of the last requester (docs/control.md).
    List(list::Args),
    /// Show each access as it is answered, with the time of every stage.
    Trace(trace::Args),
    /// Read the maps again and apply what changed.
    Reload(reload::Args),
    /// Unmount what is idle now.
    ///
    /// Exit status 0: done, also if something is in use; 1: not done, or nothing of the daemon's is at
    /// PATH; 2: the command line is wrong.
    Expire(expire::Args),
    /// Forget failures that are answered from memory, so that they are tried again.
    ///
    /// Exit status 0: done; 1: not done, or nothing of the daemon's is at PATH; 2: the command line is
    /// wrong.
    Flush(flush::Args),
    /// Keep new accesses away from a server, and move what can be had from another.
    Drain(drain::Args),
    /// Use a drained server again.
    Undrain(drain::UndrainArgs),
    /// Keep what is mounted at a path as it is for a time.
    Pin(pin::Args),
    /// Take a pin away.
    Unpin(pin::UnpinArgs),
    /// Mount what is behind a path, by touching it.
    Mount(mount::Args),
    /// Unmount what is mounted at a path.
    Unmount(unmount::Args),
    /// Snapshots taken on access: list them, remove what is not kept, say why one is there.
    Snapshot(snapshot::Args),
    /// Have another version of this program take over, without a failed access.
    Upgrade(upgrade::Args),
    /// End the daemon.
    Stop(stop::Args),
    /// A minute's tour on real mounts, in a private mount namespace.
    Demo(demo::Args),
    /// The documents' command: make the autofs mounts agree with the master map.
    #[command(disable_help_flag = true, override_help = automount::HELP)]
    Automount(RawArgs),
}

/// Arguments in a classic form, read by the command itself.
#[derive(Debug, clap::Args)]
struct RawArgs {
    #[arg(trailing_var_arg = true, allow_hyphen_values = true, num_args = 0..)]
    rest: Vec<OsString>,
}

/// Runs the program with these arguments, the first of which is its name.
pub(crate) fn run(mut args: Vec<OsString>) -> ExitCode {
    let name = args
        .first()
        .map(|name| Path::new(name).file_name().unwrap_or_default().to_owned());
    if name.is_some_and(|name| name == "automount") {
        return automount::run(&args[1..]).into();
    }
    // What follows `daemon` and `automount` has a grammar of its own.
    match args.get(1).and_then(|word| word.to_str()) {
        Some("worker") if args.len() == 2 => return worker::run().into(),
        // Started by a worker that freezes file systems, to thaw them if that is killed.
        Some("guard") => return piton_volumes::serve_guard(&args[2..]),
        Some("resolver") if args.len() == 2 => return resolver::run().into(),
        Some("daemon") => return daemon::run(&args.split_off(2)).into(),
        Some("automount") => return automount::run(&args.split_off(2)).into(),
        _ => {}
    }
    match Cli::try_parse_from(args) {
        Ok(cli) => dispatch(cli.command).into(),
        Err(error) => {
            let usage = error.use_stderr();
            // Nothing can be done about a terminal that is gone.
            let _ = error.print();
            if usage {
                Exit::Usage.into()
            } else {
                Exit::Success.into()
            }
        }
    }
}

fn dispatch(command: Command) -> Exit {
    match command {
        Command::Daemon(args) => daemon::run(&args.rest),
        Command::Automount(args) => automount::run(&args.rest),
        Command::Explain(args) => explain::run(&args),
        Command::Check(args) => check::run(&args),
        Command::Status(args) => status::run(&args),
        Command::List(args) => list::run(&args),
        Command::Trace(args) => trace::run(&args),
        Command::Reload(args) => reload::run(&args),
        Command::Expire(args) => expire::run(&args),
        Command::Flush(args) => flush::run(&args),
        Command::Drain(args) => drain::run(&args),
        Command::Undrain(args) => drain::undrain(&args),
        Command::Pin(args) => pin::run(&args),
        Command::Unpin(args) => pin::unpin(&args),
        Command::Mount(args) => mount::run(&args),
        Command::Unmount(args) => unmount::run(&args),
        Command::Snapshot(args) => snapshot::run(&args),
        Command::Upgrade(args) => upgrade::run(&args),
        Command::Stop(args) => stop::run(&args),
        Command::Demo(args) => demo::run(&args),
    }
}
