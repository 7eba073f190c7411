//! The kernel's autofs keeps what [`piton_frontend::conformance`] asks of every front end, and
//! what it promises beyond that. Needs root.

use std::cell::RefCell;
use std::time::Duration;

use autofs::{RequestPipe, RequestTable};
use bstr::{BStr, ByteSlice};
use piton_engine::cause::Errno;
use piton_frontend::{FrontEnd, Incoming, KernelFrontEnd, KernelSettings, Triggers, conformance};
use piton_plan::step::{TriggerId, TriggerKind, TriggerSpec};
use piton_testkit::{Access, Answer, Scratch, mounted_at, privately, wait_until};

const LIMIT: Duration = Duration::from_secs(10);

/// A front end that continues no other.
fn fresh() -> KernelFrontEnd {
    let (pipe, table) = (RequestPipe::new(), RequestTable::new());
    let (pipe, table) = (pipe.expect("a pipe"), table.expect("a table"));
    KernelFrontEnd::new(KernelSettings::default(), pipe, table).expect("kernel autofs")
}

/// A front end and accesses from outside its process group.
struct Rig {
    front_end: KernelFrontEnd,
    scratch: Scratch,
    accesses: RefCell<Vec<Access>>,
}

impl Rig {
    fn new() -> Self {
        autofs::own_process_group().expect("a process group of our own");
        Self {
            front_end: fresh(),
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

#[test]
fn conforms_as_every_front_end_does() {
    privately(|| {
        let rig = Rig::new();
        let touch = |path: &BStr| rig.touch(path);
        let [indirect, direct, removed] = ["i", "d", "r"].map(|name| rig.scratch.directory(name));
        conformance::indirect_access_names_the_key(
            &rig.front_end,
            indirect.as_bytes().as_bstr(),
            &touch,
        );
        assert_eq!(
            rig.answer().errno,
            Some(Errno::IO.0),
            "a dropped ticket answers"
        );
        conformance::direct_access_has_no_key(&rig.front_end, direct.as_bytes().as_bstr(), &touch);
        assert_eq!(
            rig.answer().errno,
            Some(Errno::ACCES.0),
            "the errno arrives as it was given"
        );
        conformance::removed_is_gone(&rig.front_end, removed.as_bytes().as_bstr());
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
