//! Options: merging the levels that state them, and taking out the words that are meant for
//! the automounter and not for mount.

use alloc::format;
use alloc::vec::Vec;

use bstr::{BStr, BString, ByteSlice};

use crate::dialect::{Dialect, OptionsRule};
use crate::findings::Findings;
use crate::fstype::{self, Family};
use crate::limits::{FSTYPE_LIMIT, TIMEOUT_LIMIT};
use crate::nfs_options;
use crate::options::{PointOptions, Propagation, Selection};
use crate::suggest::{nearest, suggest};
use crate::syntax::OptionSyntax;
use crate::text::Span;
use crate::token::plain;

/// One option with the place it was written at.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OptionWord {
    /// The option, quotes and escapes resolved.
    pub text: BString,
    /// Where it stands in the entry; `None`: it comes from further out.
    pub span: Option<Span>,
}

/// Options by the level that states them, outermost first: command line, master map, entry.
pub type Levels<'l> = [&'l [OptionWord]];

/// What the options of one mount say.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Settled {
    /// The type; empty when it was written so (`fstype=`).
    pub fstype: BString,
    /// How entries of the type are read.
    pub family: Family,
    /// Options for mount, in order.
    pub options: Vec<BString>,
    /// One failing offset fails the entry.
    pub strict: Option<bool>,
    /// Ranking of the servers, if it is said.
    pub selection: Option<Selection>,
    /// Never bind-mount a local server's path.
    pub nobind: bool,
    /// Symbolic links in place of bind mounts.
    pub symlink: bool,
    /// Propagation of a bind mount, if it is said.
    pub propagation: Option<Propagation>,
    /// Seconds of idleness, if they are said.
    pub timeout: Option<u32>,
    /// Whether a submount lists its keys, if it is said.
    pub browse: Option<bool>,
    /// Path walks in a submount don't count as use.
    pub strict_expire: bool,
    /// The submount is of the map `-hosts`.
    pub hosts: bool,
    /// Variables for a submount.
    pub defines: Vec<(BString, BString)>,
    /// mount(8) mounts it, even where Piton could by itself.
    pub by_helper: bool,
}

impl OptionWord {
    /// A word from further out than the entry.
    pub fn outer(text: &BStr) -> Self {
        Self {
            text: text.into(),
            span: None,
        }
    }

    /// A word of the entry.
    pub fn written(option: &OptionSyntax) -> Self {
        Self {
            text: plain(&option.bytes),
            span: Some(option.span),
        }
    }

    fn is_written(&self) -> Span {
        self.span.unwrap_or_default()
    }
}

/// How the options of different levels go together.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Merging {
    /// One list of all levels: the mount command decides, and the last of two usually wins.
    /// Only a level that the next one repeats as a whole is left out, as in autofs.
    Append,
    /// The innermost level that states any takes the place of all others.
    Innermost,
    /// The same, but those of an offset come after those of its entry: autofs's
    /// `append_options = no`.
    InnermostThenOffset,
}

impl Merging {
    /// The rule of a dialect and of `append_options`, which can only say no.
    pub fn new(dialect: &Dialect, append: bool) -> Self {
        match (dialect.options, append) {
            (OptionsRule::Replace, _) => Self::Innermost,
            (OptionsRule::Append, false) => Self::InnermostThenOffset,
            (OptionsRule::Append, true) => Self::Append,
        }
    }
}

/// One list of the options of `outer` levels (the entry's last) and those of one offset.
pub fn merge(outer: &Levels, offset: &[OptionWord], merging: Merging) -> Vec<OptionWord> {
    let innermost = || outer.iter().rev().find(|level| !level.is_empty()).copied();
    match merging {
        Merging::Append => [&appended(outer), offset].concat(),
        Merging::Innermost if !offset.is_empty() => offset.to_vec(),
        Merging::Innermost => innermost().unwrap_or_default().to_vec(),
        Merging::InnermostThenOffset => [innermost().unwrap_or_default(), offset].concat(),
    }
}

