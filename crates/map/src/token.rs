//! What the lexer hands to the parser: words whose every byte knows where it comes from.
//!
//! A byte that came from the key that somebody asked for is *data*: it never separates words,
//! options, hosts or anything else. A byte that was quoted or escaped is *protected*: it
//! separates neither words nor options.

use alloc::vec::Vec;

use bstr::BString;

use crate::text::Span;

/// Where a byte of an expanded entry comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Source {
    /// The map's own text.
    Text,
    /// The value of a variable: the administrator's, and read like the map's text.
    Variable,
    /// The key that was asked for (`&`): anybody's, and never read as anything but data.
    Key,
}

/// One byte of an expanded entry.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Byte {
    /// The byte.
    pub value: u8,
    /// Where it comes from.
    pub source: Source,
    /// Whether it was quoted or escaped.
    pub protected: bool,
    /// What stands for it in the map: itself, or the variable or `&`.
    pub span: Span,
}

/// A run of bytes between blanks, quotes and escapes resolved.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Word {
    /// Its bytes.
    pub bytes: Vec<Byte>,
    /// The text that it was written as, quotes included.
    pub span: Span,
}

/// What a word is by its first byte.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum TokenKind {
    /// `-ro,soft`
    Options,
    /// `/bin`
    Offset,
    /// Anything else: `server:/path`, `:/dev/sr0`
    Location,
}

/// A word and its kind.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Token {
    /// By the first byte.
    pub kind: TokenKind,
    /// The word.
    pub word: Word,
}

impl Byte {
    /// Returns true if and only if this is `value` in its special meaning: neither data nor
    /// protected.
    pub fn is_bare(&self, value: u8) -> bool {
        self.is_mark(value) && !self.protected
    }

    /// Returns true if and only if this is `value` and not data. Quotes around a colon don't
    /// keep it from separating a host from its path.
    pub fn is_mark(&self, value: u8) -> bool {
        self.value == value && self.source != Source::Key
    }
}

/// The plain bytes.
pub fn plain(bytes: &[Byte]) -> BString {
    bytes
        .iter()
        .map(|byte| byte.value)
        .collect::<Vec<u8>>()
        .into()
}

/// The range of the text from the first to the last of `bytes`; `otherwise` when there is none.
pub fn span_of(bytes: &[Byte], otherwise: Span) -> Span {
    match (bytes.first(), bytes.last()) {
        (Some(first), Some(last)) => Span {
            start: first.span.start,
            end: last.span.end,
        },
        _ => otherwise,
    }
}

impl Word {
    /// The plain bytes.
    pub fn plain(&self) -> BString {
        plain(&self.bytes)
    }
}

impl Token {
    /// The word with the kind that its first byte gives it.
    pub fn new(word: Word) -> Self {
        let kind = match word.bytes.first() {
            Some(first) if first.is_bare(b'-') => TokenKind::Options,
            Some(first) if first.is_mark(b'/') => TokenKind::Offset,
            _ => TokenKind::Location,
        };
        Self { kind, word }
    }
}
