//! A file system mounted for a test, its owner, and a server in a process of its own.
#![allow(dead_code, reason = "each test program uses a part of it")]

use std::collections::VecDeque;
use std::os::unix::fs::{PermissionsExt, chown};
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Child, Command, Output, Stdio};
use std::sync::{Arc, Condvar, Mutex};
use std::time::Duration;
use std::{fs, io};

use bstr::{BString, ByteSlice};
use piton_fuse::{Audience, Mount, Settings};
use piton_loopback::{Access, Duty, Owner, Purpose, RootId, RootKind, Secret, Tree};
use piton_testkit::{Scratch, wait_until};
use rustix::fs::{CWD, FileType, Mode, makedev, mknodat};
use rustix::io::Errno;

/// How long an answer may take.
pub(crate) const PATIENCE: Duration = Duration::from_secs(60);

pub(crate) const HOME: RootId = RootId(1);
pub(crate) const NOBODY: u32 = 65534;

/// A directory, with these names listed.
pub(crate) fn tree(names: usize) -> Tree {
    let tree = Tree::new(Secret::new(*b"test test test!!"));
    tree.add(HOME, "/home".into(), RootKind::Directory, 0o555)
        .unwrap();
    let names: Vec<BString> = (0..names).map(|n| key(n).into()).collect();
    tree.list(HOME, names.iter().map(|name| name.as_bstr()))
        .unwrap();
    tree
}

/// The name of a listed key.
pub(crate) fn key(number: usize) -> String {
    format!("key{number:03}")
}

pub(crate) fn settings(path: &str, tree: &Tree, owner: Arc<dyn Owner>) -> Settings {
    Settings {
        tree: tree.clone(),
        root: HOME,
        path: path.into(),
        source: "auto.test, and more".into(),
        audience: match rustix::process::geteuid().is_root() {
            true => Audience::Everybody,
            false => Audience::Owner,
        },
        owner,
    }
}

/// Keeps what it is asked, until the test answers.
#[derive(Default)]
pub(crate) struct Desk {
    asked: Mutex<VecDeque<(Access, Duty)>>,
    bell: Condvar,
}

impl Desk {
    /// The next question.
    #[track_caller]
    pub(crate) fn next(&self) -> (Access, Duty) {
        let asked = self.asked.lock().unwrap();
        let (mut asked, late) = self
            .bell
            .wait_timeout_while(asked, PATIENCE, |asked| asked.is_empty())
            .unwrap();
        assert!(!late.timed_out(), "nothing was asked");
        asked.pop_front().unwrap()
    }

    /// The next question, which is to be this one.
    #[track_caller]
    pub(crate) fn expect(&self, name: &str, purpose: Purpose) -> Duty {
        let (access, duty) = self.next();
        assert_eq!((access.name, access.purpose), (name.into(), purpose));
        duty
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.asked.lock().unwrap().is_empty()
    }
}

impl Owner for Desk {
    fn access(&self, access: Access, duty: Duty) {
        self.asked.lock().unwrap().push_back((access, duty));
        self.bell.notify_all();
    }
}

/// Answers at once: names that begin with `absent` do not exist, those that begin with `slow` are
/// never answered for, all others lead to the same name in a directory.
pub(crate) struct Rules {
    pub(crate) tree: Tree,
    pub(crate) there: BString,
    pub(crate) unanswered: Mutex<Vec<Duty>>,
}

impl Rules {
    pub(crate) fn new(tree: &Tree, there: &str) -> Arc<Self> {
        Arc::new(Self {
            tree: tree.clone(),
            there: there.into(),
            unanswered: Mutex::default(),
        })
    }
}

impl Owner for Rules {
    fn access(&self, access: Access, duty: Duty) {
        if access.name.starts_with(b"absent") {
            return duty.fail(Errno::NOENT);
        }
        if access.name.starts_with(b"slow") {
            return self.unanswered.lock().unwrap().push(duty);
        }
        if access.purpose == Purpose::Follow {
            let mut target = self.there.clone();
            target.push(b'/');
            target.extend_from_slice(&access.name);
            let linked = self
                .tree
                .link(HOME, access.name.as_bstr(), target.as_bstr());
            linked.unwrap();
        }
        duty.ready();
    }
}

