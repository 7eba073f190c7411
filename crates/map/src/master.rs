//! The master map: which map governs which mount point.
//!
//! Each logical line is an entry or an include; a line that cannot be read costs itself and
//! nothing else. Grammar (`GRAMMAR.md` has it with examples):
//!
//! ```text
//! entry    = mount-point maps options [comment]
//! include  = "+" map | "+dir:" directory
//! maps     = map | ["multi" ["," format] [":"]] map { "--" map }
//! map      = [type ["," format] (":" | blank)] name | "-hosts" | "-null" | "-passwd"
//! ```
//!
//! Which includes and which entries count, and which map a name means, is for those who can
//! read files to say.

mod words;

pub(crate) use self::words::{Word, WordByte};

use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;

use bstr::{BStr, BString, ByteSlice};

use self::words::words;
use crate::diagnostic::{Diagnostic, Severity};
use crate::dialect::Dialect;
use crate::key;
use crate::lines::{LineKind, Lines, LogicalLine};
use crate::lookup::{MapSpec, MapType};
use crate::master_options;
use crate::options::PointOptions;
use crate::spec::{self, SpecError};
use crate::text::{Fragment, Origin, Span};

/// What a master map's text says, line by line.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct MasterMap {
    /// Entries and includes, in reading order.
    pub items: Vec<MasterItem>,
    /// The dialect that a comment `# piton: dialect=NAME` asks for.
    pub dialect: Option<Dialect>,
}

/// One line of a master map.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum MasterItem {
    /// A mount point and its maps.
    Entry(MasterEntry),
    /// Read another master map here.
    Include(MasterInclude),
    /// Read all files `*.autofs` of a directory here.
    IncludeDirectory(MasterDirectory),
}

/// A mount point and its maps.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MasterEntry {
    /// Where.
    pub mount_point: MountPoint,
    /// The maps, in the order in which they are searched; at least one. A single map of type
    /// [`MapType::Null`] cancels an entry that comes later.
    pub maps: Vec<MapSpec>,
    /// What the line says about the mount point.
    pub options: PointOptions,
    /// The place of the mount point in the line.
    pub origin: Origin,
    /// The line.
    pub fragment: Fragment,
    /// The mount point in it.
    pub span: Span,
}

/// The first word of an entry.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum MountPoint {
    /// `/-`: keys are paths.
    Direct,
    /// A directory (normalised): keys are names in it.
    Path(BString),
}

/// A `+map` line.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MasterInclude {
    /// Which map.
    pub map: MapSpec,
    /// The line.
    pub fragment: Fragment,
    /// The map's name in it.
    pub span: Span,
}

/// A `+dir:` line.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MasterDirectory {
    /// The directory (normalised).
    pub path: BString,
    /// The line.
    pub fragment: Fragment,
    /// The directory's name in it.
    pub span: Span,
}

impl MasterEntry {
    /// Returns true if and only if the entry cancels a later one (`-null`).
    pub fn is_null(&self) -> bool {
        self.maps.iter().any(|map| map.kind == Some(MapType::Null))
    }
}

/// Reads the text of a master map. All dialects write it alike.
pub fn parse(text: &Fragment) -> (MasterMap, Vec<Diagnostic>) {
    parse_below(text, None)
}

/// The same, where relative mount points are below a directory: those of a user's own master map.
pub fn parse_below(text: &Fragment, below: Option<&BStr>) -> (MasterMap, Vec<Diagnostic>) {
    let mut master = MasterMap::default();
    let mut said = Vec::new();
    let mut carriage_return = false;
    let mut first_line = text.first_line;
    for line in Lines::new(&text.text) {
        let fragment = line.fragment(text, first_line);
        first_line += fragment.text.iter().filter(|byte| **byte == b'\n').count() as u32;
        if line.is_odd() {
            let before = said.len();
            line.diagnose(&fragment, &mut said);
            if carriage_return {
                let mut new = said.split_off(before);
                new.retain(|one: &Diagnostic| one.code != "carriage-return");
                said.append(&mut new);
            }
            carriage_return |= line.flaws.carriage_return;
        }
        match line.kind {
            LineKind::Blank => {}
            LineKind::Comment => comment(&fragment, &line, &mut master, &mut said),
            LineKind::Text => {
                let reader = Reader {
                    fragment: &fragment,
                    said: &mut said,
                    below,
                };
                master
                    .items
                    .extend(reader.line(line.relative(line.content)));
            }
        }
    }
    (master, said)
}

