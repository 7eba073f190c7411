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
use client::{ACCESS, Client, LOOKUP, NFS, READLINK, found, in_directory, opaque, status, target};
use piton_engine::cause::Errno;
use piton_frontend::conformance::{Ending, World};
use piton_frontend::{
    Failure, FrontEnd, Incoming, LoopbackFrontEnd, LoopbackSettings, Seat, Ticket, Triggers,
    conformance,
};
use piton_loopback::{Listener, RootKind};
use piton_mount::table::Table;
use piton_plan::step::{TriggerId, TriggerKind, TriggerSpec};

type Look = dyn Fn(u16) + Send;

/// Mount points in memory.
#[derive(Clone, Default)]
struct Memory(
    Arc<Mutex<Vec<(BString, RootKind)>>>,
    Arc<Mutex<Option<Box<Look>>>>,
);

impl Seat for Memory {
    fn mount(&self, path: &BStr, kind: RootKind, port: u16) -> Result<(), Failure> {
        // As the kernel's client does: whoever serves must not be the one who waits for this.
        let root = Client::served(port).mount(path.to_str().unwrap());
        root.expect("the root is served");
        if let Some(look) = &*self.1.lock().unwrap() {
            look(port);
        }
        self.0.lock().unwrap().push((path.to_owned(), kind));
        Ok(())
    }

    fn unmount(&self, path: &BStr, _: RootKind) -> Result<(), Failure> {
        self.0.lock().unwrap().retain(|(other, _)| other != path);
        Ok(())
    }

    fn mounted(&self, _: &Table<'_>, _: u16) -> Vec<(BString, RootKind)> {
        self.0.lock().unwrap().clone()
    }

    fn abandon(&self, path: &BStr) {
        self.0.lock().unwrap().retain(|(other, _)| other != path);
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
            witness: None,
        })
        .unwrap()
    }

    /// Begins a walk, as the kernel's client makes it.
    fn touch(&self, path: &BStr) -> JoinHandle<Result<BString, u32>> {
        let roots = self.seat.0.lock().unwrap().clone();
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
    loop {
        let link = match key {
            "" => root.to_vec(),
            key => {
                let (status, results) = patiently(port, LOOKUP, &in_directory(root, key));
                found(status, &results)?.0
            }
        };
        let (status, results) = patiently(port, READLINK, &opaque(&link));
        match target(status, &results) {
            Err(STALE) => {}
            result => return result,
        }
    }
}

/// A successor does not know the handle of a name that nobody lists and that led nowhere
/// (NFS3ERR_STALE): it is looked up again.
const STALE: u32 = 70;

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

