//! The map `-hosts`: what a server exports, as entries.
//!
//! The key is a server's name or address. What it exports becomes text: an entry that mounts an
//! export, with the exports below it as its offsets, or, where only the way to some export leads
//! through a directory, another map of this kind: `hosts:SERVER/PATH`, whose keys are the names in
//! that directory. So thousands of exports cost nothing until somebody walks to one of them, and a
//! listing shows names and mounts nothing.
//!
//! Nothing here speaks to a server: that is for [`AskExports`] to do. What a server says is looked
//! at by [`list`] before anything is made of it.

pub mod access;
pub mod list;
mod lists;
mod name;
mod text;

use std::fmt::{self, Debug};
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Instant;

use bstr::{BStr, BString, ByteSlice};
use piton_map::diagnostic::{Diagnostic, Severity};
use piton_map::lookup::{Found, Miss};
use piton_map::text::{Origin, Span};

pub use self::access::ThisHost;
use self::list::ExportList;
pub(crate) use self::lists::Lists;
pub(crate) use self::lists::Need;
pub(crate) use self::name::Scope;
pub(crate) use self::name::checked as server_name;
pub use self::name::server_of;
pub(crate) use self::text::{location, quote};
use crate::limits::{EXPORTS_FRESH, EXPORTS_TIME, RENEWAL_PAUSE, RENEWAL_TIME};

/// One line of a server's export list, as it was sent: not to be trusted.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Offer {
    /// What is said to be a directory of the server.
    pub path: BString,
    /// Who may mount it, as the server words it; nobody named: everybody.
    pub groups: Vec<BString>,
}

/// What a server answered.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Offered {
    /// Its exports, in its order.
    pub exports: Vec<Offer>,
    /// It has no list, and serves NFS version 4 below its root: that is mounted, and leads to the
    /// exports.
    pub pseudo_root: bool,
    /// How many lines were left out by whoever read the list.
    pub lost: usize,
    /// The first of those, for people.
    pub faults: Vec<String>,
}

/// Why there is no list.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Trouble {
    /// Nobody knows a host of that name.
    UnknownHost,
    /// The server was asked and gave no list, or could not be asked.
    Failed {
        /// Why, as errno(3) numbers it.
        errno: i32,
        /// In words, with the server's name.
        text: Arc<str>,
    },
    /// Servers are not asked here: in words, what would be asked.
    NotAsked(Arc<str>),
}

/// Asks servers what they export.
pub trait AskExports: Debug + Send + Sync {
    /// What `server` exports. May block until then.
    ///
    /// # Errors
    /// [`Trouble`] when there is no list.
    fn exports(&self, server: &BStr, until: Instant) -> Result<Offered, Trouble>;

    /// How servers know this host. What is not said is not used to tell who may mount.
    fn this_host(&self) -> ThisHost {
        ThisHost::default()
    }
}

/// What is known of one server's exports, for `status`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ServerExports {
    /// The server as it was named.
    pub server: BString,
    /// The list, if there is one.
    pub list: Option<Arc<ExportList>>,
    /// Why there is no newer one, if the last attempt failed.
    pub trouble: Option<Trouble>,
}

impl fmt::Display for Trouble {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::UnknownHost => f.write_str("nobody knows a host of this name"),
            Self::Failed { text, .. } | Self::NotAsked(text) => f.write_str(text),
        }
    }
}

impl Trouble {
    /// What it means for a look-up.
    pub(crate) fn miss(&self) -> Miss {
        match self {
            Self::UnknownHost => Miss::NoSuchKey,
            Self::Failed { errno, text } => Miss::Server {
                errno: *errno,
                text: text.clone(),
            },
            Self::NotAsked(text) => Miss::NotAvailable(text.clone()),
        }
    }
}

/// One look at the exports of servers.
pub(crate) struct Look<'l> {
    pub(crate) lists: &'l Lists,
    pub(crate) asker: &'l dyn AskExports,
    /// Whether exports are shown that are not for this host.
    pub(crate) all: bool,
    /// Whether a server is one entry of all its exports.
    pub(crate) whole: bool,
    /// Whether servers may be asked now.
    pub(crate) may_block: bool,
    pub(crate) until: Option<Instant>,
}

