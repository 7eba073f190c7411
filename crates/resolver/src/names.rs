//! What the C library looks up, whatever nsswitch.conf says: names of hosts become addresses, and
//! users have homes. Each look-up is done in a thread.

use std::collections::BTreeMap;
use std::net::{IpAddr, ToSocketAddrs};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use rustix::io::Errno;

use crate::limits;
use crate::task::Tell;
use crate::wire::{Said, Who};
use bstr::BString;
use std::os::unix::ffi::OsStrExt;
use uzers::os::unix::UserExt;

/// What is looked up.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum What {
    /// Addresses of a host.
    Host(String),
    /// A user.
    User(Who),
}

/// The look-ups that are under way. Clones are the same.
#[derive(Clone, Default)]
pub(crate) struct Names(Arc<Mutex<State>>);

#[derive(Default)]
struct State {
    next: u64,
    /// By what is looked up, and by number.
    lookups: BTreeMap<(What, u64), Lookup>,
}

struct Lookup {
    since: Instant,
    /// When the last who waits gives up.
    until: Instant,
    waiting: Vec<Tell>,
}

/// Nearly all threads are stuck in look-ups that nobody waits for any more: the process can only
/// get rid of them by ending.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Stuck;

impl Names {
    /// Looks something up in a thread, or waits for one that has just begun to.
    pub(crate) fn ask(&self, what: &What, until: Instant, tell: Tell) -> Result<(), Stuck> {
        let now = Instant::now();
        let mut state = self.lock();
        let all = || (what.clone(), 0)..=(what.clone(), u64::MAX);
        let same = state.lookups.range(all()).count();
        if let Some((_, newest)) = state.lookups.range_mut(all()).next_back()
            && (same >= limits::LOOKUPS_OF_A_NAME
                || now.duration_since(newest.since) < limits::SAME_LOOKUP)
        {
            newest.until = newest.until.max(until);
            newest.waiting.push(tell);
            return Ok(());
        }
        if state.lookups.len() >= limits::LOOKUPS {
            let given_up = state.lookups.values().filter(|it| it.until <= now).count();
            drop(state);
            if given_up > limits::LOOKUPS / 2 {
                return Err(Stuck);
            }
            tell.say(Said::failed(
                Errno::AGAIN,
                "too many names are being looked up already",
            ));
            return Ok(());
        }
        let number = state.next;
        state.next += 1;
        let key = (what.clone(), number);
        let lookup = Lookup {
            since: now,
            until,
            waiting: vec![tell],
        };
        state.lookups.insert(key.clone(), lookup);
        drop(state);
        let names = self.clone();
        let thread = std::thread::Builder::new().name("look-up".into());
        let begun = key.clone();
        let started = thread
            .stack_size(limits::LOOKUP_STACK)
            .spawn(move || names.answer(&begun, &look_up(&begun.0)));
        if let Err(error) = started {
            let errno = Errno::from_io_error(&error).unwrap_or(Errno::AGAIN);
            let why = format!("no thread can be started to look it up: {error}");
            self.answer(&key, &Said::failed(errno, why));
        }
        Ok(())
    }

