//! Which map is meant, and what looking up a key in it found. The words between a master map,
//! the sources that deliver text, and the planner.

use alloc::sync::Arc;
use alloc::vec::Vec;

use bstr::BString;

use crate::text::{Fragment, Origin, Span};

/// The kind of source a map is read from, as written before its name (`file:`, `program:`).
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum MapType {
    /// A file in Sun format.
    File,
    /// A program that is given the key and prints an entry.
    Program,
    /// `-hosts`: the exports of the server named by the key. A map `hosts:SERVER/PATH` is those of
    /// one server below a path.
    Hosts,
    /// `-null`: cancels an earlier or later line.
    Null,
    /// `-passwd`: home directories (the older automounter).
    Passwd,
    /// `snapshot:lvm,vg=storage`: snapshots of volumes, which are the keys.
    Snapshot,
    /// Known to the language but delivered by no source of this build: `yp`, `nis`, `nisplus`,
    /// `ldap`, `ldaps`, `sss`, `hesiod`, …
    Other(Arc<str>),
}

/// A map as it is named in a master map, an include line or a submount.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct MapSpec {
    /// The type where one was written; `None`: decided by the name (a leading `/` is a file, or
    /// a program when it may be executed by its owner; anything else asks nsswitch).
    pub kind: Option<MapType>,
    /// The format where one was written after a comma: `sun`, `amd`, `hesiod`.
    pub format: Option<Arc<str>>,
    /// Name or path, quotes and escapes resolved.
    pub name: BString,
    /// Further words that belong to the map, in order (arguments of a program map).
    pub arguments: Vec<BString>,
    /// Where it was written.
    pub origin: Option<Origin>,
}

/// How a key was found.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Matched {
    /// By its own name.
    Exact,
    /// By `*`.
    Wildcard,
}

/// The line that a look-up found, not yet parsed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Found {
    /// The logical line (with its continuation lines), or a program's whole output.
    pub fragment: Fragment,
    /// The key in it; empty for a program's output.
    pub key: Span,
    /// What follows the key.
    pub value: Span,
    /// By name or by `*`.
    pub matched: Matched,
    /// The map's name as a person would say it (path of the file, `program /etc/auto.x`).
    pub map: Arc<str>,
    /// The include lines gone through to get there, outermost first.
    pub via: Vec<Origin>,
}

/// Why a look-up found nothing that can be mounted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Miss {
    /// No map of the mount point has the key.
    NoSuchKey,
    /// The key can be in no map (contains `/`, is `.` or `..`, too long, control characters).
    BadKey(&'static str),
    /// The map does not exist.
    NoSuchMap(Arc<str>),
    /// The map exists but could not be read: text says why.
    Unreadable(Arc<str>),
    /// This build cannot read such maps: text says what and why.
    NotAvailable(Arc<str>),
    /// A program failed: exit status, signal, limits; text says which.
    ProgramFailed(Arc<str>),
    /// A program or source did not answer in time.
    TimedOut(Arc<str>),
    /// Refused for safety: owner or mode of a program.
    Refused(Arc<str>),
    /// The server that the map is had from cannot be asked, or does not say.
    Server {
        /// Why, as errno(3) numbers it.
        errno: i32,
        /// The same in words, with the server's name.
        text: Arc<str>,
    },
}
