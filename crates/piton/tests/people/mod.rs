//! Ordinary users who automount for themselves: each with a home, a session's directory and a daemon
//! that has no capability. Used inside a private mount namespace.

use std::fs::{self, Permissions};
use std::os::unix::fs::{PermissionsExt, chown};
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Child, Command, Output, Stdio};
use std::time::Duration;

use piton_testkit::{Access, Answer, MountLine, Scratch, mount_table, wait_until};
use rustix::fs::{CWD, FileType, Mode, makedev, mknodat};
use rustix::process::{Pid, Signal, kill_process};

/// Longest wait for anything that must happen.
pub(crate) const LIMIT: Duration = Duration::from_secs(60);

/// Most users of a test.
const MOST: u32 = 16;

/// The first user's number: other tests, which run at the same time, have other users.
fn first() -> u32 {
    100_000 + std::process::id() * MOST
}

/// A machine that people work on: everybody may open /dev/fuse and run `piton`.
pub(crate) struct Machine {
    pub(crate) scratch: Scratch,
    users: u32,
}

impl Machine {
    /// With so many users, who are in /etc/passwd.
    pub(crate) fn new(users: u32) -> Self {
        assert!(users <= MOST);
        let scratch = Scratch::new();
        let node = scratch.at("fuse");
        let kind = FileType::CharacterDevice;
        mknodat(CWD, &node, kind, Mode::empty(), makedev(10, 229)).unwrap();
        fs::set_permissions(&node, Permissions::from_mode(0o666)).unwrap();
        rustix::mount::mount_bind(&node, "/dev/fuse").unwrap();
        fs::set_permissions(scratch.path(), Permissions::from_mode(0o755)).unwrap();
        // The build directory may be nobody else's business.
        let program = scratch.at("piton");
        fs::copy(env!("CARGO_BIN_EXE_piton"), &program).unwrap();
        fs::set_permissions(&program, Permissions::from_mode(0o755)).unwrap();
        let mut everybody = fs::read_to_string("/etc/passwd").unwrap();
        for number in 0..users {
            let (uid, home) = (first() + number, scratch.at(&format!("home{number}")));
            everybody += &format!("user{number}:x:{uid}:{uid}::{home}:/bin/sh\n");
        }
        let passwd = scratch.file("passwd", everybody);
        fs::set_permissions(&passwd, Permissions::from_mode(0o644)).unwrap();
        rustix::mount::mount_bind(&passwd, "/etc/passwd").unwrap();
        Self { scratch, users }
    }

    /// One of the users, whose files' texts may use `@` for his home.
    pub(crate) fn user(&self, number: u32, files: &[(&str, &str)]) -> User {
        assert!(number < self.users);
        let user = User {
            uid: first() + number,
            home: self.scratch.directory(&format!("home{number}")),
            session: self.scratch.directory(&format!("session{number}")),
            program: self.scratch.at("piton"),
            daemon: None,
        };
        user.owns(&user.home);
        user.owns(&user.session);
        fs::set_permissions(&user.session, Permissions::from_mode(0o700)).unwrap();
        for (name, text) in files {
            user.write(name, text);
        }
        user
    }
}

/// An ordinary user.
pub(crate) struct User {
    pub(crate) uid: u32,
    pub(crate) home: String,
    pub(crate) session: String,
    program: String,
    daemon: Option<Child>,
}

impl User {
    /// A path in his home.
    pub(crate) fn at(&self, tail: &str) -> String {
        format!("{}/{tail}", self.home)
    }

    fn owns(&self, path: &str) {
        chown(path, Some(self.uid), Some(self.uid)).unwrap();
    }

    /// Writes a file of his, with the directories above it.
    pub(crate) fn write(&self, name: &str, text: &str) {
        let path = self.at(name);
        let mut above = Path::new(name).parent();
        fs::create_dir_all(Path::new(&path).parent().unwrap()).unwrap();
        while let Some(directory) = above.filter(|path| !path.as_os_str().is_empty()) {
            self.owns(&self.at(directory.to_str().unwrap()));
            above = directory.parent();
        }
        fs::write(&path, text.replace('@', &self.home)).unwrap();
        self.owns(&path);
        let mode = if text.starts_with("#!") { 0o700 } else { 0o600 };
        fs::set_permissions(&path, Permissions::from_mode(mode)).unwrap();
    }

    /// A command of his, in a process group of its own.
    pub(crate) fn command(&self, program: &str) -> Command {
        let mut command = Command::new(program);
        command
            .uid(self.uid)
            .gid(self.uid)
            .process_group(0)
            .current_dir("/")
            .env("HOME", &self.home)
            .env("XDG_RUNTIME_DIR", &self.session)
            .env_remove("XDG_CONFIG_HOME")
            .env_remove("PITON_RUNTIME_DIR")
            .stdin(Stdio::null());
        command
    }

