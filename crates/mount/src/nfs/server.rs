//! Addresses: the server's, and the one of ours that it is reached from.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, SocketAddrV6, ToSocketAddrs, UdpSocket};

use bstr::ByteSlice;
use piton_plan::probe::Family;
use piton_plan::step::Address;
use rustix::io::Errno;

use super::host_of;
use crate::error::Error;
use crate::perform::MountJob;

/// An address of a server.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Found(SocketAddr);

/// The addresses of the server that an attempt is for, at least one: the one that was chosen, or
/// all that its name has, in the resolver's order.
pub(super) fn addresses(job: &MountJob<'_>, family: Option<Family>) -> Result<Vec<Found>, Error> {
    if let Some(address) = job.attempt.address {
        return Ok(vec![Found::chosen(address)]);
    }
    let source = job.attempt.source.as_bstr();
    let host = host_of(source).unwrap_or_default();
    let told = |errno, why: String| Error::refused(host, errno, why);
    // A host's name is ASCII; anything else is a name that nobody knows.
    let name = host.to_str().unwrap_or_default();
    let found: Vec<Found> = match (name, 0).to_socket_addrs() {
        Ok(found) => found.map(Found).collect(),
        Err(error) => {
            let why = format!("no address is known for this server: {error}");
            return Err(told(Errno::HOSTDOWN, why));
        }
    };
    let fits = |found: &&Found| family.is_none_or(|family| family.has(found.0.ip()));
    let fitting: Vec<Found> = found.iter().filter(fits).copied().collect();
    if fitting.is_empty() {
        let why = "this server has no address of the kind that proto= asks for: \
                   tcp is IPv4, tcp6 is IPv6";
        return Err(told(Errno::HOSTDOWN, why.into()));
    }
    Ok(fitting)
}

impl Found {
    fn chosen(Address { ip, scope }: Address) -> Self {
        Self(match ip {
            IpAddr::V4(ip) => SocketAddr::from((ip, 0)),
            IpAddr::V6(ip) => SocketAddrV6::new(ip, 0, 0, scope).into(),
        })
    }

    /// As the kernel reads it: with the number of the interface where it needs one.
    pub(super) fn text(&self) -> String {
        match self.0 {
            SocketAddr::V6(v6) if v6.scope_id() != 0 => format!("{}%{}", v6.ip(), v6.scope_id()),
            other => other.ip().to_string(),
        }
    }

    /// The address of ours that the server is reached from, which it calls back (NFS 4.0), and
    /// which is part of our name there. Nothing is sent. Without a way to the server, any: the
    /// kernel will say so.
    pub(super) fn client(&self) -> String {
        let (any, own) = match self.0 {
            SocketAddr::V4(_) => (IpAddr::V4(Ipv4Addr::UNSPECIFIED), self.reached_from()),
            SocketAddr::V6(_) => (IpAddr::V6(Ipv6Addr::UNSPECIFIED), self.reached_from()),
        };
        own.unwrap_or(any).to_string()
    }

    fn reached_from(&self) -> Option<IpAddr> {
        let any: SocketAddr = match self.0 {
            SocketAddr::V4(_) => (Ipv4Addr::UNSPECIFIED, 0).into(),
            SocketAddr::V6(_) => (Ipv6Addr::UNSPECIFIED, 0).into(),
        };
        let socket = UdpSocket::bind(any).ok()?;
        socket.connect(self.0).ok()?;
        Some(socket.local_addr().ok()?.ip())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(ip: &str, scope: u32) -> Found {
        let ip = ip.parse().unwrap();
        Found::chosen(Address { ip, scope })
    }

    #[test]
    fn addresses_are_written_as_the_kernel_reads_them() {
        assert_eq!(found("10.0.0.1", 0).text(), "10.0.0.1");
        assert_eq!(found("fd00::1", 0).text(), "fd00::1");
        assert_eq!(found("fe80::1", 3).text(), "fe80::1%3");
    }

    #[test]
    fn the_client_is_where_the_server_is_reached_from() {
        assert_eq!(found("127.0.0.1", 0).client(), "127.0.0.1");
        // No way: a multicast address without an interface, or a machine without IPv6.
        let lost = found("fe80::1", 999_999).client();
        assert_eq!(lost, "::");
    }
}
