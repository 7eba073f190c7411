//! From an entry's text to a plan.

use alloc::borrow::Cow;
use alloc::format;
use alloc::vec::Vec;

use bstr::{BStr, BString, ByteSlice};
use piton_map::diagnostic::{Diagnostic, Severity};
use piton_map::dialect::Dialect;
use piton_map::entry::{self, Entry, EntryRequest, Mount, Reading};
use piton_map::fstype;
use piton_map::key::{PATH_LIMIT, unquote};
use piton_map::location::Server;
use piton_map::lookup::Found;
use piton_map::options::PointOptions;
use piton_map::requester::Requester;
use piton_map::text::{Fragment, Span};

use crate::attempt::is_within;
use crate::facts::HostFacts;
use crate::plan::{Action, MountPlan, Node, Plan, Replica, SubmountPlan};
use crate::step::{TriggerKind, What};
use crate::trace::{TraceLine, trace};
use crate::variables::HostVariables;

/// All that [`plan`] needs to know.
#[derive(Clone, Copy, Debug)]
pub struct PlanRequest<'a> {
    /// The line that a look-up found.
    pub found: &'a Found,
    /// The key asked for; for a direct map its absolute path.
    pub key: &'a BStr,
    /// The mount point of the map; for a direct map the key.
    pub mount_point: &'a BStr,
    /// Kind of the trigger that was touched: indirect or direct.
    pub kind: TriggerKind,
    /// Options of the map's mount point.
    pub options: &'a PointOptions,
    /// Options for every map (`-O`).
    pub global_options: &'a [BString],
    /// `append_options` of autofs.conf: false makes entry options replace those of the map.
    pub append_options: bool,
    /// The rules in force.
    pub dialect: &'a Dialect,
    /// Who touched it.
    pub requester: &'a Requester,
    /// Facts about the host.
    pub facts: &'a HostFacts,
}

/// What came of planning.
#[derive(Clone, Debug, Default)]
pub struct Planning {
    /// The plan; `None` when the entry cannot be used, and the diagnostics say why.
    pub plan: Option<Plan>,
    /// What is wrong or odd about the entry.
    pub diagnostics: Vec<Diagnostic>,
    /// What was decided, in order, for `piton explain`.
    pub trace: Vec<TraceLine>,
}

/// Plans what becomes of a key, and says why.
pub fn plan(request: &PlanRequest) -> Planning {
    let reading = read(request);
    let trace = trace(request, &reading);
    Planning {
        trace,
        ..planned(request, reading)
    }
}

/// The same without the trace: an entry may have thousands of offsets, and nobody reads it.
pub fn plan_silently(request: &PlanRequest) -> Planning {
    planned(request, read(request))
}

fn read(request: &PlanRequest) -> Reading {
    let requester = request
        .dialect
        .requester_variables
        .then_some(request.requester);
    let variables = HostVariables {
        point: request.options,
        facts: request.facts,
        requester,
    };
    let key = key_in_entry(request);
    entry::read(&EntryRequest {
        found: request.found,
        key: key.as_ref(),
        variables: &variables,
        point: request.options,
        global: request.global_options,
        append: request.append_options,
        dialect: request.dialect,
    })
}

fn planned(request: &PlanRequest, reading: Reading) -> Planning {
    let mut diagnostics = reading.diagnostics;
    let plan = reading
        .entry
        .and_then(|entry| Planner { request }.plan(entry, &mut diagnostics));
    Planning {
        plan,
        diagnostics,
        trace: Vec::new(),
    }
}

/// What `&` stands for: the key, for a direct map with the final slash that it may be written with.
fn key_in_entry<'a>(request: &PlanRequest<'a>) -> Cow<'a, BStr> {
    let written = unquote(request.found.fragment.slice(request.found.key));
    if request.kind == TriggerKind::Direct && written.ends_with(b"/") {
        let mut key = BString::from(request.key);
        key.push(b'/');
        return Cow::Owned(key);
    }
    Cow::Borrowed(request.key)
}

