//! Lints about one entry: what it becomes is sound, but probably not what was meant.

use std::net::Ipv4Addr;

use bstr::{BString, ByteSlice};
use piton_map::diagnostic::{Diagnostic, Severity};
use piton_map::key::MapKind;
use piton_map::lookup::Matched;
use piton_map::text::Span;
use piton_plan::step::What;
use piton_plan::{Action, MountPlan};

use super::{Findings, Subject};

/// Types that come from outside, on a medium or in a file that somebody made elsewhere.
const FOREIGN: [&str; 8] = [
    "iso9660", "udf", "vfat", "msdos", "exfat", "ntfs", "ntfs3", "hfsplus",
];

/// Variables that say who asks.
const REQUESTER: [&str; 6] = ["USER", "UID", "GROUP", "GID", "HOME", "SHOST"];

/// Looks at one entry.
pub(crate) fn check(subject: &Subject<'_>, findings: &mut Findings) {
    findings.extend(writable_replicas(subject));
    findings.extend(soft_and_writable(subject));
    findings.extend(foreign_without_nosuid(subject));
    findings.extend(requester_in_direct_map(subject));
    findings.extend(root_offset_omitted(subject));
    findings.extend(variable_in_key(subject));
    findings.extend(star_in_location(subject));
    findings.extend(bad_address(subject));
}

/// `writable-replicas`: several servers, and the choice between them can be written to.
fn writable_replicas(subject: &Subject<'_>) -> Option<Diagnostic> {
    let mount = mounts(subject).find(|mount| servers(mount) > 1 && !has(mount, "ro"))?;
    let message = format!(
        "{} servers are given, and not read-only: what one is told the others do not know",
        servers(mount)
    );
    Some(
        finding(
            subject,
            Severity::Warning,
            "writable-replicas",
            message,
            location(subject),
        )
        .help("add -ro, or name one server"),
    )
}

/// `soft-and-writable`: a soft NFS mount loses data when the server is slow.
fn soft_and_writable(subject: &Subject<'_>) -> Option<Diagnostic> {
    let soft = |mount: &&MountPlan| last(mount, &["soft", "softerr", "hard"]) == Some("soft");
    let writable = |mount: &&MountPlan| last(mount, &["ro", "rw"]) != Some("ro");
    mounts(subject).find(|mount| mount.network && soft(mount) && writable(mount))?;
    let message = "a soft mount that is written to loses data when the server is slow";
    Some(
        finding(
            subject,
            Severity::Note,
            "soft-and-writable",
            message,
            word(subject, "soft"),
        )
        .help("use hard, or softerr with programs that look at errors, or ro"),
    )
}

/// `foreign-without-nosuid`: a medium may bring set-uid programs and devices.
fn foreign_without_nosuid(subject: &Subject<'_>) -> Option<Diagnostic> {
    let foreign = |mount: &&MountPlan| match &mount.what {
        What::Type(name) => {
            FOREIGN.iter().any(|one| name == one) && !(has(mount, "nosuid") && has(mount, "nodev"))
        }
        What::Bind { .. } => false,
    };
    mounts(subject).find(foreign)?;
    let message = "whoever makes the medium can bring set-uid programs and devices";
    Some(
        finding(
            subject,
            Severity::Note,
            "foreign-without-nosuid",
            message,
            location(subject),
        )
        .help("add nosuid,nodev to the options"),
    )
}

/// `options-replaced`: options of the mount point's line that the entry's own put out of force
///
pub(crate) fn options_replaced(subject: &Subject<'_>) -> Option<Diagnostic> {
    let outer = &subject.point.options.mount;
    if !subject.replaces || outer.is_empty() {
        return None;
    }
    let span = own_options(subject)?;
    let own = subject.found.fragment.slice(span);
    let own: Vec<&[u8]> = own.trim_start_with(|c| c == '-').split_str(",").collect();
    let lost: Vec<&BString> = outer
        .iter()
        .filter(|option| !own.contains(&option.as_bytes()))
        .collect();
    if lost.is_empty() {
        return None;
    }
    let lost = bstr::join(",", &lost);
    let lost = lost.as_bstr();
    let message = format!(
        "the entry's options replace those of {}: {lost} does not apply",
        subject.point.path
    );
    let mut one = finding(
        subject,
        Severity::Warning,
        "options-replaced",
        message,
        span,
    )
    .help("repeat the options that shall stay, or use the dialect linux, where they are added");
    one.elsewhere.push((
        subject.point.origin.clone(),
        "the options of the mount point".into(),
    ));
    Some(one)
}

