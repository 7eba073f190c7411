//! A site with maps of its own, and an automounter that serves it: ours or autofs.

use std::fs;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::time::Duration;

use piton_testkit::{MountLine, mount_table, mounted_at, wait_until};
use rustix::process::{Pid, Signal, kill_process};

use crate::LIMIT;
use crate::touch::{Touch, Touched};

/// Our program in the guest: `cargo xtask vm-test` puts it there.
const PITON: &str = "/share/piton";

/// Which automounter serves a site.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Daemon {
    /// Ours.
    Piton,
    /// Debian's autofs.
    Autofs,
}

/// Maps and mount points below a folder of its own, and a running automounter. Several may be
/// there at once, with different names. Dropped, it kills the automounter, and shows its log if
/// the test has failed.
pub struct Site {
    folder: PathBuf,
    kind: Daemon,
    child: Option<Child>,
    options: Vec<String>,
}

impl Site {
    /// A site whose files' texts may use `@` for its folder. The file `auto.master` is the master
    /// map; a text that begins with `#!` becomes a program. The automounter is started, and its
    /// mount points are in place at the return.
    #[track_caller]
    pub fn serving(kind: Daemon, name: &str, files: &[(&str, &str)]) -> Self {
        Self::serving_with(kind, name, files, &[])
    }

    /// The same, with further options for the daemon.
    #[track_caller]
    pub fn serving_with(
        kind: Daemon,
        name: &str,
        files: &[(&str, &str)],
        options: &[&str],
    ) -> Self {
        crate::in_the_guest();
        let mut site = Self {
            folder: Path::new("/site").join(name),
            kind,
            child: None,
            options: options.iter().map(|word| (*word).to_owned()).collect(),
        };
        fs::create_dir_all(&site.folder).expect("making the site's folder");
        for (name, text) in files {
            site.write(name, text);
        }
        site.start();
        site
    }

    /// A path of the site.
    pub fn at(&self, tail: &str) -> PathBuf {
        self.folder.join(tail)
    }

    fn text(&self, text: &str) -> String {
        text.replace('@', self.folder.to_str().expect("a plain path"))
    }

    /// Writes a file of the site; see [`serving`](Self::serving).
    #[track_caller]
    pub fn write(&self, name: &str, text: &str) {
        use std::os::unix::fs::PermissionsExt;
        let (text, path, aside) = (self.text(text), self.at(name), self.at("aside"));
        fs::write(&aside, &text).expect("writing a file");
        let mode = if text.starts_with("#!") { 0o755 } else { 0o644 };
        fs::set_permissions(&aside, fs::Permissions::from_mode(mode)).expect("chmod");
        fs::rename(&aside, &path).expect("renaming a file");
    }

    /// Starts the automounter and waits until its mount points are in place: Piton says so, also
    /// where those of an earlier one still are; autofs is seen by the mount table.
    #[track_caller]
    pub fn start(&mut self) {
        if let Some(mut earlier) = self.child.take() {
            // It has been killed.
            earlier.wait().expect("waiting");
        }
        let ready = self.at("ready");
        // An earlier one that was killed has left it.
        let _ = fs::remove_file(&ready);
        let mut command = match self.kind {
            Daemon::Piton => {
                let mut command = Command::new(PITON);
                command
                    .args(["daemon", "--foreground", "-d", "--master"])
                    .arg(self.at("auto.master"))
                    .arg("--pid-file")
                    .arg(&ready)
                    .env("PITON_RUNTIME_DIR", self.at("run"))
                    .args(&self.options);
                command
            }
            Daemon::Autofs => {
                let mut command = Command::new("automount");
                command
                    .args(["--foreground", "--debug", "--dont-check-daemon"])
                    .args(&self.options)
                    .arg(self.at("auto.master"));
                command
            }
        };
        let log = || {
            let file = fs::File::options()
                .create(true)
                .append(true)
                .open(self.at("log"));
            Stdio::from(file.expect("a log"))
        };
        let points = self.points();
        // The kernel triggers nothing for the daemon's process group.
        let child = command
            .stdin(Stdio::null())
            .stdout(log())
            .stderr(log())
            .process_group(0)
            .spawn()
            .expect("starting the automounter");
        self.child = Some(child);
        wait_until("the automounter is ready", LIMIT, || {
            let child = self.child.as_mut().expect("just started");
            let gone = child.try_wait().expect("waiting");
            assert!(gone.is_none(), "it ended at once:\n{}", self.log());
            match self.kind {
                Daemon::Piton => ready.exists(),
                Daemon::Autofs => {
                    let table = mount_table();
                    points.iter().all(|point| is_served(&table, point))
                }
            }
        });
    }