/// All levels, without those that the next one repeats: `ro` further out and `soft,ro` here are
/// `soft,ro`. It makes no difference to the mount, but to who compares lists with autofs's.
fn appended(levels: &Levels) -> Vec<OptionWord> {
    levels.iter().fold(Vec::new(), |outer, level| {
        let repeats = |run: &[OptionWord]| {
            let mut both = run.iter().zip(&outer);
            both.all(|(inner, outer)| inner.text == outer.text)
        };
        let repeated = !outer.is_empty() && level.windows(outer.len()).any(repeats);
        let kept = if repeated { &[][..] } else { &outer };
        [kept, level].concat()
    })
}

/// Reads a merged list. `None`: the entry cannot be used, and `findings` says why.
pub fn settle(words: &[OptionWord], dialect: &Dialect, findings: &mut Findings) -> Option<Settled> {
    let fstype = named_type(words, findings)?;
    let mut settled = Settled::new(fstype);
    let cachefs = settled.fstype == "cachefs";
    settled.translate(dialect, words, findings)?;
    for word in words {
        if word.text.starts_with(b"fstype=") {
            continue;
        }
        if cachefs && dialect.translate_types && fstype::is_cachefs_option(word.text.as_ref()) {
            continue;
        }
        if !settled.take_any(word, findings) && !settled.take_for_family(word, findings) {
            check_spelling(word, &settled, findings);
            settled.options.push(word.text.clone());
        }
    }
    if cachefs && dialect.translate_types && settled.family == Family::Nfs {
        settled.options.push("fsc".into());
    }
    settled.none_bind();
    Some(settled)
}

/// The type that the last `fstype=` names; `nfs` without one.
fn named_type(words: &[OptionWord], findings: &mut Findings) -> Option<BString> {
    let named = words.iter().rev().find_map(|word| {
        let name = word.text.strip_prefix(b"fstype=")?;
        Some((name.as_bstr(), word.is_written()))
    });
    let Some((name, span)) = named else {
        return Some("nfs".into());
    };
    check_type(name, span, findings)?;
    Some(name.into())
}

/// Refuses what would make mount look for a helper outside the usual places, or is no name.
fn check_type(name: &BStr, span: Span, findings: &mut Findings) -> Option<()> {
    let odd = |byte: &u8| !byte.is_ascii_alphanumeric() && !b"._-+".contains(byte);
    if name.len() <= FSTYPE_LIMIT && !name.starts_with(b"-") && !name.iter().any(odd) {
        let meant = nearest(name, fstype::names()).filter(|_| !fstype::is_known(name));
        if let Some(meant) = meant {
            let message = format!("no file system type `{name}` is known here");
            let help = format!("did you mean {}?", meant.as_bstr());
            findings.warn("misspelt-fstype", message, span, &help);
        }
        return Some(());
    }
    findings.error(
        "bad-fstype",
        format!("`{name}` cannot be the name of a file system type"),
        span,
        "mount would look for a helper program of that name; types are words such as nfs4 or \
         ext4",
    );
    None
}

/// The automounter's own options.
const KNOWN: [&[u8]; 11] = [
    b"fstype",
    b"timeout",
    b"strict",
    b"nonstrict",
    b"nobind",
    b"symlink",
    b"browse",
    b"nobrowse",
    b"use-weight-only",
    b"mount-helper",
    b"selection",
];

/// The option that `name` is probably meant to be: one of the automounter's own, of any mount, or
/// of the type.
fn meant(name: &[u8], settled: &Settled) -> Option<BString> {
    let is_nfs = settled.family == Family::Nfs;
    match name {
        b"version" | b"nfsversion" | b"ver" if is_nfs => return Some("vers".into()),
        name if !is_nfs && nfs_options::is_of_another_type(name) => return None,
        _ => {}
    }
    let nfs = nfs_options::names().filter(|_| is_nfs);
    let snapshot = piton_snapshot::OPTIONS.iter().map(|name| name.as_bytes());
    let snapshot = snapshot.filter(|_| settled.fstype == fstype::SNAPSHOT);
    let known = KNOWN.iter().copied().chain(nfs).chain(snapshot);
    match suggest(name, known) {
        Some(same) if same == name => None,
        Some(meant) => Some(meant.into()),
        None => nfs_options::nearest(name),
    }
}

