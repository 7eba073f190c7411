//! The kernel's autofs: mounts appear in place, and only a first access comes by here.
//!
//! One pipe serves all triggers. It is read without blocking and enlarged, because the kernel
//! holds every further walker uninterruptibly once it is full.

use std::collections::HashSet;
use std::ffi::OsStr;
use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, OnceLock, PoisonError, RwLock};
use std::time::{Duration, Instant};

use autofs::{
    AnswerErrno, AttachedPoint, Control, DeviceId, Error, ExpireHow, Packet, PacketError, PointId,
    PointKind, PointOptions, PointRoot, PreparedPoint, RequestPipe, RequestTable, Slot, Tracked,
    UnmountFlags, WaitToken, unmount,
};
use bstr::{BStr, BString, ByteSlice};
use piton_map::options::Propagation;
use piton_map::requester::Requester;
use piton_mount::is_local;
use piton_mount::perform::{Attach, Detach, Directory, Failure, Triggers};
use piton_plan::step::{TriggerId, TriggerKind, TriggerSpec};

use crate::answer::{KernelAnswer, Request};
use crate::backstage::Backstage;
use crate::capabilities::{AUTOFS, Capabilities};
use crate::expire::Round;
use crate::front_end::{FrontEnd, Incoming, Resumed};
use crate::limits::{DETACH, OWN_USE, ROOTS_APART};
use crate::listing::{DIRECTORY_MODE, relist};
use crate::mark::Mark;
use crate::registry::{Entry, OWN_PATHS, Registry, none_listed};
use crate::survey::{FoundPoints, Survey};
use crate::ticket::Ticket;

/// How the front end makes triggers.
#[derive(Clone, Copy, Debug, Default)]
pub struct KernelSettings {
    /// Mark triggers with `ignore`, on which `df` and others leave them out (autofs.conf's
    /// use_ignore_mount_option).
    pub ignore: bool,
}

/// Linux's autofs, protocol 5, through /dev/autofs.
pub struct KernelFrontEnd {
    pub(crate) shared: Arc<Shared>,
    pub(crate) pipe: RequestPipe,
    pub(crate) table: RequestTable,
    settings: KernelSettings,
    /// What the survey found, until it is adopted.
    pub(crate) found: Mutex<FoundPoints>,
    /// Requests of an earlier life that were taken up.
    pub(crate) resumed: OnceLock<HashSet<(DeviceId, WaitToken)>>,
    /// Whether the directory in which a direct trigger was last put is on a local file system.
    last_parent: Mutex<Option<(PathBuf, bool)>>,
}

/// What answers need: shared with every ticket.
pub(crate) struct Shared {
    pub(crate) control: Control,
    registry: RwLock<Registry>,
    pub(crate) backstage: Arc<Backstage>,
}

impl KernelFrontEnd {
    /// Opens /dev/autofs. Requests come through `pipe`, and those that were read stand in `table`
    /// until they are answered: new ones, or those of an earlier life, which then is continued
    /// ([`FrontEnd::survey`], [`FrontEnd::adopt`], [`FrontEnd::resume`]). The calling process must
    /// be in a process group without strangers, and in that of the earlier life: processes of that
    /// group never trigger.
    ///
    /// # Errors
    /// No autofs in the kernel, or not root.
    pub fn new(
        settings: KernelSettings,
        pipe: RequestPipe,
        table: RequestTable,
    ) -> Result<Self, Error> {
        let control = Control::open()?;
        control.version()?;
        let shared = Arc::new(Shared {
            control,
            registry: RwLock::default(),
            backstage: Arc::default(),
        });
        Ok(Self {
            shared,
            pipe,
            table,
            settings,
            found: Mutex::default(),
            resumed: OnceLock::new(),
            last_parent: Mutex::default(),
        })
    }

