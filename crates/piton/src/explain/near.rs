//! How near servers are, as far as that is known without asking anybody: literal addresses, this
//! host's own names, and /etc/hosts. `explain` must not hang on a name server. With `--probe` name
//! services and servers are asked, through the same process without rights that the daemon uses,
//! and for a bounded time.

use std::net::IpAddr;
use std::time::{Duration, Instant};

use bstr::{BString, ByteSlice};
use piton_plan::facts::{HostAnswer, HostAnswers, HostFacts};
use piton_plan::probe::Target;
use piton_plan::select::{Choice, Ranked, Verdict};
use piton_plan::{MountPlan, select};
use piton_resolver::Resolver;

use super::Server;
use crate::asking;

/// The largest hosts file that is read.
const HOSTS_BYTES: u64 = 1 << 20;

/// For how long an explanation may ask the network, all in all.
const ASKING: Duration = Duration::from_secs(8);

/// For how long servers of one mount are asked.
const PROBING: Duration = Duration::from_secs(3);

/// What is known of servers so far.
pub(crate) struct Near {
    answers: HostAnswers,
    /// The hosts file, read when a name is first asked for.
    hosts: Option<Vec<(IpAddr, Vec<BString>)>>,
    /// Who asks, and until when, if anybody may be asked.
    asking: Option<(Resolver, Instant)>,
}

/// Who asks the network for `--probe`.
pub(crate) fn resolver() -> Resolver {
    Resolver::new(vec!["/proc/self/exe".into(), "resolver".into()])
}

impl Near {
    /// Nothing known yet. With `probe` name services and servers are asked.
    pub(crate) fn new(probe: bool) -> Self {
        Self {
            answers: HostAnswers::new(),
            hosts: None,
            asking: probe.then(|| (resolver(), Instant::now() + ASKING)),
        }
    }

    /// Looks `hosts` up.
    pub(crate) fn learn(&mut self, mut hosts: Vec<BString>) {
        hosts.retain(|host| !self.answers.contains_key(host));
        if let Some((resolver, until)) = &self.asking {
            if !hosts.is_empty() {
                let found = asking::addresses(resolver, &hosts, *until);
                self.answers.extend(found);
            }
            return;
        }
        for host in hosts {
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

    /// The servers of a mount in their order; asked, if anybody is and `ask` says so.
    pub(crate) fn ranked(&self, mount: &MountPlan, facts: &HostFacts, ask: bool) -> Vec<Ranked> {
        let choice = Choice::new(mount, facts, &self.answers, 0);
        let Some((resolver, until)) = self.asking.as_ref().filter(|_| ask) else {
            return choice.ranked(&|_, _| None);
        };
        let targets: Vec<Target> = choice.targets().map(|(_, target)| target).collect();
        let until = (*until).min(Instant::now() + PROBING);
        let answers = resolver.probe_all(&targets, until);
        choice.ranked(&|_, target| {
            let at = targets.iter().position(|asked| asked == target)?;
            answers.get(at).cloned()
        })
    }

    /// The same for people and programs, the one tried first in front.
    pub(crate) fn servers(
        &self,
        mount: &MountPlan,
        facts: &HostFacts,
        ranked: &[Ranked],
    ) -> Vec<Server> {
        let mut servers = Vec::new();
        for one in ranked {
            let candidate = &one.candidate;
            let replica = &mount.replicas[candidate.replica];
            let Some(host) = &replica.host else {
                continue;
            };
            let known =
                self.answers.contains_key(host) || !select::needs_address(host.as_ref(), facts);
            let address = one.address.map(|address| address.ip);
            servers.push(Server {
                host: host.clone(),
                path: replica.path.clone(),
                weight: candidate.weight,
                proximity: if known {
                    candidate.proximity.name()
                } else {
                    "unknown"
                },
                address: address.or(candidate.addresses.first().copied()),
                verdict: one.verdict.name(),
                answer_ms: match one.verdict {
                    Verdict::Serves { micros } => Some(f64::from(micros) / 1_000.0),
                    _ => None,
                },
                reason: one.reason(&ranked[0], mount.selection),
                chosen: *one == ranked[0] && one.verdict.may_be_tried(),
                health: None,
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
        let mut near = Near::new(false);
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
