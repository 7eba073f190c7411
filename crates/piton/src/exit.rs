//! Exit statuses, in one place.

use std::process::ExitCode;

/// How a command ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Exit {
    /// Done.
    Success,
    /// Not done, or (`check`, `explain`) there is something to say against it.
    Failure,
    /// The command line was wrong, or `check` could not look.
    Usage,
    /// `automount`: the map was not found.
    MapNotFound,
    /// `daemon`: as another of its processes ended.
    Status(u8),
}

impl Exit {
    /// How a daemon ends that leaves the rest to its successor.
    pub(crate) const HANDED_OVER: i32 = 75;
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> Self {
        ExitCode::from(match exit {
            Exit::Success => 0,
            Exit::Failure => 1,
            Exit::Usage => 2,
            Exit::MapNotFound => 3,
            Exit::Status(status) => status,
        })
    }
}
