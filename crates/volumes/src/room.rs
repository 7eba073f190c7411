//! How full the place is where snapshots take their space.

use std::os::fd::AsFd;

use bstr::BStr;
use piton_snapshot::Fill;

use crate::error::Error;

/// How full the file system is that an open file lies in.
pub(crate) fn of_file_system(fd: impl AsFd, path: &BStr) -> Result<Fill, Error> {
    let found = rustix::fs::fstatvfs(fd).map_err(|errno| Error::call("looking at", path, errno))?;
    let used = found.f_blocks.saturating_sub(found.f_bfree);
    Ok(Fill {
        place: format!("the file system of {path}"),
        percent: percent(used, used.saturating_add(found.f_bavail)),
        free: found.f_bavail.saturating_mul(found.f_frsize),
    })
}

/// Percent, rounded up; 100 of nothing.
pub(crate) fn percent(part: u64, whole: u64) -> u8 {
    if whole == 0 {
        return 100;
    }
    let percent = (u128::from(part) * 100).div_ceil(u128::from(whole));
    u8::try_from(percent.min(100)).unwrap_or(100)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percents_are_rounded_up() {
        for (part, whole, expected) in [
            (0, 10, 0),
            (1, 1000, 1),
            (899, 1000, 90),
            (10, 10, 100),
            (11, 10, 100),
            (0, 0, 100),
            (u64::MAX, u64::MAX, 100),
        ] {
            assert_eq!(percent(part, whole), expected, "{part} of {whole}");
        }
    }
}