/// `requester-in-direct-map`: one mount for all, made for whoever came first.
fn requester_in_direct_map(subject: &Subject<'_>) -> Option<Diagnostic> {
    if subject.point.kind != MapKind::Direct {
        return None;
    }
    let (name, span) = REQUESTER
        .iter()
        .find_map(|name| Some((name, variable(subject, name)?)))?;
    let message = format!(
        "${name} is that of whoever touches the path first; everybody after gets the same mount"
    );
    Some(
        finding(
            subject,
            Severity::Note,
            "requester-in-direct-map",
            message,
            span,
        )
        .help("use an indirect map whose keys are the users"),
    )
}

/// `root-offset-omitted`: the older automounter wants the first `/` written.
fn root_offset_omitted(subject: &Subject<'_>) -> Option<Diagnostic> {
    let plan = subject.planning.plan.as_ref()?;
    if !subject.dialect.subdirectories
        || plan.nodes.len() < 2
        || plan.nodes[0].action == Action::Nothing
    {
        return None;
    }
    let first =
        words(subject).find(|span| !subject.found.fragment.slice(*span).starts_with(b"-"))?;
    if subject.found.fragment.slice(first).starts_with(b"/") {
        return None;
    }
    let message = "the first offset, `/`, is left out; the older automounter does not accept that";
    Some(
        finding(
            subject,
            Severity::Note,
            "root-offset-omitted",
            message,
            first,
        )
        .help("write `/` before this location"),
    )
}

/// The mounts of an entry.
fn mounts<'s>(subject: &'s Subject<'_>) -> impl Iterator<Item = &'s MountPlan> {
    let nodes = subject.planning.plan.iter().flat_map(|plan| &plan.nodes);
    nodes.filter_map(|node| match &node.action {
        Action::Mount(mount) => Some(mount),
        Action::Nothing | Action::Submount(_) => None,
    })
}

/// The number of servers that are named.
fn servers(mount: &MountPlan) -> usize {
    mount
        .replicas
        .iter()
        .filter(|replica| replica.host.is_some())
        .count()
}

fn has(mount: &MountPlan, option: &str) -> bool {
    mount.options.iter().any(|one| one == option)
}

/// Of options that exclude each other, the one that counts.
fn last<'o>(mount: &MountPlan, options: &[&'o str]) -> Option<&'o str> {
    let mut given = mount.options.iter().rev();
    given.find_map(|one| options.iter().copied().find(|option| one == option))
}

fn finding(
    subject: &Subject<'_>,
    severity: Severity,
    code: &'static str,
    message: impl Into<String>,
    span: Span,
) -> Diagnostic {
    Diagnostic::new(severity, code, message, &subject.found.fragment, span)
}

/// The words after the key.
fn words<'s>(subject: &'s Subject<'_>) -> impl Iterator<Item = Span> + 's {
    let value = subject.found.value;
    let text = subject.found.fragment.slice(value);
    let base = text.as_ptr() as usize;
    let blank = |byte: &u8| byte.is_ascii_whitespace();
    text.split(blank)
        .filter(|word| !word.is_empty() && *word != b"\\")
        .map(move |word| {
            let start = value.start as usize + (word.as_ptr() as usize - base);
            Span::new(start, start + word.len())
        })
}

/// The first word that is neither options nor an offset.
fn location(subject: &Subject<'_>) -> Span {
    let fragment = &subject.found.fragment;
    let first = words(subject).find(|span| {
        !fragment.slice(*span).starts_with(b"-") && !fragment.slice(*span).starts_with(b"/")
    });
    first.unwrap_or(subject.found.value)
}

/// The word of options that stands first.
fn own_options(subject: &Subject<'_>) -> Option<Span> {
    words(subject).find(|span| subject.found.fragment.slice(*span).starts_with(b"-"))
}

