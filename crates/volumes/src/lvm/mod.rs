//! Logical volumes, thick and thin, by LVM's own tool.
//!
//! A snapshot is a read-only volume with the tag `piton`, made by a command that sets the tag at
//! once. The kernel knows who has it open, whatever the namespace, and LVM asks it before a volume
//! is removed. For a single volume LVM makes the file system stand still by itself.
//!
//! # A group
//! LVM makes one snapshot after the other. They are of one instant because the caller has frozen all
//! file systems of the group, which LVM then freezes once more: Linux allows that since 6.8. (To
//! suspend the volumes themselves beforehand would not do: LVM takes it for its own doing, and makes
//! a mess of the pool.)

mod report;

use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::{Path, PathBuf};
use std::thread::sleep;
use std::time::Instant;

use autofs::{DeviceId, DeviceMapper};
use bstr::{BString, ByteSlice};
use piton_snapshot::{Fill, Found, Health, Kind, Name, Origin, Size, State};
use rustix::io::Errno;

use self::report::Row;
use crate::error::Error;
use crate::limits;
use crate::program::Run;
use crate::provider::{Provider, Show, View};
use crate::room::percent;
use crate::superblock;
use crate::table;
use crate::turn::Turn;

/// Makes snapshots of logical volumes.
#[derive(Clone, Debug)]
pub struct Lvm {
    /// lvm(8): a path, or a name that is looked for where programs are.
    pub lvm: PathBuf,
}

impl Default for Lvm {
    fn default() -> Self {
        Self { lvm: "lvm".into() }
    }
}

impl Lvm {
    fn run<'a>(&'a self, origin: &'a Origin, command: &str) -> Run<'a> {
        Run::new(&self.lvm, origin.path()).arg(command)
    }

    /// All volumes of the origin's group.
    fn rows(&self, origin: &Origin, turn: Turn<'_>) -> Result<Vec<Row>, Error> {
        let report = self
            .run(origin, "lvs")
            .args(["--reportformat", "json", "--units", "b", "--nosuffix", "-o"])
            .arg(report::COLUMNS)
            .arg(origin.container())
            .report(turn)
            .map_err(|error| match error {
                Error::Program { words, .. } if words.contains("not found") => Error::Absent {
                    what: origin.container().into(),
                    place: "the volume groups".into(),
                },
                error => error,
            })?;
        report::read(&report).map_err(|why| Error::Unreadable {
            program: self.lvm.display().to_string(),
            why,
        })
    }

    fn live(&self, origin: &Origin, turn: Turn<'_>) -> Result<Live, Error> {
        let rows = self.rows(origin, turn)?;
        let of = |name: &str| rows.iter().find(|row| row.name == name).cloned();
        let own = origin.own_name().to_string();
        let volume = of(&own).ok_or_else(|| Error::Absent {
            what: origin.path().into(),
            place: format!("the volume group {}", origin.container()),
        })?;
        let refuse = |why: &str| Error::Unsupported {
            what: origin.path().into(),
            why: why.into(),
        };
        let pool = if volume.is_thin() {
            Some(of(&volume.pool).ok_or_else(|| refuse("its thin pool is not to be seen"))?)
        } else if volume.segments.contains("pool") {
            return Err(refuse("it is a pool: name a volume in it"));
        } else if !volume.origin.is_empty() {
            return Err(refuse(
                "it is a snapshot itself, and LVM makes none of those",
            ));
        } else {
            None
        };
        Ok(Live { volume, pool, rows })
    }

    /// Makes one. The tag is there as soon as the volume is.
    fn make(&self, origin: &Origin, live: &Live, name: Name, turn: Turn<'_>) -> Result<(), Error> {
        let run = self
            .run(origin, "lvcreate")
            .args(["--yes", "--quiet", "--snapshot", "--permission", "r"])
            .args(["--addtag", Name::TAG, "--name"])
            .arg(name.of(origin));
        let run = match live.pool {
            Some(_) => run.args(["--setactivationskip", "n"]),
            None => run.arg("--size").arg(format!("{}b", live.room(turn))),
        };
        run.arg(origin.path()).report(turn).map(drop)
    }

