//! Whose fault it would be if something hung: what shares a fate queues together.

use bstr::BString;

/// A queue of its own for what depends on one server, program or mount, so that one that is dead
/// uses up its own queue and nobody else's.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Lane {
    /// A server, as the map names it.
    Server(BString),
    /// A mount helper or mount program, by the type it is asked for.
    Helper(BString),
    /// A mount of this host, by the kernel's number: what is behind it must be asked.
    Mount(u64),
    /// What a path names, where the mount it is in is not known.
    Path(BString),
    /// What was mounted by helpers below a mount point of ours, and is to be unmounted.
    Below(BString),
    /// A map: its program, file or server.
    Map(BString),
    /// The system's name services.
    Names,
    /// Servers that are asked in the background.
    Checks,
}

/// Who holds a place in a lane keeps this. It travels with a process that cannot be killed, so that
/// its place is taken until it is gone.
pub type Hold = std::sync::Arc<dyn std::any::Any + Send + Sync>;
