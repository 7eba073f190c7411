//! `piton check`: everything that can be said about maps without mounting anything.
//!
//! What the parsers and the planner report is collected, and the *lints* of this module are
//! added: small functions, each with one code that docs/diagnostics.md explains. They are
//! grouped by what they look at: [`masters`] the master map's lines, [`points`] mount points
//! among each other, [`entries`] one entry, [`dialects`] one entry in two dialects, [`files`]
//! what maps are kept in, [`rootless`] what an ordinary user's daemon cannot mount.
//!
//! Program maps are not run: a check has no side effects.

mod dialects;
mod entries;
mod files;
mod masters;
pub(crate) mod output;
mod points;
pub(crate) mod rootless;

use std::collections::{BTreeMap, HashSet};
use std::sync::Arc;

use bstr::{BStr, ByteSlice};
use piton_engine::cause::Cause;
use piton_map::diagnostic::{Diagnostic, Severity};
use piton_map::dialect::{Dialect, OptionsRule};
use piton_map::key::{self, MapKind};
use piton_map::lookup::{Found, Matched, Miss};
use piton_map::requester::{Requester, RequesterNames};
use piton_map::text::{Fragment, Origin, Span};
use piton_plan::{PlanRequest, Planning};
use piton_source::cache::Listing;
use piton_source::master::SitePoint;

use crate::explain::site::Opened;
use crate::explain::{NOT_RUN, trigger_kind};

/// Most findings of one code that are shown: a mistake made by a program is made a thousand
/// times, and must not bury the others.
const SHOWN: usize = 20;

/// A key that no map has, for looking at what `*` would make of any.
const ANY_KEY: &str = "any-key-at-all";

/// What was found so far.
#[derive(Default)]
pub(crate) struct Findings {
    kept: Vec<Diagnostic>,
    /// Codes with more findings than are kept, and how many more.
    more: BTreeMap<&'static str, usize>,
    counts: BTreeMap<&'static str, usize>,
    seen: HashSet<(&'static str, Arc<str>, u32, u32, u32)>,
    severities: [usize; 3],
}

impl Findings {
    /// Adds a finding unless it is there already; a map may serve several mount points.
    pub(crate) fn push(&mut self, one: Diagnostic) {
        let (span, fragment) = (one.primary.0, &one.fragment);
        if !self.seen.insert((
            one.code,
            fragment.name.clone(),
            fragment.first_line,
            span.start,
            span.end,
        )) {
            return;
        }
        self.severities[one.severity as usize] += 1;
        let count = self.counts.entry(one.code).or_default();
        *count += 1;
        if *count <= SHOWN {
            self.kept.push(one);
        } else {
            *self.more.entry(one.code).or_default() += 1;
        }
    }

    pub(crate) fn extend(&mut self, all: impl IntoIterator<Item = Diagnostic>) {
        all.into_iter().for_each(|one| self.push(one));
    }

    /// Puts them in the order of files and lines.
    pub(crate) fn finish(mut self) -> Self {
        self.kept.sort_by_cached_key(|one| {
            let origin = one.origin();
            (origin.file, origin.position, one.code)
        });
        self
    }

    /// Returns true if and only if nothing was found, not even a note.
    pub(crate) fn is_empty(&self) -> bool {
        self.kept.is_empty()
    }

    /// Returns true if and only if there is anything worse than a note.
    pub(crate) fn fails(&self) -> bool {
        self.count(Severity::Warning) + self.count(Severity::Error) > 0
    }

    /// How many there are of a severity, shown or not.
    pub(crate) fn count(&self, severity: Severity) -> usize {
        self.severities[severity as usize]
    }
}

/// One mount point with its keys.
struct Surveyed<'s> {
    point: &'s SitePoint,
    listing: Listing,
}

/// One entry as the lints see it.
struct Subject<'s> {
    point: &'s SitePoint,
    found: &'s Found,
    key: &'s BStr,
    planning: &'s Planning,
    dialect: &'s Dialect,
    /// Whether options of an entry replace those of its mount point.
    replaces: bool,
}

