//! Following a path: from the master map to the plan of its entry, and on into nested maps.

use bstr::{BStr, BString, ByteSlice};
use piton_engine::cause::Cause;
use piton_map::diagnostic::{Diagnostic, Severity};
use piton_map::key::{self, MapKind};
use piton_map::lookup::{MapSpec, MapType, Matched, Miss};
use piton_map::requester::Requester;
use piton_path::{below, is_within};
use piton_plan::facts::HostAnswers;
use piton_plan::step::What;
use piton_plan::{Action, Plan, PlanRequest};
use piton_source::cache::Listing;
use piton_source::master::SitePoint;
use piton_source::program::NO_LIST;
use piton_source::source::LookupContext;

use super::near::Near;
use super::site::Opened;
use super::{Explanation, Link, Mount, NOT_RUN, Status, asker, map_names, trigger_kind};
use crate::check::rootless::needs_root;

/// Most maps nested in one another that a path is followed through; the same number that limits
/// includes.
const DEPTH: usize = piton_source::limits::INCLUDE_DEPTH;

/// What helps who may not read a map.
const AS_ROOT: &str = "what only root may use the daemon may, too: ask again as root";

/// Follows `path`, touched by `requester`, through the site.
pub(crate) fn walk(
    opened: &Opened,
    requester: Requester,
    path: BString,
    probe: bool,
) -> Explanation {
    let mut walk = Walk {
        near: Near::new(probe),
        opened,
        requester,
        path,
        chain: Vec::new(),
        diagnostics: Vec::new(),
    };
    let (status, reason, cause) = match walk.go() {
        Ok(reason) => (Status::Found, reason, None),
        Err(Stop {
            status,
            reason,
            cause,
        }) => (status, reason, cause),
    };
    walk.collect_diagnostics();
    Explanation {
        path: walk.path,
        status,
        reason,
        cause,
        dialect: opened.site.dialect.name,
        master: opened.site.master.clone(),
        timeout: opened.timeout,
        told: false,
        chain: walk.chain,
        diagnostics: walk.diagnostics,
        probed: probe,
        daemon: None,
        unheard: None,
    }
}

/// Why a walk ended early.
struct Stop {
    status: Status,
    reason: String,
    /// What the automounter would answer; `None` where it would not be asked, or where that is
    /// not known without doing it.
    cause: Option<Cause>,
}

impl Stop {
    fn error(cause: Cause) -> Self {
        Self {
            status: Status::Error,
            reason: cause.to_string(),
            cause: Some(cause),
        }
    }

    fn not_found(reason: String, cause: Option<Cause>) -> Self {
        Self {
            status: Status::NotFound,
            reason,
            cause,
        }
    }
}

/// Where a path leads first.
struct Start {
    point: SitePoint,
    /// The trigger's own path.
    mount_point: BString,
    /// What the path has below it.
    rest: BString,
}

/// A path on its way through the site.
struct Walk<'w> {
    opened: &'w Opened,
    near: Near,
    requester: Requester,
    path: BString,
    chain: Vec<Link>,
    diagnostics: Vec<Diagnostic>,
}

