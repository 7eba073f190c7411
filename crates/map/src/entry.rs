//! An entry, checked and expanded: what a key stands for, before anything is known of the host.

use alloc::collections::BTreeMap;
use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;

use bstr::{BStr, BString, ByteSlice};
use piton_snapshot::Settings;

use crate::diagnostic::{Diagnostic, Severity};
use crate::dialect::Dialect;
use crate::expand::{Replacement, Variables, expand};
use crate::findings::Findings;
use crate::fstype::{Family, SNAPSHOT};
use crate::key::KEY_LIMIT;
use crate::lexer;
use crate::limits::HOSTS_MAP;
use crate::location::{self, Colons, Server};
use crate::lookup::{Found, MapSpec};
use crate::mount_options::{Merging, OptionWord, Settled, means_nothing_to_bind, merge, settle};
use crate::options::{PointOptions, Propagation, Selection};
use crate::parser::parse;
use crate::syntax::{EntrySyntax, MountSyntax, OptionSyntax};
use crate::text::Span;
use crate::token::{Word, plain};

/// What is needed to read an entry.
#[derive(Clone, Copy)]
pub struct EntryRequest<'a> {
    /// The line that a look-up found.
    pub found: &'a Found,
    /// The key that was asked for: what `&` stands for.
    pub key: &'a BStr,
    /// What `$NAME` stands for.
    pub variables: &'a dyn Variables,
    /// Options of the map's mount point.
    pub point: &'a PointOptions,
    /// Options for every map (`-O`).
    pub global: &'a [BString],
    /// Whether the entry's options come after those of the map instead of replacing them; the
    /// dialect can only say no.
    pub append: bool,
    /// The rules in force.
    pub dialect: &'a Dialect,
}

/// What came of reading an entry.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Reading {
    /// The entry; `None`: it cannot be used, and the diagnostics say why.
    pub entry: Option<Entry>,
    /// Everything that is wrong or odd.
    pub diagnostics: Vec<Diagnostic>,
    /// What stood for variables and `&`.
    pub replacements: Vec<Replacement>,
}

/// What a key stands for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// Its mounts in the order written; no two of the same offset, at least one.
    pub mounts: Vec<Mount>,
    /// Whether one failing offset fails the entry.
    pub strict: bool,
    /// Seconds of idleness after which the entry's mounts go, where it says so; 0 is never.
    pub timeout: Option<u32>,
}

/// One mount of an entry.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mount {
    /// Where, below the key's directory: `/` is that directory itself, `/a/b` is below it. No
    /// doubled slashes, no final one, no `.` or `..`.
    pub offset: BString,
    /// What.
    pub what: What,
    /// Options for mount: merged, in order, without the automounter's own. For a submount,
    /// those that its own entries begin with.
    pub options: Vec<BString>,
    /// Never bind-mount a local server's path.
    pub nobind: bool,
    /// Symbolic links in place of bind mounts.
    pub symlink: bool,
    /// Ranking of the servers.
    pub selection: Selection,
    /// Propagation of a bind mount.
    pub propagation: Propagation,
    /// mount(8) mounts it, even where Piton could by itself.
    pub by_helper: bool,
    /// Where it was written.
    pub span: Span,
}

/// What is mounted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum What {
    /// A path of one of several servers, or of this host.
    Servers {
        /// `nfs` or `nfs4`.
        fstype: BString,
        /// The servers in the order written; at least one.
        servers: Vec<Server>,
    },
    /// A directory or file of this host.
    Bind {
        /// Whether mounts below it come along.
        recursive: bool,
        /// Its path.
        source: BString,
    },
    /// A symbolic link (type afs).
    Link {
        /// What it points to.
        to: BString,
    },
    /// Anything else, handed to mount as it is.
    Source {
        /// The type; empty when it was written so.
        fstype: BString,
        /// The source.
        source: BString,
    },
    /// Another map begins here.
    Map {
        /// The map.
        map: MapSpec,
        /// The options of its mount point.
        point: PointOptions,
    },
}

/// Reads an entry.
pub fn read(request: &EntryRequest) -> Reading {
    let mut findings = Findings::new(&request.found.fragment);
    let mut reading = Reading::default();
    let expanded = expand(request.found, request.key, request.variables, &mut findings);
    if let Some(expanded) = expanded {
        let tokens = lexer::tokens(&expanded.bytes, request.dialect, &mut findings);
        let syntax = tokens.and_then(|tokens| parse(tokens, &mut findings));
        reading.entry =
            syntax.and_then(|syntax| Checker::new(request, &mut findings).entry(&syntax));
        reading.replacements = expanded.replacements;
    }
    reading.diagnostics = findings.into_vec();
    reading
}

