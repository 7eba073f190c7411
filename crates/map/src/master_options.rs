//! The options of a master-map entry: some are for the automounter, the rest is for mount.
//!
//! Words and comma lists are the same here: `ro,--timeout=5` and `ro --timeout=5` mean one
//! thing. Options of the automounter may be written with no, one or two hyphens where autofs
//! allows it; of anything else the hyphens are dropped and the rest is an option for mount.

use alloc::format;
use alloc::string::String;
use alloc::sync::Arc;
use alloc::vec::Vec;

use bstr::{BStr, BString, ByteSlice};

use crate::advice;
use crate::diagnostic::{Diagnostic, Severity};
use crate::limits::TIMEOUT_LIMIT;
use crate::master::Word;
use crate::mount_options;
use crate::options::{PointOptions, Propagation, Selection};
use crate::suggest;
use crate::text::{Fragment, Span};

/// One option as written: a word, or a part of one between commas.
#[derive(Clone, Debug)]
struct Written {
    /// Without quotes and escapes.
    text: BString,
    /// Where it stands.
    span: Span,
    /// Whether it begins a word.
    begins_word: bool,
}

/// Reads the words after the maps of an entry.
pub(crate) fn parse(
    words: &[Word],
    fragment: &Fragment,
    said: &mut Vec<Diagnostic>,
) -> PointOptions {
    let written: Vec<Written> = words.iter().flat_map(split).collect();
    let mut reader = Reader {
        options: PointOptions::default(),
        fragment,
        said,
    };
    let mut rest = &written[..];
    while let Some((one, after)) = rest.split_first() {
        rest = reader.option(one, after);
    }
    reader.options
}

/// Cuts a word at its free commas.
fn split(word: &Word) -> Vec<Written> {
    let mut parts = Vec::new();
    let free_comma = |one: &crate::master::WordByte| one.byte == b',' && !one.literal;
    for (number, part) in word.bytes.split(free_comma).enumerate() {
        let span = match (part.first(), part.last()) {
            (Some(first), Some(last)) => Span {
                start: first.at,
                end: last.at + 1,
            },
            _ => word.span,
        };
        let text: Vec<u8> = part.iter().map(|one| one.byte).collect();
        parts.push(Written {
            text: text.into(),
            span,
            begins_word: number == 0,
        });
    }
    parts
}

/// Bytes of a program's name that the kernel keeps.
const COMM_BYTES: usize = 15;

/// What an option of the automounter does.
#[derive(Clone, Copy)]
enum Flag {
    Browse(bool),
    NoBind,
    Symlink,
    StrictExpire,
    Strict,
    Propagation(Propagation),
    Selection(Selection),
    SlashifyColons(bool),
    /// Understood, but not a matter of one mount point here.
    Ignored,
}

/// Options of the automounter without a value. The short ones need their hyphen, the long ones
/// marked so need two.
const FLAGS: &[(&str, Flag)] = &[
    ("browse", Flag::Browse(true)),
    ("nobrowse", Flag::Browse(false)),
    ("--ghost", Flag::Browse(true)),
    ("-g", Flag::Browse(true)),
    ("nobind", Flag::NoBind),
    ("symlink", Flag::Symlink),
    ("strictexpire", Flag::StrictExpire),
    ("strict", Flag::Strict),
    ("slave", Flag::Propagation(Propagation::Slave)),
    ("private", Flag::Propagation(Propagation::Private)),
    ("shared", Flag::Propagation(Propagation::Shared)),
    ("use-weight-only", Flag::Selection(Selection::WeightOnly)),
    ("-w", Flag::Selection(Selection::WeightOnly)),
    (
        "random-multimount-selection",
        Flag::Selection(Selection::Random),
    ),
    ("-r", Flag::Selection(Selection::Random)),
    ("slashify-colons", Flag::SlashifyColons(true)),
    ("no-slashify-colons", Flag::SlashifyColons(false)),
    ("--verbose", Flag::Ignored),
    ("-v", Flag::Ignored),
    ("--debug", Flag::Ignored),
    ("-d", Flag::Ignored),
];

