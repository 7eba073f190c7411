//! Reading one entry: expansion, words, options, and the whole of it.
//!
//! Inputs: a line with the key, a line with the value of `$V`, then the entry's text. Of options:
//! a line with those of the mount point, then those of the entry.

use std::borrow::Cow;

use bstr::{BStr, ByteSlice};
use piton_map::diagnostic::Severity;
use piton_map::dialect::Dialect;
use piton_map::entry::{Entry, EntryRequest, Reading, What, read};
use piton_map::expand::{Expanded, Variables, expand, needs_requester};
use piton_map::findings::Findings;
use piton_map::key::{self, MapKind};
use piton_map::limits::{ENTRY_LIMIT, FINDINGS_LIMIT, TIMEOUT_LIMIT};
use piton_map::lookup::{Found, Matched};
use piton_map::mount_options::{Merging, OptionWord, merge, settle};
use piton_map::options::PointOptions;
use piton_map::parser;
use piton_map::syntax::EntrySyntax;
use piton_map::text::{Fragment, Span};
use piton_map::token::{Byte, Source, Token};

use crate::{check_spans, first_line, lies_in};

const DIALECTS: [Dialect; 2] = [Dialect::LINUX, Dialect::SUN];

/// `$V` is from the input, every other short name is its own value.
struct Values<'v>(&'v [u8]);

impl Variables for Values<'_> {
    fn value(&self, name: &BStr) -> Option<Cow<'_, BStr>> {
        match name.as_bytes() {
            b"V" => Some(Cow::Borrowed(self.0.as_bstr())),
            known if (2..8).contains(&known.len()) => Some(Cow::Owned(known.into())),
            _ => None,
        }
    }

    fn names(&self) -> Vec<Cow<'_, BStr>> {
        vec![Cow::Borrowed("V".into()), Cow::Borrowed("HOST".into())]
    }
}

struct Input<'d> {
    key: &'d BStr,
    values: Values<'d>,
    found: Found,
}

/// The parts of an input; none if nobody can ask for the key.
fn input(data: &[u8]) -> Option<Input<'_>> {
    let (key, rest) = first_line(data);
    let (value, text) = first_line(rest);
    key::check(MapKind::Indirect, key.as_bstr()).ok()?;
    Some(Input {
        key: key.as_bstr(),
        values: Values(value),
        found: found(text),
    })
}

fn found(text: &[u8]) -> Found {
    Found {
        fragment: Fragment::whole("m", text),
        key: Span::default(),
        value: Span::new(0, text.len()),
        matched: Matched::Exact,
        map: "m".into(),
        via: Vec::new(),
    }
}

/// Expansion: bounded, in order, nothing expanded twice, the map's bytes where they stood.
pub fn expansion(data: &[u8]) {
    let Some(input) = input(data) else { return };
    let text = &input.found.fragment.text;
    let mut findings = Findings::new(&input.found.fragment);
    let expanded = expand(&input.found, input.key, &input.values, &mut findings);
    let said = findings.into_vec();
    check_spans(&said);
    assert!(said.len() <= FINDINGS_LIMIT);
    needs_requester(&input.found);
    let Some(expanded) = expanded else {
        assert!(!said.is_empty(), "refused without a word");
        return;
    };
    assert!(expanded.bytes.len() <= ENTRY_LIMIT && expanded.end as usize <= text.len());
    let mut before = 0;
    for replacement in &expanded.replacements {
        assert!(replacement.span.start >= before && lies_in(replacement.span, text.len()));
        before = replacement.span.end;
    }
    check_bytes(&expanded, &input, text);
    let mut findings = Findings::new(&input.found.fragment);
    let again = expand(&input.found, input.key, &input.values, &mut findings);
    assert_eq!(again.as_ref(), Some(&expanded));
}

