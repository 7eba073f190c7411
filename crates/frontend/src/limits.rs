//! The bounds of this crate, with their reasons.

use std::time::Duration;

/// Most threads that answer requests which must be answered by path. One is busy for microseconds,
/// unless a file system above the trigger is dead: then it is stuck, and so many dead ones are more
/// than a machine has servers for. What comes after them waits.
pub(crate) const ANSWERING_THREADS: usize = 64;

/// How long such a thread stays without work.
pub(crate) const ANSWERING_THREAD_STAYS: Duration = Duration::from_secs(10);

/// Most failures that one expiry round puts up with: the kernel may offer the same mount again
/// and again when unmounting it fails.
pub(crate) const EXPIRE_FAILURES: u32 = 16;

/// Most calls of one expiry round that wait in the kernel at the same time. With so many the
/// unmounts themselves are what takes the time.
pub(crate) const EXPIRE_CALLERS: u32 = 16;

/// Longest wait for our own use of a trigger to end before it is unmounted. An expiry round that
/// finds nothing takes some 13 ms (an RCU grace period).
pub(crate) const OWN_USE: Duration = Duration::from_millis(200);

/// Longest wait, at the end, for triggers to be let go that must be asked for at a server.
pub(crate) const DETACH: Duration = Duration::from_secs(1);

/// Longest wait for what an earlier life left to be taken over, before mount points are added: taking
/// over reads the mount table, and waits for no server.
pub(crate) const ADOPTION: Duration = Duration::from_secs(5);

/// How many lives a request may be taken up in. Daemons that are killed from outside leave one
/// behind a few times at most; one that is found again and again kills who serves it.
pub(crate) const LIVES_OF_A_REQUEST: u64 = 10;

/// Most offsets whose roots are kept open apart from where they are mounted, each a descriptor.
/// Answers through the others walk to them by path.
pub(crate) const ROOTS_APART: usize = 4_096;

/// For how long a FUSE helper that has answered is taken to be alive: a question costs it one round
/// trip to its server, and whoever follows a link meanwhile may get stuck.
pub(crate) const CARE_FRESH: Duration = Duration::from_secs(5);

/// How long a FUSE helper may take to answer, and do nothing, before it is thought to hang: less
/// than an access has, and far more than any network takes that works.
pub(crate) const CARE_PATIENCE: Duration = Duration::from_secs(5);

/// How often it is looked whether a helper that has not answered yet does something.
pub(crate) const CARE_LOOK: Duration = Duration::from_secs(1);

/// When the question itself is given up. The helper works all that time without an answer, so it is
/// left alone.
pub(crate) const CARE_QUESTION: Duration = Duration::from_secs(3_600);
