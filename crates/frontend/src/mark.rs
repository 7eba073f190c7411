//! A note, which outlives the process, that work is under way.

use std::fmt;

/// Work is under way that leaves something half done if this process dies.
///
/// Dropping it does not end it: then a successor finds it.
#[must_use = "a mark that is not ended says that work was never finished"]
pub struct Mark(Box<dyn FnOnce() + Send>);

impl Mark {
    /// A mark that is taken away by `end`.
    pub fn new(end: impl FnOnce() + Send + 'static) -> Self {
        Self(Box::new(end))
    }

    /// The work is done, or undone.
    pub fn end(self) {
        (self.0)();
    }
}

impl fmt::Debug for Mark {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Mark")
    }
}
