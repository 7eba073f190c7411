//! The kernel's autofs keeps what [`piton_frontend::conformance`] asks of every front end, and
//! what it promises beyond that. Needs root.

#[path = "kernel/silent.rs"]
mod silent;

use std::cell::RefCell;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::ffi::OsStringExt;
use std::time::Duration;

use autofs::{RequestPipe, RequestTable};
use bstr::{BStr, BString, ByteSlice};
use piton_engine::cause::Errno;
use piton_frontend::conformance::{Ending, World};
use piton_frontend::{
    FrontEnd, Incoming, KernelFrontEnd, KernelSettings, Ticket, Triggers, conformance,
};
use piton_plan::step::{TriggerId, TriggerKind, TriggerSpec};
use piton_testkit::{Access, Answer, Scratch, mounted_at, privately, wait_until};

const LIMIT: Duration = Duration::from_secs(60);

/// A front end that continues no other.
fn fresh() -> KernelFrontEnd {
    let (pipe, table) = (RequestPipe::new(), RequestTable::new());
    let (pipe, table) = (pipe.expect("a pipe"), table.expect("a table"));
    KernelFrontEnd::new(KernelSettings::default(), pipe, table).expect("kernel autofs")
}

/// What a front end is made of, kept by somebody who does not die with it.
struct Kept {
    pipe: (OwnedFd, OwnedFd),
    table: OwnedFd,
}

impl Kept {
    fn new() -> Self {
        let (pipe, table) = (RequestPipe::new().unwrap(), RequestTable::new().unwrap());
        let table = table.as_fd().try_clone_to_owned().unwrap();
        let pipe = pipe.into_fds();
        Self { pipe, table }
    }

    /// A front end that continues where the last one ended.
    fn front_end(&self) -> KernelFrontEnd {
        let copy = |fd: &OwnedFd| fd.try_clone().unwrap();
        let pipe = RequestPipe::from_fds(copy(&self.pipe.0), copy(&self.pipe.1)).unwrap();
        let table = RequestTable::from_fd(copy(&self.table)).unwrap();
        KernelFrontEnd::new(KernelSettings::default(), pipe, table).expect("kernel autofs")
    }
}

/// A front end and accesses from outside its process group.
struct Rig {
    front_end: KernelFrontEnd,
    scratch: Scratch,
    accesses: RefCell<Vec<Access>>,
}

impl Rig {
    fn new() -> Self {
        Self::with(fresh)
    }

    fn with(front_end: impl FnOnce() -> KernelFrontEnd) -> Self {
        autofs::own_process_group().expect("a process group of our own");
        Self {
            front_end: front_end(),
            scratch: Scratch::new(),
            accesses: RefCell::default(),
        }
    }

    fn touch(&self, path: &BStr) {
        let path = path.to_str().expect("a plain path");
        self.accesses.borrow_mut().push(Access::list(path));
    }

    fn answer(&self) -> Answer {
        self.accesses
            .borrow_mut()
            .pop()
            .expect("an access")
            .wait(LIMIT)
    }

    fn next(&self) -> Incoming {
        let mut came = None;
        wait_until("something comes in", LIMIT, || {
            came = self.front_end.next().expect("the front end works");
            came.is_some()
        });
        came.expect("it came")
    }

    /// The next access; of which trigger and key, and its ticket.
    fn next_access(&self) -> (TriggerId, BString, Ticket) {
        access(self.next())
    }

    fn succeed(self, kept: &Kept) -> Self {
        let Self {
            front_end,
            scratch,
            accesses,
        } = self;
        drop(front_end);
        let front_end = kept.front_end();
        Self {
            front_end,
            scratch,
            accesses,
        }
    }

    fn spec(&self, id: u32, kind: TriggerKind, name: &str) -> TriggerSpec {
        TriggerSpec {
            id: TriggerId(id),
            kind,
            path: self.scratch.directory(name).into(),
            source: "test".into(),
            timeout: 1,
            strict_expire: false,
            mode: None,
            propagation: piton_map::options::Propagation::default(),
        }
    }
}

