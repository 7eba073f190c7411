//! What the daemon and its resolver say to each other: on a stream, each message is its length in
//! four bytes and then the message in the format of postcard. Both ends are the same program, so
//! there are no versions; but what comes from the resolver is not believed to be well-formed.

use std::io;
use std::net::IpAddr;
use std::time::{Duration, Instant};

use bstr::BString;
use piton_plan::probe::{Answer, Target};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fd::BorrowedFd;
use rustix::io::Errno;
use rustix::net::{RecvFlags, SendFlags};
use serde::{Deserialize, Serialize};

use crate::exports::Listed;
use crate::limits;

/// A question of the daemon's.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
pub(crate) struct Request {
    /// Comes back in the reply.
    pub(crate) id: u64,
    /// In how many milliseconds it must be answered.
    pub(crate) milliseconds: u64,
    /// What is asked.
    pub(crate) ask: Ask,
}

/// What can be asked.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
pub(crate) enum Ask {
    /// Whether the process lives.
    Alive,
    /// The addresses of a name.
    Addresses(BString),
    /// Whether servers serve; how many milliseconds it is waited for others after the first, or
    /// nothing: all are waited for.
    Probe(Vec<Target>, Option<u64>),
    /// What the server of that name exports.
    Exports(BString),
    /// A user of the user database.
    User(Who),
}

/// Which user is meant. A whole name: the answer may be given to all who ask the same.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Deserialize, Serialize)]
pub(crate) enum Who {
    /// By name.
    Named(String),
    /// By number.
    Numbered(u32),
}

/// An answer.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
pub(crate) struct Reply {
    /// The request's.
    pub(crate) id: u64,
    /// What came of it.
    pub(crate) said: Said,
}

/// What came of a question.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
pub(crate) enum Said {
    /// It lives.
    Alive,
    /// The addresses of a name; none if nobody knows it.
    Addresses(Vec<IpAddr>),
    /// What each server answered, in the order of the question.
    Probed(Vec<Answer>),
    /// What a server exports.
    Exports(Listed),
    /// The user: name and home; nothing if there is none.
    User(Option<(BString, BString)>),
    /// It failed with this errno, in these words.
    Failed(i32, String),
}

impl Said {
    /// A failure.
    pub(crate) fn failed(errno: Errno, why: impl Into<String>) -> Self {
        Self::Failed(errno.raw_os_error(), why.into())
    }
}

/// A message with its length before it.
///
/// # Errors
/// `E2BIG`: it has more than `most` bytes.
pub(crate) fn encode(message: &impl Serialize, most: usize) -> Result<Vec<u8>, Errno> {
    let bytes = postcard::to_extend(message, vec![0; 4]).map_err(|_| Errno::INVAL)?;
    let length = bytes.len() - 4;
    if length > most {
        return Err(Errno::TOOBIG);
    }
    let mut bytes = bytes;
    let length = u32::try_from(length).map_err(|_| Errno::TOOBIG)?;
    bytes[..4].copy_from_slice(&length.to_be_bytes());
    Ok(bytes)
}

/// A message without its length.
///
/// # Errors
/// `EBADMSG`: it is none, or more than one.
pub(crate) fn decode<'a, T: Deserialize<'a>>(bytes: &'a [u8]) -> Result<T, Errno> {
    match postcard::take_from_bytes(bytes) {
        Ok((message, [])) => Ok(message),
        _ => Err(Errno::BADMSG),
    }
}

/// Sends a whole message, made by [`encode`].
///
/// # Errors
/// The connection is over, or it took longer than until then; it cannot be used any more.
pub(crate) fn send(
    socket: BorrowedFd<'_>,
    mut bytes: &[u8],
    until: Option<Instant>,
) -> io::Result<()> {
    let flags = SendFlags::NOSIGNAL | SendFlags::DONTWAIT;
    while !bytes.is_empty() {
        match rustix::net::send(socket, bytes, flags) {
            Ok(count) => bytes = &bytes[count..],
            Err(Errno::INTR) => {}
            Err(Errno::AGAIN) => {
                if !ready(socket, PollFlags::OUT, until)? {
                    return Err(Errno::TIMEDOUT.into());
                }
            }
            Err(errno) => return Err(errno.into()),
        }
    }
    Ok(())
}

