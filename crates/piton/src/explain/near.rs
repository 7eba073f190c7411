//! How near servers are, as far as that is known without asking anybody: literal addresses, this
//! host's own names, and /etc/hosts. `explain` must not hang on a name server.

use std::net::IpAddr;

use bstr::{BString, ByteSlice};
use piton_plan::Replica;
use piton_plan::facts::{HostAnswer, HostAnswers, HostFacts, Interface};
use piton_plan::step::Attempt;

use super::Server;

/// The largest hosts file that is read.
const HOSTS_BYTES: u64 = 1 << 20;

/// What is known of servers so far.
pub(crate) struct Near {
    hostname: BString,
    interfaces: Vec<Interface>,
    answers: HostAnswers,
    /// The hosts file, read when a name is first asked for.
    hosts: Option<Vec<(IpAddr, Vec<BString>)>>,
}

impl Near {
    /// Nothing known but this host.
    pub(crate) fn new(facts: &HostFacts) -> Self {
        Self {
            hostname: facts.hostname.clone(),
            interfaces: facts.interfaces.clone(),
            answers: HostAnswers::new(),
            hosts: None,
        }
    }

    /// Looks `hosts` up.
    pub(crate) fn learn(&mut self, hosts: Vec<BString>) {
        for host in hosts {
            if self.answers.contains_key(&host) {
                continue;
            }
            let addresses = self.addresses(&host);
            if !addresses.is_empty() {
                self.answers.insert(host, HostAnswer { addresses });
            }
        }
    }

    /// What is known.
    pub(crate) fn answers(&self) -> &HostAnswers {
        &self.answers
    }

    /// The servers of a mount, in the order of `attempts`, then those that are not tried.
    pub(crate) fn servers(&mut self, replicas: &[Replica], attempts: &[Attempt]) -> Vec<Server> {
        let mut rest: Vec<&Replica> = replicas.iter().filter(|one| one.host.is_some()).collect();
        let mut ordered = Vec::new();
        for attempt in attempts {
            let same = |one: &&Replica| {
                one.host == attempt.host
                    && (one.source() == attempt.source || one.path == attempt.source)
            };
            if let Some(at) = rest.iter().position(same) {
                ordered.push(rest.remove(at));
            }
        }
        ordered.append(&mut rest);
        let server = |one: &Replica| {
            let host = one.host.clone().unwrap_or_default();
            let proximity = self.proximity(&host);
            Server {
                host,
                path: one.path.clone(),
                weight: one.weight,
                proximity,
            }
        };
        ordered.into_iter().map(server).collect()
    }

    /// How near `host` is, in a word.
    fn proximity(&mut self, host: &BString) -> &'static str {
        let addresses = match self.answers.get(host) {
            Some(answer) => answer.addresses.clone(),
            None => self.addresses(host),
        };
        let words = addresses
            .iter()
            .map(|address| distance(*address, &self.interfaces));
        words
            .min()
            .map_or("unknown", |rank| ["self", "subnet", "net", "other"][rank])
    }

    /// The addresses of `host`; empty when they are not known here.
    fn addresses(&mut self, host: &BString) -> Vec<IpAddr> {
        let name = host.to_str().unwrap_or_default();
        if let Ok(address) = name.parse() {
            return vec![address];
        }
        if *host == self.hostname || name == "localhost" {
            return vec![IpAddr::from([127, 0, 0, 1])];
        }
        let hosts = self.hosts.get_or_insert_with(read_hosts);
        let named = hosts
            .iter()
            .filter(|(_, names)| names.iter().any(|one| one.eq_ignore_ascii_case(host)));
        named.map(|(address, _)| *address).collect()
    }
}

/// 0 for this host, 1 for a network of its own interfaces, 2 for the classful network around one,
/// 3 for anywhere else.
fn distance(address: IpAddr, interfaces: &[Interface]) -> usize {
    if address.is_loopback() || interfaces.iter().any(|one| one.address == address) {
        return 0;
    }
    let shares = |one: &&Interface, bits: u8| share_prefix(one.address, address, bits);
    if interfaces.iter().any(|one| shares(&one, one.prefix)) {
        return 1;
    }
    if interfaces
        .iter()
        .any(|one| shares(&one, classful(one.address)))
    {
        return 2;
    }
    3
}

/// Bits of the network that an address belonged to before there were prefixes; for IPv6 the
/// usual site.
fn classful(address: IpAddr) -> u8 {
    match address {
        IpAddr::V4(four) => match four.octets()[0] {
            0..128 => 8,
            128..192 => 16,
            _ => 24,
        },
        IpAddr::V6(_) => 48,
    }
}

/// Returns true if and only if the first `bits` bits of two addresses of one family are equal.
fn share_prefix(one: IpAddr, other: IpAddr, bits: u8) -> bool {
    let (one, other, width): (u128, u128, u8) = match (one, other) {
        (IpAddr::V4(one), IpAddr::V4(other)) => {
            (u32::from(one).into(), u32::from(other).into(), 32)
        }
        (IpAddr::V6(one), IpAddr::V6(other)) => (one.into(), other.into(), 128),
        _ => return false,
    };
    let shift = u32::from(width - bits.min(width));
    bits > 0 && one.checked_shr(shift) == other.checked_shr(shift)
}

/// The lines of /etc/hosts; nothing when it cannot be read.
fn read_hosts() -> Vec<(IpAddr, Vec<BString>)> {
    use std::io::Read as _;
    let mut text = Vec::new();
    if let Ok(file) = std::fs::File::open("/etc/hosts") {
        // A part of the file is better than none: names beyond it are unknown.
        let _ = file.take(HOSTS_BYTES).read_to_end(&mut text);
    }
    parse_hosts(&text)
}

fn parse_hosts(text: &[u8]) -> Vec<(IpAddr, Vec<BString>)> {
    let entry = |line: &[u8]| {
        let line = line.split(|byte| *byte == b'#').next()?;
        let mut words = line
            .split(u8::is_ascii_whitespace)
            .filter(|word| !word.is_empty());
        let address = words.next()?.to_str().ok()?.parse().ok()?;
        Some((address, words.map(BString::from).collect()))
    };
    text.lines().filter_map(entry).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn near() -> Near {
        let interface = |address: &str, prefix| Interface {
            address: address.parse().unwrap(),
            prefix,
        };
        let facts = HostFacts {
            hostname: "here".into(),
            interfaces: vec![interface("10.1.2.3", 24), interface("fd00::5", 64)],
            ..HostFacts::default()
        };
        let mut near = Near::new(&facts);
        near.hosts = Some(parse_hosts(
            b"10.1.2.9 alpha a # beta\n10.9.9.9\tbravo\nrubbish x\n",
        ));
        near
    }

    #[test]
    fn proximity_is_told_without_asking_anybody() {
        for (host, word) in [
            ("here", "self"),
            ("localhost", "self"),
            ("10.1.2.3", "self"),
            ("alpha", "subnet"),
            ("A", "subnet"),
            ("bravo", "net"),
            ("192.0.2.1", "other"),
            ("fd00::9", "subnet"),
            ("fd00:0:0:7::1", "net"),
            ("2001:db8::1", "other"),
            ("beta", "unknown"),
        ] {
            assert_eq!(near().proximity(&host.into()), word, "{host}");
        }
    }
}