fn access(incoming: Incoming) -> (TriggerId, BString, Ticket) {
    match incoming {
        Incoming::Access {
            trigger,
            key,
            ticket,
            ..
        } => (trigger, key, ticket),
        other => panic!("an access was expected, not {other:?}"),
    }
}

/// Mounts something, as what the front end's user does.
fn mount(target: &str) {
    let flags = rustix::mount::MountFlags::empty();
    rustix::mount::mount("t", target, "tmpfs", flags, None).unwrap();
}

/// Processes outside of our group.
struct Outside(Scratch);

impl World for Outside {
    fn place(&self, name: &str) -> BString {
        self.0.directory(name).into()
    }

    fn touch(&self, path: &BStr) -> Ending {
        touch(path)
    }

    fn user(&self) -> u32 {
        0
    }

    fn names(&self, path: &BStr) -> Vec<BString> {
        names(path)
    }

    fn mount(&self, front_end: &dyn FrontEnd, path: &BStr) {
        let made = front_end.make_directory(path);
        assert_eq!(made, Some(Ok(true)));
        mount(path.to_str().unwrap());
    }

    fn unmount(&self, front_end: &dyn FrontEnd, path: &BStr) {
        let flags = rustix::mount::UnmountFlags::empty();
        rustix::mount::unmount(path.to_str().unwrap(), flags).unwrap();
        assert_eq!(front_end.remove_directory(path), Some(Ok(())));
    }
}

fn touch(path: &BStr) -> Ending {
    // `ls` would look twice at what is not there; this opens it, and finds that it is a directory.
    let access = Access::read(path.to_str().expect("a plain path"));
    Box::new(|| match access.wait(LIMIT).errno {
        None | Some(21) => Ok(()),
        Some(errno) => Err(errno),
    })
}

fn names(path: &BStr) -> Vec<BString> {
    let names = std::fs::read_dir(path.to_str().expect("a plain path")).unwrap();
    let name = |entry: std::io::Result<std::fs::DirEntry>| entry.unwrap().file_name();
    names.map(|entry| name(entry).into_vec().into()).collect()
}

#[test]
fn conforms_as_every_front_end_does() {
    privately(|| {
        autofs::own_process_group().expect("a process group of our own");
        conformance::conforms(&fresh(), &Outside(Scratch::new()));
    });
}

#[test]
fn a_served_key_is_there_and_expires_on_request() {
    privately(|| {
        let rig = Rig::new();
        let spec = rig.spec(1, TriggerKind::Indirect, "m");
        rig.front_end.install(&spec).unwrap();
        let key = format!("{}/k", spec.path);
        rig.touch(key.as_bytes().as_bstr());
        let Incoming::Access {
            ticket, requester, ..
        } = rig.next()
        else {
            panic!("an access")
        };
        assert_eq!(requester.uid, 0);
        let made = rig.front_end.make_directory(key.as_bytes().as_bstr());
        assert_eq!(made, Some(Ok(true)));
        let flags = rustix::mount::MountFlags::empty();
        rustix::mount::mount("t", &key, "tmpfs", flags, None).unwrap();
        ticket.ready();
        assert_eq!(rig.answer().errno, None);
        std::thread::scope(|scope| {
            let round = scope.spawn(|| rig.front_end.expire(spec.id, true));
            let Incoming::Expire {
                key: asked, ticket, ..
            } = rig.next()
            else {
                panic!("expire")
            };
            assert_eq!(asked, "k");
            rustix::mount::unmount(&key, rustix::mount::UnmountFlags::empty()).unwrap();
            ticket.ready();
            round.join().unwrap();
        });
        assert_eq!(
            rig.front_end.remove_directory(key.as_bytes().as_bstr()),
            Some(Ok(()))
        );
        rig.front_end.remove(&spec).unwrap();
        assert!(mounted_at(spec.path.to_string()).is_none());
    });
}

