//! Mounting through the kernel's mount API: no fork, nothing read below /proc.
//!
//! A mount is made detached, given its flags and its propagation, and attached last: nobody sees it
//! half done, and what fails leaves nothing behind. As with mount(8), options of `rbind` change the
//! top mount only, and a bind keeps the flags of what it shows: options add to them.

use std::borrow::Cow;
use std::ffi::CString;
use std::os::unix::ffi::OsStrExt;
use std::time::Instant;

use autofs::{LoopDevice, LoopOptions, MountAttrFlags, MountAttributes, set_mount_attributes};
use bstr::{BStr, ByteSlice};
use piton_map::options::Propagation;
use piton_plan::step::What;
use rustix::fd::{AsFd, BorrowedFd, OwnedFd};
use rustix::fs::{
    AtFlags, CWD, FileType, Mode, OFlags, ResolveFlags, StatxFlags, open, openat, statx,
};
use rustix::io::Errno;
use rustix::mount::{
    FsMountFlags, FsOpenFlags, MountFlags, MoveMountFlags, OpenTreeFlags, UnmountFlags,
    fsconfig_create, fsconfig_set_flag, fsconfig_set_string, fsmount, fsopen, move_mount,
    open_tree, unmount,
};

use crate::error::Error;
use crate::kind::{self, Kind as Nature};
use crate::lane::Lane;
use crate::lifeline;
use crate::limits;
use crate::nfs;
use crate::options::{Image, Parameter, Split, split};
use crate::perform::MountJob;
use crate::place::{How, Place};
use crate::types::{Kind, native};
use crate::walk::{self, End};

/// Who mounts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum By {
    /// The kernel did.
    Kernel,
    /// mount(8) has to: the kernel cannot do it alone.
    Helper,
}

/// Walks to a path if it lies in an automount; true if it did, so that another look is worth it.
pub(crate) type Reach<'a> = &'a dyn Fn(&BStr) -> Result<bool, Error>;

/// Mounts one attempt on `place` if the kernel alone can. `until` is for what asks a server.
pub(crate) fn mount(
    job: &MountJob<'_>,
    place: &Place<'_>,
    reach: Reach<'_>,
    until: Instant,
) -> Result<By, Error> {
    if job.attempt.by_helper {
        return Ok(By::Helper);
    }
    match &job.attempt.what {
        What::Bind { recursive } => {
            let options = split(&job.attempt.options, false)?;
            if options
                .needs_helper
                .is_some_and(|option| !matches!(option, b"bind" | b"rbind"))
            {
                return Ok(By::Helper);
            }
            bind(job, &options, *recursive, place, reach).map(|()| By::Kernel)
        }
        What::Type(fstype) if nfs::is_nfs(fstype) => nfs::mount(job, fstype, place, until),
        What::Type(fstype) => {
            let Some(kind) = native(fstype) else {
                return Ok(By::Helper);
            };
            let options = split(&job.attempt.options, matches!(kind, Kind::Block { .. }))?;
            if options.needs_helper.is_some() {
                return Ok(By::Helper);
            }
            let fs = FileSystem {
                job,
                fstype,
                options: &options,
                place,
                lenient: false,
            };
            fs.mount(kind, reach)
        }
    }
}

// --- bind mounts ---------------------------------------------------------

fn bind(
    job: &MountJob<'_>,
    options: &Split<'_>,
    recursive: bool,
    place: &Place<'_>,
    reach: Reach<'_>,
) -> Result<(), Error> {
    let told = |errno| failed(job, errno, String::new());
    let source = job.attempt.source.as_bstr();
    let tree = match place.how() {
        How::Waiting => clone_tree(source, recursive, reach)?,
        How::AtOnce => clone_tree_at_once(source, recursive)?,
    };
    let tree = tree.map_err(told)?;
    let propagation = options.propagation.unwrap_or(job.propagation);
    let mut attributes = MountAttributes {
        set: options.set.0,
        access_time: options.access_time,
        propagation: Some(kernel_propagation(propagation)),
        ..MountAttributes::default()
    };
    if recursive {
        let below = MountAttributes {
            propagation: attributes.propagation.take(),
            ..MountAttributes::default()
        };
        set_mount_attributes(&tree, &below, true).map_err(|e| told(errno_of(&e)))?;
    }
    if attributes != MountAttributes::default() {
        set_mount_attributes(&tree, &attributes, false).map_err(|e| told(errno_of(&e)))?;
    }
    attach_at(tree.as_fd(), place, Some(propagation), recursive)
        .map_err(|end| end.told(|errno| told(not_a_directory(errno, tree.as_fd()))))
}

