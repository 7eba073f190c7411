//! Physical lines to logical lines: the first look at a map's text.
//!
//! A *logical line* is what an entry stands on: one physical line, or several joined by a
//! backslash directly before the line break. Everything between two entries (blank lines,
//! comments) is a logical line too, so that the lines glued together give back the text.
//!
//! The rules:
//! - a line break is LF; CR LF is tolerated (and reported, since other readers choke on it);
//! - an odd number of backslashes before the line break continues the line, an even number is
//!   escaped backslashes;
//! - a backslash, blanks and a line break is no continuation (and is reported);
//! - a comment is a line whose first character after blanks is `#`; it is continued like any other
//!   line (reported: the next line is then part of the comment);
//! - a line that begins with blanks is an ordinary line, not part of the one before;
//! - a NUL byte ends the content of its line (reported): no C program ever saw what follows;
//! - a UTF-8 byte order mark before the first line is skipped (reported).
//!
//! This runs over maps of a million lines, so it only looks for line breaks and leaves words,
//! quotes and comments after an entry to those who need them.

use alloc::vec::Vec;

use bstr::ByteSlice;

use crate::diagnostic::{Diagnostic, Severity};
use crate::text::{Fragment, Span};

/// What a logical line is at first sight.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum LineKind {
    /// Nothing but blanks.
    Blank,
    /// A comment from the first character on.
    Comment,
    /// Anything else: an entry, an include, or rubbish.
    Text,
}

/// Oddities of one logical line, to be turned into diagnostics by [`LogicalLine::diagnose`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Flaws {
    /// A physical line of it ends in CR LF.
    pub carriage_return: bool,
    /// It ends in a backslash followed by blanks: looks like a continuation and is none.
    pub blank_after_backslash: bool,
    /// It has a NUL byte.
    pub nul: bool,
    /// It is the last line and ends in a backslash: continued by nothing.
    pub continued_by_nothing: bool,
    /// It begins with a byte order mark.
    pub byte_order_mark: bool,
    /// It consists of several physical lines; odd only in a comment.
    pub continued: bool,
}

/// One logical line of a text.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LogicalLine {
    /// All its bytes with the line break; the next line begins where this ends.
    pub whole: Span,
    /// The bytes that mean something: no blanks at the start, no line break at the end. A
    /// continued line still has its backslashes and inner line breaks.
    pub content: Span,
    /// Blank, comment or text.
    pub kind: LineKind,
    /// What is odd about it.
    pub flaws: Flaws,
}

/// The logical lines of a text, in order. See the module's description for the rules.
#[derive(Clone, Debug)]
pub struct Lines<'t> {
    text: &'t [u8],
    at: usize,
    /// Whether the text has a NUL byte at all; asked once, since hardly any has.
    has_nul: bool,
}

/// Returns true if and only if `byte` separates words: what C's `isspace` says, without LF.
pub fn is_blank(byte: u8) -> bool {
    matches!(byte, b' ' | b'\t' | b'\x0b' | b'\x0c' | b'\r')
}

/// The UTF-8 byte order mark that some editors put before a text.
const BYTE_ORDER_MARK: &[u8] = b"\xef\xbb\xbf";

impl<'t> Lines<'t> {
    /// The lines of `text`. Only the first 4 GiB are read ([`Span`] counts in 32 bits); sources
    /// refuse such texts.
    pub fn new(text: &'t [u8]) -> Self {
        let text = &text[..text.len().min(u32::MAX as usize)];
        Self {
            text,
            at: 0,
            has_nul: text.find_byte(0).is_some(),
        }
    }

    /// The lines from the byte at `offset` on, which must be the start of a line.
    pub fn starting_at(text: &'t [u8], offset: usize) -> Self {
        Self {
            text,
            at: offset.min(text.len()),
            has_nul: true,
        }
    }
}

impl Iterator for Lines<'_> {
    type Item = LogicalLine;

    fn next(&mut self) -> Option<LogicalLine> {
        let start = self.at;
        if start >= self.text.len() {
            return None;
        }
        let mut flaws = Flaws::default();
        let mut first = start;
        if start == 0 && self.text.starts_with(BYTE_ORDER_MARK) {
            flaws.byte_order_mark = true;
            first = BYTE_ORDER_MARK.len();
        }
        while first < self.text.len() && is_blank(self.text[first]) {
            first += 1;
        }
        let comment = self.text.get(first) == Some(&b'#');
        let (mut end, next) = end_of_line(self.text, first, &mut flaws);
        if self.has_nul
            && !comment
            && let Some(nul) = self.text[first..end].find_byte(0)
        {
            flaws.nul = true;
            end = first + nul;
        }
        self.at = next;
        let kind = match (comment, first == end) {
            (true, _) => LineKind::Comment,
            (false, true) => LineKind::Blank,
            (false, false) => LineKind::Text,
        };
        Some(LogicalLine {
            whole: Span::new(start, next),
            content: Span::new(first, end),
            kind,
            flaws,
        })
    }
}