/// The options with a value: short and long form.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Valued {
    Timeout,
    NegativeTimeout,
    PositiveTimeout,
    Mode,
    Define,
    DenyKeys,
    DenyComm,
    DenyCgroup,
}

/// Reads the options of one line.
struct Reader<'l> {
    options: PointOptions,
    fragment: &'l Fragment,
    said: &'l mut Vec<Diagnostic>,
}

impl Reader<'_> {
    /// Reads `one` and returns what is left: a value may stand in the words `after` it.
    fn option<'w>(&mut self, one: &Written, after: &'w [Written]) -> &'w [Written] {
        let text = one.text.as_bstr();
        if text.trim_start_with(|c| c == '-').is_empty() {
            self.warn(
                "empty-option",
                one.span,
                "an option is empty",
                "remove the comma or hyphen",
            );
            return after;
        }
        if let Some(flag) = flag(text) {
            self.set(flag);
            return after;
        }
        match valued(text) {
            Some((valued, value)) => self.valued(valued, value, one, after),
            None => {
                self.for_mount(one);
                after
            }
        }
    }

    /// Adds a warning.
    fn warn(&mut self, code: &'static str, span: Span, message: impl Into<String>, help: &str) {
        let one = Diagnostic::new(Severity::Warning, code, message, self.fragment, span);
        self.said.push(one.help(help));
    }

    /// Turns a flag on.
    fn set(&mut self, flag: Flag) {
        let options = &mut self.options;
        match flag {
            Flag::Browse(browse) => options.browse = Some(browse),
            Flag::NoBind => options.nobind = true,
            Flag::Symlink => options.symlink = true,
            Flag::StrictExpire => options.strict_expire = true,
            Flag::Strict => options.strict = true,
            Flag::Propagation(propagation) => options.propagation = propagation,
            Flag::Selection(selection) => options.selection = selection,
            Flag::SlashifyColons(slashify) => options.slashify_colons = Some(slashify),
            Flag::Ignored => {}
        }
    }

    /// Reads the value of an option: after `=`, glued to a short option, or in the next words.
    fn valued<'w>(
        &mut self,
        valued: Valued,
        attached: Option<&BStr>,
        one: &Written,
        after: &'w [Written],
    ) -> &'w [Written] {
        let (value, span, after) = match attached {
            Some(value) => (Some(value), one.span, after),
            None => following(valued, one, after),
        };
        match (valued, value) {
            (_, None) => self.warn(
                "option-without-value",
                one.span,
                format!("`{}` has no value; it is not used", one.text),
                "write the value after `=`, as in `--timeout=300`",
            ),
            (Valued::Timeout, Some(value)) => {
                let seconds = self.seconds(value, span);
                self.options.timeout = seconds.or(self.options.timeout);
            }
            (Valued::NegativeTimeout, Some(value)) => {
                let seconds = self.seconds(value, span);
                self.options.negative_timeout = seconds.or(self.options.negative_timeout);
            }
            (Valued::PositiveTimeout, Some(_)) => self.warn(
                "positive-timeout",
                span,
                "entries are not remembered beyond their map's changes; the option has no effect",
                "remove it",
            ),
            (Valued::Mode, Some(value)) => self.mode(value, span),
            (Valued::Define, Some(value)) => self.define(value, span),
            (Valued::DenyKeys | Valued::DenyComm | Valued::DenyCgroup, Some(value)) => {
                self.deny(valued, value, span);
            }
        }
        after
    }

    /// A number of seconds, perhaps with a unit.
    fn seconds(&mut self, value: &BStr, span: Span) -> Option<u32> {
        let seconds = mount_options::seconds(value);
        if seconds.is_some() {
            return seconds;
        }
        if value.iter().all(u8::is_ascii_digit) {
            self.warn(
                "number-too-large",
                span,
                format!("`{value}` is more than ten years; that much is used"),
                "write 0 for never",
            );
            return Some(TIMEOUT_LIMIT);
        }
        self.warn(
            "bad-number",
            span,
            format!("`{value}` is no number of seconds; the option is not used"),
            "write seconds, or a number with `s`, `m` or `h`; 0 is never",
        );
        None
    }

    /// Permission bits in octal.
    fn mode(&mut self, value: &BStr, span: Span) {
        let octal = value
            .to_str()
            .ok()
            .and_then(|text| u32::from_str_radix(text, 8).ok());
        match octal.filter(|mode| *mode <= 0o7777) {
            Some(mode) => self.options.mode = Some(mode),
            None => self.warn(
                "bad-mode",
                span,
                format!("`{value}` are no permission bits; the option is not used"),
                "write an octal number such as 0755",
            ),
        }
    }

    /// `NAME=value`.
    fn define(&mut self, value: &BStr, span: Span) {
        match value.split_once_str(b"=") {
            Some((name, value)) if !name.is_empty() => {
                self.options.defines.push((name.into(), value.into()));
            }
            _ => self.warn(
                "bad-define",
                span,
                format!("`{value}` defines no variable; the option is not used"),
                "write -DNAME=value",
            ),
        }
    }

    /// Patterns between colons.
    fn deny(&mut self, valued: Valued, value: &BStr, span: Span) {
        for pattern in value.split_str(b":") {
            if pattern.is_empty() {
                self.warn(
                    "empty-pattern",
                    span,
                    format!("a pattern of `{value}` is empty; it denies nothing"),
                    "write patterns between colons, as in `--deny-keys=.git:.Trash*`",
                );
                continue;
            }
            if valued == Valued::DenyComm && pattern.len() > COMM_BYTES && !pattern.contains(&b'*')
            {
                self.warn(
                    "long-program-name",
                    span,
                    format!(
                        "the kernel cuts names of programs to {COMM_BYTES} bytes; `{}` denies \
                         nothing",
                        pattern.as_bstr()
                    ),
                    "write the first 15 bytes, or a `*`",
                );
            }
            let deny = Arc::make_mut(&mut self.options.deny);
            match valued {
                Valued::DenyComm => deny.programs.push(pattern.into()),
                Valued::DenyCgroup => deny.cgroups.push(pattern.into()),
                _ => deny.keys.push(pattern.into()),
            }
        }
    }

    /// An option for mount.
    fn for_mount(&mut self, one: &Written) {
        let text = one.text.trim_start_with(|c| c == '-').as_bstr();
        // autofs takes these for options of its own, cannot read them and drops them.
        if text.starts_with(b"timeout=") || text.starts_with(b"negative-timeout=") {
            return self.warn(
                "timeout-without-hyphens",
                one.span,
                format!("`{text}` needs two hyphens; it is not used"),
                &format!("write `--{text}`"),
            );
        }
        if text.starts_with(b"deny-") {
            return self.warn(
                "unknown-filter",
                one.span,
                format!("`{}` is no filter; it is not used", one.text),
                "there are `--deny-keys=`, `--deny-comm=` and `--deny-cgroup=`",
            );
        }
        if one.text.starts_with(b"-O") {
            self.warn(
                "global-options",
                one.span,
                "`-O` belongs on the command line; here the word is handed to mount as it stands",
                "write the options for mount without `-O`",
            );
        } else if let Some(rest) = advice::after_odd_dash(&one.text) {
            let rest = rest.trim_start_with(|c| c == '-').as_bstr();
            self.warn(
                "unknown-option",
                one.span,
                format!(
                    "`{}` begins with a dash that is no hyphen; mount is given it",
                    one.text
                ),
                &match is_ours(rest) {
                    true => format!("write --{rest}"),
                    false => format!("write -{rest}"),
                },
            );
        } else if one.text.starts_with(b"--") {
            let help = match nearly_ours(text) {
                Some(ours) => format!("did you mean --{ours}?"),
                None => "options for mount are written without hyphens".into(),
            };
            self.warn(
                "unknown-option",
                one.span,
                format!(
                    "`{}` is no option of a mount point; mount is given `{text}`",
                    one.text
                ),
                &help,
            );
        } else {
            let name = text.split_str("=").next().unwrap_or_default();
            let ours = nearly_ours(text).map(BString::from);
            if let Some(meant) = ours.or_else(|| mount_options::meant_for_any(name)) {
                self.warn(
                    "misspelt-option",
                    one.span,
                    format!("the option `{text}` is handed to mount"),
                    &format!("did you mean {meant}?"),
                );
            }
        }
        self.options.mount.push(text.into());
    }
}

