//! Tokens to syntax. One function for each production of GRAMMAR.md, of the same name.

use alloc::vec::Vec;

use crate::findings::Findings;
use crate::syntax::{EntrySyntax, MountSyntax, OptionSyntax};
use crate::text::Span;
use crate::token::{Token, TokenKind, Word, span_of};

/// Reads the tokens of one entry. `None`: it cannot be used, and `findings` says why.
///
/// Whether a mount has a location is not decided here: it depends on the file system type.
pub fn parse(tokens: Vec<Token>, findings: &mut Findings) -> Option<EntrySyntax> {
    Parser {
        tokens: tokens.into_iter().peekable(),
        findings,
    }
    .entry()
}

/// The tokens not yet read.
struct Parser<'p, 'f> {
    tokens: core::iter::Peekable<alloc::vec::IntoIter<Token>>,
    findings: &'p mut Findings<'f>,
}

impl Parser<'_, '_> {
    /// `entry = { options } , [ location , { location } ] , { mount }`
    fn entry(&mut self) -> Option<EntrySyntax> {
        let mut entry = EntrySyntax {
            options: self.options(),
            mounts: Vec::new(),
        };
        if self.peek() == Some(TokenKind::Location) {
            let span = Span::default();
            let root = MountSyntax {
                offset: None,
                options: Vec::new(),
                locations: Vec::new(),
                span,
            };
            entry.mounts.push(self.locations(root)?);
        }
        while self.peek().is_some() {
            let mount = self.mount()?;
            entry.mounts.push(mount);
        }
        Some(entry)
    }

    /// `mount = offset , { options } , location , { location }`
    fn mount(&mut self) -> Option<MountSyntax> {
        let offset = self.tokens.next()?.word;
        let span = offset.span;
        let options = self.options();
        self.locations(MountSyntax {
            offset: Some(offset),
            options,
            locations: Vec::new(),
            span,
        })
    }

    /// `location , { location }`, and a complaint about options after it.
    fn locations(&mut self, mut mount: MountSyntax) -> Option<MountSyntax> {
        while let Some(token) = self
            .tokens
            .next_if(|token| token.kind == TokenKind::Location)
        {
            mount.locations.push(token.word);
        }
        if let (Some(first), Some(last)) = (mount.locations.first(), mount.locations.last()) {
            let start = mount
                .offset
                .as_ref()
                .map_or(first.span.start, |offset| offset.span.start);
            mount.span = Span {
                start,
                end: last.span.end,
            };
        }
        match self.tokens.peek() {
            Some(token) if token.kind == TokenKind::Options => {
                self.findings.error(
                    "options-after-location",
                    "options stand before the location, not after it",
                    token.word.span,
                    "move them before the location; if this is no option, quote the word",
                );
                None
            }
            _ => Some(mount),
        }
    }

    /// `options = "-" , option , { "," , option }`, as often as there are.
    fn options(&mut self) -> Vec<OptionSyntax> {
        let mut options = Vec::new();
        while let Some(token) = self
            .tokens
            .next_if(|token| token.kind == TokenKind::Options)
        {
            option(&token.word, &mut options);
        }
        options
    }

    fn peek(&mut self) -> Option<TokenKind> {
        self.tokens.peek().map(|token| token.kind)
    }
}

/// `option = word without bare commas`: the options of one word that begins with a dash. Empty
/// ones are left out.
fn option(word: &Word, options: &mut Vec<OptionSyntax>) {
    let list = word
        .bytes
        .split_first()
        .map_or(&[][..], |(_dash, list)| list);
    for bytes in list
        .split(|byte| byte.is_bare(b','))
        .filter(|bytes| !bytes.is_empty())
    {
        options.push(OptionSyntax {
            bytes: bytes.to_vec(),
            span: span_of(bytes, word.span),
        });
    }
}

#[cfg(test)]
mod tests {
    use alloc::string::String;

    use bstr::ByteSlice;

    use super::*;
    use crate::dialect::Dialect;
    use crate::expand::expand;
    use crate::lexer;
    use crate::lookup::{Found, Matched};
    use crate::text::Fragment;
    use crate::token::plain;

    /// `options | offset options: locations | …`, or the code of the finding.
    fn parsed(text: &str) -> Result<String, &'static str> {
        let found = Found {
            fragment: Fragment::whole("m", text),
            key: Span::default(),
            value: Span::new(0, text.len()),
            matched: Matched::Exact,
            map: "m".into(),
            via: Vec::new(),
        };
        let mut findings = Findings::new(&found.fragment);
        let expanded = expand(&found, "k".into(), &(), &mut findings).unwrap();
        let tokens = lexer::tokens(&expanded.bytes, &Dialect::LINUX, &mut findings).unwrap();
        let Some(entry) = parse(tokens, &mut findings) else {
            return Err(findings.into_vec()[0].code);
        };
        let options = |options: &[OptionSyntax]| -> String {
            let texts: Vec<_> = options.iter().map(|option| plain(&option.bytes)).collect();
            bstr::join(",", texts).to_str_lossy().into_owned()
        };
        let mut out = options(&entry.options);
        for mount in &entry.mounts {
            let offset = mount
                .offset
                .as_ref()
                .map_or("-".into(), |word| word.plain());
            let locations: Vec<_> = mount.locations.iter().map(Word::plain).collect();
            let locations = bstr::join(" ", locations).to_str_lossy().into_owned();
            out += &alloc::format!(" | {offset} {}: {locations}", options(&mount.options));
        }
        Ok(out)
    }

    #[test]
    fn entries() {
        for (text, expected) in [
            ("srv:/a", " | - : srv:/a"),
            ("-ro,soft srv:/a", "ro,soft | - : srv:/a"),
            ("-ro -soft - srv:/a h:/b", "ro,soft | - : srv:/a h:/b"),
            ("-,ro,,soft, :/a", "ro,soft | - : :/a"),
            ("-a=\"b,c\",d\\,e :/a", "a=b,c,d,e | - : :/a"),
            ("/ :/a /b -c :/d", " | / : :/a | /b c: :/d"),
            (":/a /b :/c", " | - : :/a | /b : :/c"),
            ("-x / -y :/a", "x | / y: :/a"),
            ("", ""),
            ("-ro", "ro"),
            ("/a", " | /a : "),
            ("\"-ro\" :/a", " | - : -ro :/a"),
        ] {
            assert_eq!(parsed(text).as_deref(), Ok(expected), "{text}");
        }
        for text in [":/a -ro", "/x :/a -ro", ":/a -ro /b :/c"] {
            assert_eq!(parsed(text), Err("options-after-location"), "{text}");
        }
    }

    #[test]
    fn options_know_their_values() {
        let word = |text: &str| -> OptionSyntax {
            let byte = |value| crate::token::Byte {
                value,
                source: crate::token::Source::Text,
                protected: false,
                span: Span::default(),
            };
            OptionSyntax {
                bytes: text.bytes().map(byte).collect(),
                span: Span::default(),
            }
        };
        assert!(word("ro").is("ro") && word("timeout=5").is("timeout"));
        assert!(!word("rox").is("ro") && !word("r").is("ro"));
        assert_eq!(plain(word("a=b=c").value_of("a").unwrap()), "b=c");
    }
}
