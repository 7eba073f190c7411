//! What the daemon must be able to answer.

use std::time::{Duration, Instant};

use crate::message::{Left, Listed, ReloadPlan, Servers, Settings, Status, Trace};

/// Who calls, and until when an answer is of use.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Caller {
    /// User id of the process that connected.
    pub uid: u32,
    /// Its process id.
    pub pid: u32,
    /// After this the caller has been told that the call took too long.
    pub deadline: Instant,
}

/// A place in the stream of requests that were answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TraceFrom {
    /// Before the oldest that is remembered.
    Oldest,
    /// Behind the last one.
    Now,
    /// Where an earlier call ended.
    At(u64),
}

/// The daemon, as seen from the control socket.
///
/// Calls arrive on threads of the control socket, several at once. An implementation hands the
/// question to the daemon's loop and waits for the answer; it may block, up to the deadline of
/// [`crate::limits`] for its kind of call. One that takes longer is left to itself: the client is
/// answered with `DeadlineExceeded`, and the connection's place stays taken until it returns.
pub trait Service: Send + Sync + 'static {
    /// The daemon's state; with a path only what is at, below or above it.
    ///
    /// # Errors
    /// [`ServiceError::NoSuchPlace`] when nothing of ours is at, above or below the path.
    fn status(&self, path: Option<&str>) -> Result<Status, ServiceError>;

    /// What is known of servers, and what operators asked for.
    ///
    /// # Errors
    /// As for [`Service::status`].
    fn servers(&self) -> Result<Servers, ServiceError> {
        Ok(self.status(None)?.into())
    }

    /// What the daemon was told at its start.
    fn settings(&self) -> Settings;

    /// What is mounted, a line each.
    ///
    /// # Errors
    /// As for [`Service::status`].
    fn list(&self) -> Result<Vec<Listed>, ServiceError> {
        Ok(self.status(None)?.mounts.iter().map(Listed::from).collect())
    }

    /// Requests that were answered, from `from` on: waits up to `wait` until there is one.
    ///
    /// Returns at most [`crate::limits::TRACE_BATCH`] lines, and the place behind the last one.
    ///
    /// # Errors
    /// [`ServiceError::Failed`] when it cannot be told.
    fn trace(&self, from: TraceFrom, wait: Duration) -> Result<(Trace, TraceFrom), ServiceError>;

    /// What [`Service::reload`] would change.
    ///
    /// # Errors
    /// [`ServiceError::Failed`] when the master map cannot be read.
    fn plan(&self) -> Result<ReloadPlan, ServiceError>;

    /// Reads the maps again and applies the difference.
    ///
    /// # Errors
    /// [`ServiceError::Failed`] when the master map cannot be read.
    fn reload(&self) -> Result<ReloadPlan, ServiceError>;

    /// Unmounts what is idle, at or below a path or everywhere; returns what stays.
    ///
    /// # Errors
    /// [`ServiceError::NoSuchPlace`] when the path is not in our hands.
    fn expire(&self, path: Option<&str>) -> Result<Vec<Left>, ServiceError>;

    /// Forgets failures that are answered from memory, at or below a path or everywhere; returns
    /// how many.
    ///
    /// # Errors
    /// [`ServiceError::NoSuchPlace`] when the path is not in our hands.
    fn flush(&self, path: Option<&str>) -> Result<u64, ServiceError>;

    /// Has the program at `program`, an absolute path, take over. Begins it only.
    ///
    /// # Errors
    /// [`ServiceError::Failed`] when the program is not fit for it.
    fn upgrade(&self, program: &str) -> Result<(), ServiceError>;

    /// Unmounts what is mounted at a path; returns what stays.
    ///
    /// # Errors
    /// [`ServiceError::NoSuchPlace`] when nothing of ours is mounted there.
    fn unmount(&self, path: &str) -> Result<Vec<Left>, ServiceError>;

    /// Avoids a server, for so many seconds or until [`Service::undrain`]; with `now` moves what is
    /// in use, too. Returns what is still mounted from it.
    ///
    /// # Errors
    /// [`ServiceError::TimedOut`] when the daemon does not answer.
    fn drain(
        &self,
        server: &str,
        now: bool,
        seconds: Option<u64>,
    ) -> Result<Vec<Left>, ServiceError>;

    /// Uses a server again; returns whether it was drained.
    ///
    /// # Errors
    /// As for [`Service::drain`].
    fn undrain(&self, server: &str) -> Result<bool, ServiceError>;

    /// Neither expires nor moves what is mounted at, above or below a path for so many seconds.
    ///
    /// # Errors
    /// [`ServiceError::NoSuchPlace`] when the path is not in our hands.
    fn pin(&self, path: &str, seconds: u64) -> Result<(), ServiceError>;

    /// Ends that; returns whether the path was pinned.
    ///
    /// # Errors
    /// As for [`Service::drain`].
    fn unpin(&self, path: &str) -> Result<bool, ServiceError>;

    /// Ends the daemon: unmounts what is idle, or with `detach` leaves everything as it is for a
    /// successor. Returns what stays, before the process ends.
    ///
    /// # Errors
    /// [`ServiceError::Failed`] when it is ending already.
    fn stop(&self, detach: bool) -> Result<Vec<Left>, ServiceError>;

    /// Hears of every changing call before it is carried out, for the log.
    fn called(&self, _method: &str, _caller: Caller) {}
}

/// Why the daemon did not do what it was asked.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ServiceError {
    /// It could not; the reason is for people.
    #[error("{reason}")]
    Failed {
        /// Why.
        reason: String,
    },
    /// Nothing of the daemon's is at the path.
    #[error("nothing of the automounter's is at {path}")]
    NoSuchPlace {
        /// The path as it was given.
        path: String,
    },
    /// It was not done in time; it may still happen.
    #[error("not done within the time limit; it may still happen")]
    TimedOut,
}

impl ServiceError {
    /// A failure, in words for people.
    pub fn failed(reason: impl Into<String>) -> Self {
        Self::Failed {
            reason: reason.into(),
        }
    }
}