/// Finds where the line that begins at `from` ends: the end of its content and the start of
/// the next line.
fn end_of_line(text: &[u8], from: usize, flaws: &mut Flaws) -> (usize, usize) {
    let mut at = from;
    loop {
        let Some(found) = text[at..].find_byte(b'\n') else {
            let end = text.len();
            let open = at > from && at == end;
            flaws.continued_by_nothing = open || ends_in_backslash(&text[at..end]);
            return (end, end);
        };
        let line_break = at + found;
        let mut end = line_break;
        if end > from && text[end - 1] == b'\r' {
            flaws.carriage_return = true;
            end -= 1;
        }
        if !ends_in_backslash(&text[at..end.max(at)]) {
            flaws.blank_after_backslash = ends_in_backslash_blank(&text[at..end.max(at)]);
            return (end, line_break + 1);
        }
        flaws.continued = true;
        at = line_break + 1;
    }
}

/// Returns true if and only if the last byte is a backslash that no other backslash escapes.
fn ends_in_backslash(text: &[u8]) -> bool {
    text.last() == Some(&b'\\')
        && text.iter().rev().take_while(|byte| **byte == b'\\').count() % 2 == 1
}

/// Returns true if and only if the text ends in such a backslash and blanks after it.
fn ends_in_backslash_blank(text: &[u8]) -> bool {
    match text.last() {
        Some(last) if is_blank(*last) => {
            let blanks = text
                .iter()
                .rev()
                .take_while(|byte| is_blank(**byte))
                .count();
            ends_in_backslash(&text[..text.len() - blanks])
        }
        _ => false,
    }
}

impl Flaws {
    /// Returns true if and only if nothing needs to be said about the line.
    fn silent(self) -> bool {
        Self {
            continued: false,
            ..self
        } == Self::default()
    }
}

impl LogicalLine {
    /// Returns true if and only if [`LogicalLine::diagnose`] has something to say.
    pub fn is_odd(&self) -> bool {
        !self.flaws.silent() || (self.flaws.continued && self.kind == LineKind::Comment)
    }

    /// A line without bytes at `offset`.
    pub(crate) fn empty(offset: usize) -> Self {
        let nothing = Span::new(offset, offset);
        Self {
            whole: nothing,
            content: nothing,
            kind: LineKind::Blank,
            flaws: Flaws::default(),
        }
    }

    /// `span`, counted from the start of the line.
    pub fn relative(&self, span: Span) -> Span {
        let base = self.whole.start;
        Span {
            start: span.start.saturating_sub(base),
            end: span.end.saturating_sub(base),
        }
    }

    /// The line as a fragment of its own, with its place in the file kept. `first_line` is the
    /// number of its first physical line.
    pub fn fragment(&self, text: &Fragment, first_line: u32) -> Fragment {
        Fragment {
            name: text.name.clone(),
            first_line,
            text: text.slice(self.whole).into(),
        }
    }

    /// What is to be said about the line's flaws. `line` is the line's own fragment.
    pub fn diagnose(&self, line: &Fragment, into: &mut Vec<Diagnostic>) {
        let end = self.relative(self.content).end as usize;
        let mut say = |severity, code, message: &str, (from, to), help: &str| {
            let one = Diagnostic::new(severity, code, message, line, Span::new(from, to));
            into.push(one.help(help));
        };
        if self.flaws.byte_order_mark {
            let message = "the file begins with a byte order mark";
            let help = "save the file as plain UTF-8; other automounters take the mark \
                        for part of the first key";
            say(
                Severity::Warning,
                "byte-order-mark",
                message,
                (0, BYTE_ORDER_MARK.len()),
                help,
            );
        }
        if self.flaws.carriage_return {
            let at = line.text.find_byte(b'\r').unwrap_or(end);
            let help = "convert the file to Unix line ends, for example with dos2unix";
            say(
                Severity::Warning,
                "carriage-return",
                "the line ends in CR LF",
                (at, at + 1),
                help,
            );
        }
        if self.flaws.nul {
            let message = "the line has a NUL byte; what follows it is not used";
            let help = "remove the byte; a file with many of them may be UTF-16, which is not read";
            say(Severity::Error, "nul-byte", message, (end, end + 1), help);
        }
        if let Some((code, message, span, help)) = self.odd_end(line, end) {
            say(Severity::Warning, code, message, span, help);
        }
    }

