//! A plan: what one key becomes, before it is done.
//!
//! A plan is a tree of [`Node`]s, one for each place of the entry that gets a mount or a
//! trigger. Node 0 is the key's own directory and always there. A node's children are put in
//! place as triggers when the node is mounted, level by level.

use alloc::vec::Vec;

use bstr::{BStr, BString};
use piton_map::lookup::{MapSpec, Matched};
use piton_map::options::{PointOptions, Propagation, Selection};
use piton_map::text::Origin;

use crate::facts::{HostAnswers, HostFacts};
use crate::step::{Attempt, Planned, Step, TriggerId, TriggerKind, TriggerSpec, What};

/// What one key becomes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Plan {
    /// The key as it was asked for.
    pub key: BString,
    /// The places of the entry, parents before their children. Node 0 is the key's own directory.
    pub nodes: Vec<Node>,
    /// Whether one failing offset fails the whole.
    pub strict: bool,
    /// Seconds of idleness for this key, where the entry names them (`timeout=`); 0 is never.
    pub timeout: Option<u32>,
    /// How the key was found.
    pub matched: Matched,
    /// Where the entry was written.
    pub origin: Origin,
}

/// One place of a plan.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Node {
    /// Absolute path.
    pub target: BString,
    /// Path below the key's directory: `/` or `/x/y`.
    pub offset: BString,
    /// The node whose file system this one is mounted in. `None` for node 0 only.
    pub parent: Option<usize>,
    /// What happens there.
    pub action: Action,
    /// Where the location was written.
    pub origin: Origin,
}

/// What happens at a node.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Action {
    /// Only a directory: the entry has offsets but no location for its root.
    Nothing,
    /// A file system is mounted.
    Mount(MountPlan),
    /// Another map begins here.
    Submount(SubmountPlan),
}

/// A mount, before a server is chosen.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MountPlan {
    /// Bind mount or type.
    pub what: What,
    /// Options for mount, in order, after all merging, without pseudo-options.
    pub options: Vec<BString>,
    /// The places it can be had from, in the order written; never empty.
    pub replicas: Vec<Replica>,
    /// Propagation of the new mount.
    pub propagation: Propagation,
    /// A symbolic link in place of a bind mount.
    pub symlink: bool,
    /// Never bind-mount a path that turns out to be this host's own.
    pub nobind: bool,
    /// How the replicas are ranked.
    pub selection: Selection,
    /// Whether it needs the network, so that it may hang.
    pub network: bool,
}

/// One place a file system can be had from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Replica {
    /// The server as written, IPv6 addresses without brackets; `None` is this host, or a source
    /// that names no server the planner knows of.
    pub host: Option<BString>,
    /// Path on the server, or the whole source.
    pub path: BString,
    /// The administrator's bias; larger is less wanted.
    pub weight: u32,
}

/// An indirect map below this entry (`-fstype=autofs`).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SubmountPlan {
    /// The map.
    pub map: MapSpec,
    /// Options of the new mount point: those of the enclosing map, changed by the entry's.
    pub options: PointOptions,
}

/// What triggers get that an entry does not say.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TriggerDefaults {
    /// What the mount table shows as source: the map's name.
    pub source: BString,
    /// Seconds of idleness; 0 is never.
    pub timeout: u32,
    /// Path walks don't count as use.
    pub strict_expire: bool,
    /// Propagation of trigger mounts.
    pub propagation: Propagation,
}

impl Plan {
    /// The servers whose addresses are wanted before `node` can be mounted, each once.
    ///
    /// Literal addresses and this host's own names are not among them.
    pub fn hosts(&self, node: usize, facts: &HostFacts) -> Vec<BString> {
        let mut hosts = Vec::new();
        let Some(Action::Mount(mount)) = self.nodes.get(node).map(|node| &node.action) else {
            return hosts;
        };
        for host in mount
            .replicas
            .iter()
            .filter_map(|replica| replica.host.as_ref())
        {
            if !hosts.contains(host) && *host != facts.hostname {
                hosts.push(host.clone());
            }
        }
        hosts
    }

