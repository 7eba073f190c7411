//! The port that clients connect to.

use std::io;
use std::net::{Ipv4Addr, SocketAddr, SocketAddrV4, TcpListener};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

/// Ports that [`Listener::reserved`] tries, from the highest, less those of known services (as in
/// /etc/bindresvport.blacklist).
///
/// They are below those from which the kernel's own client connects (`sunrpc.min_resvport`, 665): if
/// nobody listens, a client that happens to connect from the very port it connects to is connected
/// to itself, and keeps the port from the next server.
pub const RESERVED: std::ops::RangeInclusive<u16> = 600..=664;
const KNOWN: [u16; 4] = [623, 631, 636, 664];

/// A port of 127.0.0.1 that is listened on. As long as some process holds it, clients can connect:
/// they wait for whoever accepts.
#[derive(Debug)]
pub struct Listener {
    socket: TcpListener,
    address: SocketAddrV4,
}

impl Listener {
    /// A reserved port: nobody but root can take it when the server is gone, and hand the clients
    /// what he likes.
    ///
    /// # Errors
    /// Not root, or none is free.
    pub fn reserved() -> io::Result<Self> {
        let ports = RESERVED.rev().filter(|port| !KNOWN.contains(port));
        let mut last = io::Error::from(io::ErrorKind::AddrInUse);
        for port in ports {
            match Self::at(port) {
                Ok(listener) => return Ok(listener),
                Err(error) if error.kind() == io::ErrorKind::AddrInUse => last = error,
                Err(error) => return Err(error),
            }
        }
        Err(last)
    }

    /// This port, or any free one for 0. Clients of an earlier server at this port come back to it.
    ///
    /// # Errors
    /// What the system says.
    pub fn at(port: u16) -> io::Result<Self> {
        // The standard library sets SO_REUSEADDR, so that old connections do not stand in the way.
        Self::new(TcpListener::bind((Ipv4Addr::LOCALHOST, port))?)
    }

    /// One that was listened on before, by another process.
    ///
    /// # Errors
    /// It is no such socket, or not one of the loopback interface.
    pub fn inherited(fd: OwnedFd) -> io::Result<Self> {
        Self::new(TcpListener::from(fd))
    }

    fn new(socket: TcpListener) -> io::Result<Self> {
        socket.set_nonblocking(true)?;
        match socket.local_addr()? {
            SocketAddr::V4(address) if address.ip().is_loopback() => Ok(Self { socket, address }),
            address => Err(io::Error::new(
                io::ErrorKind::InvalidInput,
                format!("{address} is not on the loopback interface"),
            )),
        }
    }

    /// The port.
    pub fn port(&self) -> u16 {
        self.address.port()
    }

    pub(crate) fn address(&self) -> SocketAddrV4 {
        self.address
    }

    /// Who waits to be served next, if anybody.
    pub(crate) fn accept(&self) -> io::Result<(OwnedFd, SocketAddr)> {
        let (stream, client) = self.socket.accept()?;
        stream.set_nonblocking(true)?;
        // Answers are short, and each is waited for.
        stream.set_nodelay(true)?;
        Ok((stream.into(), client))
    }
}

impl AsFd for Listener {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_port_is_handed_back_and_can_be_inherited() {
        let listener = Listener::at(0).unwrap();
        let port = listener.port();
        assert_ne!(port, 0);
        let copy = listener.as_fd().try_clone_to_owned().unwrap();
        drop(listener);
        assert_eq!(Listener::inherited(copy).unwrap().port(), port);
    }

    #[test]
    fn only_the_loopback_interface_is_listened_on() {
        let everywhere = TcpListener::bind("0.0.0.0:0").unwrap();
        assert!(Listener::inherited(everywhere.into()).is_err());
        let (local, _) = std::os::unix::net::UnixStream::pair().unwrap();
        assert!(Listener::inherited(local.into()).is_err());
    }
}