/// Turns the syntax of one entry into its meaning.
struct Checker<'c, 'f> {
    request: &'c EntryRequest<'c>,
    findings: &'c mut Findings<'f>,
    global: Vec<OptionWord>,
    master: Vec<OptionWord>,
    entry: Vec<OptionWord>,
    merging: Merging,
    /// What holds for a mount without options of its own: what a server exports is thousands of them.
    whole: Option<Settled>,
}

impl<'c, 'f> Checker<'c, 'f> {
    fn new(request: &'c EntryRequest<'c>, findings: &'c mut Findings<'f>) -> Self {
        let outer = |words: &[BString]| {
            words
                .iter()
                .map(|word| OptionWord::outer(word.as_ref()))
                .collect()
        };
        Self {
            request,
            findings,
            global: outer(request.global),
            master: outer(&request.point.mount),
            entry: Vec::new(),
            // What a server exports is no level that an administrator has written.
            merging: match is_exports(request.found) {
                true => Merging::Append,
                false => Merging::new(request.dialect, request.append),
            },
            whole: None,
        }
    }

    fn entry(&mut self, syntax: &EntrySyntax) -> Option<Entry> {
        self.entry = written(&syntax.options);
        if syntax.mounts.is_empty() {
            return self.without_location(syntax);
        }
        let whole = self.settle(&[])?;
        self.whole = Some(whole.clone());
        let mut mounts = Vec::with_capacity(syntax.mounts.len());
        for mount in &syntax.mounts {
            mounts.push(self.mount(mount)?);
        }
        let mounts = self.without_duplicates(mounts);
        Some(self.finish(mounts, &whole))
    }

    fn finish(&self, mounts: Vec<Mount>, whole: &Settled) -> Entry {
        Entry {
            mounts,
            strict: whole.strict.unwrap_or(self.request.point.strict),
            timeout: whole.timeout,
        }
    }

    /// An entry of options only: `-fstype=autofs -hosts`, or a mistake.
    fn without_location(&mut self, syntax: &EntrySyntax) -> Option<Entry> {
        let found = self.request.found;
        let span = match (syntax.options.first(), syntax.options.last()) {
            (Some(first), Some(last)) => Span {
                start: first.span.start,
                end: last.span.end,
            },
            _ => Span {
                end: found.key.end.max(found.value.start),
                ..found.key
            },
        };
        if !syntax.options.is_empty() {
            let whole = self.settle(&[])?;
            if whole.family == Family::Map && whole.hosts {
                let mount = self.hosts(&whole, span);
                return Some(self.finish(alloc::vec![mount], &whole));
            }
        }
        let last = syntax.options.last().map(|last| plain(&last.bytes));
        let glued = |text: &BString| text.contains_str(":/") || !text.contains(&b'=');
        let help = match last
            .filter(|text| text.contains(&b':'))
            .is_some_and(|text| glued(&text))
        {
            true => "a blank is missing before the location, as in -ro srv:/path",
            false => "write host:/path after it, or :/path for this host",
        };
        self.missing_location(span, help);
        None
    }

    fn missing_location(&mut self, span: Span, help: &str) {
        self.findings
            .error("missing-location", "there is no location", span, help);
    }

    /// A submount of the map `-hosts`.
    fn hosts(&mut self, settled: &Settled, span: Span) -> Mount {
        let map = MapSpec {
            kind: Some(crate::lookup::MapType::Hosts),
            format: None,
            name: "-hosts".into(),
            arguments: Vec::new(),
            origin: Some(self.findings.fragment().origin(span)),
        };
        let point = settled.point(self.request.point);
        self.shape(BString::from("/"), What::Map { map, point }, settled, span)
    }

    /// Merges and reads the options of one mount.
    fn settle(&mut self, own: &[OptionWord]) -> Option<Settled> {
        let outer = [&self.global[..], &self.master, &self.entry];
        let words = merge(&outer, own, self.merging);
        settle(&words, self.request.dialect, self.findings)
    }

