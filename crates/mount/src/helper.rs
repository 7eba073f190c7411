//! Running a program that mounts, and getting rid of it when it does not end.
//!
//! Helpers stay in the daemon's process group: those outside of it would trigger the very automount
//! they are to serve. So a helper cannot be killed as a group; its family is looked up and killed
//! process by process. One that cannot die, waiting for a server in the kernel, is given up: it is
//! reaped whenever it does die.
//!
//! # What an exit status means
//! mount(8) ends with 32 for every mount that failed, so the errno is read from its words, by the
//! table `MEANINGS` below. What is not in the table is EIO.

use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use bstr::{BStr, BString, ByteSlice};
use piton_plan::step::{Attempt, What};
use piton_process::{how_ended, kill_family, wait_until};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fd::OwnedFd;
use rustix::io::Errno;
use rustix::process::{Pid, PidfdFlags, pidfd_open};

use crate::error::Error;
use crate::limits;
use crate::nfs;
use crate::perform::{Program, Settings};
use crate::rootless;

/// The process group of a program.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Group {
    /// The daemon's: it triggers nothing.
    Ours,
    /// Its own: it triggers like anybody.
    Own,
}

/// A program to be run.
#[derive(Debug)]
pub(crate) struct Run {
    /// What is run.
    pub(crate) program: PathBuf,
    /// Its arguments.
    pub(crate) arguments: Vec<OsString>,
    /// Its process group.
    pub(crate) group: Group,
    /// The name it is called by, if that is another one.
    pub(crate) called: Option<&'static str>,
    /// What it is run for, in messages.
    about: BString,
}

impl Run {
    /// Without arguments, in our process group.
    pub(crate) fn new(program: &Path, about: &BStr) -> Self {
        let about = about.to_owned();
        Self {
            program: program.to_owned(),
            arguments: Vec::new(),
            group: Group::Ours,
            called: None,
            about,
        }
    }

    /// Adds an argument.
    pub(crate) fn argument(&mut self, argument: impl AsRef<[u8]>) {
        self.arguments
            .push(OsStr::from_bytes(argument.as_ref()).to_owned());
    }

    /// Runs it to its end, or to `until`. Blocks.
    pub(crate) fn finish(&self, until: Instant) -> Result<(), Error> {
        reap();
        let begun = Instant::now();
        let (mut child, output) = self.spawn()?;
        let mut tail = Tail::default();
        let status = watch(&mut child, &output, &mut tail, until);
        let Some(status) = status else {
            put_away(child);
            tail.drain(&output);
            return Err(Error::Overran {
                program: self.program.display().to_string(),
                path: self.about.clone(),
                milliseconds: begun.elapsed().as_millis(),
                words: tail.words(),
            });
        };
        tail.drain(&output);
        if status.success() {
            return Ok(());
        }
        let words = tail.words();
        Err(Error::Helper {
            program: self.program.display().to_string(),
            path: self.about.clone(),
            status: how_ended(status),
            errno: errno_from_words(&words),
            words,
        })
    }

    fn spawn(&self) -> Result<(Child, OwnedFd), Error> {
        let told = |error: &std::io::Error| {
            let errno = Errno::from_io_error(error).unwrap_or(Errno::IO);
            // A missing program is no missing path of the user's: ENOENT would say so.
            let errno = if errno == Errno::NOENT {
                Errno::IO
            } else {
                errno
            };
            Error::Call {
                doing: format!("running {} for", self.program.display()),
                path: self.about.clone(),
                errno,
                words: error.to_string(),
            }
        };
        let (reader, writer) = rustix::pipe::pipe_with(rustix::pipe::PipeFlags::CLOEXEC)
            .map_err(|errno| told(&errno.into()))?;
        rustix::io::ioctl_fionbio(&reader, true).map_err(|errno| told(&errno.into()))?;
        let second = writer.try_clone().map_err(|error| told(&error))?;
        let mut command = Command::new(&self.program);
        command
            .args(&self.arguments)
            .env_clear()
            .envs(rootless::environment())
            .stdin(Stdio::null())
            .stdout(Stdio::from(writer))
            .stderr(Stdio::from(second));
        if self.group == Group::Own {
            command.process_group(0);
        }
        if let Some(name) = self.called {
            command.arg0(name);
        }
        let child = command.spawn().map_err(|error| told(&error))?;
        Ok((child, reader))
    }
}

