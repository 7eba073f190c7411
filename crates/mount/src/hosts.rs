//! This host in its networks: its addresses, and where its packets go.

use std::collections::BTreeSet;
use std::io::Read;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use piton_plan::facts::{Interface, Route};

use crate::limits;

/// The addresses of this host's interfaces that are up, and its routes, as far as they tell which
/// servers are near. Routes that cannot be read are none: then prefix lengths tell.
///
/// # Errors
/// The kernel does not tell the addresses.
pub fn network() -> std::io::Result<(Vec<Interface>, Vec<Route>)> {
    let all = if_addrs::get_if_addrs()?;
    let up: Vec<_> = all
        .into_iter()
        .filter(|interface| !matches!(interface.oper_status, if_addrs::IfOperStatus::Down))
        .collect();
    let interfaces: Vec<Interface> = up
        .iter()
        .map(|interface| Interface {
            address: interface.ip(),
            prefix: match &interface.addr {
                if_addrs::IfAddr::V4(v4) => v4.prefixlen,
                if_addrs::IfAddr::V6(v6) => v6.prefixlen,
            },
            point_to_point: interface.is_p2p,
        })
        .collect();
    let shared = up.iter().filter(|interface| !interface.is_p2p);
    let shared: BTreeSet<&str> = shared.map(|interface| interface.name.as_str()).collect();
    let mut routes = fourth(&text("/proc/net/route"), &shared);
    routes.extend(sixth(&text("/proc/net/ipv6_route"), &shared));
    Ok((interfaces.clone(), telling(routes, &interfaces)))
}

/// The beginning of a file; nothing where it cannot be read.
fn text(path: &str) -> String {
    let mut text = String::new();
    if let Ok(file) = std::fs::File::open(path) {
        // What was read until an error is what there is.
        let _ = file.take(limits::ROUTES_BYTES).read_to_string(&mut text);
    }
    text
}

/// RTF_UP, RTF_GATEWAY, RTF_REJECT and RTF_LOCAL of linux/route.h and linux/ipv6_route.h.
const UP: u32 = 0x1;
const GATEWAY: u32 = 0x2;
const REJECT: u32 = 0x200;
const LOCAL: u32 = 0x8000_0000;

/// A route of a device. What a device between two ends reaches beyond the other end is not on its
/// link.
fn route(
    destination: IpAddr,
    prefix: u8,
    flags: u32,
    device: &str,
    shared: &BTreeSet<&str>,
) -> Option<Route> {
    let usable = flags & UP != 0 && flags & (REJECT | LOCAL) == 0 && prefix > 0;
    let whole = match destination {
        IpAddr::V4(_) => 32,
        IpAddr::V6(_) => 128,
    };
    let near = prefix == whole || shared.contains(device);
    let route = Route {
        destination,
        prefix,
        on_link: flags & GATEWAY == 0 && near,
    };
    (usable && !destination.is_multicast()).then_some(route)
}

/// The lines of /proc/net/route, whose numbers are written as the machine keeps them.
fn fourth(text: &str, shared: &BTreeSet<&str>) -> Vec<Route> {
    let number = |word: &str| u32::from_str_radix(word, 16).ok();
    let address = |word: &str| Some(Ipv4Addr::from(number(word)?.to_ne_bytes()));
    let line = |line: &str| {
        let words: Vec<&str> = line.split_whitespace().collect();
        let &[device, destination, _, flags, _, _, _, mask, ..] = &words[..] else {
            return None;
        };
        let prefix = address(mask)?.to_bits().count_ones() as u8;
        route(
            address(destination)?.into(),
            prefix,
            number(flags)?,
            device,
            shared,
        )
    };
    text.lines().skip(1).filter_map(line).collect()
}

/// The lines of /proc/net/ipv6_route.
fn sixth(text: &str, shared: &BTreeSet<&str>) -> Vec<Route> {
    let line = |line: &str| {
        let words: Vec<&str> = line.split_whitespace().collect();
        let &[destination, prefix, _, _, _, _, _, _, flags, device] = &words[..] else {
            return None;
        };
        let destination = Ipv6Addr::from(u128::from_str_radix(destination, 16).ok()?);
        let prefix = u8::from_str_radix(prefix, 16).ok()?;
        let flags = u32::from_str_radix(flags, 16).ok()?;
        route(destination.into(), prefix, flags, device, shared)
    };
    text.lines().filter_map(line).collect()
}

