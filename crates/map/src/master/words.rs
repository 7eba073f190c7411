//! The words of a master-map line.

use alloc::vec::Vec;

use bstr::{BStr, BString};

use crate::key::is_line_break;
use crate::lines::is_blank;
use crate::text::{Fragment, Span};

/// One byte of a word after quotes and escapes are resolved.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct WordByte {
    /// The byte.
    pub(crate) byte: u8,
    /// Where it stands in the fragment.
    pub(crate) at: u32,
    /// Whether a quote or a backslash takes its special meaning away.
    pub(crate) literal: bool,
}

/// One word: a run of bytes without free blanks.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Word {
    /// Where it stands in the fragment.
    pub(crate) span: Span,
    /// Its bytes, quotes and escapes resolved.
    pub(crate) bytes: Vec<WordByte>,
    /// Whether quotes were used.
    pub(crate) quoted: bool,
    /// Where a quote was opened that is never closed.
    pub(crate) open_quote: Option<u32>,
}

impl Word {
    /// The word as written.
    pub(crate) fn written<'f>(&self, fragment: &'f Fragment) -> &'f BStr {
        fragment.slice(self.span)
    }

    /// The word as meant.
    pub(crate) fn text(&self) -> BString {
        self.bytes
            .iter()
            .map(|one| one.byte)
            .collect::<Vec<u8>>()
            .into()
    }

    /// Returns true if and only if the word is written exactly so.
    pub(crate) fn is_plain(&self, fragment: &Fragment, text: &str) -> bool {
        self.written(fragment) == text
    }
}

/// The words in `content` of a line, and the comment after them.
pub(super) fn words(fragment: &Fragment, content: Span) -> (Vec<Word>, Option<Span>) {
    let text = &fragment.text[..content.end as usize];
    let mut at = content.start as usize;
    let mut words = Vec::new();
    loop {
        at = skip_blanks(text, at);
        match text.get(at) {
            None => return (words, None),
            Some(b'#') => return (words, Some(Span::new(at, text.len()))),
            Some(_) => {
                let word = word(text, at);
                at = word.span.end as usize;
                words.push(word);
            }
        }
    }
}

/// The first byte from `at` on that is neither blank nor part of a continuation.
fn skip_blanks(text: &[u8], mut at: usize) -> usize {
    while let Some(byte) = text.get(at) {
        match *byte {
            b'\n' => at += 1,
            blank if is_blank(blank) => at += 1,
            b'\\' if is_line_break(&text[at + 1..]) => at += 1,
            _ => break,
        }
    }
    at
}

/// Reads the word that begins at `start`. A continuation ends it, except after a comma: a list
/// of options may be broken there.
fn word(text: &[u8], start: usize) -> Word {
    let mut bytes = Vec::new();
    let mut at = start;
    let mut quote: Option<u32> = None;
    let mut quoted = false;
    while let Some(byte) = text.get(at) {
        let literal = quote.is_some();
        match *byte {
            b'"' => {
                quote = if literal { None } else { Some(at as u32) };
                quoted = true;
            }
            b'\\' if is_line_break(&text[at + 1..]) => {
                let comma = bytes
                    .last()
                    .is_some_and(|last: &WordByte| last.byte == b',');
                let next = skip_blanks(text, at);
                if !comma || next >= text.len() {
                    break;
                }
                at = next;
                continue;
            }
            b'\\' if at + 1 < text.len() && (!literal || b"\"\\".contains(&text[at + 1])) => {
                at += 1;
                bytes.push(WordByte {
                    byte: text[at],
                    at: at as u32,
                    literal: true,
                });
            }
            blank if !literal && (is_blank(blank) || blank == b'\n') => break,
            other => bytes.push(WordByte {
                byte: other,
                at: at as u32,
                literal,
            }),
        }
        at += 1;
    }
    Word {
        span: Span::new(start, at),
        bytes,
        quoted,
        open_quote: quote,
    }
}

#[cfg(test)]
mod tests {
    use alloc::string::{String, ToString};

    use super::*;

    fn split(line: &str) -> (Vec<String>, Option<String>) {
        let fragment = Fragment::whole("m", line);
        let (words, comment) = words(&fragment, Span::new(0, line.len()));
        let words = words.iter().map(|word| word.text().to_string()).collect();
        (words, comment.map(|span| fragment.slice(span).to_string()))
    }

    #[test]
    fn blanks_separate_and_quotes_and_escapes_join() {
        assert_eq!(split("a\tb  c").0, ["a", "b", "c"]);
        assert_eq!(split("a\\ b \"c d\"e").0, ["a b", "c de"]);
        assert_eq!(split("x=\"a\\\"b\\c\"").0, ["x=a\"b\\c"]);
        assert_eq!(split("a\\").0, ["a\\"]);
    }

    #[test]
    fn a_number_sign_after_a_blank_begins_a_comment() {
        assert_eq!(
            split("a b#c #d e"),
            (vec_of(&["a", "b#c"]), Some("#d e".into()))
        );
        assert_eq!(split("a \"#b\" \\#c").0, ["a", "#b", "#c"]);
    }

    #[test]
    fn continuations_separate_except_after_a_comma() {
        assert_eq!(split("/m\\\n/etc/x \\\n ro").0, ["/m", "/etc/x", "ro"]);
        assert_eq!(split("ro,\\\n  x=1,\\\r\n y").0, ["ro,x=1,y"]);
    }

    #[test]
    fn an_open_quote_is_told() {
        let fragment = Fragment::whole("m", "a b=\"c d");
        let (words, _) = words(&fragment, Span::new(0, 8));
        assert_eq!(words[1].open_quote, Some(4));
    }

    fn vec_of(words: &[&str]) -> Vec<String> {
        words.iter().map(ToString::to_string).collect()
    }
}