/// All that a helper of root's finds in its environment. Messages are read by [`errno_from_words`], so they
/// are to be in English.
pub(crate) const ENVIRONMENT: [(&str, &str); 4] = [
    (
        "PATH",
        "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
    ),
    ("LANG", "C.UTF-8"),
    ("LC_ALL", "C.UTF-8"),
    ("HOME", "/root"),
];

/// Waits until `child` ends and keeps its output flowing. None when `until` comes first.
///
/// The end of the output is not waited for: what serves a FUSE file system keeps it open.
fn watch(
    child: &mut Child,
    output: &OwnedFd,
    tail: &mut Tail,
    until: Instant,
) -> Option<ExitStatus> {
    let pid = Pid::from_child(child);
    let ended = pidfd_open(pid, PidfdFlags::empty()).ok();
    let mut open = true;
    loop {
        match child.try_wait() {
            Ok(None) => {}
            Ok(Some(status)) => return Some(status),
            // Somebody else has reaped it (or SIGCHLD is ignored): how it ended is not known.
            Err(_) => return Some(ExitStatus::from_raw(0xff00)),
        }
        let left = until.checked_duration_since(Instant::now())?;
        // Without pidfds (before Linux 5.3) look again now and then.
        let pause = if ended.is_some() {
            left
        } else {
            left.min(Duration::from_millis(5))
        };
        let mut fds = Vec::with_capacity(2);
        if open {
            fds.push(PollFd::new(output, PollFlags::IN));
        }
        if let Some(ended) = &ended {
            fds.push(PollFd::new(ended, PollFlags::IN));
        }
        let pause = Timespec::try_from(pause).ok();
        let _ = poll(&mut fds, pause.as_ref());
        let readable = open && !fds[0].revents().is_empty();
        drop(fds);
        if readable {
            open = tail.read(output);
        }
    }
}

/// The last bytes of a helper's output.
#[derive(Debug, Default)]
struct Tail {
    kept: Vec<u8>,
}

impl Tail {
    /// Takes what is there now, one piece; false at the end of the output.
    fn read(&mut self, output: &OwnedFd) -> bool {
        let mut piece = [0; limits::OUTPUT_KEPT];
        match rustix::io::read(output, &mut piece) {
            Ok(0) => false,
            Ok(length) => {
                self.push(&piece[..length]);
                true
            }
            Err(Errno::AGAIN | Errno::INTR) => true,
            Err(_) => false,
        }
    }

    /// Takes what is left, without waiting; a pipe holds 64 KiB.
    fn drain(&mut self, output: &OwnedFd) {
        let mut piece = [0; limits::OUTPUT_KEPT];
        for _ in 0..64 {
            match rustix::io::read(output, &mut piece) {
                Ok(length @ 1..) => self.push(&piece[..length]),
                _ => break,
            }
        }
    }

    fn push(&mut self, piece: &[u8]) {
        self.kept.extend_from_slice(piece);
        let surplus = self.kept.len().saturating_sub(limits::OUTPUT_KEPT);
        self.kept.drain(..surplus);
    }

    /// One line of text: lines are joined, control characters left out.
    fn words(&self) -> String {
        let text = self.kept.to_str_lossy();
        let lines = text
            .lines()
            .map(|line| line.trim_matches(|c: char| c <= ' '));
        let joined = lines
            .filter(|line| !line.is_empty())
            .collect::<Vec<_>>()
            .join("; ");
        joined.chars().filter(|c| !c.is_control()).collect()
    }
}

// --- what the words mean -------------------------------------------------

