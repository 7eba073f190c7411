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
use std::sync::{Arc, PoisonError, RwLock};
use std::time::{Duration, Instant};

use autofs::{
    AnswerErrno, AttachedPoint, Control, Error, ExpireHow, Packet, PointId, PointKind,
    PointOptions, PointRoot, PreparedPoint, RequestPipe, UnmountFlags, WaitToken, unmount,
};
use bstr::{BStr, BString, ByteSlice};
use piton_engine::cause::Errno;
use piton_map::options::Propagation;
use piton_map::requester::Requester;
use piton_mount::perform::{Failure, Triggers};
use piton_plan::step::{TriggerId, TriggerKind, TriggerSpec};

use crate::front_end::{Capabilities, FrontEnd, Incoming};
use crate::listing::{DIRECTORY_MODE, relist};
use crate::registry::{Entry, Registry};
use crate::survey::{Survey, survey};
use crate::ticket::{Answering, Ticket};

/// Most failures that one expiry round puts up with: the kernel may offer the same mount again
/// and again when unmounting it fails.
const EXPIRE_FAILURES_MOST: u32 = 16;

/// How the front end makes triggers.
#[derive(Clone, Copy, Debug, Default)]
pub struct KernelSettings {
    /// Mark triggers with `ignore`, on which `df` and others leave them out (autofs.conf's
    /// use_ignore_mount_option).
    pub ignore: bool,
}

/// Linux's autofs, protocol 5, through /dev/autofs.
pub struct KernelFrontEnd {
    shared: Arc<Shared>,
    pipe: RequestPipe,
    settings: KernelSettings,
    key_timeouts: bool,
}

/// What answers need: shared with every ticket.
struct Shared {
    control: Control,
    registry: RwLock<Registry>,
}

impl KernelFrontEnd {
    /// Opens /dev/autofs and makes the request pipe. The calling process must lead a process
    /// group of its own: processes of that group never trigger.
    ///
    /// # Errors
    /// No autofs in the kernel, or not root.
    pub fn new(settings: KernelSettings) -> Result<Self, Error> {
        let control = Control::open()?;
        control.version()?;
        let pipe = RequestPipe::new()?;
        let registry = RwLock::new(Registry::default());
        let shared = Arc::new(Shared { control, registry });
        // Protocol 5.06; the version of the first trigger decides (see `install`).
        Ok(Self {
            shared,
            pipe,
            settings,
            key_timeouts: true,
        })
    }

