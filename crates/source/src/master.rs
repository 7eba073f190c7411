//! The master map with everything it includes: which map governs which mount point.

use std::collections::HashMap;
use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use bstr::{BStr, BString, ByteSlice};
use piton_map::diagnostic::{Diagnostic, Severity};
use piton_map::dialect::Dialect;
use piton_map::key::MapKind;
use piton_map::lookup::{MapSpec, MapType, Miss};
use piton_map::master::{
    self, MasterDirectory, MasterEntry, MasterInclude, MasterItem, MountPoint,
};
use piton_map::options::PointOptions;
use piton_map::text::{Fragment, Origin, Span};

use crate::cache::{Maps, said};
use crate::directory;
use crate::limits::{INCLUDE_DEPTH, INCLUDES_IN_ALL, MASTER_ENTRIES};
use crate::source::{MapText, Stamp};
use crate::switch::{Action, Status};

/// Everything the master map says.
#[derive(Clone, Debug)]
pub struct Site {
    /// The mount points, in reading order. An indirect path occurs once; `/-` as often as it is
    /// written, and where two direct maps have the same key the first one counts.
    pub points: Vec<SitePoint>,
    /// What there is to say about the master map and its includes.
    pub diagnostics: Vec<Diagnostic>,
    /// Files and directories that were read or looked for; a change of one of them calls for
    /// reading the master map again.
    pub files_read: Vec<PathBuf>,
    /// The directories among them: a file that is added there counts as well.
    pub directories_read: Vec<PathBuf>,
    /// The dialect in which the master map was read.
    pub dialect: Dialect,
    /// The master map's name as a person would say it.
    pub master: String,
}

/// One mount point of the master map.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SitePoint {
    /// The mount point; `/-` for a direct map.
    pub path: BString,
    /// Whether keys are names under `path` or paths of their own.
    pub kind: MapKind,
    /// The maps, in the order in which they are searched. After those of a direct map there may
    /// be maps of type null, named after the keys that `-null` lines cancel.
    pub maps: Vec<MapSpec>,
    /// What the line says about the mount point.
    pub options: PointOptions,
    /// The line.
    pub origin: Origin,
}

/// Which master map to read.
#[derive(Clone, Debug, Default)]
pub struct MasterRequest {
    /// Its name or path; `None`: `auto.master`, then `auto_master`, through nsswitch.
    pub name: Option<MapSpec>,
    /// Whether to fall back to the default names, with a warning, when `name` is missing
    ///
    pub fall_back: bool,
    /// The dialect, when the command line says; `None`: the master map's comment or its name
    /// decides.
    pub dialect: Option<Dialect>,
    /// Lines of a master map that count before all that is read: those of a command line.
    /// Where there are any, no other master map need exist.
    pub lines: Vec<BString>,
    /// The older automounter's rule: the master map of this name is read after
    /// `name`, or alone in place of the default names, and may be missing.
    pub also: Option<BString>,
    /// The directory below which relative mount points are; `None`: there may be none.
    pub below: Option<BString>,
}

impl MasterRequest {
    /// The master map of this name or path, as it is written on a command line.
    pub fn named(name: impl Into<BString>) -> Self {
        Self {
            name: Some(plain(name.into())),
            ..Self::default()
        }
    }
}

/// The names under which a master map is looked for when none is given: that of autofs, then
/// that of the founding documents.
pub const DEFAULT_NAMES: [&str; 2] = ["auto.master", "auto_master"];

/// What the lines of a command line are called in diagnostics.
const COMMAND_LINE: &str = "the command line";

/// A map named without type.
fn plain(name: BString) -> MapSpec {
    MapSpec {
        kind: None,
        format: None,
        name,
        arguments: Vec::new(),
        origin: None,
    }
}

