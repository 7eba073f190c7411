//! How near servers are, as far as that is known without asking anybody: literal addresses, this
//! host's own names, and /etc/hosts. `explain` must not hang on a name server.

use std::net::IpAddr;

use bstr::{BString, ByteSlice};
use piton_plan::facts::{HostAnswer, HostAnswers, HostFacts};
use piton_plan::{MountPlan, select};

use super::Server;

/// The largest hosts file that is read.
const HOSTS_BYTES: u64 = 1 << 20;

/// What is known of servers so far.
pub(crate) struct Near {
    answers: HostAnswers,
    /// The hosts file, read when a name is first asked for.
    hosts: Option<Vec<(IpAddr, Vec<BString>)>>,
}

impl Near {
    /// Nothing known yet.
    pub(crate) fn new() -> Self {
        Self {
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

    /// The servers of a mount, the one tried first in front.
    pub(crate) fn servers(&self, mount: &MountPlan, facts: &HostFacts) -> Vec<Server> {
        let mut servers: Vec<Server> = Vec::new();
        let mut seen = Vec::new();
        let choice = select::Choice::new(mount, facts, &self.answers, 0);
        for ranked in choice.ranked(&|_, _| None) {
            let candidate = ranked.candidate;
            let replica = &mount.replicas[candidate.replica];
            // A name with several addresses is several candidates, and one server to a reader.
            if seen.contains(&candidate.replica) {
                continue;
            }
            seen.push(candidate.replica);
            let Some(host) = &replica.host else {
                continue;
            };
            let known =
                self.answers.contains_key(host) || !select::needs_address(host.as_ref(), facts);
            servers.push(Server {
                host: host.clone(),
                path: replica.path.clone(),
                weight: candidate.weight,
                proximity: if known {
                    candidate.proximity.name()
                } else {
                    "unknown"
                },
            });
        }
        servers
    }

    /// The addresses of `host`; empty when they are not known here.
    fn addresses(&mut self, host: &BString) -> Vec<IpAddr> {
        let hosts = self.hosts.get_or_insert_with(read_hosts);
        let named = hosts
            .iter()
            .filter(|(_, names)| names.iter().any(|one| one.eq_ignore_ascii_case(host)));
        named.map(|(address, _)| *address).collect()
    }
}

/// The lines of /etc/hosts; nothing when it cannot be read.
pub(crate) fn read_hosts() -> Vec<(IpAddr, Vec<BString>)> {
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

    #[test]
    fn the_hosts_file_is_read_without_its_comments() {
        let mut near = Near {
            answers: HostAnswers::new(),
            hosts: None,
        };
        near.hosts = Some(parse_hosts(
            b"10.1.2.9 alpha a # beta\n10.9.9.9\tbravo\nrubbish x\n",
        ));
        near.learn(vec!["A".into(), "bravo".into(), "beta".into(), "x".into()]);
        let known: Vec<_> = near
            .answers()
            .iter()
            .map(|(host, answer)| format!("{host} {:?}", answer.addresses))
            .collect();
        assert_eq!(known, ["A [10.1.2.9]", "bravo [10.9.9.9]"]);
    }
}
