//! What servers are asked before one of them is chosen, and what they answer.
//!
//! All are asked at once. The planner says whose answer is worth waiting for ([`Target::rank`]);
//! whoever does the asking need know nothing of maps.

use core::net::IpAddr;

/// A server to be asked: one address of it.
#[derive(Clone, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Deserialize, serde::Serialize))]
pub struct Target {
    /// Where it is.
    pub address: IpAddr,
    /// The number of the interface that a link-local address is on; 0: none is named.
    pub scope: u32,
    /// What is wanted of it.
    pub service: Service,
    /// How much it is wanted: a target of a larger rank counts only when none of a smaller one
    /// answers; among equals the first answer counts.
    pub rank: u32,
}

/// Which service of a server, and how it is reached.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[cfg_attr(feature = "serde", derive(serde::Deserialize, serde::Serialize))]
pub struct Service {
    /// The version of NFS that is wanted (`vers=`): 3 or 4. Nothing: either will do.
    pub version: Option<u8>,
    /// The port of NFS (`port=`). Nothing: 2049, and for version 3 what the portmapper says if
    /// nobody answers there.
    pub port: Option<u16>,
    /// Whether `proto=udp` is asked for. Everything else is TCP.
    pub udp: bool,
}

/// What came of asking one target, in the order of the targets.
#[derive(Clone, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Deserialize, serde::Serialize))]
pub enum Answer {
    /// It serves what is wanted.
    Serves {
        /// Microseconds from the question to the answer.
        micros: u32,
    },
    /// It is there, and does not serve what is wanted, or cannot be reached: what the system says,
    /// as errno(3) numbers it.
    Refused {
        /// ECONNREFUSED, EHOSTUNREACH, ENETUNREACH, EPROTONOSUPPORT, …
        errno: i32,
        /// Microseconds until that was known.
        micros: u32,
    },
    /// Nothing was heard in the time that there was.
    Silent,
    /// Others answered first, before there was time to hear of this one.
    Unheard,
}

impl Answer {
    /// Returns true if and only if the server can be mounted from.
    pub fn serves(&self) -> bool {
        matches!(self, Self::Serves { .. })
    }
}
