//! The explanation for people: the chain, a numbered sentence a step, with the lines it rests on.

use std::fmt::Write as _;

use bstr::ByteSlice;
use piton_engine::cause::{Cause, Errno};
use piton_map::fstype::SNAPSHOT;
use piton_map::key::MapKind;
use piton_map::lookup::{MapSpec, MapType};
use piton_map::text::{Fragment, Span};
use piton_snapshot::{Settings, When};

use super::daemon::Health;
use super::{Explanation, Link, Mount, Status, map_names};
use crate::commands::snapshot::policy_in_words;
use crate::commands::talk::span;
use crate::render;

/// Most keys listed for a path that is a mount point.
const KEYS: usize = 20;

/// Seconds of idleness where nothing is said.
const TIMEOUT: u32 = 300;

/// The steps, one after the other.
struct Steps {
    text: String,
    number: usize,
}

/// The whole text.
pub(crate) fn render(explanation: &Explanation) -> String {
    let mut steps = Steps {
        text: format!("{}\n\n", show(&explanation.path)),
        number: 0,
    };
    for link in &explanation.chain {
        master_line(&mut steps, link);
        if link.key.is_some() {
            entry(&mut steps, link);
        }
        listing(&mut steps, link);
    }
    if explanation.status == Status::Found {
        consequence(&mut steps, explanation);
    }
    let mut text = steps.text;
    if steps.number > 0 {
        text.push('\n');
    }
    let verdict = match explanation.status {
        Status::Found => "found",
        Status::NotFound => "not found",
        Status::Error => "error",
    };
    let reason = show(explanation.reason.as_bytes());
    line(&mut text, format_args!("{verdict}: {reason}"));
    if let Some(cause) = &explanation.cause {
        line(
            &mut text,
            format_args!("whoever touches it gets {}", errno_name(cause.errno())),
        );
    }
    let master = match explanation.master.contains(", ") {
        true => "these, of which the first to name a mount point counts:",
        false => "the master map",
    };
    line(
        &mut text,
        format_args!(
            "read in the dialect {}, from {master} {}",
            explanation.dialect, explanation.master
        ),
    );
    if explanation.told {
        let words = "with the settings of the daemon that runs here; name a --master for others";
        line(&mut text, format_args!("{words}"));
    }
    for one in &explanation.diagnostics {
        text.push('\n');
        text.push_str(&render::diagnostic(one));
    }
    text
}

impl Steps {
    /// A step of the chain.
    fn step(&mut self, sentence: std::fmt::Arguments<'_>) {
        self.number += 1;
        let number = self.number;
        line(&mut self.text, format_args!("{number}. {sentence}"));
    }

    /// The line a step rests on, indented.
    fn excerpt(&mut self, fragment: &Fragment, span: Span, words: &str) {
        for shown in render::excerpt(fragment, span, words).lines() {
            line(&mut self.text, format_args!("   {shown}"));
        }
    }

    /// More about the step before.
    fn more(&mut self, words: std::fmt::Arguments<'_>) {
        line(&mut self.text, format_args!("     {words}"));
    }
}

/// Writing to a string cannot fail.
fn line(text: &mut String, words: std::fmt::Arguments<'_>) {
    let _ = writeln!(text, "{words}");
}

/// Bytes of a map or a path as they may go to a terminal.
fn show(text: impl AsRef<[u8]>) -> String {
    render::printable(text.as_ref().as_bstr())
}

/// Which line of which master map, or which entry, is in charge.
fn master_line(steps: &mut Steps, link: &Link) {
    let (point, maps) = (show(&link.mount_point), show(map_names(&link.point)));
    match link.point.kind {
        MapKind::Indirect => steps.step(format_args!("{point} is governed by the map {maps}")),
        MapKind::Direct => steps.step(format_args!("{point} is a key of the direct map {maps}")),
    }
    let origin = &link.point.origin;
    match &link.line {
        Some(fragment) => {
            let offset = offset_of(fragment, origin.position);
            let length = fragment.text[offset..]
                .find_byteset(b" \t\n")
                .unwrap_or(fragment.text.len() - offset);
            steps.excerpt(fragment, Span::new(offset, offset + length), "");
        }
        None => steps.more(format_args!("--> {origin}")),
    }
}

