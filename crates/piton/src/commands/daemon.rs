//! `piton daemon`: run the automounter.

pub(crate) use crate::daemon::run;
