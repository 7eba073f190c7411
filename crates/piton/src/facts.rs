//! Facts about this host, for the planner: shared by the daemon and by `explain`.

use std::os::unix::ffi::OsStringExt;

use bstr::BString;
use piton_plan::facts::HostFacts;

/// What this host is, with `-D` variables as given on the command line.
///
/// The daemon asks at its start, and for interfaces and routes again when the kernel says that they changed;
/// `explain` and `check` ask when they run, so that both see the same names. Without interfaces (no
/// permission to list them) every server counts as far away, which costs the best order of replicas
/// and nothing else.
///
/// Of the environment maps see the variables that are named, and no others: that of a daemon of
/// root is nobody's who uses the maps.
pub(crate) fn with_environment(
    defines: Vec<(BString, BString)>,
    names: &[std::ffi::OsString],
) -> HostFacts {
    let variable = |name: &std::ffi::OsString| {
        let value = std::env::var_os(name)?;
        Some((name.clone().into_vec().into(), value.into_vec().into()))
    };
    HostFacts {
        environment: names.iter().filter_map(variable).collect(),
        ..of_this_host(defines)
    }
}

/// The same without variables of the environment.
pub(crate) fn of_this_host(defines: Vec<(BString, BString)>) -> HostFacts {
    let (interfaces, routes) = piton_mount::hosts::network().unwrap_or_default();
    HostFacts {
        defines,
        interfaces,
        routes,
        ..piton_mount::uname::facts()
    }
}
