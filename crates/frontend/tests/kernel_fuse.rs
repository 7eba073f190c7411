//! The FUSE front end keeps what [`piton_frontend::conformance`] asks of every front end. Needs root
//! for private mount namespaces; what ordinary users have is in crates/piton/tests/kernel_user.rs.

use std::fs;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::ffi::OsStringExt;
use std::time::Duration;

use autofs::RequestTable;
use bstr::{BStr, BString, ByteSlice};
use piton_engine::cause::Errno;
use piton_frontend::conformance::{self, Ending, World};
use piton_frontend::{FrontEnd, FuseFrontEnd, FuseSettings, Incoming, Ticket, Triggers};
use piton_fuse::Audience;
use piton_plan::step::{TriggerId, TriggerKind, TriggerSpec};
use piton_testkit::{Access, Scratch, mounted_at, privately, wait_until};
use rustix::mount::{MountFlags, UnmountFlags};

const LIMIT: Duration = Duration::from_secs(60);

/// What outlives a front end, and what is around it.
struct Site {
    scratch: Scratch,
    table: OwnedFd,
}

impl Site {
    fn new() -> Self {
        let table = RequestTable::new().unwrap();
        Self {
            scratch: Scratch::new(),
            table: table.as_fd().try_clone_to_owned().unwrap(),
        }
    }

    fn front_end(&self) -> FuseFrontEnd {
        FuseFrontEnd::new(FuseSettings {
            secret: [9; 16],
            table: RequestTable::from_fd(self.table.try_clone().unwrap()).unwrap(),
            staging: self.scratch.at("staging").into(),
            audience: Audience::Owner,
            workers: None,
            give_up: None,
        })
        .unwrap()
    }

    fn staged(&self, path: &BStr) -> String {
        format!("{}{path}", self.scratch.at("staging"))
    }

    fn spec(&self, id: u32, name: &str) -> TriggerSpec {
        TriggerSpec {
            id: TriggerId(id),
            kind: TriggerKind::Indirect,
            path: self.scratch.directory(name).into(),
            source: "test".into(),
            timeout: 300,
            strict_expire: false,
            mode: None,
            propagation: piton_map::options::Propagation::default(),
        }
    }
}

impl World for Site {
    fn place(&self, name: &str) -> BString {
        self.scratch.directory(name).into()
    }

    fn touch(&self, path: &BStr) -> Ending {
        // `ls` would look twice at what is not there; this opens it, and finds a directory.
        let access = Access::read(path.to_str().unwrap());
        Box::new(|| match access.wait(LIMIT).errno {
            None | Some(21) => Ok(()),
            Some(errno) => Err(errno),
        })
    }

    fn user(&self) -> u32 {
        0
    }

    fn names(&self, path: &BStr) -> Vec<BString> {
        let names = fs::read_dir(path.to_str().unwrap()).unwrap();
        let name = |entry: std::io::Result<fs::DirEntry>| entry.unwrap().file_name();
        names.map(|entry| name(entry).into_vec().into()).collect()
    }

    fn mount(&self, _: &dyn FrontEnd, path: &BStr) {
        let place = self.staged(path);
        fs::create_dir_all(&place).unwrap();
        rustix::mount::mount("t", place, "tmpfs", MountFlags::empty(), None).unwrap();
    }

    fn unmount(&self, _: &dyn FrontEnd, path: &BStr) {
        rustix::mount::unmount(self.staged(path), UnmountFlags::empty()).unwrap();
    }
}

/// The death of whoever serves: the kernel ends all connections, and says so to whoever comes next,
/// as it does when a process is killed.
fn die(front_end: FuseFrontEnd, scratch: &Scratch) {
    let control = scratch.directory("control");
    rustix::mount::mount("c", &control, "fusectl", MountFlags::empty(), None).unwrap();
    for connection in fs::read_dir(&control).unwrap() {
        let abort = connection.unwrap().path().join("abort");
        // Those of other tests are not to be ended.
        if is_ours(&abort, scratch) {
            fs::write(abort, "1").unwrap();
        }
    }
    rustix::mount::unmount(&control, UnmountFlags::empty()).unwrap();
    std::mem::forget(front_end);
}

