//! Datasets of ZFS, by its tool.
//!
//! The mark is a user property on the snapshot, set by the command that makes it. A group is one
//! command: `zfs snapshot` makes all it is given of one instant, if they are of one pool. The tool
//! refuses to destroy what is mounted.

use std::path::PathBuf;

use bstr::{BStr, BString, ByteSlice};
use piton_snapshot::{Fill, Found, Health, Kind, Name, Origin, State};

use crate::error::Error;
use crate::program::Run;
use crate::provider::{Provider, Show, View};
use crate::room::percent;
use crate::table;
use crate::turn::Turn;

/// The property that marks a snapshot (its name needs a colon: zfsprops(7)), and its value.
const MARK: &str = "org.piton:snapshot";
const OURS: &[u8] = b"yes";

/// Makes snapshots of datasets.
#[derive(Clone, Debug)]
pub struct Zfs {
    /// zfs(8): a path, or a name that is looked for where programs are.
    pub zfs: PathBuf,
}

impl Default for Zfs {
    fn default() -> Self {
        Self { zfs: "zfs".into() }
    }
}

impl Zfs {
    fn run<'a>(&'a self, origin: &'a Origin) -> Run<'a> {
        Run::new(&self.zfs, origin.path())
    }

    /// Its lines, of so many fields.
    fn table(
        &self,
        run: Run<'_>,
        width: usize,
        turn: Turn<'_>,
    ) -> Result<Vec<Vec<BString>>, Error> {
        let report = run.report(turn)?;
        let mut lines = Vec::new();
        for line in report.lines() {
            let fields: Vec<BString> = line.split_str("\t").map(BString::from).collect();
            if fields.len() != width {
                return Err(self.unreadable(line.as_bstr()));
            }
            lines.push(fields);
        }
        Ok(lines)
    }

    fn unreadable(&self, line: &BStr) -> Error {
        Error::Unreadable {
            program: self.zfs.display().to_string(),
            why: format!("the line {line:?}"),
        }
    }

    /// The snapshots of an origin that carry our name: which, whether they carry our mark, and bytes.
    fn ours(&self, origin: &Origin, turn: Turn<'_>) -> Result<Vec<(Name, bool, u64)>, Error> {
        let columns = format!("name,used,{MARK}");
        let run = self
            .run(origin)
            .args(["list", "-H", "-p", "-t", "snapshot", "-d", "1", "-o"])
            .arg(columns)
            .arg(origin.path());
        let label = origin.label();
        let mut found = Vec::new();
        for line in self
            .table(run, 3, turn)
            .map_err(|error| absent(origin, error))?
        {
            let [name, used, mark] = &line[..] else {
                continue;
            };
            let parsed = name
                .split_once_str("@")
                .filter(|(dataset, _)| *dataset == *origin.path())
                .and_then(|(_, name)| Name::parse(name.to_str().ok()?));
            if let Some((of, name)) = parsed
                && of == label
            {
                let used = number(used).ok_or_else(|| self.unreadable(used.as_bstr()))?;
                found.push((name, *mark == OURS, used));
            }
        }
        Ok(found)
    }

    /// That a snapshot is there and ours.
    fn check(&self, origin: &Origin, name: Name, turn: Turn<'_>) -> Result<(), Error> {
        let found = self.ours(origin, turn)?;
        match found.iter().find(|(it, ..)| *it == name) {
            Some((_, true, _)) => Ok(()),
            Some((_, false, _)) => Err(Error::Foreign {
                what: whole(origin, name).into(),
                mark: "the property org.piton:snapshot",
            }),
            None => Err(Error::absent(whole(origin, name), origin)),
        }
    }
}

impl Provider for Zfs {
    fn kind(&self) -> Kind {
        Kind::Zfs
    }

