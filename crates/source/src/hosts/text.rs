//! Entries for what a server exports.
//!
//! Paths are data: between quotes no byte of them has a meaning but the quote itself, which is
//! written with a backslash outside of them. Control characters don't get this far.

use bstr::{BStr, BString, ByteSlice};
use piton_map::limits::{HOSTS_ENTRY_LIMIT, HOSTS_MAP};
use piton_map::lookup::{Found, Matched};
use piton_map::text::{Fragment, Span};

use super::list::{ExportList, rest_below};
use super::name;
use crate::limits::EXPORTS_AT_ONCE;

/// The path of `name` in a directory.
pub(super) fn below(directory: &BStr, name: &BStr) -> BString {
    let mut path = BString::from(directory.trim_end_with(|c| c == '/'));
    path.push(b'/');
    path.extend_from_slice(name);
    path
}

/// The entry for `path` of `server`; `None`: neither an export nor on the way to one.
pub(super) fn entry(list: &ExportList, server: &BStr, path: &BStr) -> Option<Found> {
    let mut text = Vec::new();
    let below = list.below(path);
    if list.is_pseudo_root() && path == "/" {
        text.extend_from_slice(b"-fstype=nfs4 ");
        location(server, path, &mut text);
    } else if list.is_export(path) {
        match below {
            [] => location(server, path, &mut text),
            _ => tree(server, path, below, &mut text),
        }
    } else if !below.is_empty() {
        text.extend_from_slice(b"-fstype=autofs hosts:");
        text.extend_from_slice(&name::of(server, path));
    } else {
        return None;
    }
    Some(found(server, text))
}

/// The entry for all that `server` exports, as many as are mounted at once; `None`: nothing.
pub(super) fn whole(list: &ExportList, server: &BStr) -> Option<Found> {
    let root = BStr::new("/");
    let below = list.below(root);
    if list.is_export(root) || list.is_pseudo_root() || below.is_empty() {
        // A pseudo root has all the others in it.
        return entry(list, server, root);
    }
    let mut text = Vec::new();
    if below.len() > EXPORTS_AT_ONCE {
        let (left, server) = (below.len() - EXPORTS_AT_ONCE, server.to_str_lossy());
        tracing::warn!(%server, "{left} exports are too many to be mounted at once");
    }
    let below = &below[..below.len().min(EXPORTS_AT_ONCE)];
    offsets(server, root, below, &mut text);
    Some(found(server, text))
}

fn found(server: &BStr, text: Vec<u8>) -> Found {
    let value = Span::new(0, text.len());
    Found {
        fragment: fragment(server, text),
        key: Span::default(),
        value,
        matched: Matched::Exact,
        map: HOSTS_MAP.into(),
        via: Vec::new(),
    }
}

/// A text about a server's exports.
pub(super) fn fragment(server: &BStr, text: impl Into<BString>) -> Fragment {
    Fragment::whole(format!("exports of {server}"), text)
}

/// An export with those below it as offsets, as many as an entry may have.
fn tree(server: &BStr, path: &BStr, below: &[BString], text: &mut Vec<u8>) {
    text.extend_from_slice(b"/ ");
    location(server, path, text);
    offsets(server, path, below, text);
}

/// Exports below a path as offsets, as many as an entry may have.
fn offsets(server: &BStr, path: &BStr, below: &[BString], text: &mut Vec<u8>) {
    for (done, export) in below.iter().enumerate() {
        let Some(offset) = rest_below(export, path) else {
            continue;
        };
        let before = text.len();
        text.extend_from_slice(b" ");
        quote(b"/", offset, text);
        text.push(b' ');
        location(server, export.as_ref(), text);
        if text.len() > HOSTS_ENTRY_LIMIT {
            text.truncate(before);
            let (left, server) = (below.len() - done, server.to_str_lossy());
            tracing::warn!(%server, %path, "{left} exports below it are too many for one entry");
            return;
        }
    }
}

/// `server:path`
pub(crate) fn location(server: &BStr, path: &BStr, text: &mut Vec<u8>) {
    let ipv6 = server.contains(&b':');
    text.extend_from_slice(if ipv6 { b"[" } else { b"" });
    text.extend_from_slice(server);
    text.extend_from_slice(if ipv6 { b"]:" } else { b":" });
    quote(b"", path, text);
}

/// Writes `before` and `path` as one word that is read as just these bytes.
pub(crate) fn quote(before: &[u8], path: &[u8], text: &mut Vec<u8>) {
    let plain = |byte: &u8| byte.is_ascii_alphanumeric() || b"/._-+~".contains(byte);
    if path.iter().all(plain) {
        text.extend_from_slice(before);
        text.extend_from_slice(path);
        return;
    }
    text.push(b'"');
    text.extend_from_slice(before);
    for byte in path {
        match byte {
            b'"' => text.extend_from_slice(b"\"\\\"\""),
            other => text.push(*other),
        }
    }
    text.push(b'"');
}
