//! Locations: where a file system is had from.

use alloc::format;
use alloc::vec::Vec;
use core::net::Ipv6Addr;

use bstr::{BString, ByteSlice};

use crate::dialect::Dialect;
use crate::findings::Findings;
use crate::limits::HOST_LIMIT;
use crate::lookup::MapSpec;
use crate::spec;
use crate::text::Span;
use crate::token::{Byte, Source, Word, plain, span_of};

/// One server that a file system can be had from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Server {
    /// Its name or address, an IPv6 address without brackets; `None` is this host.
    pub host: Option<BString>,
    /// The absolute path on it.
    pub path: BString,
    /// The sub-directory that is wanted of it (`host:/path:sub`).
    pub subdirectory: Option<BString>,
    /// The administrator's bias; larger is less wanted.
    pub weight: u32,
}

/// How colons after the path's first are read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Colons {
    /// They are slashes.
    pub slashify: bool,
    /// The first of them sets off a sub-directory.
    pub subdirectories: bool,
}

impl Colons {
    /// What the master map says, or else the dialect.
    pub fn new(said: Option<bool>, dialect: &Dialect) -> Self {
        Self {
            slashify: said.unwrap_or(dialect.slashify_colons),
            subdirectories: dialect.subdirectories,
        }
    }
}

/// `location = servers , ":" , path`, several times: the servers of a network file system.
pub fn servers(words: &[Word], colons: Colons, findings: &mut Findings) -> Option<Vec<Server>> {
    let mut servers = Vec::new();
    for (number, word) in words.iter().enumerate() {
        let mut bytes = word.bytes.clone();
        let Some(colon) = separator(&bytes) else {
            no_separator(words, number, findings);
            return None;
        };
        if colons.slashify {
            slashify(&mut bytes[colon + 1..]);
        }
        let (path, subdirectory) = path(&bytes[colon + 1..], word, colons, findings)?;
        let server = |host, weight| Server {
            host,
            path: path.clone(),
            subdirectory: subdirectory.clone(),
            weight,
        };
        if colon == 0 {
            servers.push(server(None, 0));
            continue;
        }
        for part in split_hosts(&bytes[..colon]) {
            let (host, weight) = host(part, word, findings)?;
            servers.push(server(Some(host), weight));
        }
    }
    Some(servers)
}

/// The colon between host and path: the first that a slash follows, not one in brackets.
fn separator(bytes: &[Byte]) -> Option<usize> {
    let mut bracket = false;
    for (at, pair) in bytes.windows(2).enumerate() {
        match pair[0].value {
            b'[' if pair[0].is_mark(b'[') => bracket = true,
            b']' if pair[0].is_mark(b']') => bracket = false,
            b':' if !bracket && pair[0].is_mark(b':') && pair[1].value == b'/' => return Some(at),
            _ => {}
        }
    }
    None
}

/// Bare colons of the map's own text become slashes.
fn slashify(path: &mut [Byte]) {
    for byte in path {
        if byte.is_bare(b':') && byte.source == Source::Text {
            byte.value = b'/';
        }
    }
}

/// Says why a word is no location of a network file system.
fn no_separator(words: &[Word], number: usize, findings: &mut Findings) {
    let word = &words[number];
    let text = word.plain();
    let next = words.get(number + 1).map(Word::plain);
    if text.contains(&b':') {
        let message = "the path of a location begins with a slash";
        let help = "write host:/path, or :/path for a directory of this host";
        findings.error("relative-path", message, word.span, help);
        return;
    }
    let options = [
        "ro", "rw", "soft", "hard", "intr", "nosuid", "nodev", "bg", "fstype",
    ];
    let first = text
        .split(|byte| matches!(byte, b',' | b'='))
        .next()
        .unwrap_or_default();
    let help = if text.contains(&b'=') || options.iter().any(|option| option.as_bytes() == first) {
        "options begin with a dash".into()
    } else if next.is_some_and(|next| next.contains(&b':')) {
        format!("separate hosts by commas without blanks: {text},…:/path")
    } else if number > 0 {
        "quote a path that has blanks in it: \"host:/a b\"".into()
    } else {
        format!("write {text}:/path")
    };
    findings.error(
        "location-without-path",
        "the location has no path",
        word.span,
        &help,
    );
}

