//! Who asks servers what they export, for the map `-hosts`, and the user database about homes, for
//! `-passwd`.

use std::net::IpAddr;
use std::time::Instant;

use bstr::{BStr, BString};
use piton_map::lookup::Miss;
use piton_resolver::{Export, Origin, Resolver, User};
use piton_source::hosts::{AskExports, Offer, Offered, ThisHost, Trouble};
use piton_source::passwd::{Account, AskUsers};
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

impl AskUsers for Asking {
    fn named(&self, name: &BStr, until: Instant) -> Result<Option<Account>, Miss> {
        account(self.resolver.user_named(name, until))
    }

    fn numbered(&self, uid: u32, until: Instant) -> Result<Option<Account>, Miss> {
        account(self.resolver.user_numbered(uid, until))
    }
}

/// What the user database said; that it is silent keeps its meaning.
fn account(said: Result<Option<User>, piton_resolver::Error>) -> Result<Option<Account>, Miss> {
    let user = said.map_err(|error| match Errno::from_raw_os_error(error.errno()) {
        Errno::TIMEDOUT => Miss::TimedOut(format!("the user database: {error}").into()),
        _ => Miss::Unreadable(format!("the user database: {error}").into()),
    })?;
    Ok(user.map(|User { name, home }| Account { name, home }))
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

/// Who asks for whatever maps need to be told.
pub(crate) trait Asks: AskExports + AskUsers {}

impl<T: AskExports + AskUsers> Asks for T {}

/// Asks nobody, and says what would be asked: for `explain` and `check`.
#[derive(Debug)]
pub(crate) struct NotAsking;

impl AskExports for NotAsking {
    fn exports(&self, server: &BStr, _until: Instant) -> Result<Offered, Trouble> {
        Err(Trouble::NotAsked(
            format!(
                "{server} would be asked for its exports, its mountd or else its NFS version 4: \
                 `piton explain --probe` asks it"
            )
            .into(),
        ))
    }
}

impl AskUsers for NotAsking {
    fn named(&self, name: &BStr, _until: Instant) -> Result<Option<Account>, Miss> {
        let what = format!("the user database would be asked for the home of {name}");
        Err(Miss::NotAvailable(what.into()))
    }

    fn numbered(&self, uid: u32, _until: Instant) -> Result<Option<Account>, Miss> {
        let what = format!("the user database would be asked for the home of user {uid}");
        Err(Miss::NotAvailable(what.into()))
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
