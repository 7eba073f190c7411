//! Failed look-ups and mounts that are answered from memory for a while.
//!
//! How long depends on the cause: see [`crate::limits`] and docs/errno.md. What fails again and
//! again is tried at growing intervals; a success, a changed map or `flush` begins anew.

use alloc::collections::{BTreeMap, BTreeSet};
use alloc::vec::Vec;

use bstr::BString;
use piton_map::lookup::Miss;
use piton_plan::step::TriggerId;

use crate::cause::{Cause, Errno};
use crate::config::Settings;
use crate::limits::{
    BAD_ENTRY_MEMORY_MS, FAILURE_MEMORY_MS, MAP_MEMORY_MOST_MS, MOUNT_MEMORY_MOST_MS,
    NEGATIVE_ENTRIES, SERVER_MEMORY_MOST_MS,
};
use crate::place::Place;
use crate::time::Millis;

/// Why something is answered from memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// A program or a server has no such key.
    AbsentKey,
    /// The map's program failed.
    FailedProgram,
    /// A program or a server gave an entry that cannot be used.
    BadEntry,
    /// The map's program or server did not answer, or the map cannot be read.
    UnreachableMap,
    /// Mounting failed.
    FailedMount,
    /// The server does not answer, or nobody knows its address.
    UnreachableServer,
}

impl Kind {
    /// In words, for `status`.
    pub fn words(self) -> &'static str {
        match self {
            Self::AbsentKey => "absent key",
            Self::FailedProgram => "failed program",
            Self::BadEntry => "bad entry",
            Self::UnreachableMap => "unreachable map",
            Self::FailedMount => "failed mount",
            Self::UnreachableServer => "unreachable server",
        }
    }
}

/// For how long a failure is remembered: the first time, and at most when it fails again and
/// again. Both the same: always so long.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Memory {
    pub(crate) kind: Kind,
    first_ms: u64,
    most_ms: u64,
}

/// For how long `cause` is remembered; nothing: not at all. `costly`: asking the map again would
/// cost a program or a server again. `negative_timeout`: of the map, in seconds.
pub(crate) fn memory_of(
    cause: &Cause,
    costly: bool,
    negative_timeout: Option<u32>,
    settings: &Settings,
) -> Option<Memory> {
    let always = |kind, most_ms| Memory {
        kind,
        first_ms: most_ms,
        most_ms,
    };
    let growing = |kind| Memory::growing(kind).at_most(settings.retry_most_ms);
    let seconds = negative_timeout.unwrap_or(settings.negative_timeout);
    let absent_ms = u64::from(seconds) * 1_000;
    let memory = match cause {
        Cause::Lookup(Miss::TimedOut(_) | Miss::Server { .. }) => growing(Kind::UnreachableMap),
        // A look-up in a file costs nothing, and a changed file counts at once.
        Cause::Lookup(_) | Cause::BadEntry(_) if !costly => return None,
        Cause::Lookup(Miss::NoSuchKey) => always(Kind::AbsentKey, absent_ms),
        Cause::Lookup(Miss::ProgramFailed(_)) => always(Kind::FailedProgram, absent_ms),
        Cause::Lookup(_) => growing(Kind::UnreachableMap),
        Cause::BadEntry(_) => always(Kind::BadEntry, BAD_ENTRY_MEMORY_MS),
        Cause::Mount(errno, _) if unreachable(*errno) => growing(Kind::UnreachableServer),
        Cause::UnknownHost(_) => growing(Kind::UnreachableServer),
        Cause::Mount(..) | Cause::TimedOut => growing(Kind::FailedMount),
        // Not the place's fault, or known without asking anybody.
        Cause::NoTrigger
        | Cause::Stopping
        | Cause::Replaced
        | Cause::Denied(_)
        | Cause::Overloaded
        | Cause::Busy(_)
        | Cause::KnownDown(..)
        | Cause::Frozen
        | Cause::Hidden => return None,
    };
    (memory.most_ms > 0).then_some(memory)
}

/// Whether an errno of a mount says that a server does not answer. Of several servers the one
/// that said most counts, so that then none of them answered.
pub(crate) fn unreachable(errno: Errno) -> bool {
    [
        Errno::TIMEDOUT,
        Errno::HOSTDOWN,
        Errno::HOSTUNREACH,
        Errno::NETUNREACH,
        Errno::CONNREFUSED,
        Errno::CONNRESET,
    ]
    .contains(&errno)
}

impl Memory {
    /// For a server that does not answer.
    pub(crate) fn of_server(most_ms: u64) -> Self {
        Self {
            most_ms,
            ..Self::growing(Kind::UnreachableServer)
        }
    }

    /// For what is tried again at growing intervals.
    fn growing(kind: Kind) -> Self {
        Self {
            kind,
            first_ms: FAILURE_MEMORY_MS,
            most_ms: match kind {
                Kind::UnreachableServer => SERVER_MEMORY_MOST_MS,
                Kind::UnreachableMap => MAP_MEMORY_MOST_MS,
                Kind::FailedMount | Kind::AbsentKey | Kind::FailedProgram | Kind::BadEntry => {
                    MOUNT_MEMORY_MOST_MS
                }
            },
        }
    }

