//! What can go wrong: which call, on what, with which errno, and what the kernel said about it.

use std::fmt;
use std::io;
use std::path::{Path, PathBuf};

use rustix::io::Errno;

use crate::packet::PacketError;

/// The result of this crate's functions.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// Why a call of this crate failed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The kernel refused a call.
    #[error("{call}{}: {errno}{}", Where(path), Words(kernel_text))]
    Call {
        /// The call by the name that its manual page or the kernel's document gives it.
        call: &'static str,
        /// What it was asked about, where that has a path.
        path: Option<PathBuf>,
        /// Why it was refused.
        errno: Errno,
        /// The kernel's own words (see [`kernel_text`](crate::kernel_text)), where it had any.
        kernel_text: Option<Box<str>>,
    },
    /// A line of `/proc/self/mountinfo` about an autofs mount could not be read.
    #[error("mountinfo: no autofs mount can be read from \"{line}\"")]
    Mountinfo {
        /// The line, with its escapes.
        line: Box<str>,
    },
    /// The kernel sent a request that cannot be read.
    #[error(transparent)]
    Packet(#[from] PacketError),
    /// What should be a table of requests cannot be used as one.
    #[error("the table of requests of an earlier daemon cannot be taken over: {problem}")]
    Table {
        /// What is wrong with it.
        problem: &'static str,
    },
    /// All writers of the request pipe are gone: no point can send a request any more.
    #[error("the request pipe has no writer left")]
    PipeClosed,
}

impl Error {
    pub(crate) fn call(call: &'static str, errno: Errno) -> Self {
        Self::Call {
            call,
            path: None,
            errno,
            kernel_text: None,
        }
    }

    pub(crate) fn call_on(call: &'static str, path: &Path, errno: Errno) -> Self {
        Self::Call {
            call,
            path: Some(path.to_owned()),
            errno,
            kernel_text: None,
        }
    }

    /// The kernel's reason, where the kernel refused.
    pub fn errno(&self) -> Option<Errno> {
        match self {
            Self::Call { errno, .. } => Some(*errno),
            Self::Mountinfo { .. } | Self::Packet(_) | Self::PipeClosed | Self::Table { .. } => {
                None
            }
        }
    }
}

impl From<Error> for io::Error {
    /// Keeps the kind; the error itself can be had back with `downcast`.
    fn from(error: Error) -> Self {
        let kind = match &error {
            Error::Call { errno, .. } => errno.kind(),
            Error::Mountinfo { .. } | Error::Packet(_) | Error::Table { .. } => {
                io::ErrorKind::InvalidData
            }
            Error::PipeClosed => io::ErrorKind::BrokenPipe,
        };
        Self::new(kind, error)
    }
}

/// A path that may be missing, with a blank before it.
struct Where<'a>(&'a Option<PathBuf>);

impl fmt::Display for Where<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0
            .as_ref()
            .map_or(Ok(()), |path| write!(f, " {}", path.display()))
    }
}

/// The kernel's words in brackets, if there are any.
struct Words<'a>(&'a Option<Box<str>>);

impl fmt::Display for Words<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0
            .as_ref()
            .map_or(Ok(()), |text| write!(f, " ({text})"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn says_what_where_why_and_the_kernels_words() {
        let error = Error::Call {
            call: "fsconfig",
            path: Some("/net".into()),
            errno: Errno::INVAL,
            kernel_text: Some("autofs: Unknown parameter 'x'".into()),
        };
        assert_eq!(
            error.to_string(),
            "fsconfig /net: Invalid argument (os error 22) (autofs: Unknown parameter 'x')"
        );
        assert_eq!(error.errno(), Some(Errno::INVAL));
        assert_eq!(io::Error::from(error).kind(), io::ErrorKind::InvalidInput);
    }
}
