//! The process that stays in the shell's process group.
//!
//! Processes of the daemon's group trigger nothing. A daemon that is started in the foreground of a
//! terminal would share its group with the rest of its pipeline, or of the script, and those would
//! find every automounted directory empty. So keeper and daemon have a group of their own, and this
//! process stands for them where the terminal sends Ctrl-C to: it passes signals on and ends as the
//! keeper ends.

use std::ffi::OsString;
use std::os::unix::process::CommandExt;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use piton_control::runtime::RuntimeDir;
use rustix::event::{PollFd, PollFlags, poll};
use rustix::process::{Pid, PidfdFlags, kill_process, pidfd_open};

use super::signals::{Came, listen};
use crate::daemon::options::Role;
use crate::daemon::signals::Signals;
use crate::exit::Exit;

/// How long a keeper that died may take to be replaced by the daemon.
const RENEWAL_MOST: Duration = Duration::from_secs(3);

/// Whether there is a terminal that could send signals.
pub(crate) fn is_wanted() -> bool {
    std::fs::File::open("/dev/tty").is_ok()
}

/// Starts the keeper with these arguments in a group of its own, and waits for its end.
pub(crate) fn run(args: &[OsString]) -> Exit {
    let started = std::env::current_exe().and_then(|program| {
        let signals = listen()?;
        let child = Command::new(program)
            .arg("daemon")
            .arg(Role::Attended.word())
            .args(args)
            .stdin(Stdio::null())
            .process_group(0)
            .spawn()?;
        Ok((signals, child))
    });
    let (mut signals, mut child) = match started {
        Ok(started) => started,
        Err(error) => {
            eprintln!("piton daemon: cannot be started: {error}");
            return Exit::Failure;
        }
    };
    let keeper = Pid::from_child(&child);
    if !attend(keeper, &mut signals) {
        return Exit::Failure;
    }
    match child.wait().map(|status| status.code()) {
        Ok(Some(code)) => Exit::Status(u8::try_from(code).unwrap_or(1)),
        // It was killed. The daemon goes on, and makes itself another keeper, which is no child of
        // ours: how it ends is not known.
        _ => match renewed(keeper) {
            Some(keeper) if attend(keeper, &mut signals) => Exit::Success,
            _ => Exit::Failure,
        },
    }
}

/// The keeper that took the place of `old`, if one does.
fn renewed(old: Pid) -> Option<Pid> {
    let dir = RuntimeDir::from_env();
    let until = Instant::now() + RENEWAL_MOST;
    while Instant::now() < until {
        let text = std::fs::read_to_string(dir.pid_file()).unwrap_or_default();
        let pid = text.trim().parse().ok().and_then(Pid::from_raw);
        if let Some(pid) = pid.filter(|pid| *pid != old) {
            return Some(pid);
        }
        std::thread::sleep(Duration::from_millis(20));
    }
    None
}

/// Passes signals on to a keeper until it ends; returns false if there is none to attend to.
fn attend(keeper: Pid, signals: &mut Signals<Came>) -> bool {
    let Ok(process) = pidfd_open(keeper, PidfdFlags::empty()) else {
        return false;
    };
    loop {
        let mut fds = [
            PollFd::from_borrowed_fd(signals.bell(), PollFlags::IN),
            PollFd::new(&process, PollFlags::IN),
        ];
        let _ = poll(&mut fds, None);
        let over = !fds[1].revents().is_empty();
        for came in signals.take() {
            if let Came::For(signal) = came {
                // It may be gone: that is seen next.
                let _ = kill_process(keeper, signal);
            }
        }
        if over {
            return true;
        }
    }
}
