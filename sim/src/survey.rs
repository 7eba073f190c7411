//! What a new daemon finds of an earlier one.

use bstr::{BStr, BString, ByteSlice};
use piton_engine::event::{Existing, ExistingMount};
use piton_map::requester::Requester;
use piton_plan::step::TriggerKind;

use crate::kernel::{Mount, MountId, What};
use crate::world::World;

impl World {
    /// The triggers that an earlier life left, and what is mounted in them.
    pub(crate) fn survey(&self) -> Vec<Existing> {
        let mounts = self.kernel.mounts.iter();
        let points = mounts.filter(|(_, mount)| mount.parent.is_none());
        points.filter_map(|(id, _)| self.existing(*id)).collect()
    }

    fn existing(&self, id: MountId) -> Option<Existing> {
        let mount = self.kernel.mounts.get(&id)?;
        let What::Trigger(trigger) = &mount.what else {
            return None;
        };
        let spec = &trigger.spec;
        let mut mounted: Vec<ExistingMount> = Vec::new();
        for (child, inner) in self.children(id) {
            let (key, target) = match spec.kind {
                TriggerKind::Indirect => key_below(spec.path.as_bstr(), inner.path.as_bstr()),
                TriggerKind::Direct | TriggerKind::Offset => {
                    (BString::default(), spec.path.clone())
                }
            };
            let covered = inner.path == target;
            if covered {
                mounted.push(self.existing_mount(id, child, key, target));
                continue;
            }
            let Some(offset) = self.existing(child) else {
                continue;
            };
            match mounted.iter_mut().find(|it| it.key == key && !it.covered) {
                Some(bare) => bare.offsets.push(offset),
                None => {
                    let whole = self.is_whole(id, &key, true);
                    mounted.push(bare(key, target, whole, vec![offset]));
                }
            }
        }
        Some(Existing {
            kind: spec.kind,
            path: spec.path.clone(),
            mounted,
        })
    }

    fn existing_mount(
        &self,
        trigger: MountId,
        id: MountId,
        key: BString,
        target: BString,
    ) -> ExistingMount {
        let files = matches!(self.kernel.mounts[&id].what, What::Files);
        let offsets: Vec<Existing> = match files {
            true => self
                .children(id)
                .filter_map(|(child, _)| self.existing(child))
                .collect(),
            false => self.existing(id).into_iter().collect(),
        };
        let whole = self.is_whole(trigger, &key, !offsets.is_empty());
        let found = ExistingMount {
            covered: true,
            link: None,
            ..bare(key, target, whole, offsets)
        };
        match self.found_from(id) {
            Some((source, server, read_only)) => ExistingMount {
                source,
                server: Some(server),
                read_only,
                ..found
            },
            None => found,
        }
    }

    fn children(&self, id: MountId) -> impl Iterator<Item = (MountId, &Mount)> {
        let mounts = self.kernel.mounts.iter();
        let children = mounts.filter(move |(_, mount)| mount.parent == Some(id));
        children.map(|(id, mount)| (*id, mount))
    }
}

fn bare(key: BString, target: BString, whole: bool, offsets: Vec<Existing>) -> ExistingMount {
    ExistingMount {
        key,
        target,
        covered: false,
        link: None,
        whole,
        source: "found".into(),
        read_only: false,
        server: None,
        offsets,
        requester: Requester::default(),
    }
}

/// The key that a path below an indirect trigger belongs to, and that key's own path.
fn key_below(trigger: &BStr, path: &BStr) -> (BString, BString) {
    let rest = path.get(trigger.len() + 1..).unwrap_or_default();
    let key: BString = rest.split_str("/").next().unwrap_or_default().into();
    let target = [trigger.as_bytes(), b"/", &key].concat().into();
    (key, target)
}
