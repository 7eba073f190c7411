//! Keys as they are written in maps: quotes and escapes, and which keys can be asked for.
//!
//! A key ends at the first blank that is neither quoted nor escaped. Quotes may stand anywhere
//! in it; outside quotes a backslash keeps the next character as it is; inside quotes only
//! `\"` and `\\` are escapes and any other backslash stands for itself.

use alloc::borrow::Cow;
use alloc::vec::Vec;

use bstr::{BStr, ByteSlice};

use crate::lines::is_blank;
use crate::lookup::Miss;

/// Longest name that a directory can hold, in bytes (NAME_MAX); no longer key can be asked for.
pub const KEY_LIMIT: usize = 255;

/// Longest path that the kernel takes, in bytes with the final NUL (PATH_MAX).
pub const PATH_LIMIT: usize = 4096;

/// Whether a map's keys are names below one directory or paths of their own.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum MapKind {
    /// Keys are simple names under the mount point.
    Indirect,
    /// Keys are absolute paths, each a mount point of its own.
    Direct,
}

/// A quote that is opened and never closed; the offset of the quote.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Unterminated(pub usize);

/// The length of the key that `text` (the rest of a logical line) begins with. A line break ends
/// the key, continued or not.
///
/// # Errors
/// [`Unterminated`] when a quote is still open at the end of the line.
pub fn written_len(text: &[u8]) -> Result<usize, Unterminated> {
    let mut at = 0;
    let mut quote = None;
    while let Some(byte) = text.get(at) {
        match *byte {
            b'"' => {
                quote = match quote {
                    None => Some(at),
                    Some(_) => None,
                }
            }
            b'\n' => break,
            b'\\' if is_line_break(&text[at + 1..]) => break,
            b'\\' if at + 1 < text.len() => at += 1,
            blank if is_blank(blank) && quote.is_none() => break,
            _ => {}
        }
        at += 1;
    }
    match quote {
        Some(opened) => Err(Unterminated(opened)),
        None => Ok(at.min(text.len())),
    }
}

/// Returns true if and only if `text` begins with LF or CR LF.
pub(crate) fn is_line_break(text: &[u8]) -> bool {
    text.starts_with(b"\n") || text.starts_with(b"\r\n")
}

/// The key that `written` stands for: quotes removed, escapes resolved.
pub fn unquote(written: &[u8]) -> Cow<'_, BStr> {
    if written.find_byteset(b"\"\\").is_none() {
        return Cow::Borrowed(written.as_bstr());
    }
    let mut key = Vec::with_capacity(written.len());
    let mut quoted = false;
    let mut bytes = written.iter().copied().peekable();
    while let Some(byte) = bytes.next() {
        match byte {
            b'"' => quoted = !quoted,
            b'\\' if !quoted || matches!(bytes.peek(), Some(b'"' | b'\\')) => {
                key.push(bytes.next().unwrap_or(b'\\'));
            }
            other => key.push(other),
        }
    }
    Cow::Owned(key.into())
}

/// Checks that `key` is one that somebody can ask for and that may safely become part of a
/// path, an argument of a program or a volume name.
///
/// # Errors
/// [`Miss::BadKey`] with the reason.
pub fn check(kind: MapKind, key: &BStr) -> Result<(), Miss> {
    let reason = match kind {
        MapKind::Indirect => bad_name(key),
        MapKind::Direct => bad_path(key),
    };
    reason.map_or(Ok(()), |reason| Err(Miss::BadKey(reason)))
}

/// Why `name` cannot be a name in a directory, if so.
pub(crate) fn bad_name(name: &BStr) -> Option<&'static str> {
    match name.as_bytes() {
        b"" => Some("the key is empty"),
        b"." | b".." => Some("`.` and `..` are directories of their own"),
        long if long.len() > KEY_LIMIT => Some("a name has at most 255 bytes"),
        other if other.contains(&b'/') => Some("a key of an indirect map has no slash"),
        other if other.iter().any(|byte| byte.is_ascii_control()) => {
            Some("the key has a control character")
        }
        _ => None,
    }
}

/// Why `path` cannot be a mount point, if so.
pub(crate) fn bad_path(path: &BStr) -> Option<&'static str> {
    match path.as_bytes() {
        b"/" => Some("the root directory cannot be a mount point"),
        other if !other.starts_with(b"/") => Some("the path does not begin with a slash"),
        long if long.len() >= PATH_LIMIT => Some("a path has at most 4,095 bytes"),
        other if other.iter().any(|byte| byte.is_ascii_control()) => {
            Some("the path has a control character")
        }
        other => other.split_str("/").find_map(|part| match part {
            b"." | b".." => Some("the path has a `.` or `..` in it"),
            long if long.len() > KEY_LIMIT => Some("a part of the path is longer than 255 bytes"),
            _ => None,
        }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn written_keys_end_at_the_first_free_blank() {
        for (line, length) in [
            ("a b", 1),
            ("a\tb", 1),
            ("a", 1),
            ("\"a b\" c", 5),
            ("a\\ b c", 4),
            ("x\"y z\"w v", 7),
            ("a\\\nb", 1),
            ("a\\\r\nb", 1),
            ("a\\", 2),
            ("", 0),
        ] {
            assert_eq!(written_len(line.as_bytes()), Ok(length), "{line:?}");
        }
        assert_eq!(written_len(b"x\"a b"), Err(Unterminated(1)));
    }

    #[test]
    fn quotes_and_escapes_resolve() {
        for (written, key) in [
            ("a", "a"),
            ("\"a b\"", "a b"),
            ("a\\ b", "a b"),
            ("x\"y z\"w", "xy zw"),
            ("a\\\\b", "a\\b"),
            ("\"a\\b\"", "a\\b"),
            ("\"a\\\"b\"", "a\"b"),
            ("\\*", "*"),
        ] {
            assert_eq!(
                unquote(written.as_bytes()),
                key.as_bytes().as_bstr(),
                "{written:?}"
            );
        }
    }

    #[test]
    fn keys_that_nobody_can_ask_for_are_refused() {
        for bad in ["", ".", "..", "a/b", "a\nb", "a\u{7f}"] {
            assert!(check(MapKind::Indirect, bad.into()).is_err(), "{bad:?}");
        }
        for good in ["a", "-n", "a b", "$HOST", "k\u{e4}se", "..."] {
            assert_eq!(check(MapKind::Indirect, good.into()), Ok(()), "{good:?}");
        }
        let longest = "k".repeat(KEY_LIMIT);
        assert_eq!(check(MapKind::Indirect, longest.as_str().into()), Ok(()));
        assert!(check(MapKind::Indirect, (longest + "k").as_str().into()).is_err());
        for bad in ["/", "a", "/a/../b", "/a/.", "/a\nb"] {
            assert!(check(MapKind::Direct, bad.into()).is_err(), "{bad:?}");
        }
        assert_eq!(check(MapKind::Direct, "/a/b c".into()), Ok(()));
    }
}