    /// The same, if mounting failed or a server does not answer, with pauses of at most this.
    fn at_most(self, most_ms: Option<u64>) -> Self {
        let of_mounting = [Kind::FailedMount, Kind::UnreachableServer].contains(&self.kind);
        match most_ms.filter(|_| of_mounting) {
            Some(most_ms) => Self {
                first_ms: self.first_ms.min(most_ms),
                most_ms,
                ..self
            },
            None => self,
        }
    }

    /// Milliseconds after the `failures`-th failure in a row. Doubles each time, and is up to a
    /// quarter shorter, by chance, so that what failed together is not tried again together.
    pub(crate) fn pause(self, failures: u32, chance: u64) -> u64 {
        let doubled = self.first_ms.saturating_mul(
            1u64.checked_shl(failures.saturating_sub(1))
                .unwrap_or(u64::MAX),
        );
        let pause = doubled.min(self.most_ms);
        match self.first_ms == self.most_ms {
            true => pause,
            false => pause - scatter(chance) % (pause / 4 + 1),
        }
    }
}

/// A well-mixed number (the finaliser of splitmix64): from a seed, so that the same events give
/// the same times.
pub(crate) fn scatter(seed: u64) -> u64 {
    let mut mixed = seed.wrapping_add(0x9e37_79b9_7f4a_7c15);
    mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    mixed ^ (mixed >> 31)
}

/// A place that failed.
#[derive(Clone, Debug)]
pub(crate) struct Failure {
    pub(crate) kind: Kind,
    pub(crate) cause: Cause,
    /// Answered from memory until then; after it only the number of failures counts.
    pub(crate) until: Millis,
    /// How often it failed in a row.
    pub(crate) failures: u32,
    /// How many accesses were answered from memory.
    pub(crate) answered: u64,
    /// Its servers, if it failed because none of them answered.
    servers: Vec<BString>,
}

/// The memory of failures. Bounded: what would be forgotten first goes when it is full.
#[derive(Debug, Default)]
pub(crate) struct Negative {
    entries: BTreeMap<Place, Failure>,
    ends: BTreeSet<(Millis, Place)>,
}

impl Negative {
    /// Remembers that `place` failed for `cause`. `chance` scatters the time.
    pub(crate) fn remember(
        &mut self,
        place: &Place,
        cause: &Cause,
        memory: Memory,
        now: Millis,
        chance: u64,
    ) {
        let before = self.take(place);
        let same = before.filter(|failure| failure.kind == memory.kind);
        let (failures, answered) = same.map_or((0, 0), |it| (it.failures, it.answered));
        let failures = failures.saturating_add(1);
        if self.entries.len() >= NEGATIVE_ENTRIES
            && let Some((_, oldest)) = self.ends.pop_first()
        {
            self.entries.remove(&oldest);
        }
        let until = now + memory.pause(failures, chance);
        let cause = match memory.kind {
            Kind::UnreachableServer => Cause::KnownDown(alloc::format!("{cause}").into()),
            _ => cause.clone(),
        };
        let failure = Failure {
            kind: memory.kind,
            cause,
            until,
            failures,
            answered,
            servers: Vec::new(),
        };
        self.entries.insert(place.clone(), failure);
        self.ends.insert((until, place.clone()));
    }

    /// The remembered cause, unless its time is over.
    pub(crate) fn recall(&mut self, place: &Place, now: Millis) -> Option<Cause> {
        if self.entries.is_empty() {
            return None;
        }
        let failure = self.entries.get_mut(place)?;
        if failure.until > now {
            failure.answered = failure.answered.saturating_add(1);
            return Some(failure.cause.clone());
        }
        None
    }

    /// Names the servers of a place, if it has just failed because none of them answered.
    pub(crate) fn blame<'s>(
        &mut self,
        place: &Place,
        servers: impl Iterator<Item = Option<&'s BString>>,
    ) {
        if let Some(failure) = self.entries.get_mut(place)
            && failure.kind == Kind::UnreachableServer
        {
            let servers: Option<Vec<BString>> = servers.map(|it| it.cloned()).collect();
            failure.servers = servers.unwrap_or_default();
        }
    }

    /// The servers on which it hangs for how long the failure of a place counts.
    pub(crate) fn servers_of(&self, place: &Place) -> &[BString] {
        let failure = self.entries.get(place);
        failure.map_or(&[], |failure| &failure.servers)
    }

    fn take(&mut self, place: &Place) -> Option<Failure> {
        let failure = self.entries.remove(place)?;
        self.ends.remove(&(failure.until, place.clone()));
        Some(failure)
    }

    /// Forgets one place.
    pub(crate) fn forget(&mut self, place: &Place) {
        if !self.entries.is_empty() {
            self.take(place);
        }
    }

    /// Forgets what failed in a trigger that is gone.
    pub(crate) fn forget_trigger(&mut self, trigger: TriggerId) {
        let of_trigger = |place: &&Place| place.trigger == trigger;
        let range = self.entries.range(Place::of(trigger)..);
        let places: Vec<Place> = range
            .map(|(place, _)| place)
            .take_while(of_trigger)
            .cloned()
            .collect();
        for place in places {
            self.take(&place);
        }
    }

    /// Forgets everything: maps have changed.
    pub(crate) fn clear(&mut self) {
        self.entries.clear();
        self.ends.clear();
    }

    /// What is answered from memory now.
    pub(crate) fn iter(&self, now: Millis) -> impl Iterator<Item = (&Place, &Failure)> {
        self.entries.iter().filter(move |(_, it)| it.until > now)
    }

    /// The places that are remembered, also those that are tried again by now.
    pub(crate) fn places(&self) -> impl Iterator<Item = &Place> {
        self.entries.keys()
    }

    /// How many places are remembered.
    pub(crate) fn len(&self) -> usize {
        self.entries.len()
    }
}

