//! What of an export list can be used.
//!
//! The list comes from a server that somebody has named, perhaps from one that means harm. A path
//! is taken if it can be a directory below the server's own, written in one way only: absolute, no
//! empty component, no `.` or `..`, no control characters, not too long, not too deep. autofs 5.1.8
//! mounts an export `/../../victim` over `/victim`. What is not taken costs its own line only.

use std::cmp::Ordering;

use bstr::{BStr, BString, ByteSlice};
use piton_map::key::KEY_LIMIT;

use super::Offered;
use super::access::{ThisHost, excludes};
use crate::limits::{EXPORT_DEPTH, EXPORT_PATH, EXPORTS, REFUSED_SHOWN};

/// The exports of a server that can be used, and what became of the others.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ExportList {
    /// Each once; parents before their children, and these directly after them.
    paths: Vec<BString>,
    /// There is no list: the root of the server's NFS version 4 is what is mounted.
    pseudo_root: bool,
    /// Lines that were not used.
    refused: Refused,
    /// How many exports are for others only.
    for_others: usize,
}

/// Lines of an export list that were not used.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Refused {
    /// How many.
    pub count: usize,
    /// The first of them, each with the reason, control characters escaped.
    pub examples: Vec<String>,
}

impl Refused {
    fn add(&mut self, path: &BStr, why: &str) {
        self.count += 1;
        if self.examples.len() < REFUSED_SHOWN {
            let cut = &path[..path.len().min(80)];
            self.examples.push(format!("{:?} {why}", cut.as_bstr()));
        }
    }
}

impl ExportList {
    /// Looks at what a server offered; `host`: who asks, if exports for others are left out.
    pub fn new(offered: Offered, host: Option<&ThisHost>) -> Self {
        let mut list = Self {
            pseudo_root: offered.pseudo_root,
            ..Self::default()
        };
        list.refused.count = offered.lost;
        let told = offered.faults.iter().take(REFUSED_SHOWN);
        list.refused.examples.extend(told.cloned());
        let exports = match offered.pseudo_root {
            true => Vec::new(),
            false => offered.exports,
        };
        for offer in exports {
            // `/a/` is how some servers write `/a`.
            let trimmed = offer.path.trim_end_with(|c| c == '/');
            let path: &BStr = match (trimmed, offer.path.first()) {
                (b"", Some(_)) => BStr::new("/"),
                (path, _) => path.as_bstr(),
            };
            if let Some(why) = refusal(path) {
                list.refused.add(offer.path.as_ref(), why);
            } else if host.is_some_and(|host| excludes(&offer.groups, host)) {
                list.for_others += 1;
            } else if list.paths.len() == EXPORTS {
                list.refused.add(path, "is one too many");
            } else {
                list.paths.push(path.into());
            }
        }
        list.paths
            .sort_unstable_by(|one, other| in_tree_order(one, other));
        let before = list.paths.len();
        list.paths.dedup();
        let twice = before - list.paths.len();
        if twice > 0 {
            list.refused.count += twice;
            list.refused.examples.push(format!("{twice} given twice"));
        }
        list.paths.shrink_to_fit();
        list
    }

    /// The exports, parents before their children.
    pub fn paths(&self) -> &[BString] {
        &self.paths
    }

    /// Whether the root of the server's NFS version 4 is mounted for want of a list.
    pub fn is_pseudo_root(&self) -> bool {
        self.pseudo_root
    }

    /// Lines that were not used.
    pub fn refused(&self) -> &Refused {
        &self.refused
    }

    /// How many exports are left out because they are for others only.
    pub fn for_others(&self) -> usize {
        self.for_others
    }

    /// Bytes of memory that it takes, about.
    pub fn bytes(&self) -> usize {
        let each = size_of::<BString>();
        self.paths.iter().map(|path| path.len() + each).sum()
    }

    /// Returns true if and only if `path` is an export itself.
    pub fn is_export(&self, path: &BStr) -> bool {
        self.paths
            .binary_search_by(|it| in_tree_order(it, path))
            .is_ok()
    }

    /// The exports below `path`, without itself.
    pub fn below(&self, path: &BStr) -> &[BString] {
        let after = |it: &BString| in_tree_order(it, path) != Ordering::Greater;
        let rest = &self.paths[self.paths.partition_point(after)..];
        let inside = rest.partition_point(|it| rest_below(it, path).is_some());
        &rest[..inside]
    }

    /// The names in the directory `path` on the way to exports below it, each once.
    pub fn names<'s>(&'s self, path: &'s BStr) -> impl Iterator<Item = &'s BStr> {
        let mut last: Option<&BStr> = None;
        self.below(path).iter().filter_map(move |export| {
            let rest = rest_below(export, path)?;
            let name = rest.split_str("/").next()?.as_bstr();
            (last.replace(name) != Some(name)).then_some(name)
        })
    }
}

/// What `path` has below `directory`, without the slash between; `None`: it is not below it.
pub(super) fn rest_below<'p>(path: &'p BString, directory: &BStr) -> Option<&'p BStr> {
    piton_path::below(path, directory).filter(|rest| !rest.is_empty())
}

/// Why a path of an export list is not used; `None`: it is.
pub fn refusal(path: &BStr) -> Option<&'static str> {
    if path == "/" {
        return None;
    }
    let Some(rest) = path.strip_prefix(b"/") else {
        return Some("is no absolute path");
    };
    if path.len() > EXPORT_PATH {
        return Some("is too long");
    }
    if path.iter().any(u8::is_ascii_control) {
        return Some("has a control character");
    }
    let mut depth = 0;
    for part in rest.split_str("/") {
        depth += 1;
        match part {
            b"" => return Some("has an empty component"),
            b"." | b".." => return Some("has a component `.` or `..`"),
            long if long.len() > KEY_LIMIT => return Some("has a component that is too long"),
            _ => {}
        }
    }
    (depth > EXPORT_DEPTH).then_some("is too deep")
}

/// The order in which children come directly after their parents: `/a/b` before `/a-b`.
fn in_tree_order(one: &[u8], other: &[u8]) -> Ordering {
    let rank = |byte: &u8| if *byte == b'/' { 0 } else { *byte };
    one.iter().map(rank).cmp(other.iter().map(rank))
}
