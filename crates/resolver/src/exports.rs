//! What a server exports: its name is looked up, its addresses are asked, and the list travels to
//! the daemon as plain bytes, which are looked at again there.

use std::net::IpAddr;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError, mpsc};
use std::time::Instant;

use bstr::{BString, ByteSlice};
use piton_rpc::exports::{Collector, Exports, Origin};
use piton_rpc::{Error, NFS_PORT, limits as rpc};
use rustix::io::Errno;
use serde::{Deserialize, Serialize};

use crate::error::safe;
use crate::limits;
use crate::task::in_thread;
use crate::wire::Said;

/// [`Exports`] on their way.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
pub(crate) struct Listed {
    /// Nobody listed them: it is the root of NFSv4.
    pseudo: bool,
    lost: usize,
    faults: Vec<String>,
    /// Each path and each group ends with a zero byte, and each export with another.
    text: BString,
}

impl Listed {
    fn new(exports: Exports) -> Self {
        let mut text = BString::default();
        for export in exports.list {
            for field in [export.path].into_iter().chain(export.groups) {
                text.extend_from_slice(&field);
                text.push(0);
            }
            text.push(0);
        }
        Self {
            pseudo: exports.origin == Origin::PseudoRoot,
            lost: exports.lost,
            faults: exports.faults,
            text,
        }
    }

    /// The list again. Nothing that is said is believed that can be seen.
    pub(crate) fn exports(&self) -> Exports {
        let origin = if self.pseudo {
            Origin::PseudoRoot
        } else {
            Origin::Mountd
        };
        let mut collector = Collector::new(origin);
        let mut rest = self.text.as_bytes();
        while let Some(end) = rest.find_byteset(b"\0") {
            let path = &rest[..end];
            rest = &rest[end + 1..];
            let mut groups = Vec::new();
            while let Some(end) = rest.find_byteset(b"\0") {
                let group = &rest[..end];
                rest = &rest[end + 1..];
                if group.is_empty() {
                    break;
                }
                // One more than there may be, so that it is seen that there are too many.
                if groups.len() <= rpc::GROUPS {
                    groups.push(group);
                }
            }
            collector.line(path, groups);
        }
        let mut exports = collector.done();
        exports.lost = exports.lost.saturating_add(self.lost);
        let theirs = self.faults.iter().map(|fault| safe(fault, limits::FAULT));
        exports.faults.extend(theirs.take(rpc::FAULTS));
        exports.faults.truncate(rpc::FAULTS);
        exports
    }
}

/// Who may ask a server for its exports now. Clones are the same.
#[derive(Clone, Default)]
pub(crate) struct Turns(Arc<(Mutex<State>, Condvar)>);

#[derive(Default)]
struct State {
    asking: usize,
    waiting: usize,
}

/// A turn, until it is dropped.
struct Turn(Turns);

