//! Giving up root: the process that reads what networks say may do nothing that `nobody` may not.

use std::fs::File;
use std::io::{self, Read};

use rustix::io::Errno;
use rustix::process::{DumpableBehavior, Resource, Rlimit};
use rustix::thread::{CapabilitySet, CapabilitySets};

use crate::limits;

/// Gives up everything that is not needed, for good. To be called before any other thread is
/// started: the kernel keeps rights by thread.
///
/// A process that is not root keeps its user, and loses what capabilities it has.
///
/// # Errors
/// Something could not be given up: the process must end.
pub(crate) fn give_up() -> io::Result<()> {
    rustix::process::chdir("/")?;
    bound(Resource::Core, 0)?;
    bound(Resource::Nofile, limits::DESCRIPTORS)?;
    bound(Resource::Data, limits::MEMORY)?;
    if rustix::process::geteuid().is_root() {
        become_nobody()?;
    }
    rustix::thread::clear_ambient_capability_set()?;
    let none = CapabilitySets {
        effective: CapabilitySet::empty(),
        permitted: CapabilitySet::empty(),
        inheritable: CapabilitySet::empty(),
    };
    rustix::thread::set_capabilities(None, none)?;
    rustix::thread::set_no_new_privs(true)?;
    // Others who are `nobody` may not look into this process, nor make it do things.
    rustix::process::set_dumpable_behavior(DumpableBehavior::NotDumpable)?;
    Ok(())
}

fn become_nobody() -> io::Result<()> {
    let (uid, gid) = nobody();
    for bit in 0..u64::BITS {
        // The kernel knows fewer of them, without a gap.
        let one = CapabilitySet::from_bits_retain(1 << bit);
        match rustix::thread::remove_capability_from_bounding_set(one) {
            Ok(()) => {}
            Err(Errno::INVAL) => break,
            Err(errno) => return Err(errno.into()),
        }
    }
    let mapped = rustix::thread::set_thread_groups(&[])
        .and_then(|()| rustix::thread::set_thread_res_gid(gid, gid, gid))
        .and_then(|()| rustix::thread::set_thread_res_uid(uid, uid, uid));
    match mapped {
        Ok(()) => Ok(()),
        // A user namespace without such a user, or without the right to change groups: its root is
        // an ordinary user outside, and loses its capabilities now.
        Err(Errno::INVAL | Errno::PERM) if in_user_namespace() => Ok(()),
        Err(errno) => Err(errno.into()),
    }
}

fn bound(resource: Resource, most: u64) -> io::Result<()> {
    let hard = rustix::process::getrlimit(resource).maximum;
    let most = Some(hard.map_or(most, |hard| hard.min(most)));
    let limit = Rlimit {
        current: most,
        maximum: most,
    };
    Ok(rustix::process::setrlimit(resource, limit)?)
}

/// Whether root here is not root of the machine.
fn in_user_namespace() -> bool {
    let map = read_some("/proc/self/uid_map");
    let whole = map.split_ascii_whitespace().collect::<Vec<_>>();
    !map.is_empty() && whole != ["0", "0", "4294967295"]
}

/// The user and group `nobody`. Read from the file, since the name service may wait for a server.
fn nobody() -> (rustix::fs::Uid, rustix::fs::Gid) {
    let (uid, gid) = nobody_in(&read_some("/etc/passwd"));
    (
        rustix::fs::Uid::from_raw(uid),
        rustix::fs::Gid::from_raw(gid),
    )
}

fn nobody_in(passwd: &str) -> (u32, u32) {
    let found = passwd.lines().find_map(|line| {
        let mut fields = line.split(':');
        if fields.next() != Some("nobody") {
            return None;
        }
        let uid: u32 = fields.nth(1)?.parse().ok()?;
        let gid: u32 = fields.next()?.parse().ok()?;
        // Neither root nor "unchanged".
        let good = |id: u32| id != 0 && id != u32::MAX;
        (good(uid) && good(gid)).then_some((uid, gid))
    });
    found.unwrap_or((limits::NOBODY, limits::NOBODY))
}

fn read_some(path: &str) -> String {
    let mut text = Vec::new();
    if let Ok(file) = File::open(path) {
        // What was read before a failure is as good as nothing.
        let _ = file.take(limits::PASSWD).read_to_end(&mut text);
    }
    String::from_utf8_lossy(&text).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nobody_is_found_and_is_never_root() {
        let of = |line: &str| nobody_in(&format!("root:x:0:0::/:/bin/sh\n{line}\n"));
        let default = (limits::NOBODY, limits::NOBODY);
        assert_eq!(of("nobody:x:99:98:n:/:/sbin/nologin"), (99, 98));
        assert_eq!(of("nobody:x:0:98::/:"), default);
        assert_eq!(of("nobody:x:99:0::/:"), default);
        assert_eq!(of("nobody:x:4294967295:9::/:"), default);
        assert_eq!(of("nobody:x"), default);
        assert_eq!(of(""), default);
    }
}