/// The byte that stands at `position`.
fn offset_of(fragment: &Fragment, position: piton_map::text::Position) -> usize {
    (0..fragment.text.len())
        .find(|offset| fragment.position(*offset as u32) >= position)
        .unwrap_or_default()
}

/// How the key was looked up and what its line became.
fn entry(steps: &mut Steps, link: &Link) {
    let key = link.key.clone().unwrap_or_default();
    if link.point.kind == MapKind::Indirect {
        match link.rest.is_empty() {
            true => steps.step(format_args!("the key is `{}`", show(&key))),
            false => steps.step(format_args!(
                "the key is `{}`; `{}` lies below it",
                show(&key),
                show(&link.rest)
            )),
        }
    }
    let Some(found) = &link.found else {
        steps.step(format_args!(
            "no entry is found for it in {}",
            show(map_names(&link.point))
        ));
        return;
    };
    let place = found.fragment.origin(found.key);
    for decision in &link.trace {
        steps.step(format_args!("{}", show(decision.text.as_bytes())));
        match &decision.origin {
            Some(origin) if *origin == place => steps.excerpt(&found.fragment, found.key, ""),
            Some(origin) => steps.more(format_args!("--> {origin}")),
            None => {}
        }
    }
}

/// The keys of a map whose mount point was asked for.
fn listing(steps: &mut Steps, link: &Link) {
    let Some(listing) = &link.listing else {
        return;
    };
    let count = listing.keys.len();
    steps.step(format_args!(
        "it is a mount point itself; the map has {}",
        amount(count, "key")
    ));
    for one in listing.keys.iter().take(KEYS) {
        steps.more(format_args!("{:<20} {}", show(&one.key), one.origin));
    }
    if count > KEYS {
        steps.more(format_args!("and {} more", count - KEYS));
    }
    let of_volumes = |map: &&MapSpec| map.kind == Some(MapType::Snapshot);
    for map in link.point.maps.iter().filter(of_volumes) {
        steps.more(format_args!(
            "snapshot:{}: the volumes and snapshots that there are, which are not asked for here",
            map.name
        ));
    }
    for (map, why) in &listing.incomplete {
        steps.more(format_args!(
            "{map} cannot be listed: {}",
            Cause::Lookup(why.clone())
        ));
    }
}

/// What happens in the end.
fn consequence(steps: &mut Steps, explanation: &Explanation) {
    let mounts = || explanation.chain.iter().flat_map(|link| &link.mounts);
    let now: Vec<&Mount> = mounts().filter(|mount| mount.on_the_way).collect();
    let later: Vec<&Mount> = mounts().filter(|mount| !mount.on_the_way).collect();
    if explanation
        .chain
        .last()
        .is_some_and(|link| link.key.is_none())
    {
        return;
    }
    if now.is_empty() {
        steps.step(format_args!(
            "nothing is mounted for this path: the entry makes only directories here"
        ));
    } else {
        steps.step(format_args!(
            "what is mounted already is passed straight through; what is not is mounted, then \
             access is given"
        ));
    }
    for one in now {
        mount(steps, one);
    }
    if !later.is_empty() {
        steps.step(format_args!(
            "below it, mounted when they are touched in their turn"
        ));
    }
    for one in later {
        mount(steps, one);
    }
    idle(steps, explanation);
    for pin in explanation.daemon.iter().flat_map(|daemon| &daemon.pins) {
        steps.step(format_args!(
            "{} is pinned for another {}: what is mounted there neither expires nor moves",
            show(&pin.path),
            span(pin.left_ms)
        ));
    }
    let network = mounts().any(|mount| !mount.servers.is_empty());
    if let Some(why) = explanation.unheard.as_ref().filter(|_| network) {
        steps.step(format_args!(
            "the daemon does not tell how these servers are: {}",
            show(why)
        ));
    }
    let how = match network {
        true => {
            "if a mount fails: EHOSTDOWN or ETIMEDOUT for a server that does not answer, EACCES \
             where it refuses, else the errno of the mount (docs/errno.md)"
        }
        false => "if a mount fails, whoever touches it gets the errno of the mount (docs/errno.md)",
    };
    if network && !explanation.probed {
        steps.step(format_args!(
            "no server was asked: --probe asks whether they serve, and how fast"
        ));
    }
    steps.step(format_args!("{how}"));
}

