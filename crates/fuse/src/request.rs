//! Requests of the kernel (linux/fuse.h), as far as they are understood.

use bstr::{BStr, ByteSlice};

/// Bytes of `fuse_in_header`.
const HEADER: usize = 40;

/// What a request asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Operation<'r> {
    /// To agree on a version: the kernel's, and what it can.
    Init {
        major: u32,
        minor: u32,
        readahead: u32,
        flags: u32,
    },
    /// A name in a directory.
    LookUp(&'r BStr),
    /// Attributes.
    Attributes,
    /// Where a link leads.
    ReadLink,
    /// To begin to read a directory, or to end it.
    OpenDirectory,
    CloseDirectory,
    /// Names of a directory after a place, in so many bytes.
    ReadDirectory {
        after: u64,
        size: u32,
    },
    /// The state of the file system.
    Statistics,
    /// Whoever made the request of this number has got a signal.
    Interrupt(u64),
    /// Whatever would change something.
    Change,
    /// Is not to be answered: names that the kernel has forgotten.
    Forget,
    /// The file system goes.
    Goodbye,
    /// Anything else.
    Other,
}

/// One request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Request<'r> {
    /// Its number.
    pub(crate) unique: u64,
    /// What it is about.
    pub(crate) node: u64,
    pub(crate) uid: u32,
    pub(crate) gid: u32,
    /// The thread that waits; 0 if it cannot be seen from here.
    pub(crate) pid: u32,
    pub(crate) operation: Operation<'r>,
}

impl<'r> Request<'r> {
    /// Nothing if the bytes are no request. One whose arguments cannot be read is something
    /// [`Other`](Operation::Other).
    pub(crate) fn decode(bytes: &'r [u8]) -> Option<Self> {
        let (header, arguments) = bytes.split_at_checked(HEADER)?;
        let header = Fields(header);
        if usize::try_from(header.word(0)?).ok()? != bytes.len() {
            return None;
        }
        let operation = operation(header.word(4)?, Fields(arguments));
        Some(Self {
            unique: header.long(8)?,
            node: header.long(16)?,
            uid: header.word(24)?,
            gid: header.word(28)?,
            pid: header.word(32)?,
            operation: operation.unwrap_or(Operation::Other),
        })
    }
}

fn operation(code: u32, arguments: Fields<'_>) -> Option<Operation<'_>> {
    Some(match code {
        1 => Operation::LookUp(arguments.text()?),
        2 | 42 => Operation::Forget,
        3 => Operation::Attributes,
        5 => Operation::ReadLink,
        17 => Operation::Statistics,
        26 => Operation::Init {
            major: arguments.word(0)?,
            minor: arguments.word(4)?,
            readahead: arguments.word(8)?,
            flags: arguments.word(12)?,
        },
        27 => Operation::OpenDirectory,
        28 => Operation::ReadDirectory {
            after: arguments.long(8)?,
            size: arguments.word(16)?,
        },
        29 => Operation::CloseDirectory,
        36 => Operation::Interrupt(arguments.long(0)?),
        38 => Operation::Goodbye,
        // SETATTR, SYMLINK, MKNOD, MKDIR, UNLINK, RMDIR, RENAME, LINK, WRITE, SETXATTR, REMOVEXATTR,
        // CREATE, FALLOCATE, RENAME2, TMPFILE.
        4 | 6 | 8..=13 | 16 | 21 | 24 | 35 | 43 | 45 | 51 => Operation::Change,
        _ => Operation::Other,
    })
}

/// Numbers at places.
#[derive(Clone, Copy)]
struct Fields<'r>(&'r [u8]);

impl<'r> Fields<'r> {
    fn word(self, at: usize) -> Option<u32> {
        let bytes = self.0.get(at..)?.first_chunk()?;
        Some(u32::from_ne_bytes(*bytes))
    }

    fn long(self, at: usize) -> Option<u64> {
        let bytes = self.0.get(at..)?.first_chunk()?;
        Some(u64::from_ne_bytes(*bytes))
    }

    /// Text up to a NUL.
    fn text(self) -> Option<&'r BStr> {
        Some(self.0[..self.0.find_byte(0)?].as_bstr())
    }
}

/// A request as the kernel sends it, of a user: for tests and the law.
pub(crate) fn frame(code: u32, node: u64, arguments: &[u8]) -> Vec<u8> {
    let length = u32::try_from(HEADER + arguments.len()).unwrap_or(u32::MAX);
    let mut bytes = Vec::new();
    for word in [length, code] {
        bytes.extend(word.to_ne_bytes());
    }
    for long in [7, node] {
        bytes.extend(long.to_ne_bytes());
    }
    for word in [1000_u32, 100, 4242, 0] {
        bytes.extend(word.to_ne_bytes());
    }
    bytes.extend(arguments);
    bytes
}

#[cfg(test)]
mod tests {
    use super::frame as request;
    use super::*;

    #[test]
    fn a_look_up_is_read() {
        let bytes = request(1, 1, b"ann\0");
        let expected = Request {
            unique: 7,
            node: 1,
            uid: 1000,
            gid: 100,
            pid: 4242,
            operation: Operation::LookUp("ann".into()),
        };
        assert_eq!(Request::decode(&bytes), Some(expected));
    }

    #[test]
    fn whatever_is_cut_off_is_no_request_or_none_that_is_understood() {
        for code in 0..64 {
            let whole = request(code, 1, &[7; 64]);
            for end in 0..whole.len() {
                assert_eq!(Request::decode(&whole[..end]), None);
            }
            for length in 0..64 {
                let bytes = request(code, 1, &vec![7; length]);
                assert!(Request::decode(&bytes).is_some());
            }
        }
        let unread = [request(1, 1, b"no end"), request(28, 1, &[0; 19])];
        for bytes in unread {
            let operation = Request::decode(&bytes).unwrap().operation;
            assert_eq!(operation, Operation::Other);
        }
    }
}
