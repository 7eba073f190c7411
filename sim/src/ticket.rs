//! The front end's ticket as the world knows it: dropped unspent it is noticed.

use std::cell::RefCell;
use std::fmt::{self, Display, Formatter};
use std::rc::Rc;

use crate::kernel::Token;

/// Tickets that were dropped.
pub(crate) type Dropped = Rc<RefCell<Vec<Token>>>;

/// The duty to answer one request.
#[derive(Debug)]
pub(crate) struct Ticket {
    token: Option<Token>,
    dropped: Dropped,
}

impl Ticket {
    pub(crate) fn new(token: Token, dropped: &Dropped) -> Self {
        Self {
            token: Some(token),
            dropped: dropped.clone(),
        }
    }

    pub(crate) fn spend(mut self) -> Option<Token> {
        self.token.take()
    }
}

impl Display for Ticket {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        write!(f, "request {}", self.token.unwrap_or_default())
    }
}

impl Drop for Ticket {
    fn drop(&mut self) {
        if let Some(token) = self.token.take() {
            self.dropped.borrow_mut().push(token);
        }
    }
}
