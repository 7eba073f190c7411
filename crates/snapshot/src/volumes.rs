//! The map type `snapshot`: `snapshot:lvm,vg=storage,keep=3`. Its keys are volumes and groups of
//! them; for each it makes an entry.

use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;

use bstr::{BStr, BString, ByteSlice};

use crate::invalid::Invalid;
use crate::origin::{Kind, Origin};
use crate::request::{Request, When, check_word};
use crate::settings::{OPTIONS, Settings, group};

/// A map of this type.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Volumes {
    kind: Kind,
    container: BString,
    only: Option<Vec<String>>,
    groups: Vec<(String, Vec<String>)>,
    /// What its entries say besides, as it is written.
    options: Vec<String>,
}

impl Volumes {
    /// Reads what stands after `snapshot:`.
    ///
    /// # Errors
    /// [`Invalid`] for what no entry could be made of.
    pub fn parse(text: &BStr) -> Result<Self, Invalid> {
        let mut words = text.split_str(",").map(BStr::new);
        let kind = Kind::parse(words.next().unwrap_or_default())?;
        let mut map = Self {
            kind,
            container: BString::default(),
            only: None,
            groups: Vec::new(),
            options: Vec::new(),
        };
        for word in words {
            map.take(word)?;
        }
        if map.container.is_empty() {
            let message = format!("the map does not say where the volumes of type {kind} are");
            let help = format!("write snapshot:{kind},{}=…", container(kind));
            return Err(Invalid::new("snapshot-without-place", message, help));
        }
        // What is wrong with an option is said once, and not at each access.
        let options: Vec<BString> = map.options.iter().map(|it| it.as_str().into()).collect();
        let provider = BString::from(format!("provider={kind}"));
        let sample = map.origin("x")?;
        Settings::read(&[&options[..], &[provider]].concat(), sample.path())
            .map_err(|problem| problem.invalid)?;
        Ok(map)
    }

    fn take(&mut self, word: &BStr) -> Result<(), Invalid> {
        let (name, value) = word.split_once_str(b"=").unwrap_or((word, b""));
        let (name, value) = (name.as_bstr(), value.as_bstr());
        if name == container(self.kind) {
            // Whether it is one is seen when it is joined with a name.
            self.container = value.into();
            self.origin("x")?;
        } else if let Some(other) = Kind::ALL.into_iter().find(|it| name == container(*it)) {
            return Err(Invalid::new(
                "option-of-other-provider",
                format!(
                    "`{name}=` means nothing to {}: it is for {other}",
                    self.kind
                ),
                format!("write {}= in its place", container(self.kind)),
            ));
        } else if name == "only" {
            self.only = Some(names(value)?);
        } else if let Some(name) = name.strip_prefix(b"group.") {
            let name = check_word(name.as_bstr())?;
            self.groups.push((name.into(), group(value)?));
        } else {
            let known = OPTIONS.iter().any(|option| name == option)
                && !["at", "group", "provider"]
                    .iter()
                    .any(|option| name == option);
            let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"/._-+=%".contains(&byte);
            if !known || !word.bytes().all(plain) {
                let message = format!(
                    "the map type snapshot has no option `{}`",
                    word.escape_bytes()
                );
                let own = match self.kind {
                    Kind::Lvm => "cap, size",
                    Kind::Zfs => "cap",
                    Kind::Btrfs | Kind::Image | Kind::Directory => "store",
                };
                let help = format!(
                    "the options are {}, only, group.NAME, keep, keep-for, {own}, refuse-at, freeze, \
                     before, after and hook-time; those for mount stand after the map",
                    container(self.kind)
                );
                return Err(Invalid::new("unknown-snapshot-option", message, help));
            }
            self.options.push(word.to_str_lossy().into());
        }
        Ok(())
    }

    /// Who makes the snapshots.
    pub fn kind(&self) -> Kind {
        self.kind
    }

    /// Where the volumes are: the volume group, the directory, the parent dataset.
    pub fn container(&self) -> &BStr {
        self.container.as_bstr()
    }

    /// The keys that are groups.
    pub fn groups(&self) -> impl Iterator<Item = &str> {
        self.groups.iter().map(|(name, _)| name.as_str())
    }

    /// The groups that have these volumes, and no others.
    pub fn groups_of<'a>(&'a self, origins: &'a [Origin]) -> impl Iterator<Item = &'a str> {
        let is_one = |member: &String| self.origin(member).is_ok_and(|it| origins.contains(&it));
        self.groups.iter().filter_map(move |(name, members)| {
            let same = members.len() == origins.len() && members.iter().all(is_one);
            same.then_some(name.as_str())
        })
    }

    /// The volumes that may be asked for, if the map names them.
    pub fn only(&self) -> Option<&[String]> {
        self.only.as_deref()
    }

    /// The volume called `name`.
    ///
    /// # Errors
    /// [`Invalid`]: there can be none.
    pub fn origin(&self, name: &str) -> Result<Origin, Invalid> {
        let slash = if self.container.ends_with(b"/") {
            ""
        } else {
            "/"
        };
        let path = [self.container.as_bytes(), slash.as_bytes(), name.as_bytes()].concat();
        Origin::new(self.kind, path.as_bstr())
    }

