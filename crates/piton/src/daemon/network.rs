//! Hears of changes of this host's addresses and routes, by which servers are near or far.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::io::Errno;
use rustix::net::netlink::SocketAddrNetlink;
use rustix::net::{AddressFamily, RecvFlags, SocketFlags, SocketType, bind, recv, socket_with};

/// RTMGRP_LINK, RTMGRP_IPV4_IFADDR, RTMGRP_IPV4_ROUTE, RTMGRP_IPV6_IFADDR and RTMGRP_IPV6_ROUTE of
/// linux/rtnetlink.h.
const GROUPS: u32 = 0x1 | 0x10 | 0x40 | 0x100 | 0x400;

/// Messages taken at once. They are only counted: afterwards all addresses are read anew.
const MESSAGES: usize = 1_024;

/// A socket to which the kernel writes when a link, an address or a route changes.
pub(crate) struct Network(OwnedFd);

impl Network {
    /// Listens from now on.
    ///
    /// # Errors
    /// No netlink, or no descriptors.
    pub(crate) fn listen() -> rustix::io::Result<Self> {
        let socket = socket_with(
            AddressFamily::NETLINK,
            SocketType::RAW,
            SocketFlags::CLOEXEC | SocketFlags::NONBLOCK,
            // NETLINK_ROUTE is number 0.
            None,
        )?;
        bind(&socket, &SocketAddrNetlink::new(0, GROUPS))?;
        Ok(Self(socket))
    }

    /// Takes all messages; false when there was none.
    pub(crate) fn changed(&self) -> bool {
        let mut buffer = [0u8; 256];
        let mut changed = false;
        for _ in 0..MESSAGES {
            match recv(&self.0, &mut buffer, RecvFlags::TRUNC) {
                // What overflowed was a change, too.
                Ok(_) | Err(Errno::NOBUFS) => changed = true,
                Err(Errno::INTR) => {}
                Err(_) => break,
            }
        }
        changed
    }

    /// Becomes readable at a change.
    pub(crate) fn bell(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_has_changed_at_first() {
        let network = Network::listen().expect("netlink");
        // Somebody else may change something in this very moment, once.
        network.changed();
        assert!(!network.changed() || !network.changed());
    }
}
