//! One request, one answer: what is decided without a device.

use std::ops::ControlFlow;

use bstr::{BStr, ByteSlice};
use piton_loopback::{Access, Caller, Purpose, RootId, Seen, Tree, TreeError};
use rustix::fs::FileType;
use rustix::io::Errno;

use crate::limits;
use crate::reply::{self, Holder, Page};
use crate::request::{Operation, Request};

/// The number of the root.
const ROOT: u64 = 1;

/// The places after the two names that each directory has.
const AFTER_SELF: u64 = 1;
const AFTER_PARENT: u64 = 2;

/// What becomes of a request.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Outcome {
    /// This is the answer.
    Reply(Vec<u8>),
    /// The owner is to be asked first.
    Ask(Access),
    /// Whoever waits for the request of this number has got a signal.
    Interrupted(u64),
    /// Nobody waits for an answer.
    Nothing,
}

/// What is served.
#[derive(Debug)]
pub(crate) struct Served {
    pub(crate) tree: Tree,
    pub(crate) root: RootId,
    pub(crate) holder: Holder,
}

impl Served {
    /// Carries out a request. `trusts` says of a link that it leads where it should.
    pub(crate) fn serve(&self, request: &Request<'_>, trusts: &dyn Fn(&BStr) -> bool) -> Outcome {
        let answer = match request.operation {
            Operation::Forget => return Outcome::Nothing,
            Operation::Interrupt(unique) => return Outcome::Interrupted(unique),
            Operation::LookUp(name) => self.look_up(request, name),
            Operation::ReadLink => self.read_link(request, trusts),
            Operation::Attributes => self.attributes(request.node).map_err(Instead::Refuse),
            Operation::ReadDirectory { after, size } => Ok(self.read_directory(after, size)),
            Operation::OpenDirectory => Ok(reply::opened()),
            Operation::CloseDirectory | Operation::Goodbye => Ok(Vec::new()),
            Operation::Statistics => Ok(reply::statistics()),
            Operation::Change => Err(Instead::Refuse(Errno::ROFS)),
            // The kernel takes it for something that this file system does not have.
            Operation::Init { .. } | Operation::Other => Err(Instead::Refuse(Errno::NOSYS)),
        };
        match answer {
            Ok(body) => Outcome::Reply(reply::success(request.unique, &body)),
            Err(Instead::Refuse(errno)) => Outcome::Reply(reply::failure(request.unique, errno)),
            Err(Instead::Ask(access)) => Outcome::Ask(access),
        }
    }

    /// The reply to a request, once the owner has answered.
    pub(crate) fn answer(
        &self,
        unique: u64,
        access: &Access,
        answer: Result<(), Errno>,
    ) -> Vec<u8> {
        let body = answer.and_then(|()| self.answered(access));
        match body {
            Ok(body) => reply::success(unique, &body),
            Err(errno) => reply::failure(unique, said(errno)),
        }
    }

    fn answered(&self, access: &Access) -> Result<Vec<u8>, Errno> {
        let name = access.name.as_bstr();
        match access.purpose {
            Purpose::LookUp => match self.tree.exists(self.root, name) {
                Ok(seen) => Ok(reply::entry(&seen, self.holder)),
                Err(TreeError::TooMany) => Err(Errno::AGAIN),
                Err(_) => Err(Errno::IO),
            },
            Purpose::Follow => {
                let seen = self.tree.named(self.root, name);
                let target = seen.and_then(|seen| seen.target);
                target.map(Vec::from).ok_or(Errno::IO)
            }
        }
    }

    fn look_up(&self, request: &Request<'_>, name: &BStr) -> Result<Vec<u8>, Instead> {
        if request.node != ROOT {
            return Err(Instead::Refuse(Errno::NOTDIR));
        }
        if name.len() > limits::NAME {
            return Err(Instead::Refuse(Errno::NAMETOOLONG));
        }
        if matches!(name.as_bytes(), b"" | b"." | b"..") || name.contains(&b'/') {
            return Err(Instead::Refuse(Errno::INVAL));
        }
        match self.tree.named(self.root, name) {
            Some(seen) if !seen.hidden => Ok(reply::entry(&seen, self.holder)),
            _ => Err(self.ask(request, name, Purpose::LookUp)),
        }
    }

    fn read_link(
        &self,
        request: &Request<'_>,
        trusts: &dyn Fn(&BStr) -> bool,
    ) -> Result<Vec<u8>, Instead> {
        let seen = self.seen(request.node).map_err(Instead::Refuse)?;
        let name = seen.link.ok_or(Instead::Refuse(Errno::INVAL))?;
        match seen.target.filter(|_| trusts(name.as_bstr())) {
            Some(target) => {
                self.tree.followed(self.root, request.node);
                Ok(target.into())
            }
            None => Err(self.ask(request, name.as_bstr(), Purpose::Follow)),
        }
    }