    /// The nodes that become triggers once `node` is mounted: the next level only.
    pub fn children(&self, node: usize) -> impl Iterator<Item = usize> + '_ {
        self.nodes
            .iter()
            .enumerate()
            .filter(move |(_, child)| child.parent == Some(node))
            .map(|(number, _)| number)
    }

    /// Ways to mount `node`, best first; empty when nothing is mounted there.
    pub fn attempts(
        &self,
        node: usize,
        _facts: &HostFacts,
        _answers: &HostAnswers,
        _seed: u64,
    ) -> Vec<Attempt> {
        let Some(Action::Mount(mount)) = self.nodes.get(node).map(|node| &node.action) else {
            return Vec::new();
        };
        mount
            .replicas
            .iter()
            .map(|replica| Attempt {
                what: mount.what.clone(),
                source: replica.source(),
                options: mount.options.clone(),
                host: replica.host.clone(),
            })
            .collect()
    }

    /// The steps that mount `node` and put the triggers of its children in place.
    ///
    /// `make_root` asks for the directory of an indirect key. `triggers` gives the number for
    /// the trigger of a node: of each child, and of `node` itself when it is a submount.
    #[allow(clippy::too_many_arguments)]
    pub fn steps(
        &self,
        node: usize,
        make_root: bool,
        facts: &HostFacts,
        answers: &HostAnswers,
        seed: u64,
        triggers: &mut dyn FnMut(usize) -> TriggerId,
        defaults: &TriggerDefaults,
    ) -> Vec<Planned> {
        let mut steps = Vec::new();
        let Some(place) = self.nodes.get(node) else {
            return steps;
        };
        if make_root {
            let step = Step::MakeDirectory {
                path: place.target.clone(),
            };
            steps.push(Planned {
                step,
                required: true,
            });
        }
        match &place.action {
            Action::Nothing => {}
            Action::Mount(mount) => steps.push(Planned {
                step: Step::Mount {
                    target: place.target.clone(),
                    attempts: self.attempts(node, facts, answers, seed),
                    propagation: mount.propagation,
                },
                required: true,
            }),
            Action::Submount(submount) => {
                let spec = TriggerSpec {
                    id: triggers(node),
                    kind: TriggerKind::Indirect,
                    path: place.target.clone(),
                    source: submount.map.name.clone(),
                    timeout: submount.options.timeout.unwrap_or(defaults.timeout),
                    strict_expire: submount.options.strict_expire,
                    mode: submount.options.mode,
                    propagation: submount.options.propagation,
                };
                steps.push(Planned {
                    step: Step::Install(spec),
                    required: true,
                });
            }
        }
        for child in self.children(node) {
            let path = self.nodes[child].target.clone();
            steps.push(Planned {
                step: Step::MakeDirectory { path: path.clone() },
                required: self.strict,
            });
            let spec = TriggerSpec {
                id: triggers(child),
                kind: TriggerKind::Offset,
                path,
                source: defaults.source.clone(),
                timeout: self.timeout.unwrap_or(defaults.timeout),
                strict_expire: defaults.strict_expire,
                mode: None,
                propagation: defaults.propagation,
            };
            steps.push(Planned {
                step: Step::Install(spec),
                required: self.strict,
            });
        }
        steps
    }
}

impl Replica {
    /// The text given to mount: `host:/path`, with brackets around an IPv6 address.
    pub fn source(&self) -> BString {
        let Some(host) = &self.host else {
            return self.path.clone();
        };
        source_of(host.as_ref(), self.path.as_ref())
    }
}

/// `host:path`, with brackets around an IPv6 address.
pub(crate) fn source_of(host: &BStr, path: &BStr) -> BString {
    let mut text = BString::default();
    let brackets = host.contains(&b':');
    if brackets {
        text.push(b'[');
    }
    text.extend_from_slice(host);
    if brackets {
        text.push(b']');
    }
    text.push(b':');
    text.extend_from_slice(path);
    text
}
