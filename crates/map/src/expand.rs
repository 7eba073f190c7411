//! Variables and `&`: the first pass over an entry.
//!
//! An entry is expanded before it is split into words, as other automounters do: a variable may
//! hold a blank, a comma or several options. What keeps this safe is that each byte remembers
//! its [`Source`]: bytes of the key are data for every later stage, and expanded text is not
//! expanded again.
//!
//! This pass also joins continued lines, drops the comment, and finds where the entry ends: a
//! program may print more than one line, and only the first that is not empty counts.

use alloc::borrow::Cow;
use alloc::format;
use alloc::vec::Vec;

use bstr::{BStr, BString, ByteSlice};

use crate::findings::Findings;
use crate::key::is_line_break;
use crate::limits::entry_limits;
use crate::lines::is_blank;
use crate::lookup::Found;
use crate::suggest::suggest;
use crate::text::Span;
use crate::token::{Byte, Source};

/// Where the values of variables come from.
pub trait Variables {
    /// The value of `name`, if it has one.
    fn value(&self, name: &BStr) -> Option<Cow<'_, BStr>>;

    /// All names that have a value, to suggest one for a misspelt name.
    fn names(&self) -> Vec<Cow<'_, BStr>>;
}

/// No variables at all.
impl Variables for () {
    fn value(&self, _name: &BStr) -> Option<Cow<'_, BStr>> {
        None
    }

    fn names(&self) -> Vec<Cow<'_, BStr>> {
        Vec::new()
    }
}

/// An entry with its variables and `&` replaced; quotes and escapes still in it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Expanded {
    /// Its bytes.
    pub bytes: Vec<Byte>,
    /// What was replaced, in order.
    pub replacements: Vec<Replacement>,
    /// Where it ends in the text.
    pub end: u32,
    /// How many bytes there may be.
    room: usize,
}

/// A variable or `&` and what stands in its place.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Replacement {
    /// The variable with its `$`, or the `&`.
    pub span: Span,
    /// The variable's name; `None` for `&`.
    pub name: Option<BString>,
    /// The value; `None` when there is no such variable.
    pub value: Option<BString>,
}

/// Returns true if and only if the entry asks for something that only the user database knows:
/// USER, GROUP or HOME. The caller looks the names up (which may block) before it plans.
pub fn needs_requester(found: &Found) -> bool {
    let mut scanner = Scanner::new(found);
    while let Some(piece) = scanner.next() {
        if let Piece::Variable { name, .. } = piece {
            let name = name_in(found, name);
            if ["USER", "GROUP", "HOME"]
                .iter()
                .any(|asked| name.as_bytes() == asked.as_bytes())
            {
                return true;
            }
        }
    }
    false
}

/// Expands the entry that a look-up found. `None`: it is too long, and `findings` says so.
pub fn expand(
    found: &Found,
    key: &BStr,
    variables: &dyn Variables,
    findings: &mut Findings,
) -> Option<Expanded> {
    let mut expanded = Expanded::default();
    let mut scanner = Scanner::new(found);
    let (limit, written_limit) = entry_limits(&found.map);
    // One byte more than the limit is enough to notice.
    expanded.room = limit + 1;
    let written = found.value.end.saturating_sub(found.value.start) as usize;
    expanded.bytes.reserve_exact(written.min(expanded.room));
    while let Some(piece) = scanner.next() {
        match piece {
            Piece::Byte { value, at } => {
                expanded.push(&[value], Source::Text, Span::new(at, at + 1))
            }
            Piece::Escape { value, at } => {
                expanded.push(b"\\", Source::Text, Span::new(at, at + 1));
                expanded.push(&[value], Source::Text, Span::new(at + 1, at + 2));
            }
            Piece::Key { at } => expanded.replace(None, Some(key), Span::new(at, at + 1)),
            Piece::Variable { name, span, closed } => {
                let name = name_in(found, name);
                let value = variables.value(&name).filter(|_| closed);
                if value.is_none() {
                    report(&name, span, closed, variables, findings);
                }
                expanded.replace(Some(&name), value.as_deref(), span);
            }
        }
        if expanded.bytes.len() > limit || scanner.at - scanner.start > written_limit {
            too_long(found, findings);
            return None;
        }
    }
    expanded.end = scanner.at as u32;
    Some(expanded)
}

/// Says that an entry is longer than anybody needs.
fn too_long(found: &Found, findings: &mut Findings) {
    let start = found.value.start as usize;
    let (limit, written) = entry_limits(&found.map);
    findings.error(
        "entry-too-long",
        format!("the entry is longer than {limit} bytes expanded or {written} as written"),
        Span::new(start, start + 1),
        "split it into several keys, or make the sub-directories a map of their own \
         (-fstype=autofs)",
    );
}

