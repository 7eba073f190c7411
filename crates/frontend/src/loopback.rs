//! The older automounter: mounts are made below a staging directory, and mount points show links to
//! them, served by ourselves through NFS (docs/older-automounter.md).

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
use piton_loopback::{Access, Duty, Listener, Owner, RootId, RootKind, Secret, Server, Tree};
use piton_map::requester::Requester;
use piton_mount::perform::{Failure, Triggers};
use piton_mount::table::{self, Table};
use piton_plan::step::{TriggerId, TriggerKind, TriggerSpec};
use rustix::event::{EventfdFlags, eventfd};

pub use self::seat::{KernelSeat, Seat};
use crate::front_end::{Capabilities, FrontEnd, Incoming, Resumed};
use crate::mark::Mark;
use crate::survey::{Stray, Survey};
use crate::ticket::{Answering, Ticket};

/// What a loopback front end is made of. A successor has the same, and goes on.
pub struct LoopbackSettings {
    /// The port that clients have mounted. Held by the keeper as well, so that they wait while
    /// nobody serves.
    pub listener: Listener,
    /// What file handles are hashed with: 16 random bytes.
    pub secret: [u8; 16],
    /// Where marks of unfinished work stand.
    pub table: RequestTable,
    /// Where mounts are made: `/tmp_mnt`. The mount of `/home/ann` is at `/tmp_mnt/home/ann`.
    pub staging: BString,
    /// How roots get to their mount points.
    pub seat: Box<dyn Seat>,
}

/// A front end whose mount points are directories of links, or links.
pub struct LoopbackFrontEnd {
    shared: Arc<Shared>,
    table: RequestTable,
    seat: Box<dyn Seat>,
    port: u16,
    /// Whoever served first took the listener.
    serving: Mutex<Serving>,
}

enum Serving {
    NotYet(Listener),
    Yes { _server: Server },
    Failed,
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
}

#[derive(Default)]
struct State {
    points: BTreeMap<TriggerId, Point>,
    incoming: VecDeque<Incoming>,
    /// Expiries that were not answered yet.
    expiring: usize,
    detached: bool,
}

struct Point {
    path: BString,
    timeout: u32,
    key_timeouts: HashMap<BString, u32>,
}

impl LoopbackFrontEnd {
    /// A front end that serves nothing yet; it begins with the first trigger that is installed, or
    /// when it is resumed.
    ///
    /// # Errors
    /// No descriptor can be had.
    pub fn new(settings: LoopbackSettings) -> io::Result<Self> {
        let flags = EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK;
        Ok(Self {
            shared: Arc::new(Shared {
                tree: Tree::new(Secret::new(settings.secret)),
                staging: settings.staging,
                state: Mutex::default(),
                bell: eventfd(0, flags)?,
                answered: Condvar::new(),
            }),
            table: settings.table,
            seat: settings.seat,
            port: settings.listener.port(),
            serving: Mutex::new(Serving::NotYet(settings.listener)),
        })
    }

    /// Has the server run.
    fn serve(&self) -> Result<(), Failure> {
        let mut serving = self.serving.lock().unwrap_or_else(PoisonError::into_inner);
        let listener = match std::mem::replace(&mut *serving, Serving::Failed) {
            Serving::NotYet(listener) => listener,
            Serving::Failed => return Err(failure(rustix::io::Errno::IO, "nobody serves")),
            yes @ Serving::Yes { .. } => {
                *serving = yes;
                return Ok(());
            }
        };
        let owner = Arc::new(Desk(self.shared.clone()));
        let server = Server::start(listener, self.shared.tree.clone(), owner).map_err(|error| {
            let errno = error
                .raw_os_error()
                .unwrap_or(rustix::io::Errno::IO.raw_os_error());
            Failure::new(
                errno,
                format!("the loopback server does not start: {error}"),
            )
        })?;
        *serving = Serving::Yes { _server: server };
        Ok(())
    }

    /// Enters a trigger into what is served.
    fn enter(&self, spec: &TriggerSpec) -> Result<(), Failure> {
        let (root, kind) = (root_of(spec.id), root_kind(spec)?);
        let mode = spec.mode.unwrap_or(0o555);
        let path = spec.path.as_bstr();
        let added = self.shared.tree.add(root, path, kind, mode);
        added.map_err(|error| {
            let text = format!("{path}: {error}");
            failure(rustix::io::Errno::INVAL, text)
        })?;
        let point = Point {
            path: spec.path.clone(),
            timeout: spec.timeout,
            key_timeouts: HashMap::new(),
        };
        self.shared.lock().points.insert(spec.id, point);
        Ok(())
    }

