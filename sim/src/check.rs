//! What must hold in every world.

use std::collections::BTreeSet;
use std::sync::Arc;

use bstr::{BString, ByteSlice};
use piton_engine::audit::Sizes;
use piton_engine::status::Status;
use piton_path::is_within;
use piton_plan::step::TriggerId;

use crate::keeper::PATIENCE_MS;
use crate::kernel::{Token, What};
use crate::world::{LATE_MS, World, Wrong};

/// A request must be read by then: the keeper waits so long for a daemon, and then looks now
/// and then.
const UNREAD_MOST_MS: u64 = PATIENCE_MS + 500;

/// A stop must be over by then: all faults of one chain of unmounts, one after the other.
const STOP_MOST_MS: u64 = 600_000;

impl World {
    /// After everything that happens.
    pub(crate) fn check(&mut self) -> Result<(), Wrong> {
        self.in_time()?;
        if self.stopping_for().is_some_and(|time| time > STOP_MOST_MS) {
            return Err("the stop does not end".into());
        }
        let Some(engine) = &self.engine else {
            return Ok(());
        };
        bounded(
            engine.sizes(),
            self.kernel.pending.len() + self.kernel.ghosts.len(),
        )?;
        if !self.changed
            || !self.quiet()
            || !self.keeper.serving
            || engine.finished()
            || engine.sizes().jobs > 0
        {
            return Ok(());
        }
        self.changed = false;
        let status = engine.status(piton_engine::time::Millis(self.now + self.leap));
        self.agree(&status)?;
        self.whole(&status)?;
        self.check_moved()
    }

    /// Nobody waits longer than is promised: a request is read soon, or after the keeper's
    /// patience, and answered within its deadline from then on, whatever dies meanwhile.
    fn in_time(&self) -> Result<(), Wrong> {
        for (token, pending) in &self.kernel.pending {
            if self.keeper.lost.contains(token) {
                continue;
            }
            let end = match pending.deadline {
                Some(end) => end,
                // A substitute reads what the table has room for; it will not hold more.
                None if self.stopping.is_some() || self.keeper.is_small() => continue,
                None => pending.asked + UNREAD_MOST_MS,
            };
            // While nobody serves, the keeper looks at those who wait now and then.
            let late = match self.keeper.serving {
                true => LATE_MS,
                false => UNREAD_MOST_MS,
            };
            if self.now > end.max(self.keeper.since) + late {
                let path = &pending.path;
                return Err(format!(
                    "request {token} for {path} was not answered in time"
                ));
            }
        }
        Ok(())
    }

    /// The kernel's mounts are those that the engine knows of.
    fn agree(&self, status: &Status) -> Result<(), Wrong> {
        let known: BTreeSet<&BString> = status.mounts.iter().map(|mount| &mount.path).collect();
        let engine = self.engine.as_ref().ok_or("the daemon is gone")?;
        let mut triggers: BTreeSet<TriggerId> = engine.triggers().map(|spec| spec.id).collect();
        for mount in self.kernel.mounts.values() {
            match &mount.what {
                What::Files if !known.contains(&mount.path) => {
                    return Err(format!("nobody owns what is mounted at {}", mount.path));
                }
                What::Trigger(trigger) if !triggers.remove(&trigger.spec.id) => {
                    return Err(format!("nobody owns the trigger at {}", mount.path));
                }
                What::Trigger(trigger) if !trigger.known => {
                    return Err(format!("nobody serves the trigger at {}", mount.path));
                }
                What::Trigger(trigger) => self.links_are_known(trigger, &known)?,
                What::Files => {}
            }
        }
        for spec in engine.triggers().filter(|spec| triggers.contains(&spec.id)) {
            if !self.was_tampered(&spec.path) {
                return Err(format!("the trigger at {} is not there", spec.path));
            }
        }
        for mount in &status.mounts {
            let path = mount.path.as_bstr();
            let there = match mount.how {
                "mount" | "submount" => self.kernel.covered(path),
                "symlink" => true,
                _ => self.kernel.has_below(path),
            };
            let by_hand = self.was_tampered(&mount.path) || self.tampered_below(&mount.path);
            let scarred = |root: &BString| is_within(root, &mount.path);
            if !there && !by_hand && !self.scarred.iter().any(scarred) {
                return Err(format!("{} is not mounted", mount.path));
            }
        }
        Ok(())
    }

    fn links_are_known(
        &self,
        trigger: &crate::kernel::Trigger,
        known: &BTreeSet<&BString>,
    ) -> Result<(), Wrong> {
        for (name, state) in &trigger.names {
            let mut path = trigger.spec.path.clone();
            path.push(b'/');
            path.extend_from_slice(name);
            // What an earlier life linked, no survey shows.
            if state.link.is_some() && !known.contains(&path) && !self.adopted {
                return Err(format!("nobody owns the link {path}"));
            }
        }
        Ok(())
    }

