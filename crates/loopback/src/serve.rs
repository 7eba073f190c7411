//! One call, one answer: what is decided without a socket.

use crate::call::{Call, Identity, NoCall, Rejected, Unable, rejected, unable};
use crate::mountd::{self, Mounted};
use crate::nfs;
use crate::question::Question;
use crate::tree::Tree;

/// What becomes of a message.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Outcome {
    /// This is the answer.
    Reply(Vec<u8>),
    /// The owner is to be asked first.
    Ask(Question),
    /// It is no call: whoever sent it is not worth listening to.
    Nonsense,
}

/// Carries out what a message asks for.
pub(crate) fn serve(tree: &Tree, mounted: &mut Mounted, message: &[u8]) -> Outcome {
    let call = match Call::decode(message) {
        Ok(call) => call,
        Err(NoCall::Refused(reply)) => return Outcome::Reply(reply),
        Err(NoCall::Nonsense) => return Outcome::Nonsense,
    };
    let xid = call.xid;
    let (version, procedures): (u32, &[&str]) = match call.program {
        nfs::PROGRAM => (nfs::VERSION, &nfs::PROCEDURES),
        mountd::PROGRAM => (mountd::VERSION, &mountd::PROCEDURES),
        _ => return Outcome::Reply(unable(xid, Unable::Program)),
    };
    if call.version != version {
        return Outcome::Reply(unable(xid, Unable::Version(version)));
    }
    let (caller, machine) = match call.identity {
        Identity::Known(caller, machine) => (caller, machine),
        Identity::Strange => return Outcome::Reply(rejected(xid, Rejected::Strange)),
        Identity::Bad => return Outcome::Reply(rejected(xid, Rejected::Bad)),
    };
    let name = usize::try_from(call.procedure)
        .ok()
        .and_then(|at| procedures.get(at));
    tracing::trace!(
        xid,
        program = call.program,
        procedure = name.copied().unwrap_or("unknown"),
        uid = caller.uid,
        "call"
    );
    match call.program {
        nfs::PROGRAM => nfs::carry_out(tree, xid, call.procedure, caller, call.arguments),
        _ => Outcome::Reply(mounted.carry_out(
            tree,
            xid,
            call.procedure,
            machine.as_ref(),
            call.arguments,
        )),
    }
}
