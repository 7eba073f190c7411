//! Times of changes, as clients compare them.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// When something changed: seconds and nanoseconds since 1970, as NFS has them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Stamp {
    pub(crate) seconds: u32,
    pub(crate) nanoseconds: u32,
}

/// Gives stamps, each later than all before: clients take two states with the same time for one.
#[derive(Debug, Default)]
pub(crate) struct Clock {
    last: Stamp,
}

impl Clock {
    pub(crate) fn stamp(&mut self) -> Stamp {
        let since = SystemTime::now().duration_since(UNIX_EPOCH);
        let since = since.unwrap_or_default();
        self.at(Stamp {
            seconds: u32::try_from(since.as_secs()).unwrap_or(u32::MAX),
            nanoseconds: since.subsec_nanos(),
        })
    }

    fn at(&mut self, now: Stamp) -> Stamp {
        self.last = now.max(self.last.next());
        self.last
    }
}

impl Stamp {
    /// The time since 1970.
    pub(crate) fn since(self) -> Duration {
        Duration::new(self.seconds.into(), self.nanoseconds)
    }

    fn next(self) -> Self {
        match self.nanoseconds {
            999_999_999.. => Self {
                seconds: self.seconds.saturating_add(1),
                nanoseconds: 0,
            },
            nanoseconds => Self {
                seconds: self.seconds,
                nanoseconds: nanoseconds + 1,
            },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_stamp_is_later_though_the_clock_stands_or_goes_back() {
        let stamp = |seconds, nanoseconds| Stamp {
            seconds,
            nanoseconds,
        };
        let mut clock = Clock::default();
        assert_eq!(clock.at(stamp(5, 999_999_998)), stamp(5, 999_999_998));
        assert_eq!(clock.at(stamp(5, 999_999_998)), stamp(5, 999_999_999));
        assert_eq!(clock.at(stamp(2, 0)), stamp(6, 0));
        assert_eq!(clock.at(stamp(7, 1)), stamp(7, 1));
    }
}
