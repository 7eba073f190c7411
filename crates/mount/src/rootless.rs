//! What a user without root mounts: FUSE file systems, by their helpers, which have fusermount3 do the
//! mount itself. Helpers run as that user, with what of his environment they need.

use std::env;
use std::ffi::OsString;
use std::path::Path;

use bstr::{BStr, BString, ByteSlice};
use piton_plan::step::{Attempt, What};
use rustix::io::Errno;

use crate::error::Error;
use crate::helper::{ENVIRONMENT, Run, check_source, check_type, options_argument};

/// What unmounts for users: it belongs to root and is setuid (package fuse3).
const FUSERMOUNT: &str = "fusermount3";

/// File systems of the kernel's for which there is a helper that reads the same image.
const STAND_INS: [(&[u8], &str); 5] = [
    (b"squashfs", "squashfuse"),
    (b"ext2", "fuse2fs"),
    (b"ext3", "fuse2fs"),
    (b"ext4", "fuse2fs"),
    (b"iso9660", "fuseiso"),
];

/// Helpers that are called by another name, by which they know what is wanted.
const CALLED: [(&str, &str); 1] = [("rclone", "mount.rclone")];

/// Variables of a user that his helpers are given: who he is, where his files are, and who speaks for
/// him to servers.
const HIS: [&str; 13] = [
    "PATH",
    "HOME",
    "USER",
    "LOGNAME",
    "SSH_AUTH_SOCK",
    "KRB5CCNAME",
    "KRB5_CONFIG",
    "GNUPGHOME",
    "DBUS_SESSION_BUS_ADDRESS",
    "XDG_RUNTIME_DIR",
    "XDG_CONFIG_HOME",
    "XDG_CACHE_HOME",
    "XDG_DATA_HOME",
];

/// Whether this process mounts as an ordinary user. Root of a user namespace does not.
pub(crate) fn is_user() -> bool {
    !rustix::process::geteuid().is_root()
}

/// All that helpers find in their environment.
pub(crate) fn environment() -> Vec<(OsString, OsString)> {
    let ours = ENVIRONMENT.map(|(name, value)| (name.into(), value.into()));
    let mut all = Vec::from(ours);
    if is_user() {
        all.retain(|(name, _)| name != "HOME");
        let his = HIS
            .into_iter()
            .filter_map(|name| Some((name.into(), env::var_os(name)?)));
        // Later ones replace earlier ones of the same name.
        all.extend(his);
    }
    all
}

/// Why only root can mount this, for people; `None` where a user without root can.
pub fn needs_root(attempt: &Attempt) -> Option<String> {
    helper_of(attempt).err()
}

/// The program that mounts this, and what it mounts; why there is none.
fn helper_of(attempt: &Attempt) -> Result<(&str, &BStr), String> {
    match &attempt.what {
        What::Bind { .. } => Err(
            "a bind mount needs root; without root it is a link, as the only mount of an entry"
                .into(),
        ),
        What::Type(fstype) => helper(fstype.as_bstr(), attempt.source.as_bstr()).ok_or_else(|| {
            format!(
                "mounting {fstype} needs root; without root there are FUSE helpers, such as \
                 -fstype=fuse.sshfs"
            )
        }),
    }
}

/// The helper that mounts this, as `HELPER SOURCE TARGET -o OPTIONS`.
pub(crate) fn mount_command(attempt: &Attempt, target: &BStr) -> Result<Run, Error> {
    if let What::Type(fstype) = &attempt.what {
        check_type(fstype.as_bstr())?;
    }
    let (name, source) =
        helper_of(attempt).map_err(|why| Error::refused(target, Errno::PERM, why))?;
    check_source(source)?;
    let mut run = Run::new(Path::new(name), target);
    run.called = CALLED
        .iter()
        .find(|(program, _)| *program == name)
        .map(|(_, called)| *called);
    run.argument(source);
    run.argument(target);
    // An image is no device here.
    let options = attempt.options.iter().filter(|option| **option != "loop");
    options_argument(&mut run, &options.cloned().collect::<Vec<BString>>());
    Ok(run)
}

