//! One connection: requests in, replies out, each within its time.

use std::io::{self, Read, Write};
use std::os::unix::net::UnixStream;
use std::sync::{Arc, mpsc};
use std::thread;
use std::time::{Duration, Instant};

use super::call::{self, Prepared};
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
            let replies = self.carry_out(call);
            if !oneway && self.deliver(&replies).is_err() {
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

    /// The replies to a call, each ready to be sent.
    fn carry_out(&self, call: Call) -> Vec<Vec<u8>> {
        let shared = &self.place.shared;
        let privileged = shared.is_privileged(self.peer);
        call::prepare(call, privileged)
            .and_then(|prepared| self.in_time(prepared))
            .unwrap_or_else(|error| encode(&error.reply()).into_iter().collect())
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
    fn deliver(&mut self, replies: &[Vec<u8>]) -> io::Result<()> {
        let until = Instant::now() + limits::DELIVERY;
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
