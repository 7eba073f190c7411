//! The runtime directory: socket, lock and pid file of one daemon.
//!
//! Several daemons with disjoint mount points can run on a host, each with a runtime directory of
//! its own (`PITON_RUNTIME_DIR`).

use std::ffi::OsStr;
use std::fs::{DirBuilder, File, OpenOptions};
use std::io::{self, Read, Seek, Write};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use rustix::fs::{FlockOperation, flock};

use crate::limits;

/// Environment variable that names the runtime directory.
pub const VARIABLE: &str = "PITON_RUNTIME_DIR";

/// Environment variable that names the directory of a user's session (XDG Base Directory
/// Specification).
const SESSION: &str = "XDG_RUNTIME_DIR";

/// The runtime directory where the variable names none.
pub const DEFAULT: &str = "/run/piton";

/// Whether this is root of the machine, to whom [`DEFAULT`] belongs, and not of a user's own namespace.
fn is_root() -> bool {
    let map = std::fs::read_to_string("/proc/self/uid_map").unwrap_or_default();
    let words: Vec<&str> = map.split_whitespace().collect();
    rustix::process::geteuid().is_root() && matches!(words[..], [] | ["0", "0", "4294967295"])
}

/// A runtime directory, by its name. It need not exist.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RuntimeDir {
    path: PathBuf,
}

impl RuntimeDir {
    /// The directory at this path.
    pub fn new(path: impl Into<PathBuf>) -> Self {
        Self { path: path.into() }
    }

    /// The directory that the environment names; for a user who has a daemon of his own its
    /// directory ([`RuntimeDir::of_user`]); otherwise [`DEFAULT`].
    pub fn from_env() -> Self {
        let session = match is_root() {
            true => None,
            false => std::env::var_os(SESSION),
        };
        Self::from_setting(std::env::var_os(VARIABLE).as_deref(), session.as_deref())
    }

    /// The directory for a daemon of a user's own, in his session's; made if it is missing, so that
    /// [`RuntimeDir::from_env`] finds it. With root, and where the environment names one, that one.
    ///
    /// # Errors
    /// There is no session, or as [`RuntimeDir::prepare`].
    pub fn of_user() -> Result<Self, RuntimeError> {
        let named = std::env::var_os(VARIABLE).is_some_and(|path| !path.is_empty());
        if named || is_root() {
            return Ok(Self::from_env());
        }
        let session = std::env::var_os(SESSION).filter(|path| !path.is_empty());
        let dir = Self::of_session(session.ok_or(RuntimeError::NoSession)?.as_os_str());
        dir.prepare()?;
        Ok(dir)
    }

    fn of_session(session: &OsStr) -> Self {
        Self::new(Path::new(session).join("piton"))
    }

    fn from_setting(setting: Option<&OsStr>, session: Option<&OsStr>) -> Self {
        let own = session.map(Self::of_session);
        match setting {
            Some(path) if !path.is_empty() => Self::new(path),
            _ => own
                .filter(|own| own.path.is_dir())
                .unwrap_or_else(|| Self::new(DEFAULT)),
        }
    }

    /// The directory itself.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The control socket.
    pub fn socket(&self) -> PathBuf {
        self.path.join("control")
    }

    /// The lock, which holds the pid of its owner.
    pub fn lock(&self) -> PathBuf {
        self.path.join("lock")
    }

    /// The pid file.
    pub fn pid_file(&self) -> PathBuf {
        self.path.join("pid")
    }

    /// Returns true if and only if the process in the pid file is alive.
    ///
    /// Anybody may ask this; the lock itself is not tried.
    pub fn has_live_pid(&self) -> bool {
        File::open(self.pid_file())
            .ok()
            .and_then(|mut file| read_pid(&mut file))
            .is_some_and(is_alive)
    }

