//! Points: autofs mounts, made in two steps.
//!
//! A point can be accessed the moment it is attached, and its first request names it by a device
//! number that only the mount itself tells. So a point is *prepared* first, as a mount that is
//! nowhere yet, asked for its number, and then *attached*. This is what the mount API of Linux 5.2
//! gives; where it is missing or forbidden, [`AttachedPoint::mount`] does it in one step with
//! `mount(2)`.

use std::ffi::CString;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::path::Path;

use bstr::BString;
use rustix::fs::{AtFlags, CWD, Mode, OFlags};
use rustix::io::Errno;
use rustix::mount::{
    FsMountFlags, FsOpenFlags, MountAttrFlags, MountFlags, MoveMountFlags, OpenTreeFlags,
    UnmountFlags, fsconfig_create, fsconfig_set_flag, fsconfig_set_string, fsmount, fsopen,
    move_mount, open_tree,
};
use rustix::path::DecInt;
use rustix::process::Pid;

use crate::device::PointId;
use crate::error::{Error, Result};
use crate::kernel_text::kernel_text;
use crate::mount_attr::{
    MountAttributes, Propagation, set_mount_attributes, set_mount_attributes_at,
};
use crate::root::{PointRoot, open_root_of};

/// What triggers a point.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub enum PointKind {
    /// Access to a child of its root that is missing, or a directory on which nothing is mounted.
    Indirect,
    /// Access to its root. What is then mounted covers it.
    Direct,
    /// The same, for a point that lies below what another point had mounted.
    Offset,
}

impl PointKind {
    /// The mount option, which is also the word in `/proc/self/mountinfo`.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Indirect => "indirect",
            Self::Direct => "direct",
            Self::Offset => "offset",
        }
    }

    /// The kind with this mount option.
    pub fn from_name(name: &[u8]) -> Option<Self> {
        [Self::Indirect, Self::Direct, Self::Offset]
            .into_iter()
            .find(|kind| kind.name().as_bytes() == name)
    }

    /// The kernel's number (`AUTOFS_TYPE_*` in `linux/auto_fs.h`).
    pub(crate) const fn number(self) -> u32 {
        match self {
            Self::Indirect => 1,
            Self::Direct => 2,
            Self::Offset => 4,
        }
    }
}

/// Who owns a point's root directory.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Owner {
    /// The user id.
    pub uid: u32,
    /// The group id.
    pub gid: u32,
}

/// How a point is made. The default is a plain one, of this process's own group.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct PointOptions {
    /// The text that the mount table shows as what is mounted: for people, mostly the map's name.
    pub source: BString,
    /// The process group that does not trigger; none for this process's own.
    pub process_group: Option<Pid>,
    /// Walking through does not count as use, so that what looks at every mount now and then
    /// (monitoring) does not keep them all. From protocol 5.04 on.
    pub strict_expire: bool,
    /// Shows `ignore` in the mount table, on which `df` and others leave the point out. From
    /// protocol 5.05 on.
    pub ignore: bool,
    /// The owner of the root; none for this process's user.
    pub owner: Option<Owner>,
    /// How mounts spread to and from it; none for what the parent mount's propagation makes of it:
    /// a point below a shared mount is shared. Set after attaching, because attaching to a shared
    /// mount makes it shared; so copies in other namespaces that get the mount from there appear
    /// nevertheless.
    pub propagation: Option<Propagation>,
    /// Flags such as `nosuid`, of the point itself, not of what is mounted on it.
    pub attributes: MountAttrFlags,
}

impl Default for PointOptions {
    fn default() -> Self {
        Self {
            source: "autofs".into(),
            process_group: None,
            strict_expire: false,
            ignore: false,
            owner: None,
            propagation: None,
            attributes: MountAttrFlags::empty(),
        }
    }
}

/// A point that is not attached yet: nothing can trigger it, and dropping it leaves nothing behind.
#[derive(Debug)]
pub struct PreparedPoint {
    kind: PointKind,
    id: PointId,
    /// The detached mount.
    mount: OwnedFd,
    propagation: Option<Propagation>,
    apart: bool,
}

