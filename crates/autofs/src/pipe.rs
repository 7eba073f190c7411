//! The pipe through which the kernel sends its requests.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::fs::OFlags;
use rustix::io::{Errno, FdFlags};
use rustix::pipe::PipeFlags;

use crate::error::{Error, Result};
use crate::packet::Packet;

/// The pipe of a daemon: one for all its points.
///
/// The pipe is in packet mode, so that one read gives one request, and its read end does not block.
/// It is as large as the kernel allows, up to [`RequestPipe::WANTED_BYTES`]: each request takes a
/// page of it, and when it is full, the processes that trigger next wait where not even SIGKILL
/// reaches them (measured on Linux 6.18). So drain it promptly, from a thread that never blocks.
///
/// As long as any copy of the read end is open, somewhere, no point becomes catatonic and no
/// accessing process is killed by SIGPIPE: requests wait in the pipe.
#[derive(Debug)]
pub struct RequestPipe {
    reader: OwnedFd,
    /// Kept open because each further point is given it.
    writer: OwnedFd,
}

impl RequestPipe {
    /// The size that a new pipe is given where the kernel allows it: 256 requests.
    pub const WANTED_BYTES: usize = 1 << 20;

    /// Makes a pipe.
    ///
    /// # Errors
    ///
    /// `EMFILE` or `ENFILE` where there is no room for two descriptors. A pipe smaller than wanted
    /// is no error; see [`RequestPipe::capacity_bytes`].
    pub fn new() -> Result<Self> {
        let (reader, writer) = rustix::pipe::pipe_with(PipeFlags::CLOEXEC | PipeFlags::DIRECT)
            .map_err(|errno| Error::call("pipe2", errno))?;
        grow(writer.as_fd());
        Self::from_fds(reader, writer)
    }

    /// The pipe with these ends, which another process made and kept.
    ///
    /// Makes the read end non-blocking, for all who share it, and has both closed on exec: a helper
    /// that outlives the daemon must not hold them. The size stays as it is.
    ///
    /// # Errors
    ///
    /// What `fcntl(2)` answers to a descriptor that cannot be made non-blocking.
    pub fn from_fds(reader: OwnedFd, writer: OwnedFd) -> Result<Self> {
        let fcntl = |errno| Error::call("fcntl", errno);
        for end in [&reader, &writer] {
            let flags = rustix::io::fcntl_getfd(end).map_err(fcntl)?;
            rustix::io::fcntl_setfd(end, flags | FdFlags::CLOEXEC).map_err(fcntl)?;
        }
        let flags = rustix::fs::fcntl_getfl(&reader).map_err(fcntl)?;
        rustix::fs::fcntl_setfl(&reader, flags | OFlags::NONBLOCK).map_err(fcntl)?;
        Ok(Self { reader, writer })
    }

    /// The two ends, read end first, to be handed over.
    pub fn into_fds(self) -> (OwnedFd, OwnedFd) {
        (self.reader, self.writer)
    }

    /// The end into which the kernel writes: what a new point is given.
    pub fn writer(&self) -> BorrowedFd<'_> {
        self.writer.as_fd()
    }

    /// How many bytes the pipe holds. One request takes a page.
    ///
    /// # Errors
    ///
    /// What `fcntl(2)` answers; for a pipe there is no reason to fail.
    pub fn capacity_bytes(&self) -> Result<usize> {
        rustix::pipe::fcntl_getpipe_size(&self.reader).map_err(|errno| Error::call("fcntl", errno))
    }

    /// The inode number of the pipe: what `/proc/self/mountinfo` shows as `pipe_ino=` of the points
    /// that write to it.
    ///
    /// # Errors
    ///
    /// What `fstat(2)` answers; for a pipe there is no reason to fail.
    pub fn inode(&self) -> Result<u64> {
        let stat = rustix::fs::fstat(&self.reader).map_err(|errno| Error::call("fstat", errno))?;
        Ok(stat.st_ino)
    }

    /// Reads the next request, or nothing if there is none now.
    ///
    /// # Errors
    ///
    /// - [`Error::Packet`] for a request that cannot be read; it is used up, and the next call
    ///   gives the one behind it.
    /// - [`Error::PipeClosed`] if every write end is closed, which needs a pipe of which this
    ///   process holds no writer.
    /// - [`Error::Call`] for what `read(2)` answers otherwise.
    pub fn read(&self) -> Result<Option<Packet>> {
        // Longer than a packet, so that one that is too long is seen to be; in packet mode the rest
        // of it is discarded.
        let mut buffer = [0; Packet::PADDED_LENGTH + 8];
        let length = loop {
            match rustix::io::read(&self.reader, &mut buffer) {
                Ok(0) => return Err(Error::PipeClosed),
                Ok(length) => break length,
                Err(Errno::AGAIN) => return Ok(None),
                Err(Errno::INTR) => {}
                Err(errno) => return Err(Error::call("read", errno)),
            }
        };
        Ok(Some(Packet::decode(&buffer[..length])?))
    }
}

