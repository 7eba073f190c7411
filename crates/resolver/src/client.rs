//! The daemon's side: questions with a time each, whatever becomes of the process.

use std::ffi::OsString;
use std::io;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use bstr::{BStr, BString, ByteSlice};
use piton_plan::probe::{Answer, Target};
use piton_rpc::exports::Exports;
use rustix::io::Errno;

use crate::error::Error;
use crate::limits;
use crate::process::{Process, Unanswered};
use crate::wire::{Ask, Said, Who};

/// A way to ask the network, through an unprivileged process. Clones ask the same process.
///
/// All questions block until they are answered, but not longer than they are given; many threads
/// may ask at once.
#[derive(Clone, Debug)]
pub struct Resolver(Arc<Inner>);

/// A user of the user database.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct User {
    /// The name.
    pub name: BString,
    /// The home directory.
    pub home: BString,
}

#[derive(Debug)]
struct Inner {
    /// What is run, with its arguments; its standard input is the socket for [`serve`].
    ///
    /// [`serve`]: crate::serve
    command: Vec<OsString>,
    process: Mutex<Option<Arc<Process>>>,
}

impl Drop for Inner {
    fn drop(&mut self) {
        if let Some(process) = self.process() {
            process.end();
        }
    }
}

impl Resolver {
    /// Starts nothing yet; `command` will be run when something is asked, with the socket as
    /// standard input, in the process group of the caller.
    pub fn new(command: Vec<OsString>) -> Self {
        Self(Arc::new(Inner {
            command,
            process: Mutex::default(),
        }))
    }

    /// The addresses of a server, in the order of the system's resolver; none if nobody knows the
    /// name. An address, with or without brackets, is its own.
    ///
    /// # Errors
    /// The name could not be asked for: no name server answered (`EAGAIN`), not in time
    /// (`ETIMEDOUT`), or there is no process that could ask.
    pub fn addresses(&self, name: &BStr, until: Instant) -> Result<Vec<IpAddr>, Error> {
        // A host's name is ASCII; anything else is a name that nobody knows.
        let Ok(text) = name.to_str() else {
            return Ok(Vec::new());
        };
        let bare = text
            .strip_prefix('[')
            .and_then(|rest| rest.strip_suffix(']'))
            .unwrap_or(text);
        if bare.is_empty() || bare.len() > limits::NAME || bare.contains('\0') {
            return Ok(Vec::new());
        }
        if let Ok(address) = bare.parse() {
            return Ok(vec![address]);
        }
        match self.ask(name, &Ask::Addresses(bare.into()), until)? {
            Said::Addresses(mut addresses) => {
                addresses.truncate(limits::ADDRESSES);
                Ok(addresses)
            }
            other => Err(unexpected(name, other)),
        }
    }

    /// Asks all targets at once whether they serve; an answer for each, in their order. Ends when
    /// the best that is possible has answered (a target of the smallest rank among those that do
    /// not refuse) and others of that rank would not count as fast any more, or `grace` after the first has, or at `until`. IPv4 addresses are asked a moment
    /// later where there are IPv6 addresses of the same rank.
    ///
    /// When nobody could be asked, nobody was heard ([`Answer::Unheard`]).
    pub fn probe(&self, targets: &[Target], grace: Duration, until: Instant) -> Vec<Answer> {
        let grace = u64::try_from(grace.as_millis()).unwrap_or(u64::MAX);
        self.probe_for(targets, Some(grace), until)
    }

    /// Asks all targets at once, and waits for every answer until then.
    pub fn probe_all(&self, targets: &[Target], until: Instant) -> Vec<Answer> {
        self.probe_for(targets, None, until)
    }

    fn probe_for(&self, targets: &[Target], grace: Option<u64>, until: Instant) -> Vec<Answer> {
        let mut answers = vec![Answer::Unheard; targets.len()];
        let asked = &targets[..targets.len().min(limits::TARGETS)];
        let ask = Ask::Probe(asked.to_vec(), grace);
        if !asked.is_empty()
            && let Ok(Said::Probed(said)) = self.ask("servers".into(), &ask, until)
        {
            for (answer, said) in answers.iter_mut().zip(said).take(asked.len()) {
                *answer = believed(said);
            }
        }
        answers
    }

    /// What the server of that name exports, or the server at that address: all its addresses are
    /// asked, one soon after the other, and the first list counts. Bad lines are left out, counted
    /// and told ([`Exports::lost`]).
    ///
    /// # Errors
    /// Nobody knows the name (`ENOENT`), there is nobody who could be asked, or not in time; what
    /// the first address said, if there is one.
    pub fn exports(&self, server: &BStr, until: Instant) -> Result<Exports, Error> {
        let bare = server
            .strip_prefix(b"[")
            .and_then(|rest| rest.strip_suffix(b"]"))
            .unwrap_or(server);
        if !(1..=limits::NAME).contains(&bare.len()) || bare.contains(&0) {
            return Err(Error::new(
                server,
                Errno::NOENT,
                "that is no name of a host",
            ));
        }
        match self.ask(server, &Ask::Exports(bare.into()), until)? {
            Said::Exports(listed) => Ok(listed.exports()),
            other => Err(unexpected(server, other)),
        }
    }

    /// Name and home of the user of that name, as the user database has them; nothing if it has
    /// no such user, or cannot be asked: it does not say which.
    ///
    /// # Errors
    /// Not in time (`ETIMEDOUT`), or there is no process that could ask.
    pub fn user_named(&self, name: &BStr, until: Instant) -> Result<Option<User>, Error> {
        match name.to_str() {
            Ok(text) if text.len() <= limits::USER => {
                self.user(name, Who::Named(text.into()), until)
            }
            _ => Ok(None),
        }
    }