/// Looks at a whole site.
pub(crate) fn check(opened: &Opened, findings: &mut Findings) {
    findings.extend(opened.site.diagnostics.iter().cloned());
    masters::check(opened, findings);
    let requester = somebody();
    let surveyed: Vec<Surveyed<'_>> = opened
        .site
        .points
        .iter()
        .map(|point| survey(opened, point, &requester))
        .collect();
    points::check(opened, &surveyed, findings);
    files::check(opened, findings);
    // A user's daemon does not read them.
    if !opened.of_user {
        files::settings(opened, findings);
    }
    for one in &surveyed {
        let maps = &one.point.maps;
        findings.extend(with_context(
            opened,
            one.point,
            &requester,
            &opened.site.dialect,
            |context| opened.maps.diagnostics(maps, context),
        ));
        missing(opened, one, findings);
        all_entries(opened, one, &requester, findings);
    }
}

/// A requester for planning entries: variables that depend on who asks have some value.
fn somebody() -> Requester {
    let names = RequesterNames {
        user: "somebody".into(),
        group: "somebody".into(),
        home: "/home/somebody".into(),
    };
    Requester {
        uid: 65534,
        gid: 65534,
        pid: 0,
        names: Some(Arc::new(names)),
        ..Requester::default()
    }
}

fn with_context<T>(
    opened: &Opened,
    point: &SitePoint,
    requester: &Requester,
    dialect: &Dialect,
    look: impl FnOnce(&piton_source::source::LookupContext<'_>) -> T,
) -> T {
    opened.with_context(point, point.path.as_ref(), requester, |context| {
        look(&piton_source::source::LookupContext {
            dialect,
            ..context.clone()
        })
    })
}

/// Lists the keys of a mount point.
fn survey<'s>(opened: &Opened, point: &'s SitePoint, requester: &Requester) -> Surveyed<'s> {
    let listing = with_context(opened, point, requester, &opened.site.dialect, |context| {
        opened.maps.keys(&point.maps, context)
    });
    Surveyed { point, listing }
}

/// `missing-map`, `unreadable-map`, `unavailable-map`: a map that the master map names cannot
/// be had.
fn missing(opened: &Opened, one: &Surveyed<'_>, findings: &mut Findings) {
    // What is missing behind an include line was reported there.
    let named = |map: &str| one.point.maps.iter().find(|spec| spec.name == map);
    for (map, miss) in &one.listing.incomplete {
        let Some(spec) = named(map) else { continue };
        let (severity, code, help) = match miss {
            Miss::NoSuchMap(_) => (
                Severity::Error,
                "missing-map",
                match files::meant(opened, spec) {
                    _ if spec.name == "/-" => {
                        "the mount point stands before the map: /- and the map's name".into()
                    }
                    Some(near) => format!("did you mean {near}?"),
                    None => {
                        "create the map, or correct its name; a name without a slash is looked \
                             for in /etc"
                            .into()
                    }
                },
            ),
            Miss::Unreadable(_) => (
                Severity::Error,
                "unreadable-map",
                "the daemon reads it as root: if only root may, run this as root, too; else look at \
                 the file and the disk it is on"
                    .into(),
            ),
            Miss::NotAvailable(why) if !why.ends_with(NOT_RUN) => (
                Severity::Warning,
                "unavailable-map",
                "use a file or a program map that fetches the entries".into(),
            ),
            // What cannot be listed by its nature is no mistake.
            _ => continue,
        };
        let cause = Cause::Lookup(miss.clone());
        let message = format!(
            "{cause}; nothing can be mounted from it at {}",
            one.point.path
        );
        let origin = spec.origin.as_ref().unwrap_or(&one.point.origin);
        findings.push(at(opened, origin, severity, code, message).help(help));
    }
}

/// Plans every entry of a mount point, and one that only `*` has.
fn all_entries(
    opened: &Opened,
    one: &Surveyed<'_>,
    requester: &Requester,
    findings: &mut Findings,
) {
    let mut wildcard = None;
    if one.point.kind == MapKind::Indirect {
        wildcard = entry(opened, one.point, ANY_KEY.into(), requester, findings);
    }
    for listed in &one.listing.keys {
        entry(opened, one.point, listed.key.as_ref(), requester, findings);
    }
    if let Some(star) = wildcard.filter(|found| found.matched == Matched::Wildcard) {
        findings.extend(dialects::below_wildcard(opened, &star, &one.listing.keys));
    }
}