/// What mount(2) would have said: move_mount(2) answers EINVAL when one of the two is a directory
/// and the other is not.
fn not_a_directory(errno: Errno, tree: BorrowedFd<'_>) -> Errno {
    let file = || {
        let flags = AtFlags::EMPTY_PATH | AtFlags::STATX_DONT_SYNC;
        statx(tree, "", flags, StatxFlags::TYPE)
            .is_ok_and(|stat| FileType::from_raw_mode(stat.stx_mode.into()) != FileType::Directory)
    };
    if errno == Errno::INVAL && file() {
        Errno::NOTDIR
    } else {
        errno
    }
}

/// A copy of the tree at `source`. A source in an automount that is not mounted now looks missing,
/// or like an empty autofs directory: then somebody has to walk there first.
fn clone_tree(
    source: &BStr,
    recursive: bool,
    reach: Reach<'_>,
) -> Result<Result<OwnedFd, Errno>, Error> {
    let find = || {
        openat(
            CWD,
            source.as_bytes(),
            OFlags::PATH | OFlags::CLOEXEC,
            Mode::empty(),
        )
    };
    let mut found = find();
    let suspect = match &found {
        // The file system itself is not asked: it may be able to say only that it is there.
        Ok(found) => kind::of(found).is_ok_and(|found| found.kind == Nature::Autofs),
        Err(errno) => *errno == Errno::NOENT,
    };
    if suspect && reach(source)? {
        found = find();
    }
    Ok(found.and_then(|found| copy_of(found.as_fd(), recursive)))
}

fn copy_of(found: BorrowedFd<'_>, recursive: bool) -> Result<OwnedFd, Errno> {
    let mut flags = OpenTreeFlags::OPEN_TREE_CLONE
        | OpenTreeFlags::OPEN_TREE_CLOEXEC
        | OpenTreeFlags::AT_EMPTY_PATH;
    flags.set(OpenTreeFlags::AT_RECURSIVE, recursive);
    open_tree(found, "", flags)
}

/// [`clone_tree`] of what the kernel finds without asking anybody. To a copy of the tree nobody is
/// asked either.
fn clone_tree_at_once(source: &BStr, recursive: bool) -> Result<Result<OwnedFd, Errno>, Error> {
    let flags = OFlags::PATH | OFlags::CLOEXEC;
    let found = match walk::open(CWD.as_fd(), source, flags, ResolveFlags::empty()) {
        Ok(found) => found,
        Err(End::Errno(Errno::NOENT)) => {
            return match walk::deepest(source) {
                Ok(Nature::Autofs) => Err(Error::Elsewhere(Lane::Path(source.into()))),
                Err(End::Elsewhere(lane)) => Err(Error::Elsewhere(lane)),
                Ok(_) | Err(End::Errno(_)) => Ok(Err(Errno::NOENT)),
            };
        }
        Err(End::Errno(errno)) => return Ok(Err(errno)),
        Err(End::Elsewhere(lane)) => return Err(Error::Elsewhere(lane)),
    };
    match kind::of(&found) {
        Ok(found) if found.kind == Nature::Autofs => {
            return Err(Error::Elsewhere(Lane::Mount(found.mount)));
        }
        Ok(_) => {}
        Err(errno) => return Ok(Err(errno)),
    }
    Ok(copy_of(found.as_fd(), recursive))
}

// --- file systems --------------------------------------------------------

/// One file system to be made and mounted.
pub(crate) struct FileSystem<'a> {
    pub(crate) job: &'a MountJob<'a>,
    pub(crate) fstype: &'a [u8],
    pub(crate) options: &'a Split<'a>,
    pub(crate) place: &'a Place<'a>,
    /// Options that the kernel does not know are left out.
    pub(crate) lenient: bool,
}

/// What the kernel answered, with its words.
pub(crate) struct Refusal {
    pub(crate) errno: Errno,
    pub(crate) words: String,
    /// The type is unknown here, or the mount API is.
    pub(crate) unknown: bool,
    /// It was an option that was refused, before anything was done.
    pub(crate) of_option: bool,
    /// No answer: it might have to wait.
    elsewhere: Option<Lane>,
}

impl Refusal {
    fn plain(errno: Errno) -> Self {
        Self {
            errno,
            words: String::new(),
            unknown: false,
            of_option: false,
            elsewhere: None,
        }
    }