    /// Returns true if and only if a daemon holds the lock. False also where this user may not
    /// look.
    ///
    /// The lock is tried, so a daemon that starts in the same moment may be turned away: for use
    /// after a daemon was asked to end.
    pub fn is_locked(&self) -> bool {
        File::open(self.lock()).is_ok_and(|file| {
            let tried = flock(&file, FlockOperation::NonBlockingLockShared);
            tried == Err(rustix::io::Errno::WOULDBLOCK)
        })
    }

    /// Creates the directory if it is missing, and refuses one that others could tamper with.
    ///
    /// # Errors
    /// [`RuntimeError::Io`] when it cannot be created or looked at, [`RuntimeError::Unsafe`] when
    /// it is no directory, belongs to another user, or others may write to it.
    pub fn prepare(&self) -> Result<(), RuntimeError> {
        let io = |cause| RuntimeError::Io {
            path: self.path.clone(),
            cause,
        };
        DirBuilder::new()
            .recursive(true)
            .mode(0o755)
            .create(&self.path)
            .map_err(io)?;
        let meta = std::fs::symlink_metadata(&self.path).map_err(io)?;
        let refuse = |why| {
            Err(RuntimeError::Unsafe {
                path: self.path.clone(),
                why,
            })
        };
        if !meta.is_dir() {
            return refuse("it is not a directory");
        }
        if meta.uid() != rustix::process::geteuid().as_raw() && meta.uid() != 0 {
            return refuse("it belongs to another user");
        }
        if meta.mode() & 0o022 != 0 {
            return refuse("others may write to it");
        }
        Ok(())
    }
}

/// Why a runtime directory cannot be used.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum RuntimeError {
    /// A system call failed.
    #[error("runtime directory {}: {cause}", path.display())]
    Io {
        /// The directory.
        path: PathBuf,
        /// What the system said.
        #[source]
        cause: io::Error,
    },
    /// Nothing says where the user's is.
    #[error(
        "{SESSION} is not set, as it is in a session: name a directory of your own in {VARIABLE}"
    )]
    NoSession,
    /// Somebody else could replace the socket in it.
    #[error("runtime directory {}: {why}; name another in {VARIABLE}", path.display())]
    Unsafe {
        /// The directory.
        path: PathBuf,
        /// In which way.
        why: &'static str,
    },
}

/// The right to be the only daemon of a runtime directory; given up when dropped and when the
/// last process that inherited it ends.
#[derive(Debug)]
pub struct Lock {
    dir: RuntimeDir,
    /// The open lock file; the lock belongs to this description.
    file: File,
}

impl Lock {
    /// Takes the lock, and writes this process's pid into it and into the pid file.
    ///
    /// The lock file is for its owner only: whoever can open it could lock it.
    ///
    /// # Errors
    /// [`LockError::Held`] when another daemon has it, otherwise [`LockError::Io`] or
    /// [`LockError::Runtime`].
    pub fn take(dir: &RuntimeDir) -> Result<Self, LockError> {
        dir.prepare()?;
        let path = dir.lock();
        let io = |cause| LockError::Io {
            path: path.clone(),
            cause,
        };
        let mut file = OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .mode(0o600)
            .custom_flags(rustix::fs::OFlags::NOFOLLOW.bits().cast_signed())
            .open(&path)
            .map_err(io)?;
        let until = Instant::now() + limits::LOCK;
        loop {
            match flock(&file, FlockOperation::NonBlockingLockExclusive) {
                Ok(()) => break,
                Err(rustix::io::Errno::WOULDBLOCK) => {}
                Err(errno) => return Err(io(errno.into())),
            }
            file.rewind().map_err(io)?;
            let (pid, heir) = read_owner(&mut file);
            // Who is dead holds it only as long as others of its processes die.
            if pid.is_none_or(is_alive) || Instant::now() >= until {
                return Err(LockError::Held {
                    dir: dir.path.clone(),
                    pid,
                    heir,
                });
            }
            std::thread::sleep(Duration::from_millis(10));
        }
        let lock = Self {
            dir: dir.clone(),
            file,
        };
        lock.write_pid(std::process::id()).map_err(io)?;
        Ok(lock)
    }

