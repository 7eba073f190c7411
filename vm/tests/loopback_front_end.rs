//! The loopback front end under the kernel's own client keeps what is asked of every front end.

use std::fs;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::ffi::OsStringExt;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use autofs::RequestTable;
use bstr::{BStr, BString};
use piton_engine::cause::Errno;
use piton_frontend::conformance::{Ending, World};
use piton_frontend::{
    FrontEnd, Incoming, KernelSeat, LoopbackFrontEnd, LoopbackSettings, Ticket, Triggers,
    conformance,
};
use piton_loopback::Listener;
use piton_plan::step::{TriggerId, TriggerKind, TriggerSpec};
use piton_vm::{LIMIT, Touch, Touched, in_the_guest, mounted_at, run, wait_until};
use rustix::mount::UnmountFlags;

/// What the keeper would hold.
struct Kept {
    listener: OwnedFd,
    table: OwnedFd,
}

impl Kept {
    fn new() -> Self {
        in_the_guest();
        let (listener, table) = (Listener::reserved().unwrap(), RequestTable::new().unwrap());
        Self {
            listener: listener.as_fd().try_clone_to_owned().unwrap(),
            table: table.as_fd().try_clone_to_owned().unwrap(),
        }
    }

    fn front_end(&self) -> LoopbackFrontEnd {
        let copy = |fd: &OwnedFd| fd.try_clone().unwrap();
        LoopbackFrontEnd::new(LoopbackSettings {
            listener: Listener::inherited(copy(&self.listener)).unwrap(),
            secret: *b"the same in each",
            table: RequestTable::from_fd(copy(&self.table)).unwrap(),
            staging: "/tmp_mnt".into(),
            seat: Box::new(KernelSeat),
            witness: None,
        })
        .unwrap()
    }
}

fn spec(id: u32, kind: TriggerKind, path: &str) -> TriggerSpec {
    fs::create_dir_all(path).unwrap();
    TriggerSpec {
        id: TriggerId(id),
        kind,
        path: path.into(),
        source: "test".into(),
        timeout: 300,
        strict_expire: false,
        mode: None,
        propagation: piton_map::options::Propagation::default(),
    }
}

fn access(front_end: &LoopbackFrontEnd, expected: &str) -> Ticket {
    let mut incoming = None;
    wait_until("an access", LIMIT, || {
        incoming = match front_end.next().unwrap() {
            // Whatever is asked for exists.
            Some(Incoming::Exists { ticket, .. }) => {
                ticket.ready();
                None
            }
            other => other,
        };
        incoming.is_some()
    });
    match incoming {
        Some(Incoming::Access { key, ticket, .. }) if key == expected => ticket,
        other => panic!("an access to {expected} was expected, not {other:?}"),
    }
}

/// Answers what comes in, which is asked twice if the first answer takes long, until a walk ends.
fn answering(front_end: &LoopbackFrontEnd, walk: Touch, answer: fn(Ticket)) -> Touched {
    let (done, begun) = (AtomicBool::new(false), Instant::now());
    thread::scope(|scope| {
        scope.spawn(|| {
            while !done.load(Ordering::Relaxed) && begun.elapsed() < LIMIT {
                match front_end.next().unwrap() {
                    Some(Incoming::Exists { ticket, .. }) => ticket.ready(),
                    Some(Incoming::Access { ticket, .. }) => answer(ticket),
                    _ => thread::sleep(Duration::from_millis(1)),
                }
            }
        });
        let touched = walk.within(LIMIT);
        done.store(true, Ordering::Relaxed);
        touched
    })
}

/// What a worker does below the staging directory: a file system with a file.
fn stage(path: &str) {
    fs::create_dir_all(path).unwrap();
    run("mount", &["-t", "tmpfs", "test", path]);
    fs::write(format!("{path}/file"), format!("of {path}")).unwrap();
}

/// The kernel's client, and processes that walk.
struct Guest;

impl World for Guest {
    fn place(&self, name: &str) -> BString {
        let path = format!("/conforms/{name}");
        fs::create_dir_all(&path).unwrap();
        path.into()
    }

    fn touch(&self, path: &BStr) -> Ending {
        let walk = Touch::list(path.to_string());
        Box::new(|| walk.within(LIMIT).result.map(drop))
    }

    fn user(&self) -> u32 {
        0
    }

    fn names(&self, path: &BStr) -> Vec<BString> {
        let names = fs::read_dir(path.to_string()).unwrap();
        let name = |entry: std::io::Result<fs::DirEntry>| entry.unwrap().file_name();
        names.map(|entry| name(entry).into_vec().into()).collect()
    }

