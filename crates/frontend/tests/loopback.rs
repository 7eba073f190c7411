//! The loopback front end, walked by a client of NFS in the place of the kernel's, keeps what
//! [`piton_frontend::conformance`] asks of every front end.

#[path = "../../loopback/tests/client/mod.rs"]
mod client;

use std::os::fd::{AsFd, OwnedFd};
use std::sync::{Arc, Mutex};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use autofs::RequestTable;
use bstr::{BStr, BString, ByteSlice};
use client::{Client, LOOKUP, NFS, READLINK, found, in_directory, opaque, status, target};
use piton_engine::cause::Errno;
use piton_frontend::{
    Failure, FrontEnd, Incoming, LoopbackFrontEnd, LoopbackSettings, Seat, Ticket, Triggers,
    conformance,
};
use piton_loopback::{Listener, RootKind};
use piton_plan::step::{TriggerId, TriggerKind, TriggerSpec};

/// Mount points in memory.
#[derive(Clone, Default)]
struct Memory(Arc<Mutex<Vec<(BString, RootKind)>>>);

impl Seat for Memory {
    fn mount(&self, path: &BStr, kind: RootKind, port: u16) -> Result<(), Failure> {
        // As the kernel's client does: whoever serves must not be the one who waits for this.
        let root = Client::served(port).mount(path.to_str().unwrap());
        root.expect("the root is served");
        self.0.lock().unwrap().push((path.to_owned(), kind));
        Ok(())
    }

    fn unmount(&self, path: &BStr, _: RootKind) -> Result<(), Failure> {
        self.0.lock().unwrap().retain(|(other, _)| other != path);
        Ok(())
    }

    fn mounted(&self, _: u16) -> Vec<(BString, RootKind)> {
        self.0.lock().unwrap().clone()
    }
}

/// What outlives a front end.
struct Kept {
    seat: Memory,
    listener: OwnedFd,
    table: OwnedFd,
    port: u16,
}

impl Kept {
    fn new() -> Self {
        let listener = Listener::at(0).unwrap();
        let table = RequestTable::new().unwrap();
        Self {
            seat: Memory::default(),
            port: listener.port(),
            listener: listener.as_fd().try_clone_to_owned().unwrap(),
            table: table.as_fd().try_clone_to_owned().unwrap(),
        }
    }

    fn front_end(&self) -> LoopbackFrontEnd {
        let copy = |fd: &OwnedFd| fd.try_clone().unwrap();
        LoopbackFrontEnd::new(LoopbackSettings {
            listener: Listener::inherited(copy(&self.listener)).unwrap(),
            secret: [9; 16],
            table: RequestTable::from_fd(copy(&self.table)).unwrap(),
            staging: "/tmp_mnt".into(),
            seat: Box::new(self.seat.clone()),
        })
        .unwrap()
    }

    /// Begins a walk, as the kernel's client makes it.
    fn touch(&self, path: &BStr) -> JoinHandle<Result<BString, u32>> {
        let roots = self.seat.mounted(self.port);
        let inside = |root: &BString| match path.strip_prefix(&root[..]) {
            Some(b"") => Some(String::new()),
            Some([b'/', key @ ..]) => Some(String::from_utf8(key.to_vec()).unwrap()),
            _ => None,
        };
        let mut found = roots
            .iter()
            .filter_map(|(root, _)| Some((root, inside(root)?)));
        let (root, key) = found.next().expect("a mount point of ours");
        let (root, port) = (root.to_string(), self.port);
        thread::spawn(move || {
            let handle = Client::served(port).mount(&root).unwrap();
            walk(port, &handle, &key)
        })
    }
}

/// Looks a key up and reads the link; begins again with each when the connection ends, as the
/// kernel's client does.
fn walk(port: u16, root: &[u8], key: &str) -> Result<BString, u32> {
    let link = match key {
        "" => root.to_vec(),
        key => {
            let (status, results) = patiently(port, LOOKUP, &in_directory(root, key));
            found(status, &results)?.0
        }
    };
    let (status, results) = patiently(port, READLINK, &opaque(&link));
    target(status, &results)
}

fn patiently(port: u16, procedure: u32, arguments: &[u8]) -> (u32, Vec<u8>) {
    loop {
        let mut client = Client::served(port);
        client.send((NFS, 3, procedure), arguments);
        if let Some((_, results)) = client.receive() {
            return status(results.unwrap());
        }
    }
}

