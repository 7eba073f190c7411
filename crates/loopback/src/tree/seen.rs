//! The tree as servers of other protocols see it: by number instead of handle.

use std::ops::{Bound, ControlFlow};
use std::time::{Duration, Instant};

use bstr::{BStr, BString};

use super::{Name, Root, RootId, RootKind, State, Tree, TreeError};

/// A root, or a name in it, as it is now.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Seen {
    /// A name's number in its root: never less than 3, and the same as long as the name is known.
    /// For the root itself 1.
    pub number: u64,
    /// A link's name, or nothing for a directory. Empty for a root that is a link.
    pub link: Option<BString>,
    /// Where a link leads, if it leads anywhere.
    pub target: Option<BString>,
    /// Permission bits of the root.
    pub mode: u32,
    /// When it changed last, since 1970.
    pub changed: Duration,
    /// Neither listed nor linked: it was known to exist when it was looked at.
    pub hidden: bool,
}

/// The number of a root in itself.
const SELF: u64 = 1;

impl Tree {
    /// A root.
    pub fn root(&self, id: RootId) -> Option<Seen> {
        Some(self.lock().roots.get(&id)?.seen())
    }

    /// What has this number in a root. Nothing if it is not known any more.
    pub fn numbered(&self, id: RootId, number: u64) -> Option<Seen> {
        let state = self.lock();
        let root = state.roots.get(&id)?;
        match number {
            SELF => Some(root.seen()),
            number => Some(root.seen_name(number, root.names.get(&number)?)),
        }
    }

    /// A name in a root that is a directory, if it is listed, linked or known to exist.
    pub fn named(&self, id: RootId, name: &BStr) -> Option<Seen> {
        self.lock().seen(id, name)
    }

    /// A name is known to exist, though nothing shows it: its number is good for a while.
    ///
    /// # Errors
    /// [`TreeError`] says which.
    pub fn exists(&self, id: RootId, name: &BStr) -> Result<Seen, TreeError> {
        let mut state = self.lock();
        state.exists(id, name)?;
        state.seen(id, name).ok_or(TreeError::Name)
    }

    /// Somebody follows the link of this number: it is not idle.
    pub fn followed(&self, id: RootId, number: u64) {
        let mut state = self.lock();
        let root = state.roots.get_mut(&id);
        let name = root.and_then(|root| {
            let direct = root.kind == RootKind::Link && number == SELF;
            root.names.get_mut(if direct { &0 } else { &number })
        });
        if let Some(more) = name.and_then(|name| name.more.as_mut()) {
            more.used = Instant::now();
        }
    }

    /// Shows the names of a directory to `show`, those with numbers above `after`, in the order of
    /// numbers, until it breaks. Nobody else sees the tree meanwhile.
    pub fn names(
        &self,
        id: RootId,
        after: u64,
        mut show: impl FnMut(u64, &BStr) -> ControlFlow<()>,
    ) {
        let state = self.lock();
        let Some(root) = state.roots.get(&id) else {
            return;
        };
        let names = root.names.range((Bound::Excluded(after), Bound::Unbounded));
        let shown = names.filter(|(_, name)| root.kind == RootKind::Directory && !name.is_hidden());
        for (number, name) in shown {
            if show(*number, BStr::new(&name.name)).is_break() {
                return;
            }
        }
    }
}

impl State {
    fn seen(&self, id: RootId, name: &BStr) -> Option<Seen> {
        let root = self.roots.get(&id)?;
        if root.kind == RootKind::Link {
            return None;
        }
        let number = root.number(&self.secret, name)?;
        Some(root.seen_name(number, root.names.get(&number)?))
    }
}

impl Root {
    fn seen(&self) -> Seen {
        match self.names.get(&0) {
            Some(own) if self.kind == RootKind::Link => self.seen_name(SELF, own),
            _ => Seen {
                number: SELF,
                link: None,
                target: None,
                mode: self.mode,
                changed: self.changed.since(),
                hidden: false,
            },
        }
    }

