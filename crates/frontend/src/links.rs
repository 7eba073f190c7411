//! Front ends of links: mounts are made below a staging directory, and mount points show links to
//! them, which we serve ourselves: through NFS, as the older automounter did
//! (docs/older-automounter.md), or through FUSE (docs/fuse.md).
//!
//! What is here is common to both. [`Host`] is what they differ in: how roots get to their mount
//! points, and who serves them there.

mod care;
mod fuse;
mod loopback;
mod seat;

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use autofs::{DeviceId, PointId, RequestTable};
use bstr::{BStr, BString, ByteSlice};
use piton_engine::cause::Errno;
use piton_engine::event::{Existing, ExistingMount};
use piton_loopback::{Access, Duty, Owner, Purpose, RootId, RootKind, Secret, Tree};
use piton_map::requester::Requester;
use piton_mount::perform::{Failure, Triggers};
use piton_mount::table::{self, Table};
use piton_plan::step::{TriggerId, TriggerKind, TriggerSpec};
use rustix::event::{EventfdFlags, eventfd};

use self::care::Care;
pub use self::fuse::{FuseFrontEnd, FuseSettings};
pub use self::loopback::{LoopbackFrontEnd, LoopbackSettings};
pub use self::seat::{KernelSeat, Seat, ServeOnly, abandon_dead};
use crate::capabilities::Capabilities;
use crate::front_end::{FrontEnd, Incoming, Resumed, Silent};
use crate::limits::ADOPTION;
use crate::mark::Mark;
use crate::staged;
use crate::survey::{Stray, Survey};
use crate::ticket::{Answering, Ticket};

/// How roots of a tree get to their mount points, and who serves them there.
pub trait Host: Send + Sync {
    /// What it can do.
    const CAPABILITIES: Capabilities;

    /// Has what is needed run before the first root is shown, or all roots that were taken over are
    /// served; nothing the second time.
    ///
    /// # Errors
    /// Nobody can be served.
    fn serve(&self, serving: &Serving) -> Result<(), Failure>;