#[test]
fn detached_triggers_are_found_and_adopted() {
    privately(|| {
        let rig = Rig::new();
        let spec = rig.spec(1, TriggerKind::Indirect, "m");
        rig.front_end.install(&spec).unwrap();
        rig.front_end.detach();
        let Rig {
            front_end,
            scratch,
            accesses,
        } = rig;
        drop(front_end);
        let second = fresh();
        let wanted = [(spec.path.clone(), TriggerKind::Indirect)];
        let survey = second.survey(&wanted);
        assert_eq!(survey.orphans.len(), 1);
        assert_eq!(survey.orphans[0].path, spec.path);
        assert!(survey.owned.is_empty() && survey.orphans[0].mounted.is_empty());
        let again = TriggerSpec {
            id: TriggerId(9),
            ..spec
        };
        second.adopt(&again).unwrap();
        let rig = Rig {
            front_end: second,
            scratch,
            accesses,
        };
        let key = format!("{}/k", again.path);
        rig.touch(key.as_bytes().as_bstr());
        let Incoming::Access {
            trigger, ticket, ..
        } = rig.next()
        else {
            panic!("an access")
        };
        assert_eq!(trigger, again.id);
        ticket.fail(Errno::ACCES);
        assert_eq!(rig.answer().errno, Some(Errno::ACCES.0));
        rig.front_end.remove(&again).unwrap();
    });
}

#[test]
fn listed_keys_stay_when_what_was_mounted_goes() {
    privately(|| {
        let rig = Rig::new();
        let spec = rig.spec(1, TriggerKind::Indirect, "m");
        rig.front_end.install(&spec).unwrap();
        rig.front_end
            .list(spec.id, &["a".into(), "b".into()].into());
        let names = || {
            let mut names: Vec<_> = std::fs::read_dir(spec.path.to_string())
                .unwrap()
                .map(|name| name.unwrap().file_name())
                .collect();
            names.sort();
            names
        };
        assert_eq!(names(), ["a", "b"]);
        let key = format!("{}/a", spec.path);
        assert_eq!(
            rig.front_end.remove_directory(key.as_bytes().as_bstr()),
            Some(Ok(()))
        );
        assert_eq!(names(), ["a", "b"]);
        rig.front_end
            .list(spec.id, &["b".into(), "c".into()].into());
        assert_eq!(names(), ["b", "c"]);
        rig.front_end.remove(&spec).unwrap();
    });
}

#[test]
fn is_continued_by_a_successor() {
    privately(|| {
        autofs::own_process_group().expect("a process group of our own");
        let kept = Kept::new();
        let touch = |_: &KernelFrontEnd, path: &BStr| touch(path);
        let succeed = |front_end| {
            drop(front_end);
            kept.front_end()
        };
        let world = Outside(Scratch::new());
        conformance::a_successor_resumes(kept.front_end(), &world, &touch, succeed);
    });
}

