//! The keeper's loop.

use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use piton_control::line::{Letter, Word};
use piton_control::runtime::Lock;
use piton_process::await_end;
use rustix::event::Timespec;
use rustix::event::epoll::{self, EventData, EventFlags};
use rustix::process::{
    Pid, PidfdFlags, Signal, WaitOptions, WaitStatus, kill_process, pidfd_open, waitpid,
};

use super::children::{Starter, clear_leftovers, kill};
use super::heritage::{Heard, Heritage, hear, line, say};
use super::limits::DEATH_MOST;
use super::policy::{Death, Deed, Happening, Policy};
use super::pulse::{Found, Pulse};
use super::signals::Came;
use super::systemd;
use super::vitals::Vitals;
use crate::daemon::background;
use crate::daemon::options::Role;
use crate::daemon::signals::Signals;
use crate::exit::Exit;

/// What the epoll instance says was meant.
mod bell {
    pub(super) const SIGNALS: u64 = 0;
    pub(super) const LINE: u64 = 1;
    pub(super) const DEATH: u64 = 2;
    pub(super) const PIPE: u64 = 3;
}

/// A process that keeps a daemon alive.
pub(crate) struct Guard {
    pub(super) begun: Instant,
    pub(super) heritage: Heritage,
    pub(super) starter: Starter,
    pub(super) lock: Lock,
    pub(super) policy: Policy,
    pub(super) pulse: Pulse,
    pub(super) signals: Signals<Came>,
    pub(super) epoll: OwnedFd,
    pub(super) daemon: Option<Daemon>,
    /// With our end of the line to it, by which it sees that we live.
    pub(super) substitute: Option<(Pid, OwnedFd)>,
    pub(super) lives: u32,
    /// Signals for a daemon that does not listen yet.
    pub(super) held: Vec<Signal>,
    /// Whether the pipe is waited for.
    pub(super) armed: bool,
    /// The life that is known to serve.
    pub(super) serving: u32,
    /// How likely daemons are to be killed for want of memory.
    pub(super) oom_score: i32,
    /// Where our process id is written once the mount points are in place.
    pub(super) pid_file: Option<PathBuf>,
    /// The directory that was made for mounts to be made in.
    pub(super) made: Option<PathBuf>,
    /// Whether somebody waits for us to go into the background.
    pub(super) awaited: bool,
    /// The pause between two signs of life for systemd, and when the next is due.
    pub(super) watchdog: Option<(Duration, Duration)>,
}

/// A daemon that lives, or is not known to be dead.
pub(crate) struct Daemon {
    pid: Pid,
    process: OwnedFd,
    line: OwnedFd,
    listening: bool,
}

impl Daemon {
    /// The daemon with this process id, at the other end of a line.
    pub(super) fn new(pid: Pid, line: OwnedFd, listening: bool) -> rustix::io::Result<Self> {
        Ok(Self {
            pid,
            process: pidfd_open(pid, PidfdFlags::empty())?,
            line,
            listening,
        })
    }
}

impl Guard {
    /// Watches over daemons until the last one has ended.
    pub(crate) fn run(mut self, first: Option<Deed>) -> Exit {
        if let Err(error) = self.listen() {
            tracing::error!(%error, "the keeper cannot wait for anything");
            return Exit::Failure;
        }
        let mut deeds: Vec<Deed> = first.into_iter().collect();
        loop {
            if let Some(status) = self.perform(std::mem::take(&mut deeds)) {
                return self.leave(status);
            }
            let woken = self.sleep();
            for happening in self.look_around(&woken) {
                let more = self.policy.decide(self.now(), happening);
                deeds.extend(more);
            }
        }
    }

    fn now(&self) -> Duration {
        self.begun.elapsed()
    }

    fn told(&self, daemon: Option<Pid>) -> Letter {
        Letter {
            keeper: std::process::id(),
            daemon: Pid::as_raw(daemon).cast_unsigned(),
            lives: self.lives,
            oom_score: self.oom_score,
            program: self.starter.program.clone(),
            ..Letter::default()
        }
    }

    // -- waiting ---------------------------------------------------------------------------

    fn listen(&mut self) -> rustix::io::Result<()> {
        let readable = EventFlags::IN;
        let bell = self.signals.bell();
        epoll::add(
            &self.epoll,
            bell,
            EventData::new_u64(bell::SIGNALS),
            readable,
        )?;
        if let Some(daemon) = &self.daemon {
            watch(&self.epoll, daemon)?;
        }
        Ok(())
    }