impl Look<'_> {
    /// The entry of `key` in a map; the outer `None`: a server would have to be asked.
    pub(crate) fn entry(&self, scope: &Scope, key: &BStr) -> Option<Result<Found, Miss>> {
        match scope {
            Scope::Servers => {
                let Some(server) = name::checked(key) else {
                    return Some(Err(Miss::NoSuchKey));
                };
                self.of_server(server)
            }
            Scope::Below { server, path } => {
                let path = text::below(path.as_ref(), key);
                self.of_directory(server.as_ref(), path.as_ref())
            }
        }
    }

    /// The entry of a server as a whole. Somebody comes by who was not there a moment ago: the
    /// server is asked anew.
    fn of_server(&self, server: &BStr) -> Option<Result<Found, Miss>> {
        let list = match self.list(server, Need::Recent(EXPORTS_FRESH))? {
            Ok(list) => list,
            Err(miss) => return Some(Err(miss)),
        };
        self.written(&list, server, BStr::new("/"))
    }

    /// The entry of a path below a server. An export is mounted as it is known. What is not known may
    /// be new, and so may be what a directory shows that nobody looked into for a while: the server is
    /// asked once more, but not for each of many names that are not there.
    fn of_directory(&self, server: &BStr, path: &BStr) -> Option<Result<Found, Miss>> {
        let known = match self.list(server, Need::Any)? {
            Ok(list) => list,
            Err(miss) => return Some(Err(miss)),
        };
        if known.is_export(path) {
            return self.written(&known, server, path);
        }
        match self.list(server, Need::Recent(RENEWAL_PAUSE))? {
            Ok(list) => self.written(&list, server, path),
            Err(miss) => match self.written(&known, server, path)? {
                Err(Miss::NoSuchKey) => Some(Err(miss)),
                found => Some(found),
            },
        }
    }

    /// The entry of `path`, written down. A long one is not for whoever must not wait.
    fn written(
        &self,
        list: &ExportList,
        server: &BStr,
        path: &BStr,
    ) -> Option<Result<Found, Miss>> {
        let long = list.below(path).len() > crate::limits::OFFSETS_AT_ONCE;
        if long && !self.may_block && (self.whole || list.is_export(path)) {
            return None;
        }
        let entry = match self.whole && path == "/" {
            true => text::whole(list, server),
            false => text::entry(list, server, path),
        };
        Some(entry.ok_or(Miss::NoSuchKey))
    }

    /// What a server exports.
    pub(crate) fn list(&self, server: &BStr, need: Need) -> Option<Result<Arc<ExportList>, Miss>> {
        let known = self.lists.known(server, need);
        if known.is_some() || !self.may_block {
            return known;
        }
        let now = Instant::now();
        let mut until = self.until.unwrap_or(now + EXPORTS_TIME);
        // Where there is something to go on with, the access must not be over when that is known.
        let whole_server = need == Need::Recent(EXPORTS_FRESH);
        if !whole_server && self.lists.has_list(server) {
            until = until.min(now + RENEWAL_TIME);
        }
        let ask = || {
            let offered = self.asker.exports(server, until)?;
            let host = (!self.all).then(|| self.asker.this_host());
            Ok(ExportList::new(offered, host.as_ref()))
        };
        Some(self.lists.ask(server, need, until, ask))
    }

    /// The list that has the names in a directory on the way to exports.
    pub(crate) fn directory(
        &self,
        server: &BStr,
        path: &BStr,
    ) -> Option<Result<Arc<ExportList>, Miss>> {
        let list = match self.list(server, Need::Any)? {
            Ok(list) => list,
            Err(miss) => return Some(Err(miss)),
        };
        match path == "/" || !list.below(path).is_empty() {
            true => Some(Ok(list)),
            false => Some(Err(Miss::NoSuchKey)),
        }
    }
}

/// Where what is known of a server's exports counts as written.
pub(crate) fn origin(server: &BStr) -> Origin {
    text::fragment(server, "").origin(Span::default())
}

/// What there is to say about a server's list.
pub(crate) fn findings(server: &BStr, list: &ExportList) -> Vec<Diagnostic> {
    let mut findings = Vec::new();
    let fragment = text::fragment(server, "");
    let mut say = |severity, code, message: String, help: &str| {
        let one = Diagnostic::new(severity, code, message, &fragment, Span::default());
        findings.push(one.help(help));
    };
    let refused = list.refused();
    if refused.count > 0 {
        let examples = refused.examples.join(", ");
        let message = format!(
            "of the export list this is not used ({} in all): {examples}",
            refused.count
        );
        let help = "an export is an absolute path, written without `.`, `..` and doubled slashes";
        say(Severity::Warning, "bad-export", message, help);
    }
    if list.for_others() > 0 {
        let message = format!(
            "exports that are for other hosts only and not shown: {}",
            list.for_others()
        );
        let help = "the daemon's option --all-exports shows them";
        say(Severity::Note, "exports-for-others", message, help);
    }
    findings
}

/// The hosts of a text like /etc/hosts: of each line the name that stands first, unless its address
/// is that of a group or of nobody.
pub(crate) fn names_in(text: &[u8]) -> impl Iterator<Item = (&BStr, Span)> {
    text.lines().filter_map(|line| {
        let content = line.split(|byte| *byte == b'#').next()?;
        let mut words = content.fields_with(char::is_whitespace);
        let address: IpAddr = words.next()?.to_str().ok()?.parse().ok()?;
        let host = !address.is_multicast() && !address.is_unspecified();
        let name = name::checked(words.next()?.as_bstr()).filter(|_| host)?;
        let start = name.as_ptr() as usize - text.as_ptr() as usize;
        Some((name, Span::new(start, start + name.len())))
    })
}

#[cfg(test)]
mod tests;