/// Builds the tree of nodes.
struct Planner<'a> {
    request: &'a PlanRequest<'a>,
}

impl Planner<'_> {
    fn plan(&self, entry: Entry, diagnostics: &mut Vec<Diagnostic>) -> Option<Plan> {
        let found = self.request.found;
        let Entry {
            mut mounts,
            strict,
            timeout,
        } = entry;
        mounts.sort_by_cached_key(|mount| in_tree_order(mount.offset.as_ref()));
        let key_directory = self.key_directory();
        let mut nodes = Vec::with_capacity(mounts.len() + 1);
        if mounts.first().is_none_or(|mount| mount.offset != "/") {
            nodes.push(Node {
                target: key_directory.clone(),
                offset: "/".into(),
                parent: None,
                action: Action::Nothing,
            });
        }
        for mount in mounts {
            let span = mount.span;
            match self.node(mount, &key_directory, &nodes) {
                Ok(node) => nodes.push(node),
                Err(trouble) => {
                    diagnostics.push(trouble.diagnostic(&found.fragment, span));
                    return None;
                }
            }
        }
        // A submount's idle time is its own.
        let root_is_map = matches!(nodes[0].action, Action::Submount(_));
        Some(Plan {
            key: self.request.key.into(),
            nodes,
            strict,
            timeout: timeout.filter(|_| !root_is_map),
            matched: found.matched,
            origin: found.fragment.origin(if found.key.end > found.key.start {
                found.key
            } else {
                found.value
            }),
        })
    }

    /// The absolute path of the key's directory.
    fn key_directory(&self) -> BString {
        let mut path = piton_path::normalize(self.request.mount_point).into_owned();
        if self.request.kind == TriggerKind::Indirect {
            if path != "/" {
                path.push(b'/');
            }
            path.extend_from_slice(self.request.key);
        }
        path
    }

    fn node(&self, mount: Mount, directory: &BString, nodes: &[Node]) -> Result<Node, Trouble> {
        let mut target = directory.clone();
        if mount.offset != "/" {
            target.extend_from_slice(&mount.offset);
        }
        if target.len() >= PATH_LIMIT {
            return Err(Trouble::PathTooLong);
        }
        let parent = parent(nodes, mount.offset.as_ref());
        if parent.is_some_and(|parent| matches!(nodes[parent].action, Action::Submount(_))) {
            return Err(Trouble::BelowSubmount);
        }
        let offset = mount.offset.clone();
        let action = action(mount, target.as_ref(), self.request.facts.rootless)?;
        Ok(Node {
            target,
            offset,
            parent,
            action,
        })
    }
}

/// The node that encloses `offset`, going up from the node before it: with the nodes in tree
/// order that is a sibling, a parent, or a descendant of one.
fn parent(nodes: &[Node], offset: &BStr) -> Option<usize> {
    let mut number = nodes.len().checked_sub(1)?;
    while number > 0 && !is_within(offset, nodes[number].offset.as_ref()) {
        number = nodes[number].parent?;
    }
    Some(number)
}

/// What to sort offsets by so that parents come before their children and these directly after
/// them: `/a/b` before `/a-b`.
fn in_tree_order(offset: &BStr) -> Vec<u8> {
    offset
        .iter()
        .map(|byte| if *byte == b'/' { 0 } else { *byte })
        .collect()
}