/// Which snapshot, and what becomes of it.
fn snapshot(steps: &mut Steps, settings: &Settings) {
    let (origin, kind) = (settings.origin(), settings.origin().kind());
    let known = match settings.when {
        When::Fresh => {
            steps.more(format_args!(
                "{kind} takes a new snapshot of it, {}.piton.TIME, for whoever comes while it is used",
                origin.label()
            ));
            if settings.origins.len() > 1 {
                let all: Vec<String> = settings.origins.iter().map(ToString::to_string).collect();
                steps.more(format_args!(
                    "together, at one instant: {}; while a part of an earlier one is used, that one",
                    show(all.join(", "))
                ));
            }
            let most = settings.means.refuse_at(kind);
            steps.more(format_args!(
                "none is taken where {most} % of the room are used: ENOSPC"
            ));
            steps.more(format_args!(
                "afterwards: {}",
                policy_in_words(&settings.policy)
            ));
            return;
        }
        When::Latest => "the newest snapshot of it that exists".to_owned(),
        When::Ago(length) => format!("the newest snapshot of it that is at least {length} old"),
        When::At(time) => format!("the newest snapshot of it that was taken by {time}"),
    };
    steps.more(format_args!("{known}; if there is none, ENOENT"));
}

/// One mount.
fn mount(steps: &mut Steps, mount: &Mount) {
    let source = match mount.source.is_empty() {
        true => "(no source)".into(),
        false => show(&mount.source),
    };
    steps.more(format_args!(
        "{} on {} type {}",
        source,
        show(&mount.target),
        show(&mount.fstype)
    ));
    if !mount.options.is_empty() {
        steps.more(format_args!(
            "  options {}",
            show(bstr::join(",", &mount.options))
        ));
    }
    if mount.fstype == SNAPSHOT
        && let Ok(settings) = Settings::read(&mount.options, mount.source.as_bstr())
    {
        snapshot(steps, &settings);
    }
    for (number, server) in mount.servers.iter().enumerate() {
        let order = match (mount.servers.len(), number) {
            (1, _) => String::new(),
            (_, 0) => "1st, ".to_owned(),
            (_, 1) => "2nd, ".to_owned(),
            (_, 2) => "3rd, ".to_owned(),
            (_, other) => format!("{}th, ", other + 1),
        };
        let (host, near, weight) = (show(&server.host), server.proximity, server.weight);
        let several = mount.servers.iter().filter(|it| it.host == server.host);
        let address = match server.address {
            Some(address) if several.count() > 1 => format!(" ({address})"),
            _ => String::new(),
        };
        let answer = match (server.answer_ms, server.verdict) {
            (Some(ms), _) => format!(", answered in {ms:.1} ms"),
            (None, "unasked") => String::new(),
            (None, verdict) => format!(", {verdict}"),
        };
        let reason = match (mount.servers.len(), server.verdict) {
            (1, "serves" | "here" | "unasked") => String::new(),
            _ => format!(": {}", server.reason),
        };
        steps.more(format_args!(
            "  server {host}{address}: {order}proximity {near}, weight {weight}{answer}{reason}"
        ));
        if let Some(health) = &server.health {
            steps.more(format_args!("    {}", show(in_words(health))));
        }
    }
}