/// Says what is wrong with a variable.
fn report(
    name: &BStr,
    span: Span,
    closed: bool,
    variables: &dyn Variables,
    findings: &mut Findings,
) {
    if !closed {
        let message = "`${` without a `}`: the rest of the line is dropped";
        findings.warn("unclosed-variable", message, span, "write ${NAME}");
        return;
    }
    if name.is_empty() {
        let message = "`$` is not followed by a name and is dropped";
        let behind = findings.fragment().text.get(span.end as usize);
        let help = match behind {
            Some(b'(') => "variables are written ${NAME}; write \\$ for a dollar sign",
            _ => "write \\$ for a dollar sign",
        };
        findings.warn("empty-variable", message, span, help);
        return;
    }
    let names = variables.names();
    let nearest = suggest(name, names.iter().map(|name| name.as_bytes()));
    let help = match nearest {
        Some(nearest) => format!("did you mean ${}?", nearest.as_bstr()),
        None => format!("define it with -D{name}=value, or write \\$ for a dollar sign"),
    };
    let message = format!("there is no variable {name}; nothing stands in its place");
    findings.warn("unknown-variable", message, span, &help);
}

impl Expanded {
    fn push(&mut self, text: &[u8], source: Source, span: Span) {
        let byte = |value: &u8| Byte {
            value: *value,
            source,
            protected: false,
            span,
        };
        let room = self.room.saturating_sub(self.bytes.len());
        self.bytes.extend(text.iter().take(room).map(byte));
    }

    fn replace(&mut self, name: Option<&BStr>, value: Option<&BStr>, span: Span) {
        let source = if name.is_some() {
            Source::Variable
        } else {
            Source::Key
        };
        self.push(value.unwrap_or_default(), source, span);
        self.replacements.push(Replacement {
            span,
            name: name.map(BString::from),
            value: value.map(BString::from),
        });
    }
}

/// One step of the scanner.
enum Piece {
    /// A byte that stands for itself, or a quote.
    Byte { value: u8, at: usize },
    /// A backslash at `at` and the byte after it.
    Escape { value: u8, at: usize },
    /// `&`
    Key { at: usize },
    /// `$NAME` or `${NAME}`; `closed` is false when the brace is missing.
    Variable {
        name: Span,
        span: Span,
        closed: bool,
    },
}

/// Goes through the text of an entry and finds what is to be replaced.
struct Scanner<'t> {
    /// The fragment up to the end of the value.
    text: &'t [u8],
    start: usize,
    at: usize,
    quoted: bool,
    /// Whether the last byte was a blank or there was none: a `#` here begins a comment.
    after_blank: bool,
    /// Whether anything but blanks and line breaks was seen.
    started: bool,
}

impl<'t> Scanner<'t> {
    fn new(found: &'t Found) -> Self {
        let end = (found.value.end as usize).min(found.fragment.text.len());
        let start = (found.value.start as usize).min(end);
        Self {
            text: &found.fragment.text[..end],
            start,
            at: start,
            quoted: false,
            after_blank: true,
            started: false,
        }
    }

    fn next(&mut self) -> Option<Piece> {
        loop {
            let at = self.at;
            let value = *self.text.get(at)?;
            let rest = &self.text[at + 1..];
            match value {
                b'\n' if self.started => return None,
                b'\\' if is_line_break(rest) => {
                    self.at += if rest[0] == b'\r' { 3 } else { 2 };
                    continue;
                }
                blank if !self.started && (is_blank(blank) || blank == b'\n') => {
                    self.at += 1;
                    continue;
                }
                b'#' if self.after_blank && !self.quoted => return None,
                _ => {}
            }
            self.started = true;
            self.after_blank = is_blank(value) && !self.quoted;
            return Some(self.piece(value, at));
        }
    }

    /// The piece that begins with `value` at `at`.
    fn piece(&mut self, value: u8, at: usize) -> Piece {
        self.at += 1;
        match value {
            b'"' => self.quoted = !self.quoted,
            _ if self.quoted => {}
            b'\\' => {
                if let Some(next) = self.text.get(at + 1) {
                    self.at += 1;
                    return Piece::Escape { value: *next, at };
                }
            }
            b'&' => return Piece::Key { at },
            b'$' => {
                if let Some(reference) = self.reference(at) {
                    return reference;
                }
            }
            _ => {}
        }
        Piece::Byte { value, at }
    }