#[test]
fn who_waits_is_not_lost_when_triggers_are_taken_over() {
    privately(|| {
        let kept = Kept::new();
        let rig = Rig::with(|| kept.front_end());
        let direct = rig.spec(1, TriggerKind::Direct, "d");
        let indirect = rig.spec(2, TriggerKind::Indirect, "m");
        rig.front_end.install(&direct).unwrap();
        rig.front_end.install(&indirect).unwrap();
        // One request was read, one is in the pipe.
        rig.touch(direct.path.as_bstr());
        let (_, _, unanswered) = rig.next_access();
        std::mem::forget(unanswered);
        let key = format!("{}/k", indirect.path);
        rig.touch(key.as_bytes().as_bstr());

        let rig = rig.succeed(&kept);
        let wanted = [
            (direct.path.clone(), TriggerKind::Direct),
            (indirect.path.clone(), TriggerKind::Indirect),
        ];
        let survey = rig.front_end.survey(&wanted);
        assert_eq!((survey.orphans.len(), survey.strays.len()), (2, 0));
        let [direct, indirect] = [(direct, 8), (indirect, 9)].map(|(spec, id)| TriggerSpec {
            id: TriggerId(id),
            timeout: 77,
            ..spec
        });
        rig.front_end.adopt(&direct).unwrap();
        rig.front_end.adopt(&indirect).unwrap();
        let mut resumed = rig.front_end.resume().incoming;
        assert_eq!(resumed.len(), 1);
        let (trigger, _, ticket) = access(resumed.remove(0));
        assert_eq!(trigger, direct.id);
        mount(direct.path.to_str().unwrap());
        ticket.ready();
        let (trigger, key, ticket) = rig.next_access();
        assert_eq!((trigger, key), (indirect.id, "k".into()));
        ticket.fail(Errno::ACCES);
        assert_eq!(rig.answer().errno, Some(Errno::ACCES.0));
        assert_eq!(rig.answer().errno, None);
        let timeouts = autofs::existing_points().unwrap().map(Result::unwrap);
        let timeouts: Vec<u64> = timeouts.map(|point| point.timeout_s).collect();
        assert_eq!(timeouts, [77, 77]);
        // Nothing is left over for the next one.
        let rig = rig.succeed(&kept);
        rig.front_end.survey(&wanted);
        rig.front_end.adopt(&direct).unwrap();
        assert!(rig.front_end.resume().incoming.is_empty());
    });
}

#[test]
fn ours_is_found_wherever_it_stands() {
    privately(|| {
        let kept = Kept::new();
        let rig = Rig::with(|| kept.front_end());
        let wanted = rig.spec(1, TriggerKind::Direct, "wanted");
        let dropped = rig.spec(2, TriggerKind::Indirect, "dropped");
        let changed = rig.spec(3, TriggerKind::Direct, "changed");
        for spec in [&wanted, &dropped, &changed] {
            rig.front_end.install(spec).unwrap();
        }
        // An entry in the dropped one, with an offset, and an offset that belongs to nothing.
        let key = format!("{}/k", dropped.path);
        rig.front_end
            .make_directory(key.as_bytes().as_bstr())
            .unwrap()
            .unwrap();
        mount(&key);
        std::fs::create_dir(format!("{key}/o")).unwrap();
        let offset = TriggerSpec {
            path: format!("{key}/o").into(),
            ..rig.spec(4, TriggerKind::Offset, "unused")
        };
        rig.front_end.install(&offset).unwrap();
        let lost = rig.spec(5, TriggerKind::Offset, "lost");
        rig.front_end.install(&lost).unwrap();
        // A second mount of one is not a second trigger.
        let copy = rig.scratch.directory("copy");
        rustix::mount::mount_bind_recursive(rig.scratch.path(), &copy).unwrap();
        // Somebody else's, without a daemon: none of ours.
        let other = Rig::new();
        let foreign = other.spec(1, TriggerKind::Indirect, "foreign");
        other.front_end.install(&foreign).unwrap();
        other.front_end.detach();

        let rig = rig.succeed(&kept);
        let paths = [
            (wanted.path.clone(), TriggerKind::Direct),
            (changed.path.clone(), TriggerKind::Indirect),
        ];
        let survey = rig.front_end.survey(&paths);
        let found = |path: &BString| survey.orphans.iter().find(|it| it.path == *path);
        assert_eq!(survey.orphans.len(), 2);
        assert!(found(&wanted.path).is_some());
        assert_eq!(found(&changed.path).unwrap().kind, TriggerKind::Direct);
        let strays: Vec<_> = survey.strays.iter().map(|it| &it.existing).collect();
        assert_eq!(strays.len(), 2, "{strays:#?}");
        assert_eq!(
            (&strays[0].path, strays[0].kind),
            (&dropped.path, dropped.kind)
        );
        assert_eq!(survey.strays[0].source, "test");
        let mounted = &strays[0].mounted[0];
        assert_eq!(mounted.key, "k");
        assert_eq!(mounted.offsets[0].path, offset.path);
        assert_eq!((&strays[1].path, strays[1].kind), (&lost.path, lost.kind));
        // They are taken over, answered, and taken away like any other.
        for spec in [&offset, &lost, &dropped] {
            rig.front_end.adopt(spec).unwrap();
        }
        rig.front_end.resume();
        rig.touch(lost.path.as_bstr());
        let (trigger, _, ticket) = rig.next_access();
        assert_eq!(trigger, lost.id);
        ticket.fail(Errno::ACCES);
        assert_eq!(rig.answer().errno, Some(Errno::ACCES.0));
        rig.front_end.remove(&lost).unwrap();
        rig.front_end.remove(&offset).unwrap();
        rustix::mount::unmount(&key, rustix::mount::UnmountFlags::empty()).unwrap();
        rig.front_end.remove(&dropped).unwrap();
        // One that was not taken over is answered all the same, and at once.
        rig.touch(wanted.path.as_bstr());
        let mut came = None;
        wait_until("the request is read", LIMIT, || {
            came = rig.front_end.next().unwrap();
            assert!(came.is_none());
            !rig.accesses.borrow_mut()[0].is_waiting()
        });
        assert_eq!(rig.answer().errno, Some(Errno::NOENT.0));
    });
}