/// Pieces of messages of mount(8), mount.nfs and mount.cifs, and the errno each stands for. The
/// first that is found counts: causes on the network and refusals come before the general phrases
/// that stand beside them.
const MEANINGS: [(&str, Errno); 40] = [
    ("access denied", Errno::ACCESS),
    ("permission denied", Errno::ACCESS),
    ("connection refused", Errno::CONNREFUSED),
    ("timed out", Errno::TIMEDOUT),
    ("timeout", Errno::TIMEDOUT),
    ("no route to host", Errno::HOSTUNREACH),
    ("network is unreachable", Errno::NETUNREACH),
    ("host is down", Errno::HOSTDOWN),
    ("failed to resolve server", Errno::HOSTDOWN),
    ("could not resolve address", Errno::HOSTDOWN),
    ("name or service not known", Errno::HOSTDOWN),
    ("temporary failure in name resolution", Errno::HOSTDOWN),
    ("connection reset", Errno::CONNRESET),
    ("protocol not supported", Errno::PROTONOSUPPORT),
    ("protocol is not supported", Errno::PROTONOSUPPORT),
    ("rpc prog. not avail", Errno::OPNOTSUPP),
    ("program not registered", Errno::CONNREFUSED),
    ("transport endpoint is not connected", Errno::NOTCONN),
    ("unknown filesystem type", Errno::NODEV),
    ("you might need a /sbin/mount", Errno::NODEV),
    ("no such file or directory", Errno::NOENT),
    ("does not exist", Errno::NOENT),
    ("not a directory", Errno::NOTDIR),
    ("no such device", Errno::NODEV),
    ("not a block device", Errno::NOTBLK),
    ("no medium found", Errno::NOMEDIUM),
    ("already mounted or mount point busy", Errno::BUSY),
    ("is busy", Errno::BUSY),
    ("resource busy", Errno::BUSY),
    ("read-only file system", Errno::ROFS),
    ("no space left", Errno::NOSPC),
    ("operation not permitted", Errno::PERM),
    ("must be superuser", Errno::PERM),
    ("wrong fs type, bad option", Errno::INVAL),
    ("invalid argument", Errno::INVAL),
    ("incorrect mount option", Errno::INVAL),
    ("options not permitted", Errno::INVAL),
    ("not in 'host:dir' format", Errno::INVAL),
    ("required for remote locking", Errno::NOLCK),
    ("resource temporarily unavailable", Errno::AGAIN),
];

/// The errno that a helper's message stands for; EIO when none is known.
///
/// Never ESTALE, though helpers say "Stale file handle": the kernel would ask again.
pub(crate) fn errno_from_words(words: &str) -> Errno {
    let words = words.to_lowercase();
    let known = MEANINGS.iter().find(|(piece, _)| words.contains(piece));
    known.map_or(Errno::IO, |(_, errno)| *errno)
}

// --- command lines -------------------------------------------------------

/// mount(8), for types that the kernel cannot mount alone.
pub(crate) fn mount_command(
    settings: &Settings,
    attempt: &Attempt,
    target: &BStr,
) -> Result<Run, Error> {
    let mut run = Run::new(&settings.mount, target);
    match &attempt.what {
        What::Bind { recursive } => run.argument(if *recursive { "--rbind" } else { "--bind" }),
        // None was named: mount(8) looks for itself.
        What::Type(fstype) if fstype.is_empty() => {}
        What::Type(fstype) => {
            check_type(fstype.as_bstr())?;
            check_not_negated(fstype.as_bstr())?;
            if matches!(fstype.as_slice(), b"nfs" | b"nfs4") {
                // Maps that other systems share have options that this one lacks.
                run.argument("-s");
            }
            run.argument("-t");
            run.argument(fstype);
        }
    }
    match &attempt.what {
        What::Type(fstype) if nfs::is_nfs(fstype) => nfs_options(&mut run, &attempt.options),
        _ => options_argument(&mut run, &attempt.options),
    }
    check_source(attempt.source.as_bstr())?;
    run.argument("--");
    run.argument(&attempt.source);
    run.argument(target);
    Ok(run)
}

