//! Every bound of the engine, with its reason.

/// Look-ups that may be remembered as failed, over all maps. A desktop searches for some dozens
/// of absent names; a scanner for millions. The oldest go first. About 100 bytes each.
pub const NEGATIVE_ENTRIES: usize = 10_000;

/// Accesses that may wait for one place. The kernel makes one request for all walkers of a
/// name, so more than a few mean a broken front end; each further one is refused at once.
pub const WAITERS_PER_PLACE: usize = 1_024;

/// Jobs at the same time. Each holds a few kilobytes; beyond it accesses are refused with
/// EAGAIN's sense (`Cause::Overloaded`) rather than queued without end.
pub const JOBS: usize = 65_536;

/// Bytes of an entry's text from which on it is not planned in passing, while everybody else waits.
/// Entries of maps may not be longer ([`piton_map::limits::ENTRY_LIMIT`]) and are planned in less than
/// a millisecond; the exports of a server are hundred times that.
pub const PLAN_APART: usize = 16_384;

/// Shortest pause between two expiry rounds of one trigger, in milliseconds: the kernel counts
/// idleness in seconds, so asking more often finds nothing new.
pub const EXPIRE_PAUSE_LEAST_MS: u64 = 1_000;

/// Longest such pause: a day-long timeout is still looked at often enough to be exact to 5 %.
pub const EXPIRE_PAUSE_MOST_MS: u64 = 600_000;

/// Longest pause before it is tried again to unmount what must go as soon as it is idle, in
/// milliseconds: somebody waits for it to be gone, and each try is a system call or two.
pub const PRESSING_PAUSE_MS: u64 = 5_000;

/// For how long what failed for the first time is answered from memory, in milliseconds. `ls`
/// asks twice (stat, open); a user who mended the cause must not wait. What fails again and
/// again is tried after twice that, four times that, …, up to the limits below.
pub const FAILURE_MEMORY_MS: u64 = 1_000;

/// Longest pause before a mount that fails is tried again, in milliseconds. A missing device
/// costs microseconds to find out, a damaged file system seconds.
pub const MOUNT_MEMORY_MOST_MS: u64 = 15_000;

/// Longest pause before a server that does not answer is asked again, in milliseconds. Each try
/// makes somebody wait for the deadline; a server takes a minute or so to start.
pub const SERVER_MEMORY_MOST_MS: u64 = 60_000;

/// Longest pause before a map that cannot be asked is asked again, in milliseconds: as for
/// servers, but all keys of a map hang on it.
pub const MAP_MEMORY_MOST_MS: u64 = 30_000;

/// For how long an entry of a program or a server that cannot be used is remembered, in
/// milliseconds: running the program for each access costs, and whoever mends it tries at once.
pub const BAD_ENTRY_MEMORY_MS: u64 = 5_000;

/// Servers of which anything is remembered. A site has dozens; maps made by programs could name
/// any number. A kilobyte each with what their addresses answered.
pub const SERVERS: usize = 1_024;

/// Answers remembered of one server: more addresses than a name has that anybody mounts from,
/// each for a version or two.
pub const HEARD_PER_SERVER: usize = 16;

/// For how long what an address of a server answered saves asking it again, in milliseconds: a
/// burst of accesses asks once, and what dies is found out soon.
pub const ANSWERS_FRESH_MS: u64 = 5_000;

/// For how long better servers are waited for once one has answered, in milliseconds: more than a
/// server of this continent takes, and less than a person notices.
pub const PROBE_GRACE_MS: u64 = 200;

/// For how long servers are asked at most when none answers, in milliseconds: room for two lost
/// packets (TCP asks again after 1 and 3 seconds). It is never more than half of what those who
/// wait have left.
pub const PROBE_MOST_MS: u64 = 5_000;

/// Servers that are given less time than this to answer, in milliseconds, are not taken for dead
/// when they don't: who waits has not the time to find out.
pub const PROBE_LEAST_MS: u64 = 1_000;

/// Longest pause before a dead server is asked again in the background, in milliseconds: nobody
/// waits for that, and a question is one packet or two. What is wanted is asked sooner.
pub const CHECK_MEMORY_MOST_MS: u64 = 15_000;

/// Shortest pause between two background questions to a dead server that is wanted, in
/// milliseconds: a loop of accesses must not become a loop of questions.
pub const CHECK_PAUSE_LEAST_MS: u64 = 1_000;

/// For how long a dead server is asked in the background after it was last wanted, in
/// milliseconds. After that it is forgotten: one that was switched off for good is not asked for
/// ever.
pub const UNWANTED_MS: u64 = 300_000;

/// Time for the answer to a background question, in milliseconds: that of a TCP handshake whose
/// first packet was lost, and another second.
pub const CHECK_MS: u64 = 2_000;

/// Time beyond that after which the question itself counts as lost, in milliseconds.
pub const LATE_CHECK_MS: u64 = 5_000;