#[test]
fn what_was_under_way_is_not_whole() {
    privately(|| {
        let kept = Kept::new();
        let rig = Rig::with(|| kept.front_end());
        let spec = rig.spec(1, TriggerKind::Indirect, "m");
        rig.front_end.install(&spec).unwrap();
        let direct = rig.spec(2, TriggerKind::Direct, "d");
        rig.front_end.install(&direct).unwrap();
        mount(direct.path.to_str().unwrap());
        for key in ["half", "whole"] {
            let key = format!("{}/{key}", spec.path);
            let made = rig.front_end.make_directory(key.as_bytes().as_bstr());
            assert_eq!(made, Some(Ok(true)));
            mount(&key);
        }
        let marked = [
            (spec.id, "half"),
            (spec.id, "gone"),
            (spec.id, "whole"),
            (direct.id, ""),
        ];
        let mut marks: Vec<_> = marked
            .into_iter()
            .map(|(trigger, key)| rig.front_end.mark(trigger, key.into()).unwrap())
            .collect();
        marks.remove(2).end();
        assert!(rig.front_end.mark(TriggerId(9), "k".into()).is_none());
        drop(marks);

        let rig = rig.succeed(&kept);
        let wanted = [
            (spec.path.clone(), spec.kind),
            (direct.path.clone(), direct.kind),
        ];
        let survey = rig.front_end.survey(&wanted);
        let mut found: Vec<_> = survey
            .orphans
            .iter()
            .flat_map(|trigger| &trigger.mounted)
            .map(|mounted| (mounted.key.to_string(), mounted.whole))
            .collect();
        found.sort();
        let expected = [("", false), ("half", false), ("whole", true)];
        assert_eq!(found, expected.map(|(key, whole)| (key.to_string(), whole)));
        rig.front_end.adopt(&spec).unwrap();
        // The direct one is not taken over: its mark goes.
        let left = rig.front_end.resume().marks;
        let left: Vec<_> = left
            .into_iter()
            .map(|(trigger, key, mark)| {
                mark.end();
                (trigger, key.to_string())
            })
            .collect();
        let expected = ["half", "gone"].map(|key| (spec.id, key.to_string()));
        assert_eq!(left, expected);
        let survey = rig.succeed(&kept).front_end.survey(&wanted);
        let mut mounted = survey.orphans.iter().flat_map(|trigger| &trigger.mounted);
        assert!(mounted.all(|mounted| mounted.whole));
    });
}

