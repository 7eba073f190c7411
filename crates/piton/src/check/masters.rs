//! Lints about the master map's own lines.

use std::collections::BTreeSet;
use std::sync::Arc;

use bstr::ByteSlice;
use piton_map::diagnostic::{Diagnostic, Severity};
use piton_map::lookup::MapType;
use piton_map::master::{self, MasterEntry, MasterItem};

use super::Findings;
use crate::explain::site::Opened;

/// Looks at every file that is part of the master map.
pub(crate) fn check(opened: &Opened, findings: &mut Findings) {
    let mut files: BTreeSet<Arc<str>> = opened
        .site
        .points
        .iter()
        .map(|point| point.origin.file.clone())
        .collect();
    files.insert(opened.site.master.as_str().into());
    for file in files {
        let Some(text) = opened.text(&file) else {
            continue;
        };
        let (parsed, _) = master::parse(&text);
        for item in &parsed.items {
            if let MasterItem::Entry(entry) = item {
                findings.extend(untidy_mount_point(entry));
                findings.extend(trusted_hosts(entry));
            }
        }
    }
}

/// `untidy-mount-point`: slashes that autofs takes literally.
fn untidy_mount_point(entry: &MasterEntry) -> Option<Diagnostic> {
    let written = entry.fragment.slice(entry.span);
    let untidy =
        written.contains_str("//") || written.contains_str("/./") || written.ends_with(b"/.");
    untidy.then(|| {
        let message = "the mount point has doubled slashes or `.` in it; autofs takes them \
                       literally and cannot expire it";
        let (fragment, span) = (&entry.fragment, entry.span);
        Diagnostic::new(
            Severity::Warning,
            "untidy-mount-point",
            message,
            fragment,
            span,
        )
        .help("write each slash once")
    })
}

/// `trusted-hosts`: `-hosts` mounts whatever any server offers.
fn trusted_hosts(entry: &MasterEntry) -> Option<Diagnostic> {
    let hosts = entry
        .maps
        .iter()
        .any(|map| map.kind == Some(MapType::Hosts));
    let has = |name: &str| entry.options.mount.iter().any(|option| option == name);
    (hosts && (has("suid") || has("dev"))).then(|| {
        let message = "any server that somebody names may bring set-uid programs or devices";
        Diagnostic::new(
            Severity::Warning,
            "trusted-hosts",
            message,
            &entry.fragment,
            entry.span,
        )
        .help("remove suid and dev; name the servers that are trusted in a map of their own")
    })
}