    /// A snapshot by this name, if it is there and ours.
    fn snapshot(&self, origin: &Origin, name: Name, turn: Turn<'_>) -> Result<Snapshot, Error> {
        let rows = self.rows(origin, turn)?;
        let text = name.of(origin);
        let Some(row) = rows.iter().find(|row| row.name == text) else {
            return Err(Error::absent(path(origin, &text), origin));
        };
        let own = origin.own_name();
        let live = rows.iter().find(|row| own == row.name.as_bytes());
        match health(origin, row) {
            Some(health) => Ok(Snapshot {
                row: row.clone(),
                health,
                live: live.and_then(mounted),
            }),
            None => Err(Error::Foreign {
                what: path(origin, &text),
                mark: "the tag piton, and the right origin",
            }),
        }
    }

    /// Has a volume go on that an LVM which was killed left suspended.
    fn resume_if_left(&self, origin: &Origin, turn: Turn<'_>) -> Result<(), Error> {
        let suspended = || -> Result<Option<DeviceId>, Error> {
            let rows = self.rows(origin, turn)?;
            let own = origin.own_name();
            let row = rows.iter().find(|row| own == row.name.as_bytes());
            Ok(row.filter(|row| row.is_suspended()).and_then(Row::device))
        };
        let until = Instant::now() + limits::SUSPENDED;
        // Another program of LVM's may be at work on it: that is over soon.
        while let Some(device) = suspended()? {
            if Instant::now() < until {
                sleep(limits::SUSPENDED_PAUSE);
                continue;
            }
            let failed = |error: autofs::Error| {
                Error::call(
                    "resuming",
                    origin.path(),
                    error.errno().unwrap_or(Errno::IO),
                )
            };
            return DeviceMapper::open()
                .and_then(|mapper| mapper.resume(device))
                .map_err(failed);
        }
        Ok(())
    }
}

/// An origin.
struct Live {
    volume: Row,
    /// Where a thin one is.
    pool: Option<Row>,
    rows: Vec<Row>,
}

struct Snapshot {
    row: Row,
    health: Health,
    /// Where its origin is mounted.
    live: Option<BString>,
}

impl Live {
    /// Bytes for the changes of a thick snapshot, in whole extents.
    fn room(&self, turn: Turn<'_>) -> u64 {
        let wanted = match turn.means.size {
            Some(Size::Bytes(bytes)) => bytes,
            Some(Size::Percent(percent)) => share(self.volume.size, percent),
            None => share(self.volume.size, limits::THICK_SIZE),
        };
        let extent = self.volume.extent.max(1);
        wanted.max(1).div_ceil(extent).saturating_mul(extent)
    }

    fn fill(&self, origin: &Origin, turn: Turn<'_>) -> Fill {
        let group = origin.container();
        match &self.pool {
            Some(pool) => Fill {
                place: format!("the thin pool {group}/{}", pool.name),
                percent: pool.fill(),
                free: pool.size - share(pool.size, pool.data_percent().min(100)),
            },
            // A full group is no danger to anybody: what counts is whether there is room.
            None => Fill {
                place: format!("what is left of the volume group {group}"),
                percent: percent(self.room(turn), self.volume.group_free),
                free: self.volume.group_free,
            },
        }
    }

    /// Refuses what would end badly, before anything is changed.
    fn check(&self, origin: &Origin, turn: Turn<'_>) -> Result<(), Error> {
        let group = origin.container();
        match &self.pool {
            Some(pool) if !pool.health.is_empty() || pool.fill() >= 100 => Err(Error::Full {
                what: path(origin, &pool.name),
                why: format!(
                    "the thin pool has no room left ({} % of it in use{}{}): make it larger \
                     (lvextend) or remove snapshots",
                    pool.fill(),
                    if pool.health.is_empty() { "" } else { ", " },
                    pool.health,
                ),
            }),
            None if self.room(turn) > self.volume.group_free => Err(Error::Full {
                what: group.into(),
                why: format!(
                    "the volume group has {} bytes left, and the snapshot would take {}: say a \
                     smaller size=, remove snapshots, or make the group larger (vgextend)",
                    self.volume.group_free,
                    self.room(turn),
                ),
            }),
            _ => Ok(()),
        }
    }

