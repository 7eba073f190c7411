//! What is refused, and how: callers, versions, changes, nonsense, and too much of everything.

mod client;

use std::io::{Read, Write};
use std::net::TcpStream;

use client::*;
use piton_loopback::limits;
use piton_rpc::record::mark;
use piton_rpc::xdr::Writer;
use rustix::io::Errno;

#[test]
fn whoever_does_not_say_who_he_is_is_nobody() {
    let site = site();
    let mut client = site.client();
    client.credential = Credential::None;
    let home = client.mount("/home").unwrap();
    client.send((NFS, 3, LOOKUP), &in_directory(&home, "ann"));
    let (access, duty) = site.desk.next();
    assert_eq!((access.caller.uid, access.caller.gid), (65534, 65534));
    duty.ready();
    client.receive().unwrap().1.unwrap();
}

#[test]
fn credentials_are_read_up_to_their_bounds_and_no_further() {
    let site = site();
    let mut client = site.client();
    let home = client.mount("/home").unwrap();
    let groups = |count: usize| (0..u32::try_from(count).unwrap()).collect::<Vec<u32>>();
    client.credential = Credential::Sys(7, 8, groups(limits::GROUPS));
    client.send((NFS, 3, LOOKUP), &in_directory(&home, "ann"));
    let (access, duty) = site.desk.next();
    assert_eq!(access.caller.groups, groups(limits::GROUPS));
    duty.ready();
    client.receive().unwrap().1.unwrap();

    let getattr = |client: &mut Client| client.raw((NFS, 3, GETATTR), &opaque(&home));
    let bad = Err(Refused::Denied(1, vec![0, 0, 0, 1]));
    client.credential = Credential::Sys(7, 8, groups(limits::GROUPS + 1));
    assert_eq!(getattr(&mut client), bad);
    for body in [
        &b""[..],
        &[0; 16],
        // A machine's name and a number of groups that are not there.
        &[0, 0, 0, 1, 0xff, 0xff, 0xff, 0xff],
        &[0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 1, 0, 0, 0, 2, 0, 0, 0, 9],
        // Something after the end.
        &[
            0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 1, 0, 0, 0, 2, 0, 0, 0, 0, 1, 1, 1, 1,
        ],
    ] {
        client.credential = Credential::Raw(1, body.to_vec());
        assert_eq!(getattr(&mut client), bad, "{body:?}");
    }
    client.credential = Credential::Raw(6, vec![1, 2, 3, 4]);
    let strange = Err(Refused::Denied(1, vec![0, 0, 0, 5]));
    assert_eq!(getattr(&mut client), strange);
    // The longest credential, and one byte more: that is no RPC.
    client.credential = Credential::Raw(0, vec![0; limits::CREDENTIAL]);
    assert!(getattr(&mut client).is_ok());
    client.credential = Credential::Raw(0, vec![0; limits::CREDENTIAL + 1]);
    client.send((NFS, 3, GETATTR), &opaque(&home));
    assert_eq!(client.receive(), None);
}

#[test]
fn what_is_not_served_is_told() {
    let site = site();
    let mut client = site.client();
    let refused = |status, rest: &[u8]| Err(Refused::Accepted(status, rest.to_vec()));
    assert_eq!(client.raw((100_227, 3, 0), b""), refused(1, b""));
    let only_three = [0, 0, 0, 3, 0, 0, 0, 3];
    assert_eq!(client.raw((NFS, 2, 0), b""), refused(2, &only_three));
    assert_eq!(client.raw((NFS, 4, 1), b""), refused(2, &only_three));
    assert_eq!(client.raw((MOUNT, 1, 0), b""), refused(2, &only_three));
    for procedure in [22, 1000, u32::MAX] {
        assert_eq!(client.raw((NFS, 3, procedure), b""), refused(3, b""));
    }
    assert_eq!(client.raw((MOUNT, 3, 6), b""), refused(3, b""));
    assert_eq!(client.raw((NFS, 3, NULL), b""), Ok(vec![]));
    assert_eq!(client.raw((MOUNT, 3, NULL), b""), Ok(vec![]));
    // Another version of RPC itself.
    let mut message = client.message(9, (NFS, 3, 0), b"");
    message[11] = 3;
    client.stream.write_all(&mark(&message)).unwrap();
    let denied = Refused::Denied(0, vec![0, 0, 0, 2, 0, 0, 0, 2]);
    assert_eq!(client.receive(), Some((9, Err(denied))));
}

