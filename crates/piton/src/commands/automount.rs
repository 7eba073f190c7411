//! `automount [-f master-file] [-t duration] [-v]`: the documents' command, or the
//! older automounter ([`older`]) where a switch says so ([`switch`]).
//!
//! It makes the autofs mounts agree with the master map: where a daemon runs, it has it read
//! the maps again; where none runs, it starts one.

mod older;
mod switch;

use std::ffi::OsString;
use std::path::{Path, PathBuf};

use lexopt::{Arg, Parser};
use piton_control::client::Client;
use piton_control::runtime::RuntimeDir;

use crate::daemon;
use crate::exit::Exit;

const USAGE: &str = "usage: automount [-f master-file] [-t duration] [-v]";

/// What `--help` prints.
pub(crate) const HELP: &str = "\
The documents' command: make the autofs mounts agree with the master map.

Usage: piton automount [-f FILE] [-t DURATION] [-v]
       piton automount --old [OPTIONS] [DIRECTORY MAP [-MOUNT_OPTIONS]]...

Where a daemon runs, it reads the maps again; where none runs, one is started.

Options:
  -f FILE        the master map [/etc/auto_master, else /etc/auto.master]
  -t DURATION    unmount after this time without use, for a daemon that is started: 300, 5m, 1h
  -v             say what is mounted, unmounted and updated
  --old          as the first word: the automounter before autofs, which serves its mount points
                 by NFS and shows links; `piton automount --old --help` has its options

Exit status: 0 done, 1 not done, 2 the command line is wrong, 3 there is no master map.
";

/// Master maps that are looked for when none is named, or the named one is missing (R-121,
///
const DEFAULTS: [&str; 2] = ["/etc/auto_master", "/etc/auto.master"];

#[derive(Debug, Default, PartialEq)]
struct Options {
    master: Option<PathBuf>,
    timeout: Option<u32>,
    verbose: bool,
}

/// Runs it.
pub(crate) fn run(args: &[OsString]) -> Exit {
    if let Some((first, rest)) = args.split_first()
        && first == "--old"
    {
        return older::run(rest);
    }
    if args.first().is_some_and(|first| first == "--help") {
        print!("{HELP}");
        return Exit::Success;
    }
    match switch::read(&switch::FILES.map(Path::new)) {
        Ok(switch::Engine::Autofs) => {}
        Ok(switch::Engine::Older) => return older::run(args),
        Err(message) => {
            eprintln!("automount: {message}");
            return Exit::Failure;
        }
    }
    let options = match read(args) {
        Ok(options) => options,
        Err(message) => {
            eprintln!("automount: {message}\n{USAGE}");
            return Exit::Usage;
        }
    };
    let Some(master) = find_master(options.master.as_deref(), &DEFAULTS.map(Path::new)) else {
        eprintln!(
            "automount: there is no master map: neither /etc/auto_master nor /etc/auto.master"
        );
        return Exit::MapNotFound;
    };
    match Client::connect(&RuntimeDir::from_env()) {
        Ok(client) => reconcile(client, &options, &master),
        Err(_) => start(&options, &master),
    }
}

fn read(args: &[OsString]) -> Result<Options, String> {
    let mut options = Options::default();
    let mut parser = Parser::from_args(args);
    while let Some(arg) = parser.next().map_err(|error| error.to_string())? {
        match arg {
            Arg::Short('f') => {
                options.master = Some(parser.value().map_err(|error| error.to_string())?.into());
            }
            Arg::Short('t') => options.timeout = Some(duration(&mut parser)?),
            Arg::Short('v') => options.verbose = true,
            Arg::Long("old") => {
                return Err("--old: the older automounter is chosen by the first word".into());
            }
            other => return Err(other.unexpected().to_string()),
        }
    }
    Ok(options)
}

/// A duration in seconds, or with a unit: `300`, `5m`, `1h`.
fn duration(parser: &mut Parser) -> Result<u32, String> {
    let word = parser.value().map_err(|error| error.to_string())?;
    let wrong = || format!("-t {word:?}: a time such as 300, 5m or 1h is expected");
    word.to_str().and_then(seconds_of).ok_or_else(wrong)
}

