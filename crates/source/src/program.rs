//! Maps that are programs: run with the key, they print the entry (R-171 … R-173).
//!
//! The contract with the program:
//! - one argument, the key, which was checked before; no shell is involved;
//! - working directory: the mount point if it exists, else `/`;
//! - environment: PATH, the variables of the machine (HOST, ARCH, …), `-D` variables, and
//!   AUTOFS_UID, AUTOFS_GID, AUTOFS_SHOST, and where the requester's names are known
//!   AUTOFS_USER, AUTOFS_GROUP, AUTOFS_HOME (without the prefix if autofs.conf wants that);
//!   nothing else;
//! - standard input is empty; standard error goes to the log;
//! - it prints the entry without the key and exits with 0; the first line that is not blank
//!   counts, with its continuation lines, each joined by a blank;
//! - it prints nothing: there is no such key, when it exits with 0, or with 1 as grep does;
//! - any other exit status, or a signal, is a failure, whatever was printed.
//!
//! It stays in our process group, since the kernel lets only that group walk through our mount
//! points without waiting for ourselves. So it cannot be killed as a group: one that
//! overruns its time is killed with the descendants that can be found. A grandchild
//! that outlives it and keeps its output open is left alone and not waited for.

mod check;
mod output;

use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

use bstr::{BStr, BString, ByteSlice};
use piton_map::key::MapKind;
use piton_map::lines::{LineKind, Lines};
use piton_map::lookup::{Found, Matched, Miss};
use piton_map::text::{Fragment, Span};

use self::output::{Ended, Output};
use crate::file;
use crate::limits::{PROGRAM_OUTPUT, PROGRAM_TIME};
use crate::source::{LookupContext, MapSource, MapText};

/// A map that is a program.
#[derive(Clone, Debug)]
pub struct ProgramSource {
    path: PathBuf,
    name: Arc<str>,
    /// What stands before the names of the requester's variables.
    prefix: &'static str,
}

/// Where programs are looked for by the programs we run: what autofs gives them too.
const PATH: &str = "/usr/sbin:/usr/bin:/sbin:/bin";

/// What is said where the keys of a program are asked for, after its name.
pub const NO_LIST: &str = "has no list of its keys";

/// How often, and after what pause, a program is started again that somebody is still writing
/// (ETXTBSY): another thread's child may hold a copy of the descriptor for a moment.
const BUSY_RETRIES: u32 = 5;
const BUSY_PAUSE: Duration = Duration::from_millis(10);

impl ProgramSource {
    /// The program at `path`, called `name` in messages.
    pub fn new(path: PathBuf, name: Arc<str>) -> Self {
        Self {
            path,
            name,
            prefix: "AUTOFS_",
        }
    }

    /// Whether the requester's variables are called as in the requester's own environment (USER,
    /// HOME). That is dangerous: it may change what a program does that runs as root.
    #[must_use]
    pub fn standard_names(self, standard: bool) -> Self {
        Self {
            prefix: if standard { "" } else { self.prefix },
            ..self
        }
    }

    /// A failure of the program, `why` without its name.
    fn failed(&self, why: impl std::fmt::Display) -> Miss {
        Miss::ProgramFailed(format!("program {}: {why}", self.name).into())
    }

    /// What to run: the program by its real path, with its surroundings prepared.
    fn command(&self, program: &Path, key: &BStr, context: &LookupContext<'_>) -> Command {
        let mut command = Command::new(program);
        command
            .arg0(&self.path)
            .arg(OsStr::from_bytes(key))
            .env_clear()
            .envs(environment(context, self.prefix))
            .current_dir(working_directory(context))
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        command
    }

    /// Starts the program.
    fn start(&self, command: &mut Command) -> Result<Child, Miss> {
        let mut retries = BUSY_RETRIES;
        loop {
            match command.spawn() {
                Ok(child) => return Ok(child),
                Err(error)
                    if error.kind() == std::io::ErrorKind::ExecutableFileBusy && retries > 0 =>
                {
                    retries -= 1;
                    std::thread::sleep(BUSY_PAUSE);
                }
                Err(error) => return Err(self.failed(start_failure(&error))),
            }
        }
    }

    /// What the program's end means.
    fn outcome(&self, key: &BStr, ended: Ended, limit: Duration) -> Result<Found, Miss> {
        match ended {
            Ended::TimedOut => Err(Miss::TimedOut(
                format!(
                    "program {}: no answer in {:.1} s; killed",
                    self.name,
                    limit.as_secs_f32()
                )
                .into(),
            )),
            Ended::TooMuch => Err(self.failed(format_args!(
                "printed more than {PROGRAM_OUTPUT} bytes; killed"
            ))),
            Ended::Failed(errno) => Err(self.failed(errno)),
            Ended::Exited(status, output) => self.printed(key, status, output),
        }
    }

    /// What the program printed means, given its exit status.
    fn printed(&self, key: &BStr, status: ExitStatus, output: Vec<u8>) -> Result<Found, Miss> {
        let blank = output.iter().all(u8::is_ascii_whitespace);
        match (status.code(), status.signal()) {
            (Some(0 | 1), _) if blank => Err(Miss::NoSuchKey),
            (Some(0), _) => Ok(self.found(key, output)),
            (Some(code), _) => Err(self.failed(format_args!("exit status {code}"))),
            (None, Some(signal)) => Err(self.failed(format_args!("killed by signal {signal}"))),
            (None, None) => Err(self.failed("ended in an unknown way")),
        }
    }

