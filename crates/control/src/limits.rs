//! Every bound of the control socket, with its reason.
//!
//! The socket is open to every user of the host, so each of these is also what one user can cost
//! the others.

use std::time::Duration;

/// Longest request in bytes. A request is a method and a path of at most 4,096 bytes; the rest
/// is room for clients that escape every byte.
pub const REQUEST_BYTES: usize = 1 << 20;

/// One more than the longest path in bytes that the kernel takes (PATH_MAX).
pub const PATH_BYTES: usize = 4096;

/// Longest reply in bytes that a client accepts: the state of about 100,000 mounts.
pub const REPLY_BYTES: usize = 256 << 20;

/// Connections open at once, each of which has a thread of its own.
pub const CONNECTIONS: usize = 64;

/// Connections of everybody but root and the daemon's user: the rest is kept free, so that the
/// administrator gets in whatever others do.
pub const CONNECTIONS_OF_OTHERS: usize = 48;

/// Connections of one user other than root and the daemon's user.
pub const CONNECTIONS_PER_USER: usize = 8;

/// How long a connection may stay without a request.
pub const IDLE: Duration = Duration::from_secs(60);

/// How long a request may take to arrive, from its first byte to its NUL.
pub const ARRIVAL: Duration = Duration::from_secs(5);

/// How long a client may take to read a reply.
pub const DELIVERY: Duration = Duration::from_secs(10);

/// How long a reading call may take. It asks the daemon's loop, which never blocks, and looks
/// through /proc for who keeps mounts busy.
pub const READ_CALL: Duration = Duration::from_secs(10);

/// How long a client waits for what it would only like to know: `explain` has its answer without it.
pub const GLANCE: Duration = Duration::from_secs(1);

/// How long a changing call may take: a reload waits for maps, an unmount for its server.
pub const CHANGE_CALL: Duration = Duration::from_secs(60);

/// How long stopping may take: every mount point is taken away, deepest first, and each may wait
/// for its server.
pub const STOP_CALL: Duration = Duration::from_secs(300);

/// What a client waits beyond the daemon's own limit, so that it gets to hear the daemon's words.
pub const CLIENT_SLACK: Duration = Duration::from_secs(2);

/// How long a client tries to connect to a daemon whose queue of connections is full.
pub const CONNECT: Duration = Duration::from_secs(5);

/// How long the end of the server waits for replies that are being sent.
pub const FAREWELL: Duration = Duration::from_secs(2);

/// Mounts in one reply of a list that is sent in pieces.
pub const LIST_BATCH: usize = 256;

/// Requests in one reply of a trace.
pub const TRACE_BATCH: usize = 64;

/// Such pieces in the one reply of a trace that does not go on: more than a daemon remembers.
pub const TRACE_BATCHES: usize = 64;

/// How long a client that follows a trace may take to read a reply: whoever pages through it may
/// pause. The daemon does not wait for it; lines are lost meanwhile, and counted.
pub const TRACE_DELIVERY: Duration = Duration::from_secs(600);

/// How long a client waits for the next request of a trace: without end, for all practical
/// purposes.
pub const FOLLOW: Duration = Duration::from_secs(10 * 365 * 86_400);

/// How long a trace waits for a request before it looks whether its client is still there.
pub const TRACE_PAUSE: Duration = Duration::from_millis(250);

/// Connections that the kernel keeps waiting for `accept`.
pub const BACKLOG: i32 = 64;

/// Bytes read from a socket at once.
pub(crate) const READ_CHUNK: usize = 16 << 10;

/// How long a start waits for the lock of a daemon whose keeper is dead: killed processes give it up
/// one after the other.
pub(crate) const LOCK: Duration = Duration::from_secs(5);

/// Longest name of a server that is asked about: that of a DNS name, and room for an address.
pub const SERVER_BYTES: usize = 255;

/// Longest time that a pin or a drain may be given, in seconds: ten years are for ever.
pub const LONGEST_S: u64 = 315_360_000;
