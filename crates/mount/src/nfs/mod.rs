//! NFS. Version 4 is mounted by the kernel alone; everything else by mount.nfs.
//!
//! What mount.nfs does for version 4 is little, and done here in its order: find an address of the
//! server and the one of ours that it is reached from (`clientaddr=`), and try minor versions until
//! the server speaks one. The mount table shows the same either way.
//!
//! Differences, all meant: a failure is told at once and not after two minutes, unless `retry=`
//! says so; errors have the kernel's words. An option that the kernel does not know is left out, as
//! with the `-s` of autofs and [`crate::helper`]: maps are shared with systems that know others.
//!
//! Blocks, for as long as the server does: it is for workers.

mod conf;
mod gss;
mod options;
mod server;

use std::time::{Duration, Instant};

use bstr::{BStr, BString, ByteSlice};
use piton_plan::probe::Family;
use piton_plan::step::What;
use rustix::io::Errno;
use rustix::mount::{FsOpenFlags, fsopen};

use crate::error::{Error, text_of};
use crate::limits;
use crate::native::{By, FileSystem, Refusal, failed};
use crate::options::{Parameter, Split, split};
use crate::perform::MountJob;
use crate::place::Place;

use self::options::Native;
pub(crate) use self::options::says_retry;
use self::server::Found;

/// Whether `fstype` is NFS.
pub(crate) fn is_nfs(fstype: &[u8]) -> bool {
    matches!(fstype, b"nfs" | b"nfs4")
}

/// Mounts one attempt by `until` if the kernel alone can.
pub(crate) fn mount(
    job: &MountJob<'_>,
    fstype: &[u8],
    place: &Place<'_>,
    until: Instant,
) -> Result<By, Error> {
    let attempt = job.attempt;
    let split = split(&attempt.options, false)?;
    let Some(native) = options::read(fstype, &attempt.source, &split) else {
        return Ok(By::Helper);
    };
    if conf::is_any() {
        return Ok(By::Helper);
    }
    let mount = Mount {
        job,
        fstype,
        place,
        split: &split,
        native: &native,
    };
    let minutes = native.retry.unwrap_or_default();
    let until = until.min(Instant::now() + Duration::from_secs(60 * u64::from(minutes)));
    let mut pause = limits::RETRY_PAUSE;
    loop {
        let error = match mount.once() {
            Ok(by) => return Ok(by),
            Err(error) => error,
        };
        if !is_temporary(error.errno()) || Instant::now() + pause >= until {
            return Err(error);
        }
        std::thread::sleep(pause);
        pause = longer(pause);
    }
}

/// The pause after one of this length.
fn longer(pause: Duration) -> Duration {
    (pause * 2).min(limits::LONGEST_RETRY_PAUSE)
}

/// Whether a server may do a moment later what it does not do now.
fn is_temporary(errno: Errno) -> bool {
    matches!(
        errno,
        Errno::CONNREFUSED | Errno::HOSTUNREACH | Errno::TIMEDOUT | Errno::AGAIN | Errno::STALE
    )
}

/// The host in a source of the form `host:path`, without brackets.
fn host_of(source: &BStr) -> Option<&BStr> {
    let host = match source.strip_prefix(b"[") {
        Some(rest) => rest.split_once_str("]:")?.0,
        None => source.split_once_str(":")?.0,
    };
    let is_host = !host.is_empty() && !host.contains(&b'/');
    is_host.then_some(host.as_bstr())
}

/// One mount to be made.
struct Mount<'a> {
    job: &'a MountJob<'a>,
    fstype: &'a [u8],
    place: &'a Place<'a>,
    split: &'a Split<'a>,
    native: &'a Native<'a>,
}

/// What came of asking one server for one version.
struct Refused {
    refusal: Refusal,
    /// Who refused.
    address: String,
    minor: u8,
}

