//! Finding the line of a key in the text of one map.
//!
//! [`MapIndex`] keeps the text and, for each key, only the offset at which it is written; a
//! look-up hashes the key, compares it with the text and cuts the line out. Nothing is parsed
//! beyond the key until somebody asks for it.
//!
//! Maps include others (`+name`), which are texts of their own. The index does not follow them:
//! [`MapIndex::search`] hands them out in reading order, and the caller, who can read files,
//! looks there before it goes on.

mod build;

use alloc::borrow::Cow;
use alloc::vec::Vec;
use core::iter::Peekable;

use bstr::{BStr, BString, ByteSlice};

use self::build::Builder;
use crate::diagnostic::Diagnostic;
use crate::dialect::{Dialect, WildcardRule};
use crate::key::{self, MapKind, Unterminated};
use crate::lines::{LineKind, Lines, LogicalLine, is_blank};
use crate::lookup::{Found, MapSpec, Matched};
use crate::table::{KeyTable, LineNumbers};
use crate::text::{Fragment, Origin, Position, Span};

pub use self::build::DIAGNOSTICS_LIMIT;

/// The keys of one map's text.
#[derive(Clone, Debug)]
pub struct MapIndex {
    text: Fragment,
    kind: MapKind,
    wildcard_rule: WildcardRule,
    /// Where keys are written; the first of equal keys only.
    keys: KeyTable,
    /// Offsets of keys that stood before, in reading order.
    duplicates: Vec<u32>,
    /// Offset of the first `*`.
    wildcard: Option<u32>,
    /// Include lines, in reading order.
    includes: Vec<Include>,
    numbers: LineNumbers,
}

/// An include line: look in another map, then go on after it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Include {
    /// Which map.
    pub map: MapSpec,
    /// Where the line stands in the text, for order.
    offset: u32,
}

/// What a search comes to next. See [`MapIndex::search`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Step<'m> {
    /// Look for the key in this map; go on with the search if it is not there.
    Include(&'m Include),
    /// The key is found; the search is over.
    Found(Found),
}

/// A search for one key through a map in reading order: an iterator of [`Step`]s. When it ends
/// without [`Step::Found`] the map does not have the key.
#[derive(Clone, Debug)]
pub struct Search<'m> {
    index: &'m MapIndex,
    includes: core::slice::Iter<'m, Include>,
    /// The line of this map to hand out after the includes.
    own: Option<(u32, Matched)>,
}

impl MapIndex {
    /// Reads `text` as a map that is used as `kind`.
    ///
    /// One pass over the text; what is kept is the text, five and a half bytes for each key,
    /// and 1/1000 of the text for line numbers.
    pub fn new(text: Fragment, kind: MapKind, dialect: &Dialect) -> (Self, Vec<Diagnostic>) {
        let numbers = LineNumbers::new(&text.text);
        let parts = Builder::new(&text, kind, &numbers).read(dialect);
        let index = Self {
            text,
            kind,
            wildcard_rule: dialect.wildcard,
            keys: parts.keys,
            duplicates: parts.duplicates,
            wildcard: parts.wildcard,
            includes: parts.includes,
            numbers,
        };
        (index, parts.diagnostics)
    }

    /// The text, as it was given.
    pub fn text(&self) -> &Fragment {
        &self.text
    }

    /// Whether keys are names or paths.
    pub fn kind(&self) -> MapKind {
        self.kind
    }

    /// The number of different keys, without `*`.
    pub fn len(&self) -> usize {
        self.keys.len()
    }

    /// Returns true if and only if the map has neither a key nor `*` nor an include.
    pub fn is_empty(&self) -> bool {
        self.keys.len() == 0 && self.wildcard.is_none() && self.includes.is_empty()
    }

    /// Returns true if and only if the map has a `*` of its own.
    pub fn has_wildcard(&self) -> bool {
        self.wildcard.is_some()
    }

    /// The include lines, in reading order.
    pub fn includes(&self) -> &[Include] {
        &self.includes
    }