/// The administrator's own program, for every mount.
pub(crate) fn program_command(
    program: &Program,
    attempt: &Attempt,
    target: &BStr,
) -> Result<Run, Error> {
    let mut run = Run::new(&program.mount, target);
    match &attempt.what {
        What::Bind { recursive } => run.argument(if *recursive { "--rbind" } else { "--bind" }),
        What::Type(fstype) => {
            check_type(fstype.as_bstr())?;
            run.argument("-t");
            run.argument(fstype);
        }
    }
    options_argument(&mut run, &attempt.options);
    check_source(attempt.source.as_bstr())?;
    run.argument(&attempt.source);
    run.argument(target);
    Ok(run)
}

/// mount.nfs asks a server that is not ready again for two minutes, unless told otherwise; whoever
/// waits would learn nothing but that the time is over, and the next server would not be asked.
fn nfs_options(run: &mut Run, options: &[BString]) {
    let mut options = options.to_vec();
    if !nfs::says_retry(&options) {
        options.push("retry=0".into());
    }
    options_argument(run, &options);
}

pub(crate) fn options_argument(run: &mut Run, options: &[BString]) {
    if !options.is_empty() {
        run.argument("-o");
        run.argument(bstr::join(",", options));
    }
}

/// mount(8) runs `/sbin/mount.TYPE`: a type must be a word.
pub(crate) fn check_type(fstype: &BStr) -> Result<(), Error> {
    let word = |byte: &u8| byte.is_ascii_alphanumeric() || b"._-+".contains(byte);
    if fstype.starts_with(b"-") || !fstype.iter().all(word) {
        return Err(Error::refused(
            fstype,
            Errno::INVAL,
            "not the name of a file system type",
        ));
    }
    Ok(())
}

/// mount(8) reads `nofoo` as "any type but foo", looks for itself and mounts what it finds.
fn check_not_negated(fstype: &BStr) -> Result<(), Error> {
    if fstype.starts_with(b"no") && fstype != "none" {
        let why =
            "not a file system type: mount(8) would take it for \"any but\" what follows `no`";
        return Err(Error::refused(fstype, Errno::NODEV, why));
    }
    Ok(())
}

/// mount(8) hands the source on to `mount.TYPE` as its first argument, where a leading `-` would
/// make it an option.
pub(crate) fn check_source(source: &BStr) -> Result<(), Error> {
    if source.starts_with(b"-") {
        let why = "a source that begins with `-` is refused: mount helpers take it for an option";
        return Err(Error::refused(source, Errno::INVAL, why));
    }
    if source.contains(&0) {
        return Err(Error::refused(
            source,
            Errno::INVAL,
            "a source cannot contain NUL",
        ));
    }
    Ok(())
}

// --- getting rid of a helper ---------------------------------------------

/// Helpers that were killed and have not died yet.
static ABANDONED: Mutex<Vec<Child>> = Mutex::new(Vec::new());

/// Reaps helpers that were given up and have died since. Called before each helper; a daemon may
/// also call it now and then.
pub fn reap() {
    let mut abandoned = ABANDONED.lock().unwrap_or_else(PoisonError::into_inner);
    abandoned.retain_mut(|child| matches!(child.try_wait(), Ok(None)));
}

/// Kills a helper with all its descendants, and reaps it or gives it up.
fn put_away(child: Child) {
    if let Err(child) = end(child) {
        let mut abandoned = ABANDONED.lock().unwrap_or_else(PoisonError::into_inner);
        if abandoned.len() < limits::ABANDONED {
            abandoned.push(child);
        }
    }
}

/// Kills a child with all its descendants and reaps it, to tell how it ended; gives it back if it does
/// not die at once.
pub(crate) fn end(mut child: Child) -> Result<ExitStatus, Child> {
    kill_family(Pid::from_child(&child), &[]);
    wait_until(&mut child, Instant::now() + limits::KILL_GRACE).ok_or(child)
}

