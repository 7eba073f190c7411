//! A law for fuzzing: whatever request comes, the answer is as it should be, within bounds.

use bstr::ByteSlice;
use piton_loopback::{Purpose, RootId, RootKind, Secret, Tree};
use rustix::io::Errno;

use crate::limits;
use crate::reply::Holder;
use crate::request::{Request, frame};
use crate::serve::{Outcome, Served};

const HOME: RootId = RootId(1);

/// Input: a byte that says how the rest is meant: 255, a whole request; otherwise the arguments of
/// the operation with that number, after a byte that chooses what it is about.
pub fn hold_law(input: &[u8]) {
    let Some((how, rest)) = input.split_first() else {
        return;
    };
    let served = small();
    let bytes = match how {
        255 => rest.to_vec(),
        how => {
            let (chosen, rest) = rest.split_first().unwrap_or((&0, &[]));
            frame((*how).into(), node(&served.tree, *chosen), rest)
        }
    };
    let Some(request) = Request::decode(&bytes) else {
        assert_eq!(*how, 255);
        return;
    };
    let unique = request.unique;
    let outcome = served.serve(&request, &|_| true);
    match (outcome, served.serve(&request, &|_| true)) {
        (Outcome::Reply(reply), Outcome::Reply(again)) => {
            check(&reply, unique);
            assert_eq!(reply, again);
        }
        (Outcome::Ask(access), Outcome::Ask(again)) => {
            assert_eq!(access, again);
            let name = access.name.as_bstr();
            let good = match access.purpose {
                Purpose::LookUp => name != "linked" && name != "listed",
                Purpose::Follow => name == "listed" || name == "known",
            };
            assert!(good && access.root == HOME, "{access:?}");
            assert!((1..=limits::NAME).contains(&name.len()));
            assert!(!name.contains(&b'/') && !name.contains(&0));
            for errno in [Errno::NOENT, Errno::STALE, Errno::TIMEDOUT] {
                check(&served.answer(unique, &access, Err(errno)), unique);
            }
            check(&served.answer(unique, &access, Ok(())), unique);
            let linked = served.tree.link(HOME, name, "/there".into());
            assert_eq!(linked, Ok(()), "{access:?}");
            check(&served.answer(unique, &access, Ok(())), unique);
            // Now it leads somewhere, and nobody is asked.
            let outcome = served.serve(&request, &|_| true);
            assert!(matches!(outcome, Outcome::Reply(_)), "{outcome:?}");
        }
        (Outcome::Interrupted(one), Outcome::Interrupted(again)) => assert_eq!(one, again),
        (Outcome::Nothing, Outcome::Nothing) => {}
        (one, again) => panic!("{one:?}, then {again:?}"),
    }
}

/// A reply to this request, as long as it says, and nothing but a number if it is an error.
fn check(reply: &[u8], unique: u64) {
    assert!(reply.len() <= 16 + limits::ANSWER);
    let (length, rest) = reply.split_first_chunk().expect("a length");
    let (error, rest) = rest.split_first_chunk().expect("an error");
    let (of, body) = rest.split_first_chunk().expect("a number");
    assert_eq!(u32::from_ne_bytes(*length) as usize, reply.len());
    assert_eq!(u64::from_ne_bytes(*of), unique);
    match i32::from_ne_bytes(*error) {
        0 => {}
        // The kernel takes no others.
        error => assert!((-511..0).contains(&error) && body.is_empty()),
    }
}

fn small() -> Served {
    let tree = Tree::new(Secret::new([3; 16]));
    let added = tree.add(HOME, "/home".into(), RootKind::Directory, 0o555);
    added.expect("the first");
    let listed = ["listed".into(), "linked".into()];
    tree.list(HOME, listed).expect("it is there");
    let linked = tree.link(HOME, "linked".into(), "/tmp_mnt/linked".into());
    linked.expect("a good name");
    tree.exists(HOME, "known".into()).expect("a good name");
    Served {
        tree,
        root: HOME,
        holder: Holder { uid: 0, gid: 0 },
    }
}

/// What a request is about.
fn node(tree: &Tree, chosen: u8) -> u64 {
    let name = match chosen {
        0 => return 1,
        1 => "listed",
        2 => "linked",
        3 => "known",
        other => return other.into(),
    };
    let seen = tree.named(HOME, name.into());
    seen.map_or(0, |seen| seen.number)
}
