//! What a user's own daemon cannot mount: said by `check` and `explain` in the words of what would
//! have to mount it.

use piton_map::diagnostic::{Diagnostic, Severity};
use piton_map::lookup::Found;
use piton_plan::Plan;
use piton_plan::facts::{HostAnswers, HostFacts};

/// `needs-root`: the first mount of an entry that is refused to a user without root.
pub(crate) fn needs_root(plan: &Plan, facts: &HostFacts, found: &Found) -> Option<Diagnostic> {
    if !facts.rootless {
        return None;
    }
    let why = (0..plan.nodes.len()).find_map(|node| {
        let attempts = plan.attempts_unasked(node, facts, &HostAnswers::new(), 0);
        let is_link = plan.link(node, true, &attempts).is_some();
        attempts
            .first()
            .filter(|_| !is_link)
            .and_then(piton_mount::needs_root)
    })?;
    let message = format!("{why}: whoever touches it gets EPERM");
    let one = Diagnostic::new(
        Severity::Error,
        "needs-root",
        message,
        &found.fragment,
        found.value,
    );
    Some(one.help("name a type that a program of yours mounts: docs/fuse.md lists them"))
}