impl PreparedPoint {
    /// Makes a point whose requests go to `pipe_writer` (see
    /// [`RequestPipe::writer`](crate::RequestPipe::writer)).
    ///
    /// # Errors
    ///
    /// `ENODEV` if the kernel has no autofs, `EPERM` without `CAP_SYS_ADMIN`, `ENOSYS` before Linux
    /// 5.2, `EINVAL` for an option that this kernel does not know; the kernel's own words are in
    /// the error.
    pub fn new(kind: PointKind, options: &PointOptions, pipe_writer: impl AsFd) -> Result<Self> {
        let context = fsopen("autofs", FsOpenFlags::FSOPEN_CLOEXEC)
            .map_err(|errno| Error::call("fsopen autofs", errno))?;
        let fail = |call| {
            let context = context.as_fd();
            move |errno| Error::Call {
                call,
                path: None,
                errno,
                kernel_text: kernel_text(context),
            }
        };
        configure(context.as_fd(), kind, options, pipe_writer.as_fd())
            .map_err(fail("fsconfig autofs"))?;
        fsconfig_create(&context).map_err(fail("fsconfig autofs"))?;
        let mount = fsmount(&context, FsMountFlags::FSMOUNT_CLOEXEC, options.attributes)
            .map_err(fail("fsmount autofs"))?;
        let stat = rustix::fs::fstat(&mount).map_err(|errno| Error::call("fstat", errno))?;
        let id = PointId::from_stat(&stat);
        Ok(Self {
            kind,
            id,
            mount,
            propagation: options.propagation,
            apart: false,
        })
    }

    /// What triggers it.
    pub fn kind(&self) -> PointKind {
        self.kind
    }

    /// The name under which its requests will come.
    pub fn id(&self) -> PointId {
        self.id
    }

    /// Opens its root, to set its timeout or make directories before anyone can see it.
    ///
    /// # Errors
    ///
    /// `EMFILE` or `ENFILE`.
    pub fn open_root(&self) -> Result<PointRoot> {
        open_root_of(self.mount.as_fd()).map_err(|errno| Error::call("openat", errno))
    }

    /// Wants [`AttachedPoint::take_apart`] of it: a root to answer through that needs no path and
    /// does not keep the point busy.
    #[must_use]
    pub fn with_root_apart(self) -> Self {
        let apart = true;
        Self { apart, ..self }
    }

    /// Attaches it to the directory `target`, which must exist and must not be a symbolic link.
    ///
    /// # Errors
    ///
    /// Those of [`PreparedPoint::attach_at`].
    pub fn attach(self, target: &Path) -> Result<AttachedPoint> {
        self.attach_at(CWD, target)
    }

    /// Attaches it to `target`, relative to `dir`; an empty `target` is `dir` itself.
    ///
    /// From here on it can trigger.
    ///
    /// # Errors
    ///
    /// `ENOENT`, `ENOTDIR`, `EPERM`, and whatever else `move_mount(2)` answers; `ENOSPC` if the
    /// mount namespace is full (`/proc/sys/fs/mount-max`). Nothing is left attached.
    pub fn attach_at(self, dir: impl AsFd, target: &Path) -> Result<AttachedPoint> {
        let mut flags = MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH;
        if target.as_os_str().is_empty() {
            flags |= MoveMountFlags::MOVE_MOUNT_T_EMPTY_PATH;
        }
        self.attach_by(|mount| {
            move_mount(mount, "", dir, target, flags)
                .map_err(|errno| Error::call_on("move_mount", target, errno))
        })
    }

