//! An entry back to text that reads as the same entry.
//!
//! Printed is what follows the key, in one line, everything merged and expanded: what `piton
//! explain` shows and what a program map could print. The property test prints, reads and
//! compares. Text is bytes; `Display` shows bytes that are not UTF-8 as U+FFFD.

use alloc::string::ToString;
use alloc::vec::Vec;
use core::fmt;

use bstr::{BString, ByteSlice};

use crate::entry::{Entry, Mount, What};
use crate::limits::HOSTS_MAP;
use crate::location::Server;
use crate::lookup::{MapSpec, MapType};
use crate::options::{PointOptions, Propagation, Selection};

impl fmt::Display for Entry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.to_text())
    }
}

impl Entry {
    /// The entry as map text, without the key.
    pub fn to_text(&self) -> BString {
        let mut printer = Printer::default();
        printer.list(|list| {
            list.word("strict", self.strict);
            if let Some(timeout) = self.timeout {
                list.pair("timeout", timeout.to_string().as_bytes());
            }
        });
        let root_only = self.mounts.len() == 1
            && self.mounts[0].offset == "/"
            && (self.timeout.is_none() || self.own_timeout(&self.mounts[0]).is_none());
        for mount in &self.mounts {
            let mut timeout = None;
            if !root_only {
                printer.blank();
                quote(&mount.offset, &mut printer.text);
                timeout = self.own_timeout(mount);
            }
            printer.mount(mount, timeout);
        }
        printer.text.into()
    }

    /// The timeout of a submount whose options say another than those of the entry.
    fn own_timeout(&self, mount: &Mount) -> Option<u32> {
        match &mount.what {
            What::Map { point, .. } if point.timeout != self.timeout => point.timeout,
            _ => None,
        }
    }
}

/// Text being written.
#[derive(Default)]
struct Printer {
    text: Vec<u8>,
}

/// A list of options being written.
struct List<'t> {
    text: &'t mut Vec<u8>,
    /// What comes before the next option.
    before: &'static [u8],
}

impl Printer {
    fn blank(&mut self) {
        if !self.text.is_empty() {
            self.text.push(b' ');
        }
    }

    /// Writes a list of options, or nothing when it has none.
    fn list(&mut self, fill: impl FnOnce(&mut List)) {
        let before = if self.text.is_empty() {
            b"-".as_slice()
        } else {
            b" -"
        };
        fill(&mut List {
            text: &mut self.text,
            before,
        });
    }

    /// Options, with a timeout of its own, and location.
    fn mount(&mut self, mount: &Mount, timeout: Option<u32>) {
        self.list(|list| {
            list.fstype(&mount.what);
            list.settings(mount);
            if let Some(timeout) = timeout {
                list.pair("timeout", timeout.to_string().as_bytes());
            }
            if let What::Map { point, .. } = &mount.what {
                list.point(point);
            }
            for option in &mount.options {
                list.option(option);
            }
        });
        match &mount.what {
            What::Servers { servers, .. } => servers.iter().for_each(|server| self.server(server)),
            What::Bind { source, .. } | What::Link { to: source } | What::Source { source, .. } => {
                self.blank();
                self.text.push(b':');
                quote(source, &mut self.text);
            }
            What::Map { map, .. } => self.map(map),
        }
    }

    fn server(&mut self, server: &Server) {
        self.blank();
        if let Some(host) = &server.host {
            let ipv6 = host.contains(&b':');
            self.text.extend_from_slice(if ipv6 { b"[" } else { b"" });
            self.text.extend_from_slice(host);
            self.text.extend_from_slice(if ipv6 { b"]" } else { b"" });
            if server.weight > 0 {
                self.text.push(b'(');
                self.text
                    .extend_from_slice(server.weight.to_string().as_bytes());
                self.text.push(b')');
            }
        }
        self.text.push(b':');
        quote(&server.path, &mut self.text);
        if let Some(below) = &server.subdirectory {
            self.text.push(b':');
            quote(below, &mut self.text);
        }
    }