/// The dialect that a comment of `text` asks for, without reading the rest.
pub fn dialect_comment(text: &[u8]) -> Option<Dialect> {
    Lines::new(text)
        .filter(|line| line.kind == LineKind::Comment)
        .filter_map(|line| {
            asked_dialect(&text[line.content.start as usize..line.content.end as usize])
        })
        .find_map(|name| Dialect::named(name.to_str().ok()?))
}

/// The name in a comment `# piton: dialect=NAME`.
fn asked_dialect(comment: &[u8]) -> Option<&[u8]> {
    let blank = |c: char| c.is_ascii_whitespace();
    let rest = comment.trim_start_with(|c| c == '#').trim_with(blank);
    rest.strip_prefix(b"piton:")?
        .trim_start_with(blank)
        .strip_prefix(b"dialect=")
}

/// Reads a comment, which may name the dialect.
fn comment(
    fragment: &Fragment,
    line: &LogicalLine,
    master: &mut MasterMap,
    said: &mut Vec<Diagnostic>,
) {
    let span = line.relative(line.content);
    let Some(name) = asked_dialect(fragment.slice(span)) else {
        return;
    };
    match name.to_str().ok().and_then(Dialect::named) {
        Some(dialect) => master.dialect = master.dialect.take().or(Some(dialect)),
        None => said.push(
            Diagnostic::new(
                Severity::Error,
                "unknown-dialect",
                format!("there is no dialect `{}`", name.as_bstr()),
                fragment,
                span,
            )
            .help("the dialects are `sun`, `linux` and `older`"),
        ),
    }
}

/// Reads one line.
struct Reader<'l> {
    fragment: &'l Fragment,
    said: &'l mut Vec<Diagnostic>,
    /// Where relative mount points are.
    below: Option<&'l BStr>,
}

/// Marks that a line was reported and is not used.
struct Lost;

