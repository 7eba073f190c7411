//! A law for fuzzing: whatever a client sends is answered as it should be, within bounds.

use bstr::ByteSlice;
use piton_rpc::xdr::{Reader, Writer};
use rustix::io::Errno;

use crate::duty::Purpose;
use crate::expand;
use crate::handle::Secret;
use crate::limits;
use crate::mountd::{self, Mounted};
use crate::nfs;
use crate::serve::{Outcome, serve};
use crate::tree::{RootId, RootKind, Tree, is_name};

const HOME: RootId = RootId(1);
const MAN: RootId = RootId(2);

/// Input: a byte that says how the rest is meant: 255, a whole message; otherwise the arguments of
/// the procedure of NFS or MOUNT with that number, after the handle of one of a few things.
pub fn hold_law(input: &[u8]) {
    let Some((how, rest)) = input.split_first() else {
        return;
    };
    let (tree, again) = (small_tree(), small_tree());
    let message = match how {
        255 => rest.to_vec(),
        _ => call(&tree, u32::from(*how), rest),
    };
    let xid = message.first_chunk().map(|xid| u32::from_be_bytes(*xid));
    let outcome = serve(&tree, &mut Mounted::default(), &message);
    assert_eq!(outcome, serve(&again, &mut Mounted::default(), &message));
    in_words(&expand::call(&tree, &message));
    match outcome {
        Outcome::Nonsense => assert_eq!(*how, 255),
        Outcome::Reply(reply) => {
            check(&reply, xid);
            in_words(&expand::reply(&tree, &message, &reply));
        }
        Outcome::Ask(question) => {
            let access = &question.access;
            assert_eq!(Some(question.xid), xid);
            let good = match (access.root, access.purpose) {
                (HOME, Purpose::LookUp) => {
                    is_name(&access.name) && access.name != "linked" && access.name != "listed"
                }
                (HOME, Purpose::Follow) => access.name == "listed" || access.name == "known",
                (MAN, Purpose::Follow) => access.name.is_empty(),
                _ => false,
            };
            assert!(good, "{access:?}");
            assert!(access.caller.groups.len() <= limits::GROUPS);
            check(&question.later(), xid);
            in_words(&expand::answer(&tree, &question, &question.later()));
            let errors = [Errno::NOENT, Errno::STALE, Errno::TIMEDOUT, Errno::AGAIN];
            for errno in errors {
                check(&question.reply(&tree, Err(errno)), xid);
            }
            check(&question.reply(&tree, Ok(())), xid);
            let linked = tree.link(access.root, access.name.as_bstr(), "/there".into());
            assert_eq!(linked, Ok(()));
            check(&question.reply(&tree, Ok(())), xid);
            // Now it leads somewhere, and nobody is asked.
            let reply = serve(&tree, &mut Mounted::default(), &message);
            assert!(matches!(reply, Outcome::Reply(_)), "{reply:?}");
        }
    }
}

/// One line, not too long, whatever is in the message; what we said ourselves can be read.
fn in_words(line: &str) {
    assert!(!line.contains(char::is_control), "{line:?}");
    assert!(line.len() < 4 * 4 * limits::NAME * limits::NAMES_TOLD);
    assert!(!line.ends_with("in a way that cannot be read"), "{line}");
}

/// A reply to this call, not too long, of whole words.
fn check(reply: &[u8], xid: Option<u32>) {
    assert!(reply.len() <= limits::ANSWER && reply.len().is_multiple_of(4));
    let mut reader = Reader::new(reply);
    assert_eq!(reader.word().ok(), xid);
    assert_eq!(reader.word(), Ok(1));
}

fn small_tree() -> Tree {
    let tree = Tree::new(Secret::new([3; 16]));
    let add = |id, path: &str, kind| tree.add(id, path.into(), kind, 0o555);
    add(HOME, "/home", RootKind::Directory).expect("the first");
    add(MAN, "/usr/man", RootKind::Link).expect("the second");
    let listed = ["listed".into(), "linked".into()];
    tree.list(HOME, listed).expect("it is there");
    let linked = tree.link(HOME, "linked".into(), "/tmp_mnt/linked".into());
    linked.expect("a good name");
    tree.lock()
        .exists(HOME, "known".into())
        .expect("a good name");
    tree.stop_clock();
    tree
}

/// A call with a good header; the first byte of `rest` chooses the handle that it begins with.
fn call(tree: &Tree, number: u32, rest: &[u8]) -> Vec<u8> {
    let (program, procedure) = match number {
        0..100 => (nfs::PROGRAM, number),
        _ => (mountd::PROGRAM, number - 100),
    };
    let mut writer = Writer::default();
    for word in [9, 0, 2, program, 3, procedure] {
        writer.word(word);
    }
    for _ in ["credential", "verifier"] {
        writer.word(0);
        writer.bytes(b"");
    }
    let state = tree.lock();
    let name = |name: &str| state.look_up(HOME, name.into());
    let (chosen, rest) = rest.split_first().unwrap_or((&0, &[]));
    let node = match chosen {
        1 => state.at("/home".into()),
        2 => state.at("/usr/man".into()),
        3 => name("listed"),
        4 => name("linked"),
        5 => name("known"),
        _ => None,
    };
    if let Some(node) = node {
        writer.bytes(&node.handle.encode());
    }
    let mut message = writer.into_bytes();
    message.extend_from_slice(rest);
    message
}
