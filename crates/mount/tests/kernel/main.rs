//! Mounting on the real kernel. Needs root, and fails without it.
//!
//! Each test runs in a mount namespace of its own. Where a kernel lacks a file system type, the
//! test asserts the error that its users get.

mod bind;
mod common;
mod helpers;
mod local;
mod nfs;
mod sequences;
mod surroundings;
