//! Expanded bytes to words: quotes, escapes, blanks and the comment.
//!
//! - Blanks separate words. Double quotes take away the meaning of everything between them,
//!   backslashes included; there is no way to write a quote inside quotes.
//! - Outside quotes a backslash takes away the meaning of the next byte.
//! - `#` at the beginning of a word begins a comment.
//! - Bytes of the key are data: none of this applies to them.

use alloc::format;
use alloc::vec::Vec;

use crate::dialect::Dialect;
use crate::findings::Findings;
use crate::lines::is_blank;
use crate::text::Span;
use crate::token::{Byte, Source, Token, Word};

/// Splits `bytes` into tokens. `None`: the entry cannot be used, and `findings` says why.
pub fn tokens(bytes: &[Byte], dialect: &Dialect, findings: &mut Findings) -> Option<Vec<Token>> {
    let mut lexer = Lexer {
        bytes,
        at: 0,
        dialect,
    };
    let mut tokens = Vec::new();
    while let Some(word) = lexer.word(findings)? {
        check_control(&word, findings)?;
        tokens.push(Token::new(word));
    }
    Some(tokens)
}

/// A place in an expanded entry.
struct Lexer<'b> {
    bytes: &'b [Byte],
    at: usize,
    dialect: &'b Dialect,
}

/// Returns true if and only if the byte separates words when it is neither quoted nor escaped.
fn separates(byte: &Byte) -> bool {
    byte.source != Source::Key && (is_blank(byte.value) || byte.value == b'\n')
}

impl Lexer<'_> {
    /// The next word; the inner `None` at the end of the entry, the outer one when it is broken.
    fn word(&mut self, findings: &mut Findings) -> Option<Option<Word>> {
        self.blanks(findings);
        let Some(first) = self.bytes.get(self.at) else {
            return Some(None);
        };
        if first.is_mark(b'#') {
            self.at = self.bytes.len();
            return Some(None);
        }
        let rest = &self.bytes[self.at..];
        let length = rest.iter().position(separates).unwrap_or(rest.len());
        let mut word = Word {
            bytes: Vec::with_capacity(length),
            span: first.span,
        };
        while let Some(byte) = self.bytes.get(self.at).filter(|byte| !separates(byte)) {
            word.span.end = byte.span.end;
            self.at += 1;
            if byte.is_mark(b'"') {
                self.quoted(byte.span, &mut word, findings)?;
            } else if byte.is_mark(b'\\') {
                let last = self.escaped(byte.span, &mut word, findings);
                if last && word.bytes.is_empty() {
                    return Some(None);
                }
            } else {
                word.bytes.push(*byte);
            }
        }
        Some(Some(word))
    }

    /// Goes to the next word. A backslash between blanks was the end of a line before somebody
    /// pasted the entry into one: it counts as a blank.
    fn blanks(&mut self, findings: &mut Findings) {
        while let Some(byte) = self.bytes.get(self.at) {
            let next = self.bytes.get(self.at + 1);
            if byte.is_mark(b'\\') && next.is_some_and(separates) {
                let message =
                    "a backslash before a blank does not continue the line; it is ignored";
                let help = "remove it, or the blanks between it and the end of the line";
                findings.warn("stray-backslash", message, byte.span, help);
            } else if !separates(byte) {
                return;
            }
            self.at += 1;
        }
    }

    /// What stands between quotes, the first of which is at `open`.
    fn quoted(&mut self, open: Span, word: &mut Word, findings: &mut Findings) -> Option<()> {
        while let Some(byte) = self.bytes.get(self.at) {
            self.at += 1;
            word.span.end = byte.span.end;
            if byte.is_mark(b'"') {
                return Some(());
            }
            word.bytes.push(Byte {
                protected: true,
                ..*byte
            });
        }
        findings.error(
            "unterminated-quote",
            "the quote is not closed",
            open,
            "close it; a quote that stands for itself is written \\\" and not between quotes",
        );
        None
    }

    /// What follows the backslash at `backslash`. Returns whether that is nothing.
    fn escaped(&mut self, backslash: Span, word: &mut Word, findings: &mut Findings) -> bool {
        let rest = &self.bytes[self.at..];
        if rest.iter().all(separates) {
            self.at = self.bytes.len();
            let message = "the backslash at the end has no effect";
            findings.warn("trailing-backslash", message, backslash, "remove it");
            return true;
        }
        let next = rest[0];
        self.at += 1;
        word.span.end = next.span.end;
        if next.is_mark(b'\\') && self.dialect.doubled_backslash_vanishes {
            if let [_, third, fourth, ..] = rest
                && third.is_mark(b'\\')
                && fourth.is_mark(b'\\')
            {
                // autofs reads the word twice, and each time two of them become one.
                word.span.end = fourth.span.end;
                word.bytes.push(Byte {
                    protected: true,
                    ..next
                });
                self.at += 2;
                return false;
            }
            let span = Span {
                start: backslash.start,
                end: next.span.end,
            };
            let message = "autofs drops a doubled backslash altogether, and so it is done here";
            findings.warn(
                "doubled-backslash",
                message,
                span,
                "quote the word (\"a\\b\"), or write four of them for one",
            );
            return false;
        }
        word.bytes.push(Byte {
            protected: true,
            ..next
        });
        false
    }
}

/// Refuses control characters: no path or option has them, and in a log or a command line they
/// do harm. Tabs may be quoted.
fn check_control(word: &Word, findings: &mut Findings) -> Option<()> {
    let control = |byte: &&Byte| {
        byte.value.is_ascii_control() && !(byte.value == b'\t' && byte.source != Source::Key)
    };
    let Some(byte) = word.bytes.iter().find(control) else {
        return Some(());
    };
    let message = format!(
        "there is a control character (code {}) in the word",
        byte.value
    );
    findings.error("control-character", message, byte.span, "remove it");
    None
}

