//! Options as written, sorted by who understands them.
//!
//! mount(8) does the same before it calls the kernel: some options are flags of the mount
//! (`nodev`), some belong to the file system (`size=1m`, also `sync` and other flags of the super
//! block, which fsconfig(2) takes by name), some are for programs only (`_netdev`), and a few need
//! mount(8).

use autofs::{AccessTime, MountAttrFlags};
use bstr::{BString, ByteSlice};
use piton_map::options::Propagation;
use rustix::io::Errno;

use crate::error::Error;

/// The options of one attempt, sorted.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Split<'a> {
    /// Flags of the mount to be set.
    pub(crate) set: Flags,
    /// When access times are updated, if that is said.
    pub(crate) access_time: Option<AccessTime>,
    /// Parameters of the file system, in order.
    pub(crate) parameters: Vec<Parameter<'a>>,
    /// How a file is shown as a disk.
    pub(crate) image: Image,
    /// `shared`, `slave` or `private`, which goes before the plan's.
    pub(crate) propagation: Option<Propagation>,
    /// An option that only mount(8) understands.
    pub(crate) needs_helper: Option<&'a [u8]>,
}

/// Flags of a mount.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Flags(pub(crate) MountAttrFlags);

impl Default for Flags {
    fn default() -> Self {
        Self(MountAttrFlags::empty())
    }
}

/// A parameter of a file system.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Parameter<'a> {
    /// Without a value.
    Flag(&'a [u8]),
    /// `key=value`.
    Pair(&'a [u8], &'a [u8]),
}

/// Options for loop devices.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Image {
    /// `loop`: the source is a file even if it does not look like one.
    pub(crate) forced: bool,
    /// Where the file system begins in it.
    pub(crate) offset: u64,
    /// How long it is; 0 is up to the end.
    pub(crate) size_limit: u64,
}

impl Split<'_> {
    /// Whether `ro` holds.
    pub(crate) fn read_only(&self) -> bool {
        self.set.0.contains(MountAttrFlags::MOUNT_ATTR_RDONLY)
    }
}

/// Sorts options. `block`: the file system lies on a disk, so options about images are known.
///
/// # Errors
/// A number of an image option cannot be read.
pub(crate) fn split(options: &[BString], block: bool) -> Result<Split<'_>, Error> {
    let mut out = Split::default();
    for option in options {
        let option = option.as_bytes();
        if option.is_empty() || mount_flag(option, &mut out) || for_programs(option) {
            continue;
        }
        if block && image_option(option, &mut out.image)? {
            continue;
        }
        if let Some(propagation) = propagation(option) {
            out.propagation = Some(propagation);
        } else if for_mount_program(option) {
            out.needs_helper = out.needs_helper.or(Some(option));
        } else {
            out.parameters.push(match option.split_once_str("=") {
                Some((key, value)) => Parameter::Pair(key, value),
                None => Parameter::Flag(option),
            });
        }
    }
    Ok(out)
}

/// Flags of the mount. The last of a pair of opposites counts, as with mount(8). `rw`, `suid` and
/// the like only take back what stands before them: a bind of something read-only stays so.
fn mount_flag(option: &[u8], out: &mut Split<'_>) -> bool {
    use MountAttrFlags as F;
    let (flag, on) = match option {
        b"ro" => (F::MOUNT_ATTR_RDONLY, true),
        b"rw" => (F::MOUNT_ATTR_RDONLY, false),
        b"nosuid" => (F::MOUNT_ATTR_NOSUID, true),
        b"suid" => (F::MOUNT_ATTR_NOSUID, false),
        b"nodev" => (F::MOUNT_ATTR_NODEV, true),
        b"dev" => (F::MOUNT_ATTR_NODEV, false),
        b"noexec" => (F::MOUNT_ATTR_NOEXEC, true),
        b"exec" => (F::MOUNT_ATTR_NOEXEC, false),
        b"nodiratime" => (F::MOUNT_ATTR_NODIRATIME, true),
        b"diratime" => (F::MOUNT_ATTR_NODIRATIME, false),
        b"nosymfollow" => (F::MOUNT_ATTR_NOSYMFOLLOW, true),
        b"symfollow" => (F::MOUNT_ATTR_NOSYMFOLLOW, false),
        // mount(8) has them restrict the mount, also when root mounts it.
        b"owner" | b"group" => (F::MOUNT_ATTR_NOSUID | F::MOUNT_ATTR_NODEV, true),
        b"user" | b"users" => (
            F::MOUNT_ATTR_NOSUID | F::MOUNT_ATTR_NODEV | F::MOUNT_ATTR_NOEXEC,
            true,
        ),
        _ => return access_time(option, &mut out.access_time),
    };
    out.set.0.set(flag, on);
    true
}