/// Each byte is what stands at its place, or the next one of what was put there.
fn check_bytes(expanded: &Expanded, input: &Input<'_>, text: &[u8]) {
    let mut bytes = expanded.bytes.iter().peekable();
    for replacement in &expanded.replacements {
        let ours = |byte: &&Byte| byte.source != Source::Text && byte.span == replacement.span;
        while let Some(byte) = bytes.next_if(|byte| byte.source == Source::Text) {
            assert_eq!(text[byte.span.start as usize], byte.value);
        }
        let put: Vec<u8> = std::iter::from_fn(|| bytes.next_if(ours))
            .map(|byte| byte.value)
            .collect();
        let value = replacement.value.clone().unwrap_or_default();
        assert_eq!(put.as_bstr(), value.as_bstr(), "{replacement:?}");
        if replacement.name.is_none() {
            assert_eq!(value, input.key);
        }
    }
    assert!(bytes.all(|byte| text[byte.span.start as usize] == byte.value));
}

/// The words of an entry as `key` has it.
fn words(input: &Input<'_>, key: &BStr, dialect: &Dialect) -> Option<Vec<Token>> {
    let mut findings = Findings::new(&input.found.fragment);
    let expanded = expand(&input.found, key, &input.values, &mut findings)?;
    let tokens = piton_map::lexer::tokens(&expanded.bytes, dialect, &mut findings);
    let said = findings.into_vec();
    check_spans(&said);
    assert!(tokens.is_some() || said.iter().any(|one| one.severity == Severity::Error));
    tokens
}

/// Words: no key is ever split or joined to more words, becomes an option or hides what follows.
pub fn lexer(data: &[u8]) {
    let Some(input) = input(data) else { return };
    for dialect in DIALECTS {
        let tokens = words(&input, input.key, &dialect);
        let plain = words(&input, "x".into(), &dialect);
        let (Some(tokens), Some(plain)) = (tokens, plain) else {
            continue;
        };
        for token in &tokens {
            assert!(lies_in(token.word.span, input.found.fragment.text.len()));
            let from_key = token
                .word
                .bytes
                .iter()
                .filter(|byte| byte.source == Source::Key);
            let keys: Vec<u8> = from_key.map(|byte| byte.value).collect();
            assert!(keys.chunks(input.key.len()).all(|chunk| chunk == input.key));
        }
        let kinds = |tokens: &[Token]| tokens.iter().map(|token| token.kind).collect::<Vec<_>>();
        assert_eq!(kinds(&tokens), kinds(&plain), "{}", input.key);
        assert_eq!(words(&input, input.key, &dialect), Some(tokens.clone()));
        let shapes = [tokens, plain].map(|tokens| {
            let mut findings = Findings::new(&input.found.fragment);
            let syntax = parser::parse(tokens, &mut findings);
            check_spans(&findings.into_vec());
            syntax.map(|syntax| shape(&syntax))
        });
        if let [Some(ours), Some(plain)] = &shapes {
            assert_eq!(ours, plain, "{}", input.key);
        }
    }
}

/// How many options and locations there are, mount by mount.
fn shape(syntax: &EntrySyntax) -> Vec<(usize, usize, bool)> {
    let mounts = syntax.mounts.iter();
    let mounts = mounts.map(|one| (one.options.len(), one.locations.len(), one.offset.is_some()));
    [(syntax.options.len(), 0, false)]
        .into_iter()
        .chain(mounts)
        .collect()
}