/// What the daemon knows of a server.
fn in_words(health: &Health) -> String {
    let error = health.error.as_deref().unwrap_or("it did not answer");
    let failed = match health.failures {
        0 | 1 => String::new(),
        many => format!(" (failed {many} times)"),
    };
    let age = health.age_ms.map(span).unwrap_or_default();
    let circuit = match (health.circuit, health.state.as_str()) {
        ("open", _) => {
            let again = health.again_ms.map_or_else(
                || "being asked".to_owned(),
                |left| format!("asked again in {}", span(left)),
            );
            format!("circuit open for {age}: {error}{failed}; nobody waits for it, {again}")
        }
        ("half-open", _) => {
            format!("circuit half-open, dead for {age}: {error}{failed}; one question decides")
        }
        (_, "alive") => format!("circuit closed: alive for {age}"),
        (_, "doubtful") => "circuit closed: its last answer did not come".to_owned(),
        _ => "circuit closed: nothing is known against it".to_owned(),
    };
    let drained = match &health.drained {
        None => String::new(),
        Some(drain) => match drain.left_ms {
            Some(left) => format!("; drained for another {}: chosen last", span(left)),
            None => "; drained: chosen last".to_owned(),
        },
    };
    format!("the daemon: {circuit}{drained}")
}

/// When it is unmounted again.
fn idle(steps: &mut Steps, explanation: &Explanation) {
    let Some(link) = explanation.chain.last() else {
        return;
    };
    let line = link.point.options.timeout;
    let (seconds, who) = match (link.timeout, line, explanation.timeout) {
        (Some(seconds), _, _) => (seconds, "the entry says so"),
        (None, Some(seconds), _) => (seconds, "the mount point's line says so"),
        (None, None, Some((seconds, who))) => (seconds, who),
        (None, None, None) => (TIMEOUT, "the default"),
    };
    match seconds {
        0 => steps.step(format_args!("it is never unmounted for being idle ({who})")),
        _ => steps.step(format_args!(
            "it is unmounted when nobody has used it for {seconds} s ({who})"
        )),
    }
}

/// `1 key`, `2 keys`.
fn amount(count: usize, what: &str) -> String {
    match count {
        1 => format!("1 {what}"),
        _ => format!("{count} {what}s"),
    }
}

/// The name of an errno.
fn errno_name(errno: Errno) -> String {
    let name = match errno {
        Errno::NOENT => "ENOENT (No such file or directory)",
        Errno::IO => "EIO (Input/output error)",
        Errno::AGAIN => "EAGAIN (Resource temporarily unavailable)",
        Errno::ACCES => "EACCES (Permission denied)",
        Errno::BUSY => "EBUSY (Device or resource busy)",
        Errno::INVAL => "EINVAL (Invalid argument)",
        Errno::OPNOTSUPP => "EOPNOTSUPP (Operation not supported)",
        Errno::SHUTDOWN => "ESHUTDOWN (Cannot send after transport endpoint shutdown)",
        Errno::TIMEDOUT => "ETIMEDOUT (Connection timed out)",
        Errno::HOSTDOWN => "EHOSTDOWN (Host is down)",
        Errno(1) => "EPERM (Operation not permitted)",
        Errno(18) => "EXDEV (Invalid cross-device link)",
        Errno(19) => "ENODEV (No such device)",
        Errno(71) => "EPROTO (Protocol error)",
        Errno(93) => "EPROTONOSUPPORT (Protocol not supported)",
        Errno(101) => "ENETUNREACH (Network is unreachable)",
        Errno(111) => "ECONNREFUSED (Connection refused)",
        Errno(113) => "EHOSTUNREACH (No route to host)",
        Errno(other) => return format!("errno {other}"),
    };
    name.into()
}