    /// Has `attach` attach the detached mount that it is given, for callers who know a better way
    /// to its place, or must have another process do it.
    ///
    /// # Errors
    ///
    /// Those of `attach`, after which it must not be attached; else as [`PreparedPoint::attach_at`].
    pub fn attach_by<E: From<Error>>(
        self,
        attach: impl FnOnce(BorrowedFd<'_>) -> Result<(), E>,
    ) -> Result<AttachedPoint, E> {
        let Self {
            kind,
            id,
            mount,
            propagation,
            apart,
        } = self;
        // The root is opened first, because afterwards nothing may fail.
        let root = match kind {
            PointKind::Indirect => {
                Some(open_root_of(mount.as_fd()).map_err(|errno| Error::call("openat", errno))?)
            }
            PointKind::Direct | PointKind::Offset => None,
        };
        let set = |propagation| {
            let attributes = MountAttributes {
                propagation,
                ..MountAttributes::default()
            };
            set_mount_attributes(&mount, &attributes, false)
        };
        if propagation.is_some() {
            // Changes nothing, a detached mount is private, but tells now whether this can be done.
            set(Some(Propagation::Private))?;
        }
        attach(mount.as_fd())?;
        if propagation.is_some() {
            // What could be refused would have been above.
            set(propagation)?;
        }
        // Without it answers go by path.
        let apart = apart.then(|| root_apart(mount.as_fd()).ok()).flatten();
        Ok(AttachedPoint {
            kind,
            id,
            root,
            apart,
        })
    }
}

/// The root of another mount of the same point that is nowhere.
fn root_apart(mount: BorrowedFd<'_>) -> Result<PointRoot> {
    let flags = OpenTreeFlags::OPEN_TREE_CLONE
        | OpenTreeFlags::OPEN_TREE_CLOEXEC
        | OpenTreeFlags::AT_EMPTY_PATH;
    let copy =
        open_tree(mount, "", flags).map_err(|errno| Error::call("open_tree autofs", errno))?;
    let private = MountAttributes {
        propagation: Some(Propagation::Private),
        ..MountAttributes::default()
    };
    // What is mounted on the point must not be mounted on the copy, too.
    set_mount_attributes(&copy, &private, false)?;
    open_root_of(copy.as_fd()).map_err(|errno| Error::call("openat", errno))
}

fn configure(
    context: BorrowedFd<'_>,
    kind: PointKind,
    options: &PointOptions,
    pipe_writer: BorrowedFd<'_>,
) -> rustix::io::Result<()> {
    fsconfig_set_string(context, "source", options.source.as_slice())?;
    // As a number, not with FSCONFIG_SET_FD: autofs takes that only since Linux 6.7.
    fsconfig_set_string(context, "fd", DecInt::new(pipe_writer.as_raw_fd()))?;
    if let Some(group) = options.process_group {
        fsconfig_set_string(context, "pgrp", DecInt::new(group.as_raw_nonzero().get()))?;
    }
    // Without this, a later kernel might speak a later protocol. "minproto" is left at the kernel's
    // 3: it changes nothing, and each option costs a microsecond, some fifty thousand times.
    fsconfig_set_string(context, "maxproto", c"5")?;
    if let Some(owner) = options.owner {
        fsconfig_set_string(context, "uid", DecInt::new(owner.uid))?;
        fsconfig_set_string(context, "gid", DecInt::new(owner.gid))?;
    }
    fsconfig_set_flag(context, kind.name())?;
    if options.strict_expire {
        fsconfig_set_flag(context, c"strictexpire")?;
    }
    if options.ignore {
        fsconfig_set_flag(context, c"ignore")?;
    }
    Ok(())
}

/// A point that is mounted somewhere.
///
/// Dropping it does not unmount it: the kernel's mounts outlive their daemon.
#[derive(Debug)]
pub struct AttachedPoint {
    kind: PointKind,
    id: PointId,
    /// Open for indirect points only: there can be tens of thousands of the others, whose root is
    /// opened for each answer with [`Control::open_point`](crate::Control::open_point).
    root: Option<PointRoot>,
    apart: Option<PointRoot>,
}

impl AttachedPoint {
    /// Makes a point in one step with `mount(2)`, for kernels and sandboxes where
    /// [`PreparedPoint::new`] fails with `ENOSYS`, `EINVAL` or `EPERM`; and for those who make many
    /// points and know how to deal with what follows, because it takes a quarter less time.
    ///
    /// It can trigger before its id is known: a daemon that reads its pipe in another thread must
    /// be ready for a request of a point that it does not know yet. Its attributes are set after it
    /// is attached.
    ///
    /// # Errors
    ///
    /// Whatever `mount(2)` answers, without words of the kernel. On an error nothing stays mounted.
    pub fn mount(
        kind: PointKind,
        options: &PointOptions,
        pipe_writer: impl AsFd,
        target: &Path,
    ) -> Result<Self> {
        let on_target = |call| move |errno| Error::call_on(call, target, errno);
        let data = CString::new(option_text(kind, options, pipe_writer.as_fd()))
            .map_err(|_| on_target("mount")(Errno::INVAL))?;
        rustix::mount::mount(
            options.source.as_slice(),
            target,
            "autofs",
            MountFlags::empty(),
            data.as_c_str(),
        )
        .map_err(on_target("mount"))?;
        Self::mounted(kind, options, target).inspect_err(|_| {
            // Best effort: the error that counts is the first one.
            let _ = unmount(target, UnmountFlags::DETACH);
        })
    }

