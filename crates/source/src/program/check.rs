//! Whether a program may be run with our rights: only if nobody else can change it.

use std::os::unix::fs::MetadataExt;
use std::path::Path;

/// Permission to write for group and others.
const WRITABLE_BY_OTHERS: u32 = 0o022;
/// In such a directory only a file's owner may replace it.
const STICKY: u32 = 0o1000;

/// Returns nothing if and only if the program `real` (the file that `written` leads to) is a
/// regular file that its owner may execute, and neither it nor a directory on the way to it or
/// to `written` can be changed by anybody but root and ourselves.
///
/// # Errors
/// The reason, with what to do.
pub(super) fn may_run(written: &Path, real: &Path) -> Result<(), String> {
    let ours = rustix::process::geteuid().as_raw();
    let status = std::fs::metadata(real).map_err(|error| error.to_string())?;
    if !status.is_file() {
        return Err("is not a regular file".into());
    }
    if status.mode() & 0o100 == 0 {
        return Err("its owner may not execute it; chmod u+x".into());
    }
    if status.uid() != 0 && status.uid() != ours {
        return Err(format!(
            "belongs to user {}; chown it to root",
            status.uid()
        ));
    }
    if status.mode() & WRITABLE_BY_OTHERS != 0 {
        return Err(format!(
            "may be written by group or others (mode {:04o}); chmod go-w",
            status.mode() & 0o7777
        ));
    }
    directories(real, ours)?;
    match written.parent().map(Path::canonicalize) {
        Some(Ok(parent)) => directories(&parent.join("link"), ours),
        _ => Ok(()),
    }
}

/// Checks the directories above `path`.
fn directories(path: &Path, ours: u32) -> Result<(), String> {
    for directory in path.ancestors().skip(1) {
        let shown = directory.display();
        let status = std::fs::metadata(directory).map_err(|error| format!("{shown}: {error}"))?;
        if status.uid() != 0 && status.uid() != ours {
            return Err(format!(
                "its directory {shown} belongs to user {}; chown it to root",
                status.uid()
            ));
        }
        if status.mode() & WRITABLE_BY_OTHERS != 0 && status.mode() & STICKY == 0 {
            return Err(format!(
                "its directory {shown} may be written by group or others (mode {:04o}); chmod go-w",
                status.mode() & 0o7777
            ));
        }
    }
    Ok(())
}