/// The seconds of a time such as `300`, `5m` or `1h`.
fn seconds_of(text: &str) -> Option<u32> {
    let (number, unit) = match text.char_indices().last() {
        Some((at, 's')) => (&text[..at], 1),
        Some((at, 'm')) => (&text[..at], 60),
        Some((at, 'h')) => (&text[..at], 3600),
        _ => (text, 1),
    };
    number.parse::<u32>().ok()?.checked_mul(unit)
}

/// The named master map, or the first of `defaults` that exists.
fn find_master(named: Option<&Path>, defaults: &[&Path]) -> Option<PathBuf> {
    let fallback = defaults
        .iter()
        .find(|path| path.exists())
        .map(|path| path.to_path_buf());
    let Some(named) = named else { return fallback };
    if named.exists() {
        // The daemon names it so, and is asked which one it has.
        return std::path::absolute(named).ok();
    }
    let instead = fallback
        .as_ref()
        .map_or("there is no other".into(), |path| {
            format!("using {} instead", path.display())
        });
    eprintln!(
        "automount: warning: the master map {} does not exist; {instead}",
        named.display()
    );
    fallback
}

/// Has a running daemon make its mount points agree with the master map.
fn reconcile(mut client: Client, options: &Options, master: &Path) -> Exit {
    let served = client
        .status(None)
        .map(|status| (status.daemon.pid, status.master_maps));
    if let Ok((pid, maps)) = &served
        && options.master.is_some()
        && !maps.iter().any(|map| Path::new(map) == master)
    {
        eprintln!(
            "automount: a daemon (pid {pid}) keeps {} in place, not {}; end it first: piton stop",
            maps.join(", "),
            master.display()
        );
        return Exit::Failure;
    }
    if options.timeout.is_some() {
        eprintln!("automount: warning: -t has no effect on a daemon that runs already");
    }
    match client.reload() {
        Ok(plan) => {
            if options.verbose {
                report(&plan);
            }
            Exit::Success
        }
        Err(error) => {
            eprintln!("automount: {error}");
            Exit::Failure
        }
    }
}

fn report(plan: &piton_control::message::ReloadPlan) {
    for change in &plan.added {
        eprintln!("automount: {} mounted", change.path);
    }
    for change in &plan.removed {
        eprintln!("automount: {} unmounted", change.path);
    }
    for change in &plan.changed {
        eprintln!("automount: {} updated", change.path);
    }
    if plan.added.is_empty() && plan.removed.is_empty() && plan.changed.is_empty() {
        eprintln!("automount: no changes");
    }
}

/// Starts a daemon; it returns when the mount points are in place.
fn start(options: &Options, master: &Path) -> Exit {
    let mut args: Vec<OsString> = vec!["--master".into(), master.into()];
    if let Some(timeout) = options.timeout {
        args.extend(["--timeout".into(), timeout.to_string().into()]);
    }
    if options.verbose {
        args.push("--verbose".into());
    }
    let exit = daemon::run(&args);
    if exit == Exit::Success
        && options.verbose
        && let Ok(mut client) = Client::connect(&RuntimeDir::from_env())
        && let Ok(status) = client.status(None)
    {
        for point in status.mount_points {
            eprintln!("automount: {} mounted", point.path);
        }
    }
    exit
}

#[cfg(test)]
mod tests {
    use std::ffi::OsStr;

    use super::*;

    fn words(words: &[&str]) -> Result<Options, String> {
        read(
            &words
                .iter()
                .map(|word| OsStr::new(word).to_owned())
                .collect::<Vec<_>>(),
        )
    }

    #[test]
    fn r_124_takes_exactly_three_options() {
        let options = words(&["-f", "/m", "-t", "5m", "-v"]).unwrap();
        let wanted = Options {
            master: Some("/m".into()),
            timeout: Some(300),
            verbose: true,
        };
        assert_eq!(options, wanted);
        for wrong in [
            &["-x"][..],
            &["word"],
            &["-t", "-1"],
            &["-t", "soon"],
            &["-f"],
            &["--old"],
        ] {
            assert!(words(wrong).is_err(), "{wrong:?}");
        }
    }

    #[test]
    fn r_121_a_missing_master_map_falls_back() {
        let there = Path::new("/");
        assert_eq!(
            find_master(Some(Path::new("/no/such")), &[there]),
            Some("/".into())
        );
        assert_eq!(
            find_master(Some(Path::new("/no/such")), &[Path::new("/nor/this")]),
            None
        );
        assert_eq!(find_master(Some(there), &[]), Some("/".into()));
    }
}
