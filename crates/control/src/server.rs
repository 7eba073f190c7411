//! The server: connections, who may do what, and time limits.
//!
//! One thread accepts; each connection has a thread that reads requests and writes replies; each
//! call runs on a thread of its own, so that one that overruns can be given up. None of them is
//! the daemon's loop. Connections are bounded in all and by user, with some kept for root.

mod call;
mod connection;

use std::collections::HashMap;
use std::io;
use std::net::Shutdown;
use std::os::fd::OwnedFd;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use rustix::event::{EventfdFlags, PollFd, PollFlags, eventfd, poll};

use crate::limits;
use crate::runtime::{RuntimeDir, RuntimeError};
use crate::service::Service;
use crate::varlink::{self, Call, CallError};

/// Whether a call is well-formed and such a caller may make it. Nothing is done.
///
/// # Errors
/// What the caller would be told.
pub fn may_call(call: Call, privileged: bool) -> Result<(), CallError> {
    call::prepare(call, privileged).map(|_| ())
}

/// The listening control socket and its threads. Ends when dropped.
#[derive(Debug)]
pub struct Server {
    shared: Arc<Shared>,
    /// Readable once the accepting thread shall end.
    bell: OwnedFd,
    accepting: Option<JoinHandle<()>>,
}

impl Server {
    /// Listens in the runtime directory and answers from `service`.
    ///
    /// The socket takes the place of one that an earlier daemon left, without a moment in which
    /// there is none. The caller holds the directory's [`crate::Lock`].
    ///
    /// # Errors
    /// When the directory cannot be used, the socket cannot be made or no thread can be started.
    pub fn bind(dir: &RuntimeDir, service: Arc<dyn Service>) -> Result<Self, ServerError> {
        Self::serve(listen(dir)?, Some(dir.socket()), service)
    }

    /// Answers from `service` on a socket that listens already.
    ///
    /// `socket` is removed at the end if it is still this one.
    ///
    /// # Errors
    /// When no thread can be started.
    pub fn serve(
        listener: UnixListener,
        socket: Option<PathBuf>,
        service: Arc<dyn Service>,
    ) -> Result<Self, ServerError> {
        listener.set_nonblocking(true).map_err(ServerError::Start)?;
        let bell = eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)
            .map_err(|errno| ServerError::Start(errno.into()))?;
        let heard = bell.try_clone().map_err(ServerError::Start)?;
        let socket = socket.and_then(|path| identity(&path).map(|identity| (path, identity)));
        let shared = Arc::new(Shared {
            service,
            owner: rustix::process::geteuid().as_raw(),
            stopping: AtomicBool::new(false),
            next: AtomicU64::new(0),
            places: Mutex::default(),
            freed: Condvar::new(),
            socket,
        });
        let accepting = thread::Builder::new()
            .name("control".to_owned())
            .spawn({
                let shared = Arc::clone(&shared);
                move || shared.accept(&listener, &heard)
            })
            .map_err(ServerError::Start)?;
        Ok(Self {
            shared,
            bell,
            accepting: Some(accepting),
        })
    }

    /// Ends: accepts nothing more, lets replies under way out, and removes the socket.
    ///
    /// Takes at most [`limits::FAREWELL`].
    pub fn shutdown(mut self) {
        self.end();
    }

    fn end(&mut self) {
        let Some(accepting) = self.accepting.take() else {
            return;
        };
        self.shared.stopping.store(true, Ordering::SeqCst);
        if let Some((path, ours)) = &self.shared.socket
            && identity(path) == Some(*ours)
        {
            // A socket that stays is replaced by the next daemon.
            let _ = std::fs::remove_file(path);
        }
        // An eventfd takes a write unless its counter is full, and then it is readable already.
        let _ = rustix::io::write(&self.bell, &1u64.to_ne_bytes());
        // A panic there has been printed by its hook.
        let _ = accepting.join();
        self.shared.take_leave();
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.end();
    }
}

/// Why the server could not begin.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ServerError {
    /// The runtime directory cannot be used.
    #[error(transparent)]
    Runtime(#[from] RuntimeError),
    /// The socket cannot be made.
    #[error("control socket {}: {cause}", path.display())]
    Socket {
        /// Its path.
        path: PathBuf,
        /// What the system said.
        #[source]
        cause: io::Error,
    },
    /// A thread or a descriptor could not be had.
    #[error("control socket: {0}")]
    Start(#[source] io::Error),
}

/// A listening socket in the runtime directory, in the place of what stood there.
///
/// # Errors
/// When the directory cannot be used or the socket cannot be made.
pub fn listen(dir: &RuntimeDir) -> Result<UnixListener, ServerError> {
    dir.prepare()?;
    let path = dir.socket();
    let fresh = dir.path().join("control.new");
    let io = |cause| ServerError::Socket {
        path: path.clone(),
        cause,
    };
    match std::fs::remove_file(&fresh) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(io(error)),
        _ => {}
    }
    let listener = UnixListener::bind(&fresh).map_err(io)?;
    rustix::net::listen(&listener, limits::BACKLOG).map_err(|errno| io(errno.into()))?;
    // Everybody may connect; what each may do is decided call by call.
    std::fs::set_permissions(&fresh, PermissionsExt::from_mode(0o666)).map_err(io)?;
    std::fs::rename(&fresh, &path).map_err(io)?;
    Ok(listener)
}