/// The path after the colon, and the sub-directory after a further colon.
fn path(
    bytes: &[Byte],
    word: &Word,
    colons: Colons,
    findings: &mut Findings,
) -> Option<(BString, Option<BString>)> {
    let further = bytes.iter().position(|byte| byte.is_bare(b':'));
    let Some(at) = further.filter(|_| colons.subdirectories && !colons.slashify) else {
        return Some((plain(bytes), None));
    };
    let below = plain(&bytes[at + 1..]);
    let climbs = below
        .split_str("/")
        .any(|part| part == b"." || part == b"..");
    if below.is_empty() || below.contains(&b':') || climbs {
        let span = span_of(&bytes[at..], word.span);
        let message = format!("`{below}` is no sub-directory");
        findings.error(
            "bad-subdirectory",
            message,
            span,
            "write host:/path:sub-directory",
        );
        return None;
    }
    Some((plain(&bytes[..at]), Some(below)))
}

/// `servers = server , { "," , server }`
fn split_hosts(bytes: &[Byte]) -> impl Iterator<Item = &[Byte]> {
    let mut bracket = false;
    bytes.split(move |byte| {
        bracket = (bracket || byte.is_mark(b'[')) && !byte.is_mark(b']');
        !bracket && byte.is_mark(b',')
    })
}

/// `server = host , [ "(" , weight , ")" ]`
fn host(part: &[Byte], word: &Word, findings: &mut Findings) -> Option<(BString, u32)> {
    let span = span_of(part, word.span);
    let (name, weight) = match part.iter().position(|byte| byte.is_mark(b'(')) {
        Some(open) => (&part[..open], weight(&part[open..], span, findings)?),
        None => (part, 0),
    };
    if name.is_empty() {
        let help = "remove the comma, or write the name that is missing";
        findings.error("empty-host", "a host of the list has no name", span, help);
        return None;
    }
    let bracketed = match name {
        [open, inner @ .., close] if open.is_mark(b'[') && close.is_mark(b']') => Some(inner),
        _ => None,
    };
    let host = plain(bracketed.unwrap_or(name));
    let good = match (bracketed, host.contains(&b':')) {
        (Some(_), _) | (None, true) => is_ipv6(&host),
        (None, false) => is_name(&host),
    };
    if !good {
        let message = format!("`{}` is no host name or address", plain(name));
        let help = "names are made of letters, digits, dots, hyphens and underscores; \
                    an IPv6 address stands in brackets";
        findings.error("bad-host", message, span, help);
        return None;
    }
    if bracketed.is_none() && host.contains(&b':') {
        let help = format!("write [{host}]");
        findings.warn(
            "ipv6-without-brackets",
            "an IPv6 address stands in brackets",
            span,
            &help,
        );
    }
    Some((host, weight))
}

/// `"(" , weight , ")"`
fn weight(bytes: &[Byte], span: Span, findings: &mut Findings) -> Option<u32> {
    let weight = match bytes {
        [_open, digits @ .., close] if close.is_mark(b')') => {
            let data = digits.iter().any(|digit| !digit.value.is_ascii_digit());
            plain(digits)
                .to_str()
                .ok()
                .filter(|_| !data)
                .and_then(|text| text.parse().ok())
        }
        _ => None,
    };
    if weight.is_none() {
        let help = "write the number in parentheses directly after the name: host(2)";
        findings.error("bad-weight", "the weight is no number", span, help);
    }
    weight
}

fn is_name(name: &[u8]) -> bool {
    let part = |byte: &u8| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'-' | b'_');
    name.len() <= HOST_LIMIT && !name.starts_with(b"-") && name.iter().all(part)
}

/// An IPv6 address, with a zone perhaps.
fn is_ipv6(text: &[u8]) -> bool {
    let (address, zone) = match text.split_once_str(b"%") {
        Some((address, zone)) => (address, Some(zone)),
        None => (text, None),
    };
    let valid = address
        .to_str()
        .is_ok_and(|address| address.parse::<Ipv6Addr>().is_ok());
    valid && zone.is_none_or(|zone| !zone.is_empty() && is_name(zone))
}

