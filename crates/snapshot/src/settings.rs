//! What an entry of type `snapshot` says: `-fstype=snapshot,provider=lvm,keep=3 :storage/data`.

use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;

use bstr::{BStr, BString, ByteSlice};

use crate::invalid::Invalid;
use crate::limits;
use crate::origin::{Kind, Origin};
use crate::policy::{Cap, Policy};
use crate::request::{When, check_word};
use crate::time::{Seconds, number};

/// Whether the file system is frozen while a snapshot is taken, where that takes a call of its own.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Deserialize, serde::Serialize))]
pub enum Freeze {
    /// If it can be; else the snapshot is crash-consistent, and says so.
    #[default]
    Auto,
    /// If it can't be, no snapshot is taken.
    Always,
    /// It is not.
    Never,
}

/// An amount of space.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Deserialize, serde::Serialize))]
pub enum Size {
    /// Percent of the origin.
    Percent(u8),
    /// Bytes.
    Bytes(u64),
}

/// What a provider has to know besides the origin.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Deserialize, serde::Serialize))]
pub struct Means {
    /// Room for the changes of a snapshot that has its own (thick LVM).
    pub size: Option<Size>,
    /// The directory in which snapshots are made (btrfs, images, directories), if it is said.
    pub store: Option<BString>,
    /// At how many percent no snapshot is taken any more, if the entry says so.
    pub refuse_at: Option<u8>,
}

/// Programs that tell applications.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Deserialize, serde::Serialize))]
pub struct Hooks {
    /// Run before the snapshot; if it fails none is taken.
    pub before: Option<BString>,
    /// Run after it, whatever came of it, if `before` was begun or there is none.
    pub after: Option<BString>,
    /// Time that each may take.
    pub time: Option<Seconds>,
}

/// What an entry says about snapshots.
#[derive(Clone, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Deserialize, serde::Serialize))]
pub struct Settings {
    /// Of what; more than one are taken at one instant. In the order of their names, none twice.
    pub origins: Vec<Origin>,
    /// Which of them is mounted here.
    pub member: usize,
    /// Which snapshot.
    pub when: When,
    /// How long those that nobody uses are kept.
    pub policy: Policy,
    /// Whether to freeze.
    pub freeze: Freeze,
    /// Whom to tell.
    pub hooks: Hooks,
    /// For the provider.
    pub means: Means,
    /// Options for mounting what the snapshot holds.
    pub mount: Vec<BString>,
}

/// What is wrong with an entry, and where.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    /// Which option, by its place in the list; `None`: the location, or that something is missing.
    pub option: Option<usize>,
    /// What is wrong.
    pub invalid: Invalid,
}

/// The names of the options that are ours, for whoever suggests one.
pub const OPTIONS: [&str; 13] = [
    "after",
    "at",
    "before",
    "cap",
    "freeze",
    "group",
    "hook-time",
    "keep",
    "keep-for",
    "provider",
    "refuse-at",
    "size",
    "store",
];

impl Means {
    /// At how many percent no snapshot is taken any more.
    pub fn refuse_at(&self, kind: Kind) -> u8 {
        self.refuse_at.unwrap_or(match kind {
            Kind::Lvm | Kind::Zfs => limits::POOL_FULL,
            Kind::Btrfs | Kind::Image | Kind::Directory => limits::FILE_SYSTEM_FULL,
        })
    }
}

impl Settings {
    /// Reads the options and the location of an entry. Options that are not ours are for mount.
    ///
    /// # Errors
    /// The first [`Problem`].
    pub fn read(options: &[BString], location: &BStr) -> Result<Self, Problem> {
        let mut reader = Reader::default();
        for (place, option) in options.iter().enumerate() {
            let there = |invalid| Problem {
                option: Some(place),
                invalid,
            };
            reader.take(option.as_bstr()).map_err(there)?;
        }
        let settings = reader.finish(location)?;
        let kind = settings.origin().kind();
        for (place, option) in options.iter().enumerate() {
            if let Some(invalid) = misplaced(option.as_bstr(), kind) {
                let option = Some(place);
                return Err(Problem { option, invalid });
            }
        }
        if settings.policy.cap.is_some() && !kind.tells_room() {
            return Err(Problem {
                option: options
                    .iter()
                    .position(|option| option.starts_with(b"cap=")),
                invalid: Invalid::new(
                    "cap-not-measured",
                    format!("nothing tells how much room one snapshot of type {kind} takes"),
                    "remove cap=: keep= and keep-for= say what stays, and refuse-at= leaves room",
                ),
            });
        }
        Ok(settings)
    }

    /// The origin that is mounted here.
    pub fn origin(&self) -> &Origin {
        &self.origins[self.member]
    }
}