/// Where an option is written; the whole entry when it comes from elsewhere.
fn word(subject: &Subject<'_>, option: &str) -> Span {
    let fragment = &subject.found.fragment;
    let lists = words(subject).filter(|span| fragment.slice(*span).starts_with(b"-"));
    for list in lists {
        let mut start = list.start as usize + 1;
        for one in fragment.slice(list)[1..].split_str(",") {
            if one == option.as_bytes() {
                return Span::new(start, start + one.len());
            }
            start += one.len() + 1;
        }
    }
    location(subject)
}

/// `variable-in-key`: keys are compared as they are written.
fn variable_in_key(subject: &Subject<'_>) -> Option<Diagnostic> {
    let span = subject.found.key;
    let key = subject.found.fragment.slice(span);
    let begins = |byte: &u8| byte.is_ascii_alphabetic() || b"_{".contains(byte);
    let at = key.find_byte(b'$')?;
    if !key.get(at + 1).is_some_and(begins) || (at > 0 && key[at - 1] == b'\\') {
        return None;
    }
    Some(
        finding(
            subject,
            Severity::Warning,
            "variable-in-key",
            "a variable in a key is not replaced: only the name with the dollar sign finds it",
            span,
        )
        .help("write the name out, or use `*` and `&`; write \\$ for a dollar sign"),
    )
}

/// `star-in-location`: only `&` stands for the name that was asked for.
fn star_in_location(subject: &Subject<'_>) -> Option<Diagnostic> {
    if subject.found.matched != Matched::Wildcard {
        return None;
    }
    let fragment = &subject.found.fragment;
    let locations = words(subject).filter(|span| !fragment.slice(*span).starts_with(b"-"));
    let star = locations.into_iter().find_map(|span| {
        let word = fragment.slice(span);
        let ends = |at: &usize| word.get(at + 2).is_none_or(|next| *next == b'/');
        let at = word.find_iter(b"/*").find(ends)?;
        Some(span.start as usize + at + 1)
    })?;
    let message = "a `*` in a location is a star, not the name that was asked for";
    let span = Span::new(star, star + 1);
    let one = finding(
        subject,
        Severity::Warning,
        "star-in-location",
        message,
        span,
    );
    Some(one.help("write `&` for the name"))
}

/// `bad-address`: what looks like an IPv4 address and is none is no name either.
fn bad_address(subject: &Subject<'_>) -> Option<Diagnostic> {
    let mut hosts = mounts(subject)
        .flat_map(|mount| &mount.replicas)
        .filter_map(|replica| replica.host.as_ref());
    let bad = |host: &&BString| {
        let digits = |byte: &u8| byte.is_ascii_digit() || *byte == b'.';
        let text = host.to_str().unwrap_or_default();
        host.contains(&b'.') && host.iter().all(digits) && text.parse::<Ipv4Addr>().is_err()
    };
    let host = hosts.find(bad)?;
    let fragment = &subject.found.fragment;
    let value = subject.found.value;
    let written = fragment.slice(value).find(host.as_slice());
    let span = written.map_or(location(subject), |at| {
        let start = value.start as usize + at;
        Span::new(start, start + host.len())
    });
    let message = format!("`{host}` is no IPv4 address: it has four numbers up to 255");
    let one = finding(subject, Severity::Warning, "bad-address", message, span);
    Some(one.help("correct the number, or write the server's name"))
}

/// Where `$name` or `${name}` is written.
fn variable(subject: &Subject<'_>, name: &str) -> Option<Span> {
    let value = subject.found.value;
    let text = subject.found.fragment.slice(value);
    let is_name =
        |byte: Option<&u8>| byte.is_some_and(|byte| byte.is_ascii_alphanumeric() || *byte == b'_');
    let plain = format!("${name}");
    let mut places = text
        .find_iter(&plain)
        .filter(|at| !is_name(text.get(at + plain.len())));
    let (at, length) = match places.next() {
        Some(at) => (at, plain.len()),
        None => (text.find(format!("${{{name}}}"))?, plain.len() + 2),
    };
    let start = value.start as usize + at;
    Some(Span::new(start, start + length))
}
