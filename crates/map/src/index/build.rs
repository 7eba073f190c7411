//! Reading a map's text into an index, with everything there is to say about it.

use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;

use bstr::{BStr, ByteSlice};

use super::{Include, Reading, key_at, line_of, read, written_at};
use crate::diagnostic::{Diagnostic, Severity};
use crate::dialect::{Dialect, WildcardRule};
use crate::key::{self, MapKind, Unterminated};
use crate::lines::{LineKind, Lines, LogicalLine};
use crate::spec;
use crate::table::{Hashed, KeyHasher, KeyTable, LineNumbers};
use crate::text::{Fragment, Span};

/// Most diagnostics kept for one map: a map with more is no map, and each costs memory. One
/// more is added that counts the rest.
pub const DIAGNOSTICS_LIMIT: usize = 100;

/// Diagnostics, bounded.
#[derive(Default)]
pub(super) struct Findings {
    kept: Vec<Diagnostic>,
    more: usize,
}

impl Findings {
    /// Returns true if and only if no more is kept.
    fn is_full(&self) -> bool {
        self.kept.len() >= DIAGNOSTICS_LIMIT
    }

    /// Keeps what `make` says, or only counts it when there is too much already.
    fn push(&mut self, make: impl FnOnce() -> Diagnostic) {
        if !self.is_full() {
            self.kept.push(make());
        } else {
            self.more += 1;
        }
    }
}

/// What reading comes to.
pub(super) struct Parts {
    pub(super) keys: KeyTable,
    pub(super) duplicates: Vec<u32>,
    pub(super) wildcard: Option<u32>,
    pub(super) includes: Vec<Include>,
    pub(super) diagnostics: Vec<Diagnostic>,
}

/// An index while its text is being read.
pub(super) struct Builder<'t> {
    text: &'t Fragment,
    kind: MapKind,
    numbers: &'t LineNumbers,
    hasher: KeyHasher,
    /// All good keys, equal ones too, in reading order.
    keys: Vec<Hashed>,
    wildcard: Option<u32>,
    includes: Vec<Include>,
    found: Findings,
    /// The first key that stands below `*`, and how many do.
    below_wildcard: Option<(u32, usize)>,
}

impl<'t> Builder<'t> {
    /// Nothing read yet.
    pub(super) fn new(text: &'t Fragment, kind: MapKind, numbers: &'t LineNumbers) -> Self {
        Self {
            text,
            kind,
            numbers,
            hasher: KeyHasher::default(),
            keys: Vec::with_capacity(numbers.lines()),
            wildcard: None,
            includes: Vec::new(),
            found: Findings::default(),
            below_wildcard: None,
        }
    }

    /// Reads the text.
    pub(super) fn read(mut self, dialect: &Dialect) -> Parts {
        self.lines();
        let (text, kind) = (self.text, self.kind);
        let hasher = core::mem::take(&mut self.hasher);
        let keys = core::mem::take(&mut self.keys);
        let same = |one: u32, other: u32| match key_at(text, kind, one) {
            Some(key) => written_at(&text.text, kind, other, &key),
            None => false,
        };
        let (keys, duplicates) = KeyTable::build(hasher, keys, same);
        duplicates
            .iter()
            .for_each(|one| self.duplicate(one.offset, one.first));
        if dialect.wildcard == WildcardRule::EndsScan {
            self.dead_entries();
        }
        Parts {
            keys,
            duplicates: duplicates.iter().map(|one| one.offset).collect(),
            diagnostics: self.diagnostics(),
            wildcard: self.wildcard,
            includes: self.includes,
        }
    }

    /// Reads all lines.
    fn lines(&mut self) {
        let mut carriage_return = false;
        for line in Lines::new(&self.text.text) {
            if line.is_odd() {
                self.odd(&line, &mut carriage_return);
            }
            match line.kind {
                LineKind::Text if self.text.text[line.content.start as usize] == b'+' => {
                    self.include(&line);
                }
                LineKind::Text => self.entry(&line),
                LineKind::Blank | LineKind::Comment => {}
            }
        }
    }