impl Walk<'_> {
    /// Follows the path to its end and says in a sentence how it went.
    fn go(&mut self) -> Result<String, Stop> {
        let mut start = self.start()?;
        loop {
            // A server's exports lie as deep as it says, which has a limit of its own.
            let written = self.chain.iter().filter(|link| !asks_servers(&link.point));
            if written.count() == DEPTH {
                let why =
                    format!("maps are nested more than {DEPTH} deep: a map that names itself?");
                return Err(Stop::error(Cause::BadEntry(why.into())));
            }
            let kind = start.point.kind;
            let (name, rest) = match kind {
                MapKind::Direct => (start.mount_point.clone(), start.rest.clone()),
                MapKind::Indirect => first_part(start.rest.as_ref()),
            };
            let names = map_names(&start.point);
            self.chain.push(Link {
                line: self.opened.line(&start.point.origin),
                mount_point: start.mount_point,
                key: (!name.is_empty()).then(|| name.clone()),
                rest,
                found: None,
                trace: Vec::new(),
                timeout: None,
                mounts: Vec::new(),
                listing: None,
                point: start.point,
            });
            if name.is_empty() {
                return Ok(self.whole_map(&names));
            }
            let (sentence, plan) = self.entry(name.as_ref())?;
            match self.nested(&plan) {
                Some(inner) => start = inner,
                None => return Ok(sentence),
            }
        }
    }

    /// The mount point nearest to the path.
    fn start(&self) -> Result<Start, Stop> {
        let points = self.opened.site.points.iter();
        let above: Vec<(&SitePoint, BString)> = points
            .flat_map(|point| {
                self.triggers_of(point)
                    .into_iter()
                    .map(move |it| (point, it))
            })
            .collect();
        let Some(longest) = above.iter().map(|(_, path)| path.len()).max() else {
            return Err(self.nowhere());
        };
        // A direct key hides what lies below it (as in the daemon).
        let direct = above.iter().filter(|(it, _)| it.kind == MapKind::Direct);
        let topmost = direct.map(|(_, path)| path.len()).min();
        let governing = topmost.unwrap_or(longest).min(longest);
        // The first of equal ones counts.
        let found = above.into_iter().find(|(_, path)| path.len() == governing);
        let (point, mount_point) = found.ok_or_else(|| Stop::not_found(self.ungoverned(), None))?;
        let rest = below(&self.path, &mount_point);
        Ok(Start {
            point: point.clone(),
            rest: rest.unwrap_or_default().into(),
            mount_point,
        })
    }

    /// The paths of the triggers of `point` that the path leads through.
    fn triggers_of(&self, point: &SitePoint) -> Vec<BString> {
        let above = |path: &BString| is_within(&self.path, path);
        let mut paths: Vec<BString> = match point.kind {
            MapKind::Indirect => vec![piton_path::normalize(&point.path).into_owned()],
            MapKind::Direct => {
                let keys = self.direct_keys(point).keys;
                keys.into_iter().map(|listed| listed.key).collect()
            }
        };
        paths.retain(above);
        paths
    }

    fn direct_keys(&self, point: &SitePoint) -> Listing {
        self.opened
            .with_context(point, BStr::new(b"/"), &self.requester, |context| {
                self.opened.maps.keys(&point.maps, context)
            })
    }

    /// That no map governs the path, as far as the direct maps can be read.
    fn nowhere(&self) -> Stop {
        let direct = self.opened.site.points.iter();
        let direct = direct.filter(|point| point.kind == MapKind::Direct);
        for (_, miss) in direct.flat_map(|point| self.direct_keys(point).incomplete) {
            if let Miss::Unreadable(why) = miss
                && only_root_may(&why, self.opened)
            {
                return Stop {
                    status: Status::Error,
                    reason: format!(
                        "no map that can be read governs {}; {why}; {AS_ROOT}",
                        self.path
                    ),
                    cause: None,
                };
            }
        }
        Stop::not_found(self.ungoverned(), None)
    }

    /// That no map governs the path, and what stands nearest to it.
    fn ungoverned(&self) -> String {
        let mut inside: Vec<BString> = Vec::new();
        for point in &self.opened.site.points {
            let candidates = match point.kind {
                MapKind::Indirect => vec![point.path.clone()],
                MapKind::Direct => self
                    .direct_keys(point)
                    .keys
                    .into_iter()
                    .map(|one| one.key)
                    .collect(),
            };
            inside.extend(
                candidates
                    .into_iter()
                    .filter(|one| is_within(one, &self.path)),
            );
        }
        let path = &self.path;
        if inside.is_empty() {
            let nearest = self
                .opened
                .site
                .points
                .iter()
                .filter(|point| point.kind == MapKind::Indirect);
            let nearest = nearest.max_by_key(|point| common_parts(&point.path, path));
            return match nearest {
                Some(point) => format!(
                    "no map governs {path}; the nearest mount point is {}",
                    point.path
                ),
                None => format!("no map governs {path}"),
            };
        }
        let shown: Vec<String> = inside.iter().take(3).map(ToString::to_string).collect();
        let more = match inside.len().saturating_sub(3) {
            0 => String::new(),
            more => format!(" and {more} more"),
        };
        format!(
            "no map governs {path} itself; mount points below it: {}{more}",
            shown.join(", ")
        )
    }

    /// The path is a mount point: lists its keys.
    fn whole_map(&mut self, names: &str) -> String {
        let Some(link) = self.chain.last_mut() else {
            return String::new();
        };
        let listing = self.opened.with_context(
            &link.point,
            link.mount_point.as_ref(),
            &self.requester,
            |context| self.opened.maps.keys(&link.point.maps, context),
        );
        let sentence = format!("{} is the mount point of the map {names}", link.mount_point);
        link.listing = Some(listing);
        // A nested map's mount point is a mount of the entry around it, and there already.
        if self.chain.len() > 1 {
            return sentence;
        }
        let Some(link) = self.chain.last_mut() else {
            return sentence;
        };
        link.mounts.push(Mount {
            target: link.mount_point.clone(),
            fstype: "autofs".into(),
            options: Vec::new(),
            source: names.into(),
            servers: Vec::new(),
            on_the_way: true,
        });
        sentence
    }

    /// Looks the key of the last link up and plans it.
    fn entry(&mut self, key: &BStr) -> Result<(String, Plan), Stop> {
        let opened = self.opened;
        let Some(link) = self.chain.last_mut() else {
            return Err(Stop::error(Cause::NoTrigger));
        };
        let (point, mount_point) = (&link.point, link.mount_point.as_bstr());
        if let Some(pattern) = point.options.deny.key(key) {
            let why = format!("the key `{key}` is denied by the filter `{pattern}` of its map");
            let cause = Cause::Denied(pattern.to_string().into());
            return Err(Stop::not_found(why, Some(cause)));
        }
        let looked = key::check(point.kind, key).and_then(|()| {
            opened.with_context(
                point,
                mount_point,
                &self.requester,
                |context: &LookupContext<'_>| opened.maps.lookup(&point.maps, key, context),
            )
        });
        let found = looked.map_err(|miss| match miss {
            Miss::NoSuchKey => {
                let listing = opened.with_context(point, mount_point, &self.requester, |context| {
                    opened.maps.keys(&point.maps, context)
                });
                no_such_key(key, point, &listing)
            }
            other => stop(other, key, point, opened),
        })?;
        if piton_map::expand::needs_requester(&found) {
            asker::look_up_names(&mut self.requester);
        }
        let planning = piton_plan::plan(&PlanRequest {
            found: &found,
            key,
            mount_point,
            kind: trigger_kind(point.kind),
            options: &point.options,
            global_options: &opened.global_options,
            append_options: opened.conf.append_options,
            dialect: &opened.site.dialect,
            requester: &self.requester,
            facts: &opened.facts,
        });
        let sentence = match found.matched {
            Matched::Exact => format!("the key `{key}` is found by its own name in {}", found.map),
            Matched::Wildcard => format!("the key `{key}` is found by `*` in {}", found.map),
        } + &filter(point);
        let plan = planning.plan.as_ref();
        let needs_root = plan.and_then(|plan| needs_root(plan, &opened.facts, &found));
        self.diagnostics.extend(needs_root);
        link.found = Some(found);
        link.trace = planning.trace;
        let worst = planning
            .diagnostics
            .iter()
            .find(|one| one.severity == Severity::Error);
        let why = worst.map_or_else(
            || "the planner gives no reason".to_owned(),
            |one| one.message.clone(),
        );
        self.diagnostics.extend(planning.diagnostics);
        let Some(plan) = planning.plan else {
            return Err(Stop::error(Cause::BadEntry(why.into())));
        };
        link.timeout = plan.timeout;
        link.mounts = mounts(&plan, opened, &mut self.near, self.path.as_ref());
        Ok((sentence, plan))
    }

    /// The map of its own that the path leads into, if `plan` has one there.
    fn nested(&self, plan: &Plan) -> Option<Start> {
        let deepest = plan
            .nodes
            .iter()
            .filter(|node| is_within(&self.path, &node.target))
            .max_by_key(|node| node.target.len())?;
        let Action::Submount(submount) = &deepest.action else {
            return None;
        };
        let rest = below(&self.path, &deepest.target)?;
        let point = SitePoint {
            path: deepest.target.clone(),
            kind: MapKind::Indirect,
            maps: vec![submount.map.clone()],
            options: submount.options.clone(),
            origin: plan.origin.clone(),
        };
        Some(Start {
            point,
            mount_point: deepest.target.clone(),
            rest: rest.into(),
        })
    }

    /// Adds what there is to say about the master map and the maps, where it concerns the lines
    /// gone through, or may be the reason that nothing was found.
    fn collect_diagnostics(&mut self) {
        let mut about = Vec::new();
        for link in &self.chain {
            let origin = &link.point.origin;
            let of_master = self.opened.site.diagnostics.iter();
            about.extend(
                of_master
                    .filter(|one| covers(one, &origin.file, origin.position.line))
                    .cloned(),
            );
            let of_maps = self.opened.with_context(
                &link.point,
                link.mount_point.as_ref(),
                &self.requester,
                |context| self.opened.maps.diagnostics(&link.point.maps, context),
            );
            about.extend(
                of_maps
                    .into_iter()
                    .filter(|one| match (&link.found, &link.key) {
                        (Some(found), _) => {
                            covers(one, &found.fragment.name, found.fragment.first_line)
                        }
                        (None, Some(key)) => starts_with_key(one, key.as_ref()),
                        (None, None) => true,
                    }),
            );
        }
        if self.chain.is_empty() {
            about = self.opened.site.diagnostics.clone();
        }
        about.append(&mut self.diagnostics);
        for one in about {
            if !self.diagnostics.contains(&one) {
                self.diagnostics.push(one);
            }
        }
    }
}

