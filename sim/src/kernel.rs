//! The kernel's part of the world: a mount tree, triggers in it, processes that wait in them,
//! and expiry as autofs does it.
//!
//! Paths stand for themselves: what is mounted at a path is a stack, the last on top. A
//! [`Token`] is one request to the daemon; all walkers of one name share it.

use std::collections::{BTreeMap, BTreeSet};

use bstr::{BStr, BString, ByteSlice};
use piton_plan::step::{TriggerId, TriggerKind, TriggerSpec};

/// A mount by number; never used twice.
pub type MountId = u32;
/// A process by number.
pub type ProcessId = u32;
/// A request to the daemon, to be answered once.
pub type Token = u64;

/// EBUSY.
pub const EBUSY: i32 = 16;
/// EINVAL.
pub const EINVAL: i32 = 22;
/// ENOENT.
pub const ENOENT: i32 = 2;

/// One mount.
#[derive(Clone, Debug)]
pub struct Mount {
    /// Where.
    pub path: BString,
    /// What it is mounted in or on; `None` is the host's root.
    pub parent: Option<MountId>,
    /// What it is.
    pub what: What,
    /// Processes in it.
    pub users: u32,
    /// Expiries that look in it: the daemon keeps it open for them.
    pub looks: u32,
}

/// What a mount is.
#[derive(Clone, Debug)]
pub enum What {
    /// A file system.
    Files,
    /// A trigger.
    Trigger(Trigger),
}

/// An autofs mount.
#[derive(Clone, Debug)]
pub struct Trigger {
    /// As the daemon gave it.
    pub spec: TriggerSpec,
    /// Whether somebody holds the other end of its pipe; if not, nobody is asked any more.
    pub connected: bool,
    /// Whether the living daemon put it in place or took it over.
    pub known: bool,
    /// The names in an indirect trigger; a direct one has the empty name.
    pub names: BTreeMap<BString, Name>,
    /// Directories deeper in it, by absolute path.
    pub inner: BTreeSet<BString>,
}

/// A directory or link in a trigger.
#[derive(Clone, Debug, Default)]
pub struct Name {
    /// Last walked through, in milliseconds.
    pub used: u64,
    /// Its own idle time in seconds.
    pub timeout: Option<u32>,
    /// Where it leads, if it is a link.
    pub link: Option<BString>,
}

/// A request that the daemon must answer.
#[derive(Clone, Debug)]
pub struct Pending {
    /// The trigger's mount.
    pub mount: MountId,
    /// The trigger's number at the daemon.
    pub trigger: TriggerId,
    /// The name in it.
    pub name: BString,
    /// Absolute path that is wanted or to be unmounted.
    pub path: BString,
    /// Whether it asks to unmount.
    pub expire: bool,
    /// Who waits.
    pub waiters: Vec<ProcessId>,
    /// When it was asked, in milliseconds.
    pub asked: u64,
    /// In which life of the daemon, if it knew the trigger.
    pub life: u32,
    /// When the daemon must have answered, once somebody read the request.
    pub deadline: Option<u64>,
    /// An expiry whose asker, the daemon, is dead: nothing waits for it but who joins it.
    pub interrupted: bool,
}

/// How far a walk along a path got.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Walk {
    /// To its end, in this mount (`None` is the host's root).
    Arrived(Option<MountId>),
    /// To a trigger that must be served first.
    Missing(MountId, BString),
    /// To a name that is being expired.
    Expiring(Token),
    /// Nowhere: ENOENT.
    Absent,
}

/// The mount tree and who waits in it.
#[derive(Debug, Default)]
pub struct Kernel {
    /// All mounts.
    pub mounts: BTreeMap<MountId, Mount>,
    /// Requests without an answer.
    pub pending: BTreeMap<Token, Pending>,
    /// Requests that were answered and still stand in the daemon's table.
    pub ghosts: BTreeMap<Token, Pending>,
    stacks: BTreeMap<BString, Vec<MountId>>,
    next_mount: MountId,
    next_token: Token,
}

impl Kernel {
    /// What is on top at `path`.
    pub fn top(&self, path: &BStr) -> Option<MountId> {
        self.stacks.get(path)?.last().copied()
    }