/// Whether an option with a value, for which a bind mount has no use, is neither for programs that
/// read it nor was pointed out as misspelt.
pub(crate) fn means_nothing_to_bind(option: &BStr, settled: &Settled) -> bool {
    let Some((name, _)) = option.split_once_str(b"=") else {
        return false;
    };
    let for_programs = matches!(name, b"comment" | b"user" | b"uhelper" | b"helper")
        || name.to_ascii_lowercase().starts_with(b"x-");
    !for_programs && meant(name, settled).is_none()
}

/// What an option of a mount point's line, whose mounts may be of any type, is probably meant to
/// be.
pub(crate) fn meant_for_any(name: &[u8]) -> Option<BString> {
    let known = nfs_options::is_known(name) || KNOWN.contains(&name);
    nfs_options::nearest(name).filter(|_| !known)
}

/// Points out words that are nearly an option of the automounter's.
fn check_spelling(word: &OptionWord, settled: &Settled, findings: &mut Findings) {
    let Some(span) = word.span else { return };
    let text = word.text.trim_start_with(|c| c == '-');
    if text.len() < word.text.len() {
        let message = format!("the option `{}` begins with a dash", word.text);
        findings.warn(
            "dashed-option",
            message,
            span,
            "one dash before the list is enough",
        );
        return;
    }
    let (name, value) = match text.split_once_str("=") {
        Some((name, value)) => (name, Some(value)),
        None => (text, None),
    };
    let is_nfs = settled.family == Family::Nfs;
    if is_nfs && nfs_options::is_known(name) {
        if let Some(wanted) = value.and_then(|value| nfs_options::wanted(name, value)) {
            let message = format!("no NFS mount has `{}`", word.text);
            findings.warn("bad-nfs-value", message, span, wanted);
        }
        return;
    }
    let help = match word.text.as_bytes() {
        b"fstype" => Some("write the type after it: -fstype=nfs4".into()),
        b"o" => Some("options are written without -o: -rw,soft".into()),
        _ => meant(name, settled).map(|meant| format!("did you mean {meant}?")),
    };
    if let Some(help) = help {
        let message = format!("the option `{}` is handed to mount", word.text);
        findings.warn("misspelt-option", message, span, &help);
    } else if is_nfs {
        let message = format!("no NFS mount has an option `{}`", name.as_bstr());
        let help = "it is left out when this is mounted";
        findings.note("unknown-nfs-option", message, span, help);
    }
}

impl Settled {
    fn new(fstype: BString) -> Self {
        Self {
            family: fstype::family(fstype.as_ref()),
            fstype,
            options: Vec::new(),
            strict: None,
            selection: None,
            nobind: false,
            symlink: false,
            propagation: None,
            timeout: None,
            browse: None,
            strict_expire: false,
            hosts: false,
            defines: Vec::new(),
            by_helper: false,
        }
    }

    /// Replaces a type of the founding systems, or says that it could be.
    /// `None`: what it names in its place is no type.
    fn translate(
        &mut self,
        dialect: &Dialect,
        words: &[OptionWord],
        findings: &mut Findings,
    ) -> Option<()> {
        let Some(translation) = fstype::translation(self.fstype.as_ref()) else {
            return Some(());
        };
        let written = words
            .iter()
            .rev()
            .find(|word| word.text.starts_with(b"fstype="));
        let span = written.map(OptionWord::is_written).unwrap_or_default();
        let back = words
            .iter()
            .rev()
            .find_map(|word| word.text.strip_prefix(b"backfstype="));
        let new = match back {
            Some(back) if translation.old == "cachefs" => back.as_bstr(),
            _ => translation.new.into(),
        };
        let cache = if translation.old == "cachefs" {
            ",fsc"
        } else {
            ""
        };
        if dialect.translate_types {
            check_type(new, span, findings)?;
            let message = format!("{} is mounted as {new}{cache}", translation.old);
            findings.note("translated-fstype", message, span, "");
            self.fstype = new.into();
            self.family = fstype::family(new);
        } else {
            let message = format!("Linux has no file system {}", translation.old);
            let help = format!("write -fstype={new}{cache}");
            findings.warn("foreign-fstype", message, span, &help);
        }
        Some(())
    }