/// Reads a master map with all its includes. May block.
///
/// # Errors
/// [`Miss`] when there is no master map at all or it cannot be read. Includes that cannot be
/// read are diagnostics.
pub fn read(maps: &Maps, request: &MasterRequest) -> Result<Site, Miss> {
    let mut reader = Reader::new(maps, request.dialect.clone());
    reader.below.clone_from(&request.below);
    let texts = reader.texts(request)?;
    let last = texts.last().map(|text| text.fragment.name.clone());
    let dialect = request.dialect.clone().or_else(|| {
        texts
            .iter()
            .find_map(|text| master::dialect_comment(&text.fragment.text))
    });
    let dialect = dialect.unwrap_or_else(|| {
        let path = last.as_deref().unwrap_or_default();
        Dialect::of_master(path.rsplit('/').next().unwrap_or_default())
    });
    reader.dialect = dialect.clone();
    let names: Vec<&str> = texts.iter().map(|text| &*text.fragment.name).collect();
    let master = names.join(", ");
    for text in texts {
        reader.layer += 1;
        reader.text(text, None);
    }
    reader.nested();
    reader.unused_nulls();
    Ok(Site {
        points: reader.points,
        diagnostics: reader.diagnostics,
        files_read: reader.files_read,
        directories_read: reader.directories_read,
        dialect,
        master,
    })
}

/// What a master map's text is, whatever it is called.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Identity {
    File(u64, u64),
    Name(Arc<str>),
}

/// The line that brought a text in: its fragment and the name in it.
type Cause<'c> = Option<(&'c Fragment, Span)>;

/// A `-null` line that waits for the entry it cancels.
struct Null {
    fragment: Fragment,
    span: Span,
    used: bool,
    /// Whether a direct map follows, which may have a key of that name.
    over_direct: bool,
}

/// A master map being read.
struct Reader<'m> {
    maps: &'m Maps,
    dialect: Dialect,
    points: Vec<SitePoint>,
    /// For each point its line, for diagnostics, and in which of the texts it was found that count
    /// one before the other.
    lines: Vec<(Fragment, Span, usize)>,
    layer: usize,
    /// The point of each indirect path.
    known: HashMap<BString, usize>,
    nulls: HashMap<BString, Null>,
    diagnostics: Vec<Diagnostic>,
    files_read: Vec<PathBuf>,
    directories_read: Vec<PathBuf>,
    /// The texts being read, each included by the one before.
    chain: Vec<Identity>,
    texts_read: usize,
    /// Whether it was said that there are too many entries.
    full: bool,
    /// Where relative mount points are.
    below: Option<BString>,
}

impl<'m> Reader<'m> {
    /// Nothing read yet.
    fn new(maps: &'m Maps, dialect: Option<Dialect>) -> Self {
        Self {
            maps,
            dialect: dialect.unwrap_or(Dialect::LINUX),
            points: Vec::new(),
            lines: Vec::new(),
            layer: 0,
            known: HashMap::new(),
            nulls: HashMap::new(),
            diagnostics: Vec::new(),
            files_read: Vec::new(),
            directories_read: Vec::new(),
            chain: Vec::new(),
            texts_read: 0,
            full: false,
            below: None,
        }
    }

    /// The texts that count one before the other, the first first.
    fn texts(&mut self, request: &MasterRequest) -> Result<Vec<MapText>, Miss> {
        let mut texts = Vec::from_iter(command_line(&request.lines));
        if request.name.is_some() || request.also.is_none() {
            match self.first(request) {
                Ok(text) => texts.push(text),
                Err(Miss::NoSuchMap(_) | Miss::NotAvailable(_))
                    if request.name.is_none() && !texts.is_empty() => {}
                Err(miss) => return Err(miss),
            }
        }
        if let Some(also) = &request.also {
            match self.find(&plain(also.clone())) {
                Ok(text) => texts.push(text),
                Err(Miss::NoSuchMap(_) | Miss::NotAvailable(_)) if !texts.is_empty() => {}
                Err(miss) => return Err(miss),
            }
        }
        Ok(texts)
    }

    /// The text of the master map itself.
    fn first(&mut self, request: &MasterRequest) -> Result<MapText, Miss> {
        let Some(spec) = &request.name else {
            return self.default_text();
        };
        match self.find(spec) {
            Err(Miss::NoSuchMap(name)) if request.fall_back => {
                let text = self.default_text()?;
                let nothing = Fragment::whole(name.clone(), "");
                let message = format!(
                    "there is no master map {name}; {} is used",
                    text.fragment.name
                );
                let one = Diagnostic::new(
                    Severity::Warning,
                    "master-map-missing",
                    message,
                    &nothing,
                    Span::default(),
                );
                self.diagnostics
                    .push(one.help("correct the name after -f, or leave it out"));
                Ok(text)
            }
            other => other,
        }
    }

