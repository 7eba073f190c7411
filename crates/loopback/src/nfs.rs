//! The procedures of NFS version 3 (RFC 1813), for directories and links that cannot be changed.

use bstr::{BStr, BString, ByteSlice};
use piton_rpc::Error;
use piton_rpc::xdr::{Reader, Writer};
use rustix::io::Errno;

use crate::call::{Unable, at_most, name, success, unable};
use crate::duty::{Access, Caller, Purpose};
use crate::handle::Handle;
use crate::limits;
use crate::question::Question;
use crate::serve::Outcome;
use crate::status::Status;
use crate::tree::{Node, RootId, Tree, TreeError, is_name};

pub(crate) const PROGRAM: u32 = 100_003;
pub(crate) const VERSION: u32 = 3;

/// Names of the procedures, for the log.
pub(crate) const PROCEDURES: [&str; 22] = [
    "NULL",
    "GETATTR",
    "SETATTR",
    "LOOKUP",
    "ACCESS",
    "READLINK",
    "READ",
    "WRITE",
    "CREATE",
    "MKDIR",
    "SYMLINK",
    "MKNOD",
    "REMOVE",
    "RMDIR",
    "RENAME",
    "LINK",
    "READDIR",
    "READDIRPLUS",
    "FSSTAT",
    "FSINFO",
    "PATHCONF",
    "COMMIT",
];

/// Longest handle (`NFS3_FHSIZE`).
const HANDLE: usize = 64;

/// `ftype3`.
const DIRECTORY: u32 = 2;
const LINK: u32 = 5;

/// Bits of ACCESS: what may be granted of a directory and of a link.
const ACCESS_READ: u32 = 0x01;
const ACCESS_LOOKUP: u32 = 0x02;
const ACCESS_EXECUTE: u32 = 0x20;

/// The cookies of the two names that each directory has.
const SELF: u64 = 1;
const PARENT: u64 = 2;

/// Carries out one call.
pub(crate) fn carry_out(
    tree: &Tree,
    xid: u32,
    procedure: u32,
    caller: Caller,
    arguments: Reader<'_>,
) -> Outcome {
    let call = Nfs {
        tree,
        xid,
        arguments,
    };
    let done = match procedure {
        0 => Ok(Outcome::Reply(success(xid).into_bytes())),
        1 => call.getattr(),
        3 => call.lookup(caller),
        4 => call.access(),
        5 => call.readlink(caller),
        6 => call.read(),
        2 | 7..=13 | 21 => call.refuse(2),
        14 => call.refuse(4),
        15 => call.refuse(3),
        16 => call.readdir(false),
        17 => call.readdir(true),
        18 => call.fsstat(),
        19 => call.fsinfo(),
        20 => call.pathconf(),
        _ => Ok(Outcome::Reply(unable(xid, Unable::Procedure))),
    };
    done.unwrap_or_else(|_| Outcome::Reply(unable(xid, Unable::Arguments)))
}

struct Nfs<'c> {
    tree: &'c Tree,
    xid: u32,
    arguments: Reader<'c>,
}

type Done = Result<Outcome, Error>;

