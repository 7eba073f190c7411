//! What the tests in the virtual machine stand on: its servers ([`Server`]), a site with maps and
//! an automounter, ours or autofs ([`Site`]), and accesses that may hang ([`Touch`]).
//!
//! README.md says what is in the guest and how to run the tests. Each test has a guest of its own,
//! restored from a snapshot: what it breaks, it may leave broken.
#![forbid(unsafe_code)]

mod record;
mod server;
mod site;
mod touch;

use std::time::Duration;

pub use piton_testkit::{MountLine, Writer, commands, mount_table, mounted_at, state, wait_until};
pub use record::record;
pub use server::Server;
pub use site::{Daemon, Site};
pub use touch::{Touch, Touched};

/// Longest wait for what must happen some time: the guest is emulated, and slow.
pub const LIMIT: Duration = Duration::from_secs(60);

/// Sees to it that nothing here happens to a real machine.
///
/// # Panics
/// This is not the guest.
#[track_caller]
pub fn in_the_guest() {
    assert!(
        std::path::Path::new("/rig/agent").exists(),
        "this test takes a machine to pieces, and runs in the guest only: cargo xtask vm-test"
    );
}

/// Runs a program, which must succeed; returns what it printed.
///
/// # Panics
/// It cannot be started, or fails.
#[track_caller]
pub fn run(program: &str, arguments: &[&str]) -> String {
    in_the_guest();
    let output = std::process::Command::new(program)
        .args(arguments)
        .stdin(std::process::Stdio::null())
        .output()
        .unwrap_or_else(|error| panic!("{program}: {error}"));
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(
        output.status.success(),
        "{program} {arguments:?}: {} {errors}",
        output.status
    );
    String::from_utf8_lossy(&output.stdout).into_owned()
}
