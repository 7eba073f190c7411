//! A site to test with: maps in a scratch directory and a daemon that serves them. Used inside
//! a private mount namespace.

use std::fs;
use std::io::Read;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::time::Duration;

use piton_testkit::{Scratch, mount_table, mounted_at, wait_until};
use rustix::process::{Pid, Signal, kill_process, kill_process_group};

/// Longest wait for anything that must happen, also where many others work.
pub(crate) const LIMIT: Duration = Duration::from_secs(60);

/// Maps, and perhaps a daemon.
pub(crate) struct Site {
    /// Maps, mount points and what is mounted.
    pub(crate) scratch: Scratch,
    daemon: Option<Child>,
    options: Vec<String>,
    environment: Vec<(String, String)>,
}

impl Site {
    /// A site whose files' texts may use `@` for the scratch directory's path.
    pub(crate) fn new(files: &[(&str, &str)]) -> Self {
        let site = Self {
            scratch: Scratch::new(),
            daemon: None,
            options: Vec::new(),
            environment: Vec::new(),
        };
        for (name, text) in files {
            site.write(name, text);
        }
        site
    }

    /// The same, with a daemon running on the file `auto.master`.
    pub(crate) fn serving(files: &[(&str, &str)]) -> Self {
        let mut site = Self::new(files);
        site.start();
        site
    }

    /// Further options for the daemon.
    pub(crate) fn with_options(mut self, options: &[&str]) -> Self {
        self.options = options
            .iter()
            .map(|word| word.replace('@', &self.root()))
            .collect();
        self
    }

    /// Variables in the daemon's environment.
    pub(crate) fn set_environment(&mut self, variables: &[(&str, &str)]) {
        let root = self.root();
        let with_root = |(name, value): &(&str, &str)| ((*name).into(), value.replace('@', &root));
        self.environment = variables.iter().map(with_root).collect();
    }

    /// The scratch directory's path.
    pub(crate) fn root(&self) -> String {
        self.scratch
            .path()
            .to_str()
            .expect("a plain path")
            .to_owned()
    }

    /// A path in the scratch directory.
    pub(crate) fn at(&self, tail: &str) -> PathBuf {
        self.scratch.path().join(tail)
    }

    /// A text with the scratch directory's path in place of `@`.
    pub(crate) fn text(&self, text: &str) -> String {
        text.replace('@', &self.root())
    }

    /// Writes a file; `@` becomes the scratch directory's path, a text that begins with `#!` a
    /// program.
    pub(crate) fn write(&self, name: &str, text: &str) {
        let text = text.replace('@', &self.root());
        let path = self.at(name);
        fs::create_dir_all(path.parent().expect("a parent")).expect("making a directory");
        let aside = path.with_extension("new");
        fs::write(&aside, &text).expect("writing a file");
        if text.starts_with("#!") {
            use std::os::unix::fs::PermissionsExt;
            fs::set_permissions(&aside, fs::Permissions::from_mode(0o755)).expect("chmod");
        }
        fs::rename(&aside, &path).expect("renaming a file");
    }

    /// Shows files of the site in the place of those in /etc, in this mount namespace.
    pub(crate) fn bind_over_etc(&self, names: &[&str]) {
        for name in names {
            let bound = Command::new("mount")
                .arg("--bind")
                .arg(self.at(name))
                .arg(fs::canonicalize(format!("/etc/{name}")).expect("a file"))
                .status();
            assert!(bound.expect("mount(8)").success());
        }
    }

    /// Starts the daemon and waits until its mount points are in place.
    pub(crate) fn start(&mut self) {
        let log = || {
            let options = fs::File::options()
                .create(true)
                .append(true)
                .open(self.at("log"));
            Stdio::from(options.expect("a log"))
        };
        let ready = self.at("ready");
        let _ = fs::remove_file(&ready);
        let child = Command::new(env!("CARGO_BIN_EXE_piton"))
            .args(["daemon", "--foreground", "-d", "--master"])
            .arg(self.at("auto.master"))
            .arg("--pid-file")
            .arg(&ready)
            .args(&self.options)
            .env("PITON_RUNTIME_DIR", self.at("run"))
            .envs(self.environment.iter().cloned())
            .stdin(Stdio::null())
            .stdout(log())
            .stderr(log())
            .process_group(0)
            .spawn()
            .expect("starting the daemon");
        self.daemon = Some(child);
        wait_until("the daemon is ready", LIMIT, || {
            let gone = self
                .daemon
                .as_mut()
                .expect("a daemon")
                .try_wait()
                .expect("waiting");
            assert!(gone.is_none(), "the daemon ended at once:\n{}", self.log());
            ready.exists()
        });
    }

    /// What the daemon has said.
    pub(crate) fn log(&self) -> String {
        fs::read_to_string(self.at("log")).unwrap_or_default()
    }

    /// Sends the daemon a signal.
    pub(crate) fn signal(&self, signal: Signal) {
        let child = self.daemon.as_ref().expect("a running daemon");
        kill_process(Pid::from_child(child), signal).expect("sending a signal");
    }

    /// Whether this process is the one that was started: the keeper.
    pub(crate) fn is_keeper(&self, pid: Pid) -> bool {
        self.daemon
            .as_ref()
            .is_some_and(|child| Pid::from_child(child) == pid)
    }