    /// The variable whose `$` stands at `at`; `None`: it is a dollar sign and nothing else.
    /// A backslash at the end of a line may stand anywhere in it.
    fn reference(&mut self, at: usize) -> Option<Piece> {
        let start = self.behind_breaks(at + 1);
        let first = *self.text.get(start)?;
        if is_blank(first) || first == b'\n' {
            return None;
        }
        let (name, end, closed) = if first == b'{' {
            let stop = self.find(start + 1, |byte| byte == b'}' || byte == b'\n');
            let closed = self.text.get(stop) == Some(&b'}');
            (start + 1..stop, stop + usize::from(closed), closed)
        } else {
            let is_name = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'_';
            let stop = self.find(start, |byte| !is_name(byte));
            (start..stop, stop, true)
        };
        self.at = end;
        Some(Piece::Variable {
            name: Span::new(name.start, name.end),
            span: Span::new(at, end),
            closed,
        })
    }

    /// The first place from `at` on that is no backslash at the end of a line.
    fn behind_breaks(&self, mut at: usize) -> usize {
        while let Some(rest) = self.text[at..].strip_prefix(b"\\") {
            match rest {
                [b'\n', ..] => at += 2,
                [b'\r', b'\n', ..] => at += 3,
                // The file ends so.
                [] => at += 1,
                _ => break,
            }
        }
        at
    }

    /// Where the first byte that is `wanted` stands, or the text ends.
    fn find(&self, mut at: usize, wanted: impl Fn(u8) -> bool) -> usize {
        loop {
            let next = self.behind_breaks(at);
            match self.text.get(next) {
                Some(byte) if !wanted(*byte) => at = next + 1,
                // What continues the line behind the name is no part of it.
                Some(b'}') => return next,
                _ => return at,
            }
        }
    }
}

/// The name that stands in `span`, without the line breaks in it.
fn name_in(found: &Found, span: Span) -> Cow<'_, BStr> {
    let written = found.fragment.slice(span);
    if !written.contains(&b'\n') {
        return Cow::Borrowed(written);
    }
    let joined = written.replace(b"\\\r\n", b"").replace(b"\\\n", b"");
    Cow::Owned(joined.into())
}

#[cfg(test)]
mod tests {
    use alloc::string::{String, ToString};

    use super::*;
    use crate::diagnostic::Diagnostic;
    use crate::limits::HOSTS_ENTRY_LIMIT;
    use crate::lookup::Matched;
    use crate::text::Fragment;
    use crate::token::plain;

    /// HOST is `h`, BLANK is `a b`, AMP is `&$HOST`, EMPTY is empty.
    struct Few;

    impl Variables for Few {
        fn value(&self, name: &BStr) -> Option<Cow<'_, BStr>> {
            let value = match name.to_str().ok()? {
                "HOST" => "h",
                "BLANK" => "a b",
                "AMP" => "&$HOST",
                "EMPTY" => "",
                _ => return None,
            };
            Some(Cow::Borrowed(value.into()))
        }