    fn sleep(&mut self) -> Vec<u64> {
        if self.policy.is_serving() {
            self.arm();
        }
        let wakes = [
            self.policy.wake(),
            self.policy.is_serving().then(|| self.pulse.wake()),
            self.watchdog.map(|(_, next)| next),
        ];
        let timeout = wakes.into_iter().flatten().min().map(|wake| {
            // A little more, so that the time has come when it ends.
            let pause = wake.saturating_sub(self.now()) + Duration::from_millis(1);
            Timespec::try_from(pause).unwrap_or_default()
        });
        let mut events = [const { std::mem::MaybeUninit::<epoll::Event>::uninit() }; 8];
        match epoll::wait(&self.epoll, &mut events, timeout.as_ref()) {
            Ok((came, _)) => came.iter().map(|event| event.data.u64()).collect(),
            Err(_) => Vec::new(),
        }
    }

    /// Waits for the pipe too, behind the daemon, which has to wait for it first: so only once it
    /// serves. Edge-triggered: a request that waits is heard of once.
    fn arm(&mut self) {
        if self.armed || !self.pulse.is_calm() {
            return;
        }
        let flags = EventFlags::IN | EventFlags::ET | EventFlags::EXCLUSIVE;
        let data = EventData::new_u64(bell::PIPE);
        self.armed = epoll::add(&self.epoll, &self.heritage.reader, data, flags).is_ok();
    }

    fn disarm(&mut self) {
        if std::mem::take(&mut self.armed) {
            let _ = epoll::delete(&self.epoll, &self.heritage.reader);
        }
    }

    fn look_around(&mut self, woken: &[u64]) -> Vec<Happening> {
        let now = self.now();
        let mut found = Vec::new();
        if woken.contains(&bell::PIPE) {
            self.disarm();
            self.pulse.suspect(now);
        }
        if woken.contains(&bell::LINE) {
            self.hear(&mut found);
        }
        if woken.contains(&bell::SIGNALS) {
            for came in self.signals.take() {
                self.signal(came);
            }
        }
        self.reap(&mut found);
        if self.policy.is_serving() && found.is_empty() && now >= self.pulse.wake() {
            let pid = self.daemon.as_ref().map(|daemon| daemon.pid);
            let vitals = || Vitals::of(pid?);
            match self.pulse.look(now, &self.heritage.reader, vitals) {
                Found::Nothing => {}
                Found::Starved => {
                    tracing::warn!("the daemon gets no processor: requests wait until it does");
                }
                Found::Stuck => {
                    tracing::error!("the daemon neither reads requests nor works: it is replaced");
                    found.push(Happening::Stuck);
                }
            }
        }
        if let Some((interval, next)) = &mut self.watchdog
            && *next <= now
        {
            systemd::alive();
            *next = now + *interval;
        }
        found.push(Happening::Time);
        found
    }

    // -- what comes in ---------------------------------------------------------------------

    fn hear(&mut self, found: &mut Vec<Happening>) {
        loop {
            let Some(daemon) = &mut self.daemon else {
                return;
            };
            match hear(&daemon.line) {
                Heard::Word(Word::Listening) => {
                    daemon.listening = true;
                    for signal in std::mem::take(&mut self.held) {
                        self.pass_on(signal);
                    }
                }
                Heard::Word(Word::TakingOver) => found.push(Happening::TakingOver),
                Heard::Word(Word::Ready) => found.push(Happening::Ready),
                Heard::Word(Word::Ending) => {
                    systemd::stopping();
                    found.push(Happening::Ending);
                }
                Heard::Word(Word::Upgrade(program)) => found.push(Happening::Upgrade(program)),
                Heard::Word(Word::Go | Word::HandOver) | Heard::Unknown => {}
                Heard::Silence => return,
                Heard::Gone => {
                    // It dies, which is heard of otherwise.
                    let _ = epoll::delete(&self.epoll, &daemon.line);
                    return;
                }
            }
        }
    }

    fn signal(&mut self, came: Came) {
        match came {
            Came::Child => {}
            Came::For(signal) => match &self.daemon {
                Some(daemon) if daemon.listening => self.pass_on(signal),
                _ => self.held.push(signal),
            },
        }
    }

    fn pass_on(&self, signal: Signal) {
        let Some(daemon) = &self.daemon else {
            return;
        };
        // One that is stopped would not hear it.
        for signal in [signal, Signal::CONT] {
            if let Err(error) = kill_process(daemon.pid, signal) {
                tracing::warn!(%error, "the daemon could not be sent a signal");
            }
        }
    }

