//! What the planner is told about the host: it cannot look for itself.

use alloc::collections::BTreeMap;
use alloc::vec::Vec;
use core::net::IpAddr;

use bstr::BString;

/// Facts about this host; from access to access only its interfaces may change.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct HostFacts {
    /// `uname -n`.
    pub hostname: BString,
    /// `uname -s`.
    pub os_name: BString,
    /// `uname -r`.
    pub os_release: BString,
    /// `uname -v`.
    pub os_version: BString,
    /// `uname -m`.
    pub machine: BString,
    /// `-D name=value` of the command line, in order.
    pub defines: Vec<(BString, BString)>,
    /// Environment variables that maps may use (an allow-list, set by the administrator).
    pub environment: Vec<(BString, BString)>,
    /// Addresses of this host's interfaces with their prefix lengths.
    pub interfaces: Vec<Interface>,
    /// `use_hostname_for_mounts` of autofs.conf: a server with several addresses is mounted by
    /// its name, not by the address that was chosen.
    pub hostname_for_mounts: bool,
}

/// An address of this host.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Interface {
    /// The address.
    pub address: IpAddr,
    /// Length of its network prefix in bits.
    pub prefix: u8,
}

/// What is known of the servers an entry names, by name as written.
pub type HostAnswers = BTreeMap<BString, HostAnswer>;

/// What is known of one server.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct HostAnswer {
    /// Its addresses, in the resolver's order; empty when the name is unknown.
    pub addresses: Vec<IpAddr>,
}
