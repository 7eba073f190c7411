//! Replaying recorded cases without a kernel.

pub(crate) mod case;
pub(crate) mod site;