    /// The lock that this process was handed: `fd` is a copy of the descriptor of who took it.
    pub fn inherited(dir: &RuntimeDir, fd: OwnedFd) -> Self {
        Self {
            dir: dir.clone(),
            file: fd.into(),
        }
    }

    /// Writes another pid into the lock and the pid file: that of the process that goes on after
    /// a fork.
    ///
    /// # Errors
    /// What the system says.
    pub fn write_pid(&self, pid: u32) -> io::Result<()> {
        self.write_owner(pid, "")
    }

    /// The same for a process that took the place of one that was killed: whoever started that
    /// one may start another, which is not to be refused ([`LockError::Held`]).
    ///
    /// # Errors
    /// What the system says.
    pub fn write_heir(&self, pid: u32) -> io::Result<()> {
        self.write_owner(pid, HEIR)
    }

    fn write_owner(&self, pid: u32, role: &str) -> io::Result<()> {
        let text = format!("{pid}\n{role}");
        // Written over the old text and then cut, so that a reader never finds an empty file.
        rustix::io::pwrite(&self.file, text.as_bytes(), 0)?;
        self.file.set_len(text.len() as u64)?;
        write_pid_file(&self.dir.pid_file(), pid)
    }

    /// Gives the lock up and removes the pid file. The lock file stays: removing it would let two
    /// daemons lock two files of the same name.
    pub fn release(self) {
        // A pid file that stays names a process that is gone, which readers check.
        let _ = std::fs::remove_file(self.dir.pid_file());
    }
}

impl AsFd for Lock {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.file.as_fd()
    }
}

/// Why the lock could not be taken.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum LockError {
    /// Another daemon has it.
    #[error("{}", held(dir, *pid))]
    Held {
        /// The runtime directory.
        dir: PathBuf,
        /// The owner, if it has written its pid.
        pid: Option<u32>,
        /// It took the place of one that was killed, and nobody has started it.
        heir: bool,
    },
    /// A system call failed.
    #[error("lock {}: {cause}", path.display())]
    Io {
        /// The lock file.
        path: PathBuf,
        /// What the system said.
        #[source]
        cause: io::Error,
    },
    /// The runtime directory cannot be used.
    #[error(transparent)]
    Runtime(#[from] RuntimeError),
}

fn held(dir: &Path, pid: Option<u32>) -> String {
    let owner = pid.map_or_else(
        || "another process".to_owned(),
        |pid| format!("process {pid}"),
    );
    format!(
        "a piton daemon runs already: {owner} holds {}; end it with `piton stop`, or give this one \
         a runtime directory of its own in {VARIABLE}",
        dir.join("lock").display()
    )
}

fn is_alive(pid: u32) -> bool {
    Path::new("/proc").join(pid.to_string()).exists()
}

/// The second line of a lock file whose owner took the place of one that was killed.
const HEIR: &str = "heir\n";

/// The pid that a lock file or a pid file holds.
fn read_pid(file: &mut File) -> Option<u32> {
    read_owner(file).0
}

/// The pid in a lock file, and whether it is that of an heir.
fn read_owner(file: &mut File) -> (Option<u32>, bool) {
    let mut text = String::new();
    // What cannot be read names nobody.
    let _ = file.take(32).read_to_string(&mut text);
    let (pid, role) = text.split_once('\n').unwrap_or((&text, ""));
    (pid.trim().parse().ok(), role == HEIR)
}