    /// The text of the first default master map that there is.
    fn default_text(&mut self) -> Result<MapText, Miss> {
        let mut missing = None;
        for name in DEFAULT_NAMES {
            match self.find(&plain(name.into())) {
                Err(miss @ (Miss::NoSuchMap(_) | Miss::NotAvailable(_))) => {
                    missing = missing.or(Some(miss));
                }
                other => return other,
            }
        }
        Err(missing.unwrap_or_else(|| Miss::NoSuchMap("auto.master".into())))
    }

    /// The text of the master map that `spec` means.
    fn find(&mut self, spec: &MapSpec) -> Result<MapText, Miss> {
        let name = spec.name.as_bstr();
        if let Some(format @ ("amd" | "hesiod")) = spec.format.as_deref() {
            return Err(not_available(format!(
                "map {name}: the {format} format is not in this build"
            )));
        }
        let absolute = name.starts_with(b"/");
        match &spec.kind {
            None | Some(MapType::File) if absolute => self.file(name),
            Some(MapType::File) => self.file(self.maps.in_map_directory(name).as_ref()),
            None => self.through_switch(name),
            Some(MapType::Other(other)) => Err(not_available(format!(
                "map {name}: the source {other} is not in this build"
            ))),
            Some(_) => Err(not_available(format!("{name} cannot be a master map"))),
        }
    }

    /// The text of the file called `path`.
    fn file(&mut self, path: &BStr) -> Result<MapText, Miss> {
        let real = self.maps.real(path);
        if !self.files_read.contains(&real) {
            self.files_read.push(real);
        }
        self.maps.text(path)
    }

    /// The text of the map that the name service switch finds.
    fn through_switch(&mut self, name: &BStr) -> Result<MapText, Miss> {
        let switch = self.maps.switch();
        for one in &switch.diagnostics {
            if !self.diagnostics.contains(one) {
                self.diagnostics.push(one.clone());
            }
        }
        let mut first: Option<Miss> = None;
        for service in &switch.switch.services {
            let miss = match &*service.name {
                "files" => match self.file(self.maps.in_map_directory(name).as_ref()) {
                    Ok(text) => return Ok(text),
                    Err(miss) => miss,
                },
                other => not_available(format!(
                    "map {name}: the service {other} of nsswitch.conf is not in this build"
                )),
            };
            let action = service.action(Status::of(&miss));
            // What `files` says tells more than that another service cannot be asked.
            if first.is_none() || !matches!(miss, Miss::NotAvailable(_)) {
                first = Some(miss);
            }
            if action == Action::Return {
                break;
            }
        }
        Err(first.unwrap_or_else(|| Miss::NoSuchMap(name.to_str_lossy().into())))
    }

