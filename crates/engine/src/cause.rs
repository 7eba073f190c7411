//! Why an access failed, and the one function that turns it into an errno.
//!
//! docs/errno.md explains the table to users. Never ESTALE, ECHILD or EISDIR: the kernel sends
//! such a request again or rewrites the answer (measured on Linux 6.18).

use alloc::sync::Arc;
use core::fmt;

use piton_map::lookup::Miss;

/// An error number as errno(3) defines it, positive.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Errno(pub i32);

impl Errno {
    /// No such file or directory.
    pub const NOENT: Self = Self(2);
    /// Input/output error.
    pub const IO: Self = Self(5);
    /// Resource temporarily unavailable.
    pub const AGAIN: Self = Self(11);
    /// Permission denied.
    pub const ACCES: Self = Self(13);
    /// Device or resource busy.
    pub const BUSY: Self = Self(16);
    /// Invalid cross-device link: a mount point that cannot be crossed.
    pub const XDEV: Self = Self(18);
    /// Is a directory: never given to the kernel.
    pub const ISDIR: Self = Self(21);
    /// No child processes: never given to the kernel.
    pub const CHILD: Self = Self(10);
    /// Invalid argument.
    pub const INVAL: Self = Self(22);
    /// Operation not supported.
    pub const OPNOTSUPP: Self = Self(95);
    /// Cannot send after shutdown: the automounter is ending.
    pub const SHUTDOWN: Self = Self(108);
    /// Connection timed out.
    pub const TIMEDOUT: Self = Self(110);
    /// Network is unreachable.
    pub const NETUNREACH: Self = Self(101);
    /// Connection reset by peer.
    pub const CONNRESET: Self = Self(104);
    /// Connection refused.
    pub const CONNREFUSED: Self = Self(111);
    /// No route to host.
    pub const HOSTUNREACH: Self = Self(113);
    /// Host is down.
    pub const HOSTDOWN: Self = Self(112);
    /// Stale file handle: never given to the kernel.
    pub const STALE: Self = Self(116);
}

/// Why an access cannot be served.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Cause {
    /// The look-up ended without an entry.
    Lookup(Miss),
    /// The entry was found but cannot be used; the text is its first diagnostic.
    BadEntry(Arc<str>),
    /// Mounting failed with this errno; the text is the kernel's or the helper's.
    Mount(Errno, Arc<str>),
    /// Nobody knows the name of the server.
    UnknownHost(Arc<str>),
    /// None of the servers answered a moment ago, so they are not asked: what was said then.
    KnownDown(Arc<str>),
    /// The deadline passed.
    TimedOut,
    /// The trigger is not (or no longer) one of ours.
    NoTrigger,
    /// The map's filter denies it: the pattern.
    Denied(Arc<str>),
    /// The mount point is being taken away, to be put back otherwise at once.
    Replaced,
    /// The daemon is ending.
    Stopping,
    /// Too many accesses at once (`limits`).
    Overloaded,
    /// Nothing is mounted for now, by the administrator's wish, and this is not mounted already.
    Frozen,
    /// Something is still in use; answers an expiry or an unmount request.
    Busy(Arc<str>),
    /// It is mounted, but not in the mount namespace of the process that asks.
    Hidden,
}

impl Cause {
    /// The errno that the process that touched the path gets to see.
    pub fn errno(&self) -> Errno {
        match self {
            Self::Lookup(miss) => miss_errno(miss),
            Self::BadEntry(_) => Errno::INVAL,
            Self::Mount(errno, _) => answerable(*errno),
            Self::UnknownHost(_) | Self::KnownDown(_) => Errno::HOSTDOWN,
            Self::TimedOut => Errno::TIMEDOUT,
            Self::NoTrigger | Self::Denied(_) | Self::Frozen => Errno::NOENT,
            Self::Stopping => Errno::SHUTDOWN,
            Self::Overloaded | Self::Replaced => Errno::AGAIN,
            Self::Busy(_) => Errno::BUSY,
            Self::Hidden => Errno::XDEV,
        }
    }
}

fn miss_errno(miss: &Miss) -> Errno {
    match miss {
        Miss::NoSuchKey | Miss::BadKey(_) | Miss::NoSuchMap(_) | Miss::ProgramFailed(_) => {
            Errno::NOENT
        }
        Miss::Unreadable(_) => Errno::IO,
        Miss::NotAvailable(_) => Errno::OPNOTSUPP,
        Miss::TimedOut(_) => Errno::TIMEDOUT,
        Miss::Refused(_) => Errno::ACCES,
        Miss::Server { errno, .. } => answerable(Errno(*errno)),
    }
}

/// `errno`, unless the kernel would misread it or it is no error at all.
fn answerable(errno: Errno) -> Errno {
    let misread = [Errno::STALE, Errno::CHILD, Errno::ISDIR].contains(&errno);
    if misread || !(1..=4095).contains(&errno.0) {
        Errno::IO
    } else {
        errno
    }
}