    /// Takes a word that is the automounter's own whatever the type. Returns whether it was.
    fn take_any(&mut self, word: &OptionWord, findings: &mut Findings) -> bool {
        match word.text.as_bytes() {
            b"strict" => self.strict = Some(true),
            b"nonstrict" => self.strict = Some(false),
            b"use-weight-only" => self.selection = Some(Selection::WeightOnly),
            b"no-use-weight-only" => self.selection = Some(Selection::Proximity),
            b"browse" => self.browse = Some(true),
            b"nobrowse" => self.browse = Some(false),
            b"nofg" => {}
            b"bg" => {
                let message = "`bg` makes no sense here: somebody is waiting for the mount";
                findings.note("background-mount", message, word.is_written(), "remove it");
            }
            text => match text.strip_prefix(b"timeout=") {
                Some(value) => self.take_timeout(value, word, findings),
                None => {
                    return self.take_selection(text, word, findings)
                        || self.take_helper(text, word, findings);
                }
            },
        }
        true
    }

    /// `selection=random`.
    fn take_selection(&mut self, text: &[u8], word: &OptionWord, findings: &mut Findings) -> bool {
        let Some(value) = text.strip_prefix(b"selection=") else {
            return false;
        };
        let known = Selection::ALL
            .iter()
            .find(|(name, _)| name.as_bytes() == value);
        match known {
            Some((_, selection)) => self.selection = Some(*selection),
            None => {
                let message = format!("`{}` is no way to choose a server", value.as_bstr());
                let help = "write proximity, weight-only, first-responder or random";
                findings.warn("bad-selection", message, word.is_written(), help);
            }
        }
        true
    }

    /// `mount-helper=yes`. A submount hands it on to its entries.
    fn take_helper(&mut self, text: &[u8], word: &OptionWord, findings: &mut Findings) -> bool {
        let Some(value) = text.strip_prefix(b"mount-helper=") else {
            return false;
        };
        match value {
            _ if self.family == Family::Map => return false,
            b"yes" => self.by_helper = true,
            b"no" => self.by_helper = false,
            _ => {
                let message = format!("`{}` says neither yes nor no", word.text);
                let help = "write mount-helper=yes to have it mounted by mount(8)";
                findings.warn("bad-mount-helper", message, word.is_written(), help);
            }
        }
        true
    }

    fn take_timeout(&mut self, value: &[u8], word: &OptionWord, findings: &mut Findings) {
        self.timeout = seconds(value).or(self.timeout);
        if seconds(value).is_none() {
            let message = format!("`{}` is not a time", value.as_bstr());
            let help = "write seconds, or a number with s, m, h or d";
            findings.warn("bad-timeout", message, word.is_written(), help);
        }
    }

    /// Takes a word that is the automounter's own for some types. Returns whether it was.
    fn take_for_family(&mut self, word: &OptionWord, findings: &mut Findings) -> bool {
        let text = word.text.as_bytes();
        match (self.family, text) {
            (
                Family::Nfs | Family::Bind { .. } | Family::Link | Family::Map,
                b"nobind" | b"nosymlink",
            ) => {
                self.nobind = true;
            }
            (Family::Nfs | Family::Bind { .. } | Family::Link | Family::Map, b"symlink") => {
                self.symlink = true;
            }
            (Family::Bind { .. } | Family::Map, b"private" | b"slave" | b"shared") => {
                self.take_propagation(word, findings);
            }
            (Family::Bind { .. }, b"bind") => {}
            (Family::Bind { .. }, b"rbind") => self.family = Family::Bind { recursive: true },
            (Family::Map, b"strictexpire") => self.strict_expire = true,
            (Family::Map, b"hosts") => self.hosts = true,
            (Family::Map, _) => return self.take_for_map(word, findings),
            (Family::Other, b"nobind" | b"nosymlink" | b"symlink") => {
                let message = format!("`{}` means nothing for the type {}", word.text, self.fstype);
                findings.warn(
                    "option-without-effect",
                    message,
                    word.is_written(),
                    "remove it",
                );
                return false;
            }
            _ => return false,
        }
        true
    }

