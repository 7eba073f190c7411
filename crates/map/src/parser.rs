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
