//! Looking whether something of ours is in place.

use bstr::BStr;
use rustix::fs::readlinkat;
use rustix::io::Errno;

use crate::error::Error;
use crate::place::{How, Place};
use crate::table::{self, Table};

/// Whether something of ours is at a path: a mount other than a direct or offset trigger, a link,
/// or anything mounted below. The mount table is read first: what a dead server has mounted one can
/// read about, but not look at.
pub(crate) fn inspect(target: &BStr, how: How) -> Result<bool, Error> {
    let told = |errno| Error::call("looking at", target, errno);
    let text = table::read().map_err(told)?;
    let table = Table::parse(&text);
    let here = table.at(target).is_some_and(|mount| {
        let mut options = mount.super_options.split(|byte| *byte == b',');
        *mount.fstype != "autofs" || options.any(|option| option == b"indirect")
    });
    let within = || table.within(target);
    if here || within().iter().any(|mount| *mount.point != *target) {
        return Ok(true);
    }
    let mut place = Place::trusted(target, how);
    match place.pin().map_err(|end| end.told(told)) {
        Ok(()) => {}
        Err(Error::Call {
            errno: Errno::NOENT | Errno::NOTDIR,
            ..
        }) => return Ok(false),
        Err(error) => return Err(error),
    }
    Ok(readlinkat(place.dir(), place.name(), Vec::new()).is_ok())
}
