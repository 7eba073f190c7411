//! Failed look-ups and mounts that are answered from memory for a while.

use alloc::collections::{BTreeMap, BTreeSet};

use alloc::vec::Vec;

use piton_plan::step::TriggerId;

use crate::cause::Cause;
use crate::limits::NEGATIVE_ENTRIES;
use crate::place::Place;
use crate::time::Millis;

/// The memory of failures. Bounded: what would be forgotten first goes when it is full.
#[derive(Debug, Default)]
pub(crate) struct Negative {
    entries: BTreeMap<Place, (Millis, Cause)>,
    ends: BTreeSet<(Millis, Place)>,
}

impl Negative {
    /// Remembers that `place` failed for `cause`, until `until`.
    pub(crate) fn remember(&mut self, place: &Place, cause: &Cause, until: Millis) {
        self.forget(place);
        if self.entries.len() >= NEGATIVE_ENTRIES
            && let Some((_, oldest)) = self.ends.pop_first()
        {
            self.entries.remove(&oldest);
        }
        self.entries.insert(place.clone(), (until, cause.clone()));
        self.ends.insert((until, place.clone()));
    }

    /// The remembered cause, unless its time is over.
    pub(crate) fn recall(&mut self, place: &Place, now: Millis) -> Option<Cause> {
        let (until, cause) = self.entries.get(place)?;
        if *until > now {
            return Some(cause.clone());
        }
        self.forget(place);
        None
    }

    /// Forgets one place.
    pub(crate) fn forget(&mut self, place: &Place) {
        if let Some((until, _)) = self.entries.remove(place) {
            self.ends.remove(&(until, place.clone()));
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
            self.forget(&place);
        }
    }

    /// Forgets everything: maps have changed.
    pub(crate) fn clear(&mut self) {
        self.entries.clear();
        self.ends.clear();
    }

    /// What is remembered.
    pub(crate) fn iter(&self) -> impl Iterator<Item = (&Place, Millis, &Cause)> {
        self.entries
            .iter()
            .map(|(place, (until, cause))| (place, *until, cause))
    }
}

#[cfg(test)]
mod tests {
    use alloc::format;

    use super::*;

    fn place(key: &str) -> Place {
        Place {
            trigger: TriggerId(1),
            key: key.into(),
        }
    }

    #[test]
    fn forgets_when_its_time_is_over() {
        let mut negative = Negative::default();
        negative.remember(&place("a"), &Cause::TimedOut, Millis(10));
        assert_eq!(
            negative.recall(&place("a"), Millis(9)),
            Some(Cause::TimedOut)
        );
        assert_eq!(negative.recall(&place("a"), Millis(10)), None);
        assert_eq!(negative.iter().count(), 0);
    }

    #[test]
    fn keeps_the_limit_and_drops_what_ends_first() {
        let mut negative = Negative::default();
        for number in 0..=NEGATIVE_ENTRIES {
            let until = Millis(1_000_000 - number as u64);
            negative.remember(&place(&format!("{number}")), &Cause::TimedOut, until);
        }
        assert_eq!(negative.entries.len(), NEGATIVE_ENTRIES);
        assert_eq!(negative.ends.len(), NEGATIVE_ENTRIES);
        let earliest_of_the_full = place(&format!("{}", NEGATIVE_ENTRIES - 1));
        assert_eq!(negative.recall(&earliest_of_the_full, Millis(0)), None);
        assert!(negative.recall(&place("0"), Millis(0)).is_some());
    }

    #[test]
    fn remembering_again_replaces() {
        let mut negative = Negative::default();
        negative.remember(&place("a"), &Cause::TimedOut, Millis(10));
        negative.remember(&place("a"), &Cause::Stopping, Millis(20));
        assert_eq!(
            negative.recall(&place("a"), Millis(15)),
            Some(Cause::Stopping)
        );
        assert_eq!(negative.ends.len(), 1);
        negative.clear();
        assert_eq!(negative.recall(&place("a"), Millis(0)), None);
    }
}
