//! Where a program listens: the portmapper's version 2 for IPv4, rpcbind's version 4 or 3 for IPv6
//! (RFC 1833).

use std::net::SocketAddr;
use std::time::Instant;

use bstr::ByteSlice;

use crate::error::Error;
use crate::exchange::{Protocol, call};
use crate::limits;
use crate::message::Procedure;
use crate::xdr::{Reader, Writer};

/// Where the portmapper listens.
pub const PORT: u16 = 111;

const PROGRAM: u32 = 100_000;

/// GETPORT of version 2 and GETADDR of versions 3 and 4 have the same number.
const WHERE: u32 = 3;

/// A question to the portmapper: the procedure and its arguments.
pub fn question(v6: bool, version: u32, what: Procedure, over: Protocol) -> (Procedure, Vec<u8>) {
    let mut arguments = Writer::default();
    arguments.word(what.program);
    arguments.word(what.version);
    if v6 {
        arguments.string(match over {
            Protocol::Tcp => "tcp6",
            Protocol::Udp => "udp6",
        });
        // No address, no owner: whoever it is.
        arguments.string("");
        arguments.string("");
    } else {
        arguments.word(match over {
            Protocol::Tcp => 6,
            Protocol::Udp => 17,
        });
        arguments.word(0);
    }
    let procedure = Procedure {
        program: PROGRAM,
        version,
        procedure: WHERE,
    };
    (procedure, arguments.0)
}

/// The version of the portmapper's protocol that is spoken first.
pub fn first_version(v6: bool) -> u32 {
    if v6 { 4 } else { 2 }
}

/// The port in its answer. What it says of the host is not looked at: that one was asked.
///
/// # Errors
/// The program is not registered, or it is no answer.
pub fn answer(v6: bool, results: &[u8]) -> Result<u16, Error> {
    let mut reader = Reader::new(results);
    let port = if v6 {
        let address = reader.bytes()?;
        if address.len() > limits::UNIVERSAL_ADDRESS {
            return Err(Error::Malformed("too long an address"));
        }
        port_of(address)?
    } else {
        u16::try_from(reader.word()?).map_err(|_| Error::Malformed("no such port"))?
    };
    if port == 0 {
        return Err(Error::NotRegistered);
    }
    Ok(port)
}

/// The port of an address as rpcbind writes it: `::.8.1` is port 2049.
fn port_of(address: &[u8]) -> Result<u16, Error> {
    const BAD: Error = Error::Malformed("no address of rpcbind");
    if address.is_empty() {
        return Ok(0);
    }
    let mut parts = address.rsplitn_str(3, ".");
    let mut byte = || {
        let part = parts
            .next()
            .filter(|part| (1..=3).contains(&part.len()) && part.iter().all(u8::is_ascii_digit))?;
        part.to_str().ok()?.parse::<u8>().ok()
    };
    let (low, high) = (byte().ok_or(BAD)?, byte().ok_or(BAD)?);
    Ok(u16::from_be_bytes([high, low]))
}

/// Asks the portmapper of `server` (whose port is not looked at) where a program listens.
///
/// # Errors
/// Nobody answers, in time; or the program is not registered.
pub fn port(
    server: SocketAddr,
    what: Procedure,
    over: Protocol,
    by: Protocol,
    until: Instant,
) -> Result<u16, Error> {
    let v6 = server.is_ipv6();
    let mut to = server;
    to.set_port(PORT);
    let mut version = first_version(v6);
    loop {
        let (procedure, arguments) = question(v6, version, what, over);
        match call(by, to, procedure, &arguments, limits::SHORT_REPLY, until) {
            Ok(results) => return answer(v6, &results),
            Err(Error::OtherVersions { .. }) if version == 4 => version = 3,
            Err(error) => return Err(error),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn address(text: &str) -> Result<u16, Error> {
        let mut writer = Writer::default();
        writer.string(text);
        answer(true, &writer.0)
    }

    #[test]
    fn a_port_is_read_and_the_host_is_not_believed() {
        assert_eq!(answer(false, &[0, 0, 8, 1]), Ok(2049));
        assert_eq!(answer(false, &[0, 0, 0, 0]), Err(Error::NotRegistered));
        assert!(answer(false, &[0, 1, 0, 0]).is_err());
        assert!(answer(false, &[]).is_err());
        assert_eq!(address("::.8.1"), Ok(2049));
        assert_eq!(address("2001:db8::1.3.132"), Ok(900));
        assert_eq!(address("192.0.2.1.8.1"), Ok(2049));
        assert_eq!(address(""), Err(Error::NotRegistered));
        assert_eq!(address("::.0.0"), Err(Error::NotRegistered));
        for bad in [
            "::",
            "1",
            ".1",
            "::.8",
            "::.256.1",
            "::.8.+1",
            "::.8.0001",
            "::.8.",
        ] {
            assert!(matches!(address(bad), Err(Error::Malformed(_))), "{bad}");
        }
    }

    #[test]
    fn an_address_is_bounded() {
        let of = |length: usize| address(&("x".repeat(length - 4) + ".8.1"));
        assert_eq!(of(limits::UNIVERSAL_ADDRESS), Ok(2049));
        assert!(of(limits::UNIVERSAL_ADDRESS + 1).is_err());
    }
}