    /// The point just mounted on `target`.
    fn mounted(kind: PointKind, options: &PointOptions, target: &Path) -> Result<Self> {
        let attributes = MountAttributes {
            set: options.attributes,
            propagation: options.propagation,
            ..MountAttributes::default()
        };
        if attributes != MountAttributes::default() {
            set_mount_attributes_at(target, &attributes, false)?;
        }
        let flags = AtFlags::SYMLINK_NOFOLLOW | AtFlags::NO_AUTOMOUNT;
        let stat = rustix::fs::statat(CWD, target, flags)
            .map_err(|errno| Error::call_on("fstatat", target, errno))?;
        let id = PointId::from_stat(&stat);
        let root = match kind {
            PointKind::Indirect => {
                let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC | OFlags::NOFOLLOW;
                let root = rustix::fs::open(target, flags, Mode::empty());
                Some(
                    root.map_err(|errno| Error::call_on("open", target, errno))?
                        .into(),
                )
            }
            PointKind::Direct | PointKind::Offset => None,
        };
        Ok(Self {
            kind,
            id,
            root,
            apart: None,
        })
    }

    /// What triggers it.
    pub fn kind(&self) -> PointKind {
        self.kind
    }

    /// The name under which its requests come.
    pub fn id(&self) -> PointId {
        self.id
    }

    /// Its root, for an indirect point whose root was not taken.
    pub fn root(&self) -> Option<&PointRoot> {
        self.root.as_ref()
    }

    /// Gives the root away, for an indirect point. It must be dropped before the point can be
    /// unmounted.
    pub fn take_root(&mut self) -> Option<PointRoot> {
        self.root.take()
    }

    /// Gives away the root that [`PreparedPoint::with_root_apart`] asked for; none if the kernel
    /// did not give one.
    ///
    /// It answers and makes catatonic like any other, wherever the point is by now, also when it
    /// was unmounted lazily and has no path. It is another mount of the point: EXPIRE and ASKUMOUNT
    /// would look at that, and so at nothing.
    pub fn take_apart(&mut self) -> Option<PointRoot> {
        self.apart.take()
    }
}

/// The options as `mount(2)` takes them.
fn option_text(kind: PointKind, options: &PointOptions, pipe_writer: BorrowedFd<'_>) -> String {
    let mut text = format!("fd={},maxproto=5", pipe_writer.as_raw_fd());
    if let Some(group) = options.process_group {
        text += &format!(",pgrp={}", group.as_raw_nonzero());
    }
    if let Some(Owner { uid, gid }) = options.owner {
        text += &format!(",uid={uid},gid={gid}");
    }
    text.push(',');
    text.push_str(kind.name());
    if options.strict_expire {
        text.push_str(",strictexpire");
    }
    if options.ignore {
        text.push_str(",ignore");
    }
    text
}

/// Unmounts what is topmost at `target`, without following a symbolic link at its end.
///
/// # Errors
///
/// `EBUSY` if it is in use, a point also by its own open root; `EINVAL` if nothing is mounted
/// there; and whatever else `umount2(2)` answers.
pub fn unmount(target: &Path, flags: UnmountFlags) -> Result<()> {
    rustix::mount::unmount(target, flags | UnmountFlags::NOFOLLOW)
        .map_err(|errno| Error::call_on("umount2", target, errno))
}