/// The program for a type, and what it mounts.
fn helper<'a>(fstype: &'a BStr, source: &'a BStr) -> Option<(&'a str, &'a BStr)> {
    let program = |name: &'a [u8]| {
        let name = name.to_str().ok()?;
        // A word, so that it is looked for where programs are.
        (!name.is_empty() && !name.contains('/') && !name.starts_with('-')).then_some(name)
    };
    if let Some((_, name)) = STAND_INS.iter().find(|(kind, _)| *fstype == **kind) {
        return Some((name, source));
    }
    match fstype.as_bytes() {
        // As fstab(5) had it before types had subtypes.
        b"fuse" => {
            let (name, source) = source.split_once_str("#")?;
            Some((program(name)?, source.as_bstr()))
        }
        b"sshfs" | b"rclone" => Some((program(fstype)?, source)),
        fstype => Some((program(fstype.strip_prefix(b"fuse.")?)?, source)),
    }
}

/// What unmounts it; lazily, whoever is in it.
pub(crate) fn unmount_command(target: &BStr, lazily: bool) -> Run {
    let mut run = Run::new(Path::new(FUSERMOUNT), target);
    run.argument("-u");
    if lazily {
        run.argument("-z");
    }
    run.argument("--");
    run.argument(target);
    run
}

#[cfg(test)]
mod tests {
    use super::*;

    fn attempt(fstype: &str, source: &str, options: &[&str]) -> Attempt {
        Attempt {
            what: What::Type(fstype.into()),
            source: source.into(),
            options: options.iter().map(|option| (*option).into()).collect(),
            host: None,
            address: None,
            no_guests: false,
            by_helper: false,
        }
    }

    fn command(fstype: &str, source: &str, options: &[&str]) -> Result<Vec<String>, String> {
        let run = mount_command(&attempt(fstype, source, options), "/m".into());
        let run = run.map_err(|error| error.to_string())?;
        let called = run.called.map(|called| format!("({called})"));
        let arguments = run
            .arguments
            .iter()
            .map(|word| word.to_string_lossy().into());
        let program = run.program.to_string_lossy().into_owned();
        Ok([program]
            .into_iter()
            .chain(called)
            .chain(arguments)
            .collect())
    }

    #[test]
    fn helpers_are_called_as_they_expect() {
        for (fstype, source, options, expected) in [
            (
                "fuse.sshfs",
                "ann@host:",
                &["ro", "reconnect"][..],
                "sshfs ann@host: /m -o ro,reconnect",
            ),
            ("fuse", "sshfs#ann@host:", &[], "sshfs ann@host: /m"),
            ("sshfs", "host:/srv", &[], "sshfs host:/srv /m"),
            (
                "squashfs",
                "/i.sqfs",
                &["ro", "loop"],
                "squashfuse /i.sqfs /m -o ro",
            ),
            ("ext4", "/i.img", &["loop"], "fuse2fs /i.img /m"),
            (
                "fuse.rclone",
                "cloud:dir",
                &["vfs-cache-mode=writes"],
                "rclone (mount.rclone) cloud:dir /m -o vfs-cache-mode=writes",
            ),
            ("fuse.archivemount", "/a.tgz", &[], "archivemount /a.tgz /m"),
        ] {
            assert_eq!(
                command(fstype, source, options).unwrap().join(" "),
                expected
            );
        }
    }

    #[test]
    fn what_needs_root_is_said_to() {
        for fstype in ["nfs", "tmpfs", "xfs", "cifs"] {
            let said = command(fstype, "x", &[]).unwrap_err();
            assert!(
                said.contains("needs root") && said.contains("fuse.sshfs"),
                "{said}"
            );
        }
        let bind = Attempt {
            what: What::Bind { recursive: false },
            ..attempt("", "/x", &[])
        };
        let error = mount_command(&bind, "/m".into()).unwrap_err();
        assert_eq!(error.errno(), Errno::PERM);
        assert!(needs_root(&bind).is_some_and(|why| error.to_string().ends_with(&why)));
        assert_eq!(needs_root(&attempt("fuse.sshfs", "host:", &[])), None);
    }

    #[test]
    fn nothing_becomes_an_option_or_another_program() {
        for (fstype, source) in [
            ("fuse.sshfs", "-oProxyCommand=x"),
            ("fuse", "sshfs#-oProxyCommand=x"),
            ("fuse", "../x#y"),
            ("fuse", "no program"),
            ("fuse.", "x"),
            ("fuse.a/b", "x"),
            ("fuse.-x", "x"),
        ] {
            assert!(command(fstype, source, &[]).is_err(), "{fstype} {source}");
        }
    }
}
