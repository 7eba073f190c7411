//! Servers that die and return: the background questions, and what the log says of a death.

use std::net::Ipv4Addr;
use std::time::{Duration, Instant};

use bstr::{BString, ByteSlice};
use piton_engine::Event;
use piton_mount::{Lane, holders};
use piton_plan::probe::{Answer, Service, Target};
use piton_resolver::Resolver;

use super::limits::{DEATH_MOUNTS, DEATH_TIME};
use super::messages::Message;
use super::pool::Turn;
use super::runtime::Runtime;

impl Runtime {
    /// Has a server asked whether it lives. It is answered in any case.
    pub(super) fn check(
        &self,
        server: BString,
        targets: Vec<Target>,
        service: Service,
        deadline_ms: u64,
    ) {
        let until = Instant::now() + Duration::from_millis(deadline_ms);
        let (resolver, mailbox) = (self.worker.resolver.clone(), self.mailbox.clone());
        self.pools.slow.submit_in(Lane::Checks, until, move |turn| {
            let answers = match turn {
                Turn::Begin(_hold) => ask(&resolver, &server, targets, service, until),
                Turn::TooLate => vec![(nobody(service), Answer::Unheard)],
            };
            mailbox.post(Message::Event(Event::Checked { server, answers }));
        });
    }

    /// Says that a server has died, and who uses what is mounted from it. Nothing of it is touched.
    pub(super) fn mourn(&self, server: BString, why: String, mounts: Vec<BString>) {
        if mounts.is_empty() {
            return tracing::warn!(%server, "server is taken for dead: {why}");
        }
        let staging = self.worker.staging.clone();
        self.pools.slow.submit(move || {
            let until = Instant::now() + DEATH_TIME;
            let (mut users, mut cut) = (Vec::new(), false);
            for mount in mounts.iter().take(DEATH_MOUNTS) {
                let limit = until.saturating_duration_since(Instant::now());
                let place = staging.place(mount.as_bstr());
                let found = holders::holders(place.as_bstr(), limit.max(Duration::from_millis(10)));
                let found = found.unwrap_or_default();
                cut |= found.cut || found.more;
                users.extend(found.found.into_iter().filter_map(|it| it.process));
            }
            users.sort_by_key(|user| user.pid);
            users.dedup_by_key(|user| user.pid);
            let mut users: Vec<String> = users
                .iter()
                .map(|user| format!("{} ({})", user.pid, user.name))
                .collect();
            if cut {
                users.push("perhaps others".into());
            }
            let listed: Vec<String> = mounts
                .iter()
                .take(DEATH_MOUNTS)
                .map(ToString::to_string)
                .collect();
            tracing::warn!(
                %server,
                mounts = mounts.len(),
                "server is taken for dead: {why}; mounted from it: {}{}; used by {}",
                listed.join(", "),
                if mounts.len() > listed.len() { ", …" } else { "" },
                if users.is_empty() { "nobody".into() } else { users.join(", ") },
            );
        });
    }
}

/// Asks a server: these addresses, or those that its name has.
fn ask(
    resolver: &Resolver,
    server: &BString,
    mut targets: Vec<Target>,
    service: Service,
    until: Instant,
) -> Vec<(Target, Answer)> {
    if targets.is_empty() {
        match resolver.addresses(server.as_bstr(), until) {
            Ok(addresses) => targets.extend(addresses.into_iter().map(|address| Target {
                address,
                ..nobody(service)
            })),
            // Nobody knows whether the name has an address: nothing is known of the server.
            Err(_) => return vec![(nobody(service), Answer::Unheard)],
        }
    }
    let answers = resolver.probe(&targets, Duration::ZERO, until);
    targets.into_iter().zip(answers).collect()
}

/// Stands for addresses that are not known.
fn nobody(service: Service) -> Target {
    Target {
        address: Ipv4Addr::UNSPECIFIED.into(),
        scope: 0,
        service,
        rank: 0,
    }
}
