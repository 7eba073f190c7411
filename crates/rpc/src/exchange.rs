//! One call and its reply, over TCP or UDP, on a socket that never blocks.

use std::collections::hash_map::RandomState;
use std::hash::{BuildHasher, Hasher};
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fd::{AsFd, BorrowedFd, OwnedFd};
use rustix::io::Errno;
use rustix::net::{
    AddressFamily, RecvFlags, SendFlags, SocketFlags, SocketType, connect, recv, send, socket_with,
};

use crate::error::Error;
use crate::limits;
use crate::message::{self, Procedure};
use crate::record::{self, Records};

/// How a program is reached.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Protocol {
    /// A stream, with fragments.
    Tcp,
    /// Datagrams, sent again until they are answered.
    Udp,
}

/// A call that waits for its reply.
#[derive(Debug)]
pub struct Exchange {
    socket: OwnedFd,
    xid: u32,
    way: Way,
    /// Replies to other calls that have come.
    strays: usize,
    /// A second call on the same connection.
    aside: Option<Aside>,
}

/// A call beside the first, and what came of it.
#[derive(Debug)]
struct Aside {
    xid: u32,
    came: Option<Result<Vec<u8>, Error>>,
}

#[derive(Debug)]
enum Way {
    Stream {
        /// What is still to be sent.
        outgoing: Vec<u8>,
        sent: usize,
        records: Records,
    },
    Datagram {
        message: Vec<u8>,
        /// Bytes that a reply may have.
        most: usize,
        /// When it is sent again, and the pause after that.
        again: Instant,
        pause: Duration,
    },
}

impl Exchange {
    /// Begins a call. The reply may have at most this many bytes.
    ///
    /// # Errors
    /// There is no way to that address, or no socket.
    pub fn begin(
        over: Protocol,
        to: SocketAddr,
        what: Procedure,
        arguments: &[u8],
        most: usize,
    ) -> Result<Self, Error> {
        let xid = number();
        let message = message::call(xid, what, arguments);
        let family = if to.is_ipv6() {
            AddressFamily::INET6
        } else {
            AddressFamily::INET
        };
        let (kind, way) = match over {
            Protocol::Tcp => (
                SocketType::STREAM,
                Way::Stream {
                    outgoing: record::mark(&message),
                    sent: 0,
                    records: Records::new(most),
                },
            ),
            Protocol::Udp => (
                SocketType::DGRAM,
                Way::Datagram {
                    message,
                    most: most.min(limits::DATAGRAM),
                    again: Instant::now(),
                    pause: limits::REPEAT,
                },
            ),
        };
        let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
        let socket = socket_with(family, kind, flags, None)?;
        match connect(&socket, &to) {
            Ok(()) | Err(Errno::INPROGRESS | Errno::INTR) => {}
            Err(errno) => return Err(errno.into()),
        }
        Ok(Self {
            socket,
            xid,
            way,
            strays: 0,
            aside: None,
        })
    }

    /// Sends another call right behind the first, where there is a stream: it takes no time of its
    /// own. Whether and how it is answered changes nothing for the first ([`Self::aside`]).
    #[must_use]
    pub fn with_aside(mut self, what: Procedure, arguments: &[u8]) -> Self {
        if let Way::Stream { outgoing, .. } = &mut self.way {
            let xid = number();
            outgoing.extend(record::mark(&message::call(xid, what, arguments)));
            self.aside = Some(Aside { xid, came: None });
        }
        self
    }

    /// What came of the other call; `None`: nothing yet. Nothing ever comes if there is none.
    pub fn aside(&self) -> Option<&Result<Vec<u8>, Error>> {
        self.aside.as_ref()?.came.as_ref()
    }

    /// Whether there is another call, and nothing has come of it.
    pub fn awaits_aside(&self) -> bool {
        self.aside.as_ref().is_some_and(|it| it.came.is_none())
    }

    /// The socket, to wait for [`Self::wants`].
    pub fn socket(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }

    /// What the socket is to be waited for.
    pub fn wants(&self) -> PollFlags {
        match &self.way {
            Way::Stream { outgoing, sent, .. } if *sent < outgoing.len() => PollFlags::OUT,
            _ => PollFlags::IN,
        }
    }

    /// Whether there is a connection, on which the call has been sent.
    fn is_accepted(&self) -> bool {
        matches!(&self.way, Way::Stream { outgoing, sent, .. } if *sent == outgoing.len())
    }

    /// When [`Self::advance`] is to be called though the socket is not ready.
    pub fn timer(&self) -> Option<Instant> {
        match &self.way {
            Way::Stream { .. } => None,
            Way::Datagram { again, .. } => Some(*again),
        }
    }

