//! Calls and replies (RFC 5531, chapter 9).

use crate::error::Error;
use crate::limits;
use crate::xdr::{Reader, Writer};

const CALL: u32 = 0;
const REPLY: u32 = 1;
const RPC_VERSION: u32 = 2;
const AUTH_NONE: u32 = 0;

/// What is called.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Procedure {
    /// The program's number.
    pub program: u32,
    /// Its version.
    pub version: u32,
    /// The procedure's number.
    pub procedure: u32,
}

impl Procedure {
    /// The procedure that does nothing, of a program.
    pub fn null(program: u32, version: u32) -> Self {
        Self {
            program,
            version,
            procedure: crate::NULL,
        }
    }
}

/// A call with these arguments, from nobody in particular (AUTH_NONE): nothing that is asked here
/// depends on who asks.
pub(crate) fn call(xid: u32, what: Procedure, arguments: &[u8]) -> Vec<u8> {
    let mut writer = Writer::default();
    for word in [
        xid,
        CALL,
        RPC_VERSION,
        what.program,
        what.version,
        what.procedure,
        AUTH_NONE,
        0,
        AUTH_NONE,
        0,
    ] {
        writer.word(word);
    }
    writer.0.extend_from_slice(arguments);
    writer.0
}

/// What a reply says: its number, and the results.
///
/// # Errors
/// The message is no reply.
#[allow(
    clippy::type_complexity,
    reason = "a number, and a result as everywhere"
)]
pub fn reply(message: &[u8]) -> Result<(u32, Result<&[u8], Error>), Error> {
    let mut reader = Reader::new(message);
    let xid = reader.word()?;
    if reader.word()? != REPLY {
        return Err(Error::Malformed("it is no reply"));
    }
    Ok((xid, outcome(reader)))
}

fn outcome(mut reader: Reader<'_>) -> Result<&[u8], Error> {
    match reader.word()? {
        0 => {}
        1 => return Err(denied(reader)?),
        _ => return Err(Error::Malformed("neither accepted nor denied")),
    }
    reader.word()?;
    if reader.bytes()?.len() > limits::VERIFIER {
        return Err(Error::Malformed("too long a verifier"));
    }
    match reader.word()? {
        0 => Ok(reader.rest()),
        1 => Err(Error::NoProgram),
        2 => Err(Error::OtherVersions {
            low: reader.word()?,
            high: reader.word()?,
        }),
        3 => Err(Error::NoProcedure),
        4 | 5 => Err(Error::ServerFailed),
        _ => Err(Error::Malformed("accepted, in a way that is not known")),
    }
}

fn denied(mut reader: Reader<'_>) -> Result<Error, Error> {
    match reader.word()? {
        0 => Ok(Error::Malformed("another version of RPC is wanted")),
        1 => Ok(Error::NotAllowed(reader.word()?)),
        _ => Err(Error::Malformed("denied, in a way that is not known")),
    }
}

/// A law for fuzzing: results are a part of the message, and a port that a portmapper tells is one.
#[doc(hidden)]
pub fn hold_law(bytes: &[u8]) {
    if let Ok((_, Ok(results))) = reply(bytes) {
        assert!(bytes.ends_with(results) && bytes.len() >= results.len() + 24);
        for v6 in [false, true] {
            if let Ok(port) = crate::portmap::answer(v6, results) {
                assert!(port != 0 && results.len() >= 4);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn said(words: &[u32]) -> Result<Vec<u8>, Error> {
        let bytes: Vec<u8> = words.iter().flat_map(|word| word.to_be_bytes()).collect();
        let (xid, outcome) = reply(&bytes)?;
        assert_eq!(xid, 9);
        outcome.map(<[u8]>::to_vec)
    }

    #[test]
    fn replies_keep_their_meaning() {
        assert_eq!(said(&[9, 1, 0, 0, 0, 0]), Ok(vec![]));
        assert_eq!(said(&[9, 1, 0, 0, 0, 0, 7]), Ok(vec![0, 0, 0, 7]));
        // A verifier is passed over.
        assert_eq!(said(&[9, 1, 0, 6, 4, 1, 0, 7]), Ok(vec![0, 0, 0, 7]));
        assert_eq!(said(&[9, 1, 0, 0, 0, 1]), Err(Error::NoProgram));
        let versions = Error::OtherVersions { low: 3, high: 4 };
        assert_eq!(said(&[9, 1, 0, 0, 0, 2, 3, 4]), Err(versions));
        assert_eq!(said(&[9, 1, 0, 0, 0, 3]), Err(Error::NoProcedure));
        assert_eq!(said(&[9, 1, 0, 0, 0, 4]), Err(Error::ServerFailed));
        assert_eq!(said(&[9, 1, 0, 0, 0, 5]), Err(Error::ServerFailed));
        assert_eq!(said(&[9, 1, 1, 1, 5]), Err(Error::NotAllowed(5)));
        for nonsense in [
            &[9][..],
            &[9, 0],
            &[9, 2],
            &[9, 1],
            &[9, 1, 2],
            &[9, 1, 1],
            &[9, 1, 1, 0, 3, 4],
            &[9, 1, 1, 2],
            &[9, 1, 0, 0, 0],
            &[9, 1, 0, 0, 0, 6],
            &[9, 1, 0, 0, 0, 2, 3],
        ] {
            let error = said(nonsense).unwrap_err();
            assert!(matches!(error, Error::Malformed(_)), "{nonsense:?}");
        }
    }

    #[test]
    fn a_verifier_is_bounded() {
        let with = |length: usize| {
            let mut words = vec![9, 1, 0, 0, u32::try_from(length).unwrap()];
            words.resize(words.len() + length.div_ceil(4) + 1, 0);
            said(&words)
        };
        assert_eq!(with(limits::VERIFIER), Ok(vec![]));
        assert!(with(limits::VERIFIER + 1).is_err());
    }
}
