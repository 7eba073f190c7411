//! Whether a view would open what is closed to users.
//!
//! In a snapshot each file has the owner and the mode that it had, and the kernel goes by them. But
//! the directories above the origin are not in it: of a volume at `/srv/private/data`, whose parent
//! is closed, a view at `/snap/data` would be open to whom the files inside are open. So for every
//! closed directory above the origin there must be one above the view that keeps out as many.
//!
//! The directories above are taken as they are now; nobody knows any more how they were.

use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use bstr::{BStr, BString};
use rustix::fs::lgetxattr;
use rustix::io::Errno;

use crate::error::Error;

/// Who may walk through a directory.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Gate {
    path: BString,
    uid: u32,
    gid: u32,
    /// The three bits of its mode that say who may search it.
    search: u32,
    /// Whether an access control list says more than its mode.
    listed: bool,
}

/// That a view of what is live at `live` may be shown at `view`.
///
/// # Errors
/// [`Error::Closed`] if the directories above `live` keep somebody out whom those above `view` let
/// through; [`Error::Call`] if they cannot be looked at.
pub(crate) fn check_closed(live: &BStr, view: &BStr) -> Result<(), Error> {
    let mut closed = gates(live)?;
    closed.retain(Gate::is_closed);
    // As a rule none is, and it does not matter what is above the view.
    if closed.is_empty() {
        return Ok(());
    }
    let above_view = gates(view)?;
    let open = |gate: &&Gate| !above_view.iter().any(|other| other.is_as_close_as(gate));
    match closed.iter().find(open) {
        None => Ok(()),
        Some(gate) => Err(Error::Closed {
            what: live.into(),
            directory: gate.path.clone(),
            view: view.into(),
        }),
    }
}

/// The directories above a path, without links.
fn gates(path: &BStr) -> Result<Vec<Gate>, Error> {
    let path = Path::new(std::ffi::OsStr::from_bytes(path));
    let failed = |path: &Path, error: &std::io::Error| {
        Error::io("looking at", path.as_os_str().as_bytes(), error)
    };
    // What is not there yet keeps nobody out.
    let mut above = path
        .ancestors()
        .skip(1)
        .map(|path| (path, fs::canonicalize(path)));
    let parent = loop {
        match above.next() {
            None => return Ok(Vec::new()),
            Some((_, Ok(parent))) => break parent,
            Some((_, Err(error))) if error.kind() == std::io::ErrorKind::NotFound => {}
            Some((path, Err(error))) => return Err(failed(path, &error)),
        }
    };
    let gate = |path: &Path| {
        let found = fs::symlink_metadata(path).map_err(|error| failed(path, &error))?;
        let nothing: &mut [u8] = &mut [];
        let listed = match lgetxattr(path, "system.posix_acl_access", nothing) {
            Ok(length) => length > 0,
            Err(Errno::NODATA | Errno::OPNOTSUPP) => false,
            Err(errno) => {
                return Err(Error::call(
                    "looking at",
                    path.as_os_str().as_bytes(),
                    errno,
                ));
            }
        };
        Ok(Gate {
            path: path.as_os_str().as_bytes().into(),
            uid: found.uid(),
            gid: found.gid(),
            search: found.mode() & 0o111,
            listed,
        })
    };
    parent.ancestors().map(gate).collect()
}

impl Gate {
    /// Whether it keeps anybody out.
    fn is_closed(&self) -> bool {
        self.search != 0o111 || self.listed
    }

    /// Whether whoever may walk through this one may walk through the other.
    fn is_as_close_as(&self, other: &Self) -> bool {
        let owner = self.uid == 0 || self.uid == other.uid && other.search & 0o100 != 0;
        // Of a list only the owner's part is certain.
        let others = self.search & 0o011;
        let same = self.gid == other.gid && !other.listed && others & !other.search == 0;
        owner && !self.listed && (others == 0 || same)
    }
}

#[cfg(test)]
mod tests {
    use bstr::ByteSlice;

    use super::*;

    fn gate(uid: u32, gid: u32, mode: u32) -> Gate {
        Gate {
            path: "/x".into(),
            uid,
            gid,
            search: mode & 0o111,
            listed: false,
        }
    }

    #[test]
    fn who_is_kept_out_stays_out() {
        for (closed, view, holds) in [
            // The same, and closer.
            (gate(0, 0, 0o700), gate(0, 0, 0o700), true),
            (gate(7, 7, 0o700), gate(7, 7, 0o700), true),
            (gate(7, 7, 0o750), gate(7, 7, 0o700), true),
            (gate(7, 7, 0o750), gate(0, 7, 0o750), true),
            // Root walks everywhere anyway.
            (gate(7, 7, 0o000), gate(0, 0, 0o700), true),
            // Open, or open to others.
            (gate(0, 0, 0o700), gate(0, 0, 0o755), false),
            (gate(7, 7, 0o700), gate(8, 7, 0o700), false),
            (gate(7, 7, 0o000), gate(7, 7, 0o700), false),
            (gate(0, 7, 0o750), gate(0, 8, 0o750), false),
            (gate(0, 7, 0o750), gate(0, 7, 0o751), false),
            // The group is kept out, others are not.
            (gate(0, 7, 0o705), gate(0, 7, 0o705), true),
            (gate(0, 7, 0o705), gate(0, 8, 0o705), false),
            (gate(0, 7, 0o705), gate(0, 7, 0o755), false),
        ] {
            assert!(closed.is_closed());
            assert_eq!(view.is_as_close_as(&closed), holds, "{closed:?} {view:?}");
        }
        assert!(!gate(7, 7, 0o755).is_closed());
    }

    #[test]
    fn of_a_list_only_the_owner_is_certain() {
        let listed = Gate {
            listed: true,
            ..gate(7, 7, 0o755)
        };
        assert!(listed.is_closed());
        assert!(gate(7, 7, 0o700).is_as_close_as(&listed));
        assert!(!gate(7, 7, 0o755).is_as_close_as(&listed));
        assert!(!listed.is_as_close_as(&gate(7, 7, 0o711)));
    }

    #[test]
    fn the_directories_above_count_and_links_do_not() {
        use std::os::unix::fs::{PermissionsExt, symlink};
        let scratch = tempfile::tempdir().unwrap();
        let at = |tail: &str| scratch.path().join(tail);
        let text = |tail: &str| BString::from(at(tail).as_os_str().as_bytes());
        for (folder, mode) in [
            ("", 0o755),
            ("private", 0o700),
            ("open", 0o755),
            ("shut", 0o700),
        ] {
            fs::create_dir_all(at(folder).join("data")).unwrap();
            fs::set_permissions(at(folder), fs::Permissions::from_mode(mode)).unwrap();
        }
        symlink(at("private"), at("link")).unwrap();
        let check = |live: &str, view: &str| {
            check_closed(text(live).as_bstr(), text(view).as_bstr())
                .map_err(|error| error.to_string())
        };
        assert_eq!(check("open/data", "open/view"), Ok(()));
        assert_eq!(check("private/data", "shut/view"), Ok(()));
        // What is closed itself is so in the snapshot.
        assert_eq!(check("private", "open/view"), Ok(()));
        for live in ["private/data", "link/data"] {
            let error = check(live, "open/view").unwrap_err();
            let directory = text("private");
            assert!(error.contains(&format!("{directory} keeps")), "{error}");
        }
        assert_eq!(check("open/data", "open/none/view"), Ok(()));
        assert_eq!(check("private/data", "shut/none/view"), Ok(()));
    }
}
