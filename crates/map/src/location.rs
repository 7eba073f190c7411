//! Locations: where a file system is had from.

use alloc::format;
use alloc::vec::Vec;
use core::net::Ipv6Addr;

use bstr::{BString, ByteSlice};

use crate::advice;
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

/// `locations = location , { location }`: the servers of a network file system.
pub fn locations(words: &[Word], colons: Colons, findings: &mut Findings) -> Option<Vec<Server>> {
    let mut servers = Vec::new();
    for (number, word) in words.iter().enumerate() {
        let Some(colon) = separator(&word.bytes) else {
            no_separator(words, number, findings);
            return None;
        };
        location(word, colon, colons, findings, &mut servers)?;
    }
    Some(servers)
}

/// `location = [ servers ] , ":" , path`, divided at `colon`.
fn location(
    word: &Word,
    colon: usize,
    colons: Colons,
    findings: &mut Findings,
    list: &mut Vec<Server>,
) -> Option<()> {
    let mut bytes = word.bytes.clone();
    // Who escapes the first colon means what stands behind it as it is, also for autofs.
    if colons.slashify && bytes[colon].is_bare(b':') {
        slashify(&mut bytes[colon + 1..]);
    }
    let (path, subdirectory) = path(&bytes[colon + 1..], word, colons, findings)?;
    let at = |host, weight| Server {
        host,
        path: path.clone(),
        subdirectory: subdirectory.clone(),
        weight,
    };
    if colon == 0 {
        list.push(at(None, 0));
        return Some(());
    }
    for part in servers(&bytes[..colon]) {
        let (host, weight) = server(part, word, findings)?;
        if path.starts_with(b"//")
            && let Some(help) = advice::url(host.as_ref())
        {
            let message = format!("`{host}` is taken for the name of a server");
            findings.warn("url-location", message, word.span, help);
        }
        list.push(at(Some(host), weight));
    }
    Some(())
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
        let help = advice::relative_path(text.as_ref());
        findings.error("relative-path", message, word.span, &help);
        return;
    }
    let fragment = findings.fragment();
    let rest = fragment.text.get(word.span.end as usize..);
    let rest = rest.unwrap_or_default().lines().next();
    let rest = rest.unwrap_or_default().as_bstr();
    let next = next.as_ref().map(|next| next.as_bstr());
    let before = fragment.text.get(..word.span.start as usize);
    let help = match before.is_some_and(|before| before.trim_ascii_end().ends_with(b",")) {
        true if number == 0 => advice::SPLIT_OPTIONS.into(),
        _ => advice::no_path(text.as_ref(), number > 0, next, rest),
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
fn servers(bytes: &[Byte]) -> impl Iterator<Item = &[Byte]> {
    let mut bracket = false;
    bytes.split(move |byte| {
        bracket = (bracket || byte.is_mark(b'[')) && !byte.is_mark(b']');
        !bracket && byte.is_mark(b',')
    })
}

/// `server = host , [ "(" , weight , ")" ]`
fn server(part: &[Byte], word: &Word, findings: &mut Findings) -> Option<(BString, u32)> {
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
    Some((host(name, span, findings)?, weight))
}

/// `host = name | address | "[" , address , [ "%" , zone ] , "]"`
fn host(name: &[Byte], span: Span, findings: &mut Findings) -> Option<BString> {
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
        let help = advice::bad_host(plain(name).as_ref());
        findings.error("bad-host", message, span, help);
        return None;
    }
    if bracketed.is_none() && host.contains(&b':') {
        let help = format!("write [{host}]");
        let message = "an IPv6 address stands in brackets";
        findings.warn("ipv6-without-brackets", message, span, &help);
    }
    Some(host)
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

/// Returns true if and only if `text` is an IPv6 address, perhaps with a zone: `fe80::1%eth0`, `fe80::1%2`.
pub fn is_ipv6(text: &[u8]) -> bool {
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
        let bare = |colon: &usize| bytes[*colon].is_bare(b':');
        if let Some(colon) = separator(&bytes).filter(bare).filter(|_| colons.slashify) {
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
        return refuse(
            "missing-location",
            "there is no location",
            "write it between the quotes",
        );
    }
    if source.starts_with(b"-") {
        let message = "mount would take the source for an option";
        return refuse(
            "source-like-option",
            message,
            "write it with a path before it",
        );
    }
    let has_colon = |word: &Word| word.bytes.iter().any(|byte| byte.is_mark(b':'));
    let local = first.bytes[0].is_mark(b':');
    if has_colon(first) && !local && separator(&first.bytes).is_none() {
        let message = "the path of a location begins with a slash";
        return refuse(
            "relative-path",
            message,
            "put a colon before a source that is no host:/path",
        );
    }
    let host = separator(&first.bytes).filter(|_| !local);
    if host.is_some_and(|colon| plain(&first.bytes[..colon]).contains(&b'\'')) {
        let message = "single quotes do not quote";
        return refuse("single-quote", message, "write double quotes");
    }
    let Some(second) = further.first() else {
        return Some(());
    };
    if !has_colon(first) && further.iter().any(has_colon) {
        let help = "options begin with a dash; quote a source that has blanks in it";
        return refuse(
            "unexpected-word",
            "there is a word before the location",
            help,
        );
    }
    let message = "the words after the location are taken for a part of it";
    findings.warn(
        "blank-in-location",
        message,
        second.span,
        "quote it: \":/a b\"",
    );
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

#[cfg(test)]
mod tests {
    use alloc::string::{String, ToString};

    use super::*;
    use crate::diagnostic::Diagnostic;
    use crate::expand::expand;
    use crate::lexer;
    use crate::lookup::{Found, MapType, Matched};
    use crate::text::Fragment;

    /// Reads `text` (with the key `a:b`) with `reader`.
    fn with<T>(
        text: &str,
        dialect: &Dialect,
        reader: impl FnOnce(&[Word], Colons, &mut Findings) -> Option<T>,
    ) -> (Option<T>, Vec<Diagnostic>) {
        let found = Found {
            fragment: Fragment::whole("m", text),
            key: Span::default(),
            value: Span::new(0, text.len()),
            matched: Matched::Exact,
            map: "m".into(),
            via: Vec::new(),
        };
        let mut findings = Findings::new(&found.fragment);
        let expanded = expand(&found, "a:b".into(), &(), &mut findings).unwrap();
        let tokens = lexer::tokens(&expanded.bytes, dialect, &mut findings).unwrap();
        let words: Vec<Word> = tokens.into_iter().map(|token| token.word).collect();
        let read = reader(&words, Colons::new(None, dialect), &mut findings);
        (read, findings.into_vec())
    }

    /// `host(weight) path:sub` of each server, or the code of the first finding.
    fn servers_of(text: &str, dialect: &Dialect) -> Result<Vec<String>, &'static str> {
        let (read, findings) = with(text, dialect, locations);
        let Some(read) = read else {
            return Err(findings[0].code);
        };
        let one = |server: &Server| {
            let host = server.host.as_ref().map_or("-".into(), BString::to_string);
            let below = server.subdirectory.as_ref();
            let below = below.map_or(String::new(), |below| format!(" below {below}"));
            format!("{host} {} {}{below}", server.weight, server.path)
        };
        Ok(read.iter().map(one).collect())
    }

    #[test]
    fn lists_of_servers() {
        for (text, expected) in [
            ("srv:/a", &["srv 0 /a"][..]),
            (":/a", &["- 0 /a"]),
            ("a,b(2):/x c(1):/y", &["a 0 /x", "b 2 /x", "c 1 /y"]),
            ("[fd00::1]:/x", &["fd00::1 0 /x"]),
            ("[fd00::1%eth0](3),h:/x", &["fd00::1%eth0 3 /x", "h 0 /x"]),
            ("fd00::1:/x", &["fd00::1 0 /x"]),
            ("10.0.0.1:/", &["10.0.0.1 0 /"]),
            ("s_r.example.:/x", &["s_r.example. 0 /x"]),
            ("srv:/a:b", &["srv 0 /a/b"]),
            ("srv:/a\\:b:c", &["srv 0 /a:b/c"]),
            ("\"srv:/a:b\"", &["srv 0 /a:b"]),
            ("srv:/&:c", &["srv 0 /a:b/c"]),
            ("srv\\:/a", &["srv 0 /a"]),
            ("srv\\:/a:b", &["srv 0 /a:b"]),
            ("srv:/x,", &["srv 0 /x,"]),
            ("srv://a//b/", &["srv 0 //a//b/"]),
        ] {
            assert_eq!(
                servers_of(text, &Dialect::LINUX).unwrap(),
                expected,
                "{text}"
            );
        }
    }

    #[test]
    fn what_is_no_server() {
        for (text, code) in [
            ("srv", "location-without-path"),
            ("near1 near2:/x", "location-without-path"),
            ("near1:/x near1", "location-without-path"),
            ("ro,soft=1", "location-without-path"),
            ("srv:path", "relative-path"),
            ("srv:", "relative-path"),
            (":", "relative-path"),
            ("a,:/x", "empty-host"),
            (",a:/x", "empty-host"),
            ("[]:/x", "bad-host"),
            ("[::1:/x", "relative-path"),
            ("a(1:/x", "bad-weight"),
            ("a(x):/x", "bad-weight"),
            ("a(99999999999):/x", "bad-weight"),
            ("(1)a:/x", "bad-weight"),
            ("u@h:/x", "bad-host"),
            ("\"-x\":/x", "bad-host"),
            ("&:/x", "bad-host"),
            ("[&]:/x", "bad-host"),
            ("h\u{e4}:/x", "bad-host"),
            ("[fd00::1%]:/x", "bad-host"),
        ] {
            assert_eq!(servers_of(text, &Dialect::LINUX), Err(code), "{text}");
        }
    }

    #[test]
    fn advice_fits_the_mistake() {
        for (text, advice) in [
            (
                "near1 near2:/x",
                "separate hosts by commas without blanks: near1,near2:/x; a key that has a blank in \
                 it is quoted",
            ),
            (
                "near1:/x near1",
                "quote a path that has blanks in it: \"host:/a b\"",
            ),
            (
                "rw,soft",
                "options are one word and begin with a dash: -rw,soft",
            ),
            ("srv", "write srv:/path"),
        ] {
            let (_, findings) = with(text, &Dialect::LINUX, locations);
            assert_eq!(findings[0].help.as_deref(), Some(advice), "{text}");
        }
    }

    #[test]
    fn sub_directories_of_the_older_language() {
        for (text, expected) in [
            ("h:/path:sub", Ok("h 0 /path below sub")),
            ("h:/path:sub/dir", Ok("h 0 /path below sub/dir")),
            ("h:/a\\:b", Ok("h 0 /a:b")),
            ("h:/path:", Err("bad-subdirectory")),
            ("h:/path:..", Err("bad-subdirectory")),
            ("h:/path:&", Err("bad-subdirectory")),
            ("h:/a:b:c", Err("bad-subdirectory")),
        ] {
            let read = servers_of(text, &Dialect::SUN);
            assert_eq!(
                read,
                expected.map(|text| alloc::vec![String::from(text)]),
                "{text}"
            );
        }
    }

    #[test]
    fn sources_as_they_stand() {
        for (text, expected) in [
            (":/dev/sr0", Ok("/dev/sr0")),
            ("tmpfs", Ok("tmpfs")),
            (":", Ok("")),
            (":/a:b", Ok("/a/b")),
            ("srv:/a:b:c", Ok("srv:/a/b/c")),
            ("u@srv\\:/a:b:/c", Ok("u@srv:/a:b:/c")),
            ("https://h:80/x:y", Ok("https://h:80/x:y")),
            ("://win/share", Ok("//win/share")),
            (":a:b", Ok("a:b")),
            (":/a b  c", Ok("/a b c")),
            ("a b", Ok("a b")),
            (":/a :/b", Ok("/a :/b")),
            ("h1,h2:/p", Ok("h1,h2:/p")),
            (":it's:/b", Ok("it's:/b")),
            ("'h:/b'", Err("single-quote")),
            ("&", Ok("a:b")),
            (":&", Ok("a:b")),
            ("\"\"", Err("missing-location")),
            (":-x", Err("source-like-option")),
            ("srv:path", Err("relative-path")),
            ("[fd00::1]", Err("relative-path")),
            ("ro :/b", Err("unexpected-word")),
        ] {
            let (read, findings) = with(text, &Dialect::LINUX, source);
            let read = read.as_ref().map(|read| read.to_str().unwrap());
            assert_eq!(read.ok_or_else(|| findings[0].code), expected, "{text}");
        }
    }

    #[test]
    fn names_of_maps() {
        let map_of = |text: &str| with(text, &Dialect::LINUX, |words, _, found| map(words, found));
        let (spec, _) = map_of("file,sun:/etc/auto.x arg \"b c\"");
        let spec = spec.unwrap();
        assert_eq!(
            (spec.kind, spec.format.as_deref()),
            (Some(MapType::File), Some("sun"))
        );
        assert_eq!(spec.name, "/etc/auto.x");
        assert_eq!(spec.arguments, ["arg", "b c"]);
        assert_eq!(map_of(":\"/etc/a b\\c\"").0.unwrap().name, "/etc/a b\\c");
        assert_eq!(map_of("auto_src").0.unwrap().name, "auto_src");
        for (text, code) in [
            ("&", "bad-map-name"),
            (":", "bad-map-name"),
            ("nfs:/x", "unknown-map-type"),
        ] {
            assert_eq!(map_of(text).1[0].code, code, "{text}");
        }
    }
}
