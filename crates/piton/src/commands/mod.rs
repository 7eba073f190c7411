//! One file for each command.

pub(crate) mod automount;
pub(crate) mod check;
pub(crate) mod daemon;
pub(crate) mod demo;
pub(crate) mod drain;
pub(crate) mod expire;
pub(crate) mod explain;
pub(crate) mod flush;
pub(crate) mod list;
pub(crate) mod mount;
pub(crate) mod pin;
pub(crate) mod reload;
pub(crate) mod resolver;
pub(crate) mod snapshot;
pub(crate) mod status;
pub(crate) mod stop;
pub(crate) mod talk;
pub(crate) mod trace;
pub(crate) mod unmount;
pub(crate) mod upgrade;
pub(crate) mod worker;
