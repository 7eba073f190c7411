//! The external data representation (RFC 4506), as far as it is needed: numbers and strings.

use crate::error::Error;

/// Writes numbers and strings.
#[derive(Clone, Debug, Default)]
pub struct Writer(pub(crate) Vec<u8>);

impl Writer {
    /// A number of 32 bits.
    pub fn word(&mut self, word: u32) {
        self.0.extend_from_slice(&word.to_be_bytes());
    }

    /// A number of 64 bits.
    pub fn wide(&mut self, number: u64) {
        self.0.extend_from_slice(&number.to_be_bytes());
    }

    /// Bytes of any number, with their length before them.
    ///
    /// # Panics
    /// If they are more than a length can say: 4 GiB.
    pub fn bytes(&mut self, bytes: &[u8]) {
        self.word(u32::try_from(bytes.len()).expect("fewer than 4 GiB"));
        self.fixed(bytes);
    }

    /// Bytes of a number that the reader knows.
    pub fn fixed(&mut self, bytes: &[u8]) {
        self.0.extend_from_slice(bytes);
        self.0.resize(self.0.len().next_multiple_of(4), 0);
    }

    /// How many bytes were written.
    pub fn length(&self) -> usize {
        self.0.len()
    }

    /// What was written.
    pub fn into_bytes(self) -> Vec<u8> {
        self.0
    }

    /// A string that is ours, and short.
    pub(crate) fn string(&mut self, text: &str) {
        self.bytes(text.as_bytes());
    }
}

/// Reads numbers and strings from what somebody sent.
#[derive(Clone, Copy, Debug)]
pub struct Reader<'a>(&'a [u8]);

impl<'a> Reader<'a> {
    /// Begins with the first byte.
    pub fn new(bytes: &'a [u8]) -> Self {
        Self(bytes)
    }

    /// A number of 32 bits.
    ///
    /// # Errors
    /// [`Error::Malformed`]: it ends before.
    pub fn word(&mut self) -> Result<u32, Error> {
        let (word, rest) = self.0.split_first_chunk().ok_or(SHORT)?;
        self.0 = rest;
        Ok(u32::from_be_bytes(*word))
    }

    /// A number of 64 bits.
    ///
    /// # Errors
    /// [`Error::Malformed`]: it ends before.
    pub fn wide(&mut self) -> Result<u64, Error> {
        Ok(u64::from(self.word()?) << 32 | u64::from(self.word()?))
    }

    /// A truth value: whether something follows.
    ///
    /// # Errors
    /// [`Error::Malformed`]: it ends before, or is neither 0 nor 1.
    pub fn follows(&mut self) -> Result<bool, Error> {
        match self.word()? {
            0 => Ok(false),
            1 => Ok(true),
            _ => Err(Error::Malformed("neither true nor false")),
        }
    }

    /// Bytes of any number, as many as there are; whether they are too many is for the caller.
    ///
    /// # Errors
    /// [`Error::Malformed`]: it ends before.
    pub fn bytes(&mut self) -> Result<&'a [u8], Error> {
        let length = self.word()? as usize;
        self.fixed(length)
    }

    /// So many bytes.
    ///
    /// # Errors
    /// [`Error::Malformed`]: it ends before.
    pub fn fixed(&mut self, length: usize) -> Result<&'a [u8], Error> {
        let (bytes, rest) = self.0.split_at_checked(length).ok_or(SHORT)?;
        // What fills the last word is not looked at: some servers leave there what was there.
        let padding = length.next_multiple_of(4) - length;
        self.0 = rest.get(padding..).ok_or(SHORT)?;
        Ok(bytes)
    }

    /// Nothing is to be read any more.
    ///
    /// # Errors
    /// [`Error::Malformed`]: something is.
    pub fn end(self) -> Result<(), Error> {
        match self.0.is_empty() {
            true => Ok(()),
            false => Err(Error::Malformed("it goes on after its end")),
        }
    }

    /// What has not been read.
    pub fn rest(self) -> &'a [u8] {
        self.0
    }
}

const SHORT: Error = Error::Malformed("it ends too early");

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_read() {
        let mut writer = Writer::default();
        writer.word(7);
        writer.string("abcde");
        writer.string("");
        writer.word(1);
        let mut reader = Reader::new(&writer.0);
        assert_eq!(reader.word(), Ok(7));
        assert_eq!(reader.bytes(), Ok(&b"abcde"[..]));
        assert_eq!(reader.bytes(), Ok(&b""[..]));
        assert_eq!(reader.follows(), Ok(true));
        assert!(reader.rest().is_empty());
        assert_eq!(reader.end(), Ok(()));
        assert_eq!(reader.word(), Err(SHORT));
    }

    #[test]
    fn wide_numbers_and_fixed_bytes_are_read_as_they_were_written() {
        let mut writer = Writer::default();
        writer.wide(0x0102_0304_0506_0708);
        writer.fixed(b"abcde");
        writer.bytes(b"xyz");
        assert_eq!(writer.length(), 24);
        let bytes = writer.into_bytes();
        let mut reader = Reader::new(&bytes);
        assert_eq!(reader.wide(), Ok(0x0102_0304_0506_0708));
        assert_eq!(reader.fixed(5), Ok(&b"abcde"[..]));
        assert!(reader.end().is_err());
        assert_eq!(reader.bytes(), Ok(&b"xyz"[..]));
        assert_eq!(reader.end(), Ok(()));
        assert_eq!(Reader::new(&bytes[..7]).wide(), Err(SHORT));
        assert_eq!(Reader::new(&bytes[..7]).fixed(5), Err(SHORT));
    }

    #[test]
    fn lengths_that_lie_are_seen() {
        for bytes in [
            &[0, 0, 0, 5, b'a', b'b'][..],
            &[0xff, 0xff, 0xff, 0xff, 1, 2, 3, 4],
            // The padding is missing.
            &[0, 0, 0, 1, b'a', 0, 0],
            &[0, 0, 0],
        ] {
            assert_eq!(Reader::new(bytes).bytes(), Err(SHORT), "{bytes:?}");
        }
        assert!(Reader::new(&[0, 0, 0, 2]).follows().is_err());
    }
}