/// Whether a connection is one of a mount of this test: its number is that of the device.
fn is_ours(abort: &std::path::Path, scratch: &Scratch) -> bool {
    let number = abort
        .parent()
        .unwrap()
        .file_name()
        .unwrap()
        .to_str()
        .unwrap();
    let table = fs::read_to_string("/proc/self/mountinfo").unwrap();
    let device = format!(" 0:{number} ");
    let staging = scratch.at("staging");
    let mut lines = table.lines();
    lines.any(|line| line.contains(&device) && line.contains(&staging))
}

fn access(front_end: &FuseFrontEnd) -> (BString, Ticket) {
    let mut came = None;
    wait_until("something comes in", LIMIT, || {
        came = match front_end.next().unwrap() {
            // Whatever is asked for exists.
            Some(Incoming::Exists { ticket, .. }) => {
                ticket.ready();
                None
            }
            other => other,
        };
        came.is_some()
    });
    match came {
        Some(Incoming::Access { key, ticket, .. }) => (key, ticket),
        other => panic!("an access was expected, not {other:?}"),
    }
}

#[test]
fn it_conforms() {
    privately(|| {
        let site = Site::new();
        conformance::conforms(&site.front_end(), &site);
    });
}

#[test]
fn a_successor_goes_on_though_the_mount_of_the_dead_one_is_dead() {
    privately(|| {
        let site = Site::new();
        let touch = |_: &FuseFrontEnd, path: &BStr| World::touch(&site, path);
        let succeed = |front_end| {
            die(front_end, &site.scratch);
            site.front_end()
        };
        conformance::a_successor_resumes(site.front_end(), &site, &touch, succeed);
    });
}

#[test]
fn what_is_mounted_is_taken_over_though_its_root_is_gone() {
    privately(|| {
        let site = Site::new();
        let spec = site.spec(1, "net");
        let key = format!("{}/ann", spec.path);
        let first = site.front_end();
        first.install(&spec).unwrap();
        let ending = World::touch(&site, key.as_str().into());
        let (_, ticket) = access(&first);
        site.mount(&first, key.as_str().into());
        ticket.ready();
        ending().unwrap();
        // In good order it takes its roots away.
        drop(first);
        assert!(mounted_at(spec.path.to_str().unwrap()).is_none());

        let second = site.front_end();
        let wanted = [
            (spec.path.clone(), TriggerKind::Indirect),
            (site.place("other"), TriggerKind::Indirect),
        ];
        let survey = second.survey(&wanted);
        assert_eq!(survey.orphans.len(), 1);
        assert_eq!(survey.orphans[0].mounted[0].key, "ann");
        second.adopt(&spec).unwrap();
        second.resume();
        World::touch(&site, key.as_str().into())().unwrap();
        assert!(second.next().unwrap().is_none(), "nobody was asked");
        second.remove(&spec).unwrap();
    });
}

#[test]
fn nobody_waits_for_one_that_has_let_go() {
    privately(|| {
        let site = Site::new();
        let spec = site.spec(1, "net");
        let front_end = site.front_end();
        front_end.install(&spec).unwrap();
        let key = format!("{}/ann", spec.path);
        let waiting = World::touch(&site, key.as_str().into());
        let readable = front_end.readable().unwrap();
        let flags = rustix::event::PollFlags::IN;
        let mut fds = [rustix::event::PollFd::from_borrowed_fd(readable, flags)];
        rustix::event::poll(&mut fds, None).unwrap();
        front_end.detach();
        assert_eq!(waiting(), Err(Errno::NOENT.0));
        assert_eq!(
            World::touch(&site, key.as_str().into())(),
            Err(Errno::NOENT.0)
        );
        front_end.remove(&spec).unwrap();
    });
}