/// Device and inode of a file.
fn identity(path: &Path) -> Option<(u64, u64)> {
    let meta = std::fs::symlink_metadata(path).ok()?;
    Some((meta.dev(), meta.ino()))
}

/// What the threads have in common.
struct Shared {
    service: Arc<dyn Service>,
    /// The daemon's own user.
    owner: u32,
    stopping: AtomicBool,
    /// Number of the next place.
    next: AtomicU64,
    /// Connections that are open, or whose call still runs.
    places: Mutex<HashMap<u64, Occupant>>,
    /// Told when a place is given back.
    freed: Condvar,
    /// The socket's path and what is there.
    socket: Option<(PathBuf, (u64, u64))>,
}

impl std::fmt::Debug for Shared {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Shared")
            .field("owner", &self.owner)
            .finish_non_exhaustive()
    }
}

/// Who has a place.
struct Occupant {
    uid: u32,
    /// To end its reading.
    stream: UnixStream,
}

/// One of the bounded number of connections; given back when dropped.
struct Place {
    id: u64,
    shared: Arc<Shared>,
}

impl Drop for Place {
    fn drop(&mut self) {
        self.shared.occupants().remove(&self.id);
        self.shared.freed.notify_all();
    }
}

/// Who is at the other end of a connection.
#[derive(Clone, Copy, Debug)]
struct Peer {
    uid: u32,
    pid: u32,
}

impl Peer {
    fn of(stream: &UnixStream) -> rustix::io::Result<Self> {
        let peer = rustix::net::sockopt::socket_peercred(stream)?;
        let pid = rustix::process::Pid::as_raw(Some(peer.pid));
        Ok(Self {
            uid: peer.uid.as_raw(),
            pid: pid.cast_unsigned(),
        })
    }
}

impl Shared {
    fn occupants(&self) -> MutexGuard<'_, HashMap<u64, Occupant>> {
        // The map is whole at every point where a thread could have panicked.
        self.places.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn is_stopping(&self) -> bool {
        self.stopping.load(Ordering::SeqCst)
    }

    /// Returns true if and only if the peer may change things.
    fn is_privileged(&self, peer: Peer) -> bool {
        peer.uid == 0 || peer.uid == self.owner
    }

    /// Accepts connections until the bell rings.
    fn accept(self: &Arc<Self>, listener: &UnixListener, bell: &OwnedFd) {
        loop {
            let mut fds = [
                PollFd::new(listener, PollFlags::IN),
                PollFd::new(bell, PollFlags::IN),
            ];
            match poll(&mut fds, None) {
                Ok(_) | Err(rustix::io::Errno::INTR) => {}
                Err(_) => return,
            }
            if self.is_stopping() {
                return;
            }
            match listener.accept() {
                Ok((stream, _)) => self.welcome(stream),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                // Out of descriptors or memory: the connection stays in the queue meanwhile.
                Err(_) => thread::sleep(Duration::from_millis(100)),
            }
        }
    }

    /// Gives a connection its thread, or turns it away.
    fn welcome(self: &Arc<Self>, stream: UnixStream) {
        let Ok(peer) = Peer::of(&stream) else { return };
        if stream.set_nonblocking(false).is_err() {
            return;
        }
        let Ok(Some(place)) = self.seat(peer, &stream) else {
            turn_away(&stream);
            return;
        };
        // Without a thread the connection is closed by the closure's drop.
        let _ = thread::Builder::new()
            .name("control-client".to_owned())
            .spawn(move || connection::Connection::new(stream, peer, place).run());
    }

    /// A place for this peer, if one is free.
    fn seat(self: &Arc<Self>, peer: Peer, stream: &UnixStream) -> io::Result<Option<Place>> {
        let mut occupants = self.occupants();
        let of_user = occupants
            .values()
            .filter(|occupant| occupant.uid == peer.uid)
            .count();
        let free = if self.is_privileged(peer) {
            occupants.len() < limits::CONNECTIONS
        } else {
            occupants.len() < limits::CONNECTIONS_OF_OTHERS
                && of_user < limits::CONNECTIONS_PER_USER
        };
        if !free {
            return Ok(None);
        }
        let id = self.next.fetch_add(1, Ordering::Relaxed);
        occupants.insert(
            id,
            Occupant {
                uid: peer.uid,
                stream: stream.try_clone()?,
            },
        );
        Ok(Some(Place {
            id,
            shared: Arc::clone(self),
        }))
    }

