//! Who knows the volumes of this host, for the map type `snapshot`.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Instant;

use bstr::BString;
use piton_mount::snapshot::Places;
use piton_snapshot::{Origin, Phase, Volumes};
use piton_source::snapshot::AskVolumes;
use piton_volumes::Turn;

/// Asks the volumes themselves, and the journal for snapshots.
#[derive(Debug)]
pub(crate) struct Volumed {
    places: Places,
}

impl Volumed {
    pub(crate) fn new(places: Places) -> Self {
        Self { places }
    }
}

impl AskVolumes for Volumed {
    fn keys(&self, map: &Volumes, until: Instant) -> Result<Vec<BString>, Arc<str>> {
        let site = self.places.site();
        let turn = Turn::until(until);
        let told = |error: piton_volumes::Error| Arc::from(error.to_string());
        let volumes = site
            .volumes(map.kind(), map.container(), turn)
            .map_err(told)?;
        let mut keys: BTreeSet<BString> = volumes.into_iter().collect();
        let records = site.records(until).map_err(told)?;
        for record in records.iter().filter(|record| record.phase == Phase::Made) {
            let here = |it: &&Origin| it.kind() == map.kind() && it.container() == map.container();
            let volumes = record.origins.iter().filter(here).map(Origin::own_name);
            let volumes = volumes.map(|name| name.to_string());
            let groups = map.groups_of(&record.origins).map(str::to_owned);
            for name in volumes.chain(groups) {
                keys.insert(format!("{name}@{}", record.name.taken).into());
            }
        }
        Ok(keys.into_iter().collect())
    }
}