    /// A submount's `-DNAME=value` and `--timeout=N`, which people copy from master maps.
    fn take_for_map(&mut self, word: &OptionWord, findings: &mut Findings) -> bool {
        let text = word.text.as_bytes();
        let define = text.strip_prefix(b"-D").or_else(|| text.strip_prefix(b"D"));
        if let Some((name, value)) = define.and_then(|define| define.split_once_str(b"=")) {
            self.defines.push((name.into(), value.into()));
            return true;
        }
        if let Some(value) = text
            .strip_prefix(b"--timeout=")
            .or(text.strip_prefix(b"-timeout="))
        {
            self.take_timeout(value, word, findings);
            return true;
        }
        false
    }

    /// The propagation of a bind mount. `shared` is for the master map to say: under shared
    /// propagation the triggers of offsets come back into what is bound, and deadlock.
    fn take_propagation(&mut self, word: &OptionWord, findings: &mut Findings) {
        match word.text.as_bytes() {
            b"private" => self.propagation = Some(Propagation::Private),
            b"slave" => self.propagation = Some(Propagation::Slave),
            _ => {
                let message = "`shared` has no effect in an entry";
                let help = "write it after the map in the master map";
                findings.warn("shared-in-entry", message, word.is_written(), help);
            }
        }
    }

    /// `-fstype=none,bind` is the other way to write `-fstype=bind`.
    fn none_bind(&mut self) {
        if self.fstype != "none" {
            return;
        }
        let recursive = self.options.iter().any(|option| option == "rbind");
        if recursive || self.options.iter().any(|option| option == "bind") {
            self.family = Family::Bind { recursive };
            self.fstype = if recursive {
                "rbind".into()
            } else {
                "bind".into()
            };
            self.options
                .retain(|option| option != "bind" && option != "rbind");
        }
    }

    /// The options of a submount's mount point: those of the point it is below, changed by
    /// what the entry says.
    pub fn point(&self, outer: &PointOptions) -> PointOptions {
        let mut point = outer.clone();
        point.timeout = self.timeout.or(outer.timeout);
        point.browse = self.browse;
        point.mode = None;
        point.nobind |= self.nobind;
        point.symlink |= self.symlink;
        point.strict_expire |= self.strict_expire;
        point.strict = self.strict.unwrap_or(outer.strict);
        point.selection = self.selection.unwrap_or(outer.selection);
        point.propagation = self.propagation.unwrap_or(outer.propagation);
        point.defines.extend(self.defines.iter().cloned());
        point.mount = self.options.clone();
        point
    }
}

/// A time in seconds: a number, with s, m, h or d after it.
pub fn seconds(text: &[u8]) -> Option<u32> {
    let (number, unit) = match text.split_last()? {
        (b's', number) => (number, 1),
        (b'm', number) => (number, 60),
        (b'h', number) => (number, 3_600),
        (b'd', number) => (number, 86_400),
        _ => (text, 1),
    };
    if !number.iter().all(u8::is_ascii_digit) {
        return None;
    }
    let number: u32 = number.to_str().ok()?.parse().ok()?;
    number
        .checked_mul(unit)
        .filter(|seconds| *seconds <= TIMEOUT_LIMIT)
}

#[cfg(test)]
mod tests {
    use alloc::string::ToString;

    use super::*;
    use crate::diagnostic::Diagnostic;
    use crate::text::Fragment;

    fn words(list: &str) -> Vec<OptionWord> {
        let word = |text: &[u8]| OptionWord {
            text: text.into(),
            span: Some(Span::new(0, 1)),
        };
        list.split(',')
            .filter(|text| !text.is_empty())
            .map(|text| word(text.as_bytes()))
            .collect()
    }

    fn settled(list: &str, dialect: &Dialect) -> (Option<Settled>, Vec<Diagnostic>) {
        let fragment = Fragment::whole("m", "x");
        let mut findings = Findings::new(&fragment);
        let settled = settle(&words(list), dialect, &mut findings);
        (settled, findings.into_vec())
    }

