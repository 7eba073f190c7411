//! A make-believe automounter for one case: it looks keys up in the case's files, plans, and
//! pretends that every mount works that worked when the case was recorded.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use bstr::{BStr, BString, ByteSlice};
use piton_map::dialect::Dialect;
use piton_map::index::{Listed, MapIndex, Step as SearchStep};
use piton_map::key::{self, MapKind};
use piton_map::lookup::{Found, MapSpec, MapType};
use piton_map::master::{self, MasterItem, MountPoint};
use piton_map::options::PointOptions;
use piton_map::requester::{Requester, RequesterNames};
use piton_map::text::Fragment;
use piton_plan::facts::{HostAnswer, HostAnswers, HostFacts, Interface};
use piton_plan::step::{Attempt, Step, TriggerId, TriggerKind, What};
use piton_plan::{Plan, PlanRequest, TriggerDefaults};

use crate::replay::case::{Case, Outcome, user};

/// Why a case cannot be replayed here.
#[derive(Debug)]
pub(crate) struct Unsuitable;

/// What we make of one step.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Ours {
    pub(crate) mounts: Vec<String>,
    pub(crate) triggers: Vec<String>,
    /// Diagnostics, for the reader of a failing test.
    pub(crate) notes: Vec<String>,
}

/// A place where something is to be mounted.
#[derive(Clone)]
enum Trigger {
    Direct {
        maps: Vec<MapSpec>,
        point: PointOptions,
    },
    Offset {
        plan: Arc<Plan>,
        node: usize,
    },
}

/// The automounter's state.
pub(crate) struct Site<'c> {
    case: &'c Case,
    dialect: Dialect,
    facts: HostFacts,
    global: Vec<BString>,
    append: bool,
    indirect: BTreeMap<String, (Vec<MapSpec>, PointOptions)>,
    triggers: BTreeMap<String, Trigger>,
    mounted: BTreeSet<String>,
    /// Keys that failed: they are not tried again for a while.
    failed: BTreeSet<String>,
}

impl<'c> Site<'c> {
    /// The site as it is after the daemon has started.
    pub(crate) fn start(case: &'c Case, dialect: Dialect) -> Result<Self, Unsuitable> {
        let mut site = Self {
            case,
            dialect,
            facts: facts(case),
            global: Vec::new(),
            append: true,
            indirect: BTreeMap::new(),
            triggers: BTreeMap::new(),
            mounted: BTreeSet::new(),
            failed: BTreeSet::new(),
        };
        site.read_configuration()?;
        site.read_master(case.master(), 0)?;
        Ok(site)
    }

    fn read_configuration(&mut self) -> Result<(), Unsuitable> {
        let conf = self.case.file("/etc/autofs.conf").unwrap_or_default();
        for line in conf.lines() {
            let words: Vec<_> = line.split_str("=").map(|word| word.trim_ascii()).collect();
            match words[..] {
                [b"append_options", value] => self.append = value == b"yes",
                [b"use_hostname_for_mounts", value] => {
                    self.facts.hostname_for_mounts = value == b"yes";
                }
                _ => {}
            }
        }
        let args = self.case.args();
        let mut args = args.iter();
        while let Some(arg) = args.next() {
            let value =
                |short: &str, args: &mut std::slice::Iter<&str>| match arg.strip_prefix(short) {
                    Some("") => args.next().copied().unwrap_or_default().to_owned(),
                    Some(rest) => rest.to_owned(),
                    None => String::new(),
                };
            if arg.starts_with("-D") {
                let define = value("-D", &mut args);
                let (name, text) = define.split_once('=').unwrap_or((&define, ""));
                self.facts.defines.push((name.into(), text.into()));
            } else if arg.starts_with("-O") {
                let list = value("-O", &mut args);
                self.global = list.split(',').map(BString::from).collect();
            } else {
                return Err(Unsuitable);
            }
        }
        Ok(())
    }