    /// The entry of a key; `None`: the map has no such key.
    ///
    /// # Errors
    /// [`Invalid`]: it can be no key.
    pub fn entry(&self, key: &BStr) -> Result<Option<BString>, Invalid> {
        let request = Request::parse(key)?;
        let named = |(name, _): &&(String, Vec<String>)| *name == request.name;
        if let Some((_, members)) = self.groups.iter().find(named) {
            let together = members.join("/");
            let mut text = BString::default();
            for member in members {
                let origin = self.origin(member)?;
                let slash = if text.is_empty() { "/" } else { " /" };
                text.extend_from_slice(format!("{slash}{member} ").as_bytes());
                self.mount(&origin, request.when, Some(&together), &mut text);
            }
            return Ok(Some(text));
        }
        if self
            .only
            .as_ref()
            .is_some_and(|only| !only.contains(&request.name))
        {
            return Ok(None);
        }
        let origin = self.origin(&request.name)?;
        let mut text = BString::default();
        self.mount(&origin, request.when, None, &mut text);
        Ok(Some(text))
    }

    fn mount(&self, origin: &Origin, when: When, group: Option<&str>, text: &mut BString) {
        let mut options = format!("-fstype=snapshot,provider={}", self.kind);
        if let Some(group) = group {
            options.push_str(",group=");
            options.push_str(group);
        }
        if when != When::Fresh {
            options.push_str(&format!(",at={when}"));
        }
        for option in &self.options {
            options.push(',');
            options.push_str(option);
        }
        text.extend_from_slice(options.as_bytes());
        text.extend_from_slice(b" \":");
        // Between quotes no byte has a meaning but the quote.
        for byte in origin.path().bytes() {
            match byte {
                b'"' => text.extend_from_slice(b"\"\\\"\""),
                other => text.push(other),
            }
        }
        text.push(b'"');
    }
}

/// What the place of the volumes is called.
fn container(kind: Kind) -> &'static str {
    match kind {
        Kind::Lvm => "vg",
        Kind::Zfs => "dataset",
        Kind::Btrfs | Kind::Image | Kind::Directory => "dir",
    }
}

fn names(text: &BStr) -> Result<Vec<String>, Invalid> {
    let names = text.split_str("/");
    names
        .map(|name| check_word(name.as_bstr()).map(String::from))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> Result<Volumes, Invalid> {
        Volumes::parse(text.into())
    }

    #[test]
    fn keys_become_entries() {
        let map = parse("lvm,vg=storage,keep=3,group.db=data/wal").unwrap();
        for (key, text) in [
            ("x", "-fstype=snapshot,provider=lvm,keep=3 \":storage/x\""),
            (
                "x@latest",
                "-fstype=snapshot,provider=lvm,at=latest,keep=3 \":storage/x\"",
            ),
            (
                "db@-1d",
                "/data -fstype=snapshot,provider=lvm,group=data/wal,at=-1d,keep=3 \":storage/data\" \
                 /wal -fstype=snapshot,provider=lvm,group=data/wal,at=-1d,keep=3 \":storage/wal\"",
            ),
        ] {
            assert_eq!(map.entry(key.into()).unwrap().unwrap(), text, "{key}");
        }
        let odd = parse("btrfs,dir=/a \"b").unwrap();
        assert_eq!(
            odd.entry("x".into()).unwrap().unwrap(),
            "-fstype=snapshot,provider=btrfs \":/a \"\\\"\"b/x\""
        );
        assert_eq!(
            parse("btrfs,dir=/").unwrap().origin("x").unwrap().path(),
            "/x"
        );
    }

    #[test]
    fn only_what_the_map_names_is_a_key() {
        let map = parse("btrfs,dir=/srv,only=a/b").unwrap();
        assert!(map.entry("a".into()).unwrap().is_some());
        assert_eq!(map.entry("c".into()), Ok(None));
        assert_eq!(map.entry("c@latest".into()), Ok(None));
        for key in ["../etc", "-x", "a/b", "a b", ".."] {
            assert!(map.entry(key.into()).is_err(), "{key}");
        }
    }

    #[test]
    fn mistakes() {
        for (text, code) in [
            ("", "unknown-snapshot-provider"),
            ("xfs,dir=/x", "unknown-snapshot-provider"),
            ("lvm", "snapshot-without-place"),
            ("lvm,vg=", "bad-volume-name"),
            ("lvm,vg=-x", "bad-volume-name"),
            ("lvm,vg=a/b", "bad-origin"),
            ("lvm,dir=/x", "option-of-other-provider"),
            ("btrfs,vg=storage", "option-of-other-provider"),
            ("btrfs,dir=/x,size=2G", "option-of-other-provider"),
            ("zfs,dataset=tank,store=/x", "option-of-other-provider"),
            ("lvm,vg=a,pool=x", "unknown-snapshot-option"),
            ("lvm,vg=a,at=-1d", "unknown-snapshot-option"),
            ("lvm,vg=a,ro", "unknown-snapshot-option"),
            ("lvm,vg=a,before=/a b", "unknown-snapshot-option"),
            ("lvm,vg=a,keep=x", "bad-keep"),
            ("lvm,vg=a,group.-x=a", "bad-volume-name"),
            ("lvm,vg=a,group.x=a/a", "bad-group"),
            ("btrfs,dir=srv", "bad-origin"),
        ] {
            assert_eq!(parse(text).unwrap_err().code, code, "{text}");
        }
    }
}