    /// Reports something at a place.
    fn say(
        &mut self,
        (severity, code): (Severity, &'static str),
        (fragment, span): (&Fragment, Span),
        message: String,
        help: &str,
    ) {
        let one = Diagnostic::new(severity, code, message, fragment, span);
        self.diagnostics.push(one.help(help));
    }

    /// Reads a text, which `cause` included.
    fn text(&mut self, text: MapText, cause: Cause<'_>) {
        let identity = match text.stamp {
            Some(Stamp { dev, ino, .. }) => Identity::File(dev, ino),
            None => Identity::Name(text.fragment.name.clone()),
        };
        self.texts_read += 1;
        let too_deep = self.chain.len() > INCLUDE_DEPTH || self.texts_read > INCLUDES_IN_ALL;
        if let Some((fragment, span)) = cause {
            let name = &text.fragment.name;
            let by_name = !fragment.slice(span).contains(&b'/');
            if by_name && self.chain.last() == Some(&identity) {
                // `+auto.master` in auto.master, as distributions ship it: the map of that name of
                // the services after `files`, of which there is none here.
                return;
            }
            if self.chain.contains(&identity) {
                return self.say(
                    (Severity::Note, "include-cycle"),
                    (fragment, span),
                    format!("{name} is being read already; it is not read again"),
                    "remove one of the includes",
                );
            }
            if too_deep {
                return self.say(
                    (Severity::Error, "include-depth"),
                    (fragment, span),
                    format!(
                        "more than {INCLUDE_DEPTH} master maps include one another; {name} \
                        is not read"
                    ),
                    "include the maps from one place",
                );
            }
        }
        let below = self.below.as_deref().map(BStr::new);
        let (master, said) = master::parse_below(&text.fragment, below);
        self.diagnostics.extend(said);
        self.chain.push(identity);
        for item in master.items {
            match item {
                MasterItem::Entry(entry) => self.entry(entry),
                MasterItem::Include(include) => self.include(&include),
                MasterItem::IncludeDirectory(directory) => self.directory(&directory),
            }
        }
        self.chain.pop();
    }

    /// Follows `+map`.
    fn include(&mut self, include: &MasterInclude) {
        let cause = (&include.fragment, include.span);
        match self.find(&include.map) {
            Ok(text) => self.text(text, Some(cause)),
            Err(miss) => self.say(
                (Severity::Warning, "include-missing"),
                cause,
                said(&miss),
                "correct the name, or remove the line",
            ),
        }
    }

    /// Follows `+dir:path`.
    fn directory(&mut self, directory: &MasterDirectory) {
        let cause = (&directory.fragment, directory.span);
        let shown: Arc<str> = directory.path.to_str_lossy().into();
        let real = self.maps.real(directory.path.as_ref());
        self.files_read.push(real.clone());
        self.directories_read.push(real.clone());
        let files = match directory::master_files(&real, &shown) {
            Ok(files) => files,
            Err(miss) => {
                let message = match &miss {
                    Miss::NoSuchMap(_) => format!("there is no directory {shown}"),
                    other => said(other),
                };
                return self.say(
                    (Severity::Warning, "include-missing"),
                    cause,
                    message,
                    "make the directory, or remove the line",
                );
            }
        };
        for file in files {
            let name = file.file_name().unwrap_or_default();
            let path = Path::new(OsStr::from_bytes(&directory.path)).join(name);
            match self.file(path.as_os_str().as_bytes().as_bstr()) {
                Ok(text) => self.text(text, Some(cause)),
                Err(miss) => self.say(
                    (Severity::Warning, "include-missing"),
                    cause,
                    said(&miss),
                    "files in this directory whose names end in .autofs are read as master maps",
                ),
            }
        }
    }

    /// Takes an entry in, unless an earlier line has its mount point or cancels it.
    fn entry(&mut self, entry: MasterEntry) {
        let path = match &entry.mount_point {
            MountPoint::Direct => BString::from("/-"),
            MountPoint::Path(path) => path.clone(),
        };
        if self.points.len() >= MASTER_ENTRIES {
            if !std::mem::replace(&mut self.full, true) {
                self.say(
                    (Severity::Error, "too-many-entries"),
                    (&entry.fragment, entry.span),
                    format!(
                        "the master map has more than {MASTER_ENTRIES} entries; the rest is \
                        not used"
                    ),
                    "use a direct map, which may have any number of keys",
                );
            }
            return;
        }
        if entry.is_null() {
            return self.null(path, entry);
        }
        if self.cancelled(&path) {
            return;
        }
        let kind = match entry.mount_point {
            MountPoint::Direct => MapKind::Direct,
            MountPoint::Path(_) => {
                if let Some(&first) = self.known.get(&path) {
                    return self.duplicate(&entry, path.as_ref(), first);
                }
                self.known.insert(path.clone(), self.points.len());
                MapKind::Indirect
            }
        };
        let MasterEntry {
            mut maps,
            options,
            origin,
            fragment,
            span,
            ..
        } = entry;
        if kind == MapKind::Direct {
            maps.extend(self.cancelled_keys());
        }
        self.lines.push((fragment, span, self.layer));
        self.points.push(SitePoint {
            path,
            kind,
            maps,
            options,
            origin,
        });
    }

    /// Takes in a `-null` line.
    fn null(&mut self, path: BString, entry: MasterEntry) {
        if let Some(&first) = self.known.get(&path) {
            let (fragment, span, _) = self.lines[first].clone();
            let mut one = Diagnostic::new(
                Severity::Warning,
                "late-null",
                format!("`-null` comes after the entry for {path} and cancels nothing"),
                &entry.fragment,
                entry.span,
            )
            .help("move the line above the entry, or above the include that brings it in");
            one.elsewhere
                .push((fragment.origin(span), "the entry".into()));
            self.diagnostics.push(one);
            return;
        }
        let null = Null {
            fragment: entry.fragment,
            span: entry.span,
            used: false,
            over_direct: false,
        };
        self.nulls.entry(path).or_insert(null);
    }

    /// Returns true if and only if a `-null` line cancels the entry for `path`: the next one,
    /// as autofs's manual has it, or all, as the first line for a path does in the founding
    /// documents.
    fn cancelled(&mut self, path: &BString) -> bool {
        let Some(null) = self.nulls.get_mut(path) else {
            return false;
        };
        if self.dialect.null_cancels_all {
            null.used = true;
            return true;
        }
        !std::mem::replace(&mut null.used, true)
    }

    /// The keys that `-null` lines cancel in the direct maps after them, as maps that stand for
    /// it: a line for a path may mean an indirect mount point or the key of a direct map.
    fn cancelled_keys(&mut self) -> Vec<MapSpec> {
        let waiting = self
            .nulls
            .iter_mut()
            .filter(|(path, null)| !null.used && *path != "/-");
        let mut keys: Vec<MapSpec> = waiting
            .map(|(path, null)| {
                null.over_direct = true;
                let origin = Some(null.fragment.origin(null.span));
                MapSpec {
                    kind: Some(MapType::Null),
                    origin,
                    ..plain(path.clone())
                }
            })
            .collect();
        keys.sort_by(|one, other| one.name.cmp(&other.name));
        keys
    }

    /// Reports a second entry for an indirect mount point.
    fn duplicate(&mut self, entry: &MasterEntry, path: &BStr, first: usize) {
        let (fragment, span, layer) = self.lines[first].clone();
        // To be overridden from outside is what lines of a site's master map are for.
        let (severity, code, help) = match layer < self.layer {
            true => (
                Severity::Note,
                "overridden-line",
                "leave the other line out to have this one used",
            ),
            false => (
                Severity::Warning,
                "duplicate-mount-point",
                "remove one of the lines, or search both maps: `multi map -- map`",
            ),
        };
        let mut one = Diagnostic::new(
            severity,
            code,
            format!("{path} has an entry already; this line is not used"),
            &entry.fragment,
            entry.span,
        )
        .help(help);
        one.elsewhere
            .push((fragment.origin(span), "the first one".into()));
        self.diagnostics.push(one);
    }

    /// Warns of indirect mount points inside others: names there belong to two maps.
    fn nested(&mut self) {
        for index in 0..self.points.len() {
            if self.points[index].kind == MapKind::Direct {
                continue;
            }
            let path = self.points[index].path.clone();
            let mut outer = path.as_bstr();
            while let Some(slash) = outer.rfind_byte(b'/').filter(|slash| *slash > 0) {
                outer = outer[..slash].as_bstr();
                let Some(&other) = self.known.get(outer) else {
                    continue;
                };
                let (fragment, span, _) = self.lines[index].clone();
                let (outer_fragment, outer_span, _) = self.lines[other].clone();
                let mut one = Diagnostic::new(
                    Severity::Warning,
                    "nested-mount-point",
                    format!("{path} lies inside {outer}, which is a mount point too"),
                    &fragment,
                    span,
                )
                .help("move one of them, or make it an entry `-fstype=autofs` of the outer map");
                one.elsewhere
                    .push((outer_fragment.origin(outer_span), "the outer one".into()));
                self.diagnostics.push(one);
                break;
            }
        }
    }

    /// Notes `-null` lines that cancelled nothing.
    fn unused_nulls(&mut self) {
        let mut unused: Vec<Null> = self
            .nulls
            .drain()
            .map(|(_, null)| null)
            .filter(|null| !null.used && !null.over_direct)
            .collect();
        unused.sort_by_key(|null| (null.fragment.name.clone(), null.fragment.first_line));
        for null in unused {
            self.say(
                (Severity::Note, "unused-null"),
                (&null.fragment, null.span),
                "`-null` cancels nothing: no entry for the mount point follows".into(),
                "remove the line if no included map has the entry any more",
            );
        }
    }
}

/// The lines of a command line as a text, if there are any.
fn command_line(lines: &[BString]) -> Option<MapText> {
    let text = lines.iter().map(|line| &line[..]).collect::<Vec<_>>();
    (!lines.is_empty()).then(|| MapText {
        fragment: Fragment::whole(COMMAND_LINE, text.join(&b'\n')),
        stamp: None,
        local: true,
    })
}

/// A miss for what this build does not have.
fn not_available(what: String) -> Miss {
    Miss::NotAvailable(what.into())
}

#[cfg(test)]
mod tests;