    /// Searches for `key` in reading order, as the dialect has it: an include counts where it
    /// stands; an exact key hides the includes after it; `*` comes after all includes
    /// ([`WildcardRule::AfterExact`]) or ends the search where it stands
    /// ([`WildcardRule::EndsScan`]).
    ///
    /// A key of a direct map must be normalised ([`piton_path::normalize`]).
    pub fn search(&self, key: &BStr) -> Search<'_> {
        let exact = self.find(key);
        let own = match (exact, self.wildcard, self.wildcard_rule) {
            (Some(exact), Some(star), WildcardRule::EndsScan) if star < exact => {
                Some((star, Matched::Wildcard))
            }
            (Some(exact), _, _) => Some((exact, Matched::Exact)),
            (None, Some(star), _) => Some((star, Matched::Wildcard)),
            (None, None, _) => None,
        };
        let bound = match (own, self.wildcard_rule) {
            (Some((_, Matched::Wildcard)), WildcardRule::AfterExact) | (None, _) => u32::MAX,
            (Some((offset, _)), _) => offset,
        };
        let before = self
            .includes
            .partition_point(|include| include.offset < bound);
        Search {
            index: self,
            includes: self.includes[..before].iter(),
            own,
        }
    }

    /// The keys in reading order, each once, without `*`, quotes and escapes resolved.
    pub fn keys(&self) -> Keys<'_> {
        Keys {
            index: self,
            lines: Lines::new(&self.text.text),
            includes: self.includes.iter(),
            duplicates: self.duplicates.iter().peekable(),
        }
    }

    /// Where the key was written, if the map has it.
    pub fn origin(&self, key: &BStr) -> Option<Origin> {
        self.find(key).map(|offset| self.origin_at(offset))
    }

    /// The line of an include, and the include in it.
    pub fn include_line(&self, include: &Include) -> (Fragment, Span) {
        let (line, fragment) = self.line_at(include.offset);
        (fragment, line.relative(line.content))
    }

    /// The offset at which `key` is written first.
    fn find(&self, key: &BStr) -> Option<u32> {
        self.keys.find(key, |offset| {
            written_at(&self.text.text, self.kind, offset, key)
        })
    }

    /// File, line and column of the byte at `offset`, the start of a key.
    pub fn origin_at(&self, offset: u32) -> Origin {
        let text = &self.text.text;
        let before = &text[..(offset as usize).min(text.len())];
        let start = before.rfind_byte(b'\n').map_or(0, |at| at + 1);
        let line = self.text.first_line + self.numbers.before(text, offset);
        let column = before[start..].chars().count() as u32 + 1;
        Origin {
            file: self.text.name.clone(),
            position: Position { line, column },
        }
    }

    /// The logical line in which the byte at `offset` (a key's first) stands, and its text.
    fn line_at(&self, offset: u32) -> (LogicalLine, Fragment) {
        let line = line_of(&self.text.text, offset);
        let first = self.text.first_line + self.numbers.before(&self.text.text, line.whole.start);
        (line, line.fragment(&self.text, first))
    }

    /// Cuts out the line whose key is written at `offset`.
    fn found(&self, offset: u32, matched: Matched) -> Found {
        let (line, fragment) = self.line_at(offset);
        let (key, value) = split(&self.text.text, &line).unwrap_or_default();
        let map = self.text.name.clone();
        let (key, value) = (line.relative(key), line.relative(value));
        Found {
            fragment,
            key,
            value,
            matched,
            map,
            via: Vec::new(),
        }
    }
}

impl<'m> Iterator for Search<'m> {
    type Item = Step<'m>;

    fn next(&mut self) -> Option<Step<'m>> {
        if let Some(include) = self.includes.next() {
            return Some(Step::Include(include));
        }
        self.own
            .take()
            .map(|(offset, matched)| Step::Found(self.index.found(offset, matched)))
    }
}

/// One thing a listing of a map comes to, in reading order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Listed<'m> {
    /// A key of this map.
    Key {
        /// The key, quotes and escapes resolved.
        key: BString,
        /// Where it is written, for [`MapIndex::origin_at`].
        at: u32,
    },
    /// The keys of another map belong here.
    Include(&'m Include),
}

/// The keys and includes of a map in reading order. See [`MapIndex::keys`].
#[derive(Clone, Debug)]
pub struct Keys<'m> {
    index: &'m MapIndex,
    lines: Lines<'m>,
    includes: core::slice::Iter<'m, Include>,
    duplicates: Peekable<core::slice::Iter<'m, u32>>,
}

impl<'m> Iterator for Keys<'m> {
    type Item = Listed<'m>;

    fn next(&mut self) -> Option<Listed<'m>> {
        loop {
            let line = self.lines.next()?;
            if line.kind != LineKind::Text {
                continue;
            }
            let at = line.content.start;
            if self.index.text.text[at as usize] == b'+' {
                let ahead = self.includes.as_slice().first();
                if ahead.is_some_and(|include| include.offset == at) {
                    return self.includes.next().map(Listed::Include);
                }
                continue;
            }
            if self
                .duplicates
                .next_if(|duplicate| **duplicate == at)
                .is_some()
            {
                continue;
            }
            if let Ok((_, Reading::Key(key))) = read(&self.index.text, self.index.kind, &line) {
                let key = key.into_owned();
                return Some(Listed::Key { key, at });
            }
        }
    }
}

