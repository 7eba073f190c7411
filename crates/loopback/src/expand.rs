//! Calls and their answers in words, for whoever wants to see each of them (`-T` of the older
//! automounter, R-224). Read from what went over the connection, so that it tells what was said and
//! not what was meant.

use std::fmt::Write;

use bstr::{BStr, ByteSlice};
use piton_rpc::Error;
use piton_rpc::xdr::Reader;
use rustix::io::Errno;

use crate::call::{Call, Identity, at_most, name};
use crate::duty::Purpose;
use crate::handle::Handle;
use crate::limits;
use crate::mountd;
use crate::nfs;
use crate::question::Question;
use crate::tree::Tree;

/// Sees each call and each answer, a line for each. Called by the thread that serves, and must not
/// wait for anything.
pub trait Witness: Send + Sync {
    /// A call came, or an answer went.
    fn saw(&self, line: String);
}

/// What a call asks for.
pub(crate) fn call(tree: &Tree, message: &[u8]) -> String {
    let Ok(call) = Call::decode(message) else {
        return format!("call of {} bytes that cannot be read", message.len());
    };
    let named = procedure(call.program, call.procedure);
    let mut line = format!("call {:08x} {named}", call.xid);
    match &call.identity {
        Identity::Known(caller, _) => {
            let _ = write!(line, " uid={} gid={}", caller.uid, caller.gid);
        }
        Identity::Strange | Identity::Bad => line.push_str(" by nobody who could be known"),
    }
    let (program, number) = (call.program, call.procedure);
    if arguments(tree, &mut line, program, number, call.arguments).is_err() {
        line.push_str(" with arguments that cannot be read");
    }
    line
}

/// What an answer to that call says.
pub(crate) fn reply(tree: &Tree, message: &[u8], reply: &[u8]) -> String {
    match Call::decode(message) {
        Ok(call) => done(tree, (call.xid, call.program, call.procedure), reply),
        Err(_) => "done: what cannot be read is refused".into(),
    }
}

/// What the answer to a question says that the owner had to be asked first.
pub(crate) fn answer(tree: &Tree, question: &Question, reply: &[u8]) -> String {
    let procedure = match question.access.purpose {
        Purpose::LookUp => 3,
        Purpose::Follow => 5,
    };
    done(tree, (question.xid, nfs::PROGRAM, procedure), reply)
}

fn done(tree: &Tree, (xid, program, number): (u32, u32, u32), reply: &[u8]) -> String {
    let mut line = format!("done {xid:08x} {}", procedure(program, number));
    if results(tree, &mut line, program, number, reply).is_err() {
        line.push_str(" in a way that cannot be read");
    }
    line
}

/// `NFS LOOKUP`
fn procedure(program: u32, procedure: u32) -> String {
    let (program, names): (&str, &[&str]) = match program {
        nfs::PROGRAM => ("NFS", &nfs::PROCEDURES),
        mountd::PROGRAM => ("MOUNT", &mountd::PROCEDURES),
        other => return format!("program {other} procedure {procedure}"),
    };
    match names.get(usize::try_from(procedure).unwrap_or(usize::MAX)) {
        Some(name) => format!("{program} {name}"),
        None => format!("{program} procedure {procedure}"),
    }
}

fn arguments(
    tree: &Tree,
    line: &mut String,
    program: u32,
    procedure: u32,
    mut reader: Reader<'_>,
) -> Result<(), Error> {
    match (program, procedure) {
        (nfs::PROGRAM, 1..=21) => {
            let _ = write!(line, " {}", path(tree, &mut reader)?);
            match procedure {
                3 => put(line, "name", name(&mut reader)?),
                4 => {
                    let _ = write!(line, " access={:#x}", reader.word()?);
                }
                16 | 17 => {
                    let _ = write!(line, " after={}", reader.wide()?);
                }
                _ => {}
            }
        }
        (mountd::PROGRAM, 1 | 3) => put(line, "path", name(&mut reader)?),
        _ => {}
    }
    Ok(())
}

