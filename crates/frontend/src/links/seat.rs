//! How roots of the loopback server get to their mount points.

use std::ffi::CString;
use std::fs;
use std::os::fd::AsFd;

use bstr::{BStr, BString, ByteSlice};
use piton_loopback::RootKind;
use piton_mount::perform::Failure;
use piton_mount::table::{self, Mount, Table};
use rustix::fs::CWD;
use rustix::io::Errno;
use rustix::mount::{
    FsMountFlags, FsOpenFlags, MountAttrFlags, MountFlags, MoveMountFlags, UnmountFlags,
};

use crate::kernel::as_path;

/// Puts roots where people walk, and takes them away.
pub trait Seat: Send + Sync {
    /// Mounts the root of this path, which a server at this port of 127.0.0.1 serves, at its path.
    /// The server must run in another thread.
    ///
    /// # Errors
    /// It is not mounted, and nothing is left of it.
    fn mount(&self, path: &BStr, kind: RootKind, port: u16) -> Result<(), Failure>;

    /// Unmounts it.
    ///
    /// # Errors
    /// It is still mounted: EBUSY when somebody is in it.
    fn unmount(&self, path: &BStr, kind: RootKind) -> Result<(), Failure>;

    /// What a mount table says is mounted from a server at this port. Nobody need serve there.
    fn mounted(&self, table: &Table<'_>, port: u16) -> Vec<(BString, RootKind)>;

    /// Nothing is mounted, so that nothing can be found.
    fn is_nowhere(&self) -> bool {
        false
    }

    /// Takes out of people's way what could not be unmounted, because nobody serves it from now on.
    fn abandon(&self, path: &BStr);
}

/// Mounts nothing: clients bring their own NFS, which asks for mount points by their paths.
#[derive(Clone, Copy, Debug, Default)]
pub struct ServeOnly;

impl Seat for ServeOnly {
    fn mount(&self, _: &BStr, _: RootKind, _: u16) -> Result<(), Failure> {
        Ok(())
    }

    fn unmount(&self, _: &BStr, _: RootKind) -> Result<(), Failure> {
        Ok(())
    }

    fn mounted(&self, _: &Table<'_>, _: u16) -> Vec<(BString, RootKind)> {
        Vec::new()
    }

    fn is_nowhere(&self) -> bool {
        true
    }

    fn abandon(&self, _: &BStr) {}
}

/// The kernel's NFS client (docs/older-automounter.md says why these options).
#[derive(Clone, Copy, Debug, Default)]
pub struct KernelSeat;

/// What a directory's mount has and a link's has not, which has no look-ups: so they can be told
/// apart without a look at them.
const LOOKUPS: &str = "lookupcache=pos";

impl Seat for KernelSeat {
    fn mount(&self, path: &BStr, kind: RootKind, port: u16) -> Result<(), Failure> {
        match kind {
            RootKind::Directory => {
                let flags = MountFlags::RDONLY | MountFlags::NOSUID | MountFlags::NODEV;
                let options = format!("{},{LOOKUPS}", options(port));
                let options = CString::new(options).map_err(|_| said(path, Errno::INVAL))?;
                let mounted = rustix::mount::mount(
                    as_path(source(path).as_bstr()),
                    as_path(path),
                    "nfs",
                    flags,
                    options.as_c_str(),
                );
                mounted.map_err(|errno| said(path, errno))
            }
            RootKind::Link => {
                make_file(path)?;
                let mounted = mount_link(path, port);
                if mounted.is_err() {
                    make_directory(path);
                }
                mounted.map_err(|errno| said(path, errno))
            }
        }
    }

    fn unmount(&self, path: &BStr, kind: RootKind) -> Result<(), Failure> {
        // What a link leads to is not meant.
        let unmounted = rustix::mount::unmount(as_path(path), UnmountFlags::NOFOLLOW);
        unmounted.map_err(|errno| said(path, errno))?;
        if kind == RootKind::Link {
            make_directory(path);
        }
        Ok(())
    }

    fn mounted(&self, table: &Table<'_>, port: u16) -> Vec<(BString, RootKind)> {
        let ours = table.mounts().iter().filter_map(|mount| ours(mount, port));
        ours.collect()
    }

