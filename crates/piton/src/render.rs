//! Diagnostics for people: the line, a caret, and what to do.