impl Reader<'_> {
    /// Reads an entry or include; `None` when it is lost.
    fn line(mut self, content: Span) -> Option<MasterItem> {
        let (words, comment) = words(self.fragment, content);
        if let Some(open) = words.iter().find_map(|word| word.open_quote) {
            self.error(
                "unterminated-quote",
                Span {
                    start: open,
                    end: open + 1,
                },
                "the quote is opened and never closed; this line is not used",
                "close the quote",
            );
            return None;
        }
        if let Some(comment) = comment {
            self.comment_after(comment);
        }
        let (first, rest) = words.split_first()?;
        let item = match first.written(self.fragment).strip_prefix(b"+") {
            Some(_) => self.include(first, rest),
            None => self.entry(first, rest).map(MasterItem::Entry),
        };
        item.ok()
    }

    /// Notes a comment that autofs would read as options.
    fn comment_after(&mut self, span: Span) {
        self.said.push(
            Diagnostic::new(
                Severity::Note,
                "comment-after-entry",
                "autofs reads a comment after an entry of the master map as mount options",
                self.fragment,
                span,
            )
            .help("put the comment on a line of its own if autofs reads this file too"),
        );
    }

    /// Reports an error.
    fn error(&mut self, code: &'static str, span: Span, message: impl Into<String>, help: &str) {
        let one = Diagnostic::new(Severity::Error, code, message, self.fragment, span);
        self.said.push(one.help(help));
    }

    /// Reports that a word does not name a map.
    fn bad_spec(&mut self, span: Span, error: SpecError) -> Lost {
        self.error(error.code, span, error.message, &error.help);
        Lost
    }

    /// Reads `+map` or `+dir:path`.
    fn include(&mut self, first: &Word, rest: &[Word]) -> Result<MasterItem, Lost> {
        let span = Span {
            start: first.span.start + 1,
            end: first.span.end,
        };
        let name = self.fragment.slice(span);
        if name.is_empty() {
            self.error(
                "include-without-map",
                first.span,
                "no map is named after the `+`",
                "write the name directly after the `+`, without a blank",
            );
            return Err(Lost);
        }
        if let Some(extra) = rest.first() {
            let one = Diagnostic::new(
                Severity::Warning,
                "include-options",
                "options of an include are not used",
                self.fragment,
                extra.span,
            );
            self.said
                .push(one.help("write options at the entries of the included map"));
        }
        if let Some(path) = name.strip_prefix(b"dir:") {
            return self.directory(span, path);
        }
        let origin = Some(self.fragment.origin(span));
        let map = spec::parse(name, origin).map_err(|error| self.bad_spec(span, error))?;
        let fragment = self.fragment.clone();
        Ok(MasterItem::Include(MasterInclude {
            map,
            fragment,
            span,
        }))
    }

    /// Reads the path of `+dir:path`.
    fn directory(&mut self, span: Span, path: &[u8]) -> Result<MasterItem, Lost> {
        let path = key::unquote(path);
        if !path.starts_with(b"/") {
            self.error(
                "relative-include-directory",
                span,
                format!("`{path}` is not an absolute path"),
                "write the directory's absolute path, as in `+dir:/etc/auto.master.d`",
            );
            return Err(Lost);
        }
        let path = piton_path::normalize(&path).into_owned();
        let fragment = self.fragment.clone();
        Ok(MasterItem::IncludeDirectory(MasterDirectory {
            path,
            fragment,
            span,
        }))
    }

    /// Reads an entry.
    fn entry(&mut self, first: &Word, rest: &[Word]) -> Result<MasterEntry, Lost> {
        let mount_point = self.mount_point(first)?;
        if rest.is_empty() {
            self.error(
                "entry-without-map",
                first.span,
                "the mount point has no map",
                "name its map, as in `/home auto.home`",
            );
            return Err(Lost);
        }
        let (maps, rest) = self.maps(rest)?;
        let options = master_options::parse(&rest, self.fragment, self.said);
        let fragment = self.fragment.clone();
        let origin = fragment.origin(first.span);
        Ok(MasterEntry {
            mount_point,
            maps,
            options,
            origin,
            fragment,
            span: first.span,
        })
    }

    /// Reads the first word of an entry.
    fn mount_point(&mut self, word: &Word) -> Result<MountPoint, Lost> {
        let mut path = word.text();
        if path == "/-" {
            return Ok(MountPoint::Direct);
        }
        if let Some(below) = self.below.filter(|_| !path.starts_with(b"/")) {
            path = bstr::join("/", [below.as_bytes(), path.as_bytes()]).into();
        }
        if word.quoted {
            self.error(
                "quoted-mount-point",
                word.span,
                "a mount point cannot be quoted",
                "write a backslash before each blank of the path",
            );
            return Err(Lost);
        }
        if is_dash_lookalike(path.strip_prefix(b"/").unwrap_or(&path)) {
            self.error(
                "dash-lookalike",
                word.span,
                format!("`{path}` is not `/-`: the dash is another character that looks like it"),
                "did you mean `/-`, a slash and a hyphen, for a direct map?",
            );
            return Err(Lost);
        }
        let clean = piton_path::normalize(&path);
        if let Some(reason) = key::bad_path(&clean) {
            self.error(
                "bad-mount-point",
                word.span,
                format!("`{path}` cannot be a mount point: {reason}"),
                "a line is `/mount/point map options`, with `/-` as mount point of direct maps",
            );
            return Err(Lost);
        }
        if piton_path::has_dot_dot(&path) {
            let message = format!("the mount point is read as `{clean}`");
            let one = Diagnostic::new(
                Severity::Warning,
                "dot-dot-in-path",
                message,
                self.fragment,
                word.span,
            );
            self.said.push(one.help(
                "write the path without `..`; behind a symbolic link it may mean another place",
            ));
        }
        Ok(MountPoint::Path(clean.into_owned()))
    }

    /// Reads the maps of an entry; also returns the other words, its options. They are for all of
    /// the maps, wherever they stand.
    fn maps(&mut self, words: &[Word]) -> Result<(Vec<MapSpec>, Vec<Word>), Lost> {
        let mut rest = words;
        let mut attached = None;
        if let Some(after) = self.multi(&words[0]) {
            match after {
                Some(span) => attached = Some(span),
                None => rest = &words[1..],
            }
        }
        let (mut maps, mut options) = (Vec::new(), Vec::new());
        loop {
            let (map, after) = self.map(rest, attached.take())?;
            maps.push(map);
            let next = after
                .iter()
                .position(|word| word.is_plain(self.fragment, "--"));
            options.extend_from_slice(&after[..next.unwrap_or(after.len())]);
            match next {
                Some(next) => rest = &after[next + 1..],
                None => return Ok((maps, options)),
            }
        }
    }

    /// Whether `word` is `multi`, and what of it names the first map (`multi:map`).
    fn multi(&self, word: &Word) -> Option<Option<Span>> {
        let written = word.written(self.fragment);
        let rest = written.strip_prefix(b"multi")?;
        let rest = rest.strip_prefix(b",sun").unwrap_or(rest);
        let rest = rest.strip_prefix(b",hesiod").unwrap_or(rest);
        match rest {
            b"" | b":" => Some(None),
            other => other.strip_prefix(b":").map(|name| {
                Some(Span {
                    start: word.span.end - name.len() as u32,
                    end: word.span.end,
                })
            }),
        }
    }

    /// Reads one map: `name`, `type:name` or `type name`. `attached` is the name where it
    /// stands in the first word after something else.
    fn map<'w>(
        &mut self,
        words: &'w [Word],
        attached: Option<Span>,
    ) -> Result<(MapSpec, &'w [Word]), Lost> {
        let Some((first, rest)) = words.split_first() else {
            let end = self
                .fragment
                .text
                .trim_end_with(|c| c.is_ascii_whitespace())
                .len();
            self.error(
                "map-without-name",
                Span::new(end.saturating_sub(2), end),
                "no map is named after `--` or `multi`",
                "name a map, or remove the word",
            );
            return Err(Lost);
        };
        let span = attached.unwrap_or(first.span);
        let name = self.fragment.slice(span);
        let origin = Some(self.fragment.origin(span));
        let typed = name
            .to_str()
            .ok()
            .and_then(|word| spec::type_and_format(word).ok());
        match (typed, rest.split_first()) {
            (Some((kind @ (MapType::Hosts | MapType::Null | MapType::Passwd), format)), _) => {
                Ok((spec::spec(Some(kind), format, name, origin), rest))
            }
            (Some((kind, format)), Some((second, rest))) => {
                let name = self.fragment.slice(second.span);
                let origin = Some(self.fragment.origin(second.span));
                Ok((spec::spec(Some(kind), format, name, origin), rest))
            }
            _ => match spec::parse(name, origin) {
                Ok(map) => self.checked(span, map).map(|map| (map, rest)),
                Err(error) => Err(self.bad_spec(span, error)),
            },
        }
    }

    /// Refuses names that no source can find: with a slash, but not from the root.
    fn checked(&mut self, span: Span, map: MapSpec) -> Result<MapSpec, Lost> {
        let from_file = matches!(map.kind, None | Some(MapType::File | MapType::Program));
        if from_file && map.name.contains(&b'/') && !map.name.starts_with(b"/") {
            let help = match map.name.contains_str(":/") {
                true => {
                    "a location stands in a map: name a direct map here with `/-`, and in it write \
                         this line"
                }
                false => {
                    "write the absolute path, or only a name to look for through nsswitch.conf"
                }
            };
            self.error(
                "relative-map-path",
                span,
                format!("`{}` is neither a name nor an absolute path", map.name),
                help,
            );
            return Err(Lost);
        }
        Ok(map)
    }
}

/// Returns true if and only if `text` is one of the characters that word processors and web
/// pages put for a hyphen (R-316).
fn is_dash_lookalike(text: &[u8]) -> bool {
    let mut characters = text.chars();
    let first = characters.next();
    let dash = matches!(
        first,
        Some(
            '\u{ad}' | '\u{2010}'..='\u{2015}' | '\u{2212}' | '\u{fe58}' | '\u{fe63}' | '\u{ff0d}'
        )
    );
    dash && characters.next().is_none()
}

#[cfg(test)]
mod tests;