    fn make(&self, spec: &TriggerSpec, attach: Option<Attach<'_>>) -> Result<(), Failure> {
        let path = as_path(spec.path.as_bstr());
        let options = PointOptions {
            source: spec.source.clone(),
            strict_expire: spec.strict_expire,
            ignore: self.settings.ignore,
            propagation: propagation(spec.propagation),
            ..PointOptions::default()
        };
        let kind = point_kind(spec.kind);
        let may_hang = self.may_hang(spec);
        let mut prepared = PreparedPoint::new(kind, &options, self.pipe.writer())?;
        let apart = may_hang && spec.kind == TriggerKind::Offset;
        if apart && self.shared.read().roots_apart() < ROOTS_APART {
            prepared = prepared.with_root_apart();
        }
        let id = prepared.id();
        {
            let root = prepared.open_root()?;
            self.shared
                .control
                .set_timeout(root.as_fd(), u64::from(spec.timeout))?;
            if let Some(mode) = spec.mode {
                let mode = rustix::fs::Mode::from_raw_mode(mode);
                rustix::fs::fchmod(root.as_fd(), mode)
                    .map_err(|errno| failed("fchmod", Some(path), errno))?;
            }
        }
        // Entered before it is attached: it may fire in the very moment it is.
        self.enter(spec, id, may_hang);
        let attached = match attach {
            Some(attach) => prepared.attach_by(attach),
            None => prepared.attach(path).map_err(Failure::from),
        };
        match attached {
            Ok(attached) => {
                self.keep_root(spec.id, attached);
                Ok(())
            }
            Err(error) => {
                self.shared.write().remove(spec.id);
                Err(error)
            }
        }
    }

    fn enter(&self, spec: &TriggerSpec, point: PointId, may_hang: bool) {
        self.shared.write().insert(Entry {
            trigger: spec.id,
            kind: spec.kind,
            path: as_path(spec.path.as_bstr()).into(),
            device: point.device,
            inode: Some(point.inode),
            may_hang,
            root: None,
            apart: None,
            listed: none_listed(),
        });
    }

    /// Whether opening the trigger by its path may have to wait for a server.
    fn may_hang(&self, spec: &TriggerSpec) -> bool {
        let path = as_path(spec.path.as_bstr());
        let parent = path.parent().unwrap_or(path);
        match spec.kind {
            // Kept open.
            TriggerKind::Indirect => false,
            TriggerKind::Offset => {
                let registry = self.shared.read();
                let above = registry.offset_above(spec.path.as_bstr());
                if above.is_some_and(|above| above.may_hang) {
                    return true;
                }
                drop(registry);
                !is_local(parent.as_os_str().as_bytes().as_bstr())
            }
            // There may be fifty thousand, many of them side by side.
            TriggerKind::Direct => {
                let last = self.last_parent.lock();
                let mut last = last.unwrap_or_else(PoisonError::into_inner);
                match &*last {
                    Some((known, local)) if known == parent => !local,
                    _ => {
                        let local = is_local(parent.as_os_str().as_bytes().as_bstr());
                        *last = Some((parent.to_owned(), local));
                        !local
                    }
                }
            }
        }
    }

    fn keep_root(&self, trigger: TriggerId, mut attached: AttachedPoint) {
        if let Some(apart) = attached.take_apart() {
            self.shared.write().set_apart(trigger, apart);
        }
        if let Some(root) = attached.take_root()
            && let Some(entry) = self.shared.write().get_mut(trigger)
        {
            entry.root = Some(Arc::new(root));
        }
    }

    fn unmake(&self, spec: &TriggerSpec, detach: Option<Detach<'_>>) -> Result<(), Failure> {
        let Some(entry) = self.shared.read().get(spec.id).cloned() else {
            return Ok(());
        };
        let root = match self.shared.write().get_mut(spec.id) {
            Some(entry) => entry.root.take(),
            None => None,
        };
        let kept_root = root.is_some();
        if let Some(root) = &root {
            relist(root, &entry.listed, &HashSet::new());
        }
        // An open root keeps the trigger from being unmounted, ours too: descriptors that an
        // expiry round or an answer still holds are waited for.
        drop(root);
        let Entry {
            path,
            device,
            listed,
            root,
            ..
        } = entry;
        drop(root);
        quiesce(&path);
        let unmounted = match detach {
            Some(detach) => detach(),
            None => unmount(&path, UnmountFlags::empty()).map_err(Failure::from),
        };
        match unmounted {
            Ok(()) => {
                self.shared.write().remove(spec.id);
                Ok(())
            }
            // Somebody else has unmounted it: then there is nothing to answer any more.
            Err(error)
                if [autofs::Errno::INVAL, autofs::Errno::NOENT]
                    .map(autofs::Errno::raw_os_error)
                    .contains(&error.errno) =>
            {
                self.shared.write().remove(spec.id);
                Err(error)
            }
            Err(error) => {
                if kept_root && let Ok(fd) = self.shared.control.open_point(&path, device) {
                    let root = PointRoot::from(fd);
                    relist(&root, &HashSet::new(), &listed);
                    if let Some(entry) = self.shared.write().get_mut(spec.id) {
                        entry.root = Some(Arc::new(root));
                    }
                }
                Err(error)
            }
        }
    }

