//! Requests that wait for the owner.

use std::collections::{BTreeSet, HashMap};

use piton_loopback::Access;

use crate::limits;

/// All requests that wait, by their numbers, which the kernel does not use twice.
#[derive(Debug, Default)]
pub(crate) struct Parked {
    waiting: HashMap<u64, Access>,
    /// Those whose process has got a signal.
    interrupted: BTreeSet<u64>,
    /// Which of those is looked at next.
    next: u64,
}

/// There is no room.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Full;

impl Parked {
    /// Has a request wait.
    pub(crate) fn park(&mut self, unique: u64, access: Access) -> Result<(), Full> {
        if self.waiting.len() >= limits::PARKED {
            return Err(Full);
        }
        self.waiting.insert(unique, access);
        Ok(())
    }

    /// A request is answered: what it was about. Nothing if it does not wait any more.
    pub(crate) fn answered(&mut self, unique: u64) -> Option<Access> {
        self.interrupted.remove(&unique);
        self.waiting.remove(&unique)
    }

    /// Whoever waits for this has got a signal: whether `given_up` says that he waits no more. Then
    /// it is taken out.
    pub(crate) fn interrupt(&mut self, unique: u64, given_up: impl Fn(u32) -> bool) -> bool {
        let Some(access) = self.waiting.get(&unique) else {
            return false;
        };
        let gone = given_up(access.caller.pid);
        match gone {
            true => drop(self.answered(unique)),
            false => drop(self.interrupted.insert(unique)),
        }
        gone
    }

    /// Whether somebody who waits has got a signal.
    pub(crate) fn has_interrupted(&self) -> bool {
        !self.interrupted.is_empty()
    }

    /// Looks at some of those who have got a signal, next time at others: of whom `given_up` says
    /// that they wait no more. They are taken out.
    pub(crate) fn given_up(&mut self, given_up: impl Fn(u32) -> bool) -> Vec<u64> {
        let later = self.interrupted.range(self.next..);
        let earlier = self.interrupted.range(..self.next);
        let some: Vec<u64> = later
            .chain(earlier)
            .copied()
            .take(limits::LOOKED_AT)
            .collect();
        self.next = some.last().map_or(0, |last| last.wrapping_add(1));
        some.into_iter()
            .filter(|unique| self.interrupt(*unique, &given_up))
            .collect()
    }

    /// How many wait.
    pub(crate) fn len(&self) -> usize {
        self.waiting.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use piton_loopback::{Caller, Purpose, RootId};

    fn access(pid: u32) -> Access {
        Access {
            root: RootId(1),
            name: "ann".into(),
            purpose: Purpose::LookUp,
            caller: Caller {
                pid,
                ..Caller::NOBODY
            },
        }
    }

    #[test]
    fn so_many_wait_and_not_one_more() {
        let mut parked = Parked::default();
        for unique in 0..limits::PARKED {
            assert_eq!(parked.park(unique as u64, access(1)), Ok(()));
        }
        assert_eq!(parked.park(u64::MAX, access(1)), Err(Full));
        assert_eq!(parked.answered(7), Some(access(1)));
        assert_eq!(parked.answered(7), None);
        assert_eq!(parked.park(u64::MAX, access(1)), Ok(()));
    }

    #[test]
    fn who_has_got_a_signal_waits_on_until_he_gives_up() {
        let mut parked = Parked::default();
        parked.park(1, access(10)).unwrap();
        parked.park(2, access(20)).unwrap();
        parked.park(3, access(30)).unwrap();
        assert!(parked.interrupt(3, |pid| pid == 30));
        for unique in [1, 2, 3] {
            assert!(!parked.interrupt(unique, |_| false));
        }
        assert!(parked.given_up(|_| false).is_empty());
        assert_eq!(parked.given_up(|pid| pid == 20), [2]);
        assert_eq!((parked.len(), parked.has_interrupted()), (1, true));
        parked.answered(1);
        assert!(!parked.has_interrupted());
    }

    #[test]
    fn all_who_have_got_a_signal_have_their_turn() {
        let mut parked = Parked::default();
        let all = 3 * limits::LOOKED_AT as u64 + 1;
        for unique in 0..all {
            parked.park(unique, access(10)).unwrap();
            parked.interrupt(unique, |_| false);
        }
        let looked = std::cell::Cell::new(0);
        let look = |_| {
            looked.set(looked.get() + 1);
            false
        };
        assert!(parked.given_up(look).is_empty());
        assert_eq!(looked.get(), limits::LOOKED_AT);
        let mut gone = Vec::new();
        while parked.has_interrupted() {
            gone.extend(parked.given_up(|_| true));
        }
        gone.sort_unstable();
        assert_eq!(gone, (0..all).collect::<Vec<_>>());
    }
}
