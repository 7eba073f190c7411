//! Clients walk: what a client of NFS does with directories and links.

mod client;

use std::collections::BTreeSet;
use std::thread;
use std::time::{Duration, Instant};

use bstr::{BString, ByteSlice};
use client::*;
use piton_loopback::{Purpose, RootId, RootKind, limits};
use piton_rpc::xdr::Reader;
use rustix::io::Errno;

#[test]
fn a_root_is_mounted_by_its_path() {
    let site = site();
    let mut client = site.client();
    let home = client.mount("/home").unwrap();
    assert_eq!(client.mount("/home//").as_ref(), Ok(&home));
    assert_eq!(client.mount("/nowhere"), Err(2));
    assert_eq!(client.mount(&"/x".repeat(600)), Err(63));
    let directory = client.attributes(&home).unwrap();
    assert_eq!((directory.kind, directory.mode), (2, 0o555));
    let man = client.mount("/usr/man").unwrap();
    let link = client.attributes(&man).unwrap();
    assert_eq!((link.kind, link.mode), (5, 0o777));
    assert_ne!(directory.device, link.device);
    assert_ne!(man, home);
}

#[test]
fn a_link_that_is_there_is_read_without_asking() {
    let site = site();
    site.tree
        .link(HOME, "ann".into(), "/tmp_mnt/home/ann".into())
        .unwrap();
    let mut client = site.client();
    let home = client.mount("/home").unwrap();
    let (ann, attributes) = client.look_up(&home, "ann").unwrap();
    assert_eq!((attributes.kind, attributes.size), (5, 17));
    assert_eq!(client.readlink(&ann).unwrap(), "/tmp_mnt/home/ann");
    assert_eq!(client.attributes(&ann).unwrap(), attributes);
    for same in [".", ".."] {
        assert_eq!(client.look_up(&home, same).unwrap().0, home);
    }
    assert!(site.desk.is_empty());
}

#[test]
fn a_name_that_leads_nowhere_is_asked_for_once_to_exist_and_once_to_lead_somewhere() {
    let site = site();
    let mut client = site.client();
    let home = client.mount("/home").unwrap();
    client.send((NFS, 3, LOOKUP), &in_directory(&home, "ann"));
    let (access, duty) = site.desk.next();
    assert_eq!((access.root, &access.name[..]), (HOME, &b"ann"[..]));
    assert_eq!(access.purpose, Purpose::LookUp);
    assert_eq!((access.caller.uid, access.caller.gid), (1000, 100));
    assert_eq!(access.caller.groups, [4, 24]);
    duty.ready();
    let (status, results) = status(client.receive().unwrap().1.unwrap());
    let (ann, attributes) = found(status, &results).unwrap();
    assert_eq!((attributes.kind, attributes.size), (5, 0));
    assert_eq!(client.attributes(&ann).unwrap(), attributes);

    client.send((NFS, 3, READLINK), &opaque(&ann));
    let (access, duty) = site.desk.next();
    assert_eq!(access.purpose, Purpose::Follow);
    site.tree
        .link(HOME, "ann".into(), "/tmp_mnt/ann".into())
        .unwrap();
    duty.ready();
    let (status, results) = client::status(client.receive().unwrap().1.unwrap());
    assert_eq!(target(status, &results).unwrap(), "/tmp_mnt/ann");
    assert!(client.attributes(&ann).unwrap().changed > attributes.changed);
}

#[test]
fn an_owner_may_link_at_the_look_up() {
    let site = site();
    let mut client = site.client();
    let home = client.mount("/home").unwrap();
    client.send((NFS, 3, LOOKUP), &in_directory(&home, "ann"));
    let (_, duty) = site.desk.next();
    site.tree.link(HOME, "ann".into(), "/t".into()).unwrap();
    duty.ready();
    let (status, results) = status(client.receive().unwrap().1.unwrap());
    let (ann, attributes) = found(status, &results).unwrap();
    assert_eq!(attributes.size, 2);
    assert_eq!(client.readlink(&ann).unwrap(), "/t");
    assert!(site.desk.is_empty());
}