impl Turns {
    /// Waits for a turn; none when there is none by then, or too many wait.
    fn take(&self, until: Instant) -> Option<Turn> {
        let mut state = self.lock();
        if state.asking >= limits::EXPORTS {
            if state.waiting >= limits::EXPORTS_WAITING {
                return None;
            }
            state.waiting += 1;
            let left = until.saturating_duration_since(Instant::now());
            let all_busy = |state: &mut State| state.asking >= limits::EXPORTS;
            let waited = self.0.1.wait_timeout_while(state, left, all_busy);
            state = waited.unwrap_or_else(PoisonError::into_inner).0;
            state.waiting -= 1;
            if state.asking >= limits::EXPORTS {
                return None;
            }
        }
        state.asking += 1;
        Some(Turn(self.clone()))
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.0.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Turn {
    fn drop(&mut self) {
        self.0.lock().asking -= 1;
        self.0.0.1.notify_one();
    }
}

/// Asks a server at these addresses for its exports. Blocks.
pub(crate) fn ask(addresses: &[IpAddr], turns: &Turns, until: Instant) -> Said {
    if addresses.is_empty() {
        return Said::failed(Errno::NOENT, "nobody knows a host of that name");
    }
    let Some(turn) = turns.take(until) else {
        return Said::failed(Errno::AGAIN, "too many servers are being asked for exports");
    };
    let said = match race(addresses, until) {
        Ok(exports) => Said::Exports(Listed::new(exports)),
        Err((address, error)) => Said::failed(
            error.errno(),
            format!("asking {address} for its exports: {error}"),
        ),
    };
    drop(turn);
    said
}

/// The first list that is had from any address: the next is asked when one has failed, or has said
/// nothing for a moment. If none has one: why the first has not.
fn race(addresses: &[IpAddr], until: Instant) -> Result<Exports, (IpAddr, Error)> {
    let (tell, heard) = mpsc::channel();
    let mut next = addresses.iter().take(limits::EXPORT_ADDRESSES).copied();
    let mut open = 0;
    let mut failed: Option<(IpAddr, Error)> = None;
    loop {
        let mut wait = until;
        if let Some(address) = next.next() {
            open += 1;
            wait = until.min(Instant::now() + limits::EXPORT_STAGGER);
            let told = tell.clone();
            // They end by then by themselves, whether anybody still listens or not.
            let begun = in_thread(move || {
                let answer = piton_rpc::exports::of((address, NFS_PORT).into(), until);
                let _ = told.send((address, answer));
            });
            if let Err(errno) = begun {
                let _ = tell.send((address, Err(errno.into())));
            }
        } else if open == 0 {
            return Err(failed.unwrap_or((addresses[0], Error::Late)));
        }
        let left = wait.saturating_duration_since(Instant::now());
        match heard.recv_timeout(left) {
            Ok((_, Ok(exports))) => return Ok(exports),
            Ok((address, Err(error))) => {
                open -= 1;
                if failed
                    .is_none_or(|(first, _)| place(addresses, address) < place(addresses, first))
                {
                    failed = Some((address, error));
                }
            }
            Err(_) if Instant::now() >= until => {
                return Err(failed.unwrap_or((addresses[0], Error::Late)));
            }
            Err(_) => {}
        }
    }
}

fn place(addresses: &[IpAddr], one: IpAddr) -> Option<usize> {
    addresses.iter().position(|address| *address == one)
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn a_list_is_the_same_on_the_other_side() {
        let mut collector = Collector::new(Origin::Mountd);
        collector.line(b"/a", [&b"one"[..], b"two"]);
        collector.line(b"/", []);
        collector.line(b"/b \xff", [&b"three"[..]]);
        collector.line(b"/../c", []);
        let exports = collector.done();
        assert_eq!(Listed::new(exports.clone()).exports(), exports);
        let mut collector = Collector::new(Origin::PseudoRoot);
        collector.line(b"/", []);
        let exports = collector.done();
        assert_eq!(Listed::new(exports.clone()).exports(), exports);
    }

    #[test]
    fn what_a_resolver_says_is_looked_at_again() {
        let listed = Listed {
            pseudo: false,
            lost: usize::MAX,
            faults: vec!["\x1b".repeat(limits::FAULT); rpc::FAULTS + 1],
            text: b"/../etc\0\0/a\0g\0\0relative\0\0/a\0\0/cut".into(),
        };
        let exports = listed.exports();
        assert_eq!(exports.list.len(), 1);
        assert_eq!(exports.list[0].path, "/a");
        assert_eq!(exports.lost, usize::MAX);
        assert_eq!(exports.faults.len(), rpc::FAULTS);
        let bounded = |fault: &String| fault.len() <= limits::FAULT && !fault.contains('\x1b');
        assert!(exports.faults.iter().all(bounded));
    }

    #[test]
    fn so_many_ask_so_many_wait_and_the_next_is_told() {
        let turns = Turns::default();
        let soon = || Instant::now() + Duration::from_millis(20);
        let mut asking: Vec<_> = (0..limits::EXPORTS).map(|_| turns.take(soon())).collect();
        assert!(asking.iter().all(Option::is_some));
        assert!(turns.take(soon()).is_none(), "one more, and nobody ends");
        turns.lock().waiting = limits::EXPORTS_WAITING;
        let begun = Instant::now();
        let late = begun + Duration::from_secs(60);
        assert!(turns.take(late).is_none(), "one more than may wait");
        turns.lock().waiting = limits::EXPORTS_WAITING - 1;
        let others = turns.clone();
        let waiting = std::thread::spawn(move || others.take(late).is_some());
        piton_testkit::wait_until("it waits", Duration::from_secs(20), || {
            turns.lock().waiting == limits::EXPORTS_WAITING
        });
        asking.pop();
        assert!(waiting.join().unwrap(), "somebody has ended");
        assert!(begun.elapsed() < Duration::from_secs(30));
    }
}
