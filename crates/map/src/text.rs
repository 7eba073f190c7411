//! Text with the place it came from: every diagnostic can name file, line and column.

use alloc::sync::Arc;
use core::fmt;

use bstr::{BStr, BString, ByteSlice};

/// A piece of a map (a whole file, one entry of it, or what a program printed) that knows
/// where it stands.
///
/// Offsets inside a fragment are bytes from its start; [`Fragment::position`] turns them into
/// the line and column of the file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fragment {
    /// The file's path, or a description such as `output of /etc/auto.prog ann`.
    pub name: Arc<str>,
    /// The line of the file on which the fragment begins; the first line is 1. A fragment
    /// always begins at the start of a line.
    pub first_line: u32,
    /// The bytes themselves.
    pub text: BString,
}

/// A place in a text: line and column, both counted from 1; columns count characters.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Position {
    /// Line, the first is 1.
    pub line: u32,
    /// Column in characters, the first is 1. Bytes that are not UTF-8 count one each.
    pub column: u32,
}

/// Half-open range of byte offsets in one [`Fragment`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Span {
    /// First byte.
    pub start: u32,
    /// One past the last byte.
    pub end: u32,
}

/// Where something was written: file, line, column.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Origin {
    /// The file's path or description, as in [`Fragment::name`].
    pub file: Arc<str>,
    /// Line and column in it.
    pub position: Position,
}

impl Span {
    /// The range from `start` up to and not including `end`.
    pub fn new(start: usize, end: usize) -> Self {
        Self {
            start: start as u32,
            end: end as u32,
        }
    }
}

impl Fragment {
    /// A whole file or output: begins on line 1.
    pub fn whole(name: impl Into<Arc<str>>, text: impl Into<BString>) -> Self {
        Self {
            name: name.into(),
            first_line: 1,
            text: text.into(),
        }
    }

    /// The bytes of `span`; empty when the span reaches beyond the fragment.
    pub fn slice(&self, span: Span) -> &BStr {
        self.text
            .get(span.start as usize..span.end as usize)
            .unwrap_or_default()
            .as_bstr()
    }

    /// Line and column of the byte at `offset`.
    pub fn position(&self, offset: u32) -> Position {
        let end = (offset as usize).min(self.text.len());
        let before = &self.text[..end];
        let line = self.first_line + before.iter().filter(|byte| **byte == b'\n').count() as u32;
        let start = before.rfind_byte(b'\n').map_or(0, |at| at + 1);
        let column = before[start..].chars().count() as u32 + 1;
        Position { line, column }
    }

    /// File, line and column of the start of `span`.
    pub fn origin(&self, span: Span) -> Origin {
        Origin {
            file: self.name.clone(),
            position: self.position(span.start),
        }
    }
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{}:{}:{}",
            self.file, self.position.line, self.position.column
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn position_counts_lines_and_characters() {
        let fragment = Fragment {
            name: "m".into(),
            first_line: 7,
            text: BString::from("a b\n\u{e9}x y"),
        };
        assert_eq!(fragment.position(0), Position { line: 7, column: 1 });
        assert_eq!(fragment.position(6), Position { line: 8, column: 2 });
        assert_eq!(fragment.position(999), Position { line: 8, column: 5 });
    }
}
