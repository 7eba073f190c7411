//! Why a question has no answer.

use std::fmt;

use bstr::{BStr, BString};
use rustix::io::Errno;

use crate::limits;

/// Why a question has no answer: what it was about, an errno, and why.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Error {
    about: BString,
    errno: Errno,
    why: String,
}

impl Error {
    /// A failure with this errno. Words are cut, and control characters in them made visible: they
    /// may come from a server.
    pub(crate) fn new(about: &BStr, errno: Errno, why: impl AsRef<str>) -> Self {
        let words = safe(why.as_ref(), limits::WORDS);
        Self {
            about: about.to_owned(),
            errno,
            why: words,
        }
    }

    /// Nothing was heard in time.
    pub(crate) fn late(about: &BStr, doing: &str) -> Self {
        Self::new(about, Errno::TIMEDOUT, format!("{doing} took too long"))
    }

    /// What the system calls it, as errno(3) numbers it: ENOENT when nobody knows the name,
    /// ETIMEDOUT when there was no answer in time, EAGAIN when there may be one later, or what a
    /// server or the way to it said.
    pub fn errno(&self) -> i32 {
        self.errno.raw_os_error()
    }

    /// The cause in words, without what it was about.
    pub fn why(&self) -> &str {
        &self.why
    }
}

/// Words that are no longer than this, with nothing in them that a terminal takes for an order.
pub(crate) fn safe(text: &str, most: usize) -> String {
    let mut words = String::new();
    for character in text.chars() {
        let character = if character.is_control() {
            char::REPLACEMENT_CHARACTER
        } else {
            character
        };
        if words.len() + character.len_utf8() > most {
            break;
        }
        words.push(character);
    }
    words
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.about.escape_ascii(), self.why)
    }
}

impl std::error::Error for Error {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_are_cut_and_safe_for_terminals() {
        let at = |length: usize| {
            let why = "x".repeat(length);
            Error::new("h".into(), Errno::IO, why).why().len()
        };
        assert_eq!(at(limits::WORDS), limits::WORDS);
        assert_eq!(at(limits::WORDS + 1), limits::WORDS);
        let error = Error::new(b"h\x1b".into(), Errno::IO, "a\x1b[31m\nb");
        assert_eq!(error.to_string(), "h\\x1b: a\u{fffd}[31m\u{fffd}b");
    }
}