    fn seen_name(&self, number: u64, name: &Name) -> Seen {
        Seen {
            number,
            link: Some(name.name.to_vec().into()),
            target: name.target().map(ToOwned::to_owned),
            mode: self.mode,
            changed: name.changed().unwrap_or(self.changed).since(),
            hidden: name.is_hidden(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::handle::Secret;

    const HOME: RootId = RootId(1);
    const MAN: RootId = RootId(2);

    fn tree() -> Tree {
        let tree = Tree::new(Secret::new([7; 16]));
        tree.add(HOME, "/home".into(), RootKind::Directory, 0o555)
            .unwrap();
        tree.add(MAN, "/usr/man".into(), RootKind::Link, 0).unwrap();
        tree
    }

    fn names(tree: &Tree, after: u64, most: usize) -> Vec<(u64, String)> {
        let mut names = Vec::new();
        tree.names(HOME, after, |number, name| {
            names.push((number, name.to_string()));
            match names.len() < most {
                true => ControlFlow::Continue(()),
                false => ControlFlow::Break(()),
            }
        });
        names
    }

    #[test]
    fn a_name_keeps_its_number_as_long_as_it_is_known() {
        let tree = tree();
        assert_eq!(tree.named(HOME, "ann".into()), None);
        let known = tree.exists(HOME, "ann".into()).unwrap();
        assert!(known.hidden && known.target.is_none() && known.number >= 3);
        tree.link(HOME, "ann".into(), "/a".into()).unwrap();
        let linked = tree.named(HOME, "ann".into()).unwrap();
        assert_eq!(linked.number, known.number);
        assert_eq!(linked.target, Some("/a".into()));
        assert!(linked.changed > known.changed);
        assert_eq!(tree.numbered(HOME, known.number), Some(linked));
        assert_eq!(tree.numbered(HOME, known.number + 1), None);
        assert_eq!(tree.exists(HOME, "a/b".into()), Err(TreeError::Name));
    }

    #[test]
    fn a_directory_is_shown_from_anywhere_and_what_is_hidden_is_not() {
        let tree = tree();
        tree.list(HOME, ["a", "b", "c", "d"].map(BStr::new))
            .unwrap();
        tree.exists(HOME, "hidden".into()).unwrap();
        let all = names(&tree, 2, 9);
        assert_eq!(all.len(), 4);
        assert!(all.is_sorted());
        assert_eq!(names(&tree, 2, 2), all[..2]);
        assert_eq!(names(&tree, all[1].0, 9), all[2..]);
    }

    #[test]
    fn roots_have_a_number_of_their_own() {
        let tree = tree();
        let home = tree.root(HOME).unwrap();
        assert_eq!((home.number, home.link.is_none()), (1, true));
        assert_eq!(tree.numbered(HOME, 1), Some(home));
        assert_eq!(tree.root(RootId(9)), None);
        tree.link(MAN, "".into(), "/m".into()).unwrap();
        let man = tree.root(MAN).unwrap();
        assert_eq!((man.number, man.target), (1, Some("/m".into())));
        assert_eq!(tree.named(MAN, "".into()), None);
    }

    #[test]
    fn what_is_followed_is_not_idle() {
        let tree = tree();
        tree.link(HOME, "ann".into(), "/a".into()).unwrap();
        tree.link(MAN, "".into(), "/m".into()).unwrap();
        let ann = tree.named(HOME, "ann".into()).unwrap();
        std::thread::sleep(Duration::from_millis(20));
        for (root, number) in [(HOME, ann.number), (MAN, 1)] {
            let before = tree.links(root)[0].idle;
            assert!(before >= Duration::from_millis(20));
            let followed = Instant::now();
            tree.followed(root, number);
            assert!(tree.links(root)[0].idle <= followed.elapsed());
        }
    }
}