    fn make(&self, spec: &TriggerSpec) -> Result<(), Error> {
        let path = as_path(spec.path.as_bstr());
        let options = PointOptions {
            source: spec.source.clone(),
            strict_expire: spec.strict_expire,
            ignore: self.settings.ignore,
            propagation: propagation(spec.propagation),
            ..PointOptions::default()
        };
        let kind = point_kind(spec.kind);
        let prepared = PreparedPoint::new(kind, &options, self.pipe.writer())?;
        let id = prepared.id();
        {
            let root = prepared.open_root()?;
            self.shared
                .control
                .set_timeout(root.as_fd(), u64::from(spec.timeout))?;
            if let Some(mode) = spec.mode {
                let mode = rustix::fs::Mode::from_raw_mode(mode);
                rustix::fs::fchmod(root.as_fd(), mode).map_err(|errno| Error::Call {
                    call: "fchmod",
                    path: Some(path.into()),
                    errno,
                    kernel_text: None,
                })?;
            }
        }
        // Entered before it is attached: it may fire in the very moment it is.
        self.enter(spec, id, None);
        match prepared.attach(path) {
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

    fn enter(&self, spec: &TriggerSpec, point: PointId, root: Option<Arc<PointRoot>>) {
        self.shared.write().insert(Entry {
            trigger: spec.id,
            kind: spec.kind,
            path: Arc::new(as_path(spec.path.as_bstr()).to_path_buf()),
            point,
            root,
            listed: Arc::default(),
        });
    }

    fn keep_root(&self, trigger: TriggerId, mut attached: AttachedPoint) {
        if let Some(root) = attached.take_root()
            && let Some(entry) = self.shared.write().get_mut(trigger)
        {
            entry.root = Some(Arc::new(root));
        }
    }

    fn unmake(&self, spec: &TriggerSpec) -> Result<(), Error> {
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
            point,
            listed,
            root,
            ..
        } = entry;
        drop(root);
        quiesce(&path);
        match unmount(&path, UnmountFlags::empty()) {
            Ok(()) => {
                self.shared.write().remove(spec.id);
                Ok(())
            }
            // Somebody else has unmounted it: then there is nothing to answer any more.
            Err(error)
                if matches!(
                    error.errno(),
                    Some(autofs::Errno::INVAL | autofs::Errno::NOENT)
                ) =>
            {
                self.shared.write().remove(spec.id);
                Err(error)
            }
            Err(error) => {
                if kept_root && let Ok(fd) = self.shared.control.open_point(&path, point.device) {
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

    fn take_over(&self, spec: &TriggerSpec) -> Result<(), Error> {
        let kind = point_kind(spec.kind);
        let path = as_path(spec.path.as_bstr());
        let found = autofs::existing_points()?
            .filter_map(Result::ok)
            .filter(|point| point.kind == kind && point.target == path)
            .last();
        let Some(found) = found else {
            return Err(Error::Call {
                call: "adopt",
                path: Some(path.into()),
                errno: autofs::Errno::NOENT,
                kernel_text: None,
            });
        };
        let fd = self.shared.control.open_point(path, found.device)?;
        let id = PointRoot::from(fd).id()?;
        self.enter(spec, id, None);
        let timeout = u64::from(spec.timeout);
        let pipe = self.pipe.writer();
        match autofs::reconnect(&self.shared.control, path, found.device, pipe, timeout) {
            Ok(root) => {
                if spec.kind == TriggerKind::Indirect
                    && let Some(entry) = self.shared.write().get_mut(spec.id)
                {
                    entry.root = Some(Arc::new(root));
                }
                Ok(())
            }
            Err(error) => {
                self.shared.write().remove(spec.id);
                Err(error)
            }
        }
    }

    fn incoming(&self, packet: Packet) -> Option<Incoming> {
        let registry = self.shared.read();
        let entry = registry.at_point(packet.point());
        let Some(entry) = entry else {
            drop(registry);
            self.answer_stranger(&packet);
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
            root: entry.root.clone(),
            path: entry.path.clone(),
            point: entry.point,
            token: packet.token,
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
            ticket,
        })
    }

    /// A request for a trigger that is none of ours (any more) is answered all the same: who
    /// waits there would wait for ever.
    fn answer_stranger(&self, packet: &Packet) {
        tracing::warn!(device = %packet.device, "request for an unknown trigger answered ENOENT");
        let Ok(points) = autofs::existing_points() else {
            return;
        };
        for point in points.filter_map(Result::ok) {
            if point.device == packet.device
                && let Ok(fd) = self.shared.control.open_point(&point.target, point.device)
            {
                let errno = AnswerErrno::new(autofs::Errno::NOENT);
                let _ = self.shared.control.fail(fd.as_fd(), packet.token, errno);
                return;
            }
        }
    }
}

impl Shared {
    fn read(&self) -> std::sync::RwLockReadGuard<'_, Registry> {
        self.registry.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn write(&self) -> std::sync::RwLockWriteGuard<'_, Registry> {
        self.registry
            .write()
            .unwrap_or_else(PoisonError::into_inner)
    }

    /// Calls `act` with an open descriptor of a trigger's root.
    fn with_root<R>(
        &self,
        trigger: TriggerId,
        act: impl FnOnce(BorrowedFd<'_>) -> Result<R, Error>,
    ) -> Result<R, Error> {
        let Some(entry) = self.read().get(trigger).cloned() else {
            return Err(Error::Call {
                call: "find trigger",
                path: None,
                errno: autofs::Errno::NOENT,
                kernel_text: None,
            });
        };
        match &entry.root {
            Some(root) => act(root.as_fd()),
            None => {
                let fd = self.control.open_point(&entry.path, entry.point.device)?;
                act(fd.as_fd())
            }
        }
    }
}

impl Triggers for KernelFrontEnd {
    fn install(&self, spec: &TriggerSpec) -> Result<(), Failure> {
        self.make(spec).map_err(|error| failure(&error))
    }

    fn remove(&self, spec: &TriggerSpec) -> Result<(), Failure> {
        self.unmake(spec).map_err(|error| failure(&error))
    }

    fn entry_root(&self, path: &BStr) -> Option<BString> {
        self.shared.read().root_above(path)
    }

    fn make_directory(&self, path: &BStr) -> Option<Result<bool, Failure>> {
        let (root, key) = self.root_of_key(path)?;
        Some(match root.make_dir(&key, DIRECTORY_MODE) {
            Ok(()) => Ok(true),
            Err(error) if error.errno() == Some(autofs::Errno::EXIST) => Ok(false),
            Err(error) => Err(failure(&error)),
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
            Err(error) => Err(failure(&error)),
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
        Capabilities {
            in_place: true,
            key_timeouts: self.key_timeouts,
            strict_expire: true,
            requesters: true,
        }
    }

    fn readable(&self) -> Option<BorrowedFd<'_>> {
        Some(self.pipe.as_fd())
    }

    fn next(&self) -> io::Result<Option<Incoming>> {
        loop {
            match self.pipe.read() {
                Ok(None) => return Ok(None),
                Ok(Some(packet)) => {
                    if let Some(incoming) = self.incoming(packet) {
                        return Ok(Some(incoming));
                    }
                }
                Err(error) => return Err(io::Error::other(error)),
            }
        }
    }

    fn survey(&self, wanted: &[(BString, TriggerKind)]) -> Survey {
        survey(&self.shared.control, wanted)
    }

    fn adopt(&self, spec: &TriggerSpec) -> Result<(), Failure> {
        self.take_over(spec).map_err(|error| failure(&error))
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
        done.map(drop).map_err(|error| failure(&error))
    }

    fn expire(&self, trigger: TriggerId, immediate: bool) {
        let how = if immediate {
            ExpireHow::IMMEDIATE
        } else {
            ExpireHow::NORMAL
        };
        let control = &self.shared.control;
        let mut failures = 0;
        let rounds = self.shared.with_root(trigger, |root| {
            while failures < EXPIRE_FAILURES_MOST {
                match control.expire(root, how) {
                    Ok(true) => {}
                    Ok(false) => break,
                    Err(_) => failures += 1,
                }
            }
            Ok(())
        });
        if let Err(error) = rounds {
            tracing::debug!(%error, "expiry round not possible");
        }
    }

    fn detach(&self) {
        for entry in self.shared.read().entries() {
            let trigger = entry.trigger;
            let control = &self.shared.control;
            let done = self
                .shared
                .with_root(trigger, |root| control.make_catatonic(root));
            if let Err(error) = done {
                tracing::warn!(path = %entry.path.display(), %error, "trigger not detached");
            }
        }
    }
}

/// Longest wait for our own use of a trigger to end before it is unmounted. An expiry round that
/// finds nothing takes some 13 ms (an RCU grace period).
const OWN_USE_MOST: Duration = Duration::from_millis(200);

/// Waits until nobody but the registry and the caller knows `path`, which all that use a
/// trigger's descriptors hold.
fn quiesce(path: &Arc<PathBuf>) {
    let begun = Instant::now();
    while Arc::strong_count(path) > 2 && begun.elapsed() < OWN_USE_MOST {
        std::thread::sleep(Duration::from_millis(1));
    }
}

/// Answers one request of the kernel.
struct KernelAnswer {
    shared: Arc<Shared>,
    root: Option<Arc<PointRoot>>,
    path: Arc<PathBuf>,
    point: PointId,
    token: WaitToken,
}

impl KernelAnswer {
    fn send(&self, send: impl Fn(&Control, BorrowedFd<'_>) -> Result<(), Error>) {
        let control = &self.shared.control;
        let sent = match &self.root {
            Some(root) => send(control, root.as_fd()),
            None => control
                .open_point(&self.path, self.point.device)
                .and_then(|fd| send(control, fd.as_fd())),
        };
        if let Err(error) = sent {
            tracing::error!(path = %self.path.display(), %error, "kernel did not take the answer");
        }
    }
}

impl Answering for KernelAnswer {
    fn ready(&mut self) {
        self.send(|control, root| control.ready(root, self.token));
    }

    fn fail(&mut self, errno: Errno) {
        let errno = AnswerErrno::new(autofs::Errno::from_raw_os_error(errno.0));
        self.send(|control, root| control.fail(root, self.token, errno));
    }
}

fn failure(error: &Error) -> Failure {
    let errno = error.errno().unwrap_or(autofs::Errno::IO);
    Failure::new(errno.raw_os_error(), error.to_string())
}

pub(crate) fn as_path(path: &BStr) -> &Path {
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