/// What the line of an entry is, as far as its key goes.
enum Reading<'t> {
    /// A key that somebody can ask for.
    Key(Cow<'t, BStr>),
    /// `*`.
    Wildcard,
    /// A key with nothing after it.
    NoLocation(Cow<'t, BStr>),
    /// A key that nobody can ask for, and why.
    Bad(Cow<'t, BStr>, &'static str),
}

/// Reads the key of a line that is neither blank nor comment nor include. The span is that of
/// the key in the text.
fn read<'t>(
    text: &'t Fragment,
    kind: MapKind,
    line: &LogicalLine,
) -> Result<(Span, Reading<'t>), Unterminated> {
    let start = line.content.start as usize;
    let content = &text.text[start..line.content.end as usize];
    if let (MapKind::Indirect, Some(length)) = (kind, plain_key(content)) {
        let span = Span::new(start, start + length);
        return Ok((
            span,
            Reading::Key(Cow::Borrowed(content[..length].as_bstr())),
        ));
    }
    let (key, value) = split(&text.text, line)?;
    let written = text.slice(key);
    let name = key_of(kind, written);
    let reading = if value.start == value.end || text.text[value.start as usize] == b'#' {
        Reading::NoLocation(name)
    } else if name.as_bytes() == b"*" && written.as_bytes() != b"\\*" {
        Reading::Wildcard
    } else {
        let reason = match kind {
            MapKind::Indirect => key::bad_name(&name),
            MapKind::Direct => key::bad_path(&name),
        };
        match reason {
            Some(reason) => Reading::Bad(name, reason),
            None => Reading::Key(name),
        }
    };
    Ok((key, reading))
}

/// The length of the key of an indirect map's line if nothing is special about the line: a
/// short plain word, one blank, and something that is no comment. Nearly all lines are so.
fn plain_key(content: &[u8]) -> Option<usize> {
    let is_plain = |byte: &u8| !matches!(byte, 0..=b' ' | b'"' | b'\\' | b'/' | b'*' | 0x7f);
    let length = content.iter().position(|byte| !is_plain(byte))?;
    let rest = &content[length..];
    let separated = matches!(rest, [b' ' | b'\t', after, ..] if is_plain(after) && *after != b'#')
        || matches!(rest, [b' ' | b'\t', b'/' | b'*', ..]);
    let is_name = (1..=key::KEY_LIMIT).contains(&length) && content[0] != b'.';
    (is_name && separated).then_some(length)
}

/// The spans of key and value of a logical line, in the offsets of `text`. The value begins
/// after blanks and continuations.
fn split(text: &[u8], line: &LogicalLine) -> Result<(Span, Span), Unterminated> {
    let (start, end) = (line.content.start as usize, line.content.end as usize);
    let content = &text[start..end];
    let key = key::written_len(content)?;
    let mut at = key;
    while at < content.len() {
        match content[at] {
            blank if is_blank(blank) || blank == b'\n' => at += 1,
            b'\\' if key::is_line_break(&content[at + 1..]) => at += 1,
            _ => break,
        }
    }
    Ok((Span::new(start, start + key), Span::new(start + at, end)))
}

/// The key that `written` stands for in a map of this kind.
fn key_of(kind: MapKind, written: &[u8]) -> Cow<'_, BStr> {
    match (kind, key::unquote(written)) {
        (MapKind::Indirect, name) => name,
        (MapKind::Direct, Cow::Borrowed(path)) => piton_path::normalize(path),
        (MapKind::Direct, Cow::Owned(path)) => {
            Cow::Owned(piton_path::normalize(&path).into_owned())
        }
    }
}

/// The key written at `offset`, which is that of a good key.
fn key_at(text: &Fragment, kind: MapKind, offset: u32) -> Option<Cow<'_, BStr>> {
    let rest = &text.text[offset as usize..];
    let length = key::written_len(rest).ok()?;
    Some(key_of(kind, &rest[..length]))
}

/// Returns true if and only if the key written at `offset` of `text` is `key`.
fn written_at(text: &[u8], kind: MapKind, offset: u32, key: &BStr) -> bool {
    let rest = &text[offset as usize..];
    // Nearly all keys are written plainly: compare before reading the line for quotes.
    if let Some(after) = rest.strip_prefix(key.as_bytes()) {
        let plain = key.find_byteset(b"\"\\").is_none();
        if plain && after.first().is_some_and(|byte| is_blank(*byte)) {
            return true;
        }
    }
    key::written_len(rest).is_ok_and(|length| key_of(kind, &rest[..length]) == key)
}

/// The logical line in which the byte at `offset` (not of a continuation) stands.
fn line_of(text: &[u8], offset: u32) -> LogicalLine {
    let start = text[..offset as usize]
        .rfind_byte(b'\n')
        .map_or(0, |at| at + 1);
    Lines::starting_at(text, start)
        .next()
        .unwrap_or(LogicalLine::empty(start))
}

#[cfg(test)]
mod tests;
