//! This host's addresses, and those of servers.

use std::net::ToSocketAddrs;

use bstr::{BStr, ByteSlice};
use piton_plan::facts::{HostAnswer, Interface};

/// The addresses of this host's interfaces that are up, with their prefix lengths.
///
/// # Errors
/// The kernel does not tell.
pub fn interfaces() -> std::io::Result<Vec<Interface>> {
    let all = if_addrs::get_if_addrs()?;
    let up = all
        .into_iter()
        .filter(|interface| !matches!(interface.oper_status, if_addrs::IfOperStatus::Down));
    Ok(up
        .map(|interface| {
            let prefix = match &interface.addr {
                if_addrs::IfAddr::V4(v4) => v4.prefixlen,
                if_addrs::IfAddr::V6(v6) => v6.prefixlen,
            };
            Interface::new(interface.ip(), prefix)
        })
        .collect())
}

/// The addresses of a server, in the resolver's order; none if nobody knows the name.
///
/// Blocks for as long as the system's resolver does (name servers that don't answer: 30 s and
/// more), so it is for a worker that can be given up.
///
/// # Errors
/// The name could not be asked for: no name server answered.
pub fn resolve(name: &BStr) -> std::io::Result<HostAnswer> {
    let mut answer = HostAnswer::default();
    // A host's name is ASCII; anything else is a name that nobody knows.
    let Ok(name) = name.to_str() else {
        return Ok(answer);
    };
    let bare = name
        .strip_prefix('[')
        .and_then(|n| n.strip_suffix(']'))
        .unwrap_or(name);
    if bare.is_empty() {
        return Ok(answer);
    }
    match (bare, 0).to_socket_addrs() {
        Ok(found) => {
            for address in found.map(|found| found.ip()) {
                if !answer.addresses.contains(&address) {
                    answer.addresses.push(address);
                }
            }
            Ok(answer)
        }
        Err(error) if is_temporary(&error) => Err(error),
        Err(_) => Ok(answer),
    }
}

/// EAI_AGAIN, or the errno of a failed call. The standard library has only the text of
/// getaddrinfo's errors.
fn is_temporary(error: &std::io::Error) -> bool {
    error.raw_os_error().is_some() || error.to_string().contains("Temporary failure")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_written_as_numbers_are_their_own() {
        let addresses = |name: &str| resolve(name.into()).unwrap().addresses;
        assert_eq!(
            addresses("127.0.0.1"),
            ["127.0.0.1".parse::<std::net::IpAddr>().unwrap()]
        );
        assert_eq!(
            addresses("[::1]"),
            ["::1".parse::<std::net::IpAddr>().unwrap()]
        );
        assert!(addresses("").is_empty());
        assert!(resolve(b"\xff".as_bstr()).unwrap().addresses.is_empty());
    }

    #[test]
    fn the_loopback_interface_is_among_the_interfaces_if_it_is_up() {
        let all = interfaces().unwrap();
        for interface in all {
            assert!(interface.prefix <= if interface.address.is_ipv4() { 32 } else { 128 });
        }
    }
}