fn results(
    tree: &Tree,
    line: &mut String,
    program: u32,
    procedure: u32,
    reply: &[u8],
) -> Result<(), Error> {
    let mut reader = Reader::new(reply);
    // The number, and that it is an answer.
    reader.word()?;
    reader.word()?;
    if reader.word()? != 0 {
        line.push_str(": the caller is refused");
        return Ok(());
    }
    reader.word()?;
    at_most(&mut reader, limits::CREDENTIAL)?;
    match reader.word()? {
        0 => {}
        number => {
            let why = [
                "",
                "no such program",
                "no such version",
                "no such procedure",
            ];
            let why = why
                .get(number as usize)
                .unwrap_or(&"arguments that cannot be read");
            let _ = write!(line, ": {why}");
            return Ok(());
        }
    }
    let has_status = match program {
        nfs::PROGRAM => procedure != 0,
        _ => procedure == 1,
    };
    if !has_status {
        return Ok(());
    }
    match reader.word()? {
        0 => line.push_str(": ok"),
        number => {
            let _ = write!(line, ": {}", status(number));
            return Ok(());
        }
    }
    match (program, procedure) {
        (nfs::PROGRAM, 3) | (mountd::PROGRAM, 1) => {
            let _ = write!(line, " {}", path(tree, &mut reader)?);
        }
        (nfs::PROGRAM, 4) => {
            attributes(&mut reader)?;
            let _ = write!(line, " granted={:#x}", reader.word()?);
        }
        (nfs::PROGRAM, 5) => {
            attributes(&mut reader)?;
            put(line, "to", name(&mut reader)?);
        }
        (nfs::PROGRAM, 16 | 17) => {
            attributes(&mut reader)?;
            reader.fixed(8)?;
            names(line, &mut reader, procedure == 17)?;
        }
        _ => {}
    }
    Ok(())
}

/// The names of a directory.
fn names(line: &mut String, reader: &mut Reader<'_>, plus: bool) -> Result<(), Error> {
    let mut count = 0;
    while reader.follows()? {
        reader.wide()?;
        let name = name(reader)?;
        reader.wide()?;
        if plus {
            attributes(reader)?;
            if reader.follows()? {
                reader.bytes()?;
            }
        }
        count += 1;
        if count <= limits::NAMES_TOLD {
            put(line, "name", name);
        }
    }
    let end = match reader.word()? {
        0 => ", and more to come",
        _ => "",
    };
    let _ = write!(line, " ({count} names{end})");
    Ok(())
}

/// Passes over `post_op_attr`.
fn attributes(reader: &mut Reader<'_>) -> Result<(), Error> {
    if reader.follows()? {
        reader.fixed(84)?;
    }
    Ok(())
}

/// What a handle is the handle of.
fn path(tree: &Tree, reader: &mut Reader<'_>) -> Result<String, Error> {
    let bytes = reader.bytes()?;
    let found = Handle::decode(bytes).and_then(|handle| tree.lock().path_of(handle));
    Ok(match found {
        Some(path) => format!("{:?}", path.as_bstr()),
        None => "an unknown handle".into(),
    })
}

fn put(line: &mut String, what: &str, name: &BStr) {
    let short = &name[..name.len().min(limits::NAME)];
    let _ = write!(line, " {what}={:?}", short.as_bstr());
}

/// `nfsstat3` by the name of the errno that it was made of.
fn status(number: u32) -> String {
    let raw = match number {
        63 => Errno::NAMETOOLONG.raw_os_error(),
        70 => Errno::STALE.raw_os_error(),
        10001 => return "BADHANDLE".into(),
        10003 => return "BAD_COOKIE".into(),
        10005 => return "TOOSMALL".into(),
        10008 => return "JUKEBOX".into(),
        other => i32::try_from(other).unwrap_or(0),
    };
    Errno::from_raw_os_error(raw).to_string()
}

#[cfg(test)]
mod tests {
    use bstr::BString;
    use piton_rpc::xdr::Writer;

    use super::*;
    use crate::handle::Secret;
    use crate::mountd::Mounted;
    use crate::serve::{Outcome, serve};
    use crate::tree::{RootId, RootKind};

    fn tree() -> Tree {
        let tree = Tree::new(Secret::new([7; 16]));
        tree.add(RootId(1), "/home".into(), RootKind::Directory, 0o555)
            .expect("a root");
        tree.link(RootId(1), "ann".into(), "/tmp_mnt/home/ann".into())
            .expect("a link");
        tree
    }

    fn message(program: u32, procedure: u32, tell: impl FnOnce(&mut Writer)) -> Vec<u8> {
        let mut writer = Writer::default();
        for word in [0x2a, 0, 2, program, 3, procedure] {
            writer.word(word);
        }
        // AUTH_SYS of user 7 in group 8.
        let mut body = Writer::default();
        body.word(0);
        body.bytes(b"client");
        for word in [7, 8, 0] {
            body.word(word);
        }
        writer.word(1);
        writer.bytes(&body.into_bytes());
        writer.word(0);
        writer.bytes(b"");
        tell(&mut writer);
        writer.into_bytes()
    }

    /// What is told of a call and its answer.
    fn told(tree: &Tree, message: &[u8]) -> [String; 2] {
        let reply_bytes = match serve(tree, &mut Mounted::default(), message) {
            Outcome::Reply(bytes) => bytes,
            Outcome::Ask(question) => {
                let bytes = question.reply(tree, Err(Errno::NOENT));
                return [call(tree, message), answer(tree, &question, &bytes)];
            }
            Outcome::Nonsense => Vec::new(),
        };
        [call(tree, message), reply(tree, message, &reply_bytes)]
    }

