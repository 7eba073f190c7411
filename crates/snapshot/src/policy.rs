//! How long snapshots that nobody uses are kept.

use alloc::vec::Vec;

use crate::limits;
use crate::time::{Seconds, Timestamp};

/// Space that the kept snapshots of one origin may take.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Deserialize, serde::Serialize))]
pub struct Cap {
    /// Bytes.
    pub bytes: u64,
}

/// What is kept of the snapshots that nobody uses: the newest `keep`, and those younger than
/// `keep_for`, but never more than the cap allows. The default keeps nothing: what nobody uses any
/// more is removed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Deserialize, serde::Serialize))]
pub struct Policy {
    /// The newest so many.
    pub keep: u32,
    /// Those younger than this.
    pub keep_for: Option<Seconds>,
    /// The oldest go until the rest fits.
    pub cap: Option<Cap>,
}

/// One snapshot as policy sees it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Aged {
    /// When it was taken.
    pub taken: Timestamp,
    /// Bytes it takes by itself, if that is known.
    pub used: Option<u64>,
    /// Somebody uses it: it stays, and counts as one of those kept.
    pub busy: bool,
}

impl Policy {
    /// Which of `existing` (in any order) are not kept, by index, oldest first.
    pub fn surplus(&self, now: Timestamp, existing: &[Aged]) -> Vec<usize> {
        let mut order: Vec<usize> = (0..existing.len()).collect();
        order.sort_by_key(|index| core::cmp::Reverse(existing[*index].taken));
        let most = limits::KEPT as usize;
        let mut bytes = 0_u64;
        let mut full = false;
        let mut surplus = Vec::new();
        for (rank, index) in order.into_iter().enumerate() {
            let one = existing[index];
            bytes = bytes.saturating_add(one.used.unwrap_or(0));
            let counted = rank < self.keep as usize;
            let young = self.keep_for.is_some_and(|length| {
                // A clock that was set back makes nothing old.
                one.taken > now.before(length)
            });
            full |= self.cap.is_some_and(|cap| bytes > cap.bytes);
            let kept = (counted || young) && !full && rank < most;
            if !kept && !one.busy {
                surplus.push(index);
            }
        }
        surplus.reverse();
        surplus
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn aged(seconds: &[u64]) -> Vec<Aged> {
        let one = |seconds: &u64| Aged {
            taken: Timestamp(seconds * 1_000),
            used: Some(10),
            busy: false,
        };
        seconds.iter().map(one).collect()
    }

    const NOW: Timestamp = Timestamp(100_000);

    #[test]
    fn nothing_is_kept_without_policy() {
        assert_eq!(Policy::default().surplus(NOW, &aged(&[3, 1, 2])), [1, 2, 0]);
    }

    #[test]
    fn the_newest_and_the_young_are_kept() {
        let existing = aged(&[10, 50, 95, 99]);
        let keep = Policy {
            keep: 1,
            ..Policy::default()
        };
        assert_eq!(keep.surplus(NOW, &existing), [0, 1, 2]);
        let keep_for = Policy {
            keep_for: Some(Seconds(10)),
            ..Policy::default()
        };
        assert_eq!(keep_for.surplus(NOW, &existing), [0, 1]);
        let both = Policy {
            keep: 3,
            ..keep_for
        };
        assert_eq!(both.surplus(NOW, &existing), [0]);
    }

    #[test]
    fn the_oldest_go_when_there_is_no_room() {
        let existing = aged(&[10, 50, 95, 99]);
        let capped = Policy {
            keep: 4,
            keep_for: None,
            cap: Some(Cap { bytes: 25 }),
        };
        assert_eq!(capped.surplus(NOW, &existing), [0, 1]);
        let mut unknown = existing;
        unknown[3].used = None;
        assert_eq!(capped.surplus(NOW, &unknown), [0]);
    }

    #[test]
    fn what_is_used_stays_and_counts() {
        let mut existing = aged(&[10, 50, 95]);
        existing[0].busy = true;
        existing[2].busy = true;
        let keep = Policy {
            keep: 1,
            ..Policy::default()
        };
        assert_eq!(keep.surplus(NOW, &existing), [1]);
        existing[2].taken = Timestamp(200_000);
        assert_eq!(keep.surplus(NOW, &existing), [1]);
    }

    #[test]
    fn there_is_a_limit_however_much_is_asked_for() {
        let existing = aged(&(0..=u64::from(limits::KEPT)).collect::<Vec<_>>());
        let all = Policy {
            keep: u32::MAX,
            ..Policy::default()
        };
        assert_eq!(all.surplus(NOW, &existing), [0]);
        assert!(all.surplus(NOW, &existing[1..]).is_empty());
    }
}
