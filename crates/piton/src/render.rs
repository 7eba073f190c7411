//! Diagnostics for people: the line, a caret, and what to do; and the same for programs.
//!
//! Every command that shows a [`Diagnostic`] goes through here, so that all of them look alike.
//! Text of maps need not be UTF-8: bytes that are none are shown as U+FFFD, and the caret stands
//! where it belongs all the same.

use std::io::Write as _;

use annotate_snippets::{
    AnnotationKind, Element, Group, Level, Origin as Place, Renderer, Snippet,
};
use bstr::{BStr, ByteSlice};
use piton_map::diagnostic::{Diagnostic, Severity};
use piton_map::text::{Fragment, Origin, Span};
use serde::Serialize;

/// Columns of a shown line; longer lines are cut around what is underlined. A fixed number, so
/// that output is the same in a pipe and on each terminal.
const WIDTH: usize = 120;

/// Bytes shown before and after what is underlined in a text too long to show whole. A program
/// map may print 64 KiB on one line, and a finding about it shall still fit on a screen.
const CONTEXT: usize = 512;

/// Most places that one finding shows besides its own.
const PLACES: usize = 8;

/// A diagnostic as rustc would show it, with a final line break. With colour, as escape sequences:
/// [`print`] takes them out again where the output is no terminal.
pub(crate) fn diagnostic(one: &Diagnostic) -> String {
    let level = level(one.severity);
    let mut group = level
        .primary_title(one.message.as_str())
        .id(one.code)
        .elements([] as [Element<'_>; 0]);
    let shown = Shown::new(&one.fragment, one.primary.0);
    if shown.text.is_empty() {
        group = group.element(place_of(&one.origin()));
    } else {
        let first = std::iter::once(
            AnnotationKind::Primary
                .span(shown.range(one.primary.0))
                .label(label(&one.primary.1)),
        );
        let others = one.related.iter().take(PLACES).map(|(span, text)| {
            AnnotationKind::Context
                .span(shown.range(*span))
                .label(label(text))
        });
        group = group.element(shown.snippet().annotations(first.chain(others)));
    }
    for (origin, text) in one.elsewhere.iter().take(PLACES) {
        group = group.element(Level::NOTE.message(format!("{text}: {origin}")));
    }
    if let Some(help) = &one.help {
        group = group.element(Level::HELP.message(help.as_str()));
    }
    finish(group)
}

/// A line of a map with something underlined, without being a finding: for `explain`.
pub(crate) fn excerpt(fragment: &Fragment, span: Span, words: &str) -> String {
    let shown = Shown::new(fragment, span);
    let mark = AnnotationKind::Primary
        .span(shown.range(span))
        .label(label(words));
    finish(Group::with_level(Level::NOTE).element(shown.snippet().annotation(mark)))
}

/// A diagnostic as JSON: the form that `explain --json` and `check --json` share.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub(crate) struct JsonDiagnostic {
    pub(crate) severity: &'static str,
    pub(crate) code: &'static str,
    pub(crate) message: String,
    pub(crate) file: String,
    pub(crate) line: u32,
    pub(crate) column: u32,
    pub(crate) end_line: u32,
    pub(crate) end_column: u32,
    pub(crate) help: Option<String>,
}

impl From<&Diagnostic> for JsonDiagnostic {
    fn from(one: &Diagnostic) -> Self {
        let (start, end) = (
            one.fragment.position(one.primary.0.start),
            one.fragment.position(one.primary.0.end),
        );
        Self {
            severity: word(one.severity),
            code: one.code,
            message: one.message.clone(),
            file: one.fragment.name.to_string(),
            line: start.line,
            column: start.column,
            end_line: end.line,
            end_column: end.column,
            help: one.help.clone(),
        }
    }
}

/// Writes to standard output; colour only where that is a terminal.
pub(crate) fn print(text: &str) {
    // Whoever closed the pipe has read enough, and nobody is left to tell.
    let _ = anstream::stdout().lock().write_all(text.as_bytes());
}

/// Tells on standard error why `command` cannot do what was asked.
pub(crate) fn complain(command: &str, why: &str) {
    // As above: without standard error there is nowhere to say so.
    let _ = writeln!(
        anstream::stderr().lock(),
        "piton {command}: {}",
        printable(why.as_bytes().as_bstr())
    );
}

/// The severity as a word.
pub(crate) fn word(severity: Severity) -> &'static str {
    match severity {
        Severity::Note => "note",
        Severity::Warning => "warning",
        Severity::Error => "error",
    }
}