    fn mount(&mut self, syntax: &MountSyntax) -> Option<Mount> {
        let offset = match &syntax.offset {
            Some(word) => self.offset(word)?,
            None => "/".into(),
        };
        let own = written(&syntax.options);
        let whole = self.whole.as_ref().filter(|_| own.is_empty());
        let mut settled = match whole {
            Some(whole) => whole.clone(),
            None => self.settle(&own)?,
        };
        if syntax.locations.is_empty() {
            let word = syntax.offset.as_ref().map(Word::plain);
            let help = match word.filter(|word| *word != "/") {
                Some(word) if word.starts_with(b"//") => {
                    format!("a share is written with a colon before it: :{word}")
                }
                Some(word) => format!(
                    "{word} is taken for an offset, which needs a location; for {word} of this \
                     host write :{word}"
                ),
                None => "an offset is followed by its location, as in / host:/path".into(),
            };
            self.missing_location(syntax.span, &help);
            return None;
        }
        let what = self.what(&settled, &own, syntax)?;
        if is_exports(self.request.found) && !matches!(what, What::Map { .. }) {
            distrust(&mut settled.options);
        }
        Some(self.shape(offset, what, &settled, syntax.span))
    }

    fn shape(&self, offset: BString, what: What, settled: &Settled, span: Span) -> Mount {
        let point = self.request.point;
        Mount {
            offset,
            what,
            options: settled.options.clone(),
            nobind: settled.nobind || point.nobind,
            symlink: settled.symlink || point.symlink,
            selection: settled.selection.unwrap_or(point.selection),
            propagation: settled.propagation.unwrap_or(point.propagation),
            by_helper: settled.by_helper,
            span,
        }
    }

    /// What is handed to mount as it stands. Next to offsets a further word with a colon is
    /// rather an offset that lacks its slash.
    fn source(&mut self, syntax: &MountSyntax, colons: Colons) -> Option<BString> {
        let words = &syntax.locations[..];
        let has_colon = |word: &Word| word.bytes.iter().any(|byte| byte.is_mark(b':'));
        let further = words.get(1..).unwrap_or_default();
        if syntax.offset.is_some() && further.iter().any(has_colon) {
            let message = "there is a word after the location that is no offset";
            let help = "an offset begins with a slash; quote a source that has blanks in it";
            let span = further[0].span;
            self.findings.error("unexpected-word", message, span, help);
            return None;
        }
        location::source(words, colons, self.findings)
    }

    fn what(
        &mut self,
        settled: &Settled,
        own: &[OptionWord],
        syntax: &MountSyntax,
    ) -> Option<What> {
        let words = &syntax.locations[..];
        let colons = Colons::new(self.request.point.slashify_colons, self.request.dialect);
        let fstype = settled.fstype.clone();
        Some(match settled.family {
            Family::Nfs => {
                let servers = location::locations(words, colons, self.findings)?;
                What::Servers { fstype, servers }
            }
            Family::Bind { recursive } => {
                let source = self.source(syntax, colons)?;
                What::Bind {
                    recursive,
                    source: self.local(source, words)?,
                }
            }
            Family::Link => {
                let to = self.source(syntax, colons)?;
                What::Link {
                    to: self.local(to, words)?,
                }
            }
            Family::Other => {
                let source = self.source(syntax, colons)?;
                if fstype == SNAPSHOT {
                    self.snapshot(settled, own, source.as_bstr(), words)?;
                }
                What::Source { fstype, source }
            }
            Family::Map => {
                let map = location::map(words, self.findings)?;
                What::Map {
                    map,
                    point: self.submount(own)?,
                }
            }
        })
    }

    /// Refuses a snapshot that could not be taken, at the word that is wrong.
    fn snapshot(
        &mut self,
        settled: &Settled,
        own: &[OptionWord],
        source: &BStr,
        words: &[Word],
    ) -> Option<()> {
        let all = [&self.entry[..], own].concat();
        let written = |option: &BString| all.iter().rev().find(|word| word.text == *option)?.span;
        let problem = match Settings::read(&settled.options, source) {
            Ok(settings) => {
                let kind = settings.origin().kind();
                for option in settings.mount.iter().filter(|_| kind.is_bound()) {
                    let Some(span) = written(option) else {
                        continue;
                    };
                    if means_nothing_to_bind(option.as_bstr(), settled) {
                        let message = format!(
                            "`{option}` means nothing to {kind}, whose snapshots are bind mounts"
                        );
                        self.findings
                            .warn("unknown-snapshot-option", message, span, "remove it");
                    }
                }
                return Some(());
            }
            Err(problem) => problem,
        };
        let invalid = problem.invalid;
        let wrong = problem.option.and_then(|place| settled.options.get(place));
        let location = words.first().map(|word| word.span).unwrap_or_default();
        let span = wrong.and_then(written).unwrap_or(location);
        self.findings
            .error(invalid.code, invalid.message, span, &invalid.help);
        None
    }

