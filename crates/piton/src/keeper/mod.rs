//! The keeper: the parent process, which never lets the kernel lose its daemon.
//!
//! ```text
//!   attendant   only in the foreground of a terminal; stands for the others where Ctrl-C arrives
//!     └ keeper        holds the process group, the request pipe, the table of unanswered requests,
//!         │           the control socket and the lock; decides nothing about mounts
//!         ├ daemon        reads requests and serves them; may die at any time
//!         │   └ workers, helpers, map programs
//!         └ substitute    only while no daemon can be started; answers at the deadline
//! ```
//!
//! A daemon that dies is followed by another, which is handed the same descriptors ([`heritage`]):
//! what the kernel asked meanwhile waits in the pipe, and what the dead one had read stands in the
//! table. A daemon that stands still ([`pulse`]) is killed. If the keeper dies, the daemon goes on
//! and starts another keeper (`daemon::line`). [`policy`] holds all decisions, [`guard`] does what
//! they say.

mod attendant;
mod children;
mod guard;
pub(crate) mod heritage;
mod limits;
pub(crate) mod links;
mod policy;
mod pulse;
mod signals;
mod substitute;
mod systemd;
mod vitals;

use std::ffi::{OsStr, OsString};
use std::os::fd::AsFd;
use std::os::unix::ffi::OsStrExt;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use autofs::{RequestPipe, RequestTable};
use bstr::BString;
use piton_control::Client;
use piton_control::runtime::{Lock, LockError, RuntimeDir};
use rustix::event::epoll;
use rustix::process::Pid;

pub(crate) use self::children::Starter;
use self::guard::{Daemon, Guard};
use self::heritage::{Heritage, Received, own_line};
use self::links::Links;
use self::policy::Policy;
use self::pulse::Pulse;
use crate::daemon::options::{Front, Options};
use crate::exit::Exit;

/// Why there can be no keeper, for people.
type Trouble = String;

/// Keeps a daemon. `words` is the command line after `piton daemon`, for the daemons.
pub(crate) fn run(options: &Options, words: &[OsString], attended: bool) -> Exit {
    if options.foreground && !attended && attendant::is_wanted() {
        return attendant::run(words);
    }
    let dir = RuntimeDir::from_env();
    let lock = match Lock::take(&dir) {
        Ok(lock) => lock,
        Err(LockError::Held { heir: true, .. }) if !systemd::watches() => match succeed(&dir) {
            Ok(lock) => lock,
            Err(trouble) => return ended(Err(trouble)),
        },
        Err(LockError::Held { pid: Some(pid), .. }) if systemd::point_to(pid) => {
            tracing::warn!(
                pid,
                "a keeper runs in this service already: systemd watches it now"
            );
            return Exit::Success;
        }
        Err(error) => return ended(Err(error.to_string())),
    };
    ended(first(options, words, &dir, lock).map(|(guard, deed)| guard.run(Some(deed))))
}

/// Takes the place of a daemon whose keeper was killed and replaced: who killed it now starts
/// another. The old one leaves everything mounted.
fn succeed(dir: &RuntimeDir) -> Result<Lock, Trouble> {
    tracing::warn!("a daemon runs whose keeper was killed: it makes way and leaves its mounts");
    let asked = Client::connect(dir).and_then(|mut client| client.stop(true));
    let until = Instant::now() + limits::MAKE_WAY_MOST;
    loop {
        match Lock::take(dir) {
            Ok(lock) => return Ok(lock),
            Err(LockError::Held { .. }) if Instant::now() < until => {
                std::thread::sleep(Duration::from_millis(10));
            }
            Err(error) => {
                return Err(match asked {
                    Ok(_) => error.to_string(),
                    Err(why) => format!("{error}\n  it was asked to make way: {why}"),
                });
            }
        }
    }
}

/// Keeps a daemon that lives already: its last keeper has died, or has become this program.
pub(crate) fn run_again(options: &Options, words: &[OsString]) -> Exit {
    ended(further(options, words).map(|guard| guard.run(None)))
}

/// Answers those who wait, in the place of a daemon.
pub(crate) fn run_substitute(options: &Options, deadline: Duration) -> Exit {
    substitute::run(&options.front, deadline)
}

fn ended(exit: Result<Exit, Trouble>) -> Exit {
    exit.unwrap_or_else(|trouble| {
        eprintln!("piton daemon: {trouble}");
        Exit::Failure
    })
}

fn first(
    options: &Options,
    words: &[OsString],
    dir: &RuntimeDir,
    lock: Lock,
) -> Result<(Guard, policy::Deed), Trouble> {
    let _ = autofs::own_process_group().map_err(|error| error.to_string())?;
    let stored = systemd::stored();
    let lives = u32::from(stored.is_some());
    let (reader, writer, table) = match stored {
        Some(stored) => (stored.reader, stored.writer, stored.table),
        None => {
            let pipe = RequestPipe::new().map_err(|error| error.to_string())?;
            let (reader, writer) = pipe.into_fds();
            let table = RequestTable::new().map_err(|error| error.to_string())?;
            let table = copy(&table)?;
            (reader, writer, table)
        }
    };
    let listener = piton_control::server::listen(dir).map_err(|error| error.to_string())?;
    let heritage = Heritage {
        reader,
        writer,
        table,
        control: listener.into(),
        lock: copy(&lock)?,
        links: match &options.front {
            Front::Autofs => None,
            Front::Links(_) => Some(Links::first(dir)?),
            Front::Fuse(_) => Some(Links::without_port()?),
        },
    };
    systemd::store(&heritage);
    let program = std::env::current_exe().map_err(|error| error.to_string())?;
    let starter = starter(program, options, words);
    let begun = Instant::now();
    let (policy, deed) = match lives {
        0 => Policy::first(),
        _ => Policy::of_orphans(begun.elapsed()),
    };
    let mut guard = guard(begun, heritage, starter, lock, policy, options)?;
    guard.lives = lives;
    guard.made = match &options.front {
        Front::Autofs => None,
        Front::Links(links) => make_staging(&links.staging)?,
        Front::Fuse(fuse) => make_staging(&fuse.place())?,
    };
    guard.awaited = options.background_child;
    Ok((guard, deed))
}

