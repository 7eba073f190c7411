//! One client's connection: bytes in, messages out; messages in, bytes out.

use std::collections::VecDeque;

use piton_rpc::record::{Records, mark};
use rustix::event::PollFlags;
use rustix::fd::OwnedFd;
use rustix::io::Errno;
use rustix::net::{RecvFlags, SendFlags, recv, send};

use crate::limits;

/// A client. It is never waited for.
#[derive(Debug)]
pub(crate) struct Connection {
    socket: OwnedFd,
    records: Records,
    /// Read, and not yet taken apart.
    unread: Vec<u8>,
    /// How much of that was.
    taken: usize,
    unsent: VecDeque<u8>,
}

/// The connection is of no more use: closed by the client, or broken, or abused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Gone;

impl Connection {
    pub(crate) fn new(socket: OwnedFd) -> Self {
        Self {
            socket,
            records: Records::new(limits::RECORD),
            unread: Vec::new(),
            taken: 0,
            unsent: VecDeque::new(),
        }
    }

    pub(crate) fn socket(&self) -> &OwnedFd {
        &self.socket
    }

    /// What to wait for.
    pub(crate) fn wants(&self) -> PollFlags {
        let mut wants = PollFlags::empty();
        if !self.is_stuck() {
            wants |= PollFlags::IN;
        }
        if !self.unsent.is_empty() {
            wants |= PollFlags::OUT;
        }
        wants
    }

    /// The client does not take its answers.
    fn is_stuck(&self) -> bool {
        self.unsent.len() >= limits::UNSENT
    }

    /// Reads some of what has come.
    pub(crate) fn read(&mut self) -> Result<(), Gone> {
        if self.taken < self.unread.len() || self.is_stuck() {
            return Ok(());
        }
        self.unread.resize(limits::RECORD, 0);
        self.taken = 0;
        let read = recv(&self.socket, &mut self.unread[..], RecvFlags::empty());
        let (count, end) = match read {
            Ok((0, _)) => (0, Err(Gone)),
            Ok((count, _)) => (count, Ok(())),
            Err(Errno::AGAIN | Errno::INTR) => (0, Ok(())),
            Err(_) => (0, Err(Gone)),
        };
        self.unread.truncate(count);
        end
    }

    /// The next whole message of what was read; none while the client does not take its answers.
    pub(crate) fn next(&mut self) -> Result<Option<Vec<u8>>, Gone> {
        if self.is_stuck() {
            return Ok(None);
        }
        let mut rest = &self.unread[self.taken..];
        let message = self.records.take(&mut rest);
        self.taken = self.unread.len() - rest.len();
        message.map_err(|error| {
            tracing::debug!(%error, "a client is cut off");
            Gone
        })
    }

    /// Sends a message, as far as there is room; the rest later.
    pub(crate) fn send(&mut self, message: &[u8]) -> Result<(), Gone> {
        self.unsent.extend(mark(message));
        self.flush()
    }

    /// Sends what there is room for.
    pub(crate) fn flush(&mut self) -> Result<(), Gone> {
        while !self.unsent.is_empty() {
            let (bytes, _) = self.unsent.as_slices();
            match send(&self.socket, bytes, SendFlags::NOSIGNAL) {
                Ok(count) => drop(self.unsent.drain(..count)),
                Err(Errno::AGAIN) => break,
                Err(Errno::INTR) => {}
                Err(_) => return Err(Gone),
            }
        }
        Ok(())
    }
}