    fn forget(&self, spec: &TriggerSpec) {
        self.shared.lock().points.remove(&spec.id);
        self.shared.tree.remove(root_of(spec.id));
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
        let top = self.shared.staged(path, b"".as_bstr());
        let keys = table.within(top.as_bstr()).into_iter().filter_map(|mount| {
            let rest = mount.point.strip_prefix(&top[..])?;
            let key: BString = match (kind, rest) {
                (TriggerKind::Direct, b"") => BString::default(),
                (TriggerKind::Indirect, [b'/', key @ ..]) if !key.contains(&b'/') => key.into(),
                _ => return None,
            };
            let marked = |mark: &autofs::Marked| mark.point.inode == number && mark.name == key;
            Some(ExistingMount {
                whole: !marks.iter().any(marked),
                key,
                target: mount.point.clone().into_owned(),
                covered: true,
                source: mount.source.clone().into_owned(),
                server: None,
                offsets: Vec::new(),
                requester: Requester::default(),
            })
        });
        keys.collect()
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Where the mount of a key is made.
    fn staged(&self, path: &BStr, key: &BStr) -> BString {
        let mut staged = self.staging.clone();
        staged.extend_from_slice(path);
        if !key.is_empty() {
            staged.push(b'/');
            staged.extend_from_slice(key);
        }
        staged
    }

    /// Has a key lead to its mount.
    fn link(&self, trigger: TriggerId, key: &BStr) -> bool {
        let path = self
            .lock()
            .points
            .get(&trigger)
            .map(|point| point.path.clone());
        let Some(path) = path else { return false };
        let target = self.staged(path.as_bstr(), key);
        let linked = self.tree.link(root_of(trigger), key, target.as_bstr());
        linked.is_ok()
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
        let ticket = Ticket::new(LinkAnswer {
            shared: shared.clone(),
            trigger,
            key: access.name.clone(),
            duty: Some(duty),
        });
        shared.come_in(Incoming::Access {
            trigger,
            key: access.name,
            requester: Requester {
                uid: access.caller.uid,
                gid: access.caller.gid,
                ..Requester::default()
            },
            waited_ms: 0,
            ticket,
        });
    }
}

/// Answers a client with a link.
struct LinkAnswer {
    shared: Arc<Shared>,
    trigger: TriggerId,
    key: BString,
    duty: Option<Duty>,
}

impl Answering for LinkAnswer {
    fn ready(&mut self) {
        let linked = self.shared.link(self.trigger, self.key.as_bstr());
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

impl Triggers for LoopbackFrontEnd {
    fn install(&self, spec: &TriggerSpec) -> Result<(), Failure> {
        self.enter(spec)?;
        let kind = root_kind(spec)?;
        let path = spec.path.as_bstr();
        let seated = self
            .serve()
            .and_then(|()| self.seat.mount(path, kind, self.port));
        if seated.is_err() {
            self.forget(spec);
        }
        seated
    }

    fn remove(&self, spec: &TriggerSpec) -> Result<(), Failure> {
        self.seat.unmount(spec.path.as_bstr(), root_kind(spec)?)?;
        self.forget(spec);
        Ok(())
    }
}

impl FrontEnd for LoopbackFrontEnd {
    fn capabilities(&self) -> Capabilities {
        Capabilities {
            in_place: false,
            key_timeouts: true,
            strict_expire: false,
            requesters: true,
            keeps_requests: false,
        }
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
        for (path, kind) in self.seat.mounted(self.port) {
            let kind = match kind {
                RootKind::Directory => TriggerKind::Indirect,
                RootKind::Link => TriggerKind::Direct,
            };
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
        survey
    }

    fn adopt(&self, spec: &TriggerSpec) -> Result<(), Failure> {
        let kind = root_kind(spec)?;
        let found = self.seat.mounted(self.port);
        if !found.contains(&(spec.path.clone(), kind)) {
            let text = format!("{}: nothing of ours is mounted here", spec.path);
            return Err(failure(rustix::io::Errno::NOENT, text));
        }
        self.enter(spec)?;
        let text = table::read().unwrap_or_default();
        for mount in self.staged(&Table::parse(&text), spec.path.as_bstr(), spec.kind) {
            self.shared.link(spec.id, mount.key.as_bstr());
        }
        Ok(())
    }

    /// Requests come again by themselves: the kernel's client sends them to whoever serves next.
    fn resume(&self) -> Resumed {
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
        if let Err(error) = self.serve() {
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
            if !(immediate || idle) || !self.shared.tree.unlink(root, link.name.as_bstr()) {
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

    fn detach(&self) {
        let incoming = {
            let mut state = self.shared.lock();
            state.detached = true;
            std::mem::take(&mut state.incoming)
        };
        for incoming in incoming {
            match incoming {
                Incoming::Access { ticket, .. } | Incoming::Expire { ticket, .. } => {
                    ticket.fail(Errno::NOENT);
                }
            }
        }
    }
}

fn root_of(trigger: TriggerId) -> RootId {
    RootId(trigger.0)
}

/// Offsets cannot be: a link would have to be mounted on a directory of a server.
fn root_kind(spec: &TriggerSpec) -> Result<RootKind, Failure> {
    match spec.kind {
        TriggerKind::Indirect => Ok(RootKind::Directory),
        TriggerKind::Direct => Ok(RootKind::Link),
        TriggerKind::Offset => Err(failure(
            rustix::io::Errno::OPNOTSUPP,
            format!(
                "{}: the older automounter mounts an entry as a whole, not on access",
                spec.path
            ),
        )),
    }
}

fn failure(errno: rustix::io::Errno, text: impl Into<String>) -> Failure {
    Failure::new(errno.raw_os_error(), text)
}