/// Options: what mount gets is what was written, in its order, without the automounter's own.
pub fn options(data: &[u8]) {
    let (outer, written) = first_line(data);
    let fragment = Fragment::whole("m", written);
    let outer: Vec<OptionWord> = outer
        .split(|byte| *byte == b',')
        .map(|text| OptionWord::outer(text.as_bstr()))
        .collect();
    let mut at = 0;
    let mut inner = Vec::new();
    for text in written.split(|byte| matches!(byte, b',' | b'\n')) {
        let span = Some(Span::new(at, at + text.len()));
        inner.push(OptionWord {
            text: text.into(),
            span,
        });
        at += text.len() + 1;
    }
    for dialect in DIALECTS {
        for append in [true, false] {
            let merged = merge(&[&outer], &inner, Merging::new(&dialect, append));
            let mut findings = Findings::new(&fragment);
            let settled = settle(&merged, &dialect, &mut findings);
            let said = findings.into_vec();
            check_spans(&said);
            assert!(said.len() <= FINDINGS_LIMIT);
            let Some(settled) = settled else {
                assert!(said.iter().any(|one| one.severity == Severity::Error));
                continue;
            };
            let mut left = merged.iter().map(|word| &word.text);
            for option in settled.options.iter().filter(|option| *option != "fsc") {
                assert!(
                    left.any(|word| word == option),
                    "{option} was not written there"
                );
                assert!(!option.starts_with(b"fstype="), "{option}");
                assert!(option != "strict" && option != "browse");
            }
            assert!(!settled.fstype.starts_with(b"-") && !settled.fstype.contains(&b'/'));
            assert!(
                settled
                    .timeout
                    .is_none_or(|seconds| seconds <= TIMEOUT_LIMIT)
            );
            let again = settle(&merged, &dialect, &mut Findings::new(&fragment));
            assert_eq!(again.as_ref(), Some(&settled));
        }
    }
}

fn read_with(found: &Found, key: &BStr, variables: &dyn Variables, dialect: &Dialect) -> Reading {
    read(&EntryRequest {
        found,
        key,
        variables,
        point: &PointOptions::default(),
        global: &[],
        append: true,
        dialect,
    })
}

/// A whole entry: refused with a word, or paths stay below the key, nothing looks like an option,
/// and what is printed reads as the same.
pub fn entry(data: &[u8]) {
    let Some(input) = input(data) else { return };
    for dialect in DIALECTS {
        let reading = read_with(&input.found, input.key, &input.values, &dialect);
        check_spans(&reading.diagnostics);
        assert!(reading.diagnostics.len() <= FINDINGS_LIMIT);
        assert_eq!(
            read_with(&input.found, input.key, &input.values, &dialect),
            reading
        );
        let Some(entry) = reading.entry else {
            assert!(!reading.diagnostics.is_empty(), "refused without a word");
            continue;
        };
        check_entry(&entry);
        let printed = entry.to_text();
        if printed.len() > ENTRY_LIMIT {
            continue;
        }
        let again = read_with(&found(&printed), "other".into(), &(), &dialect);
        let again = again.entry.map(without_places);
        assert_eq!(again, Some(without_places(entry)), "{printed}");
    }
}

fn check_entry(entry: &Entry) {
    assert!(!entry.mounts.is_empty());
    for (number, mount) in entry.mounts.iter().enumerate() {
        let offset = &mount.offset;
        assert!(
            offset.starts_with(b"/") && *piton_path::normalize(offset) == **offset,
            "{offset}"
        );
        assert!(
            entry.mounts[..number]
                .iter()
                .all(|other| other.offset != *offset)
        );
        match &mount.what {
            What::Servers { servers, .. } => {
                assert!(!servers.is_empty());
                for server in servers {
                    assert!(server.path.starts_with(b"/"));
                    let host = server.host.as_ref();
                    assert!(host.is_none_or(|host| !host.is_empty() && !host.starts_with(b"-")));
                }
            }
            What::Bind { source, .. } | What::Link { to: source } | What::Source { source, .. } => {
                assert!(!source.starts_with(b"-"));
            }
            What::Map { map, .. } => assert!(!map.name.is_empty()),
        }
        for option in &mount.options {
            assert!(
                !option
                    .iter()
                    .any(|byte| byte.is_ascii_control() && *byte != b'\t')
            );
            assert!(!option.starts_with(b"fstype="), "{option}");
        }
    }
    assert!(entry.timeout.is_none_or(|seconds| seconds <= TIMEOUT_LIMIT));
}

/// The same without the places where things were written.
fn without_places(mut entry: Entry) -> Entry {
    for mount in &mut entry.mounts {
        mount.span = Span::default();
        if let What::Map { map, .. } = &mut mount.what {
            map.origin = None;
        }
    }
    entry
}