impl Nfs<'_> {
    /// The thing that the next argument is the handle of, and a reply that has begun.
    fn node(&mut self) -> Result<Result<Node, Status>, Error> {
        let bytes = at_most(&mut self.arguments, HANDLE)?;
        let Some(handle) = Handle::decode(bytes) else {
            return Ok(Err(Status::BadHandle));
        };
        Ok(self.tree.lock().find(handle).ok_or(Status::Stale))
    }

    fn reply(&self, status: Status) -> Writer {
        let mut writer = success(self.xid);
        writer.word(status.number());
        writer
    }

    /// A failure without attributes of `absent` things.
    fn failed(&self, status: Status, absent: usize) -> Outcome {
        let mut writer = self.reply(status);
        for _ in 0..absent {
            writer.word(0);
        }
        Outcome::Reply(writer.into_bytes())
    }

    fn getattr(mut self) -> Done {
        let node = self.node()?;
        self.arguments.end()?;
        Ok(match node {
            Err(status) => self.failed(status, 0),
            Ok(node) => {
                self.tree.lock().used(&node);
                let mut writer = self.reply(Status::Ok);
                attributes(&mut writer, &node);
                Outcome::Reply(writer.into_bytes())
            }
        })
    }

    fn lookup(mut self, caller: Caller) -> Done {
        let directory = self.node()?;
        let name = name(&mut self.arguments)?;
        self.arguments.end()?;
        let directory = match directory {
            Err(status) => return Ok(self.failed(status, 1)),
            Ok(node) => node,
        };
        let refusal = if directory.link.is_some() {
            Some(Status::NotDir)
        } else if name.len() > limits::NAME {
            Some(Status::NameTooLong)
        } else if matches!(name.as_bytes(), b"." | b"..") {
            // The client knows what lies above its mount point.
            return Ok(Outcome::Reply(found(self.xid, &directory, &directory)));
        } else {
            (!is_name(name)).then_some(Status::Acces)
        };
        if let Some(status) = refusal {
            return Ok(Outcome::Reply(not_found(
                self.xid,
                status,
                Some(&directory),
            )));
        }
        let mut state = self.tree.lock();
        match state.look_up(directory.root, name) {
            Some(node) if !node.hidden => {
                state.used(&node);
                drop(state);
                Ok(Outcome::Reply(found(self.xid, &node, &directory)))
            }
            _ => Ok(self.ask(
                directory.root,
                name,
                Purpose::LookUp,
                caller,
                directory.handle,
            )),
        }
    }

    fn access(mut self) -> Done {
        let node = self.node()?;
        let wanted = self.arguments.word()?;
        self.arguments.end()?;
        Ok(match node {
            Err(status) => self.failed(status, 1),
            Ok(node) => {
                let granted = match node.link {
                    None => ACCESS_READ | ACCESS_LOOKUP | ACCESS_EXECUTE,
                    Some(_) => ACCESS_READ | ACCESS_EXECUTE,
                };
                let mut writer = self.reply(Status::Ok);
                some_attributes(&mut writer, &node);
                writer.word(wanted & granted);
                Outcome::Reply(writer.into_bytes())
            }
        })
    }

    fn readlink(mut self, caller: Caller) -> Done {
        let node = self.node()?;
        self.arguments.end()?;
        let node = match node {
            Err(status) => return Ok(self.failed(status, 1)),
            Ok(node) => node,
        };
        let Some(name) = &node.link else {
            return Ok(Outcome::Reply(not_found(
                self.xid,
                Status::Inval,
                Some(&node),
            )));
        };
        Ok(match &node.target {
            Some(target) => {
                self.tree.lock().used(&node);
                Outcome::Reply(followed(self.xid, &node, target.as_bstr()))
            }
            None => self.ask(
                node.root,
                name.as_bstr(),
                Purpose::Follow,
                caller,
                node.handle,
            ),
        })
    }

    fn ask(
        &self,
        root: RootId,
        name: &BStr,
        purpose: Purpose,
        caller: Caller,
        handle: Handle,
    ) -> Outcome {
        Outcome::Ask(Question {
            xid: self.xid,
            handle,
            access: Access {
                root,
                name: name.to_owned(),
                purpose,
                caller,
            },
        })
    }

    fn read(mut self) -> Done {
        let node = self.node()?;
        self.arguments.wide()?;
        self.arguments.word()?;
        self.arguments.end()?;
        Ok(match node {
            Err(status) => self.failed(status, 1),
            Ok(node) => {
                let status = match node.link {
                    None => Status::IsDir,
                    Some(_) => Status::Inval,
                };
                Outcome::Reply(not_found(self.xid, status, Some(&node)))
            }
        })
    }

    /// What would change something: refused with so many things whose attributes are not told.
    fn refuse(mut self, absent: usize) -> Done {
        let node = self.node()?;
        let status = node.err().unwrap_or(Status::Rofs);
        Ok(self.failed(status, absent))
    }

    fn readdir(mut self, plus: bool) -> Done {
        let node = self.node()?;
        let after = self.arguments.wide()?;
        let verifier = self.arguments.fixed(8)?;
        let names = match plus {
            true => self.arguments.word()?,
            false => u32::MAX,
        };
        let all = self.arguments.word()?;
        self.arguments.end()?;
        let node = match node {
            Err(status) => return Ok(self.failed(status, 1)),
            Ok(node) => node,
        };
        let refused = |status| Ok(Outcome::Reply(not_found(self.xid, status, Some(&node))));
        if node.link.is_some() {
            return refused(Status::NotDir);
        }
        let own = self.tree.lock().verifier(node.root);
        if after != 0 && verifier != own {
            return refused(Status::BadCookie);
        }
        let mut writer = self.reply(Status::Ok);
        let header = writer.length() - 4;
        some_attributes(&mut writer, &node);
        writer.fixed(&own);
        let room = (all as usize).saturating_add(header).min(limits::ANSWER);
        let mut page = Page {
            writer,
            plus,
            names: names as usize,
            room,
            entries: 0,
        };
        match page.fill(self.tree, &node, after) {
            true => Ok(Outcome::Reply(page.writer.into_bytes())),
            false => refused(Status::TooSmall),
        }
    }

    fn fsstat(self) -> Done {
        self.about(|writer| {
            // Bytes and files: all, free, free for the caller.
            for _ in 0..6 {
                writer.wide(0);
            }
            // For how many seconds that is so.
            writer.word(0);
        })
    }

    fn fsinfo(self) -> Done {
        self.about(|writer| {
            // Reads and writes: at most, preferred, multiple of. The kernel's client takes the
            // first for the size of READDIR as well.
            for size in [limits::ANSWER_WORD, limits::TRANSFER] {
                for word in [size, size, 4096] {
                    writer.word(word);
                }
            }
            // Preferred size of READDIR.
            writer.word(limits::ANSWER_WORD);
            // Longest file.
            writer.wide(u64::MAX >> 1);
            // Times are exact to a nanosecond.
            writer.word(0);
            writer.word(1);
            // There are symbolic links, and PATHCONF is the same everywhere.
            writer.word(0x02 | 0x08);
        })
    }

    fn pathconf(self) -> Done {
        self.about(|writer| {
            // Most hard links.
            writer.word(1);
            writer.word(u32::try_from(limits::NAME).unwrap_or(u32::MAX));
            // Longer names are refused; owners cannot be changed; case matters; and is kept.
            for answer in [true, true, false, true] {
                writer.word(answer.into());
            }
        })
    }

    /// What is the same for every object, after the attributes of the one that is named.
    fn about(mut self, tell: impl FnOnce(&mut Writer)) -> Done {
        let node = self.node()?;
        self.arguments.end()?;
        Ok(match node {
            Err(status) => self.failed(status, 1),
            Ok(node) => {
                let mut writer = self.reply(Status::Ok);
                some_attributes(&mut writer, &node);
                tell(&mut writer);
                Outcome::Reply(writer.into_bytes())
            }
        })
    }
}

