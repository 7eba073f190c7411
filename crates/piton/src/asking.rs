//! Questions to the network, asked through the resolver process: for the daemon and for `explain`.

use std::sync::mpsc;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use bstr::{BString, ByteSlice};
use piton_plan::facts::{HostAnswer, HostAnswers};
use piton_resolver::Resolver;

/// Names that are looked up at the same time for one question; each keeps a thread for as long as
/// the name services take.
const AT_ONCE: usize = 16;

/// How long names are waited for when the first of several has an address: name services take
/// milliseconds, unless they don't answer.
const NAMES_GRACE: Duration = Duration::from_secs(1);

/// The addresses of servers, by name. Blocks until `until` at the longest.
///
/// A name that nobody knows has none. One of which nobody told in time is not there when others
/// are; alone it has none, so that the access ends with a word about it.
pub(crate) fn addresses(resolver: &Resolver, hosts: &[BString], until: Instant) -> HostAnswers {
    if let [host] = hosts {
        let addresses = resolver.addresses(host.as_bstr(), until);
        let addresses = addresses.unwrap_or_else(|error| {
            tracing::warn!("{error}");
            Vec::new()
        });
        return HostAnswers::from([(host.clone(), HostAnswer { addresses })]);
    }
    let (tell, told) = mpsc::channel();
    let queue = Arc::new(Mutex::new(hosts.to_vec()));
    for _ in 0..hosts.len().min(AT_ONCE) {
        let (resolver, queue, tell) = (resolver.clone(), queue.clone(), tell.clone());
        let look_up = move || {
            while Instant::now() < until {
                let next = queue.lock().unwrap_or_else(PoisonError::into_inner).pop();
                let Some(host) = next else { return };
                let found = resolver.addresses(host.as_bstr(), until);
                // Nobody may wait any longer.
                if tell.send((host, found)).is_err() {
                    return;
                }
            }
        };
        // Without a thread the others do it; without any, nobody tells.
        let _ = std::thread::Builder::new()
            .name("names".into())
            .spawn(look_up);
    }
    drop(tell);
    let mut answers = HostAnswers::new();
    let mut until = until;
    while let Ok((host, found)) = told.recv_timeout(until.saturating_duration_since(Instant::now()))
    {
        match found {
            Ok(addresses) => {
                if !addresses.is_empty() {
                    until = until.min(Instant::now() + NAMES_GRACE);
                }
                answers.insert(host, HostAnswer { addresses });
            }
            Err(error) => tracing::warn!("{error}"),
        }
    }
    if answers.is_empty() {
        return hosts
            .iter()
            .map(|host| (host.clone(), HostAnswer::default()))
            .collect();
    }
    answers
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_their_own_and_what_cannot_be_asked_has_none() {
        let resolver = Resolver::new(vec!["/no/such/program".into()]);
        let until = Instant::now() + Duration::from_secs(5);
        let of = |hosts: &[&str]| {
            let hosts: Vec<BString> = hosts.iter().map(|host| BString::from(*host)).collect();
            let answers = addresses(&resolver, &hosts, until);
            let each = answers.into_iter();
            each.map(|(host, answer)| format!("{host} {:?}", answer.addresses))
                .collect::<Vec<_>>()
        };
        assert_eq!(of(&["192.0.2.1"]), ["192.0.2.1 [192.0.2.1]"]);
        assert_eq!(of(&["srv"]), ["srv []"]);
        let many: Vec<String> = (1..40).map(|last| format!("192.0.2.{last}")).collect();
        let many: Vec<&str> = many.iter().map(String::as_str).collect();
        assert_eq!(of(&many).len(), many.len());
        assert_eq!(of(&["srv", "::1"]), ["::1 [::1]"]);
        assert_eq!(of(&["srv", "other"]), ["other []", "srv []"]);
    }
}