#[test]
fn arguments_that_cannot_be_read_are_garbage() {
    let site = site();
    let mut client = site.client();
    let home = client.mount("/home").unwrap();
    let garbage = Err(Refused::Accepted(4, vec![]));
    for procedure in 1..22 {
        for arguments in [&b""[..], &[0, 0, 0, 9, 1], &[0xff; 8], &opaque(&[0; 65])] {
            let refused = client.raw((NFS, 3, procedure), arguments);
            assert_eq!(refused, garbage, "{procedure} {arguments:?}");
        }
    }
    // Too much is garbage as well, where something is told.
    for procedure in [
        GETATTR,
        LOOKUP,
        ACCESS,
        READLINK,
        READDIR,
        READDIRPLUS,
        18,
        19,
        20,
    ] {
        let mut arguments = in_directory(&home, "ann");
        arguments.extend_from_slice(&[0; 64]);
        assert_eq!(client.raw((NFS, 3, procedure), &arguments), garbage);
    }
    assert_eq!(client.raw((MOUNT, 3, 1), &[0, 0, 0, 9]), garbage);
    assert_eq!(client.raw((MOUNT, 3, 3), b""), garbage);
    assert!(site.desk.is_empty());
}

#[test]
fn handles_that_are_none_and_names_that_are_none_are_refused() {
    let site = site();
    let mut client = site.client();
    let home = client.mount("/home").unwrap();
    let mut forged = home.clone();
    forged[9] ^= 1;
    let unknown = [&home[..], &[7; 16]].concat();
    for procedure in 1..22 {
        // Enough of everything for each procedure.
        let arguments = |handle: &[u8]| match procedure {
            LOOKUP => in_directory(handle, "x"),
            ACCESS => [opaque(handle), vec![0; 4]].concat(),
            6 => [opaque(handle), vec![0; 12]].concat(),
            READDIR => [opaque(handle), vec![0; 20]].concat(),
            READDIRPLUS => [opaque(handle), vec![0; 24]].concat(),
            _ => opaque(handle),
        };
        assert_eq!(
            client.nfs(procedure, &arguments(&forged)).0,
            70,
            "{procedure}"
        );
        assert_eq!(client.nfs(procedure, &arguments(&unknown)).0, 70);
        assert_eq!(client.nfs(procedure, &arguments(b"")).0, 10001);
        assert_eq!(client.nfs(procedure, &arguments(&[9; 64])).0, 10001);
    }
    let long = "x".repeat(limits::NAME + 1);
    for (name, status) in [("", 13), ("a/b", 13), ("a\0b", 13), (&long, 63)] {
        assert_eq!(client.look_up(&home, name).unwrap_err(), status, "{name:?}");
    }
    assert!(site.desk.is_empty());
}

#[test]
fn nothing_can_be_changed_or_read_as_a_file() {
    let site = site();
    site.tree.link(HOME, "ann".into(), "/a".into()).unwrap();
    let mut client = site.client();
    let home = client.mount("/home").unwrap();
    let ann = client.look_up(&home, "ann").unwrap().0;
    // Each with as many things whose attributes could be told, and are not.
    for (procedure, absent) in [
        (2, 2),
        (7, 2),
        (8, 2),
        (9, 2),
        (10, 2),
        (11, 2),
        (12, 2),
        (13, 2),
        (14, 4),
        (15, 3),
        (21, 2),
    ] {
        let arguments = in_directory(&home, "ann");
        let refused = client.nfs(procedure, &arguments);
        assert_eq!(refused, (30, vec![0; 4 * absent]), "{procedure}");
    }
    let read = |handle: &[u8]| [opaque(handle), vec![0; 12]].concat();
    assert_eq!(client.nfs(6, &read(&home)).0, 21);
    assert_eq!(client.nfs(6, &read(&ann)).0, 22);
    assert_eq!(client.readlink(&home), Err(22));
    // Of what may be done with them only looking is granted.
    let access = |handle: &[u8]| [opaque(handle), vec![0, 0, 0, 0x3f]].concat();
    assert!(
        client
            .nfs(ACCESS, &access(&home))
            .1
            .ends_with(&[0, 0, 0, 0x23])
    );
    assert!(
        client
            .nfs(ACCESS, &access(&ann))
            .1
            .ends_with(&[0, 0, 0, 0x21])
    );
    for (procedure, length) in [(18, 52), (19, 48), (20, 24)] {
        let (status, results) = client.nfs(procedure, &opaque(&home));
        assert_eq!((status, results.len()), (0, 88 + length), "{procedure}");
    }
}