    fn map(&mut self, map: &MapSpec) {
        self.blank();
        self.text.push(b':');
        if let Some(kind) = map.kind.as_ref().filter(|_| map.name != HOSTS_MAP) {
            self.text.extend_from_slice(type_name(kind).as_bytes());
            if let Some(format) = &map.format {
                self.text.push(b',');
                self.text.extend_from_slice(format.as_bytes());
            }
            self.text.push(b':');
        }
        quote(&map.name, &mut self.text);
        for argument in &map.arguments {
            self.blank();
            if argument.is_empty() {
                self.text.extend_from_slice(b"\"\"");
            }
            quote(argument, &mut self.text);
        }
    }
}

impl List<'_> {
    fn option(&mut self, option: &[u8]) {
        self.text.extend_from_slice(self.before);
        self.before = b",";
        quote(option, self.text);
    }

    fn word(&mut self, option: &str, wanted: bool) {
        if wanted {
            self.option(option.as_bytes());
        }
    }

    fn pair(&mut self, name: &str, value: &[u8]) {
        self.option(&[name.as_bytes(), b"=", value].concat());
    }

    fn fstype(&mut self, what: &What) {
        let name = match what {
            What::Servers { fstype, .. } if fstype == "nfs" => return,
            What::Servers { fstype, .. } | What::Source { fstype, .. } => fstype,
            What::Bind {
                recursive: true, ..
            } => return self.pair("fstype", b"rbind"),
            What::Bind {
                recursive: false, ..
            } => return self.pair("fstype", b"bind"),
            What::Link { .. } => return self.pair("fstype", b"afs"),
            What::Map { .. } => return self.pair("fstype", b"autofs"),
        };
        self.pair("fstype", name);
    }

    fn settings(&mut self, mount: &Mount) {
        let own = !matches!(mount.what, What::Source { .. });
        self.word("nobind", own && mount.nobind);
        self.word("symlink", own && mount.symlink);
        self.word("use-weight-only", mount.selection == Selection::WeightOnly);
        match mount.selection {
            Selection::Proximity | Selection::WeightOnly => {}
            other => self.pair("selection", other.name().as_bytes()),
        }
        self.word("mount-helper=yes", mount.by_helper);
        let bind = matches!(mount.what, What::Bind { .. } | What::Map { .. });
        self.word("private", bind && mount.propagation == Propagation::Private);
    }

    fn point(&mut self, point: &PointOptions) {
        self.word("browse", point.browse == Some(true));
        self.word("nobrowse", point.browse == Some(false));
        self.word("strictexpire", point.strict_expire);
        self.word("strict", point.strict);
        for (name, value) in &point.defines {
            self.option(&[b"-D", name.as_slice(), b"=", value].concat());
        }
    }
}

/// How a map type is written before a name.
fn type_name(kind: &MapType) -> &str {
    match kind {
        MapType::File => "file",
        MapType::Program => "program",
        MapType::Hosts => "hosts",
        MapType::Null => "null",
        MapType::Passwd => "passwd",
        MapType::Snapshot => "snapshot",
        MapType::Other(name) => name,
    }
}

/// Writes `text` so that it is read as itself: in quotes when any byte of it has a meaning, and
/// a quote in it with a backslash, outside of quotes.
pub fn quote(text: &[u8], out: &mut Vec<u8>) {
    let safe =
        |byte: &u8| byte.is_ascii_alphanumeric() || b"/._+=%@~^-".contains(byte) || *byte >= 0x80;
    if text.iter().all(safe) {
        out.extend_from_slice(text);
        return;
    }
    for (number, part) in text.split_str("\"").enumerate() {
        if number > 0 {
            out.extend_from_slice(b"\\\"");
        }
        if !part.is_empty() {
            out.push(b'"');
            out.extend_from_slice(part);
            out.push(b'"');
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_has_a_meaning_is_quoted() {
        for (text, written) in [
            ("/a/b", "/a/b"),
            ("a b", "\"a b\""),
            ("a\"b", "\"a\"\\\"\"b\""),
            ("\"", "\\\""),
            ("$x&", "\"$x&\""),
            ("a,b", "\"a,b\""),
            ("a\\b", "\"a\\b\""),
            ("#", "\"#\""),
            ("", ""),
        ] {
            let mut out = Vec::new();
            quote(text.as_bytes(), &mut out);
            assert_eq!(out.as_bstr(), written.as_bytes().as_bstr(), "{text}");
        }
    }
}