    fn of(end: End) -> Self {
        match end {
            End::Errno(errno) => Self::plain(errno),
            End::Elsewhere(lane) => Self {
                elsewhere: Some(lane),
                ..Self::plain(Errno::AGAIN)
            },
        }
    }
}

impl FileSystem<'_> {
    fn mount(&self, kind: Kind, reach: Reach<'_>) -> Result<By, Error> {
        let source = self.job.attempt.source.as_bytes();
        let result = match kind {
            Kind::Virtual => self.mount_once(source, self.options.read_only()),
            Kind::Overlay => {
                if self.place.how() == How::AtOnce {
                    return Err(Error::Elsewhere(self.lane_of_layers()));
                }
                self.reach_layers(reach)?;
                self.mount_once(source, self.options.read_only())
            }
            Kind::Block { read_only } => return self.mount_block(read_only, reach),
        };
        self.finish(result)
    }

    fn finish(&self, result: Result<(), Refusal>) -> Result<By, Error> {
        match result {
            Ok(()) => Ok(By::Kernel),
            Err(Refusal {
                elsewhere: Some(lane),
                ..
            }) => Err(Error::Elsewhere(lane)),
            Err(refusal) if refusal.unknown => Ok(By::Helper),
            Err(refusal) => Err(failed(self.job, refusal.errno, refusal.words)),
        }
    }

    /// An overlay's layers are walked to while it is made; the lower ones may be anybody's.
    fn lane_of_layers(&self) -> Lane {
        let lower = self.options.parameters.iter().find_map(|it| match it {
            Parameter::Pair(b"lowerdir", layers) => Some(*layers),
            _ => None,
        });
        Lane::Path(lower.unwrap_or_default().into())
    }

    /// A layer of an overlay may lie on another automount.
    fn reach_layers(&self, reach: Reach<'_>) -> Result<(), Error> {
        for parameter in &self.options.parameters {
            if let Parameter::Pair(b"lowerdir" | b"upperdir" | b"workdir", layers) = parameter {
                for layer in layers
                    .split_str(":")
                    .filter(|layer| layer.starts_with(b"/"))
                {
                    reach(layer.as_bstr())?;
                }
            }
        }
        Ok(())
    }

    /// From a disk or an image. What turns out to be write-protected is mounted read-only, as
    /// mount(8) does.
    fn mount_block(&self, by_nature: bool, reach: Reach<'_>) -> Result<By, Error> {
        let read_only = by_nature || self.options.read_only();
        let is_image = self.is_image(reach)?;
        let first = self.mount_disk(is_image, read_only)?;
        match first {
            Err(refusal)
                if !read_only
                    && matches!(refusal.errno, Errno::ACCESS | Errno::ROFS | Errno::PERM) =>
            {
                let again = self.mount_disk(is_image, true)?;
                // The first answer is the one to the question that was asked.
                self.finish(again.map_err(|_| refusal))
            }
            result => self.finish(result),
        }
    }

    /// Whether the source is a regular file.
    fn is_image(&self, reach: Reach<'_>) -> Result<bool, Error> {
        let source = self.job.attempt.source.as_bstr();
        if self.place.how() == How::AtOnce {
            return self.is_image_at_once(source).map(|()| true);
        }
        let forced = self.options.image.forced;
        if !source.starts_with(b"/") {
            return Ok(forced);
        }
        let look = || statx(CWD, source.as_bytes(), AtFlags::empty(), StatxFlags::TYPE);
        let mut found = look();
        if matches!(found, Err(Errno::NOENT)) && reach(source)? {
            found = look();
        }
        let found = found.map_err(|errno| failed(self.job, errno, String::new()))?;
        Ok(forced || FileType::from_raw_mode(found.stx_mode.into()).is_file())
    }

    /// Whether the source is a regular file of this host, whose disk is no less alive than the
    /// rest of it. Anything else is looked at elsewhere, disks above all: they may be gone.
    fn is_image_at_once(&self, source: &BStr) -> Result<(), Error> {
        let told = |end: End| end.told(|errno| failed(self.job, errno, String::new()));
        let flags = OFlags::PATH | OFlags::CLOEXEC;
        let file = match walk::open(CWD.as_fd(), source, flags, ResolveFlags::empty()) {
            // It may lie on an automount.
            Err(End::Errno(Errno::NOENT)) => Err(End::Elsewhere(Lane::Path(source.into()))),
            other => other,
        };
        let file = file.map_err(told)?;
        let found_in = kind::of(&file).map_err(|errno| told(End::Errno(errno)))?;
        if found_in.kind != Nature::Local {
            return Err(Error::Elsewhere(Lane::Mount(found_in.mount)));
        }
        let flags = AtFlags::EMPTY_PATH | AtFlags::STATX_DONT_SYNC;
        let found =
            statx(&file, "", flags, StatxFlags::TYPE).map_err(|errno| told(End::Errno(errno)))?;
        if FileType::from_raw_mode(found.stx_mode.into()).is_file() {
            Ok(())
        } else {
            Err(Error::Elsewhere(Lane::Path(source.into())))
        }
    }

    fn mount_disk(&self, is_image: bool, read_only: bool) -> Result<Result<(), Refusal>, Error> {
        let source = self.job.attempt.source.as_bytes();
        if !is_image {
            return Ok(self.mount_once(source, read_only));
        }
        match self.show_as_disk(source, read_only) {
            Ok(device) => Ok(self.mount_once(device.path().as_os_str().as_bytes(), read_only)),
            Err(refusal) => Ok(Err(refusal)),
        }
    }

    fn show_as_disk(&self, file: &[u8], read_only: bool) -> Result<LoopDevice, Refusal> {
        let access = if read_only {
            OFlags::RDONLY
        } else {
            OFlags::RDWR
        };
        let file = open(file, access | OFlags::CLOEXEC, Mode::empty()).map_err(Refusal::plain)?;
        let Image {
            offset, size_limit, ..
        } = self.options.image;
        let options = LoopOptions {
            read_only,
            offset,
            size_limit,
            ..LoopOptions::default()
        };
        LoopDevice::attach(file.as_fd(), &options).map_err(|error| Refusal {
            words: format!("loop device: {error}"),
            ..Refusal::plain(errno_of(&error))
        })
    }

    /// Makes the file system and attaches it.
    pub(crate) fn mount_once(&self, source: &[u8], read_only: bool) -> Result<(), Refusal> {
        if self.too_long(source) {
            return self.mount_by_old_call(source, read_only);
        }
        let context =
            fsopen(self.fstype, FsOpenFlags::FSOPEN_CLOEXEC).map_err(|errno| Refusal {
                unknown: is_unknown(errno),
                ..Refusal::plain(errno)
            })?;
        let mount = self.make(context.as_fd(), source, read_only)?;
        drop(context);
        let propagation = self.job.propagates(self.options.propagation);
        self.attach(mount.as_fd(), propagation).map_err(Refusal::of)
    }

    fn make(
        &self,
        context: BorrowedFd<'_>,
        source: &[u8],
        read_only: bool,
    ) -> Result<OwnedFd, Refusal> {
        if !source.is_empty() {
            self.set(context, Parameter::Pair(b"source", source))?;
        }
        if read_only {
            self.set(context, Parameter::Flag(b"ro"))?;
        }
        for parameter in &self.options.parameters {
            self.set(context, *parameter)?;
        }
        let refused = |errno| Refusal {
            words: kernel_words(context),
            ..Refusal::plain(errno)
        };
        fsconfig_create(context).map_err(refused)?;
        let flags = self.flags(read_only);
        fsmount(context, FsMountFlags::FSMOUNT_CLOEXEC, flags).map_err(refused)
    }

    fn set(&self, context: BorrowedFd<'_>, parameter: Parameter<'_>) -> Result<(), Refusal> {
        let result = match parameter {
            Parameter::Flag(key) => fsconfig_set_flag(context, key),
            Parameter::Pair(key, value) => fsconfig_set_string(context, key, value),
        };
        result.or_else(|errno| {
            let words = kernel_words(context);
            // The errno is that of a bad value.
            if self.lenient && errno == Errno::INVAL && words.contains("Unknown parameter") {
                return Ok(());
            }
            Err(Refusal {
                words,
                of_option: true,
                ..Refusal::plain(errno)
            })
        })
    }

    fn flags(&self, read_only: bool) -> MountAttrFlags {
        let mut flags = self.options.set.0;
        flags.set(MountAttrFlags::MOUNT_ATTR_RDONLY, read_only);
        flags
            | match self.options.access_time {
                Some(autofs::AccessTime::Never) => MountAttrFlags::MOUNT_ATTR_NOATIME,
                Some(autofs::AccessTime::Strict) => MountAttrFlags::MOUNT_ATTR_STRICTATIME,
                Some(autofs::AccessTime::Relative) | None => MountAttrFlags::empty(),
            }
    }

    /// A new file system's mount is private from the start; only `shared` needs to be said.
    fn attach(&self, mount: BorrowedFd<'_>, propagation: Option<Propagation>) -> Result<(), End> {
        if propagation == Some(Propagation::Shared) {
            set_propagation(mount, Propagation::Shared, false).map_err(End::Errno)?;
        }
        attach_at(mount, self.place, propagation, false)
    }

    // --- mount(2) ----------------------------------------------------------

    /// Whether something is longer than fsconfig(2) takes (overlays of many layers are).
    fn too_long(&self, source: &[u8]) -> bool {
        let long = |text: &[u8]| text.len() > limits::PARAMETER;
        long(source)
            || self
                .options
                .parameters
                .iter()
                .any(|parameter| match parameter {
                    Parameter::Flag(key) => long(key),
                    Parameter::Pair(key, value) => long(key) || long(value),
                })
    }

    fn mount_by_old_call(&self, source: &[u8], read_only: bool) -> Result<(), Refusal> {
        let plain = |errno| Refusal {
            unknown: is_unknown(errno),
            ..Refusal::plain(errno)
        };
        if self.place.how() == How::AtOnce {
            // Paths in its options are walked in the call itself.
            return Err(Refusal::of(End::Elsewhere(Lane::Helper(
                self.fstype.into(),
            ))));
        }
        let (flags, data) = self.old_arguments(read_only);
        let data = CString::new(data).map_err(|_| plain(Errno::INVAL))?;
        // By descriptor, so that a symbolic link at the end is not followed.
        let flag = OFlags::PATH | OFlags::NOFOLLOW | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let target =
            openat(self.place.dir(), self.place.name(), flag, Mode::empty()).map_err(plain)?;
        let path = by_descriptor(target.as_fd());
        rustix::mount::mount(source, path, self.fstype, flags, data.as_c_str()).map_err(plain)?;
        drop(target);
        match self.job.propagates(self.options.propagation) {
            Some(propagation) => propagate_at(self.place, propagation).map_err(plain),
            None => Ok(()),
        }
    }

    fn old_arguments(&self, read_only: bool) -> (MountFlags, Vec<u8>) {
        // The low flags of mount(2) and those of mounts have other bits: translate by name.
        let mut flags = MountFlags::empty();
        let attributes = self.flags(read_only);
        for (attribute, flag) in [
            (MountAttrFlags::MOUNT_ATTR_RDONLY, MountFlags::RDONLY),
            (MountAttrFlags::MOUNT_ATTR_NOSUID, MountFlags::NOSUID),
            (MountAttrFlags::MOUNT_ATTR_NODEV, MountFlags::NODEV),
            (MountAttrFlags::MOUNT_ATTR_NOEXEC, MountFlags::NOEXEC),
            (MountAttrFlags::MOUNT_ATTR_NOATIME, MountFlags::NOATIME),
            (
                MountAttrFlags::MOUNT_ATTR_STRICTATIME,
                MountFlags::STRICTATIME,
            ),
            (
                MountAttrFlags::MOUNT_ATTR_NODIRATIME,
                MountFlags::NODIRATIME,
            ),
            (
                MountAttrFlags::MOUNT_ATTR_NOSYMFOLLOW,
                MountFlags::NOSYMFOLLOW,
            ),
        ] {
            flags.set(flag, attributes.contains(attribute));
        }
        let mut data = Vec::new();
        if self.lenient {
            append(&mut data, b"sloppy", None);
        }
        for parameter in &self.options.parameters {
            let (key, value) = match *parameter {
                Parameter::Flag(b"sync") => (None, MountFlags::SYNCHRONOUS),
                Parameter::Flag(b"dirsync") => (None, MountFlags::DIRSYNC),
                Parameter::Flag(b"lazytime") => (None, MountFlags::LAZYTIME),
                Parameter::Flag(b"async" | b"nolazytime" | b"mand" | b"nomand") => {
                    (None, MountFlags::empty())
                }
                Parameter::Flag(key) => (Some((key, None)), MountFlags::empty()),
                Parameter::Pair(key, value) => (Some((key, Some(value))), MountFlags::empty()),
            };
            flags |= value;
            if let Some((key, value)) = key {
                append(&mut data, key, value);
            }
        }
        (flags, data)
    }
}