    /// Everything there is to say about the text, in reading order.
    fn diagnostics(&mut self) -> Vec<Diagnostic> {
        let mut kept = core::mem::take(&mut self.found.kept);
        kept.sort_by_key(|one| one.fragment.first_line);
        if self.found.more > 0 {
            let message = format!(
                "{} more findings in this map are not shown",
                self.found.more
            );
            let none = Fragment {
                text: Default::default(),
                ..self.head()
            };
            let code = "more-findings";
            kept.push(Diagnostic::new(
                Severity::Note,
                code,
                message,
                &none,
                Span::new(0, 0),
            ));
        }
        kept
    }

    /// The first line of the text.
    fn head(&self) -> Fragment {
        self.fragment(&line_of(&self.text.text, 0))
    }

    /// The text of a line, with its number.
    fn fragment(&self, line: &LogicalLine) -> Fragment {
        let before = self.numbers.before(&self.text.text, line.whole.start);
        line.fragment(self.text, self.text.first_line + before)
    }

    /// Reports what is odd about a line; CR LF only once in a text.
    fn odd(&mut self, line: &LogicalLine, carriage_return: &mut bool) {
        let mut said = Vec::new();
        line.diagnose(&self.fragment(line), &mut said);
        for one in said {
            if one.code == "carriage-return" && core::mem::replace(carriage_return, true) {
                continue;
            }
            self.found.push(|| one);
        }
    }