    /// Type and options that are left of `list`.
    fn left(list: &str) -> (alloc::string::String, alloc::string::String) {
        let settled = settled(list, &Dialect::LINUX).0.unwrap();
        (
            settled.fstype.to_string(),
            bstr::join(",", &settled.options).to_str().unwrap().into(),
        )
    }

    #[test]
    fn r_221_of_two_options_in_conflict_the_maps_own_comes_last_and_counts() {
        let merging = Merging::new(&Dialect::OLDER, true);
        let (line, entry) = (words("ro,soft"), words("rw"));
        let merged = merge(&[&line, &entry], &[], merging);
        let merged: Vec<_> = merged.iter().map(|word| word.text.to_string()).collect();
        assert_eq!(merged, ["ro", "soft", "rw"]);
    }

    #[test]
    fn a_level_that_the_next_one_repeats_is_left_out() {
        for (global, master, entry, merged) in [
            ("", "ro", "ro", "ro"),
            ("", "ro", "soft,ro", "soft,ro"),
            ("", "ro", "mountproto=tcp", "ro,mountproto=tcp"),
            ("", "rw,nosuid", "x,rw,nosuid,y", "x,rw,nosuid,y"),
            ("", "rw,nosuid", "rw,nosuidx", "rw,nosuid,rw,nosuidx"),
            (
                "",
                "rw,nosuid",
                "rw,strict,nosuid",
                "rw,nosuid,rw,strict,nosuid",
            ),
            ("", "rw,nosuid", "nosuid", "rw,nosuid,nosuid"),
            ("ro", "ro,soft", "ro", "ro,soft,ro"),
            ("ro", "", "ro", "ro"),
            ("ro", "nosuid", "ro", "ro,nosuid,ro"),
        ] {
            let levels = [&words(global)[..], &words(master), &words(entry)];
            let found = merge(&levels, &[], Merging::Append);
            let found = bstr::join(",", found.iter().map(|word| &word.text));
            assert_eq!(found.as_bstr(), merged, "{global} {master} {entry}");
        }
    }

    #[test]
    fn levels_are_merged_by_the_rule() {
        let text = |words: Vec<OptionWord>| {
            bstr::join(",", words.iter().map(|word| &word.text))
                .to_str()
                .unwrap()
                .to_string()
        };
        let (global, master, entry, none) = (words("g"), words("m"), words("e"), words(""));
        let all = [&global[..], &master, &entry];
        let silent = [&global[..], &master, &none];
        let offset = words("o");
        for (outer, offset, merging, merged) in [
            (all, &offset, Merging::Append, "g,m,e,o"),
            (all, &offset, Merging::Innermost, "o"),
            (all, &none, Merging::Innermost, "e"),
            (silent, &none, Merging::Innermost, "m"),
            (all, &offset, Merging::InnermostThenOffset, "e,o"),
            (silent, &offset, Merging::InnermostThenOffset, "m,o"),
            (
                [&global[..], &none, &none],
                &none,
                Merging::InnermostThenOffset,
                "g",
            ),
            ([&none[..], &none, &none], &none, Merging::Innermost, ""),
        ] {
            assert_eq!(text(merge(&outer, offset, merging)), merged, "{merging:?}");
        }
        assert_eq!(Merging::new(&Dialect::SUN, true), Merging::Innermost);
        assert_eq!(Merging::new(&Dialect::LINUX, true), Merging::Append);
        assert_eq!(
            Merging::new(&Dialect::LINUX, false),
            Merging::InnermostThenOffset
        );
    }