fn spec(id: u32, kind: TriggerKind, path: &str) -> TriggerSpec {
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

fn next(front_end: &LoopbackFrontEnd) -> Incoming {
    let begun = Instant::now();
    loop {
        if let Some(incoming) = front_end.next().unwrap() {
            return incoming;
        }
        assert!(begun.elapsed() < client::PATIENCE, "nothing came in");
        thread::sleep(Duration::from_millis(1));
    }
}

fn access(front_end: &LoopbackFrontEnd) -> (BString, Ticket) {
    match next(front_end) {
        Incoming::Access { key, ticket, .. } => (key, ticket),
        other => panic!("an access was expected, not {other:?}"),
    }
}

#[test]
fn it_conforms() {
    let kept = Kept::new();
    let front_end = kept.front_end();
    let touch = |path: &BStr| drop(kept.touch(path));
    conformance::indirect_access_names_the_key(&front_end, "/i".into(), &touch);
    conformance::direct_access_has_no_key(&front_end, "/d".into(), &touch);
    conformance::removed_is_gone(&front_end, "/r".into());
}

#[test]
fn a_successor_goes_on() {
    let kept = Kept::new();
    let touch = |_: &LoopbackFrontEnd, path: &BStr| drop(kept.touch(path));
    let succeed = |front_end| {
        drop(front_end);
        kept.front_end()
    };
    conformance::a_successor_resumes(kept.front_end(), "/i".into(), &touch, succeed);
}

#[test]
fn ready_is_a_link_below_the_staging_directory() {
    let kept = Kept::new();
    let front_end = kept.front_end();
    let home = spec(1, TriggerKind::Indirect, "/home");
    front_end.install(&home).unwrap();
    let man = spec(2, TriggerKind::Direct, "/usr/man");
    front_end.install(&man).unwrap();
    for (path, key) in [("/home/ann", "ann"), ("/usr/man", "")] {
        let walk = kept.touch(path.into());
        let (asked, ticket) = access(&front_end);
        assert_eq!(asked, key);
        ticket.ready();
        assert_eq!(walk.join().unwrap().unwrap(), format!("/tmp_mnt{path}"));
        // From now on nobody is asked.
        let again = kept.touch(path.into()).join().unwrap();
        assert_eq!(again.unwrap(), format!("/tmp_mnt{path}"));
    }
    let walk = kept.touch("/home/absent".into());
    access(&front_end).1.fail(Errno::NOENT);
    assert_eq!(walk.join().unwrap(), Err(2));
    let offset = spec(3, TriggerKind::Offset, "/home/ann/sub");
    let refused = front_end.install(&offset).unwrap_err();
    assert_eq!(refused.errno, rustix::io::Errno::OPNOTSUPP.raw_os_error());
}

#[test]
fn who_asks_is_told_and_listed_keys_are_asked_for_when_they_are_read() {
    let kept = Kept::new();
    let front_end = kept.front_end();
    let home = spec(1, TriggerKind::Indirect, "/home");
    front_end.install(&home).unwrap();
    front_end.list(home.id, &Arc::from(["ann".into(), "bob".into()]));
    let mut client = Client::served(kept.port);
    let root = client.mount("/home").unwrap();
    let names = client.list(&root, true, 8192);
    assert_eq!(names.len(), 4);
    client.look_up(&root, "ann").unwrap();
    assert!(
        front_end.next().unwrap().is_none(),
        "looking mounts nothing"
    );
    let walk = kept.touch("/home/ann".into());
    match next(&front_end) {
        Incoming::Access {
            key,
            requester,
            ticket,
            ..
        } => {
            assert_eq!((&key[..], requester.uid), (&b"ann"[..], 1000));
            ticket.ready();
        }
        other => panic!("{other:?}"),
    }
    assert_eq!(walk.join().unwrap().unwrap(), "/tmp_mnt/home/ann");
}

#[test]
fn idle_keys_expire_and_busy_ones_come_back() {
    let kept = Kept::new();
    let front_end = Arc::new(kept.front_end());
    let home = spec(1, TriggerKind::Indirect, "/home");
    front_end.install(&home).unwrap();
    for key in ["ann", "bob"] {
        let walk = kept.touch(format!("/home/{key}").as_str().into());
        access(&front_end).1.ready();
        walk.join().unwrap().unwrap();
    }
    // Nothing is idle for five minutes yet.
    front_end.expire(home.id, false);
    assert!(front_end.next().unwrap().is_none());
    let expiring = front_end.clone();
    let round = thread::spawn(move || expiring.expire(TriggerId(1), true));
    for _ in 0..2 {
        match next(&front_end) {
            Incoming::Expire { key, ticket, .. } if key == "ann" => ticket.ready(),
            Incoming::Expire { ticket, .. } => ticket.fail(Errno(16)),
            other => panic!("{other:?}"),
        }
    }
    round.join().unwrap();
    let mut client = Client::served(kept.port);
    let root = client.mount("/home").unwrap();
    let names: Vec<BString> = client
        .list(&root, false, 8192)
        .into_iter()
        .map(|one| one.name)
        .collect();
    assert_eq!(names[2..], ["bob"]);
    // What expired is asked for again.
    let walk = kept.touch("/home/ann".into());
    access(&front_end).1.ready();
    walk.join().unwrap().unwrap();
    // One key may be idle for another time than the rest.
    let bob = Some("bob".into());
    front_end.set_timeout(home.id, bob, 1).unwrap();
    thread::sleep(Duration::from_millis(1100));
    let expiring = front_end.clone();
    let round = thread::spawn(move || expiring.expire(TriggerId(1), false));
    match next(&front_end) {
        Incoming::Expire { key, ticket, .. } => {
            assert_eq!(key, "bob");
            drop(ticket);
        }
        other => panic!("{other:?}"),
    }
    round.join().unwrap();
}

#[test]
fn nobody_waits_for_one_that_has_let_go() {
    let kept = Kept::new();
    let front_end = kept.front_end();
    front_end
        .install(&spec(1, TriggerKind::Indirect, "/home"))
        .unwrap();
    let waiting = kept.touch("/home/ann".into());
    let begun = Instant::now();
    let readable = front_end.readable().unwrap();
    let mut fds = [rustix::event::PollFd::from_borrowed_fd(
        readable,
        rustix::event::PollFlags::IN,
    )];
    rustix::event::poll(&mut fds, None).unwrap();
    front_end.detach();
    assert_eq!(waiting.join().unwrap(), Err(2));
    assert_eq!(kept.touch("/home/bob".into()).join().unwrap(), Err(2));
    assert!(begun.elapsed() < client::PATIENCE);
}