#[cfg(test)]
mod tests {
    use alloc::string::String;

    use bstr::ByteSlice;

    use super::*;
    use crate::diagnostic::Diagnostic;
    use crate::expand::expand;
    use crate::lookup::{Found, Matched};
    use crate::text::Fragment;
    use crate::token::TokenKind;

    /// The tokens of `value`, with `key` for `&`.
    fn lexed(value: &str, key: &str, dialect: &Dialect) -> (Option<Vec<Token>>, Vec<Diagnostic>) {
        let found = Found {
            fragment: Fragment::whole("m", value),
            key: Span::default(),
            value: Span::new(0, value.len()),
            matched: Matched::Exact,
            map: "m".into(),
            via: Vec::new(),
        };
        let mut findings = Findings::new(&found.fragment);
        let expanded = expand(&found, key.into(), &(), &mut findings).unwrap();
        let tokens = tokens(&expanded.bytes, dialect, &mut findings);
        (tokens, findings.into_vec())
    }

    fn words(value: &str, key: &str) -> Option<Vec<String>> {
        let (tokens, _) = lexed(value, key, &Dialect::SUN);
        let word = |token: &Token| token.word.plain().to_str_lossy().into_owned();
        Some(tokens?.iter().map(word).collect())
    }

    #[test]
    fn quotes_escapes_and_comments() {
        for (value, expected) in [
            ("a  b\tc", &["a", "b", "c"][..]),
            ("\"a b\" c", &["a b", "c"]),
            ("x\"y z\"w", &["xy zw"]),
            ("a\\ b", &["a b"]),
            ("a\\\\b", &["a\\b"]),
            ("\"a\\b\"", &["a\\b"]),
            ("\"a\\\\b\"", &["a\\\\b"]),
            ("a\\\"b", &["a\"b"]),
            ("\"\"", &[""]),
            ("a #b", &["a"]),
            ("a#b", &["a#b"]),
            ("\\#a", &["#a"]),
            ("\"#a\"", &["#a"]),
            ("#a", &[]),
            ("'a b'", &["'a", "b'"]),
            ("a\\", &["a"]),
            ("a\\ ", &["a"]),
            ("a \\", &["a"]),
            ("a \\ b \\ ", &["a", "b"]),
            ("a \\\n b", &["a", "b"]),
            ("a\\\nb", &["ab"]),
            ("\"a\\\r\nb\"", &["ab"]),
            ("\n\n a b\nc", &["a", "b"]),
            ("a\r\n", &["a"]),
        ] {
            assert_eq!(words(value, "k").unwrap(), expected, "{value:?}");
        }
        for broken in ["\"a", "a \"b\nc\"", "a\u{1}", "\"a\\\"b\"", "a\0b"] {
            assert_eq!(words(broken, "k"), None, "{broken:?}");
        }
    }

    #[test]
    fn of_four_backslashes_autofs_leaves_one() {
        for (value, expected) in [
            (r":\\\\srv\\share", r":\srvshare"),
            (r":\\\\\\\\srv\\\\share", r":\\srv\share"),
            (r"a\\\\\b", r"a\b"),
            (r"a\\\\\\b", r"a\b"),
            (r"a\\\b", "ab"),
            (r"a\\\\", r"a\"),
        ] {
            let (tokens, _) = lexed(value, "k", &Dialect::LINUX);
            assert_eq!(tokens.unwrap()[0].word.plain(), expected, "{value}");
        }
    }

    #[test]
    fn the_key_is_data() {
        for key in [
            "a b", "#a", "\"", "\\", "a\\", "-x", "/x", "\"a b\"", "a,b", "$HOST", "&",
        ] {
            assert_eq!(words("&", key).unwrap(), [key], "{key:?}");
            assert_eq!(
                words("x& y", key).unwrap(),
                [String::from("x") + key, "y".into()]
            );
            let (tokens, _) = lexed("&", key, &Dialect::LINUX);
            assert_eq!(tokens.unwrap()[0].kind, TokenKind::Location, "{key:?}");
        }
        assert_eq!(words("&", "a\nb"), None);
        assert_eq!(words("&", "a\tb"), None);
    }

    #[test]
    fn kinds_are_told_by_the_first_byte() {
        let kind = |value: &str| lexed(value, "k", &Dialect::LINUX).0.unwrap()[0].kind;
        assert_eq!(kind("-ro"), TokenKind::Options);
        assert_eq!(kind("-\"a b\""), TokenKind::Options);
        assert_eq!(kind("\"-ro\""), TokenKind::Location);
        assert_eq!(kind("\\-ro"), TokenKind::Location);
        assert_eq!(kind("/a"), TokenKind::Offset);
        assert_eq!(kind("\"/a b\""), TokenKind::Offset);
        assert_eq!(kind(":/a"), TokenKind::Location);
    }

    #[test]
    fn a_doubled_backslash_is_a_matter_of_dialect() {
        let (linux, findings) = lexed("/a\\\\b", "k", &Dialect::LINUX);
        assert_eq!(linux.unwrap()[0].word.plain(), "/ab");
        assert_eq!(findings[0].code, "doubled-backslash");
        let (sun, findings) = lexed("/a\\\\b", "k", &Dialect::SUN);
        assert_eq!(sun.unwrap()[0].word.plain(), "/a\\b");
        assert!(findings.is_empty());
    }
}
