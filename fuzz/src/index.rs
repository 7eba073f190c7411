//! The index of a map's text against a plain reading of all its lines.

use bstr::{BStr, BString, ByteSlice};
use piton_map::dialect::{Dialect, WildcardRule};
use piton_map::index::{DIAGNOSTICS_LIMIT, Listed, MapIndex, Step};
use piton_map::key::{self, MapKind};
use piton_map::lines::{LineKind, Lines, is_blank};
use piton_map::lookup::{Found, Matched};
use piton_map::spec;
use piton_map::text::Fragment;

use crate::{check_spans, lies_in};

/// One line as a plain reader understands it.
enum Line {
    Key(BString),
    Wildcard,
    Include(BString),
}

/// What a search comes to, step by step.
#[derive(Debug, PartialEq)]
enum Came {
    Include(BString),
    Found {
        at: usize,
        value: BString,
        matched: Matched,
    },
}

/// Reads all lines: offset of the content, meaning, value.
fn plain(text: &[u8], kind: MapKind) -> Vec<(usize, Line, BString)> {
    Lines::new(text)
        .filter(|line| line.kind == LineKind::Text)
        .filter_map(|line| {
            let start = line.content.start as usize;
            let content = &text[start..line.content.end as usize];
            let (meaning, value) = one(content, kind)?;
            Some((start, meaning, value))
        })
        .collect()
}

fn one(content: &[u8], kind: MapKind) -> Option<(Line, BString)> {
    if let Some(include) = content.strip_prefix(b"+") {
        let length = key::written_len(include).unwrap_or(include.len());
        let map = spec::parse(include[..length].as_bstr(), None).ok()?;
        return (length > 0).then(|| (Line::Include(map.name), BString::default()));
    }
    let length = key::written_len(content).ok()?;
    let written = &content[..length];
    let mut value = &content[length..];
    loop {
        value = match value {
            [byte, rest @ ..] if is_blank(*byte) || *byte == b'\n' => rest,
            [b'\\', rest @ ..] if rest.starts_with(b"\n") || rest.starts_with(b"\r\n") => rest,
            _ => break,
        };
    }
    if value.is_empty() || value[0] == b'#' {
        return None;
    }
    let name = key::unquote(written);
    let name: BString = match kind {
        MapKind::Indirect => name.into_owned(),
        MapKind::Direct => piton_path::normalize(&name).into_owned(),
    };
    let line = if name == "*" && written != b"\\*" {
        (kind == MapKind::Indirect).then_some(Line::Wildcard)?
    } else {
        key::check(kind, name.as_bstr()).ok()?;
        Line::Key(name)
    };
    Some((line, value.into()))
}

/// What a plain reader finds for `key`, line by line.
fn search(lines: &[(usize, Line, BString)], key: &BStr, rule: WildcardRule) -> Vec<Came> {
    let found = |(at, _, value): &(usize, Line, BString), matched| Came::Found {
        at: *at,
        value: value.clone(),
        matched,
    };
    let mut came = Vec::new();
    let mut wildcard = None;
    for line in lines {
        match &line.1 {
            Line::Include(map) => came.push(Came::Include(map.clone())),
            Line::Key(name) if name == key => {
                came.push(found(line, Matched::Exact));
                return came;
            }
            Line::Wildcard if rule == WildcardRule::EndsScan => {
                came.push(found(line, Matched::Wildcard));
                return came;
            }
            Line::Wildcard => {
                wildcard.get_or_insert_with(|| found(line, Matched::Wildcard));
            }
            Line::Key(_) => {}
        }
    }
    came.extend(wildcard);
    came
}

fn searched(index: &MapIndex, key: &BStr, text: &[u8]) -> Vec<Came> {
    let step = |step: Step<'_>| match step {
        Step::Include(include) => Came::Include(include.map.name.clone()),
        Step::Found(found) => {
            let at = place(&found, text);
            let value = found.fragment.slice(found.value).into();
            Came::Found {
                at,
                value,
                matched: found.matched,
            }
        }
    };
    index.search(key).map(step).collect()
}

/// The offset of a found key in the text, by its line's number and its span.
fn place(found: &Found, text: &[u8]) -> usize {
    assert!(lies_in(found.key, found.fragment.text.len()));
    assert!(lies_in(found.value, found.fragment.text.len()));
    let before = found.fragment.first_line as usize - 1;
    let lines = text.split_inclusive(|byte| *byte == b'\n');
    lines.take(before).map(<[u8]>::len).sum::<usize>() + found.key.start as usize
}

/// A map's text: every key, absent ones too, is found as by reading line after line; the listing
/// has each key once; findings are bounded.
pub fn index(data: &[u8]) {
    let text = Fragment::whole("m", data);
    for kind in [MapKind::Indirect, MapKind::Direct] {
        let lines = plain(data, kind);
        for dialect in [Dialect::LINUX, Dialect::SUN] {
            let (index, said) = MapIndex::new(text.clone(), kind, &dialect);
            check_spans(&said);
            assert!(said.len() <= DIAGNOSTICS_LIMIT + 1);
            let mut keys: Vec<&BString> = Vec::new();
            for (_, line, _) in &lines {
                match line {
                    Line::Key(key) if !keys.contains(&key) => keys.push(key),
                    _ => {}
                }
            }
            let listed = index.keys().filter_map(|one| match one {
                Listed::Key { key, .. } => Some(key),
                Listed::Include(_) => None,
            });
            assert!(listed.eq(keys.iter().copied().cloned()));
            assert_eq!(index.len(), keys.len());
            let absent = BString::from("/absent");
            for key in keys.into_iter().take(16).chain([&absent]) {
                let key = key.as_bstr();
                let ours = searched(&index, key, data);
                assert_eq!(
                    ours,
                    search(&lines, key, dialect.wildcard),
                    "{key} {kind:?}"
                );
            }
        }
    }
}