    fn inspect(&self, origin: &Origin, turn: Turn<'_>) -> Result<State, Error> {
        let dataset = origin.path();
        let pool = pool(origin);
        let run = self
            .run(origin)
            .args(["get", "-H", "-p", "-o", "name,property,value"])
            .arg("used,available,type")
            .arg(dataset)
            .args((pool != dataset).then_some(pool));
        let lines = self.table(run, 3, turn);
        let lines = lines.map_err(|error| absent(origin, error))?;
        let value = |name: &BStr, property: &str| {
            let mut lines = lines.iter();
            lines.find_map(|line| (line[0] == name && line[1] == property).then_some(&line[2]))
        };
        let room = |name: &BStr| {
            let used = number(value(name, "used")?)?;
            Some((used, number(value(name, "available")?)?))
        };
        let (Some((used, free)), Some((all_used, all_free))) = (room(dataset), room(pool)) else {
            return Err(self.unreadable("without used and available".into()));
        };
        let kind = value(dataset, "type").cloned().unwrap_or_default();
        if kind != "filesystem" {
            return Err(Error::Unsupported {
                what: origin.path().into(),
                why: format!("it is a {kind}, not a file system"),
            });
        }
        // A small dataset of a full pool is not full by itself; one with a quota may be, in an empty
        // pool.
        let own = percent(used, used.saturating_add(free));
        let all = percent(all_used, all_used.saturating_add(all_free));
        let (percent, place) = match own > all {
            true => (own, format!("the dataset {dataset}")),
            false => (all, format!("the pool {pool}")),
        };
        Ok(State {
            origin: origin.clone(),
            fill: Fill {
                place,
                percent,
                free,
            },
            mounted: None,
            freezes: true,
            instant: true,
            whole: true,
            tells_room: true,
        })
    }

    fn list(&self, origin: &Origin, turn: Turn<'_>) -> Result<Vec<Found>, Error> {
        let ours = self.ours(origin, turn)?;
        let sources = if turn.busy { sources(turn) } else { Vec::new() };
        let found = ours.into_iter().filter(|(_, ours, _)| *ours);
        let found = found.map(|(name, _, used)| Found {
            origin: origin.clone(),
            name,
            health: Health::Good,
            used: Some(used),
            busy: sources.contains(&BString::from(whole(origin, name))),
        });
        Ok(found.collect())
    }

    fn create(&self, group: &[Origin], name: Name, turn: Turn<'_>) -> Result<(), Error> {
        let Some(first) = group.first() else {
            return Ok(());
        };
        if let Some(other) = group.iter().find(|it| pool(it) != pool(first)) {
            return Err(Error::Unsupported {
                what: other.path().into(),
                why: format!(
                    "it is not in the pool of {}, and only those of one pool can be of one instant",
                    first.path()
                ),
            });
        }
        let mut mark = BString::from(MARK);
        mark.push(b'=');
        mark.extend_from_slice(OURS);
        self.run(first)
            .args(["snapshot", "-o"])
            .arg(mark)
            .args(group.iter().map(|origin| whole(origin, name)))
            .report(turn)
            .map(drop)
            .map_err(|error| absent(first, error))
    }

    fn view(&self, origin: &Origin, name: Name, turn: Turn<'_>) -> Result<View, Error> {
        self.check(origin, name, turn)?;
        Ok(View {
            source: whole(origin, name).into(),
            show: Show::FileSystem("zfs"),
            options: vec!["ro".into()],
            live: live(origin),
        })
    }

    fn remove(&self, origin: &Origin, name: Name, turn: Turn<'_>) -> Result<(), Error> {
        match self.check(origin, name, turn) {
            Ok(()) => {}
            Err(Error::Absent { .. }) => return Ok(()),
            Err(error) => return Err(error),
        }
        let what = BString::from(whole(origin, name));
        if sources(turn).contains(&what) {
            return Err(Error::Busy {
                what,
                by: "as a mount".into(),
            });
        }
        let destroyed = self.run(origin).arg("destroy").arg(&what).report(turn);
        match destroyed {
            Err(Error::Program { words, .. }) if words.contains("busy") => Err(Error::Busy {
                what,
                by: format!("({words})"),
            }),
            destroyed => destroyed.map(drop),
        }
    }
}

/// The pool, which is a dataset, too.
fn pool(origin: &Origin) -> &BStr {
    let path = origin.path();
    path.split_str("/").next().unwrap_or(path).as_bstr()
}

/// What is mounted of ZFS anywhere, by its source.
fn sources(turn: Turn<'_>) -> Vec<BString> {
    let mounts = table::everywhere(turn).into_iter();
    mounts
        .filter(|mount| mount.fstype == "zfs")
        .map(|mount| mount.source)
        .collect()
}

/// Where a dataset is mounted.
fn live(origin: &Origin) -> Option<BString> {
    table::point_of(|mount| mount.fstype == "zfs" && mount.source == origin.path())
}

fn whole(origin: &Origin, name: Name) -> String {
    format!("{}@{}", origin.path(), name.of(origin))
}

fn number(text: &BString) -> Option<u64> {
    text.to_str().ok()?.parse().ok()
}

/// The tool's words for a dataset that is not there.
fn absent(origin: &Origin, error: Error) -> Error {
    match error {
        Error::Program { words, .. } if words.contains("dataset does not exist") => Error::Absent {
            what: origin.path().into(),
            place: "the pools of ZFS".into(),
        },
        error => error,
    }
}
