//! The automounter's map language: bytes in, entries out.
//!
//! Nothing here opens a file, asks a clock or ends the process. Parsers return what they
//! understood together with the diagnostics of what they did not; a bad line costs that line.
//!
//! The way of a text through the crate: [`text`] → token → syntax → [`entry`] (expanded).
#![no_std]
#![forbid(unsafe_code)]

extern crate alloc;

mod advice;
pub mod deny;
pub mod diagnostic;
pub mod dialect;
pub mod entry;
pub mod expand;
pub mod findings;
pub mod fstype;
pub mod index;
pub mod key;
pub mod lexer;
pub mod limits;
pub mod lines;
pub mod location;
pub mod lookup;
pub mod master;
mod master_options;
pub mod mount_options;
mod nfs_options;
pub mod options;
pub mod parser;
pub mod print;
pub mod requester;
pub mod spec;
pub mod suggest;
pub mod syntax;
mod table;
pub mod text;
pub mod token;
