//! Names that go with a requester's ids: the variables USER, GROUP and HOME.
//!
//! The user database may be a directory service that does not answer: call this from a worker
//! thread only, and only when a map asks for a name.

use bstr::BString;
use piton_map::requester::RequesterNames;
use std::os::unix::ffi::OsStrExt;
use uzers::os::unix::UserExt;

/// The names of a user and a group. A name that the database does not have stays empty.
pub fn names(uid: u32, gid: u32) -> RequesterNames {
    let user = uzers::get_user_by_uid(uid);
    let group = uzers::get_group_by_gid(gid);
    RequesterNames {
        user: user
            .as_ref()
            .map_or_else(BString::default, |user| user.name().as_bytes().into()),
        group: group.map_or_else(BString::default, |group| group.name().as_bytes().into()),
        home: user.map_or_else(BString::default, |user| {
            user.home_dir().as_os_str().as_bytes().into()
        }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn root_has_names_and_an_unknown_id_has_none() {
        let root = names(0, 0);
        assert_eq!((root.user, root.group), ("root".into(), "root".into()));
        assert!(root.home.starts_with(b"/"));
        assert_eq!(names(u32::MAX - 7, u32::MAX - 7), RequesterNames::default());
    }
}
