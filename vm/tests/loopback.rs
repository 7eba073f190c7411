//! The kernel's client on the loopback server: what the older automounter stands on.

use std::ffi::CString;
use std::fs;
use std::io::ErrorKind;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use piton_loopback::{
    Access, Duty, Listener, Owner, Purpose, RootId, RootKind, Secret, Server, Tree,
};
use piton_vm::{LIMIT, Touch, in_the_guest, wait_until};
use rustix::fs::{CWD, Mode, OFlags};
use rustix::io::Errno;
use rustix::mount::{
    FsMountFlags, FsOpenFlags, MountAttrFlags, MountFlags, MoveMountFlags, UnmountFlags,
};

const HOME: RootId = RootId(1);
const MAN: RootId = RootId(2);

/// Where what is "mounted" lies: folders with a file.
const STAGING: &str = "/tmp_mnt";

/// Answers by the name: `absent…` does not exist, `slow…` is kept when it is to lead somewhere, and
/// `doubtful…` when it is to exist; all else leads to a folder.
struct House {
    tree: Tree,
    asked: Mutex<Vec<Access>>,
    kept: Mutex<Vec<(Access, Duty)>>,
}

impl House {
    fn lead(&self, access: &Access) {
        let to = format!("{STAGING}/{}", access.name);
        fs::create_dir_all(&to).unwrap();
        fs::write(format!("{to}/file"), format!("of {}", access.name)).unwrap();
        let to = to.as_str().into();
        self.tree
            .link(access.root, access.name.as_ref(), to)
            .unwrap();
    }

    fn asked(&self) -> Vec<(String, Purpose, u32)> {
        let asked = std::mem::take(&mut *self.asked.lock().unwrap());
        let asked = asked.into_iter();
        asked
            .map(|access| (access.name.to_string(), access.purpose, access.caller.uid))
            .collect()
    }

    /// The first thing that waits, once it does.
    fn kept(&self) -> (Access, Duty) {
        wait_until("somebody waits", LIMIT, || {
            !self.kept.lock().unwrap().is_empty()
        });
        self.kept.lock().unwrap().remove(0)
    }
}

impl Owner for House {
    fn access(&self, access: Access, duty: Duty) {
        self.asked.lock().unwrap().push(access.clone());
        if access.name.starts_with(b"absent") {
            duty.fail(Errno::NOENT);
        } else if access.purpose == Purpose::LookUp && !access.name.starts_with(b"doubtful") {
            duty.ready();
        } else if access.name.starts_with(b"slow") || access.purpose == Purpose::LookUp {
            self.kept.lock().unwrap().push((access, duty));
        } else {
            self.lead(&access);
            duty.ready();
        }
    }
}

struct Life {
    house: Arc<House>,
    server: Server,
    /// As the keeper holds it: who connects while nobody serves waits.
    held: OwnedFd,
}

impl Life {
    fn first() -> Self {
        in_the_guest();
        Self::with(Listener::reserved().unwrap())
    }

    fn with(listener: Listener) -> Self {
        let tree = Tree::new(Secret::new(*b"the same in each"));
        let add = |id, path: &str, kind| tree.add(id, path.into(), kind, 0o555).unwrap();
        add(HOME, "/home", RootKind::Directory);
        add(MAN, "/usr/man", RootKind::Link);
        let house = Arc::new(House {
            tree: tree.clone(),
            asked: Mutex::default(),
            kept: Mutex::default(),
        });
        let held = listener.as_fd().try_clone_to_owned().unwrap();
        Self {
            server: Server::start(listener, tree, house.clone()).unwrap(),
            house,
            held,
        }
    }

    /// The options of docs/older-automounter.md.
    fn options(&self) -> String {
        let port = self.server.address().port();
        format!(
            "vers=3,proto=tcp,port={port},mountvers=3,mountproto=tcp,mountport={port},nolock,noac,\
             lookupcache=positive,addr=127.0.0.1"
        )
    }

    fn mount(&self, at: &str) -> PathBuf {
        fs::create_dir_all(at).unwrap();
        let flags = MountFlags::RDONLY | MountFlags::NOSUID | MountFlags::NODEV;
        let options = CString::new(self.options()).unwrap();
        rustix::mount::mount("127.0.0.1:/home", at, "nfs", flags, options.as_c_str()).unwrap();
        at.into()
    }

    /// Mounts a link on what is no directory. mount(2) refuses to; the newer calls do not.
    fn mount_link(&self, at: &str) -> rustix::io::Result<()> {
        use rustix::mount::{
            fsconfig_create, fsconfig_set_flag, fsconfig_set_string, fsmount, fsopen, move_mount,
        };
        let fs = fsopen("nfs", FsOpenFlags::FSOPEN_CLOEXEC)?;
        fsconfig_set_string(&fs, "source", "127.0.0.1:/usr/man")?;
        for option in self.options().split(',') {
            match option.split_once('=') {
                Some((name, value)) => fsconfig_set_string(&fs, name, value)?,
                None => fsconfig_set_flag(&fs, option)?,
            }
        }
        fsconfig_create(&fs)?;
        let attributes = MountAttrFlags::MOUNT_ATTR_NOSUID | MountAttrFlags::MOUNT_ATTR_NODEV;
        let mount = fsmount(&fs, FsMountFlags::FSMOUNT_CLOEXEC, attributes)?;
        let flags = MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH;
        move_mount(&mount, "", CWD, at, flags)
    }
}

