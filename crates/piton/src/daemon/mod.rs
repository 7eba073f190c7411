//! The daemon proper: the loop, its workers and what it listens to.