    /// What a request means, which was read so long ago; answers it if it is none of ours.
    pub(crate) fn incoming(
        &self,
        packet: Packet,
        slot: Option<Slot>,
        age: Duration,
    ) -> Option<Incoming> {
        let request = Request {
            device: packet.device,
            token: packet.token,
            slot,
        };
        let registry = self.shared.read();
        let Some(entry) = registry.at_point(packet.point()) else {
            drop(registry);
            // A request for a trigger that is none of ours (any more) is answered all the same:
            // who waits there would wait for ever.
            tracing::warn!(device = %packet.device, "request for an unknown trigger answered ENOENT");
            request.answer_anywhere(&self.shared, Err(AnswerErrno::NOENT));
            return None;
        };
        let trigger = entry.trigger;
        let key = match entry.kind {
            TriggerKind::Indirect => packet.name,
            // The kernel puts meaningless text there.
            TriggerKind::Direct | TriggerKind::Offset => BString::default(),
        };
        let ticket = Ticket::new(KernelAnswer {
            shared: self.shared.clone(),
            root: entry.way_to_answer().cloned(),
            path: entry.path.clone(),
            may_hang: entry.may_hang,
            request: Some(request),
            expires_for: match packet.kind.is_missing() {
                true => 0,
                false => packet.tgid,
            },
        });
        if !packet.kind.is_missing() {
            return Some(Incoming::Expire {
                trigger,
                key,
                ticket,
            });
        }
        let requester = Requester {
            uid: packet.uid,
            gid: packet.gid,
            pid: packet.tgid,
            ..Requester::default()
        };
        Some(Incoming::Access {
            trigger,
            key,
            requester,
            waited_ms: u64::try_from(age.as_millis()).unwrap_or(u64::MAX),
            ticket,
        })
    }

    /// A request that was just read, unless it is one that an earlier life had read already.
    fn fresh(&self, Tracked { packet, slot }: Tracked) -> Option<Incoming> {
        let name = (packet.device, packet.token);
        if self
            .resumed
            .get()
            .is_some_and(|known| known.contains(&name))
        {
            tracing::debug!(device = %packet.device, "request read twice");
            if let Some(slot) = slot {
                slot.free();
            }
            return None;
        }
        self.incoming(packet, slot, Duration::ZERO)
    }

    /// A request that makes no sense is answered too.
    fn answer_rubbish(&self, error: &PacketError) {
        tracing::error!(%error, "request of the kernel cannot be read; answered EIO");
        if let Some((point, token)) = error.answer_to {
            let request = Request {
                device: point.device,
                token,
                slot: None,
            };
            request.answer_anywhere(&self.shared, Err(AnswerErrno::IO));
        }
    }
}

impl Shared {
    pub(crate) fn read(&self) -> std::sync::RwLockReadGuard<'_, Registry> {
        self.registry.read().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn write(&self) -> std::sync::RwLockWriteGuard<'_, Registry> {
        self.registry
            .write()
            .unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn detach(&self, entry: &Entry) {
        let done = match &entry.apart {
            Some(apart) => self.control.make_catatonic(apart.as_fd()),
            None => self.with_root(entry.trigger, |root| self.control.make_catatonic(root)),
        };
        if let Err(error) = done {
            tracing::warn!(path = %entry.path.display(), %error, "trigger not detached");
        }
    }

