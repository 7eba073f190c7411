//! Facts about this host, for the planner: shared by the daemon and by `explain`.

use bstr::BString;
use piton_plan::facts::HostFacts;

/// What this host is, with `-D` variables as given on the command line.
///
/// The daemon asks once at its start; `explain` and `check` ask when they run, so that both see
/// the same names.
pub(crate) fn of_this_host(defines: Vec<(BString, BString)>) -> HostFacts {
    let uname = rustix::system::uname();
    HostFacts {
        hostname: uname.nodename().to_bytes().into(),
        os_name: uname.sysname().to_bytes().into(),
        os_release: uname.release().to_bytes().into(),
        os_version: uname.version().to_bytes().into(),
        machine: uname.machine().to_bytes().into(),
        defines,
        environment: Vec::new(),
        interfaces: Vec::new(),
    }
}