    /// Starts his daemon, on his own master map and `net` in his home.
    pub(crate) fn start(&mut self) {
        self.start_with(&[]);
    }

    /// The same with further options.
    pub(crate) fn start_with(&mut self, options: &[&str]) {
        let ready = self.at("ready");
        let _ = fs::remove_file(&ready);
        let log = || {
            let file = fs::File::options()
                .create(true)
                .append(true)
                .open(self.at("log"));
            Stdio::from(file.unwrap())
        };
        let mut command = self.command(&self.program);
        command.args(["daemon", "--foreground", "-d", "--pid-file", &ready]);
        command.args(["--fuse", &self.at("net")]).args(options);
        command
            .env("PATH", self.at("bin") + ":/usr/bin:/bin:/usr/sbin")
            .env("SSH_AUTH_SOCK", self.at("agent"))
            .env("KRB5CCNAME", "FILE:tickets")
            .env("NOT_FOR_HELPERS", "secret");
        command.stdout(log()).stderr(log());
        let child = command.spawn().unwrap();
        self.daemon = Some(child);
        wait_until("the daemon is ready", LIMIT, || {
            let gone = self.daemon.as_mut().unwrap().try_wait().unwrap();
            assert!(gone.is_none(), "the daemon ended at once:\n{}", self.log());
            Path::new(&ready).exists()
        });
    }

    /// Runs his daemon by a command of its own.
    pub(crate) fn run(&mut self, mut command: Command) {
        self.daemon = Some(command.spawn().unwrap());
    }

    /// The keeper's process.
    pub(crate) fn keeper(&self) -> Pid {
        Pid::from_child(self.daemon.as_ref().unwrap())
    }

    /// The daemon proper's.
    pub(crate) fn daemon(&self) -> Pid {
        let status = self.piton_ok(&["status", "--json"]);
        let text = status.split_once("\"daemon\"").unwrap().1;
        let digits = |text: &str| {
            text.chars()
                .take_while(char::is_ascii_digit)
                .collect::<String>()
        };
        let number = text.split_once("\"pid\":").unwrap().1.trim_start();
        Pid::from_raw(digits(number).parse().unwrap()).unwrap()
    }

    /// What his daemon has said.
    pub(crate) fn log(&self) -> String {
        fs::read_to_string(self.at("log")).unwrap_or_default()
    }

    /// Waits until his daemon has ended by itself, with exit status 0.
    #[track_caller]
    pub(crate) fn wait_for_end(&mut self) {
        let mut child = self.daemon.take().unwrap();
        let mut status = None;
        wait_until("the daemon ends", LIMIT, || {
            status = child.try_wait().unwrap();
            status.is_some()
        });
        assert!(status.unwrap().success(), "{status:?}\n{}", self.log());
    }

    /// Ends his daemon as the end of a session does: with SIGTERM.
    #[track_caller]
    pub(crate) fn log_out(&mut self) {
        kill_process(self.keeper(), Signal::TERM).unwrap();
        self.wait_for_end();
    }

    /// Kills all of his processes at once, so that nothing can be tidied up.
    pub(crate) fn kill_all(&mut self) {
        wait_until("all are dead", LIMIT, || {
            // One may have started another meanwhile.
            let all = self.processes();
            for process in &all {
                let _ = kill_process(*process, Signal::KILL);
            }
            all.is_empty()
        });
        if let Some(mut child) = self.daemon.take() {
            child.wait().unwrap();
        }
    }

    /// His processes that live.
    pub(crate) fn processes(&self) -> Vec<Pid> {
        let his = |pid: &str| {
            let status = fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
            let line = |name: &str| status.lines().find_map(|line| line.strip_prefix(name));
            let uid = line("Uid:")?.split_whitespace().next()?.parse::<u32>();
            // The first thread may be dead while others still hold what is open.
            let threads = fs::read_dir(format!("/proc/{pid}/task")).ok()?.count();
            let lives = !line("State:")?.contains('Z') || threads > 1;
            (uid == Ok(self.uid) && lives).then_some(())?;
            Pid::from_raw(pid.parse().ok()?)
        };
        let all = fs::read_dir("/proc").unwrap();
        all.filter_map(|entry| his(entry.unwrap().file_name().to_str()?))
            .collect()
    }

    /// Those that run a program of this name.
    pub(crate) fn running(&self, program: &str) -> Vec<Pid> {
        let runs = |pid: &Pid| {
            let name = fs::read_to_string(format!("/proc/{pid}/comm"));
            name.is_ok_and(|name| name.trim_end() == program)
        };
        self.processes().into_iter().filter(runs).collect()
    }

    /// Sends a signal to each of these.
    pub(crate) fn signal(&self, processes: &[Pid], signal: Signal) {
        for process in processes {
            // One may have ended by itself.
            let _ = kill_process(*process, signal);
        }
    }

    /// Reads a file.
    pub(crate) fn read(&self, path: &str) -> Access {
        let mut command = self.command("cat");
        command.args(["--", path]);
        Access::start(command)
    }

