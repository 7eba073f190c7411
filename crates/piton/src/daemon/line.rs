//! The daemon's end of the line to its keeper.

use std::ffi::OsString;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use piton_control::line::{Letter, Word};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::process::{Pid, WaitOptions, waitpid};

use super::options::Role;
use crate::keeper::heritage::{Heard, Heritage, hear, own_line, say};
use crate::keeper::{self, Starter};

/// Longest wait for the keeper's word that nobody else reads requests any more. Without it two
/// answer the same request, which harms nobody.
const GO_MOST: Duration = Duration::from_secs(1);

/// Pause before a keeper is started again that could not be.
const RENEWAL_PAUSE: Duration = Duration::from_secs(1);

/// What a daemon has of its keeper.
pub(crate) struct Line {
    /// Our end; the keeper has the other.
    end: OwnedFd,
    /// To be handed to another keeper.
    heritage: Heritage,
    starter: Starter,
    lives: u32,
    oom_score: i32,
    keeper: Arc<AtomicU32>,
    /// When a new keeper is started, if there is none.
    renewal: Option<Instant>,
}

impl Line {
    /// Takes the line that this process was started with, and what comes on it.
    ///
    /// # Errors
    /// Nobody of ours has started this process.
    pub(crate) fn take(words: &[OsString], silent: bool) -> Result<Self, String> {
        let end = own_line().map_err(|error| error.to_string())?;
        let received = Heritage::receive(&end).map_err(|error| error.to_string())?;
        let told = received.told;
        keeper::unprotect(told.oom_score);
        Ok(Self {
            end,
            heritage: received.heritage,
            starter: Starter {
                program: told.program,
                words: words.to_vec(),
                silent,
            },
            lives: told.lives,
            oom_score: told.oom_score,
            keeper: Arc::new(AtomicU32::new(told.keeper)),
            renewal: None,
        })
    }

    /// The descriptors that outlive this process.
    ///
    /// # Errors
    /// There is no room for copies of them.
    pub(crate) fn heritage(&self) -> Result<Heritage, String> {
        self.heritage
            .try_clone()
            .map_err(|error| format!("cannot copy a descriptor: {error}"))
    }

    /// The keeper's process id, as it changes.
    pub(crate) fn keeper(&self) -> Arc<AtomicU32> {
        self.keeper.clone()
    }

    /// Whether there was a daemon before.
    pub(crate) fn is_successor(&self) -> bool {
        self.lives > 0
    }

    /// Whether somebody waits for the end of this start, and sees nothing of the log.
    pub(crate) fn is_awaited(&self) -> bool {
        self.starter.silent && !self.is_successor()
    }

    /// Becomes readable when the keeper says something, or is gone.
    pub(crate) fn bell(&self) -> BorrowedFd<'_> {
        self.end.as_fd()
    }

    /// Tells the keeper something.
    pub(crate) fn say(&self, word: &Word) {
        say(&self.end, word);
    }

    /// Waits until nobody else reads requests: an earlier daemon's are about to be taken up.
    pub(crate) fn take_over(&mut self) {
        if !self.is_successor() {
            return;
        }
        self.say(&Word::TakingOver);
        let until = Instant::now() + GO_MOST;
        loop {
            match hear(&self.end) {
                Heard::Word(Word::Go) | Heard::Gone => return,
                Heard::Word(_) | Heard::Unknown => {}
                Heard::Silence => {
                    let left = until.saturating_duration_since(Instant::now());
                    if left.is_zero() {
                        tracing::warn!("the keeper does not answer");
                        return;
                    }
                    let left = Timespec::try_from(left).unwrap_or_default();
                    let mut fds = [PollFd::new(&self.end, PollFlags::IN)];
                    let _ = poll(&mut fds, Some(&left));
                }
            }
        }
    }

    /// What the keeper says, if anything. If it is gone another is started, now or when
    /// [`Line::wake`] says; returns true for a new line, whose bell has to be listened to.
    pub(crate) fn hear(&mut self) -> (Option<Word>, bool) {
        match hear(&self.end) {
            Heard::Word(word) => (Some(word), false),
            Heard::Unknown | Heard::Silence => (None, false),
            Heard::Gone => (None, self.renew()),
        }
    }

    /// When to call [`Line::hear`] though the bell did not ring.
    pub(crate) fn wake(&self) -> Option<Instant> {
        self.renewal
    }

    /// Starts another keeper. Ours is gone: without one our own death would be the end.
    fn renew(&mut self) -> bool {
        if self.renewal.is_some_and(|due| Instant::now() < due) {
            return false;
        }
        match self.start_keeper() {
            Ok((pid, end)) => {
                let old = self.keeper.swap(pid, Ordering::Relaxed);
                // It may have been a child of ours.
                let _ = waitpid(Pid::from_raw(old.cast_signed()), WaitOptions::NOHANG);
                tracing::error!(
                    old,
                    new = pid,
                    "the keeper has died; another one was started"
                );
                self.end = end;
                self.renewal = None;
                true
            }
            Err(error) => {
                tracing::error!(
                    "the keeper has died and no other can be started: {error}; if this daemon \
                     dies too, mounts stay as they are until somebody starts piton"
                );
                self.renewal = Some(Instant::now() + RENEWAL_PAUSE);
                false
            }
        }
    }

    fn start_keeper(&self) -> std::io::Result<(u32, OwnedFd)> {
        let told = Letter {
            keeper: 0,
            daemon: std::process::id(),
            lives: self.lives + 1,
            oom_score: self.oom_score,
            program: self.starter.program.clone(),
            ..Letter::default()
        };
        let (pid, ours) = self
            .starter
            .start(None, Role::Keeper, &self.heritage, &told)?;
        Ok((Pid::as_raw(Some(pid)).cast_unsigned(), ours))
    }
}
