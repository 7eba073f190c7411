//! Who asks servers what they export, for the map `-hosts`.

use std::net::IpAddr;
use std::time::Instant;

use bstr::{BStr, BString};
use piton_resolver::{Export, Origin, Resolver};
use piton_source::hosts::{AskExports, Offer, Offered, ThisHost, Trouble};
use rustix::io::Errno;

use crate::explain::near::read_hosts;

/// Asks servers through the process that speaks to networks.
#[derive(Debug)]
pub(crate) struct Asking {
    resolver: Resolver,
}

impl Asking {
    pub(crate) fn new(resolver: Resolver) -> Self {
        Self { resolver }
    }
}

impl AskExports for Asking {
    fn exports(&self, server: &BStr, until: Instant) -> Result<Offered, Trouble> {
        let exports = self.resolver.exports(server, until).map_err(|error| {
            let text = error.to_string().into();
            let errno = match Errno::from_raw_os_error(error.errno()) {
                Errno::NOENT => return Trouble::UnknownHost,
                // No name server answers. A program that is told to try again would do so at once.
                Errno::AGAIN => Errno::HOSTDOWN,
                other => other,
            };
            let errno = errno.raw_os_error();
            Trouble::Failed { errno, text }
        })?;
        Ok(Offered {
            pseudo_root: exports.origin == Origin::PseudoRoot,
            lost: exports.lost,
            faults: exports.faults,
            exports: exports.list.into_iter().map(offer).collect(),
        })
    }

    fn this_host(&self) -> ThisHost {
        let facts = crate::facts::of_this_host(Vec::new());
        let addresses: Vec<IpAddr> = facts.interfaces.iter().map(|it| it.address).collect();
        let mut names = vec![facts.hostname];
        names.extend(names_of(&addresses, read_hosts()));
        ThisHost { addresses, names }
    }
}

fn offer(export: Export) -> Offer {
    Offer {
        path: export.path,
        groups: export.groups,
    }
}

/// What a hosts file calls this host where others see it.
fn names_of(addresses: &[IpAddr], lines: Vec<(IpAddr, Vec<BString>)>) -> Vec<BString> {
    let ours = |address: &IpAddr| !address.is_loopback() && addresses.contains(address);
    let lines = lines.into_iter().filter(|(address, _)| ours(address));
    lines.flat_map(|(_, names)| names).collect()
}

/// Asks nobody, and says what would be asked: for `explain` and `check`.
#[derive(Debug)]
pub(crate) struct NotAsking;

impl AskExports for NotAsking {
    fn exports(&self, server: &BStr, _until: Instant) -> Result<Offered, Trouble> {
        Err(Trouble::NotAsked(
            format!(
                "{server} would be asked for its exports: its mountd, or else its NFS version 4"
            )
            .into(),
        ))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_host_has_the_names_of_its_addresses() {
        let line = |address: &str, names: &[&str]| {
            let names = names.iter().map(|name| BString::from(*name)).collect();
            (address.parse().unwrap(), names)
        };
        let lines = vec![
            line("127.0.0.1", &["localhost"]),
            line("10.0.0.7", &["ws7.example.org", "ws7"]),
            line("10.0.0.8", &["ws8"]),
        ];
        let addresses = ["127.0.0.1", "10.0.0.7"].map(|it| it.parse().unwrap());
        assert_eq!(names_of(&addresses, lines), ["ws7.example.org", "ws7"]);
    }
}
