//! Who touches the path: `--user`, or whoever runs `explain`.

use std::sync::Arc;

use piton_map::requester::Requester;

/// The user called `user`, or with that number.
///
/// # Errors
/// That nobody is called so.
pub(crate) fn named(user: &str) -> Result<Requester, String> {
    let known = match user.parse() {
        Ok(uid) => uzers::get_user_by_uid(uid),
        Err(_) => uzers::get_user_by_name(user),
    };
    match (known, user.parse()) {
        (Some(known), _) => Ok(Requester {
            uid: known.uid(),
            gid: known.primary_group_id(),
            ..Requester::default()
        }),
        // A number without a name may own processes all the same.
        (None, Ok(uid)) => Ok(Requester {
            uid,
            gid: uid,
            ..Requester::default()
        }),
        (None, Err(_)) => Err(format!(
            "there is no user `{user}`: give a name or a number that `id` knows"
        )),
    }
}

/// The user who runs this.
pub(crate) fn caller() -> Requester {
    Requester {
        uid: rustix::process::geteuid().as_raw(),
        gid: rustix::process::getegid().as_raw(),
        pid: rustix::process::getpid()
            .as_raw_nonzero()
            .get()
            .cast_unsigned(),
        ..Requester::default()
    }
}

/// Fills in the names that go with the numbers. May block: asks the user database.
pub(crate) fn look_up_names(requester: &mut Requester) {
    if requester.names.is_none() {
        let names = piton_source::users::names(requester.uid, requester.gid);
        requester.names = Some(Arc::new(names));
    }
}