/// Writes a pid file in one go: a reader finds the old text or the new one.
///
/// # Errors
/// What the system says.
pub fn write_pid_file(path: &Path, pid: u32) -> io::Result<()> {
    let mut fresh = path.as_os_str().to_owned();
    fresh.push(".new");
    let fresh = PathBuf::from(fresh);
    let mut file = OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(true)
        .mode(0o644)
        .custom_flags(rustix::fs::OFlags::NOFOLLOW.bits().cast_signed())
        .open(&fresh)?;
    writeln!(file, "{pid}")?;
    std::fs::rename(&fresh, path)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn scratch() -> (tempfile::TempDir, RuntimeDir) {
        let root = tempfile::tempdir().expect("a temporary directory");
        let dir = RuntimeDir::new(root.path().join("run"));
        (root, dir)
    }

    #[test]
    fn the_variable_names_the_directory_unless_it_is_empty() {
        assert_eq!(
            RuntimeDir::from_setting(None, None).path(),
            Path::new(DEFAULT)
        );
        assert_eq!(
            RuntimeDir::from_setting(Some(OsStr::new("")), None).path(),
            Path::new(DEFAULT)
        );
        let named = RuntimeDir::from_setting(Some(OsStr::new("/run/second")), None);
        assert_eq!(named.socket(), Path::new("/run/second/control"));
    }

    #[test]
    fn a_user_with_a_daemon_of_his_own_talks_to_that() {
        let (root, _) = scratch();
        let session = Some(root.path().as_os_str());
        assert_eq!(
            RuntimeDir::from_setting(None, session).path(),
            Path::new(DEFAULT)
        );
        let own = RuntimeDir::of_session(root.path().as_os_str());
        own.prepare().expect("usable");
        assert_eq!(RuntimeDir::from_setting(None, session), own);
        let named = RuntimeDir::from_setting(Some(OsStr::new("/run/second")), session);
        assert_eq!(named.path(), Path::new("/run/second"));
    }

    #[test]
    fn a_second_daemon_is_refused_and_told_the_owner() {
        let (_root, dir) = scratch();
        let lock = Lock::take(&dir).expect("the first");
        let refusal = Lock::take(&dir).expect_err("the second");
        let LockError::Held { pid, .. } = &refusal else {
            panic!("{refusal}")
        };
        assert_eq!(*pid, Some(std::process::id()));
        let text = refusal.to_string();
        assert!(
            text.contains(&format!("process {}", std::process::id())),
            "{text}"
        );
        assert!(dir.is_locked() && dir.has_live_pid());
        lock.release();
        assert!(!dir.is_locked() && !dir.has_live_pid());
        Lock::take(&dir).expect("free again");
    }

    #[test]
    fn a_shorter_pid_leaves_nothing_of_a_longer_one() {
        let (_root, dir) = scratch();
        let lock = Lock::take(&dir).expect("free");
        lock.write_pid(1_234_567).expect("written");
        lock.write_pid(89).expect("written");
        assert_eq!(
            std::fs::read_to_string(dir.lock()).expect("readable"),
            "89\n"
        );
        assert_eq!(
            std::fs::read_to_string(dir.pid_file()).expect("readable"),
            "89\n"
        );
    }

    #[test]
    fn what_others_could_tamper_with_is_refused() {
        use std::os::unix::fs::PermissionsExt;
        let (_root, dir) = scratch();
        std::fs::create_dir(dir.path()).expect("created");
        std::fs::set_permissions(dir.path(), PermissionsExt::from_mode(0o777)).expect("mode");
        let refusal = Lock::take(&dir)
            .expect_err("anybody may write there")
            .to_string();
        assert!(refusal.contains("others may write to it"), "{refusal}");
        std::fs::remove_dir(dir.path()).expect("removed");
        std::fs::write(dir.path(), "").expect("a file");
        assert!(Lock::take(&dir).is_err());
    }

    #[test]
    fn a_link_in_the_place_of_the_lock_is_not_followed() {
        let (root, dir) = scratch();
        dir.prepare().expect("usable");
        let victim = root.path().join("victim");
        std::fs::write(&victim, "precious").expect("a file");
        std::os::unix::fs::symlink(&victim, dir.lock()).expect("a link");
        assert!(matches!(Lock::take(&dir), Err(LockError::Io { .. })));
        assert_eq!(
            std::fs::read_to_string(&victim).expect("readable"),
            "precious"
        );
    }
}