fn read(directory: &Path, name: &str) -> std::io::Result<String> {
    fs::read_to_string(directory.join(name).join("file"))
}

#[test]
fn a_walk_asks_whether_a_name_exists_and_where_it_leads_and_who_asks_is_told() {
    let life = Life::first();
    let home = life.mount("/home");
    assert_eq!(read(&home, "ann").unwrap(), "of ann");
    let questions = [Purpose::LookUp, Purpose::Follow];
    let expected = |name: &str, uid| questions.map(|purpose| (name.to_owned(), purpose, uid));
    assert_eq!(life.house.asked(), expected("ann", 0));
    assert_eq!(
        fs::read_link(home.join("ann")).unwrap(),
        Path::new("/tmp_mnt/ann")
    );
    read(&home, "ann").unwrap();
    assert!(
        life.house.asked().is_empty(),
        "what leads somewhere is not asked for"
    );
    let user = Command::new("cat")
        .arg(home.join("bob/file"))
        .uid(1000)
        .gid(1000)
        .output()
        .unwrap();
    assert_eq!(user.stdout, b"of bob");
    assert_eq!(life.house.asked(), expected("bob", 1000));
}

#[test]
fn what_changes_is_seen_at_once() {
    let life = Life::first();
    let tree = &life.house.tree;
    let home = life.mount("/home");
    read(&home, "ann").unwrap();
    for target in ["/one", "/two"] {
        tree.link(HOME, "ann".into(), target.into()).unwrap();
        assert_eq!(fs::read_link(home.join("ann")).unwrap(), Path::new(target));
    }
    let names = || {
        let entries = fs::read_dir(&home).unwrap();
        let mut names: Vec<String> = entries
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .collect();
        names.sort();
        names
    };
    assert_eq!(names(), ["ann"]);
    life.house.asked();
    // Unmounted again: the next walk asks.
    tree.unlink(HOME, "ann".into());
    assert!(names().is_empty());
    assert_eq!(read(&home, "ann").unwrap(), "of ann");
    assert_eq!(life.house.asked().len(), 2);
    assert_eq!(names(), ["ann"]);
    // A key that was absent may come, though nothing in the directory tells.
    let absent = || read(&home, "absent1").unwrap_err().kind();
    assert_eq!(
        (absent(), absent()),
        (ErrorKind::NotFound, ErrorKind::NotFound)
    );
    assert_eq!(life.house.asked().len(), 2, "it is asked each time");
    tree.list(HOME, ["listed".into()]).unwrap();
    assert_eq!(names(), ["ann", "listed"]);
    assert!(
        fs::symlink_metadata(home.join("listed"))
            .unwrap()
            .is_symlink()
    );
    assert!(life.house.asked().is_empty(), "looking mounts nothing");
    assert_eq!(read(&home, "listed").unwrap(), "of listed");
    // A root that is taken away.
    tree.remove(HOME);
    let gone = fs::read_dir(&home).unwrap_err();
    assert_eq!(gone.raw_os_error(), Some(Errno::STALE.raw_os_error()));
}

#[test]
fn nothing_can_be_made_there() {
    let life = Life::first();
    let home = life.mount("/home");
    let made = fs::create_dir(home.join("absent")).unwrap_err();
    assert_eq!(made.kind(), ErrorKind::ReadOnlyFilesystem);
    let made = fs::File::create(home.join("absent")).unwrap_err();
    assert_eq!(made.kind(), ErrorKind::ReadOnlyFilesystem);
    // Not even where it is mounted for writing.
    let flags = MountFlags::NOSUID | MountFlags::NODEV;
    rustix::mount::mount_remount(&home, flags, c"").unwrap();
    let mode = fs::Permissions::from_mode(0o777);
    let changed = fs::set_permissions(&home, mode).unwrap_err();
    assert_eq!(changed.kind(), ErrorKind::ReadOnlyFilesystem);
}

#[test]
fn a_slow_name_delays_no_other() {
    let life = Life::first();
    let home = life.mount("/home");
    let slow = Touch::read(home.join("slow/file"));
    let (access, duty) = life.house.kept();
    assert_eq!(&access.name[..], b"slow");
    for n in 0..20 {
        let name = format!("key{n}");
        assert_eq!(read(&home, &name).unwrap(), format!("of {name}"));
    }
    // Who wants to make something locks the directory, but nobody who waits has it locked.
    fs::File::create(home.join("absent")).unwrap_err();
    assert_eq!(fs::read_dir(&home).unwrap().count(), 20);
    assert!(slow.is_waiting());
    // Whoever waits can be killed.
    let mut impatient = Command::new("cat")
        .arg(home.join("slow2/file"))
        .spawn()
        .unwrap();
    let (_, other) = life.house.kept();
    impatient.kill().unwrap();
    impatient.wait().unwrap();
    drop(other);
    life.house.lead(&access);
    duty.ready();
    assert_eq!(slow.within(LIMIT).text(), "of slow");
    let failing = Touch::read(home.join("slow3/file"));
    life.house.kept().1.fail(Errno::ACCESS);
    let errno = Errno::ACCESS.raw_os_error();
    assert_eq!(failing.within(LIMIT).errno(), errno);
}

