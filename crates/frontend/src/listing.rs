//! Browse mode: directories that stand for keys before anything is mounted on them.

use std::collections::HashSet;

use autofs::{Errno, PointRoot};
use bstr::BString;

/// Permission bits of a key's directory in an indirect trigger.
pub(crate) const DIRECTORY_MODE: u32 = 0o755;

/// Makes the directories of `wanted` and removes those of `before` that are not in it. What is
/// mounted on is left alone, and so is what the kernel refuses: listing is a convenience.
pub(crate) fn relist(root: &PointRoot, before: &HashSet<BString>, wanted: &HashSet<BString>) {
    for key in wanted.difference(before) {
        match root.make_dir(key, DIRECTORY_MODE) {
            Ok(()) => {}
            Err(error) if error.errno() == Some(Errno::EXIST) => {}
            Err(error) => tracing::debug!(%key, %error, "key cannot be listed"),
        }
    }
    for key in before.difference(wanted) {
        if let Err(error) = root.remove_dir(key) {
            tracing::debug!(%key, %error, "listed key stays");
        }
    }
}
