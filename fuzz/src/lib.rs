//! Laws that hold for any input: one function for each thing that reads bytes from outside.
//!
//! Each takes bytes and panics when a law is broken, not only when the code under it panics.
//! libFuzzer looks for such bytes (`cargo xtask fuzz`); what it found, and what it found
//! interesting, is in `corpus/` and tried again by an ordinary test.

mod control;
mod entry;
mod exports;
mod index;
mod kernel;
mod line;
mod master;
mod requests;
mod source;

pub use control::{status, varlink};
pub use entry::{entry, expansion, lexer, options};
pub use exports::exports;
pub use index::index;
pub use kernel::{mountinfo, packet};
pub use line::line;
pub use master::master;
pub use piton_fuse::hold_law as fuse;
pub use piton_loopback::hold_law as loopback;
pub use piton_mount::hold_law as worker;
pub use piton_resolver::hold_law as resolver;
pub use piton_rpc::exports::hold_law as mountd;
pub use piton_rpc::message::hold_law as reply;
pub use piton_rpc::record::hold_law as record;
pub use requests::requests;
pub use source::{conf, nsswitch, program};

use bstr::ByteSlice;
use piton_map::diagnostic::Diagnostic;
use piton_map::text::Span;

/// A law's name, and the function that holds an input against it.
pub type Target = (&'static str, fn(&[u8]));

/// All laws. `Cargo.toml` and `fuzz_targets/` have the same names.
pub const TARGETS: [Target; 23] = [
    ("lexer", lexer),
    ("expansion", expansion),
    ("options", options),
    ("entry", entry),
    ("master", master),
    ("index", index),
    ("packet", packet),
    ("requests", requests),
    ("mountinfo", mountinfo),
    ("program", program),
    ("nsswitch", nsswitch),
    ("conf", conf),
    ("line", line),
    ("worker", worker),
    ("varlink", varlink),
    ("status", status),
    ("loopback", loopback),
    ("fuse", fuse),
    ("exports", exports),
    ("record", record),
    ("reply", reply),
    ("mountd", mountd),
    ("resolver", resolver),
];

/// The first line of an input and the rest: parameters first, then the text.
fn first_line(data: &[u8]) -> (&[u8], &[u8]) {
    data.split_once_str("\n").unwrap_or((data, b""))
}

/// The places that diagnostics name lie in the texts they show.
fn check_spans(diagnostics: &[Diagnostic]) {
    for one in diagnostics {
        let length = one.fragment.text.len();
        let related = one.related.iter().map(|(span, _)| *span);
        for span in related.chain([one.primary.0]) {
            assert!(lies_in(span, length), "{span:?} of {length}: {one:?}");
        }
        assert!(!one.message.is_empty() && !one.code.is_empty());
        let place = one.origin().position;
        assert!(place.line >= one.fragment.first_line && place.column >= 1);
    }
}

fn lies_in(span: Span, length: usize) -> bool {
    span.start <= span.end && span.end as usize <= length
}
