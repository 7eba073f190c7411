//! Requests that wait for the owner.

use std::collections::{HashMap, VecDeque};
use std::hash::{BuildHasher, RandomState};
use std::time::Instant;

use crate::duty::Purpose;
use crate::limits;
use crate::question::Question;

/// A connection by number; numbers are not used twice.
pub(crate) type ConnectionId = u64;

/// What a client sent, word for word: one that comes again is the same request, sent again.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
struct Same {
    xid: u32,
    /// A hash of the whole message, keyed anew in each life.
    message: u64,
}

/// A request that waits.
#[derive(Debug)]
struct Waiting {
    question: Question,
    same: Same,
    /// Who is to be answered; the last one asked last.
    connections: Vec<ConnectionId>,
}

/// All requests that wait, by number; numbers are not used twice.
#[derive(Debug, Default)]
pub(crate) struct Parked {
    waiting: HashMap<u64, Waiting>,
    numbers: HashMap<Same, u64>,
    /// Look-ups, with the time until which each may wait: the first one came first.
    look_ups: VecDeque<(Instant, u64)>,
    next: u64,
    hasher: RandomState,
}

/// What became of a request.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Place {
    /// It waits under this number, and the owner is to be asked.
    New(u64),
    /// It came again; the first one waits already.
    Again,
    /// There is no room.
    Full,
}

impl Parked {
    /// Has a request wait that came as `message`.
    pub(crate) fn park(
        &mut self,
        question: &Question,
        message: &[u8],
        from: ConnectionId,
        now: Instant,
    ) -> Place {
        let same = Same {
            xid: question.xid,
            message: self.hasher.hash_one(message),
        };
        let number = self.numbers.get(&same);
        if let Some(waiting) = number.and_then(|number| self.waiting.get_mut(number))
            && waiting.question == *question
        {
            waiting.connections.retain(|id| *id != from);
            if waiting.connections.len() >= limits::WAITERS {
                waiting.connections.remove(0);
            }
            waiting.connections.push(from);
            return Place::Again;
        }
        if self.waiting.len() >= limits::PARKED {
            return Place::Full;
        }
        let number = self.next;
        self.next += 1;
        self.numbers.insert(same, number);
        let waiting = Waiting {
            question: question.clone(),
            same,
            connections: vec![from],
        };
        self.waiting.insert(number, waiting);
        if question.access.purpose == Purpose::LookUp {
            self.look_ups.push_back((now + limits::LOOK_UP, number));
        }
        Place::New(number)
    }

    /// A request is answered: what it was, and who asked.
    pub(crate) fn answered(&mut self, number: u64) -> Option<(Question, Vec<ConnectionId>)> {
        let waiting = self.waiting.remove(&number)?;
        if self.numbers.get(&waiting.same) == Some(&number) {
            self.numbers.remove(&waiting.same);
        }
        Some((waiting.question, waiting.connections))
    }

    /// A look-up that has waited long enough.
    pub(crate) fn overdue(&mut self, now: Instant) -> Option<u64> {
        let (until, number) = *self.look_ups.front()?;
        (until <= now).then(|| {
            self.look_ups.pop_front();
            number
        })
    }

    /// When the next look-up will have waited long enough.
    pub(crate) fn next_overdue(&mut self) -> Option<Instant> {
        while let Some((until, number)) = self.look_ups.front() {
            if self.waiting.contains_key(number) {
                return Some(*until);
            }
            self.look_ups.pop_front();
        }
        None
    }

    /// How many wait.
    pub(crate) fn len(&self) -> usize {
        self.waiting.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::duty::{Access, Caller};
    use crate::handle::{Handle, Secret};
    use crate::tree::RootId;

    fn question(xid: u32, name: &str) -> Question {
        Question {
            xid,
            handle: Handle {
                root: Secret::new([0; 16]).root(b"/r"),
                name: None,
            },
            access: Access {
                root: RootId(1),
                name: name.into(),
                purpose: Purpose::LookUp,
                caller: Caller::NOBODY,
            },
        }
    }

    #[test]
    fn a_request_that_comes_again_waits_once_and_is_answered_where_it_came_from() {
        let mut parked = Parked::default();
        let ann = question(1, "ann");
        assert_eq!(
            parked.park(&ann, b"1 ann", 10, Instant::now()),
            Place::New(0)
        );
        assert_eq!(
            parked.park(&ann, b"1 ann", 10, Instant::now()),
            Place::Again
        );
        assert_eq!(
            parked.park(&ann, b"1 ann", 11, Instant::now()),
            Place::Again
        );
        // Another request of the same number is another request.
        let bob = question(1, "bob");
        assert_eq!(
            parked.park(&bob, b"1 bob", 10, Instant::now()),
            Place::New(1)
        );
        assert_eq!(parked.answered(0), Some((ann.clone(), vec![10, 11])));
        assert_eq!(parked.answered(0), None);
        // Answered, it is carried out again.
        assert_eq!(
            parked.park(&ann, b"1 ann", 10, Instant::now()),
            Place::New(2)
        );
        assert_eq!(parked.len(), 2);
    }

    #[test]
    fn the_last_connections_are_answered() {
        let mut parked = Parked::default();
        let ann = question(1, "ann");
        for connection in 0..10 {
            parked.park(&ann, b"ann", connection, Instant::now());
        }
        assert_eq!(parked.answered(0).unwrap().1, [6, 7, 8, 9]);
    }

    #[test]
    fn so_many_wait_and_not_one_more() {
        let mut parked = Parked::default();
        let most = u32::try_from(limits::PARKED).unwrap();
        for xid in 0..most {
            let place = parked.park(&question(xid, "x"), b"x", 0, Instant::now());
            assert_eq!(place, Place::New(xid.into()));
        }
        let more = question(most, "x");
        assert_eq!(parked.park(&more, b"x", 0, Instant::now()), Place::Full);
        assert_eq!(
            parked.park(&question(0, "x"), b"x", 0, Instant::now()),
            Place::Again
        );
        parked.answered(0).unwrap();
        assert!(matches!(
            parked.park(&more, b"x", 0, Instant::now()),
            Place::New(_)
        ));
    }

    #[test]
    fn a_look_up_waits_so_long_and_a_link_as_long_as_it_takes() {
        let (mut parked, now) = (Parked::default(), Instant::now());
        let mut follow = question(1, "ann");
        follow.access.purpose = Purpose::Follow;
        parked.park(&follow, b"1", 0, now);
        assert_eq!(parked.next_overdue(), None);
        parked.park(&question(2, "ann"), b"2", 0, now);
        parked.park(&question(3, "bob"), b"3", 0, now);
        let until = now + limits::LOOK_UP;
        assert_eq!(parked.next_overdue(), Some(until));
        assert_eq!(parked.overdue(now), None);
        // What was answered is nothing to wake up for.
        parked.answered(1).unwrap();
        parked.answered(2).unwrap();
        assert_eq!(parked.next_overdue(), None);
        parked.park(&question(4, "eve"), b"4", 0, now);
        assert_eq!(parked.overdue(until), Some(3));
        assert_eq!(parked.overdue(until), None);
    }
}