    /// Takes notice of who died or was stopped.
    fn reap(&mut self, found: &mut Vec<Happening>) {
        let options = WaitOptions::NOHANG | WaitOptions::UNTRACED | WaitOptions::CONTINUED;
        let mut death = None;
        while let Ok(Some((pid, status))) = waitpid(None, options) {
            let substitute = self.substitute.as_ref().map(|(pid, _)| *pid);
            if substitute == Some(pid) && ended(status) {
                self.substitute = None;
            }
            if self.daemon.as_ref().is_none_or(|daemon| daemon.pid != pid) {
                continue;
            }
            if ended(status) {
                death = Some(death_of(status));
            } else {
                self.pulse.stopped(self.now(), status.stopped());
                if status.stopped() {
                    self.disarm();
                }
            }
        }
        let Some(daemon) = &self.daemon else {
            return;
        };
        if death.is_none() && await_end(&daemon.process, Instant::now()) {
            // It has ended since children were looked for, or is none of ours.
            death = Some(death_of_gone(daemon.pid));
        }
        if let Some(death) = death {
            self.bury(death);
            found.push(Happening::Died(death));
        }
    }

    /// The daemon is dead, or as good as dead.
    fn bury(&mut self, death: Death) {
        self.disarm();
        let Some(daemon) = self.daemon.take() else {
            return;
        };
        let _ = epoll::delete(&self.epoll, &daemon.process);
        let _ = epoll::delete(&self.epoll, &daemon.line);
        let pid = daemon.pid.as_raw_nonzero().get();
        match death {
            Death::Ended(0) => return,
            Death::Ended(Exit::HANDED_OVER) => tracing::info!(pid, "the daemon has handed over"),
            Death::Ended(status) => tracing::error!(pid, status, "the daemon has failed"),
            Death::Killed(signal) => tracing::error!(pid, signal, "the daemon was killed"),
            Death::Unknown => tracing::error!(pid, "the daemon has died"),
        }
        let own = rustix::process::getpid();
        let substitute = self.substitute.as_ref().map(|(pid, _)| *pid);
        let spared: Vec<Pid> = [Some(own), substitute, Some(daemon.pid)]
            .into_iter()
            .flatten()
            .collect();
        clear_leftovers(&spared);
    }

    // -- what is done ----------------------------------------------------------------------

    /// Does what was decided; returns the end, when it has come.
    fn perform(&mut self, deeds: Vec<Deed>) -> Option<u8> {
        let mut deeds = std::collections::VecDeque::from(deeds);
        while let Some(deed) = deeds.pop_front() {
            match deed {
                Deed::Start(program) => {
                    if let Err(error) = self.start(program.as_deref()) {
                        tracing::error!(%error, "the daemon cannot be started");
                        let died = Happening::Died(Death::Unknown);
                        deeds.extend(self.policy.decide(self.now(), died));
                    }
                }
                Deed::Kill => {
                    if self.kill_daemon() {
                        let died = Happening::Died(Death::Killed(Signal::KILL.as_raw()));
                        deeds.extend(self.policy.decide(self.now(), died));
                    }
                }
                Deed::AskToHandOver => self.say(&Word::HandOver),
                Deed::Substitute => self.substitute(),
                Deed::EndSubstitute => self.end_substitute(),
                Deed::Go => self.say(&Word::Go),
                Deed::UpgradeFailed(program) => tracing::error!(
                    program = %program.display(),
                    "the upgrade failed; going on with the version that ran before"
                ),
                Deed::Become(program) => self.become_program(&program),
                Deed::Leave(status) => return Some(status),
            }
        }
        if self.policy.is_serving() {
            self.serving();
        }
        None
    }

    fn say(&self, word: &Word) {
        if let Some(daemon) = &self.daemon {
            say(&daemon.line, word);
        }
    }

    fn start_process(&self, program: Option<&Path>, role: Role) -> io::Result<(Pid, OwnedFd)> {
        let told = self.told(None);
        self.starter.start(program, role, &self.heritage, &told)
    }

    fn start(&mut self, program: Option<&Path>) -> io::Result<()> {
        let (pid, ours) = self.start_process(program, Role::Daemon)?;
        self.lives += 1;
        let daemon = Daemon::new(pid, ours, false)?;
        watch(&self.epoll, &daemon)?;
        self.daemon = Some(daemon);
        Ok(())
    }

