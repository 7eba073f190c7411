//! Record marking (RFC 5531, chapter 11): a message on a stream comes in fragments, each with its
//! length before it.

use crate::error::Error;
use crate::limits;

/// The highest bit of a fragment's length: it is the message's last.
const LAST: u32 = 1 << 31;

/// A message as it should be sent: in one fragment.
///
/// # Panics
/// If it has 2 GiB or more.
pub fn mark(message: &[u8]) -> Vec<u8> {
    let length = u32::try_from(message.len()).expect("our messages are short");
    let mut bytes = (length | LAST).to_be_bytes().to_vec();
    bytes.extend_from_slice(message);
    bytes
}

/// Puts messages together.
#[derive(Debug)]
pub struct Records {
    /// Bytes that a message may have.
    most: usize,
    /// The length of the next fragment, as far as it has come.
    head: Vec<u8>,
    /// Bytes of this fragment that are still to come; none between two.
    left: Option<usize>,
    last: bool,
    fragments: usize,
    message: Vec<u8>,
}

impl Records {
    /// For messages of at most this many bytes.
    pub fn new(most: usize) -> Self {
        Self {
            most,
            head: Vec::new(),
            left: None,
            last: false,
            fragments: 0,
            message: Vec::new(),
        }
    }

    /// Takes from `bytes` until a message is whole; none if they are used up before.
    ///
    /// # Errors
    /// [`Error::TooLong`]: the message has too many bytes or fragments. Nothing that comes after it
    /// can be understood.
    pub fn take(&mut self, bytes: &mut &[u8]) -> Result<Option<Vec<u8>>, Error> {
        loop {
            let Some(left) = self.left else {
                let wanted = (4 - self.head.len()).min(bytes.len());
                self.head.extend_from_slice(&bytes[..wanted]);
                *bytes = &bytes[wanted..];
                let Ok(head) = <[u8; 4]>::try_from(&self.head[..]) else {
                    return Ok(None);
                };
                self.head.clear();
                self.begin(u32::from_be_bytes(head))?;
                continue;
            };
            let count = left.min(bytes.len());
            self.message.extend_from_slice(&bytes[..count]);
            *bytes = &bytes[count..];
            if count < left {
                self.left = Some(left - count);
                return Ok(None);
            }
            self.left = None;
            if self.last {
                self.fragments = 0;
                return Ok(Some(std::mem::take(&mut self.message)));
            }
        }
    }

    fn begin(&mut self, head: u32) -> Result<(), Error> {
        let length = (head & !LAST) as usize;
        self.last = head & LAST != 0;
        self.left = Some(length);
        self.fragments += 1;
        let whole = self.message.len().saturating_add(length);
        if whole > self.most || self.fragments > limits::FRAGMENTS {
            return Err(Error::TooLong);
        }
        Ok(())
    }
}

/// A law for fuzzing: messages do not depend on how the bytes come, and none is longer than it may
/// be.
#[doc(hidden)]
pub fn hold_law(bytes: &[u8]) {
    const MOST: usize = 100;
    let read = |step: usize| {
        let mut records = Records::new(MOST);
        let mut messages = Vec::new();
        for mut some in bytes.chunks(step) {
            loop {
                match records.take(&mut some) {
                    Ok(Some(message)) => messages.push(message),
                    Ok(None) => break,
                    Err(error) => return (messages, Some(error)),
                }
            }
        }
        (messages, None)
    };
    let whole = read(bytes.len().max(1));
    assert_eq!(whole, read(1));
    assert_eq!(whole, read(3));
    assert!(whole.0.iter().all(|message| message.len() <= MOST));
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fragment(bytes: &[u8], last: bool) -> Vec<u8> {
        let mut marked = mark(bytes);
        if !last {
            marked[0] &= 0x7f;
        }
        marked
    }

    fn read(records: &mut Records, mut bytes: &[u8]) -> Result<Vec<Vec<u8>>, Error> {
        let mut messages = Vec::new();
        while let Some(message) = records.take(&mut bytes)? {
            messages.push(message);
        }
        Ok(messages)
    }

    #[test]
    fn fragments_become_messages_however_they_come() {
        let bytes = [
            fragment(b"one", true),
            fragment(b"tw", false),
            fragment(b"", false),
            fragment(b"o", true),
        ]
        .concat();
        let mut records = Records::new(3);
        let whole = read(&mut records, &bytes).unwrap();
        assert_eq!(whole, [b"one".to_vec(), b"two".to_vec()]);
        hold_law(&bytes);
    }

    #[test]
    fn a_message_has_its_most_bytes() {
        let mut records = Records::new(8);
        let bytes = [fragment(b"1234", false), fragment(b"5678", true)].concat();
        assert_eq!(read(&mut records, &bytes).unwrap().len(), 1);
        let bytes = [fragment(b"1234", false), fragment(b"56789", true)].concat();
        assert_eq!(read(&mut records, &bytes), Err(Error::TooLong));
        // Nothing is reserved for what is only promised.
        let mut records = Records::new(usize::MAX);
        assert_eq!(read(&mut records, &[0x7f, 0xff, 0xff, 0xff]), Ok(vec![]));
        assert!(records.message.capacity() < 1024);
    }

    #[test]
    fn fragments_without_end_are_no_message() {
        let empty = fragment(b"", false);
        let mut records = Records::new(8);
        for _ in 0..limits::FRAGMENTS - 1 {
            assert_eq!(read(&mut records, &empty), Ok(vec![]));
        }
        let mut other = Records::new(8);
        other.fragments = records.fragments;
        assert_eq!(read(&mut other, &fragment(b"x", true)).unwrap().len(), 1);
        assert_eq!(read(&mut records, &empty), Ok(vec![]));
        assert_eq!(read(&mut records, &empty), Err(Error::TooLong));
    }
}