/// The routes that tell something: those on a link, and those to routers for a part of what is on
/// one.
fn telling(routes: Vec<Route>, interfaces: &[Interface]) -> Vec<Route> {
    let (mut near, far): (Vec<Route>, Vec<Route>) = routes.into_iter().partition(|it| it.on_link);
    near.truncate(limits::ROUTES);
    let links: Vec<(IpAddr, u8)> = near
        .iter()
        .map(|route| (route.destination, route.prefix))
        .chain(interfaces.iter().map(|own| (own.address, own.prefix)))
        .collect();
    let part = |route: &Route| {
        let mut links = links.iter();
        links.any(|(link, prefix)| {
            *prefix > 0
                && route.prefix > *prefix
                && piton_plan::proximity::common(route.destination, *link) >= u32::from(*prefix)
        })
    };
    let room = limits::ROUTES - near.len();
    near.extend(far.into_iter().filter(part).take(room));
    near
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_loopback_interface_is_among_the_interfaces_if_it_is_up() {
        let (all, _) = network().unwrap();
        for interface in all {
            assert!(interface.prefix <= if interface.address.is_ipv4() { 32 } else { 128 });
        }
    }

    fn words(routes: &[Route]) -> Vec<String> {
        let word = |route: &Route| {
            let via = if route.on_link { "here" } else { "there" };
            format!("{}/{} {via}", route.destination, route.prefix)
        };
        routes.iter().map(word).collect()
    }

    fn shared() -> BTreeSet<&'static str> {
        ["eth0", "lo"].into()
    }

    /// As the kernel of a machine with the least byte first writes it.
    #[cfg(target_endian = "little")]
    #[test]
    fn routes_of_the_fourth_kind() {
        let text = "Iface\tDestination\tGateway \tFlags\tRefCnt\tUse\tMetric\tMask\t\tMTU\n\
                    eth0\t00000000\tFE004D0A\t0003\t0\t0\t0\t00000000\t0\t0\t0\n\
                    eth0\t00004D0A\t00000000\t0001\t0\t0\t0\t00FFFFFF\t0\t0\t0\n\
                    eth0\t0505A8C0\t00000000\t0005\t0\t0\t0\tFFFFFFFF\t0\t0\t0\n\
                    wg0\t0000080A\t00000000\t0001\t0\t0\t0\t0000FFFF\t0\t0\t0\n\
                    wg0\t0900080A\t00000000\t0005\t0\t0\t0\tFFFFFFFF\t0\t0\t0\n\
                    eth0\t80004D0A\t01004D0A\t0003\t0\t0\t0\t80FFFFFF\t0\t0\t0\n\
                    *\t00004E0A\t00000000\t0201\t0\t0\t0\t00FFFFFF\t0\t0\t0\n\
                    eth0\trubbish\n";
        assert_eq!(
            words(&fourth(text, &shared())),
            [
                "10.77.0.0/24 here",
                "192.168.5.5/32 here",
                "10.8.0.0/16 there",
                "10.8.0.9/32 here",
                "10.77.0.128/25 there"
            ]
        );
    }

    #[test]
    fn routes_of_the_sixth_kind() {
        let line = |destination: &str, prefix: &str, flags: &str, device: &str| {
            let none = "00000000000000000000000000000000";
            format!(
                "{destination} {prefix} {none} 00 {none} 00000100 00000001 00000000 {flags} {device}\n"
            )
        };
        let ours = "fd770000000000000000000000000000";
        let text = line(ours, "40", "00000001", "eth0")
            + &line(ours, "30", "00000003", "eth0")
            + &line("fd770000000000000000000000000001", "80", "80200001", "eth0")
            + &line("ff000000000000000000000000000000", "08", "00000001", "eth0")
            + &line("00000000000000000000000000000000", "00", "00000003", "eth0")
            + "rubbish\n";
        assert_eq!(
            words(&sixth(&text, &shared())),
            ["fd77::/64 here", "fd77::/48 there"]
        );
    }

    #[test]
    fn only_what_tells_something_is_kept_and_not_too_much_of_it() {
        let route = |destination: &str, prefix, on_link| Route {
            destination: destination.parse().unwrap(),
            prefix,
            on_link,
        };
        let ours = [Interface::new("10.77.0.1".parse().unwrap(), 24)];
        let routes = vec![
            route("172.16.0.0", 12, false),
            route("10.77.0.128", 25, false),
            route("10.77.0.0", 24, true),
            route("10.0.0.0", 8, false),
        ];
        assert_eq!(
            words(&telling(routes, &ours)),
            ["10.77.0.0/24 here", "10.77.0.128/25 there"]
        );
        for (on_link, most) in [(true, limits::ROUTES), (false, limits::ROUTES)] {
            let routes = vec![route("10.77.0.128", 25, on_link); limits::ROUTES + 1];
            assert_eq!(telling(routes, &ours).len(), most);
        }
    }
}
