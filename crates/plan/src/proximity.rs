//! How far a server is: this host, its subnet, its net, elsewhere.

use core::net::{IpAddr, Ipv4Addr};

use crate::facts::Interface;

/// Distance classes, nearest first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Proximity {
    /// An address of this host.
    Own,
    /// On a subnet of one of this host's interfaces, by its prefix length.
    Subnet,
    /// On the same net: the class A, B or C network that the documents mean for IPv4, the
    /// first 48 bits (a site) for IPv6.
    Net,
    /// Anywhere else, or unknown.
    Other,
}

impl Proximity {
    /// The word for people and for `explain --json`.
    pub fn name(self) -> &'static str {
        match self {
            Self::Own => "self",
            Self::Subnet => "subnet",
            Self::Net => "net",
            Self::Other => "other",
        }
    }

    /// How far `address` is from a host with these interfaces.
    pub fn of(address: IpAddr, interfaces: &[Interface]) -> Self {
        let address = address.to_canonical();
        if address.is_loopback() {
            return Self::Own;
        }
        let each = interfaces
            .iter()
            .map(|interface| Self::from_interface(address, interface));
        each.min().unwrap_or(Self::Other)
    }

    fn from_interface(address: IpAddr, interface: &Interface) -> Self {
        let own = interface.address.to_canonical();
        if own == address {
            return Self::Own;
        }
        if own.is_loopback() {
            return Self::Other;
        }
        match (address, own) {
            (IpAddr::V4(theirs), IpAddr::V4(ours)) => {
                let differ = u128::from(theirs.to_bits() ^ ours.to_bits()) << 96;
                class(differ, interface.prefix, class_prefix(ours))
            }
            (IpAddr::V6(theirs), IpAddr::V6(ours)) if !ours.is_unicast_link_local() => {
                let differ = theirs.to_bits() ^ ours.to_bits();
                class(differ, interface.prefix, 48)
            }
            _ => Self::Other,
        }
    }
}

/// The class of two addresses whose differing bits are `differ`, highest bit first.
fn class(differ: u128, subnet: u8, net: u8) -> Proximity {
    let common = differ.leading_zeros();
    // A prefix of no bits says nothing of a subnet: everything would be on it.
    if subnet > 0 && common >= u32::from(subnet) {
        Proximity::Subnet
    } else if common >= u32::from(net) {
        Proximity::Net
    } else {
        Proximity::Other
    }
}

/// Prefix length of the class A, B or C network of `address`.
fn class_prefix(address: Ipv4Addr) -> u8 {
    match address.octets()[0] {
        0..=127 => 8,
        128..=191 => 16,
        _ => 24,
    }
}

#[cfg(test)]
mod tests {
    use alloc::vec::Vec;

    use super::*;

    fn of(address: &str, interfaces: &[(&str, u8)]) -> Proximity {
        let interfaces: Vec<_> = interfaces
            .iter()
            .map(|(address, prefix)| Interface {
                address: address.parse().unwrap(),
                prefix: *prefix,
            })
            .collect();
        Proximity::of(address.parse().unwrap(), &interfaces)
    }

    #[test]
    fn ipv4_by_prefix_then_by_class() {
        let ours = [("127.0.0.1", 8), ("10.77.0.1", 24), ("192.168.4.1", 23)];
        for (address, proximity) in [
            ("10.77.0.1", Proximity::Own),
            ("127.0.0.53", Proximity::Own),
            ("::ffff:10.77.0.1", Proximity::Own),
            ("10.77.0.200", Proximity::Subnet),
            ("192.168.5.9", Proximity::Subnet),
            ("10.78.0.11", Proximity::Net),
            ("192.168.6.9", Proximity::Other),
            ("172.16.5.11", Proximity::Other),
            ("fd77::1", Proximity::Other),
        ] {
            assert_eq!(of(address, &ours), proximity, "{address}");
        }
    }

    #[test]
    fn ipv6_by_prefix_then_by_site() {
        let ours = [("fd77:0:0:1::1", 64), ("fe80::1", 64)];
        for (address, proximity) in [
            ("fd77:0:0:1::1", Proximity::Own),
            ("::1", Proximity::Own),
            ("fd77:0:0:1::9", Proximity::Subnet),
            ("fd77:0:0:2::9", Proximity::Net),
            ("fd78::9", Proximity::Other),
            ("fe80::9", Proximity::Other),
        ] {
            assert_eq!(of(address, &ours), proximity, "{address}");
        }
    }

    #[test]
    fn the_nearest_interface_counts_and_none_is_far() {
        assert_eq!(of("10.1.2.3", &[]), Proximity::Other);
        assert_eq!(of("10.1.2.3", &[("172.16.0.1", 0)]), Proximity::Other);
        assert_eq!(
            of("10.1.2.3", &[("172.16.0.1", 16), ("10.1.2.1", 24)]),
            Proximity::Subnet
        );
        assert!(Proximity::Own < Proximity::Subnet && Proximity::Net < Proximity::Other);
        assert_eq!(Proximity::Net.name(), "net");
    }
}