    /// Runs `piton` as a client of the daemon.
    pub(crate) fn piton(&self, words: &[&str]) -> Output {
        Command::new(env!("CARGO_BIN_EXE_piton"))
            .args(words.iter().map(|word| word.replace('@', &self.root())))
            .env("PITON_RUNTIME_DIR", self.at("run"))
            .envs(self.environment.iter().cloned())
            .stdin(Stdio::null())
            .output()
            .expect("running piton")
    }

    /// The same; it must succeed. Returns what it printed.
    #[track_caller]
    pub(crate) fn piton_ok(&self, words: &[&str]) -> String {
        let output = self.piton(words);
        let errors = String::from_utf8_lossy(&output.stderr);
        assert!(
            output.status.success(),
            "piton {words:?}: {errors}\n{}",
            self.log()
        );
        String::from_utf8_lossy(&output.stdout).into_owned()
    }

    /// Waits until the daemon has ended by itself; its exit status must be 0.
    #[track_caller]
    pub(crate) fn wait_for_end(&mut self) {
        let mut child = self.daemon.take().expect("a running daemon");
        let mut status = None;
        wait_until("the daemon ends", LIMIT, || {
            status = child.try_wait().expect("waiting");
            status.is_some()
        });
        assert!(
            status.is_some_and(|status| status.success()),
            "{status:?}\n{}",
            self.log()
        );
    }

    /// Kills the daemon and its keeper at once.
    pub(crate) fn kill(&mut self) {
        let mut child = self.daemon.take().expect("a running daemon");
        kill_all(&mut child);
    }

    /// Ends the daemon by SIGTERM and checks that nothing of it is left.
    #[track_caller]
    pub(crate) fn end(mut self) {
        self.signal(Signal::TERM);
        self.wait_for_end();
        assert_eq!(
            self.mounts(),
            Vec::<String>::new(),
            "left mounted\n{}",
            self.log()
        );
    }

    /// What is mounted below the scratch directory: `path type source`, in the kernel's order.
    pub(crate) fn mounts(&self) -> Vec<String> {
        let root = self.root();
        mount_table()
            .into_iter()
            .filter_map(|line| {
                let path = line.point.strip_prefix(&root)?.to_owned();
                (!path.is_empty()).then(|| format!("{path} {}", line.fstype))
            })
            .collect()
    }

    /// How many times something other than a trigger is mounted at a path.
    pub(crate) fn count(&self, tail: &str) -> usize {
        let start = format!("/{tail} ");
        let real = |line: &&String| line.starts_with(&start) && !line.ends_with(" autofs");
        self.mounts().iter().filter(real).count()
    }

    /// Whether something other than a trigger is mounted at a path.
    pub(crate) fn is_mounted(&self, tail: &str) -> bool {
        mounted_at(self.at(tail)).is_some_and(|line| line.fstype != "autofs")
    }

    /// The names in a directory.
    #[track_caller]
    pub(crate) fn names(&self, tail: &str) -> Vec<String> {
        names(&self.at(tail)).unwrap_or_else(|error| panic!("{tail}: {error}\n{}", self.log()))
    }

    /// The errno of listing a directory that cannot be listed.
    #[track_caller]
    pub(crate) fn errno(&self, tail: &str) -> i32 {
        match names(&self.at(tail)) {
            Ok(names) => panic!("{tail} could be listed: {names:?}\n{}", self.log()),
            Err(error) => error.raw_os_error().expect("an errno"),
        }
    }

    /// A shell that has gone to a path and is somewhere else now.
    #[track_caller]
    pub(crate) fn visitor(&self, tail: &str) -> Visitor {
        let mut shell = Command::new("sh");
        shell.args(["-c", "cd \"$0\"; cd /; echo; read end"]);
        shell.arg(self.at(tail));
        shell.stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut child = shell.stderr(Stdio::null()).spawn().expect("a shell");
        let mut said = [0];
        let mut output = child.stdout.take().expect("its output");
        output.read_exact(&mut said).expect("it has been there");
        Visitor(child)
    }

    /// Waits until `test` holds.
    #[track_caller]
    pub(crate) fn wait(&self, what: &str, test: impl FnMut(&Self) -> bool) {
        let mut test = test;
        wait_until(what, LIMIT, || test(self));
    }
}

impl Drop for Site {
    fn drop(&mut self) {
        if let Some(child) = &mut self.daemon {
            kill_all(child);
        }
        if std::thread::panicking() {
            eprintln!("-- the daemon's log --\n{}", self.log());
        }
    }
}

/// A process that has touched a path. Who asks is looked at right after the answer: it lives until it is
/// dropped, so that there is something to look at.
pub(crate) struct Visitor(Child);

impl Drop for Visitor {
    fn drop(&mut self) {
        self.0.kill().expect("killing");
        self.0.wait().expect("waiting");
    }
}

/// Kills a process and those of its group: it leads one of its own.
fn kill_all(child: &mut Child) {
    // All of them may have ended by themselves.
    let _ = kill_process_group(Pid::from_child(child), Signal::KILL);
    child.wait().expect("waiting");
}

/// The names in a directory, sorted.
pub(crate) fn names(path: &Path) -> std::io::Result<Vec<String>> {
    let mut names: Vec<String> = fs::read_dir(path)?
        .map(|entry| Ok(entry?.file_name().to_string_lossy().into_owned()))
        .collect::<std::io::Result<_>>()?;
    names.sort();
    Ok(names)
}