#[test]
fn a_root_that_is_a_link_is_read_like_one() {
    let site = site();
    let mut client = site.client();
    let man = client.mount("/usr/man").unwrap();
    client.send((NFS, 3, READLINK), &opaque(&man));
    let (access, duty) = site.desk.next();
    assert_eq!((access.root, &access.name[..]), (MAN, &b""[..]));
    site.tree
        .link(MAN, "".into(), "/tmp_mnt/usr/man".into())
        .unwrap();
    duty.ready();
    let (status, results) = status(client.receive().unwrap().1.unwrap());
    assert_eq!(target(status, &results).unwrap(), "/tmp_mnt/usr/man");
    assert_eq!(client.readlink(&man).unwrap(), "/tmp_mnt/usr/man");
    assert!(site.desk.is_empty());
    // It has no names.
    assert_eq!(client.look_up(&man, "x").unwrap_err(), 20);
}

#[test]
fn failures_keep_their_meaning_and_a_dropped_duty_is_one() {
    let site = site();
    let mut client = site.client();
    let man = client.mount("/usr/man").unwrap();
    let mut ask = |answer: Option<Result<(), Errno>>| {
        client.send((NFS, 3, READLINK), &opaque(&man));
        let (_, duty) = site.desk.next();
        match answer {
            Some(Ok(())) => duty.ready(),
            Some(Err(errno)) => duty.fail(errno),
            None => drop(duty),
        }
        let (status, results) = status(client.receive().unwrap().1.unwrap());
        target(status, &results).unwrap_err()
    };
    assert_eq!(ask(Some(Err(Errno::NOENT))), 2);
    assert_eq!(ask(Some(Err(Errno::ACCESS))), 13);
    assert_eq!(ask(Some(Err(Errno::TIMEDOUT))), 5);
    assert_eq!(ask(None), 5);
    // Ready, but nowhere to go: that would send the client in circles.
    assert_eq!(ask(Some(Ok(()))), 5);
}

#[test]
fn a_name_that_nobody_knows_in_time_is_said_to_exist_until_it_is_followed() {
    let site = site();
    let mut client = site.client();
    let home = client.mount("/home").unwrap();
    let begun = Instant::now();
    let (ann, _) = client.look_up(&home, "ann").unwrap();
    assert!(begun.elapsed() >= limits::LOOK_UP);
    let (access, late) = site.desk.next();
    assert_eq!(access.purpose, Purpose::LookUp);
    client.send((NFS, 3, READLINK), &opaque(&ann));
    let (access, duty) = site.desk.next();
    assert_eq!(access.purpose, Purpose::Follow);
    // Too late to be heard.
    late.fail(Errno::ACCESS);
    duty.fail(Errno::NOENT);
    let (status, results) = status(client.receive().unwrap().1.unwrap());
    assert_eq!(target(status, &results), Err(2));
    assert!(
        client.list(&home, false, 4096).len() == 2,
        "it is not shown"
    );
}

#[test]
fn what_changes_is_seen_by_its_times() {
    let site = site();
    let tree = &site.tree;
    let mut client = site.client();
    let home = client.mount("/home").unwrap();
    let empty = client.attributes(&home).unwrap();
    tree.link(HOME, "ann".into(), "/one".into()).unwrap();
    let with = client.attributes(&home).unwrap();
    assert!(with.changed > empty.changed && with.modified > empty.modified);
    let (ann, one) = client.look_up(&home, "ann").unwrap();
    tree.link(HOME, "ann".into(), "/two".into()).unwrap();
    let two = client.attributes(&ann).unwrap();
    assert!(two.changed > one.changed && two.modified > one.modified);
    assert_eq!((two.size, two.number), (one.size, one.number));
    assert_eq!(client.readlink(&ann).unwrap(), "/two");
    tree.unlink(HOME, "ann".into());
    assert!(client.attributes(&home).unwrap().changed > with.changed);
    assert!(client.attributes(&ann).unwrap().changed > two.changed);
    // A root that goes takes its handles along.
    tree.remove(HOME);
    assert_eq!(client.attributes(&home), Err(70));
    assert_eq!(client.attributes(&ann), Err(70));
}