    #[test]
    fn the_automounters_own_words_are_taken_out() {
        let own = "strict,nonstrict,use-weight-only,no-use-weight-only,browse,nobrowse,bg,nofg,\
                   timeout=5";
        assert_eq!(left("mount-helper=yes,ro"), ("nfs".into(), "ro".into()));
        // A submount's entries get it.
        let submount = left("mount-helper=yes,fstype=autofs");
        assert_eq!(submount.1, "mount-helper=yes");
        let other = "nobind,symlink,nosymlink,private,shared,strictexpire,hosts,fg,bg1";
        for (fstype, rest) in [
            ("nfs", "private,shared,strictexpire,hosts,fg,bg1"),
            ("bind", "strictexpire,hosts,fg,bg1"),
            ("fake", other),
            ("autofs", "fg,bg1"),
        ] {
            let list = format!("{own},{other},fstype={fstype},ro");
            assert_eq!(
                left(&list),
                (fstype.into(), format!("{rest},ro")),
                "{fstype}"
            );
        }
    }

    #[test]
    fn what_the_words_say() {
        let (settled, _) = settled(
            "fstype=autofs,strict,use-weight-only,nobind,symlink,private,timeout=2m,browse,\
             strictexpire,-DA=1,DB=2,--timeout=7,x",
            &Dialect::LINUX,
        );
        let settled = settled.unwrap();
        assert_eq!(settled.strict, Some(true));
        assert_eq!(settled.timeout, Some(7));
        let mut outer = PointOptions {
            mode: Some(0o755),
            browse: Some(true),
            ..Default::default()
        };
        outer.mount.push("gone".into());
        let point = settled.point(&outer);
        assert_eq!(point.timeout, Some(7));
        assert!(point.nobind && point.symlink && point.strict_expire && point.strict);
        assert_eq!(point.selection, Selection::WeightOnly);
        assert_eq!(point.propagation, Propagation::Private);
        assert_eq!((point.browse, point.mode), (Some(true), None));
        assert_eq!(
            point.defines,
            [("A".into(), "1".into()), ("B".into(), "2".into())]
        );
        assert_eq!(point.mount, ["x"]);
    }

    #[test]
    fn the_last_word_about_the_choice_of_servers_counts() {
        for (list, selection) in [
            ("ro", None),
            ("selection=first-responder", Some(Selection::FirstResponder)),
            ("use-weight-only,selection=random", Some(Selection::Random)),
            (
                "selection=random,use-weight-only",
                Some(Selection::WeightOnly),
            ),
            (
                "selection=weight-only,selection=what",
                Some(Selection::WeightOnly),
            ),
            (
                "use-weight-only,selection=proximity",
                Some(Selection::Proximity),
            ),
        ] {
            let (settled, _) = settled(list, &Dialect::LINUX);
            let settled = settled.unwrap();
            assert_eq!(settled.selection, selection, "{list}");
            assert!(settled.options.iter().all(|it| it == "ro"), "{list}");
        }
        for (name, selection) in Selection::ALL {
            assert_eq!(selection.name(), name);
        }
    }

    #[test]
    fn the_last_word_about_the_helper_counts() {
        for (list, by_helper) in [
            ("ro", false),
            ("mount-helper=yes", true),
            ("mount-helper=yes,mount-helper=no", false),
            ("mount-helper=yes,fstype=tmpfs", true),
            ("mount-helper=yes,mount-helper=maybe", true),
        ] {
            let (settled, _) = settled(list, &Dialect::LINUX);
            assert_eq!(settled.unwrap().by_helper, by_helper, "{list}");
        }
    }

    #[test]
    fn the_last_type_counts_and_must_be_a_word() {
        assert_eq!(left("fstype=a,fstype=b").0, "b");
        assert_eq!(left("").0, "nfs");
        assert_eq!(left("fstype=").0, "");
        assert_eq!(left("FSTYPE=x"), ("nfs".into(), "FSTYPE=x".into()));
        let longest = "t".repeat(FSTYPE_LIMIT);
        assert_eq!(left(&format!("fstype={longest}")).0, longest);
        for bad in ["../x", "a b", "-t", &("t".to_string() + &longest)] {
            let plain = (format!("fstype={bad}"), &Dialect::LINUX);
            let behind = (format!("fstype=cachefs,backfstype={bad}"), &Dialect::SUN);
            for (list, dialect) in [plain, behind] {
                let (settled, findings) = settled(&list, dialect);
                assert!(settled.is_none(), "{list}");
                assert_eq!(findings[0].code, "bad-fstype", "{list}");
            }
        }
    }

