//! What the owner is asked before a client can be answered.

use crate::duty::Access;
use crate::handle::Handle;

/// A request that waits for the owner.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Question {
    pub(crate) xid: u32,
    /// What the request named: for a look-up the directory.
    pub(crate) handle: Handle,
    pub(crate) access: Access,
}