#[derive(Default)]
struct Reader {
    kind: Option<Kind>,
    group: Vec<String>,
    when: Option<When>,
    policy: Policy,
    freeze: Freeze,
    hooks: Hooks,
    means: Means,
    mount: Vec<BString>,
}

impl Reader {
    fn take(&mut self, option: &BStr) -> Result<(), Invalid> {
        let Some((name, value)) = option.split_once_str(b"=") else {
            return self.take_word(option);
        };
        let value = value.as_bstr();
        let text = value.to_str().unwrap_or("?");
        match name {
            b"provider" => self.kind = Some(Kind::parse(value)?),
            b"at" => self.when = Some(When::parse(text)?),
            b"keep" => self.policy.keep = keep(text)?,
            b"keep-for" => self.policy.keep_for = Some(Seconds::parse(text)?),
            b"cap" => {
                self.policy.cap = Some(Cap {
                    bytes: bytes(text)?,
                })
            }
            b"refuse-at" => self.means.refuse_at = Some(percent(text.trim_end_matches('%'))?),
            b"size" => {
                self.means.size = Some(match text.strip_suffix('%') {
                    Some(text) => Size::Percent(percent(text)?),
                    None => Size::Bytes(bytes(text)?),
                });
            }
            b"store" => self.means.store = Some(absolute(value)?),
            b"before" => self.hooks.before = Some(absolute(value)?),
            b"after" => self.hooks.after = Some(absolute(value)?),
            b"hook-time" => self.hooks.time = Some(Seconds::parse(text)?),
            b"group" => self.group = group(value)?,
            b"freeze" => {
                self.freeze = match text {
                    "auto" => Freeze::Auto,
                    "yes" => Freeze::Always,
                    "no" => Freeze::Never,
                    _ => {
                        return Err(Invalid::new(
                            "bad-freeze",
                            format!("`{}` says not whether to freeze", text.escape_debug()),
                            "write freeze=auto, freeze=yes or freeze=no",
                        ));
                    }
                };
            }
            _ => self.mount.push(option.into()),
        }
        Ok(())
    }

    fn take_word(&mut self, option: &BStr) -> Result<(), Invalid> {
        if option == "rw" {
            return Err(Invalid::new(
                "writable-snapshot",
                "snapshots are mounted read-only",
                "remove rw",
            ));
        }
        self.mount.push(option.into());
        Ok(())
    }

    fn finish(self, location: &BStr) -> Result<Settings, Problem> {
        let here = |invalid| Problem {
            option: None,
            invalid,
        };
        let Some(kind) = self.kind else {
            return Err(here(Invalid::new(
                "snapshot-without-provider",
                "the entry does not say what makes the snapshot",
                "add provider=lvm, btrfs, zfs, image or directory",
            )));
        };
        let origin = Origin::new(kind, location).map_err(here)?;
        let origins = members(&origin, &self.group).map_err(here)?;
        let member = origins.iter().position(|one| *one == origin).unwrap_or(0);
        Ok(Settings {
            origins,
            member,
            when: self.when.unwrap_or(When::Fresh),
            policy: self.policy,
            freeze: self.freeze,
            hooks: self.hooks,
            means: self.means,
            mount: self.mount,
        })
    }
}

/// Why an option means nothing in an entry of this kind: it is another provider's, or belongs
/// elsewhere.
fn misplaced(option: &BStr, kind: Kind) -> Option<Invalid> {
    let shown = option.escape_bytes();
    let (name, _) = option.split_once_str(b"=")?;
    let others = match name {
        b"size" if kind != Kind::Lvm => "LVM, whose thick snapshots have room of their own",
        b"store" if !kind.is_path() => "btrfs, images and directories",
        b"vg" | b"lv" | b"pool" | b"dir" | b"dataset" => {
            let example = match kind {
                Kind::Lvm => "storage/data",
                Kind::Zfs => "tank/home",
                Kind::Btrfs | Kind::Image | Kind::Directory => "/srv/data",
            };
            return Some(Invalid::new(
                "place-in-options",
                format!(
                    "`{shown}` means nothing in an entry, whose location says which volume it is"
                ),
                format!("remove it; after the options stands the volume, such as :{example}"),
            ));
        }
        name if name == b"only" || name.starts_with(b"group.") => {
            return Some(Invalid::new(
                "option-of-snapshot-map",
                format!("`{shown}` is for maps of type snapshot, and means nothing in an entry"),
                "remove it; an entry is one volume, or with group=a/b one of a group",
            ));
        }
        _ => return None,
    };
    Some(Invalid::new(
        "option-of-other-provider",
        format!("`{shown}` means nothing to {kind}: it is for {others}"),
        "remove it",
    ))
}