    fn read_master(&mut self, path: &str, depth: u32) -> Result<(), Unsuitable> {
        let Some(text) = self.case.file(path) else {
            return Ok(());
        };
        if depth > 4 {
            return Ok(());
        }
        let (map, _) = master::parse(&Fragment::whole(path, text));
        for item in map.items {
            match item {
                MasterItem::Entry(entry) => {
                    if entry.is_null() {
                        return Err(Unsuitable);
                    }
                    match entry.mount_point {
                        MountPoint::Path(path) => {
                            let path = path.to_string();
                            self.indirect
                                .entry(path)
                                .or_insert((entry.maps, entry.options));
                        }
                        MountPoint::Direct => self.add_direct(&entry.maps, &entry.options)?,
                    }
                }
                MasterItem::Include(_) | MasterItem::IncludeDirectory(_) => {
                    return Err(Unsuitable);
                }
            }
        }
        Ok(())
    }

    fn add_direct(&mut self, maps: &[MapSpec], point: &PointOptions) -> Result<(), Unsuitable> {
        for map in maps {
            let Some(index) = self.index(map, MapKind::Direct)? else {
                continue;
            };
            for listed in index.keys() {
                match listed {
                    Listed::Key { key, .. } => {
                        let direct = Trigger::Direct {
                            maps: vec![map.clone()],
                            point: point.clone(),
                        };
                        self.triggers.entry(key.to_string()).or_insert(direct);
                    }
                    Listed::Include(include) => {
                        let map = include.map.clone();
                        self.add_direct(&[map], point)?;
                    }
                }
            }
        }
        Ok(())
    }

    /// The index of a map; `None` when there is no such file.
    fn index(&self, map: &MapSpec, kind: MapKind) -> Result<Option<MapIndex>, Unsuitable> {
        if !matches!(map.kind, None | Some(MapType::File)) || map.format.is_some() {
            return Err(Unsuitable);
        }
        let name = map.name.to_string();
        let path = if name.starts_with('/') {
            name
        } else {
            format!("/etc/{name}")
        };
        if self.case.is_program(&path) {
            return Err(Unsuitable);
        }
        let text = self.case.file(&path);
        Ok(text.map(|text| MapIndex::new(Fragment::whole(path, text), kind, &self.dialect).0))
    }

    fn look_up(
        &self,
        maps: &[MapSpec],
        kind: MapKind,
        key: &BStr,
        depth: u32,
    ) -> Result<Option<Found>, Unsuitable> {
        for map in maps.iter().filter(|_| depth < 16) {
            let Some(index) = self.index(map, kind)? else {
                continue;
            };
            for step in index.search(key) {
                match step {
                    SearchStep::Found(found) => return Ok(Some(found)),
                    SearchStep::Include(include) => {
                        let map = [include.map.clone()];
                        let found = self.look_up(&map, kind, key, depth + 1)?;
                        if found.is_some() {
                            return Ok(found);
                        }
                    }
                }
            }
        }
        Ok(None)
    }

    /// Opens `path` as the recorded step did.
    pub(crate) fn open(
        &mut self,
        path: &str,
        ids: (u32, u32),
        outcome: &Outcome,
    ) -> Result<Ours, Unsuitable> {
        let mut ours = Ours::default();
        let clean = piton_path::normalize(path.as_bytes()).to_string();
        let ends = clean
            .char_indices()
            .filter(|(at, c)| *at > 0 && *c == '/')
            .map(|(at, _)| at);
        let prefixes: Vec<String> = ends
            .chain([clean.len()])
            .map(|end| clean[..end].to_owned())
            .collect();
        for prefix in prefixes {
            if self.mounted.contains(&prefix) {
                continue;
            }
            if self.failed.contains(&prefix) {
                break;
            }
            let trigger = self.triggers.get(&prefix).cloned();
            let going_on = match trigger {
                Some(Trigger::Offset { plan, node }) => {
                    self.mount(&plan, node, false, outcome, &mut ours)
                }
                Some(Trigger::Direct { maps, point }) => {
                    let kind = TriggerKind::Direct;
                    self.resolve(&maps, &point, kind, &prefix, ids, outcome, &mut ours)?
                }
                None => {
                    let (parent, _) = prefix.rsplit_once('/').unwrap_or_default();
                    let Some((maps, point)) = self.indirect.get(parent).cloned() else {
                        continue;
                    };
                    let kind = TriggerKind::Indirect;
                    self.resolve(&maps, &point, kind, &prefix, ids, outcome, &mut ours)?
                }
            };
            if !going_on {
                self.failed.insert(prefix);
                break;
            }
        }
        ours.triggers.sort();
        Ok(ours)
    }

