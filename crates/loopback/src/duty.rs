//! The duty to answer, as a value.

use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};

use bstr::{BStr, BString};
use rustix::fd::OwnedFd;
use rustix::io::Errno;

use crate::tree::RootId;

/// Who asks.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Caller {
    /// The user; 65534 (nobody) if the client does not say.
    pub uid: u32,
    /// The group; the same.
    pub gid: u32,
    /// Further groups.
    pub groups: Vec<u32>,
    /// The process, seen from here; 0 if that is not known. NFS does not say.
    pub pid: u32,
}

impl Caller {
    /// Who does not say who he is.
    pub const NOBODY: Self = Self {
        uid: 65534,
        gid: 65534,
        groups: Vec::new(),
        pid: 0,
    };
}

/// What is wanted of a name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Purpose {
    /// Does it exist? While a client waits for this its kernel may keep everybody else from the
    /// directory, so the answer should not wait for a server: a name that exists need not lead
    /// anywhere yet. After [`limits::LOOK_UP`](crate::limits::LOOK_UP) the client is told that it
    /// does.
    LookUp,
    /// Where does it lead? Whoever waits for this waits alone.
    Follow,
}

/// A name that leads nowhere yet is looked at.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Access {
    /// The root.
    pub root: RootId,
    /// The name; empty for a root that is a link.
    pub name: BString,
    /// What for.
    pub purpose: Purpose,
    /// By whom.
    pub caller: Caller,
}

/// Decides what names lead to.
pub trait Owner: Send + Sync {
    /// A name is looked at that leads nowhere. To be answered with the duty, now or later, from any
    /// thread.
    ///
    /// Called in the server's thread: it must not block.
    fn access(&self, access: Access, duty: Duty);

    /// Whether a link that leads somewhere may be followed without asking. If not, it is asked about
    /// as if it led nowhere. FUSE asks this each time a link is read; NFS does not.
    ///
    /// Called in the server's thread: it must not block.
    fn trusts(&self, root: RootId, name: &BStr) -> bool {
        let _ = (root, name);
        true
    }
}

/// Somebody waits for the answer to an [`Access`]. Spent by [`Duty::ready`] or [`Duty::fail`];
/// dropped unspent it answers EIO, so that nobody waits for ever.
#[must_use = "dropping a duty answers with an error"]
pub struct Duty {
    answers: Option<Arc<Answers>>,
    number: u64,
}

impl Duty {
    /// The duty to answer the request of a number, for whoever serves a tree.
    pub fn new(answers: Arc<Answers>, number: u64) -> Self {
        Self {
            answers: Some(answers),
            number,
        }
    }

    /// The name exists or, if it was to be followed, leads somewhere now
    /// ([`Tree::link`](crate::Tree::link)). If it does not, EIO is answered.
    pub fn ready(mut self) {
        self.answer(Ok(()));
    }

    /// There is an error instead. What NFS has no number for becomes EIO at the client.
    pub fn fail(mut self, errno: Errno) {
        self.answer(Err(errno));
    }

    fn answer(&mut self, result: Result<(), Errno>) {
        if let Some(answers) = self.answers.take() {
            answers.push(self.number, result);
        }
    }
}

impl Drop for Duty {
    fn drop(&mut self) {
        self.answer(Err(Errno::IO));
    }
}

impl fmt::Debug for Duty {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Duty({})", self.number)
    }
}

/// Answers on their way from any thread to the server's.
#[derive(Debug)]
pub struct Answers {
    given: Mutex<Given>,
    /// Wakes the server's thread.
    bell: OwnedFd,
}

/// What came to a server's thread.
#[derive(Debug, Default)]
pub struct Given {
    /// By the number of the request.
    pub answers: Vec<(u64, Result<(), Errno>)>,
    /// The server is to end.
    pub stop: bool,
}

impl Answers {
    /// None yet.
    ///
    /// # Errors
    /// No descriptor can be had.
    pub fn new() -> Result<Self, Errno> {
        use rustix::event::{EventfdFlags, eventfd};
        Ok(Self {
            given: Mutex::default(),
            bell: eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)?,
        })
    }

    /// Readable when something was given.
    pub fn bell(&self) -> &OwnedFd {
        &self.bell
    }

    /// What was given since the last time.
    pub fn take(&self) -> Given {
        // One that did not ring is no error: then nothing is there.
        let _ = rustix::io::read(&self.bell, &mut [0; 8]);
        std::mem::take(&mut *self.given.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Tells the server's thread to end.
    pub fn stop(&self) {
        self.change(|given| given.stop = true);
    }

    fn push(&self, number: u64, result: Result<(), Errno>) {
        self.change(|given| given.answers.push((number, result)));
    }

    fn change(&self, change: impl FnOnce(&mut Given)) {
        change(&mut self.given.lock().unwrap_or_else(PoisonError::into_inner));
        // It fails only when it has rung 2^64 times without being heard.
        let _ = rustix::io::write(&self.bell, &1_u64.to_ne_bytes());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn answered(spend: impl FnOnce(Duty)) -> Vec<(u64, Result<(), Errno>)> {
        let answers = Arc::new(Answers::new().unwrap());
        spend(Duty::new(answers.clone(), 7));
        answers.take().answers
    }

    #[test]
    fn answers_exactly_once() {
        assert_eq!(answered(Duty::ready), [(7, Ok(()))]);
        let errno = Errno::ACCESS;
        assert_eq!(answered(|duty| duty.fail(errno)), [(7, Err(errno))]);
    }

    #[test]
    fn dropped_it_answers_with_an_error() {
        assert_eq!(answered(drop), [(7, Err(Errno::IO))]);
    }
}
