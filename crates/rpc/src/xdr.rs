//! The external data representation (RFC 4506), as far as it is needed: words and strings.

use crate::error::Error;

/// Writes words and strings.
#[derive(Clone, Debug, Default)]
pub(crate) struct Writer(pub(crate) Vec<u8>);

impl Writer {
    pub(crate) fn word(&mut self, word: u32) {
        self.0.extend_from_slice(&word.to_be_bytes());
    }

    /// A string that is ours, and short.
    pub(crate) fn string(&mut self, text: &str) {
        self.word(u32::try_from(text.len()).expect("our strings are short"));
        self.0.extend_from_slice(text.as_bytes());
        self.0.resize(self.0.len().next_multiple_of(4), 0);
    }
}

/// Reads words and strings from what a server sent.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Reader<'a>(&'a [u8]);

impl<'a> Reader<'a> {
    pub(crate) fn new(bytes: &'a [u8]) -> Self {
        Self(bytes)
    }

    pub(crate) fn word(&mut self) -> Result<u32, Error> {
        let (word, rest) = self.0.split_first_chunk().ok_or(SHORT)?;
        self.0 = rest;
        Ok(u32::from_be_bytes(*word))
    }

    /// A truth value: whether something follows.
    pub(crate) fn follows(&mut self) -> Result<bool, Error> {
        match self.word()? {
            0 => Ok(false),
            1 => Ok(true),
            _ => Err(Error::Malformed("neither true nor false")),
        }
    }

    /// Bytes of any number, as many as there are; whether they are too many is for the caller.
    pub(crate) fn bytes(&mut self) -> Result<&'a [u8], Error> {
        let length = self.word()? as usize;
        let (bytes, rest) = self.0.split_at_checked(length).ok_or(SHORT)?;
        // What fills the last word is not looked at: some servers leave there what was there.
        let padding = length.next_multiple_of(4) - length;
        self.0 = rest.get(padding..).ok_or(SHORT)?;
        Ok(bytes)
    }

    /// What has not been read.
    pub(crate) fn rest(self) -> &'a [u8] {
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
        assert_eq!(reader.word(), Err(SHORT));
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
