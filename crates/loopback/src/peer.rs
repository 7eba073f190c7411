//! Who is served: clients on this host, and only those of root.
//!
//! Others could have things mounted with credentials that they made up.

use std::fs::File;
use std::io::{BufRead, BufReader, Read};
use std::net::SocketAddrV4;
use std::time::{Duration, Instant};

use crate::limits;

/// How often it was looked for owners lately.
#[derive(Debug)]
pub(crate) struct Looks {
    since: Instant,
    taken: u32,
    /// Whether it was told in this second that somebody is turned away.
    told: bool,
}

impl Looks {
    pub(crate) fn new(now: Instant) -> Self {
        Self {
            since: now,
            taken: 0,
            told: false,
        }
    }

    /// Whether one more is allowed.
    fn take(&mut self, now: Instant) -> bool {
        self.begin(now);
        self.taken += 1;
        self.taken <= limits::LOOKS
    }

    /// Whether it is to be told that somebody is turned away: once in a second, for anybody could
    /// fill the log.
    pub(crate) fn tell(&mut self, now: Instant) -> bool {
        self.begin(now);
        !std::mem::replace(&mut self.told, true)
    }

    fn begin(&mut self, now: Instant) {
        if now.duration_since(self.since) >= Duration::from_secs(1) {
            *self = Self::new(now);
        }
    }
}

/// Whether a client is on this host and belongs to root. It comes from a port that only root can
/// have, as the kernel's client and libnfs of root do, or its socket belongs to root (or to the user
/// that this process belongs to, who could do with it what he likes anyway).
pub(crate) fn is_served(client: SocketAddrV4, server: SocketAddrV4, looks: &mut Looks) -> bool {
    if !client.ip().is_loopback() {
        return false;
    }
    let setting = std::fs::read_to_string("/proc/sys/net/ipv4/ip_unprivileged_port_start");
    let first_free = setting.ok().and_then(|text| text.trim().parse().ok());
    if is_reserved(client.port(), first_free) {
        return true;
    }
    if !looks.take(Instant::now()) {
        return false;
    }
    match File::open("/proc/net/tcp") {
        Ok(table) => {
            let own = rustix::process::geteuid().as_raw();
            owner(table, client, server).is_some_and(|uid| uid == 0 || uid == own)
        }
        Err(error) => {
            tracing::warn!(%error, %client, "cannot see whose connection this is");
            false
        }
    }
}

/// Whether only root can have this port: `first_free` is what the kernel is told.
pub(crate) fn is_reserved(port: u16, first_free: Option<u16>) -> bool {
    port < first_free.unwrap_or(1024).min(1024)
}

/// The user whose socket it is, from the kernel's table of sockets (/proc/net/tcp).
///
/// Only an established one counts: the kernel shows one that was closed as root's.
fn owner(table: impl Read, client: SocketAddrV4, server: SocketAddrV4) -> Option<u32> {
    let (client, server) = (written(client), written(server));
    let lines = BufReader::new(table.take(limits::SOCKETS)).lines();
    // The first line has the titles.
    for line in lines.skip(1) {
        let line = line.ok()?;
        let mut fields = line.split_ascii_whitespace().skip(1);
        let ends = (fields.next()?, fields.next()?, fields.next()?);
        if ends == (&client, &server, "01") {
            return fields.nth(3)?.parse().ok();
        }
    }
    None
}

/// An address as that table has it.
fn written(address: SocketAddrV4) -> String {
    let ip = u32::from_ne_bytes(address.ip().octets());
    format!("{ip:08X}:{:04X}", address.port())
}

#[cfg(test)]
mod tests {
    use std::net::{Ipv4Addr, TcpListener, TcpStream};

    use super::*;

    fn here(port: u16) -> SocketAddrV4 {
        SocketAddrV4::new(Ipv4Addr::LOCALHOST, port)
    }

    fn table(lines: &[(&str, &str, &str, u32)]) -> String {
        let mut text = String::from("  sl  local_address rem_address   st …\n");
        for (local, remote, state, uid) in lines {
            text += &format!(
                "   0: {local} {remote} {state} 00000000:00000000 00:00000000 00000000  {uid}        0 1\n"
            );
        }
        text
    }

    #[test]
    fn the_owner_is_that_of_the_clients_end() {
        let (client, server) = (written(here(40_000)), written(here(700)));
        let text = table(&[
            (&server, &client, "01", 0),
            (&client, &written(here(701)), "01", 0),
            (&client, &server, "01", 1000),
        ]);
        assert_eq!(owner(text.as_bytes(), here(40_000), here(700)), Some(1000));
        assert_eq!(owner(text.as_bytes(), here(40_001), here(700)), None);
    }

    #[test]
    fn a_closed_socket_is_nobodys() {
        let (client, server) = (written(here(40_000)), written(here(700)));
        for state in ["02", "04", "05", "06", "07", "08", "0A"] {
            let text = table(&[(&client, &server, state, 0)]);
            assert_eq!(owner(text.as_bytes(), here(40_000), here(700)), None);
        }
    }

    #[test]
    fn a_broken_table_names_nobody() {
        for text in ["", "\n", "x\ny\n", "x\n0: a b 01 c d e\n", "x\n\u{fffd}\n"] {
            assert_eq!(owner(text.as_bytes(), here(1), here(2)), None);
        }
    }

    #[test]
    fn our_own_connections_are_found() {
        use std::os::unix::fs::MetadataExt;
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let stream = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        let port = |address: std::io::Result<std::net::SocketAddr>| here(address.unwrap().port());
        let (client, server) = (port(stream.local_addr()), port(stream.peer_addr()));
        let table = File::open("/proc/net/tcp").unwrap();
        let uid = std::fs::metadata("/proc/self").unwrap().uid();
        assert_eq!(owner(table, client, server), Some(uid));
    }

    #[test]
    fn ports_are_reserved_as_far_as_the_kernel_reserves_them() {
        assert!(is_reserved(1023, None) && !is_reserved(1024, None));
        assert!(is_reserved(79, Some(80)) && !is_reserved(80, Some(80)));
        assert!(!is_reserved(1, Some(0)));
        // More than the usual ones are reserved: those above serve others.
        assert!(!is_reserved(1024, Some(2000)));
    }

    #[test]
    fn nobody_from_elsewhere_is_served() {
        let mut looks = Looks::new(Instant::now());
        let elsewhere = SocketAddrV4::new(Ipv4Addr::new(192, 0, 2, 1), 700);
        assert!(!is_served(elsewhere, here(701), &mut looks));
    }

    #[test]
    fn looks_are_limited() {
        let now = Instant::now();
        let mut looks = Looks::new(now);
        let taken = (0..20).filter(|_| looks.take(now)).count();
        assert_eq!(taken, limits::LOOKS as usize);
        assert!(looks.tell(now) && !looks.tell(now));
        let later = now + Duration::from_secs(1);
        assert!(looks.take(later) && looks.tell(later));
    }
}