/// One answer to READDIR or READDIRPLUS, being filled.
struct Page {
    writer: Writer,
    /// With attributes and handles.
    plus: bool,
    /// Bytes of names, cookies and numbers that may still come.
    names: usize,
    /// How long it may become.
    room: usize,
    entries: usize,
}

impl Page {
    /// Fills it with the names after a cookie. False if not one of them has room.
    fn fill(&mut self, tree: &Tree, directory: &Node, after: u64) -> bool {
        let state = tree.lock();
        let special = [(SELF, "."), (PARENT, "..")].map(|(cookie, name)| (cookie, name.into()));
        let special = special.into_iter().filter(|(cookie, _)| *cookie > after);
        let special =
            special.map(|(cookie, name): (u64, BString)| (cookie, name, directory.clone()));
        let names = state.read(directory.root, after.max(PARENT));
        let names = names.map(|entry| (entry.cookie, entry.name, entry.node));
        for (cookie, name, node) in special.chain(names) {
            if !self.add(cookie, name.as_bstr(), &node) {
                // More is to come.
                self.end(false);
                return self.entries > 0;
            }
        }
        self.end(true);
        true
    }

    /// Adds a name if there is room for it.
    fn add(&mut self, cookie: u64, name: &BStr, node: &Node) -> bool {
        let mut entry = Writer::default();
        entry.word(1);
        entry.wide(number(node));
        entry.bytes(name);
        entry.wide(cookie);
        let short = entry.length();
        if self.plus {
            some_attributes(&mut entry, node);
            entry.word(1);
            entry.bytes(&node.handle.encode());
        }
        // What ends the list takes eight bytes.
        let fits = self.writer.length() + entry.length() + 8 <= self.room;
        if !fits || (self.entries > 0 && short > self.names) {
            return false;
        }
        self.names = self.names.saturating_sub(short);
        self.entries += 1;
        self.writer.fixed(&entry.into_bytes());
        true
    }

