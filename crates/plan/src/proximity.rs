//! How far a server is: this host, its subnet, its net, elsewhere.

use core::net::{IpAddr, Ipv4Addr};

use crate::facts::{HostFacts, Interface, Route};

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

    /// How far `address` is from this host.
    ///
    /// Any of the interfaces counts, and the nearest. What the longest matching route puts on a
    /// link is on a subnet of ours, and what it gives to a router is not, whatever the prefix
    /// lengths of the interfaces say: they are asked where no route but the default matches.
    pub fn of(address: IpAddr, facts: &HostFacts) -> Self {
        let address = address.to_canonical();
        let interfaces = &facts.interfaces;
        let own = |interface: &Interface| interface.address.to_canonical() == address;
        if address.is_loopback() || interfaces.iter().any(own) {
            return Self::Own;
        }
        let routed = route(address, &facts.routes);
        if routed.is_some_and(|route| route.on_link) {
            return Self::Subnet;
        }
        let each = interfaces
            .iter()
            .map(|interface| Self::from_interface(address, interface));
        let nearest = each.min().unwrap_or(Self::Other);
        match routed {
            Some(_) => nearest.max(Self::Net),
            None => nearest,
        }
    }

    fn from_interface(address: IpAddr, interface: &Interface) -> Self {
        let own = interface.address.to_canonical();
        if own.is_loopback() || interface.point_to_point {
            return Self::Other;
        }
        match (address, own) {
            (IpAddr::V4(_), IpAddr::V4(ours)) => {
                class(common(address, own), interface.prefix, class_prefix(ours))
            }
            (IpAddr::V6(_), IpAddr::V6(ours)) if !ours.is_unicast_link_local() => {
                class(common(address, own), interface.prefix, 48)
            }
            _ => Self::Other,
        }
    }
}

/// Returns true if and only if this host has an address from which `address` could be asked: one
/// of its family that others can see. A host that has none at all is only not connected yet.
pub(crate) fn is_reachable(address: IpAddr, facts: &HostFacts) -> bool {
    let address = address.to_canonical();
    let link_local = |address: IpAddr| match address {
        IpAddr::V6(address) => address.is_unicast_link_local(),
        IpAddr::V4(_) => false,
    };
    let mut ours = facts
        .interfaces
        .iter()
        .map(|interface| interface.address.to_canonical())
        .filter(|own| !own.is_loopback())
        .peekable();
    ours.peek().is_none()
        || ours.any(|own| {
            own.is_ipv4() == address.is_ipv4() && (!link_local(own) || link_local(address))
        })
}

/// The longest route for an address; the default routes, which say nothing, left out.
fn route(address: IpAddr, routes: &[Route]) -> Option<&Route> {
    let matching = routes.iter().filter(|route| {
        let destination = route.destination.to_canonical();
        let same_kind = destination.is_ipv4() == address.is_ipv4();
        same_kind && route.prefix > 0 && common(address, destination) >= u32::from(route.prefix)
    });
    // Of equal ones the one on a link.
    matching.max_by_key(|route| (route.prefix, route.on_link))
}

/// In how many leading bits two addresses are the same; 0 for those of different families.
pub fn common(one: IpAddr, other: IpAddr) -> u32 {
    match (one, other) {
        (IpAddr::V4(one), IpAddr::V4(other)) => (one.to_bits() ^ other.to_bits()).leading_zeros(),
        (IpAddr::V6(one), IpAddr::V6(other)) => (one.to_bits() ^ other.to_bits()).leading_zeros(),
        _ => 0,
    }
}

/// The class of two addresses that have so many leading bits in common.
fn class(common: u32, subnet: u8, net: u8) -> Proximity {
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
            .map(|(address, prefix)| Interface::new(address.parse().unwrap(), *prefix))
            .collect();
        let facts = HostFacts {
            interfaces,
            ..HostFacts::default()
        };
        Proximity::of(address.parse().unwrap(), &facts)
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

    fn routed(address: &str, interfaces: &[Interface], routes: &[(&str, u8, bool)]) -> Proximity {
        let route = |(destination, prefix, on_link): &(&str, u8, bool)| Route {
            destination: destination.parse().unwrap(),
            prefix: *prefix,
            on_link: *on_link,
        };
        let facts = HostFacts {
            interfaces: interfaces.into(),
            routes: routes.iter().map(route).collect(),
            ..HostFacts::default()
        };
        Proximity::of(address.parse().unwrap(), &facts)
    }

    #[test]
    fn routes_know_better_than_prefixes() {
        let ours = [Interface::new("10.77.0.1".parse().unwrap(), 24)];
        let routes = [
            ("0.0.0.0", 0, false),
            ("10.77.0.0", 24, true),
            ("10.77.0.128", 25, false),
            ("10.77.0.200", 32, true),
            ("192.168.7.7", 32, true),
            ("172.20.0.0", 16, true),
            ("172.20.9.0", 24, false),
            ("fd88::", 64, true),
        ];
        for (address, proximity) in [
            ("10.77.0.1", Proximity::Own),
            ("10.77.0.9", Proximity::Subnet),
            // A router stands before a part of what the prefix calls ours,
            ("10.77.0.129", Proximity::Net),
            // and one machine behind it is on our link all the same.
            ("10.77.0.200", Proximity::Subnet),
            // A machine of another net with a route of its own.
            ("192.168.7.7", Proximity::Subnet),
            ("192.168.7.8", Proximity::Other),
            // A second net on the same link.
            ("172.20.1.1", Proximity::Subnet),
            ("172.20.9.1", Proximity::Other),
            ("fd88::5", Proximity::Subnet),
            ("10.200.0.1", Proximity::Net),
        ] {
            assert_eq!(routed(address, &ours, &routes), proximity, "{address}");
        }
    }

    #[test]
    fn what_lies_behind_the_other_end_of_a_line_is_not_near() {
        let line = Interface {
            point_to_point: true,
            ..Interface::new("10.8.0.2".parse().unwrap(), 24)
        };
        let routes = [("10.8.0.0", 24, false), ("10.8.0.1", 32, true)];
        for (address, proximity) in [
            ("10.8.0.2", Proximity::Own),
            ("10.8.0.1", Proximity::Subnet),
            ("10.8.0.7", Proximity::Other),
        ] {
            assert_eq!(routed(address, &[line], &routes), proximity, "{address}");
        }
    }

    #[test]
    fn a_family_without_an_address_that_others_see_is_not_used() {
        let own = |list: &[&str]| HostFacts {
            interfaces: list
                .iter()
                .map(|address| Interface::new(address.parse().unwrap(), 64))
                .collect(),
            ..HostFacts::default()
        };
        let only_v4 = own(&["127.0.0.1", "::1", "10.1.1.1", "fe80::1"]);
        let only_v6 = own(&["127.0.0.1", "::1", "fd00::1"]);
        let not_yet = own(&["127.0.0.1", "::1"]);
        for (address, v4, v6) in [
            ("192.0.2.1", true, false),
            ("2001:db8::1", false, true),
            ("fe80::9", true, true),
            ("::ffff:192.0.2.1", true, false),
        ] {
            let address: IpAddr = address.parse().unwrap();
            assert_eq!(is_reachable(address, &only_v4), v4, "{address}");
            assert_eq!(is_reachable(address, &only_v6), v6, "{address}");
            assert!(is_reachable(address, &not_yet), "{address}");
        }
    }
}
