//! A plan: what one key becomes, before it is done.
//!
//! A plan is a tree of [`Node`]s, one for each place of the entry that gets a mount or a
//! trigger. Node 0 is the key's own directory and always there. A node's children are put in
//! place as triggers when the node is mounted, level by level.

use alloc::vec::Vec;

use bstr::{BStr, BString, ByteSlice};
use piton_map::lookup::{MapSpec, Matched};
use piton_map::options::{PointOptions, Propagation, Selection};
use piton_map::text::Origin;

use crate::attempt;
use crate::facts::{HostAnswers, HostFacts};
use crate::select::{self, Choice, Ranked};
use crate::step::{Attempt, Planned, Step, TriggerId, TriggerKind, TriggerSpec, What};

/// What one key becomes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Plan {
    /// The key as it was asked for.
    pub key: BString,
    /// The places of the entry, each directly followed by all that is below it. Node 0 is the key's own
    /// directory.
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
    /// `mount-helper=yes`: mount(8) mounts it, even where Piton could by itself.
    pub by_helper: bool,
    /// The sub-directory that all replicas name (`host:path:subdirectory`), which is part of their
    /// paths: what is above it can be shared with other keys.
    pub below: Option<BString>,
}

/// One place a file system can be had from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Replica {
    /// The server as written, IPv6 addresses without brackets; `None` is this host, or a source
    /// that names no server to choose.
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
    /// What happens at `node`, when it is a mount.
    pub fn mount(&self, node: usize) -> Option<&MountPlan> {
        match &self.nodes.get(node)?.action {
            Action::Mount(mount) => Some(mount),
            Action::Nothing | Action::Submount(_) => None,
        }
    }

    /// The servers whose addresses are wanted before `node` can be mounted, each once.
    ///
    /// Literal addresses and this host's own names are not among them: they are known.
    pub fn hosts(&self, node: usize, facts: &HostFacts) -> Vec<BString> {
        let mut hosts: Vec<BString> = Vec::new();
        let Some(mount) = self.mount(node) else {
            return hosts;
        };
        for host in mount
            .replicas
            .iter()
            .filter_map(|replica| replica.host.as_ref())
        {
            if !hosts.contains(host) && select::needs_address(host.as_ref(), facts) {
                hosts.push(host.clone());
            }
        }
        hosts
    }

    /// The servers that `node` could come from; nothing in place of a name: this host.
    pub fn servers(&self, node: usize) -> impl Iterator<Item = Option<&BString>> {
        let replicas = self.mount(node).into_iter().flat_map(|it| &it.replicas);
        replicas.map(|replica| replica.host.as_ref())
    }

    /// Whether what is mounted at `node` is mounted read only: the last word counts.
    pub fn is_read_only(&self, node: usize) -> bool {
        let options = self.mount(node).map(|mount| mount.options.iter());
        let mut words = options.into_iter().flatten().rev();
        words
            .find(|word| *word == "ro" || *word == "rw")
            .is_some_and(|word| word == "ro")
    }

    /// The nodes that become triggers once `node` is mounted: the next level only.
    pub fn children(&self, node: usize) -> impl Iterator<Item = usize> + '_ {
        // What is below a node follows it directly, and an entry may have thousands of offsets.
        let below = self.nodes.iter().enumerate().skip(node + 1);
        below
            .take_while(move |(_, child)| child.parent >= Some(node))
            .filter(move |(_, child)| child.parent == Some(node))
            .map(|(number, _)| number)
    }

    /// The servers that `node` could come from, to be chosen among; nothing where nothing is
    /// mounted.
    pub fn choice(
        &self,
        node: usize,
        facts: &HostFacts,
        hosts: &HostAnswers,
        seed: u64,
    ) -> Option<Choice> {
        self.mount(node)
            .map(|mount| Choice::new(mount, facts, hosts, seed))
    }

    /// Ways to mount `node` from `servers`, best first. Empty when nothing is mounted there, and
    /// when no server may serve it.
    pub fn attempts(&self, node: usize, servers: &[Ranked]) -> Vec<Attempt> {
        let Some(mount) = self.mount(node) else {
            return Vec::new();
        };
        let target = self.nodes[node].target.as_ref();
        attempt::attempts(mount, target, servers, self.is_required(node))
    }

    /// The same plan with what is above the sub-directory that it names, for several keys to share,
    /// and that sub-directory. Nothing where an entry is more than one place, or names none.
    pub fn shared(&self) -> Option<(Self, BString)> {
        let below = self
            .mount(0)?
            .below
            .clone()
            .filter(|_| self.nodes.len() == 1)?;
        let mut plan = self.clone();
        if let Action::Mount(mount) = &mut plan.nodes[0].action {
            mount.below = None;
            for replica in &mut mount.replicas {
                let above = replica.path.strip_suffix(below.as_bytes())?;
                let above = above.strip_suffix(b"/").filter(|above| !above.is_empty());
                replica.path = above.unwrap_or(b"/").into();
            }
        }
        Some((plan, below))
    }

    /// Whether nothing of a place is of use without its own mount. Offsets are of use without
    /// their root, so that it may fail as they may.
    pub fn is_required(&self, node: usize) -> bool {
        self.strict || self.children(node).next().is_none()
    }

    /// The same plan when a directory of this host could not be bind-mounted at `node`, and
    /// servers are named for it: they are mounted from. Nothing where there is no such server.
    pub fn over_network(&self, node: usize) -> Option<Self> {
        let mount = self.mount(node).filter(|mount| !mount.nobind)?;
        if mount.replicas.iter().all(|replica| replica.host.is_none()) {
            return None;
        }
        let mut plan = self.clone();
        if let Action::Mount(mount) = &mut plan.nodes[node].action {
            mount.nobind = true;
        }
        Some(plan)
    }

    /// The same when no server is asked.
    pub fn attempts_unasked(
        &self,
        node: usize,
        facts: &HostFacts,
        hosts: &HostAnswers,
        seed: u64,
    ) -> Vec<Attempt> {
        let choice = self.choice(node, facts, hosts, seed);
        choice.map_or_else(Vec::new, |choice| {
            self.attempts(node, &choice.ranked(&|_, _| None))
        })
    }

    /// The steps that mount `node` and put the triggers of its children in place.
    ///
    /// `attempts` are the ways to mount it. `make_root` asks for the directory of an indirect key; only then may the key become a
    /// symbolic link. `triggers` gives the number for the trigger of a node: of each child, and
    /// of `node` itself when it is a submount.
    pub fn steps(
        &self,
        node: usize,
        make_root: bool,
        attempts: Vec<Attempt>,
        triggers: &mut dyn FnMut(usize) -> TriggerId,
        defaults: &TriggerDefaults,
    ) -> Vec<Planned> {
        let mut steps = Vec::new();
        let Some(place) = self.nodes.get(node) else {
            return steps;
        };
        let path = place.target.clone();
        if let Some(to) = self.link(node, make_root, &attempts) {
            steps.push(Planned {
                step: Step::Symlink { path, to },
                required: true,
            });
            return steps;
        }
        if make_root {
            let step = Step::MakeDirectory { path: path.clone() };
            steps.push(Planned {
                step,
                required: true,
            });
        }
        match &place.action {
            Action::Nothing => {}
            Action::Mount(MountPlan { propagation, .. }) => {
                let step = Step::Mount {
                    target: path,
                    attempts,
                    propagation: *propagation,
                };
                steps.push(Planned {
                    step,
                    required: self.is_required(node),
                });
            }
            Action::Submount(submount) => {
                let spec = submount.trigger(triggers(node), path, defaults);
                steps.push(Planned {
                    step: Step::Install(spec),
                    required: true,
                });
            }
        }
        for child in self.children(node) {
            self.offset_steps(child, triggers(child), defaults, &mut steps);
        }
        steps
    }

    /// The steps that put the trigger of an offset in place.
    fn offset_steps(
        &self,
        child: usize,
        id: TriggerId,
        defaults: &TriggerDefaults,
        steps: &mut Vec<Planned>,
    ) {
        let path = self.nodes[child].target.clone();
        let spec = TriggerSpec {
            id,
            kind: TriggerKind::Offset,
            path: path.clone(),
            source: defaults.source.clone(),
            timeout: self.timeout.unwrap_or(defaults.timeout),
            strict_expire: defaults.strict_expire,
            mode: None,
            propagation: defaults.propagation,
        };
        let required = self.strict;
        steps.push(Planned {
            step: Step::MakeDirectory { path },
            required,
        });
        steps.push(Planned {
            step: Step::Install(spec),
            required,
        });
    }

    /// What the key's directory is a symbolic link to, where it is one: `symlink` makes links
    /// of keys of an indirect map that have no offsets and would be bind mounts.
    pub fn link(&self, node: usize, make_root: bool, attempts: &[Attempt]) -> Option<BString> {
        let mount = self.mount(node)?;
        let wanted = mount.symlink && make_root && node == 0 && self.nodes.len() == 1;
        let first = attempts.first().filter(|_| wanted)?;
        matches!(first.what, What::Bind { .. }).then(|| first.source.clone())
    }
}

impl Replica {
    /// The text given to mount: `host:/path`, with brackets around an IPv6 address.
    pub fn source(&self) -> BString {
        match &self.host {
            Some(host) => source_of(host.as_ref(), self.path.as_ref()),
            None => self.path.clone(),
        }
    }
}

impl SubmountPlan {
    fn trigger(&self, id: TriggerId, path: BString, defaults: &TriggerDefaults) -> TriggerSpec {
        TriggerSpec {
            id,
            kind: TriggerKind::Indirect,
            path,
            source: self.map.name.clone(),
            timeout: self.options.timeout.unwrap_or(defaults.timeout),
            strict_expire: self.options.strict_expire || defaults.strict_expire,
            mode: self.options.mode,
            propagation: self.options.propagation,
        }
    }
}

/// `host:path`, with brackets around an IPv6 address.
pub(crate) fn source_of(host: &BStr, path: &BStr) -> BString {
    let ipv6 = host.contains(&b':');
    let (open, close) = if ipv6 { ("[", "]") } else { ("", "") };
    [
        open.as_bytes(),
        host.as_bytes(),
        close.as_bytes(),
        b":",
        path.as_bytes(),
    ]
    .concat()
    .into()
}