#[test]
fn a_silent_server_holds_up_no_answer_and_no_successor() {
    privately(|| {
        let kept = Kept::new();
        let rig = Rig::with(|| kept.front_end());
        let net = rig.scratch.directory("net");
        let server = silent::Server::mount(&net);
        let offset = TriggerSpec {
            path: format!("{net}/o").into(),
            ..rig.spec(1, TriggerKind::Offset, "unused")
        };
        rig.front_end.install(&offset).unwrap();
        let direct = rig.spec(2, TriggerKind::Direct, "d");
        rig.front_end.install(&direct).unwrap();

        rig.touch(offset.path.as_bstr());
        let (trigger, _, ticket) = rig.next_access();
        assert_eq!(trigger, offset.id);
        server.be_silent(true);
        // The way to the trigger would ask the server, but there is another.
        ticket.fail(Errno::ACCES);
        assert_eq!(rig.answer().errno, Some(Errno::ACCES.0));
        rig.touch(direct.path.as_bstr());
        let (trigger, _, ticket) = rig.next_access();
        assert_eq!(trigger, direct.id);
        ticket.fail(Errno::ACCES);
        assert_eq!(rig.answer().errno, Some(Errno::ACCES.0));
        server.be_silent(false);
        rig.touch(offset.path.as_bstr());
        // It dies before it can answer.
        std::mem::forget(rig.next_access().2);
        server.be_silent(true);

        let rig = rig.succeed(&kept);
        let survey = rig.front_end.survey(&[]);
        assert_eq!(survey.strays.len(), 2);
        rig.front_end.adopt(&offset).unwrap();
        let longer = TriggerSpec {
            timeout: 5,
            ..direct
        };
        rig.front_end.adopt(&longer).unwrap();
        let mut resumed = rig.front_end.resume().incoming;
        assert_eq!(resumed.len(), 1);
        let (trigger, _, ticket) = access(resumed.remove(0));
        assert_eq!(trigger, offset.id);
        // Here the test would end if the answer waited for the server.
        ticket.fail(Errno::ACCES);
        // It has no other way: until it is given, the trigger must not lose its path.
        let never = &mut || unreachable!("an answer is under way");
        let why = rig.front_end.let_go(&[offset], never).unwrap_err();
        assert_eq!(why.errno, Errno::BUSY.0);
        assert!(rig.accesses.borrow_mut()[0].is_waiting());
        server.be_silent(false);
        assert_eq!(rig.answer().errno, Some(Errno::ACCES.0));
    });
}

#[test]
fn a_tree_of_a_silent_server_is_let_go_with_its_triggers_and_nobody_waits_in_them() {
    privately(|| {
        let rig = Rig::new();
        let spec = rig.spec(1, TriggerKind::Direct, "d");
        rig.front_end.install(&spec).unwrap();
        let net = spec.path.to_str().unwrap();
        let server = silent::Server::mount(net);
        let offset = TriggerSpec {
            path: format!("{net}/o").into(),
            ..rig.spec(2, TriggerKind::Offset, "unused")
        };
        rig.front_end.install(&offset).unwrap();
        rig.touch(offset.path.as_bstr());
        let (_, _, answered_before) = rig.next_access();
        server.be_silent(true);

        let detach = || {
            let flags = rustix::mount::UnmountFlags::DETACH;
            rustix::mount::unmount(net, flags)
                .map_err(|errno| piton_frontend::Failure::new(errno.raw_os_error(), "not detached"))
        };
        let triggers = [offset];
        rig.front_end.let_go(&triggers, &mut { detach }).unwrap();
        answered_before.fail(Errno::ACCES);
        // Told that it is gone, it looks again, and so triggers what was covered.
        let (trigger, _, ticket) = rig.next_access();
        assert_eq!(trigger, spec.id);
        mount(net);
        ticket.ready();
        assert_eq!(rig.answer().errno, Some(Errno::NOENT.0));
        rig.touch(spec.path.as_bstr());
        assert_eq!(rig.answer().errno, None);
    });
}
