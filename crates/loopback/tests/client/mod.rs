//! A client of a few lines, and an owner for tests.
#![allow(dead_code, reason = "each test program uses a part of it")]

use std::collections::VecDeque;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::sync::{Arc, Condvar, Mutex};
use std::time::Duration;

use bstr::{BStr, BString, ByteSlice};
use piton_loopback::{
    Access, Duty, Listener, Owner, Purpose, RootId, RootKind, Secret, Server, Tree,
};
use piton_rpc::record::{Records, mark};
use piton_rpc::xdr::{Reader, Writer};

/// How long an answer may take.
pub(crate) const PATIENCE: Duration = Duration::from_secs(60);

pub(crate) const NFS: u32 = 100_003;
pub(crate) const MOUNT: u32 = 100_005;
pub(crate) const HOME: RootId = RootId(1);
pub(crate) const MAN: RootId = RootId(2);

pub(crate) const NULL: u32 = 0;
pub(crate) const GETATTR: u32 = 1;
pub(crate) const LOOKUP: u32 = 3;
pub(crate) const ACCESS: u32 = 4;
pub(crate) const READLINK: u32 = 5;
pub(crate) const READDIR: u32 = 16;
pub(crate) const READDIRPLUS: u32 = 17;

pub(crate) fn secret() -> Secret {
    Secret::new(*b"test test test!!")
}

/// A directory at /home and a link at /usr/man.
pub(crate) fn tree() -> Tree {
    let tree = Tree::new(secret());
    tree.add(HOME, "/home".into(), RootKind::Directory, 0o555)
        .unwrap();
    tree.add(MAN, "/usr/man".into(), RootKind::Link, 0o555)
        .unwrap();
    tree
}

/// Keeps what it is asked, until the test answers.
#[derive(Default)]
pub(crate) struct Desk {
    asked: Mutex<VecDeque<(Access, Duty)>>,
    bell: Condvar,
}

impl Desk {
    /// The next question.
    pub(crate) fn next(&self) -> (Access, Duty) {
        let asked = self.asked.lock().unwrap();
        let (mut asked, late) = self
            .bell
            .wait_timeout_while(asked, PATIENCE, |asked| asked.is_empty())
            .unwrap();
        assert!(!late.timed_out(), "nothing was asked");
        asked.pop_front().unwrap()
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.asked.lock().unwrap().is_empty()
    }
}

impl Owner for Desk {
    fn access(&self, access: Access, duty: Duty) {
        self.asked.lock().unwrap().push_back((access, duty));
        self.bell.notify_all();
    }
}

pub(crate) struct Site {
    pub(crate) tree: Tree,
    pub(crate) desk: Arc<Desk>,
    pub(crate) server: Server,
}

pub(crate) fn site() -> Site {
    site_at(0)
}

pub(crate) fn site_at(port: u16) -> Site {
    let (tree, desk) = (tree(), Arc::new(Desk::default()));
    let listener = Listener::at(port).unwrap();
    let server = Server::start(listener, tree.clone(), desk.clone()).unwrap();
    Site { tree, desk, server }
}

impl Site {
    pub(crate) fn client(&self) -> Client {
        Client::new(self.server.address().port())
    }
}

/// Who calls.
#[derive(Clone)]
pub(crate) enum Credential {
    None,
    Sys(u32, u32, Vec<u32>),
    Raw(u32, Vec<u8>),
}

pub(crate) struct Client {
    pub(crate) stream: TcpStream,
    records: Records,
    unread: Vec<u8>,
    pub(crate) credential: Credential,
    next: u32,
}

/// Why there are no results.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Refused {
    /// `accept_stat`, with what follows.
    Accepted(u32, Vec<u8>),
    /// `reject_stat`, with what follows.
    Denied(u32, Vec<u8>),
}

impl Client {
    pub(crate) fn new(port: u16) -> Self {
        let stream = TcpStream::connect(("127.0.0.1", port)).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        stream.set_nodelay(true).unwrap();
        Self {
            stream,
            records: Records::new(1 << 20),
            unread: Vec::new(),
            credential: Credential::Sys(1000, 100, vec![4, 24]),
            next: 1,
        }
    }