/// Pause between questions to a server that something is mounted from, in milliseconds, less up to
/// a quarter by chance. A death that nobody notices is no hurry.
pub const SLOWLY_MS: u64 = 25_000;

/// The same where another server can take its place: that is done within three seconds.
pub const CLOSELY_MS: u64 = 1_000;

/// Time for the answer of a closely watched server, in milliseconds, unless its answers take
/// longer than that as a rule.
pub const PATIENCE_CLOSELY_MS: u64 = 300;

/// How much longer than usual an answer of a closely watched server may take.
pub const PATIENCE_FACTOR: u64 = 8;

/// Pause after a question without an answer, in milliseconds. A server that refuses is not asked
/// all the time; a restart of it takes a second or so.
pub const MISS_PAUSE_SLOWLY_MS: u64 = 2_000;

/// The same for a closely watched server.
pub const MISS_PAUSE_CLOSELY_MS: u64 = 100;

/// So many questions without an answer in a row are a death.
pub const MISSES_SLOWLY: u32 = 3;

/// The same for a closely watched server: with the times above, known 2.5 s after the fact at most.
pub const MISSES_CLOSELY: u32 = 4;

/// Failures kept for `status`: enough to see a pattern, little enough to read.
pub const LAST_ERRORS: usize = 64;

/// Requests of operators that may wait for their answer at the same time; further ones are
/// refused at once. Each is a person or a script waiting.
pub const OPERATOR_REQUESTS: usize = 1_024;

/// What a stop waits beyond the deadlines of mounting and unmounting before it gives up what
/// is stuck, in milliseconds: room for the answer to come through.
pub const STOP_PATIENCE_MS: u64 = 2_000;

/// What a stop waits for the kernel to end a look for idle mounts that makes busy what should go, in
/// milliseconds since the last answer to anything else. Such a look takes some 13 ms, and a busy
/// machine hundredfold that; one that asks a dead server does not end.
pub const ROUND_PATIENCE_MS: u64 = 5_000;

/// Pause before a stop tries once more what was busy, in milliseconds: who only walks by a mount point
/// is gone by then.
pub const PASSING_MS: u64 = 100;

/// Pause before it is tried again to take back a mount that belongs to nobody, in milliseconds.
pub const CLEAR_PAUSE_MS: u64 = 5_000;

/// For how long a place that was let go of is not let go of again, in milliseconds: two servers
/// that come and go must not make it wander. Twice that after the second time, and so on.
pub const MOVE_PAUSE_MS: u64 = 30_000;

/// Longest such pause, in milliseconds. A place that stayed for twice that begins anew.
pub const MOVE_PAUSE_MOST_MS: u64 = 900_000;

/// Pause before something that is to move, and could not, is looked at again, in milliseconds.
/// What keeps it is mostly work under way that ends within its deadline.
pub const LOOK_AGAIN_MS: u64 = 1_000;

/// Time to let go of something, in milliseconds: a call that asks nobody, and a look at who is
/// inside.
pub const LET_GO_MS: u64 = 5_000;

/// For how long a server must have been back before anything is moved to it only because it is
/// wanted more, in milliseconds.
pub const FAIL_BACK_AFTER_MS: u64 = 60_000;

/// Pause between two tries to unmount what should move when it is idle, in milliseconds.
pub const FAIL_BACK_PAUSE_MS: u64 = 20_000;

/// Idle time of an entry with offsets that should move, in seconds: the kernel says when it is
/// idle.
pub const FAIL_BACK_IDLE_S: u32 = 10;

/// For how long after the start no map is asked about what an earlier life mounted, in
/// milliseconds: who waited for the start comes first.
pub const LEARN_AFTER_MS: u64 = 2_000;

/// Pause between two such questions, in milliseconds: of thousands of mounts some may have to run a
/// program.
pub const LEARN_PAUSE_MS: u64 = 20;

/// So often a map that cannot be asked is asked about one mount. One that is written anew or a
/// server that starts has come back by then.
pub const LEARN_TRIES: u32 = 4;

/// Pause after the first time, in milliseconds; twice that after the second, and so on.
pub const LEARN_AGAIN_MS: u64 = 30_000;

/// Servers that may be drained at the same time: more are no longer typed by people.
pub const DRAINED_SERVERS: usize = 1_024;

/// Paths that may be pinned at the same time.
pub const PINS: usize = 1_024;

/// Names that a map was asked for and that nobody followed yet: as many processes begin to walk at
/// once. Of more the oldest are asked for again.
pub const KNOWN_ENTRIES: usize = 1_024;

/// For how long what a map said of a name is good for following it, in milliseconds: who looks a
/// name up follows it at once or not at all.
pub const KNOWN_ENTRY_MS: u64 = 5_000;

/// Longest name of a mount that keys share, in bytes: it is a component of a path (`NAME_MAX` is 255).
/// What is called longer is mounted for each key.
pub const SHARE_NAME: usize = 200;
