//! Why a call has no result.

use std::fmt;

use rustix::io::Errno;

/// Why a call has no result.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Error {
    /// A system call failed: nobody listens there, there is no way to it, …
    System(Errno),
    /// Nothing was heard in time.
    Late,
    /// Nobody serves the program there.
    NoProgram,
    /// The program is there in these versions only.
    OtherVersions {
        /// The lowest.
        low: u32,
        /// The highest.
        high: u32,
    },
    /// The program does not have the procedure.
    NoProcedure,
    /// The server wants to know who asks, in a way that is not ours: the number of
    /// `auth_stat` in RFC 5531.
    NotAllowed(u32),
    /// The server had a failure of its own, or did not understand the call.
    ServerFailed,
    /// The program is not registered with the portmapper.
    NotRegistered,
    /// What came is no answer.
    Malformed(&'static str),
    /// The answer is longer than is accepted.
    TooLong,
}

impl Error {
    /// The errno that says it best.
    pub fn errno(self) -> Errno {
        match self {
            Self::System(errno) => errno,
            Self::Late => Errno::TIMEDOUT,
            Self::NoProgram
            | Self::OtherVersions { .. }
            | Self::NoProcedure
            | Self::NotRegistered => Errno::PROTONOSUPPORT,
            Self::NotAllowed(_) => Errno::ACCESS,
            Self::ServerFailed => Errno::REMOTEIO,
            Self::Malformed(_) => Errno::PROTO,
            Self::TooLong => Errno::MSGSIZE,
        }
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::System(errno) => {
                let text = std::io::Error::from(*errno).to_string();
                f.write_str(text.split(" (os error").next().unwrap_or(&text))
            }
            Self::Late => f.write_str("no answer in time"),
            Self::NoProgram => f.write_str("the program is not served there"),
            Self::OtherVersions { low, high } => {
                write!(f, "only versions {low} to {high} of the program are served")
            }
            Self::NoProcedure => f.write_str("the program does not have the procedure"),
            Self::NotAllowed(status) => {
                write!(f, "the server refuses to tell us (auth_stat {status})")
            }
            Self::ServerFailed => f.write_str("the server failed"),
            Self::NotRegistered => f.write_str("the program is not registered with the portmapper"),
            Self::Malformed(what) => write!(f, "what came is no answer: {what}"),
            Self::TooLong => f.write_str("the answer is too long"),
        }
    }
}

impl std::error::Error for Error {}

impl From<Errno> for Error {
    fn from(errno: Errno) -> Self {
        Self::System(errno)
    }
}