    /// Refuses what cannot be of one instant with others.
    fn check_in_group(&self, origin: &Origin) -> Result<(), Error> {
        let refuse = |why: String| Error::Unsupported {
            what: origin.path().into(),
            why,
        };
        let Some(device) = self.volume.device().filter(|_| self.volume.is_open()) else {
            return Ok(());
        };
        if mounted(&self.volume).is_none() {
            return Err(refuse(
                "somebody has it open, but it is not mounted here, so that it cannot be frozen \
                 together with the others: take its snapshots alone"
                    .into(),
            ));
        }
        // Who writes to a file system that is frozen waits: LVM too, and the guard.
        let device = rustix::fs::makedev(device.major(), device.minor());
        let holds = |path: &&&str| std::fs::metadata(path).is_ok_and(|it| it.dev() == device);
        if let Some(needed) = limits::NEEDED.iter().find(holds) {
            return Err(refuse(format!(
                "{needed} is on it, without which LVM could not go on while the group is frozen: \
                 take its snapshots alone"
            )));
        }
        if !freezes_nest() {
            return Err(refuse(
                "before Linux 6.8 LVM makes no snapshots of volumes whose file systems are frozen, \
                 so that those of a group would not be of one instant: take each alone"
                    .into(),
            ));
        }
        Ok(())
    }
}

/// Where a volume is mounted.
fn mounted(volume: &Row) -> Option<BString> {
    let device = volume.device()?;
    let number = (device.major(), device.minor());
    table::point_of(|mount| mount.device == number)
}

/// Whether a frozen file system can be frozen once more by the kernel (`FREEZE_MAY_NEST` in
/// `linux/fs.h`).
fn freezes_nest() -> bool {
    let uname = rustix::system::uname();
    let release = uname.release().to_string_lossy();
    let mut numbers = release.split(|c: char| !c.is_ascii_digit());
    let mut next = || numbers.next().and_then(|number| number.parse::<u32>().ok());
    (next(), next()) >= (Some(6), Some(8))
}

impl Provider for Lvm {
    fn kind(&self) -> Kind {
        Kind::Lvm
    }

    fn inspect(&self, origin: &Origin, turn: Turn<'_>) -> Result<State, Error> {
        let live = self.live(origin, turn)?;
        Ok(State {
            origin: origin.clone(),
            fill: live.fill(origin, turn),
            mounted: mounted(&live.volume),
            freezes: true,
            instant: true,
            whole: true,
            tells_room: live.pool.is_none(),
        })
    }

    fn list(&self, origin: &Origin, turn: Turn<'_>) -> Result<Vec<Found>, Error> {
        let live = self.live(origin, turn)?;
        let found = live.rows.iter().filter_map(|row| {
            let (_, name) = Name::parse(&row.name)?;
            Some(Found {
                origin: origin.clone(),
                name,
                health: health(origin, row)?,
                // A thin one shares nearly all it has.
                used: (!row.is_thin()).then_some(row.size),
                busy: row.is_open(),
            })
        });
        Ok(found.collect())
    }

    fn create(&self, group: &[Origin], name: Name, turn: Turn<'_>) -> Result<(), Error> {
        let mut lives = Vec::with_capacity(group.len());
        for origin in group {
            let live = self.live(origin, turn)?;
            live.check(origin, turn)?;
            if group.len() > 1 {
                live.check_in_group(origin)?;
            }
            lives.push((origin, live));
        }
        // Together they may be too much where each is not.
        for (origin, live) in &lives {
            let same = |it: &&(&Origin, Live)| {
                it.0.container() == origin.container() && it.1.pool.is_none()
            };
            let wanted: u64 = lives.iter().filter(same).map(|(_, it)| it.room(turn)).sum();
            if live.pool.is_none() && wanted > live.volume.group_free {
                return Err(Error::Full {
                    what: origin.container().into(),
                    why: format!(
                        "the volume group has {} bytes left, and the snapshots of the group would \
                         take {wanted}: say a smaller size=",
                        live.volume.group_free
                    ),
                });
            }
        }
        let mut made = Ok(());
        for (origin, live) in &lives {
            made = made.and_then(|()| self.make(origin, live, name, turn));
        }
        if made.is_err() {
            for (origin, _) in &lives {
                // The first error counts; the caller removes what is left.
                let _ = self.remove(origin, name, turn);
            }
        }
        made
    }

