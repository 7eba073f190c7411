//! Every limit of this crate, with its reason. Each is tested at the limit and one past it.

use std::time::Duration;

/// Bytes of a name that is looked up. A domain name has at most 253, and an address with the name
/// of an interface fewer.
pub const NAME: usize = 255;

/// Bytes of a user's name, or of the home directory: a path has no more (PATH_MAX).
pub const USER: usize = 4096;

/// Addresses of one name that are kept. Whoever has more spreads load by giving others each time.
pub const ADDRESSES: usize = 64;

/// Names that are looked up at the same time; each has a thread. A name server that is silent keeps
/// one for half a minute.
pub const LOOKUPS: usize = 64;

/// Threads that look up the same name: one that is stuck must not be the only one to be waited for,
/// since the network may have come up meanwhile.
pub const LOOKUPS_OF_A_NAME: usize = 3;

/// How young a look-up of a name must be for another to wait for its answer instead of asking too.
pub const SAME_LOOKUP: Duration = Duration::from_millis(500);

/// Bytes of stack of a thread that looks up a name: modules of the name service switch are
/// programs of others. Only what is touched takes memory.
pub const LOOKUP_STACK: usize = 1 << 20;

/// Bytes of one request.
pub const REQUEST: usize = 64 << 10;

/// Bytes of one reply.
pub const REPLY: usize = 24 << 20;

/// Requests of the daemon's that are not answered yet. Its threads are fewer.
pub const UNDERWAY: usize = 1024;

/// Processes that are started for one question, if each ends before it has answered.
pub const ATTEMPTS: usize = 3;

/// Bytes of a failure's description that are kept of what the process says.
pub const WORDS: usize = 512;

/// How long the process may say nothing after it was asked whether it lives, before it is killed.
pub const SILENCE: Duration = Duration::from_secs(2);

/// How long an answer that is due is still waited for. The process answers in time, even if it is
/// that nobody was heard; this is for the way here, which on a machine with more to do than it can
/// takes a while. What comes later counts as not asked, so that a dead server is not found dead.
pub const LATENESS: Duration = Duration::from_secs(1);

/// The longest time that a question may take.
pub const LONGEST: Duration = Duration::from_secs(600);

/// How long a process without work is kept: starting one takes some milliseconds, and a machine
/// that asks at all asks again.
pub const IDLE: Duration = Duration::from_secs(60);

/// Who the process is when there is no user `nobody` in /etc/passwd; also the kernel's own number
/// for those it does not know.
pub const NOBODY: u32 = 65_534;

/// Bytes of /etc/passwd that are read to find `nobody`, who stands among the first.
pub const PASSWD: u64 = 1 << 20;

/// Descriptors that the process may have: every server that is asked takes one or two.
pub const DESCRIPTORS: u64 = 4096;

/// Bytes of data (heap and stacks) that the process may have: the largest answers of eight servers
/// at once, in two forms, and stacks.
pub const MEMORY: u64 = 1 << 30;

/// Servers that one question asks whether they serve; of more, the rest is not asked.
pub const TARGETS: usize = 256;

/// Questions about servers that are asked at the same time, each in a thread. The daemon's threads
/// that could ask are fewer.
pub const PROBES: usize = 256;

/// How much later a server's IPv4 address is asked than its IPv6 address, where both are wanted
/// alike: long enough for IPv6 to be first in a network nearby, and not felt by people. RFC 8305
/// allows 10 ms to 2 s.
pub const STAGGER: Duration = Duration::from_millis(25);

/// How long it is waited for what a server says of its root after it has said that it serves. Both were
/// asked in one packet, so that it comes at once; from a server that has not been asked for its root since
/// it was started when it has looked it up; and never from one that is confused.
pub const ASIDE: Duration = Duration::from_millis(100);

/// Bytes of stack of a thread that asks servers; their answers are not on it.
pub const ASKING_STACK: usize = 256 << 10;

/// Servers that are asked for their exports at the same time: their lists may be long.
pub const EXPORTS: usize = 8;

/// Questions that may wait for one of those to end.
pub const EXPORTS_WAITING: usize = 128;

/// Addresses of one server that are asked for its exports.
pub const EXPORT_ADDRESSES: usize = 8;

/// How long an address is silent before the next is asked, as in RFC 8305.
pub const EXPORT_STAGGER: Duration = Duration::from_millis(250);

/// Bytes of the description of a bad line in a list of exports: a path, and some words.
pub const FAULT: usize = piton_rpc::limits::PATH * 4 + 128;