#[test]
fn a_slow_name_delays_no_other() {
    let site = site();
    let mut client = site.client();
    let home = client.mount("/home").unwrap();
    let man = client.mount("/usr/man").unwrap();
    let slow = client.send((NFS, 3, READLINK), &opaque(&man));
    let (_, duty) = site.desk.next();
    let (tree, desk) = (site.tree.clone(), site.desk.clone());
    let owner = thread::spawn(move || {
        for _ in 0..2000 {
            let (access, duty) = desk.next();
            mount_it(&tree, &access);
            duty.ready();
        }
    });
    for name in 0..1000 {
        let name = format!("key{name}");
        let (handle, _) = client.look_up(&home, &name).unwrap();
        assert_eq!(
            client.readlink(&handle).unwrap(),
            format!("/tmp_mnt/{name}")
        );
    }
    owner.join().unwrap();
    assert_eq!(client.list(&home, true, 8192).len(), 1002);
    duty.fail(Errno::NOENT);
    let (xid, result) = client.receive().unwrap();
    assert_eq!((xid, status(result.unwrap()).0), (slow, 2));
}

#[test]
fn many_wait_at_once_and_are_answered_in_any_order_from_any_thread() {
    let site = site();
    let mut client = site.client();
    let home = client.mount("/home").unwrap();
    let sent: BTreeSet<u32> = (0..500)
        .map(|n| client.send((NFS, 3, LOOKUP), &in_directory(&home, &format!("k{n}"))))
        .collect();
    let mut duties: Vec<_> = sent.iter().map(|_| site.desk.next().1).collect();
    let late = duties.split_off(250);
    let threads = [duties, late].map(|duties| {
        thread::spawn(move || {
            for duty in duties.into_iter().rev() {
                duty.ready();
            }
        })
    });
    let answered: BTreeSet<u32> = sent
        .iter()
        .map(|_| {
            let (xid, result) = client.receive().unwrap();
            assert_eq!(status(result.unwrap()).0, 0);
            xid
        })
        .collect();
    assert_eq!(answered, sent);
    for thread in threads {
        thread.join().unwrap();
    }
}

fn big(site: &Site, count: usize) -> BTreeSet<BString> {
    let names: BTreeSet<BString> = (0..count).map(|n| format!("user{n:06}").into()).collect();
    let listed = names.iter().map(|name| name.as_bstr());
    site.tree.list(HOME, listed).unwrap();
    names
}

#[test]
fn a_hundred_thousand_names_are_read_each_once_in_pages_of_any_size() {
    let site = site();
    let names = big(&site, 100_000);
    let mut client = site.client();
    let home = client.mount("/home").unwrap();
    for (plus, count) in [(false, 64 << 10), (false, 4096), (true, 32 << 10)] {
        let listed = client.list(&home, plus, count);
        assert_eq!(
            listed[..2].iter().map(|one| &one.name).collect::<Vec<_>>(),
            [".", ".."]
        );
        let read: BTreeSet<BString> = listed[2..].iter().map(|one| one.name.clone()).collect();
        assert_eq!(listed.len(), names.len() + 2, "{plus} {count}");
        assert_eq!(read, names);
        for one in listed.iter().skip(2).step_by(9973) {
            let (handle, attributes) = client.look_up(&home, one.name.to_str().unwrap()).unwrap();
            assert_eq!(attributes.number, one.number);
            assert!(one.handle.iter().all(|listed| *listed == handle));
        }
    }
    assert!(
        site.desk.is_empty(),
        "looking at a listed name mounts nothing"
    );
}

#[test]
fn a_directory_that_changes_while_it_is_read_shows_what_stays_exactly_once() {
    let site = site();
    let names = big(&site, 1000);
    let mut client = site.client();
    let home = client.mount("/home").unwrap();
    let (_, page) = client.read_directory(&home, false, 0, &[0; 8], 4096);
    let mut reader = Reader::new(&page);
    some_attributes(&mut reader).unwrap();
    let verifier = reader.fixed(8).unwrap().to_vec();
    let mut seen = Vec::new();
    let mut cookie = 0;
    while reader.follows().unwrap() {
        reader.wide().unwrap();
        seen.push(reader.bytes().unwrap().as_bstr().to_owned());
        cookie = reader.wide().unwrap();
    }
    // A user in three goes, and others come.
    let kept: Vec<BString> = names
        .iter()
        .filter(|name| name[9] % 3 != 0)
        .cloned()
        .collect();
    let fresh = (0..100).map(|n| BString::from(format!("fresh{n}")));
    let now: Vec<BString> = kept.iter().cloned().chain(fresh).collect();
    site.tree
        .list(HOME, now.iter().map(|name| name.as_bstr()))
        .unwrap();
    loop {
        let (status, page) = client.read_directory(&home, false, cookie, &verifier, 4096);
        assert_eq!(status, 0);
        let mut reader = Reader::new(&page);
        some_attributes(&mut reader).unwrap();
        reader.fixed(8).unwrap();
        while reader.follows().unwrap() {
            reader.wide().unwrap();
            seen.push(reader.bytes().unwrap().as_bstr().to_owned());
            cookie = reader.wide().unwrap();
        }
        if reader.follows().unwrap() {
            break;
        }
    }
    for name in kept {
        assert_eq!(
            seen.iter().filter(|seen| **seen == name).count(),
            1,
            "{name}"
        );
    }
}

