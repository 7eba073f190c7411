//! Paths as text: which lies below which, and in what form they are compared. Pure: what the file
//! system makes of a path, where a symbolic link may lead elsewhere, is not asked.
//!
//! Paths are bytes, and `/` between names is all that counts: `/ab` is not below `/a`. Slashes at
//! the end of the upper one mean nothing, so below `/` lies every absolute path.
#![no_std]
#![forbid(unsafe_code)]

extern crate alloc;

use alloc::borrow::Cow;
use alloc::format;
use alloc::string::{String, ToString};
use alloc::vec::Vec;

use bstr::{BStr, ByteSlice};

/// What `path` has below `top`, without the slash between them: empty where both are the same path.
/// None where `path` lies elsewhere.
pub fn below<'p, P, T>(path: &'p P, top: &T) -> Option<&'p BStr>
where
    P: AsRef<[u8]> + ?Sized,
    T: AsRef<[u8]> + ?Sized,
{
    let top = top.as_ref().trim_end_with(|letter| letter == '/');
    match path.as_ref().strip_prefix(top)? {
        [] => Some(BStr::new(b"")),
        [b'/', rest @ ..] => Some(rest.as_bstr()),
        _ => None,
    }
}

/// Returns true if and only if `path` is `top` or lies below it.
pub fn is_within<P, T>(path: &P, top: &T) -> bool
where
    P: AsRef<[u8]> + ?Sized,
    T: AsRef<[u8]> + ?Sized,
{
    below(path, top).is_some()
}

/// Returns true if and only if `path` lies below `top`, and is another path.
pub fn is_below<P, T>(path: &P, top: &T) -> bool
where
    P: AsRef<[u8]> + ?Sized,
    T: AsRef<[u8]> + ?Sized,
{
    below(path, top).is_some_and(|rest| !rest.is_empty())
}

/// Returns true if and only if one of two paths is the other or lies below it.
pub fn are_related<P, T>(one: &P, other: &T) -> bool
where
    P: AsRef<[u8]> + ?Sized,
    T: AsRef<[u8]> + ?Sized,
{
    is_within(one, other) || is_within(other, one)
}

/// A path or name as it is shown in a message: quotes only where it has blanks or control characters.
pub fn shown<P: AsRef<[u8]> + ?Sized>(path: &P) -> String {
    let path = path.as_ref().as_bstr();
    let plain = !path.is_empty() && path.bytes().all(|b| b > b' ' && b != 0x7f && b != b'"');
    match plain {
        true => path.to_string(),
        false => format!("{path:?}"),
    }
}

/// The paths above an absolute path, from the top; without the root.
pub fn ancestors(path: &BStr) -> impl Iterator<Item = &BStr> {
    let slashes = path.find_iter("/").filter(|at| *at > 0);
    slashes.map(move |at| path[..at].as_bstr())
}

/// The path with repeated and final slashes and `.` removed and `..` resolved by its text.
pub fn normalize(path: &[u8]) -> Cow<'_, BStr> {
    if is_normal(path) {
        return Cow::Borrowed(path.as_bstr());
    }
    let absolute = path.starts_with(b"/");
    let mut parts: Vec<&[u8]> = Vec::new();
    for part in path.split_str("/") {
        match part {
            b"" | b"." => {}
            b".." if absolute => drop(parts.pop()),
            other => parts.push(other),
        }
    }
    let mut clean = Vec::with_capacity(path.len());
    for (number, part) in parts.iter().enumerate() {
        if absolute || number > 0 {
            clean.push(b'/');
        }
        clean.extend_from_slice(part);
    }
    if clean.is_empty() && absolute {
        clean.push(b'/');
    }
    Cow::Owned(clean.into())
}

/// Returns true if and only if the path is absolute and [`normalize`] would change nothing.
fn is_normal(path: &[u8]) -> bool {
    path == b"/"
        || path.strip_prefix(b"/").is_some_and(|rest| {
            rest.split(|byte| *byte == b'/')
                .all(|part| !matches!(part, b"" | b"." | b".."))
        })
}

/// Returns true if and only if a part of the path is `..`.
pub fn has_dot_dot(path: &[u8]) -> bool {
    path.split_str("/").any(|part| part == b"..")
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn what_lies_below() {
        for (path, top, rest) in [
            ("/a/b", "/a", Some("b")),
            ("/a/b/c", "/a/", Some("b/c")),
            ("/a", "/a", Some("")),
            ("/a", "/a//", Some("")),
            ("/a/", "/a", Some("")),
            ("/a", "/", Some("a")),
            ("/", "/", Some("")),
            ("/ab", "/a", None),
            ("/", "/a", None),
            ("/b/a", "/a", None),
        ] {
            assert_eq!(below(path, top), rest.map(BStr::new), "{path} {top}");
            assert_eq!(is_within(path, top), rest.is_some());
            assert_eq!(
                is_below(path, top),
                rest.is_some_and(|rest| !rest.is_empty())
            );
        }
    }

    #[test]
    fn related_are_those_on_one_branch() {
        assert!(are_related("/a", "/a/b") && are_related("/a/b", "/a") && are_related("/a", "/a"));
        assert!(!are_related("/a", "/ab") && !are_related("/a/b", "/a/c"));
    }

    #[test]
    fn what_lies_above() {
        let above = |path: &'static str| -> Vec<&BStr> { ancestors(path.into()).collect() };
        assert_eq!(above("/a/b/c"), ["/a", "/a/b"]);
        assert!(above("/a").is_empty() && above("/").is_empty());
    }

    #[test]
    fn paths_lose_doubled_and_final_slashes() {
        for (path, clean) in [
            ("/a", "/a"),
            ("//a//b/", "/a/b"),
            ("/", "/"),
            ("//", "/"),
            ("/a/", "/a"),
            ("/a/./b/../c", "/a/c"),
            ("a/../b", "a/../b"),
        ] {
            assert_eq!(normalize(path.as_bytes()), BStr::new(clean), "{path:?}");
        }
    }

    proptest! {
        #[test]
        fn normalised_paths_are_normal(path in "[a./]{0,20}") {
            let once = normalize(path.as_bytes()).into_owned();
            prop_assert_eq!(normalize(&once).into_owned(), once.clone());
            prop_assert!(!path.starts_with('/') || is_normal(&once) && !has_dot_dot(&once));
        }

        #[test]
        fn a_path_is_below_what_is_above_it(path in "(/[ab]{1,2}){1,6}") {
            for above in ancestors(path.as_str().into()) {
                prop_assert!(is_below(&path, above) && !is_within(above, &path));
            }
        }
    }

    #[test]
    fn paths_with_control_characters_are_escaped() {
        assert_eq!(shown("/a\n"), "\"/a\\n\"");
        assert_eq!(shown("/a"), "/a");
        assert_eq!(shown(""), "\"\"");
    }
}