    /// The mount points of the master map.
    fn points(&self) -> Vec<String> {
        let master = fs::read_to_string(self.at("auto.master")).expect("the master map");
        let first = master
            .lines()
            .filter_map(|line| line.split_whitespace().next());
        let points = first.filter(|word| word.starts_with('/'));
        points.map(str::to_owned).collect()
    }

    /// What the automounter has said.
    pub fn log(&self) -> String {
        let log = fs::read(self.at("log")).unwrap_or_default();
        String::from_utf8_lossy(&log).into_owned()
    }

    /// The automounter's process.
    ///
    /// # Panics
    /// It does not run.
    #[track_caller]
    pub fn pid(&self) -> Pid {
        Pid::from_child(self.child.as_ref().expect("a running automounter"))
    }

    /// Sends the automounter a signal.
    #[track_caller]
    pub fn signal(&self, signal: Signal) {
        kill_process(self.pid(), signal).expect("sending a signal");
    }

    /// Ends the automounter by SIGTERM, and waits for it.
    ///
    /// # Panics
    /// It has not ended within `limit`.
    #[track_caller]
    pub fn stop(&mut self, limit: Duration) {
        self.signal(Signal::TERM);
        let mut child = self.child.take().expect("a running automounter");
        wait_until("the automounter ends", limit, || {
            child.try_wait().expect("waiting").is_some()
        });
    }

    /// Runs `piton` as a client of this site's daemon.
    pub fn piton(&self, words: &[&str]) -> Output {
        Command::new(PITON)
            .args(words.iter().map(|word| self.text(word)))
            .env("PITON_RUNTIME_DIR", self.at("run"))
            .stdin(Stdio::null())
            .output()
            .expect("running piton")
    }

    /// The same; it must succeed. Returns what it printed.
    #[track_caller]
    pub fn piton_ok(&self, words: &[&str]) -> String {
        let output = self.piton(words);
        let errors = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "piton {words:?}: {errors}");
        String::from_utf8_lossy(&output.stdout).into_owned()
    }

    /// The same, for output in JSON.
    #[track_caller]
    pub fn piton_json(&self, words: &[&str]) -> serde_json::Value {
        let text = self.piton_ok(words);
        serde_json::from_str(&text).unwrap_or_else(|error| panic!("{words:?}: {error}: {text}"))
    }

    /// Begins to read a file of the site.
    pub fn reading(&self, tail: &str) -> Touch {
        Touch::read(self.at(tail))
    }

    /// Reads a file, which must be over within a minute.
    #[track_caller]
    pub fn read(&self, tail: &str) -> Touched {
        self.reading(tail).within(LIMIT)
    }

    /// Lists a directory, which must be over within a minute.
    #[track_caller]
    pub fn list(&self, tail: &str) -> Touched {
        Touch::list(self.at(tail)).within(LIMIT)
    }

    /// What is mounted at a path, triggers apart.
    pub fn mounted(&self, tail: &str) -> Option<MountLine> {
        mounted_at(self.at(tail)).filter(|line| line.fstype != "autofs")
    }

    /// All that is mounted below the site's folder, triggers apart, in the kernel's order.
    pub fn mounts(&self) -> Vec<MountLine> {
        let below = |line: &MountLine| Path::new(&line.point).starts_with(&self.folder);
        let mut table = mount_table();
        table.retain(|line| line.fstype != "autofs" && below(line));
        table
    }
}

/// Whether a mount point of the master map is there; of a direct map, whether any is.
fn is_served(table: &[MountLine], point: &str) -> bool {
    let mut triggers = table.iter().filter(|line| line.fstype == "autofs");
    triggers.any(|line| line.point == point || point == "/-" && line.has("direct"))
}

impl Drop for Site {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("-- the log of {:?} --\n{}", self.kind, self.log());
        }
        if let Some(child) = &mut self.child {
            // It may have ended by itself. Its descendants go with the guest.
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}