    fn end(&mut self, whole: bool) {
        self.writer.word(0);
        self.writer.word(whole.into());
    }
}

impl Question {
    /// The answer to the client, once the owner has answered.
    pub(crate) fn reply(&self, tree: &Tree, result: Result<(), Errno>) -> Vec<u8> {
        let mut state = tree.lock();
        let asked = state.find(self.handle);
        let status = match (self.access.purpose, result) {
            (_, Err(errno)) => Status::of(errno),
            (_, Ok(())) if asked.is_none() => Status::Stale,
            (Purpose::LookUp, Ok(())) => {
                let exists = state.exists(self.access.root, self.access.name.as_bstr());
                let node = state.look_up(self.access.root, self.access.name.as_bstr());
                match (exists, node, &asked) {
                    (Ok(()), Some(node), Some(directory)) => {
                        return found(self.xid, &node, directory);
                    }
                    (Err(TreeError::TooMany), ..) => Status::Later,
                    _ => Status::Io,
                }
            }
            (Purpose::Follow, Ok(())) => match &asked {
                Some(node) => match &node.target {
                    Some(target) => return followed(self.xid, node, target.as_bstr()),
                    None => Status::Io,
                },
                None => Status::Stale,
            },
        };
        not_found(self.xid, status, asked.as_ref())
    }

    /// The answer when no more questions can be asked: come again.
    pub(crate) fn later(&self) -> Vec<u8> {
        not_found(self.xid, Status::Later, None)
    }
}

/// The answer to LOOKUP.
fn found(xid: u32, node: &Node, directory: &Node) -> Vec<u8> {
    let mut writer = success(xid);
    writer.word(Status::Ok.number());
    writer.bytes(&node.handle.encode());
    some_attributes(&mut writer, node);
    some_attributes(&mut writer, directory);
    writer.into_bytes()
}

/// The answer to READLINK.
fn followed(xid: u32, node: &Node, target: &BStr) -> Vec<u8> {
    let mut writer = success(xid);
    writer.word(Status::Ok.number());
    some_attributes(&mut writer, node);
    writer.bytes(target);
    writer.into_bytes()
}

/// A failure of a procedure whose failures tell the attributes of one thing.
fn not_found(xid: u32, status: Status, node: Option<&Node>) -> Vec<u8> {
    let mut writer = success(xid);
    writer.word(status.number());
    match node {
        None => writer.word(0),
        Some(node) => some_attributes(&mut writer, node),
    }
    writer.into_bytes()
}

/// `post_op_attr`.
fn some_attributes(writer: &mut Writer, node: &Node) {
    writer.word(1);
    attributes(writer, node);
}

/// `fattr3`.
fn attributes(writer: &mut Writer, node: &Node) {
    let (kind, mode, links, size) = match &node.link {
        None => (DIRECTORY, node.mode, 2, node.names as u64),
        Some(_) => {
            let length = node.target.as_ref().map_or(0, |target| target.len());
            (LINK, 0o777, 1, length as u64)
        }
    };
    for word in [kind, mode, links, 0, 0] {
        writer.word(word);
    }
    writer.wide(size);
    writer.wide(0);
    // No device.
    writer.wide(0);
    writer.wide(node.handle.root.number());
    writer.wide(number(node));
    for _ in ["accessed", "modified", "changed"] {
        writer.word(node.changed.seconds);
        writer.word(node.changed.nanoseconds);
    }
}

/// The number of the file.
fn number(node: &Node) -> u64 {
    node.handle.name.unwrap_or(node.handle.root).number()
}
