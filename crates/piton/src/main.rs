//! Piton.

fn main() {}
