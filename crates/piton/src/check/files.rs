//! Lints about the files that maps are kept in.

use std::collections::BTreeSet;
use std::fs::{File, Metadata};
use std::io::Read as _;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use bstr::{BStr, ByteSlice};
use piton_map::diagnostic::{Diagnostic, Severity};
use piton_map::lookup::{MapSpec, MapType};
use piton_map::suggest::suggest;
use piton_map::text::{Fragment, Span};
use piton_source::conf::{self, Conf};

use super::{Findings, at};
use crate::explain::site::{self, Opened};

/// Where Debian has the settings that autofs took from the environment.
const DEFAULTS: &str = "/etc/default/autofs";

/// Write permission for all.
const WORLD: u32 = 0o002;
/// Write permission for group or all.
const OTHERS: u32 = 0o022;
/// The owner may execute it: such a file is a program map.
const EXECUTE: u32 = 0o100;

/// Looks at the files of the master map and of every map that was named.
pub(crate) fn check(opened: &Opened, findings: &mut Findings) {
    let mut seen = BTreeSet::new();
    for point in &opened.site.points {
        for map in &point.maps {
            let Some(path) = path_of(opened, map) else {
                continue;
            };
            let named = at(
                opened,
                map.origin.as_ref().unwrap_or(&point.origin),
                Severity::Error,
                "",
                "",
            );
            if seen.insert(path.clone()) {
                let shown = opened.shown(&path);
                findings.extend(writable(&path, &shown, &named));
                findings.extend(program(&path, &shown, map, &named));
            }
        }
    }
    let watch = opened.maps.watch();
    for file in watch.files.iter().chain(&opened.site.files_read) {
        if seen.insert(file.clone()) {
            let shown = opened.shown(file);
            let nowhere = Fragment {
                name: shown.as_str().into(),
                first_line: 1,
                text: Default::default(),
            };
            let named = Diagnostic::new(Severity::Error, "", "", &nowhere, Span::new(0, 0));
            findings.extend(writable(file, &shown, &named));
        }
    }
}

/// What there is to say about autofs.conf and the older file beside it.
pub(crate) fn settings(opened: &Opened, findings: &mut Findings) {
    // What the settings come to is of no interest here.
    let mut scratch = Conf::default();
    if let Some(text) = opened.text(&site::CONF.into()) {
        findings.extend(conf::parse(&text, &mut scratch));
    }
    if let Some(text) = opened.text(&DEFAULTS.into()) {
        findings.extend(conf::parse_defaults(&text, &mut scratch));
    }
}

/// The file a map is kept in, if it is one.
fn path_of(opened: &Opened, map: &MapSpec) -> Option<PathBuf> {
    if !matches!(map.kind, None | Some(MapType::File | MapType::Program)) {
        return None;
    }
    let name = BStr::new(&map.name);
    if name.starts_with(b"/") {
        return Some(opened.locate(name));
    }
    let directory = opened
        .maps
        .settings()
        .map_directory
        .join(std::ffi::OsStr::from_bytes(name));
    Some(opened.locate(directory.as_os_str().as_bytes().into()))
}

/// The file beside a map's missing one whose name is nearly the same.
pub(crate) fn meant(opened: &Opened, map: &MapSpec) -> Option<String> {
    let path = path_of(opened, map)?;
    let directory = path.parent()?;
    let entries = std::fs::read_dir(directory).ok()?;
    let names: Vec<_> = entries.flatten().map(|entry| entry.file_name()).collect();
    let known = names.iter().map(|name| name.as_bytes());
    let near = suggest(path.file_name()?.as_bytes(), known)?;
    Some(opened.shown(&directory.join(std::ffi::OsStr::from_bytes(near))))
}

/// What is said at the place where the map is named.
fn finding(
    named: &Diagnostic,
    severity: Severity,
    code: &'static str,
    message: String,
) -> Diagnostic {
    Diagnostic::new(severity, code, message, &named.fragment, named.primary.0)
}