fn append(data: &mut Vec<u8>, key: &[u8], value: Option<&[u8]>) {
    if !data.is_empty() {
        data.push(b',');
    }
    data.extend_from_slice(key);
    if let Some(value) = value {
        data.push(b'=');
        data.extend_from_slice(value);
    }
}

/// What the kernel has to say about the last call.
fn kernel_words(context: BorrowedFd<'_>) -> String {
    let words = autofs::kernel_text(context);
    words.map(String::from).unwrap_or_default()
}

/// The type, or the whole mount API, is not known to this kernel.
fn is_unknown(errno: Errno) -> bool {
    matches!(errno, Errno::NODEV | Errno::NOSYS)
}

// --- attaching -----------------------------------------------------------

/// Attaches a detached mount. Below a shared mount everything attached becomes shared, whatever it
/// was before (`attach_recursive_mnt` in fs/namespace.c), so what is not to be shared is said
/// again; no propagation leaves it at that.
fn attach_at(
    mount: BorrowedFd<'_>,
    place: &Place<'_>,
    propagation: Option<Propagation>,
    recursive: bool,
) -> Result<(), End> {
    attach(mount, place)?;
    let Some(propagation @ (Propagation::Slave | Propagation::Private)) = propagation else {
        return Ok(());
    };
    set_propagation(mount, propagation, recursive).map_err(|errno| {
        let path: Cow<'_, [u8]> = place.path();
        let _ = unmount(&*path, UnmountFlags::DETACH | UnmountFlags::NOFOLLOW);
        End::Errno(errno)
    })
}

