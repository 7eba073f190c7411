//! Front ends that serve links, and those who mean harm: whatever comes, it is refused or becomes an
//! access that could be anybody's, and all others are served. What can come at all is for the laws in
//! fuzz/. Needs root, for clients of other users.

#[path = "../../loopback/tests/client/mod.rs"]
mod client;

use std::fs;
use std::io::Write;
use std::net::{TcpListener, TcpStream};
use std::os::unix::process::CommandExt;
use std::process::Command;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use autofs::RequestTable;
use bstr::{BString, ByteSlice};
use client::{Client, LOOKUP, MOUNT, NFS, in_directory, status};
use piton_engine::cause::Errno;
use piton_frontend::{
    Audience, FrontEnd, FuseFrontEnd, FuseSettings, Incoming, LoopbackFrontEnd, LoopbackSettings,
    ServeOnly, Triggers,
};
use piton_loopback::Listener;
use piton_plan::step::{TriggerId, TriggerKind, TriggerSpec};
use piton_rpc::record::mark;
use piton_testkit::{Scratch, heard_by, privately};

const NOBODY: u32 = 65534;

fn spec(path: &str) -> TriggerSpec {
    TriggerSpec {
        id: TriggerId(1),
        kind: TriggerKind::Indirect,
        path: path.into(),
        source: "test".into(),
        timeout: 300,
        strict_expire: false,
        mode: None,
        propagation: piton_map::options::Propagation::default(),
    }
}

fn loopback() -> (LoopbackFrontEnd, u16) {
    let listener = Listener::at(0).unwrap();
    let port = listener.port();
    let front_end = LoopbackFrontEnd::new(LoopbackSettings {
        listener,
        secret: [9; 16],
        table: RequestTable::new().unwrap(),
        staging: "/tmp_mnt".into(),
        seat: Box::new(ServeOnly),
        witness: None,
    })
    .unwrap();
    front_end.install(&spec("/home")).unwrap();
    (front_end, port)
}

/// Refuses all that comes in while something is done; the keys that were asked for.
fn refusing(front_end: &dyn FrontEnd, act: impl FnOnce()) -> Vec<BString> {
    let done = AtomicBool::new(false);
    thread::scope(|scope| {
        let desk = scope.spawn(|| {
            let mut keys = Vec::new();
            loop {
                let ends = done.load(Ordering::Acquire);
                match front_end.next().unwrap() {
                    Some(
                        Incoming::Access {
                            trigger,
                            key,
                            ticket,
                            ..
                        }
                        | Incoming::Exists {
                            trigger,
                            key,
                            ticket,
                            ..
                        },
                    ) => {
                        assert_eq!(trigger, TriggerId(1));
                        ticket.fail(Errno::NOENT);
                        keys.push(key);
                    }
                    Some(other) => panic!("nothing expires here: {other:?}"),
                    None if ends => return keys,
                    None => thread::sleep(Duration::from_millis(1)),
                }
            }
        });
        act();
        done.store(true, Ordering::Release);
        desk.join().unwrap()
    })
}

/// A name of a directory, and nothing else.
fn is_key(key: &BString) -> bool {
    let special = matches!(key.as_bytes(), b"" | b"." | b"..");
    !special && key.len() <= 255 && !key.contains(&b'/') && !key.contains(&0)
}

/// Numbers that are the same in each run (xorshift).
struct Numbers(u64);

impl Numbers {
    fn below(&mut self, end: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        usize::try_from(self.0 % end as u64).unwrap()
    }
}