    /// The options of a submount's point. Those of the command line are left out: they come
    /// again when an entry of the submount is read.
    fn submount(&mut self, own: &[OptionWord]) -> Option<PointOptions> {
        if is_exports(self.request.found) {
            // Another directory of the same server: nobody has written an entry for it, and all that
            // its map says holds for it too.
            return Some(PointOptions {
                browse: Some(true),
                mode: None,
                ..self.request.point.clone()
            });
        }
        let words = merge(&[&self.master, &self.entry], own, self.merging);
        // What there is to say about the words was said when all levels were settled.
        let mut silent = Findings::new(self.findings.fragment());
        let settled = settle(&words, self.request.dialect, &mut silent)?;
        Some(settled.point(self.request.point))
    }

    /// A path of this host.
    fn local(&mut self, source: BString, words: &[Word]) -> Option<BString> {
        let span = words.first().map(|word| word.span).unwrap_or_default();
        if source.is_empty() || (!source.starts_with(b"/") && source.contains(&b':')) {
            let message = format!("`{source}` is no directory of this host");
            self.findings
                .error("not-a-local-path", message, span, "write :/path");
            return None;
        }
        if !source.starts_with(b"/") {
            let message = "the path is relative to the automounter's own directory, the root";
            self.findings
                .warn("relative-source", message, span, "begin it with a slash");
        }
        Some(source)
    }

    /// A path below the key's directory.
    fn offset(&mut self, word: &Word) -> Option<BString> {
        let mut offset = Vec::new();
        for part in word.plain().split_str("/").filter(|part| !part.is_empty()) {
            let wrong = match part {
                b"." | b".." => Some("has a component `.` or `..`"),
                long if long.len() > KEY_LIMIT => Some("has a component of more than 255 bytes"),
                other if other.iter().any(u8::is_ascii_control) => Some("has a control character"),
                _ => None,
            };
            if let Some(wrong) = wrong {
                let message = format!("the offset {wrong}");
                let help = "an offset is a path below the key's directory, such as /bin";
                self.findings.error("bad-offset", message, word.span, help);
                return None;
            }
            offset.push(b'/');
            offset.extend_from_slice(part);
        }
        if offset.is_empty() {
            offset.push(b'/');
        }
        Some(offset.into())
    }

    /// Of the same offset twice the last counts.
    fn without_duplicates(&mut self, mounts: Vec<Mount>) -> Vec<Mount> {
        let mut last: BTreeMap<&BStr, &Mount> = BTreeMap::new();
        for mount in &mounts {
            if let Some(earlier) = last.insert(mount.offset.as_ref(), mount) {
                self.duplicate(earlier, mount);
            }
        }
        if last.len() == mounts.len() {
            return mounts;
        }
        let counts = |mount: &&Mount| core::ptr::eq(last[mount.offset.as_bstr()], *mount);
        mounts.iter().filter(counts).cloned().collect()
    }

    fn duplicate(&mut self, earlier: &Mount, mount: &Mount) {
        let message = format!(
            "the offset {} is given twice; the last counts",
            mount.offset
        );
        let finding = self
            .findings
            .add(Severity::Warning, "duplicate-offset", message, mount.span);
        if let Some(finding) = finding {
            finding
                .related
                .push((earlier.span, String::from("given first here")));
            finding.help = Some("remove one of them".into());
        }
    }
}

/// Whether a server's exports are read, and no entry that somebody has written.
fn is_exports(found: &Found) -> bool {
    *found.map == *HOSTS_MAP
}

/// Any server that somebody names is mounted by `-hosts`, so that its files are not trusted unless
/// the map says so. autofs leaves them out too when a word only contains `suid` or `dev`.
fn distrust(options: &mut Vec<BString>) {
    for (word, careful) in [("suid", "nosuid"), ("dev", "nodev")] {
        if !options.iter().any(|it| it == word || it == careful) {
            options.push(careful.into());
        }
    }
}