    /// Kills the daemon; returns whether it is to be taken for dead.
    fn kill_daemon(&mut self) -> bool {
        let Some(daemon) = &self.daemon else {
            return false;
        };
        kill(daemon.pid);
        if !await_end(&daemon.process, Instant::now() + DEATH_MOST) {
            tracing::error!("the kernel holds a thread of the daemon; going on beside it");
            self.bury(Death::Killed(Signal::KILL.as_raw()));
            return true;
        }
        // Found dead at the next look.
        false
    }

    /// A daemon serves: says so, each time to systemd and the pulse, once to the world.
    fn serving(&mut self) {
        if std::mem::replace(&mut self.serving, self.lives) == self.lives {
            return;
        }
        self.pulse.begin(self.now());
        systemd::ready();
        if let Some(file) = &self.pid_file
            && let Err(error) = std::fs::write(file, format!("{}\n", std::process::id()))
        {
            tracing::warn!(file = %file.display(), %error, "pid file not written");
        }
        if std::mem::take(&mut self.awaited) {
            background::announce();
        }
    }

    fn substitute(&mut self) {
        tracing::error!("no daemon serves: those who wait are answered at their deadline");
        systemd::bereft();
        match self.start_process(None, Role::Substitute) {
            Ok(substitute) => self.substitute = Some(substitute),
            Err(error) => tracing::error!(%error, "and nobody can be started to do so"),
        }
    }

    fn end_substitute(&mut self) {
        let Some((pid, _)) = self.substitute.take() else {
            return;
        };
        kill(pid);
        if let Ok(process) = pidfd_open(pid, PidfdFlags::empty()) {
            await_end(&process, Instant::now() + DEATH_MOST);
        }
    }

    /// Goes on as another version of this program, with the same process id. If that cannot be,
    /// this one goes on.
    fn become_program(&mut self, program: &Path) {
        let Some(daemon) = &self.daemon else {
            return;
        };
        let mut told = self.told(Some(daemon.pid));
        told.program = program.to_owned();
        let sent = line().and_then(|(ours, theirs)| {
            let daemons_line = Some(daemon.line.as_fd());
            self.heritage.send(&ours, &told, daemons_line)?;
            Ok(theirs)
        });
        let theirs = match sent {
            Ok(line) => line,
            Err(error) => {
                tracing::error!(%error, "the keeper stays the version that it was");
                return;
            }
        };
        // The line to ourselves: what was sent waits in it for the new program.
        let error = Command::new(program)
            .arg("daemon")
            .arg(Role::Keeper.word())
            .args(&self.starter.words)
            .stdin(std::process::Stdio::from(theirs))
            .exec();
        tracing::error!(%error, "the keeper stays the version that it was");
    }

    fn leave(mut self, status: u8) -> Exit {
        self.end_substitute();
        if let Some(file) = &self.pid_file {
            // It may have been removed by hand.
            let _ = std::fs::remove_file(file);
        }
        if let Some(made) = &self.made {
            // What is not empty stays.
            let _ = std::fs::remove_dir(made);
        }
        systemd::forget();
        self.lock.release();
        Exit::Status(status)
    }
}

/// Waits for what a daemon says, and for its end.
fn watch(epoll: &OwnedFd, daemon: &Daemon) -> rustix::io::Result<()> {
    let readable = EventFlags::IN;
    epoll::add(
        epoll,
        &daemon.line,
        EventData::new_u64(bell::LINE),
        readable,
    )?;
    epoll::add(
        epoll,
        &daemon.process,
        EventData::new_u64(bell::DEATH),
        readable,
    )
}

fn ended(status: WaitStatus) -> bool {
    status.exited() || status.signaled()
}

fn death_of(status: WaitStatus) -> Death {
    match (status.exit_status(), status.terminating_signal()) {
        (Some(status), _) => Death::Ended(status),
        (None, Some(signal)) => Death::Killed(signal),
        (None, None) => Death::Unknown,
    }
}

/// How a process ended that is known to be gone. One that is no child of ours says nothing but that.
fn death_of_gone(pid: Pid) -> Death {
    match waitpid(Some(pid), WaitOptions::NOHANG) {
        Ok(Some((_, status))) if ended(status) => death_of(status),
        _ => Death::Unknown,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_is_found_dead_has_an_exit_status_still() {
        let mut child = Command::new("sh").args(["-c", "exit 7"]).spawn().unwrap();
        let pid = Pid::from_child(&child);
        let process = pidfd_open(pid, PidfdFlags::empty()).unwrap();
        assert!(await_end(&process, Instant::now() + DEATH_MOST));
        assert_eq!(death_of_gone(pid), Death::Ended(7));
        assert_eq!(death_of_gone(pid), Death::Unknown, "nobody's child");
        assert!(child.wait().is_err());
    }
}
