//! Finding triggers of an earlier life, and what is mounted in them.
//!
//! All is read from the mount table, once. Nothing is opened but triggers that something is mounted
//! on (to ask who wanted it), and those only where no server is asked on the way: a dead one would
//! hold up the start.

use std::cell::RefCell;
use std::collections::{HashMap, HashSet};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use autofs::{Control, DeviceId, ExistingPoint, PipeState, PointKind};
use bstr::{BStr, BString, ByteSlice};
use piton_engine::event::{Existing, ExistingMount, ExistingServer};
use piton_map::requester::Requester;
use piton_mount::table::{self, Mount, Table};
use piton_plan::probe::service;
use piton_plan::step::{Address, TriggerKind, What};

use crate::kernel::{as_path, point_kind};
use crate::local::is_local_type;

/// What was found at the wanted mount points, and what is ours elsewhere.
#[derive(Debug, Default)]
pub struct Survey {
    /// Triggers at wanted mount points that can be adopted: without a daemon, or ours.
    pub orphans: Vec<Existing>,
    /// Triggers at wanted mount points that somebody else serves.
    pub owned: Vec<Owned>,
    /// Triggers that are ours and stand where none is wanted. They must be adopted as well, or
    /// those who touch them wait in vain.
    pub strays: Vec<Stray>,
}

/// A trigger of ours where none is wanted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Stray {
    /// The trigger, with what is mounted in it.
    pub existing: Existing,
    /// What it was made with as its source text.
    pub source: BString,
}

/// A mount point that belongs to another automounter.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Owned {
    /// Absolute path.
    pub path: BString,
    /// Its process group.
    pub process_group: u32,
}

/// A place as the kernel names it: the trigger's file system, and the key.
pub(crate) type Spot = (DeviceId, BString);

/// What the survey needs to know.
pub(crate) struct Known<'k> {
    pub(crate) control: &'k Control,
    /// The inode number of our own request pipe.
    pub(crate) pipe: Option<u64>,
    /// Where an earlier life did not finish its work.
    pub(crate) marked: HashSet<Spot>,
    /// Where the kernel waits for something to be unmounted.
    pub(crate) expiring: HashSet<Spot>,
}

/// Triggers that were found, by path and kind, for their adoption.
pub(crate) type FoundPoints = HashMap<(PathBuf, PointKind), FoundPoint>;

/// A trigger that was found.
#[derive(Clone, Debug)]
pub(crate) struct FoundPoint {
    pub(crate) point: ExistingPoint,
    /// Opening it by its path asks file systems that may not answer.
    pub(crate) may_hang: bool,
}

/// Looks for triggers at `wanted`, and for ours anywhere. Changes nothing.
pub(crate) fn survey(
    known: &Known<'_>,
    wanted: &[(BString, TriggerKind)],
) -> (Survey, FoundPoints) {
    let text = match table::read() {
        Ok(text) => text,
        Err(error) => {
            tracing::warn!(%error, "cannot look for triggers of an earlier life");
            return (Survey::default(), FoundPoints::new());
        }
    };
    let points: Vec<ExistingPoint> = text
        .lines()
        .filter_map(|line| ExistingPoint::parse(line).ok().flatten())
        .collect();
    if points.is_empty() {
        return (Survey::default(), FoundPoints::new());
    }
    let table = Table::parse(&text);
    let look = Look::new(known, &table, &points);
    let survey = look.survey(wanted);
    (survey, look.found.into_inner())
}

/// The whole mount table, and what was seen of it so far.
struct Look<'l> {
    known: &'l Known<'l>,
    table: &'l Table<'l>,
    points: &'l [ExistingPoint],
    by_mount: HashMap<u64, &'l ExistingPoint>,
    children: HashMap<u64, Vec<&'l Mount<'l>>>,
    /// Whether no server is asked on the way to what lies on a mount.
    local: RefCell<HashMap<u64, bool>>,
    found: RefCell<FoundPoints>,
    /// File systems that have been found: a second mount of one is a copy.
    seen: RefCell<HashSet<DeviceId>>,
}