fn further(options: &Options, words: &[OsString]) -> Result<Guard, Trouble> {
    let line = own_line().map_err(|error| error.to_string())?;
    let Received {
        heritage,
        told,
        daemons_line,
    } = Heritage::receive(&line).map_err(|error| error.to_string())?;
    let dir = RuntimeDir::from_env();
    let lock = Lock::inherited(&dir, copy(&heritage.lock)?);
    let own = std::process::id();
    // With the same process id it is an upgrade, and whoever started us knows us.
    let written = match told.keeper == own {
        true => lock.write_pid(own),
        false => lock.write_heir(own),
    };
    written.map_err(|error| format!("cannot write the pid file: {error}"))?;
    systemd::main_process();
    let starter = starter(told.program, options, words);
    let begun = Instant::now();
    let policy = Policy::of_living(begun.elapsed());
    let mut guard = guard(begun, heritage, starter, lock, policy, options)?;
    guard.lives = told.lives;
    guard.serving = told.lives;
    guard.oom_score = told.oom_score;
    let pid = i32::try_from(told.daemon).ok().and_then(Pid::from_raw);
    let pid = pid.ok_or("there is no daemon to keep")?;
    let daemon = Daemon::new(pid, daemons_line.unwrap_or(line), true);
    guard.daemon = Some(daemon.map_err(|error| format!("the daemon is gone: {error}"))?);
    Ok(guard)
}

/// Makes the directory in which mounts are made, if it is not there; tells it then, so that it is
/// removed at the end.
fn make_staging(path: &BString) -> Result<Option<PathBuf>, Trouble> {
    let directory = PathBuf::from(OsStr::from_bytes(path));
    match std::fs::create_dir(&directory) {
        Ok(()) => Ok(Some(directory)),
        Err(_) if directory.is_dir() => Ok(None),
        Err(error) => Err(format!(
            "mounts cannot be made in {path}: {error}\n  --staging names another directory"
        )),
    }
}

fn starter(program: PathBuf, options: &Options, words: &[OsString]) -> Starter {
    Starter {
        program,
        words: words.to_vec(),
        silent: options.background_child,
    }
}

fn guard(
    begun: Instant,
    heritage: Heritage,
    starter: Starter,
    lock: Lock,
    policy: Policy,
    options: &Options,
) -> Result<Guard, Trouble> {
    let oom_score = protect();
    let table = RequestTable::from_fd(copy(&heritage.table)?).map_err(|error| error.to_string())?;
    let signals =
        signals::listen().map_err(|error| format!("cannot listen to signals: {error}"))?;
    let epoll =
        epoll::create(epoll::CreateFlags::CLOEXEC).map_err(|error| format!("epoll: {error}"))?;
    // Clients of links, by NFS or FUSE, are seen by the daemon alone.
    let unseen = heritage.links.is_some();
    Ok(Guard {
        begun,
        heritage,
        starter,
        lock,
        policy,
        pulse: Pulse::new(table, unseen),
        signals,
        epoll,
        daemon: None,
        substitute: None,
        lives: 0,
        held: Vec::new(),
        armed: false,
        serving: 0,
        oom_score,
        pid_file: options.pid_file.clone(),
        made: None,
        awaited: false,
        watchdog: systemd::watchdog().map(|interval| (interval, interval)),
    })
}

/// What makes the keeper outlive the others: orphans of a dead daemon become its children, and
/// memory is taken from anybody else first. Returns how it was before, for the children.
fn protect() -> i32 {
    let own = rustix::process::getpid();
    if let Err(error) = rustix::process::set_child_subreaper(Some(own)) {
        tracing::warn!(%error, "orphans of a dead daemon will not be reaped by the keeper");
    }
    let before = std::fs::read_to_string(OOM_SCORE).unwrap_or_default();
    if let Err(error) = std::fs::write(OOM_SCORE, "-999") {
        tracing::debug!(%error, "no protection from running out of memory");
    }
    before.trim().parse().unwrap_or_default()
}

/// Where the kernel is told whom not to kill for want of memory (proc(5)).
const OOM_SCORE: &str = "/proc/self/oom_score_adj";

/// In a daemon: as killable as the keeper was before it protected itself.
pub(crate) fn unprotect(oom_score: i32) {
    // Where this is not allowed nothing was changed before.
    let _ = std::fs::write(OOM_SCORE, oom_score.to_string());
}

fn copy(fd: impl AsFd) -> Result<std::os::fd::OwnedFd, Trouble> {
    let copied = fd.as_fd().try_clone_to_owned();
    copied.map_err(|error| format!("cannot copy a descriptor: {error}"))
}
