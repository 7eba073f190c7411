//! An entry as it is written, expanded but not yet understood.

use alloc::vec::Vec;

use crate::text::Span;
use crate::token::{Byte, Word, plain};

/// `[-options]… [mount]…`
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct EntrySyntax {
    /// The options before the first location or offset: for all mounts of the entry.
    pub options: Vec<OptionSyntax>,
    /// The mounts; without an offset before it, the first is for the key's own directory.
    pub mounts: Vec<MountSyntax>,
}

/// `[/offset] [-options]… location…`
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MountSyntax {
    /// The offset; `None` is the root that need not be written.
    pub offset: Option<Word>,
    /// The options of this mount alone.
    pub options: Vec<OptionSyntax>,
    /// The locations, or several words that are one location.
    pub locations: Vec<Word>,
    /// The text of it all.
    pub span: Span,
}

/// One option: what stands between two commas.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OptionSyntax {
    /// Its bytes, quotes and escapes resolved; never empty.
    pub bytes: Vec<Byte>,
    /// The text that it was written as.
    pub span: Span,
}

impl OptionSyntax {
    /// Returns true if and only if the option is `name` or begins with `name=`.
    pub fn is(&self, name: &str) -> bool {
        let text = plain(&self.bytes);
        text == name || self.value_of(name).is_some()
    }

    /// What follows `name=`, if the option begins so.
    pub fn value_of(&self, name: &str) -> Option<&[Byte]> {
        let (before, after) = self.bytes.split_at_checked(name.len())?;
        let (equals, value) = after.split_first()?;
        let same = before
            .iter()
            .zip(name.bytes())
            .all(|(byte, letter)| byte.value == letter);
        (same && equals.value == b'=').then_some(value)
    }
}