/// The origins of a group: those of the same container as `origin`, which is one of them.
fn members(origin: &Origin, group: &[String]) -> Result<Vec<Origin>, Invalid> {
    if group.is_empty() {
        return Ok(alloc::vec![origin.clone()]);
    }
    if !group.iter().any(|name| origin.own_name() == name.as_str()) {
        return Err(Invalid::new(
            "not-in-group",
            format!("`{}` is none of its group", origin.own_name()),
            "name it in group=, too",
        ));
    }
    let container = origin.container();
    let slash = if container.is_empty() || container == "/" {
        ""
    } else {
        "/"
    };
    let mut origins = Vec::with_capacity(group.len());
    for name in group {
        let path = format!("{container}{slash}{name}");
        origins.push(Origin::new(origin.kind(), path.as_str().into())?);
    }
    origins.sort();
    Ok(origins)
}

/// `data/wal`: names in one container, none twice.
pub(crate) fn group(text: &BStr) -> Result<Vec<String>, Invalid> {
    let mut names: Vec<String> = Vec::new();
    for name in text.split_str("/") {
        let name = check_word(name.as_bstr())?;
        if names.iter().any(|other| other == name) {
            let message = format!("`{name}` is in the group twice");
            return Err(Invalid::new("bad-group", message, "name each once"));
        }
        names.push(name.into());
    }
    if names.len() > limits::GROUP {
        return Err(Invalid::new(
            "bad-group",
            format!("the group has {} members", names.len()),
            format!("{} are the most", limits::GROUP),
        ));
    }
    Ok(names)
}

fn keep(text: &str) -> Result<u32, Invalid> {
    let count = number(text, text.len()).filter(|count| *count <= limits::KEPT.into());
    count
        .and_then(|count| u32::try_from(count).ok())
        .ok_or_else(|| {
            Invalid::new(
                "bad-keep",
                format!(
                    "`{}` is no number of snapshots to keep",
                    text.escape_debug()
                ),
                format!("write a number up to {}", limits::KEPT),
            )
        })
}

fn percent(text: &str) -> Result<u8, Invalid> {
    let percent = number(text, text.len()).filter(|percent| (1..=100).contains(percent));
    percent
        .and_then(|percent| u8::try_from(percent).ok())
        .ok_or_else(|| {
            Invalid::new(
                "bad-percentage",
                format!("`{}` is no number of percent", text.escape_debug()),
                "write a number from 1 to 100",
            )
        })
}

/// `512M`, `20G`.
fn bytes(text: &str) -> Result<u64, Invalid> {
    const UNITS: [(char, u32); 4] = [('K', 10), ('M', 20), ('G', 30), ('T', 40)];
    let bytes = UNITS.iter().find_map(|(unit, shift)| {
        let count = text.strip_suffix(*unit)?;
        let count = number(count, count.len())?;
        count.checked_mul(1 << shift).filter(|bytes| *bytes > 0)
    });
    bytes.ok_or_else(|| {
        Invalid::new(
            "bad-amount",
            format!("`{}` is no amount of space", text.escape_debug()),
            "write a number with K, M, G or T, such as 20G",
        )
    })
}