    /// Does what can be done without waiting; the results, if they are there.
    ///
    /// # Errors
    /// The call has failed.
    pub fn advance(&mut self) -> Result<Option<Vec<u8>>, Error> {
        match &mut self.way {
            Way::Stream {
                outgoing,
                sent,
                records,
            } => {
                while *sent < outgoing.len() {
                    match out(&self.socket, &outgoing[*sent..])? {
                        0 => return Ok(None),
                        count => *sent += count,
                    }
                }
                let mut buffer = [0; 16 << 10];
                let count = match into(&self.socket, &mut buffer)? {
                    None => return Ok(None),
                    Some(0) => return Err(Errno::CONNRESET.into()),
                    Some(count) => count,
                };
                let mut bytes = &buffer[..count];
                let mut own = None;
                while let Some(message) = records.take(&mut bytes)? {
                    let (xid, outcome) = taken(message)?;
                    match &mut self.aside {
                        _ if xid == self.xid => own = Some(outcome?),
                        Some(aside) if xid == aside.xid => aside.came = Some(outcome),
                        _ => stray(&mut self.strays)?,
                    }
                }
                Ok(own)
            }
            Way::Datagram {
                message,
                most,
                again,
                pause,
            } => {
                let now = Instant::now();
                if *again <= now {
                    out(&self.socket, message)?;
                    *again = now + *pause;
                    *pause = (*pause * 2).min(limits::REPEAT_MOST);
                }
                let mut buffer = vec![0; *most];
                while let Some(count) = into(&self.socket, &mut buffer)? {
                    // Anybody can send a datagram in a server's name: one that is no reply to this
                    // call says nothing.
                    match results(self.xid, buffer[..count].to_vec()) {
                        Ok(Some(results)) => return Ok(Some(results)),
                        Ok(None) | Err(Error::Malformed(_)) => stray(&mut self.strays)?,
                        Err(error) => return Err(error),
                    }
                }
                Ok(None)
            }
        }
    }
}

/// Sends some; nothing when there is no room, or no connection yet.
fn out(socket: &OwnedFd, bytes: &[u8]) -> Result<usize, Error> {
    match send(socket, bytes, SendFlags::NOSIGNAL) {
        Ok(count) => Ok(count),
        Err(Errno::AGAIN | Errno::INTR | Errno::NOBUFS) => Ok(0),
        // It was connected and is not any more; what it was is not kept.
        Err(Errno::PIPE) => Err(Errno::CONNRESET.into()),
        Err(errno) => Err(errno.into()),
    }
}

/// Receives some; none when there is nothing yet.
fn into(socket: &OwnedFd, buffer: &mut [u8]) -> Result<Option<usize>, Error> {
    match recv(socket, buffer, RecvFlags::empty()) {
        Ok((count, _)) => Ok(Some(count)),
        Err(Errno::AGAIN | Errno::INTR) => Ok(None),
        Err(errno) => Err(errno.into()),
    }
}

/// A number for a call that nobody knows who does not see our packets.
fn number() -> u32 {
    RandomState::new().build_hasher().finish() as u32
}

/// The results in a reply; none if it is one to another call.
fn results(xid: u32, message: Vec<u8>) -> Result<Option<Vec<u8>>, Error> {
    let (theirs, outcome) = taken(message)?;
    match theirs == xid {
        true => outcome.map(Some),
        false => Ok(None),
    }
}

/// A reply's number, and the results in it.
#[allow(
    clippy::type_complexity,
    reason = "a number, and a result as everywhere"
)]
fn taken(mut message: Vec<u8>) -> Result<(u32, Result<Vec<u8>, Error>), Error> {
    let (xid, outcome) = message::reply(&message)?;
    let length = outcome.map(<[u8]>::len);
    let outcome = length.map(|length| message.split_off(message.len() - length));
    Ok((xid, outcome))
}

fn stray(strays: &mut usize) -> Result<(), Error> {
    *strays += 1;
    if *strays > limits::STRAYS {
        return Err(Error::Malformed("too many replies to other calls"));
    }
    Ok(())
}

/// Calls, and waits for the results.
///
/// # Errors
/// The call has failed, or was not answered by `until` ([`Error::Late`]).
pub fn call(
    over: Protocol,
    to: SocketAddr,
    what: Procedure,
    arguments: &[u8],
    most: usize,
    until: Instant,
) -> Result<Vec<u8>, Error> {
    let exchange = Exchange::begin(over, to, what, arguments, most)?;
    wait(exchange, until, || {})
}

/// Waits for the results of a call. `accepted` is told once that somebody has accepted the call:
/// there is a connection, and it has been sent.
pub(crate) fn wait(
    mut exchange: Exchange,
    until: Instant,
    accepted: impl FnOnce(),
) -> Result<Vec<u8>, Error> {
    let mut accepted = Some(accepted);
    loop {
        if let Some(results) = exchange.advance()? {
            return Ok(results);
        }
        if exchange.is_accepted()
            && let Some(tell) = accepted.take()
        {
            tell();
        }
        let now = Instant::now();
        if now >= until {
            return Err(Error::Late);
        }
        let next = exchange.timer().map_or(until, |timer| timer.min(until));
        let left = next.saturating_duration_since(now);
        let mut fds = [PollFd::from_borrowed_fd(
            exchange.socket(),
            exchange.wants(),
        )];
        match poll(&mut fds, Timespec::try_from(left).ok().as_ref()) {
            Ok(_) | Err(Errno::INTR) => {}
            Err(errno) => return Err(errno.into()),
        }
    }
}