    fn attributes(&self, node: u64) -> Result<Vec<u8>, Errno> {
        let seen = self.seen(node)?;
        Ok(reply::attributes_alone(&seen, self.holder))
    }

    /// What has a number. If it is gone the kernel looks its name up once more.
    fn seen(&self, node: u64) -> Result<Seen, Errno> {
        let seen = self.tree.numbered(self.root, node);
        seen.ok_or(Errno::STALE)
    }

    fn read_directory(&self, after: u64, size: u32) -> Vec<u8> {
        let mut page = Page::new(size);
        let directory = FileType::Directory;
        let whole = (after >= AFTER_SELF || page.add(ROOT, AFTER_SELF, directory, ".".into()))
            && (after >= AFTER_PARENT || page.add(ROOT, AFTER_PARENT, directory, "..".into()));
        if whole {
            let from = after.max(AFTER_PARENT);
            self.tree.names(self.root, from, |number, name| {
                match page.add(number, number, FileType::Symlink, name) {
                    true => ControlFlow::Continue(()),
                    false => ControlFlow::Break(()),
                }
            });
        }
        page.into_body()
    }

    fn ask(&self, request: &Request<'_>, name: &BStr, purpose: Purpose) -> Instead {
        Instead::Ask(Access {
            root: self.root,
            name: name.to_owned(),
            purpose,
            caller: Caller {
                uid: request.uid,
                gid: request.gid,
                groups: Vec::new(),
                pid: request.pid,
            },
        })
    }
}

/// What is done instead of an answer at once.
enum Instead {
    Refuse(Errno),
    Ask(Access),
}

