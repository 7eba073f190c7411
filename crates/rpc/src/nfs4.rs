//! One question about the root of an NFS 4 server: is it shown to nobody in particular?
//!
//! It is what version 4.0 calls PUTROOTFH and GETFH (RFC 7530, chapters 16.19 and 16.9) in one COMPOUND that
//! comes from nobody (AUTH_NONE). It needs no state at the server, and no right there.

use crate::NFS;
use crate::error::Error;
use crate::message::Procedure;
use crate::xdr::{Reader, Writer};

const COMPOUND: u32 = 1;
const GETFH: u32 = 10;
const PUTROOTFH: u32 = 24;
const WRONGSEC: u32 = 10_016;

/// The call, and its arguments.
pub fn question() -> (Procedure, Vec<u8>) {
    let what = Procedure {
        program: NFS,
        version: 4,
        procedure: COMPOUND,
    };
    let mut writer = Writer::default();
    // No tag, minor version 0, two operations. PUTROOTFH alone says yes to everybody.
    for word in [0, 0, 2, PUTROOTFH, GETFH] {
        writer.word(word);
    }
    (what, writer.into_bytes())
}

/// Returns true if and only if the results say that the root is not shown to nobody, and that
/// others may have it: NFS4ERR_WRONGSEC. A server that does not speak version 4.0, or says
/// something else, has said nothing.
///
/// # Errors
/// It is no answer to [`question`].
pub fn refuses_nobody(results: &[u8]) -> Result<bool, Error> {
    Ok(Reader::new(results).word()? == WRONGSEC)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_asks_for_the_root() {
        let (what, arguments) = question();
        assert_eq!(
            (what.program, what.version, what.procedure),
            (100_003, 4, 1)
        );
        let words = [0, 0, 2, 24, 10_u32].map(u32::to_be_bytes).concat();
        assert_eq!(arguments, words);
    }

    #[test]
    fn only_the_wrong_security_is_a_refusal() {
        let said = |words: &[u32]| {
            let bytes: Vec<u8> = words.iter().flat_map(|word| word.to_be_bytes()).collect();
            refuses_nobody(&bytes)
        };
        // As Linux answers.
        assert_eq!(said(&[10_016, 0, 1, 24, 10_016]), Ok(true));
        // It is shown; this minor version is not spoken; not this host.
        for other in [0, 10_021, 13] {
            assert_eq!(said(&[other, 0, 0]), Ok(false));
        }
        assert!(refuses_nobody(&[0, 0]).is_err());
    }
}
