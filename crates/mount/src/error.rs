//! What can go wrong with one operation, with an errno in each case.

use std::fmt;

use bstr::BString;
use piton_path::shown;
pub(crate) use piton_volumes::text_of;
use rustix::io::Errno;

use crate::lane::Lane;

/// Why an operation failed. Its [`Display`](fmt::Display) says what was done to which path, what
/// the system answered, and the kernel's or the helper's own words.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Error {
    /// A system call failed.
    Call {
        /// What was being done, as in `mounting tmpfs on`.
        doing: String,
        /// The path it was done to.
        path: BString,
        /// The system's answer.
        errno: Errno,
        /// The kernel's words, if it had any.
        words: String,
    },
    /// A helper ended with a failure.
    Helper {
        /// The program.
        program: String,
        /// The mount point.
        path: BString,
        /// How it ended: `exit status 32`.
        status: String,
        /// What its status and words mean.
        errno: Errno,
        /// The last of its words.
        words: String,
    },
    /// A helper did not end in time and was killed.
    Overran {
        /// The program.
        program: String,
        /// The mount point.
        path: BString,
        /// How long it had, in milliseconds.
        milliseconds: u128,
        /// The last of its words.
        words: String,
    },
    /// Piton itself refuses.
    Refused {
        /// What is refused: a path or an option.
        path: BString,
        /// The errno for it.
        errno: Errno,
        /// Why.
        why: String,
    },
    /// No failure: it might have to wait for somebody, which this process must not.
    Elsewhere(Lane),
    /// A trigger could not be put in place or taken away, in the front end's words; or what a
    /// worker process, or who takes snapshots, could not do, in its words.
    Trigger {
        /// The errno it gave.
        errno: Errno,
        /// What it said.
        words: String,
    },
}

impl Error {
    /// A failed system call without words of the kernel.
    pub(crate) fn call(doing: impl Into<String>, path: impl AsRef<[u8]>, errno: Errno) -> Self {
        let path = BString::from(path.as_ref());
        Self::Call {
            doing: doing.into(),
            path,
            errno,
            words: String::new(),
        }
    }

    /// A refusal of ours.
    pub(crate) fn refused(path: impl AsRef<[u8]>, errno: Errno, why: impl Into<String>) -> Self {
        Self::Refused {
            path: BString::from(path.as_ref()),
            errno,
            why: why.into(),
        }
    }

    /// The errno that says it best.
    pub(crate) fn errno(&self) -> Errno {
        match self {
            Self::Call { errno, .. }
            | Self::Helper { errno, .. }
            | Self::Refused { errno, .. }
            | Self::Trigger { errno, .. } => *errno,
            Self::Overran { .. } => Errno::TIMEDOUT,
            Self::Elsewhere(_) => Errno::AGAIN,
        }
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Call {
                doing,
                path,
                errno,
                words,
            } => {
                write!(f, "{doing} {}: {}", shown(path), text_of(*errno))?;
                with_words(f, words)
            }
            Self::Helper {
                program,
                path,
                status,
                words,
                ..
            } => {
                write!(f, "{program} for {}: {status}", shown(path))?;
                with_words(f, words)
            }
            Self::Overran {
                program,
                path,
                milliseconds,
                words,
            } => {
                let path = shown(path);
                write!(
                    f,
                    "{program} for {path}: not done after {milliseconds} ms, killed"
                )?;
                with_words(f, words)
            }
            Self::Refused { path, why, .. } => write!(f, "{}: {why}", shown(path)),
            Self::Elsewhere(_) => f.write_str("cannot be done without waiting"),
            Self::Trigger { words, .. } => f.write_str(words),
        }
    }
}

fn with_words(f: &mut fmt::Formatter<'_>, words: &str) -> fmt::Result {
    if words.is_empty() {
        Ok(())
    } else {
        write!(f, " ({words})")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_failed_call_says_what_where_why_and_the_kernels_words() {
        let mut error = Error::call("mounting tmpfs on", "/a b", Errno::INVAL);
        assert_eq!(
            error.to_string(),
            "mounting tmpfs on \"/a b\": Invalid argument"
        );
        if let Error::Call { words, .. } = &mut error {
            *words = "tmpfs: Unknown parameter 'x'".into();
        }
        assert_eq!(
            error.to_string(),
            "mounting tmpfs on \"/a b\": Invalid argument (tmpfs: Unknown parameter 'x')"
        );
    }
}