    /// The same of the user with that number.
    ///
    /// # Errors
    /// As [`Resolver::user_named`].
    pub fn user_numbered(&self, uid: u32, until: Instant) -> Result<Option<User>, Error> {
        let about = format!("user {uid}");
        self.user(about.as_bytes().as_bstr(), Who::Numbered(uid), until)
    }

    fn user(&self, about: &BStr, who: Who, until: Instant) -> Result<Option<User>, Error> {
        match self.ask(about, &Ask::User(who), until)? {
            Said::User(said) => Ok(said.map(|(name, home)| User { name, home })),
            other => Err(unexpected(about, other)),
        }
    }

    fn ask(&self, about: &BStr, ask: &Ask, until: Instant) -> Result<Said, Error> {
        for _ in 0..limits::ATTEMPTS {
            let process = self.0.running().map_err(|error| {
                let errno = Errno::from_io_error(&error).unwrap_or(Errno::IO);
                let why = format!("the resolver process cannot be started: {error}");
                Error::new(about, errno, why)
            })?;
            match process.ask(ask.clone(), until) {
                Ok(said) => return Ok(said),
                // Somebody has to ask again: it died, or had to begin afresh.
                Err(Unanswered::Gone) => {}
                Err(Unanswered::Late) => return Err(Error::late(about, "asking the network")),
                Err(Unanswered::Full) => {
                    let why = "too much is being asked of the network already";
                    return Err(Error::new(about, Errno::AGAIN, why));
                }
            }
        }
        let why = "the resolver process ended before it answered, each time it was asked";
        Err(Error::new(about, Errno::AGAIN, why))
    }
}

impl Inner {
    /// The process that runs.
    fn process(&self) -> Option<Arc<Process>> {
        let process = self.process.lock().unwrap_or_else(PoisonError::into_inner);
        process.clone()
    }

    /// A process that can be asked: the one there is, or another.
    fn running(&self) -> io::Result<Arc<Process>> {
        let mut slot = self.process.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(process) = slot.as_ref().filter(|process| process.is_well()) {
            return Ok(process.clone());
        }
        let process = Process::start(&self.command)?;
        *slot = Some(process.clone());
        Ok(process)
    }
}

/// An answer as it may be: only errors of the system are numbers below this.
fn believed(answer: Answer) -> Answer {
    match answer {
        Answer::Refused { errno, micros } if !(1..4096).contains(&errno) => Answer::Refused {
            errno: Errno::IO.raw_os_error(),
            micros,
        },
        other => other,
    }
}

/// What is no answer to what was asked; or a failure, which is one to everything.
fn unexpected(about: &BStr, said: Said) -> Error {
    match said {
        Said::Failed(errno, why) => {
            let errno = Some(errno).filter(|errno| (1..4096).contains(errno));
            Error::new(
                about,
                errno.map_or(Errno::IO, Errno::from_raw_os_error),
                why,
            )
        }
        _ => Error::new(
            about,
            Errno::IO,
            "the resolver process answered something else",
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A resolver that runs this script, whose standard input and output are the connection.
    fn script(text: &str) -> Resolver {
        let words = ["/bin/sh", "-c", text];
        Resolver::new(words.map(OsString::from).to_vec())
    }

    fn ask(resolver: &Resolver, milliseconds: u64) -> Error {
        let until = Instant::now() + Duration::from_millis(milliseconds);
        resolver.addresses("name".into(), until).unwrap_err()
    }

    #[test]
    fn what_needs_no_network_needs_no_process() {
        let resolver = Resolver::new(Vec::new());
        let of = |name: &[u8]| resolver.addresses(name.into(), Instant::now());
        assert_eq!(of(b"192.0.2.1"), Ok(vec![[192, 0, 2, 1].into()]));
        assert_eq!(of(b"[::1]"), Ok(vec!["::1".parse().unwrap()]));
        for name in [&b""[..], b"[]", b"\xff", b"a\0b"] {
            assert_eq!(of(name), Ok(Vec::new()), "{name:?}");
        }
        let longest = vec![b'x'; limits::NAME];
        assert!(of(&longest).is_err(), "somebody would have to be asked");
        assert_eq!(of(&[&longest[..], b"x"].concat()), Ok(Vec::new()));
    }

    #[test]
    fn a_program_that_is_not_there_is_an_error() {
        let resolver = Resolver::new(vec!["/no/such/program".into()]);
        let error = ask(&resolver, 1000);
        assert_eq!(error.errno(), Errno::NOENT.raw_os_error());
        assert!(error.why().contains("cannot be started"), "{error}");
    }

    #[test]
    fn a_process_that_ends_at_once_is_tried_a_few_times() {
        let error = ask(&script("exit 1"), 10_000);
        assert_eq!(error.errno(), Errno::AGAIN.raw_os_error());
        assert!(error.why().contains("ended"), "{error}");
    }

    #[test]
    fn a_process_that_talks_rubbish_is_ended() {
        for rubbish in ["echo rubbish >&0", "printf '\\0\\0\\0\\2xy' >&0; sleep 60"] {
            let error = ask(&script(rubbish), 10_000);
            assert!(error.why().contains("ended"), "{rubbish}: {error}");
        }
    }

    #[test]
    fn a_process_that_says_nothing_is_replaced() {
        let resolver = script("exec sleep 60");
        let error = ask(&resolver, 20);
        assert_eq!(error.errno(), Errno::TIMEDOUT.raw_os_error());
        let first = resolver.0.process().unwrap();
        assert!(first.is_well());
        piton_testkit::wait_until("it is silent", Duration::from_secs(20), || !first.is_well());
        ask(&resolver, 20);
        let second = resolver.0.process().unwrap();
        assert!(!Arc::ptr_eq(&first, &second));
    }
}