    /// The trigger with this number that the living daemon serves; a dead one's numbers may
    /// be the same.
    pub fn trigger(&self, id: TriggerId) -> Option<MountId> {
        let is_it = |it: &Trigger| it.spec.id == id && it.known;
        self.mounts
            .iter()
            .find(|(_, mount)| matches!(&mount.what, What::Trigger(it) if is_it(it)))
            .map(|(id, _)| *id)
    }

    /// The trigger of a kind at a path.
    pub fn trigger_at(&self, path: &BStr, kind: TriggerKind) -> Option<MountId> {
        self.stacks
            .get(path)?
            .iter()
            .copied()
            .find(|id| matches!(&self.mounts[id].what, What::Trigger(it) if it.spec.kind == kind))
    }

    /// The trigger's own state.
    pub fn as_trigger(&mut self, id: MountId) -> Option<&mut Trigger> {
        match &mut self.mounts.get_mut(&id)?.what {
            What::Trigger(trigger) => Some(trigger),
            What::Files => None,
        }
    }

    /// Whether the top at `path` is a file system, or a submount's trigger over another one.
    pub fn covered(&self, path: &BStr) -> bool {
        self.top(path)
            .is_some_and(|id| match &self.mounts[&id].what {
                What::Files => true,
                What::Trigger(trigger) => trigger.spec.kind == TriggerKind::Indirect,
            })
    }

    /// Whether anything is mounted below `path`.
    pub fn has_below(&self, path: &BStr) -> bool {
        self.below(path).next().is_some()
    }