/// Takes the next message; none at the end of the connection. Blocks.
///
/// # Errors
/// The connection broke in the middle of a message, or (`EMSGSIZE`) the message is longer than
/// `most`; nothing was reserved for it.
pub(crate) fn receive(socket: BorrowedFd<'_>, most: usize) -> io::Result<Option<Vec<u8>>> {
    let mut length = [0; 4];
    if !fill(socket, &mut length)? {
        return Ok(None);
    }
    let length = u32::from_be_bytes(length) as usize;
    if length > most {
        return Err(Errno::MSGSIZE.into());
    }
    // Grows as it comes: the length alone is no reason to reserve so much.
    let mut bytes = Vec::new();
    while bytes.len() < length {
        let begin = bytes.len();
        bytes.resize(length.min(begin + (64 << 10)), 0);
        if !fill(socket, &mut bytes[begin..])? {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
    }
    Ok(Some(bytes))
}

/// Fills a buffer; false if the connection ends before its first byte.
fn fill(socket: BorrowedFd<'_>, buffer: &mut [u8]) -> io::Result<bool> {
    let mut at = 0;
    while at < buffer.len() {
        match rustix::net::recv(socket, &mut buffer[at..], RecvFlags::empty()) {
            Ok((0, _)) if at == 0 => return Ok(false),
            Ok((0, _)) => return Err(io::ErrorKind::UnexpectedEof.into()),
            Ok((count, _)) => at += count,
            Err(Errno::INTR) => {}
            Err(errno) => return Err(errno.into()),
        }
    }
    Ok(true)
}

/// Waits until a socket is ready; false if it is not by then.
pub(crate) fn ready(
    socket: BorrowedFd<'_>,
    flags: PollFlags,
    until: Option<Instant>,
) -> io::Result<bool> {
    loop {
        let left = until.map(|until| until.saturating_duration_since(Instant::now()));
        if left == Some(Duration::ZERO) {
            return Ok(false);
        }
        let left = left.map(|left| Timespec::try_from(left).unwrap_or_default());
        match poll(
            &mut [PollFd::from_borrowed_fd(socket, flags)],
            left.as_ref(),
        ) {
            Ok(0) | Err(Errno::INTR) => {}
            Ok(_) => return Ok(true),
            Err(errno) => return Err(errno.into()),
        }
    }
}

/// A law for fuzzing: what can be read as a message is written as one that reads the same, and a
/// list of exports has paths.
#[doc(hidden)]
pub fn hold_law(bytes: &[u8]) {
    if let Ok(request) = decode::<Request>(bytes)
        && let Ok(again) = encode(&request, limits::REQUEST)
    {
        assert_eq!(decode(&again[4..]), Ok(request));
    }
    if let Ok(reply) = decode::<Reply>(bytes) {
        if let Ok(again) = encode(&reply, limits::REPLY) {
            assert_eq!(decode(&again[4..]), Ok(reply.clone()));
        }
        if let Said::Exports(listed) = &reply.said {
            let exports = listed.exports();
            assert!(exports.faults.len() <= piton_rpc::limits::FAULTS);
            assert!(
                exports
                    .list
                    .iter()
                    .all(|export| export.path.starts_with(b"/"))
            );
        }
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::net::UnixStream;

    use rustix::fd::AsFd;

    use super::*;

    fn request(name: &str) -> Request {
        Request {
            id: 7,
            milliseconds: 1000,
            ask: Ask::Addresses(name.into()),
        }
    }

    #[test]
    fn messages_come_out_as_they_went_in() {
        let (ours, theirs) = UnixStream::pair().unwrap();
        let sent = encode(&request("a"), limits::REQUEST).unwrap();
        send(ours.as_fd(), &sent, None).unwrap();
        drop(ours);
        let got = receive(theirs.as_fd(), limits::REQUEST).unwrap().unwrap();
        assert_eq!(decode::<Request>(&got), Ok(request("a")));
        assert_eq!(receive(theirs.as_fd(), limits::REQUEST).unwrap(), None);
    }

    #[test]
    fn a_request_is_bounded() {
        let overhead = encode(&request(&"x".repeat(60_000)), limits::REQUEST).unwrap();
        let longest = 60_000 + limits::REQUEST - (overhead.len() - 4);
        assert!(encode(&request(&"x".repeat(longest)), limits::REQUEST).is_ok());
        assert_eq!(
            encode(&request(&"x".repeat(longest + 1)), limits::REQUEST),
            Err(Errno::TOOBIG)
        );
    }

    #[test]
    fn a_reply_is_bounded_where_it_is_read() {
        let (ours, theirs) = UnixStream::pair().unwrap();
        let length = u32::try_from(limits::REPLY).unwrap();
        send(ours.as_fd(), &(length + 1).to_be_bytes(), None).unwrap();
        let error = receive(theirs.as_fd(), limits::REPLY).unwrap_err();
        assert_eq!(Errno::from_io_error(&error), Some(Errno::MSGSIZE));
        // The longest is read, as far as it comes.
        send(ours.as_fd(), &length.to_be_bytes(), None).unwrap();
        drop(ours);
        let error = receive(theirs.as_fd(), limits::REPLY).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::UnexpectedEof);
    }

    #[test]
    fn what_is_no_message_is_refused() {
        let whole = encode(&request("name"), limits::REQUEST).unwrap();
        for end in 4..whole.len() {
            assert!(decode::<Request>(&whole[4..end]).is_err(), "{end}");
        }
        let more = [&whole[4..], &[0]].concat();
        assert_eq!(decode::<Request>(&more), Err(Errno::BADMSG));
    }

    #[test]
    fn nobody_who_reads_costs_no_more_than_the_time_there_is() {
        let (ours, _theirs) = UnixStream::pair().unwrap();
        let until = Some(Instant::now() + Duration::from_millis(20));
        let error = send(ours.as_fd(), &vec![0; 8 << 20], until).unwrap_err();
        assert_eq!(Errno::from_io_error(&error), Some(Errno::TIMEDOUT));
    }
}