/// Looks at one entry.
fn entry(
    opened: &Opened,
    point: &SitePoint,
    key: &BStr,
    requester: &Requester,
    findings: &mut Findings,
) -> Option<Found> {
    if key::check(point.kind, key).is_err() {
        return None;
    }
    let dialect = &opened.site.dialect;
    let found = with_context(opened, point, requester, dialect, |context| {
        opened.maps.lookup(&point.maps, key, context)
    })
    .ok()?;
    let planning = plan(opened, point, &found, key, requester, dialect);
    let subject = Subject {
        point,
        found: &found,
        key,
        planning: &planning,
        dialect,
        replaces: !opened.conf.append_options || dialect.options == OptionsRule::Replace,
    };
    entries::check(&subject, findings);
    match entries::options_replaced(&subject) {
        // Says already what the other dialect would do.
        Some(replaced) => findings.push(replaced),
        None => dialects::check(opened, &subject, requester, findings),
    }
    let plan = planning.plan.as_ref();
    findings.extend(plan.and_then(|plan| rootless::needs_root(plan, &opened.facts, &found)));
    let all = planning.diagnostics.into_iter();
    findings.extend(all.map(|one| at_its_option(opened, point, one)));
    Some(found)
}

/// A finding about an option that no entry states, moved to the mount point's line, which does.
fn at_its_option(opened: &Opened, point: &SitePoint, one: Diagnostic) -> Diagnostic {
    if one.primary.0 != Span::default() {
        return one;
    }
    let (fragment, point) = word_at(opened, &point.origin);
    let option = one.message.split('`').nth(1).unwrap_or_default();
    let option = option_in(&fragment, point, option.as_bytes());
    Diagnostic {
        primary: (option.unwrap_or(point), one.primary.1),
        fragment,
        ..one
    }
}

/// Where the master map's line of `point` states an option.
fn option_in(fragment: &Fragment, point: Span, option: &[u8]) -> Option<Span> {
    let after = point.end as usize;
    let ends = |byte: Option<&u8>| byte.is_none_or(|byte| b" \t\r\n,-".contains(byte));
    let text = &fragment.text[after..];
    let mut places = text.find_iter(option).filter(|_| !option.is_empty());
    let alone = |at: &usize| ends(text[..*at].last()) && ends(text.get(at + option.len()));
    let start = after + places.find(alone)?;
    Some(Span::new(start, start + option.len()))
}

/// Plans one entry in `dialect`.
fn plan(
    opened: &Opened,
    point: &SitePoint,
    found: &Found,
    key: &BStr,
    requester: &Requester,
    dialect: &Dialect,
) -> Planning {
    piton_plan::plan(&PlanRequest {
        found,
        key,
        mount_point: match point.kind {
            MapKind::Direct => key,
            MapKind::Indirect => point.path.as_ref(),
        },
        kind: trigger_kind(point.kind),
        options: &point.options,
        global_options: &[],
        append_options: opened.conf.append_options,
        dialect,
        requester,
        facts: &opened.facts,
    })
}

/// A finding about the word at `origin`, with its line if that can be read.
fn at(
    opened: &Opened,
    origin: &Origin,
    severity: Severity,
    code: &'static str,
    message: impl Into<String>,
) -> Diagnostic {
    let (fragment, span) = word_at(opened, origin);
    Diagnostic::new(severity, code, message, &fragment, span)
}

/// The line of `origin` and the word that begins there.
fn word_at(opened: &Opened, origin: &Origin) -> (Fragment, Span) {
    let Some(fragment) = opened.line(origin) else {
        let nothing = Fragment {
            name: origin.file.clone(),
            first_line: origin.position.line,
            text: Default::default(),
        };
        return (nothing, Span::new(0, 0));
    };
    let mut start = 0;
    for _ in fragment.first_line..origin.position.line {
        start += fragment.text[start..]
            .find_byte(b'\n')
            .map_or(0, |at| at + 1);
    }
    let column = origin.position.column.saturating_sub(1) as usize;
    start = fragment.text[start..]
        .char_indices()
        .nth(column)
        .map_or(fragment.text.len(), |(at, _, _)| start + at);
    let rest = &fragment.text[start..];
    let length = rest.find_byteset(b" \t\r\n").unwrap_or(rest.len());
    (fragment, Span::new(start, start + length))
}