impl Mount<'_> {
    /// Tries each version at each address.
    fn once(&self) -> Result<By, Error> {
        let family = Family::wanted(&self.job.attempt.options);
        let found = server::addresses(self.job, family)?;
        let mut last = None;
        for minor in &self.native.minors {
            let refused = match self.version(*minor, &found) {
                None => return Ok(By::Kernel),
                Some(refused) => last.insert(refused),
            };
            let other = matches!(refused.refusal.errno, Errno::PROTONOSUPPORT | Errno::INVAL);
            if !other || refused.refusal.of_option {
                break;
            }
        }
        // There is always a version to try.
        let refused = last.ok_or_else(|| failed(self.job, Errno::INVAL, String::new()))?;
        self.after(refused)
    }

    /// Tries one version at each address; who refused it last. As mount.nfs does, the next is asked
    /// only if another answer can be hoped for.
    fn version(&self, minor: u8, found: &[Found]) -> Option<Refused> {
        let mut last = None;
        for server in found {
            let refusal = self.ask(minor, server).err()?;
            let other = matches!(
                refusal.errno,
                Errno::CONNREFUSED | Errno::HOSTUNREACH | Errno::TIMEDOUT | Errno::ACCESS
            );
            last = Some(Refused {
                refusal,
                address: server.text(),
                minor,
            });
            if !other {
                break;
            }
        }
        last
    }

    /// Whether the kernel would come to AUTH_SYS by itself if the server takes it at all: nothing
    /// is asked for, the server does not take AUTH_NONE, and nobody could get tickets.
    fn kernel_would_take_sys(&self) -> bool {
        let attempt = self.job.attempt;
        let free = !self.native.security && attempt.no_guests && attempt.address.is_some();
        free && !gss::may_be_used()
    }

    fn ask(&self, minor: u8, server: &Found) -> Result<(), Refusal> {
        let version = format!("4.{minor}");
        let address = server.text();
        let client = server.client();
        let mut parameters = self.native.parameters.clone();
        parameters.push(Parameter::Pair(b"vers", version.as_bytes()));
        parameters.push(Parameter::Pair(b"addr", address.as_bytes()));
        if minor > 0 && self.kernel_would_take_sys() {
            parameters.push(Parameter::Pair(b"sec", gss::SYS_FIRST));
        }
        if !self.native.client {
            parameters.push(Parameter::Pair(b"clientaddr", client.as_bytes()));
        }
        let options = Split {
            parameters,
            ..self.split.clone()
        };
        let fs = FileSystem {
            job: self.job,
            fstype: self.fstype,
            options: &options,
            place: self.place,
            lenient: true,
        };
        fs.mount_once(&self.job.attempt.source, options.read_only())
    }

    /// What to do after the last refusal: mount.nfs knows version 3, and helpers for types that
    /// this kernel does not know.
    fn after(&self, refused: Refused) -> Result<By, Error> {
        let Refused {
            refusal,
            address,
            minor,
        } = refused;
        let errno = refusal.errno;
        if refusal.unknown {
            return Ok(By::Helper);
        }
        let older = matches!(
            errno,
            Errno::PROTONOSUPPORT | Errno::INVAL | Errno::CONNREFUSED
        );
        if older && self.native.or_version_3 && !refusal.of_option {
            return Ok(By::Helper);
        }
        let words = match refusal.of_option {
            true => refusal.words,
            false => {
                let words = self.explained(errno, &address, minor);
                [words.as_str(), &refusal.words].join(if refusal.words.is_empty() {
                    ""
                } else {
                    "; "
                })
            }
        };
        Err(failed(self.job, errno, words))
    }

    /// What a refusal comes to; the kernel's words are sparse.
    fn explained(&self, errno: Errno, address: &str, minor: u8) -> String {
        match errno {
            Errno::CONNREFUSED => format!("nothing serves NFS at {address}"),
            Errno::HOSTUNREACH | Errno::NETUNREACH => format!("{address} cannot be reached"),
            Errno::TIMEDOUT => format!("{address} does not answer"),
            Errno::NOENT => format!("{address} has no such path, or does not show it to this host"),
            Errno::PROTONOSUPPORT => format!("{address} does not speak NFS 4.{minor}"),
            Errno::ACCESS | Errno::PERM | Errno::INVAL if self.native.kerberos => {
                format!(
                    "from {address}; sec=krb5 needs rpc.gssd, a key for this host, and its module"
                )
            }
            Errno::ACCESS | Errno::PERM => {
                format!("{address} refuses this host, or the security that sec= asks for")
            }
            _ => format!("from {address}"),
        }
    }
}

/// A helper's failure, in better words where the reason is that something is missing here.
pub(crate) fn missing(what: &What, target: &BStr, source: &BString, error: Error) -> Error {
    if !matches!(what, What::Type(fstype) if is_nfs(fstype)) {
        return error;
    }
    let client = fsopen("nfs", FsOpenFlags::FSOPEN_CLOEXEC);
    let words = match client {
        // mount.nfs asks the server first, and may have found another reason there.
        Err(Errno::NODEV) => {
            "this kernel has no NFS client: load the module nfs, or boot a kernel that has it"
        }
        _ if error.errno() == Errno::NODEV => {
            "mount.nfs is missing: it comes with nfs-common or nfs-utils"
        }
        _ => return error,
    };
    Error::Call {
        doing: format!("mounting {source} on"),
        path: target.to_owned(),
        errno: Errno::NODEV,
        words: format!("{words}; {}", text_of_helper(&error)),
    }
}

fn text_of_helper(error: &Error) -> String {
    match error {
        Error::Helper { words, status, .. } if words.is_empty() => format!("mount(8): {status}"),
        Error::Helper { words, .. } => words.clone(),
        other => text_of(other.errno()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_grow_to_their_limit() {
        let next = |pause: &Duration| Some(longer(*pause));
        let pauses: Vec<_> = std::iter::successors(Some(limits::RETRY_PAUSE), next)
            .take(8)
            .collect();
        assert_eq!(pauses[1], 2 * pauses[0]);
        assert_eq!(pauses[6..], [limits::LONGEST_RETRY_PAUSE; 2]);
    }

    #[test]
    fn what_may_pass_is_what_mount_nfs_thinks_may_pass() {
        for errno in [
            Errno::CONNREFUSED,
            Errno::HOSTUNREACH,
            Errno::TIMEDOUT,
            Errno::AGAIN,
        ] {
            assert!(is_temporary(errno));
        }
        for errno in [
            Errno::NOENT,
            Errno::ACCESS,
            Errno::PROTONOSUPPORT,
            Errno::NODEV,
        ] {
            assert!(!is_temporary(errno));
        }
    }
}