#[test]
fn reading_a_directory_wrongly_is_told() {
    let site = site();
    big(&site, 10);
    let mut client = site.client();
    let home = client.mount("/home").unwrap();
    let man = client.mount("/usr/man").unwrap();
    for plus in [false, true] {
        let mut read = |handle: &[u8], cookie, verifier: &[u8], count| {
            client
                .read_directory(handle, plus, cookie, verifier, count)
                .0
        };
        assert_eq!(read(&home, 0, &[0; 8], 100), 10005, "not one name has room");
        assert_eq!(read(&home, 0, &[0; 8], 0), 10005);
        assert_eq!(read(&home, 0, &[0; 8], u32::MAX), 0);
        assert_eq!(read(&home, 3, &[9; 8], 4096), 10003, "a foreign verifier");
        assert_eq!(read(&man, 0, &[0; 8], 4096), 20);
    }
}

#[test]
fn after_a_restart_at_the_same_port_handles_are_good() {
    let first = site();
    first.tree.link(HOME, "ann".into(), "/a".into()).unwrap();
    let port = first.server.address().port();
    let mut client = first.client();
    let home = client.mount("/home").unwrap();
    let ann = client.look_up(&home, "ann").unwrap().0;
    let listed = client.list(&home, false, 4096);
    // Somebody waits while the server ends: nothing is said to him.
    client.send((NFS, 3, LOOKUP), &in_directory(&home, "bob"));
    let (_, duty) = first.desk.next();
    drop(first.server);
    assert_eq!(client.receive(), None);
    duty.ready();

    let second = site_at(port);
    second.tree.link(HOME, "ann".into(), "/b".into()).unwrap();
    let mut client = second.client();
    assert_eq!(client.mount("/home").as_ref(), Ok(&home));
    assert_eq!(client.readlink(&ann).unwrap(), "/b");
    assert_eq!(client.list(&home, false, 4096), listed);
}

#[test]
fn whoever_connects_while_nobody_serves_waits_as_long_as_the_port_is_held() {
    use std::os::fd::AsFd;
    let listener = piton_loopback::Listener::at(0).unwrap();
    let held = listener.as_fd().try_clone_to_owned().unwrap();
    let port = listener.port();
    drop(listener);
    let mut client = Client::new(port);
    client.send((NFS, 3, NULL), b"");
    thread::sleep(Duration::from_millis(20));
    let listener = piton_loopback::Listener::inherited(held).unwrap();
    let desk = std::sync::Arc::new(Desk::default());
    let _server = piton_loopback::Server::start(listener, tree(), desk).unwrap();
    assert_eq!(client.receive().unwrap().1, Ok(vec![]));
}

#[test]
fn roots_may_come_and_go_while_clients_walk() {
    let site = site();
    let mut client = site.client();
    for round in 0..200 {
        let id = RootId(10 + round);
        let path = format!("/r{}", round % 7);
        site.tree
            .add(id, path.as_str().into(), RootKind::Directory, 0o555)
            .unwrap();
        let root = client.mount(&path).unwrap();
        client.send((NFS, 3, LOOKUP), &in_directory(&root, "x"));
        let (access, duty) = site.desk.next();
        assert_eq!(access.root, id);
        site.tree.remove(id);
        duty.ready();
        let (status, results) = status(client.receive().unwrap().1.unwrap());
        assert_eq!(found(status, &results).unwrap_err(), 70);
    }
}
