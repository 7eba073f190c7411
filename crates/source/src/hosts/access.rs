//! Whether an export is for this host, as far as the server's list tells.
//!
//! Only what is sure counts against an export: it names addresses, networks or host names, and none
//! of them is ours. A netgroup, a security flavour, a word of which nothing is known: then the export is
//! shown, and the server decides.

use std::net::IpAddr;

use bstr::{BString, ByteSlice};

/// How servers know this host.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ThisHost {
    /// Its addresses; none: nothing is known.
    pub addresses: Vec<IpAddr>,
    /// Its names, with and without a domain; none: nothing is known.
    pub names: Vec<BString>,
}

/// What one word of an access list says of this host.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Word {
    /// It means us, or may mean us.
    Perhaps,
    /// It means others.
    Others,
}

/// Whether an export with these groups surely is for others only.
pub fn excludes(groups: &[BString], host: &ThisHost) -> bool {
    !groups.is_empty() && groups.iter().all(|group| said(group, host) == Word::Others)
}

fn said(group: &[u8], host: &ThisHost) -> Word {
    let Ok(group) = group.to_str() else {
        return Word::Perhaps;
    };
    if let Some(ours) = address(group, host).or_else(|| network(group, host)) {
        return match ours {
            true => Word::Perhaps,
            false => Word::Others,
        };
    }
    match is_name_pattern(group) && !host.names.is_empty() {
        true if !host.names.iter().any(|name| names_us(group, name)) => Word::Others,
        _ => Word::Perhaps,
    }
}

/// Whether the address `group` is ours; `None`: it is no address, or nothing is known of ours.
fn address(group: &str, host: &ThisHost) -> Option<bool> {
    let address: IpAddr = group.parse().ok()?;
    let known = host.addresses.iter().any(|it| same_family(it, &address));
    known.then(|| host.addresses.contains(&address))
}

/// Whether we are in the network `group`; `None`: it is none, or nothing is known of our addresses.
fn network(group: &str, host: &ThisHost) -> Option<bool> {
    let (network, length) = group.split_once('/')?;
    let network: IpAddr = network.parse().ok()?;
    let length = length.parse::<u8>().ok().or_else(|| mask_length(length))?;
    if length > most(&network) {
        return None;
    }
    let ours: Vec<&IpAddr> = host
        .addresses
        .iter()
        .filter(|it| same_family(it, &network))
        .collect();
    let inside = |it: &&IpAddr| leading(it, length) == leading(&network, length);
    (!ours.is_empty()).then(|| ours.iter().any(inside))
}

fn same_family(one: &IpAddr, other: &IpAddr) -> bool {
    one.is_ipv4() == other.is_ipv4()
}

fn most(address: &IpAddr) -> u8 {
    if address.is_ipv4() { 32 } else { 128 }
}

/// The first `length` bits of an address.
fn leading(address: &IpAddr, length: u8) -> u128 {
    let bits = match address {
        IpAddr::V4(v4) => u128::from(v4.to_bits()),
        IpAddr::V6(v6) => v6.to_bits(),
    };
    bits.checked_shr(u32::from(most(address) - length))
        .unwrap_or(0)
}

/// The length of a mask such as `255.255.255.0`.
fn mask_length(mask: &str) -> Option<u8> {
    let bits = mask.parse::<std::net::Ipv4Addr>().ok()?.to_bits();
    (bits.count_zeros() == bits.trailing_zeros()).then(|| bits.leading_ones() as u8)
}

/// Whether `group` is a host name, perhaps with `*` and `?`, and nothing but that. A word without
/// any letter is none.
fn is_name_pattern(group: &str) -> bool {
    let part = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '-' | '_' | '*' | '?');
    let everybody = ["everyone", "(everyone)", "anon"];
    group.contains(|c: char| c.is_ascii_alphabetic())
        && group.chars().all(part)
        && !everybody.contains(&group)
}

/// Whether a host name of a list may be `name`. Without wildcards the first labels decide: which
/// domain a name without one is in, the server knows and we don't.
fn names_us(group: &str, name: &[u8]) -> bool {
    let group = group.as_bytes().to_ascii_lowercase();
    let name = name.to_ascii_lowercase();
    if group.iter().any(|byte| matches!(byte, b'*' | b'?')) {
        // A name of ours without its domain may have any.
        return !name.contains(&b'.') || is_like(&group, &name);
    }
    first_label(&group) == first_label(&name)
}

