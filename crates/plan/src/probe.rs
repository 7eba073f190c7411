//! What servers are asked before one of them is chosen, and what they answer.
//!
//! All are asked at once. The planner says whose answer is worth waiting for ([`Target::rank`]);
//! whoever does the asking need know nothing of maps.

use core::net::IpAddr;

use bstr::{BString, ByteSlice};

use crate::select::is_nfs;
use crate::step::What;

/// A server to be asked: one address of it.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
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
        /// Its root of NFS 4 is not shown to who does not say who he is (AUTH_NONE). False: it is,
        /// or nothing was heard of that.
        no_guests: bool,
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

/// What is wanted of the servers of a mount; nothing where servers cannot be asked: it is no NFS,
/// or is reached by means that a question does not take (RDMA), or is of a version that nobody
/// speaks any more.
pub fn service(what: &What, options: &[BString]) -> Option<Service> {
    if !is_nfs(what) {
        return None;
    }
    let fourth = matches!(what, What::Type(name) if name == "nfs4");
    let mut service = Service {
        version: fourth.then_some(4),
        ..Service::default()
    };
    // Of options that contradict each other the last counts, as for the kernel.
    for option in options {
        let (name, value) = option.split_once_str(b"=").unwrap_or((option, b""));
        match name {
            b"vers" | b"nfsvers" => service.version = Some(version(value)?),
            b"v2" => return None,
            b"v3" => service.version = Some(3),
            b"v4" | b"v4.0" | b"v4.1" | b"v4.2" => service.version = Some(4),
            b"port" => service.port = number(value).filter(|port| *port > 0),
            b"proto" => match value {
                b"tcp" | b"tcp6" => service.udp = false,
                b"udp" | b"udp6" => service.udp = true,
                _ => return None,
            },
            b"tcp" => service.udp = false,
            b"udp" => service.udp = true,
            b"rdma" => return None,
            _ => {}
        }
    }
    Some(service)
}

/// A kind of addresses.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Family {
    /// IPv4.
    V4,
    /// IPv6.
    V6,
}

impl Family {
    /// What the options ask for: nfs(5), `proto=`; the last counts. Nothing: either will do.
    pub fn wanted(options: &[BString]) -> Option<Self> {
        let kind = |option: &BString| match option.as_slice() {
            b"tcp" | b"udp" | b"rdma" | b"proto=tcp" | b"proto=udp" | b"proto=rdma" => {
                Some(Self::V4)
            }
            b"proto=tcp6" | b"proto=udp6" | b"proto=rdma6" => Some(Self::V6),
            _ => None,
        };
        options.iter().rev().find_map(kind)
    }

    /// Returns true if and only if an address is of this kind.
    pub fn has(self, address: IpAddr) -> bool {
        address.is_ipv4() == (self == Self::V4)
    }
}

/// The major version of NFS that `vers=` names.
fn version(value: &[u8]) -> Option<u8> {
    match value.split_once_str(b".").map_or(value, |(major, _)| major) {
        b"3" => Some(3),
        b"4" => Some(4),
        _ => None,
    }
}

fn number(value: &[u8]) -> Option<u16> {
    value.to_str().ok()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use alloc::vec::Vec;

    use super::*;

    fn of(fstype: &str, options: &str) -> Option<Service> {
        let options: Vec<BString> = options.split(',').map(BString::from).collect();
        service(&What::Type(fstype.into()), &options)
    }

    #[test]
    fn the_protocol_says_of_which_kind_the_address_is() {
        for (options, family) in [
            ("rw", None),
            ("tcp", Some(Family::V4)),
            ("proto=tcp", Some(Family::V4)),
            ("proto=tcp6", Some(Family::V6)),
            ("tcp,proto=tcp6", Some(Family::V6)),
            ("proto=udp6,udp", Some(Family::V4)),
        ] {
            let options: Vec<BString> = options.split(',').map(BString::from).collect();
            assert_eq!(Family::wanted(&options), family, "{options:?}");
        }
        let six = "::1".parse().unwrap();
        assert!(Family::V6.has(six) && !Family::V4.has(six));
    }

    #[test]
    fn options_say_what_is_wanted() {
        let service = |version, port, udp| Some(Service { version, port, udp });
        for (fstype, options, wanted) in [
            ("nfs", "rw,hard", service(None, None, false)),
            ("nfs4", "", service(Some(4), None, false)),
            ("nfs", "vers=4.2,port=0", service(Some(4), None, false)),
            (
                "nfs",
                "nfsvers=3,port=7049",
                service(Some(3), Some(7049), false),
            ),
            ("nfs", "v4.1,proto=tcp6", service(Some(4), None, false)),
            ("nfs", "proto=tcp,udp,v3", service(Some(3), None, true)),
            ("nfs", "port=99999", service(None, None, false)),
            (
                "nfs",
                "mountport=5,mountproto=udp",
                service(None, None, false),
            ),
            ("nfs", "proto=rdma", None),
            ("nfs", "rdma,port=20049", None),
            ("nfs", "vers=2", None),
            ("nfs", "v2", None),
            ("cifs", "vers=3", None),
        ] {
            assert_eq!(of(fstype, options), wanted, "{fstype} {options}");
        }
        assert_eq!(super::service(&What::Bind { recursive: false }, &[]), None);
    }
}
