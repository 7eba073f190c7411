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
    /// Where packets go; empty when that is not known, and then prefix lengths tell.
    pub routes: Vec<Route>,
    /// `use_hostname_for_mounts` of autofs.conf: a server with several addresses is mounted by
    /// its name, not by the address that was chosen.
    pub hostname_for_mounts: bool,
    /// Mounts are made by a user without root: what would be a bind mount is a link, where it can be.
    pub rootless: bool,
}

/// An address of this host.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Interface {
    /// The address.
    pub address: IpAddr,
    /// Length of its network prefix in bits.
    pub prefix: u8,
    /// Whether it is one end of a link with two: what is behind the other end is not on it.
    pub point_to_point: bool,
}

impl Interface {
    /// An address on a link that many may share.
    pub fn new(address: IpAddr, prefix: u8) -> Self {
        Self {
            address,
            prefix,
            point_to_point: false,
        }
    }
}

/// Where packets for some addresses go.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Route {
    /// The addresses: those that begin as this one.
    pub destination: IpAddr,
    /// In so many bits.
    pub prefix: u8,
    /// Whether they are on a link of this host; if not, a router is asked to pass packets on.
    pub on_link: bool,
}

/// What is known of the servers an entry names, by name as written.
pub type HostAnswers = BTreeMap<BString, HostAnswer>;

/// What is known of one server.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct HostAnswer {
    /// Its addresses, in the resolver's order; empty when the name is unknown.
    pub addresses: Vec<IpAddr>,
}
