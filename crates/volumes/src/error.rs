//! What can go wrong with a snapshot, with an errno in each case.

use std::fmt;

use bstr::BString;
use piton_path::shown;
use piton_snapshot::Origin;
use rustix::io::Errno;

/// Why a provider could not do what it was asked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Error {
    /// It is not there.
    Absent {
        /// The origin or snapshot.
        what: BString,
        /// Where it was looked for.
        place: String,
    },
    /// It is in use.
    Busy {
        /// The snapshot.
        what: BString,
        /// By whom, as far as it is known.
        by: String,
    },
    /// A system call failed.
    Call {
        /// What was being done, as in `freezing`.
        doing: &'static str,
        /// What it was done to.
        path: BString,
        /// The system's answer.
        errno: Errno,
    },
    /// A directory above the origin keeps somebody out who would come to the view.
    Closed {
        /// Where the origin is.
        what: BString,
        /// The directory.
        directory: BString,
        /// Where the view was to be.
        view: BString,
    },
    /// It does not carry our mark.
    Foreign {
        /// The snapshot.
        what: BString,
        /// The mark that is missing.
        mark: &'static str,
    },
    /// Going on would put a pool or a file system in danger.
    Full {
        /// The pool, group or file system.
        what: BString,
        /// How full it is, and what to do.
        why: String,
    },
    /// It took too long.
    Overran {
        /// What was waited for.
        what: BString,
        /// How long, in milliseconds.
        milliseconds: u128,
    },
    /// A program ended with a failure.
    Program {
        /// The program.
        program: String,
        /// What it was run for.
        what: BString,
        /// How it ended: `exit status 5`.
        status: String,
        /// The last of its words.
        words: String,
    },
    /// It overflowed or was never finished.
    Spoilt {
        /// The snapshot.
        what: BString,
        /// What happened to it, and what to do.
        why: String,
    },
    /// A program's report cannot be read.
    Unreadable {
        /// The program.
        program: String,
        /// What is wrong with it.
        why: String,
    },
    /// This cannot be done with this origin.
    Unsupported {
        /// The origin.
        what: BString,
        /// Why, and what to do.
        why: String,
    },
}

impl Error {
    /// There is no such snapshot of the origin.
    pub(crate) fn absent(what: impl Into<BString>, origin: &Origin) -> Self {
        Self::Absent {
            what: what.into(),
            place: format!("the snapshots of {origin}"),
        }
    }

    /// A failed system call.
    pub(crate) fn call(doing: &'static str, path: impl AsRef<[u8]>, errno: Errno) -> Self {
        let path = path.as_ref().into();
        Self::Call { doing, path, errno }
    }

    /// A failed call of the standard library.
    pub(crate) fn io(doing: &'static str, path: impl AsRef<[u8]>, error: &std::io::Error) -> Self {
        Self::call(
            doing,
            path,
            Errno::from_io_error(error).unwrap_or(Errno::IO),
        )
    }

    /// The errno that says it best.
    pub fn errno(&self) -> Errno {
        match self {
            Self::Absent { .. } => Errno::NOENT,
            Self::Busy { .. } => Errno::BUSY,
            Self::Closed { .. } => Errno::ACCESS,
            Self::Call { errno, .. } => *errno,
            Self::Foreign { .. } => Errno::PERM,
            Self::Full { .. } => Errno::NOSPC,
            Self::Overran { .. } => Errno::TIMEDOUT,
            Self::Program { .. } | Self::Spoilt { .. } | Self::Unreadable { .. } => Errno::IO,
            Self::Unsupported { .. } => Errno::OPNOTSUPP,
        }
    }
}

impl std::error::Error for Error {}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Absent { what, place } => write!(f, "{} is not in {place}", shown(what)),
            Self::Busy { what, by } => write!(f, "{} is in use {by}", shown(what)),
            Self::Call { doing, path, errno } => {
                write!(f, "{doing} {}: {}", shown(path), text_of(*errno))
            }
            Self::Closed {
                what,
                directory,
                view,
            } => write!(
                f,
                "{} keeps users out of {}, and nothing would keep them out of its view {}: have \
                 that below a directory of the same owner and mode",
                shown(directory),
                shown(what),
                shown(view)
            ),
            Self::Foreign { what, mark } => write!(
                f,
                "{} was not made by piton ({mark}), so it is left alone",
                shown(what)
            ),
            Self::Full { what, why }
            | Self::Spoilt { what, why }
            | Self::Unsupported { what, why } => write!(f, "{}: {why}", shown(what)),
            Self::Overran { what, milliseconds } => {
                write!(f, "{}: not done after {milliseconds} ms", said(what))
            }
            Self::Program {
                program,
                what,
                status,
                words,
            } => {
                write!(f, "{program} for {}: {status}", shown(what))?;
                if words.is_empty() {
                    Ok(())
                } else {
                    write!(f, " ({words})")
                }
            }
            Self::Unreadable { program, why } => {
                write!(f, "{program}: its report cannot be read: {why}")
            }
        }
    }
}

/// Words of ours with a name or path in them.
fn said(what: &BString) -> String {
    match what.iter().any(u8::is_ascii_control) {
        false => what.to_string(),
        true => format!("{what:?}"),
    }
}

/// The system's text for an errno, as strerror(3) has it.
pub fn text_of(errno: Errno) -> String {
    let text = std::io::Error::from_raw_os_error(errno.raw_os_error()).to_string();
    match text.rfind(" (os error") {
        Some(end) => text[..end].to_owned(),
        None => text,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_say_what_and_why() {
        let error = Error::call("freezing", "/a b", Errno::BUSY);
        assert_eq!(
            error.to_string(),
            "freezing \"/a b\": Device or resource busy"
        );
        let error = Error::Foreign {
            what: "storage/mine".into(),
            mark: "tag piton",
        };
        assert_eq!(
            error.to_string(),
            "storage/mine was not made by piton (tag piton), so it is left alone"
        );
        assert_eq!(error.errno(), Errno::PERM);
    }
}