fn first_label(name: &[u8]) -> &[u8] {
    name.split(|byte| *byte == b'.').next().unwrap_or_default()
}

/// Whether `name` is like `pattern`: `*` is any text, `?` any byte. Linear in both but for the last
/// `*`, to which it goes back.
fn is_like(pattern: &[u8], name: &[u8]) -> bool {
    let (mut p, mut n) = (0, 0);
    let mut star: Option<(usize, usize)> = None;
    while n < name.len() {
        match pattern.get(p) {
            Some(b'*') => {
                star = Some((p, n));
                p += 1;
            }
            Some(byte) if *byte == b'?' || *byte == name[n] => {
                p += 1;
                n += 1;
            }
            _ => match star {
                Some((at, from)) => {
                    star = Some((at, from + 1));
                    p = at + 1;
                    n = from + 1;
                }
                None => return false,
            },
        }
    }
    pattern[p..].iter().all(|byte| *byte == b'*')
}

#[cfg(test)]
mod tests {
    use super::*;

    fn host() -> ThisHost {
        ThisHost {
            addresses: ["10.1.2.3", "127.0.0.1", "fd00::7"]
                .map(|it| it.parse().unwrap())
                .into(),
            names: vec!["ws7.example.org".into(), "ws7".into()],
        }
    }

    fn shown(groups: &[&str], host: &ThisHost) -> bool {
        let groups: Vec<BString> = groups.iter().map(|it| BString::from(*it)).collect();
        !excludes(&groups, host)
    }

    #[test]
    fn only_what_is_surely_for_others_is_left_out() {
        for (groups, expected) in [
            (&[][..], true),
            (&["*"], true),
            (&["10.1.2.3"], true),
            (&["10.1.2.4"], false),
            (&["10.1.2.4", "10.1.2.3"], true),
            (&["10.1.2.0/24"], true),
            (&["10.1.3.0/24"], false),
            (&["10.1.2.0/255.255.255.0"], true),
            (&["10.1.3.0/255.255.255.0"], false),
            (&["10.1.3.0/255.0.255.0"], true),
            (&["0.0.0.0/0"], true),
            (&["10.1.2.0/33"], true),
            (&["fd00::/64"], true),
            (&["fd01::/64"], false),
            (&["fd00::8"], false),
            (&["ws7"], true),
            (&["WS7.Example.Org"], true),
            (&["ws7.elsewhere.org"], true),
            (&["ws8"], false),
            (&["ws8.example.org", "10.9.9.9"], false),
            (&["*.example.org"], true),
            (&["ws?.example.org"], true),
            (&["@trusted"], true),
            (&["ws8", "@trusted"], true),
            (&["gss/krb5"], true),
            (&["everyone"], true),
            (&["ws[1-9]"], true),
            (&[""], true),
        ] {
            assert_eq!(shown(groups, &host()), expected, "{groups:?}");
        }
    }

    #[test]
    fn nothing_is_left_out_by_a_host_that_does_not_know_itself() {
        for group in ["10.9.9.9", "10.9.9.0/24", "fd01::1", "other"] {
            assert!(shown(&[group], &ThisHost::default()), "{group}");
        }
        let v4 = ThisHost {
            addresses: vec!["10.1.2.3".parse().unwrap()],
            names: Vec::new(),
        };
        assert!(shown(&["fd01::1"], &v4));
        assert!(shown(&["other"], &v4));
        assert!(!shown(&["10.9.9.9"], &v4));
    }

    #[test]
    fn wildcards() {
        let full = ThisHost {
            names: vec!["ws7.example.org".into()],
            ..host()
        };
        assert!(shown(&["*.example.org"], &full));
        assert!(!shown(&["*.example.com"], &full));
        assert!(!shown(&["x*"], &full));
        // Of which domain we are is not known, so that it may be that one.
        assert!(shown(&["*.example.com"], &host()));
        for (pattern, name, expected) in [
            ("*", "", true),
            ("a*b*c", "a1b2c", true),
            ("a*b*c", "a1b2", false),
            ("?", "", false),
            ("**x", "aax", true),
        ] {
            assert_eq!(is_like(pattern.as_bytes(), name.as_bytes()), expected);
        }
    }
}