/// What happens at the target of a mount; with `links` a bind mount should be a link.
fn action(mount: Mount, target: &BStr, links: bool) -> Result<Action, Trouble> {
    let Mount {
        what,
        options,
        nobind,
        symlink,
        selection,
        propagation,
        by_helper,
        ..
    } = mount;
    let plan = |what: What, replicas: Vec<Replica>, symlink: bool, network: bool| {
        Action::Mount(MountPlan {
            what,
            options: options.clone(),
            replicas,
            propagation,
            symlink,
            nobind,
            selection,
            network,
            by_helper,
            below: None,
        })
    };
    let here = |path: BString| {
        alloc::vec![Replica {
            host: None,
            path,
            weight: 0
        }]
    };
    Ok(match what {
        entry::What::Servers { fstype, servers } => {
            let below = common_subdirectory(&servers);
            let servers: Vec<Replica> = servers.into_iter().map(replica).collect();
            reachable(&servers, nobind, target)?;
            let network = servers.iter().any(|server| server.host.is_some());
            let mut action = plan(What::Type(fstype), servers, symlink || links, network);
            if let Action::Mount(mount) = &mut action {
                mount.below = below;
            }
            action
        }
        entry::What::Bind { recursive, source } => {
            refuse_itself(source.as_ref(), target)?;
            plan(
                What::Bind { recursive },
                here(source),
                symlink || links,
                false,
            )
        }
        entry::What::Link { to } => {
            refuse_itself(to.as_ref(), target)?;
            plan(What::Bind { recursive: false }, here(to), true, false)
        }
        entry::What::Source { fstype, source } => {
            let network = fstype::needs_network(fstype.as_ref());
            plan(What::Type(fstype), here(source), false, network)
        }
        entry::What::Map { map, point } => Action::Submount(SubmountPlan {
            map,
            options: point,
        }),
    })
}

/// Refuses a list of servers none of which can be used.
fn reachable(servers: &[Replica], nobind: bool, target: &BStr) -> Result<(), Trouble> {
    if servers.iter().any(|server| server.host.is_some()) {
        return Ok(());
    }
    if nobind {
        return Err(Trouble::NothingButBind);
    }
    match servers
        .iter()
        .all(|server| is_within(server.path.as_ref(), target))
    {
        true => Err(Trouble::Itself),
        false => Ok(()),
    }
}

/// Refuses to mount a directory on itself: whoever looked into it would wait for the mount
/// that waits for the look.
fn refuse_itself(source: &BStr, target: &BStr) -> Result<(), Trouble> {
    if is_within(source, target) {
        Err(Trouble::Itself)
    } else {
        Ok(())
    }
}

/// The sub-directory that all servers name.
fn common_subdirectory(servers: &[Server]) -> Option<BString> {
    let first = servers.first()?.subdirectory.as_ref()?;
    let same = |server: &Server| server.subdirectory.as_ref() == Some(first);
    let below = first.trim_with(|c| c == '/');
    (servers.iter().all(same) && !below.is_empty()).then(|| below.into())
}

/// A server of the map's language; a sub-directory of what is mounted is mounted by itself.
fn replica(server: Server) -> Replica {
    let Server {
        host,
        mut path,
        subdirectory,
        weight,
    } = server;
    if let Some(below) = subdirectory {
        if !path.ends_with(b"/") {
            path.push(b'/');
        }
        path.extend_from_slice(below.trim_with(|c| c == '/'));
    }
    Replica { host, path, weight }
}

/// Why a sound entry cannot be planned.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Trouble {
    BelowSubmount,
    Itself,
    NothingButBind,
    PathTooLong,
}

impl Trouble {
    fn diagnostic(self, fragment: &Fragment, span: Span) -> Diagnostic {
        let (code, message, help) = match self {
            Self::BelowSubmount => (
                "offset-below-submount",
                "the offset lies in a map of its own",
                "write it as an entry of that map",
            ),
            Self::Itself => (
                "bind-of-itself",
                "the directory would be mounted on itself",
                "name a directory outside of the mount point",
            ),
            Self::NothingButBind => (
                "nobind-local",
                "`nobind` forbids the only way there is to mount a directory of this host",
                "remove nobind, or name the host to mount it over the network",
            ),
            Self::PathTooLong => {
                let message = format!("the mount point is longer than {} bytes", PATH_LIMIT - 1);
                let help = "shorten the offset or the mount point";
                return Diagnostic::new(Severity::Error, "path-too-long", message, fragment, span)
                    .help(help);
            }
        };
        Diagnostic::new(Severity::Error, code, message, fragment, span).help(help)
    }
}