/// The number of leading path components that two paths share.
fn common_parts(one: &[u8], other: &[u8]) -> usize {
    one.split_str("/")
        .zip(other.split_str("/"))
        .take_while(|(one, other)| one == other)
        .count()
}

/// The first component of a relative path, and what follows it.
fn first_part(rest: &BStr) -> (BString, BString) {
    match rest.split_once_str("/") {
        Some((first, rest)) => (first.into(), rest.into()),
        None => (rest.into(), BString::default()),
    }
}

/// That no map has the key; of a program is known only that it printed nothing.
fn no_such_key(key: &BStr, point: &SitePoint, listing: &Listing) -> Stop {
    let programs = listing.incomplete.iter().filter(|(_, why)| match why {
        Miss::NotAvailable(why) => why.ends_with(NO_LIST),
        _ => false,
    });
    let programs: Vec<&str> = programs.map(|(name, _)| &**name).collect();
    let printed = format!(
        "{} printed no entry for the key `{key}`",
        programs.join(", ")
    );
    let reason = match (programs.is_empty(), point.maps.len()) {
        (false, 1) => format!("the program {printed}"),
        (none, _) => {
            let maps = format!("the map {} has no key `{key}` and no `*`", map_names(point));
            match none {
                true => maps,
                false => format!("{maps}: the program {printed}"),
            }
        }
    };
    Stop::not_found(reason, Some(Cause::Lookup(Miss::NoSuchKey)))
}