impl fmt::Display for Cause {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Lookup(miss) => match miss {
                Miss::NoSuchKey => f.write_str("no map has this key"),
                Miss::BadKey(why) => write!(f, "the name cannot be a key: {why}"),
                Miss::NoSuchMap(name) => write!(f, "the map {name} does not exist"),
                Miss::Unreadable(why)
                | Miss::NotAvailable(why)
                | Miss::ProgramFailed(why)
                | Miss::TimedOut(why)
                | Miss::Refused(why)
                | Miss::Server { text: why, .. } => f.write_str(why),
            },
            Self::BadEntry(why) => write!(f, "the entry cannot be used: {why}"),
            Self::Mount(_, text) => f.write_str(text),
            Self::UnknownHost(host) => write!(f, "no address is known for the host {host}"),
            Self::KnownDown(text) => write!(f, "{text} (not asked again for a while)"),
            Self::TimedOut => f.write_str("not done within the deadline"),
            Self::NoTrigger => f.write_str("no such trigger"),
            Self::Denied(pattern) => write!(f, "the map's filter denies it by {pattern}"),
            Self::Replaced => f.write_str("the mount point is being replaced: try again"),
            Self::Stopping => f.write_str("the automounter is stopping"),
            Self::Overloaded => f.write_str("too many accesses at once"),
            Self::Frozen => f.write_str("it is not mounted, and nothing is to be mounted now (-n)"),
            Self::Busy(why) => f.write_str(why),
            Self::Hidden => f.write_str(
                "it is mounted, but mounts made here do not reach the mount namespace of this process",
            ),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn errnos_that_the_kernel_misreads_become_eio() {
        for errno in [
            Errno::STALE,
            Errno::CHILD,
            Errno::ISDIR,
            Errno(0),
            Errno(-5),
            Errno(9999),
        ] {
            assert_eq!(Cause::Mount(errno, "x".into()).errno(), Errno::IO);
        }
        assert_eq!(Cause::Mount(Errno::ACCES, "x".into()).errno(), Errno::ACCES);
    }

    #[test]
    fn each_miss_keeps_its_meaning() {
        let errno = |miss| Cause::Lookup(miss).errno();
        assert_eq!(errno(Miss::NoSuchKey), Errno::NOENT);
        assert_eq!(errno(Miss::BadKey("slash")), Errno::NOENT);
        assert_eq!(errno(Miss::NoSuchMap("m".into())), Errno::NOENT);
        assert_eq!(errno(Miss::ProgramFailed("exit 1".into())), Errno::NOENT);
        assert_eq!(errno(Miss::Unreadable("m".into())), Errno::IO);
        assert_eq!(errno(Miss::NotAvailable("ldap".into())), Errno::OPNOTSUPP);
        assert_eq!(errno(Miss::TimedOut("p".into())), Errno::TIMEDOUT);
        assert_eq!(errno(Miss::Refused("mode".into())), Errno::ACCES);
        let text = || "nas".into();
        let server = |errno| Miss::Server {
            errno,
            text: text(),
        };
        assert_eq!(errno(server(Errno::HOSTDOWN.0)), Errno::HOSTDOWN);
        assert_eq!(errno(server(Errno::STALE.0)), Errno::IO);
    }

    #[test]
    fn each_cause_has_an_errno_and_words() {
        let told: [(Cause, Errno, &str); 13] = [
            (
                Cause::Hidden,
                Errno::XDEV,
                "it is mounted, but mounts made here do not reach the mount namespace of this process",
            ),
            (
                Cause::BadEntry("x".into()),
                Errno::INVAL,
                "the entry cannot be used: x",
            ),
            (
                Cause::UnknownHost("h".into()),
                Errno::HOSTDOWN,
                "no address is known for the host h",
            ),
            (
                Cause::TimedOut,
                Errno::TIMEDOUT,
                "not done within the deadline",
            ),
            (
                Cause::KnownDown("h: down".into()),
                Errno::HOSTDOWN,
                "h: down (not asked again for a while)",
            ),
            (Cause::NoTrigger, Errno::NOENT, "no such trigger"),
            (
                Cause::Frozen,
                Errno::NOENT,
                "it is not mounted, and nothing is to be mounted now (-n)",
            ),
            (
                Cause::Stopping,
                Errno::SHUTDOWN,
                "the automounter is stopping",
            ),
            (
                Cause::Denied("--deny-keys .*".into()),
                Errno::NOENT,
                "the map's filter denies it by --deny-keys .*",
            ),
            (
                Cause::Replaced,
                Errno::AGAIN,
                "the mount point is being replaced: try again",
            ),
            (Cause::Overloaded, Errno::AGAIN, "too many accesses at once"),
            (Cause::Busy("in use".into()), Errno::BUSY, "in use"),
            (Cause::Mount(Errno::IO, "io".into()), Errno::IO, "io"),
        ];
        for (cause, errno, words) in told {
            assert_eq!(cause.errno(), errno);
            assert_eq!(alloc::format!("{cause}"), words);
        }
    }

    #[test]
    fn each_miss_has_words() {
        let words = |miss| alloc::format!("{}", Cause::Lookup(miss));
        assert_eq!(words(Miss::NoSuchKey), "no map has this key");
        assert_eq!(
            words(Miss::BadKey("slash")),
            "the name cannot be a key: slash"
        );
        assert_eq!(
            words(Miss::NoSuchMap("m".into())),
            "the map m does not exist"
        );
        for miss in [
            Miss::Unreadable("x".into()),
            Miss::NotAvailable("x".into()),
            Miss::ProgramFailed("x".into()),
            Miss::TimedOut("x".into()),
            Miss::Refused("x".into()),
            Miss::Server {
                errno: 5,
                text: "x".into(),
            },
        ] {
            assert_eq!(words(miss), "x");
        }
    }
}