/// Whether helpers are left that were killed and have not died yet; those that have are reaped.
pub(crate) fn any_left() -> bool {
    reap();
    let abandoned = ABANDONED.lock().unwrap_or_else(PoisonError::into_inner);
    !abandoned.is_empty()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn until(milliseconds: u64) -> Instant {
        Instant::now() + Duration::from_millis(milliseconds)
    }

    fn shell(script: &str) -> Run {
        let mut run = Run::new(Path::new("/bin/sh"), "/mnt".into());
        run.argument("-c");
        run.argument(script);
        run
    }

    fn attempt(what: What, source: &str, options: &[&str]) -> Attempt {
        let options = options
            .iter()
            .map(|option| BString::from(*option))
            .collect();
        Attempt {
            what,
            source: source.into(),
            options,
            host: None,
            address: None,
            no_guests: false,
            by_helper: false,
        }
    }

    fn arguments(run: &Run) -> Vec<&str> {
        run.arguments
            .iter()
            .map(|argument| argument.to_str().unwrap())
            .collect()
    }

    #[test]
    fn messages_of_real_helpers_mean_their_errno() {
        for (words, errno) in [
            (
                "mount.nfs: access denied by server while mounting h:/x",
                Errno::ACCESS,
            ),
            ("mount.nfs: Connection refused", Errno::CONNREFUSED),
            ("mount.nfs: Connection timed out", Errno::TIMEDOUT),
            ("mount.nfs: No route to host for h:/x", Errno::HOSTUNREACH),
            (
                "mount.nfs: an incorrect mount option was specified",
                Errno::INVAL,
            ),
            (
                "mount.nfs: multiple version options not permitted",
                Errno::INVAL,
            ),
            (
                "mount.nfs: requested NFS version or transport protocol is not supported for /m",
                Errno::PROTONOSUPPORT,
            ),
            (
                "mount.nfs: rpc.statd is not running but is required for remote locking.",
                Errno::NOLCK,
            ),
            (
                "mount.nfs: Failed to resolve server nope: Name or service not known",
                Errno::HOSTDOWN,
            ),
            (
                "mount.nfs: mounting h:/x failed, reason given by server: \
                 No such file or directory",
                Errno::NOENT,
            ),
            (
                "mount: /mnt: special device /dev/nope does not exist.",
                Errno::NOENT,
            ),
            ("mount: /mnt: unknown filesystem type 'nope'.", Errno::NODEV),
            (
                "mount: /mnt: wrong fs type, bad option, bad superblock on /dev/loop0, \
                 missing codepage or helper program, or other error.",
                Errno::INVAL,
            ),
            (
                "mount: /mnt: bad option; for several filesystems (e.g. nfs, cifs) you might \
                 need a /sbin/mount.<type> helper program.",
                Errno::NODEV,
            ),
            ("mount error(13): Permission denied", Errno::ACCESS),
            ("mount error(112): Host is down", Errno::HOSTDOWN),
            ("umount: /mnt: target is busy.", Errno::BUSY),
            ("mount.nfs: Stale file handle", Errno::IO),
            ("", Errno::IO),
        ] {
            assert_eq!(errno_from_words(words), errno, "{words}");
        }
    }

    #[test]
    fn a_program_gets_type_options_what_and_where() {
        let program = Program {
            mount: "/site/mount".into(),
            umount: None,
        };
        for (what, options, expected) in [
            (
                What::Type("nfs".into()),
                &["ro", "soft"][..],
                "-t|nfs|-o|ro,soft|h:/x|/mnt",
            ),
            (What::Type("".into()), &[], "-t||h:/x|/mnt"),
            (What::Bind { recursive: false }, &[], "--bind|h:/x|/mnt"),
            (
                What::Bind { recursive: true },
                &["ro"],
                "--rbind|-o|ro|h:/x|/mnt",
            ),
        ] {
            let attempt = attempt(what, "h:/x", options);
            let run = program_command(&program, &attempt, "/mnt".into()).unwrap();
            assert_eq!(arguments(&run).join("|"), expected);
            assert_eq!(run.program, Path::new("/site/mount"));
        }
    }

    #[test]
    fn mount_8_gets_dashes_before_the_operands() {
        let attempt_of = |fstype: &str| attempt(What::Type(fstype.into()), "h:/x", &["a=b"]);
        let settings = Settings::default();
        let run = mount_command(&settings, &attempt_of("nfs4"), "/mnt".into()).unwrap();
        assert_eq!(
            arguments(&run),
            [
                "-s",
                "-t",
                "nfs4",
                "-o",
                "a=b,retry=0",
                "--",
                "h:/x",
                "/mnt"
            ]
        );
        let run = mount_command(&settings, &attempt_of("cifs"), "/mnt".into()).unwrap();
        assert_eq!(arguments(&run)[..2], ["-t", "cifs"]);
        let run = mount_command(&settings, &attempt_of(""), "/mnt".into()).unwrap();
        assert_eq!(arguments(&run), ["-o", "a=b", "--", "h:/x", "/mnt"]);
    }

    #[test]
    fn sources_and_types_that_would_be_options_or_paths_are_refused() {
        let settings = Settings::default();
        for (fstype, source) in [
            ("nfs", "-o"),
            ("nfs", "--help"),
            ("../../tmp/x", "a"),
            ("-x", "a"),
            ("a,b", "a"),
        ] {
            let attempt = attempt(What::Type(fstype.into()), source, &[]);
            let error = mount_command(&settings, &attempt, "/mnt".into()).unwrap_err();
            assert_eq!(error.errno(), Errno::INVAL, "{fstype} {source}");
        }
    }

    #[test]
    fn a_type_that_mount_8_would_take_for_its_opposite_is_refused() {
        let settings = Settings::default();
        let command = |fstype: &str| {
            let attempt = attempt(What::Type(fstype.into()), "a", &[]);
            mount_command(&settings, &attempt, "/mnt".into()).map_err(|error| error.errno())
        };
        assert_eq!(command("noext4").unwrap_err(), Errno::NODEV);
        assert!(command("none").is_ok() && command("nfs").is_ok());
    }

    #[test]
    fn the_end_of_the_output_is_kept_and_only_that() {
        let error = shell("i=0; while [ $i -lt 3000 ]; do echo line$i; i=$((i+1)); done; exit 32")
            .finish(until(30_000))
            .unwrap_err();
        let Error::Helper {
            words,
            status,
            errno,
            ..
        } = error
        else {
            panic!("{error}")
        };
        assert!(words.ends_with("line2998; line2999"), "{words}");
        assert!(words.len() <= 2 * limits::OUTPUT_KEPT);
        assert_eq!((status.as_str(), errno), ("exit status 32", Errno::IO));
    }

    #[test]
    fn a_tail_keeps_exactly_its_limit() {
        let mut tail = Tail::default();
        tail.push(&[b'a'; limits::OUTPUT_KEPT]);
        assert_eq!(tail.kept.len(), limits::OUTPUT_KEPT);
        tail.push(b"b");
        assert_eq!(tail.kept.len(), limits::OUTPUT_KEPT);
        assert!(tail.kept.ends_with(b"ab"));
    }

    #[test]
    fn a_background_child_that_keeps_the_output_open_is_not_waited_for() {
        let begun = Instant::now();
        shell("sleep 90 & exit 0").finish(until(80_000)).unwrap();
        assert!(begun.elapsed() < Duration::from_secs(60));
    }

    #[test]
    fn a_helper_finds_a_prepared_environment_and_no_input() {
        let error = shell("read x && echo input; env | sort; exit 1").finish(until(10_000));
        let Err(Error::Helper { words, .. }) = error else {
            panic!()
        };
        assert!(
            words.contains("LANG=C.UTF-8") && words.contains("PATH=/usr/local/sbin"),
            "{words}"
        );
        assert!(
            !words.contains("input") && !words.contains("CARGO"),
            "{words}"
        );
    }

    #[test]
    fn a_missing_program_is_not_a_missing_path() {
        let error = Run::new(Path::new("/no/such"), "/mnt".into())
            .finish(until(1000))
            .unwrap_err();
        assert_eq!(error.errno(), Errno::IO);
        assert!(
            error.to_string().starts_with("running /no/such for /mnt: "),
            "{error}"
        );
    }
}