    fn abandon(&self, path: &BStr) {
        // Who is inside gets errors when his requests were not answered for long enough.
        let flags = UnmountFlags::NOFOLLOW | UnmountFlags::DETACH;
        if let Err(errno) = rustix::mount::unmount(as_path(path), flags) {
            let error = std::io::Error::from(errno);
            tracing::error!(%path, %error, "stays mounted though nobody serves it");
        }
    }
}

/// Takes mount points out of people's way that daemons served who are dead, at ports that `is_free`
/// says nobody listens at: nobody will ever answer there, and whoever looks would wait.
pub fn abandon_dead(is_free: impl Fn(u16) -> bool) {
    let Ok(text) = table::read() else { return };
    for mount in Table::parse(&text).mounts() {
        let mut words = mount.super_options.split_str(",");
        let port = words.find_map(|word| word.strip_prefix(b"port="));
        let port = port.and_then(|port| port.to_str().ok()?.parse().ok());
        let dead = port.filter(|port| piton_loopback::RESERVED.contains(port) && is_free(*port));
        if let Some((path, _)) = dead.and_then(|port| ours(mount, port)) {
            tracing::warn!(%path, "the daemon that served this mount point is gone: detached");
            KernelSeat.abandon(path.as_bstr());
        }
    }
}

/// Whether a mount is one of ours, and of which kind: a root is mounted at its own path.
fn ours(mount: &Mount<'_>, port: u16) -> Option<(BString, RootKind)> {
    let path = BString::from(mount.point.as_bytes());
    if *mount.fstype != "nfs" || *mount.source != source(path.as_bstr()) {
        return None;
    }
    let port = format!("port={port}");
    let mut words = mount.super_options.split_str(",");
    words.find(|word| *word == port.as_bytes())?;
    let mut words = mount.super_options.split_str(",");
    let kind = match words.any(|word| word == LOOKUPS.as_bytes()) {
        true => RootKind::Directory,
        false => RootKind::Link,
    };
    Some((path, kind))
}

fn source(path: &BStr) -> BString {
    let mut source = BString::from("127.0.0.1:");
    source.extend_from_slice(path);
    source
}

/// What is common to directories and links.
fn options(port: u16) -> String {
    format!(
        "soft,vers=3,proto=tcp,port={port},mountvers=3,mountproto=tcp,mountport={port},nolock,noac,\
         addr=127.0.0.1"
    )
}

/// Mounts a link, which mount(2) refuses to.
fn mount_link(path: &BStr, port: u16) -> rustix::io::Result<()> {
    use rustix::mount::{
        fsconfig_create, fsconfig_set_flag, fsconfig_set_string, fsmount, fsopen, move_mount,
    };
    let context = fsopen("nfs", FsOpenFlags::FSOPEN_CLOEXEC)?;
    let context = context.as_fd();
    fsconfig_set_string(context, "source", as_path(source(path).as_bstr()))?;
    fsconfig_set_flag(context, "ro")?;
    for option in options(port).split(',') {
        match option.split_once('=') {
            Some((name, value)) => fsconfig_set_string(context, name, value)?,
            None => fsconfig_set_flag(context, option)?,
        }
    }
    fsconfig_create(context)?;
    let attributes = MountAttrFlags::MOUNT_ATTR_RDONLY
        | MountAttrFlags::MOUNT_ATTR_NOSUID
        | MountAttrFlags::MOUNT_ATTR_NODEV;
    let mount = fsmount(context, FsMountFlags::FSMOUNT_CLOEXEC, attributes)?;
    let flags = MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH;
    move_mount(&mount, "", CWD, as_path(path), flags)
}

/// A link can be mounted on a file only: an empty directory makes way for one.
fn make_file(path: &BStr) -> Result<(), Failure> {
    let path_on_disk = as_path(path);
    let meta = fs::symlink_metadata(path_on_disk).map_err(|error| told(path, &error))?;
    if meta.is_file() && meta.len() == 0 {
        return Ok(());
    }
    if !meta.is_dir() {
        let text = format!("{path}: the mount point of a link must be an empty directory or file");
        return Err(Failure::new(Errno::NOTDIR.raw_os_error(), text));
    }
    fs::remove_dir(path_on_disk)
        .and_then(|()| fs::File::create_new(path_on_disk))
        .map(drop)
        .map_err(|error| told(path, &error))
}

/// Puts the directory back that made way.
fn make_directory(path: &BStr) {
    let path_on_disk = as_path(path);
    let empty =
        fs::symlink_metadata(path_on_disk).is_ok_and(|meta| meta.is_file() && meta.len() == 0);
    if !empty {
        return;
    }
    let done = fs::remove_file(path_on_disk).and_then(|()| fs::create_dir(path_on_disk));
    if let Err(error) = done {
        tracing::warn!(%path, %error, "the directory that made way for a link is not put back");
    }
}

fn said(path: &BStr, errno: Errno) -> Failure {
    let error = std::io::Error::from(errno);
    Failure::new(errno.raw_os_error(), format!("{path}: {error}"))
}

fn told(path: &BStr, error: &std::io::Error) -> Failure {
    let errno = error.raw_os_error().unwrap_or(Errno::IO.raw_os_error());
    Failure::new(errno, format!("{path}: {error}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(line: &str) -> Vec<(BString, RootKind)> {
        let table = Table::parse(line.as_bytes());
        let ours = table.mounts().iter().filter_map(|mount| ours(mount, 1023));
        ours.collect()
    }

    #[test]
    fn our_mounts_are_told_apart_by_their_options() {
        let options = "rw,vers=3,noac,nolock,proto=tcp,port=1023,mountport=1023,addr=127.0.0.1";
        let line = |path: &str, source: &str, more: &str| {
            format!("38 24 0:34 / {path} ro - nfs {source} {options}{more}\n")
        };
        let home = found(&line("/home", "127.0.0.1:/home", ",lookupcache=pos"));
        assert_eq!(home, [("/home".into(), RootKind::Directory)]);
        let man = found(&line("/usr/man", "127.0.0.1:/usr/man", ""));
        assert_eq!(man, [("/usr/man".into(), RootKind::Link)]);
        // Somebody has mounted it elsewhere; it comes from elsewhere; from another port.
        assert!(found(&line("/mnt", "127.0.0.1:/home", "")).is_empty());
        assert!(found(&line("/home", "server:/home", "")).is_empty());
        let other = line("/home", "127.0.0.1:/home", "").replace("port=1023", "port=2049");
        assert!(found(&other).is_empty());
    }
}