/// `source = [ ":" ] , word , { word }`: what is handed to mount as it stands. Words are joined
/// by a blank, because paths with blanks are often written so.
pub fn source(words: &[Word], colons: Colons, findings: &mut Findings) -> Option<BString> {
    let mut source = Vec::new();
    for (number, word) in words.iter().enumerate() {
        let mut bytes = word.bytes.clone();
        if let Some(colon) = separator(&bytes).filter(|_| colons.slashify) {
            let url = colon > 0 && bytes.get(colon + 2).is_some_and(|byte| byte.value == b'/');
            if !url {
                slashify(&mut bytes[colon + 1..]);
            }
        }
        let local = number == 0 && bytes.first().is_some_and(|first| first.is_mark(b':'));
        let text = plain(&bytes[usize::from(local)..]);
        if number > 0 {
            source.push(b' ');
        }
        source.extend_from_slice(&text);
    }
    let span = Span {
        start: words.first()?.span.start,
        end: words.last()?.span.end,
    };
    check_source(words, &source, span, findings)?;
    Some(source.into())
}

/// Refuses words that cannot be meant as a source.
fn check_source(words: &[Word], source: &[u8], span: Span, findings: &mut Findings) -> Option<()> {
    let (first, further) = words.split_first()?;
    let mut refuse = |code, message: &str, help: &str| {
        findings.error(code, message, span, help);
        None
    };
    if first.bytes.is_empty() {
        return refuse("missing-location", "there is no location", "write it between the quotes");
    }
    if source.starts_with(b"-") {
        let message = "mount would take the source for an option";
        return refuse("source-like-option", message, "write it with a path before it");
    }
    let has_colon = |word: &Word| word.bytes.iter().any(|byte| byte.is_mark(b':'));
    if has_colon(first) && !first.bytes[0].is_mark(b':') && separator(&first.bytes).is_none() {
        let message = "the path of a location begins with a slash";
        return refuse("relative-path", message, "put a colon before a source that is no host:/path");
    }
    let Some(second) = further.first() else { return Some(()) };
    if !has_colon(first) && further.iter().any(has_colon) {
        let help = "options begin with a dash; quote a source that has blanks in it";
        return refuse("unexpected-word", "there is a word before the location", help);
    }
    let message = "the words after the location are taken for a part of it";
    findings.warn("blank-in-location", message, second.span, "quote it: \":/a b\"");
    Some(())
}

/// `map = [ ":" ] , [ type , [ "," , format ] , ":" ] , name , { argument }`
pub fn map(words: &[Word], findings: &mut Findings) -> Option<MapSpec> {
    let (first, arguments) = words.split_first()?;
    let origin = findings.fragment().origin(first.span);
    let bytes = match first.bytes.split_first() {
        Some((colon, rest)) if colon.is_mark(b':') => rest,
        _ => &first.bytes[..],
    };
    // A colon that comes from the key must not choose the map's type: it is escaped like the
    // other bytes that `spec` would read.
    let data = bytes
        .iter()
        .any(|byte| byte.source == Source::Key && byte.value == b':');
    let text = plain(bytes);
    if data || text.is_empty() || text.starts_with(b"-") && bytes[0].source == Source::Key {
        let message = format!("`{text}` is no name of a map");
        findings.error(
            "bad-map-name",
            message,
            first.span,
            "write -fstype=autofs :name-of-the-map",
        );
        return None;
    }
    let mut escaped = Vec::with_capacity(text.len());
    for byte in text.iter() {
        if matches!(byte, b' ' | b'\t' | b'\\') {
            escaped.push(b'\\');
        }
        escaped.push(*byte);
    }
    match spec::parse(escaped.as_bstr(), Some(origin)) {
        Ok(spec) => Some(MapSpec {
            arguments: arguments.iter().map(Word::plain).collect(),
            ..spec
        }),
        Err(error) => {
            findings.error(error.code, error.message, first.span, &error.help);
            None
        }
    }
}