fn written(options: &[OptionSyntax]) -> Vec<OptionWord> {
    options.iter().map(OptionWord::written).collect()
}

#[cfg(test)]
mod tests {
    use alloc::string::ToString;

    use super::*;
    use crate::lookup::Matched;
    use crate::text::Fragment;

    fn reading_in(value: &str, point: &PointOptions, append: bool) -> Reading {
        let text = alloc::format!("key {value}");
        let found = Found {
            fragment: Fragment::whole("/etc/auto.m", text.as_str()),
            key: Span::new(0, 3),
            value: Span::new(4, text.len()),
            matched: Matched::Exact,
            map: "/etc/auto.m".into(),
            via: Vec::new(),
        };
        read(&EntryRequest {
            found: &found,
            key: "key".into(),
            variables: &(),
            point,
            global: &["g".into()],
            append,
            dialect: &Dialect::LINUX,
        })
    }

    fn reading(value: &str) -> Reading {
        reading_in(value, &PointOptions::default(), true)
    }

    /// The entry as text, or the code of the error.
    fn text(value: &str) -> Result<String, &'static str> {
        let reading = reading(value);
        let error = reading
            .diagnostics
            .iter()
            .find(|finding| finding.severity == Severity::Error);
        match (reading.entry, error) {
            (Some(entry), None) => Ok(entry.to_string()),
            (None, Some(error)) => Err(error.code),
            other => panic!("{value}: {other:?}"),
        }
    }

    #[test]
    fn entries_of_every_kind() {
        for (value, expected) in [
            ("srv:/a", "-g srv:/a"),
            (
                "-fstype=nfs4,ro a,b(2):/x",
                "-fstype=nfs4,g,ro a:/x b(2):/x",
            ),
            ("[fd00::1]:/x", "-g [fd00::1]:/x"),
            ("-fstype=bind,private :/srv", "-fstype=bind,private,g :/srv"),
            ("-fstype=afs :/afs/x", "-fstype=afs,g :/afs/x"),
            ("-fstype=ext4 :/dev/sdb", "-fstype=ext4,g :/dev/sdb"),
            ("-fstype= :x", "-fstype=,g :x"),
            (
                "-fstype=snapshot,provider=lvm,keep=3 :storage/data",
                "-fstype=snapshot,g,provider=lvm,keep=3 :storage/data",
            ),
            (
                "-strict,timeout=5m / :/a /b -x :/c",
                "-strict,timeout=300 / -g :/a /b -g,x :/c",
            ),
            (":/a /b:c :/d", "/ -g :/a \"/b:c\" -g :/d"),
            (
                "-fstype=autofs file:/etc/x \"\" y",
                "-fstype=autofs,g :file:/etc/x \"\" y",
            ),
            (
                "-fstype=autofs,ro file:/etc/x y",
                "-fstype=autofs,g,ro :file:/etc/x y",
            ),
            (
                "-fstype=autofs,strict / :x /y :/y",
                "-strict / -fstype=autofs,strict,g :x /y -fstype=autofs,strict,g :/y",
            ),
            (
                "/src -fstype=autofs,timeout=5 :x",
                "/src -fstype=autofs,timeout=5,g :x",
            ),
            (
                "-fstype=autofs,timeout=5 / -timeout=7 :x /y :y",
                "-timeout=5 / -fstype=autofs,timeout=7,g :x /y -fstype=autofs,g :y",
            ),
            (
                "-timeout=5 / -fstype=autofs,timeout=7 :x",
                "-timeout=5 / -fstype=autofs,timeout=7,g :x",
            ),
            (
                "-fstype=autofs,browse,strictexpire,-DA=1 :x",
                "-fstype=autofs,browse,strictexpire,-DA=1,g :x",
            ),
            (
                "-nobind,symlink,use-weight-only s:/a t:/b",
                "-nobind,symlink,use-weight-only,g s:/a t:/b",
            ),
        ] {
            assert_eq!(text(value).as_deref(), Ok(expected), "{value}");
        }
    }

    #[test]
    fn what_cannot_be_used() {
        for (value, code) in [
            ("", "missing-location"),
            ("-ro", "missing-location"),
            ("/a", "missing-location"),
            (":/a /b", "missing-location"),
            ("/a -ro /b :/b", "missing-location"),
            ("-fstype=bind srv:/a", "not-a-local-path"),
            ("-fstype=bind :", "not-a-local-path"),
            ("/../x :/a", "bad-offset"),
            ("/a/./b :/a", "bad-offset"),
            ("\"/a\tb\" :/a", "bad-offset"),
            (":/a /x/.. :/b", "bad-offset"),
            ("-fstype=tmpfs / :/o x :/ox", "unexpected-word"),
            ("-fstype=../x :/a", "bad-fstype"),
            ("-fstype=a;b :/a", "bad-fstype"),
            ("-fstype=ext4 ':/a b'", "single-quote"),
            ("/a -fstype=a/b :/a", "bad-fstype"),
            ("-fstype=autofs nfs:x", "unknown-map-type"),
            (":/a \"b", "unterminated-quote"),
        ] {
            assert_eq!(text(value), Err(code), "{value}");
        }
        let longest = "x".repeat(KEY_LIMIT);
        assert!(text(&format!("/{longest} :/a")).is_ok());
        assert_eq!(text(&format!("/{longest}x :/a")), Err("bad-offset"));
    }

    #[test]
    fn offsets_are_cleaned_and_the_last_of_two_counts() {
        let reading = reading("//x//y/ :/1 / :/2 /x/y :/3 // :/4");
        let entry = reading.entry.unwrap();
        let offsets: Vec<_> = entry
            .mounts
            .iter()
            .map(|mount| mount.offset.to_string())
            .collect();
        assert_eq!(offsets, ["/x/y", "/"]);
        assert_eq!(reading.diagnostics.len(), 2);
        assert_eq!(reading.diagnostics[0].code, "duplicate-offset");
        assert_eq!(reading.diagnostics[0].related.len(), 1);
        let What::Servers { servers, .. } = &entry.mounts[0].what else {
            panic!("{entry}")
        };
        assert_eq!(servers[0].path, "/3");
    }

    #[test]
    fn the_point_is_the_default_of_its_entries() {
        let point = PointOptions {
            nobind: true,
            strict: true,
            selection: Selection::Random,
            propagation: Propagation::Shared,
            mount: alloc::vec!["m".into(), "fstype=fake".into()],
            ..PointOptions::default()
        };
        let entry = reading_in(":/a", &point, true).entry.unwrap();
        assert!(entry.strict && entry.mounts[0].nobind);
        assert_eq!(entry.mounts[0].selection, Selection::Random);
        assert_eq!(entry.mounts[0].propagation, Propagation::Shared);
        assert_eq!(entry.mounts[0].options, ["g", "m"]);
        assert!(matches!(&entry.mounts[0].what, What::Source { fstype, .. } if fstype == "fake"));
        let alone = reading_in("-nonstrict,x srv:/a", &point, false)
            .entry
            .unwrap();
        assert!(!alone.strict);
        assert_eq!(alone.mounts[0].options, ["x"]);
    }

    #[test]
    fn a_submount_hands_the_maps_options_on() {
        let point = PointOptions {
            mount: alloc::vec!["m".into()],
            ..PointOptions::default()
        };
        let reading = reading_in("-fstype=autofs,ro,timeout=7 auto.sub", &point, true);
        let What::Map { map, point } = &reading.entry.unwrap().mounts[0].what else {
            panic!()
        };
        assert_eq!(map.name, "auto.sub");
        assert_eq!(map.origin.as_ref().unwrap().to_string(), "/etc/auto.m:1:33");
        // Those of the command line come again with each entry of the submount.
        assert_eq!(point.mount, ["m", "ro"]);
        assert_eq!(point.timeout, Some(7));
    }

    #[test]
    fn all_exports_below_a_key() {
        let entry = reading("-fstype=autofs -hosts").entry.unwrap();
        let What::Map { map, .. } = &entry.mounts[0].what else {
            panic!()
        };
        assert_eq!(map.kind, Some(crate::lookup::MapType::Hosts));
        assert_eq!(reading("-hosts").entry, None);
    }

    /// What `-hosts` makes of `value`, in a map with these options.
    fn exports(value: &str, options: &[&str], dialect: &Dialect) -> Entry {
        let found = Found {
            fragment: Fragment::whole("exports of srv", value),
            key: Span::default(),
            value: Span::new(0, value.len()),
            matched: Matched::Exact,
            map: HOSTS_MAP.into(),
            via: Vec::new(),
        };
        let point = PointOptions {
            mount: options.iter().map(|word| BString::from(*word)).collect(),
            ..PointOptions::default()
        };
        let reading = read(&EntryRequest {
            found: &found,
            key: "srv".into(),
            variables: &(),
            point: &point,
            global: &[],
            append: true,
            dialect,
        });
        reading.entry.unwrap()
    }

    #[test]
    fn exports_are_not_trusted_unless_the_map_says_so() {
        for (options, expected) in [
            (&[][..], &["nosuid", "nodev"][..]),
            (&["soft", "nosuid", "nodev"], &["soft", "nosuid", "nodev"]),
            (&["suid"], &["suid", "nodev"]),
            (&["suid", "dev", "hard"], &["suid", "dev", "hard"]),
            // What autofs takes for `suid` and `dev`.
            (
                &["context=devil_suid_t"],
                &["context=devil_suid_t", "nosuid", "nodev"],
            ),
        ] {
            for dialect in [&Dialect::LINUX, &Dialect::SUN] {
                let entry = exports("/ srv:/ /a srv:/a", options, dialect);
                for mount in &entry.mounts {
                    assert_eq!(mount.options, expected, "{dialect:?}");
                }
            }
        }
    }

    #[test]
    fn a_directory_of_exports_has_all_that_its_map_says() {
        let text = "-fstype=autofs hosts:srv/a%20b";
        for dialect in [&Dialect::LINUX, &Dialect::SUN] {
            let entry = exports(text, &["fstype=nfs4", "soft"], dialect);
            let What::Map { map, point } = &entry.mounts[0].what else {
                panic!("{entry}")
            };
            assert_eq!(map.kind, Some(crate::lookup::MapType::Hosts));
            assert_eq!(map.name, "srv/a%20b");
            assert_eq!(point.mount, ["fstype=nfs4", "soft"]);
            assert_eq!(point.browse, Some(true));
        }
    }

    #[test]
    fn snapshots_that_cannot_be_are_refused_where_they_are_written() {
        for (value, code, at) in [
            (
                "-fstype=snapshot :/data",
                "snapshot-without-provider",
                ":/data",
            ),
            (
                "-fstype=snapshot,provider=xfs :/data",
                "unknown-snapshot-provider",
                "provider=xfs",
            ),
            (
                "-fstype=snapshot,provider=lvm / :a/b /c -keep=many :a/c",
                "bad-keep",
                "keep=many",
            ),
            ("-fstype=snapshot,provider=lvm :data", "bad-origin", ":data"),
            (
                "-fstype=snapshot,provider=btrfs,vg=storage :/data",
                "place-in-options",
                "vg=storage",
            ),
            (
                "-fstype=snapshot,provider=zfs,size=2G :tank/data",
                "option-of-other-provider",
                "size=2G",
            ),
        ] {
            let reading = reading(value);
            assert!(reading.entry.is_none(), "{value}");
            let found = &reading.diagnostics[0];
            let text = found.fragment.slice(found.primary.0);
            assert_eq!((found.code, text), (code, at.into()), "{value}");
        }
        for (value, codes) in [
            (
                "provider=btrfs,nosuid,x-note=1,uid=0 :/data",
                &["unknown-snapshot-option"][..],
            ),
            ("provider=btrfs,keeep=3 :/data", &["misspelt-option"]),
            ("provider=lvm,uid=0 :a/b", &[]),
        ] {
            let reading = reading(&format!("-fstype=snapshot,{value}"));
            let found: Vec<_> = reading.diagnostics.iter().map(|it| it.code).collect();
            assert_eq!(
                (reading.entry.is_some(), &found[..]),
                (true, codes),
                "{value}"
            );
        }
        let nearly = reading("-fstype=snapshot,provider=lvm,keeep=3 :a/b");
        assert_eq!(
            nearly.diagnostics[0].help.as_deref(),
            Some("did you mean keep?")
        );
    }

    #[test]
    fn relative_sources_are_pointed_out() {
        let reading = reading("-fstype=bind :srv");
        assert!(reading.entry.is_some());
        assert_eq!(reading.diagnostics[0].code, "relative-source");
    }

    #[test]
    fn what_is_said_of_the_entry_is_said_once() {
        let reading = reading("-bg / s:/a /b s:/b /c s:/c");
        assert_eq!(reading.diagnostics.len(), 1);
    }
}