/// The option of a mount point that the name in `text` is a slip away from.
fn nearly_ours(text: &BStr) -> Option<&'static str> {
    const OTHERS: [&str; 8] = [
        "--timeout",
        "--negative-timeout",
        "--ghost",
        "--verbose",
        "--debug",
        "--deny-keys",
        "--deny-comm",
        "--deny-cgroup",
    ];
    let name = text.split_str("=").next().unwrap_or_default();
    let flags = FLAGS.iter().map(|(name, _)| *name);
    let names = flags.filter(|name| !name.starts_with('-')).chain(OTHERS);
    let near = suggest::nearest(
        name,
        names.map(|name| name.trim_start_matches('-').as_bytes()),
    )?;
    near.to_str().ok()
}

/// Returns true if and only if `text` is, or nearly is, an option of a mount point.
fn is_ours(text: &BStr) -> bool {
    let long = BString::from(format!("--{text}"));
    nearly_ours(text).is_some() || flag(text).is_some() || valued(long.as_ref()).is_some()
}

/// The flag that `text` is.
fn flag(text: &BStr) -> Option<Flag> {
    let bare = text
        .strip_prefix(b"--")
        .or_else(|| text.strip_prefix(b"-"))
        .unwrap_or(text);
    FLAGS
        .iter()
        .find(|(name, _)| match name.starts_with('-') {
            true => text == *name,
            false => bare == name.as_bytes(),
        })
        .map(|(_, flag)| *flag)
}