    /// The mounts below `path`, by path.
    pub fn below<'k>(&'k self, path: &BStr) -> impl Iterator<Item = MountId> + use<'k> {
        let mut prefix = path.to_owned();
        prefix.push(b'/');
        self.stacks
            .range(prefix.clone()..)
            .take_while(move |(path, _)| path.starts_with(&prefix))
            .flat_map(|(_, stack)| stack.iter().copied())
    }

    /// The indirect trigger that `path` is a name in, and the name.
    pub fn holder(&self, path: &BStr) -> Option<(MountId, BString)> {
        let slash = path.rfind_byte(b'/')?;
        let holder = self.top(path[..slash].as_bstr())?;
        match &self.mounts[&holder].what {
            What::Trigger(trigger) if trigger.spec.kind == TriggerKind::Indirect => {
                Some((holder, path[slash + 1..].into()))
            }
            _ => None,
        }
    }

    // -- mounting --------------------------------------------------------------------------

    /// Puts a mount on top at `path`.
    pub fn attach(&mut self, path: &BStr, what: What) -> MountId {
        let id = self.next_mount;
        self.next_mount += 1;
        let parent = self.top(path).or_else(|| self.around(path));
        let path = path.to_owned();
        self.stacks.entry(path.clone()).or_default().push(id);
        self.mounts.insert(
            id,
            Mount {
                path,
                parent,
                what,
                users: 0,
                looks: 0,
            },
        );
        id
    }

    /// Whether there is a directory to mount on at `path`.
    pub fn is_directory(&self, path: &BStr) -> bool {
        if self.top(path).is_some() {
            return true;
        }
        let around = self.around(path).and_then(|id| self.mounts.get(&id));
        match around.map(|mount| &mount.what) {
            None | Some(What::Files) => true,
            Some(What::Trigger(trigger)) => {
                let name = path.get(trigger.spec.path.len() + 1..).unwrap_or_default();
                trigger.inner.contains(path) || trigger.names.contains_key(name)
            }
        }
    }

    /// The mount that a path which is no mount point itself lies in.
    pub fn around(&self, path: &BStr) -> Option<MountId> {
        let mut end = path.rfind_byte(b'/')?;
        loop {
            if let Some(id) = self.top(path[..end].as_bstr()) {
                return Some(id);
            }
            end = path[..end].rfind_byte(b'/')?;
        }
    }

    /// Unmounts, unless it is used.
    ///
    /// # Errors
    /// EBUSY.
    pub fn detach(&mut self, id: MountId) -> Result<(), i32> {
        let mount = self.mounts.get(&id).ok_or(EINVAL)?;
        let holds = |other: &Mount| other.parent == Some(id);
        let expiring = |it: &Pending| it.expire && !it.interrupted && it.mount == id;
        let busy = mount.users > 0
            || mount.looks > 0
            || self.mounts.values().any(holds)
            || self.pending.values().any(expiring);
        if busy {
            return Err(EBUSY);
        }
        self.tear_off(id);
        Ok(())
    }

    /// Takes a mount out of the tree, used or not, with all that is in it (`umount -l`).
    pub fn tear_off(&mut self, id: MountId) {
        let inside: Vec<MountId> = self
            .mounts
            .iter()
            .filter(|(_, mount)| mount.parent == Some(id))
            .map(|(id, _)| *id)
            .collect();
        for inner in inside {
            self.tear_off(inner);
        }
        if let Some(mount) = self.mounts.remove(&id)
            && let Some(stack) = self.stacks.get_mut(&mount.path)
        {
            stack.retain(|other| *other != id);
            if stack.is_empty() {
                self.stacks.remove(&mount.path);
            }
        }
    }

    // -- walking ---------------------------------------------------------------------------

    /// Walks along `path` at `now`; what is walked through counts as used.
    pub fn walk(&mut self, path: &BStr, now: u64) -> Walk {
        let mut inside: Option<MountId> = None;
        let ends: Vec<usize> = path
            .iter()
            .enumerate()
            .skip(1)
            .filter(|(_, byte)| **byte == b'/')
            .map(|(at, _)| at)
            .chain([path.len()])
            .collect();
        for end in ends {
            let part = path[..end].as_bstr();
            let below = self.has_below(part);
            let holder = self.indirect_name(inside, part);
            if let Some((holder, name)) = &holder
                && let Some(stopped) = self.pass(*holder, name, part, now)
            {
                return stopped;
            }
            match self.climb(part, now) {
                Ok(Some(id)) => inside = Some(id),
                Ok(None) if inside.is_some_and(|id| self.is_trigger(id)) && !below => {
                    return Walk::Absent;
                }
                Ok(None) => {}
                Err(stopped) => return stopped,
            }
        }
        Walk::Arrived(inside)
    }

    fn is_trigger(&self, id: MountId) -> bool {
        let mount = self.mounts.get(&id);
        mount.is_some_and(|mount| matches!(mount.what, What::Trigger(_)))
    }

    fn indirect_name(&self, inside: Option<MountId>, part: &BStr) -> Option<(MountId, BString)> {
        let id = inside?;
        let What::Trigger(trigger) = &self.mounts.get(&id)?.what else {
            return None;
        };
        let name = part.strip_prefix(trigger.spec.path.as_bytes())?;
        let name = name.strip_prefix(b"/")?;
        let direct_child = !name.contains(&b'/');
        (trigger.spec.kind == TriggerKind::Indirect && direct_child).then(|| (id, name.into()))
    }

    /// Passes a name of an indirect trigger; `None`: on it goes.
    fn pass(&mut self, holder: MountId, name: &BString, part: &BStr, now: u64) -> Option<Walk> {
        if let Some(token) = self.expiring(holder, name) {
            return Some(Walk::Expiring(token));
        }
        let mounted = self.top(part).is_some() || self.has_below(part);
        let trigger = self.as_trigger(holder)?;
        let connected = trigger.connected;
        if let Some(known) = trigger.names.get_mut(name) {
            known.used = now;
            if known.link.is_some() {
                return Some(Walk::Arrived(None));
            }
        }
        match (mounted, connected) {
            (true, _) => None,
            (false, true) => Some(Walk::Missing(holder, name.clone())),
            (false, false) => Some(Walk::Absent),
        }
    }

    /// Goes onto what is mounted at `part`.
    fn climb(&mut self, part: &BStr, now: u64) -> Result<Option<MountId>, Walk> {
        let Some(stack) = self.stacks.get(part).cloned() else {
            return Ok(None);
        };
        let below = self.has_below(part);
        let top = stack.last().copied();
        for id in stack {
            let expiring = self.expiring(id, &BString::default());
            let Some(trigger) = self.as_trigger(id) else {
                continue;
            };
            if trigger.spec.kind == TriggerKind::Indirect {
                continue;
            }
            if let Some(token) = expiring {
                return Err(Walk::Expiring(token));
            }
            trigger.names.entry(BString::default()).or_default().used = now;
            if Some(id) == top && !below {
                return Err(match trigger.connected {
                    true => Walk::Missing(id, BString::default()),
                    false => Walk::Absent,
                });
            }
        }
        Ok(top)
    }

    /// The request for a name that is being expired.
    fn expiring(&self, mount: MountId, name: &BString) -> Option<Token> {
        let token = self.request(mount, name, true)?;
        (!self.pending[&token].interrupted).then_some(token)
    }

    /// The open request that somebody who needs this name waits for: one for it, or what is
    /// left of an interrupted expiry. The kernel keeps one for each name.
    pub fn joinable(&self, mount: MountId, name: &BString) -> Option<Token> {
        let mount_request = self.request(mount, name, false);
        mount_request.or_else(|| self.request(mount, name, true))
    }

    /// The request that is open for a name.
    pub fn request(&self, mount: MountId, name: &BString, expire: bool) -> Option<Token> {
        self.pending
            .iter()
            .find(|(_, it)| it.mount == mount && it.name == *name && it.expire == expire)
            .map(|(token, _)| *token)
    }

    /// Opens a request to the daemon.
    pub fn ask(&mut self, mount: MountId, name: BString, expire: bool) -> Option<Token> {
        let What::Trigger(trigger) = &self.mounts.get(&mount)?.what else {
            return None;
        };
        let mut path = trigger.spec.path.clone();
        if !name.is_empty() {
            path.push(b'/');
            path.extend_from_slice(&name);
        }
        let token = self.next_token;
        self.next_token += 1;
        self.pending.insert(
            token,
            Pending {
                mount,
                trigger: trigger.spec.id,
                name,
                path,
                expire,
                waiters: Vec::new(),
                asked: 0,
                life: 0,
                deadline: None,
                interrupted: false,
            },
        );
        Some(token)
    }

    // -- expiry ----------------------------------------------------------------------------

    /// An expiry begins to look in a trigger.
    pub fn begin_look(&mut self, id: MountId) {
        if let Some(mount) = self.mounts.get_mut(&id) {
            mount.looks += 1;
        }
    }

    /// An expiry looks in a trigger no longer.
    pub fn end_look(&mut self, id: MountId) {
        if let Some(mount) = self.mounts.get_mut(&id) {
            mount.looks = mount.looks.saturating_sub(1);
        }
    }

    /// A name that is idle and can be unmounted, as the kernel chooses it; its idle time
    /// begins anew.
    pub fn choose_idle(
        &mut self,
        id: MountId,
        immediate: bool,
        refused: &BTreeSet<BString>,
        now: u64,
    ) -> Option<BString> {
        let What::Trigger(trigger) = &self.mounts.get(&id)?.what else {
            return None;
        };
        let spec = &trigger.spec;
        let name = trigger.names.iter().find_map(|(name, state)| {
            let timeout = u64::from(state.timeout.unwrap_or(spec.timeout)) * 1_000;
            let idle = immediate || (timeout > 0 && now.saturating_sub(state.used) >= timeout);
            let mut path = spec.path.clone();
            if !name.is_empty() {
                path.push(b'/');
                path.extend_from_slice(name);
            }
            let open = self.request(id, name, false).is_some();
            let asked = self.request(id, name, true).is_some();
            let chosen = idle && !open && !asked && !refused.contains(name);
            let there = state.link.is_some() || self.could_go(id, path.as_bstr());
            (chosen && there).then(|| name.clone())
        })?;
        self.as_trigger(id)?.names.get_mut(&name)?.used = now;
        Some(name)
    }

    /// Whether something is mounted in a trigger at `path` and nobody uses any of it. A map
    /// below holds itself open.
    fn could_go(&self, trigger: MountId, path: &BStr) -> bool {
        let stack = self.stacks.get(path).into_iter().flatten().copied();
        let all: Vec<MountId> = stack
            .filter(|id| *id != trigger)
            .chain(self.below(path))
            .collect();
        let idle = |id: &MountId| {
            let mount = &self.mounts[id];
            let map =
                matches!(&mount.what, What::Trigger(it) if it.spec.kind == TriggerKind::Indirect);
            mount.users == 0 && !map
        };
        !all.is_empty() && all.iter().all(idle)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn spec(id: u32, kind: TriggerKind, path: &str) -> TriggerSpec {
        TriggerSpec {
            id: TriggerId(id),
            kind,
            path: path.into(),
            source: "map".into(),
            timeout: 1,
            strict_expire: false,
            mode: None,
            propagation: Default::default(),
        }
    }

    fn trigger(id: u32, kind: TriggerKind, path: &str) -> What {
        What::Trigger(Trigger {
            spec: spec(id, kind, path),
            connected: true,
            known: true,
            names: BTreeMap::new(),
            inner: BTreeSet::new(),
        })
    }

    fn home() -> (Kernel, MountId) {
        let mut kernel = Kernel::default();
        let what = trigger(1, TriggerKind::Indirect, "/home");
        let home = kernel.attach(BStr::new("/home"), what);
        (kernel, home)
    }

    #[test]
    fn a_walk_stops_at_what_is_not_mounted_and_goes_through_what_is() {
        let (mut kernel, home) = home();
        let path = BStr::new("/home/ann");
        assert_eq!(kernel.walk(path, 0), Walk::Missing(home, "ann".into()));
        let files = kernel.attach(path, What::Files);
        assert_eq!(kernel.walk(path, 0), Walk::Arrived(Some(files)));
        assert_eq!(
            kernel.walk(BStr::new("/home"), 0),
            Walk::Arrived(Some(home))
        );
        kernel.as_trigger(home).unwrap().connected = false;
        assert_eq!(kernel.walk(BStr::new("/home/bob"), 0), Walk::Absent);
    }

    #[test]
    fn offsets_without_a_root_are_walked_to() {
        let (mut kernel, _) = home();
        let path = BStr::new("/home/ann/a");
        let offset = kernel.attach(path, trigger(2, TriggerKind::Offset, "/home/ann/a"));
        assert_eq!(kernel.walk(path, 0), Walk::Missing(offset, "".into()));
        assert!(matches!(
            kernel.walk(BStr::new("/home/ann"), 0),
            Walk::Arrived(_)
        ));
        assert_eq!(kernel.walk(BStr::new("/home/ann/z"), 0), Walk::Absent);
    }

    #[test]
    fn used_mounts_and_those_with_mounts_in_them_stay() {
        let (mut kernel, home) = home();
        let files = kernel.attach(BStr::new("/home/ann"), What::Files);
        assert_eq!(kernel.detach(home), Err(EBUSY));
        kernel.mounts.get_mut(&files).unwrap().users = 1;
        assert_eq!(kernel.detach(files), Err(EBUSY));
        kernel.mounts.get_mut(&files).unwrap().users = 0;
        assert_eq!(kernel.detach(files), Ok(()));
        assert_eq!(kernel.detach(home), Ok(()));
        assert!(kernel.mounts.is_empty());
    }

    #[test]
    fn idle_names_are_chosen_once_and_only_after_their_time() {
        let (mut kernel, home) = home();
        let state = Name::default();
        kernel
            .as_trigger(home)
            .unwrap()
            .names
            .insert("ann".into(), state);
        let none = BTreeSet::new();
        assert_eq!(kernel.choose_idle(home, true, &none, 0), None);
        kernel.attach(BStr::new("/home/ann"), What::Files);
        assert_eq!(kernel.choose_idle(home, false, &none, 999), None);
        assert_eq!(
            kernel.choose_idle(home, false, &none, 1_000),
            Some("ann".into())
        );
        assert_eq!(kernel.choose_idle(home, false, &none, 1_500), None);
        let token = kernel.ask(home, "ann".into(), true).unwrap();
        assert_eq!(
            kernel.walk(BStr::new("/home/ann"), 1_500),
            Walk::Expiring(token)
        );
    }
}
