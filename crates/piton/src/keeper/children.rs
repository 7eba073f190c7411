//! Starting processes of this program, and being rid of those of a dead daemon.

use std::ffi::OsString;
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::fs::MetadataExt;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Instant;

use piton_control::line::Letter;
use piton_process::{await_end, has_open, living_in};
use rustix::process::{
    Pid, PidfdFlags, Signal, getpgid, kill_process, pidfd_open, pidfd_send_signal,
};

use super::heritage::{Heritage, line};
use super::limits::LEFTOVERS_MOST;
use crate::daemon::options::Role;

/// Names in the environment by which systemd speaks with the process it started, and nobody else.
const SYSTEMDS: [&str; 6] = [
    "NOTIFY_SOCKET",
    "WATCHDOG_USEC",
    "WATCHDOG_PID",
    "LISTEN_FDS",
    "LISTEN_PID",
    "LISTEN_FDNAMES",
];

/// How the C library of the daemon hands memory back: large texts of maps at once, however many
/// have come before, and what one thread has let go to the others. Others leave it alone.
const MEMORY: (&str, &str) = (
    "GLIBC_TUNABLES",
    "glibc.malloc.arena_max=1:glibc.malloc.mmap_threshold=262144:glibc.malloc.trim_threshold=262144",
);

/// How processes of this program are started.
#[derive(Clone, Debug)]
pub(crate) struct Starter {
    /// The program, by the path it was started from.
    pub(crate) program: PathBuf,
    /// The command line after `piton daemon`.
    pub(crate) words: Vec<OsString>,
    /// Nobody reads what it prints.
    pub(crate) silent: bool,
}

impl Starter {
    /// Starts a process that finds its end of a line, with the heritage on it, as its standard
    /// input; returns our end. It stays in this process group. `program` is another version of this
    /// program, or nothing.
    ///
    /// # Errors
    /// It cannot be started.
    pub(crate) fn start(
        &self,
        program: Option<&Path>,
        role: Role,
        heritage: &Heritage,
        told: &Letter,
    ) -> io::Result<(Pid, OwnedFd)> {
        let (ours, theirs) = line().map_err(io::Error::other)?;
        let sent = heritage.send(&ours, told, None);
        sent.map_err(io::Error::other)?;
        let running = self.running();
        let mut command = Command::new(program.unwrap_or(&running));
        command
            .arg0(program.unwrap_or(&self.program))
            .arg("daemon")
            .arg(role.word())
            .args(&self.words)
            .stdin(Stdio::from(theirs));
        if self.silent {
            command.stdout(Stdio::null());
        }
        if role != Role::Keeper {
            for name in SYSTEMDS {
                command.env_remove(name);
            }
            let (name, value) = MEMORY;
            if std::env::var_os(name).is_none() {
                command.env(name, value);
            }
        }
        let child = command.spawn()?;
        Ok((Pid::from_child(&child), ours))
    }

    /// The file of the program that runs now. After a package was replaced its path leads to
    /// another version, which takes over when it is asked to, and not by accident.
    fn running(&self) -> PathBuf {
        let itself = Path::new("/proc/self/exe");
        let identity = |path: &Path| {
            let file = std::fs::metadata(path).ok()?;
            Some((file.dev(), file.ino()))
        };
        match identity(&self.program) {
            Some(file) if identity(itself) == Some(file) => self.program.clone(),
            _ => itself.into(),
        }
    }
}

/// The processes of our process group other than `but`: helpers, workers and map programs of a
/// daemon that is dead. What serves a FUSE file system is left out, for it serves.
fn leftovers(but: &[Pid]) -> Vec<Pid> {
    let Some(group) = autofs::process_group() else {
        return Vec::new();
    };
    let serves_fuse = |pid| has_open(pid, "/dev/fuse".as_ref(), usize::MAX);
    living_in(group)
        .filter(|pid| !but.contains(pid) && !serves_fuse(*pid))
        .collect()
}

/// Kills what a dead daemon has left running, and waits a moment for its death: what it was
/// mounting must not appear beside what the successor mounts.
pub(crate) fn clear_leftovers(but: &[Pid]) {
    let mut dying = Vec::new();
    for pid in leftovers(but) {
        let Ok(process) = pidfd_open(pid, PidfdFlags::empty()) else {
            continue;
        };
        // It may have become another process since it was found.
        if getpgid(Some(pid)).ok() == autofs::process_group()
            && pidfd_send_signal(&process, Signal::KILL).is_ok()
        {
            tracing::debug!(
                pid = pid.as_raw_nonzero(),
                "helper of the dead daemon killed"
            );
            dying.push(process);
        }
    }
    let until = Instant::now() + LEFTOVERS_MOST;
    for process in dying {
        if !await_end(&process, until) {
            tracing::warn!("a helper of the dead daemon does not die; going on without it");
        }
    }
}

/// Kills a process, which may be gone.
pub(crate) fn kill(pid: Pid) {
    if let Err(error) = kill_process(pid, Signal::KILL)
        && error != rustix::io::Errno::SRCH
    {
        tracing::error!(pid = pid.as_raw_nonzero(), %error, "cannot be killed");
    }
}