/// Bytes as text that is safe on a terminal: control characters are shown as escapes.
pub(crate) fn printable(text: &BStr) -> String {
    let mut clean = String::with_capacity(text.len());
    for letter in text.chars() {
        if letter.is_control() {
            clean.extend(letter.escape_default());
        } else {
            clean.push(letter);
        }
    }
    clean
}

fn level(severity: Severity) -> Level<'static> {
    match severity {
        Severity::Note => Level::NOTE,
        Severity::Warning => Level::WARNING,
        Severity::Error => Level::ERROR,
    }
}

/// Words beside an underlined place; none where there is nothing to say.
fn label(text: &str) -> Option<&str> {
    (!text.is_empty()).then_some(text)
}

fn place_of(origin: &Origin) -> Place<'static> {
    Place::path(origin.file.to_string())
        .line(origin.position.line as usize)
        .char_column(origin.position.column as usize)
}

fn finish(group: Group<'_>) -> String {
    let mut text = Renderer::styled().term_width(WIDTH).render(&[group]);
    text.push('\n');
    text
}

/// The part of a fragment that is shown, as UTF-8, and where each of its bytes went.
struct Shown<'f> {
    fragment: &'f Fragment,
    text: String,
    first_line: u32,
    /// For each character shown: the offset of its first byte in the fragment and in `text`.
    map: Vec<(usize, usize)>,
    /// The end of what is shown, in the fragment.
    end: usize,
}

impl<'f> Shown<'f> {
    /// What is shown of `fragment` when `span` is what matters.
    fn new(fragment: &'f Fragment, span: Span) -> Self {
        let bytes = &fragment.text[..];
        let start = (span.start as usize).min(bytes.len());
        let end = (span.end as usize).clamp(start, bytes.len());
        // Whole lines in front, so that columns stay true; cut behind.
        let from = match bytes.len() > 4 * CONTEXT {
            true => bytes[..start].rfind_byte(b'\n').map_or(0, |at| at + 1),
            false => 0,
        };
        let to = match bytes.len() - from > 4 * CONTEXT {
            true => (end.min(start + CONTEXT) + CONTEXT).min(bytes.len()),
            false => bytes.len(),
        };
        let mut shown = Self {
            fragment,
            text: String::new(),
            first_line: fragment.position(from as u32).line,
            map: Vec::new(),
            end: to,
        };
        for (at, _, letter) in bytes[from..to].char_indices() {
            shown.map.push((from + at, shown.text.len()));
            shown.text.push(letter);
        }
        shown
    }

    /// Where `span` of the fragment stands in the text shown.
    fn range(&self, span: Span) -> std::ops::Range<usize> {
        let start = self.offset(span.start as usize);
        start..self.offset(span.end as usize).max(start)
    }

    fn offset(&self, at: usize) -> usize {
        if at >= self.end {
            return self.text.len();
        }
        let next = self.map.partition_point(|(from, _)| *from <= at);
        self.map
            .get(next.saturating_sub(1))
            .map_or(0, |(_, to)| *to)
    }

    fn snippet<T: Clone>(&self) -> Snippet<'_, T> {
        Snippet::source(self.text.as_str())
            .line_start(self.first_line as usize)
            .path(&*self.fragment.name)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn finding(text: &[u8], span: Span) -> Diagnostic {
        let fragment = Fragment {
            name: "/etc/auto.home".into(),
            first_line: 7,
            text: text.into(),
        };
        Diagnostic::new(
            Severity::Warning,
            "some-code",
            "something is odd",
            &fragment,
            span,
        )
    }

