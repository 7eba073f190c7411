//! `piton drain` and `piton undrain`: keep new accesses away from a server, and let them come again.

use super::talk::{complain, connect, explain_left, print, seconds};
use crate::exit::Exit;

/// Its arguments.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// The server as the maps have it.
    server: String,
    /// Move what is in use, too: who is inside stays with this server.
    #[arg(long)]
    now: bool,
    /// End by itself after this time: 90s, 30m, 8h, 2d.
    #[arg(long = "for", value_name = "TIME", value_parser = seconds)]
    time: Option<u64>,
}

/// The arguments of `undrain`.
#[derive(Debug, clap::Args)]
pub(crate) struct UndrainArgs {
    /// The server as the maps have it.
    server: String,
}

/// Runs it. What stays is no failure.
pub(crate) fn run(args: &Args) -> Exit {
    let mut client = match connect() {
        Ok(client) => client,
        Err(error) => return complain(&error),
    };
    match client.drain(&args.server, args.now, args.time) {
        Ok(left) if left.is_empty() => print(&format!(
            "{} is drained: nothing is mounted from it\n",
            args.server
        )),
        Ok(left) => {
            let mut text = explain_left(Some(&mut client), &left);
            text += &format!("{} still mounted from it\n", left.len());
            print(&text)
        }
        Err(error) => complain(&error),
    }
}

/// Runs `undrain`.
pub(crate) fn undrain(args: &UndrainArgs) -> Exit {
    match connect().and_then(|mut client| client.undrain(&args.server)) {
        Ok(true) => Exit::Success,
        Ok(false) => complain(&format_args!("{} is not drained", args.server)),
        Err(error) => complain(&error),
    }
}
