//! Calls and replies of ONC RPC (RFC 5531), as a server sees them.

use bstr::{BStr, BString, ByteSlice};
use piton_rpc::Error;
use piton_rpc::xdr::{Reader, Writer};

use crate::duty::Caller;
use crate::limits;

/// A call: what is wanted, and by whom.
#[derive(Debug)]
pub(crate) struct Call<'c> {
    pub(crate) xid: u32,
    pub(crate) program: u32,
    pub(crate) version: u32,
    pub(crate) procedure: u32,
    pub(crate) identity: Identity,
    /// What follows the header.
    pub(crate) arguments: Reader<'c>,
}

/// What a credential says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Identity {
    /// Who calls, and the name of the machine.
    Known(Caller, BString),
    /// Of a kind that is not understood.
    Strange,
    /// AUTH_SYS, but not as it should be.
    Bad,
}

/// Why there is no call in a message.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum NoCall {
    /// The answer says why.
    Refused(Vec<u8>),
    /// Nothing can be answered: whoever sends that does not speak RPC.
    Nonsense,
}

impl From<Error> for NoCall {
    fn from(_: Error) -> Self {
        Self::Nonsense
    }
}

const CALL: u32 = 0;
const REPLY: u32 = 1;
const RPC_VERSION: u32 = 2;

const AUTH_NONE: u32 = 0;
const AUTH_SYS: u32 = 1;

/// What kinds of credentials a client may use, the best first.
pub(crate) const FLAVORS: [u32; 2] = [AUTH_SYS, AUTH_NONE];

/// `reply_stat`.
const ACCEPTED: u32 = 0;
const DENIED: u32 = 1;

/// `accept_stat`, less SUCCESS.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Unable {
    /// No such program here.
    Program,
    /// Only this version of it.
    Version(u32),
    /// No such procedure.
    Procedure,
    /// The arguments cannot be read.
    Arguments,
}

/// `auth_stat`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Rejected {
    /// The credential is malformed (`AUTH_BADCRED`).
    Bad,
    /// Of a kind that is not taken (`AUTH_TOOWEAK`).
    Strange,
}

impl<'c> Call<'c> {
    /// The call in a message.
    pub(crate) fn decode(message: &'c [u8]) -> Result<Self, NoCall> {
        let mut reader = Reader::new(message);
        let xid = reader.word()?;
        if reader.word()? != CALL {
            return Err(NoCall::Nonsense);
        }
        if reader.word()? != RPC_VERSION {
            return Err(NoCall::Refused(wrong_rpc_version(xid)));
        }
        let (program, version, procedure) = (reader.word()?, reader.word()?, reader.word()?);
        let flavor = reader.word()?;
        let body = at_most(&mut reader, limits::CREDENTIAL)?;
        let identity = match flavor {
            AUTH_NONE => Identity::Known(Caller::NOBODY, BString::default()),
            AUTH_SYS => auth_sys(body).unwrap_or(Identity::Bad),
            _ => Identity::Strange,
        };
        // The verifier says nothing in these flavors.
        reader.word()?;
        at_most(&mut reader, limits::CREDENTIAL)?;
        Ok(Self {
            xid,
            program,
            version,
            procedure,
            identity,
            arguments: reader,
        })
    }
}

fn auth_sys(body: &[u8]) -> Result<Identity, Error> {
    let mut reader = Reader::new(body);
    // A number that the client made up.
    reader.word()?;
    let machine = at_most(&mut reader, limits::MACHINE)?.as_bstr().to_owned();
    let (uid, gid) = (reader.word()?, reader.word()?);
    let count = reader.word()? as usize;
    if count > limits::GROUPS {
        return Ok(Identity::Bad);
    }
    let groups = (0..count)
        .map(|_| reader.word())
        .collect::<Result<_, _>>()?;
    reader.end()?;
    let caller = Caller {
        uid,
        gid,
        groups,
        pid: 0,
    };
    Ok(Identity::Known(caller, machine))
}

/// The beginning of an answer to a call that was carried out; the results follow.
pub(crate) fn success(xid: u32) -> Writer {
    accepted(xid, 0)
}

/// The answer to a call that cannot be carried out.
pub(crate) fn unable(xid: u32, why: Unable) -> Vec<u8> {
    let writer = match why {
        Unable::Program => accepted(xid, 1),
        Unable::Version(only) => {
            let mut writer = accepted(xid, 2);
            writer.word(only);
            writer.word(only);
            writer
        }
        Unable::Procedure => accepted(xid, 3),
        Unable::Arguments => accepted(xid, 4),
    };
    writer.into_bytes()
}

/// The answer to somebody whose credential is not taken.
pub(crate) fn rejected(xid: u32, why: Rejected) -> Vec<u8> {
    let mut writer = begin(xid, DENIED);
    // `AUTH_ERROR`
    writer.word(1);
    writer.word(match why {
        Rejected::Bad => 1,
        Rejected::Strange => 5,
    });
    writer.into_bytes()
}

fn wrong_rpc_version(xid: u32) -> Vec<u8> {
    let mut writer = begin(xid, DENIED);
    // `RPC_MISMATCH`
    writer.word(0);
    writer.word(RPC_VERSION);
    writer.word(RPC_VERSION);
    writer.into_bytes()
}

fn accepted(xid: u32, status: u32) -> Writer {
    let mut writer = begin(xid, ACCEPTED);
    writer.word(AUTH_NONE);
    writer.bytes(b"");
    writer.word(status);
    writer
}

fn begin(xid: u32, status: u32) -> Writer {
    let mut writer = Writer::default();
    writer.word(xid);
    writer.word(REPLY);
    writer.word(status);
    writer
}

/// A path or a name that a client sent.
pub(crate) fn name<'r>(reader: &mut Reader<'r>) -> Result<&'r BStr, Error> {
    Ok(reader.bytes()?.as_bstr())
}

/// Bytes of a bounded number.
pub(crate) fn at_most<'r>(reader: &mut Reader<'r>, most: usize) -> Result<&'r [u8], Error> {
    let bytes = reader.bytes()?;
    match bytes.len() <= most {
        true => Ok(bytes),
        false => Err(Error::TooLong),
    }
}
