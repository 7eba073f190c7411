//! `piton demo`: a minute's tour on real mounts, in a private mount namespace.

mod as_root;
mod as_user;
mod stage;

use std::ffi::OsString;
use std::process::Command;

use crate::exit::Exit;

/// Its arguments.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// The part that runs inside the private namespace.
    #[arg(long, hide = true)]
    inside: bool,
}

/// Runs it.
pub(crate) fn run(args: &Args) -> Exit {
    let root = rustix::process::geteuid().is_root();
    if args.inside {
        let toured = if in_user_namespace() {
            as_user::tour()
        } else {
            as_root::tour()
        };
        return match toured {
            Ok(()) => Exit::Success,
            Err(trouble) => {
                eprintln!("piton demo: {trouble}");
                Exit::Failure
            }
        };
    }
    if root {
        enter(&["--mount", "--propagation", "private"])
    } else {
        enter_as_user()
    }
}

/// Runs the tour in namespaces of its own, so that nothing of it is seen or left outside.
fn enter(namespaces: &[&str]) -> Exit {
    let status = std::env::current_exe().and_then(|program| {
        let words: [OsString; 4] = [
            "--".into(),
            program.into(),
            "demo".into(),
            "--inside".into(),
        ];
        Command::new("unshare")
            .args(namespaces)
            .args(words)
            .status()
    });
    match status {
        Ok(status) if status.success() => Exit::Success,
        Ok(_) => Exit::Failure,
        Err(error) => {
            eprintln!("piton demo: cannot run unshare(1) of util-linux: {error}");
            Exit::Failure
        }
    }
}

fn enter_as_user() -> Exit {
    println!(
        "You are not root. The kernel's autofs is for root only, so this is the part of the tour\n\
         that a user may take: the same maps, planned in full and mounted in a user namespace,\n\
         but by our own hand and not on access.\n"
    );
    let may = Command::new("unshare")
        .args(["--user", "--map-root-user", "--mount", "true"])
        .status();
    if may.is_ok_and(|status| status.success()) {
        return enter(&[
            "--user",
            "--map-root-user",
            "--mount",
            "--propagation",
            "private",
        ]);
    }
    println!(
        "This system lets users make no user namespaces: nothing is mounted, only explained.\n"
    );
    match as_user::explain_only() {
        Ok(()) => Exit::Success,
        Err(trouble) => {
            eprintln!("piton demo: {trouble}");
            Exit::Failure
        }
    }
}

/// Whether root here is root of a user namespace only.
fn in_user_namespace() -> bool {
    let map = std::fs::read_to_string("/proc/self/uid_map").unwrap_or_default();
    let whole = map.split_whitespace().collect::<Vec<_>>() == ["0", "0", "4294967295"];
    !whole
}