    #[test]
    fn bind_mounts_can_be_written_in_several_ways() {
        for (list, fstype, rest) in [
            ("fstype=none,bind,ro", "bind", "ro"),
            ("fstype=none,rbind", "rbind", ""),
            ("fstype=none,ro", "none", "ro"),
            ("fstype=bind,bind,ro", "bind", "ro"),
        ] {
            assert_eq!(left(list), (fstype.into(), rest.into()), "{list}");
        }
        let recursive = settled("fstype=bind,rbind", &Dialect::LINUX).0.unwrap();
        assert_eq!(recursive.family, Family::Bind { recursive: true });
        let shared = settled("fstype=bind,shared,slave", &Dialect::LINUX);
        assert_eq!(shared.1[0].code, "shared-in-entry");
        assert_eq!(shared.0.unwrap().propagation, Some(Propagation::Slave));
    }

    #[test]
    fn old_types_are_translated_or_pointed_out() {
        let list = "fstype=cachefs,backfstype=nfs4,cachedir=/cache,ro";
        let (sun, findings) = settled(list, &Dialect::SUN);
        let sun = sun.unwrap();
        assert_eq!((sun.fstype, sun.family), ("nfs4".into(), Family::Nfs));
        assert_eq!(sun.options, ["ro", "fsc"]);
        assert_eq!(findings[0].message, "cachefs is mounted as nfs4,fsc");
        let (linux, findings) = settled("fstype=hsfs,ro", &Dialect::LINUX);
        assert_eq!(linux.unwrap().fstype, "hsfs");
        assert_eq!(findings[0].help.as_deref(), Some("write -fstype=iso9660"));
        let lofs = settled("fstype=lofs", &Dialect::SUN).0.unwrap();
        assert_eq!(lofs.family, Family::Bind { recursive: false });
    }

    #[test]
    fn slips_are_pointed_out() {
        for (list, code) in [
            ("fstpye=ext4", "misspelt-option"),
            ("timout=5", "misspelt-option"),
            ("-fstype=ext4", "dashed-option"),
            ("timeout=soon", "bad-timeout"),
            ("fstype=ext4,nobind", "option-without-effect"),
            ("bg", "background-mount"),
            ("rsise=8192", "misspelt-option"),
            ("quota", "unknown-nfs-option"),
            ("mount-helper=maybe", "bad-mount-helper"),
            ("selection=nearest", "bad-selection"),
        ] {
            assert_eq!(settled(list, &Dialect::LINUX).1[0].code, code, "{list}");
        }
        for list in [
            "ro,soft,vers=4.2,timeo=7,nointr,nofail,x-a=b",
            "fstype=9p,trans=virtio,version=9p2000.L",
            "fstype=ceph,noshare,nowsync",
            "fstype=ext4,i_version,stripe=4,users",
            "fstype=davfs,nouser",
        ] {
            let found = settled(list, &Dialect::LINUX).1;
            assert!(found.is_empty(), "{list}: {found:?}");
        }
        let found = settled("version=3", &Dialect::LINUX).1;
        assert_eq!(found[0].help.as_deref(), Some("did you mean vers?"));
        let outer = [OptionWord::outer("fstpye=x".into())];
        let fragment = Fragment::whole("m", "x");
        let mut findings = Findings::new(&fragment);
        settle(&outer, &Dialect::LINUX, &mut findings);
        assert!(
            findings.into_vec().is_empty(),
            "the master map has its own findings"
        );
    }

    #[test]
    fn times() {
        for (text, time) in [
            ("5", Some(5)),
            ("0", Some(0)),
            ("90s", Some(90)),
            ("5m", Some(300)),
            ("2h", Some(7_200)),
            ("1d", Some(86_400)),
            ("", None),
            ("s", None),
            ("-1", None),
            ("5x", None),
            ("99999999999", None),
            ("315360000", Some(TIMEOUT_LIMIT)),
            ("315360001", None),
        ] {
            assert_eq!(seconds(text.as_bytes()), time, "{text}");
        }
    }
}