    /// Calls `act` with an open descriptor of a trigger's root.
    fn with_root<R>(
        &self,
        trigger: TriggerId,
        act: impl FnOnce(BorrowedFd<'_>) -> Result<R, Error>,
    ) -> Result<R, Error> {
        let Some(entry) = self.read().get(trigger).cloned() else {
            return Err(failed("find trigger", None, autofs::Errno::NOENT));
        };
        match &entry.root {
            Some(root) => act(root.as_fd()),
            None => {
                let fd = self.control.open_point(&entry.path, entry.device)?;
                act(fd.as_fd())
            }
        }
    }
}

impl Triggers for KernelFrontEnd {
    fn install(&self, spec: &TriggerSpec) -> Result<(), Failure> {
        self.make(spec, None)
    }

    fn install_by(&self, spec: &TriggerSpec, attach: Attach<'_>) -> Result<(), Failure> {
        self.make(spec, Some(attach))
    }

    fn remove(&self, spec: &TriggerSpec) -> Result<(), Failure> {
        self.unmake(spec, None)
    }

    fn remove_by(&self, spec: &TriggerSpec, detach: Detach<'_>) -> Result<(), Failure> {
        self.unmake(spec, Some(detach))
    }

    fn let_go(&self, triggers: &[TriggerSpec], detach: Detach<'_>) -> Result<(), Failure> {
        self.forget(triggers, detach)
    }

    fn entry_root(&self, path: &BStr) -> Option<BString> {
        self.shared.read().root_above(path)
    }

    fn key_directory(&self, path: &BStr) -> Option<Directory> {
        let (root, _) = self.root_of_key(path)?;
        Some(root)
    }

    fn make_directory(&self, path: &BStr) -> Option<Result<bool, Failure>> {
        let (root, key) = self.root_of_key(path)?;
        Some(match root.make_dir(&key, DIRECTORY_MODE) {
            Ok(()) => Ok(true),
            Err(error) if error.errno() == Some(autofs::Errno::EXIST) => Ok(false),
            Err(error) => Err(error.into()),
        })
    }

    fn remove_directory(&self, path: &BStr) -> Option<Result<(), Failure>> {
        let (root, key) = self.root_of_key(path)?;
        let listed = self
            .shared
            .read()
            .key_of(path)
            .is_some_and(|(entry, _)| entry.listed.contains(&key));
        if listed {
            return Some(Ok(()));
        }
        Some(match root.remove_dir(&key) {
            Ok(()) => Ok(()),
            Err(error) if error.errno() == Some(autofs::Errno::NOENT) => Ok(()),
            Err(error) => Err(error.into()),
        })
    }
}

impl KernelFrontEnd {
    fn root_of_key(&self, path: &BStr) -> Option<(Arc<PointRoot>, BString)> {
        let registry = self.shared.read();
        let (entry, key) = registry.key_of(path)?;
        Some((entry.root.clone()?, key.to_owned()))
    }
}

impl FrontEnd for KernelFrontEnd {
    fn capabilities(&self) -> Capabilities {
        AUTOFS
    }

    fn readable(&self) -> Option<BorrowedFd<'_>> {
        Some(self.pipe.as_fd())
    }

    fn next(&self) -> io::Result<Option<Incoming>> {
        loop {
            match self.pipe.read_tracked(&self.table) {
                Ok(None) => return Ok(None),
                Ok(Some(read)) => {
                    if let Some(incoming) = self.fresh(read) {
                        return Ok(Some(incoming));
                    }
                }
                Err(Error::Packet(error)) => self.answer_rubbish(&error),
                Err(error) => return Err(io::Error::other(error)),
            }
        }
    }

    fn survey(&self, wanted: &[(BString, TriggerKind)]) -> Survey {
        self.look_around(wanted)
    }

    fn adopt(&self, spec: &TriggerSpec) -> Result<(), Failure> {
        self.take_over(spec).map_err(Failure::from)
    }

    fn resume(&self) -> Resumed {
        self.take_up()
    }

    fn mark(&self, trigger: TriggerId, key: &BStr) -> Option<Mark> {
        self.note_work(trigger, key)
    }