    /// What is odd about how the line, whose content reaches to `end`, ends or goes on: code,
    /// message, place and advice.
    fn odd_end(
        &self,
        line: &Fragment,
        end: usize,
    ) -> Option<(&'static str, &'static str, (usize, usize), &'static str)> {
        if self.flaws.continued_by_nothing {
            return Some((
                "continued-by-nothing",
                "the last line ends in a backslash but nothing follows",
                (end.saturating_sub(1), end),
                "remove the backslash, or check whether the file was cut short",
            ));
        }
        if self.flaws.blank_after_backslash {
            let blanks = line.text[..end]
                .iter()
                .rev()
                .take_while(|byte| is_blank(**byte))
                .count();
            return Some((
                "blank-after-backslash",
                "a backslash followed by a blank does not continue the line",
                ((end - blanks).saturating_sub(1), end),
                "remove the blanks after the backslash if the next line belongs to this one",
            ));
        }
        if self.flaws.continued && self.kind == LineKind::Comment {
            let at = line.text.find_byte(b'\n').unwrap_or(end);
            return Some((
                "continued-comment",
                "the comment ends in a backslash, so the next line is part of it",
                (at.saturating_sub(1), at),
                "remove the backslash if the next line is meant to be read",
            ));
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use alloc::string::String;

    use super::*;

    /// Content of each line with a letter for its kind.
    fn lines(text: &str) -> Vec<(char, String)> {
        let kind = |line: &LogicalLine| match line.kind {
            LineKind::Blank => 'b',
            LineKind::Comment => 'c',
            LineKind::Text => 't',
        };
        Lines::new(text.as_bytes())
            .map(|line| {
                let content = &text[line.content.start as usize..line.content.end as usize];
                (kind(&line), content.into())
            })
            .collect()
    }

    fn codes(text: &str) -> Vec<&'static str> {
        let fragment = Fragment::whole("m", text);
        let mut said = Vec::new();
        for line in Lines::new(text.as_bytes()) {
            let before = said.len();
            line.diagnose(&line.fragment(&fragment, 1), &mut said);
            assert_eq!(line.is_odd(), said.len() > before);
        }
        said.into_iter().map(|one| one.code).collect()
    }

    #[test]
    fn lines_end_at_line_breaks() {
        let expected = [
            ('t', "a x".into()),
            ('b', String::new()),
            ('c', "# y".into()),
            ('t', "b".into()),
        ];
        assert_eq!(lines("a x\n \t\n# y\nb"), expected);
        assert_eq!(lines(""), []);
        assert_eq!(lines("\n"), [('b', String::new())]);
    }

    #[test]
    fn indented_lines_are_lines_of_their_own() {
        let expected = [
            ('t', "a x".into()),
            ('t', "b y".into()),
            ('c', "# z".into()),
        ];
        assert_eq!(lines("a x\n  b y\n\t# z\n"), expected);
    }

    #[test]
    fn r_236_odd_backslashes_continue_and_even_ones_do_not() {
        assert_eq!(
            lines("a \\\n x\nb"),
            [('t', "a \\\n x".into()), ('t', "b".into())]
        );
        assert_eq!(
            lines("a \\\\\nb"),
            [('t', "a \\\\".into()), ('t', "b".into())]
        );
        assert_eq!(lines("a \\\\\\\nb"), [('t', "a \\\\\\\nb".into())]);
        assert_eq!(
            lines("# a \\\nb\nc"),
            [('c', "# a \\\nb".into()), ('t', "c".into())]
        );
    }

    #[test]
    fn oddities_are_reported() {
        assert_eq!(codes("a x\n"), [] as [&str; 0]);
        assert_eq!(codes("a \\\n x\n"), [] as [&str; 0]);
        assert_eq!(codes("a x\r\n"), ["carriage-return"]);
        assert_eq!(codes("a x \\ \nb"), ["blank-after-backslash"]);
        assert_eq!(codes("a x \\\\ \nb"), [] as [&str; 0]);
        assert_eq!(codes("a x\\"), ["continued-by-nothing"]);
        assert_eq!(codes("a x\\\n"), ["continued-by-nothing"]);
        assert_eq!(codes("# x \\\nb y\n"), ["continued-comment"]);
        assert_eq!(codes("a x\0y\n"), ["nul-byte"]);
        assert_eq!(codes("\u{feff}a x\n"), ["byte-order-mark"]);
    }

    #[test]
    fn line_ends_of_other_systems_and_marks_are_no_content() {
        assert_eq!(
            lines("a x\r\nb \\\r\n y\r\n"),
            [('t', "a x".into()), ('t', "b \\\r\n y".into())]
        );
        assert_eq!(lines("\u{feff}a x\n"), [('t', "a x".into())]);
        assert_eq!(
            lines("a x\0y\nb\n"),
            [('t', "a x".into()), ('t', "b".into())]
        );
    }
}
