//! One connection: requests in, replies out, each within its time.

use std::io::{self, Read, Write};
use std::os::unix::net::UnixStream;
use std::sync::{Arc, mpsc};
use std::thread;
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};

use super::call::{self, Prepared, Stream};
use super::{Peer, Place};
use crate::limits;
use crate::service::Caller;
use crate::varlink::{Call, CallError, Framer, encode};

pub(super) struct Connection {
    stream: UnixStream,
    peer: Peer,
    framer: Framer,
    /// Shared with the thread of a call, so that one that overruns keeps the place.
    place: Arc<Place>,
}

impl Connection {
    pub(super) fn new(stream: UnixStream, peer: Peer, place: Place) -> Self {
        Self {
            stream,
            peer,
            framer: Framer::for_requests(),
            place: Arc::new(place),
        }
    }

    /// Serves until the peer leaves, breaks the rules or dawdles, or the server ends.
    pub(super) fn run(mut self) {
        while let Ok(Some(request)) = self.next_request() {
            // What is not a call cannot be answered: varlink closes the connection.
            let Ok(call) = serde_json::from_slice::<Call>(&request) else {
                return;
            };
            let oneway = call.oneway;
            let privileged = self.place.shared.is_privileged(self.peer);
            let prepared = call::prepare(call, privileged);
            let prepared = match prepared.map(|prepared| prepared.stream(self.peer.uid)) {
                // It ends with the connection.
                Ok(Ok(stream)) => return self.follow(stream),
                Ok(Err(prepared)) => Ok(prepared),
                Err(error) => Err(error),
            };
            let replies = prepared
                .and_then(|prepared| self.in_time(prepared))
                .unwrap_or_else(|error| encode(&error.reply()).into_iter().collect());
            if !oneway && self.deliver(&replies, limits::DELIVERY).is_err() {
                return;
            }
            if self.place.shared.is_stopping() {
                return;
            }
        }
    }

    /// The next request; none when the peer has left.
    fn next_request(&mut self) -> io::Result<Option<Vec<u8>>> {
        let entered = Instant::now();
        let mut until = entered
            + if self.framer.is_empty() {
                limits::IDLE
            } else {
                limits::ARRIVAL
            };
        let mut chunk = [0; limits::READ_CHUNK];
        loop {
            match self.framer.next_message() {
                Ok(Some(request)) => return Ok(Some(request)),
                Ok(None) => {}
                Err(too_long) => return Err(io::Error::other(too_long)),
            }
            self.stream.set_read_timeout(Some(remaining(until)?))?;
            let count = match self.stream.read(&mut chunk) {
                Ok(0) => return Ok(None),
                Ok(count) => count,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                Err(error) => return Err(error),
            };
            if self.framer.is_empty() {
                until = Instant::now() + limits::ARRIVAL;
            }
            self.framer.push(&chunk[..count]);
        }
    }

    /// Sends replies as they come, until the peer leaves or the server ends.
    fn follow(&mut self, mut stream: Stream) {
        while !self.place.shared.is_stopping() && self.is_heard() {
            let reply = match stream.next(&*self.place.shared.service) {
                Ok(None) => continue,
                Ok(Some(reply)) => reply,
                Err(error) => {
                    let reply: Vec<_> = encode(&error.reply()).into_iter().collect();
                    // Whoever has left needs no reason.
                    let _ = self.deliver(&reply, limits::DELIVERY);
                    return;
                }
            };
            if self.deliver(&[reply], limits::TRACE_DELIVERY).is_err() {
                return;
            }
        }
        if let Ok(last) = Stream::last() {
            let _ = self.deliver(&[last], limits::FAREWELL);
        }
    }

    /// Whether the peer has not closed the connection.
    fn is_heard(&self) -> bool {
        let mut fds = [PollFd::new(&self.stream, PollFlags::empty())];
        let polled = poll(&mut fds, Some(&Timespec::default()));
        polled.is_ok() && !fds[0].revents().intersects(PollFlags::HUP | PollFlags::ERR)
    }

    /// Runs a call on a thread of its own and waits until its deadline.
    fn in_time(&self, prepared: Prepared) -> Result<Vec<Vec<u8>>, CallError> {
        let limit = prepared.limit();
        let caller = Caller {
            uid: self.peer.uid,
            pid: self.peer.pid,
            deadline: Instant::now() + limit,
        };
        let place = Arc::clone(&self.place);
        let (sender, receiver) = mpsc::sync_channel(1);
        thread::Builder::new()
            .name("control-call".to_owned())
            .spawn(move || {
                // The receiver is gone when the call has overrun.
                let _ = sender.send(prepared.run(&*place.shared.service, caller));
            })
            .map_err(|error| CallError::Failed {
                reason: format!("no thread: {error}"),
            })?;
        receiver.recv_timeout(limit).unwrap_or_else(|lost| {
            Err(match lost {
                mpsc::RecvTimeoutError::Timeout => CallError::DeadlineExceeded,
                mpsc::RecvTimeoutError::Disconnected => CallError::Failed {
                    reason: "the daemon lost the call".to_owned(),
                },
            })
        })
    }

    /// Sends replies; all of them together have one time limit.
    fn deliver(&mut self, replies: &[Vec<u8>], limit: Duration) -> io::Result<()> {
        let until = Instant::now() + limit;
        for reply in replies {
            let mut rest = &reply[..];
            while !rest.is_empty() {
                self.stream.set_write_timeout(Some(remaining(until)?))?;
                match self.stream.write(rest) {
                    Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
                    Ok(count) => rest = &rest[count..],
                    Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                    Err(error) => return Err(error),
                }
            }
        }
        Ok(())
    }
}

/// What is left until a moment; an error once it has passed.
fn remaining(until: Instant) -> io::Result<Duration> {
    let left = until.saturating_duration_since(Instant::now());
    if left.is_zero() {
        Err(io::ErrorKind::TimedOut.into())
    } else {
        Ok(left)
    }
}
