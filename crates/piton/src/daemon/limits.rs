//! Bounds of the daemon's threads, with their reasons.

use std::time::Duration;

/// Threads that take turns in the loop: one may do quick work while one waits for what comes.
pub(crate) const LOOP_THREADS: usize = 2;

/// The same with those that are stuck in work that should have been quick: each of them is a mount
/// that does not come back.
pub(crate) const LOOP_MOST: usize = 64;

/// Work that takes longer is no longer thought of as quick: its thread is replaced in the loop. A
/// bind mount takes a hundredth of it, and so many times a second is looked whether one is stuck.
pub(crate) const QUICK_WORK: Duration = Duration::from_millis(2);

/// Threads for what is quick but not on the way of an access. None of them should ever be stuck;
/// more are started if one is.
pub(crate) const QUICK_MOST: usize = 64;

/// How long such work waits before a thread is taken for stuck.
pub(crate) const QUICK_PATIENCE: Duration = Duration::from_millis(20);

/// Threads for slow work. They wait for workers and programs, so each costs little; sixteen lanes
/// can be dead and full before a living one has to wait.
pub(crate) const SLOW_MOST: usize = 256;

/// Threads that ask the kernel for idle mounts.
pub(crate) const EXPIRE_MOST: usize = 16;

/// How long a request for idle mounts waits before a further thread is started.
pub(crate) const EXPIRE_PATIENCE: Duration = Duration::from_millis(50);

/// Mounts of a server that has died of which the log says who uses them: enough to see what is hit.
pub(crate) const DEATH_MOUNTS: usize = 8;

/// For how long that is looked for. Nobody waits for it.
pub(crate) const DEATH_TIME: Duration = Duration::from_secs(10);

/// For how long it is tried to look at a place that somebody else has to be asked about.
pub(crate) const INSPECT_TIME: Duration = Duration::from_secs(5);

/// What may be under way at once in one lane: threads, and workers or programs, those included
/// that cannot be killed. Mounting more than so many file systems of one server at once makes it
/// no faster.
pub(crate) const IN_LANE: usize = 16;

/// What may be under way in all lanes together before each keeps to [`IN_LANE`]: as long as there
/// is room, a lane in which some hang still serves those that do not (an executable map that is slow
/// for some keys). Half of the workers there may be, so that dead lanes leave room for living ones.
pub(crate) const IN_ALL_LANES: usize = 96;

/// What may wait in one lane: as much as an engine has accesses in its hands.
pub(crate) const LANE_QUEUE: usize = 1024;

/// What has waited in a lane and has less time left than this is not begun any more: it would only
/// be killed.
pub(crate) const LEAST_TIME: Duration = Duration::from_millis(50);

/// Largest file of drained servers and pins that is read: both are bounded, and names are short.
pub(super) const HELD_BYTES: u64 = 16 << 20;

/// Mounts that are remembered as left to those who are inside. The oldest go first.
pub(super) const DEPARTED: usize = 256;

/// How long it is looked who is inside what is let go of.
pub(super) const INSIDE_TIME: Duration = Duration::from_millis(500);

/// Lines about NFS calls that wait to be written: a listing of a large directory comes at once.
pub(super) const CALLS_WAITING: usize = 4096;

/// Bytes of a log of NFS calls before another is begun; one older file is kept.
pub(super) const CALLS_LOG_BYTES: u64 = 64 << 20;

/// How soon after a snapshot was taken it is shown in the listings of its map: whoever waits for the
/// access is not to share the processor with that.
pub(crate) const LISTING_PAUSE: Duration = Duration::from_millis(500);

/// How soon after an unmount a sweep begins: several go together.
pub(crate) const SWEEP_PAUSE: Duration = Duration::from_millis(200);

/// Time of a sweep over all snapshots; nobody waits for it.
pub(crate) const SWEEP_TIME: Duration = Duration::from_secs(120);

/// The same when the daemon ends: somebody waits.
pub(crate) const SWEEP_LAST: Duration = Duration::from_secs(15);

/// How soon it is tried again to remove what could not be: it is mounted elsewhere, or a pool is out
/// of order.
pub(crate) const SWEEP_AGAIN: Duration = Duration::from_secs(60);

/// How often it is looked whether kept snapshots have grown too old. They are kept for hours and days.
pub(crate) const SWEEP_ROUND: Duration = Duration::from_secs(15 * 60);

/// Stack of a thread that only waits and asks.
pub(crate) const SMALL_STACK: usize = 256 << 10;

/// How long a user's FUSE helper may neither answer nor do anything before it is killed. A network that
/// went away for a moment is back by then; what the helper has not written yet is lost.
pub(crate) const GIVE_UP: Duration = Duration::from_secs(60);