/// An error as the kernel is told it. ESTALE would have it ask again, without end, and what it
/// keeps to itself (512 and more) it would take for a mistake of ours.
fn said(errno: Errno) -> Errno {
    match errno.raw_os_error() {
        1..512 if errno != Errno::STALE => errno,
        _ => Errno::IO,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::request::frame;
    use piton_loopback::{RootKind, Secret};

    const HOME: RootId = RootId(1);

    fn served() -> Served {
        let tree = Tree::new(Secret::new([7; 16]));
        tree.add(HOME, "/home".into(), RootKind::Directory, 0o555)
            .unwrap();
        tree.list(HOME, ["listed".into(), "linked".into()]).unwrap();
        tree.link(HOME, "linked".into(), "/there".into()).unwrap();
        Served {
            tree,
            root: HOME,
            holder: Holder { uid: 0, gid: 0 },
        }
    }

    fn serve(served: &Served, code: u32, node: u64, arguments: &[u8]) -> Outcome {
        let bytes = frame(code, node, arguments);
        served.serve(&Request::decode(&bytes).unwrap(), &|name| {
            name != "doubtful"
        })
    }

    /// The body of a reply, or its errno.
    fn body(outcome: Outcome) -> Result<Vec<u8>, Errno> {
        let Outcome::Reply(reply) = outcome else {
            panic!("a reply was expected, not {outcome:?}");
        };
        read(&reply)
    }

    fn read(reply: &[u8]) -> Result<Vec<u8>, Errno> {
        let error = i32::from_ne_bytes(reply[4..8].try_into().unwrap());
        match error {
            0 => Ok(reply[16..].to_vec()),
            error => Err(Errno::from_raw_os_error(-error)),
        }
    }

    fn number(served: &Served, name: &str) -> u64 {
        served.tree.named(HOME, name.into()).unwrap().number
    }

    fn asked(outcome: Outcome) -> Access {
        match outcome {
            Outcome::Ask(access) => access,
            other => panic!("a question was expected, not {other:?}"),
        }
    }

    #[test]
    fn what_is_shown_is_found_and_what_leads_somewhere_is_followed() {
        let served = served();
        for name in ["listed", "linked"] {
            let found = body(serve(&served, 1, ROOT, format!("{name}\0").as_bytes())).unwrap();
            assert_eq!(found[..8], number(&served, name).to_ne_bytes());
        }
        let linked = number(&served, "linked");
        assert_eq!(body(serve(&served, 5, linked, b"")).unwrap(), b"/there");
        let doubtful = "doubtful".into();
        served.tree.link(HOME, doubtful, "/there".into()).unwrap();
        let access = asked(serve(&served, 5, number(&served, "doubtful"), b""));
        assert_eq!(
            (&access.name[..], access.purpose),
            (&b"doubtful"[..], Purpose::Follow)
        );
    }

    #[test]
    fn the_owner_is_asked_whether_a_name_exists_and_where_it_leads() {
        let served = served();
        let access = asked(serve(&served, 1, ROOT, b"ann\0"));
        assert_eq!(
            (&access.name[..], access.purpose),
            (&b"ann"[..], Purpose::LookUp)
        );
        let caller = &access.caller;
        assert_eq!((caller.uid, caller.gid, caller.pid), (1000, 100, 4242));
        assert_eq!(
            read(&served.answer(7, &access, Err(Errno::NOENT))),
            Err(Errno::NOENT)
        );
        let found = read(&served.answer(7, &access, Ok(()))).unwrap();
        let ann = number(&served, "ann");
        assert_eq!(found[..8], ann.to_ne_bytes());
        let access = asked(serve(&served, 5, ann, b""));
        assert_eq!(access.purpose, Purpose::Follow);
        // "Ready" without a link is a mistake of the owner.
        assert_eq!(read(&served.answer(7, &access, Ok(()))), Err(Errno::IO));
        served.tree.link(HOME, "ann".into(), "/ann".into()).unwrap();
        assert_eq!(read(&served.answer(7, &access, Ok(()))).unwrap(), b"/ann");
        let errors = [
            (Errno::TIMEDOUT, Errno::TIMEDOUT),
            (Errno::STALE, Errno::IO),
            (Errno::from_raw_os_error(512), Errno::IO),
        ];
        for (errno, told) in errors {
            assert_eq!(read(&served.answer(7, &access, Err(errno))), Err(told));
        }
    }

    #[test]
    fn what_cannot_be_is_refused() {
        let served = served();
        let linked = number(&served, "linked");
        let refused = |code, node, arguments: &[u8]| body(serve(&served, code, node, arguments));
        assert_eq!(refused(1, linked, b"x\0"), Err(Errno::NOTDIR));
        let long = [&[b'x'; 256][..], b"\0"].concat();
        assert_eq!(refused(1, ROOT, &long), Err(Errno::NAMETOOLONG));
        for name in ["", ".", "..", "a/b"] {
            let name = [name.as_bytes(), b"\0"].concat();
            assert_eq!(refused(1, ROOT, &name), Err(Errno::INVAL));
        }
        assert_eq!(refused(5, ROOT, b""), Err(Errno::INVAL));
        assert_eq!(refused(5, 99, b""), Err(Errno::STALE));
        assert_eq!(refused(3, 99, b""), Err(Errno::STALE));
        for change in [4, 6, 8, 9, 10, 11, 12, 13, 16, 21, 24, 35, 43, 45, 51] {
            assert_eq!(refused(change, ROOT, b""), Err(Errno::ROFS));
        }
        assert_eq!(refused(22, ROOT, b""), Err(Errno::NOSYS));
    }

    #[test]
    fn a_directory_is_read_in_pages() {
        let served = served();
        let names: Vec<String> = (0..500).map(|n| format!("key{n}")).collect();
        let listed = names.iter().map(|name| name.as_str().into());
        served.tree.list(HOME, listed).unwrap();
        let (mut after, mut seen) = (0_u64, Vec::new());
        loop {
            let mut arguments = [0; 40];
            arguments[8..16].copy_from_slice(&after.to_ne_bytes());
            arguments[16..20].copy_from_slice(&4096_u32.to_ne_bytes());
            let page = body(serve(&served, 28, ROOT, &arguments)).unwrap();
            if page.is_empty() {
                break;
            }
            assert!(page.len() <= 4096);
            let mut rest = &page[..];
            while !rest.is_empty() {
                after = u64::from_ne_bytes(rest[8..16].try_into().unwrap());
                let length = u32::from_ne_bytes(rest[16..20].try_into().unwrap()) as usize;
                seen.push(String::from_utf8(rest[24..24 + length].to_vec()).unwrap());
                rest = &rest[(24 + length).next_multiple_of(8)..];
            }
        }
        assert_eq!(seen[..2], [".", ".."]);
        seen.sort();
        // What leads somewhere is shown though it is not listed.
        let mut expected = [&names[..], &[".", "..", "linked"].map(String::from)].concat();
        expected.sort();
        assert_eq!(seen, expected);
    }

    #[test]
    fn a_signal_and_what_is_forgotten_are_not_answered() {
        let served = served();
        let interrupted = serve(&served, 36, 0, &9_u64.to_ne_bytes());
        assert_eq!(interrupted, Outcome::Interrupted(9));
        for code in [2, 42] {
            assert_eq!(serve(&served, code, ROOT, &[0; 16]), Outcome::Nothing);
        }
    }
}