    /// Shows a root of the tree at its mount point.
    ///
    /// # Errors
    /// It is not shown, and nothing is left of it.
    fn seat(&self, serving: &Serving, root: &Root<'_>) -> Result<(), Failure>;

    /// Takes it away.
    ///
    /// # Errors
    /// It is still there.
    fn unseat(&self, root: &Root<'_>) -> Result<(), Failure>;

    /// What an earlier life has shown and left. Nobody need serve there.
    fn seated(&self, staging: &BStr, table: &Table<'_>) -> Vec<(BString, RootKind)>;

    /// Goes on with a root that an earlier life has left, or shows it anew.
    ///
    /// # Errors
    /// It stays as it is.
    fn take_over(&self, serving: &Serving, root: &Root<'_>) -> Result<(), Failure>;

    /// Takes a root out of people's way that could not be taken away, because nobody serves it from
    /// now on.
    fn abandon(&self, root: &Root<'_>);
}

/// What is served, and who is asked.
pub struct Serving {
    pub(crate) tree: Tree,
    pub(crate) owner: Arc<dyn Owner>,
}

/// A root that is to be shown, or is.
pub struct Root<'r> {
    pub(crate) id: RootId,
    pub(crate) kind: RootKind,
    /// Its mount point.
    pub(crate) path: &'r BStr,
    /// Where its mounts are made.
    pub(crate) staged: BString,
}

/// A front end whose mount points are directories of links, or links.
pub struct Links<H> {
    shared: Arc<Shared>,
    table: RequestTable,
    serving: Serving,
    host: H,
}

/// What answers need: shared with every ticket.
struct Shared {
    tree: Tree,
    staging: BString,
    state: Mutex<State>,
    /// Rings when something came in.
    bell: OwnedFd,
    /// Tells that an expiry was answered.
    answered: Condvar,
    /// Tells that the roots of an earlier life are entered.
    adopted: Condvar,
    /// Looks after servers, where links are only trusted while they are served.
    care: Option<Care>,
}

#[derive(Default)]
struct State {
    points: BTreeMap<TriggerId, Point>,
    incoming: VecDeque<Incoming>,
    /// Expiries that were not answered yet.
    expiring: usize,
    detached: bool,
    /// Mount points of an earlier life that are to be entered again.
    awaited: bool,
}

struct Point {
    path: BString,
    kind: RootKind,
    timeout: u32,
    key_timeouts: HashMap<BString, u32>,
}

impl<H: Host> Links<H> {
    /// A front end that shows nothing yet. `secret` is what names are hashed with, `table` where marks
    /// of unfinished work stand; a successor has the same.
    fn of(
        host: H,
        secret: [u8; 16],
        table: RequestTable,
        staging: BString,
        care: Option<Care>,
    ) -> io::Result<Self> {
        let flags = EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK;
        let shared = Arc::new(Shared {
            tree: Tree::new(Secret::new(secret)),
            staging,
            state: Mutex::default(),
            bell: eventfd(0, flags)?,
            answered: Condvar::new(),
            adopted: Condvar::new(),
            care,
        });
        let serving = Serving {
            tree: shared.tree.clone(),
            owner: Arc::new(Desk(shared.clone())),
        };
        Ok(Self {
            shared,
            table,
            serving,
            host,
        })
    }

    fn root<'s>(&self, spec: &'s TriggerSpec) -> Result<Root<'s>, Failure> {
        let path = spec.path.as_bstr();
        Ok(Root {
            id: root_of(spec.id),
            kind: root_kind(spec, &H::CAPABILITIES)?,
            path,
            staged: self.shared.staged(path, b"".as_bstr()),
        })
    }

    /// Enters a trigger into what is served.
    fn enter(&self, spec: &TriggerSpec, root: &Root<'_>) -> Result<(), Failure> {
        let mode = spec.mode.unwrap_or(0o555);
        let added = self.shared.tree.add(root.id, root.path, root.kind, mode);
        added.map_err(|error| {
            let text = format!("{}: {error}", root.path);
            failure(rustix::io::Errno::INVAL, text)
        })?;
        let point = Point {
            path: spec.path.clone(),
            kind: root.kind,
            timeout: spec.timeout,
            key_timeouts: HashMap::new(),
        };
        self.shared.lock().points.insert(spec.id, point);
        Ok(())
    }

    fn forget(&self, spec: &TriggerSpec) {
        self.shared.lock().points.remove(&spec.id);
        if let Some(care) = &self.shared.care {
            care.end_all(spec.id);
        }
        self.shared.tree.remove(root_of(spec.id));
    }

    /// Enters a root that an earlier life has left, with what is mounted for it.
    fn enter_again(&self, spec: &TriggerSpec, table: &Table<'_>) -> Result<(), Failure> {
        self.enter(spec, &self.root(spec)?)?;
        for mount in self.staged(table, spec.path.as_bstr(), spec.kind) {
            self.shared.link(spec.id, mount.key.as_bstr());
        }
        Ok(())
    }

    /// Goes on with a root that an earlier life has left.
    fn take_over(&self, spec: &TriggerSpec) -> Result<(), Failure> {
        let root = self.root(spec)?;
        if !self.shared.lock().points.contains_key(&spec.id) {
            let text = table::read().unwrap_or_default();
            self.enter_again(spec, &Table::parse(&text))?;
        }
        let taken = self.host.take_over(&self.serving, &root);
        if taken.is_err() {
            self.forget(spec);
        }
        taken
    }

    /// What names a trigger in the table of marks: there is no file system of its own, but the
    /// number of its root is the same in every life.
    fn spot(&self, trigger: TriggerId) -> Option<PointId> {
        let inode = {
            let state = self.shared.lock();
            let path = state.points.get(&trigger)?.path.as_bstr();
            self.shared.tree.number(path)
        };
        let device = DeviceId::new(0, 0);
        Some(PointId { device, inode })
    }

    /// What is mounted for a mount point: links that a successor shows again.
    fn staged(&self, table: &Table<'_>, path: &BStr, kind: TriggerKind) -> Vec<ExistingMount> {
        let number = self.shared.tree.number(path);
        let marks = self.table.marks();
        let marked = |key: &BStr| {
            let here = |mark: &autofs::Marked| mark.point.inode == number && mark.name == key;
            marks.iter().any(here)
        };
        staged::existing(table, self.shared.staging.as_bstr(), path, kind, &marked)
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Where the mount of a key is made.
    fn staged(&self, path: &BStr, key: &BStr) -> BString {
        staged::place(self.staging.as_bstr(), path, key)
    }

    /// Has a key lead to its mount.
    fn link(self: &Arc<Self>, trigger: TriggerId, key: &BStr) -> bool {
        let path = self
            .lock()
            .points
            .get(&trigger)
            .map(|point| point.path.clone());
        let Some(path) = path else { return false };
        let target = self.staged(path.as_bstr(), key);
        let linked = self.tree.link(root_of(trigger), key, target.as_bstr());
        if let Some(care) = &self.care {
            care.begin(self, (trigger, key.to_owned()), target);
        }
        linked.is_ok()
    }

    /// Has a key lead nowhere. False if it did not lead anywhere.
    fn unlink(&self, trigger: TriggerId, key: &BStr) -> bool {
        let unlinked = self.tree.unlink(root_of(trigger), key);
        if let Some(care) = &self.care {
            // They ask anew.
            let waiting = care.end(&(trigger, key.to_owned()));
            waiting.into_iter().for_each(|it| self.come_in(it));
        }
        unlinked
    }

    /// Waits until all that an earlier life left is entered again. Whoever has been served earlier
    /// would be told that what he holds of the rest is stale.
    fn await_adoption(&self) {
        let waits = |state: &mut State| state.awaited;
        let waited = self
            .adopted
            .wait_timeout_while(self.lock(), ADOPTION, waits)
            .unwrap_or_else(PoisonError::into_inner);
        if waited.1.timed_out() {
            tracing::warn!("mount points of an earlier life were not taken over in time");
        }
    }

    /// All that an earlier life left is entered again.
    fn know_all(&self) {
        self.lock().awaited = false;
        self.adopted.notify_all();
    }

    fn come_in(&self, incoming: Incoming) {
        self.lock().incoming.push_back(incoming);
        // It cannot fail before it has rung 2^64 times without being heard.
        let _ = rustix::io::write(&self.bell, &1_u64.to_ne_bytes());
    }
}

/// Takes in what the server asks.
struct Desk(Arc<Shared>);

impl Owner for Desk {
    fn access(&self, access: Access, duty: Duty) {
        let shared = &self.0;
        if shared.lock().detached {
            return duty.fail(rustix::io::Errno::NOENT);
        }
        let trigger = TriggerId(access.root.0);
        let key = access.name;
        let requester = Requester {
            uid: access.caller.uid,
            gid: access.caller.gid,
            pid: access.caller.pid,
            ..Requester::default()
        };
        let ticket = Ticket::new(LinkAnswer {
            shared: shared.clone(),
            trigger,
            key: key.clone(),
            purpose: access.purpose,
            duty: Some(duty),
        });
        match access.purpose {
            Purpose::LookUp => shared.come_in(Incoming::Exists {
                trigger,
                key,
                requester,
                ticket,
            }),
            Purpose::Follow => {
                let spot = (trigger, key.clone());
                let access = Incoming::Access {
                    trigger,
                    key,
                    requester,
                    waited_ms: 0,
                    ticket,
                };
                shared.visit(spot, access);
            }
        }
    }

    fn trusts(&self, root: RootId, name: &BStr) -> bool {
        let spot = (TriggerId(root.0), name.to_owned());
        let care = self.0.care.as_ref();
        care.is_none_or(|care| care.trusts(&self.0, &spot))
    }
}

/// What is dead has been unmounted, or not: then the access comes in that found it dead.
struct Healing(Option<(Arc<Shared>, Incoming)>);

impl Answering for Healing {
    fn ready(&mut self) {
        if let Some((shared, incoming)) = self.0.take() {
            shared.come_in(incoming);
        }
    }

    /// Whoever asked is told what there is: that it is mounted.
    fn fail(&mut self, _: Errno) {
        self.ready();
    }
}

/// Answers a client: with a link, if that is what he asked for.
struct LinkAnswer {
    shared: Arc<Shared>,
    trigger: TriggerId,
    key: BString,
    purpose: Purpose,
    duty: Option<Duty>,
}

impl Answering for LinkAnswer {
    fn ready(&mut self) {
        let linked = match self.purpose {
            Purpose::LookUp => true,
            Purpose::Follow => self.shared.link(self.trigger, self.key.as_bstr()),
        };
        // A duty that is dropped answers with an error.
        if let Some(duty) = self.duty.take().filter(|_| linked) {
            duty.ready();
        }
    }

    fn fail(&mut self, errno: Errno) {
        if let Some(duty) = self.duty.take() {
            duty.fail(rustix::io::Errno::from_raw_os_error(errno.0));
        }
    }
}

/// Answers an expiry: the link is gone already, and comes back if the mount stays.
struct ExpireAnswer {
    shared: Arc<Shared>,
    trigger: TriggerId,
    key: BString,
}

impl ExpireAnswer {
    fn answered(&self) {
        self.shared.lock().expiring -= 1;
        self.shared.answered.notify_all();
    }
}

impl Answering for ExpireAnswer {
    fn ready(&mut self) {
        self.answered();
    }

    fn fail(&mut self, _: Errno) {
        self.shared.link(self.trigger, self.key.as_bstr());
        self.answered();
    }
}

impl<H: Host> Triggers for Links<H> {
    fn install(&self, spec: &TriggerSpec) -> Result<(), Failure> {
        let root = self.root(spec)?;
        self.shared.await_adoption();
        self.enter(spec, &root)?;
        let seated = self
            .host
            .serve(&self.serving)
            .and_then(|()| self.host.seat(&self.serving, &root));
        if seated.is_err() {
            self.forget(spec);
        }
        seated
    }

    fn remove(&self, spec: &TriggerSpec) -> Result<(), Failure> {
        self.host.unseat(&self.root(spec)?)?;
        self.forget(spec);
        Ok(())
    }

    /// Below the staging directory no link is followed.
    fn entry_root(&self, _: &BStr) -> Option<BString> {
        Some(self.shared.staging.clone())
    }
}

impl<H: Host> FrontEnd for Links<H> {
    fn capabilities(&self) -> Capabilities {
        H::CAPABILITIES
    }

    fn place(&self, visible: &BStr) -> BString {
        self.shared.staged(visible, b"".as_bstr())
    }

    fn show(&self, trigger: TriggerId, key: &BStr) {
        self.shared.link(trigger, key);
    }

    fn hide(&self, trigger: TriggerId, key: &BStr) -> bool {
        self.shared.unlink(trigger, key)
    }

    fn readable(&self) -> Option<BorrowedFd<'_>> {
        Some(self.shared.bell.as_fd())
    }

    fn next(&self) -> io::Result<Option<Incoming>> {
        let mut state = self.shared.lock();
        let incoming = state.incoming.pop_front();
        if state.incoming.is_empty() {
            // Under the lock, so that nothing comes in between. Silent already: nothing to hear.
            let _ = rustix::io::read(&self.shared.bell, &mut [0; 8]);
        }
        Ok(incoming)
    }

    fn survey(&self, wanted: &[(BString, TriggerKind)]) -> Survey {
        let mut survey = Survey::default();
        let text = match table::read() {
            Ok(text) => text,
            Err(error) => {
                tracing::warn!(%error, "cannot look for triggers of an earlier life");
                return survey;
            }
        };
        let table = Table::parse(&text);
        let mut found: Vec<(BString, TriggerKind)> = Vec::new();
        for (path, kind) in self.host.seated(self.shared.staging.as_bstr(), &table) {
            let kind = match kind {
                RootKind::Directory => TriggerKind::Indirect,
                RootKind::Link => TriggerKind::Direct,
            };
            found.push((path, kind));
        }
        let gone = wanted.iter().filter(|point| {
            let (path, kind) = point;
            // What is mounted for a root can be taken over even when the root itself is gone.
            !found.contains(point) && !self.staged(&table, path.as_bstr(), *kind).is_empty()
        });
        let gone: Vec<_> = gone.cloned().collect();
        for (path, kind) in found.into_iter().chain(gone) {
            let existing = Existing {
                mounted: self.staged(&table, path.as_bstr(), kind),
                kind,
                path: path.clone(),
            };
            if wanted.contains(&(path, kind)) {
                survey.orphans.push(existing);
            } else {
                // Of which map it is only the dead knew.
                let source = BString::default();
                survey.strays.push(Stray { existing, source });
            }
        }
        self.shared.lock().awaited = !(survey.orphans.is_empty() && survey.strays.is_empty());
        survey
    }

    /// All are entered before the first one is shown again: whoever serves that one serves all.
    fn expect(&self, specs: &[TriggerSpec]) {
        let text = table::read().unwrap_or_default();
        let table = Table::parse(&text);
        for spec in specs {
            if let Err(failure) = self.enter_again(spec, &table) {
                // Told again when it cannot be taken over.
                tracing::debug!(path = %spec.path, why = failure.text, "not served again");
            }
        }
        self.shared.know_all();
    }

    fn adopt(&self, spec: &TriggerSpec) -> Result<(), Failure> {
        self.take_over(spec)
    }

    /// Requests are not taken up: those who wait ask whoever serves next once more, or have an error.
    fn resume(&self) -> Resumed {
        self.shared.know_all();
        let mut resumed = Resumed::default();
        let points: Vec<TriggerId> = self.shared.lock().points.keys().copied().collect();
        let spots: HashMap<u64, TriggerId> = points
            .into_iter()
            .filter_map(|trigger| Some((self.spot(trigger)?.inode, trigger)))
            .collect();
        for marked in self.table.marks().into_iter().filter(|marked| !marked.own) {
            let mark = marked.mark;
            match spots.get(&marked.point.inode) {
                Some(trigger) => {
                    let mark = Mark::new(|| mark.end());
                    resumed.marks.push((*trigger, marked.name, mark));
                }
                None => mark.end(),
            }
        }
        if let Err(error) = self.host.serve(&self.serving) {
            tracing::error!(error = error.text, "nobody can be served");
        }
        resumed
    }

    fn mark(&self, trigger: TriggerId, key: &BStr) -> Option<Mark> {
        let mark = self.table.mark(self.spot(trigger)?, key)?;
        Some(Mark::new(|| mark.end()))
    }

    fn list(&self, trigger: TriggerId, keys: &Arc<[BString]>) {
        let keys = keys.iter().map(|key| key.as_bstr());
        if let Err(error) = self.shared.tree.list(root_of(trigger), keys) {
            tracing::warn!(%error, "keys cannot be shown");
        }
    }

    fn set_timeout(
        &self,
        trigger: TriggerId,
        key: Option<&BStr>,
        seconds: u32,
    ) -> Result<(), Failure> {
        let mut state = self.shared.lock();
        let point = state.points.get_mut(&trigger);
        let point = point.ok_or_else(|| failure(rustix::io::Errno::NOENT, "no such trigger"))?;
        match key {
            None => point.timeout = seconds,
            Some(key) => drop(point.key_timeouts.insert(key.to_owned(), seconds)),
        }
        Ok(())
    }

    fn expire(&self, trigger: TriggerId, immediate: bool) {
        let root = root_of(trigger);
        for link in self.shared.tree.links(root) {
            let timeout = {
                let state = self.shared.lock();
                let Some(point) = state.points.get(&trigger) else {
                    return;
                };
                *point.key_timeouts.get(&link.name).unwrap_or(&point.timeout)
            };
            let idle = timeout > 0 && link.idle >= Duration::from_secs(timeout.into());
            if !(immediate || idle) || !self.shared.unlink(trigger, link.name.as_bstr()) {
                continue;
            }
            self.shared.lock().expiring += 1;
            let ticket = Ticket::new(ExpireAnswer {
                shared: self.shared.clone(),
                trigger,
                key: link.name.clone(),
            });
            self.shared.come_in(Incoming::Expire {
                trigger,
                key: link.name,
                ticket,
            });
        }
        let mut state = self.shared.lock();
        while state.expiring > 0 {
            let answered = self.shared.answered.wait(state);
            state = answered.unwrap_or_else(PoisonError::into_inner);
        }
    }

    fn silent(&self) -> Vec<Silent> {
        let Some(care) = &self.shared.care else {
            return Vec::new();
        };
        let silent = care.silent();
        let state = self.shared.lock();
        let named = silent
            .into_iter()
            .filter_map(|((trigger, key), quiet, left)| {
                let point = state.points.get(&trigger)?;
                let path = staged::place(b"".as_bstr(), point.path.as_bstr(), key.as_bstr());
                Some(Silent { path, quiet, left })
            });
        named.collect()
    }

    fn detach(&self) {
        let incoming = {
            let mut state = self.shared.lock();
            state.detached = true;
            std::mem::take(&mut state.incoming)
        };
        for incoming in incoming {
            match incoming {
                Incoming::Access { ticket, .. }
                | Incoming::Exists { ticket, .. }
                | Incoming::Expire { ticket, .. } => {
                    ticket.fail(Errno::NOENT);
                }
            }
        }
    }

    fn abandon(&self) {
        if let Some(care) = &self.shared.care {
            care.leave();
        }
        // Whoever serves may be asked something meanwhile, and wants the lock.
        let points: Vec<_> = {
            let state = self.shared.lock();
            let points = state.points.iter().rev();
            points
                .map(|(trigger, point)| (*trigger, point.kind, point.path.clone()))
                .collect()
        };
        for (trigger, kind, path) in points {
            let path = path.as_bstr();
            self.host.abandon(&Root {
                id: root_of(trigger),
                kind,
                path,
                staged: self.shared.staged(path, b"".as_bstr()),
            });
        }
    }
}

fn root_of(trigger: TriggerId) -> RootId {
    RootId(trigger.0)
}

/// Offsets cannot be: a link would have to be mounted on a directory of a server.
fn root_kind(spec: &TriggerSpec, can: &Capabilities) -> Result<RootKind, Failure> {
    let why = match spec.kind {
        TriggerKind::Indirect => return Ok(RootKind::Directory),
        TriggerKind::Direct if can.direct => return Ok(RootKind::Link),
        TriggerKind::Direct => {
            "a direct mount point cannot be served by FUSE: use an indirect map, and make a link to its \
             key here"
        }
        TriggerKind::Offset => "behind links an entry is mounted as a whole, not on access",
    };
    let text = format!("{}: {why}", spec.path);
    Err(failure(rustix::io::Errno::OPNOTSUPP, text))
}

fn failure(errno: rustix::io::Errno, text: impl Into<String>) -> Failure {
    Failure::new(errno.raw_os_error(), text)
}
