//! What a snapshot of ours is called.

use alloc::format;
use alloc::string::String;

use crate::origin::Origin;
use crate::time::Timestamp;

/// What stands between the origin's label and the time.
const MARK: &str = ".piton.";

/// The name of a snapshot, which all origins of a group share: when it was taken. Of the origin
/// `storage/data` it is called `data.piton.20261122T030015.123Z`.
///
/// No two of one origin have the same: whoever takes one holds the origin's lock and sees those
/// that exist.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[cfg_attr(feature = "serde", derive(serde::Deserialize, serde::Serialize))]
#[cfg_attr(feature = "serde", serde(transparent))]
pub struct Name {
    /// When it was taken.
    pub taken: Timestamp,
}

impl Name {
    /// The word that marks, as tag or property, what is ours.
    pub const TAG: &'static str = "piton";

    /// The first that is free at `now`.
    pub fn free(now: Timestamp, mut is_taken: impl FnMut(Self) -> bool) -> Self {
        let mut name = Self {
            taken: now.clamped(),
        };
        // A millisecond later until it is free: there are not many.
        while is_taken(name) {
            name.taken.0 += 1;
        }
        name
    }

    /// What a snapshot of `origin` is called.
    pub fn of(self, origin: &Origin) -> String {
        format!("{}{MARK}{}", origin.label(), self.taken.compact())
    }

    /// Label and name, if `text` is what [`of`](Self::of) writes. That alone does not make it ours.
    pub fn parse(text: &str) -> Option<(&str, Self)> {
        let (label, time) = text.rsplit_once(MARK)?;
        let taken = Timestamp::from_compact(time)?;
        (!label.is_empty()).then_some((label, Self { taken }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::origin::Kind;

    #[test]
    fn a_name_says_of_what_and_when() {
        let origin = Origin::new(Kind::Lvm, "storage/da.piton.ta".into()).unwrap();
        let name = Name {
            taken: Timestamp(1_795_316_415_123),
        };
        let text = name.of(&origin);
        assert_eq!(text, "da.piton.ta.piton.20261122T030015.123Z");
        assert_eq!(Name::parse(&text), Some(("da.piton.ta", name)));
        for foreign in [
            "data",
            "data-snap",
            ".piton.20261122T030015.123Z",
            "data.piton.2026",
        ] {
            assert_eq!(Name::parse(foreign), None, "{foreign}");
        }
    }

    #[test]
    fn the_next_free_name_is_taken() {
        let taken = [5, 6, 8].map(|ms| Name {
            taken: Timestamp(ms),
        });
        let free = |now| {
            Name::free(Timestamp(now), |name| taken.contains(&name))
                .taken
                .0
        };
        assert_eq!((free(4), free(5), free(8)), (4, 7, 9));
    }
}