#[test]
fn hostile_nfs_requests_become_no_strange_access_and_harm_nobody() {
    let (front_end, port) = loopback();
    let mut good = Client::served(port);
    let root = good.mount("/home").unwrap();
    let mut numbers = Numbers(0x9e37_79b9_7f4a_7c15);
    let keys = refusing(&front_end, || {
        let mut bad = Client::served(port);
        for round in 0..1_000 {
            let program = [NFS, NFS, NFS, MOUNT][numbers.below(4)];
            let procedure = [LOOKUP, u32::try_from(numbers.below(24)).unwrap()][numbers.below(2)];
            let letters = [&['a', '\n', 'ä'][..], &['a', '/', '.', '\0']][numbers.below(2)];
            let name: String = (0..numbers.below(300))
                .map(|_| letters[numbers.below(letters.len())])
                .collect();
            let mut message =
                bad.message(round, (program, 3, procedure), &in_directory(&root, &name));
            for _ in 0..numbers.below(3) {
                let at = numbers.below(message.len());
                message[at] ^= 1 << numbers.below(8);
            }
            if numbers.below(4) == 0 {
                message.truncate(message.len() - numbers.below(message.len().min(64)));
            }
            if bad.stream.write_all(&mark(&message)).is_err() || round % 20 == 19 {
                bad = Client::served(port);
            }
        }
    });
    assert!(!keys.is_empty(), "some were good enough to be asked");
    assert!(keys.iter().all(is_key), "{keys:?}");
    // Others are served as before.
    let mut met = None;
    let keys = refusing(&front_end, || {
        good.send((NFS, 3, LOOKUP), &in_directory(&root, "ann"));
        met = good
            .receive()
            .map(|(_, results)| status(results.unwrap()).0);
    });
    assert_eq!((met, &keys[..]), (Some(2), &["ann".into()][..]));
    assert!(good.attributes(&root).is_ok());
}

#[test]
fn only_roots_clients_on_this_host_are_served() {
    let (front_end, port) = loopback();
    let message = mark(&Client::served(port).message(1, (NFS, 3, 0), b""));
    let heard = |uid| heard_by(uid, port, &message);
    assert_eq!(heard(NOBODY), "0");
    assert!(front_end.next().unwrap().is_none());
    // Nothing is listened to but 127.0.0.1 itself.
    for address in ["127.0.0.2", "::1"] {
        assert!(TcpStream::connect((address, port)).is_err(), "{address}");
    }
    let everywhere = TcpListener::bind("0.0.0.0:0").unwrap();
    assert!(Listener::inherited(everywhere.into()).is_err());
}

#[test]
fn hostile_uses_of_a_fuse_root_become_no_strange_access_and_harm_nobody() {
    privately(|| {
        let scratch = Scratch::new();
        let root = scratch.directory("net");
        let front_end = FuseFrontEnd::new(FuseSettings {
            secret: [9; 16],
            table: RequestTable::new().unwrap(),
            staging: scratch.at("staging").into(),
            audience: Audience::Owner,
            workers: None,
            give_up: None,
        })
        .unwrap();
        front_end.install(&spec(&root)).unwrap();
        let read_only = Some(rustix::io::Errno::ROFS.raw_os_error());
        let errno = |result: std::io::Result<()>| result.unwrap_err().raw_os_error();
        let keys = refusing(&front_end, || {
            for name in ["a\nb", "\u{1b}[31m", "-rf", "a b\\c", &"x".repeat(255)] {
                assert_eq!(errno(fs::read(format!("{root}/{name}")).map(drop)), Some(2));
                assert_eq!(errno(fs::create_dir(format!("{root}/{name}"))), read_only);
                assert_eq!(errno(fs::write(format!("{root}/{name}"), "")), read_only);
            }
            let long = format!("{root}/{}", "x".repeat(256));
            assert_eq!(errno(fs::read(long).map(drop)), Some(36));
            assert!(
                fs::set_permissions(&root, fs::metadata("/tmp").unwrap().permissions()).is_err()
            );
            assert!(fs::remove_dir(&root).is_err());
            // It is nobody else's, whatever he knows.
            let mut other = Command::new("cat");
            other.arg(format!("{root}/secret")).uid(NOBODY).gid(NOBODY);
            let said = String::from_utf8(other.output().unwrap().stderr).unwrap();
            assert!(said.contains("Permission denied"), "{said}");
        });
        assert!(keys.len() >= 5, "{keys:?}");
        assert!(keys.iter().all(is_key), "{keys:?}");
        assert!(!keys.contains(&"secret".into()));
        let names = refusing(&front_end, || {
            assert_eq!(fs::read_dir(&root).unwrap().count(), 0);
        });
        assert!(names.is_empty());
    });
}