impl AsFd for RequestPipe {
    /// The read end, to wait for requests with `poll(2)` or `epoll(7)`.
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.reader.as_fd()
    }
}

/// Gives the pipe the largest size that the kernel allows (`/proc/sys/fs/pipe-max-size`,
/// `pipe-user-pages-soft`).
fn grow(pipe: BorrowedFd<'_>) {
    let mut bytes = RequestPipe::WANTED_BYTES;
    let now = rustix::pipe::fcntl_getpipe_size(pipe).unwrap_or(bytes);
    while bytes > now && rustix::pipe::fcntl_setpipe_size(pipe, bytes).is_err() {
        bytes /= 2;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::packet::{PacketKind, PacketProblem};

    fn indirect_packet(token: u32, name: &[u8]) -> [u8; Packet::PADDED_LENGTH] {
        let mut bytes = [0; Packet::PADDED_LENGTH];
        bytes[0..4].copy_from_slice(&5_u32.to_ne_bytes());
        bytes[4..8].copy_from_slice(&3_u32.to_ne_bytes());
        bytes[8..12].copy_from_slice(&token.to_ne_bytes());
        bytes[40..44].copy_from_slice(&(name.len() as u32).to_ne_bytes());
        bytes[44..44 + name.len()].copy_from_slice(name);
        bytes
    }

    #[test]
    fn gives_one_packet_a_read_in_order_and_then_nothing() {
        let pipe = RequestPipe::new().unwrap();
        assert!(pipe.read().unwrap().is_none());
        for token in 1..=3 {
            rustix::io::write(pipe.writer(), &indirect_packet(token, b"ann")).unwrap();
        }
        for token in 1..=3 {
            let packet = pipe.read().unwrap().unwrap();
            assert_eq!(packet.kind, PacketKind::MissingIndirect);
            assert_eq!(packet.token.number(), token);
            assert_eq!(packet.name, "ann");
        }
        assert!(pipe.read().unwrap().is_none());
    }

    #[test]
    fn a_packet_that_is_too_long_costs_itself_only() {
        let pipe = RequestPipe::new().unwrap();
        rustix::io::write(pipe.writer(), &[5; 400]).unwrap();
        rustix::io::write(pipe.writer(), &indirect_packet(7, b"bob")).unwrap();
        let error = pipe.read().unwrap_err();
        let Error::Packet(packet_error) = error else {
            panic!("{error}")
        };
        assert_eq!(packet_error.problem, PacketProblem::Length { found: 312 });
        assert_eq!(pipe.read().unwrap().unwrap().name, "bob");
    }

    #[test]
    fn without_writers_it_says_so() {
        let (reader, writer) = RequestPipe::new().unwrap().into_fds();
        let (_, other_writer) = RequestPipe::new().unwrap().into_fds();
        drop(writer);
        let pipe = RequestPipe::from_fds(reader, other_writer).unwrap();
        assert!(matches!(pipe.read(), Err(Error::PipeClosed)));
    }

    #[test]
    fn survives_being_handed_over() {
        let pipe = RequestPipe::new().unwrap();
        let (inode, bytes) = (pipe.inode().unwrap(), pipe.capacity_bytes().unwrap());
        rustix::io::write(pipe.writer(), &indirect_packet(9, b"eve")).unwrap();
        let (reader, writer) = pipe.into_fds();
        let pipe = RequestPipe::from_fds(reader, writer).unwrap();
        assert_eq!(
            (pipe.inode().unwrap(), pipe.capacity_bytes().unwrap()),
            (inode, bytes)
        );
        assert_eq!(pipe.read().unwrap().unwrap().name, "eve");
    }

    #[test]
    fn holds_at_least_what_the_kernel_gives_everybody() {
        assert!(RequestPipe::new().unwrap().capacity_bytes().unwrap() >= 16 * 4096);
    }
}