impl<'l> Look<'l> {
    fn new(known: &'l Known<'l>, table: &'l Table<'l>, points: &'l [ExistingPoint]) -> Self {
        let mut children: HashMap<u64, Vec<&Mount<'_>>> = HashMap::new();
        for mount in table.mounts() {
            if mount.parent != mount.id {
                children.entry(mount.parent).or_default().push(mount);
            }
        }
        Self {
            known,
            table,
            points,
            by_mount: points.iter().map(|point| (point.mount_id, point)).collect(),
            children,
            local: RefCell::default(),
            found: RefCell::default(),
            seen: RefCell::default(),
        }
    }

    fn survey(&self, wanted: &[(BString, TriggerKind)]) -> Survey {
        let mut survey = Survey::default();
        let wanted: HashMap<&Path, TriggerKind> = wanted
            .iter()
            .map(|(path, kind)| (as_path(path.as_bstr()), *kind))
            .collect();
        // Of several at one path the last is on top.
        let mut here: HashMap<&Path, &ExistingPoint> = HashMap::new();
        for point in self.points {
            let Some(kind) = wanted.get(point.target.as_path()) else {
                continue;
            };
            if self.is_ours(point) || point.kind == point_kind(*kind) {
                here.insert(&point.target, point);
            }
        }
        let mut here: Vec<&ExistingPoint> = here.into_values().collect();
        here.sort_by_key(|point| &point.target);
        for point in here {
            match self.living_owner(point) {
                Some(process_group) => survey.owned.push(Owned {
                    path: path_of(point),
                    process_group,
                }),
                None => survey.orphans.extend(self.existing(point)),
            }
        }
        // First what may hold others, then offsets that belong to nothing.
        for whole in [true, false] {
            for point in self.points {
                let stray = self.is_ours(point)
                    && point.inner_root == "/"
                    && (point.kind != PointKind::Offset) == whole
                    && !wanted.contains_key(point.target.as_path());
                if stray && let Some(existing) = self.existing(point) {
                    let source = point.source.clone();
                    survey.strays.push(Stray { existing, source });
                }
            }
        }
        survey
    }

    /// Whether the trigger's requests come to us.
    fn is_ours(&self, point: &ExistingPoint) -> bool {
        match (point.pipe, self.known.pipe) {
            (PipeState::Connected { inode }, Some(own)) => inode == own,
            _ => false,
        }
    }

    /// The process group that serves a point, if it still lives and is not our own.
    fn living_owner(&self, point: &ExistingPoint) -> Option<u32> {
        if point.pipe == PipeState::Catatonic || self.is_ours(point) {
            return None;
        }
        let group = point.process_group?;
        let pid = autofs::Pid::from_raw(i32::try_from(group).ok()?)?;
        if autofs::process_group() == Some(pid) {
            return None;
        }
        // A map program that outlives its daemon serves nothing: it has no hand on the pipe.
        let serves = |process| match point.pipe {
            PipeState::Connected { inode } => {
                let pipe = format!("pipe:[{inode}]");
                piton_process::has_open(process, pipe.as_ref(), usize::MAX)
            }
            PipeState::Catatonic | PipeState::Unknown => true,
        };
        piton_process::living_in(pid).any(serves).then_some(group)
    }

    /// A trigger with what is mounted in it; nothing if it was found already.
    fn existing(&self, point: &ExistingPoint) -> Option<Existing> {
        if !self.seen.borrow_mut().insert(point.device) {
            return None;
        }
        let path = path_of(point);
        let mounted = match point.kind {
            PointKind::Indirect => self.keys(point),
            PointKind::Direct | PointKind::Offset => {
                let mut own = self.children(point.mount_id);
                match own.find(|mount| *mount.point == path) {
                    Some(mount) => vec![self.mounted(point, BString::default(), mount)],
                    None => self.without_root(point).into_iter().collect(),
                }
            }
        };
        let found = FoundPoint {
            point: point.clone(),
            may_hang: !self.is_local(point.parent_id),
        };
        self.found
            .borrow_mut()
            .insert((point.target.clone(), point.kind), found);
        Some(Existing {
            kind: match point.kind {
                PointKind::Indirect => TriggerKind::Indirect,
                PointKind::Direct => TriggerKind::Direct,
                PointKind::Offset => TriggerKind::Offset,
            },
            path,
            mounted,
        })
    }

    fn children(&self, id: u64) -> impl Iterator<Item = &'l Mount<'l>> {
        self.children.get(&id).into_iter().flatten().copied()
    }