fn access_time(option: &[u8], out: &mut Option<AccessTime>) -> bool {
    let (value, on) = match option {
        b"noatime" => (AccessTime::Never, true),
        b"atime" => (AccessTime::Never, false),
        b"relatime" => (AccessTime::Relative, true),
        b"norelatime" => (AccessTime::Relative, false),
        b"strictatime" => (AccessTime::Strict, true),
        b"nostrictatime" => (AccessTime::Strict, false),
        _ => return false,
    };
    if on {
        *out = Some(value);
    } else if *out == Some(value) {
        *out = None;
    }
    true
}

/// Options that mean something to fstab's readers, or to an ordinary user's mount(8), and nothing
/// to the kernel.
fn for_programs(option: &[u8]) -> bool {
    let key = option.split(|byte| *byte == b'=').next().unwrap_or(option);
    matches!(
        option,
        b"defaults"
            | b"_netdev"
            | b"nofail"
            | b"auto"
            | b"noauto"
            | b"nouser"
            | b"nousers"
            | b"noowner"
            | b"nogroup"
            | b"silent"
            | b"loud"
    ) || matches!(key, b"comment" | b"user" | b"uhelper" | b"helper")
        || option.starts_with(b"x-")
}

/// The propagation that options ask for, which goes before the plan's.
pub(crate) fn asked_propagation(options: &[BString]) -> Option<Propagation> {
    options.iter().rev().find_map(|option| propagation(option))
}

fn propagation(option: &[u8]) -> Option<Propagation> {
    match option {
        b"slave" | b"rslave" => Some(Propagation::Slave),
        b"private" | b"rprivate" => Some(Propagation::Private),
        b"shared" | b"rshared" => Some(Propagation::Shared),
        _ => None,
    }
}

/// Options that ask mount(8) itself to do something.
fn for_mount_program(option: &[u8]) -> bool {
    matches!(
        option,
        b"bind" | b"rbind" | b"move" | b"remount" | b"unbindable" | b"runbindable"
    ) || option.starts_with(b"X-")
        || option.starts_with(b"verity.")
        || option.starts_with(b"encryption=")
}

fn image_option(option: &[u8], image: &mut Image) -> Result<bool, Error> {
    if option == b"loop" || option.starts_with(b"loop=") {
        image.forced = true;
    } else if let Some(value) = option.strip_prefix(b"offset=") {
        image.offset = size(option, value)?;
        image.forced = true;
    } else if let Some(value) = option.strip_prefix(b"sizelimit=") {
        image.size_limit = size(option, value)?;
        image.forced = true;
    } else {
        return Ok(false);
    }
    Ok(true)
}