/// `writable-map`: whoever writes a map decides what root mounts where.
fn writable(path: &Path, shown: &str, named: &Diagnostic) -> Option<Diagnostic> {
    let about = std::fs::metadata(path)
        .ok()
        .filter(|about| about.is_file())?;
    if about.mode() & WORLD == 0 {
        return None;
    }
    let message = format!(
        "everybody may write {}: whoever does decides what is mounted where",
        shown
    );
    Some(
        finding(named, Severity::Warning, "writable-map", message)
            .help(format!("chmod o-w {}", shown)),
    )
}

/// Lints about a map that is run.
fn program(path: &Path, shown: &str, map: &MapSpec, named: &Diagnostic) -> Option<Diagnostic> {
    let about = std::fs::metadata(path)
        .ok()
        .filter(|about| about.is_file())?;
    let runs = match &map.kind {
        Some(MapType::Program) => true,
        None => map.name.starts_with(b"/") && about.mode() & EXECUTE != 0,
        Some(_) => false,
    };
    if !runs {
        return script_as_text(path, shown, map, named);
    }
    if about.mode() & EXECUTE == 0 {
        let message = format!("the program {shown} cannot be executed, so it is not run");
        let finding = finding(named, Severity::Error, "program-not-executable", message);
        return Some(finding.help(format!("chmod 0755 {shown}")));
    }
    executable_text(path, shown, map, named).or_else(|| writable_program(shown, &about, named))
}

/// `script-as-text`: a program map without the execute bit is read as a map.
fn script_as_text(
    path: &Path,
    shown: &str,
    map: &MapSpec,
    named: &Diagnostic,
) -> Option<Diagnostic> {
    if !head(path)?.starts_with(b"#!") {
        return None;
    }
    let message = format!("{shown} begins like a program, but is read as a map");
    let help = match map.kind {
        None => format!("chmod 0755 {shown}: a map that can be executed is run"),
        Some(_) => format!("write `program:{shown}` for a map that is run"),
    };
    Some(finding(named, Severity::Warning, "script-as-text", message).help(help))
}

/// The first bytes of a file.
fn head(path: &Path) -> Option<Vec<u8>> {
    let mut head = Vec::new();
    let file = File::open(path).ok()?;
    file.take(256).read_to_end(&mut head).ok()?;
    Some(head)
}

/// `writable-program`: a program that root runs and somebody else may change.
fn writable_program(shown: &str, about: &Metadata, named: &Diagnostic) -> Option<Diagnostic> {
    let me = rustix::process::geteuid().as_raw();
    let by_mode = about.mode() & OTHERS != 0;
    let by_owner = about.uid() != 0 && about.uid() != me;
    if !by_mode && !by_owner {
        return None;
    }
    let message = format!(
        "the program {} runs as root, and others than root may write it",
        shown
    );
    Some(
        finding(named, Severity::Error, "writable-program", message)
            .help(format!("chown root {0}; chmod go-w {0}", shown)),
    )
}

/// `executable-text`: a map in a file that has the execute bit by accident.
fn executable_text(
    path: &Path,
    shown: &str,
    map: &MapSpec,
    named: &Diagnostic,
) -> Option<Diagnostic> {
    if map.kind.is_some() {
        return None;
    }
    let head = head(path)?;
    let program = head.starts_with(b"#!") || head.starts_with(b"\x7fELF");
    if program || head.contains(&0) || head.is_empty() {
        return None;
    }
    let first = head.lines().next().unwrap_or_default().as_bstr();
    let message = format!(
        "{} can be executed, so it is run as a program; it begins like a text: `{first}`",
        shown
    );
    Some(
        finding(named, Severity::Warning, "executable-text", message).help(format!(
            "chmod a-x {0} if it is a map, or begin it with #! if it is a program",
            shown
        )),
    )
}