    /// What is mounted in an indirect point: one element for each key.
    fn keys(&self, point: &ExistingPoint) -> Vec<ExistingMount> {
        let root = path_of(point);
        let mut found: Vec<ExistingMount> = Vec::new();
        let mut bare: HashMap<BString, usize> = HashMap::new();
        for mount in self.children(point.mount_id) {
            let Some(rest) = mount.point.strip_prefix(root.as_bytes()) else {
                continue;
            };
            let rest = rest.trim_start_with(|letter| letter == '/');
            let key: BString = rest.split_str("/").next().unwrap_or_default().into();
            if rest.len() == key.len() {
                found.push(self.mounted(point, key, mount));
                continue;
            }
            // An entry without a root: its offsets stand in a bare directory.
            let Some(offset) = self.point_at(mount, PointKind::Offset) else {
                continue;
            };
            let Some(offset) = self.existing(offset) else {
                continue;
            };
            if let Some(index) = bare.get(&key) {
                found[*index].offsets.push(offset);
                continue;
            }
            bare.insert(key.clone(), found.len());
            let mut target = root.clone();
            target.push(b'/');
            target.extend_from_slice(&key);
            found.push(ExistingMount {
                requester: self.requester(point, target.as_bstr()),
                whole: self.is_whole(point, &key, true),
                key,
                target,
                covered: false,
                link: None,
                source: BString::default(),
                read_only: false,
                server: None,
                offsets: vec![offset],
            });
        }
        found
    }

    fn mounted(&self, point: &ExistingPoint, key: BString, mount: &'l Mount<'l>) -> ExistingMount {
        let offsets: Vec<Existing> = match self.point_at(mount, PointKind::Indirect) {
            // The key is a map of its own (`fstype=autofs`).
            Some(submount) => self.existing(submount).into_iter().collect(),
            None => self
                .children(mount.id)
                .filter_map(|child| self.point_at(child, PointKind::Offset))
                .filter_map(|offset| self.existing(offset))
                .collect(),
        };
        ExistingMount {
            requester: self.requester(point, (*mount.point).as_bstr()),
            server: server_of(mount),
            whole: self.is_whole(point, &key, !offsets.is_empty()),
            key,
            target: mount.point.clone().into_owned(),
            covered: true,
            link: None,
            source: mount.source.clone().into_owned(),
            read_only: is_read_only(mount),
            offsets,
        }
    }

    /// An entry without a root in a direct point: its offsets stand in the point itself.
    fn without_root(&self, point: &ExistingPoint) -> Option<ExistingMount> {
        let offsets = self
            .children(point.mount_id)
            .filter_map(|child| self.point_at(child, PointKind::Offset));
        let offsets: Vec<Existing> = offsets.filter_map(|it| self.existing(it)).collect();
        let target = path_of(point);
        (!offsets.is_empty()).then(|| ExistingMount {
            requester: self.requester(point, target.as_bstr()),
            whole: self.is_whole(point, &BString::default(), true),
            key: BString::default(),
            target,
            covered: false,
            link: None,
            source: BString::default(),
            read_only: false,
            server: None,
            offsets,
        })
    }

    /// Whether nobody died while he was at work here. What consists of one mount only is there or
    /// is not, whoever asked for it to be unmounted.
    fn is_whole(&self, point: &ExistingPoint, key: &BString, several: bool) -> bool {
        let spot = (point.device, key.clone());
        let half = several && self.known.expiring.contains(&spot);
        !half && !self.known.marked.contains(&spot)
    }