    fn answer(&self, key: &(What, u64), said: &Said) {
        let lookup = self.lock().lookups.remove(key);
        for tell in lookup.into_iter().flat_map(|lookup| lookup.waiting) {
            tell.say(said.clone());
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Asks the C library. Blocks for as long as that does: half a minute if name servers are silent.
fn look_up(what: &What) -> Said {
    match what {
        What::Host(name) => host(name),
        What::User(who) => Said::User(user(who)),
    }
}

/// A user's name and home. The library does not say why there is no answer.
fn user(who: &Who) -> Option<(BString, BString)> {
    let user = match who {
        Who::Named(name) => uzers::get_user_by_name(name),
        Who::Numbered(uid) => uzers::get_user_by_uid(*uid),
    }?;
    let (name, home) = (user.name().as_bytes(), user.home_dir().as_os_str());
    let home = home.as_bytes();
    let short = name.len() <= limits::USER && home.len() <= limits::USER;
    short.then(|| (name.into(), home.into()))
}

fn host(name: &str) -> Said {
    match (name, 0).to_socket_addrs() {
        Ok(found) => {
            let mut addresses: Vec<IpAddr> = Vec::new();
            for address in found.map(|found| found.ip()) {
                if !addresses.contains(&address) && addresses.len() < limits::ADDRESSES {
                    addresses.push(address);
                }
            }
            Said::Addresses(addresses)
        }
        Err(error) if is_temporary(&error) => {
            let errno = Errno::from_io_error(&error).unwrap_or(Errno::AGAIN);
            Said::failed(errno, format!("its name could not be looked up: {error}"))
        }
        // Nobody knows it.
        Err(_) => Said::Addresses(Vec::new()),
    }
}

/// EAI_AGAIN, or the errno of a failed call. The standard library has only the text of
/// getaddrinfo's errors.
fn is_temporary(error: &std::io::Error) -> bool {
    error.raw_os_error().is_some() || error.to_string().contains("Temporary failure")
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc;
    use std::time::Duration;

    use super::*;

    fn soon() -> Instant {
        Instant::now() + Duration::from_secs(60)
    }

    /// Look-ups that will never be answered, of names that nobody asks for.
    fn stuck(names: &Names, count: usize, until: Instant) {
        let mut state = names.lock();
        for number in 0..count {
            let lookup = Lookup {
                since: until.checked_sub(Duration::from_secs(1)).unwrap(),
                until,
                waiting: Vec::new(),
            };
            let number = u64::try_from(number).unwrap() + 1000;
            state.lookups.insert((host("stuck"), number), lookup);
        }
    }

    fn host(name: &str) -> What {
        What::Host(name.into())
    }

    fn ask(names: &Names, name: &str) -> Result<Option<Said>, Stuck> {
        ask_for(names, &host(name))
    }

    fn ask_for(names: &Names, what: &What) -> Result<Option<Said>, Stuck> {
        let (send, receive) = mpsc::channel();
        names.ask(what, soon(), Tell::new(move |said| drop(send.send(said))))?;
        Ok(receive.recv_timeout(Duration::from_secs(20)).ok())
    }

    #[test]
    fn numbers_are_their_own_addresses() {
        let names = Names::default();
        let is = |text: &str| Said::Addresses(vec![text.parse().unwrap()]);
        assert_eq!(ask(&names, "127.0.0.1").unwrap(), Some(is("127.0.0.1")));
        assert_eq!(ask(&names, "::1").unwrap(), Some(is("::1")));
        assert!(names.lock().lookups.is_empty());
    }

    #[test]
    fn users_have_names_and_homes() {
        let names = Names::default();
        let ask = |who| ask_for(&names, &What::User(who)).unwrap();
        let root = Some(Said::User(Some(("root".into(), "/root".into()))));
        assert_eq!(ask(Who::Named("root".into())), root);
        assert_eq!(ask(Who::Numbered(0)), root);
        assert_eq!(
            ask(Who::Named("no-such-user".into())),
            Some(Said::User(None))
        );
        assert_eq!(ask(Who::Named("a\0b".into())), Some(Said::User(None)));
    }

    #[test]
    fn stuck_look_ups_leave_room_for_others_up_to_the_limit() {
        let names = Names::default();
        stuck(&names, limits::LOOKUPS - 1, soon());
        assert!(matches!(
            ask(&names, "127.0.0.1"),
            Ok(Some(Said::Addresses(_)))
        ));
        stuck(&names, limits::LOOKUPS, soon());
        let Ok(Some(Said::Failed(errno, _))) = ask(&names, "127.0.0.1") else {
            panic!("one more than there may be")
        };
        assert_eq!(errno, Errno::AGAIN.raw_os_error());
    }

    #[test]
    fn when_nobody_waits_for_most_of_them_the_process_should_end() {
        let names = Names::default();
        stuck(&names, limits::LOOKUPS, Instant::now());
        assert_eq!(ask(&names, "127.0.0.1"), Err(Stuck));
    }

    #[test]
    fn a_name_that_is_just_being_looked_up_is_asked_for_once() {
        let names = Names::default();
        let (send, receive) = mpsc::channel();
        let lookup = Lookup {
            since: Instant::now() + Duration::from_secs(60),
            until: Instant::now(),
            waiting: Vec::new(),
        };
        let key = (host("name"), 0);
        names.lock().lookups.insert(key.clone(), lookup);
        let tell = Tell::new(move |said| drop(send.send(said)));
        names.ask(&host("name"), soon(), tell).unwrap();
        assert_eq!(names.lock().lookups.len(), 1);
        names.answer(&key, &Said::Addresses(Vec::new()));
        assert_eq!(receive.recv(), Ok(Said::Addresses(Vec::new())));
    }

    #[test]
    fn a_stuck_look_up_of_a_name_is_not_the_only_one() {
        let names = Names::default();
        stuck(&names, limits::LOOKUPS_OF_A_NAME - 1, soon());
        for _ in 0..2 {
            for lookup in names.lock().lookups.values_mut() {
                lookup.since = Instant::now().checked_sub(limits::SAME_LOOKUP).unwrap();
            }
            names.ask(&host("stuck"), soon(), Tell::new(drop)).unwrap();
        }
        // The first began another look-up, which may be over; the second joined one if it is not.
        assert!(names.lock().lookups.len() <= limits::LOOKUPS_OF_A_NAME);
    }
}