    /// Looks the last part of `path` up, plans and mounts. Returns whether it is there.
    #[allow(clippy::too_many_arguments)]
    fn resolve(
        &mut self,
        maps: &[MapSpec],
        point: &PointOptions,
        kind: TriggerKind,
        path: &str,
        (uid, gid): (u32, u32),
        outcome: &Outcome,
        ours: &mut Ours,
    ) -> Result<bool, Unsuitable> {
        let (parent, name) = path.rsplit_once('/').unwrap_or_default();
        let (map_kind, key, mount_point) = match kind {
            TriggerKind::Indirect => (MapKind::Indirect, name, parent),
            _ => (MapKind::Direct, path, path),
        };
        if let Err(miss) = key::check(map_kind, key.into()) {
            ours.notes.push(format!("{miss:?}"));
            return Ok(false);
        }
        let Some(found) = self.look_up(maps, map_kind, key.into(), 0)? else {
            return Ok(false);
        };
        let names = user(uid).map(|(user, group, home)| {
            let names = RequesterNames {
                user: user.into(),
                group: group.into(),
                home: home.into(),
            };
            Arc::new(names)
        });
        let planning = piton_plan::plan(&PlanRequest {
            found: &found,
            key: key.into(),
            mount_point: mount_point.into(),
            kind,
            options: point,
            global_options: &self.global,
            append_options: self.append,
            dialect: &self.dialect,
            requester: &Requester {
                uid,
                gid,
                pid: 1,
                names,
                ..Requester::default()
            },
            facts: &self.facts,
        });
        for finding in &planning.diagnostics {
            ours.notes.push(format!(
                "{:?} {}: {}",
                finding.severity, finding.code, finding.message
            ));
        }
        let Some(plan) = planning.plan else {
            return Ok(false);
        };
        let make_root = kind == TriggerKind::Indirect;
        Ok(self.mount(&Arc::new(plan), 0, make_root, outcome, ours))
    }

    /// Performs the steps of a node. Returns whether its place is there now.
    fn mount(
        &mut self,
        plan: &Arc<Plan>,
        node: usize,
        make_root: bool,
        outcome: &Outcome,
        ours: &mut Ours,
    ) -> bool {
        let hosts = self.answers(plan, node);
        let attempts = plan.attempts_unasked(node, &self.facts, &hosts, 0);
        let target = plan.nodes[node].target.to_string();
        let mut numbers = Vec::new();
        let mut number = |child: usize| {
            numbers.push(child);
            TriggerId(child as u32)
        };
        let defaults = TriggerDefaults::default();
        let steps = plan.steps(node, make_root, attempts, &mut number, &defaults);
        for planned in steps {
            let mut unbound = false;
            let done = match planned.step {
                Step::Mount {
                    target, attempts, ..
                } => {
                    let bind = |attempt: &Attempt| matches!(attempt.what, What::Bind { .. });
                    unbound = attempts.iter().all(bind);
                    self.attempt(&attempts, &target.to_string(), outcome, ours)
                }
                Step::Install(spec) => {
                    self.install(
                        plan,
                        spec.id.0 as usize,
                        spec.kind,
                        &spec.path.to_string(),
                        ours,
                    );
                    true
                }
                _ => true,
            };
            if !done && planned.required {
                let servers = plan.over_network(node).filter(|_| unbound);
                return servers.is_some_and(|plan| {
                    self.mount(&Arc::new(plan), node, make_root, outcome, ours)
                });
            }
        }
        self.mounted.insert(target);
        true
    }