/// Whether a map could not be read for want of rights that the daemon, as root, has.
fn only_root_may(why: &str, opened: &Opened) -> bool {
    let denied = std::io::Error::from_raw_os_error(rustix::io::Errno::ACCESS.raw_os_error());
    !opened.facts.rootless
        && !rustix::process::geteuid().is_root()
        && why.contains(&denied.to_string())
}

/// What a failed look-up means for the walk.
fn stop(miss: Miss, key: &BStr, point: &SitePoint, opened: &Opened) -> Stop {
    match miss {
        Miss::Unreadable(why) | Miss::ProgramFailed(why) if only_root_may(&why, opened) => Stop {
            status: Status::Error,
            reason: format!("{why}; {AS_ROOT}"),
            cause: None,
        },
        Miss::BadKey(why) => Stop::not_found(
            format!("`{key}` can be a key in no map: {why}"),
            Some(Cause::Lookup(miss)),
        ),
        Miss::NotAvailable(why) if why.ends_with(NOT_RUN) => Stop {
            status: Status::Error,
            reason: format!("{why}; --run runs them"),
            cause: None,
        },
        Miss::NotAvailable(why) if asks_servers(point) => Stop {
            status: Status::Error,
            reason: why.to_string(),
            cause: None,
        },
        // The daemon leaves the place alone, so that what is there stays visible.
        Miss::NotAvailable(why) if point.maps.iter().all(is_of_another_build) => Stop {
            status: Status::Error,
            reason: format!("{why}; no mount point is made"),
            cause: None,
        },
        other => Stop::error(Cause::Lookup(other)),
    }
}

