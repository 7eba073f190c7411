//! Which trigger is meant by a device number, a number of ours, or a path.

use std::collections::{HashMap, HashSet};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use autofs::{DeviceId, PointId, PointRoot};
use bstr::{BStr, BString, ByteSlice};
use piton_plan::step::{TriggerId, TriggerKind};

/// A trigger that is in place.
#[derive(Clone, Debug)]
pub(crate) struct Entry {
    pub(crate) trigger: TriggerId,
    pub(crate) kind: TriggerKind,
    pub(crate) path: Arc<PathBuf>,
    /// The number of its file system.
    pub(crate) device: DeviceId,
    /// The inode number of its root, which packets of it carry; not known of an adopted one.
    pub(crate) inode: Option<u64>,
    /// Opening it by its path asks file systems that may not answer.
    pub(crate) may_hang: bool,
    /// Kept open for indirect triggers only.
    pub(crate) root: Option<Arc<PointRoot>>,
    /// Keys shown before they are mounted.
    pub(crate) listed: Arc<HashSet<BString>>,
}

/// All triggers that are in place.
#[derive(Debug, Default)]
pub(crate) struct Registry {
    by_trigger: HashMap<TriggerId, Entry>,
    by_device: HashMap<DeviceId, TriggerId>,
    indirect_by_path: HashMap<BString, TriggerId>,
    /// Direct triggers, which are roots of entries too.
    direct_paths: HashSet<BString>,
    offset_by_path: HashMap<BString, TriggerId>,
}

impl Registry {
    pub(crate) fn insert(&mut self, entry: Entry) {
        self.by_device.insert(entry.device, entry.trigger);
        let path = path_bytes(&entry.path);
        match entry.kind {
            TriggerKind::Indirect => drop(self.indirect_by_path.insert(path, entry.trigger)),
            TriggerKind::Offset => drop(self.offset_by_path.insert(path, entry.trigger)),
            TriggerKind::Direct => drop(self.direct_paths.insert(path)),
        }
        self.by_trigger.insert(entry.trigger, entry);
    }

    pub(crate) fn remove(&mut self, trigger: TriggerId) -> Option<Entry> {
        let entry = self.by_trigger.remove(&trigger)?;
        // A device number may have been given again to a later trigger.
        if self.by_device.get(&entry.device) == Some(&trigger) {
            self.by_device.remove(&entry.device);
        }
        let path = path_bytes(&entry.path);
        if self.indirect_by_path.get(&path) == Some(&trigger) {
            self.indirect_by_path.remove(&path);
        }
        if self.offset_by_path.get(&path) == Some(&trigger) {
            self.offset_by_path.remove(&path);
        }
        if entry.kind == TriggerKind::Direct {
            self.direct_paths.remove(&path);
        }
        Some(entry)
    }

    pub(crate) fn get(&self, trigger: TriggerId) -> Option<&Entry> {
        self.by_trigger.get(&trigger)
    }

    pub(crate) fn get_mut(&mut self, trigger: TriggerId) -> Option<&mut Entry> {
        self.by_trigger.get_mut(&trigger)
    }

    /// The trigger that is meant by the numbers in a packet.
    pub(crate) fn at_point(&self, point: PointId) -> Option<&Entry> {
        let entry = self.at_device(point.device)?;
        let same = entry.inode.is_none_or(|inode| inode == point.inode);
        same.then_some(entry)
    }

    /// The trigger whose file system has this number.
    pub(crate) fn at_device(&self, device: DeviceId) -> Option<&Entry> {
        self.by_trigger.get(self.by_device.get(&device)?)
    }

    /// The nearest offset that `path` lies below.
    pub(crate) fn offset_above(&self, path: &BStr) -> Option<&Entry> {
        let mut path = path.as_bytes();
        loop {
            path = &path[..path.rfind_byte(b'/')?];
            if let Some(trigger) = self.offset_by_path.get(path) {
                return self.by_trigger.get(trigger);
            }
        }
    }

    /// The indirect trigger that `path` is a key of, and the key.
    pub(crate) fn key_of<'p>(&self, path: &'p BStr) -> Option<(&Entry, &'p BStr)> {
        let slash = path.rfind_byte(b'/')?;
        let trigger = self.indirect_by_path.get(&path[..slash])?;
        Some((self.by_trigger.get(trigger)?, path[slash + 1..].as_bstr()))
    }

    /// The mount point of the indirect or direct trigger that `path` is at or below.
    pub(crate) fn root_above(&self, path: &BStr) -> Option<BString> {
        let mut path = path.as_bytes();
        loop {
            if self.indirect_by_path.contains_key(path) || self.direct_paths.contains(path) {
                return Some(path.into());
            }
            path = &path[..path.rfind_byte(b'/')?];
        }
    }

    pub(crate) fn entries(&self) -> Vec<Entry> {
        self.by_trigger.values().cloned().collect()
    }
}

fn path_bytes(path: &Path) -> BString {
    use std::os::unix::ffi::OsStrExt;
    path.as_os_str().as_bytes().into()
}