/// A number of bytes: digits, then perhaps K, M, G or T (of 1024, as mount(8) has it).
fn size(option: &[u8], value: &[u8]) -> Result<u64, Error> {
    let end = value
        .iter()
        .position(|b| !b.is_ascii_digit())
        .unwrap_or(value.len());
    let (digits, unit) = value.split_at(end);
    let shift = match unit.to_ascii_uppercase().as_slice() {
        b"" => Some(0),
        b"K" | b"KIB" => Some(10),
        b"M" | b"MIB" => Some(20),
        b"G" | b"GIB" => Some(30),
        b"T" | b"TIB" => Some(40),
        _ => None,
    };
    let number = digits
        .to_str()
        .ok()
        .and_then(|digits| digits.parse::<u64>().ok());
    number
        .zip(shift)
        .and_then(|(number, shift)| number.checked_mul(1 << shift))
        .ok_or_else(|| Error::refused(option, Errno::INVAL, "not a number of bytes"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn options(text: &str) -> Vec<BString> {
        text.split(',').map(BString::from).collect()
    }

    #[track_caller]
    fn check(text: &str, test: impl Fn(&Split<'_>) -> bool) {
        let options = options(text);
        let split = split(&options, true).unwrap();
        assert!(test(&split), "{text}: {split:?}");
    }

    #[test]
    fn each_option_goes_to_whom_it_is_for() {
        use MountAttrFlags as F;
        let nothing = |s: &Split<'_>| *s == Split::default();
        let ignored = "defaults _netdev nofail x-systemd.automount comment=a user=joe nouser auto noauto rw suid dev exec silent loud atime diratime \
                       symfollow norelatime nostrictatime";
        check("", nothing);
        for ignored in ignored.split(' ') {
            check(ignored, nothing);
        }
        for (text, flag) in [
            ("ro", F::MOUNT_ATTR_RDONLY),
            ("nosuid", F::MOUNT_ATTR_NOSUID),
            ("nodev", F::MOUNT_ATTR_NODEV),
            ("noexec", F::MOUNT_ATTR_NOEXEC),
            ("nodiratime", F::MOUNT_ATTR_NODIRATIME),
            ("nosymfollow", F::MOUNT_ATTR_NOSYMFOLLOW),
        ] {
            check(text, |s| s.set.0 == flag && s.parameters.is_empty());
        }
        let owners = F::MOUNT_ATTR_NOSUID | F::MOUNT_ATTR_NODEV;
        let users = owners | F::MOUNT_ATTR_NOEXEC;
        for (text, flags) in [
            ("user", users),
            ("users", users),
            ("owner", owners),
            ("group", owners),
            ("users,exec,dev", F::MOUNT_ATTR_NOSUID),
        ] {
            check(text, |s| s.set.0 == flags && s.parameters.is_empty());
        }
        for text in "sync dirsync lazytime mand async discard acl".split(' ') {
            check(text, |s| s.parameters == [Parameter::Flag(text.as_bytes())]);
        }
        for text in "bind rbind remount move X-mount.subdir=a verity.hashdevice=/x".split(' ') {
            check(text, |s| {
                s.needs_helper == Some(text.as_bytes()) && s.parameters.is_empty()
            });
        }
        check("size=1m,mode=0700", |s| {
            s.parameters
                == [
                    Parameter::Pair(b"size", b"1m"),
                    Parameter::Pair(b"mode", b"0700"),
                ]
        });
        check("context=a=b,empty=", |s| {
            s.parameters
                == [
                    Parameter::Pair(b"context", b"a=b"),
                    Parameter::Pair(b"empty", b""),
                ]
        });
    }

    #[test]
    fn of_opposites_the_last_counts() {
        check("ro,rw", |s| !s.read_only());
        check("rw,ro", |s| s.read_only());
        check("nosuid,suid,nosuid", |s| {
            s.set.0 == MountAttrFlags::MOUNT_ATTR_NOSUID
        });
        check("noatime,relatime", |s| {
            s.access_time == Some(AccessTime::Relative)
        });
        check("noatime,atime", |s| s.access_time.is_none());
        check("strictatime,atime", |s| {
            s.access_time == Some(AccessTime::Strict)
        });
        check("shared,slave", |s| {
            s.propagation == Some(Propagation::Slave)
        });
    }

    #[test]
    fn image_options_are_read_and_only_for_disks() {
        check("loop", |s| {
            s.image
                == Image {
                    forced: true,
                    offset: 0,
                    size_limit: 0,
                }
        });
        check("loop=/dev/loop3,offset=1M,sizelimit=4096", |s| {
            s.image
                == Image {
                    forced: true,
                    offset: 1 << 20,
                    size_limit: 4096,
                }
        });
        let tmpfs = options("loop,offset=5");
        assert_eq!(split(&tmpfs, false).unwrap().parameters.len(), 2);
        for bad in [
            "offset=",
            "offset=x",
            "offset=-1",
            "offset=1Q",
            "offset=99999999999T",
        ] {
            assert_eq!(
                split(&options(bad), true).unwrap_err().errno(),
                Errno::INVAL,
                "{bad}"
            );
        }
    }
}