    fn mount(&self, _: &dyn FrontEnd, path: &BStr) {
        stage(&format!("/tmp_mnt{path}"));
    }

    fn unmount(&self, _: &dyn FrontEnd, path: &BStr) {
        run("umount", &[&format!("/tmp_mnt{path}")]);
    }
}

#[test]
fn it_conforms() {
    let kept = Kept::new();
    conformance::conforms(&kept.front_end(), &Guest);
    assert!(mounted_at("/conforms/4").is_none());
}

#[test]
fn a_successor_goes_on() {
    let kept = Kept::new();
    let succeed = |front_end| {
        drop(front_end);
        kept.front_end()
    };
    let touch = |_: &LoopbackFrontEnd, path: &BStr| Guest.touch(path);
    conformance::a_successor_resumes(kept.front_end(), &Guest, &touch, succeed);
}

#[test]
fn mounts_are_made_elsewhere_and_found_by_links_also_by_a_successor() {
    let kept = Kept::new();
    let first = kept.front_end();
    let home = spec(1, TriggerKind::Indirect, "/home");
    let man = spec(2, TriggerKind::Direct, "/usr/man");
    for point in [&home, &man] {
        first.install(point).unwrap();
    }
    for (path, key) in [("/home/ann", "ann"), ("/usr/man", "")] {
        let walk = Touch::read(format!("{path}/file"));
        let ticket = access(&first, key);
        stage(&format!("/tmp_mnt{path}"));
        ticket.ready();
        let walked = answering(&first, walk, Ticket::ready);
        assert_eq!(walked.text(), format!("of /tmp_mnt{path}"));
    }
    let walk = Touch::read("/home/absent/file");
    let walked = answering(&first, walk, |ticket| ticket.fail(Errno::NOENT));
    assert_eq!(walked.errno(), Errno::NOENT.0);

    drop(first);
    let second = kept.front_end();
    let wanted = [&home, &man].map(|point| (point.path.clone(), point.kind));
    let survey = second.survey(&wanted);
    assert_eq!((survey.orphans.len(), survey.strays.len()), (2, 0));
    for existing in &survey.orphans {
        assert_eq!(existing.mounted.len(), 1, "{existing:?}");
        assert!(existing.mounted[0].whole);
    }
    let strays = second.survey(&wanted[..1]).strays;
    assert_eq!(strays[0].existing.path, "/usr/man");
    // Somebody comes before it is ready: he waits.
    let early = Touch::read("/home/ann/file");
    let number = |id, point| TriggerSpec {
        id: TriggerId(id),
        ..point
    };
    let (home, man) = (number(11, home), number(12, man));
    second.adopt(&home).unwrap();
    second.adopt(&man).unwrap();
    second.resume();
    assert_eq!(early.within(LIMIT).text(), "of /tmp_mnt/home/ann");
    let man_page = Touch::read("/usr/man/file").within(LIMIT);
    assert_eq!(man_page.text(), "of /tmp_mnt/usr/man");
    assert!(second.next().unwrap().is_none(), "nobody was asked");
    // At the end all is as before.
    rustix::mount::unmount("/tmp_mnt/usr/man", UnmountFlags::empty()).unwrap();
    second.remove(&man).unwrap();
    second.remove(&home).unwrap();
    assert!(Path::new("/usr/man").is_dir() && Path::new("/home").is_dir());
    assert!(mounted_at("/home").is_none() && mounted_at("/usr/man").is_none());
}

#[test]
fn a_direct_mount_point_that_holds_something_is_left_alone() {
    let kept = Kept::new();
    let front_end = kept.front_end();
    let full = spec(1, TriggerKind::Direct, "/full");
    fs::write("/full/file", "precious").unwrap();
    let refused = front_end.install(&full).unwrap_err();
    assert_eq!(refused.errno, rustix::io::Errno::NOTEMPTY.raw_os_error());
    assert!(refused.text.starts_with("/full: "), "{}", refused.text);
    assert_eq!(fs::read_to_string("/full/file").unwrap(), "precious");
    let link = spec(2, TriggerKind::Direct, "/empty");
    front_end.install(&link).unwrap();
    assert!(fs::symlink_metadata("/empty").unwrap().is_symlink());
    front_end.remove(&link).unwrap();
    assert!(fs::symlink_metadata("/empty").unwrap().is_dir());
}