#[cfg(test)]
mod tests {
    use alloc::format;

    use super::*;

    const SECOND: Memory = Memory {
        kind: Kind::FailedMount,
        first_ms: 1_000,
        most_ms: 1_000,
    };

    const GROWING: Memory = Memory {
        kind: Kind::FailedMount,
        first_ms: 1_000,
        most_ms: 15_000,
    };

    fn place(key: &str) -> Place {
        Place {
            trigger: TriggerId(1),
            key: key.into(),
        }
    }

    #[test]
    fn is_not_answered_from_when_its_time_is_over() {
        let mut negative = Negative::default();
        let now = Millis(10);
        negative.remember(&place("a"), &Cause::TimedOut, SECOND, now, 0);
        let recalled = negative.recall(&place("a"), Millis(1_009));
        assert_eq!(recalled, Some(Cause::TimedOut));
        assert_eq!(negative.iter(Millis(1_009)).count(), 1);
        assert_eq!(negative.recall(&place("a"), Millis(1_010)), None);
        assert_eq!(negative.iter(Millis(1_010)).count(), 0);
    }

    #[test]
    fn keeps_the_limit_and_drops_what_ends_first() {
        let mut negative = Negative::default();
        for number in 0..=NEGATIVE_ENTRIES {
            let now = Millis(1_000_000 - number as u64);
            let place = place(&format!("{number}"));
            negative.remember(&place, &Cause::TimedOut, SECOND, now, 0);
        }
        assert_eq!(negative.entries.len(), NEGATIVE_ENTRIES);
        assert_eq!(negative.ends.len(), NEGATIVE_ENTRIES);
        let earliest_of_the_full = place(&format!("{}", NEGATIVE_ENTRIES - 1));
        assert_eq!(negative.recall(&earliest_of_the_full, Millis(0)), None);
        assert!(negative.recall(&place("0"), Millis(0)).is_some());
    }

    #[test]
    fn pauses_grow_up_to_the_limit_and_are_scattered_a_little() {
        let mut negative = Negative::default();
        let mut now = Millis(0);
        let mut pauses = Vec::new();
        for failures in 1..=8 {
            negative.remember(&place("a"), &Cause::TimedOut, GROWING, now, now.0);
            let failure = &negative.entries[&place("a")];
            assert_eq!(failure.failures, failures);
            pauses.push(failure.until.since(now));
            now = failure.until;
        }
        let nominal = [
            1_000, 2_000, 4_000, 8_000, 15_000, 15_000, 15_000, 15_000u64,
        ];
        for (pause, nominal) in pauses.iter().zip(nominal) {
            assert!((nominal * 3 / 4..=nominal).contains(pause), "{pauses:?}");
        }
        assert!(pauses[5..].iter().any(|it| *it != pauses[4]), "{pauses:?}");
        assert_eq!(GROWING.pause(u32::MAX, 7), GROWING.pause(99, 7));
        negative.forget(&place("a"));
        negative.remember(&place("a"), &Cause::TimedOut, GROWING, now, 0);
        assert_eq!(negative.entries[&place("a")].failures, 1);
    }

    #[test]
    fn another_cause_begins_anew_and_answers_are_counted() {
        let mut negative = Negative::default();
        let now = Millis(0);
        negative.remember(&place("a"), &Cause::TimedOut, GROWING, now, 0);
        negative.remember(&place("a"), &Cause::TimedOut, GROWING, now, 0);
        negative.recall(&place("a"), now);
        negative.recall(&place("a"), now);
        assert_eq!(negative.entries[&place("a")].answered, 2);
        let absent = Memory {
            kind: Kind::AbsentKey,
            ..SECOND
        };
        let cause = Cause::Lookup(Miss::NoSuchKey);
        negative.remember(&place("a"), &cause, absent, now, 0);
        let failure = &negative.entries[&place("a")];
        assert_eq!((failure.failures, failure.answered), (1, 0));
        assert_eq!(negative.ends.len(), 1);
        negative.clear();
        assert_eq!(negative.recall(&place("a"), Millis(0)), None);
    }
}