#[test]
fn a_look_up_stops_the_directory_no_longer_than_its_time() {
    let life = Life::first();
    let home = life.mount("/home");
    let doubtful = Touch::read(home.join("doubtful/file"));
    let (_, duty) = life.house.kept();
    // Alone it is in nobody's way. But who makes something waits for the directory, and all who come
    // after him wait for him.
    let making = Touch::write(home.join("absent"), "");
    std::thread::sleep(Duration::from_millis(300));
    let other = Touch::read(home.join("bob/file"));
    assert_eq!(other.within(LIMIT).text(), "of bob");
    assert_eq!(making.within(LIMIT).errno(), Errno::ROFS.raw_os_error());
    // The name is said to exist, and leads somewhere: nobody has to wait for what was asked first.
    assert_eq!(doubtful.within(LIMIT).text(), "of doubtful");
    duty.fail(Errno::NOENT);
}

#[test]
fn who_waits_while_the_server_dies_is_answered_by_the_next_one() {
    let first = Life::first();
    let home = first.mount("/home");
    read(&home, "ann").unwrap();
    let flags = OFlags::PATH | OFlags::NOFOLLOW;
    let link = rustix::fs::open(home.join("ann"), flags, Mode::empty()).unwrap();
    let slow = Touch::read(home.join("slow/file"));
    let (_, duty) = first.house.kept();
    drop(first.server);
    drop(duty);
    std::thread::sleep(Duration::from_millis(500));
    assert!(slow.is_waiting(), "an end is not an answer");
    // Somebody comes while nobody serves.
    let late = Touch::read(home.join("late/file"));
    let begun = Instant::now();
    let second = Life::with(Listener::inherited(first.held).unwrap());
    let (access, duty) = second.house.kept();
    second.house.lead(&access);
    duty.ready();
    assert_eq!(slow.within(LIMIT).text(), "of slow");
    assert_eq!(late.within(LIMIT).text(), "of late");
    println!(
        "answered {:?} after the start of the next one",
        begun.elapsed()
    );
    // What is in hand is what it was, once it is there again.
    let to = "/elsewhere";
    second
        .house
        .tree
        .link(HOME, "ann".into(), to.into())
        .unwrap();
    let read = rustix::fs::readlinkat(&link, "", Vec::new()).unwrap();
    assert_eq!(read.to_bytes(), to.as_bytes());
}

#[test]
fn a_direct_mount_point_is_a_link_mounted_on_a_file() {
    let life = Life::first();
    fs::create_dir_all("/usr/man").unwrap();
    let refused = life.mount_link("/usr/man").unwrap_err();
    assert_eq!(refused, Errno::INVAL, "not on a directory");
    fs::remove_dir("/usr/man").unwrap();
    fs::write("/usr/man", "").unwrap();
    life.mount_link("/usr/man").unwrap();
    let meta = fs::symlink_metadata("/usr/man").unwrap();
    assert!(meta.is_symlink());
    assert!(life.house.asked().is_empty());
    assert_eq!(read(Path::new("/usr"), "man").unwrap(), "of ");
    assert_eq!(life.house.asked(), [(String::new(), Purpose::Follow, 0)]);
    life.house.tree.link(MAN, "".into(), "/etc".into()).unwrap();
    assert!(Path::new("/usr/man/passwd").exists());
    assert!(
        piton_vm::mounted_at("/usr/man")
            .iter()
            .any(|line| line.fstype == "nfs")
    );
    // Without NOFOLLOW that would be what it leads to.
    rustix::mount::unmount("/usr/man", UnmountFlags::NOFOLLOW).unwrap();
    assert!(fs::symlink_metadata("/usr/man").unwrap().is_file());
}

#[test]
fn a_hundred_thousand_names_are_listed_and_a_hundred_walked() {
    let life = Life::first();
    let home = life.mount("/home");
    let names: Vec<String> = (0..100_000).map(|n| format!("user{n}")).collect();
    let listed = names.iter().map(|name| name.as_str().into());
    life.house.tree.list(HOME, listed).unwrap();
    let begun = Instant::now();
    let mut shown: Vec<String> = fs::read_dir(&home)
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    println!("100,000 names listed in {:?}", begun.elapsed());
    shown.sort();
    let mut names = names;
    names.sort();
    assert_eq!(shown, names);
    assert!(life.house.asked().is_empty());
    for name in &names[..100] {
        assert_eq!(read(&home, name).unwrap(), format!("of {name}"));
    }
    assert_eq!(life.house.asked().len(), 100);
}
