//! This host's addresses.

use piton_plan::facts::Interface;

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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_loopback_interface_is_among_the_interfaces_if_it_is_up() {
        let all = interfaces().unwrap();
        for interface in all {
            assert!(interface.prefix <= if interface.address.is_ipv4() { 32 } else { 128 });
        }
    }
}