    /// An entry's offsets are all there while it is mounted.
    fn whole(&mut self, status: &Status) -> Result<(), Wrong> {
        let known: BTreeSet<&BString> = status.mounts.iter().map(|mount| &mount.path).collect();
        self.levels.retain(|root, _| known.contains(root));
        // An entry without a root is known by its own path, its steps only by its offsets'.
        let is_known = |root: &BString| known.iter().any(|path| is_within(root, path));
        self.scarred.retain(is_known);
        for (root, offsets) in &self.levels {
            // What was left half done is known to be, and goes before it is used again.
            if self.known_half(root) {
                continue;
            }
            let missing = offsets.iter().find(|offset| {
                let kind = piton_plan::step::TriggerKind::Offset;
                self.kernel.trigger_at(offset.as_bstr(), kind).is_none()
            });
            if let Some(missing) = missing
                && !self.was_tampered(missing)
                && !self.scarred.contains(root)
            {
                return Err(format!("{root} is mounted without its offset {missing}"));
            }
        }
        Ok(())
    }

    /// Whether somebody unmounted `path`, or something above it, by hand.
    fn was_tampered(&self, path: &BString) -> bool {
        self.tampered.iter().any(|other| is_within(path, other))
    }

    /// A process was told that what it wanted is there.
    pub(crate) fn check_there(&mut self, token: Token) -> Result<(), Wrong> {
        let pending = &self.kernel.pending[&token];
        let path = pending.path.clone();
        let (mount, name) = (pending.mount, pending.name.clone());
        let link = self.kernel.as_trigger(mount).is_none_or(|trigger| {
            let name = trigger.names.get(&name);
            name.is_some_and(|name| name.link.is_some())
        });
        let path_of = path.as_bstr();
        let there = link || self.kernel.covered(path_of) || self.kernel.has_below(path_of);
        match there || self.was_tampered(&path) || self.tampered_below(&path) {
            true => Ok(()),
            false => Err(format!("{path} was said to be ready, but nothing is there")),
        }
    }

    fn tampered_below(&self, path: &BString) -> bool {
        self.tampered.iter().any(|other| is_within(other, path))
    }

    /// The kernel was told that a name expired.
    pub(crate) fn check_gone(&self, path: &BString) -> Result<(), Wrong> {
        let files = self
            .kernel
            .top(path.as_bstr())
            .is_some_and(|id| matches!(self.kernel.mounts[&id].what, What::Files));
        match files || self.kernel.has_below(path.as_bstr()) {
            true => Err(format!("{path} was said to be unmounted and is not")),
            false => Ok(()),
        }
    }

    /// When all is calm: no directory is left of what was unmounted.
    pub(crate) fn check_directories(&self) -> Result<(), Wrong> {
        if !self.mended || self.adopted || !self.tampered.is_empty() {
            return Ok(());
        }
        for mount in self.kernel.mounts.values() {
            let What::Trigger(trigger) = &mount.what else {
                continue;
            };
            let indirect = trigger.spec.kind == piton_plan::step::TriggerKind::Indirect;
            let names = trigger
                .names
                .keys()
                .filter(|_| indirect)
                .map(|name| BString::from([trigger.spec.path.as_bytes(), b"/", name].concat()));
            for path in names.chain(trigger.inner.iter().cloned()) {
                let first = trigger.spec.path.len() + 1;
                let slash = path.iter().skip(first).position(|byte| *byte == b'/');
                let root = match (indirect, slash) {
                    (true, Some(slash)) => path[..first + slash].as_bstr(),
                    (true, None) => path.as_bstr(),
                    (false, _) => trigger.spec.path.as_bstr(),
                };
                let there =
                    self.kernel.top(path.as_bstr()).is_some() || self.kernel.has_below(root);
                let link = path
                    .get(trigger.spec.path.len() + 1..)
                    .and_then(|name| trigger.names.get(name))
                    .is_some_and(|name| name.link.is_some());
                if !there && !link && !self.kernel.has_below(path.as_bstr()) {
                    return Err(format!("the directory {path} is left"));
                }
            }
        }
        Ok(())
    }

    /// After a stop: whatever is left was reported.
    pub(crate) fn check_left(&self, left: &[(BString, Arc<str>)]) -> Result<(), Wrong> {
        for mount in self.kernel.mounts.values() {
            let told = left.iter().any(|(path, _)| is_within(&mount.path, path));
            if !told {
                return Err(format!("{} is left, and nobody was told", mount.path));
            }
        }
        Ok(())
    }

    /// After the last stop: nothing is left.
    pub(crate) fn check_nothing_left(&self, left: &[(BString, Arc<str>)]) -> Result<(), Wrong> {
        match self.kernel.mounts.values().next() {
            Some(mount) => Err(format!("{} is left after the last stop", mount.path)),
            None if left.is_empty() => Ok(()),
            None => Err(format!("{left:?} are said to be left, and are not")),
        }
    }
}

/// The engine's tables grow with what there is, and with nothing else.
fn bounded(sizes: Sizes, pending: usize) -> Result<(), Wrong> {
    let too_many = sizes.waiters > pending
        || sizes.deadlines > sizes.waiters + sizes.jobs
        || sizes.rounds > sizes.triggers
        || sizes.negative > 200
        || sizes.triggers > 400;
    match too_many {
        true => Err(format!("tables grow: {sizes:?} for {pending} requests")),
        false => Ok(()),
    }
}