/// The option with a value that `text` begins with, and the value if it is attached.
fn valued(text: &BStr) -> Option<(Valued, Option<&BStr>)> {
    let long = [
        ("--timeout", Valued::Timeout),
        ("--negative-timeout", Valued::NegativeTimeout),
        ("--positive-timeout", Valued::PositiveTimeout),
        ("--mode", Valued::Mode),
        ("--define", Valued::Define),
        ("--deny-keys", Valued::DenyKeys),
        ("--deny-comm", Valued::DenyComm),
        ("--deny-cgroup", Valued::DenyCgroup),
    ];
    for (name, valued) in long {
        match text.strip_prefix(name.as_bytes()) {
            Some(b"") => return Some((valued, None)),
            Some(rest) if rest[0] == b'=' => return Some((valued, non_empty(&rest[1..]))),
            _ => {}
        }
    }
    let short = [(b"-t", Valued::Timeout), (b"-n", Valued::NegativeTimeout)];
    for (name, valued) in short {
        let Some(rest) = text.strip_prefix(name) else {
            continue;
        };
        let value = rest.strip_prefix(b"=").unwrap_or(rest);
        if rest.is_empty() || value.first().is_none_or(u8::is_ascii_digit) {
            return Some((valued, non_empty(value)));
        }
    }
    let define = text.strip_prefix(b"-D")?;
    Some((Valued::Define, non_empty(define)))
}

/// `value`, unless there is none.
fn non_empty(value: &[u8]) -> Option<&BStr> {
    (!value.is_empty()).then(|| value.as_bstr())
}

/// The value of an option that stands in the words after it: `--timeout 5`, `--timeout = 5`.
fn following<'w>(
    valued: Valued,
    one: &Written,
    after: &'w [Written],
) -> (Option<&'w BStr>, Span, &'w [Written]) {
    let after_sign = match after.first() {
        Some(sign) if sign.text == "=" => &after[1..],
        _ => after,
    };
    let Some(next) = after_sign.first().filter(|next| next.begins_word) else {
        return (None, one.span, after);
    };
    let value = next.text.strip_prefix(b"=").unwrap_or(&next.text).as_bstr();
    let fits = match valued {
        Valued::Define => value.contains(&b'='),
        // A pattern looks like any other word: it must be attached.
        Valued::DenyKeys | Valued::DenyComm | Valued::DenyCgroup => false,
        _ => value.first().is_some_and(u8::is_ascii_digit),
    };
    match fits {
        true => (Some(value), next.span, &after_sign[1..]),
        false => (None, one.span, after),
    }
}