    fn list(&self, trigger: TriggerId, keys: &Arc<[BString]>) {
        let Some(entry) = self.shared.read().get(trigger).cloned() else {
            return;
        };
        let Some(root) = &entry.root else { return };
        let wanted: HashSet<BString> = keys.iter().cloned().collect();
        relist(root, &entry.listed, &wanted);
        if let Some(entry) = self.shared.write().get_mut(trigger) {
            entry.listed = Arc::new(wanted);
        }
    }

    fn set_timeout(
        &self,
        trigger: TriggerId,
        key: Option<&BStr>,
        seconds: u32,
    ) -> Result<(), Failure> {
        let seconds = u64::from(seconds);
        let control = &self.shared.control;
        let done = self.shared.with_root(trigger, |root| match key {
            Some(key) => control.set_key_timeout(root, key, Some(seconds)),
            None => control.set_timeout(root, seconds),
        });
        done.map(drop).map_err(Failure::from)
    }

    fn expire(&self, trigger: TriggerId, immediate: bool) {
        let how = if immediate {
            ExpireHow::IMMEDIATE
        } else {
            ExpireHow::NORMAL
        };
        let entry = self.shared.read().get(trigger).cloned();
        let Some(Entry { kind, path, .. }) = entry else {
            return;
        };
        let indirect = kind == TriggerKind::Indirect;
        let rounds = self.shared.with_root(trigger, |root| {
            Round::new(&self.shared.control, root, how, indirect).run();
            Ok(())
        });
        if let Err(error) = rounds {
            tracing::debug!(%error, "expiry round not possible");
        }
        // The thread that has told the kernel what became of the mount may not have closed the
        // trigger yet, which would keep what it lies on from being expired next. Who removes the
        // trigger waits in the same way, but not for us: we have closed it.
        if !indirect {
            let unused = Arc::downgrade(&path);
            drop(path);
            wait_for(|| unused.strong_count() <= OWN_PATHS);
        }
    }

    fn detach(&self) {
        let entries = self.shared.read().entries();
        let slow = |it: &Entry| it.may_hang && it.apart.is_none();
        let (slow, quick): (Vec<_>, Vec<_>) = entries.into_iter().partition(slow);
        quick.iter().for_each(|entry| self.shared.detach(entry));
        // A dead server does not keep the daemon from ending.
        let (done, ends) = std::sync::mpsc::channel();
        for entry in slow {
            let (shared, done) = (self.shared.clone(), done.clone());
            self.shared.backstage.submit(move || {
                shared.detach(&entry);
                drop(done);
            });
        }
        drop(done);
        let _: Result<(), _> = ends.recv_timeout(DETACH);
    }
}

/// Waits until nobody but the registry and the caller knows `path`, which all that use a
/// trigger's descriptors hold.
pub(crate) fn quiesce(path: &Arc<Path>) {
    wait_for(|| Arc::strong_count(path) <= OWN_PATHS + 1);
}

/// Waits until our own use of something is over.
fn wait_for(over: impl Fn() -> bool) {
    let begun = Instant::now();
    while !over() && begun.elapsed() < OWN_USE {
        std::thread::sleep(Duration::from_millis(1));
    }
}

/// A call that failed.
pub(crate) fn failed(call: &'static str, path: Option<&Path>, errno: autofs::Errno) -> Error {
    Error::Call {
        call,
        path: path.map(Path::to_owned),
        errno,
        kernel_text: None,
    }
}

/// Bytes as the path they are.
pub fn as_path(path: &BStr) -> &Path {
    Path::new(OsStr::from_bytes(path.as_bytes()))
}

pub(crate) fn point_kind(kind: TriggerKind) -> PointKind {
    match kind {
        TriggerKind::Indirect => PointKind::Indirect,
        TriggerKind::Direct => PointKind::Direct,
        TriggerKind::Offset => PointKind::Offset,
    }
}

/// Triggers themselves keep the propagation of their parent, so that containers that receive
/// mounts from here see them; only where a map asks for `private` they are cut off.
fn propagation(asked: Propagation) -> Option<autofs::Propagation> {
    match asked {
        Propagation::Private => Some(autofs::Propagation::Private),
        Propagation::Slave | Propagation::Shared => None,
    }
}