/// What a server in a process of its own is told: where to mount, and where links lead.
const SERVE: &str = "PITON_FUSE_TEST_SERVE";

/// A test that starts servers calls this first: in such a process it serves, until its standard
/// input ends, and the test is over.
pub(crate) fn serves() -> bool {
    let Ok(told) = std::env::var(SERVE) else {
        return false;
    };
    let (path, there) = told.split_once(':').unwrap();
    let tree = tree(1000);
    let mount = Mount::start(settings(path, &tree, Rules::new(&tree, there)));
    let mount = mount.unwrap_or_else(|error| panic!("{error}"));
    fs::write(ready(path), "").unwrap();
    io::copy(&mut io::stdin(), &mut io::sink()).unwrap();
    drop(mount);
    true
}

/// What a server writes when it has mounted.
fn ready(path: &str) -> String {
    format!("{path}.ready")
}

/// A server in a process of its own, as a user.
pub(crate) struct Served {
    pub(crate) child: Child,
    pub(crate) path: String,
}

impl Served {
    /// Has this test's program serve 1,000 keys in `net` of a scratch directory.
    #[track_caller]
    pub(crate) fn start(test: &str, scratch: &Scratch, uid: u32) -> Self {
        let path = scratch.at("net");
        let _ = fs::remove_file(ready(&path));
        let child = Self::command(test, scratch, uid)
            .stdin(Stdio::piped())
            .spawn();
        wait_until("it is mounted", PATIENCE, || {
            Path::new(&ready(&path)).exists()
        });
        Self {
            child: child.unwrap(),
            path,
        }
    }

    /// What becomes of one that cannot serve.
    pub(crate) fn attempt(test: &str, scratch: &Scratch, uid: u32) -> Output {
        let mut command = Self::command(test, scratch, uid);
        command.stdin(Stdio::null()).output().unwrap()
    }

    /// How such a process is started.
    pub(crate) fn command(test: &str, scratch: &Scratch, uid: u32) -> Command {
        let path = scratch.at("net");
        if rustix::fs::lstat(&path).is_err_and(|errno| errno == Errno::NOENT) {
            fs::create_dir(&path).unwrap();
            chown(&path, Some(uid), Some(uid)).unwrap();
        }
        // The build directory may be nobody else's business.
        let program = scratch.at("server");
        if !Path::new(&program).exists() {
            fs::copy(std::env::current_exe().unwrap(), &program).unwrap();
            fs::set_permissions(&program, fs::Permissions::from_mode(0o755)).unwrap();
        }
        let there = scratch.directory("there");
        let mut command = Command::new(&program);
        command
            .args([test, "--exact", "--nocapture"])
            .env(SERVE, format!("{path}:{there}"))
            .uid(uid)
            .gid(uid)
            .process_group(0);
        command
    }

    /// Ends it as a logout would not: nothing is unmounted.
    pub(crate) fn kill(mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }

    /// Ends it in good order.
    pub(crate) fn end(mut self) {
        drop(self.child.stdin.take());
        assert!(self.child.wait().unwrap().success());
    }
}

/// Lets everybody open /dev/fuse, as it is on machines that people work on.
pub(crate) fn open_fuse_to_everybody(scratch: &Scratch) {
    let node = scratch.at("fuse");
    let kind = FileType::CharacterDevice;
    mknodat(CWD, &node, kind, Mode::empty(), makedev(10, 229)).unwrap();
    fs::set_permissions(&node, fs::Permissions::from_mode(0o666)).unwrap();
    rustix::mount::mount_bind(&node, "/dev/fuse").unwrap();
}

/// A command of an ordinary user.
pub(crate) fn as_nobody(program: &str, arguments: &[&str]) -> Command {
    let mut command = Command::new(program);
    command.args(arguments).uid(NOBODY).gid(NOBODY);
    command
}
