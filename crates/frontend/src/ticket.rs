//! The duty to answer, as a value.

use std::fmt;

use piton_engine::cause::Errno;

/// What a front end does with an answer.
pub trait Answering: Send {
    /// It is mounted (or, for an expiry, unmounted).
    fn ready(&mut self);

    /// It is not, for this reason.
    fn fail(&mut self, errno: Errno);
}

/// A process (or the kernel) waits for an answer. Spent by [`Ticket::ready`] or
/// [`Ticket::fail`]; dropped unspent it answers EIO, so that nobody waits for ever.
#[must_use = "dropping a ticket answers with an error"]
pub struct Ticket {
    answering: Option<Box<dyn Answering>>,
    tag: u32,
}

impl Ticket {
    /// A duty to answer through `answering`.
    pub fn new(answering: impl Answering + 'static) -> Self {
        Self {
            answering: Some(Box::new(answering)),
            tag: 0,
        }
    }

    /// The same with a mark for whoever has to recognise it later.
    pub fn tagged(mut self, tag: u32) -> Self {
        self.tag = tag;
        self
    }

    /// The mark; 0 for none.
    pub fn tag(&self) -> u32 {
        self.tag
    }

    /// Answers: go on.
    pub fn ready(mut self) {
        if let Some(mut answering) = self.answering.take() {
            answering.ready();
        }
    }

    /// Answers with an error.
    pub fn fail(mut self, errno: Errno) {
        if let Some(mut answering) = self.answering.take() {
            answering.fail(errno);
        }
    }
}

impl Drop for Ticket {
    fn drop(&mut self) {
        if let Some(mut answering) = self.answering.take() {
            answering.fail(Errno::IO);
        }
    }
}

impl fmt::Debug for Ticket {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(if self.answering.is_some() {
            "Ticket(waiting)"
        } else {
            "Ticket(spent)"
        })
    }
}

#[cfg(test)]
mod tests {
    use std::sync::{Arc, Mutex};

    use super::*;

    struct Recorder(Arc<Mutex<Vec<Option<Errno>>>>);

    impl Answering for Recorder {
        fn ready(&mut self) {
            self.0.lock().unwrap().push(None);
        }

        fn fail(&mut self, errno: Errno) {
            self.0.lock().unwrap().push(Some(errno));
        }
    }

    fn record(spend: impl FnOnce(Ticket)) -> Vec<Option<Errno>> {
        let answers = Arc::new(Mutex::new(Vec::new()));
        spend(Ticket::new(Recorder(answers.clone())));
        answers.lock().unwrap().clone()
    }

    #[test]
    fn answers_exactly_once() {
        assert_eq!(record(Ticket::ready), [None]);
        assert_eq!(
            record(|ticket| ticket.fail(Errno::ACCES)),
            [Some(Errno::ACCES)]
        );
    }

    #[test]
    fn dropped_it_answers_with_an_error() {
        assert_eq!(record(drop), [Some(Errno::IO)]);
    }
}