    fn plain(one: &Diagnostic) -> String {
        anstream::adapter::strip_str(&diagnostic(one)).to_string()
    }

    #[test]
    fn a_finding_shows_line_caret_places_and_help() {
        let mut one = finding(b"ann -rw srv:/home/ann", Span::new(4, 7))
            .label("here")
            .help("do this");
        one.related.push((Span::new(0, 3), "the key".into()));
        let position = piton_map::text::Position { line: 2, column: 1 };
        one.elsewhere.push((
            Origin {
                file: "/etc/auto.x".into(),
                position,
            },
            "the first one".into(),
        ));
        insta_like(
            &plain(&one),
            "
warning[some-code]: something is odd
 --> /etc/auto.home:7:5
  |
7 | ann -rw srv:/home/ann
  | --- ^^^ here
  | |
  | the key
  |
  = note: the first one: /etc/auto.x:2:1
  = help: do this
",
        );
    }

    #[test]
    fn tabs_and_wide_characters_keep_the_caret_in_place() {
        insta_like(
            &plain(&finding(
                "k\u{e4}se\t\u{4e16}\u{754c} x".as_bytes(),
                Span::new(13, 14),
            )),
            "
warning[some-code]: something is odd
 --> /etc/auto.home:7:9
  |
7 | k\u{e4}se    \u{4e16}\u{754c} x
  |              ^
",
        );
    }

    #[test]
    fn bytes_that_are_no_text_are_shown_and_counted() {
        insta_like(
            &plain(&finding(b"a\xff\xfeb x\n", Span::new(3, 4))),
            "
warning[some-code]: something is odd
 --> /etc/auto.home:7:4
  |
7 | a\u{fffd}\u{fffd}b x
  |    ^
",
        );
    }

    #[test]
    fn spans_beyond_the_text_and_empty_texts_are_survived() {
        assert!(plain(&finding(b"ann x", Span::new(90, 95))).contains("7:6"));
        let nothing = plain(&finding(b"", Span::new(0, 0)));
        insta_like(
            &nothing,
            "\nwarning[some-code]: something is odd\n--> /etc/auto.home:7:1\n",
        );
    }

    #[test]
    fn long_lines_are_cut_around_the_caret() {
        let mut text = vec![b'x'; 60_000];
        text[40_000] = b'!';
        let shown = plain(&finding(&text, Span::new(40_000, 40_001)));
        assert!(shown.contains(":7:40001"), "{shown}");
        assert!(shown.len() < 600, "{}", shown.len());
        assert!(shown.contains('!') && shown.contains("..."), "{shown}");
    }

    #[test]
    fn long_spans_are_cut() {
        let shown = plain(&finding(&vec![b'x'; 60_000], Span::new(0, 60_000)));
        assert!(shown.len() < 4_000, "{}", shown.len());
    }

    #[test]
    fn control_characters_do_not_reach_the_terminal() {
        let shown = plain(&finding(b"a\x1b[31m x\x07", Span::new(0, 1)));
        assert!(
            !shown.contains('\x1b') && !shown.contains('\x07'),
            "{shown:?}"
        );
        assert_eq!(printable(b"a\x1bb\xff".as_bstr()), "a\\u{1b}b\u{fffd}");
    }

    #[test]
    fn json_has_both_ends_of_the_place() {
        let one = JsonDiagnostic::from(&finding(b"ann \\\n x y", Span::new(7, 10)));
        assert_eq!(
            (one.line, one.column, one.end_line, one.end_column),
            (8, 2, 8, 5)
        );
    }

    #[track_caller]
    fn insta_like(got: &str, want: &str) {
        assert_eq!(got, want.strip_prefix('\n').unwrap_or(want), "got:\n{got}");
    }
}