#[test]
fn the_mount_daemon_tells_what_there_is_and_who_has_it() {
    let site = site();
    let mut client = site.client();
    let list = |items: &[&[&str]]| {
        let mut writer = Writer::default();
        for item in items {
            writer.word(1);
            item.iter().for_each(|text| writer.bytes(text.as_bytes()));
        }
        writer.word(0);
        writer.into_bytes()
    };
    let groups = |path: &str| [vec![0, 0, 0, 1], text(path), vec![0; 4]].concat();
    let exports = [groups("/home"), groups("/usr/man"), vec![0; 4]].concat();
    assert_eq!(client.raw((MOUNT, 3, 5), b"").unwrap(), exports);
    let dump = |client: &mut Client| client.raw((MOUNT, 3, 2), b"").unwrap();
    assert_eq!(dump(&mut client), list(&[]));
    client.mount("/home").unwrap();
    client.mount("/usr/man").unwrap();
    client.mount("/nowhere").unwrap_err();
    let both = list(&[&["here", "/home"], &["here", "/usr/man"]]);
    assert_eq!(dump(&mut client), both);
    assert_eq!(client.raw((MOUNT, 3, 3), &text("/home/")), Ok(vec![]));
    assert_eq!(dump(&mut client), list(&[&["here", "/usr/man"]]));
    assert_eq!(client.raw((MOUNT, 3, 4), b""), Ok(vec![]));
    assert_eq!(dump(&mut client), list(&[]));
}

#[test]
fn lists_of_the_mount_daemon_are_cut_where_an_answer_ends() {
    use piton_loopback::{RootId, RootKind};
    let site = site();
    for n in 0..10_000 {
        let path = format!("/a/long/path/of/a/direct/map/{n:08}");
        let id = RootId(100 + n);
        site.tree
            .add(id, path.as_str().into(), RootKind::Link, 0)
            .unwrap();
    }
    let mut client = site.client();
    for n in 0..limits::DUMPED + 10 {
        client
            .mount(&format!("/a/long/path/of/a/direct/map/{n:08}"))
            .unwrap();
    }
    let exports = client.raw((MOUNT, 3, 5), b"").unwrap();
    assert!((60 << 10..=limits::ANSWER).contains(&exports.len()));
    assert!(exports.ends_with(&[0; 4]));
    let dump = client.raw((MOUNT, 3, 2), b"").unwrap();
    assert_eq!(dump.len(), limits::DUMPED * (4 + 8 + 4 + 40) + 4);
}

#[test]
fn a_request_that_is_sent_again_is_asked_once_and_answered_wherever_it_was_sent() {
    let site = site();
    let (mut one, mut two) = (site.client(), site.client());
    let man = one.mount("/usr/man").unwrap();
    let message = one.message(77, (NFS, 3, READLINK), &opaque(&man));
    let again = mark(&message);
    one.stream.write_all(&again).unwrap();
    let (_, duty) = site.desk.next();
    one.stream.write_all(&again).unwrap();
    two.stream.write_all(&again).unwrap();
    // What is asked after them has been read after them.
    one.raw((NFS, 3, NULL), b"").unwrap();
    two.raw((NFS, 3, NULL), b"").unwrap();
    assert!(site.desk.is_empty());
    duty.fail(Errno::NOENT);
    for client in [&mut one, &mut two] {
        let (xid, result) = client.receive().unwrap();
        assert_eq!((xid, status(result.unwrap()).0), (77, 2));
        client.raw((NFS, 3, NULL), b"").unwrap();
    }
    // The first connection may be gone by the time of the answer.
    let message = mark(&one.message(78, (NFS, 3, READLINK), &opaque(&man)));
    one.stream.write_all(&message).unwrap();
    let (_, duty) = site.desk.next();
    drop(one);
    two.stream.write_all(&message).unwrap();
    two.raw((NFS, 3, NULL), b"").unwrap();
    duty.fail(Errno::NOENT);
    assert_eq!(two.receive().unwrap().0, 78);
    assert!(site.desk.is_empty());
}

#[test]
fn too_many_waiting_requests_are_told_to_come_again() {
    let site = site();
    let mut client = site.client();
    let home = client.mount("/home").unwrap();
    let man = client.mount("/usr/man").unwrap();
    let mut duties = Vec::new();
    for n in 0..limits::PARKED {
        let xid = client.send((NFS, 3, READLINK), &opaque(&man));
        assert_eq!(xid as usize, n + 3);
        duties.push(site.desk.next().1);
    }
    assert_eq!(client.look_up(&home, "more").unwrap_err(), 10008);
    assert!(site.desk.is_empty());
    // All else goes on.
    client.attributes(&home).unwrap();
    duties.pop().unwrap().fail(Errno::NOENT);
    client.receive().unwrap().1.unwrap();
    client.send((NFS, 3, LOOKUP), &in_directory(&home, "more"));
    site.desk.next().1.ready();
}

