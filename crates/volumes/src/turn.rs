//! What one call of a provider may use.

use std::os::fd::BorrowedFd;
use std::time::{Duration, Instant};

use bstr::BStr;
use piton_snapshot::Means;

use crate::error::Error;
use crate::opened::Opened;

/// Until when a call may go on, the lock under which it is made, and what the map says to the
/// provider.
#[derive(Clone, Copy, Debug)]
pub struct Turn<'a> {
    /// When it must have ended.
    pub until: Instant,
    /// The open lock file. Programs that are started get it as their standard input, in which there
    /// is nothing to read: so the lock is held as long as one of them lives, even if this process
    /// is killed.
    pub lock: Option<BorrowedFd<'a>>,
    /// Room and place for snapshots.
    pub means: &'a Means,
    /// Whether a list is to tell what is in use, where that takes a look at all mount namespaces.
    pub busy: bool,
    /// Whether snapshots of an origin that has a path, and is not there, are looked for beside it:
    /// to show them, for nobody needs them more than who has lost the origin.
    pub gone: bool,
    /// What the calls of one access have open together; without it each opens what it needs.
    pub opened: Option<&'a Opened>,
}

/// What a provider does when nothing is said.
static USUAL: Means = Means {
    size: None,
    store: None,
    refuse_at: None,
};

impl Turn<'static> {
    /// Without a lock.
    pub fn until(until: Instant) -> Self {
        Self {
            until,
            lock: None,
            means: &USUAL,
            busy: true,
            gone: false,
            opened: None,
        }
    }

    /// Without a lock, for this long from now.
    pub fn within(time: Duration) -> Self {
        Self::until(Instant::now() + time)
    }
}

impl Turn<'_> {
    /// An error once the time is over.
    pub(crate) fn check(&self, what: &BStr) -> Result<(), Error> {
        let now = Instant::now();
        if now < self.until {
            return Ok(());
        }
        Err(Error::Overran {
            what: what.into(),
            milliseconds: 0,
        })
    }
}
