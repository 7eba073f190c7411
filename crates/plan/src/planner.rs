//! From an entry's text to a plan.

use alloc::string::String;
use alloc::vec;
use alloc::vec::Vec;

use bstr::{BStr, BString, ByteSlice};
use piton_map::diagnostic::Diagnostic;
use piton_map::dialect::Dialect;
use piton_map::lookup::Found;
use piton_map::options::PointOptions;
use piton_map::requester::Requester;
use piton_map::text::Origin;

use crate::facts::HostFacts;
use crate::plan::{Action, MountPlan, Node, Plan, Replica};
use crate::step::{TriggerKind, What};

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

/// One decision in words.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TraceLine {
    /// The sentence, without a final stop.
    pub text: String,
    /// The place in the map that made it so.
    pub origin: Option<Origin>,
}

/// Plans what becomes of a key.
pub fn plan(request: &PlanRequest) -> Planning {
    let fragment = &request.found.fragment;
    let value = fragment.slice(request.found.value);
    let mut options = request.options.mount.clone();
    let mut kind = What::Type("nfs".into());
    let mut replicas = Vec::new();
    for word in value
        .split(u8::is_ascii_whitespace)
        .filter(|word| !word.is_empty())
    {
        if let Some(list) = word.strip_prefix(b"-") {
            for option in list.split_str(",") {
                match option.strip_prefix(b"fstype=") {
                    Some(name) => kind = What::Type(name.into()),
                    None => options.push(option.into()),
                }
            }
        } else if let Some((host, path)) = word.split_once_str(":") {
            let host = (!host.is_empty()).then(|| BString::from(host));
            replicas.push(Replica {
                host,
                path: path.into(),
                weight: 0,
            });
        }
    }
    let mut target = BString::from(request.mount_point);
    if request.kind == TriggerKind::Indirect {
        target.push(b'/');
        target.extend_from_slice(request.key);
    }
    let origin = fragment.origin(request.found.value);
    let mount = MountPlan {
        what: kind,
        options,
        replicas,
        propagation: request.options.propagation,
        symlink: request.options.symlink,
        nobind: request.options.nobind,
        selection: request.options.selection,
        network: true,
    };
    let root = Node {
        target,
        offset: "/".into(),
        parent: None,
        action: Action::Mount(mount),
        origin: origin.clone(),
    };
    let plan = Plan {
        key: request.key.into(),
        nodes: vec![root],
        strict: request.options.strict,
        timeout: None,
        matched: request.found.matched,
        origin,
    };
    Planning {
        plan: Some(plan),
        ..Planning::default()
    }
}