    /// Reports `message` at `span` (in offsets of the text) of `line`.
    fn report(
        &mut self,
        (severity, code): (Severity, &'static str),
        (line, span): (&LogicalLine, Span),
        message: impl FnOnce() -> String,
        help: &str,
    ) {
        if self.found.is_full() {
            return self.found.more += 1;
        }
        let fragment = self.fragment(line);
        let span = line.relative(span);
        self.found
            .push(|| Diagnostic::new(severity, code, message(), &fragment, span).help(help));
    }

    /// Reads a line that is neither blank nor comment nor include.
    fn entry(&mut self, line: &LogicalLine) {
        match read(self.text, self.kind, line) {
            Ok((span, Reading::Key(key))) => self.key(line, span, &key),
            Ok((span, Reading::Wildcard)) => self.wildcard(line, span),
            Ok((span, Reading::Bad(key, reason))) => self.bad_key(line, span, &key, reason),
            Ok((span, Reading::NoLocation(key))) => self.report(
                (Severity::Error, "key-without-location"),
                (line, span),
                || format!("the key `{key}` has no location"),
                match key.contains_str("\u{a0}") {
                    true => "there is a no-break space in it: write an ordinary blank",
                    false => "write where it is mounted from, as in `key server:/path`",
                },
            ),
            Err(Unterminated(at)) => self.unterminated(line, at),
        }
    }

    /// Adds a good key.
    fn key(&mut self, line: &LogicalLine, span: Span, key: &BStr) {
        if self.kind == MapKind::Direct && piton_path::has_dot_dot(self.text.slice(span)) {
            self.report(
                (Severity::Warning, "dot-dot-in-path"),
                (line, span),
                || format!("the path is read as `{key}`"),
                "write the path without `..`; behind a symbolic link it may mean another place",
            );
        }
        let star = self.kind == MapKind::Indirect && key.contains(&b'*');
        if star && !self.text.slice(span).contains(&b'\\') {
            self.report(
                (Severity::Warning, "star-in-key"),
                (line, span),
                || format!("`{key}` is one name with a star in it, and no pattern"),
                "only `*` alone stands for all other names; write `\\*` if the star is meant",
            );
        }
        self.keys.push(self.hasher.hashed(key, span.start));
        if self.wildcard.is_some() {
            let (first, count) = self.below_wildcard.unwrap_or((span.start, 0));
            self.below_wildcard = Some((first, count + 1));
        }
    }

    /// Remembers the first `*`.
    fn wildcard(&mut self, line: &LogicalLine, span: Span) {
        if self.kind == MapKind::Direct {
            return self.report(
                (Severity::Error, "wildcard-in-direct-map"),
                (line, span),
                || "a direct map has no use for `*`".into(),
                "write each path as a key, or use an indirect map",
            );
        }
        match self.wildcard {
            Some(first) => self.duplicate(span.start, first),
            None => self.wildcard = Some(span.start),
        }
    }

    /// Reports a key at `offset` that stood before, at `first`.
    fn duplicate(&mut self, offset: u32, first: u32) {
        if self.found.is_full() {
            return self.found.more += 1;
        }
        let place = |offset: u32| {
            let line = line_of(&self.text.text, offset);
            let at = (offset - line.whole.start) as usize;
            let fragment = self.fragment(&line);
            let length = key::written_len(&fragment.text[at..]).unwrap_or(1);
            (fragment, Span::new(at, at + length))
        };
        let ((fragment, span), (earlier, at)) = (place(offset), place(first));
        let key = fragment.slice(span);
        let message = format!("the key `{key}` stood before; this line is not used");
        let severity = Severity::Warning;
        let mut one = Diagnostic::new(severity, "duplicate-key", message, &fragment, span)
            .help("remove one of the two lines; the first one counts");
        one.elsewhere
            .push((earlier.origin(at), "the first one".into()));
        self.found.push(|| one);
    }

    /// Reports a key that nobody can ask for.
    fn bad_key(&mut self, line: &LogicalLine, key: Span, name: &BStr, reason: &'static str) {
        let slash = name.contains(&b'/');
        let last = name.rsplit_str("/").find(|part| !part.is_empty());
        let last = last.unwrap_or(b"name").as_bstr();
        let of_a_name = format!(
            "keys of an indirect map are names in one directory, such as `{last}`; paths belong in a \
             direct map (`/-` in the master map)"
        );
        let (code, help) = match self.kind {
            MapKind::Indirect if slash => ("slash-in-key", of_a_name.as_str()),
            MapKind::Direct if !name.starts_with(b"/") => (
                "relative-direct-key",
                "keys of a direct map are absolute paths; names belong in an indirect map",
            ),
            _ => (
                "bad-key",
                "no program can ask for this name; correct or remove the line",
            ),
        };
        self.report(
            (Severity::Error, code),
            (line, key),
            || format!("`{name}` cannot be a key here: {reason}"),
            help,
        );
    }

    /// Reports a quote that is never closed.
    fn unterminated(&mut self, line: &LogicalLine, at: usize) {
        let start = line.content.start as usize + at;
        self.report(
            (Severity::Error, "unterminated-quote"),
            (line, Span::new(start, start + 1)),
            || "the quote is opened and never closed; this line is not used".into(),
            "close the quote, or write `\\\"` for a quote that is part of the name",
        );
    }

    /// Reads an include line.
    fn include(&mut self, line: &LogicalLine) {
        let content = self.text.slice(line.content);
        let length = key::written_len(&content[1..]).map_or(content.len(), |length| length + 1);
        let start = line.content.start as usize;
        let span = Span::new(start + 1, start + length);
        let fragment = self.fragment(line);
        let origin = fragment.origin(line.relative(line.content));
        let error = match self.text.slice(span) {
            name if name.is_empty() => spec::SpecError {
                code: "include-without-map",
                message: "no map is named after the `+`".into(),
                help: "write the name directly after the `+`, without a blank".into(),
            },
            name => match spec::parse(name, Some(origin)) {
                Ok(map) => {
                    self.includes.push(Include {
                        map,
                        offset: line.content.start,
                    });
                    return;
                }
                Err(error) => error,
            },
        };
        let span = line.relative(Span::new(start, start + length));
        self.found.push(|| {
            Diagnostic::new(Severity::Error, error.code, error.message, &fragment, span)
                .help(error.help)
        });
    }

    /// Says which entries can never be found because `*` stands above them.
    fn dead_entries(&mut self) {
        let Some((first, count)) = self.below_wildcard else {
            return;
        };
        let line = line_of(&self.text.text, first);
        self.report(
            (Severity::Warning, "dead-entry"),
            (&line, line.content),
            || match count {
                1 => "this entry is never found: `*` stands above it".into(),
                _ => format!(
                    "this entry and {} more are never found: `*` stands above them",
                    count - 1
                ),
            },
            "move `*` to the end of the map",
        );
    }
}