    fn handle(tree: &Tree, name: Option<&str>) -> Vec<u8> {
        let state = tree.lock();
        let node = match name {
            None => state.at("/home".into()),
            Some(name) => state.look_up(RootId(1), name.into()),
        };
        node.expect("a thing").handle.encode()
    }

    #[test]
    fn r_224_every_call_is_expanded() {
        let tree = tree();
        let (home, ann) = (handle(&tree, None), handle(&tree, Some("ann")));
        let nfs = |procedure, tell: &dyn Fn(&mut Writer)| {
            told(&tree, &message(nfs::PROGRAM, procedure, tell))
        };
        assert_eq!(
            nfs(0, &|_| {}),
            [
                "call 0000002a NFS NULL uid=7 gid=8",
                "done 0000002a NFS NULL"
            ]
        );
        let look = |name: &'static str| {
            let home = home.clone();
            move |writer: &mut Writer| {
                writer.bytes(&home);
                writer.bytes(name.as_bytes());
            }
        };
        assert_eq!(
            nfs(3, &look("ann")),
            [
                r#"call 0000002a NFS LOOKUP uid=7 gid=8 "/home" name="ann""#,
                r#"done 0000002a NFS LOOKUP: ok "/home/ann""#
            ]
        );
        assert_eq!(
            nfs(3, &look("b\no")),
            [
                r#"call 0000002a NFS LOOKUP uid=7 gid=8 "/home" name="b\no""#,
                "done 0000002a NFS LOOKUP: No such file or directory (os error 2)"
            ]
        );
        assert_eq!(
            nfs(5, &|writer| writer.bytes(&ann)),
            [
                r#"call 0000002a NFS READLINK uid=7 gid=8 "/home/ann""#,
                r#"done 0000002a NFS READLINK: ok to="/tmp_mnt/home/ann""#
            ]
        );
        for (procedure, plus) in [(16, false), (17, true)] {
            let [asked, answered] = nfs(procedure, &|writer| {
                writer.bytes(&home);
                writer.wide(0);
                writer.fixed(&[0; 8]);
                if plus {
                    writer.word(4096);
                }
                writer.word(4096);
            });
            assert!(asked.ends_with(r#""/home" after=0"#), "{asked}");
            assert!(answered.contains(r#"name="ann" (3 names)"#), "{answered}");
        }
        let [_, access] = nfs(4, &|writer| {
            writer.bytes(&home);
            writer.word(0x3f);
        });
        assert!(access.ends_with(": ok granted=0x23"), "{access}");
        let path = |writer: &mut Writer| writer.bytes(b"/home");
        let [mount, mounted] = told(&tree, &message(mountd::PROGRAM, 1, path));
        assert!(
            mount.ends_with(r#"MOUNT MNT uid=7 gid=8 path="/home""#),
            "{mount}"
        );
        assert!(mounted.ends_with(r#"MOUNT MNT: ok "/home""#), "{mounted}");
    }

    #[test]
    fn what_cannot_be_read_is_told_too() {
        let tree = tree();
        let cut = message(nfs::PROGRAM, 3, |writer| writer.bytes(b"xx"));
        let [asked, answered] = told(&tree, &cut);
        assert!(asked.contains("an unknown handle"), "{asked}");
        assert!(
            answered.ends_with(": arguments that cannot be read"),
            "{answered}"
        );
        let [asked, answered] = told(&tree, &message(1, 2, |_| {}));
        assert!(asked.contains("program 1 procedure 2"), "{asked}");
        assert!(answered.ends_with(": no such program"), "{answered}");
        assert_eq!(call(&tree, b"abc"), "call of 3 bytes that cannot be read");
        let whole = message(nfs::PROGRAM, 16, |_| {});
        for end in 0..whole.len() {
            let _ = (
                call(&tree, &whole[..end]),
                reply(&tree, &whole, &whole[..end]),
            );
        }
    }

    #[test]
    fn of_many_names_some_are_told() {
        let tree = tree();
        let names: Vec<BString> = (0..limits::NAMES_TOLD + 1)
            .map(|number| format!("n{number}").into())
            .collect();
        tree.list(RootId(1), names.iter().map(|name| name.as_bstr()))
            .expect("a list");
        let home = handle(&tree, None);
        let [_, answered] = told(
            &tree,
            &message(nfs::PROGRAM, 16, |writer| {
                writer.bytes(&home);
                writer.wide(0);
                writer.fixed(&[0; 8]);
                writer.word(1 << 16);
            }),
        );
        assert_eq!(answered.matches("name=").count(), limits::NAMES_TOLD);
    }
}