#[test]
fn nonsense_ends_the_connection_and_nothing_else() {
    let site = site();
    let mut good = site.client();
    let home = good.mount("/home").unwrap();
    let too_long = u32::try_from(limits::RECORD + 1).unwrap();
    let reply = [[0, 0, 0, 1].as_slice(), &[0, 0, 0, 1], &[0; 40]].concat();
    for nonsense in [
        b"GET / HTTP/1.1\r\n\r\n".to_vec(),
        mark(b"").to_vec(),
        mark(&[1]).to_vec(),
        mark(&reply),
        // A length alone costs nothing.
        (too_long | 1 << 31).to_be_bytes().to_vec(),
        vec![0x7f, 0xff, 0xff, 0xff],
        vec![0xff; 4],
    ] {
        let mut bad = site.client();
        bad.stream.write_all(&nonsense).unwrap();
        assert_eq!(bad.receive(), None, "{nonsense:?}");
        good.attributes(&home).unwrap();
    }
}

#[test]
fn the_longest_message_is_read_and_one_byte_more_is_not() {
    let site = site();
    let mut client = site.client();
    let home = client.mount("/home").unwrap();
    let header = client.message(1, (NFS, 3, 7), &opaque(&home)).len();
    let write = |more: usize| {
        let arguments = [opaque(&home), vec![0; limits::RECORD - header + more]].concat();
        client.message(1, (NFS, 3, 7), &arguments)
    };
    let (most, more) = (mark(&write(0)), mark(&write(1)));
    client.stream.write_all(&most).unwrap();
    let (_, result) = client.receive().unwrap();
    assert_eq!(status(result.unwrap()).0, 30);
    // It may be closed before all was sent.
    let _ = client.stream.write_all(&more);
    assert_eq!(client.receive(), None);
}

#[test]
fn a_message_may_come_in_any_pieces() {
    let site = site();
    let mut client = site.client();
    let message = client.message(5, (NFS, 3, NULL), b"");
    for byte in mark(&message) {
        client.stream.write_all(&[byte]).unwrap();
    }
    assert_eq!(client.receive(), Some((5, Ok(vec![]))));
    // In fragments, and many at once.
    let mut bytes = Vec::new();
    for piece in message.chunks(7) {
        let mut fragment = mark(piece);
        fragment[0] = 0;
        bytes.extend(fragment);
    }
    bytes.extend(mark(b""));
    let all = bytes.repeat(100);
    client.stream.write_all(&all).unwrap();
    for _ in 0..100 {
        assert_eq!(client.receive(), Some((5, Ok(vec![]))));
    }
}

#[test]
fn who_does_not_take_answers_gets_no_more_and_delays_nobody() {
    let site = site();
    let names: Vec<String> = (0..2000).map(|n| format!("user{n}")).collect();
    let listed = names.iter().map(|name| name.as_str().into());
    site.tree.list(HOME, listed).unwrap();
    let mut good = site.client();
    let home = good.mount("/home").unwrap();
    let greedy = site.client();
    let mut arguments = Writer::default();
    arguments.bytes(&home);
    arguments.wide(0);
    arguments.fixed(&[0; 8]);
    arguments.word(64 << 10);
    let call = mark(&greedy.message(1, (NFS, 3, READDIR), &arguments.into_bytes()));
    greedy.stream.set_nonblocking(true).unwrap();
    let mut stream: &TcpStream = &greedy.stream;
    // Calls for gigabytes of answers, until no more of them are taken.
    let mut sent = 0_usize;
    let mut full = 0;
    while full < 20 {
        match stream.write(&call) {
            Ok(count) => (sent, full) = (sent + count, 0),
            Err(_) => {
                full += 1;
                good.attributes(&home).unwrap();
                std::thread::sleep(std::time::Duration::from_millis(5));
            }
        }
    }
    let calls = sent / call.len();
    assert!(calls > 1000, "{calls}");
    // All were kept by sockets, not by the server; and when answers are taken it goes on.
    greedy.stream.set_nonblocking(false).unwrap();
    let mut taken = 0;
    let mut buffer = vec![0; 1 << 20];
    while taken < 16 << 20 {
        taken += (&greedy.stream).read(&mut buffer).unwrap();
    }
    good.attributes(&home).unwrap();
}

#[test]
fn so_many_connections_are_served_and_one_more_waits() {
    let site = site();
    let home = site.client().mount("/home").unwrap();
    // Those above are looked for in the table of sockets, and that not too often.
    let mut clients = Vec::new();
    while clients.len() < limits::CONNECTIONS {
        let mut client = site.client();
        client.send((NFS, 3, GETATTR), &opaque(&home));
        match client.receive() {
            Some(_) => clients.push(client),
            None => std::thread::sleep(std::time::Duration::from_millis(100)),
        }
    }
    let mut waiting = site.client();
    waiting.send((NFS, 3, GETATTR), &opaque(&home));
    for client in &mut clients {
        client.attributes(&home).unwrap();
    }
    clients.pop();
    assert!(waiting.receive().unwrap().1.is_ok());
}
