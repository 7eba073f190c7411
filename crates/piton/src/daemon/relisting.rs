//! What maps of snapshots show before it is mounted: read again when snapshots come and go.

use std::sync::Arc;

use bstr::{BString, ByteSlice};
use piton_engine::Event;
use piton_engine::config::Binding;
use piton_map::lookup::{MapSpec, MapType};

use super::messages::Message;
use super::runtime::Runtime;

/// One reading at a time, so that an older one never comes after a newer one.
#[derive(Debug, Default)]
pub(super) struct Relisting {
    running: bool,
    /// Once more when that is over.
    again: bool,
}

impl Runtime {
    /// Has volumes and snapshots asked for again, where their names are shown.
    pub(super) fn renew_volumes(&mut self) {
        let default = self.engine.settings().browse;
        let shown = |binding: &Arc<Binding>| {
            let of_volumes = |map: &MapSpec| map.kind == Some(MapType::Snapshot);
            binding.options.browse.unwrap_or(default) && binding.maps.iter().any(of_volumes)
        };
        let points = self.engine.configured();
        let points: Vec<(BString, Arc<Binding>)> = points
            .filter(|(_, binding)| shown(binding))
            .map(|(path, binding)| (path.clone(), binding.clone()))
            .collect();
        self.worker.snapshots.is_watched(!points.is_empty());
        if points.is_empty() {
            return;
        }
        if self.volumes.running {
            self.volumes.again = true;
            return;
        }
        self.volumes.running = true;
        let (worker, mailbox) = (self.worker.clone(), self.mailbox.clone());
        self.pools.slow.submit(move || {
            let mut listings = Vec::new();
            for (path, binding) in points {
                let listing = worker.keys(&binding, path.as_bstr(), None);
                // What cannot be read now is shown as it was.
                if listing.incomplete.is_empty() {
                    let keys = listing.keys.into_iter().map(|it| it.key);
                    listings.push((path, keys.collect()));
                }
            }
            mailbox.post(Message::Listed(listings));
        });
    }

    /// They were asked for.
    pub(super) fn volumes_listed(&mut self, listings: Vec<(BString, Arc<[BString]>)>) {
        self.volumes.running = false;
        let listed = |(path, listing)| Event::Listed { path, listing };
        self.events.extend(listings.into_iter().map(listed));
        self.work();
        if std::mem::take(&mut self.volumes.again) {
            self.renew_volumes();
        }
    }
}