/// Returns true if and only if the map is of a type that no source of this build delivers.
fn is_of_another_build(map: &MapSpec) -> bool {
    matches!(map.kind, Some(MapType::Passwd | MapType::Other(_)))
}

/// Returns true if and only if servers are asked for their exports.
fn asks_servers(point: &SitePoint) -> bool {
    let hosts = |map: &MapSpec| map.kind == Some(MapType::Hosts);
    point.kind == MapKind::Indirect && point.maps.iter().any(hosts)
}

/// Returns true if and only if the finding is about a line of `file` that begins on `line`.
fn covers(one: &Diagnostic, file: &str, line: u32) -> bool {
    *one.fragment.name == *file
        && (one.fragment.first_line == line || one.origin().position.line == line)
}

/// Returns true if and only if the finding is about a line that seems meant for `key`.
fn starts_with_key(one: &Diagnostic, key: &BStr) -> bool {
    let text = one.fragment.text.trim_ascii_start();
    let text = text.strip_prefix(b"\"").unwrap_or(text);
    text.starts_with(key.as_bytes())
}

/// What a plan mounts, parents first.
fn mounts(plan: &Plan, opened: &Opened, near: &mut Near, path: &BStr) -> Vec<Mount> {
    let mut all = Vec::new();
    for (number, node) in plan.nodes.iter().enumerate() {
        let on_the_way = node.parent.is_none() || is_within(path, &node.target);
        let mut mount = Mount {
            target: node.target.clone(),
            fstype: "autofs".into(),
            options: Vec::new(),
            source: BString::default(),
            servers: Vec::new(),
            on_the_way,
        };
        match &node.action {
            Action::Nothing => continue,
            Action::Submount(submount) => mount.source = submount.map.name.clone(),
            Action::Mount(what) => {
                near.learn(plan.hosts(number, &opened.facts));
                let ranked = near.ranked(what, &opened.facts, on_the_way);
                let mut attempts = plan.attempts(number, &ranked);
                if attempts.is_empty() {
                    // Nobody serves it: what would be mounted if somebody did.
                    attempts = plan.attempts_unasked(number, &opened.facts, near.answers(), 0);
                }
                if attempts.is_empty() {
                    // Nobody even knows where they are: they are named all the same.
                    let nothing = HostAnswers::new();
                    attempts = plan.attempts_unasked(number, &opened.facts, &nothing, 0);
                }
                let Some(first) = attempts.first() else {
                    continue;
                };
                mount.fstype = match &first.what {
                    What::Bind { .. } => "bind".into(),
                    What::Type(name) => name.clone(),
                };
                mount.options = first.options.clone();
                mount.source = first.source.clone();
                mount.servers = near.servers(what, &opened.facts, &ranked);
            }
        }
        all.push(mount);
    }
    all
}

/// Which programs are told that nothing is there, for the end of a sentence.
fn filter(point: &SitePoint) -> String {
    let deny = &point.options.deny;
    let list = |what: &str, patterns: &[BString]| match patterns {
        [] => String::new(),
        _ => format!("; not for {what} `{}`", bstr::join(":", patterns).as_bstr()),
    };
    list("programs named", &deny.programs) + &list("control groups", &deny.cgroups)
}