    /// Reads a file below his automounts, which must work.
    #[track_caller]
    pub(crate) fn text(&self, tail: &str) -> String {
        let Answer { text, errno, .. } = self.read(&self.at(tail)).wait(LIMIT);
        assert_eq!(errno, None, "{tail}\n{}", self.log());
        text
    }

    /// The errno of reading a file there, which must fail.
    #[track_caller]
    pub(crate) fn errno(&self, tail: &str) -> i32 {
        let answer = self.read(&self.at(tail)).wait(LIMIT);
        answer
            .errno
            .unwrap_or_else(|| panic!("{tail} can be read\n{}", self.log()))
    }

    /// Has a process of his stay in a directory.
    pub(crate) fn stay(&self, tail: &str) -> Child {
        let mut shell = self.command("sh");
        shell.args(["-c", "cd \"$0\" && exec sleep 1000", &self.at(tail)]);
        let shell = shell.spawn().unwrap();
        wait_until("somebody is in it", LIMIT, || {
            !self.running("sleep").is_empty()
        });
        shell
    }

    /// Runs `piton` for him.
    pub(crate) fn piton(&self, words: &[&str]) -> Output {
        let mut command = self.command(&self.program);
        command.args(words).output().unwrap()
    }

    /// The same; it must succeed.
    #[track_caller]
    pub(crate) fn piton_ok(&self, words: &[&str]) -> String {
        let output = self.piton(words);
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{words:?}: {said}\n{}", self.log());
        String::from_utf8_lossy(&output.stdout).into_owned()
    }

    /// What is mounted in his home and his session's directory.
    pub(crate) fn mounts(&self) -> Vec<MountLine> {
        let below = |line: &MountLine, top: &str| line.point.starts_with(&format!("{top}/"));
        let mut lines = mount_table();
        lines.retain(|line| below(line, &self.home) || below(line, &self.session));
        lines
    }

    /// How many of these have this type.
    pub(crate) fn count(&self, fstype: &str) -> usize {
        let all = self.mounts();
        all.iter().filter(|line| line.fstype == fstype).count()
    }
}

impl Drop for User {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("-- the log of user {} --\n{}", self.uid, self.log());
        }
        self.kill_all();
    }
}

/// A file server of a user's own on the loopback interface, to which his key is the way in.
pub(crate) struct Ssh {
    server: Child,
}

/// The only port of the private network that is used.
const PORT: u16 = 2222;

impl Ssh {
    /// Starts it, and writes what his `ssh` needs to know into `.ssh/config`: the host `there`.
    pub(crate) fn start(user: &User) -> Self {
        user.write(
            ".ssh/config",
            &format!(
                "Host there\n HostName 127.0.0.1\n Port {PORT}\n IdentityFile @/.ssh/id\n \
             UserKnownHostsFile @/.ssh/known\n StrictHostKeyChecking yes\n BatchMode yes\n"
            ),
        );
        for key in ["id", "host"] {
            let mut make = user.command("ssh-keygen");
            make.args([
                "-q",
                "-t",
                "ed25519",
                "-N",
                "",
                "-f",
                &user.at(&format!(".ssh/{key}")),
            ]);
            assert!(make.status().unwrap().success());
        }
        let public = |key: &str| fs::read_to_string(user.at(&format!(".ssh/{key}.pub"))).unwrap();
        user.write(".ssh/authorized", &public("id"));
        user.write(
            ".ssh/known",
            &format!("[127.0.0.1]:{PORT} {}", public("host")),
        );
        user.write("sshd", &format!(
            "ListenAddress 127.0.0.1:{PORT}\nHostKey @/.ssh/host\nAuthorizedKeysFile @/.ssh/authorized\n\
             StrictModes no\nUsePAM no\nPidFile none\nSubsystem sftp internal-sftp\n"
        ));
        let log = fs::File::create(user.at("sshd.log")).unwrap();
        // It wants to know its own path.
        let mut command = user.command("/usr/sbin/sshd");
        command
            .args(["-D", "-e", "-f", &user.at("sshd")])
            .stderr(log);
        let server = command.spawn().unwrap();
        wait_until("the server listens", LIMIT, || {
            std::net::TcpStream::connect(("127.0.0.1", PORT)).is_ok()
        });
        Self { server }
    }
}

impl Drop for Ssh {
    fn drop(&mut self) {
        let _ = self.server.kill();
        let _ = self.server.wait();
    }
}

/// Makes an image with a file `text` that says this.
pub(crate) fn image(user: &User, name: &str, text: &str) {
    user.write(&format!("{name}.d/text"), text);
    let mut make = Command::new("mksquashfs");
    make.args([
        &user.at(&format!("{name}.d")),
        &user.at(name),
        "-quiet",
        "-no-progress",
    ]);
    assert!(make.stdout(Stdio::null()).status().unwrap().success());
    user.owns(&user.at(name));
}