    /// Ends all reading, and waits a little for replies under way.
    fn take_leave(&self) {
        let until = Instant::now() + limits::FAREWELL;
        let mut occupants = self.occupants();
        for occupant in occupants.values() {
            // Fails only where the peer has gone already.
            let _ = occupant.stream.shutdown(Shutdown::Read);
        }
        while !occupants.is_empty() {
            let left = until.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return;
            }
            let waited = self.freed.wait_timeout(occupants, left);
            occupants = waited.unwrap_or_else(PoisonError::into_inner).0;
        }
    }
}

/// Tells a peer that there is no place, as far as its socket takes it without waiting.
fn turn_away(stream: &UnixStream) {
    let Ok(bytes) = varlink::encode(&CallError::TooManyConnections.reply()) else {
        return;
    };
    if stream.set_nonblocking(true).is_ok() {
        // A peer that cannot hear it sees the connection end.
        let _ = rustix::io::write(stream, &bytes);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::message::{Left, ReloadPlan, Settings, Status, Trace};
    use crate::service::{ServiceError, TraceFrom};

    struct Mute;

    impl Service for Mute {
        fn status(&self, _: Option<&str>) -> Result<Status, ServiceError> {
            Err(ServiceError::TimedOut)
        }
        fn settings(&self) -> Settings {
            Settings::default()
        }
        fn trace(&self, _: TraceFrom, _: Duration) -> Result<(Trace, TraceFrom), ServiceError> {
            Err(ServiceError::TimedOut)
        }
        fn plan(&self) -> Result<ReloadPlan, ServiceError> {
            Err(ServiceError::TimedOut)
        }
        fn reload(&self) -> Result<ReloadPlan, ServiceError> {
            Err(ServiceError::TimedOut)
        }
        fn expire(&self, _: Option<&str>) -> Result<Vec<Left>, ServiceError> {
            Err(ServiceError::TimedOut)
        }
        fn drain(&self, _: &str, _: bool, _: Option<u64>) -> Result<Vec<Left>, ServiceError> {
            Err(ServiceError::TimedOut)
        }
        fn undrain(&self, _: &str) -> Result<bool, ServiceError> {
            Err(ServiceError::TimedOut)
        }
        fn pin(&self, _: &str, _: u64) -> Result<(), ServiceError> {
            Err(ServiceError::TimedOut)
        }
        fn unpin(&self, _: &str) -> Result<bool, ServiceError> {
            Err(ServiceError::TimedOut)
        }
        fn upgrade(&self, _: &str) -> Result<(), ServiceError> {
            Err(ServiceError::TimedOut)
        }

        fn flush(&self, path: Option<&str>) -> Result<u64, ServiceError> {
            Ok(if path.is_some() { 1 } else { 12 })
        }

        fn unmount(&self, _: &str) -> Result<Vec<Left>, ServiceError> {
            Err(ServiceError::TimedOut)
        }
        fn stop(&self, _: bool) -> Result<Vec<Left>, ServiceError> {
            Err(ServiceError::TimedOut)
        }
    }

    /// As a daemon of user 500 would have it.
    fn shared() -> Arc<Shared> {
        Arc::new(Shared {
            service: Arc::new(Mute),
            owner: 500,
            stopping: AtomicBool::new(false),
            next: AtomicU64::new(0),
            places: Mutex::default(),
            freed: Condvar::new(),
            socket: None,
        })
    }

    /// As many places as a user gets.
    fn places(shared: &Arc<Shared>, uid: u32) -> Vec<Place> {
        let (stream, _peer) = UnixStream::pair().expect("a pair");
        let seat = || {
            shared
                .seat(Peer { uid, pid: 1 }, &stream)
                .expect("a descriptor")
        };
        std::iter::from_fn(seat).collect()
    }

    #[test]
    fn root_and_the_owner_are_privileged() {
        let shared = shared();
        let privileged = |uid| shared.is_privileged(Peer { uid, pid: 1 });
        assert_eq!(
            [0, 500, 501, 65_534].map(privileged),
            [true, true, false, false]
        );
    }

    #[test]
    fn no_user_takes_all_places_and_no_crowd_shuts_root_out() {
        let shared = shared();
        let mut taken = places(&shared, 1000);
        assert_eq!(taken.len(), limits::CONNECTIONS_PER_USER);
        for uid in 1001..1020 {
            taken.extend(places(&shared, uid));
        }
        assert_eq!(taken.len(), limits::CONNECTIONS_OF_OTHERS);
        let kept = limits::CONNECTIONS - limits::CONNECTIONS_OF_OTHERS;
        let of_root = places(&shared, 0);
        assert_eq!(of_root.len(), kept);
        drop(of_root);
        assert_eq!(places(&shared, 500).len(), kept);
        taken.clear();
        assert_eq!(places(&shared, 1000).len(), limits::CONNECTIONS_PER_USER);
    }
}
