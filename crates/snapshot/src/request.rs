//! Which snapshot a key asks for: `name`, `name@latest`, `name@-1d`, `name@2026-11-22T03:00`.

use alloc::format;
use alloc::string::String;
use core::fmt;

use bstr::{BStr, ByteSlice};

use crate::invalid::Invalid;
use crate::limits;
use crate::time::{Seconds, Timestamp};

/// Which of an origin's snapshots.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[cfg_attr(feature = "serde", derive(serde::Deserialize, serde::Serialize))]
pub enum When {
    /// A new one.
    Fresh,
    /// The newest that exists.
    Latest,
    /// The newest that is at least so old: the state of so long ago.
    Ago(Seconds),
    /// The newest that was taken by then.
    At(Timestamp),
}

/// What a key asks for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Request {
    /// Name of a volume, or of a group of them: one that no kind of volume refuses.
    pub name: String,
    /// Which of its snapshots.
    pub when: When,
}

impl When {
    /// Reads what stands after the `@`.
    ///
    /// # Errors
    /// [`Invalid`] for anything but `latest`, `-LENGTH` and a point in time.
    pub fn parse(text: &str) -> Result<Self, Invalid> {
        if text == "latest" {
            return Ok(Self::Latest);
        }
        if let Some(length) = text.strip_prefix('-') {
            return Seconds::parse(length).map(Self::Ago);
        }
        Timestamp::last_of(text).map(Self::At).ok_or_else(|| {
            Invalid::new(
                "bad-snapshot-time",
                format!("`{}` says no time", text.escape_debug()),
                "write latest, -1d (so long ago) or a time in UTC such as 2026-11-22T03:00",
            )
        })
    }

    /// Of the names that exist the one that is meant; none for [`When::Fresh`].
    pub fn choose<'n, T>(
        self,
        now: Timestamp,
        existing: impl IntoIterator<Item = &'n T>,
        taken: impl Fn(&T) -> Timestamp,
    ) -> Option<&'n T> {
        let last = match self {
            Self::Fresh => return None,
            Self::Latest => Timestamp(u64::MAX),
            Self::Ago(length) => now.before(length),
            Self::At(time) => time,
        };
        let existing = existing.into_iter().filter(|one| taken(one) <= last);
        existing.max_by_key(|one| taken(one))
    }
}

impl fmt::Display for When {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Fresh => Ok(()),
            Self::Latest => out.write_str("latest"),
            Self::Ago(length) => write!(out, "-{length}"),
            Self::At(time) => time.fmt(out),
        }
    }
}

impl Request {
    /// Reads a key.
    ///
    /// # Errors
    /// [`Invalid`] for a name that [`check_word`] refuses and for a time that says none.
    pub fn parse(key: &BStr) -> Result<Self, Invalid> {
        let (name, when) = match key.split_once_str(b"@") {
            Some((name, when)) => (name, Some(when)),
            None => (key.as_bytes(), None),
        };
        let name = check_word(name.as_bstr())?;
        let when = match when {
            // What is no text is no time either.
            Some(when) => When::parse(when.to_str().unwrap_or("?"))?,
            None => When::Fresh,
        };
        Ok(Self {
            name: name.into(),
            when,
        })
    }
}

impl fmt::Display for Request {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.when {
            When::Fresh => out.write_str(&self.name),
            when => write!(out, "{}@{when}", self.name),
        }
    }
}

/// A word that can be a name for LVM, btrfs and ZFS alike, and is no option, no path and no hidden
/// file: letters, digits, `_`, `+`, `.` and `-`, the first neither `.` nor `-`, at most
/// [`limits::NAME`].
///
/// # Errors
/// [`Invalid`] for anything else.
pub fn check_word(word: &BStr) -> Result<&str, Invalid> {
    let inner =
        |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'+' | b'.' | b'-');
    let good = word.len() <= limits::NAME
        && word
            .first()
            .is_some_and(|first| !matches!(first, b'-' | b'.'))
        && word.bytes().all(inner);
    match word.to_str() {
        Ok(text) if good => Ok(text),
        _ => Err(Invalid::new(
            "bad-volume-name",
            format!("`{}` is no name of a volume", word.escape_bytes()),
            format!(
                "names are made of letters, digits, _ + . and -, do not begin with . or -, and have \
                 at most {} bytes",
                limits::NAME
            ),
        )),
    }
}

#[cfg(test)]
mod tests {
    use alloc::string::ToString;

    use super::*;

    #[test]
    fn keys_say_which() {
        for (key, name, when) in [
            ("data", "data", When::Fresh),
            ("data@latest", "data", When::Latest),
            ("data@-1d", "data", When::Ago(Seconds(86_400))),
            (
                "a.b_c+d-1@2026-11-22T03:00:15.123Z",
                "a.b_c+d-1",
                When::At(Timestamp(1_795_316_415_123)),
            ),
        ] {
            let request = Request::parse(key.into()).unwrap();
            assert_eq!((request.name.as_str(), request.when), (name, when), "{key}");
            assert_eq!(request.to_string(), key);
        }
    }

    #[test]
    fn keys_that_are_refused() {
        for (key, code) in [
            ("", "bad-volume-name"),
            ("-rf", "bad-volume-name"),
            (".snap", "bad-volume-name"),
            ("..", "bad-volume-name"),
            ("a/b", "bad-volume-name"),
            ("a b", "bad-volume-name"),
            ("a\n", "bad-volume-name"),
            ("a\u{1b}[1m", "bad-volume-name"),
            ("\u{e4}", "bad-volume-name"),
            ("a;reboot", "bad-volume-name"),
            ("@latest", "bad-volume-name"),
            ("a@", "bad-snapshot-time"),
            ("a@b@latest", "bad-snapshot-time"),
            ("a@yesterday", "bad-snapshot-time"),
            ("a@-1", "bad-length-of-time"),
            ("a@--1d", "bad-length-of-time"),
        ] {
            assert_eq!(Request::parse(key.into()).unwrap_err().code, code, "{key}");
        }
        assert!(Request::parse(b"a@\xff".as_bstr()).is_err());
        let longest = "x".repeat(limits::NAME);
        assert!(Request::parse(longest.as_str().into()).is_ok());
        assert!(Request::parse((longest + "x").as_str().into()).is_err());
    }

    #[test]
    fn the_newest_that_fits_is_chosen() {
        let existing = [1_000, 2_000, 3_000].map(Timestamp);
        let choose = |when: When| {
            when.choose(Timestamp(10_500), &existing, |time| *time)
                .map(|time| time.0)
        };
        assert_eq!(choose(When::Fresh), None);
        assert_eq!(choose(When::Latest), Some(3_000));
        assert_eq!(choose(When::Ago(Seconds(8))), Some(2_000));
        assert_eq!(choose(When::Ago(Seconds(9))), Some(1_000));
        assert_eq!(choose(When::Ago(Seconds(10))), None);
        assert_eq!(choose(When::At(Timestamp(2_999))), Some(2_000));
        assert_eq!(choose(When::At(Timestamp(999))), None);
    }
}