        fn names(&self) -> Vec<Cow<'_, BStr>> {
            ["HOST", "BLANK"]
                .map(|name| Cow::Borrowed(name.into()))
                .into()
        }
    }

    fn found(text: &str) -> Found {
        Found {
            fragment: Fragment::whole("m", text),
            key: Span::default(),
            value: Span::new(0, text.len()),
            matched: Matched::Exact,
            map: "m".into(),
            via: Vec::new(),
        }
    }

    fn expanded(text: &str) -> (Expanded, Vec<Diagnostic>) {
        let found = found(text);
        let mut findings = Findings::new(&found.fragment);
        let expanded = expand(&found, "key".into(), &Few, &mut findings).unwrap();
        (expanded, findings.into_vec())
    }

    fn text_of(text: &str) -> String {
        plain(&expanded(text).0.bytes).to_string()
    }

    #[test]
    fn variables_and_the_key_are_replaced() {
        for (text, expected) in [
            ("/$HOST/x", "/h/x"),
            ("/${HOST}x", "/hx"),
            ("/$HOST-x.$HOST", "/h-x.h"),
            ("/$HOSTx", "/"),
            ("$BLANK", "a b"),
            ("$AMP", "&$HOST"),
            ("x${EMPTY}y", "xy"),
            ("&&/&x", "keykey/keyx"),
            ("\\&\\$HOST", "\\&\\$HOST"),
            ("\\\\&", "\\\\key"),
            ("\"&$HOST\"&", "\"&$HOST\"key"),
            ("'&'", "'key'"),
            ("a$", "a$"),
            ("a$ b", "a$ b"),
            ("a$-b", "a-b"),
            ("a$$HOST", "ah"),
            ("a${", "a"),
            ("a${HOST", "a"),
            ("a${}b", "ab"),
            ("a${x-y}b", "ab"),
            ("a$\\\n\t/x", "a$\t/x"),
            ("a$\\\n", "a$"),
            ("a$\\\nHOST/b", "ah/b"),
            ("a$HO\\\r\nST/b", "ah/b"),
            ("a$HOST\\\n/b", "ah/b"),
            ("a${HO\\\nST}b", "ahb"),
            ("a${HOST\\\n}b", "ahb"),
            ("a${HO\\\n ST}b", "ab"),
            ("a$\\\n-b", "a-b"),
            ("a${x\\\ny", "a"),
        ] {
            assert_eq!(text_of(text), expected, "{text}");
        }
    }

    #[test]
    fn an_entry_ends_with_its_line_or_comment() {
        for (text, expected) in [
            ("a \\\n b", "a  b"),
            ("a\\\r\nb", "ab"),
            ("a\nb", "a"),
            (" \n\n\t a\nb", "a"),
            ("a #b", "a "),
            ("a#b", "a#b"),
            ("#a\nb", ""),
            ("a #b\\\nc", "a "),
            ("\"a #b\"", "\"a #b\""),
            ("\\\n\\\na", "a"),
        ] {
            assert_eq!(text_of(text), expected, "{text:?}");
        }
        assert_eq!(expanded("a #b").0.end, 2);
    }

    #[test]
    fn bytes_remember_where_they_come_from() {
        let (expanded, _) = expanded("x&$HOST");
        let of = |at: usize| (expanded.bytes[at].source, expanded.bytes[at].span);
        assert_eq!(of(0), (Source::Text, Span::new(0, 1)));
        assert_eq!(of(3), (Source::Key, Span::new(1, 2)));
        assert_eq!(of(4), (Source::Variable, Span::new(2, 7)));
        assert_eq!(expanded.replacements[0].name, None);
        assert_eq!(expanded.replacements[1].value.as_ref().unwrap(), "h");
    }

    #[test]
    fn what_is_odd_about_variables_is_said() {
        for (text, code, advice) in [
            ("$HOTS", "unknown-variable", "did you mean $HOST?"),
            (
                "$PRINTER",
                "unknown-variable",
                "define it with -DPRINTER=value, or write \\$ for a dollar sign",
            ),
            ("$-", "empty-variable", "write \\$ for a dollar sign"),
            ("${HOST", "unclosed-variable", "write ${NAME}"),
        ] {
            let (_, findings) = expanded(text);
            assert_eq!(
                (findings[0].code, findings[0].help.as_deref()),
                (code, Some(advice))
            );
        }
        assert!(expanded("$HOST a$ \"$X\" \\$X #$X").1.is_empty());
    }

    #[test]
    fn the_user_database_is_asked_only_for_its_own() {
        for text in ["$USER", "/x/${HOME}", "a \\\n $GROUP"] {
            assert!(needs_requester(&found(text)), "{text}");
        }
        for text in [
            "$UID:$GID",
            "\"$USER\"",
            "\\$USER",
            "# $USER",
            "$USERS",
            "$SHOST",
            "USER",
        ] {
            assert!(!needs_requester(&found(text)), "{text}");
        }
    }

    #[test]
    fn the_map_of_all_exports_may_be_longer() {
        let mut found = found(&"x".repeat(20_000));
        let mut findings = Findings::new(&found.fragment);
        assert!(expand(&found, "k".into(), &(), &mut findings).is_none());
        assert_eq!(findings.into_vec()[0].code, "entry-too-long");
        found.map = "-hosts".into();
        let mut findings = Findings::new(&found.fragment);
        assert!(expand(&found, "k".into(), &(), &mut findings).is_some());
        found.fragment.text = "x".repeat(HOSTS_ENTRY_LIMIT + 1).into();
        found.value = Span::new(0, HOSTS_ENTRY_LIMIT + 1);
        let mut findings = Findings::new(&found.fragment);
        assert!(expand(&found, "k".into(), &(), &mut findings).is_none());
    }

    #[test]
    fn spans_beyond_the_text_are_cut() {
        let mut found = found("abc");
        found.value = Span::new(2, 99);
        let mut findings = Findings::new(&found.fragment);
        let expanded = expand(&found, "k".into(), &(), &mut findings).unwrap();
        assert_eq!(plain(&expanded.bytes), "c");
        found.value = Span::new(50, 99);
        assert!(!needs_requester(&found));
    }
}
