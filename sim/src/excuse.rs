//! Why an access may fail: what was amiss on its way. One that fails although nothing was is the
//! daemon's fault, whatever died meanwhile.

use std::collections::BTreeMap;

use bstr::{BStr, BString, ByteSlice};
use piton_path::{are_related, is_within};
use piton_plan::step::TriggerKind;

use crate::kernel::Token;
use crate::maps;
use crate::world::{World, Wrong};

/// For how long a failure of the past is answered from memory at most, in milliseconds; the
/// engine's longest is a minute.
const MEMORY_MS: u64 = 61_000;

/// Milliseconds without a daemon, for one access, after which it may fail: several deaths in a
/// row leave none the time to do anything.
const DOWN_MOST_MS: u64 = 5_000;

/// What was amiss, and until when.
#[derive(Debug, Default)]
pub(crate) struct Excuses {
    everywhere: u64,
    servers: u64,
    places: BTreeMap<BString, u64>,
    keys: BTreeMap<(BString, BString), u64>,
}

impl Excuses {
    /// Something is amiss that may concern everything.
    pub(crate) fn everywhere(&mut self, now: u64) {
        self.everywhere = self.everywhere.max(now + MEMORY_MS);
    }

    /// Something is amiss at a path, and so for what is above and below it.
    pub(crate) fn amiss(&mut self, path: &[u8], until: u64) {
        later(self.places.entry(path.into()).or_default(), until);
    }

    /// Servers do not answer.
    pub(crate) fn of_servers(&mut self, until: u64) {
        later(&mut self.servers, until);
    }

    /// A source does not answer, or wrongly.
    pub(crate) fn of_source(&mut self, map: &BString, key: &BString, until: u64) {
        let place = (map.clone(), key.clone());
        later(self.keys.entry(place).or_default(), until);
    }

    /// A line was changed: what is mounted by it differs from it from now on.
    pub(crate) fn edited(&mut self, map: &str, key: &BString) {
        let place = (map.into(), key.clone());
        later(self.keys.entry(place).or_default(), u64::MAX / 2);
    }

    fn holds_for(&self, path: &BStr, since: u64) -> bool {
        let mut places = self.places.iter();
        let near = |other: &BString| are_related(path, other);
        self.everywhere >= since || places.any(|(other, until)| *until >= since && near(other))
    }

    fn holds_for_key(&self, map: &BStr, key: &BStr, since: u64) -> bool {
        let place = (map.to_owned(), key.to_owned());
        self.keys.get(&place).is_some_and(|until| *until >= since)
    }
}

fn later(known: &mut u64, until: u64) {
    *known = until.saturating_add(MEMORY_MS).max(*known);
}

impl World {
    /// An access failed.
    pub(crate) fn check_excuse(&mut self, token: Token, why: &str) -> Result<(), Wrong> {
        let pending = &self.kernel.pending[&token];
        let (path, since) = (pending.path.clone(), pending.asked);
        let down = self.keeper.down_since(since, self.now);
        if down > DOWN_MOST_MS || self.excused(path.as_bstr(), since) {
            return Ok(());
        }
        Err(format!("{path} failed without a reason: {why}"))
    }

    fn excused(&self, path: &BStr, since: u64) -> bool {
        if self.excuses.holds_for(path, since) || self.stopping.is_some() {
            return true;
        }
        let point = |point: &&piton_engine::config::Point| is_within(path, point.path.as_bstr());
        let Some(point) = self.points.iter().find(point) else {
            return true;
        };
        let map = match point.binding.maps.first() {
            Some(map) => map.name.as_bstr(),
            None => return true,
        };
        match point.kind {
            TriggerKind::Direct | TriggerKind::Offset => {
                self.key_excused(map, point.path.as_bstr(), since)
            }
            TriggerKind::Indirect => {
                let rest = path.get(point.path.len() + 1..).unwrap_or_default();
                let mut names = rest.split_str("/");
                let key = names.next().unwrap_or_default().as_bstr();
                let inner = names.next().unwrap_or_default().as_bstr();
                let inner_map = maps::INNER.into();
                self.key_excused(map, key, since)
                    || (self.names_a_map(map, key) && self.key_excused(inner_map, inner, since))
            }
        }
    }

    fn names_a_map(&self, map: &BStr, key: &BStr) -> bool {
        let text = self.maps.text(map, key);
        text.is_some_and(|text| text.contains("fstype=autofs"))
    }

    /// Whether an access by way of a line may fail: it is not there, cannot be used, or was
    /// not told as it is.
    fn key_excused(&self, map: &BStr, key: &BStr, since: u64) -> bool {
        let Some(text) = self.maps.text(map, key) else {
            return true;
        };
        let server = text.contains("nfs") && self.excuses.servers >= since;
        text == maps::BAD || server || self.excuses.holds_for_key(map, key, since)
    }
}