/// Attaches a detached mount as it is. All walking is done before: who is killed while he waits
/// for a server attaches nothing any more.
pub(crate) fn attach(mount: BorrowedFd<'_>, place: &Place<'_>) -> Result<(), End> {
    let flags = MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH;
    if let Some((dir, name)) = place.in_reach() {
        return move_mount(mount, "", dir, name, flags).map_err(End::Errno);
    }
    let target = place.open()?;
    if lifeline::is_cut() {
        return Err(End::Errno(Errno::CANCELED));
    }
    let flags = flags | MoveMountFlags::MOVE_MOUNT_T_EMPTY_PATH;
    move_mount(mount, "", target, "", flags).map_err(End::Errno)
}

fn set_propagation(
    mount: BorrowedFd<'_>,
    propagation: Propagation,
    recursive: bool,
) -> Result<(), Errno> {
    let attributes = MountAttributes {
        propagation: Some(kernel_propagation(propagation)),
        ..MountAttributes::default()
    };
    set_mount_attributes(mount, &attributes, recursive).map_err(|error| errno_of(&error))
}

/// Sets the propagation of what is mounted at `place`, when somebody else mounted it.
pub(crate) fn propagate_at(place: &Place<'_>, propagation: Propagation) -> Result<(), Errno> {
    let flags = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let top = openat(place.dir(), place.name(), flags, Mode::empty())?;
    set_propagation(top.as_fd(), propagation, false)
}

