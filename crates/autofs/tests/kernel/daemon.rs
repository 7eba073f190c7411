//! What a test needs to be a daemon, and those who access its points.

use std::os::fd::AsFd;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

use autofs::{
    AttachedPoint, Control, ExistingPoint, Packet, PointKind, PointOptions, PreparedPoint,
    RequestPipe, existing_points,
};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::mount::MountFlags;

/// How long anything may take that takes microseconds.
pub(crate) const SOON: Duration = Duration::from_secs(60);

/// What a mounted file system holds, in the file `probe`.
pub(crate) const PROBE: &str = "it is mounted\n";

/// A daemon of one thread: the test itself.
pub(crate) struct Daemon {
    pub(crate) control: Control,
    pub(crate) pipe: RequestPipe,
}

impl Daemon {
    pub(crate) fn new() -> Self {
        Self {
            control: Control::open().unwrap(),
            pipe: RequestPipe::new().unwrap(),
        }
    }

    /// Makes and attaches a point on a directory made for it.
    pub(crate) fn point(&self, kind: PointKind, target: &Path) -> AttachedPoint {
        std::fs::create_dir_all(target).unwrap();
        let prepared =
            PreparedPoint::new(kind, &PointOptions::default(), self.pipe.writer()).unwrap();
        let id = prepared.id();
        let attached = prepared.attach(target).unwrap();
        assert_eq!(attached.id(), id);
        assert_eq!(attached.root().is_some(), kind == PointKind::Indirect);
        attached
    }

    /// The next request, which must come soon.
    pub(crate) fn next(&self) -> Packet {
        let deadline = Timespec {
            tv_sec: SOON.as_secs() as i64,
            tv_nsec: 0,
        };
        let mut wanted = [PollFd::new(&self.pipe, PollFlags::IN)];
        assert_ne!(
            poll(&mut wanted, Some(&deadline)).unwrap(),
            0,
            "no request came"
        );
        self.pipe.read().unwrap().expect("poll said there was one")
    }

    /// Asserts that no request waits.
    pub(crate) fn expect_none(&self) {
        assert_eq!(self.pipe.read().unwrap(), None);
    }

    /// Serves a missing request of an indirect point as a daemon does.
    pub(crate) fn serve(&self, root: impl AsFd, target: &Path, packet: &Packet) {
        let place = target.join(bstr_path(&packet.name));
        std::fs::create_dir(&place).unwrap();
        mount_tmpfs(&place);
        self.control.ready(root, packet.token).unwrap();
    }

    /// Serves a missing request of a direct or offset point: its root is opened for the answer
    /// only.
    pub(crate) fn serve_direct(&self, target: &Path, packet: &Packet) {
        let root = self.control.open_point(target, packet.device).unwrap();
        mount_tmpfs(target);
        self.control.ready(root, packet.token).unwrap();
    }
}

pub(crate) fn bstr_path(name: &[u8]) -> PathBuf {
    use std::os::unix::ffi::OsStrExt;
    std::ffi::OsStr::from_bytes(name).into()
}

/// Mounts a file system that holds a probe.
pub(crate) fn mount_tmpfs(target: &Path) {
    rustix::mount::mount("test", target, "tmpfs", MountFlags::empty(), None).unwrap();
    std::fs::write(target.join("probe"), PROBE).unwrap();
}

/// A process that accesses things, in a process group of its own, as every user of a point has to
/// be.
pub(crate) struct Accessor(Option<Child>);

impl Accessor {
    /// Reads the probes of these directories, one after the other, each with one `open(2)`.
    pub(crate) fn of(directories: impl IntoIterator<Item = PathBuf>) -> Self {
        let mut command = Command::new("cat");
        command.args(
            directories
                .into_iter()
                .map(|directory| directory.join("probe")),
        );
        Self::start(command)
    }

    pub(crate) fn start(mut command: Command) -> Self {
        command
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        Self(Some(command.process_group(0).spawn().unwrap()))
    }

    pub(crate) fn pid(&self) -> u32 {
        self.0.as_ref().unwrap().id()
    }

    /// Waits until it waits for the daemon: in the kernel, where only a fatal signal reaches it
    /// (state D).
    pub(crate) fn wait_until_stuck(&self) {
        let stat = format!("/proc/{}/stat", self.pid());
        until(|| std::fs::read_to_string(&stat).unwrap().contains(") D "));
    }

    pub(crate) fn finish(mut self) -> Output {
        until(|| self.0.as_mut().unwrap().try_wait().unwrap().is_some());
        self.0.take().unwrap().wait_with_output().unwrap()
    }

    /// Asserts that it read one probe.
    pub(crate) fn expect_served(self) {
        let output = self.finish();
        assert_eq!(String::from_utf8_lossy(&output.stderr), "");
        assert_eq!(String::from_utf8_lossy(&output.stdout), PROBE);
    }

    /// Asserts that it was refused with this errno.
    pub(crate) fn expect_errno(self, errno: autofs::Errno) {
        let output = self.finish();
        let complaint = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(
            complaint.trim_end().ends_with(&errno_text(errno)),
            "not {errno}: {complaint}"
        );
    }
}

impl Drop for Accessor {
    /// A test that fails leaves nobody waiting for it.
    fn drop(&mut self) {
        if let Some(child) = &mut self.0 {
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

/// The C library's text of an errno, at the end of a line of `cat`'s.
pub(crate) fn errno_text(errno: autofs::Errno) -> String {
    let text = std::io::Error::from(errno).to_string();
    let end = text.find(" (os error").unwrap();
    format!(": {}", &text[..end])
}

/// Waits until something holds.
pub(crate) fn until(mut holds: impl FnMut() -> bool) {
    let begin = Instant::now();
    while !holds() {
        assert!(begin.elapsed() < SOON, "waited for {SOON:?} in vain");
        std::thread::sleep(Duration::from_millis(1));
    }
}

/// The points at or below a directory.
pub(crate) fn existing_below(directory: &Path) -> Vec<ExistingPoint> {
    let points = existing_points().unwrap().map(Result::unwrap);
    points
        .filter(|point| point.target.starts_with(directory))
        .collect()
}