    /// The trigger that a line of the mount table is, if it is one of this kind.
    fn point_at(&self, mount: &Mount<'_>, kind: PointKind) -> Option<&'l ExistingPoint> {
        let point = self.by_mount.get(&mount.id).copied();
        point.filter(|point| point.kind == kind)
    }

    /// Who asked for a mount, if the kernel remembers, and if no server is asked on the way.
    fn requester(&self, point: &ExistingPoint, path: &BStr) -> Requester {
        if !self.is_local(point.parent_id) {
            return Requester::default();
        }
        let control = self.known.control;
        let known = control
            .open_point(&point.target, point.device)
            .and_then(|fd| control.requester(fd, as_path(path)));
        match known {
            Ok(who) => Requester {
                uid: who.uid,
                gid: who.gid,
                ..Requester::default()
            },
            Err(_) => Requester::default(),
        }
    }

    /// Whether a mount and all that it lies on are local.
    fn is_local(&self, mount: u64) -> bool {
        if let Some(local) = self.local.borrow().get(&mount) {
            return *local;
        }
        let local = match self.table.by_id(mount) {
            // Above the top of the table lies nothing.
            None => true,
            Some(found) => {
                // Meanwhile, for one that is in a circle.
                self.local.borrow_mut().insert(mount, true);
                is_local_type(&found.fstype) && self.is_local(found.parent)
            }
        };
        self.local.borrow_mut().insert(mount, local);
        local
    }
}

/// Whether nothing can be written to a mount: it is read only itself, or its file system is.
pub(crate) fn is_read_only(mount: &Mount<'_>) -> bool {
    let restricts = |options: &BStr| options.split_str(",").any(|option| option == b"ro");
    restricts(mount.options) || restricts((*mount.super_options).as_bstr())
}

/// The server that something is mounted from, as its line in the mount table tells: nobody is asked.
pub(crate) fn server_of(mount: &Mount<'_>) -> Option<ExistingServer> {
    let what = What::Type(mount.fstype.clone().into_owned());
    let options: Vec<BString> = mount
        .super_options
        .split_str(",")
        .map(BString::from)
        .collect();
    let service = service(&what, &options)?;
    let host = mount.source.split_once_str(":/")?.0;
    // IPv6 addresses stand in brackets there, and not in maps.
    let host = host.strip_prefix(b"[").unwrap_or(host);
    let host = host.strip_suffix(b"]").unwrap_or(host);
    let address = options.iter().find_map(|option| {
        let text = option.strip_prefix(b"addr=")?.to_str().ok()?;
        let (text, scope) = text.split_once('%').unwrap_or((text, "0"));
        let scope = scope.parse().unwrap_or(0);
        Some(Address {
            ip: text.parse().ok()?,
            scope,
        })
    });
    Some(ExistingServer {
        host: host.into(),
        address,
        service: Some(service),
    })
}

fn path_of(point: &ExistingPoint) -> BString {
    point.target.as_os_str().as_bytes().into()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn server(line: &str) -> Option<ExistingServer> {
        server_of(&Mount::parse(line.as_bytes()).unwrap())
    }

    #[test]
    fn the_mount_table_tells_what_is_read_only() {
        let read_only = |options: &str, super_options: &str| {
            let line = format!("70 60 0:52 / /m {options} shared:9 - nfs4 s:/x {super_options}");
            is_read_only(&Mount::parse(line.as_bytes()).unwrap())
        };
        assert!(read_only("ro,relatime", "rw,vers=4.2"));
        assert!(read_only("rw,relatime", "ro,vers=4.2"));
        assert!(!read_only("rw,relatime", "rw,retrans=2,prorate"));
    }

    #[test]
    fn the_mount_table_tells_whom_to_ask() {
        let found = server(
            "70 60 0:52 / /home/ann rw,relatime shared:9 - nfs4 srv.example:/export/ann \
             rw,vers=4.2,rsize=262144,hard,proto=tcp,timeo=600,sec=sys,clientaddr=10.77.0.1,\
             local_lock=none,addr=10.77.0.11",
        );
        let found = found.unwrap();
        assert_eq!(found.host, "srv.example");
        assert_eq!(found.address.unwrap().ip.to_string(), "10.77.0.11");
        assert_eq!(found.service.unwrap().version, Some(4));
        let found = server(
            "70 60 0:52 / /m ro - nfs [fe80::5%eth0]:/x ro,vers=3,port=7049,mountaddr=fe80::5,\
             mountport=5,proto=udp6,addr=fe80::5%3",
        );
        let found = found.unwrap();
        assert_eq!(found.host, "fe80::5%eth0");
        assert_eq!(found.address.unwrap().scope, 3);
        let service = found.service.unwrap();
        assert_eq!((service.version, service.port), (Some(3), Some(7049)));
        assert!(service.udp);
        assert_eq!(server("70 60 0:52 / /m rw - tmpfs srv:/x rw"), None);
        assert_eq!(server("70 60 0:52 / /m rw - nfs4 s:/x rw,proto=rdma"), None);
    }
}