fn kernel_propagation(propagation: Propagation) -> autofs::Propagation {
    match propagation {
        Propagation::Slave => autofs::Propagation::Slave,
        Propagation::Private => autofs::Propagation::Private,
        Propagation::Shared => autofs::Propagation::Shared,
    }
}

fn by_descriptor(fd: BorrowedFd<'_>) -> String {
    use std::os::fd::AsRawFd;
    format!("/proc/self/fd/{}", fd.as_raw_fd())
}

fn errno_of(error: &autofs::Error) -> Errno {
    error.errno().unwrap_or(Errno::IO)
}

/// The error for an attempt: what was to be mounted where, and the kernel's words.
pub(crate) fn failed(job: &MountJob<'_>, errno: Errno, words: String) -> Error {
    let source = job.attempt.source.as_bstr();
    let doing = match &job.attempt.what {
        What::Bind { .. } => format!("binding {source} on"),
        What::Type(fstype) => format!("mounting {source} ({fstype}) on"),
    };
    let mut words = words;
    if words.is_empty() && errno == Errno::INVAL && is_block(job) {
        words = "a bad option, or not a file system of this type; \
                 the kernel's log may say more"
            .into();
    }
    Error::Call {
        doing,
        path: job.target.to_owned(),
        errno,
        words,
    }
}

fn is_block(job: &MountJob<'_>) -> bool {
    match &job.attempt.what {
        What::Type(fstype) => matches!(native(fstype), Some(Kind::Block { .. })),
        What::Bind { .. } => false,
    }
}