fn absolute(path: &BStr) -> Result<BString, Invalid> {
    let plain = |part: &[u8]| !part.is_empty() && part != b"." && part != b"..";
    let good = path
        .strip_prefix(b"/")
        .is_some_and(|rest| rest.split_str("/").all(plain))
        && path.len() <= limits::ORIGIN
        && !path.iter().any(u8::is_ascii_control);
    match good {
        true => Ok(path.into()),
        false => Err(Invalid::new(
            "bad-snapshot-path",
            format!("`{}` is no absolute path", path.escape_bytes()),
            "write it in full, without `.`, `..` and double slashes",
        )),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(options: &[&str], location: &str) -> Result<Settings, Problem> {
        let options: Vec<BString> = options.iter().map(|word| BString::from(*word)).collect();
        Settings::read(&options, location.into())
    }

    #[test]
    fn an_entry_says_it_all() {
        let settings = read(
            &[
                "provider=lvm",
                "ro",
                "at=-1d",
                "keep=3",
                "keep-for=7d",
                "cap=20G",
                "refuse-at=80",
                "size=10%",
                "before=/usr/bin/lock",
                "after=/usr/bin/unlock",
                "hook-time=5s",
                "freeze=yes",
                "group=wal/data",
                "nosuid",
            ],
            "storage/data",
        )
        .unwrap();
        let names: Vec<&BStr> = settings.origins.iter().map(Origin::path).collect();
        assert_eq!(names, ["storage/data", "storage/wal"]);
        assert_eq!(settings.origin().path(), "storage/data");
        assert_eq!(settings.when, When::Ago(Seconds(86_400)));
        assert_eq!(
            settings.policy,
            Policy {
                keep: 3,
                keep_for: Some(Seconds(604_800)),
                cap: Some(Cap { bytes: 20 << 30 })
            }
        );
        assert_eq!(
            (settings.means.refuse_at, settings.freeze),
            (Some(80), Freeze::Always)
        );
        assert_eq!(settings.means.size, Some(Size::Percent(10)));
        assert_eq!(settings.hooks.before.unwrap(), "/usr/bin/lock");
        assert_eq!(settings.mount, ["ro", "nosuid"]);
    }

    #[test]
    fn little_need_be_said() {
        let settings = read(&["provider=btrfs"], "/data").unwrap();
        assert_eq!(
            (settings.when, settings.means.refuse_at(Kind::Btrfs)),
            (When::Fresh, 95)
        );
        assert_eq!(settings.policy, Policy::default());
        assert_eq!(settings.origins.len(), 1);
    }

    #[test]
    fn mistakes_are_found_where_they_are() {
        for (options, location, place, code) in [
            (
                &["provider=xfs"][..],
                "/data",
                Some(0),
                "unknown-snapshot-provider",
            ),
            (&["ro"], "/data", None, "snapshot-without-provider"),
            (&["provider=lvm"], "/data", None, "bad-volume-name"),
            (&["provider=btrfs"], "data", None, "bad-origin"),
            (
                &["provider=btrfs", "rw"],
                "/data",
                Some(1),
                "writable-snapshot",
            ),
            (&["provider=btrfs", "keep=-1"], "/data", Some(1), "bad-keep"),
            (
                &["provider=btrfs", "keep=1001"],
                "/data",
                Some(1),
                "bad-keep",
            ),
            (
                &["provider=btrfs", "keep-for=7"],
                "/data",
                Some(1),
                "bad-length-of-time",
            ),
            (
                &["provider=btrfs", "cap=20"],
                "/data",
                Some(1),
                "bad-amount",
            ),
            (
                &["provider=btrfs", "cap=20G"],
                "/data",
                Some(1),
                "cap-not-measured",
            ),
            (
                &["provider=btrfs", "cap=0G"],
                "/data",
                Some(1),
                "bad-amount",
            ),
            (
                &["provider=btrfs", "cap=99999999999T"],
                "/data",
                Some(1),
                "bad-amount",
            ),
            (
                &["provider=btrfs", "refuse-at=101"],
                "/data",
                Some(1),
                "bad-percentage",
            ),
            (
                &["provider=btrfs", "size=0%"],
                "/data",
                Some(1),
                "bad-percentage",
            ),
            (
                &["provider=btrfs", "freeze=maybe"],
                "/data",
                Some(1),
                "bad-freeze",
            ),
            (
                &["provider=btrfs", "before=lock"],
                "/data",
                Some(1),
                "bad-snapshot-path",
            ),
            (
                &["provider=btrfs", "after=/a/../b"],
                "/data",
                Some(1),
                "bad-snapshot-path",
            ),
            (
                &["provider=btrfs", "at=noon"],
                "/data",
                Some(1),
                "bad-snapshot-time",
            ),
            (&["provider=btrfs", "group=a/a"], "/a", Some(1), "bad-group"),
            (&["provider=btrfs", "group=a/b"], "/c", None, "not-in-group"),
        ] {
            let problem = read(options, location).unwrap_err();
            assert_eq!(
                (problem.option, problem.invalid.code),
                (place, code),
                "{options:?}"
            );
        }
    }

    #[test]
    fn what_belongs_elsewhere_is_found_where_it_is() {
        let other = "option-of-other-provider";
        for (options, location, place, code) in [
            ("provider=btrfs,keep=3,size=10%", "/data", 2, other),
            ("size=2G,provider=zfs", "tank/home", 0, other),
            ("provider=lvm,store=/srv/x", "storage/data", 1, other),
            ("provider=btrfs,vg=storage", "/data", 1, "place-in-options"),
            (
                "provider=lvm,nosuid,pool=thin",
                "storage/data",
                2,
                "place-in-options",
            ),
            (
                "provider=lvm,group.db=data/wal",
                "storage/data",
                1,
                "option-of-snapshot-map",
            ),
        ] {
            let words: Vec<&str> = options.split(',').collect();
            let problem = read(&words, location).unwrap_err();
            let found = (problem.option, problem.invalid.code);
            assert_eq!(found, (Some(place), code), "{options}");
        }
    }

    #[test]
    fn a_group_is_bounded() {
        let names = |count: usize| {
            (0..count)
                .map(|at| format!("v{at}"))
                .collect::<Vec<_>>()
                .join("/")
        };
        assert_eq!(
            group(names(limits::GROUP).as_str().into()).unwrap().len(),
            limits::GROUP
        );
        assert!(group(names(limits::GROUP + 1).as_str().into()).is_err());
    }
}
