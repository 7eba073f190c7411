//! Numbers for docs/performance.md, a line of JSON each in /out/records: bench/README.md.

use std::fs;
use std::io::Write;

use serde_json::json;

use crate::Daemon;

/// Writes down a number measured in a case, for one of several repetitions. The end of the
/// metric's name is its unit.
///
/// # Panics
/// /out cannot be written.
#[track_caller]
pub fn record(case: &str, daemon: Daemon, repetition: usize, metric: &str, value: f64) {
    crate::in_the_guest();
    let daemon = match daemon {
        Daemon::Piton => "piton",
        Daemon::Autofs => "autofs",
    };
    let kernel = fs::read_to_string("/proc/sys/kernel/osrelease").expect("the kernel's name");
    let line = json!({
        "scenario": "nfs", "case": case, "daemon": daemon, "rep": repetition,
        "kernel": kernel.trim(), "metrics": { metric: value },
    });
    println!("{line}");
    let mut file = fs::File::options()
        .create(true)
        .append(true)
        .open("/out/records")
        .expect("opening /out/records");
    writeln!(file, "{line}").expect("writing /out/records");
}
