//! What front ends can do: the one place where it is said. `cargo xtask front-ends` makes the table in
//! docs/front-ends.md of it, with the first line of each comment.

/// What a front end can do beyond the common ground, which [`crate::conformance`] asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Capabilities {
    /// Users without root can have it.
    pub rootless: bool,
    /// Mounts appear at the path itself, not behind a symbolic link.
    pub in_place: bool,
    /// Direct mount points.
    ///
    /// Otherwise they are refused with EOPNOTSUPP.
    pub direct: bool,
    /// Each mount of an entry is made when it is used.
    ///
    /// Otherwise offsets are refused with EOPNOTSUPP, and an entry is mounted as a whole.
    pub offsets: bool,
    /// Every error reaches whoever asks with its own number.
    ///
    /// Otherwise those that NFS has no number for arrive as EIO.
    pub errors: bool,
    /// It is known which user asks.
    pub requesters: bool,
    /// It is known which process asks.
    pub processes: bool,
    /// Idle times of single keys.
    pub key_timeouts: bool,
    /// Walks need not count as use.
    pub strict_expire: bool,
    /// Who waits for a daemon that dies.
    pub unanswered: Unanswered,
}

/// What becomes of a request that was not answered when the daemon died.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unanswered {
    /// The successor is told ([`crate::FrontEnd::resume`]), and answers.
    Answered,
    /// Whoever waits asks the successor again by himself.
    AsksAgain,
    /// Whoever waits has got an error.
    HasAnError,
}

/// Simulated.
pub(crate) const SIMULATED: Capabilities = Capabilities {
    rootless: true,
    in_place: true,
    direct: true,
    offsets: true,
    errors: true,
    requesters: true,
    processes: true,
    key_timeouts: true,
    strict_expire: true,
    unanswered: Unanswered::Answered,
};

/// Autofs.
pub(crate) const AUTOFS: Capabilities = Capabilities {
    rootless: false,
    in_place: true,
    direct: true,
    offsets: true,
    errors: true,
    requesters: true,
    processes: true,
    key_timeouts: true,
    strict_expire: true,
    unanswered: Unanswered::Answered,
};

/// Loopback NFS.
pub(crate) const LOOPBACK: Capabilities = Capabilities {
    rootless: false,
    in_place: false,
    direct: true,
    offsets: false,
    errors: false,
    requesters: true,
    processes: false,
    key_timeouts: true,
    strict_expire: false,
    unanswered: Unanswered::AsksAgain,
};

/// FUSE.
pub(crate) const FUSE: Capabilities = Capabilities {
    rootless: true,
    in_place: false,
    direct: false,
    offsets: false,
    errors: true,
    requesters: true,
    processes: true,
    key_timeouts: true,
    strict_expire: false,
    unanswered: Unanswered::HasAnError,
};
