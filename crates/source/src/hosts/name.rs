//! Names of servers, and of the maps of their exports.

use std::net::Ipv4Addr;

use bstr::{BStr, BString, ByteSlice};
use piton_map::limits::{HOST_LIMIT, HOSTS_MAP};
use piton_map::location::is_ipv6;
use piton_map::lookup::{MapSpec, MapType, Miss};

/// What a map of exports holds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Scope {
    /// Its keys are servers: `-hosts`.
    Servers,
    /// Its keys are names in one directory of one server: `hosts:SERVER/PATH`.
    Below {
        /// The server.
        server: BString,
        /// The directory: `/`, or `/a/b`.
        path: BString,
    },
}

impl Scope {
    /// What the map called `name` holds.
    pub(crate) fn of(name: &BStr) -> Result<Self, Miss> {
        if name == HOSTS_MAP {
            return Ok(Self::Servers);
        }
        let unknown = || Miss::NoSuchMap(format!("hosts:{name}").into());
        let (server, path) = name.split_once_str(b"/").unwrap_or((name, b""));
        let server = decode(server).ok_or_else(unknown)?;
        let below = decode(path).ok_or_else(unknown)?;
        if checked(server.as_ref()).is_none() {
            return Err(unknown());
        }
        let mut path = BString::from("/");
        path.extend_from_slice(&below);
        match path == "/" || super::list::refusal(path.as_ref()).is_none() {
            true => Ok(Self::Below { server, path }),
            false => Err(unknown()),
        }
    }
}

/// The name of the map of what `server` exports below `path`: `SERVER/PATH`, with `%XX` for all
/// bytes that mean something in a map.
pub(crate) fn of(server: &BStr, path: &BStr) -> BString {
    let mut name = encode(server);
    name.extend_from_slice(&encode(path));
    name
}

/// `key` if it can be a server's name or address. What cannot be is not looked up: a desktop
/// that looks for `.hidden` asks no name server.
pub(crate) fn checked(key: &BStr) -> Option<&BStr> {
    let good = match key.contains(&b':') {
        true => is_ipv6(key),
        false => is_name(key),
    };
    good.then_some(key)
}

fn is_name(name: &[u8]) -> bool {
    let letter = |byte: &u8| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'-' | b'_');
    let sound = !name.is_empty() && name.len() <= HOST_LIMIT && name.iter().all(letter);
    let begins = !name.starts_with(b"-") && !name.starts_with(b".");
    // Numbers that are no address are taken by resolvers for odd addresses (`1` is 0.0.0.1).
    let number = name
        .iter()
        .all(|byte| byte.is_ascii_digit() || *byte == b'.');
    let address = || name.to_str().is_ok_and(|it| it.parse::<Ipv4Addr>().is_ok());
    sound && begins && (!number || address())
}

/// The server that has to be asked for `key` in the first of `maps` that is a map of exports.
pub fn server_of(maps: &[MapSpec], key: &BStr) -> Option<BString> {
    let spec = maps.iter().find(|map| map.kind == Some(MapType::Hosts))?;
    match Scope::of(spec.name.as_ref()).ok()? {
        Scope::Servers => checked(key).map(BString::from),
        Scope::Below { server, .. } => Some(server),
    }
}

/// Whether a byte stands for itself in the name of a map.
fn is_plain(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || matches!(byte, b'/' | b'.' | b'-' | b'_' | b':' | b'+' | b'~')
}

fn encode(text: &[u8]) -> BString {
    let mut name = Vec::with_capacity(text.len());
    for byte in text {
        match is_plain(*byte) {
            true => name.push(*byte),
            false => name.extend_from_slice(format!("%{byte:02X}").as_bytes()),
        }
    }
    name.into()
}

fn decode(name: &[u8]) -> Option<BString> {
    let digit = |byte: Option<&u8>| char::from(*byte?).to_digit(16);
    let mut text = Vec::with_capacity(name.len());
    let mut bytes = name.iter();
    while let Some(byte) = bytes.next() {
        match byte {
            b'%' => {
                let value = digit(bytes.next())? * 16 + digit(bytes.next())?;
                text.push(u8::try_from(value).ok()?);
            }
            other => text.push(*other),
        }
    }
    Some(text.into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn servers_are_names_and_addresses() {
        for good in [
            "nas",
            "nas.example.org",
            "a_b-c",
            "10.77.0.60",
            "fd00::1",
            "fe80::1%eth0",
            "3com",
            "localhost.",
        ] {
            assert_eq!(checked(good.into()), Some(good.into()));
        }
        let long = "x".repeat(HOST_LIMIT + 1);
        for bad in [
            "",
            ".hidden",
            "-x",
            "a b",
            "a/b",
            "a,b",
            "a(1)",
            "[fd00::1]",
            "1",
            "1.2.3",
            "256.1.1.1",
            "a:b",
            "fe80::1%",
            "fe80::1%-",
            "é",
            "a&",
            "$HOST",
            "a\n",
            &long,
        ] {
            assert_eq!(checked(bad.into()), None, "{bad:?}");
        }
        assert!(checked(long[1..].into()).is_some());
    }

    #[test]
    fn a_map_is_named_after_server_and_directory() {
        for (server, path, name) in [
            ("nas", "/", "nas/"),
            ("nas", "/export/home", "nas/export/home"),
            ("fd00::1", "/a b", "fd00::1/a%20b"),
            (
                "fe80::1%eth0",
                "/a%b\"\\$&,",
                "fe80::1%25eth0/a%25b%22%5C%24%26%2C",
            ),
        ] {
            assert_eq!(of(server.into(), path.into()), name);
            let (server, path) = (server.into(), path.into());
            assert_eq!(Scope::of(name.into()), Ok(Scope::Below { server, path }));
        }
        assert_eq!(Scope::of("-hosts".into()), Ok(Scope::Servers));
        let root = Scope::of("nas".into());
        assert_eq!(root, Scope::of("nas/".into()));
        for bad in [
            "",
            "/x",
            "nas/a/../b",
            "nas//a",
            "nas/a%",
            "nas/a%0a",
            "a b/c",
            "nas/%2e%2e",
        ] {
            assert!(Scope::of(bad.into()).is_err(), "{bad}");
        }
    }
}