    /// A client that is served for certain: of those without a reserved port some are turned away
    /// when many come in one second.
    pub(crate) fn served(port: u16) -> Self {
        loop {
            let mut client = Self::new(port);
            client.send((NFS, 3, NULL), b"");
            if client.receive().is_some() {
                return client;
            }
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    /// A call as it goes over the wire, without its record mark.
    pub(crate) fn message(&self, xid: u32, what: (u32, u32, u32), arguments: &[u8]) -> Vec<u8> {
        let mut writer = Writer::default();
        for word in [xid, 0, 2, what.0, what.1, what.2] {
            writer.word(word);
        }
        match &self.credential {
            Credential::None => {
                writer.word(0);
                writer.bytes(b"");
            }
            Credential::Sys(uid, gid, groups) => {
                let mut body = Writer::default();
                body.word(77);
                body.bytes(b"here");
                for word in [*uid, *gid, u32::try_from(groups.len()).unwrap()] {
                    body.word(word);
                }
                groups.iter().for_each(|group| body.word(*group));
                writer.word(1);
                writer.bytes(&body.into_bytes());
            }
            Credential::Raw(flavor, body) => {
                writer.word(*flavor);
                writer.bytes(body);
            }
        }
        writer.word(0);
        writer.bytes(b"");
        let mut message = writer.into_bytes();
        message.extend_from_slice(arguments);
        message
    }

    /// Sends a call; its number.
    pub(crate) fn send(&mut self, what: (u32, u32, u32), arguments: &[u8]) -> u32 {
        let xid = self.next;
        self.next += 1;
        let message = self.message(xid, what, arguments);
        self.stream.write_all(&mark(&message)).unwrap();
        xid
    }

    /// The next reply: its number, and what it says. None when the connection was closed.
    pub(crate) fn receive(&mut self) -> Option<(u32, Result<Vec<u8>, Refused>)> {
        loop {
            let mut bytes = &self.unread[..];
            let message = self.records.take(&mut bytes).unwrap();
            self.unread = bytes.to_vec();
            if let Some(message) = message {
                return Some(reply(&message));
            }
            let mut buffer = vec![0; 64 << 10];
            match self.stream.read(&mut buffer) {
                Ok(0) => return None,
                Ok(count) => self.unread = buffer[..count].to_vec(),
                Err(error) if error.kind() == std::io::ErrorKind::ConnectionReset => return None,
                Err(error) => panic!("no answer: {error}"),
            }
        }
    }

    pub(crate) fn raw(
        &mut self,
        what: (u32, u32, u32),
        arguments: &[u8],
    ) -> Result<Vec<u8>, Refused> {
        let xid = self.send(what, arguments);
        let (theirs, result) = self.receive().expect("an answer");
        assert_eq!(theirs, xid);
        result
    }

    /// Calls NFS; status and results.
    pub(crate) fn nfs(&mut self, procedure: u32, arguments: &[u8]) -> (u32, Vec<u8>) {
        status(self.raw((NFS, 3, procedure), arguments).unwrap())
    }

    /// Mounts a path: its handle.
    pub(crate) fn mount(&mut self, path: &str) -> Result<Vec<u8>, u32> {
        let results = self.raw((MOUNT, 3, 1), &text(path)).unwrap();
        let (status, results) = status(results);
        if status != 0 {
            return Err(status);
        }
        let mut reader = Reader::new(&results);
        let handle = reader.bytes().unwrap().to_vec();
        assert_eq!(reader.word(), Ok(2));
        assert_eq!((reader.word(), reader.word()), (Ok(1), Ok(0)));
        reader.end().unwrap();
        Ok(handle)
    }

    /// The handle of a name, and its attributes.
    pub(crate) fn look_up(
        &mut self,
        directory: &[u8],
        name: &str,
    ) -> Result<(Vec<u8>, Attributes), u32> {
        let (status, results) = self.nfs(LOOKUP, &in_directory(directory, name));
        found(status, &results)
    }

    pub(crate) fn readlink(&mut self, handle: &[u8]) -> Result<BString, u32> {
        let (status, results) = self.nfs(READLINK, &opaque(handle));
        target(status, &results)
    }

    pub(crate) fn attributes(&mut self, handle: &[u8]) -> Result<Attributes, u32> {
        let (status, results) = self.nfs(GETATTR, &opaque(handle));
        if status != 0 {
            return Err(status);
        }
        Ok(Attributes::read(&mut Reader::new(&results)))
    }

    /// All names of a directory in answers of so many bytes: name, number, cookie, and handle.
    pub(crate) fn list(&mut self, directory: &[u8], plus: bool, count: u32) -> Vec<Listed> {
        let mut all = Vec::new();
        let (mut cookie, mut verifier) = (0, vec![0; 8]);
        loop {
            let (status, results) = self.read_directory(directory, plus, cookie, &verifier, count);
            assert_eq!(status, 0);
            assert!(results.len() <= count as usize, "{}", results.len());
            let mut reader = Reader::new(&results);
            some_attributes(&mut reader).expect("attributes of the directory");
            verifier = reader.fixed(8).unwrap().to_vec();
            while reader.follows().unwrap() {
                let number = reader.wide().unwrap();
                let name = reader.bytes().unwrap().as_bstr().to_owned();
                cookie = reader.wide().unwrap();
                let handle = plus.then(|| {
                    some_attributes(&mut reader).expect("attributes");
                    assert_eq!(reader.follows(), Ok(true));
                    reader.bytes().unwrap().to_vec()
                });
                all.push(Listed {
                    number,
                    name,
                    cookie,
                    handle,
                });
            }
            let end = reader.follows().unwrap();
            reader.end().unwrap();
            if end {
                return all;
            }
        }
    }

    pub(crate) fn read_directory(
        &mut self,
        directory: &[u8],
        plus: bool,
        cookie: u64,
        verifier: &[u8],
        count: u32,
    ) -> (u32, Vec<u8>) {
        let mut writer = Writer::default();
        writer.bytes(directory);
        writer.wide(cookie);
        writer.fixed(verifier);
        if plus {
            writer.word(count);
        }
        writer.word(count);
        let procedure = if plus { READDIRPLUS } else { READDIR };
        self.nfs(procedure, &writer.into_bytes())
    }
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Listed {
    pub(crate) number: u64,
    pub(crate) name: BString,
    pub(crate) cookie: u64,
    pub(crate) handle: Option<Vec<u8>>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Attributes {
    pub(crate) kind: u32,
    pub(crate) mode: u32,
    pub(crate) size: u64,
    pub(crate) device: u64,
    pub(crate) number: u64,
    pub(crate) modified: (u32, u32),
    pub(crate) changed: (u32, u32),
}

impl Attributes {
    pub(crate) fn read(reader: &mut Reader<'_>) -> Self {
        let mut word = || reader.word().unwrap();
        let (kind, mode) = (word(), word());
        let _links_and_owner = (word(), word(), word());
        let mut wide = || u64::from(word()) << 32 | u64::from(word());
        let size = wide();
        let _used_and_rdev = (wide(), wide());
        let (device, number) = (wide(), wide());
        let mut time = || (word(), word());
        let _accessed = time();
        Self {
            kind,
            mode,
            size,
            device,
            number,
            modified: time(),
            changed: time(),
        }
    }
}

pub(crate) fn some_attributes(reader: &mut Reader<'_>) -> Option<Attributes> {
    reader.follows().unwrap().then(|| Attributes::read(reader))
}

/// What LOOKUP says.
pub(crate) fn found(status: u32, results: &[u8]) -> Result<(Vec<u8>, Attributes), u32> {
    let mut reader = Reader::new(results);
    if status != 0 {
        some_attributes(&mut reader);
        reader.end().unwrap();
        return Err(status);
    }
    let handle = reader.bytes().unwrap().to_vec();
    let own = some_attributes(&mut reader).expect("attributes");
    some_attributes(&mut reader).expect("attributes of the directory");
    reader.end().unwrap();
    Ok((handle, own))
}

/// What READLINK says.
pub(crate) fn target(status: u32, results: &[u8]) -> Result<BString, u32> {
    let mut reader = Reader::new(results);
    some_attributes(&mut reader);
    let target = match status {
        0 => Ok(reader.bytes().unwrap().as_bstr().to_owned()),
        status => Err(status),
    };
    reader.end().unwrap();
    target
}

fn reply(message: &[u8]) -> (u32, Result<Vec<u8>, Refused>) {
    let mut reader = Reader::new(message);
    let xid = reader.word().unwrap();
    assert_eq!(reader.word(), Ok(1), "a reply");
    if reader.word() == Ok(1) {
        let status = reader.word().unwrap();
        let refused = Refused::Denied(status, reader.rest().to_vec());
        return (xid, Err(refused));
    }
    assert_eq!((reader.word(), reader.bytes()), (Ok(0), Ok(&b""[..])));
    match reader.word().unwrap() {
        0 => (xid, Ok(reader.rest().to_vec())),
        status => {
            let refused = Refused::Accepted(status, reader.rest().to_vec());
            (xid, Err(refused))
        }
    }
}

pub(crate) fn status(results: Vec<u8>) -> (u32, Vec<u8>) {
    let mut reader = Reader::new(&results);
    (reader.word().unwrap(), reader.rest().to_vec())
}

pub(crate) fn opaque(bytes: &[u8]) -> Vec<u8> {
    let mut writer = Writer::default();
    writer.bytes(bytes);
    writer.into_bytes()
}

pub(crate) fn text(text: &str) -> Vec<u8> {
    opaque(text.as_bytes())
}

pub(crate) fn in_directory(directory: &[u8], name: &str) -> Vec<u8> {
    [opaque(directory), text(name)].concat()
}

/// Answers whatever is asked: the name exists, and leads below /tmp_mnt.
pub(crate) fn mount_it(tree: &Tree, access: &Access) {
    if access.purpose == Purpose::Follow {
        let target = [b"/tmp_mnt/", &access.name[..]].concat();
        let name: &BStr = access.name.as_bstr();
        tree.link(access.root, name, target.as_bstr()).unwrap();
    }
}