/// What comes in next; whatever is asked for exists.
fn next(front_end: &LoopbackFrontEnd) -> Incoming {
    let begun = Instant::now();
    loop {
        match front_end.next().unwrap() {
            Some(Incoming::Exists { ticket, .. }) => ticket.ready(),
            Some(incoming) => return incoming,
            None => {}
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

/// Walks of a client of NFS in the place of the kernel's.
impl World for Kept {
    fn place(&self, name: &str) -> BString {
        format!("/{name}").into()
    }

    fn touch(&self, path: &BStr) -> Ending {
        let walk = self.touch(path);
        Box::new(|| {
            let ended = walk.join().unwrap();
            ended.map(drop).map_err(|status| status.cast_signed())
        })
    }

    fn user(&self) -> u32 {
        1000
    }

    fn names(&self, path: &BStr) -> Vec<BString> {
        let mut client = Client::served(self.port);
        let root = client.mount(path.to_str().unwrap()).unwrap();
        let names = client.list(&root, false, 8192).into_iter();
        names
            .map(|one| one.name)
            .filter(|name| name != "." && name != "..")
            .collect()
    }

    // Links lead there; nobody follows them here.
    fn mount(&self, _: &dyn FrontEnd, _: &BStr) {}

    fn unmount(&self, _: &dyn FrontEnd, _: &BStr) {}
}

#[test]
fn it_conforms() {
    let kept = Kept::new();
    conformance::conforms(&kept.front_end(), &kept);
}

#[test]
fn a_successor_goes_on() {
    let kept = Kept::new();
    let touch = |_: &LoopbackFrontEnd, path: &BStr| World::touch(&kept, path);
    let succeed = |front_end| {
        drop(front_end);
        kept.front_end()
    };
    conformance::a_successor_resumes(kept.front_end(), &kept, &touch, succeed);
}

/// Somebody has unmounted `/home` by hand before the daemon died. While it is mounted anew the server
/// runs, and whoever holds something of the others must not be told that it is stale.
#[test]
fn what_is_still_mounted_is_served_while_something_else_is_mounted_anew() {
    let kept = Kept::new();
    let kinds = [
        (1, "/home", TriggerKind::Indirect),
        (2, "/work", TriggerKind::Indirect),
        (3, "/man", TriggerKind::Direct),
    ];
    let all = |life: u32| kinds.map(|(id, path, kind)| spec(life * 10 + id, kind, path));
    let first = kept.front_end();
    all(1).iter().for_each(|spec| first.install(spec).unwrap());
    let mut client = Client::served(kept.port);
    let [work, man] = ["/work", "/man"].map(|path| client.mount(path).unwrap());
    drop((client, first));
    kept.seat
        .0
        .lock()
        .unwrap()
        .retain(|(path, _)| path != "/home");

    let looks = Arc::new(Mutex::new(0));
    let counted = looks.clone();
    *kept.seat.1.lock().unwrap() = Some(Box::new(move |port| {
        *counted.lock().unwrap() += 1;
        let mut client = Client::served(port);
        for root in [&work, &man] {
            client.attributes(root).expect("it is not stale");
            let access = [opaque(root), vec![0, 0, 0, 1]].concat();
            assert_eq!(client.nfs(ACCESS, &access).0, 0);
        }
        assert!(!client.list(&work, false, 8192).is_empty());
        assert!(!client.list(&work, true, 8192).is_empty());
        let dot = client.nfs(LOOKUP, &in_directory(&work, "."));
        assert_eq!(dot.0, 0);
        assert_eq!(client.mount("/work"), Ok(work.clone()));
        assert_eq!(client.mount("/man"), Ok(man.clone()));
    }));
    let second = kept.front_end();
    let wanted = kinds.map(|(_, path, kind)| (path.into(), kind));
    second.survey(&wanted);
    let specs = all(2);
    // What is new waits until all that was there before is known.
    let new = spec(30, TriggerKind::Indirect, "/new");
    thread::scope(|scope| {
        let installed = scope.spawn(|| second.install(&new));
        second.expect(&specs);
        specs.iter().for_each(|spec| second.adopt(spec).unwrap());
        installed.join().unwrap().unwrap();
    });
    assert_eq!(*looks.lock().unwrap(), 2, "/home and /new were mounted");
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
    let place = front_end.place("/home/ann".into());
    assert_eq!(place, "/tmp_mnt/home/ann");
    // What is absent is not mounted, and what could not be mounted exists all the same.
    let walk = kept.touch("/home/absent".into());
    let begun = Instant::now();
    let asked = loop {
        if let Some(incoming) = front_end.next().unwrap() {
            break incoming;
        }
        assert!(begun.elapsed() < client::PATIENCE, "nothing came in");
    };
    match asked {
        Incoming::Exists { key, ticket, .. } if key == "absent" => ticket.fail(Errno::NOENT),
        other => panic!("{other:?}"),
    }
    assert_eq!(walk.join().unwrap(), Err(2));
    let walk = kept.touch("/home/refused".into());
    access(&front_end).1.fail(Errno::ACCES);
    assert_eq!(walk.join().unwrap(), Err(13));
    let offset = spec(3, TriggerKind::Offset, "/home/ann/sub");
    let refused = front_end.install(&offset).unwrap_err();
    assert_eq!(refused.errno, rustix::io::Errno::OPNOTSUPP.raw_os_error());
}

#[test]
fn what_is_hidden_is_asked_for_again_and_what_is_shown_is_not() {
    let kept = Kept::new();
    let front_end = kept.front_end();
    let home = spec(1, TriggerKind::Indirect, "/home");
    front_end.install(&home).unwrap();
    let walk = kept.touch("/home/ann".into());
    access(&front_end).1.ready();
    walk.join().unwrap().unwrap();
    front_end.hide(home.id, "ann".into());
    let walk = kept.touch("/home/ann".into());
    access(&front_end).1.fail(Errno::ACCES);
    assert_eq!(walk.join().unwrap(), Err(13));
    front_end.show(home.id, "ann".into());
    let walk = kept.touch("/home/ann".into()).join().unwrap();
    assert_eq!(walk.unwrap(), "/tmp_mnt/home/ann");
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
