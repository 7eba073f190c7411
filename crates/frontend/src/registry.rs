//! Which trigger is meant by a device number, a number of ours, or a path.

use std::collections::{HashMap, HashSet};
use std::path::Path;
use std::sync::{Arc, LazyLock};

use autofs::{DeviceId, PointId, PointRoot};
use bstr::{BStr, BString, ByteSlice};
use piton_plan::step::{TriggerId, TriggerKind};

use crate::kernel::as_path;

/// A trigger that is in place.
#[derive(Clone, Debug)]
pub(crate) struct Entry {
    pub(crate) trigger: TriggerId,
    pub(crate) kind: TriggerKind,
    /// Shared with the table that finds it by path.
    pub(crate) path: Arc<Path>,
    /// The number of its file system.
    pub(crate) device: DeviceId,
    /// The inode number of its root, which packets of it carry; not known of an adopted one.
    pub(crate) inode: Option<u64>,
    /// Opening it by its path asks file systems that may not answer.
    pub(crate) may_hang: bool,
    /// Kept open for indirect triggers only.
    pub(crate) root: Option<Arc<PointRoot>>,
    /// For offsets that cannot be opened by path without asking a server: good for answers alone.
    pub(crate) apart: Option<Arc<PointRoot>>,
    /// Keys shown before they are mounted.
    pub(crate) listed: Arc<HashSet<BString>>,
}

/// All triggers that are in place.
#[derive(Debug, Default)]
pub(crate) struct Registry {
    by_trigger: HashMap<TriggerId, Entry>,
    by_device: HashMap<DeviceId, TriggerId>,
    indirect_by_path: HashMap<Arc<Path>, TriggerId>,
    /// Direct triggers, which are roots of entries too.
    direct_paths: HashSet<Arc<Path>>,
    offset_by_path: HashMap<Arc<Path>, TriggerId>,
    /// How many have a root apart.
    apart: usize,
}

impl Entry {
    /// The open root through which requests are answered; none: it is opened by path.
    pub(crate) fn way_to_answer(&self) -> Option<&Arc<PointRoot>> {
        self.apart.as_ref().or(self.root.as_ref())
    }
}

/// How many know the path of a trigger that nobody uses: its entry and the table by path.
pub(crate) const OWN_PATHS: usize = 2;

/// No key is shown. One for all, since there may be 50,000 direct triggers.
pub(crate) fn none_listed() -> Arc<HashSet<BString>> {
    static NONE: LazyLock<Arc<HashSet<BString>>> = LazyLock::new(Arc::default);
    NONE.clone()
}

impl Registry {
    pub(crate) fn insert(&mut self, entry: Entry) {
        self.by_device.insert(entry.device, entry.trigger);
        let path = entry.path.clone();
        match entry.kind {
            TriggerKind::Indirect => drop(self.indirect_by_path.insert(path, entry.trigger)),
            TriggerKind::Offset => drop(self.offset_by_path.insert(path, entry.trigger)),
            TriggerKind::Direct => drop(self.direct_paths.insert(path)),
        }
        self.by_trigger.insert(entry.trigger, entry);
    }

    pub(crate) fn remove(&mut self, trigger: TriggerId) -> Option<Entry> {
        let entry = self.by_trigger.remove(&trigger)?;
        self.apart -= usize::from(entry.apart.is_some());
        // A device number may have been given again to a later trigger.
        if self.by_device.get(&entry.device) == Some(&trigger) {
            self.by_device.remove(&entry.device);
        }
        let path = &entry.path;
        if self.indirect_by_path.get(path) == Some(&trigger) {
            self.indirect_by_path.remove(path);
        }
        if self.offset_by_path.get(path) == Some(&trigger) {
            self.offset_by_path.remove(path);
        }
        if entry.kind == TriggerKind::Direct {
            self.direct_paths.remove(path);
        }
        Some(entry)
    }

    /// How many roots apart are open.
    pub(crate) fn roots_apart(&self) -> usize {
        self.apart
    }

    pub(crate) fn set_apart(&mut self, trigger: TriggerId, root: PointRoot) {
        if let Some(entry) = self.by_trigger.get_mut(&trigger)
            && entry.apart.replace(Arc::new(root)).is_none()
        {
            self.apart += 1;
        }
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
            if let Some(trigger) = self.offset_by_path.get(as_path(path.as_bstr())) {
                return self.by_trigger.get(trigger);
            }
        }
    }

    /// The indirect trigger that `path` is a key of, and the key.
    pub(crate) fn key_of<'p>(&self, path: &'p BStr) -> Option<(&Entry, &'p BStr)> {
        let slash = path.rfind_byte(b'/')?;
        let trigger = self
            .indirect_by_path
            .get(as_path(path[..slash].as_bstr()))?;
        Some((self.by_trigger.get(trigger)?, path[slash + 1..].as_bstr()))
    }

    /// The mount point of the indirect or direct trigger that `path` is at or below.
    pub(crate) fn root_above(&self, path: &BStr) -> Option<BString> {
        let mut path = path.as_bytes();
        loop {
            let here = as_path(path.as_bstr());
            if self.indirect_by_path.contains_key(here) || self.direct_paths.contains(here) {
                return Some(path.into());
            }
            path = &path[..path.rfind_byte(b'/')?];
        }
    }

    pub(crate) fn entries(&self) -> Vec<Entry> {
        self.by_trigger.values().cloned().collect()
    }
}
