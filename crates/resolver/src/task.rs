//! What the process does for a question: threads, and the answer that is always given.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use rustix::io::Errno;

use crate::limits;
use crate::wire::Said;

/// Where the answer to a question goes. It is given once: when this is dropped instead, the
/// question has failed.
pub(crate) struct Tell(Option<Box<dyn FnOnce(Said) + Send>>);

impl Tell {
    pub(crate) fn new(tell: impl FnOnce(Said) + Send + 'static) -> Self {
        Self(Some(Box::new(tell)))
    }

    /// Gives the answer.
    pub(crate) fn say(mut self, said: Said) {
        if let Some(tell) = self.0.take() {
            tell(said);
        }
    }
}

impl Drop for Tell {
    fn drop(&mut self) {
        if let Some(tell) = self.0.take() {
            let why = "the resolver process has no thread for it, or the thread failed";
            tell(Said::failed(Errno::AGAIN, why));
        }
    }
}

/// One of a number that is bounded, until it is dropped.
pub(crate) struct Place(Arc<AtomicUsize>);

impl Place {
    /// A place, if there are fewer than this.
    pub(crate) fn take(of: &Arc<AtomicUsize>, most: usize) -> Option<Self> {
        let place = Self(of.clone());
        (of.fetch_add(1, Ordering::AcqRel) < most).then_some(place)
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::AcqRel);
    }
}

/// Runs something in a thread of its own.
///
/// # Errors
/// There is no thread; what should have run is dropped.
pub(crate) fn in_thread(body: impl FnOnce() + Send + 'static) -> Result<(), Errno> {
    let thread = std::thread::Builder::new().name("asking".into());
    match thread.stack_size(limits::ASKING_STACK).spawn(body) {
        Ok(_) => Ok(()),
        Err(error) => Err(Errno::from_io_error(&error).unwrap_or(Errno::AGAIN)),
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc;

    use super::*;

    #[test]
    fn a_question_that_is_dropped_has_failed() {
        let (send, receive) = mpsc::channel();
        let tell = || {
            let send = send.clone();
            Tell::new(move |said| drop(send.send(said)))
        };
        tell().say(Said::Alive);
        assert_eq!(receive.recv(), Ok(Said::Alive));
        drop(tell());
        assert!(matches!(receive.recv(), Ok(Said::Failed(..))));
        assert!(receive.try_recv().is_err(), "each is answered once");
    }

    #[test]
    fn there_are_so_many_places_and_no_more() {
        let count = Arc::default();
        let places: Vec<_> = (0..3).map(|_| Place::take(&count, 2)).collect();
        assert!(places[1].is_some() && places[2].is_none());
        drop(places);
        assert!(Place::take(&count, 1).is_some());
    }
}