    /// The entry in what the program printed: the first line that is not blank, with its
    /// continuation lines.
    pub fn found(&self, key: &BStr, output: Vec<u8>) -> Found {
        let text = joined(output);
        let fragment = Fragment::whole(format!("output of {} {key}", self.name), text);
        let line = Lines::new(&fragment.text).find(|line| line.kind != LineKind::Blank);
        let value = line.map_or(Span::default(), |line| line.content);
        Found {
            fragment,
            key: Span::default(),
            value,
            matched: Matched::Exact,
            map: format!("program {}", self.name).into(),
            via: Vec::new(),
        }
    }
}

impl MapSource for ProgramSource {
    fn name(&self) -> Arc<str> {
        self.name.clone()
    }

    fn is_per_key(&self) -> bool {
        true
    }

    fn read(&self) -> Result<MapText, Miss> {
        Err(Miss::NotAvailable(
            format!("program {} {NO_LIST}", self.name).into(),
        ))
    }

    fn lookup(&self, key: &BStr, context: &LookupContext<'_>) -> Result<Found, Miss> {
        piton_map::key::check(context.kind, key)?;
        let now = Instant::now();
        let deadline = context.deadline.unwrap_or(now + PROGRAM_TIME);
        let program = self
            .path
            .canonicalize()
            .map_err(|error| match error.raw_os_error() {
                Some(code) => file::miss(&self.name, rustix::io::Errno::from_raw_os_error(code)),
                None => self.failed(error),
            })?;
        check::may_run(&self.path, &program)
            .map_err(|why| Miss::Refused(format!("program {}: {why}", self.name).into()))?;
        let mut command = self.command(&program, key, context);
        let child = self.start(&mut command)?;
        // The write ends of the pipes are closed here, or their end would never be seen.
        drop(command);
        let ended = Output::new(child, &self.name, key).until(deadline);
        self.outcome(key, ended, deadline.saturating_duration_since(now))
    }
}

/// Continued lines joined by a blank, as autofs does with what programs print (in a file they are
/// joined by nothing). An escaped backslash continues no line.
fn joined(output: Vec<u8>) -> Vec<u8> {
    if !output.contains(&b'\\') {
        return output;
    }
    let mut text = Vec::with_capacity(output.len());
    for line in output.split_inclusive(|byte| *byte == b'\n') {
        let body = line.strip_suffix(b"\n").unwrap_or(line);
        let body = body.strip_suffix(b"\r").unwrap_or(body);
        let backslashes = body.iter().rev().take_while(|byte| **byte == b'\\');
        if line.ends_with(b"\n") && backslashes.count() % 2 == 1 {
            text.extend_from_slice(&body[..body.len() - 1]);
            text.push(b' ');
        } else {
            text.extend_from_slice(line);
        }
    }
    text
}

/// What a program that cannot be started probably needs.
fn start_failure(error: &std::io::Error) -> String {
    const NO_EXEC: i32 = 8;
    match error.raw_os_error() {
        Some(NO_EXEC) => format!(
            "cannot be started: {error}; if it is a plain map remove its execute bit or write \
                `file:` before its name, if it is a script it needs a first line such as #!/bin/sh"
        ),
        _ => format!("cannot be started: {error}"),
    }
}

/// Where the program runs. Asking for the mount point cannot trigger anything: the root of an
/// indirect map is no trigger, and `/-` does not exist.
fn working_directory(context: &LookupContext<'_>) -> PathBuf {
    let point = Path::new(OsStr::from_bytes(context.mount_point));
    match context.kind {
        MapKind::Indirect if point.is_absolute() && point.is_dir() => point.into(),
        _ => "/".into(),
    }
}

/// The program's whole environment; later entries win.
fn environment(context: &LookupContext<'_>, prefix: &str) -> Vec<(OsString, OsString)> {
    let mut variables: Vec<(BString, BString)> = vec![("PATH".into(), PATH.into())];
    let system = rustix::system::uname();
    let host: BString = system.nodename().to_bytes().into();
    for (name, value) in [
        ("ARCH", system.machine()),
        ("CPU", system.machine()),
        ("HOST", system.nodename()),
        ("OSNAME", system.sysname()),
        ("OSREL", system.release()),
        ("OSVERS", system.version()),
    ] {
        variables.push((name.into(), value.to_bytes().into()));
    }
    variables.extend(context.defines.iter().cloned());
    let short = host.split_str(".").next().unwrap_or_default();
    let requester = context.requester;
    let mut tell = |name: &str, value: BString| {
        variables.push((format!("{prefix}{name}").into(), value));
    };
    tell("SHOST", short.into());
    tell("UID", requester.uid.to_string().into());
    tell("GID", requester.gid.to_string().into());
    if let Some(names) = &requester.names {
        for (name, value) in [
            ("USER", &names.user),
            ("GROUP", &names.group),
            ("HOME", &names.home),
        ] {
            if !value.is_empty() {
                tell(name, value.clone());
            }
        }
    }
    let text = |bytes: BString| OsStr::from_bytes(&bytes).to_owned();
    variables
        .into_iter()
        .filter(|(name, value)| !name.is_empty() && is_plain(name) && !value.contains(&0))
        .map(|(name, value)| (text(name), text(value)))
        .collect()
}

/// Returns true if and only if `name` can be the name of a variable.
fn is_plain(name: &BString) -> bool {
    name.iter()
        .all(|byte| *byte == b'_' || byte.is_ascii_alphanumeric())
}

#[cfg(test)]
mod tests;
