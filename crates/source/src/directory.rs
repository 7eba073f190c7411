//! Directories of master maps: `+dir:/etc/auto.master.d`.

use std::cmp::Ordering;
use std::ffi::OsString;
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use piton_map::lookup::Miss;
use rustix::io::Errno;

use crate::file;

/// What the name of a file must end in to be read.
const SUFFIX: &[u8] = b".autofs";

/// The files of `directory` that are read as master maps, in the order in which they are read:
/// names that end in `.autofs` and do not begin with a dot, by version ([`by_version`]).
///
/// # Errors
/// [`Miss::NoSuchMap`] when there is no such directory, [`Miss::Unreadable`] for anything else.
pub fn master_files(directory: &Path, name: &Arc<str>) -> Result<Vec<PathBuf>, Miss> {
    let failed = |error: io::Error| match error.raw_os_error() {
        Some(code) => file::miss(name, Errno::from_raw_os_error(code)),
        None => Miss::Unreadable(format!("{name}: {error}").into()),
    };
    let mut names: Vec<OsString> = Vec::new();
    for entry in std::fs::read_dir(directory).map_err(failed)? {
        let name = entry.map_err(failed)?.file_name();
        if name.as_bytes().ends_with(SUFFIX) && !name.as_bytes().starts_with(b".") {
            names.push(name);
        }
    }
    names.sort_by(|one, other| by_version(one.as_bytes(), other.as_bytes()));
    Ok(names.into_iter().map(|name| directory.join(name)).collect())
}

/// Orders names so that runs of digits count as numbers: `a2` before `a10`. Equal numbers are
/// ordered by their leading zeros (more first), and names are otherwise ordered by bytes.
pub fn by_version(one: &[u8], other: &[u8]) -> Ordering {
    let (mut one, mut other) = (one, other);
    loop {
        let (Some(a), Some(b)) = (one.first(), other.first()) else {
            return one.len().cmp(&other.len());
        };
        if a.is_ascii_digit() && b.is_ascii_digit() {
            let (number, rest) = digits(one);
            let (other_number, other_rest) = digits(other);
            let order = compare_numbers(number, other_number);
            if order != Ordering::Equal {
                return order;
            }
            (one, other) = (rest, other_rest);
        } else if a != b {
            return a.cmp(b);
        } else {
            (one, other) = (&one[1..], &other[1..]);
        }
    }
}

/// The digits that `text` begins with, and what follows.
fn digits(text: &[u8]) -> (&[u8], &[u8]) {
    let end = text
        .iter()
        .position(|byte| !byte.is_ascii_digit())
        .unwrap_or(text.len());
    text.split_at(end)
}

/// Compares two runs of digits as numbers, then the one with more leading zeros first.
fn compare_numbers(one: &[u8], other: &[u8]) -> Ordering {
    fn value(digits: &[u8]) -> &[u8] {
        let zeros = digits.iter().take_while(|digit| **digit == b'0').count();
        &digits[zeros..]
    }
    let (a, b) = (value(one), value(other));
    a.len()
        .cmp(&b.len())
        .then_with(|| a.cmp(b))
        .then_with(|| other.len().cmp(&one.len()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_ordered_by_version() {
        let mut names = ["b", "a10", "a2", "a", "a02", "a2b", "B", "10", "9"];
        names.sort_by(|one, other| by_version(one.as_bytes(), other.as_bytes()));
        assert_eq!(names, ["9", "10", "B", "a", "a02", "a2", "a2b", "a10", "b"]);
    }

    #[test]
    fn only_visible_autofs_files_are_read() {
        let dir = tempfile::tempdir().unwrap();
        for name in [
            "b10.autofs",
            "b9.autofs",
            "x.conf",
            ".h.autofs",
            "a.autofs",
            "autofs",
        ] {
            std::fs::write(dir.path().join(name), "").unwrap();
        }
        let files = master_files(dir.path(), &"d".into()).unwrap();
        let names: Vec<_> = files.iter().map(|path| path.file_name().unwrap()).collect();
        assert_eq!(names, ["a.autofs", "b9.autofs", "b10.autofs"]);
        let none = master_files(&dir.path().join("none"), &"d".into());
        assert_eq!(none, Err(Miss::NoSuchMap("d".into())));
    }
}