    fn install(
        &mut self,
        plan: &Arc<Plan>,
        node: usize,
        kind: TriggerKind,
        path: &str,
        ours: &mut Ours,
    ) {
        if let piton_plan::Action::Submount(submount) = &plan.nodes[node].action
            && kind == TriggerKind::Indirect
        {
            let point = (vec![submount.map.clone()], submount.options.clone());
            self.indirect.insert(path.to_owned(), point);
            ours.triggers.push(format!("indirect {path}"));
        } else {
            let trigger = Trigger::Offset {
                plan: plan.clone(),
                node,
            };
            self.triggers.insert(path.to_owned(), trigger);
            ours.triggers.push(format!("offset {path}"));
        }
    }

    /// Goes through the attempts until one worked, or would have worked with autofs.
    fn attempt(
        &self,
        attempts: &[Attempt],
        target: &str,
        outcome: &Outcome,
        ours: &mut Ours,
    ) -> bool {
        for attempt in attempts {
            let command = command(attempt, target);
            let failed = format!("{command} (failed)");
            // Recorded by its beginning: the status tells whether it failed.
            let too_long = command.len() > 1000 && outcome.status != "ok";
            if outcome.mounts.contains(&failed) || too_long {
                ours.mounts.push(failed);
                continue;
            }
            if !outcome.mounts.contains(&command) && !self.would_be_tried(attempt, outcome) {
                continue;
            }
            ours.mounts.push(command);
            return true;
        }
        false
    }

    /// Whether autofs would come to call mount: it asks servers before, which is not replayed.
    fn would_be_tried(&self, attempt: &Attempt, outcome: &Outcome) -> bool {
        let Some(host) = attempt.host.as_ref().map(BString::to_string) else {
            return true;
        };
        let own = self.case.hostname().split('.').next() == Some(&host);
        outcome.status == "ok" && !own && self.case.host(&host).is_none_or(|host| host.answers)
    }

    fn answers(&self, plan: &Plan, node: usize) -> HostAnswers {
        let answer = |host: &BString| {
            let spec = self.case.host(&host.to_string());
            let addresses = spec.iter().flat_map(|spec| &spec.addresses);
            HostAnswer {
                addresses: addresses
                    .filter_map(|address| address.parse().ok())
                    .collect(),
            }
        };
        let hosts = plan.hosts(node, &self.facts);
        hosts
            .into_iter()
            .map(|host| (host.clone(), answer(&host)))
            .collect()
    }
}

fn facts(case: &Case) -> HostFacts {
    let interface = |address: &str, prefix| Interface::new(address.parse().unwrap(), prefix);
    HostFacts {
        hostname: case.hostname().into(),
        os_name: "Linux".into(),
        os_release: "6.18.44-fc-v657".into(),
        os_version: "#1 SMP PREEMPT_DYNAMIC @0".into(),
        machine: "x86_64".into(),
        interfaces: vec![
            interface("127.0.0.1", 8),
            interface("10.77.0.1", 24),
            interface("fd77::1", 64),
        ],
        ..HostFacts::default()
    }
}

/// A mount command as the cases have it.
fn command(attempt: &Attempt, target: &str) -> String {
    let mut words: Vec<String> = match &attempt.what {
        What::Bind { recursive: false } => vec!["--bind".into()],
        What::Bind { recursive: true } => vec!["--rbind".into()],
        What::Type(name) if name.is_empty() => vec![],
        What::Type(name) => vec!["-t".into(), name.to_string()],
    };
    if !attempt.options.is_empty() {
        words.push("-o".into());
        words.push(
            bstr::join(",", &attempt.options)
                .to_str_lossy()
                .into_owned(),
        );
    }
    words.push(attempt.source.to_string());
    words.push(target.to_owned());
    words
        .iter()
        .map(|word| quoted(word))
        .collect::<Vec<_>>()
        .join(" ")
}

/// A word as a shell reads it, in the manner of Python's shlex.
fn quoted(word: &str) -> String {
    let safe = |c: char| c.is_ascii_alphanumeric() || "@%_-+=:,./".contains(c);
    if !word.is_empty() && word.chars().all(safe) {
        return word.to_owned();
    }
    format!("'{}'", word.replace('\'', "'\"'\"'"))
}
