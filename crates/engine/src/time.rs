//! Time as the engine is told it: milliseconds of a clock that never goes back.

use core::ops::Add;

/// A moment, in milliseconds since some fixed start. It never decreases from event to event;
/// the engine ignores an earlier one.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Millis(pub u64);

impl Add<u64> for Millis {
    type Output = Self;

    fn add(self, milliseconds: u64) -> Self {
        Self(self.0.saturating_add(milliseconds))
    }
}

impl Millis {
    /// Milliseconds from `earlier` to this moment; 0 when it lies after it.
    pub fn since(self, earlier: Self) -> u64 {
        self.0.saturating_sub(earlier.0)
    }
}
