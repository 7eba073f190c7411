//! Who touched a path, as far as a map may ask.

use alloc::sync::Arc;
use core::any::Any;
use core::fmt;

use bstr::BString;

/// The process whose access is being answered.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Requester {
    /// User id (the file-system uid the kernel saw).
    pub uid: u32,
    /// Group id.
    pub gid: u32,
    /// Process id in the daemon's pid namespace; 0 when unknown.
    pub pid: u32,
    /// Names that go with the ids; looked up only when a map asks for them.
    pub names: Option<Arc<RequesterNames>>,
    /// The program; looked at only when a map's filter asks for it.
    pub program: Option<Arc<Program>>,
    /// What was seen of the process besides, for people.
    pub sighting: Sighting,
}

/// Which program a process runs.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Program {
    /// Its name, cut to 15 bytes by the kernel.
    pub name: BString,
    /// Its control group, if it is in any but the first.
    pub cgroup: Option<BString>,
}

/// What whoever takes in accesses has seen of a process, for its own use. Nothing here looks into
/// it, and it makes no difference to any decision: all are equal.
#[derive(Clone, Default)]
pub struct Sighting(pub Option<Arc<dyn Any + Send + Sync>>);

impl fmt::Debug for Sighting {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Sighting")
    }
}

impl PartialEq for Sighting {
    fn eq(&self, _: &Self) -> bool {
        true
    }
}

impl Eq for Sighting {}

/// What the user database says of a requester: the variables USER, GROUP, HOME and SHOST.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RequesterNames {
    /// USER
    pub user: BString,
    /// GROUP
    pub group: BString,
    /// HOME
    pub home: BString,
}
