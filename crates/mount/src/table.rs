//! The mount table as it is now: `/proc/self/mountinfo`, read.
//!
//! Reading it costs the kernel time for every mount there is (19 ms for ten thousand), so nothing
//! on the way of an access does.

use std::path::Path;

use bstr::BStr;
pub use piton_mountinfo::{Mount, Table};
use rustix::io::Errno;

use crate::limits;

/// The text of this process's mount table.
///
/// # Errors
/// `/proc` is not there, or the table is beyond all bounds (`EFBIG`).
pub fn read() -> Result<Vec<u8>, Errno> {
    read_from(Path::new("/proc/self/mountinfo"))
}

/// Whether something other than an autofs trigger is mounted at `path`, without touching it: of
/// what a dead server has mounted one can read, but not look at it.
///
/// # Errors
/// As [`read`].
pub fn covered(path: &BStr) -> Result<bool, Errno> {
    let text = read()?;
    Ok(Table::parse(&text)
        .at(path)
        .is_some_and(|mount| *mount.fstype != "autofs"))
}

/// The text of another process's mount table: `/proc/PID/mountinfo`.
pub(crate) fn read_from(path: &Path) -> Result<Vec<u8>, Errno> {
    use std::io::Read;
    let told = |error: std::io::Error| Errno::from_io_error(&error).unwrap_or(Errno::IO);
    let file = std::fs::File::open(path).map_err(told)?;
    // The file's size is not known beforehand; a big buffer saves the kernel much work, since it
    // looks for its place in the table anew for each read.
    let mut text = Vec::with_capacity(256 << 10);
    file.take(limits::PROC_FILE as u64 + 1)
        .read_to_end(&mut text)
        .map_err(told)?;
    if text.len() > limits::PROC_FILE {
        Err(Errno::FBIG)
    } else {
        Ok(text)
    }
}