    fn view(&self, origin: &Origin, name: Name, turn: Turn<'_>) -> Result<View, Error> {
        let mut snapshot = self.snapshot(origin, name, turn)?;
        let what = path(origin, &snapshot.row.name);
        let why = match snapshot.health {
            Health::Good => None,
            Health::Overflowed => Some(
                "its room for changes is full, and what it held is lost: remove it, and say a \
                 larger size=",
            ),
            Health::Partial => Some("it was never finished"),
        };
        if let Some(why) = why {
            let why = why.into();
            return Err(Error::Spoilt { what, why });
        }
        if snapshot.row.device().is_none() {
            self.run(origin, "lvchange")
                .args(["--yes", "--activate", "y", "--ignoreactivationskip"])
                .arg(&what)
                .report(turn)?;
            snapshot = self.snapshot(origin, name, turn)?;
        }
        let device = device_node(origin, &snapshot.row)?;
        let file = std::fs::File::open(&device)
            .map_err(|error| Error::io("opening", device.as_os_str().as_encoded_bytes(), &error))?;
        let known = superblock::known(&file, what.as_bstr())?;
        Ok(View {
            source: BString::from(device.into_os_string().into_encoded_bytes()),
            show: Show::FileSystem(known.fstype),
            options: known.mount_options(),
            live: snapshot.live,
        })
    }

    fn remove(&self, origin: &Origin, name: Name, turn: Turn<'_>) -> Result<(), Error> {
        self.resume_if_left(origin, turn)?;
        let snapshot = match self.snapshot(origin, name, turn) {
            Ok(snapshot) => snapshot,
            Err(Error::Absent { .. }) => return Ok(()),
            Err(error) => return Err(error),
        };
        let what = path(origin, &snapshot.row.name);
        let busy = || Error::Busy {
            what: what.clone(),
            by: "(the kernel has it open: a mount, maybe in another namespace)".into(),
        };
        if snapshot.row.is_open() {
            return Err(busy());
        }
        // The tag is looked at once more by the command that removes.
        let select = format!("lv_tags={} && lv_name={}", Name::TAG, snapshot.row.name);
        let removed = self
            .run(origin, "lvremove")
            .args(["--yes", "--quiet", "--select", &select])
            .arg(origin.container())
            .report(turn);
        match removed {
            Err(Error::Program { words, .. }) if words.contains("in use") => Err(busy()),
            removed => removed.map(drop),
        }
    }
}

/// Of a volume that is a snapshot of ours of this origin, whether it can be served.
fn health(origin: &Origin, row: &Row) -> Option<Health> {
    let (label, _) = Name::parse(&row.name)?;
    if label != origin.label() || !row.has_tag(Name::TAG) {
        return None;
    }
    if origin.own_name() == row.origin.as_bytes() {
        let overflowed = !row.is_thin() && row.is_invalid();
        return Some(match overflowed {
            true => Health::Overflowed,
            false => Health::Good,
        });
    }
    // LVM makes the room of a thick one first, and then a snapshot of it.
    let begun = row.origin.is_empty() && !row.is_thin();
    begun.then_some(Health::Partial)
}

/// The node of an active volume, and that it is the right one.
fn device_node(origin: &Origin, row: &Row) -> Result<PathBuf, Error> {
    let group = origin.container().to_str_lossy().into_owned();
    let escaped = |text: &str| text.replace('-', "--");
    let nodes = [
        format!("/dev/{group}/{}", row.name),
        format!("/dev/mapper/{}-{}", escaped(&group), escaped(&row.name)),
    ];
    let number = row.device();
    let is_it = |path: &&String| {
        std::fs::metadata(Path::new(path)).is_ok_and(|found| {
            let device = DeviceId::from_st_dev(found.rdev());
            found.file_type().is_block_device() && Some(device) == number
        })
    };
    nodes
        .iter()
        .find(is_it)
        .map(PathBuf::from)
        .ok_or_else(|| Error::Absent {
            what: path(origin, &row.name),
            place: "/dev, although it is active: is udev running?".into(),
        })
}

fn path(origin: &Origin, name: &str) -> BString {
    format!("{}/{name}", origin.container()).into()
}

fn share(whole: u64, percent: u8) -> u64 {
    let part = u128::from(whole) * u128::from(percent) / 100;
    u64::try_from(part).unwrap_or(u64::MAX)
}
